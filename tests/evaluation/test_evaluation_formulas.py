"""Figures are scikit-learn's, bit by bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as theirs

from netwright.evaluation import metrics


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 17, 200, 3000])
def test_figures_of_classes_have_the_bits_of_scikit_learn(classes: int, rows: int) -> None:
    generator = np.random.default_rng(classes * 10_000 + rows)
    for case in range(30):
        true = generator.integers(0, classes if case % 3 else max(classes - 1, 1), rows)
        scores = generator.standard_normal((rows, classes)) + (case % 5) * np.eye(classes)[true]
        if case % 2:
            scores = np.round(scores, 1)
        decoded = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        guess, present = decoded.argmax(axis=1), np.unique(true)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "accuracy": float(theirs.accuracy_score(true, guess)),
                "balanced_accuracy": float(theirs.balanced_accuracy_score(true, guess)),
                "f1_macro": float(theirs.f1_score(true, guess, average="macro", zero_division=0.0)),
            }
            if classes == 2:
                expected["f1"] = float(theirs.f1_score(true, guess, zero_division=0.0))
        if len(present) > 1:
            areas = [theirs.roc_auc_score(true == label, decoded[:, label]) for label in present]
            one = classes == 2
            expected["roc_auc"] = float(theirs.roc_auc_score(true, decoded[:, 1]) if one else np.mean(areas))
            if one:
                expected["average_precision"] = float(theirs.average_precision_score(true, decoded[:, 1]))
        assert metrics.class_figures(true, decoded, True) == expected


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("rows", [2, 3, 20, 1000])
def test_figures_of_values_have_the_bits_of_scikit_learn(outputs: int, rows: int) -> None:
    generator = np.random.default_rng(rows)
    for case in range(20):
        true = generator.standard_normal((rows, outputs)) * 10.0 ** generator.integers(-3, 4) + 100 * (case % 4)
        predicted = true + generator.standard_normal((rows, outputs))
        true[:, 0] = 5.0 if case % 5 == 0 else true[:, 0]
        predicted[:, 0] = true[:, 0] if case % 10 == 0 or case % 7 == 0 else predicted[:, 0]
        assert metrics.value_figures(true, predicted) == {
            "rmse": float(theirs.root_mean_squared_error(true, predicted)),
            "mae": float(theirs.mean_absolute_error(true, predicted)),
            "r2": float(theirs.r2_score(true, predicted)),
        }
