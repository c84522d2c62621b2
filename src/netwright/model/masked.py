"""Sequences of different length through a list of layers: what is padded never reaches a result.

`Masked` is the ``nn.Sequential`` of the same layers, with the same names of weights; after each layer it puts the steps
that are not there back to 0. A layer is one of: per step, over time with a mask, a map of lengths (convolution,
pooling), an end of time (last step, mean), or not possible. Imports only torch and the layers of `modules`. Printed by
eject. Floor 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from netwright.model import modules

KEEP_ZERO = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh)  # 0 where 0 came
ENDS = (modules.LastStep, modules.MeanOverTime, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)


@dataclass(frozen=True)
class Steps:
    """Padded sequences: values, real steps per row, int64 ``(batch,)``, and the axis of time; None once time is gone.

    ``padding`` tells which steps are not there, bool ``(batch, time)``.
    """

    values: Tensor
    lengths: Tensor
    time: int | None
    padding: Tensor

    def filled(self, value: float = 0.0) -> Tensor:
        """Return the values with something else where no step is."""
        mask = self.padding if self.values.dim() == 2 else self.padding.unsqueeze(2 if self.time == 1 else 1)
        return self.values.masked_fill(mask, value)


def _steps(values: Tensor, lengths: Tensor, time: int) -> Steps:
    offsets = torch.arange(values.shape[time], device=values.device)
    return Steps(values, lengths, time, offsets >= lengths.unsqueeze(1))


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
        steps = _steps(x, lengths, 2 if self.channels_first else 1)
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
        return replace(steps, values=layer(steps.values), time=3 - steps.time)
    return _over_time(layer, steps, steps.time)


def _over_time(layer: nn.Module, steps: Steps, time: int) -> Steps:
    """Return what a layer that keeps an axis of time gives, with its padding at 0."""
    values = steps.values
    if isinstance(layer, nn.MultiheadAttention):
        found = layer(values, steps.padding)
    elif isinstance(layer, nn.TransformerEncoderLayer):
        found = layer(values, src_key_padding_mask=steps.padding)
    elif isinstance(layer, nn.RNNBase) and layer.bidirectional:
        found = layer(values, steps.lengths)
    elif isinstance(layer, nn.MaxPool1d):
        found = layer(steps.filled(float("-inf")))
    else:
        found = layer(values)
    lengths = lengths_after(layer, steps.lengths)
    after = replace(steps, values=found) if lengths is steps.lengths else _steps(found, lengths, time)
    return after if isinstance(layer, KEEP_ZERO) else replace(after, values=after.filled())


def _end(layer: nn.Module, steps: Steps) -> Steps:
    """Return what a layer that ends time gives: of the real steps only."""
    if isinstance(layer, nn.AdaptiveAvgPool1d):
        values = layer(steps.values) * steps.values.shape[2] / steps.lengths.reshape(-1, 1, 1)
    elif isinstance(layer, nn.AdaptiveMaxPool1d):
        values = layer(steps.filled(float("-inf")))
    else:
        values = layer(steps.values, steps.lengths)
    return replace(steps, values=values, time=None)


def lengths_after(layer: nn.Module, lengths: Tensor) -> Tensor:
    """Return how many steps a layer leaves of each sequence; the very tensor where it leaves all of them.

    Source: torch's documentation of Conv1d and MaxPool1d.
    """
    if isinstance(layer, nn.ZeroPad1d):
        return lengths + sum(layer.padding)
    if not isinstance(layer, nn.Conv1d | nn.MaxPool1d | nn.AvgPool1d) or layer.padding == "same":
        return lengths
    kernel, stride = _first(layer.kernel_size), _first(layer.stride)
    padding = 0 if layer.padding == "valid" else _first(layer.padding)
    reach = (1 if isinstance(layer, nn.AvgPool1d) else _first(layer.dilation)) * (kernel - 1)
    return lengths if stride == 1 and reach == 2 * padding else (lengths + 2 * padding - reach - 1) // stride + 1


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)
