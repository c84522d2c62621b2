"""A single column that tells the target: often an answer that slipped into the inputs. Train rows only. Floor 10."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding
from netwright.checks.view import Values, distinct

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BINS = 64
FEWEST = 40  # train rows below which nothing is said
TELLING = 0.99
NEARLY, FAR_BELOW = 0.93, 0.25  # a note: one column tells nearly all, and leaves far less open than any other
MOST = 3


def leaks(columns: list[Values], target: npt.NDArray[np.float64], classes: int) -> list[Finding]:
    """Return the columns from which alone the target is known.

    What the even rows say is measured on the odd ones. A class: the numbers are cut into at most 64 bins of equal count, and
    each bin (or category) guesses its most frequent class, each class weighed alike; balanced accuracy. A value: the mean of
    the rows with the same number (or category), linearly between numbers; R2.

    Args:
        columns: Of (some) train rows, in any order that does not follow the target.
        target: Class numbers ``(rows,)``, or a value per row.
        classes: Their number; 0 for values.
    """
    if len(columns) < 2 or len(target) < FEWEST:
        return []
    scores = [
        _balanced_accuracy(_bins(column), target.astype(np.int64), classes) if classes else _r2(column, target)
        for column in columns
    ]
    found = []
    for score, place in sorted(((score, place) for place, score in enumerate(scores)), reverse=True)[:MOST]:
        others = max(other for at, other in enumerate(scores) if at != place)
        apart = score >= NEARLY and 1 - score < FAR_BELOW * (1 - others)
        if score >= TELLING or apart:
            found.append(_finding(columns[place], score, others, bool(classes)))
    return found


def _finding(column: Values, score: float, others: float, classes: bool) -> Finding:
    measure = "balanced accuracy" if classes else "R2"
    beside = "" if score >= TELLING else f", the next best column {max(others, 0.0):.2f}"
    return Finding(
        "target-leak",
        f"column {column.name!r}",
        f"it alone tells the target ({measure} {score:.3f} on train rows it did not see{beside}); it may be the answer in "
        "other words",
        f"{column.leave_out} unless it is known when predicting",
        "warning" if score >= TELLING else "note",
        "likely" if score >= TELLING else "hint",
        {"column": column.name, "measure": measure, "value": score},
    )


def _bins(column: Values) -> Rows:
    """Return a small number per row: the category, or the bin of the number; missing is a bin of its own."""
    if column.kind == "category":
        return np.searchsorted(column.levels, column.values)
    edges = column.levels[1:]
    if len(edges) >= BINS:
        places = np.linspace(0, len(column.ordered) - 1, BINS + 1)[1:-1]
        edges = distinct(np.interp(places, np.arange(len(column.ordered)), column.ordered))
    found = np.searchsorted(edges, column.values, side="right")  # of a missing cell behind all others
    return found if column.complete else np.where(np.isnan(column.values), len(edges) + 1, found)


def _r2(column: Values, target: Floats) -> float:
    values = column.values if column.kind != "category" else _bins(column).astype(np.float64)
    known = ~np.isnan(values[::2])
    levels, inverse = np.unique(values[::2][known], return_inverse=True)
    if not len(levels):
        return 0.0
    means = np.bincount(inverse, weights=target[::2][known]) / np.bincount(inverse)
    rest, asked = target[1::2], values[1::2]
    guess = np.where(np.isnan(asked), target[::2].mean(), np.interp(np.nan_to_num(asked), levels, means))
    spread = float(np.square(rest - rest.mean()).sum())
    return 1.0 - float(np.square(rest - guess).sum()) / spread if spread > 0 else 0.0


def _balanced_accuracy(bins: Rows, target: Rows, classes: int) -> float:
    count = int(bins.max()) + 1
    table = np.bincount(bins[::2] * classes + target[::2], minlength=count * classes).reshape(count, classes)
    shares = table / np.maximum(table.sum(axis=0), 1.0)  # rare classes count as much as frequent ones
    guess = shares.argmax(axis=1)[bins[1::2]]
    rest = target[1::2]
    rows, right = np.bincount(rest, minlength=classes), np.bincount(rest[guess == rest], minlength=classes)
    present = rows > 0
    return float((right[present] / rows[present]).mean()) if present.sum() > 1 else 0.0
