"""The training loop: an order, steps, a validation, a judgement, an end. Observers watch, they never steer. Floor 9."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from netwright.data.augmentation import Augmentation
from netwright.data.batches import Batch, Examples, Rows, epoch_order, steps_per_epoch
from netwright.data.feed import Feed
from netwright.data.order import Order, Windows
from netwright.data.sampling import Floats
from netwright.distributed.world import ALONE, World
from netwright.engine.base import Engine
from netwright.numerals import counted
from netwright.training.freezing import Freezing, begin_training
from netwright.training.journal import EpochRecord, Journal
from netwright.training.schedule import Fixed, Schedule
from netwright.training.signals import StopRequest

Validate = Callable[[], dict[str, float]]
Watch = Callable[[EpochRecord], None]
Stop = Callable[[EpochRecord], str | None]
SECONDS_DONE = "seconds of training done"  # the reason of an end, after their number


@dataclass(frozen=True)
class Plan:
    """What a run does: rows in which order, how many steps, what stops it and which epoch is best.

    ``lengths`` are the steps of each of ``rows`` where they differ, int64. ``augmentation`` changes the rows of each epoch.
    Rows in a map are ordered slice by slice, in ``windows`` where they do not fit into memory. Batches of ``together`` epochs
    are handed out as those of one, where they divide the rows. ``seconds`` of training, and the reason that ``stop`` gives
    after an epoch, end the run too. ``schedule`` turns the optimizer's learning rate. ``freezing`` says which parameters do not
    learn in which epoch. With ``chances`` an epoch draws as many rows with replacement, float64 ``(rows,)``; of rows in a map,
    sorted by class, ``begins`` says where each class begins. The processes of ``world`` share each batch. ``clock`` gives the
    seconds that the run has worked; where others work in between, not those.
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
    together: int = 1
    seconds: float | None = None
    stop: Stop | None = None
    schedule: Schedule | Fixed = Fixed()
    freezing: Freezing | None = None
    chances: Floats | None = None
    begins: tuple[int, ...] | None = None
    world: World = ALONE
    clock: Callable[[], float] = time.perf_counter

    def order(self, epoch: int) -> Rows | Order:
        """Return the rows of an epoch (from 1) in order, or of that many ``together``."""
        if self.together > 1:
            return np.concatenate([epoch_order(self.rows, self.seed, epoch + later) for later in range(self.together)])
        if self.mapped:
            return Order(self.rows, self.seed, epoch, self.windows, self.begins)
        return epoch_order(self.rows, self.seed, epoch, self.lengths, self.batch_size, self.chances)

    def feed(self, examples: Examples, progress: Progress) -> Feed:
        """Return the batches that an epoch still has."""
        order, size, last = self.order(progress.epoch), self.batch_size, self.last_batch
        changed, share = None, self.world.share
        if self.augmentation is not None:
            changing = self.augmentation if share is None else replace(self.augmentation, share=share)
            changed = changing.batches(examples, order, size, last, progress.epoch, progress.within)
        return Feed(examples, order, size, last, progress.within, changed, share)

    def steps_left(self, progress: Progress) -> int:
        """Return how many steps the epoch still has."""
        left = steps_per_epoch(self.together * len(self.rows), self.batch_size, self.last_batch) - progress.within
        return left if self.steps is None else min(left, self.steps - progress.step)


@dataclass(frozen=True)
class Best:
    """The best epoch so far by the monitored figure, and its weights."""

    epoch: int
    step: int
    value: float
    weights: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class Progress:
    """How far a run is, its best epoch, and why it ended.

    ``epoch`` is the last epoch, complete where ``within`` is 0, else with so many of its steps done. ``final`` is a reason that
    nobody could find again: the time is up, or the stop condition said so.
    """

    epoch: int = 0
    step: int = 0
    within: int = 0
    best: Best | None = None
    ended: str | None = None
    final: str | None = None


