"""95 % intervals of test figures, and of the difference between two models on the same rows.

Accuracy by Wilson's formula (1927) where each row stands for itself; all else by the bootstrap of
`netwright.evaluation.resampling`. Figures that too few rows carry get no interval. Floor 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from netwright.evaluation.resampling import Bounds, Resampled, Summed, bootstrap, joined, resample

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
FEWEST_OF_A_CLASS = 5
FEWEST_ROWS = 10
AREAS = ("roc_auc", "average_precision")
SCORE_BINS = 20_000  # ROC curves of all classes together of more different scores are resampled on so many
NORMAL_QUANTILE = 1.959963984540054


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Return Wilson's interval of a share; it stays honest at 0 and 1.

    Example:
        >>> tuple(round(bound, 3) for bound in wilson(60, 60))
        (0.94, 1.0)
    """
    square = NORMAL_QUANTILE**2
    share = hits / rows
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = NORMAL_QUANTILE * np.sqrt(share * (1 - share) / rows + square / (4 * rows**2)) / (1 + square / rows)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def class_intervals(
    true: Numbers, decoded: Floats, names: Sequence[str], clusters: Numbers | None = None, seed: int = 0
) -> Bounds:
    """Return (low, high) of classification figures.

    Args:
        true: Class numbers ``(rows,)``.
        decoded: Probabilities or scores ``(rows, classes)``.
        names: The figures wanted, of `netwright.evaluation.metrics.class_figures`.
        clusters: The number of the cluster of each row where rows are not drawn alone.
        seed: Of the resampling.

    Returns:
        Intervals; beside accuracy only where every class that is present has at least five rows.
    """
    scores = decoded if set(AREAS) & set(names) else None
    drawn = resample(class_sums(true, decoded.argmax(axis=1), decoded.shape[1], scores), clusters, seed)
    return {name: bounds for name, bounds in class_bounds(true, decoded, drawn, clusters is None).items() if name in names}


def class_bounds(true: Numbers, decoded: Floats, drawn: Resampled, alone: bool) -> Bounds:
    """Return (low, high) of classification figures drawn anew; accuracy by Wilson's formula where rows stand ``alone``."""
    found = drawn.bounds()
    if alone and len(true) >= FEWEST_ROWS:
        found["accuracy"] = wilson(int((true == decoded.argmax(axis=1)).sum()), len(true))
    return carried(true, found)


def carried(true: Numbers, bounds: Bounds) -> Bounds:
    """Return the intervals that the rows carry: beside accuracy only where every class that is present has five rows."""
    counts = np.bincount(true)
    few = counts[counts > 0].min() < FEWEST_OF_A_CLASS
    return {name: found for name, found in bounds.items() if not (few and name != "accuracy")}


