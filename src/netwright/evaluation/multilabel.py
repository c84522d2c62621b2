"""Figures of several labels a row: scikit-learn's by scikit-learn's names, their intervals, a table per label. Floor 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation import formulas
from netwright.evaluation.intervals import FEWEST_OF_A_CLASS, FEWEST_ROWS, NORMAL_QUANTILE, wilson
from netwright.evaluation.resampling import Bounds
from netwright.model.decisions import decide_each

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def epoch_figures(true: Numbers, decoded: Floats) -> dict[str, float]:
    """Return the figures of every epoch's validation: F1 over all labels, the mean F1 of the labels, subset accuracy.

    Args:
        true: 0 and 1, ``(rows, labels)``.
        decoded: The probability of each label, ``(rows, labels)``.
    """
    return formulas.label_figures(true, decide_each(decoded))


def label_figures(true: Numbers, decoded: Floats) -> dict[str, float]:
    """Return F1 (micro and macro), Hamming loss, subset accuracy, and the means over the labels of ROC-AUC and average precision.

    ``subset_accuracy`` is what scikit-learn's ``accuracy_score`` gives for labels: the share of rows with all labels right.
    ROC-AUC and average precision leave out labels that all rows or none have; without any other they are not given.

    Args:
        true: 0 and 1, ``(rows, labels)``.
        decoded: The probability of each label, ``(rows, labels)``.
    """
    from sklearn import metrics

    figures = epoch_figures(true, decoded)
    figures["hamming_loss"] = float((decide_each(decoded) != true).mean())
    both = np.flatnonzero(_varied(true))
    if len(both):
        areas = [metrics.roc_auc_score(true[:, label], decoded[:, label]) for label in both]
        precisions = [metrics.average_precision_score(true[:, label], decoded[:, label]) for label in both]
        figures |= {"roc_auc": float(np.mean(areas)), "average_precision": float(np.mean(precisions))}
    return figures


def _varied(true: Numbers) -> npt.NDArray[np.bool_]:
    """Return which labels some rows have and some have not."""
    return np.asarray((true.min(axis=0) == 0) & (true.max(axis=0) == 1))


def left_out(true: Numbers, labels: Sequence[Any]) -> list[str]:
    """Return a remark about the labels that ROC-AUC and average precision leave out, if there are any."""
    alike = [str(label) for label, varied in zip(labels, _varied(true), strict=True) if not varied]
    if not alike:
        return []
    shown = ", ".join(alike[:6]) + (f" and {len(alike) - 6} more" if len(alike) > 6 else "")
    return [
        f"roc_auc and average_precision are the means over {len(labels) - len(alike)} of {len(labels)} labels: "
        f"all rows or none have {shown}"
    ]


def label_table(true: Numbers, decoded: Floats, labels: Sequence[Any]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support (the rows that have it) of each label."""
    guess = decide_each(decoded)
    hits, actual, predicted = (true * guess).sum(axis=0), true.sum(axis=0), guess.sum(axis=0)
    return [
        {
            "label": label,
            "precision": float(hits[place] / max(predicted[place], 1)),
            "recall": float(hits[place] / max(actual[place], 1)),
            "f1": float(formulas.f1(hits[place], actual[place] + predicted[place])),
            "support": int(actual[place]),
        }
        for place, label in enumerate(labels)
    ]


def label_intervals(true: Numbers, decoded: Floats, names: Sequence[str], clusters: Numbers | None = None) -> Bounds:
    """Return (low, high) of the figures of `label_figures`; nothing below ten rows or clusters.

    Subset accuracy by Wilson's formula where each row stands for itself; the others by the infinitesimal jackknife (Jaeckel
    1972; Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6): the derivative of a figure by the
    weight of each row gives its standard deviation over resamples of rows, exact about how labels hang together and without
    resampling. Means over labels get an interval where each label in them has at least five rows with and without it.

    Args:
        true: 0 and 1, ``(rows, labels)``.
        decoded: The probability of each label, ``(rows, labels)``.
        names: The figures wanted.
        clusters: The number of the cluster of each row where rows are not drawn alone.
    """
    found: Bounds = {}
    for name, (value, derivative) in _moves(true, decoded).items():
        half = _half_width(derivative, clusters)
        if name in names and half:
            found[name] = (max(0.0, value - half), min(1.0, value + half))
    if clusters is None and len(true) >= FEWEST_ROWS:
        found["subset_accuracy"] = wilson(int((decide_each(decoded) == true).all(axis=1).sum()), len(true))
    return found


