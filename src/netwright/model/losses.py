"""What a loss counts: its weight in a mean over batches, and losses of targets that have one value per step. Floor 4."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import PADDED_CLASS
from netwright.model.focal import FocalLoss

IGNORING = (nn.CrossEntropyLoss, nn.NLLLoss, FocalLoss)


def real_steps(target: Tensor) -> Tensor:
    """Return which steps of a target per step are there, bool ``(batch, time)``; the others are -100 or NaN."""
    if target.is_floating_point():
        return ~torch.isnan(target).flatten(2).any(dim=2)
    return target != PADDED_CLASS


@final
class PerStep(nn.Module):
    """The mean of a loss over all steps that are there.

    Args:
        loss: The mean loss of outputs ``(steps, outputs)`` and a target ``(steps, ...)``.

    Shape: outputs ``(batch, time, outputs)``, target ``(batch, time)`` int64 or ``(batch, time, outputs)`` float32, to
    one number.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss."""
        passed = isinstance(self.loss, IGNORING) and self.loss.ignore_index == PADDED_CLASS  # over padded steps
        if passed and not target.is_floating_point():
            loss: Tensor = self.loss(output.flatten(0, 1), target.flatten())
            return loss
        real = real_steps(target)
        return self.loss(output[real], target[real])


@final
class WeightedRows(nn.Module):
    """The mean of a loss in which each row counts with its weight, read from the last column of the target.

    Args:
        loss: Of outputs and target ``(rows, ...)``, to one number or several per row: ``reduction`` is none.
        classes: Whether the target before the weight is one class number.

    Shape: outputs ``(batch, outputs)``, target ``(batch, columns + 1)`` of the dtype of the outputs, to one number. Weights
    have mean 1 over all rows, so that the sum over batches is exact and no batch counts more for the rows it happens to hold.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], classes: bool) -> None:
        super().__init__()
        self.loss, self.classes = loss, classes

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean."""
        values = target[:, 0].long() if self.classes else target[:, :-1]
        each = self.loss(output, values)
        if each.dim() > 1:
            each = each.flatten(1).mean(dim=1)
        return (each * target[:, -1]).mean()


class LossAround:
    """A loss around another one, as which it weighs. A loss of a user's own is not one, whatever it calls its parts.

    Args:
        loss_function: The one inside.
    """

    def __init__(self, loss_function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss_function = loss_function


def loss_weight(loss_function: Callable[[Tensor, Tensor], Tensor], target: Tensor) -> Tensor | int:
    """Return the weight of a batch's mean loss, so that weighted means over ragged batches are exact.

    For losses with class weights torch's mean divides by the sum of the weights of the rows' classes; for all others
    the weight is the number of rows, or of steps that are there; so it is for a loss of a user's own, taken for a mean over rows.
    """
    if isinstance(loss_function, LossAround):
        return loss_weight(loss_function.loss_function, target)
    if isinstance(loss_function, PerStep):
        return loss_weight(loss_function.loss, target[real_steps(target)])
    if isinstance(loss_function, IGNORING) and target.dtype == torch.long:
        counted = target != loss_function.ignore_index
        weight = loss_function.weight
        if weight is not None:
            return weight[target.clamp(min=0)][counted].sum()
        return counted.sum()
    return len(target)


def loss_weights(loss_function: Callable[[Tensor, Tensor], Tensor], target: Tensor, rows: Tensor) -> Tensor:
    """Return the weight of each of many batches, see `loss_weight`, float64 ``(batches,)``.

    Args:
        loss_function: Of output and target.
        target: Of all rows.
        rows: The rows of each batch, int64 ``(batches, rows)``.
    """
    count, size = rows.shape
    if isinstance(loss_function, IGNORING) and target.dtype == torch.long and loss_function.weight is None:
        real = (target[rows] != loss_function.ignore_index).flatten(1)
        return real.sum(dim=1, dtype=torch.float64)
    if isinstance(loss_function, (*IGNORING, PerStep)):
        each = [torch.as_tensor(loss_weight(loss_function, target[batch])) for batch in rows]
        return torch.stack(each).double() if each else torch.empty(0, dtype=torch.float64)
    return torch.full((count,), float(size), dtype=torch.float64)


def loss_of_each(loss_function: Callable[[Tensor, Tensor], Tensor], output: Tensor, target: Tensor) -> Tensor | None:
    """Return the loss of each row, or of each step, float64 ``(rows,)``; None for own losses and means with class weights.

    Args:
        loss_function: Whose mean over the rows is the loss.
        output: Of the network, ``(rows, ...)``.
        target: As the loss reads it, ``(rows, ...)``.
    """
    loss = loss_function.loss if isinstance(loss_function, PerStep) else loss_function
    plain = isinstance(loss, FocalLoss) or (isinstance(loss, nn.Module) and type(loss).__module__ == "torch.nn.modules.loss")
    if not plain or getattr(loss, "reduction", None) != "mean" or (isinstance(loss, IGNORING) and loss.weight is not None):
        return None
    each: Any = copy.deepcopy(loss)
    each.cpu().reduction = "none"
    with torch.inference_mode():
        found: Tensor = each(output, target).double()
    return found.flatten(1).mean(dim=1) if found.ndim > 1 else found
