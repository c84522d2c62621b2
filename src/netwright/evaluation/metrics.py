"""Figures of gathered predictions: scikit-learn's metrics by scikit-learn's names, in the user's units. Floor 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation import formulas, multilabel

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


VALIDATED = {  # the figures of every epoch's validation, by task
    "binary": ("accuracy",),
    "multiclass": ("accuracy",),
    "multilabel": ("f1_micro", "f1_macro", "subset_accuracy"),
    "regression": ("rmse", "mae"),
}


def epoch_figures(kind: str, true: npt.NDArray[Any], decoded: Floats) -> dict[str, float]:
    """Return the figures of every epoch's validation, those of `VALIDATED`; RMSE and MAE are means over the outputs.

    Args:
        kind: The task.
        true: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        decoded: Probabilities ``(rows, classes)`` or values ``(rows, outputs)``.
    """
    if kind == "multilabel":
        return multilabel.epoch_figures(true, decoded)
    if kind == "regression":
        return {"rmse": formulas.rmse(true, decoded), "mae": formulas.mae(true, decoded)}
    return {"accuracy": float(np.mean(decoded.argmax(axis=1) == true))}


def joined_figures(parts: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """Return the figures of rows from those of their parts, each with its weight: means, and for the RMSE that of squares.

    One part alone is returned as it is.
    """
    if len(parts) == 1:
        return dict(parts[0][0])
    total = sum(weight for _, weight in parts)
    joined = {}
    for name in parts[0][0]:
        power = 2 if name == "rmse" else 1
        joined[name] = (sum(weight * figures[name] ** power for figures, weight in parts) / total) ** (1 / power)
    return joined


def class_figures(true: Numbers, decoded: Floats, probabilities: bool) -> dict[str, float]:
    """Return accuracy, balanced accuracy, F1, ROC-AUC and, for two classes, average precision.

    Args:
        true: Class numbers ``(rows,)``.
        decoded: Probabilities or scores ``(rows, classes)``.
        probabilities: Whether ``decoded`` are probabilities; ROC-AUC of several classes needs them.

    Returns:
        Figures by scikit-learn's names. ``f1``, ``roc_auc`` and ``average_precision`` are of the second class for two classes,
        else macro means over the classes present (one against the rest); a figure that the rows do not define is left out.
    """
    guess = decoded.argmax(axis=1)
    classes = decoded.shape[1]
    each = formulas.f1_of_each(true, guess)
    figures = {
        "accuracy": float(np.mean(true == guess)),
        "balanced_accuracy": formulas.balanced_accuracy(true, guess),
        "f1_macro": float(np.nanmean(each)),
    }
    if classes == 2:
        figures["f1"] = float(np.nan_to_num(each[1], nan=0.0))
    area = roc_auc(true, decoded, probabilities)
    if area is not None:
        figures["roc_auc"] = area
        if classes == 2:
            figures["average_precision"] = formulas.average_precision(true == 1, decoded[:, 1])
    return figures


def roc_auc(true: Numbers, decoded: Floats, probabilities: bool) -> float | None:
    """Return the area under the ROC curve, for several classes the mean of one against the rest; None if undefined."""
    present = np.unique(true)
    if len(present) < 2:
        return None
    if decoded.shape[1] == 2:
        return formulas.area_under_curve(true == 1, decoded[:, 1])
    if not probabilities:
        return None
    areas = [formulas.area_under_curve(true == label, decoded[:, label]) for label in present]
    return float(np.mean(areas))


def confusion(true: Numbers, decoded: Floats) -> list[list[int]]:
    """Return the confusion matrix: rows are true classes, columns predicted ones."""
    classes = decoded.shape[1]
    counts = np.bincount(true * classes + decoded.argmax(axis=1), minlength=classes * classes)
    matrix: list[list[int]] = counts.reshape(classes, classes).tolist()
    return matrix


def value_figures(true: Floats, predicted: Floats, rates: bool = False) -> dict[str, float]:
    """Return RMSE, MAE and R2 over all rows, the mean over the outputs where there are several.

    Args:
        true: Values ``(rows, outputs)`` in the user's units.
        predicted: Likewise.
        rates: Whether counts are predicted: then the mean Poisson deviance too, where all predictions are above 0.
    """
    figures = {"rmse": formulas.rmse(true, predicted), "mae": formulas.mae(true, predicted)}
    if len(true) > 1:
        figures["r2"] = formulas.r2(true, predicted)
    if rates and (predicted > 0).all():
        from sklearn import metrics

        outputs = zip(true.T, predicted.T, strict=True)
        figures["mean_poisson_deviance"] = float(np.mean([metrics.mean_poisson_deviance(*pair) for pair in outputs]))
    return figures