def class_sums(true: Numbers, guess: Numbers, classes: int, scores: Floats | None = None) -> Summed:
    """Return classification figures as functions of sums over rows.

    Args:
        true: Class numbers ``(rows,)``.
        guess: Likewise.
        classes: Their number.
        scores: Probabilities ``(rows, classes)`` for the areas under the curves; None leaves those out.
    """
    table = _counted(true, guess, classes)
    present = np.unique(true)
    if scores is None or len(present) < 2:
        return table
    labels = [1] if classes == 2 else [int(label) for label in present]
    bins = max(2, SCORE_BINS // len(labels))
    curves = [_scored(true == label, scores[:, label], bins, f"{label}") for label in labels]
    return _areas(joined([table, *curves]), [f"{label}" for label in labels], classes == 2)


def _areas(table: Summed, labels: Sequence[str], two: bool) -> Summed:
    """Return a table whose areas of each class are joined to their mean; the average precision is of two classes only."""

    def figures(sums: Floats) -> dict[str, Floats]:
        found = table.figures(sums)
        areas = [found.pop(f"area {label}") for label in labels]
        precisions = [found.pop(f"precision {label}") for label in labels]
        return {
            **found,
            "roc_auc": np.mean(areas, axis=0),
            **({"average_precision": precisions[0]} if two else {}),
        }

    return Summed(table.parts, figures)


def _counted(true: Numbers, guess: Numbers, classes: int) -> Summed:
    """Return the figures of a confusion matrix, from the hits, the rows and the guesses of each class."""
    from scipy import sparse

    rows = len(true)
    hits = np.flatnonzero(true == guess)
    places = np.concatenate([hits, np.arange(rows), np.arange(rows)])
    columns = np.concatenate([true[hits], classes + true, 2 * classes + guess])
    parts = sparse.csr_array((np.ones(len(places)), (places, columns)), shape=(rows, 3 * classes))
    actual = np.bincount(true, minlength=classes) > 0
    present = actual | (np.bincount(guess, minlength=classes) > 0)

    def figures(sums: Floats) -> dict[str, Floats]:
        right, there, guessed = sums[:, :classes], sums[:, classes : 2 * classes], sums[:, 2 * classes :]
        f1 = np.divide(2 * right, there + guessed, out=np.zeros_like(right), where=there + guessed > 0)
        recall = np.divide(right, there, out=np.full_like(right, np.nan), where=there > 0)[:, actual]
        known = np.isfinite(recall)
        return {
            "accuracy": right.sum(axis=1) / there.sum(axis=1),
            "balanced_accuracy": np.where(known, recall, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1),
            "f1_macro": f1[:, present].mean(axis=1),
            **({"f1": f1[:, 1]} if classes == 2 else {}),
        }

    return Summed(parts, figures)


def _scored(positive: npt.NDArray[np.bool_], scores: Floats, most: int, label: str) -> Summed:
    """Return the area under the ROC curve, where equal scores count half, and the average precision, from counts of scores."""
    from scipy import sparse

    distinct = np.unique(scores)
    if len(distinct) > most:
        distinct = np.unique(np.quantile(scores, np.linspace(0, 1, most + 1)[1:-1]))
        places = np.searchsorted(distinct, scores, side="right")
    else:
        places = np.searchsorted(distinct, scores)
    bins, rows = int(places.max()) + 1, len(scores)
    parts = sparse.csr_array((np.ones(rows), (np.arange(rows), places + bins * positive)), shape=(rows, 2 * bins))

    def figures(sums: Floats) -> dict[str, Floats]:
        miss, hit = sums[:, :bins], sums[:, bins:]
        below, under = np.cumsum(miss, axis=1) - miss, np.cumsum(hit, axis=1) - hit
        hits, misses = hit.sum(axis=1), miss.sum(axis=1)
        area = (hit * (below + miss / 2)).sum(axis=1) / (hits * misses)
        above = hits[:, None] - under
        seen = above + (misses[:, None] - below)
        average = (hit * above / np.maximum(seen, 1.0)).sum(
            axis=1
        ) / hits  # above the highest that was drawn nothing is seen
        return {f"area {label}": area, f"precision {label}": average}

    return Summed(parts, figures)


def value_intervals(
    true: Floats, predicted: Floats, rates: bool = False, clusters: Numbers | None = None, seed: int = 0
) -> Bounds:
    """Return (low, high) of RMSE, MAE, R2 and the mean Poisson deviance; nothing below ten rows.

    Args:
        true: Values ``(rows, outputs)``.
        predicted: Likewise.
        rates: Whether counts are predicted.
        clusters: See `class_intervals`.
        seed: Of the resampling.
    """
    return bootstrap(value_sums(true, predicted, rates), clusters, seed)


def value_sums(true: Floats, predicted: Floats, rates: bool = False) -> Summed:
    """Return the figures of values as functions of sums over rows; each is the mean over the outputs."""
    error = predicted - true
    centred = true - true.mean(axis=0)  # sums of squares far from 0 would lose their digits
    parts = [error**2, np.abs(error), centred**2, centred, np.ones_like(error)]
    if deviant := rates and bool((predicted > 0).all()):
        parts.append(_deviance(true, predicted))
    outputs = error.shape[1]

    def figures(sums: Floats) -> dict[str, Floats]:
        square, absolute, spread, centre, rows, *more = (
            sums[:, start : start + outputs] for start in range(0, sums.shape[1], outputs)
        )
        r2 = 1 - square / (spread - centre**2 / rows)
        found = {"rmse": np.sqrt(square / rows), "mae": absolute / rows, "r2": r2}
        if deviant:
            found["mean_poisson_deviance"] = more[0] / rows
        return {name: value.mean(axis=1) for name, value in found.items()}

    return Summed(np.concatenate(parts, axis=1), figures)


def mean_interval(values: Floats, clusters: Numbers | None = None, seed: int = 0) -> tuple[float, float] | None:
    """Return (low, high) of the mean of a value per row, such as the loss; None below ten rows.

    Args:
        values: ``(rows,)``.
        clusters: See `class_intervals`.
        seed: Of the resampling.
    """
    parts = np.stack([values, np.ones_like(values)], axis=1)
    return bootstrap(Summed(parts, lambda sums: {"mean": sums[:, 0] / sums[:, 1]}), clusters, seed).get("mean")


def _deviance(true: Floats, predicted: Floats) -> Floats:
    """Return the Poisson deviance of each value, ``(rows, outputs)``."""
    logarithm = np.log(np.where(true > 0, true, 1.0) / predicted)
    deviance: Floats = 2 * (np.where(true > 0, true * logarithm, 0.0) - true + predicted)
    return deviance
