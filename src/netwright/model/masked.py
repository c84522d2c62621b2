"""Sequences of different length through a list of layers: what is padded never reaches a result.

`Masked` is the ``nn.Sequential`` of the same layers, with the same names of weights; after each layer it puts the steps
that are not there back to 0. A layer is one of: per step, over time with a mask, a map of lengths (convolution,
pooling), an end of time (last step, mean), or not possible. Imports only torch and the layers of `modules`, so that an
ejected script can carry it. Floor 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from netwright.model import modules

PER_STEP = (
    nn.Linear, nn.Embedding, nn.Identity, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.LayerNorm,
    nn.RMSNorm, nn.ReLU, nn.ReLU6, nn.RReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Tanhshrink, nn.Hardswish, nn.Hardshrink, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Threshold, nn.ChannelShuffle, nn.LocalResponseNorm,
)  # fmt: skip
OVER_AN_AXIS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU)
ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
POOLS = (nn.MaxPool1d, nn.AvgPool1d)
ENDS = (modules.LastStep, modules.MeanOverTime, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
INSTEAD = {
    "BatchNorm1d": "it would count padding in its statistics; write LayerNorm() where time is the second axis",
    "InstanceNorm1d": "it would count padding in its statistics; write LayerNorm() where time is the second axis",
    "GroupNorm": "it would count padding in its statistics; write LayerNorm() where time is the second axis",
    "Flatten": "it would put padding among the features; put LastStep() or MeanOverTime(), or AdaptiveAvgPool1d(1), before it",
}


@dataclass(frozen=True)
class Steps:
    """Padded sequences: values, real steps per row, int64 ``(batch,)``, and the axis of time; None once time is gone."""

    values: Tensor
    lengths: Tensor
    time: int | None

    @property
    def real(self) -> Tensor:
        """Which steps are there, bool ``(batch, time)``."""
        width = self.values.shape[self.time or 1]
        return torch.arange(width, device=self.values.device) < self.lengths.unsqueeze(1)

    def filled(self, value: float = 0.0) -> Tensor:
        """Return the values with something else where no step is."""
        if self.time is None:
            return self.values
        mask = self.real
        if self.values.dim() == 3:
            mask = mask.unsqueeze(2 if self.time == 1 else 1)
        return self.values.masked_fill(~mask, value)


class Masked(nn.Sequential):
    """``nn.Sequential`` for sequences of different length.

    Args:
        layers: The layers, in order.
        channels_first: Whether the input is ``(batch, channels, time)`` instead of ``(batch, time, features)``.

    Shape: ``(batch, time, features)``, ``(batch, channels, time)`` or codes ``(batch, time)``, and ``lengths``, int64
    ``(batch,)``: the real steps come first. What stands behind them has no influence. Without ``lengths`` it is
    ``nn.Sequential``.
    """

    def __init__(self, *layers: nn.Module, channels_first: bool = False) -> None:
        super().__init__(*layers)
        self.channels_first = channels_first

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the output; outputs per step are 0 where no step is."""
        if lengths is None:
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        steps = Steps(x, lengths, 2 if self.channels_first else 1)
        return _sequence(self, replace(steps, values=steps.filled())).values


def _sequence(layers: nn.Sequential, steps: Steps) -> Steps:
    for layer in layers:
        steps = _through(layer, steps)
    return steps


def _through(layer: nn.Module, steps: Steps) -> Steps:
    """Return what one layer makes of padded sequences whose padding is 0; its own padding is 0 again."""
    if isinstance(layer, modules.Residual):
        inner = _sequence(layer, steps)
        return replace(inner, values=steps.values + inner.values)
    if isinstance(layer, modules.Parallel):
        branches = [_through(branch, steps) for branch in layer]
        return replace(branches[0], values=torch.cat([branch.values for branch in branches], dim=layer.dim))
    if isinstance(layer, nn.Sequential):
        return _sequence(layer, steps)
    if steps.time is None:
        return replace(steps, values=layer(steps.values))
    if isinstance(layer, ENDS):
        return _end(layer, steps)
    if isinstance(layer, modules.Transpose):
        return Steps(layer(steps.values), steps.lengths, 3 - steps.time)
    return _over_time(layer, steps)


def _over_time(layer: nn.Module, steps: Steps) -> Steps:
    """Return what a layer that keeps an axis of time gives, with its padding at 0."""
    values = steps.values
    if isinstance(layer, nn.MultiheadAttention):
        found = nn.MultiheadAttention.forward(
            layer, values, values, values, key_padding_mask=~steps.real, need_weights=False
        )[0]
    elif isinstance(layer, nn.TransformerEncoderLayer):
        found = layer(values, src_key_padding_mask=~steps.real)
    elif isinstance(layer, nn.RNNBase) and layer.bidirectional:
        packed = nn.utils.rnn.pack_padded_sequence(values, steps.lengths.cpu(), batch_first=True, enforce_sorted=False)
        found = nn.utils.rnn.pad_packed_sequence(layer(packed), batch_first=True, total_length=values.shape[1])[0]
    elif isinstance(layer, nn.MaxPool1d):
        found = layer(steps.filled(float("-inf")))
    else:
        found = layer(values)
    after = Steps(found, lengths_after(layer, steps.lengths), steps.time)
    return replace(after, values=after.filled())


