"""The heart of the verb plan: what a run will take in time, memory and disk, measured by some steps on copies. Floor 15."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright.checkpoint import store
from netwright.config.schema import CheckpointConfig
from netwright.data.feed import Feed
from netwright.data.mapped import Mapped
from netwright.errors import ConfigError, NetwrightError, first_line
from netwright.foresight.trying import memory_of, on_copies, settled
from netwright.lifecycle.keeping import SECONDS, SHARE
from netwright.numerals import counted
from netwright.pipeline.bench import Bench
from netwright.pipeline.drawing import planned_steps
from netwright.pipeline.job import Job
from netwright.training.journal import Journal
from netwright.training.loop import Best, Progress, copied_weights

WARM, STEPS = 5, 20  # steps before measuring, and of it at least
LEAST = 0.5  # seconds of measuring, at least
STEP_LINE, EPOCH_LINE = 80, 160  # bytes of a line of steps.jsonl and of history.csv, about
FAILURES = 24.0  # hours between two failures, where nothing is said


@dataclass(frozen=True)
class Taken:
    """What was measured, in seconds and bytes."""

    prepare: float
    warm: float
    step: float
    steps: int
    validation: float
    checkpoint: float
    checkpoint_bytes: int
    weight_bytes: int
    memory: int | None
    data_bytes: int


@dataclass(frozen=True)
class Budget:
    """What a run will take; printed, it is a table.

    Args:
        name: Of the run.
        device: That was measured.
        taken: What was measured.
        epochs: That are begun, at most: ``training.steps`` may end before those of the settings.
        steps_per_epoch: Steps of an epoch.
        steps: Of the whole run, at most.
        patience: Of early stopping, None without.
        seconds: After which ``training.seconds`` ends the training; None without.
        settings: When checkpoints are kept.
        failures: Hours between two failures of the machine.
        test_rows: That the test looks at.
    """

    name: str
    device: str
    taken: Taken
    epochs: int
    steps_per_epoch: int
    steps: int
    patience: int | None
    seconds: float | None
    settings: CheckpointConfig
    failures: float
    test_rows: int

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch with its validation."""
        return self.steps_per_epoch * self.taken.step + self.taken.validation

    @property
    def cut(self) -> int | None:
        """The epoch within which ``training.seconds`` ends the training; None where it does not."""
        if self.seconds is None or self.taken.warm + self.steps * self.taken.step <= self.seconds:
            return None
        steps = max(0.0, self.seconds - self.taken.warm) / self.taken.step
        return min(math.floor(steps / self.steps_per_epoch) + 1, self.epochs)

    @property
    def training_seconds(self) -> float:
        """Seconds of all steps, as the clock of ``training.seconds`` counts them."""
        whole = self.taken.warm + self.steps * self.taken.step
        return whole if self.cut is None else min(whole, self.seconds or whole)

    @property
    def validations(self) -> int:
        """How often the valid rows are looked at."""
        return self.cut if self.cut is not None else math.ceil(self.steps / self.steps_per_epoch)

    @property
    def interval(self) -> float:
        """Seconds between two checkpoints as the settings have them."""
        if self.settings.every_steps is not None:
            return self.settings.every_steps * self.taken.step
        return self.settings.every_seconds or max(SECONDS, SHARE * self.taken.checkpoint)

    @property
    def young(self) -> float:
        """Seconds between two checkpoints by Young, "A first order approximation to the optimum checkpoint interval" (1974).

        The root of twice the seconds of a checkpoint times the seconds between two failures.
        """
        return math.sqrt(2 * self.taken.checkpoint * 3600 * self.failures)

    def lost(self, interval: float) -> float:
        """Return the share of the time that checkpoints, and what is trained again after failures, take; to first order."""
        return self.taken.checkpoint / interval + interval / (2 * 3600 * self.failures)

    @property
    def whole_seconds(self) -> float:
        """Seconds from the start to the end of the training: preparation, steps, validations, checkpoints."""
        working = self.training_seconds + self.validations * self.taken.validation
        checkpoints = 2 + working / max(self.interval, self.taken.step)
        return self.taken.prepare + working + checkpoints * self.taken.checkpoint

    @property
    def disk_bytes(self) -> int:
        """Bytes of the run folder: checkpoints, one more while it is written, best and last weights, a line per step and epoch."""
        lines = self.steps * STEP_LINE + self.epochs * EPOCH_LINE
        return (self.settings.keep + 1) * self.taken.checkpoint_bytes + 2 * self.taken.weight_bytes + lines

    def __str__(self) -> str:
        """Return it as lines."""
        from netwright.reporting.wording import duration_text, size_text

        taken = self.taken
        most = " at most" if self.patience is not None else ""
        stops = f"; early stopping may end it before (patience {self.patience})" if self.patience is not None else ""
        length = f"{counted(self.epochs, 'epoch')}, {counted(self.steps, 'step')}"
        rows = [
            ("prepare", f"{duration_text(taken.prepare)}, then {duration_text(taken.warm)} until steps are at their speed"),
            ("step", f"{1000 * taken.step:.3g} ms (the mean of {taken.steps} measured)"),
            ("validation", duration_text(taken.validation)),
            ("epoch", f"{duration_text(self.epoch_seconds)} ({counted(self.steps_per_epoch, 'step')} and a validation)"),
            ("whole", f"{duration_text(self.whole_seconds)}{most}: {length}{stops}"),
            ("", "test, calibration and report come after that"),
        ]
        if self.seconds is not None:
            told = f"ends it in epoch {self.cut} of {self.epochs}" if self.cut is not None else "does not end it before"
            rows.append(("seconds", f"training.seconds = {self.seconds:g} {told}"))
        held = "not measured here" if taken.memory is None else size_text(taken.memory)
        over = "" if self.device.startswith("cuda") else " above what the process held before"
        rows.append(("memory", f"{held}{over} in steps and validation; the rows take {size_text(taken.data_bytes)}"))
        each = f"{counted(self.settings.keep, 'checkpoint')} of {size_text(taken.checkpoint_bytes)} kept"
        rows.append(("disk", f"{size_text(self.disk_bytes)} in the run folder ({each}, one more while it is written)"))
        for name, interval in (("checkpoints", self.interval), ("by Young", self.young)):
            why = "as the settings have it" if name == "checkpoints" else f"for a failure every {self.failures:g} hours"
            told = (
                f"every {duration_text(interval)}, {why}: {self.lost(interval):.2%} of the time for them and for work lost"
            )
            rows.append((name, told))
        rows.append(("", f"a checkpoint takes {duration_text(taken.checkpoint)}; checkpoint.every_seconds sets when"))
        return "\n".join([f"{self.name}: on {self.device}", *(f"  {name:<12} {text}" for name, text in rows)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values, in seconds and bytes."""
        return {
            "name": self.name,
            "device": self.device,
            "measured": vars(self.taken),
            "epochs": self.epochs,
            "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch_seconds": self.epoch_seconds,
            "training_seconds": self.training_seconds,
            "whole_seconds": self.whole_seconds,
            "cut_in_epoch": self.cut,
            "disk_bytes": self.disk_bytes,
            "checkpoints": {
                "every_seconds": self.interval,
                "lost": self.lost(self.interval),
                "young_seconds": self.young,
                "young_lost": self.lost(self.young),
                "failure_hours": self.failures,
            },
        }


def budget(bench: Bench, prepare_seconds: float, failures: float = FAILURES) -> Budget:
    """Take some steps, a validation and a checkpoint on copies, and say what the whole run will take.

    Args:
        bench: A run ready to start; it stays as it is.
        prepare_seconds: That making it took.
        failures: Hours between two failures of the machine.

    Raises:
        ConfigError: No such hours, no epochs, or a step fails.
    """
    if not (0 < failures < math.inf):
        raise ConfigError(f"plan: a failure every {failures:g} hours came; expected hours above 0; write for instance 24")
    with on_copies(bench) as job:
        plan = job.plan
        epochs, steps, epoch_steps = planned_steps(bench.config, bench.inputs)
        if not steps:
            raise ConfigError(f"plan: {plan.epochs} epochs came; expected 1 or more to plan; set training.epochs")
        taken = _measure(bench, job, prepare_seconds)
    settings, split = bench.config.checkpoint, bench.inputs.split
    return Budget(
        bench.name,
        str(bench.device),
        taken,
        epochs,
        epoch_steps,
        steps,
        plan.patience,
        plan.seconds,
        settings,
        failures,
        len(split.test),
    )


def _measure(bench: Bench, job: Job, prepare_seconds: float) -> Taken:
    begun = settled(job.device)
    with memory_of(job.device) as held:  # looking takes time, so that it ends before anything is timed
        feed, first = job.plan.feed(job.examples, Progress(epoch=1)), 0
        while first < min(WARM, job.plan.steps_left(Progress())):
            first += _some_steps(job, feed, 1)
        taken = settled(job.device) - begun
        if job.validate is not None:
            job.validate()
    step, steps = _steps(job)
    warm, validation = max(0.0, taken - first * step), _validation(job)
    seconds, size = _checkpoint(job)
    weights = sum(value.numel() * value.element_size() for value in job.engine.model.state_dict().values())
    mapped = bench.inputs.raw.features.nbytes if isinstance(bench.inputs.raw, Mapped) else None
    rows = bench.examples.size() if mapped is None else mapped
    return Taken(prepare_seconds, warm, step, steps, validation, seconds, size, weights, held(), rows)


def _steps(job: Job) -> tuple[float, int]:
    """Return the mean seconds of a step, and of how many that is.

    Steps on a smaller last batch are left out of the mean: a recording of their own is made in the first epochs.
    """
    ragged = bool(len(job.plan.rows) % job.plan.batch_size) and job.plan.last_batch == "keep"
    whole = job.plan.steps_left(Progress()) - ragged
    spent, steps, epoch = 0.0, 0, 2
    while steps < STEPS or spent < LEAST:
        started = settled(job.device)
        feed, left = job.plan.feed(job.examples, Progress(epoch=epoch)), whole
        while left and (steps < STEPS or time.perf_counter() - started + spent < LEAST):
            done = _some_steps(job, feed, min(left, STEPS))
            left, steps = left - done, steps + done
        spent += settled(job.device) - started
        if ragged and not left:
            _some_steps(job, feed, 1)
        epoch += 1
    return spent / steps, steps


def _some_steps(job: Job, feed: Feed, most: int) -> int:
    """Take steps and return how many.

    Raises:
        ConfigError: A step fails.
    """
    done = job.engine.train_steps(feed, most)
    if done.failure is None:
        return len(done.losses)
    problem = done.failure.error
    if isinstance(problem, NetwrightError):
        raise problem
    raise ConfigError(f"plan: a step fails: {first_line(problem)}; look at it with netwright check") from problem


def _validation(job: Job) -> float:
    """Return the mean seconds of a validation; 0 without valid rows."""
    if job.validate is None:
        return 0.0
    begun, times = settled(job.device), 0
    while not times or settled(job.device) - begun < LEAST:
        job.validate()
        times += 1
    return (settled(job.device) - begun) / times


def _checkpoint(job: Job) -> tuple[float, int]:
    """Return the seconds and bytes of a checkpoint, written into a folder for passing files that is removed at once."""
    progress = Progress(1, 1, 0, Best(1, 1, 0.0, copied_weights(job.engine.model)))
    with tempfile.TemporaryDirectory(prefix="netwright-plan-") as place:
        folder = Path(place)
        begun = settled(job.device)
        store.save(folder, store.name_of(1, 1), job.checkpoint(progress, Journal(None, job.figures).state()), 1)
        seconds = settled(job.device) - begun
        return seconds, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
