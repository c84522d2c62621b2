"""What weighing or drawing classes did to a test: each class predicted, found and said, and the prior undone. Floor 8."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation import calibration, formulas

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
RARE = 0.2  # share of a class, times the number of classes, below which a target is told of as imbalanced
MOST_OF_ONE = 0.8  # share of the largest class from which accuracy says little
MOST_CLASSES = 50


def is_imbalanced(counts: Sequence[int]) -> bool:
    """Tell whether a class is much rarer than the others, by the train rows of each."""
    total = sum(counts)
    return total > 0 and min(counts) * len(counts) <= RARE * total


def headline(counts: Sequence[int], figures: Collection[str]) -> str | None:
    """Return the figure to read first where one class has most rows; None where that is accuracy.

    From a share of 0.8 of the train rows on, always guessing that class has an accuracy few networks clearly beat. Two classes:
    the average precision where the second is the rare one (Saito and Rehmsmeier, The precision-recall plot is more informative
    than the ROC plot, 2015), else the area under the ROC curve; several classes: balanced accuracy.

    Args:
        counts: The train rows of each class.
        figures: The names of those there are.

    Example:
        >>> headline([950, 50], ["accuracy", "roc_auc", "average_precision"]), headline([60, 40], ["accuracy", "roc_auc"])
        ('average_precision', None)
    """
    if sum(counts) == 0 or max(counts) < MOST_OF_ONE * sum(counts):
        return None
    wanted = "balanced_accuracy" if len(counts) > 2 else "average_precision" if counts[1] < counts[0] else "roc_auc"
    return next((name for name in (wanted, "balanced_accuracy") if name in figures), None)


def class_shares(true: Numbers, decoded: Floats, classes: Sequence[str], probabilities: bool) -> list[dict[str, Any]]:
    """Return for each class its share of the rows, how often it is predicted and found, and how probable it is said to be.

    Args:
        true: Class numbers ``(rows,)``.
        decoded: Probabilities or scores ``(rows, classes)``.
        classes: The classes in words.
        probabilities: Whether ``decoded`` are probabilities.

    Returns:
        The rarest first: ``class``, ``n``, ``share``, ``predicted`` (a share), ``recall``, ``average_precision`` (of the class
        against the rest; its ``share`` is what guessing reaches), and ``mean_probability``.
    """
    guess, size = decoded.argmax(axis=1), len(classes)
    actual, predicted = np.bincount(true, minlength=size), np.bincount(guess, minlength=size)
    hits = np.bincount(true[true == guess], minlength=size)
    found: list[dict[str, Any]] = []
    for place in np.argsort(actual, kind="stable")[:MOST_CLASSES].tolist():
        if not actual[place]:
            continue
        entry = {
            "class": classes[place],
            "n": int(actual[place]),
            "share": float(actual[place] / len(true)),
            "predicted": float(predicted[place] / len(true)),
            "recall": float(hits[place] / actual[place]),
            "average_precision": formulas.average_precision(true == place, decoded[:, place]),
        }
        if probabilities:
            entry["mean_probability"] = float(decoded[:, place].mean())
        found.append(entry)
    return found


def without_factors(probabilities: Floats, factors: Floats) -> Floats:
    """Return probabilities as they were without the factors by which the odds of the classes were raised.

    A network trained with a class counted ``w`` times learns odds that are ``w`` times as high; dividing by them and
    normalising gives those of the data (Elkan, "The foundations of cost-sensitive learning", 2001, theorem 2; Saerens,
    Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", 2002).

    Args:
        probabilities: ``(rows, classes)``.
        factors: Of each class, above 0 ``(classes,)``.

    Example:
        >>> without_factors(np.array([[0.5, 0.5]]), np.array([1.0, 9.0])).round(3).tolist()
        [[0.9, 0.1]]
    """
    parts = probabilities / factors
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def prior_undone(true: Numbers, probabilities: Floats, factors: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Return how good the probabilities are as chances, as they come and with the factors undone.

    Args:
        true: Class numbers ``(rows,)``.
        probabilities: ``(rows, classes)``.
        factors: Of each class, above 0 ``(classes,)``.
        classes: The classes in words.

    Returns:
        ``factors`` and ``mean_probability`` by class; ``log_loss``, ``brier`` and ``accuracy`` each with ``before``, ``after``.
    """
    undone = without_factors(probabilities, factors)
    figures: dict[str, dict[str, float]] = {"log_loss": {}, "brier": {}, "accuracy": {}}
    for when, part in (("before", probabilities), ("after", undone)):
        said = part[np.arange(len(true)), true]
        figures["log_loss"][when] = float(-np.log(np.maximum(said, calibration.SMALLEST)).mean())
        figures["brier"][when] = calibration.brier_score(true, part)
        figures["accuracy"][when] = float((part.argmax(axis=1) == true).mean())
    scaled = factors / factors.min()
    return {
        "factors": {name: float(value) for name, value in zip(classes, scaled, strict=True)},
        "mean_probability": {name: float(value) for name, value in zip(classes, undone.mean(axis=0), strict=True)},
        **figures,
    }
