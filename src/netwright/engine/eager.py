"""THE training step, in plain PyTorch: forward, loss, zero_grad, backward, what is done to gradients, step.

Every engine wraps `train_step`, none copies it. Floor 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.base import Failure, Loss, Steps
from netwright.engine.own_step import OwnStep
from netwright.engine.scaling import Scaler
from netwright.engine.update import PLAIN, Update, change_gradients, refuse_spoiled
from netwright.errors import ConfigError, DivergedError
from netwright.model.gradients import uphill
from netwright.model.losses import loss_weight
from netwright.model.summary import call_model
from netwright.recording.operations import is_finite


def train_step(
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    update: Update = PLAIN,
    scaler: Scaler | None = None,
) -> Tensor:
    """Train on one batch.

    Args:
        model: In training mode.
        loss_function: Of output and target, to one number; or a step of one's own, which is taken instead.
        optimizer: Of the model's parameters; LBFGS evaluates the loss several times.
        batch: The rows.
        update: What else is done: rows in parts, autocast, sharpness, l1, clipping.
        scaler: Scales the loss of steps in float16.

    Returns:
        The mean loss of the batch before the update, without the l1 penalty, detached.

    Raises:
        DivergedError: The loss, or a norm of the gradients that was worked out, is not finite; the update is not applied.
    """
    if isinstance(loss_function, OwnStep):
        return loss_function.take(model, batch, optimizer)

    def forward_and_backward() -> Tensor:
        if update.micro_batch is not None and update.micro_batch < len(batch):
            return _in_parts(model, loss_function, optimizer, batch, update, scaler)
        with casting(batch.target.device, update.autocast):
            output = call_model(model, batch.inputs, batch.lengths)
            loss = loss_function(output, batch.target)
        _forget_gradients(model, optimizer, update)
        _backward(loss, scaler)
        return loss

    def closure() -> Tensor:
        loss = _finite(forward_and_backward())
        if update.sharpness is not None:
            with uphill(model, update.sharpness) as norm:
                above = forward_and_backward()
            refuse_spoiled(norm)
            _finite(above)
        if scaler is not None:
            scaler.unscale(optimizer)
        change_gradients(model, update, scaled=scaler is not None)
        return loss

    if scaler is None:
        loss: Tensor = optimizer.step(closure)  # type: ignore[assignment, arg-type]
    else:
        loss = closure()
        scaler.step(optimizer)
    return loss.detach()


def casting(device: torch.device, autocast: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return the context of a forward pass."""
    return nullcontext() if autocast is None else _cast(device, autocast)


@contextmanager
def _cast(device: torch.device, autocast: torch.dtype) -> Iterator[None]:
    """Run a block under autocast, without torch's fused encoder layers, which fail on rows in another dtype than their weights."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.autocast(device.type, autocast):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _finite(loss: Tensor) -> Tensor:
    """Return a loss that is finite.

    Raises:
        DivergedError: It is not.
    """
    if not is_finite(loss):
        raise DivergedError(f"the loss is {loss.item()}")
    return loss


def _forget_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, update: Update) -> None:
    """Empty the gradients; where they are read, those too that an optimizer of the user's own does not hold."""
    optimizer.zero_grad()
    if update.reads_gradients:
        model.zero_grad()


def _backward(loss: Tensor, scaler: Scaler | None) -> None:
    (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]


def _in_parts(
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    update: Update,
    scaler: Scaler | None,
) -> Tensor:
    """Add up the gradients of a batch part by part, each weighted with its share of the mean; return the mean loss."""
    total = torch.zeros((), device=batch.target.device)
    _forget_gradients(model, optimizer, update)
    parts = parts_of(batch, loss_function, update.micro_batch or len(batch))
    for left, (part, share) in zip(reversed(range(len(parts))), parts, strict=True):
        with _adding_up(model, left):
            with casting(batch.target.device, update.autocast):
                output = call_model(model, part.inputs, part.lengths)
                loss = loss_function(output, part.target) * share
            _backward(loss, scaler)
        total = total + loss.detach()
    agreed = getattr(loss_function, "agreed", None)  # by several processes, which must decide the same by it
    return total if agreed is None else agreed(total)


def parts_of(batch: Batch, loss_function: Loss, rows: int) -> list[tuple[Batch, Tensor | float]]:
    """Return a batch in parts of so many rows, each with its share of the mean; without those of which no row counts.

    The mean over such rows would be no number.
    """
    whole = loss_weight(loss_function, batch.target)
    parts = [batch.part(start, start + rows) for start in range(0, len(batch), rows)]
    shares = [loss_weight(loss_function, part.target) / whole for part in parts]
    return [(part, share) for part, share in zip(parts, shares, strict=True) if share]


def _adding_up(model: nn.Module, left: int) -> AbstractContextManager[Any]:
    """Return the context of a part with so many parts after it: gradients that processes share are exchanged with the last."""
    apart = getattr(model, "no_sync", None)  # of torch's DistributedDataParallel
    return nullcontext() if apart is None or not left else apart()


@final
@dataclass(frozen=True)
class EagerEngine:
    """Runs the step as it is written."""

    model: nn.Module
    loss_function: Loss
    optimizer: torch.optim.Optimizer
    update: Update = PLAIN
    scaler: Scaler | None = None
    name: str = "eager"
    averaged: Averaged | None = None

    @property
    def eager(self) -> EagerEngine:
        """This engine itself."""
        return self

    @property
    def networks(self) -> nn.Module:
        """The network, with the mean of its weights where there is one."""
        return self.model if self.averaged is None else nn.ModuleList([self.model, self.averaged.average])

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `train_step`."""
        loss = train_step(self.model, self.loss_function, self.optimizer, batch, self.update, self.scaler)
        if self.averaged is not None:
            self.averaged.after_step()
        return loss

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows; see `netwright.engine.base.Written`."""
        return self.train_step(examples.batch(rows))

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
    losses = loss.reshape(1) if loss.numel() == 1 else loss.unsqueeze(0)
    return Steps(losses, torch.as_tensor(loss_weight(loss_function, batch.target)).reshape(1))
