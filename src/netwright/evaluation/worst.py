"""The rows on which a network is most wrong, and what it says of them. Floor 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.model.decisions import decide_each
from netwright.numerals import figure

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
LEAST = 1e-300  # probabilities below it have the logarithm of it
MOST_STEPS = 24  # told of a row with a prediction per step
NOTHING = "(none)"


def worst_rows(kind: str, true: npt.NDArray[Any], decoded: Floats, lengths: Numbers | None = None) -> Numbers:
    """Return the places of the rows that are wrong, the worst first.

    Classes: misclassified rows by the probability of the true class, the smallest first (of scores by how far it lies below
    the largest). Numbers: by the absolute error, of several outputs the largest in units of the spread of each. Labels: by the
    number of wrong labels, then by the log loss. With a value per step: by the mean over the steps of a row, of wrong steps
    and then of the log loss, or of the absolute error.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)``, values ``(rows, outputs)``; or of all steps, row after row.
        decoded: Probabilities, scores or values ``(rows, ...)``, likewise.
        lengths: Steps of each row where there is a value per step.

    Example:
        >>> worst_rows("regression", np.zeros((3, 1)), np.array([[1.0], [-4.0], [0.0]])).tolist()
        [1, 0]
    """
    if kind == "regression":
        first = np.abs(scaled_error(true, decoded)).max(axis=1)
        second = np.zeros_like(first)
    elif kind == "multilabel":
        first = (decide_each(decoded) != true).sum(axis=1).astype(np.float64)
        present = np.where(true == 1, decoded, 1.0 - decoded)
        second = -np.log(np.maximum(present, LEAST)).sum(axis=1)
    else:
        place = np.arange(len(true))
        first = (decoded.argmax(axis=1) != true).astype(np.float64)
        sure = decoded[place, true]
        whole = bool((decoded >= 0).all()) and bool(np.allclose(decoded.sum(axis=1), 1.0, atol=1e-3))
        second = -np.log(np.maximum(sure, LEAST)) if whole else decoded.max(axis=1) - sure
    if lengths is not None:
        first, second = _by_row(first, lengths), _by_row(second, lengths)
    order = np.lexsort((-second, -first))
    return np.asarray(order[first[order] > 0], dtype=np.int64)


def scaled_error(true: Floats, predicted: Floats) -> Floats:
    """Return errors ``(rows, outputs)``, of several outputs each in units of its own deviation."""
    error = np.asarray(predicted - true)
    if error.shape[1] == 1:
        return error
    spread = true.std(axis=0)
    return np.asarray(error / np.where(spread > 0, spread, 1.0))


def _by_row(values: Floats, lengths: Numbers) -> Floats:
    """Return the mean over the steps of each row; 0 of a row without steps."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(owner, weights=values, minlength=len(lengths)) / np.maximum(lengths, 1)


def told_of_row(kind: str, true: Any, decoded: Floats, names: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Return what is true of one row, what is predicted, and how far off that is.

    Args:
        kind: The task.
        true: Its class number, 0 and 1 ``(labels,)`` or values ``(outputs,)``.
        decoded: Its probabilities, scores or values ``(...,)``.
        names: The target columns.
        classes: The classes or labels in words; empty for a regression.

    Returns:
        ``true``, ``predicted``; of classes ``probability`` and ``probability_of_true``, of numbers ``error``, of labels
        ``wrong_labels``. Several labels or numbers are one text.
    """
    if kind == "regression":
        if len(decoded) == 1:
            return {"true": float(true[0]), "predicted": float(decoded[0]), "error": float(decoded[0] - true[0])}
        return {"true": _numbers_told(names, true), "predicted": _numbers_told(names, decoded)}
    if kind == "multilabel":
        guess = decide_each(decoded)
        told = {"true": _labels_told(classes, true), "predicted": _labels_told(classes, guess)}
        return {**told, "wrong_labels": int((guess != true).sum())}
    place = int(decoded.argmax())
    found: dict[str, Any] = {"true": classes[int(true)], "predicted": classes[place]}
    if decoded.min() >= 0 and decoded.max() <= 1:
        found |= {"probability": float(decoded[place]), "probability_of_true": float(decoded[int(true)])}
    return found


def told_of_steps(kind: str, true: npt.NDArray[Any], decoded: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Return the same of a row with a value per step, its first steps in words.

    Args:
        kind: The task.
        true: Class numbers ``(steps,)`` or values ``(steps, outputs)``.
        decoded: Probabilities or values ``(steps, ...)``.
        classes: The classes in words; empty for a regression.

    Returns:
        ``true``, ``predicted``, ``steps``, and ``wrong_steps`` or ``error``, the mean absolute error.
    """
    if kind == "regression":
        said = [", ".join(figure(value) for value in values[:MOST_STEPS, 0]) for values in (true, decoded)]
        return {
            "true": said[0],
            "predicted": said[1],
            "error": float(np.abs(decoded - true).mean()),
            "steps": len(true),
        }
    guess = decoded.argmax(axis=1)
    words = [[classes[place] for place in values[:MOST_STEPS].tolist()] for values in (true, guess)]
    between = "" if all(len(word) == 1 for part in words for word in part) else " "
    said = [between.join(part) for part in words]
    return {"true": said[0], "predicted": said[1], "wrong_steps": int((guess != true).sum()), "steps": len(true)}


def _numbers_told(names: Sequence[str], values: Floats) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in zip(names, values.tolist(), strict=True))


def _labels_told(classes: Sequence[str], values: Numbers) -> str:
    return ", ".join(classes[place] for place in np.flatnonzero(values).tolist()) or NOTHING
