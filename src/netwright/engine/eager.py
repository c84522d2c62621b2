"""THE training step, in plain PyTorch: forward, loss, zero_grad, backward, step.

Every engine wraps `train_step`, none copies it. Floor 5.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import Engine, Failure, Loss, Steps
from netwright.engine.recording import is_finite
from netwright.errors import ConfigError, DivergedError, first_line
from netwright.model.losses import loss_weight
from netwright.model.summary import call_model
from netwright.seeding import forked


def train_step(
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    micro_batch: int | None = None,
) -> Tensor:
    """Train on one batch.

    Args:
        model: In training mode.
        loss_function: Of output and target, to one number.
        optimizer: Of the model's parameters; LBFGS evaluates the loss several times.
        batch: The rows.
        micro_batch: Rows that go forward and backward at a time; their gradients are added up. None for all at once.

    Returns:
        The mean loss of the batch before the update, detached.

    Raises:
        DivergedError: The loss is not finite; the update is not applied.
    """

    def forward_and_backward() -> Tensor:
        if micro_batch is not None and micro_batch < len(batch):
            loss = _in_parts(model, loss_function, optimizer, batch, micro_batch)
        else:
            output = call_model(model, batch.inputs, batch.lengths)
            loss = loss_function(output, batch.target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if not is_finite(loss):
            raise DivergedError(f"the loss is {loss.item()}")
        return loss

    loss: Tensor = optimizer.step(forward_and_backward)  # type: ignore[assignment, arg-type]
    return loss.detach()


def _in_parts(
    model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer, batch: Batch, micro_batch: int
) -> Tensor:
    """Add up the gradients of a batch part by part, each weighted with its share of the mean; return the mean loss."""
    whole = loss_weight(loss_function, batch.target)
    total = torch.zeros((), device=batch.target.device)
    optimizer.zero_grad()
    for start in range(0, len(batch), micro_batch):
        part = batch.part(start, start + micro_batch)
        output = call_model(model, part.inputs, part.lengths)
        loss = loss_function(output, part.target) * (loss_weight(loss_function, part.target) / whole)
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total


def try_step(
    model: nn.Module, loss_function: Loss, make: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer], batch: Batch
) -> None:
    """Take one training step on a copy of the model, so that what cannot train is told before anything is written.

    Args:
        model: On the CPU; neither it nor any generator is touched.
        loss_function: Of output and target.
        make: Builds the optimizer of some parameters.
        batch: A few rows.

    Raises:
        ConfigError: The network, the loss or the optimizer fails on the rows.
    """
    trial = copy.deepcopy(model).train()
    target = f"target {tuple(batch.target.shape)} {str(batch.target.dtype).removeprefix('torch.')}"
    with forked(batch.target.device):
        try:
            output = call_model(trial, batch.inputs, batch.lengths)
        except Exception as error:  # an own module may raise anything
            raise ConfigError(
                f"model: the network fails in training mode: {type(error).__name__}: {first_line(error)}; mend its forward"
            ) from error
        try:
            loss = loss_function(output, batch.target)
        except Exception as error:  # an own loss may raise anything
            raise ConfigError(
                f"training.loss: it fails on output {tuple(output.shape)} and {target}: {first_line(error)}; change the loss "
                "or the network's end"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ConfigError(f"training.loss: {type(loss).__name__} came; expected one number as a tensor; take the mean")
        try:
            train_step(trial, loss_function, make(trial.parameters()), batch)
        except DivergedError:
            return  # training itself tells it, with the step
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"training: a trial step fails: {first_line(error)}; change the network, the loss or the optimizer"
            ) from error


@final
@dataclass(frozen=True)
class EagerEngine:
    """Runs the step as it is written."""

    model: nn.Module
    loss_function: Loss
    optimizer: torch.optim.Optimizer
    micro_batch: int | None = None
    name: str = "eager"

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `train_step`."""
        return train_step(self.model, self.loss_function, self.optimizer, batch, self.micro_batch)

    def train_steps(self, feed: Feed, most: int) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))


def one_step(batch: Batch, loss_function: Loss, step: Callable[[], Tensor]) -> Steps:
    """Take a step and return its loss and weight, or its failure."""
    try:
        loss = step()
    except Exception as error:  # an own module or loss may raise anything
        return Steps(torch.empty(0), torch.empty(0), Failure(batch, error))
    return Steps(loss.reshape(1), torch.as_tensor(loss_weight(loss_function, batch.target)).reshape(1))


def eager_beside(engine: Engine, micro_batch: int | None = None) -> EagerEngine:
    """Return the engine that runs the steps of another as they are written: same model, loss and optimizer."""
    if isinstance(engine, EagerEngine):
        return engine
    return EagerEngine(engine.model, engine.loss_function, engine.optimizer, micro_batch)

