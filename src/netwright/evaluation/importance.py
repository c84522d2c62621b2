"""How much worse a figure gets when a column of the test rows is shuffled: what a network leans on. Floor 8.

Breiman, Random forests (2001), with scikit-learn's convention: the figure as it is less that of shuffled rows, so that what
matters is above 0; of the RMSE how much it grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netwright.data.preparation import DATE_FEATURES, TablePreparation
from netwright.evaluation import formulas, multilabel
from netwright.seeding import stream

Floats = npt.NDArray[np.float64]
Inputs = dict[str, Tensor]
REPEATS = 5
MOST_ROWS = 2000
MOST_COLUMNS = 100
SECONDS = 5.0
RARE = 0.25  # of two classes the rarer is rare below this share: then ROC-AUC says more than accuracy
KEY = 1 << 20  # of the stream, beyond those of classes


@dataclass(frozen=True)
class Shuffled:
    """A raw column and where it ends up: the input, the axis of its features, and their places along it."""

    column: str
    input: str
    axis: int
    places: tuple[int, ...]


def features_of_columns(module: TablePreparation) -> list[tuple[int, ...]]:
    """Return the places among the prepared features of a table that come from each raw column.

    Example:
        >>> features_of_columns(TablePreparation(["number", "category"], [0, 3], [0], "none", False))
        [(0, 1), (2, 3, 4)]
    """
    found: list[list[int]] = [[] for _ in module.kinds]
    place = 0
    for column, width in (
        *((column, 1) for column in module.plain),
        *((column, len(DATE_FEATURES)) for column in module.dates),
        *((column, 1) for column in module.flagged),
        *((column, 1 if module.codes else module.levels[column]) for column in module.categories),
    ):
        found[column] += range(place, place + width)
        place += width
    return [tuple(places) for places in found]


def main_figure(
    kind: str, true: npt.NDArray[Any], decoded: Floats, headline: str | None = None
) -> tuple[str, Callable[[Floats], float]]:
    """Return the name of the figure whose drop is told, and the function that gives it, larger is better.

    That of the headline, where the test has one. Else of two classes of which one is rare (below a quarter) ROC-AUC; of other
    classes accuracy; of labels F1 over all of them; of numbers RMSE, the mean over the outputs, with a minus.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        decoded: Probabilities, scores or values ``(rows, ...)``.
        headline: The figure that the test names first, see `netwright.evaluation.balance.headline`.

    Example:
        >>> main_figure("multiclass", np.array([0, 0, 0, 1, 2]), np.eye(3)[[0, 0, 0, 1, 1]], "balanced_accuracy")[0]
        'balanced_accuracy'
    """
    if kind == "regression":
        return "rmse", lambda found: -formulas.rmse(true, found)
    if kind == "multilabel":
        return "f1_micro", lambda found: multilabel.epoch_figures(true, found)["f1_micro"]
    if headline == "balanced_accuracy":
        return headline, lambda found: formulas.balanced_accuracy(true, found.argmax(axis=1))
    both = decoded.shape[1] == 2 and len(np.unique(true)) == 2
    if headline == "average_precision" and both:
        return headline, lambda found: formulas.average_precision(true == 1, found[:, 1])
    if headline == "roc_auc" and both:
        return headline, lambda found: formulas.area_under_curve(true == 1, found[:, 1])
    if decoded.shape[1] == 2 and 0 < min(share := float(np.mean(true == 1)), 1 - share) < RARE:
        return "roc_auc", lambda found: formulas.area_under_curve(true == 1, found[:, 1])
    return "accuracy", lambda found: float(np.mean(found.argmax(axis=1) == true))


def drawn_rows(rows: int, most: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the places of at most so many rows, drawn by the seed, sorted."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(stream(seed, "resampling", KEY).permutation(rows)[:most])


def permutation_importance(
    inputs: Inputs,
    columns: Sequence[Shuffled],
    decode: Callable[[Inputs], Floats],
    figure: Callable[[Floats], float],
    seed: int = 0,
    seconds: float = SECONDS,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return how much worse a figure gets with each column shuffled, the most important first, and remarks.

    What one raw column became is shuffled together, so the parts of a category stay whole.

    Args:
        inputs: Prepared rows by name, ``(rows, ...)``.
        columns: What is shuffled; of more than 100 the first.
        decode: Gives probabilities, scores or values of prepared rows.
        figure: Of what ``decode`` gives; larger is better.
        seed: Of the shuffling.
        seconds: After which no further column is begun.

    Returns:
        Per column ``value``, the mean over five shuffles, ``low`` and ``high``, the smallest and largest of them.
    """
    remarks = []
    if len(columns) > MOST_COLUMNS:
        remarks.append(f"importance: the first {MOST_COLUMNS} of {len(columns)} columns")
    begun, before = time.perf_counter(), figure(decode(inputs))
    found: list[dict[str, Any]] = []
    for number, column in enumerate(columns[:MOST_COLUMNS]):
        if time.perf_counter() - begun > seconds:
            remarks.append(f"importance: {number} of {len(columns)} columns in {seconds:g} s; the others are left out")
            break
        drops = [before - figure(decode(_shuffled(inputs, column, seed, number, repeat))) for repeat in range(REPEATS)]
        entry = {"value": float(np.mean(drops)), "low": float(min(drops)), "high": float(max(drops))}
        found.append({"column": column.column, **entry})
    return sorted(found, key=lambda entry: -entry["value"]), remarks


def _shuffled(inputs: Inputs, column: Shuffled, seed: int, number: int, repeat: int) -> Inputs:
    """Return rows of which one column comes from other rows."""
    values = inputs[column.input]
    order = torch.from_numpy(stream(seed, "resampling", KEY, 1 + number, repeat).permutation(len(values))).to(values.device)
    places = torch.tensor(column.places, dtype=torch.int64, device=values.device)
    others = values.index_select(column.axis, places).index_select(0, order)
    return {**inputs, column.input: values.index_copy(column.axis, places, others)}
