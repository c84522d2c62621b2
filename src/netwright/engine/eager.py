"""THE training step, in plain PyTorch: forward, loss, zero_grad, backward, step.

Every engine wraps `train_step`, none copies it. Floor 5.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.base import Failure, Loss, Steps
from netwright.engine.own_step import OwnStep
from netwright.engine.recording import is_finite
from netwright.errors import ConfigError, DivergedError
from netwright.model.losses import loss_weight
from netwright.model.summary import call_model


def train_step(
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    micro_batch: int | None = None,
    autocast: torch.dtype | None = None,
) -> Tensor:
    """Train on one batch.

    Args:
        model: In training mode.
        loss_function: Of output and target, to one number; or a step of one's own, which is taken instead.
        optimizer: Of the model's parameters; LBFGS evaluates the loss several times.
        batch: The rows.
        micro_batch: Rows that go forward and backward at a time; their gradients are added up. None for all at once.
        autocast: Dtype in which the forward pass computes where that is safe (torch.autocast); None for that of the weights.

    Returns:
        The mean loss of the batch before the update, detached.

    Raises:
        DivergedError: The loss is not finite; the update is not applied.
    """
    if isinstance(loss_function, OwnStep):
        return loss_function.take(model, batch, optimizer)

    def forward_and_backward() -> Tensor:
        if micro_batch is not None and micro_batch < len(batch):
            loss = _in_parts(model, loss_function, optimizer, batch, micro_batch, autocast)
        else:
            with casting(batch.target.device, autocast):
                output = call_model(model, batch.inputs, batch.lengths)
                loss = loss_function(output, batch.target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if not is_finite(loss):
            raise DivergedError(f"the loss is {loss.item()}")
        return loss

    loss: Tensor = optimizer.step(forward_and_backward)  # type: ignore[assignment, arg-type]
    return loss.detach()


def casting(device: torch.device, autocast: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return the context of a forward pass."""
    return nullcontext() if autocast is None else torch.autocast(device.type, autocast)


def _in_parts(
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    micro_batch: int,
    autocast: torch.dtype | None,
) -> Tensor:
    """Add up the gradients of a batch part by part, each weighted with its share of the mean; return the mean loss."""
    whole = loss_weight(loss_function, batch.target)
    total = torch.zeros((), device=batch.target.device)
    optimizer.zero_grad()
    for start in range(0, len(batch), micro_batch):
        part = batch.part(start, start + micro_batch)
        with casting(batch.target.device, autocast):
            output = call_model(model, part.inputs, part.lengths)
            loss = loss_function(output, part.target) * (loss_weight(loss_function, part.target) / whole)
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total


@final
@dataclass(frozen=True)
class EagerEngine:
    """Runs the step as it is written."""

    model: nn.Module
    loss_function: Loss
    optimizer: torch.optim.Optimizer
    micro_batch: int | None = None
    autocast: torch.dtype | None = None
    name: str = "eager"
    averaged: Averaged | None = None

    @property
    def eager(self) -> EagerEngine:
        """This engine itself."""
        return self

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `train_step`."""
        loss = train_step(self.model, self.loss_function, self.optimizer, batch, self.micro_batch, self.autocast)
        if self.averaged is not None:
            self.averaged.after_step()
        return loss

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return "as written"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))


def one_step(batch: Batch, loss_function: Loss, step: Callable[[], Tensor]) -> Steps:
    """Take a step and return its loss and weight, or its failure."""
    try:
        loss = step()
    except ConfigError:
        raise
    except Exception as error:  # an own module or loss may raise anything
        return Steps(torch.empty(0), torch.empty(0), Failure(batch, error))
    return Steps(loss.reshape(1), torch.as_tensor(loss_weight(loss_function, batch.target)).reshape(1))
