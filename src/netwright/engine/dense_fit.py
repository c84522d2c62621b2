"""What of a step the kernels of dense layers know: layers, loss, optimizer, and the rows that it reads. Floor 7.

On the CPU they know convolutions or a recurrent layer before them too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.engine.base import Loss
from netwright.engine.eager import EagerEngine
from netwright.engine.update import PLAIN
from netwright.model.modules import GRU, LSTM, RNN, LastStep
from netwright.recording.dense import WHOLE, Convolution, Head, Layer, Norm, Pieces, Recurrent, height_and_width, values_of
from netwright.recording.state import hooked, hooked_optimizer

MOST_PRODUCTS = 400_000_000  # rows times weights; beyond it they fill a GPU, and products of cuBLAS are faster
MOST_OUTPUTS = 128  # a row of them lies in one tile
MOST_HELD = 1 << 28  # numbers that convolutions keep: of a batch for the way back, and of each of some lanes
LANES, VECTORS = 16, 32  # as many lanes, and channels side by side
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
# What may follow each kind of layer: a normalisation; of the greatest, of means, and of the mean of all.
NORMS: dict[Any, type[nn.Module]] = {nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d}
DROPOUTS: dict[Any, type[nn.Module]] = {nn.Conv1d: nn.Dropout1d, nn.Conv2d: nn.Dropout2d}  # of whole channels
POOLS: dict[Any, tuple[type[nn.Module], ...]] = {
    nn.Conv1d: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    nn.Conv2d: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
}
KEPT = {  # by an optimizer for each parameter, by the kind of its update: first, second, and how many steps it has counted
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
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
    found: list[Convolution] = []
    kind = type(parts[0]) if parts else None
    while parts and kind in POOLS and type(parts[0]) is kind:
        first = parts.pop(0)
        padding = _padding(first)
        if padding is None:
            return (), model
        norm = _norm_of(parts, first)
        activation, slope = _activation_of(parts)
        pool, averages = _pool_of(parts, kind)
        by_channel = bool(parts) and type(parts[0]) is DROPOUTS[kind]
        dropout = _dropout_of(parts, (nn.Dropout, DROPOUTS[kind]))
        found.append(
            Convolution(
                first.weight,
                first.bias,
                activation,
                slope,
                padding,
                pool,
                averages,
                norm,
                dropout,
                by_channel and dropout > 0,
            )
        )
    if not found or not parts or type(parts[0]) is not nn.Flatten:
        return (), model
    if not found[-1].dropout:
        found[-1] = replace(found[-1], dropout=_dropout_of(after := parts[1:]))
        parts[1:] = after
    return tuple(found), nn.Sequential(*parts)


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
    """Take a BatchNorm of a layer's outputs from the beginning of some modules; None where there is none, or it rests.

    One that rests, as where it is frozen, keeps nothing of a batch.
    """
    first: Any = parts[0] if parts else None
    kind: Any = NORMS[type(layer)]
    if type(first) is not kind:
        return None
    if first.num_features != len(layer.weight) or first.momentum is None or not first.training or not first.eps > 0:
        return None
    del parts[0]
    kept = (first.running_mean, first.running_var, first.num_batches_tracked)
    return Norm(first.weight, first.bias, *kept, momentum=float(first.momentum), epsilon=float(first.eps))


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
    """Return the layers of a network of Linear, BatchNorm, activations and Dropout one after the other.

    None where it is anything else. A BatchNorm stands between a Linear and its activation.

    Example:
        >>> [layer.kind for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))]
        ['relu', 'none']
        >>> layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2))) is None
        True
    """
    parts = _flat(model)
    while parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1 and parts[0].end_dim == -1:
        parts.pop(0)
    found: list[Layer] = []
    while parts:
        linear = parts.pop(0)
        if type(linear) is not nn.Linear:
            return None
        norm = _norm_of(parts, linear)
        kind, slope = _activation_of(parts)
        found.append(Layer(linear.weight, linear.bias, kind, slope, _dropout_of(parts), norm))
    ends = bool(found) and found[-1].kind == "none" and not found[-1].dropout and found[-1].norm is None
    return found if ends and len(found) <= MOST_LAYERS and found[-1].weight.shape[0] <= MOST_OUTPUTS else None


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


def head_of(loss_function: Loss) -> Head | None:
    """Return a loss as the kernels know it; None where they do not."""
    if getattr(loss_function, "reduction", None) != "mean":
        return None
    if type(loss_function) is nn.CrossEntropyLoss:
        weight, smoothing = loss_function.weight, float(loss_function.label_smoothing)
        known = loss_function.ignore_index < 0 and (weight is None or not smoothing)
        return Head("classes", weight, smoothing) if known else None
    if type(loss_function) is nn.MSELoss:
        return Head("squares")
    plain = type(loss_function) is nn.BCEWithLogitsLoss and loss_function.weight is None and loss_function.pos_weight is None
    return Head("chances") if plain else None


def may_be_dense(model: nn.Module, loss_function: Loss, rows: int, device: torch.device) -> bool:
    """Tell whether a network and a loss are dense layers for batches of so many rows, whatever the optimizer is."""
    small = rows * sum(value.numel() for value in model.parameters()) <= MOST_PRODUCTS
    rest = convolutions_of(recurrent_of(model)[1])[1] if device.type == "cpu" else model
    layers = layers_of(rest)
    plain = layers is not None and (device.type == "cpu" or all(layer.norm is None for layer in layers))
    return small and plain and head_of(loss_function) is not None


def kind_of(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the kind of an optimizer's update as the kernels know it; None where they do not, or its groups differ in it.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> kind_of(torch.optim.AdamW([weight])), kind_of(torch.optim.RMSprop([weight]))
        ('adamw', None)
    """
    shared = {
        (_kind(type(optimizer), group), *group.get("betas", ()), group.get("eps"), group.get("momentum"))
        for group in optimizer.param_groups
    }
    return shared.pop()[0] if len(shared) == 1 else None


