"""Modules one after the other as the layers that kernels of dense layers know. Floor 7.

On the CPU they know convolutions or recurrent layers before dense ones, BatchNorm, LayerNorm, and dropout wherever a layer ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from netwright.model.modules import GRU, LSTM, RNN, LastStep
from netwright.recording.dense import WHOLE, Convolution, Layer, Norm, Recurrent, height_and_width

MOST_OUTPUTS = 128  # a row of them lies in one tile
MOST_LAYERS = 8  # which takes Triton some ten seconds

KINDS: dict[Any, str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
}
CELLS: dict[Any, str] = {LSTM: "lstm", GRU: "gru", RNN: ""}  # of an RNN its nonlinearity
# What may follow each kind of layer: a normalisation over rows, dropout of whole channels, and a pooling that keeps the greatest,
# the mean, or the mean of all places.
NORMS: dict[Any, type[nn.Module]] = {nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d}
DROPOUTS: dict[Any, type[nn.Module]] = {nn.Conv1d: nn.Dropout1d, nn.Conv2d: nn.Dropout2d}  # of whole channels
POOLS: dict[Any, tuple[type[nn.Module], ...]] = {
    nn.Conv1d: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    nn.Conv2d: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
}


def recurrent_of(model: nn.Module) -> tuple[tuple[Recurrent, ...], nn.Module]:
    """Return the recurrent layers that a network begins with, where the last step goes on into the rest, and the rest.

    Example:
        >>> found, rest = recurrent_of(nn.Sequential(LSTM(9, 64, batch_first=True), LastStep(), nn.Linear(64, 6)))
        >>> [(one.cell, one.hidden) for one in found], rest
        ([('lstm', 64)], Sequential(
          (0): Linear(in_features=64, out_features=6, bias=True)
        ))
    """
    parts: list[Any] = _flat(model)
    found: list[Recurrent] = []
    while parts and type(parts[0]) in CELLS:
        layers = _layers_of(parts.pop(0))
        if not layers:
            return (), model
        found += layers
    if not found or not parts or type(parts[0]) is not LastStep:
        return (), model
    rest = parts[1:]
    found[-1] = replace(found[-1], dropout=_dropout_of(rest))
    return tuple(found), nn.Sequential(*rest)


def _layers_of(module: Any) -> list[Recurrent]:
    """Return the layers of a recurrent module, none where it has what the kernels do not know."""
    drops = float(module.dropout) if module.training else 0.0
    if module.bidirectional or not module.batch_first or not module.bias or module.proj_size or drops >= 1:
        return []
    cell = CELLS[type(module)] or str(module.nonlinearity)
    found = []
    for number in range(module.num_layers):
        weights, biases = [
            (module.get_parameter(f"{kind}_ih_l{number}"), module.get_parameter(f"{kind}_hh_l{number}"))
            for kind in ("weight", "bias")
        ]
        found.append(Recurrent(cell, weights, biases, drops if number + 1 < module.num_layers else 0.0))
    return found


def convolutions_of(model: nn.Module) -> tuple[tuple[Convolution, ...], nn.Module]:
    """Return the convolutions that a network begins with, where all their outputs go on into the rest, and the rest.

    Example:
        >>> layers = [nn.Conv1d(3, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(32, 2)]
        >>> found, rest = convolutions_of(nn.Sequential(*layers))
        >>> [(one.kind, one.kernel, one.pool) for one in found], len(rest)
        ([('relu', (1, 5), (1, 2))], 2)
    """
    parts: list[Any] = _flat(model)
    found = _convolve(parts)
    return (tuple(found), nn.Sequential(*parts)) if found and _flattens(parts) else ((), model)


def _convolve(parts: list[Any]) -> list[Convolution]:
    """Take convolutions of one kind from the beginning of some modules, up to what is not known.

    A Dropout behind Flatten is the last one's.
    """
    found: list[Convolution] = []
    kind = type(parts[0]) if parts else None
    while parts and kind in POOLS and type(parts[0]) is kind and (one := _taken(parts)) is not None:
        found.append(one)
    if found and _flattens(parts) and not found[-1].dropout:
        found[-1] = replace(found[-1], dropout=_dropout_of(after := parts[1:]))
        parts[1:] = after
    return found


def _flattens(parts: list[Any]) -> bool:
    return bool(parts) and type(parts[0]) is nn.Flatten


def _taken(parts: list[Any]) -> Convolution | None:
    """Take a convolution and what follows it from the beginning of some modules; None where it is left there."""
    first: Any = parts[0]
    padding, kind = _padding(first), type(first)
    if padding is None:
        return None
    del parts[0]
    norm = _norm_of(parts, first)
    activation, slope = _activation_of(parts)
    pool, averages = _pool_of(parts, kind)
    by_channel = bool(parts) and type(parts[0]) is DROPOUTS[kind]
    dropout = _dropout_of(parts, (nn.Dropout, DROPOUTS[kind]))
    made = Convolution(first.weight, first.bias, activation, slope, padding, pool, averages, norm, dropout)
    return replace(made, by_channel=by_channel and dropout > 0)


def _padding(layer: Any) -> tuple[int, int] | None:
    """Return how many zeros lie around what a convolution gets, above and beside it; None where it does not go place by place."""
    count = layer.weight.dim() - 2
    windows, apart, between = (_sizes(one, count) for one in (layer.kernel_size, layer.stride, layer.dilation))
    if not windows or layer.groups != 1 or layer.padding_mode != "zeros" or {*apart, *between} != {1}:
        return None
    if layer.padding == "same":
        found = [(size - 1) // 2 if size % 2 else -1 for size in windows]
    else:
        found = _sizes(0 if layer.padding == "valid" else layer.padding, count)
    fits = bool(found) and all(0 <= around < size for around, size in zip(found, windows, strict=True))
    return height_and_width(found, 0) if fits else None


def _pool_of(parts: list[Any], kind: Any) -> tuple[tuple[int, int], bool]:
    """Take a pooling whose windows lie side by side, or of all places, from the beginning of some modules.

    Returns:
        The size of a window, 1 without one, and whether its mean is kept.
    """
    first: Any = parts[0] if parts else None
    greatest, mean, whole = POOLS[kind]
    count = 2 if kind is nn.Conv2d else 1
    if type(first) is whole and _sizes(first.output_size, count) == [1] * count:
        del parts[0]
        return WHOLE, True
    if type(first) not in (greatest, mean):
        return (1, 1), False
    averages = type(first) is mean
    given = [_sizes(one, count) for one in (first.kernel_size, first.stride, first.padding, getattr(first, "dilation", 1))]
    size, step, around, apart = given
    otherwise = first.ceil_mode or getattr(first, "divisor_override", None) or getattr(first, "return_indices", False)
    if [] in given or size != step or {*around} != {0} or {*apart} != {1} or otherwise:
        return (1, 1), False
    del parts[0]
    return height_and_width(size, 1), averages


def _norm_of(parts: list[Any], layer: Any) -> Norm | None:
    """Take a BatchNorm of a layer's outputs, or a LayerNorm of a Linear's, from the beginning of some modules.

    None where there is none, or a BatchNorm rests: one that is frozen keeps nothing of a batch.
    """
    first: Any = parts[0] if parts else None
    kind: Any = NORMS[type(layer)]
    if type(first) is nn.LayerNorm and type(layer) is nn.Linear and tuple(first.normalized_shape) == (len(layer.weight),):
        found = Norm(first.weight, first.bias, float(first.eps), by_row=True)
    elif type(first) is kind and first.num_features == len(layer.weight) and first.momentum is not None and first.training:
        found = Norm(first.weight, first.bias, float(first.eps))
        if first.track_running_stats:
            mean, variance, count = first.running_mean, first.running_var, first.num_batches_tracked
            found = replace(found, mean=mean, variance=variance, count=count, momentum=float(first.momentum))
    else:
        return None
    if not found.epsilon > 0:
        return None
    del parts[0]
    return found


def _sizes(given: Any, count: int) -> list[int]:
    """Return so many sizes, one for each axis, as torch reads one number or several; none where it is anything else."""
    found = [*given] * (count if len(given) == 1 else 1) if isinstance(given, tuple | list) else [given] * count
    return found if len(found) == count and all(type(one) is int for one in found) else []


def _activation_of(parts: list[Any]) -> tuple[str, float]:
    """Take an activation from the beginning of some modules; return its kind and slope, ``none`` without one."""
    first = parts[0] if parts else None
    found = KINDS.get(type(first)) if getattr(first, "approximate", "none") == "none" else None
    if found is None:
        return "none", 0.0
    del parts[0]
    return found, float(getattr(first, "negative_slope", 0.0))


def layers_of(model: nn.Module) -> list[Layer] | None:
    """Return the layers of a network of Linear, BatchNorm or LayerNorm, activations and Dropout one after the other.

    None where it is anything else. A norm stands between a Linear and its activation.

    Example:
        >>> [layer.kind for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))]
        ['relu', 'none']
        >>> layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2))) is None
        True
    """
    parts: list[Any] = _flat(model)
    found = _dense(parts)
    ends = not parts and bool(found) and found[-1].kind == "none" and not found[-1].dropout and found[-1].norm is None
    return found if ends and len(found) <= MOST_LAYERS and found[-1].weight.shape[0] <= MOST_OUTPUTS else None


def _dense(parts: list[Any]) -> list[Layer]:
    """Take layers with a Linear each from the beginning of some modules, and what flattens before them."""
    while parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1 and parts[0].end_dim == -1:
        parts.pop(0)
    found: list[Layer] = []
    while parts and type(parts[0]) is nn.Linear:
        linear = parts.pop(0)
        norm = _norm_of(parts, linear)
        kind, slope = _activation_of(parts)
        found.append(Layer(linear.weight, linear.bias, kind, slope, _dropout_of(parts), norm))
    return found


def unknown_of(model: nn.Module) -> nn.Module | None:
    """Return the first part of a network that is not known, or is not where it is; None where there is none.

    Example:
        >>> unknown_of(nn.Sequential(nn.Conv1d(3, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(32, 2)))
        ELU(alpha=1.0)
    """
    recurrent, rest = recurrent_of(model)
    parts: list[Any] = _flat(rest)
    if not recurrent and parts and type(parts[0]) in CELLS:
        others: list[nn.Module] = [part for part in parts if type(part) not in CELLS or not _layers_of(part)]
        return next(iter(others), model)
    if not recurrent and _convolve(parts) and not _flattens(parts):
        return next(iter(parts), model)
    _dense(parts)
    return next(iter(parts), None)


def _dropout_of(parts: list[Any], kinds: Sequence[type[nn.Module]] = (nn.Dropout,)) -> float:
    """Take a Dropout from the beginning of some modules; return its probability, 0 where there is none or nothing is dropped."""
    first: Any = parts[0] if parts else None
    if type(first) not in kinds or first.p >= 1:
        return 0.0
    del parts[0]
    return float(first.p) if first.training else 0.0


def _flat(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are called one after the other; Identity is none."""
    if type(model) is nn.Sequential:
        return [part for child in model for part in _flat(child)]
    return [] if type(model) is nn.Identity else [model]
