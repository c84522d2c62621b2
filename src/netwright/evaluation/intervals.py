"""95 % intervals of test figures by the percentile bootstrap over rows, vectorised over the resamples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Floor 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.seeding import stream

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
AT_A_TIME = 20_000_000  # numbers of resampling weights held at once


def _weights(rows: int, seed: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, ``(resamples, rows)``, in blocks that fit into memory."""
    generator = stream(seed, "resampling")
    block = max(1, min(RESAMPLES, AT_A_TIME // max(rows, 1)))
    done = 0
    while done < RESAMPLES:
        count = min(block, RESAMPLES - done)
        drawn = generator.integers(0, rows, size=(count, rows))
        drawn += np.arange(count)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)
        done += count


def _bounds(parts: list[dict[str, Floats]]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        values = values[np.isfinite(values)]
        if len(values) > RESAMPLES // 2:
            low, high = np.quantile(values, (0.025, 0.975))
            found[name] = (float(low), float(high))
    return found


def class_intervals(
    true: npt.NDArray[np.int64], decoded: Floats, names: list[str], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return (low, high) of classification figures.

    Args:
        true: Class numbers ``(rows,)``.
        decoded: Probabilities or scores ``(rows, classes)``.
        names: The figures wanted, of `netwright.evaluation.metrics.class_figures`.
        seed: Of the resampling.
    """
    guess = decoded.argmax(axis=1)
    classes = decoded.shape[1]
    truth, guessed = np.eye(classes)[true], np.eye(classes)[guess]
    ranked = _ranked(true, decoded) if "roc_auc" in names else []
    parts = []
    for weights in _weights(len(true), seed):
        actual, predicted = weights @ truth, weights @ guessed
        hits = weights @ (truth * guessed)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / actual
            f1 = np.where(actual + predicted > 0, 2 * hits / (actual + predicted), np.nan)
        figures = {
            "accuracy": hits.sum(1) / len(true),
            "balanced_accuracy": np.nanmean(recall, axis=1),
            "f1_macro": np.nanmean(f1, axis=1),
            "f1": f1[:, -1],
        }
        if ranked:
            figures["roc_auc"] = np.mean([_areas(weights, *one) for one in ranked], axis=0)
        parts.append({name: figures[name] for name in names if name in figures})
    return _bounds(parts)


def _ranked(true: npt.NDArray[np.int64], decoded: Floats) -> list[tuple[Any, Any, Any]]:
    """Return (order, starts of equal scores, positives in that order) of each one-against-the-rest curve."""
    labels = [1] if decoded.shape[1] == 2 else [int(label) for label in np.unique(true)]
    found = []
    for label in labels:
        order = np.argsort(decoded[:, label], kind="stable")
        ordered = decoded[order, label]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(ordered) > 0]))
        found.append((order, starts, (true == label)[order]))
    return found


def _areas(weights: Floats, order: Any, starts: Any, positive: Any) -> Floats:
    """Return the area under the ROC curve of each resample; ties count half."""
    sorted_weights = weights[:, order]
    hit = np.add.reduceat(np.where(positive, sorted_weights, 0.0), starts, axis=1)
    miss = np.add.reduceat(np.where(positive, 0.0, sorted_weights), starts, axis=1)
    below = np.cumsum(miss, axis=1) - miss
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: Floats = (hit * (below + miss / 2)).sum(1) / (hit.sum(1) * miss.sum(1))
    return areas


def value_intervals(true: Floats, predicted: Floats, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return (low, high) of RMSE, MAE and R2.

    Args:
        true: Values ``(rows, outputs)``.
        predicted: Likewise.
        seed: Of the resampling.
    """
    error = predicted - true
    square, absolute = (error**2).mean(1), np.abs(error).mean(1)
    parts = []
    for weights in _weights(len(true), seed):
        mean = weights @ true / len(true)
        spread = weights @ true**2 / len(true) - mean**2
        residual = weights @ error**2 / len(true)
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = (1 - residual / spread).mean(1)
        parts.append({"rmse": np.sqrt(weights @ square / len(true)), "mae": weights @ absolute / len(true), "r2": r2})
    return _bounds(parts)
