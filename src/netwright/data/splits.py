"""Who trains, who validates, who tests: pure functions from a seed to row numbers. Floor 3."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.errors import DataError
from netwright.files import digest_bytes
from netwright.numerals import counted
from netwright.seeding import stream

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The row numbers (from 0) of the three parts, each sorted, and how they were chosen.

    ``calibration`` are rows set aside from train: they neither train nor choose.
    """

    train: Rows
    valid: Rows
    test: Rows
    how: str
    calibration: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def calibrating(self) -> tuple[str, Rows]:
        """Which rows intervals and a temperature are made from, in a word, and the rows: those set aside, else valid."""
        return ("calibration", self.calibration) if len(self.calibration) else ("valid", self.valid)

    def digest(self) -> str:
        """Return the digest of the parts."""
        further = (self.calibration,) if len(self.calibration) else ()
        return digest_bytes(*(_row_bytes(part) for part in (self.train, self.valid, self.test, *further)))


def _row_bytes(rows: Rows) -> memoryview:
    """Return sorted row numbers as bytes; numbers that are sorted are not copied."""
    ordered = rows if bool((rows[1:] > rows[:-1]).all()) else np.sort(rows)
    return np.ascontiguousarray(ordered, "<i8").view(np.uint8).data


def divide(
    rows: Rows,
    sizes: tuple[float, float],
    seed: int,
    *,
    classes: npt.NDArray[np.int64] | None = None,
    groups: npt.NDArray[Any] | None = None,
    times: npt.NDArray[Any] | None = None,
    gap: int = 0,
) -> Split:
    """Divide rows into train, valid and test.

    Args:
        rows: The row numbers to divide.
        sizes: Valid and test, each a share (below 1) or a number of rows.
        seed: Of the split.
        classes: Class number per row, to keep the shares of the classes.
        groups: Group value per row; equal values never part.
        times: A sortable value per row; the newest rows test, the ones before validate. Equal times never part.
        gap: With ``times``, rows before valid, and before test, that belong to no part.

    Returns:
        The split of ``rows``.

    Raises:
        DataError: Too few rows, groups or rows of a class.

    Example:
        >>> split = divide(np.arange(10), (0.2, 0.2), seed=0)
        >>> len(split.train), len(split.valid), len(split.test)
        (6, 2, 2)
    """
    valid_count, test_count = (_count(size, len(rows)) for size in sizes)
    if len(rows) - valid_count - test_count < 1 or len(rows) < 1:
        raise DataError(
            f"data.split: {counted(rows, 'row')} cannot give {valid_count} to valid and {test_count} to test and keep one to "
            "train; expected more rows or smaller parts; change data.split"
        )
    if times is not None:
        return _by_time(rows, valid_count, test_count, times, gap)
    if groups is not None:
        return _by_group(rows, valid_count, test_count, seed, groups)
    if classes is not None:
        return _stratified(rows, valid_count, test_count, seed, classes)
    order = stream(seed, "split").permutation(rows)
    return _split(order, valid_count, test_count, "random")


def _count(size: float, rows: int) -> int:
    if size < 1:
        count = round(size * rows)
        return max(count, 1) if size > 0 else 0
    return int(size)


def _split(order: Rows, valid_count: int, test_count: int, how: str) -> Split:
    test, valid = order[:test_count], order[test_count : test_count + valid_count]
    return Split(np.sort(order[test_count + valid_count :]), np.sort(valid), np.sort(test), how)


def _stratified(rows: Rows, valid_count: int, test_count: int, seed: int, classes: npt.NDArray[np.int64]) -> Split:
    """Deal each class out in the same shares; what is left over by rounding goes to the largest remainders."""
    found, counts = np.unique(classes, return_counts=True)
    parts = 1 + (valid_count > 0) + (test_count > 0)
    if counts.min() < parts:
        rare = int(found[counts.argmin()])
        raise DataError(
            f"data.split: class number {rare} has {counted(int(counts.min()), 'row')}; a stratified split into {parts} parts needs "
            f"{parts} of each; merge classes with data.labels or set data.split.stratify = false"
        )
    generator = stream(seed, "split")
    test_per_class = _shares(counts, test_count, np.zeros_like(counts))
    valid_per_class = _shares(counts, valid_count, test_per_class)
    if (test_per_class.sum(), valid_per_class.sum()) != (test_count, valid_count):
        raise DataError(
            f"data.split: {counted(rows, 'row')} of {len(found)} classes cannot give {valid_count} to valid and {test_count} to "
            "test and keep one of each class to train; make them smaller or set data.split.stratify = false"
        )
    train, valid, test = [], [], []
    for label, in_test, in_valid in zip(found, test_per_class, valid_per_class, strict=True):
        members = generator.permutation(rows[classes == label])
        test.append(members[:in_test])
        valid.append(members[in_test : in_test + in_valid])
        train.append(members[in_test + in_valid :])
    return Split(
        np.sort(np.concatenate(train)), np.sort(np.concatenate(valid)), np.sort(np.concatenate(test)), "stratified random"
    )


