"""Training from a checkpoint to the end, and what happens when a step fails.

A step that raises, or leaves a number that is not finite, is found by repeating the steps since the last checkpoint with
care; the state before it is kept, with its batch, as a capsule. Out of memory halves the micro-batch where asked. Floor 14.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from netwright import files
from netwright.checkpoint import store
from netwright.config.calls import OBJECT
from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import Engine, Failure, Steps
from netwright.engine.own_code import own_code
from netwright.errors import ConfigError, DivergedError, NetwrightError, ResourceError, first_line, out_of_memory
from netwright.lifecycle.keeping import Found, Keeper, SpoiledError
from netwright.lifecycle.shared_failure import failed_together
from netwright.numerals import counted
from netwright.pipeline.bench import Bench
from netwright.pipeline.job import Job
from netwright.pipeline.observing import Observer
from netwright.pipeline.resolving import leaves_one
from netwright.pipeline.telling import Told
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import CHECKPOINTS
from netwright.training.careful import CarefulEngine
from netwright.training.diagnosis import MOST_ROWS, Diagnosis, diagnose
from netwright.training.journal import EpochRecord
from netwright.training.loop import Progress, StepFailed, train
from netwright.training.signals import StopRequest

CAPSULE = "capsule"


@dataclass(frozen=True)
class Trained:
    """A training that ended, with the seconds it took and the job as it is now."""

    progress: Progress
    seconds: dict[str, float]
    job: Job


class _NotRepeatedError(Exception):
    """The step that failed did not fail when it was repeated."""


@final
class _UpTo:
    """A careful engine that must fail by a certain step."""

    def __init__(self, engine: CarefulEngine, steps: int) -> None:
        self.engine, self.left = engine, steps
        self.name, self.model, self.loss_function = engine.name, engine.model, engine.loss_function
        self.optimizer, self.eager, self.played = engine.optimizer, engine.eager, engine.played

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on one batch; see `CarefulEngine.train_steps`."""
        if not self.left:
            return Steps(torch.empty(0), torch.empty(0), Failure(feed.next(), _NotRepeatedError()))
        self.left -= 1
        return self.engine.train_steps(feed, most)


def carry_on(
    bench: Bench, job: Job, parts: Mapping[str, Any], observe: Observer, stop: StopRequest, auto_micro_batch: bool
) -> Trained:
    """Train from a checkpoint until the plan, patience or a signal ends it.

    Args:
        bench: Rows and network, for what is told of a failure.
        job: What trains.
        parts: The checkpoint.
        observe: Is told remarks and epochs.
        stop: Becomes true when a signal asks to stop.
        auto_micro_batch: Whether to halve the rows that go forward at a time when memory runs out.

    Raises:
        DivergedError: A number is not finite; the update is not applied.
        ResourceError: Memory or disk are full.
        ConfigError: Own code raised an error.
    """
    failure: Found | None = None
    told = _Once(observe, parts["progress"]["epoch"])
    while True:
        progress, journal = job.from_checkpoint(parts)
        engine: Engine = job.engine
        if failure is not None:
            engine = _UpTo(CarefulEngine(engine.eager, job.device), failure.step - progress.step)
        with closing(journal):
            keeper = Keeper(job, journal, stop)
            try:
                done = train(engine, job.examples, job.plan, job.validate, journal, keeper, told, stop, progress)
                return Trained(done, journal.seconds, job)
            except (StepFailed, SpoiledError) as problem:
                if not job.world.alone:
                    raise failed_together(job, problem) from problem
                if isinstance(problem, StepFailed) and out_of_memory(problem.error):
                    job = _with_less_memory(job, problem, auto_micro_batch, observe)
                    failure = None
                elif failure is None:
                    failure = problem
                    observe(Told(_repeating(problem), "note"))
                else:
                    raise _told_of(bench, job, keeper, problem, failure) from problem
        job.engine.optimizer.zero_grad()
        parts = store.newest(job.folder / CHECKPOINTS, lambda text: observe(Told(text, "warning"))).parts


@final
class _Once:
    """Tells each epoch once, also where it is repeated."""

    def __init__(self, observe: Observer, epoch: int) -> None:
        self._observe, self._epoch = observe, epoch

    def __call__(self, record: EpochRecord) -> None:
        if record.epoch > self._epoch:
            self._epoch = record.epoch
            self._observe(record)


def _repeating(problem: Found) -> str:
    what = f"step {problem.step}: {_error_text(problem.error)}" if isinstance(problem, StepFailed) else str(problem)
    return f"{what}; repeating the steps since the last checkpoint with care, to find where it begins"


def _error_text(error: BaseException) -> str:
    return str(error) if isinstance(error, NetwrightError) else f"{type(error).__name__}: {first_line(error)}"


