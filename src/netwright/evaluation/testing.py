"""What a test says of some rows: the figures of the task with their intervals, tables and remarks. Floor 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation import intervals, metrics, multilabel
from netwright.model.task import Decoding

Floats = npt.NDArray[np.float64]


def all_figures(
    kind: str,
    true: npt.NDArray[Any],
    decoded: Floats,
    loss: float,
    labels: Sequence[Any],
    decoding: Decoding,
    lengths: npt.NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the figures of a test and what else is told of its rows.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        decoded: What the decoding gave: probabilities, scores or values ``(rows, ...)``.
        loss: The mean loss, in training units.
        labels: The classes or labels as JSON shows them; empty for a regression.
        decoding: How outputs became ``decoded``.
        lengths: Steps of each row where a value per step is predicted.

    Returns:
        ``metrics``, for classes ``confusion``, for labels a table ``labels``, ``notes``, and what guessing reaches in
        ``baselines``.
    """
    found: dict[str, Any] = {}
    if kind == "regression":
        figures = metrics.value_figures(true, decoded, decoding.rates)
        bounds = intervals.value_intervals(true, decoded, decoding.rates, lengths)
    elif kind == "multilabel":
        figures = multilabel.label_figures(true, decoded)
        bounds = multilabel.label_intervals(true, decoded, list(figures))
        found["labels"] = multilabel.label_table(true, decoded, labels)
        found["notes"] = multilabel.left_out(true, labels)
        found["baselines"] = {"most_frequent": multilabel.most_frequent(true, labels)}
    else:
        figures = metrics.class_figures(true, decoded, decoding.probabilistic)
        bounds = intervals.class_intervals(true, decoded, list(figures), lengths)
        found["confusion"] = {"classes": list(labels), "matrix": metrics.confusion(true, decoded)}
    told = {}
    for name, value in {"loss": loss, **figures}.items():
        told[name] = {"value": value, **(dict(zip(("low", "high"), bounds[name], strict=True)) if name in bounds else {})}
    return {"metrics": told, **found}
