"""Which rows a fold tests: each row in one fold of each repetition, the shares of the classes kept, groups whole.

In order of time the folds are blocks that go forward, and only older rows train. Floor 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.data.splits import at_change
from netwright.errors import DataError
from netwright.numerals import counted
from netwright.seeding import stream

Rows = npt.NDArray[np.int64]


def fold_rows(
    rows: Rows,
    folds: int,
    number: int,
    seed: int,
    *,
    classes: npt.NDArray[np.int64] | None = None,
    groups: npt.NDArray[Any] | None = None,
    times: npt.NDArray[Any] | None = None,
    gap: int = 0,
) -> tuple[Rows, Rows]:
    """Return the rows that a fold tests, and those left to train and validate, each sorted.

    Args:
        rows: The row numbers to divide.
        folds: In how many parts, 2 or more.
        number: Which fold, from 0; from ``folds`` on those of a further repetition, dealt anew.
        seed: Of the split.
        classes: Class number per row: each fold holds the same shares (as scikit-learn's StratifiedKFold).
        groups: Group value per row: equal values never part, folds as even as they allow (GroupKFold).
        times: A sortable value per row: the test blocks go forward, older rows are left (TimeSeriesSplit).
        gap: With ``times``, rows before the test block that belong to no part.

    Raises:
        DataError: Too few rows, groups or times.

    Example:
        >>> fold_rows(np.arange(6), 3, 2, seed=0, times=np.arange(6))[0]
        array([5])
    """
    if times is not None:
        return _block(rows, folds, number, times, gap)
    if groups is None and len(rows) < folds:
        raise _too_few(len(rows), folds)
    generator = stream(seed, "folds", number // folds)
    if groups is not None:
        member = _whole_groups(groups, folds, generator)
    else:
        member = _dealt(np.zeros(len(rows), np.int64) if classes is None else classes, folds, generator)
    tested = member == number % folds
    if not tested.any() or tested.all():
        raise _too_few(len(rows), folds)
    return np.sort(rows[tested]), np.sort(rows[~tested])


def _dealt(classes: npt.NDArray[np.int64], folds: int, generator: np.random.Generator) -> Rows:
    """Deal the rows of one class after the other out to the folds, so that counts differ by one at most."""
    order = generator.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    member = np.empty(len(classes), dtype=np.int64)
    member[order] = np.arange(len(classes)) % folds
    return member


def _whole_groups(groups: npt.NDArray[Any], folds: int, generator: np.random.Generator) -> Rows:
    """Give each group, the largest first, to the fold with the fewest rows."""
    found, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(found) < folds:
        raise DataError(
            f"data.split.group: {counted(found, 'group')} came; {folds} folds need {folds} or more; make data.split.folds smaller"
        )
    order = generator.permutation(len(found))
    filled = np.zeros(folds, dtype=np.int64)
    fold_of = np.empty(len(found), dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return fold_of[inverse]


def _block(rows: Rows, folds: int, number: int, times: npt.NDArray[Any], gap: int) -> tuple[Rows, Rows]:
    """Return one of the last blocks of equal size in order of time, and the rows older than it by ``gap`` rows or more."""
    if number >= folds:
        raise DataError(
            f"data.split.fold: {number} came; in order of time there are {folds} folds; leave data.split.repeats out"
        )
    order = np.argsort(times, kind="stable")
    ordered, size = times[order], len(rows) // (folds + 1)
    start = len(rows) - (folds - number) * size
    first, end = (at_change(ordered, place) for place in (start, start + size))
    if size < 1 or first - gap < 1 or end <= first:
        raise _too_few(len(rows), folds, gap)
    return np.sort(rows[order[first:end]]), np.sort(rows[order[: first - gap]])


def _too_few(rows: int, folds: int, gap: int = 0) -> DataError:
    return DataError(
        f"data.split.folds: {rows} rows cannot give {folds} folds{f' with a gap of {gap} rows' if gap else ''}; "
        "expected more rows; make data.split.folds smaller"
    )
