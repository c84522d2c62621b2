"""The part of each batch that falls to one of several processes: neighbouring rows, parts as even as can be. Floor 3."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The ``number``-th (from 0) of ``of`` parts of rows that are in order; the first parts have one row more.

    Example:
        >>> [Share(number, 4).bounds(10) for number in range(4)]
        [(0, 3), (3, 6), (6, 8), (8, 10)]
    """

    number: int
    of: int

    def bounds(self, rows: int) -> tuple[int, int]:
        """Return where the part of so many rows begins, and where the next part does."""
        each, more = divmod(rows, self.of)
        begin = self.number * each + min(self.number, more)
        return begin, begin + each + (1 if self.number < more else 0)

    def of_first(self, rows: int) -> int:
        """Return the length of the longest part of so many rows."""
        return -(-rows // self.of)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the part of some rows; the first of them where none is left for it, which then counts nothing."""
        begin, end = self.bounds(len(rows))
        return rows[begin:end] if end > begin else rows[:1]