def _kind(optimizer: type[torch.optim.Optimizer], group: dict[str, Any]) -> str | None:
    if group.get("maximize") or group.get("amsgrad") or group.get("differentiable") or group.get("dampening"):
        return None
    name = f"{optimizer.__module__}.{optimizer.__qualname__}"  # which one that `netwright.training.optimizer.light` makes has too
    if name == "torch.optim.sgd.SGD":
        return "sgd" if not group["momentum"] else "nesterov" if group["nesterov"] else "momentum"
    if name in ("torch.optim.adam.Adam", "torch.optim.adamw.AdamW"):
        return "adamw" if group["decoupled_weight_decay"] else "adam"
    return None


@final
@dataclass(frozen=True)
class Known:
    """A step as the kernels know it. With ``flattens`` a row may have any shape; ``recurrent`` or ``convolutions`` come before the
    layers."""

    layers: tuple[Layer, ...]
    flattens: bool
    head: Head
    kind: str
    recurrent: tuple[Recurrent, ...] = ()
    convolutions: tuple[Convolution, ...] = ()

    @property
    def dense_alone(self) -> bool:
        """Whether there are dense layers and nothing else: nothing before them, and no norms."""
        return not self.recurrent and not self.convolutions and not self.norms

    @property
    def with_norms(self) -> tuple[Convolution | Layer, ...]:
        """The layers that may have norms, in order."""
        return (*self.convolutions, *self.layers)

    @property
    def norms(self) -> list[Norm]:
        """The norms of all layers."""
        return [layer.norm for layer in self.with_norms if layer.norm is not None]

    @property
    def noise(self) -> list[Tensor]:
        """Parameters whose gradient is nothing but rounding: a norm takes what they add off again."""
        return [layer.bias for layer in self.with_norms if layer.norm is not None and layer.bias is not None]

    @property
    def counts(self) -> list[Tensor]:
        """Counters of the batches that norms have seen."""
        return [norm.count for norm in self.norms if norm.count is not None]

    @property
    def weights(self) -> list[Tensor]:
        """All parameters in the order of layers, see `netwright.recording.dense.values_of`."""
        before = [value for layer in self.recurrent for value in (*layer.weights, *layer.biases)]
        return before + [value for layer in self.with_norms for value in values_of(layer)]

    @property
    def drops(self) -> bool:
        """Whether random outputs are dropped."""
        return any(layer.dropout for layer in (*self.recurrent, *self.with_norms))

    def dropped(self, shape: Sequence[int]) -> list[tuple[int, float]]:
        """Return the outputs of each layer of which some are dropped, and the probability of each to be, for rows of a shape."""
        last = len(self.recurrent) - 1
        found = [(one.hidden * (1 if at == last else shape[0]), one.dropout) for at, one in enumerate(self.recurrent)]
        size = height_and_width(shape[1:], 1) if self.convolutions else (1, 1)
        for one in self.convolutions:
            size = one.after(size)
            found.append((len(one.weight) * (1 if one.by_channel else math.prod(size)), one.dropout))
        return [one for one in [*found, *((layer.weight.shape[0], layer.dropout) for layer in self.layers)] if one[1]]

    def kept(self, optimizer: torch.optim.Optimizer) -> list[Pieces] | None:
        """Return what an optimizer keeps of all parameters, see `KEPT`; None where it has not made it yet, or it lies otherwise."""
        states = [optimizer.state.get(value, {}) for value in self.weights]
        names = KEPT[self.kind]
        found = [state.get(name) for state in states for name in names]
        if not all(isinstance(value, Tensor) and value.is_contiguous() for value in found):
            return None
        return [tuple(state[name] for state in states) for name in names]

    def reads(self, x: Tensor, target: Tensor, rows: int) -> bool:
        """Tell whether inputs and targets are what the kernels read, and a batch of so many rows is small enough."""
        if (
            rows * sum(value.numel() for value in self.weights) > MOST_PRODUCTS
            or x.dtype != torch.float32
            or not x.is_contiguous()
        ):
            return False
        if self.convolutions:
            fits = self._convolve(x.shape[1:], rows)
        elif self.recurrent:
            fits = x.dim() == 3 and x.shape[1] > 0 and x.shape[2] == self.recurrent[0].weights[0].shape[1]
        else:
            fits = (x.dim() == 2 or (self.flattens and x.dim() > 2)) and x[0].numel() == self.layers[0].weight.shape[1]
        if not fits:
            return False
        if self.head.kind == "classes":
            return target.dtype == torch.long and target.dim() == 1 and target.is_contiguous()
        outputs = self.layers[-1].weight.shape[:1]
        return target.dtype == torch.float32 and target.is_contiguous() and target.shape[1:] == outputs

    def _convolve(self, shape: Sequence[int], rows: int) -> bool:
        """Tell whether so many rows of a shape pass the convolutions, and go on as the first layer reads them."""
        first = self.convolutions[0].weight
        if len(shape) != first.dim() - 1 or shape[0] != first.shape[1]:
            return False
        size, channels, held, of_lane = height_and_width(shape[1:], 1), shape[0], 0, 0
        for one in self.convolutions:
            if one.weight.shape[1] != channels:
                return False
            held += channels * math.prod(come + 2 * around for come, around in zip(size, one.padding, strict=True))
            around = math.prod(come + window for come, window in zip(size, one.kernel, strict=True))
            of_lane = max(of_lane, 4 * around * -(-max(channels, one.weight.shape[0]) // VECTORS) * VECTORS)
            seen, size, channels = one.seen(size), one.after(size), one.weight.shape[0]
            held += channels * (math.prod(seen) if one.averages else 2 * math.prod(size))
            held += 0 if one.norm is None else channels * (math.prod(seen) + math.prod(size))
        return (
            rows * held + LANES * of_lane <= MOST_HELD and 0 < channels * math.prod(size) == self.layers[0].weight.shape[1]
        )


def known_whole(eager: EagerEngine) -> Known | None:
    """Return all of a step as the kernels know it; None where they do not know something of it."""
    recurrent, rest = recurrent_of(eager.model)
    convolutions, rest = ((), rest) if recurrent else convolutions_of(rest)
    layers, head, kind = layers_of(rest), head_of(eager.loss_function), kind_of(eager.optimizer)
    if layers is None or head is None or kind is None or eager.update != PLAIN or eager.scaler is not None:
        return None
    flattens = any(type(part) is nn.Flatten for part in eager.model.modules())
    if recurrent:
        sizes = [*(one.weights[0].shape[1] for one in recurrent[1:]), layers[0].weight.shape[1]]
        if flattens or sizes != [one.hidden for one in recurrent]:
            return None
    known = Known(tuple(layers), flattens, head, kind, recurrent, convolutions)
    weights = known.weights
    held = [value for group in eager.optimizer.param_groups for value in group["params"]]
    plain = all(value.dtype == torch.float32 and value.requires_grad and value.is_contiguous() for value in weights)
    plain &= all(
        value is None or (value.dtype == torch.float32 and value.is_contiguous())
        for norm in known.norms
        for value in (norm.mean, norm.variance)
    )
    once = sorted(map(id, weights)) == sorted(map(id, held)) and len({value.data_ptr() for value in held}) == len(held)
    hooks = hooked(eager.model, eager.loss_function) or hooked_optimizer(eager.optimizer)
    own = any("forward" in vars(part) for part in (*eager.model.modules(), eager.loss_function))  # set on one module alone
    return known if plain and once and not hooks and not own else None
