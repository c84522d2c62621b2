"""The batches of one epoch, handed to whatever executes the steps: one by one, or as row numbers to gather there. Floor 3."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from netwright.data.batches import AHEAD, Batch, Examples, Rows, steps_per_epoch
from netwright.data.order import Order
from netwright.data.sharing import Share

TARGET = "target"  # among the sources; no input has the name of the target


@final
class Feed:
    """The batches of an epoch in order, each handed out once.

    Args:
        examples: All rows.
        order: The row numbers of the epoch in order.
        batch_size: Rows per batch.
        last_batch: ``keep`` or ``drop`` a smaller last batch.
        start: How many batches to leave out at the beginning.
        changed: The same batches from ``start`` on where rows are changed on their way, or None.
        share: The part of each batch that is handed out here; None for all of it.
    """

    def __init__(
        self,
        examples: Examples,
        order: Rows | Order,
        batch_size: int,
        last_batch: str = "keep",
        start: int = 0,
        changed: Iterator[Batch] | None = None,
        share: Share | None = None,
    ) -> None:
        self.examples = examples
        self.share = share
        self.waited = 0.0  # seconds in which a step waited for its rows
        self._order, self._size, self._changed = order, batch_size, changed
        self._end = min(steps_per_epoch(len(order), batch_size, last_batch) * batch_size, len(order))
        self._place = min(start * batch_size, self._end)
        self._piece, self._first = torch.empty(0, dtype=torch.long), self._place

    @property
    def sources(self) -> dict[str, Tensor] | None:
        """All prepared rows by the name of their input, and the target as ``target``; None where a batch is more than rows
        of them: changed, prepared late, padded, or kept elsewhere than on the device."""
        examples = self.examples
        if (
            self._changed is not None
            or self.share is not None
            or examples.spans is not None
            or examples.raw
            or TARGET in examples.inputs
        ):
            return None
        found = {**examples.inputs, TARGET: examples.target}
        return found if all(value.device.type == examples.device.type for value in found.values()) else None

    @property
    def resident(self) -> Examples | None:
        """All rows, where a batch is nothing but some of them, gathered where they lie; else None."""
        return self.examples if self._changed is None and self.share is None and self.examples.resident else None

    def whole(self) -> Feed | None:
        """Return a feed of the whole batches, from here on, where each process has all rows in memory as they are; else None."""
        found = copy.copy(self)
        found.share = None
        return found if found.resident is not None else None

    @property
    def batch_size(self) -> int:
        """Rows of a batch, but for a smaller last one."""
        return min(self._size, self._end)

    def rows(self, most: int) -> Tensor:
        """Return the row numbers of the next batches of one size, int64 ``(batches, rows)``, without handing them out.

        Args:
            most: How many batches to return at most; fewer where the order is worked out in pieces, none at the end.
        """
        if self._place - self._first >= len(self._piece) and self._place < self._end:
            stop = min(self._place + max(1, AHEAD // self._size) * self._size, self._end)
            self._piece = torch.from_numpy(np.ascontiguousarray(self._order[self._place : stop]))
            self._first = self._place
        left = self._piece[self._place - self._first :]
        whole = min(len(left) // self._size, most)
        return left[: whole * self._size].view(whole, self._size) if whole else left.view(min(1, len(left)), -1)

    def take(self, batches: int) -> None:
        """Count batches that were gathered by their rows as handed out."""
        self._place = min(self._place + batches * self._size, self._end)

    def next(self) -> Batch:
        """Hand out the next batch, or its part that falls here."""
        begun = time.perf_counter()
        if self._changed is not None:
            batch = next(self._changed)
        elif self.share is not None:
            whole = self.rows(1)[0]
            batch = self.examples.batch(self.share.of_rows(whole), among=whole)
        else:
            batch = self.examples.batch(self.rows(1)[0])
        self.take(1)
        self.waited += time.perf_counter() - begun
        return batch
