"""Figures of classes and values with NumPy alone, with the bits of scikit-learn, whose import takes longer than a small run.

The steps are those of scikit-learn, in its order; `tests/evaluation` compares them. Printed by eject. Floor 8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


def balanced_accuracy(true: Numbers, guess: Numbers) -> float:
    """Return the mean share of right guesses over the classes that are present."""
    hits, actual, _ = _counts(true, guess)
    return float(np.mean((hits[actual > 0]) / actual[actual > 0]))


def f1_of_each(true: Numbers, guess: Numbers) -> Floats:
    """Return the F1 of each class, NaN where it is neither present nor guessed."""
    hits, actual, guessed = _counts(true, guess)
    found = np.full(len(hits), np.nan)
    np.divide(2.0 * hits, actual + guessed, out=found, where=actual + guessed > 0)
    return found


def _counts(true: Numbers, guess: Numbers) -> tuple[Floats, Floats, Floats]:
    """Return the right guesses of each class, its rows, and its guesses."""
    size = int(max(true.max(), guess.max(), 1)) + 1
    counted = (true[true == guess], true, guess)
    hits, actual, guessed = (np.bincount(numbers, minlength=size).astype(np.float64) for numbers in counted)
    return hits, actual, guessed


def _curve(positive: Truths, scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positives at each different score, from the highest."""
    order = np.argsort(-scores, kind="stable")
    places = np.concatenate([np.flatnonzero(np.diff(scores[order])), [len(scores) - 1]])
    hits = np.cumsum(positive[order], dtype=np.float64)[places]
    return 1 + places.astype(np.float64) - hits, hits


def area_under_curve(positive: Truths, scores: Floats) -> float:
    """Return the area under the ROC curve by trapezoids between the corners of the curve; both classes are present."""
    misses, hits = _curve(positive, scores)
    if len(misses) > 2:
        corners = np.concatenate([[True], np.logical_or(np.diff(misses, 2), np.diff(hits, 2)), [True]])
        misses, hits = misses[corners], hits[corners]
    x = np.concatenate([[0.0], misses]) / misses[-1]
    y = np.concatenate([[0.0], hits]) / hits[-1]
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2.0).sum())


def average_precision(positive: Truths, scores: Floats) -> float:
    """Return the mean precision over the steps of recall; a positive row is present."""
    misses, hits = _curve(positive, scores)
    precision = np.concatenate([(hits / (hits + misses))[::-1], [1.0]])
    recall = np.concatenate([(hits / hits[-1])[::-1], [0.0]])
    return float(max(0.0, -np.sum(np.diff(recall) * precision[:-1])))


def f1(hits: Any, mentioned: Any) -> Any:
    """Return 2 hits / mentions; 0 where nothing is mentioned, as scikit-learn with ``zero_division=0``."""
    return np.where(mentioned > 0, 2.0 * hits / np.maximum(mentioned, 1), 0.0)


def label_figures(true: Numbers, guess: Numbers) -> dict[str, float]:
    """Return F1 over all labels, the mean F1 of the labels, and the share of rows with all labels right.

    Args:
        true: 0 and 1, ``(rows, labels)``.
        guess: Likewise.
    """
    hits, mentioned = (true * guess).sum(axis=0), (true + guess).sum(axis=0)
    return {
        "f1_micro": float(f1(hits.sum(), mentioned.sum())),
        "f1_macro": float(f1(hits, mentioned).mean()),
        "subset_accuracy": float((guess == true).all(axis=1).mean()),
    }


def rmse(true: Floats, predicted: Floats) -> float:
    """Return the root of the mean squared error, the mean over the outputs."""
    return float(np.average(np.sqrt(np.average((true - predicted) ** 2, axis=0))))


def mae(true: Floats, predicted: Floats) -> float:
    """Return the mean absolute error, the mean over the outputs."""
    return float(np.average(np.average(np.abs(predicted - true), axis=0)))


def r2(true: Floats, predicted: Floats) -> float:
    """Return the share of the variance that is explained, the mean over the outputs; of constant values 1 if right, else 0."""
    left = np.sum((true - predicted) ** 2, axis=0)
    whole = np.sum((true - np.average(true, axis=0)) ** 2, axis=0)
    found = np.where(left == 0, 1.0, 0.0)
    np.divide(left, whole, out=found, where=(whole != 0) & (left != 0))
    return float(np.average(np.where((whole != 0) & (left != 0), 1 - found, found)))
