"""Layers and losses of several networks at once, written for tensors ``(networks, rows, ...)``; what is not here goes through vmap.

A vectorised step of small networks is as long as its calls are many, and vmap makes many of one. Floor 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from netwright.model.modules import Residual

Tensors = Mapping[str, Tensor]
ELEMENTWISE = (
    *(
        nn.ReLU,
        nn.LeakyReLU,
        nn.ELU,
        nn.SELU,
        nn.CELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
        nn.Tanh,
        nn.Sigmoid,
        nn.Softplus,
        nn.ReLU6,
    ),
    *(nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.Identity),
)


@final
@dataclass(frozen=True)
class Stage:
    """Some layers that follow each other, and how they are called with the tensors of all networks by name."""

    call: Callable[[Tensor, Tensors], Tensor]
    direct: bool


def stages(network: nn.Module, noise: type[nn.Module]) -> list[Stage] | None:
    """Return a chain of layers as stages, of which one at most goes through vmap; None where that is not possible.

    Args:
        network: Whose parts are called one after the other with one tensor.
        noise: The layer that multiplies by a mask ``noise``.
    """
    if type(network) is not nn.Sequential:
        return None
    held = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    if len({id(value) for _, value in held}) < len(held):  # a layer stands in several places, and has one name
        return None
    found = _stages(network, "", noise)
    return found if sum(not stage.direct for stage in found) < 2 and any(stage.direct for stage in found) else None


def _stages(network: nn.Sequential, path: str, noise: type[nn.Module]) -> list[Stage]:
    found: list[Stage] = []
    waiting: list[tuple[str, nn.Module]] = []
    for name, layer in network.named_children():
        inside = _inside(layer, f"{path}{name}.", noise)
        if inside is None:
            waiting.append((name, layer))
            continue
        found += [*_vectorised(waiting, path), *inside]
        waiting = []
    return [*found, *_vectorised(waiting, path)]


def _inside(layer: nn.Module, path: str, noise: type[nn.Module]) -> list[Stage] | None:
    """Return a layer as stages; None where it goes through vmap."""
    if type(layer) is nn.Sequential:
        return _stages(layer, path, noise)
    if type(layer) is Residual:
        inner = _stages(layer, path, noise)
        if not all(stage.direct for stage in inner):
            return None

        def around(x: Tensor, tensors: Tensors) -> Tensor:
            return x + run(inner, x, tensors)

        return [Stage(around, True)]
    if type(layer) is noise:
        return [Stage(lambda x, tensors: x * tensors[f"{path}noise"], True)]
    call = _call(layer, path)
    return None if call is None else [Stage(call, True)]


def _vectorised(layers: list[tuple[str, nn.Module]], path: str) -> list[Stage]:
    if not layers:
        return []
    part = nn.Sequential()
    for name, layer in layers:
        part.add_module(name, layer)
    names = [name for name, _ in (*part.named_parameters(), *part.named_buffers())]

    def one(tensors: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(part, tensors, (x,))

    def call(x: Tensor, tensors: Tensors) -> Tensor:
        found: Tensor = torch.vmap(one)({name: tensors[path + name] for name in names}, x)
        return found

    return [Stage(call, False)]


def run(found: list[Stage], x: Tensor, tensors: Tensors) -> Tensor:
    """Return what stages make of rows ``(networks, rows, ...)``."""
    for stage in found:
        x = stage.call(x, tensors)
    return x


def _call(layer: Any, path: str) -> Callable[[Tensor, Tensors], Tensor] | None:
    if type(layer) in ELEMENTWISE:
        return lambda x, tensors: layer(x)
    if type(layer) is nn.Linear:
        return lambda x, tensors: _linear(x, tensors[f"{path}weight"], tensors.get(f"{path}bias"))
    if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return lambda x, tensors: x.flatten(2)
    if type(layer) is nn.LayerNorm:
        return lambda x, tensors: _layer_norm(x, layer, tensors.get(f"{path}weight"), tensors.get(f"{path}bias"))
    return None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.flatten(1, -2) if x.dim() > 3 else x
    turned = weight.transpose(1, 2)
    found = torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, turned)
    return found.view(*x.shape[:-1], -1) if x.dim() > 3 else found


def _layer_norm(x: Tensor, layer: nn.LayerNorm, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    found = functional.layer_norm(x, layer.normalized_shape, None, None, layer.eps)
    between = (1,) * (x.dim() - 1 - len(layer.normalized_shape))
    if weight is not None:
        found = found * weight.view(-1, *between, *layer.normalized_shape)
    return found if bias is None else found + bias.view(-1, *between, *layer.normalized_shape)


def losses_of_each(loss: Any, output: Tensor, target: Tensor, complete: bool = False) -> Tensor | None:
    """Return the mean loss of each network ``(networks,)``; None where it goes through vmap.

    Args:
        loss: Of output and target, to one number.
        output: ``(networks, rows, ...)``.
        target: ``(networks * rows, ...)``.
        complete: Whether it is known that no row is passed over, by ``ignore_index``.
    """
    if getattr(loss, "reduction", None) != "mean" or output.dim() < 2:
        return None
    count = len(output)
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and target.dtype == torch.long and output.dim() == 3:
        each = functional.cross_entropy(
            *(output.flatten(0, 1), target),
            ignore_index=loss.ignore_index,
            reduction="none",
            label_smoothing=loss.label_smoothing,
        )
        if complete:
            return each.view(count, -1).mean(dim=1)
        real = (target != loss.ignore_index).view(count, -1)
        return each.view(count, -1).sum(dim=1) / real.sum(dim=1)
    if type(loss) in (nn.MSELoss, nn.L1Loss) and target.shape == (len(output) * output.shape[1], *output.shape[2:]):
        apart = output - target.view(output.shape)
        return (apart.square() if type(loss) is nn.MSELoss else apart.abs()).flatten(1).mean(dim=1)
    if type(loss) is nn.BCEWithLogitsLoss and loss.weight is None and loss.pos_weight is None:
        if target.numel() == output.numel():
            each = functional.binary_cross_entropy_with_logits(output, target.view(output.shape), reduction="none")
            return each.flatten(1).mean(dim=1)
    return None
