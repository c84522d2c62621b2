"""A step as work that can be repeated with nothing but kernels: all that changes from step to step lies on the device. Floor 7."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import final

import torch
from torch import Tensor

from netwright.data.batches import AHEAD, Batch, Examples
from netwright.engine.base import Written
from netwright.recording.branches import Watcher
from netwright.recording.graphs import Graphs, Work
from netwright.recording.operations import asked_later
from netwright.recording.rates import on_cuda
from netwright.recording.recorded import copied_batch, tensors_of
from netwright.recording.state import fused

CAPACITY = 1024  # steps of a call at most
FIRST = 16  # steps of the first call, whose time tells how many the next has
MANY = 8  # steps that are captured together
WORTHWHILE = 64  # steps that were replayed one by one before
TIMED = 5  # times that captures are timed to choose the fastest
HELD = 512 * 2**20  # bytes that steps on several streams may hold, as they use no memory twice
BRIEF = 5e-4  # seconds that such a step takes at most: starting a longer one costs nothing beside it


@final
class Repeated:
    """The step on batches of one size, with the room for what changes: row numbers, learning rates, losses, and a counter.

    Args:
        eager: The engine whose step it is.
        batch: One of that size.
        examples: All rows, where batches are gathered from them; else None, and `load` copies each batch.
        groups: Of the optimizer, whose learning rates change from step to step; 0 where they do not.

    ``replay`` repeats `work` once captured, ``trusted`` counts the times it gave the same bits; ``replay_many`` repeats `MANY`
    steps, once they are captured together.
    """

    def __init__(self, eager: Written, batch: Batch, examples: Examples | None, groups: int) -> None:
        device, size = batch.target.device, len(batch)
        self.examples = examples
        self.replay: Work = _not_captured
        self.replay_many: Work | None = None
        self.trusted = 0
        self._tried_many = examples is None
        self._replayed = 0
        self._eager = eager
        self._most = 1 if examples is None else max(1, min(CAPACITY, AHEAD // size))
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._ahead = torch.arange(MANY, device=device)
        self._plan = torch.zeros(self._most, size, dtype=torch.long, device=device)
        self._rates = torch.zeros(self._most, groups, dtype=torch.float32, device=device) if groups else None
        self._fixed = None if examples is not None else copied_batch(batch)
        self._numbers: Tensor | None = None  # of each step: its losses, then what must be finite
        self._losses = 1
        self._dtype = torch.float32
        self._seconds: float | None = None  # a step takes

    def work(self) -> None:
        """Take the step that the counter points at, and count it."""
        self._take(1)

    def work_of_many(self) -> None:
        """Take `MANY` steps from the one that the counter points at, and count them."""
        self._take(MANY)

    def _take(self, count: int) -> None:
        here = self._at if count == 1 else self._at + self._ahead
        plan = self._plan.index_select(0, here).unbind()
        turned = None if self._rates is None else self._rates.index_select(0, here)
        given = []
        for step in range(count):
            with _given(self._eager.optimizer, None if turned is None else turned[step].unbind()), asked_later() as asked:
                if self.examples is None:
                    loss = self._eager.train_step(self._fixed).reshape(-1)  # type: ignore[arg-type]
                else:
                    loss = self._eager.train_rows(self.examples, plan[step]).reshape(-1)
            further = [number.reshape(-1) for number in asked if number.data_ptr() != loss.data_ptr()]
            given.append(torch.cat([loss, *further]) if further else loss)
        if self._numbers is None:
            self._numbers = torch.zeros(self._most, len(given[0]), dtype=given[0].dtype, device=given[0].device)
            self._losses, self._dtype = len(loss), loss.dtype
        self._numbers.index_copy_(0, here, given[0].unsqueeze(0) if count == 1 else torch.stack(given))
        self._at.add_(count)

    def load(self, rows: Tensor, rates: Tensor | None, batch: Batch | None = None) -> None:
        """Lay out what the next steps need.

        Args:
            rows: The numbers of the rows, int64 ``(steps, batch)``.
            rates: Those of `netwright.recording.rates.numbers` for each step, float64 ``(steps, 2 * groups)``, or one row for all.
            batch: The one batch, where it is not gathered from all rows.
        """
        self._at.zero_()
        self._plan[: len(rows)].copy_(rows)
        if self._rates is not None and rates is not None:
            self._rates[: len(rows)].copy_(rates[:, ::2])
        if self._fixed is not None and batch is not None:
            for into, value in zip(tensors_of(self._fixed), tensors_of(batch), strict=True):
                into.copy_(value)

    def capture(self, graphs: Graphs) -> None:
        """Capture the work, so that `replay` repeats it.

        Raises:
            RuntimeError: It cannot be captured.
        """
        self._at.zero_()
        self.replay = graphs.capture(self.work)

    def wants_many(self, steps: int) -> bool:
        """Tell, once, whether so many next steps shall be captured together."""
        brief = self._seconds is not None and self._seconds < BRIEF
        if self._tried_many or min(steps, self._most) < MANY or self._replayed < WORTHWHILE or not brief:
            return False
        self._tried_many = True
        return True

    def captures_of_many(self, graphs: Graphs, known_whole: bool) -> list[Work]:
        """Return captures of `MANY` steps: one operation after the other, and on several streams.

        Args:
            graphs: Captures work on the device.
            known_whole: All that runs are operations of torch; else they stay one after the other.

        Raises:
            RuntimeError: They cannot be captured.
        """
        watcher = Watcher()

        def watched() -> None:
            with watcher if known_whole else nullcontext():
                self.work_of_many()

        captured = [graphs.capture(watched)]
        branches = watcher.branches() if known_whole else None
        if branches is not None and branches.held <= HELD:
            with suppress(RuntimeError):  # CUDA does not take what the other capture has
                captured.append(graphs.capture(self.work_of_many, branches))
        return captured

    def keep_fastest(
        self, plays: Sequence[Work], rows: Tensor, rates: Tensor | None, begin: Work, wait: Work, told: Callable[[int], int]
    ) -> None:
        """Take the fastest of some captures of `MANY` steps for `replay_many`, and only one that is faster than single steps.

        Args:
            plays: Of any number, none too; they are played.
            rows, rates: As for `load`.
            begin: Puts everything where the steps begin.
            wait: For what was played, where others take part in it.
            told: Returns which of them all processes take, of that which is the fastest here.
        """

        def seconds(play: Work) -> float:
            begin()
            self.load(rows, rates)
            int(self._at)  # all of that is done
            begun = time.perf_counter()
            play()
            wait()
            self.finite(len(rows))
            return time.perf_counter() - begun

        def singly() -> None:
            for _ in range(MANY):
                self.replay()

        candidates: list[Work | None] = [None, *plays]
        took = [min(seconds(play or singly) for _ in range(TIMED)) for play in candidates]
        self.replay_many = candidates[told(took.index(min(took)))]

    def play(self, count: int) -> None:
        """Repeat so many steps, from the one that the counter points at."""
        if self.replay_many is not None:
            for _ in range(count // MANY):
                self.replay_many()
            count %= MANY
        for _ in range(count):
            self.replay()

    def rows(self, count: int) -> Tensor:
        """Return the row numbers that were laid out last, on the device, int64 ``(count, batch)``."""
        return self._plan[:count]

    def finite(self, count: int) -> int:
        """Return how many of the first steps gave nothing but finite numbers, before one that did not; waits for them."""
        fine = torch.isfinite(self._given()[:count]).all(dim=1).tolist()
        return fine.index(False) if False in fine else count

    def results(self, count: int) -> Tensor:
        """Return the losses of the first steps, ``(count, networks)``; the caller may keep them."""
        return self._given()[:count, : self._losses].to(self._dtype, copy=True)

    def soon(self, seconds: float, first: int = FIRST) -> int:
        """Return how many steps end within some seconds; ``first`` where nobody knows how long one takes."""
        return min(self._most, first if self._seconds is None else max(1, int(seconds / self._seconds)))

    def took(self, count: int, seconds: float) -> None:
        """Remember how long some steps took."""
        self._seconds = max(seconds / count, 1e-9)
        self._replayed += count

    def _given(self) -> Tensor:
        if self._numbers is None:
            raise ValueError("no step was taken")
        return self._numbers


def _not_captured() -> None:
    """Say that nothing can be repeated yet.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError("the step was not captured")


@contextmanager
def _given(optimizer: torch.optim.Optimizer, rates: tuple[Tensor, ...] | None) -> Iterator[None]:
    """Let an optimizer read its learning rates from tensors for a block, and say of fused kernels what is true: that they can
    be captured. Afterwards its groups are what they were."""
    groups = optimizer.param_groups
    before = [dict(group) for group in groups]
    capturing = on_cuda(groups) and torch.cuda.is_current_stream_capturing()
    try:
        for number, group in enumerate(groups):
            if rates is not None:
                group["lr"] = rates[number]
            if capturing and fused(group) and "capturable" in group:
                group["capturable"] = True
        yield
    finally:
        for group, kept in zip(groups, before, strict=True):
            group.update({name: kept[name] for name in ("lr", "capturable") if name in kept})
