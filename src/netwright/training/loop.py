"""The training loop: an order, steps, a validation, a judgement, an end. Observers watch, they never steer. Floor 7."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from netwright.data.augmentation import Augmentation
from netwright.data.batches import Examples, Rows, batches, epoch_order
from netwright.data.order import Order, Windows
from netwright.engine.base import Engine
from netwright.errors import DivergedError
from netwright.model.losses import loss_weight
from netwright.training.journal import EpochLosses, EpochRecord, Journal
from netwright.training.signals import StopRequest

Validate = Callable[[], dict[str, float]]
Watch = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Plan:
    """What a run does: rows in which order, how many steps, what stops it and which epoch is best.

    ``lengths`` are the steps of each of ``rows`` where they differ, int64. ``augmentation`` changes the rows of each epoch.
    Rows in a map are ordered slice by slice, in ``windows`` where they do not fit into memory.
    """

    rows: Rows
    batch_size: int
    last_batch: str
    epochs: int
    seed: int
    steps: int | None = None
    monitor: str = "valid_loss"
    mode: str = "min"
    patience: int | None = None
    lengths: Rows | None = None
    augmentation: Augmentation | None = None
    mapped: bool = False
    windows: Windows | None = None

    def order(self, epoch: int) -> Rows | Order:
        """Return the rows of an epoch (from 1) in order."""
        if self.mapped:
            return Order(self.rows, self.seed, epoch, self.windows)
        return epoch_order(self.rows, self.seed, epoch, self.lengths, self.batch_size)


@dataclass(frozen=True)
class Best:
    """The best epoch so far by the monitored figure, and its weights."""

    epoch: int
    step: int
    value: float
    weights: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class Progress:
    """How far a run is, its best epoch, and why it ended."""

    epoch: int = 0
    step: int = 0
    best: Best | None = None
    ended: str | None = None


def train(
    engine: Engine,
    examples: Examples,
    plan: Plan,
    validate: Validate | None,
    journal: Journal,
    watch: Watch,
    stop: StopRequest,
) -> Progress:
    """Train until the plan, patience or a signal ends it.

    Args:
        engine: Model, loss and optimizer.
        examples: All prepared rows, on the model's device.
        plan: Rows, epochs and stopping rule.
        validate: Returns the figures of the validation rows, or None without such rows.
        journal: Takes a record per epoch.
        watch: Is told each record.
        stop: Becomes true when a signal asks to stop.

    Returns:
        The last progress; the model holds the last weights.

    Raises:
        DivergedError: The loss is not finite; the bad update is not in the model.
    """
    progress = Progress(ended="0 epochs asked for" if plan.epochs == 0 else None)
    while progress.ended is None:
        started = time.perf_counter()
        progress, losses = train_epoch(engine, examples, plan, progress, stop)
        trained = time.perf_counter()
        figures = validate() if validate is not None else {}
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.step,
            train_loss=losses.mean(),
            valid=figures,
            learning_rate=engine.learning_rate(),
            train_seconds=trained - started,
            valid_seconds=time.perf_counter() - trained,
            of_epochs=plan.epochs,
        )
        progress = judged(progress, record, plan, engine.model, stop)
        record = replace(record, best=progress.best is not None and progress.best.epoch == record.epoch)
        journal.epoch(record, losses)
        watch(record)
    return progress


def train_epoch(
    engine: Engine, examples: Examples, plan: Plan, progress: Progress, stop: StopRequest
) -> tuple[Progress, EpochLosses]:
    """Train on every row once, in the order of seed and epoch, or until the steps or a signal end it.

    Returns:
        The progress one epoch on, and the losses of its steps.

    Raises:
        DivergedError: The loss is not finite.
    """
    progress, losses = replace(progress, epoch=progress.epoch + 1), EpochLosses()
    order = plan.order(progress.epoch)
    engine.model.train()
    if plan.augmentation is None:
        stream = batches(examples, order, plan.batch_size, plan.last_batch)
    else:
        stream = plan.augmentation.batches(examples, order, plan.batch_size, plan.last_batch, progress.epoch)
    for batch in stream:
        try:
            loss = engine.train_step(batch)
        except DivergedError as error:
            raise DivergedError(_diverged(error, progress)) from error
        losses.add(loss, float(loss_weight(engine.loss_function, batch.target)))
        progress = replace(progress, step=progress.step + 1)
        if progress.step == plan.steps or stop:
            break
    return progress, losses


def judged(progress: Progress, record: EpochRecord, plan: Plan, model: nn.Module, stop: StopRequest) -> Progress:
    """Return the progress after an epoch: a better best, and the reason to end if there is one."""
    best = progress.best
    if record.valid:
        value = record.columns()[plan.monitor]
        better = best is None or (value < best.value if plan.mode == "min" else value > best.value)
        if better and math.isfinite(value):
            best = Best(record.epoch, record.step, value, copied_weights(model))
    ended = None
    if stop:
        ended = f"stopped by {stop}"
    elif plan.steps is not None and record.step >= plan.steps:
        ended = f"{plan.steps} steps done"
    elif record.epoch >= plan.epochs:
        ended = f"{plan.epochs} epochs done"
    elif plan.patience is not None and record.valid and record.epoch - (best.epoch if best else 0) >= plan.patience:
        ended = f"{plan.monitor} has not improved for {plan.patience} epochs"
    return Progress(record.epoch, record.step, best, ended)


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of parameters and buffers by name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _diverged(error: DivergedError, progress: Progress) -> str:
    best = f"the best weights so far are of epoch {progress.best.epoch}" if progress.best else "no epoch had a finite figure"
    return (
        f"training: {error} at step {progress.step + 1} (epoch {progress.epoch}); expected a finite loss; lower the learning rate "
        f"(--set training.optimizer.lr=...) or check the data; {best}; the bad update was not applied"
    )