def _end(layer: nn.Module, steps: Steps) -> Steps:
    """Return what a layer that ends time gives: of the real steps only."""
    values, lengths = steps.values, steps.lengths
    if isinstance(layer, modules.LastStep):
        values = values[torch.arange(len(values), device=values.device), lengths - 1]
    elif isinstance(layer, modules.MeanOverTime):
        values = values.sum(dim=1) / lengths.unsqueeze(1)
    elif isinstance(layer, nn.AdaptiveAvgPool1d):
        values = values.sum(dim=2, keepdim=True) / lengths.reshape(-1, 1, 1)
    else:
        values = steps.filled(float("-inf")).amax(dim=2, keepdim=True)
    return Steps(values, lengths, None)


def lengths_after(layer: nn.Module, lengths: Tensor) -> Tensor:
    """Return how many steps a layer leaves of each sequence (torch documentation, Conv1d and MaxPool1d)."""
    if isinstance(layer, nn.Conv1d):
        if layer.padding == "same":
            return lengths
        padding = 0 if isinstance(layer.padding, str) else layer.padding[0]
        reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
        return (lengths + 2 * padding - reach - 1) // layer.stride[0] + 1
    if isinstance(layer, POOLS):
        kernel, stride, padding = (_first(value) for value in (layer.kernel_size, layer.stride, layer.padding))
        reach = (_first(layer.dilation) if isinstance(layer, nn.MaxPool1d) else 1) * (kernel - 1)
        return (lengths + 2 * padding - reach - 1) // stride + 1
    return lengths


def _first(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def unmaskable(model: Masked, shortest: int) -> str | None:
    """Return which layer cannot read sequences of different length, why and what to do; None where all can.

    Args:
        model: The network.
        shortest: Steps of the shortest sequence.
    """
    try:
        _walk(model, "", torch.tensor([shortest]), 2 if model.channels_first else 1)
    except _Refused as refused:
        return str(refused)
    return None


class _Refused(Exception):
    """A layer that cannot be masked."""


def _walk(layers: nn.Sequential, path: str, length: Tensor, time: int | None) -> tuple[Tensor, int | None]:
    """Follow the length of the shortest sequence and the axis of time through layers."""
    ends: list[tuple[Tensor, int | None]] = []
    start = (length, time)
    for name, layer in layers.named_children():
        where = f"{path}{name}"
        if isinstance(layer, nn.Sequential):
            length, time = _walk(layer, f"{where}.", length, time)
        elif time is not None:
            reason = next(_reasons(layer, time), None)
            if reason:
                raise _Refused(f"layer {where} {layer}: sequences of different length came; {reason}")
            left = lengths_after(layer, length)
            if int(left) < 1:
                raise _Refused(
                    f"layer {where} {layer}: nothing is left of the shortest sequence ({int(length)} steps here); expected one "
                    "step at least; use a smaller kernel, add padding, or leave short sequences out"
                )
            length = left
            time = None if isinstance(layer, ENDS) else 3 - time if isinstance(layer, modules.Transpose) else time
        if isinstance(layers, modules.Parallel):
            ends.append((length, time))
            length, time = start
    if not ends:
        return length, time
    if any(int(end[0]) != int(ends[0][0]) or end[1] != ends[0][1] for end in ends):
        raise _Refused(f"layer {path[:-1]} Parallel: its branches leave sequences of different length; make strides equal")
    return ends[0]


def _reasons(layer: nn.Module, time: int) -> Iterator[str]:
    """Yield why a layer cannot read padded sequences."""
    name = type(layer).__name__
    kept = (*PER_STEP, *ATTENTION, *POOLS, *ENDS, *OVER_AN_AXIS, nn.RNNBase, nn.Conv1d, modules.Transpose)
    if not isinstance(layer, kept):
        yield INSTEAD.get(
            name, "it would read padding as data; put LastStep() or MeanOverTime() before it, or choose another layer"
        )
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm) and (time != 1 or len(layer.normalized_shape) != 1):
        yield "it would count padding in its statistics; put Transpose() before it and normalise the last axis alone"
    if isinstance(layer, OVER_AN_AXIS) and layer.dim in (time, time - 3):
        yield "it runs along time, padding included; choose another axis"
    if isinstance(layer, nn.Conv1d) and layer.padding_mode != "zeros":
        yield f"padding_mode={layer.padding_mode!r} would read padding as data; leave padding_mode out"
    if isinstance(layer, POOLS) and layer.ceil_mode:
        yield "ceil_mode=True would read padding as data; leave ceil_mode out"
    if isinstance(layer, nn.AvgPool1d) and _first(layer.padding) and not layer.count_include_pad:
        yield "count_include_pad=False would count padding; leave it out"
    if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveMaxPool1d) and layer.output_size not in (1, (1,), [1]):
        yield "it would divide padding among its outputs; write 1 as its size"
