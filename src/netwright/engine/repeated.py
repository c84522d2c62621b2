"""A step as work that can be repeated with nothing but kernels: all that changes from step to step lies on the device. Floor 5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from netwright.data.batches import AHEAD, Batch, Examples
from netwright.engine.base import Written
from netwright.engine.graphs import Graphs, Work
from netwright.engine.rates import on_cuda
from netwright.engine.recorded import copied_batch, tensors_of
from netwright.engine.recording import asked_later
from netwright.engine.state import fused

CAPACITY = 1024  # steps of a call at most
FIRST = 16  # steps of the first call, whose time tells how many the next has


@final
class Repeated:
    """The step on batches of one size, with the room for what changes: row numbers, learning rates, losses, and a counter.

    Args:
        eager: The engine whose step it is.
        batch: One of that size.
        examples: All rows, where batches are gathered from them; else None, and `load` copies each batch.
        groups: Of the optimizer, whose learning rates change from step to step; 0 where they do not.

    ``replay`` repeats `work` once captured, ``trusted`` counts the times it gave the same bits.
    """

    def __init__(self, eager: Written, batch: Batch, examples: Examples | None, groups: int) -> None:
        device, size = batch.target.device, len(batch)
        self.examples = examples
        self.replay: Work = _not_captured
        self.trusted = 0
        self._eager = eager
        self._most = 1 if examples is None else max(1, min(CAPACITY, AHEAD // size))
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._plan = torch.zeros(self._most, size, dtype=torch.long, device=device)
        self._rates = torch.zeros(self._most, groups, dtype=torch.float32, device=device) if groups else None
        self._fixed = None if examples is not None else copied_batch(batch)
        self._numbers: Tensor | None = None  # of each step: its losses, then what must be finite
        self._losses = 1
        self._dtype = torch.float32
        self._seconds: float | None = None  # a step takes

    def work(self) -> None:
        """Take the step that the counter points at, and count it."""
        if self.examples is not None:
            batch = self.examples.batch(self._plan.index_select(0, self._at).view(-1))
        else:
            batch = self._fixed  # type: ignore[assignment]
        turned = None if self._rates is None else self._rates.index_select(0, self._at).view(-1).unbind()
        with _given(self._eager.optimizer, turned), asked_later() as asked:
            loss = self._eager.train_step(batch).reshape(-1)
        row = torch.cat([loss, *(number.reshape(-1) for number in asked)])
        if self._numbers is None:
            self._numbers = torch.zeros(self._most, len(row), dtype=row.dtype, device=row.device)
            self._losses, self._dtype = len(loss), loss.dtype
        self._numbers.index_copy_(0, self._at, row.unsqueeze(0))
        self._at.add_(1)

    def load(self, rows: Tensor, rates: Tensor | None, batch: Batch | None = None) -> None:
        """Lay out what the next steps need.

        Args:
            rows: The numbers of the rows, int64 ``(steps, batch)``.
            rates: Those of `netwright.engine.rates.numbers` for each step, float64 ``(steps, 2 * groups)``, or one row for all.
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

    def soon(self, seconds: float) -> int:
        """Return how many steps end within some seconds."""
        return min(self._most, FIRST if self._seconds is None else max(1, int(seconds / self._seconds)))

    def took(self, count: int, seconds: float) -> None:
        """Remember how long some steps took."""
        self._seconds = max(seconds / count, 1e-9)

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
