"""Two networks on the same test rows: intervals of the difference of their figures, McNemar's test. Floor 6.

Rows, or groups of rows that belong together, are drawn for both at once, so what is hard for both cancels out (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 14). Every figure is a function of how often each unit is
drawn, so thousands of resamples are a few products of matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.seeding import stream

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Weighing = Callable[[Floats], Floats]  # how often each unit is drawn (resamples, units) -> a figure (resamples,)
RESAMPLES = 1000
MOST_FOR_BCA = 2000  # units; beyond, the bias that it corrects is small and its cost grows with their square
FEWEST_UNITS = 10
AT_A_TIME = 4_000_000  # numbers held at once
MOST_CURVES = 5_000_000  # rows times classes of ROC curves that are resampled
NAMES = {"bca": "BCa bootstrap", "percentile": "percentile bootstrap"}


@dataclass(frozen=True)
class Outcomes:
    """What a network gave for its test rows.

    Args:
        kind: ``class``, ``labels`` or ``values``.
        true: Class numbers int64 ``(rows,)``, 0 and 1 ``(rows, labels)``, or values ``(rows, outputs)``.
        predicted: Likewise.
        classes: How many classes; 0 without.
        probabilities: ``(rows, classes)``, or None.
    """

    kind: str
    true: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    classes: int = 0
    probabilities: Floats | None = None


@dataclass(frozen=True)
class Difference:
    """The second network's figure minus the first's, with its 95 % interval where the rows carry one."""

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_differences(one: Outcomes, other: Outcomes, units: Numbers, seed: int = 0) -> dict[str, Difference]:
    """Return the difference of each figure of two networks on the same rows.

    Args:
        one: The first.
        other: The second; the same true values.
        units: The unit that each row belongs to, 0, 1, ... ``(rows,)``: the row itself, or its group.
        seed: Of the resampling.

    Returns:
        Differences by scikit-learn's names: BCa intervals up to 2,000 units (Efron, Better bootstrap confidence intervals,
        1987), else percentile ones; none below ten units or where no resample differs.
    """
    count = int(units.max()) + 1 if len(units) else 0
    sides = [weighings(outcomes, units, count) for outcomes in (one, other)]
    pairs = {name: (sides[0][name], sides[1][name]) for name in sides[0] if name in sides[1]}
    if count < FEWEST_UNITS:
        ones = np.ones((1, count))
        return {name: Difference(float(second(ones)[0] - first(ones)[0])) for name, (first, second) in pairs.items()}
    return _bootstrapped(pairs, count, seed)


def _bootstrapped(pairs: Mapping[str, tuple[Weighing, Weighing]], count: int, seed: int) -> dict[str, Difference]:
    """Return the differences with their intervals; all figures are taken of the same resamples."""
    from scipy.stats import bootstrap

    def statistic(drawn: Numbers, axis: int = -1) -> Any:
        weights = _drawn(drawn.reshape(-1, drawn.shape[-1]), count)
        each = [second(weights) - first(weights) for first, second in pairs.values()]
        return np.stack(each).reshape(len(each), *drawn.shape[:-1])

    everyone = np.arange(count)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # of a distribution that is a point: it gets no interval
        found = bootstrap(
            (everyone,),
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, AT_A_TIME // count),
            vectorized=True,
            method="bca" if count <= MOST_FOR_BCA else "percentile",
            random_state=stream(seed, "resampling"),
        )
    values, bounds = statistic(everyone), np.stack(found.confidence_interval)
    return {
        name: _bounded(float(values[place]), bounds[:, place], found.bootstrap_distribution[place], count)
        for place, name in enumerate(pairs)
    }


def _bounded(value: float, bounds: Floats, drawn: Floats, count: int) -> Difference:
    """Return a difference with its interval: percentile where some resamples did not define it; none where none varies."""
    method = "bca" if count <= MOST_FOR_BCA else "percentile"
    if not np.isfinite(bounds).all():
        sound = drawn[np.isfinite(drawn)]
        if len(sound) <= RESAMPLES // 2:
            return Difference(value)
        method, bounds = "percentile", np.quantile(sound, (0.025, 0.975))
    low, high = (float(bound) for bound in bounds)
    return Difference(value, low, high, NAMES[method]) if low < high else Difference(value)


def _drawn(numbers: Numbers, units: int) -> Floats:
    """Return how often each unit is drawn, ``(resamples, units)``."""
    shifted = numbers + np.arange(len(numbers))[:, None] * units
    counts = np.bincount(shifted.ravel(), minlength=len(numbers) * units)
    return counts.reshape(len(numbers), units).astype(np.float64)


def weighings(outcomes: Outcomes, units: Numbers, count: int) -> dict[str, Weighing]:
    """Return each figure as a function of how often each unit is drawn."""
    if outcomes.kind == "values":
        return _value_weighings(outcomes, units, count)
    if outcomes.kind == "labels":
        return _label_weighings(outcomes, units, count)
    return _class_weighings(outcomes, units, count)


def _sums(values: Floats, units: Numbers, count: int) -> Floats:
    """Return the sums over the rows of each unit, ``(units, columns)``."""
    found = np.zeros((count, values.shape[1]))
    np.add.at(found, units, values)
    return found


def _value_weighings(outcomes: Outcomes, units: Numbers, count: int) -> dict[str, Weighing]:
    error = outcomes.predicted - outcomes.true
    centred = outcomes.true - outcomes.true.mean(axis=0)  # sums of squares far from 0 would lose their digits
    rows = _sums(np.ones((len(error), 1)), units, count)
    square, absolute, spread, centre = (
        _sums(values, units, count) for values in (error**2, np.abs(error), centred**2, centred)
    )

    def mean(weights: Floats, sums: Floats) -> Floats:
        return np.asarray(weights @ sums / (weights @ rows))

    def r2(weights: Floats) -> Floats:
        around = mean(weights, spread) - mean(weights, centre) ** 2
        return np.asarray((1 - mean(weights, square) / around).mean(axis=1))

    return {
        "rmse": lambda weights: np.sqrt(mean(weights, square)).mean(axis=1),
        "mae": lambda weights: mean(weights, absolute).mean(axis=1),
        "r2": r2,
    }


def _label_weighings(outcomes: Outcomes, units: Numbers, count: int) -> dict[str, Weighing]:
    true, guess = outcomes.true.astype(np.float64), outcomes.predicted.astype(np.float64)
    hits, mentioned = _sums(true * guess, units, count), _sums(true + guess, units, count)
    exact = _sums((true == guess).all(axis=1, keepdims=True).astype(np.float64), units, count)
    wrong = _sums((true != guess).mean(axis=1, keepdims=True), units, count)
    rows = _sums(np.ones((len(true), 1)), units, count)

    def f1(hit: Floats, mention: Floats) -> Floats:
        return np.where(mention > 0, 2 * hit / np.maximum(mention, 1), 0.0)

    return {
        "f1_micro": lambda weights: f1((weights @ hits).sum(axis=1), (weights @ mentioned).sum(axis=1)),
        "f1_macro": lambda weights: f1(weights @ hits, weights @ mentioned).mean(axis=1),
        "subset_accuracy": lambda weights: (weights @ exact / (weights @ rows))[:, 0],
        "hamming_loss": lambda weights: (weights @ wrong / (weights @ rows))[:, 0],
    }


def _class_weighings(outcomes: Outcomes, units: Numbers, count: int) -> dict[str, Weighing]:
    from scipy.sparse import csr_array

    true, guess, classes = outcomes.true, outcomes.predicted, outcomes.classes
    shape = (count, classes)
    one = np.ones(len(true))
    actual = csr_array((one, (units, true)), shape=shape)
    claimed = csr_array((one, (units, guess)), shape=shape)
    hits = csr_array(((true == guess).astype(np.float64), (units, true)), shape=shape)
    present = np.flatnonzero(np.bincount(true, minlength=classes))
    named = np.flatnonzero(np.bincount(true, minlength=classes) + np.bincount(guess, minlength=classes))

    def f1_of_each(weights: Floats) -> Floats:
        both = weights @ actual + weights @ claimed
        return np.where(both > 0, 2 * (weights @ hits) / np.maximum(both, 1), 0.0)

    def balanced(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = (weights @ hits)[:, present] / (weights @ actual)[:, present]
        some = np.isfinite(recall)
        return np.asarray(np.where(some, recall, 0.0).sum(axis=1) / np.maximum(some.sum(axis=1), 1))

    found: dict[str, Weighing] = {
        "accuracy": lambda weights: (weights @ hits).sum(axis=1) / (weights @ actual).sum(axis=1),
        "balanced_accuracy": balanced,
        "f1_macro": lambda weights: f1_of_each(weights)[:, named].mean(axis=1),
    }
    if classes == 2:
        found["f1"] = lambda weights: f1_of_each(weights)[:, 1]
    if outcomes.probabilities is not None and len(true) * classes <= MOST_CURVES and len(present) > 1:
        labels = [1] if classes == 2 else present.tolist()
        curves = [_area(true == label, outcomes.probabilities[:, label], units) for label in labels]
        found["roc_auc"] = lambda weights: np.mean([curve(weights) for curve in curves], axis=0)
    return found


def _area(positive: npt.NDArray[np.bool_], scores: Floats, units: Numbers) -> Weighing:
    """Return the area under the ROC curve as a function of the weights; equal scores count half."""
    order = np.argsort(scores, kind="stable")
    ordered, hit = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    place = units[order]

    def area(weights: Floats) -> Floats:
        each = weights[:, place]
        hits = np.add.reduceat(np.where(hit, each, 0.0), starts, axis=1)
        misses = np.add.reduceat(np.where(hit, 0.0, each), starts, axis=1)
        below = np.cumsum(misses, axis=1) - misses
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((hits * (below + misses / 2)).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1)))

    return area


@dataclass(frozen=True)
class McNemar:
    """How many rows only one of two classifiers has right, and the chance of a split as uneven if both were alike."""

    only_first: int
    only_second: int
    p: float

    def to_json(self) -> Mapping[str, float]:
        """Return plain values."""
        return vars(self)


def mcnemar(first_right: npt.NDArray[np.bool_], second_right: npt.NDArray[np.bool_]) -> McNemar:
    """Return McNemar's exact test, two-sided.

    Args:
        first_right: Whether the first classifier has each row right, ``(rows,)``.
        second_right: The second.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages, 1947; exact
    by the binomial distribution of the rows on which they differ.

    Example:
        >>> mcnemar(np.array([True] * 9 + [False]), np.array([True, True] + [False] * 7 + [True])).p
        0.0703125
    """
    from scipy.stats import binomtest

    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    both = only_first + only_second
    p = float(binomtest(only_first, both, 0.5).pvalue) if both else 1.0
    return McNemar(only_first, only_second, p)
