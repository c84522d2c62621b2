"""What happens inside one training step, layer by layer: where the first number that is not finite comes from. Floor 9."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.errors import first_line
from netwright.model.losses import loss_weight
from netwright.model.summary import call_model
from netwright.seeding import all_forked

MOST_ROWS = 8  # named in a line
MOST_ALONE = 1024  # rows of a batch that are run alone


@dataclass
class LayerState:
    """One layer in order of execution: the largest output and gradient by magnitude; None where there is none.

    ``finite`` and ``gradient_finite`` tell whether all numbers are; the largest is of those that are.
    """

    path: str
    kind: str
    largest: float | None = None
    finite: bool = True
    gradient: float | None = None
    gradient_finite: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """One training step on one batch, not applied: the layers, the loss, and which rows give outputs that are not finite."""

    layers: tuple[LayerState, ...]
    loss: float | None
    rows: tuple[int, ...] = ()
    error: str | None = None
    inputs_finite: bool = True
    notes: tuple[str, ...] = field(default=())

    def first_bad(self) -> str | None:
        """Return in words where the first number that is not finite comes from; None where all are finite."""
        if not self.inputs_finite:
            return "the inputs themselves are not finite"
        for layer in self.layers:
            if not layer.finite:
                return f"the output of layer {layer.path} {layer.kind}"
        if self.error is not None:
            return None
        if self.loss is not None and not torch.isfinite(torch.tensor(self.loss)):
            return "the loss itself; the outputs of all layers are finite"
        for layer in reversed(self.layers):
            if not layer.gradient_finite:
                return f"the gradient of layer {layer.path} {layer.kind}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a loss that is not finite is a text."""
        loss = None if self.loss is None else self.loss if torch.isfinite(torch.tensor(self.loss)) else str(self.loss)
        return {**asdict(self), "loss": loss, "first_bad": self.first_bad()}


def diagnose(model: nn.Module, loss_function: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Diagnosis:
    """Run one training step on a copy of a network, without an update, and look at every layer.

    Args:
        model: In training mode and the state before the step; neither it nor any generator is touched.
        loss_function: Of output and target.
        batch: The rows of the step.
    """
    trial = copy.deepcopy(model)
    named = {path: module for path, module in trial.named_modules() if not list(module.children())}
    layers: dict[str, LayerState] = {}
    handles = [module.register_forward_hook(_watch(layers, path)) for path, module in named.items()]
    inputs_finite = all(bool(torch.isfinite(value).all()) for value in batch.inputs.values() if value.is_floating_point())
    loss: float | None = None
    rows: tuple[int, ...] = ()
    error = None
    try:
        with all_forked():
            output = call_model(trial, batch.inputs, batch.lengths)
            rows = _bad_rows(output, batch)
            value = loss_function(output, batch.target)
            loss = float(value.detach())
            value.backward()  # type: ignore[no-untyped-call]
    except Exception as problem:  # an own module or loss may raise anything
        error = f"{type(problem).__name__}: {first_line(problem)}"
    finally:
        for handle in handles:
            handle.remove()
    for path, layer in layers.items():
        for parameter in named[path].parameters(recurse=False):
            if parameter.grad is not None:
                size, finite = _size(parameter.grad)
                layer.gradient = max(layer.gradient or 0.0, size)
                layer.gradient_finite &= finite
    if not rows and loss is not None and not torch.isfinite(torch.tensor(loss)):
        rows = _rows_of_loss(output, loss_function, batch)
    elif not rows and any(not layer.gradient_finite for layer in layers.values()):
        rows = _rows_of_gradient(trial, loss_function, batch)
    return Diagnosis(tuple(layers.values()), loss, rows, error, inputs_finite)


def _watch(layers: dict[str, LayerState], path: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        layer = layers.setdefault(path, LayerState(path, type(module).__name__))
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            size, finite = _size(tensor.detach())
            layer.largest = max(layer.largest or 0.0, size)
            layer.finite &= finite

    return hook


def _size(values: Tensor) -> tuple[float, bool]:
    """Return the largest finite magnitude, and whether all numbers are finite."""
    finite = torch.isfinite(values)
    kept = values[finite].abs()
    return (float(kept.max()) if kept.numel() else 0.0), bool(finite.all())


def _bad_rows(output: Any, batch: Batch) -> tuple[int, ...]:
    """Return the rows whose outputs are not finite, where not all of them are."""
    if not isinstance(output, Tensor) or not output.dim() or len(output) != len(batch):
        return ()
    good = torch.isfinite(output.detach()).flatten(1).all(dim=1) if output.dim() > 1 else torch.isfinite(output.detach())
    return () if bool(good.all()) or not bool(good.any()) else tuple(batch.rows[~good.to(batch.rows.device)].tolist())


def _rows_of_loss(output: Any, loss_function: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> tuple[int, ...]:
    """Return the rows whose own loss is not finite, where not all of them are."""
    if not isinstance(output, Tensor) or len(output) != len(batch):
        return ()
    found = []
    for place in range(len(batch)):
        part = batch.target[place : place + 1]
        if float(loss_weight(loss_function, part)):
            with torch.no_grad():
                own = float(loss_function(output.detach()[place : place + 1], part))
            if not torch.isfinite(torch.tensor(own)):
                found.append(int(batch.rows[place]))
    return tuple(found) if len(found) < len(batch) else ()


def _rows_of_gradient(trial: nn.Module, loss_function: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> tuple[int, ...]:
    """Return the rows that, alone and in eval mode, give a gradient that is not finite, where not all of them do."""
    found = []
    trial.eval()
    with all_forked():
        for place in range(min(len(batch), MOST_ALONE)):
            part = batch.part(place, place + 1)
            trial.zero_grad()
            loss_function(call_model(trial, part.inputs, part.lengths), part.target).backward()  # type: ignore[no-untyped-call]
            if not all(bool(torch.isfinite(each.grad).all()) for each in trial.parameters() if each.grad is not None):
                found.append(int(batch.rows[place]))
    return tuple(found) if len(found) < len(batch) else ()
