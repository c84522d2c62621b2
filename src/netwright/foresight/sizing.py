"""The heart of the verb batch-size: how large a batch fits, and how many rows a second each size trains; on copies. Floor 15."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from netwright.config.schema import RunConfig
from netwright.errors import ConfigError, first_line, out_of_memory
from netwright.foresight.trying import feeds, memory_of, on_copies, settled
from netwright.pipeline.bench import Bench
from netwright.pipeline.job import Job
from netwright.pipeline.resolving import threads_and_lanes
from netwright.sources.memory import free_memory, give_back
from netwright.training.loop import Progress

SMALLEST, LARGEST = 8, 1 << 20
SHARE = 0.5  # of the free memory, that is the limit where none is given
SECONDS = 0.4  # of measuring each size, at least
WARM, FEWEST = 5, 3  # steps before measuring, and of it
PATIENCE = 10.0  # seconds of one step beyond which no larger size is tried
ENOUGH = 0.9  # of the highest throughput: the smallest size that reaches it


@dataclass(frozen=True)
class Size:
    """What one batch size takes: seconds of a step, rows a second, bytes above what the process held before, steps an epoch."""

    batch_size: int
    step_seconds: float
    rows_per_second: float
    memory: int | None
    steps_per_epoch: int

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch's steps."""
        return self.step_seconds * self.steps_per_epoch


@dataclass(frozen=True)
class Sizes:
    """What each batch size takes; printed, it is drawn.

    Args:
        name: Of the run.
        device: That was measured.
        sizes: The sizes that fit, smallest first.
        limit: Bytes that a step may take, and where that comes from.
        ended: Why no larger size was tried.
        written: The batch size of the settings.
    """

    name: str
    device: str
    sizes: tuple[Size, ...]
    limit: int | None
    limit_from: str
    ended: str
    written: int

    @property
    def largest(self) -> int:
        """The largest size that fits, of those that were tried."""
        return self.sizes[-1].batch_size

    @property
    def enough(self) -> int:
        """The smallest size with nine tenths of the highest throughput."""
        most = max(size.rows_per_second for size in self.sizes)
        return next(size.batch_size for size in self.sizes if size.rows_per_second >= ENOUGH * most)

    @property
    def advice(self) -> list[str]:
        """What to take, and what these figures do not tell, a line each."""
        told = [f"largest that fits: {self.largest} ({self.ended})"]
        told.append(
            f"fast enough: {self.enough} rows a batch train with nine tenths of the highest speed; {self.written} is written"
        )
        told.append(
            "these are seconds, not quality: a larger batch takes fewer steps an epoch, each with less noise, and often ends "
            "with a worse test figure at the same epochs and learning rate (Keskar and others, 2017)"
        )
        told.append(
            "so compare on valid rows, and find the learning rate anew: for SGD it grows about with the batch (Goyal and "
            "others, 2017), for Adam with its root: netwright lr CONFIG --set data.batch_size=N"
        )
        return told

    def __str__(self) -> str:
        """Return a line per size with a bar, and the advice."""
        from netwright.reporting.chart import bar
        from netwright.reporting.wording import duration_text, size_text

        most = max(size.rows_per_second for size in self.sizes)
        limit = "" if self.limit is None else f", limit {size_text(self.limit)} ({self.limit_from})"
        lines = [f"{self.name}: training speed by batch size on {self.device}{limit}"]
        lines.append(f"{'batch':>8} {'rows/s':>10}  {'':<30} {'step':>10} {'epoch':>10} {'memory':>10}")
        for size in self.sizes:
            held = "" if size.memory is None else size_text(size.memory)
            marked = " <- fast enough" if size.batch_size == self.enough else ""
            lines.append(
                f"{size.batch_size:>8} {size.rows_per_second:>10,.0f}  {bar(size.rows_per_second, most):<30} "
                f"{1000 * size.step_seconds:>7.3g} ms {duration_text(size.epoch_seconds):>10} {held:>10}{marked}"
            )
        return "\n".join([*lines, *self.advice])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "device": self.device,
            "sizes": [{**vars(size), "epoch_seconds": size.epoch_seconds} for size in self.sizes],
            "largest": self.largest,
            "enough": self.enough,
            "limit": self.limit,
            "limit_from": self.limit_from,
            "ended": self.ended,
            "written": self.written,
            "advice": self.advice,
        }


