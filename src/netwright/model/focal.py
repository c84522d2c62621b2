"""The focal loss, a loss that torch.nn lacks: rows that are answered well count little. Printed by eject. Floor 4."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

LEAST = 1e-12  # of 1 - p: below it a row counts nothing, and its power keeps a gradient


@final
class FocalLoss(nn.Module):
    """The mean of -(1 - p)**gamma log p, where p is the probability of the true class.

    Lin, Goyal, Girshick, He and Dollar (2017), "Focal loss for dense object detection", equation 4; their alpha is ``weight``
    or ``pos_weight``. With gamma 0 it is CrossEntropyLoss, or BCEWithLogitsLoss.

    Args:
        gamma: How little rows count that are answered well, 0 or more.
        weight: Of each class ``(classes,)``, for class numbers: as in CrossEntropyLoss the mean divides by the weights.
        pos_weight: Of each output that says yes ``(outputs,)``, for a target of 0 and 1: as in BCEWithLogitsLoss.
        reduction: ``mean`` or ``none``.

    Shape: outputs ``(rows, classes)`` and class numbers ``(rows,)`` int64, of which ``ignore_index`` is passed over; or outputs
    and a target of 0 and 1 ``(rows, outputs)``, floating; to one number.

    Example:
        >>> output, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
        >>> bool(torch.isclose(FocalLoss(gamma=0.0)(output, target), nn.CrossEntropyLoss()(output, target)))
        True
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.gamma, self.reduction, self.ignore_index = gamma, reduction, -100
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss, or that of each row or output."""
        if target.is_floating_point():
            each = nn.functional.binary_cross_entropy_with_logits(output, target, reduction="none")
            each = self._focused(each)
            if self.pos_weight is not None:
                each = each * (1.0 + (self.pos_weight - 1.0) * target)
            return each.mean() if self.reduction == "mean" else each
        each = nn.functional.cross_entropy(output, target, reduction="none", ignore_index=self.ignore_index)
        each, counted = self._focused(each), (target != self.ignore_index).to(output.dtype)
        if self.weight is not None:
            counted = counted * self.weight[target.clamp(min=0)]
        each = each * counted
        return each.sum() / counted.sum() if self.reduction == "mean" else each

    def _focused(self, each: Tensor) -> Tensor:
        """Return -log p times (1 - p)**gamma."""
        return (-torch.expm1(-each)).clamp(min=LEAST) ** self.gamma * each
