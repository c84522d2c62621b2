"""The figures of scikit-learn that a config may name, by its own names, and whether more of a figure is better. Floor 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netwright.errors import did_you_mean

CLASSES, LABELS, VALUES = ("binary", "multiclass"), ("multilabel",), ("regression",)
MACRO = {"average": "macro"}
ERRORS = (
    "loss",
    "rmse",
    "mae",
    "mse",
    "deviance",
    "error",
    "mape",
    "brier",
    "ece",
)  # last words of figures of which less is better


@dataclass(frozen=True)
class Known:
    """A figure: of which tasks, whether more is better, what it reads, and its arguments for several classes or labels."""

    tasks: tuple[str, ...]
    mode: str = "max"
    probabilities: bool = False
    several: Mapping[str, Any] = field(default_factory=dict)


KNOWN = {
    "accuracy_score": Known((*CLASSES, *LABELS)),
    "average_precision_score": Known((*CLASSES, *LABELS), "max", True, MACRO),
    "balanced_accuracy_score": Known(CLASSES),
    "brier_score_loss": Known(("binary",), "min", True),
    "cohen_kappa_score": Known(CLASSES),
    "d2_absolute_error_score": Known(VALUES),
    "explained_variance_score": Known(VALUES),
    "f1_score": Known((*CLASSES, *LABELS), "max", False, MACRO),
    "hamming_loss": Known((*CLASSES, *LABELS), "min"),
    "jaccard_score": Known((*CLASSES, *LABELS), "max", False, MACRO),
    "log_loss": Known(CLASSES, "min", True),
    "matthews_corrcoef": Known(CLASSES),
    "max_error": Known(VALUES, "min"),
    "mean_absolute_error": Known(VALUES, "min"),
    "mean_absolute_percentage_error": Known(VALUES, "min"),
    "mean_gamma_deviance": Known(VALUES, "min"),
    "mean_pinball_loss": Known(VALUES, "min"),
    "mean_poisson_deviance": Known(VALUES, "min"),
    "mean_squared_error": Known(VALUES, "min"),
    "mean_squared_log_error": Known(VALUES, "min"),
    "median_absolute_error": Known(VALUES, "min"),
    "precision_score": Known((*CLASSES, *LABELS), "max", False, MACRO),
    "r2_score": Known(VALUES),
    "recall_score": Known((*CLASSES, *LABELS), "max", False, MACRO),
    "roc_auc_score": Known((*CLASSES, *LABELS), "max", True, {**MACRO, "multi_class": "ovr"}),
    "root_mean_squared_error": Known(VALUES, "min"),
    "root_mean_squared_log_error": Known(VALUES, "min"),
    "top_k_accuracy_score": Known(("multiclass",), "max", True),
    "zero_one_loss": Known((*CLASSES, *LABELS), "min"),
}


def known_mode(name: str) -> str | None:
    """Return whether more of a figure is better (max) or less (min) by its name alone; None where that does not tell.

    Args:
        name: Of netwright or of scikit-learn, whose scorers go without ``_score``, or one that ends as a loss or an error.

    Example:
        >>> known_mode("roc_auc"), known_mode("critic_loss"), known_mode("auc")
        ('max', 'min', None)
    """
    known = KNOWN.get(name) or KNOWN.get(f"{name}_score")
    if known is not None:
        return known.mode
    first, last = name.partition("_")[0], name.rpartition("_")[2]
    return "min" if last in ERRORS else "max" if last == "accuracy" or first == "f1" else None


def problem_of(name: str, kind: str | None = None) -> str | None:
    """Return what is wrong with the name of a figure, and for a task; None where nothing is.

    Example:
        >>> problem_of("matthews_corcoef")
        "'matthews_corcoef' came; did you mean matthews_corrcoef?"
    """
    if name not in KNOWN:
        return f"{name!r} came; {did_you_mean(name, KNOWN)}"
    if kind is not None and kind not in KNOWN[name].tasks:
        fitting = ", ".join(other for other, known in KNOWN.items() if kind in known.tasks)
        return f"{name} came, a figure of {' or '.join(KNOWN[name].tasks)}; the task is {kind}; expected one of {fitting}"
    return None