def paired_label_intervals(true: Numbers, one: Floats, others: Sequence[Floats], clusters: Numbers | None = None) -> Bounds:
    """Return (low, high) of one model's figures less the mean of those of others on the same rows; see `label_intervals`."""
    left, rights = _moves(true, one), [_moves(true, other) for other in others]
    found: Bounds = {}
    for name in left:
        if all(name in right for right in rights):
            half = _half_width(left[name][1] - np.mean([right[name][1] for right in rights], axis=0), clusters)
            gap = left[name][0] - float(np.mean([right[name][0] for right in rights]))
            found |= {name: (gap - half, gap + half)} if half else {}
    return found


def _half_width(derivative: Floats, clusters: Numbers | None) -> float:
    """Return half the width of a 95 % interval; 0 where too few rows or clusters carry it."""
    if clusters is not None:
        codes = np.unique(clusters, return_inverse=True)[1]
        derivative = np.asarray(np.bincount(codes, weights=derivative), dtype=np.float64)
    return NORMAL_QUANTILE * float(np.sqrt((derivative**2).sum())) if len(derivative) >= FEWEST_ROWS else 0.0


def _moves(true: Numbers, decoded: Floats) -> dict[str, tuple[float, Floats]]:
    """Return each figure with its derivative by the weight of each row, ``(rows,)``."""
    rows, guess, both = len(true), decide_each(decoded), np.flatnonzero(_varied(true))
    right = (guess == true).all(axis=1).astype(np.float64)
    wrong = (guess != true).mean(axis=1)
    moves = {
        "subset_accuracy": (float(right.mean()), (right - right.mean()) / rows),
        "hamming_loss": (float(wrong.mean()), (wrong - wrong.mean()) / rows),
    }
    hits, mentioned = true * guess, true + guess
    if mentioned.sum() > 0:
        share = 2 * hits.sum() / mentioned.sum()
        moves["f1_micro"] = (float(share), (2 * hits.sum(axis=1) - share * mentioned.sum(axis=1)) / mentioned.sum())
    counts = np.minimum(true.sum(axis=0), rows - true.sum(axis=0))
    if counts.min() >= FEWEST_OF_A_CLASS:
        each = formulas.f1(hits.sum(axis=0), mentioned.sum(axis=0))
        moves["f1_macro"] = (float(each.mean()), ((2 * hits - each * mentioned) / mentioned.sum(axis=0)).mean(axis=1))
    if len(both) and counts[both].min() >= FEWEST_OF_A_CLASS:
        for name, moved in (("roc_auc", _area_moves), ("average_precision", _precision_moves)):
            parts = [moved(true[:, label], decoded[:, label]) for label in both]
            moves[name] = (float(np.mean([part[0] for part in parts])), np.mean([part[1] for part in parts], axis=0))
    return moves


def _ranked(true: Numbers, scores: Floats) -> tuple[Numbers, Numbers, Numbers]:
    """Return the place of each row's score among the different ones, highest first, and the hits and rows at each place."""
    distinct, place = np.unique(-scores, return_inverse=True)
    size = len(distinct)
    return place, np.bincount(place, weights=true, minlength=size).astype(np.int64), np.bincount(place, minlength=size)


def _area_moves(true: Numbers, scores: Floats) -> tuple[float, Floats]:
    """Return the area under the ROC curve and its derivative by the weight of each row; equal scores count half."""
    place, hit, all_rows = _ranked(true, scores)
    miss = all_rows - hit
    hits, misses = int(hit.sum()), int(miss.sum())
    beaten = misses - np.cumsum(miss) + miss / 2  # misses that a hit at this place stands above
    above = np.cumsum(hit) - hit / 2
    area = float((hit * beaten).sum() / (hits * misses))
    return area, np.where(true == 1, (beaten[place] / misses - area) / hits, (above[place] / hits - area) / misses)


def _precision_moves(true: Numbers, scores: Floats) -> tuple[float, Floats]:
    """Return the average precision and its derivative by the weight of each row."""
    place, hit, all_rows = _ranked(true, scores)
    hits, so_far, seen = int(hit.sum()), np.cumsum(hit), np.cumsum(all_rows)
    value = float((hit * so_far / seen).sum() / hits)
    gained = np.cumsum((hit / seen)[::-1])[::-1]  # a further hit raises the precision at its place and at all below
    lost = np.cumsum((hit * so_far / seen**2)[::-1])[::-1]
    return value, (true * ((so_far / seen)[place] + gained[place] - value) - lost[place]) / hits