def _shares(counts: Rows, total: int, taken: Rows) -> Rows:
    """Return how many of each class make ``total``: proportional, at least one each where that fits, one left over."""
    exact = counts * (total / counts.sum())
    result = np.floor(exact).astype(np.int64)
    if total >= len(counts):
        result = np.maximum(result, 1)
    room = counts - taken - 1
    result = np.asarray(np.minimum(result, room), dtype=np.int64)
    while result.sum() != total:
        step = 1 if result.sum() < total else -1
        remainder = np.where((result < room) if step > 0 else (result > 1), (exact - result) * step, -np.inf)
        if not np.isfinite(remainder).any():
            break
        result[int(remainder.argmax())] += step
    return result


def _by_group(rows: Rows, valid_count: int, test_count: int, seed: int, groups: npt.NDArray[Any]) -> Split:
    found, inverse = np.unique(groups, return_inverse=True)
    needed = 1 + (valid_count > 0) + (test_count > 0)
    if len(found) < needed:
        raise DataError(
            f"data.split.group: {counted(found, 'group')} came; {needed} parts need {needed} or more; change the split"
        )
    sizes = np.bincount(inverse)
    part = np.zeros(len(found), dtype=np.int64)  # 0 train, 1 valid, 2 test
    order = stream(seed, "split").permutation(len(found))
    place = 0
    for number, wanted in ((2, test_count), (1, valid_count)):
        filled = 0
        left = len(order) - place - (1 + (number == 2 and valid_count > 0))
        while wanted and left > 0 and (filled == 0 or filled + sizes[order[place]] / 2 <= wanted):
            part[order[place]] = number
            filled += sizes[order[place]]
            place, left = place + 1, left - 1
    member = part[inverse]
    train, valid, test = (np.sort(rows[member == number]) for number in (0, 1, 2))
    return Split(train, valid, test, f"by group ({len(found)} groups)")


def _by_time(rows: Rows, valid_count: int, test_count: int, times: npt.NDArray[Any], gap: int) -> Split:
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    test_start = at_change(ordered, len(rows) - test_count) if test_count else len(rows)
    valid_end = test_start - gap if test_count else test_start
    valid_start = at_change(ordered, valid_end - valid_count) if valid_count else valid_end
    train_end = valid_start - gap if valid_count else valid_start
    if train_end < 1:
        why = f"gap: {gap} rows came, and " if gap else "time: too many rows share one time; "
        raise DataError(f"data.split.{why}no row is left to train; expected at least one; change the split")
    chosen = rows[order]
    how = f"by time, {gap} rows between the parts left out" if gap else "by time"
    train, valid, test = chosen[:train_end], chosen[valid_start:valid_end], chosen[test_start:]
    return Split(np.sort(train), np.sort(valid), np.sort(test), how)


def at_change(ordered: npt.NDArray[Any], place: int) -> int:
    """Move a border in sorted times back to where the time changes, so that equal times stay together."""
    while 0 < place < len(ordered) and ordered[place] == ordered[place - 1]:
        place -= 1
    return place


def check_rows(name: str, rows: Any, count: int) -> Rows:
    """Return given row numbers as int64, sorted.

    Raises:
        DataError: They are no whole numbers from 0 to ``count - 1``, or one comes twice.
    """
    array = np.asarray(rows) if len(rows) else np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"data.split.{name}: {array.dtype} of shape {array.shape} came; expected a list of row numbers from 0"
        )
    array = np.sort(array.astype(np.int64))
    if len(array) and (array[0] < 0 or array[-1] >= count):
        raise DataError(f"data.split.{name}: rows {array[0]} to {array[-1]} came; the data have rows 0 to {count - 1}")
    if (np.diff(array) == 0).any():
        twice = int(array[:-1][np.diff(array) == 0][0])
        raise DataError(f"data.split.{name}: row {twice} came twice; expected each row once")
    return array


def check_disjoint(split: Split) -> None:
    """Raise `DataError` where a row stands in two parts, or no row trains."""
    parts = {"train": split.train, "valid": split.valid, "test": split.test, "calibration": split.calibration}
    names = list(parts)
    for first, second in itertools.combinations(range(len(names)), 2):
        shared = np.intersect1d(parts[names[first]], parts[names[second]], assume_unique=True)
        if len(shared):
            raise DataError(
                f"data.split: row {int(shared[0])} is in {names[first]} and in {names[second]} ({len(shared)} such rows); "
                "expected each row in one part"
            )
    if not len(split.train):
        raise DataError("data.split: no row is left to train; expected at least one; make valid or test smaller")