class StepFailed(Exception):
    """A training step raised an error: how far the run was before it, in which epoch it is, on which rows."""

    def __init__(self, progress: Progress, batch: Batch, error: BaseException) -> None:
        super().__init__(str(error))
        self.epoch, self.batch, self.error = progress.epoch, batch, error
        begun = progress.within > 0  # else the epoch before is the last that is complete
        self.progress = progress if begun else replace(progress, epoch=progress.epoch - 1)

    @property
    def step(self) -> int:
        """The number of the step, from 1."""
        return self.progress.step + 1


class Noting(Protocol):
    """Takes the losses of steps; see `netwright.training.journal.Journal`. ``seconds`` of training so far are under train."""

    seconds: dict[str, float]

    def steps(self, epoch: int, last: int, losses: Tensor, weights: Tensor) -> None:
        """Keep the mean losses of steps up to the last, and their weights."""
        ...

    def waited(self, seconds: float) -> None:
        """Count seconds in which steps waited for their rows."""
        ...


class Saving(Protocol):
    """Keeps checkpoints."""

    def due(self, step: int) -> bool:
        """Tell whether it is time for a checkpoint after a step."""
        ...

    def steps_until(self, step: int, most: int) -> int:
        """Return how many steps may follow a step, at most ``most``, before `due` must be asked."""
        ...

    def save(self, progress: Progress) -> None:
        """Keep a checkpoint, unless there is one of this very moment."""
        ...


def train(
    engine: Engine,
    examples: Examples,
    plan: Plan,
    validate: Validate | None,
    journal: Journal,
    saving: Saving,
    watch: Watch,
    stop: StopRequest,
    start: Progress,
) -> Progress:
    """Train until the plan, patience or a signal ends it.

    Args:
        engine: Model, loss and optimizer.
        examples: All prepared rows, on the model's device.
        plan: Rows, epochs and stopping rule.
        validate: Returns the figures of the validation rows, or None without such rows.
        journal: Takes the losses of the steps and a record per epoch.
        saving: Keeps checkpoints.
        watch: Is told each record.
        stop: Becomes true when a signal asks to stop.
        start: Where to begin, a new run or a checkpoint.

    Returns:
        The last progress; the model holds the last weights, and their average where there is one.

    Raises:
        StepFailed: A step raised an error; a loss that is not finite is one.
    """
    progress = begun(start, plan, stop)
    while progress.ended is None:
        started = plan.clock()
        progress = train_epoch(engine, examples, plan, progress, journal, saving, stop)
        if stop:
            saving.save(progress)
            return replace(progress, ended=f"stopped by {stop} after step {progress.step}")
        if engine.eager.averaged is not None:
            engine.eager.averaged.after_epoch(progress.epoch)
        trained = plan.clock()
        figures = validate() if validate is not None else {}
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.step,
            train_loss=journal.train_loss(),
            valid=figures,
            learning_rate=plan.schedule.rate(engine.optimizer),
            train_seconds=trained - started,
            valid_seconds=plan.clock() - trained,
            of_epochs=plan.epochs,
        )
        plan.schedule.after_epoch(record)
        late = time_is_up(plan, journal, record.train_seconds)
        late, due = decided(plan.world, stop, late, saving.due(progress.step))
        progress = judged(progress, record, plan, shown(engine), late)
        journal.epoch(record)
        watch(replace(record, best=progress.best is not None and progress.best.epoch == record.epoch))
        if progress.ended is not None or due:
            saving.save(progress)
    return progress


def begun(start: Progress, plan: Plan, stop: StopRequest) -> Progress:
    """Return the progress that training begins with, and let ``stop`` wait for what all processes agree on."""
    if not plan.world.alone:
        stop.agree(0)  # a process that answered by itself alone would leave the others waiting
    return replace(start, ended=start.final or reason_to_end(start, plan))


