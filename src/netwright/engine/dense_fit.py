"""What of a step the kernels of dense layers know: layers, loss, optimizer, and the rows that it reads. Floor 7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.engine.base import Loss
from netwright.engine.dense_layers import convolutions_of, layers_of, recurrent_of
from netwright.engine.eager import EagerEngine
from netwright.engine.update import PLAIN, Update
from netwright.recording.dense import Convolution, Head, Layer, Norm, Pieces, Recurrent, height_and_width, values_of
from netwright.recording.state import hooked, hooked_optimizer

MOST_PRODUCTS = 400_000_000  # rows times weights; beyond it they fill a GPU, and products of cuBLAS are faster
MOST_HELD = 1 << 28  # numbers that convolutions keep: of a batch for the way back, and of each of some lanes
LANES, VECTOR, VECTORS = 16, 16, 32  # as many lanes, and channels side by side

KEPT = {  # by an optimizer for each parameter, by the kind of its update: first, second, and how many steps it has counted
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
}


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


def may_update(update: Update) -> bool:
    """Tell whether a step does nothing beside forward, backward and the optimizer's step but to clip gradients.

    Example:
        >>> may_update(Update(clip_grad_norm=1.0)), may_update(Update(l1=0.1))
        (True, False)
    """
    norm, value = update.clip_grad_norm, update.clip_grad_value
    positive = all(one is None or one > 0 for one in (norm, value))
    return positive and replace(update, clip_grad_norm=None, clip_grad_value=None) == PLAIN


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
    # Without an epsilon weights that are not there, which fill up panels, would be 0 / 0.
    if name in ("torch.optim.adam.Adam", "torch.optim.adamw.AdamW") and group["eps"] > 0:
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
    clip_norm: float | None = None
    clip_value: float | None = None

    @property
    def dense_alone(self) -> bool:
        """Whether there are dense layers and nothing else: nothing before them, no norms, and gradients as they are."""
        clips = self.clip_norm is not None or self.clip_value is not None
        return not (self.recurrent or self.convolutions or self.norms or clips)

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
        """Parameters whose gradient is nothing but rounding: they shift what a BatchNorm centres."""
        found: list[Tensor | None] = []
        centred = False  # whether what a layer sends on is
        for layer in reversed(self.with_norms):
            centred &= layer.kind == "none" and not layer.dropout
            norm = layer.norm
            if norm is not None:
                found += [norm.bias] if centred else []
                centred = not norm.by_row
            found += [layer.bias] if centred else []
            centred &= not any(getattr(layer, "padding", ()))  # zeros around it are not shifted
        return [value for value in found if value is not None]

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
            wide = -(-channels // VECTOR) * VECTOR
            held += channels * math.prod(size) + (wide * math.prod(seen) if one.averages else channels * math.prod(size))
            held += 0 if one.norm is None else wide * (math.prod(seen) + math.prod(size))
        return (
            rows * held + LANES * of_lane <= MOST_HELD and 0 < channels * math.prod(size) == self.layers[0].weight.shape[1]
        )


def known_whole(eager: EagerEngine) -> Known | None:
    """Return all of a step as the kernels know it; None where they do not know something of it."""
    recurrent, rest = recurrent_of(eager.model)
    convolutions, rest = ((), rest) if recurrent else convolutions_of(rest)
    layers, head, kind = layers_of(rest), head_of(eager.loss_function), kind_of(eager.optimizer)
    if layers is None or head is None or kind is None or not may_update(eager.update) or eager.scaler is not None:
        return None
    flattens = any(type(part) is nn.Flatten for part in eager.model.modules())
    if recurrent:
        sizes = [*(one.weights[0].shape[1] for one in recurrent[1:]), layers[0].weight.shape[1]]
        if flattens or sizes != [one.hidden for one in recurrent]:
            return None
    clips = (eager.update.clip_grad_norm, eager.update.clip_grad_value)
    known = Known(tuple(layers), flattens, head, kind, recurrent, convolutions, *clips)
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
