"""THE training step, in plain PyTorch: forward, loss, zero_grad, backward, step.

Every engine wraps `train_step`, none copies it. Floor 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.errors import DivergedError
from netwright.model.summary import call_model

Loss = Callable[[Tensor, Tensor], Tensor]


def train_step(model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
    """Train on one batch.

    Args:
        model: In training mode.
        loss_function: Of output and target, to one number.
        optimizer: Of the model's parameters; LBFGS evaluates the loss several times.
        batch: The rows.

    Returns:
        The mean loss of the batch before the update, detached.

    Raises:
        DivergedError: The loss is not finite; the update is not applied.
    """

    def forward_and_backward() -> Tensor:
        output = call_model(model, batch.inputs)
        loss = loss_function(output, batch.target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss is {loss.item()}")
        return loss

    loss: Tensor = optimizer.step(forward_and_backward)  # type: ignore[assignment, arg-type]
    return loss.detach()


@final
@dataclass(frozen=True)
class EagerEngine:
    """Runs the step as it is written."""

    model: nn.Module
    loss_function: Loss
    optimizer: torch.optim.Optimizer
    name: str = "eager"

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `train_step`."""
        return train_step(self.model, self.loss_function, self.optimizer, batch)

    def learning_rate(self) -> float:
        """Return the learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])