def train_epoch(
    engine: Engine,
    examples: Examples,
    plan: Plan,
    progress: Progress,
    journal: Noting,
    saving: Saving,
    stop: StopRequest,
) -> Progress:
    """Train on every row once, in the order of seed and epoch, or until the steps or a signal end it.

    Args:
        engine, examples, plan, journal, saving, stop: See `train`.
        progress: A complete epoch, which the next follows, or steps within one, which it goes on with.

    Returns:
        The progress after the last step.

    Raises:
        StepFailed: A step raised an error.
    """
    if not progress.within:
        progress = replace(progress, epoch=progress.epoch + 1)
    begin_training(engine.model, plan.freezing, progress.epoch)
    feed, begun = plan.feed(examples, progress), plan.clock()
    while left := plan.steps_left(progress):
        most = 1 if stop else saving.steps_until(progress.step, left)
        steps = engine.train_steps(feed, most, plan.schedule.ahead(most))
        taken = len(steps.losses)
        plan.schedule.advance(taken)
        progress = replace(progress, step=progress.step + taken, within=progress.within + taken)
        journal.steps(progress.epoch, progress.step, steps.losses, steps.weights)
        if steps.failure is not None:
            raise StepFailed(progress, steps.failure.batch, steps.failure.error) from steps.failure.error
        late = time_is_up(plan, journal, plan.clock() - begun)
        late, due = decided(plan.world, stop, late, saving.due(progress.step))
        if stop or late:
            break
        if due:
            saving.save(progress)
    journal.waited(feed.waited)
    return progress


def decided(world: World, stop: StopRequest, late: bool, due: bool) -> tuple[bool, bool]:
    """Return whether time is up and whether a checkpoint is due, and let ``stop`` be what all processes agree on."""
    if world.alone:
        return late, due
    number, late_anywhere, due_anywhere = world.highest([stop.asked, late, due])
    stop.agree(number)
    return bool(late_anywhere), bool(due_anywhere)


def shown(engine: Engine) -> nn.Module:
    """Return the network that is validated and kept: the average of the weights where there is one, else that which trains."""
    averaged = engine.eager.averaged
    found: nn.Module = engine.model if averaged is None else averaged.shown
    return found


def networks_of(engine: Engine) -> list[nn.Module]:
    """Return every network that `shown` may return."""
    averaged = engine.eager.averaged
    return [engine.model] if averaged is None else [engine.model, averaged.average.module]


def time_is_up(plan: Plan, journal: Noting, seconds: float) -> bool:
    """Tell whether the plan's seconds of training are over, so many of them in the epoch that goes on."""
    return plan.seconds is not None and journal.seconds["train"] + seconds >= plan.seconds


def judged(progress: Progress, record: EpochRecord, plan: Plan, model: nn.Module, late: bool = False) -> Progress:
    """Return the progress after an epoch: a better best, and the reason to end if there is one; ``late`` where time is up."""
    best = progress.best
    if record.valid:
        value = record.columns()[plan.monitor]
        better = best is None or (value < best.value if plan.mode == "min" else value > best.value)
        if better and math.isfinite(value):
            best = Best(record.epoch, record.step, value, copied_weights(model))
    after = Progress(record.epoch, record.step, 0, best)
    told = None if plan.stop is None else plan.world.told(plan.stop(record) if plan.world.leads else None)
    final = f"{plan.seconds:g} {SECONDS_DONE}" if late else told
    return replace(after, ended=reason_to_end(after, plan, bool(record.valid)) or final, final=final)


def reason_to_end(progress: Progress, plan: Plan, validated: bool = True) -> str | None:
    """Return why a run ends after an epoch; None while it goes on, and inside an epoch."""
    if progress.within:
        return None
    if plan.steps is not None and progress.step >= plan.steps:
        return f"{counted(plan.steps, 'step')} done"
    if progress.epoch >= plan.epochs:
        return f"{counted(plan.epochs, 'epoch')} done" if plan.epochs else "0 epochs asked for"
    rested = progress.epoch - (progress.best.epoch if progress.best else 0)
    if plan.patience is not None and validated and rested >= plan.patience:
        return f"{plan.monitor} has not improved for {counted(plan.patience, 'epoch')}"
    return None


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of parameters and buffers by name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
