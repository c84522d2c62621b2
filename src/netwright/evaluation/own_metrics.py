"""Figures of one's own: a function of true and predicted values, or scikit-learn's by its own name.

They are worked out on every epoch's validation rows and on the test rows, there with a plain percentile bootstrap (Efron and
Tibshirani, An introduction to the bootstrap, 1993). One that raises is NaN. Floor 8.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.metrics import KNOWN
from netwright.errors import first_line
from netwright.evaluation.resampling import FEWEST_DRAWN, LEVEL, Bounds
from netwright.model.decisions import decide_each, places_of
from netwright.seeding import all_forked, stream

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Function = Callable[..., Any]
TWINS = {  # figures of a test by scikit-learn's names; which of them depends on the task, so their values must be equal too
    "accuracy_score": ("accuracy", "subset_accuracy"),
    "average_precision_score": ("average_precision",),
    "balanced_accuracy_score": ("balanced_accuracy",),
    "f1_score": ("f1", "f1_macro"),
    "mean_absolute_error": ("mae",),
    "r2_score": ("r2",),
    "roc_auc_score": ("roc_auc",),
    "root_mean_squared_error": ("rmse",),
}
CHANCES = ("prob", "y_prob", "y_score", "y_pred_prob", "scores")  # beginnings of the name of an argument of probabilities
RESAMPLES = 200
MOST_SECONDS = 5.0  # for the resamples of one figure; it has no interval where they take longer
MOST_ROWS = 20_000  # above which nothing is resampled


@dataclass(frozen=True)
class Metric:
    """A figure of one's own.

    ``probabilities`` tells what it reads beside the true values; ``mode`` is max where more is better, min where less is, and
    None where nobody said.
    """

    name: str
    function: Function
    probabilities: bool = False
    mode: str | None = None

    def of(self, kind: str, true: npt.NDArray[Any], decoded: Floats) -> float:
        """Return the figure of some rows; the function gets arrays of its own, into which it may write.

        Args:
            kind: The task.
            true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
            decoded: Probabilities, scores or values ``(rows, ...)``.

        Raises:
            Exception: Whatever the function raises.
        """
        with all_forked():
            return float(self.function(*(part.copy("K") for part in _handed(kind, true, decoded, self.probabilities))))


def _handed(kind: str, true: npt.NDArray[Any], decoded: Floats, probabilities: bool) -> tuple[npt.NDArray[Any], ...]:
    """Return what a figure reads: one axis where there is one output, and of two classes the second's probability."""
    if kind == "regression":
        return (true[:, 0], decoded[:, 0]) if true.shape[1] == 1 else (true, decoded)
    if kind == "multilabel":
        return true, decoded if probabilities else decide_each(decoded)
    if not probabilities:
        return true, places_of(decoded)
    return true, decoded[:, 1] if decoded.shape[1] == 2 else decoded


def own_metric(name: str, function: Function) -> Metric:
    """Return a function as a figure; it reads probabilities where its second argument is named after them.

    Example:
        >>> own_metric("area", lambda true, probabilities: 1.0).probabilities
        True
    """
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return Metric(name, function, len(names) > 1 and names[1].lower().startswith(CHANCES))


def known_metric(name: str, kind: str) -> Metric:
    """Return a figure of scikit-learn by its own name; means over classes or labels are macro means.

    Args:
        name: One of `netwright.config.metrics.KNOWN`.
        kind: The task.
    """
    told = KNOWN[name]
    extra = {key: value for key, value in told.several.items() if kind in ("multiclass", "multilabel")}
    if kind == "multilabel":
        extra.pop("multi_class", None)
    return Metric(name, functools.partial(_of_sklearn, name, extra), told.probabilities, told.mode)


def _of_sklearn(name: str, extra: dict[str, Any], true: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    from sklearn import metrics

    further = dict(extra)
    if name in ("log_loss", "roc_auc_score", "top_k_accuracy_score") and other.ndim == 2 and true.ndim == 1:
        further["labels"] = np.arange(other.shape[1])
    elif name == "log_loss":
        further["labels"] = np.arange(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that a validation or a resample does not hold
        return float(getattr(metrics, name)(true, other, **further))


def figures_told(
    metrics: Sequence[Metric], kind: str, true: npt.NDArray[Any], decoded: Floats, tell: Callable[[str, str], None]
) -> dict[str, float]:
    """Return the figures of some rows by name; NaN where a function raises or gives no finite number.

    Args:
        metrics: The figures.
        kind, true, decoded: See `Metric.of`.
        tell: Is told the name of a figure and what went wrong.
    """
    found = {}
    for metric in metrics:
        try:
            value = metric.of(kind, true, decoded)
            problem = None if math.isfinite(value) else f"it gave {value}"
        except Exception as error:  # an own function may raise anything
            value, problem = math.nan, f"{type(error).__name__}: {first_line(error)}"
        if problem is not None:
            tell(metric.name, f"metrics: {metric.name}: {problem} on {len(true)} rows; it is NaN here, the run goes on")
        found[metric.name] = value if math.isfinite(value) else math.nan
    return found


def twin_of(
    metric: Metric, figures: Mapping[str, float], told: Mapping[str, Mapping[str, float]]
) -> Mapping[str, float] | None:
    """Return the entry of a test's own figure that a figure of scikit-learn is another name of; None where there is none.

    Args:
        metric: Perhaps of scikit-learn.
        figures: What the figures of one's own gave.
        told: The figures of the test with their intervals, ``value`` and perhaps ``low`` and ``high``.
    """
    if not isinstance(metric.function, functools.partial) or metric.function.func is not _of_sklearn:
        return None
    names = (metric.name, *TWINS.get(metric.name, ()))
    value = figures[metric.name]
    return next((told[name] for name in names if name in told and math.isclose(told[name]["value"], value)), None)


def intervals_of(
    metrics: Sequence[Metric], kind: str, true: npt.NDArray[Any], decoded: Floats, clusters: Numbers | None = None
) -> Bounds:
    """Return the 95 % interval of each figure by a percentile bootstrap of 200 resamples.

    Args:
        metrics: The figures.
        kind, true, decoded: See `Metric.of`.
        clusters: The number of the cluster of each row, ``(rows,)``, where rows are drawn together.

    Returns:
        Nothing below ten rows or clusters, or above 20,000 rows; a figure that takes too long, that never varies, or that most
        resamples do not define, is left out.
    """
    numbers = np.arange(len(true)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count < FEWEST_DRAWN or len(true) > MOST_ROWS:
        return {}
    order = np.argsort(numbers, kind="stable")
    pools = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    found = {}
    for metric in metrics:
        values = _resampled(metric, kind, true, decoded, pools)
        values = values[np.isfinite(values)]
        if len(values) > RESAMPLES // 2 and values.min() < values.max():
            low, high = np.quantile(values, LEVEL)
            found[metric.name] = (float(low), float(high))
    return found


def _resampled(
    metric: Metric, kind: str, true: npt.NDArray[Any], decoded: Floats, pools: Sequence[npt.NDArray[np.int64]]
) -> Floats:
    """Return the figure of rows drawn anew, ``(resamples,)``; none at all where that takes too long."""
    generator, begun = stream(0, "resampling"), time.perf_counter()
    values = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([pools[place] for place in generator.integers(0, len(pools), len(pools))])
        try:
            values.append(metric.of(kind, true[rows], decoded[rows]))
        except Exception:  # the figure is not defined on these rows
            values.append(math.nan)
        if time.perf_counter() - begun > MOST_SECONDS:
            return np.empty(0)
    return np.asarray(values)
