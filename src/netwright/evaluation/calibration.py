"""How far probabilities can be believed: reliability bins, calibration error, Brier score, temperature scaling. Floor 8.

Bins have equal width, ten of them, as in Guo and others, On calibration of modern neural networks (2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]

BINS = 10
COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are tried
SMALLEST = 1e-300  # probabilities below it have the logarithm of it


def reliability(probability: Floats, happened: Truths, bins: int = BINS) -> list[dict[str, Any]]:
    """Return how often something happened where it was said to, in bins of equal width.

    Args:
        probability: What was said, from 0 to 1, ``(rows,)``.
        happened: What came, ``(rows,)``.
        bins: How many. A probability on an edge counts to the bin below it, and 0 to the first.

    Returns:
        Per bin that holds rows: its edges ``low`` and ``high``, ``mean`` of the probabilities, the share ``observed``, ``n``.

    Example:
        >>> reliability(np.array([0.05, 0.95, 0.95]), np.array([False, True, False]))[1]
        {'low': 0.9, 'high': 1.0, 'mean': 0.95, 'observed': 0.5, 'n': 2}
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    said, came = (
        np.bincount(place, weights=values, minlength=bins) for values in (probability, happened.astype(np.float64))
    )
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "mean": float(said[number] / counts[number]),
            "observed": float(came[number] / counts[number]),
            "n": int(counts[number]),
        }
        for number in np.flatnonzero(counts).tolist()
    ]


def calibration_error(bins: list[dict[str, Any]]) -> float:
    """Return the expected calibration error: the mean distance of said and observed shares, weighted by the rows of the bins.

    Example:
        >>> calibration_error([{"mean": 0.9, "observed": 0.5, "n": 3}, {"mean": 0.1, "observed": 0.1, "n": 1}])
        0.30000000000000004
    """
    total = sum(part["n"] for part in bins)
    return float(sum(abs(part["mean"] - part["observed"]) * part["n"] for part in bins) / max(total, 1))


def brier_score(true: npt.NDArray[Any], probabilities: Floats) -> float:
    """Return the mean squared error of probabilities (Brier 1950).

    Of two classes that of the second, as scikit-learn; of several the sum over the classes, from 0 to 2, as Brier wrote it
    and as scikit-learn gives it with ``scale_by_half=False``; of labels the mean over the labels.

    Args:
        true: Class numbers ``(rows,)``, or 0 and 1 ``(rows, labels)``.
        probabilities: ``(rows, classes)``, or ``(rows, labels)``.
    """
    if true.ndim == 2:
        return float(np.mean((probabilities - true) ** 2))
    if probabilities.shape[1] == 2:
        return float(np.mean((probabilities[:, 1] - true) ** 2))
    present = probabilities[np.arange(len(true)), true]
    return float(np.mean((probabilities**2).sum(axis=1) - 2 * present + 1))


def said_and_came(true: npt.NDArray[Any], probabilities: Floats) -> tuple[Floats, Truths]:
    """Return the probabilities that are held against what came: of the second of two classes, of the predicted one of several.

    Of labels those of all of them, row after row.
    """
    if true.ndim == 2:
        return probabilities.ravel(), true.ravel() == 1
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], true == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == true


def log_loss(true: npt.NDArray[Any], logits: Floats, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of logits that are divided by a temperature.

    Args:
        true: Class numbers ``(rows,)``, or 0 and 1 ``(rows, labels)``.
        logits: ``(rows, classes)`` of classes; ``(rows, 1)`` of the second of two; ``(rows, labels)``.
        temperature: Above 0.
    """
    scaled = logits / temperature
    if true.ndim == 2 or scaled.shape[1] == 1:
        answer = true.reshape(scaled.shape)
        return float(np.mean(np.logaddexp(0.0, np.where(answer == 1, -scaled, scaled))))
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(true)), true]))


def fit_temperature(true: npt.NDArray[Any], logits: Floats) -> float:
    """Return the temperature for which logits have the smallest negative log-likelihood (Guo and others 2017).

    The likelihood is concave in the reciprocal of the temperature, so there is one optimum; it is sought on the logarithm
    between 0.02 and 50.

    Args:
        true: As for `log_loss`.
        logits: As for `log_loss`, of rows that did not train.

    Returns:
        The temperature: above 1 where the probabilities were too sure.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda logarithm: log_loss(true, logits, float(np.exp(logarithm))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def logits_of(probabilities: Floats, form: str) -> Floats:
    """Return logits that give probabilities, as `log_loss` reads them.

    Args:
        probabilities: ``(rows, classes)`` or ``(rows, labels)``.
        form: ``softmax``, ``sigmoid`` or ``sigmoids``, see `netwright.model.task.Decoding`.
    """
    if form == "softmax":
        return np.log(np.maximum(probabilities, SMALLEST))
    yes, no = (probabilities[:, 1:], probabilities[:, :1]) if form == "sigmoid" else (probabilities, 1.0 - probabilities)
    return np.asarray(np.log(np.maximum(yes, SMALLEST)) - np.log(np.maximum(no, SMALLEST)))


def calibration_table(true: npt.NDArray[Any], probabilities: Floats, classes: list[str]) -> dict[str, Any]:
    """Return the reliability bins, their calibration error and the Brier score, and of what.

    Args:
        true: Class numbers ``(rows,)``, or 0 and 1 ``(rows, labels)``.
        probabilities: ``(rows, classes)`` or ``(rows, labels)``.
        classes: The classes or labels in words.
    """
    bins = reliability(*said_and_came(true, probabilities))
    of = f"class {classes[1]!r}" if len(classes) == 2 else "the predicted class"
    return {
        "of": "all labels together" if true.ndim == 2 else of,
        "ece": calibration_error(bins),
        "brier": brier_score(true, probabilities),
        "bins": bins,
    }
