"""Test figures of parts of the rows: of each class, and of the rows that share a value of a column. Floor 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation.intervals import FEWEST_ROWS, wilson
from netwright.evaluation.shares import mean_told
from netwright.model.decisions import decide_each

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
MOST_VALUES = 10  # of one column
MOST_SLICES = 40  # in all
MISSING = "(missing)"


def class_table(true: Numbers, guess: Numbers, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows, precision, recall with Wilson's interval and F1 of each class that test rows have.

    Args:
        true: Class numbers ``(rows,)``.
        guess: What is predicted, ``(rows,)``.
        classes: The classes in words.

    Returns:
        A dictionary per class; a precision of a class that is never predicted is 0, as scikit-learn with ``zero_division=0``.
    """
    size = len(classes)
    hits = np.bincount(true[true == guess], minlength=size)
    actual, predicted = np.bincount(true, minlength=size), np.bincount(guess, minlength=size)
    found = []
    for place in np.flatnonzero(actual).tolist():
        low, high = wilson(int(hits[place]), int(actual[place]))
        found.append(
            {
                "class": classes[place],
                "n": int(actual[place]),
                "precision": float(hits[place] / max(predicted[place], 1)),
                "recall": {"value": float(hits[place] / actual[place]), "low": low, "high": high},
                "f1": float(2 * hits[place] / (actual[place] + predicted[place])),
            }
        )
    return found


@dataclass(frozen=True)
class Sliced:
    """A column whose values divide the rows: the value of each row in words, int64 places ``(rows,)`` among ``values``."""

    column: str
    places: Numbers
    values: tuple[str, ...]


def of_values(column: str, values: Sequence[Any]) -> Sliced:
    """Return rows divided by equal values; None is missing.

    Example:
        >>> of_values("sex", ["f", "m", None, "f"]).values
        ('(missing)', 'f', 'm')
    """
    words = np.asarray([MISSING if value is None else str(value) for value in values], dtype=object)
    distinct, places = np.unique(words.astype(str), return_inverse=True)
    return Sliced(column, places.astype(np.int64), tuple(distinct.tolist()))


def of_numbers(column: str, values: Floats, known: Floats) -> Sliced:
    """Return rows divided at the quartiles of known rows; NaN is missing.

    Args:
        column: Its name.
        values: Of the rows, ``(rows,)``.
        known: Of the rows that decide, the train rows.

    Example:
        >>> of_numbers("age", np.array([1.0, 9.0]), np.arange(9.0)).values
        ('up to 2', 'above 2, up to 4', 'above 4, up to 6', 'above 6')
    """
    known = known[~np.isnan(known)]
    cuts = np.unique(np.quantile(known, (0.25, 0.5, 0.75))) if len(known) else np.zeros(0)
    texts = [f"{cut:.6g}" for cut in cuts]
    words = [f"above {low}, up to {high}" for low, high in zip(texts[:-1], texts[1:], strict=True)]
    words = [f"up to {texts[0]}", *words, f"above {texts[-1]}"] if texts else ["all"]
    missing = np.isnan(values)
    places = np.where(missing, len(words), np.searchsorted(cuts, np.where(missing, 0.0, values), side="left"))
    return Sliced(column, places.astype(np.int64), (*words, *([MISSING] if missing.any() else [])))


Figures = Callable[[npt.NDArray[np.bool_]], dict[str, dict[str, float]]]


def figures_of(kind: str, true: npt.NDArray[Any], decoded: Floats, alike: Numbers | None = None) -> Figures:
    """Return the function that gives the main figures of some rows, with their intervals.

    Two classes: accuracy, and recall and precision of the second; several: accuracy; labels: subset accuracy; numbers: RMSE
    (of one output) and MAE.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        decoded: Probabilities, scores or values ``(rows, ...)``.
        alike: The number of the group of each row, for rows that are alike; or None.

    Returns:
        A function of which rows, bool ``(rows,)``; the first figure is the main one.
    """
    if kind == "regression":
        error = decoded - true
        values = {"rmse": error[:, 0] ** 2} if error.shape[1] == 1 else {}
        values["mae"] = np.mean(np.abs(error), axis=1)
        weights = {name: np.ones(len(true), bool) for name in values}
    elif kind == "multilabel":
        values = {"subset_accuracy": (decide_each(decoded) == true).all(axis=1).astype(np.float64)}
        weights = {"subset_accuracy": np.ones(len(true), bool)}
    else:
        guess = decoded.argmax(axis=1)
        right = (guess == true).astype(np.float64)
        values, weights = {"accuracy": right}, {"accuracy": np.ones(len(true), bool)}
        if decoded.shape[1] == 2:
            values |= {"recall": right, "precision": right}
            weights |= {"recall": true == 1, "precision": guess == 1}

    def figures(chosen: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
        found = {}
        for name, each in values.items():
            part = chosen & weights[name]
            if part.any():
                found[name] = mean_told(each[part], None if alike is None else alike[part], name == "rmse")
        return found

    return figures


def slice_table(columns: Sequence[Sliced], figures: Figures) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the figures of the rows of each value of some columns, the worst first within a column, and remarks.

    Args:
        columns: How rows are divided.
        figures: What `figures_of` gave.

    Returns:
        At most 40 slices, of a column with more than ten values those of the most rows; slices below ten rows have figures
        without intervals.
    """
    found: list[dict[str, Any]] = []
    remarks: list[str] = []
    for column in columns:
        counts = np.bincount(column.places, minlength=len(column.values))
        there = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
        kept = there[:MOST_VALUES]
        if len(there) > len(kept):
            remarks.append(f"slices by {column.column!r}: the {len(kept)} values of the most rows, of {len(there)}")
        if len(found) + len(kept) > MOST_SLICES:
            remarks.append(f"slices by {column.column!r} and what follows are left out; at most {MOST_SLICES} are shown")
            break
        parts = []
        for value in kept:
            told = figures(column.places == value)
            part = {"column": column.column, "slice": column.values[value], "n": int(counts[value])}
            few = counts[value] < FEWEST_ROWS
            parts.append({**part, "metrics": {name: _bare(entry) if few else entry for name, entry in told.items()}})
        found += sorted(parts, key=_badness)
    return found, remarks


def _bare(entry: dict[str, float]) -> dict[str, float]:
    return {"value": entry["value"]}


def _badness(part: dict[str, Any]) -> float:
    """Return what sorts the worst slice first: the main figure, or less an error."""
    name, entry = next(iter(part["metrics"].items()))
    return -float(entry["value"]) if name in ("rmse", "mae") else float(entry["value"])
