"""Count, mean and squared deviations of columns with missing cells, block by block, merged exactly; tables
and arrays are measured bit for bit alike. Printed by eject. Floor 3."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 22  # cells measured at a time
SMALLEST = 1e-12  # deviations below this share of the mean are rounding
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What is known of columns ``(columns,)``.

    ``rows`` is the number of rows, ``present`` of cells that are not missing; ``fill`` is their mean, ``mean`` that of the
    filled column and ``squares`` the sum of its squared deviations from it.
    """

    rows: int
    present: npt.NDArray[np.int64]
    fill: Floats
    mean: Floats
    squares: Floats

    @property
    def deviation(self) -> Floats:
        """The standard deviation of the filled columns."""
        return np.asarray(np.sqrt(self.squares / max(self.rows, 1)))

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which columns hold one number only, but for rounding: those that are not scaled by their deviation."""
        return np.asarray((self.scale != self.deviation) & (self.present > 0))

    @property
    def scale(self) -> Floats:
        """The standard deviation, and 1 for a column that is constant but for rounding."""
        return scale_of(self.mean, self.deviation)


def moments_of(cells: Floats) -> Moments:
    """Return the moments of cells ``(rows, columns)``, NaN missing; exact for a constant column.

    Sums are NumPy's, which do not depend on torch's threads. A few columns are measured at a time.
    """
    together = max(2, BLOCK // max(len(cells), 1))  # a single column would be summed in another order
    starts = list(range(0, max(cells.shape[1] - 1, 1), together))
    parts = [measured(cells[:, start:end]) for start, end in zip(starts, [*starts[1:], cells.shape[1]], strict=True)]
    present, fill, mean, squares = (np.concatenate(found) for found in zip(*parts, strict=True))
    return Moments(len(cells), present, fill, mean, squares)


def moments_in_blocks(blocks: Callable[[], Iterable[Floats]]) -> Moments:
    """Return what `moments_of` does, to the bit, of rows that come a few at a time; they are read two or three times.

    NumPy adds up rows one after the other, so a sum goes on where the block before left it.

    Args:
        blocks: Begins to yield all rows ``(rows, columns)``, of two columns at least, NaN missing.
    """
    first, counts = _first(blocks()), []

    def centred() -> Iterator[Floats]:
        for block in blocks():
            here = ~np.isnan(block)
            counts.append((len(block), here.sum(0)))
            yield np.where(here, block - first, 0.0)

    total = _sum(centred())
    rows, present = sum(count for count, _ in counts), np.sum([here for _, here in counts], axis=0)
    fill = first + total / np.maximum(present, 1)
    if (present < rows).any():
        total = _sum(np.where(np.isnan(block), fill, block) - first for block in blocks())
    mean = first + total / rows
    squares = _sum(np.square(np.where(np.isnan(block), fill, block) - mean) for block in blocks())
    return Moments(rows, present, fill, mean, squares)


def _first(blocks: Iterable[Floats]) -> Floats:
    """Return the first number of each column, 0 where there is none."""
    first, known = np.zeros(1), np.zeros(1, dtype=bool)
    for block in blocks:
        here = ~np.isnan(block)
        first = np.where(known, first, np.where(here.any(0), block[here.argmax(0), np.arange(block.shape[1])], 0.0))
        known = known | here.any(0)
        if known.all():
            break
    return first


def _sum(blocks: Iterable[Floats]) -> Floats:
    """Return the sums of columns, added up row after row whatever the blocks."""
    total = None
    for block in map(np.ascontiguousarray, blocks):  # columns that lie together would be added up in another order
        total = block.sum(0) if total is None else np.concatenate([total[None], block]).sum(0)
    return np.zeros(1) if total is None else total


def spanned(cells: Floats, before: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """Return the least and the greatest cell of each column, NaN where none is there, also of those before.

    Example:
        >>> [ends.tolist() for ends in spanned(np.array([[1.0, np.nan], [3.0, np.nan]]))]
        [[1.0, nan], [3.0, nan]]
    """
    low, high = np.fmin.reduce(cells, axis=0), np.fmax.reduce(cells, axis=0)
    return (low, high) if before is None else (np.fmin(low, before[0]), np.fmax(high, before[1]))


def scale_of(mean: Floats, deviation: Floats) -> Floats:
    """Return the standard deviation of columns, and 1 for a column that is constant but for rounding."""
    return np.where(deviation > SMALLEST * np.maximum(np.abs(mean), 1e-300), deviation, 1.0)


def channel_moments(blocks: Iterable[Floats]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of channels, whose numbers come in blocks ``(channels, numbers)``, NaN missing."""
    shift, total, squares, count = None, np.zeros(1), np.zeros(1), np.zeros(1)
    for block in blocks:
        present = ~np.isnan(block)
        if shift is None:
            shift = np.nan_to_num(block[:, :1], nan=0.0)  # numbers near 0 lose no digits when they are squared
        centred = np.where(present, block - shift, 0.0)
        total = total + centred.sum(1)
        squares = squares + np.square(centred).sum(1)
        count = count + present.sum(1)
    mean = total / np.maximum(count, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - np.square(mean), 0))
    mean = mean + (0.0 if shift is None else shift[:, 0])
    return mean, scale_of(mean, deviation)


def measured(cells: Floats) -> tuple[npt.NDArray[np.int64], Floats, Floats, Floats]:
    """Return of each column the number of cells, their mean, the mean of the filled column and its squared deviations."""
    cells = np.ascontiguousarray(cells)
    count, width = cells.shape
    present = ~np.isnan(cells)
    first = np.where(present.any(0), cells[present.argmax(0), np.arange(width)], 0.0) if count else np.zeros(width)
    fill = first + np.where(present, cells - first, 0.0).sum(0) / np.maximum(present.sum(0), 1)
    filled = np.where(present, cells, fill)
    mean = first + (filled - first).mean(0) if count else first
    return present.sum(0), fill, mean, np.square(filled - mean).sum(0)


def merged(one: Moments | None, other: Moments) -> Moments:
    """Return the moments of the rows of both (Chan, Golub and LeVeque, 1983, "Algorithms for computing the sample variance")."""
    if one is None:
        return other
    present = one.present + other.present
    share = other.present / np.maximum(present, 1)
    apart = other.fill - one.fill
    return Moments(
        one.rows + other.rows,
        present,
        one.fill + apart * share,
        one.mean + (other.mean - one.mean) * share,
        one.squares + other.squares + apart**2 * one.present * share,
    )
