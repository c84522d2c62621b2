"""95 % intervals of test figures.

Accuracy by Wilson's formula (1927); the other figures by the percentile bootstrap over rows (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13). What depends only on counts is resampled as counts, so the cost does
not grow with the rows. Of predictions per step whole rows are drawn, for the steps of a row are alike (Field and Welsh,
Bootstrapping clustered data, 2007). Figures that too few rows carry get no interval. Floor 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.seeding import stream

Floats = npt.NDArray[np.float64]
Lengths = npt.NDArray[np.int64]
Bounds = dict[str, tuple[float, float]]
RESAMPLES = 1000
AT_A_TIME = 10_000_000  # numbers held at once
FEWEST_OF_A_CLASS = 5
FEWEST_ROWS = 10
SCORE_BINS = 2000  # a ROC curve of more different scores is resampled on so many
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
    true: npt.NDArray[np.int64], decoded: Floats, names: Sequence[str], lengths: Lengths | None = None, seed: int = 0
) -> Bounds:
    """Return (low, high) of classification figures.

    Args:
        true: Class numbers ``(rows,)``, or of all steps of the rows one after the other.
        decoded: Probabilities or scores ``(rows, classes)``, likewise.
        names: The figures wanted, of `netwright.evaluation.metrics.class_figures`.
        lengths: Steps of each row where a value per step is predicted.
        seed: Of the resampling.

    Returns:
        Intervals; beside accuracy only where every class that is present has at least five rows; per step accuracy alone.
    """
    if lengths is not None:
        hits = true == decoded.argmax(axis=1)
        return _bounds(list(_means({"accuracy": hits[:, None].astype(np.float64)}, lengths, seed)), names)
    classes = decoded.shape[1]
    matrix = np.bincount(true * classes + decoded.argmax(axis=1), minlength=classes**2).reshape(classes, classes)
    found = {"accuracy": wilson(int(matrix.trace()), len(true))}
    counts = matrix.sum(axis=1)
    if counts[counts > 0].min() < FEWEST_OF_A_CLASS:
        return found
    found |= _bounds(list(_confusion_figures(matrix, seed)), names)
    if "roc_auc" in names:
        curves = [label for label in ([1] if classes == 2 else range(classes)) if counts[label]]
        drawn = [_curves(true == label, decoded[:, label], stream(seed, "resampling", label)) for label in curves]
        areas = np.mean([area for area, _ in drawn], axis=0)
        found |= _bounds([{"roc_auc": areas, "average_precision": drawn[0][1]}], names)
    return found


def _confusion_figures(matrix: npt.NDArray[Any], seed: int) -> Iterator[dict[str, Floats]]:
    """Yield figures of resampled confusion matrices, in blocks that fit into memory."""
    classes, rows = len(matrix), int(matrix.sum())
    generator = stream(seed, "resampling")
    present = matrix.sum(axis=1) + matrix.sum(axis=0) > 0
    block = max(1, min(RESAMPLES, AT_A_TIME // classes**2))
    for start in range(0, RESAMPLES, block):
        drawn = generator.multinomial(rows, matrix.ravel() / rows, size=min(block, RESAMPLES - start))
        drawn = drawn.reshape(-1, classes, classes)
        hits = np.diagonal(drawn, axis1=1, axis2=2).astype(np.float64)
        actual, predicted = drawn.sum(axis=2), drawn.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / actual
            f1 = np.where(actual + predicted > 0, 2 * hits / (actual + predicted), 0.0)
        yield {
            "balanced_accuracy": np.nanmean(recall[:, matrix.sum(axis=1) > 0], axis=1),
            "f1_macro": f1[:, present].mean(axis=1),
            "f1": f1[:, -1],
        }


def _curves(positive: npt.NDArray[np.bool_], scores: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve and the average precision of each resample; in the area equal scores count half."""
    distinct = np.unique(scores)
    if len(distinct) > SCORE_BINS:
        edges = np.unique(np.quantile(scores, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
        places = np.searchsorted(edges, scores, side="right")
    else:
        places = np.searchsorted(distinct, scores)
    bins = int(places.max()) + 1
    counts = np.bincount(places * 2 + positive, minlength=2 * bins)
    drawn = generator.multinomial(len(scores), counts / len(scores), size=RESAMPLES).reshape(RESAMPLES, bins, 2)
    miss, hit = drawn[..., 0].astype(np.float64), drawn[..., 1].astype(np.float64)
    below = np.cumsum(miss, axis=1) - miss
    hits, misses = hit.sum(axis=1), miss.sum(axis=1)
    above = np.cumsum(hit[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = (hit * (below + miss / 2)).sum(axis=1) / (hits * misses)
        precision = above / (above + np.cumsum(miss[:, ::-1], axis=1)[:, ::-1])
        averages = np.where(hit > 0, hit * precision, 0.0).sum(axis=1) / hits
    return areas, averages


def value_intervals(
    true: Floats, predicted: Floats, rates: bool = False, lengths: Lengths | None = None, seed: int = 0
) -> Bounds:
    """Return (low, high) of RMSE, MAE, R2 and the mean Poisson deviance; nothing below ten rows.

    Args:
        true: Values ``(rows, outputs)``, or of all steps of the rows one after the other.
        predicted: Likewise.
        rates: Whether counts are predicted.
        lengths: Steps of each row where a value per step is predicted.
        seed: Of the resampling.
    """
    error = predicted - true
    centred = true - true.mean(axis=0)  # sums of squares far from 0 would lose their digits
    values = {"square": error**2, "absolute": np.abs(error), "spread": centred**2, "centre": centred}
    if rates and (predicted > 0).all():
        values["deviance"] = _deviance(true, predicted)
    parts = []
    for mean in _means(values, lengths, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = 1 - mean["square"] / (mean["spread"] - mean["centre"] ** 2)
        part = {"rmse": np.sqrt(mean["square"]), "mae": mean["absolute"], "r2": r2}
        parts.append(part if "deviance" not in mean else {**part, "mean_poisson_deviance": mean["deviance"]})
    return _bounds(
        [{name: found.mean(axis=1) for name, found in part.items()} for part in parts],
        ("rmse", "mae", "r2", "mean_poisson_deviance"),
    )


def _deviance(true: Floats, predicted: Floats) -> Floats:
    """Return the Poisson deviance of each value, ``(rows, outputs)``."""
    logarithm = np.log(np.where(true > 0, true, 1.0) / predicted)
    deviance: Floats = 2 * (np.where(true > 0, true * logarithm, 0.0) - true + predicted)
    return deviance


def _means(values: dict[str, Floats], lengths: Lengths | None, seed: int) -> Iterator[dict[str, Floats]]:
    """Yield the means ``(resamples, outputs)`` of values over resampled rows, in blocks that fit into memory."""
    counts = np.ones(len(next(iter(values.values()))), np.int64) if lengths is None else lengths[lengths > 0]
    rows = len(counts)
    if rows < FEWEST_ROWS:
        return
    starts = np.cumsum(counts) - counts
    sums = {name: np.add.reduceat(found, starts) for name, found in values.items()}
    generator = stream(seed, "resampling")
    block = max(1, min(RESAMPLES, AT_A_TIME // rows))
    for start in range(0, RESAMPLES, block):
        drawn = _row_counts(generator, rows, min(block, RESAMPLES - start))
        total = (drawn @ counts)[:, None]
        yield {name: drawn @ found / total for name, found in sums.items()}


def _row_counts(generator: np.random.Generator, rows: int, resamples: int) -> Floats:
    """Return how often each row is drawn, ``(resamples, rows)``."""
    drawn = generator.integers(0, rows, size=(resamples, rows))
    drawn += np.arange(resamples)[:, None] * rows
    return np.bincount(drawn.ravel(), minlength=resamples * rows).reshape(resamples, rows).astype(np.float64)


def _bounds(parts: list[dict[str, Floats]], names: Sequence[str]) -> Bounds:
    """Return the 2.5 and 97.5 % quantiles of the figures wanted; a figure that never varies gets no interval."""
    found = {}
    for name in parts[0] if parts else ():
        values = np.concatenate([part[name] for part in parts])
        values = values[np.isfinite(values)]
        if name in names and len(values) > RESAMPLES // 2:
            low, high = (float(bound) for bound in np.quantile(values, (0.025, 0.975)))
            if low < high:
                found[name] = (low, high)
    return found