def _with_less_memory(job: Job, problem: StepFailed, auto: bool, observe: Observer) -> Job:
    """Return the job with half the rows at a time.

    Raises:
        ResourceError: That was not asked for, or one row is too much.
    """
    rows = min(job.config.training.micro_batch or job.plan.batch_size, len(problem.batch))
    sizes = (job.plan.batch_size, len(job.plan.rows) % job.plan.batch_size)
    fitting = [part for part in range(rows // 2, 1, -1) if not any(leaves_one(size, part) for size in sizes)]
    half = fitting[0] if fitting else max(1, rows // 2)  # no part of one row, which BatchNorm could not train on
    told = (
        f"training: out of memory at step {problem.step} with {counted(rows, 'row')} at a time ({first_line(problem.error)})"
    )
    problem.error.__traceback__ = None  # its frames hold the tensors of the step
    gc.collect()
    if job.device.type == "cuda":
        torch.cuda.empty_cache()
    if rows == 1:
        raise ResourceError(f"{told}; expected room for one row; make the network smaller or use a larger machine")
    if not auto:
        raise ResourceError(
            f"{told}; expected room for them; add --auto-micro-batch or --set training.micro_batch={half} (the same batch, in "
            f"parts), or make data.batch_size smaller; the run can be resumed: netwright resume {job.folder} --auto-micro-batch"
        )
    smaller = job.with_micro_batch(half)
    files.write_text(job.folder / folders.CONFIG, folders.config_text(smaller.config, job.folder))
    observe(Told(f"{told}; going on from the last checkpoint with {half} at a time, the batch stays", "note"))
    return smaller


def _told_of(bench: Bench, job: Job, keeper: Keeper, found: Found, first: Found) -> Exception:
    """Keep the state before the step that fails, and return the error that tells of it."""
    if not isinstance(found, StepFailed) or isinstance(found.error, _NotRepeatedError):
        what = f"step {first.step}: {_error_text(first.error)}" if isinstance(first, StepFailed) else str(first)
        return DivergedError(
            f"training: {what}; it did not happen again when the steps were repeated; expected a step that depends on its "
            "rows and the seed alone; look for state outside the network, or for a faulty machine"
        )
    diagnosis = diagnose(job.engine.model, job.engine.loss_function, found.batch)
    keeper.save(found.progress)
    checkpoint = store.name_of(found.progress.step, None if found.progress.within else found.progress.epoch)
    text = _error_text(found.error)
    write_capsule(job, found, diagnosis, text)
    where = f"at step {found.step} (epoch {found.epoch}), {_rows_told(bench, found.batch, diagnosis)}"
    training = job.config.training
    came = {"model": job.config.model.object is not None}
    came |= {name: (getattr(training, name) or "").startswith(OBJECT) for name in ("loss", "optimizer", "step")}
    came["loss"] = came["loss"] and not came["step"]  # a step stands for it
    objects = "".join(f", {name}=..." for name, own in came.items() if own)
    replay = f"nw.replay({str(job.folder)!r}{objects})" if objects else f"netwright replay {job.folder}"
    after = f"last good checkpoint: {checkpoint}; {replay} shows the step"
    if isinstance(found.error, DivergedError):
        begins = diagnosis.first_bad()
        return DivergedError(
            f"training: {text} {where}; expected finite numbers; {f'it begins with {begins}; ' if begins else ''}lower the "
            f"learning rate (training.optimizer.lr) or check the data; the bad update was not applied; {after}"
        )
    if isinstance(found.error, NetwrightError):
        return type(found.error)(f"{text} {where}; {after}")
    if own_code(job.engine.model, job.engine.loss_function):
        return ConfigError(f"training: {text} {where}; expected a step that works; mend the network or the loss; {after}")
    return RuntimeError(f"{text} {where}; {after}")


def _rows_told(bench: Bench, batch: Batch, diagnosis: Diagnosis) -> str:
    """Return the rows of a batch in words, those that are not finite first."""
    numbers = list(diagnosis.rows) or batch.rows.tolist()
    shown = ", ".join(map(str, numbers[:MOST_ROWS])) + (", ..." if len(numbers) > MOST_ROWS else "")
    if not diagnosis.rows:
        return f"{counted(len(batch), 'row')} (numbers from 0: {shown})"
    place = getattr(bench.inputs.raw, "place", None)
    first = f"; the first is {place(int(numbers[0]))}" if callable(place) else ""
    return f"row(s) {shown} of the batch of {len(batch)} (numbers from 0{first})"


def write_capsule(job: Job, found: StepFailed, diagnosis: Diagnosis, text: str) -> None:
    """Keep the state before a step, its batch, and what was found."""
    batch = found.batch
    held = {"inputs": batch.inputs, "target": batch.target, "rows": batch.rows, "lengths": batch.lengths}
    said = {"step": found.step, "epoch": found.epoch, "error": text, "diagnosis": diagnosis.to_json()}
    parts = {**job.checkpoint(found.progress, {}), "batch": held, "told": said}
    store.write_parts(job.folder / CAPSULE, parts)