def measured_sizes(bench: Bench, settings: RunConfig, limit: int | None = None, most: int | None = None) -> Sizes:
    """Take steps with batches of 8, 16, 32, ... rows until one does not fit, and measure them.

    On a GPU a size does not fit where torch runs out of memory; on the CPU, where running out would end the process, where a
    line through the sizes before says that the next would go beyond the limit.

    Args:
        bench: A run ready to start; it stays as it is.
        settings: Those it was prepared from: threads and lanes follow the size where none are written.
        limit: Bytes that a step may take; None for half of the free memory of the CPU, all of a GPU's.
        most: The largest size to try; None for the train rows.

    Raises:
        ConfigError: The numbers make no series, or not even the smallest size fits.
    """
    rows = len(bench.inputs.split.train)
    if most is not None and most < 1:
        raise ConfigError(f"batch-size: at most {most} rows came; expected 1 or more; leave --most out")
    limit, limit_from = _limit(bench.device, limit)
    found: list[Size] = []
    ended = ""
    top = min(rows, most or LARGEST, LARGEST)
    for size in _series(top):
        expected = _expected(found, size)
        if limit is not None and expected is not None and expected > limit:
            ended = f"{size} rows would go beyond the limit"
            break
        try:
            found.append(_measure(_resized(bench, settings, size)))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise ConfigError(
                    f"batch-size: a step of {size} rows fails: {first_line(error)}; mend the network"
                ) from error
            ended = f"{size} rows ran out of memory"
            break
        if found[-1].memory is not None and limit is not None and found[-1].memory > limit:
            found.pop()
            ended = f"{size} rows went beyond the limit"
            break
        if found[-1].step_seconds > PATIENCE:
            ended = f"a step takes {found[-1].step_seconds:.0f} s; no larger size was tried"
            break
    if not found:
        raise ConfigError(f"batch-size: {ended}; expected room for a batch; free some memory, or make the network smaller")
    reached = f"all {rows} train rows" if top == rows else f"no larger size than {top} was asked for"
    return Sizes(
        bench.name, str(bench.device), tuple(found), limit, limit_from, ended or reached, bench.config.data.batch_size
    )


def _series(most: int) -> Iterator[int]:
    """Yield 8, 16, 32, ... and the most."""
    size = min(SMALLEST, most)
    while size < most:
        yield size
        size *= 2
    yield most


def _limit(device: torch.device, limit: int | None) -> tuple[int | None, str]:
    """Return the bytes that a step may take, and where that comes from."""
    if limit is not None:
        return limit, "asked for"
    if device.type == "cuda":
        return None, ""
    free = free_memory()
    return (None, "") if free is None else (int(SHARE * free), "half of the free memory")


def _expected(found: list[Size], size: int) -> int | None:
    """Return the bytes that a size is expected to take, by a line through the two before; None while nothing is known."""
    known = [(one.batch_size, one.memory) for one in found[-2:] if one.memory is not None]
    if len(known) < 2:
        return None
    (small, less), (large, more) = known
    return more + max(0, math.ceil((more - less) / (large - small) * (size - large)))


def _resized(bench: Bench, settings: RunConfig, size: int) -> Bench:
    """Return a bench with another batch size, and the threads and lanes that a run of it would have."""
    engine = bench.config.training.engine if bench.device.type == "cpu" else ""
    threads, lanes = threads_and_lanes(settings, bench.network, size, engine)
    data = bench.config.data.model_copy(update={"batch_size": size, "last_batch": "drop"})
    training = bench.config.training.model_copy(update={"threads": threads, "lanes": lanes})
    return replace(bench, config=bench.config.model_copy(update={"data": data, "training": training}))


def _measure(bench: Bench) -> Size:
    """Take steps of whole batches on copies, the first of them unmeasured: they record or compile."""
    give_back()
    size = bench.config.data.batch_size
    with on_copies(bench) as job:
        walk = _walk(job)
        with memory_of(bench.device) as held:  # looking takes time, so that it ends before anything is timed
            for _ in range(WARM):
                next(walk)
        begun, taken = settled(bench.device), 0
        while taken < FEWEST or settled(bench.device) - begun < SECONDS:
            taken += next(walk)
        seconds = (settled(bench.device) - begun) / taken
    steps = math.ceil(len(bench.inputs.split.train) / size)
    return Size(size, seconds, size / seconds, held(), steps)


def _walk(job: Job) -> Iterator[int]:
    """Yield how many steps were taken, call by call.

    Raises:
        Exception: What a step raised.
    """
    for feed in feeds(job):
        left = job.plan.steps_left(Progress())
        while left:
            steps = job.engine.train_steps(feed, left)
            if steps.failure is not None:
                raise steps.failure.error
            left -= len(steps.losses)
            yield len(steps.losses)
