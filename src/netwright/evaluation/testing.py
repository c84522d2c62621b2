"""What a test says of some rows: the figures of the task with their intervals, and those of another model beside. Floor 8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation import intervals, metrics, multilabel
from netwright.evaluation.resampling import Bounds, Resampled, method_of, resample
from netwright.model.task import Decoding

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Which rows are drawn together: ``clusters`` is a number per row ``(rows,)``, ``name`` says what they are."""

    clusters: Numbers
    name: str


@dataclass(frozen=True)
class Verdict:
    """What is known of some rows, and what a model gave for them.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        decoded: What the decoding gave: probabilities, scores or values ``(rows, ...)``.
        decoding: How outputs became ``decoded``.
        drawn: Rows that are drawn together; None where each row stands for itself.
    """

    kind: str
    true: npt.NDArray[Any]
    decoded: Floats
    decoding: Decoding
    drawn: Drawn | None = None

    def figures(self, decoded: Floats | None = None, probabilistic: bool | None = None) -> dict[str, float]:
        """Return the figures of the task, of this model or of another's decoded outputs."""
        decoded = self.decoded if decoded is None else decoded
        if self.kind == "regression":
            return metrics.value_figures(self.true, decoded, self.decoding.rates)
        if self.kind == "multilabel":
            return multilabel.label_figures(self.true, decoded)
        chances = self.decoding.probabilistic if probabilistic is None else probabilistic
        return metrics.class_figures(self.true, decoded, chances)

    @cached_property
    def own(self) -> dict[str, float]:
        """The figures of this model."""
        return self.figures()

    def bounds(self, names: Sequence[str]) -> Bounds:
        """Return the interval of each figure that has one."""
        clusters = None if self.drawn is None else self.drawn.clusters
        if self.kind == "multilabel":
            return multilabel.label_intervals(self.true, self.decoded, names, clusters)
        if self.kind == "regression":
            return self._own_resampled.bounds()
        return intervals.class_bounds(self.true, self.decoded, self._own_resampled, clusters is None)

    @cached_property
    def _own_resampled(self) -> Resampled:
        """The figures of this model of rows drawn anew, which are those that other models are compared on."""
        return self._resampled(self.decoded)

    def _resampled(self, decoded: Floats) -> Resampled:
        if self.kind == "regression":
            table = intervals.value_sums(self.true, decoded, self.decoding.rates)
        else:
            scores = decoded if set(intervals.AREAS) & set(self.own) else None
            table = intervals.class_sums(self.true, decoded.argmax(axis=1), decoded.shape[1], scores)
        return resample(table, None if self.drawn is None else self.drawn.clusters)

    def beside(self, other: Floats) -> dict[str, Any]:
        """Return the figures of another model on the same rows, and this one's less them with paired intervals.

        Args:
            other: Its decoded outputs, probabilities ``(rows, classes)``, of labels, or values ``(rows, outputs)``.
        """
        own, figures = self.own, self.figures(other, True)
        shared = [name for name in own if name in figures]
        bounds = self.paired([other])
        told: dict[str, Any] = {}
        for name in shared:
            told[name] = {"value": own[name] - figures[name], **bounds_told(bounds.get(name))}
        return {"metrics": figures, "difference": told}

    def paired(self, others: Sequence[Floats]) -> Bounds:
        """Return the interval of each figure of this model less the mean of those of others, over rows drawn for all at once."""
        clusters = None if self.drawn is None else self.drawn.clusters
        if self.kind == "multilabel":
            return multilabel.paired_label_intervals(self.true, self.decoded, others, clusters)
        bounds = self._own_resampled.less([self._resampled(other) for other in others]).bounds()
        return bounds if self.kind == "regression" else intervals.carried(self.true, bounds)


def all_figures(verdict: Verdict, loss: float | None, labels: Sequence[Any], losses: Floats | None = None) -> dict[str, Any]:
    """Return the figures of a test and what else is told of its rows.

    Args:
        verdict: The rows and what the network gave for them.
        loss: The mean loss, in training units; None where the rows have none.
        labels: The classes or labels as JSON shows them; empty for a regression.
        losses: The loss of each row ``(rows,)``, whose mean is ``loss``, where it is known.

    Returns:
        ``metrics`` and ``intervals``, for classes ``confusion``, for labels a table ``labels`` and ``notes``.
    """
    found: dict[str, Any] = {}
    figures, drawn = verdict.own, verdict.drawn
    bounds = verdict.bounds(list(figures))
    clusters = None if drawn is None else drawn.clusters
    spread = None if losses is None else intervals.mean_interval(losses, clusters)
    if spread is not None:
        bounds["loss"] = spread
    if verdict.kind == "multilabel":
        found["labels"] = multilabel.label_table(verdict.true, verdict.decoded, labels)
        found["notes"] = multilabel.left_out(verdict.true, labels)
    elif verdict.kind != "regression":
        found["confusion"] = {"classes": list(labels), "matrix": metrics.confusion(verdict.true, verdict.decoded)}
    count = len(verdict.true) if drawn is None else len(np.unique(drawn.clusters))
    groups = None if drawn is None else {"column": drawn.name, "n": count}
    method = "infinitesimal jackknife" if verdict.kind == "multilabel" else method_of(count)
    found["intervals"] = {"level": 0.95, "method": method, "groups": groups}
    whole = figures if loss is None else {"loss": loss, **figures}
    told = {name: {"value": value, **bounds_told(bounds.get(name))} for name, value in whole.items()}
    return {"metrics": told, **found}


def bounds_told(bounds: tuple[float, float] | None) -> dict[str, float]:
    """Return an interval as test.json holds it; nothing for none."""
    return {} if bounds is None else {"low": bounds[0], "high": bounds[1]}
