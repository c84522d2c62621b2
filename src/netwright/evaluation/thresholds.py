"""From which probability on the second of two classes is said: chosen on some rows, told on others. Floor 8."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
Counts = Mapping[str, Floats]


def _counted(hits: Floats, false: Floats, positives: int, rows: int) -> dict[str, Floats]:
    """Return the figures of rows of which some are said to be of the second class; shares of nothing are 0.

    Args:
        hits: How many of those said are.
        false: How many of those said are not.
        positives: Rows of the second class.
        rows: All rows.
    """
    negatives = rows - positives
    said = hits + false
    recall = hits / max(positives, 1)
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    return {
        "accuracy": (hits + negatives - false) / max(rows, 1),
        "balanced_accuracy": (recall + (negatives - false) / max(negatives, 1)) / 2,
        "f1": np.divide(2 * hits, said + positives, out=np.zeros_like(hits), where=said + positives > 0),
        "precision": precision,
        "recall": recall,
    }


def decision_figures(positive: Truths, said: Truths) -> dict[str, float]:
    """Return accuracy, balanced accuracy, and F1, precision and recall of the second class.

    Args:
        positive: Which rows are of the second class, ``(rows,)``.
        said: Which are said to be, ``(rows,)``.
    """
    hits, false = float((positive & said).sum()), float((~positive & said).sum())
    found = _counted(np.array([hits]), np.array([false]), int(positive.sum()), len(positive))
    return {name: float(values[0]) for name, values in found.items()}


def choose_threshold(positive: Truths, probability: Floats, figure: str) -> float:
    """Return the threshold with the best figure: rows with at least so much are said to be of the second class.

    Candidates lie halfway between neighbouring probabilities, so rows a little off fall on the same side; of equally good
    ones the nearest to 0.5 is taken.

    Args:
        positive: Which rows are of the second class, ``(rows,)``; both classes are present.
        probability: Of the second class, ``(rows,)``.
        figure: ``f1``, ``balanced_accuracy`` or ``accuracy``.

    Example:
        >>> choose_threshold(np.array([False, False, True, True]), np.array([0.1, 0.2, 0.3, 0.9]), "f1")
        0.25
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last = np.concatenate([np.flatnonzero(np.diff(ranked)), [len(ranked) - 1]])  # of equal ones: all or none are said
    hits = np.concatenate([[0.0], np.cumsum(positive[order], dtype=np.float64)[last]])
    said = np.concatenate([[0.0], last + 1.0])
    upper, lower = np.concatenate([[1.0], ranked[last]]), np.concatenate([ranked[last], [0.0]])
    middle = (upper + lower) / 2
    candidates = np.where(middle > lower, middle, upper)
    figures = _counted(hits, said - hits, int(positive.sum()), len(positive))[figure]
    if ranked[0] >= 1.0:
        figures[0] = -np.inf  # no threshold up to 1 leaves out a probability of 1
    best = np.flatnonzero(figures >= figures.max() - 1e-12)
    return float(candidates[best[np.abs(candidates[best] - 0.5).argmin()]])
