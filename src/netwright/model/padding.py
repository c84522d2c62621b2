"""Which layer of a network cannot read sequences of different length, why, and what to do instead.

Follows the lengths of all sequences and the axis of time through the layers of `Masked`, without a forward pass.
Floor 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from netwright.model import modules
from netwright.model.masked import ENDS, Masked, lengths_after

PER_STEP = (
    nn.Linear, nn.Embedding, nn.Identity, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.LayerNorm,
    nn.RMSNorm, nn.ReLU, nn.ReLU6, nn.RReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Tanhshrink, nn.Hardswish, nn.Hardshrink, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Threshold, nn.ChannelShuffle, nn.LocalResponseNorm,
)  # fmt: skip
OVER_AN_AXIS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU)
ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
MAPS = (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d, nn.ZeroPad1d)
KNOWN = (*PER_STEP, *ATTENTION, *MAPS, *ENDS, *OVER_AN_AXIS, nn.RNNBase, modules.Transpose)
END_OF_TIME = {1: "LastStep() or MeanOverTime()", 2: "AdaptiveAvgPool1d(1)"}
STATISTICS = (nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)


def unmaskable(model: Masked, lengths: Tensor) -> tuple[str, str] | None:
    """Return the path of the layer that cannot read sequences of different length, with why and what to do.

    Args:
        model: The network.
        lengths: Steps of the sequences, int64 ``(rows,)``.

    Returns:
        None where every layer can read them.
    """
    try:
        _walk(model, "", torch.unique(lengths), 2 if model.channels_first else 1)
    except _Refused as refused:
        return refused.path, str(refused)
    return None


class _Refused(Exception):
    """A layer that cannot be masked."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def _walk(layers: nn.Sequential, path: str, lengths: Tensor, time: int | None) -> tuple[Tensor, int | None]:
    """Follow the lengths and the axis of time through layers."""
    ends: list[tuple[Tensor, int | None]] = []
    start = (lengths, time)
    for name, layer in layers.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(layer, nn.Sequential):
            lengths, time = _walk(layer, where, lengths, time)
        elif time is not None:
            lengths, time = _step(layer, where, lengths, time)
        if isinstance(layers, modules.Parallel):
            ends.append((lengths, time))
            lengths, time = start
    if isinstance(layers, modules.Residual):
        ends = [start, (lengths, time)]
    for other, end in ends[1:]:
        if end != ends[0][1] or (end is not None and not torch.equal(other, ends[0][0])):
            raise _Refused(path, "it joins what has not the same steps any more; make strides and padding equal")
    lengths, time = ends[0] if ends else (lengths, time)
    if isinstance(layers, modules.Parallel) and time is not None and layers.dim % 3 == time:
        raise _Refused(path, "it joins its branches along time, behind the padding of the first; leave dim out")
    return lengths, time


def _step(layer: nn.Module, path: str, lengths: Tensor, time: int) -> tuple[Tensor, int | None]:
    """Return the lengths and the axis of time after one layer."""
    reason = next(_reasons(layer, time), None)
    if reason:
        raise _Refused(path, reason)
    after = lengths_after(layer, lengths)
    if int(after.min()) < 1:
        raise _Refused(
            path,
            f"nothing is left of the shortest sequence ({int(lengths.min())} steps before this layer); expected one step at "
            "least; use a smaller kernel, add padding, or leave short sequences out",
        )
    return after, None if isinstance(layer, ENDS) else 3 - time if isinstance(layer, modules.Transpose) else time


def _reasons(layer: nn.Module, time: int) -> Iterator[str]:
    """Yield why a layer cannot read padded sequences."""
    if isinstance(layer, STATISTICS) or (
        isinstance(layer, nn.LayerNorm | nn.RMSNorm) and (time != 1 or len(layer.normalized_shape) != 1)
    ):
        instead = "LayerNorm()" if time == 1 else "Transpose(), LayerNorm(), Transpose()"
        yield f"it would count padding in its statistics; write {instead} in its place"
    elif isinstance(layer, nn.Flatten):
        yield f"it would put padding among the features; put {END_OF_TIME[time]} before it"
    elif isinstance(layer, nn.EmbeddingBag):
        yield "it would count padding as codes; write Embedding(), MeanOverTime() in its place"
    elif not isinstance(layer, KNOWN):
        yield f"it would read padding as data; put {END_OF_TIME[time]} before it, or choose another layer"
    elif isinstance(layer, nn.Linear) and time != 1:
        yield "it would mix the steps, padding included; put Transpose() before it"
    elif isinstance(layer, OVER_AN_AXIS) and layer.dim in (time, time - 3):
        yield "it runs along time, padding included; choose another axis"
    yield from _odd_arguments(layer, time)


def _odd_arguments(layer: nn.Module, time: int) -> Iterator[str]:
    """Yield the arguments with which a layer would read padding."""
    if isinstance(layer, nn.PReLU) and layer.num_parameters != 1 and time == 1:
        yield f"num_parameters={layer.num_parameters} would be one slope per step; leave num_parameters out"
    if isinstance(layer, nn.Embedding) and layer.scale_grad_by_freq:
        yield "scale_grad_by_freq=True would count padding; leave it out"
    if isinstance(layer, nn.Conv1d) and layer.padding_mode != "zeros":
        yield f"padding_mode={layer.padding_mode!r} would read padding as data; leave padding_mode out"
    if isinstance(layer, nn.MaxPool1d | nn.AvgPool1d) and layer.ceil_mode:
        yield "ceil_mode=True would read padding as data; leave ceil_mode out"
    if isinstance(layer, nn.AvgPool1d) and layer.padding != (0,) and not layer.count_include_pad:
        yield "count_include_pad=False would count padding; leave it out"
    if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveMaxPool1d) and layer.output_size not in (1, (1,), [1]):
        yield "it would divide padding among its outputs; write 1 as its size"
