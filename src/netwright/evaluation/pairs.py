"""Two networks on the same test rows: intervals of the difference of their figures, McNemar's test. Floor 8.

Rows, or groups of rows that belong together, are drawn for both at once, so what is hard for both cancels out (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 14).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation.formulas import f1
from netwright.evaluation.intervals import carried, class_sums, value_sums
from netwright.evaluation.resampling import Summed, method_of, resample

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


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
        Differences by scikit-learn's names, with the intervals of `netwright.evaluation.resampling`; none below ten
        units or where no resample differs.
    """
    count = int(units.max()) + 1 if len(units) else 0
    clusters = None if count == len(units) else units
    gap = resample(sums_of(other), clusters, seed).less([resample(sums_of(one), clusters, seed)])
    bounds = gap.bounds()
    if one.kind == "class":
        bounds = carried(one.true, bounds)
    method = method_of(count).partition(",")[0]
    return {
        name: Difference(value, *bounds[name], method) if name in bounds else Difference(value)
        for name, value in gap.whole.items()
    }


def sums_of(outcomes: Outcomes) -> Summed:
    """Return the figures of a network as functions of sums over rows."""
    if outcomes.kind == "values":
        return value_sums(outcomes.true, outcomes.predicted)
    if outcomes.kind == "labels":
        return _label_sums(outcomes)
    return class_sums(outcomes.true, outcomes.predicted, outcomes.classes, outcomes.probabilities)


def _label_sums(outcomes: Outcomes) -> Summed:
    true, guess = outcomes.true.astype(np.float64), outcomes.predicted.astype(np.float64)
    labels, right = true.shape[1], true == guess
    exact, wrong = right.all(axis=1, keepdims=True), 1 - right.mean(axis=1, keepdims=True)
    parts = [true * guess, true + guess, exact.astype(np.float64), wrong, np.ones((len(true), 1))]

    def figures(sums: Floats) -> dict[str, Floats]:
        hits, mentioned, (exact, wrong, rows) = sums[:, :labels], sums[:, labels : 2 * labels], sums[:, 2 * labels :].T
        return {
            "f1_micro": f1(hits.sum(axis=1), mentioned.sum(axis=1)),
            "f1_macro": f1(hits, mentioned).mean(axis=1),
            "subset_accuracy": exact / rows,
            "hamming_loss": wrong / rows,
        }

    return Summed(np.concatenate(parts, axis=1), figures)


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
