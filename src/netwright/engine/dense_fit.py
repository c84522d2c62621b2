"""What of a step the kernels of dense layers know: layers, loss, optimizer, and the rows that it reads. Floor 7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.engine.base import Loss
from netwright.engine.eager import EagerEngine
from netwright.engine.update import PLAIN
from netwright.recording.dense import Head, Layer
from netwright.recording.state import hooked, hooked_optimizer

MOST_PRODUCTS = 400_000_000  # rows times weights; beyond it they fill a GPU, and products of cuBLAS are faster
MOST_OUTPUTS = 128  # a row of them lies in one tile
MOST_LAYERS = 8  # which takes Triton some ten seconds

KINDS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
}


def layers_of(model: nn.Module) -> list[Layer] | None:
    """Return the layers of a network of Linear, activations and Dropout one after the other; None where it is anything else.

    Example:
        >>> [layer.kind for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))]
        ['relu', 'none']
        >>> layers_of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))) is None
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
        kind, slope, dropout = "none", 0.0, 0.0
        if parts and type(parts[0]) in KINDS and getattr(parts[0], "approximate", "none") == "none":
            kind, slope = KINDS[type(parts[0])], float(getattr(parts[0], "negative_slope", 0.0))
            parts.pop(0)
        if parts and type(parts[0]) is nn.Dropout and parts[0].p < 1:
            dropout = float(parts[0].p) if parts[0].training else 0.0
            parts.pop(0)
        found.append(Layer(linear.weight, linear.bias, kind, slope, dropout))
    ends = bool(found) and found[-1].kind == "none" and not found[-1].dropout
    return found if ends and len(found) <= MOST_LAYERS and found[-1].weight.shape[0] <= MOST_OUTPUTS else None


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


def may_be_dense(model: nn.Module, loss_function: Loss, rows: int) -> bool:
    """Tell whether a network and a loss are dense layers for batches of so many rows, whatever the optimizer is."""
    small = rows * sum(value.numel() for value in model.parameters()) <= MOST_PRODUCTS
    return small and layers_of(model) is not None and head_of(loss_function) is not None


def kind_of(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the kind of an optimizer's update as the kernels know it; None where they do not, or its groups differ in it.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> kind_of(torch.optim.AdamW([weight])), kind_of(torch.optim.RMSprop([weight]))
        ('adamw', None)
    """
    shared = {
        (_kind(type(optimizer), group), *map(group.get, ("betas", "eps", "momentum"))) for group in optimizer.param_groups
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
    """A step as the kernels know it. With ``flattens`` a row may have any shape."""

    layers: tuple[Layer, ...]
    flattens: bool
    head: Head
    kind: str

    @property
    def weights(self) -> list[Tensor]:
        """All parameters in the order of layers, weight before bias."""
        return [value for layer in self.layers for value in (layer.weight, layer.bias) if value is not None]

    def reads(self, x: Tensor, target: Tensor, rows: int) -> bool:
        """Tell whether inputs and targets are what the kernels read, and a batch of so many rows is small enough."""
        if rows * sum(value.numel() for value in self.weights) > MOST_PRODUCTS:
            return False
        wide = x.dim() == 2 or (self.flattens and x.dim() > 2)
        if x.dtype != torch.float32 or not x.is_contiguous() or not wide or x[0].numel() != self.layers[0].weight.shape[1]:
            return False
        if self.head.kind == "classes":
            return target.dtype == torch.long and target.dim() == 1 and target.is_contiguous()
        outputs = self.layers[-1].weight.shape[:1]
        return target.dtype == torch.float32 and target.is_contiguous() and target.shape[1:] == outputs


def known_whole(eager: EagerEngine) -> Known | None:
    """Return all of a step as the kernels know it; None where they do not know something of it."""
    layers, head, kind = layers_of(eager.model), head_of(eager.loss_function), kind_of(eager.optimizer)
    if layers is None or head is None or kind is None or eager.update != PLAIN or eager.scaler is not None:
        return None
    known = Known(tuple(layers), any(type(part) is nn.Flatten for part in eager.model.modules()), head, kind)
    weights = known.weights
    held = [value for group in eager.optimizer.param_groups for value in group["params"]]
    plain = all(value.dtype == torch.float32 and value.requires_grad and value.is_contiguous() for value in weights)
    once = sorted(map(id, weights)) == sorted(map(id, held)) and len({value.data_ptr() for value in held}) == len(held)
    hooks = hooked(eager.model, eager.loss_function) or hooked_optimizer(eager.optimizer)
    return known if plain and once and not hooks else None
