"""When a checkpoint is kept while a run trains, and what stands in it. Floor 14."""

from __future__ import annotations

import time
from typing import final

from netwright import files
from netwright.checkpoint import collective, store
from netwright.engine.sharding import is_sharded
from netwright.errors import DivergedError, ResourceError
from netwright.pipeline.job import Job
from netwright.runfolder.folder import CHECKPOINTS
from netwright.training.journal import Journal
from netwright.training.loop import Progress, StepFailed
from netwright.training.signals import StopRequest
from netwright.training.state import spoiled

SECONDS = 60.0  # between checkpoints, where nothing is written
SHARE = 20  # times as long as saving takes, at least
COPIES = 4  # of the weights in a checkpoint: they, two moments of the optimizer, the best
MARGIN = 1 << 20  # bytes for the rest of a run folder


class SpoiledError(DivergedError):
    """A state that is not finite was to be kept: an update of this step or one before spoiled it."""

    step = 0


Found = StepFailed | SpoiledError  # what ends a training that is spoiled


@final
class Keeper:
    """Keeps checkpoints of a job as its settings say.

    Args:
        job: Model, optimizer and settings.
        journal: Of the run.
        stop: Asks for a checkpoint by a signal.
    """

    def __init__(self, job: Job, journal: Journal, stop: StopRequest) -> None:
        self._job, self._journal, self._stop = job, journal, stop
        self._last: str | None = None
        self._step = -1
        self._saved = time.monotonic()
        self._took = 0.0

    def due(self, step: int) -> bool:
        """Tell whether it is time for a checkpoint after a step."""
        if self._stop.save:
            return True
        if step == self._step:
            return False
        settings = self._job.config.checkpoint
        if settings.every_steps is not None and step % settings.every_steps == 0:
            return True
        seconds = settings.every_seconds
        if seconds is None:
            if settings.every_steps is not None:
                return False
            seconds = max(SECONDS, SHARE * self._took)
        return time.monotonic() - self._saved >= seconds

    def steps_until(self, step: int, most: int) -> int:
        """Return how many steps may follow a step, at most ``most``, before `due` must be asked."""
        if self._stop.save and self._job.world.alone:  # several processes take as many steps as one another
            return 1
        every = self._job.config.checkpoint.every_steps
        return most if every is None else min(most, every - step % every)

    def save(self, progress: Progress) -> None:
        """Keep a checkpoint, unless there is one of this very moment.

        Raises:
            SpoiledError: A parameter is not finite; such a state is never kept.
            ResourceError: The disk is full; the older checkpoints stay.
        """
        self._stop.save = False
        name = store.name_of(progress.step, None if progress.within else progress.epoch)
        if name == self._last:
            return
        begun = time.monotonic()
        engine, world = self._job.engine, self._job.world
        bad = next((found for found in world.gathered(spoiled(engine)) if found is not None), None)
        if bad is not None:
            error = SpoiledError(f"{bad} is not finite after step {progress.step}")
            error.step = progress.step
            raise error
        parts = self._job.checkpoint(progress, self._journal.state())
        place, keep = self._job.folder / CHECKPOINTS, self._job.config.checkpoint.keep
        if is_sharded(engine.model):
            collective.save(place, name, parts, keep, world)
        elif world.leads:
            store.save(place, name, parts, keep)
        self._last, self._step, self._saved = name, progress.step, time.monotonic()
        self._took = self._saved - begun


def refuse_little_room(job: Job) -> None:
    """Refuse a run whose checkpoints would not fit on the disk of its folder.

    Raises:
        ResourceError: Bytes needed and free are named.
    """
    weights = sum(value.numel() * value.element_size() for value in job.engine.model.state_dict().values())
    needed = (job.config.checkpoint.keep + 1) * COPIES * weights + MARGIN
    free = files.room(job.folder)
    if free < needed:
        raise ResourceError(
            f"{job.folder}: {free:,} bytes are free; expected {needed:,} for the checkpoints; free some space, set "
            "checkpoint.keep = 1, or name a folder on another disk in --run-dir"
        )
