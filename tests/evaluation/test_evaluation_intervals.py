"""Intervals against an independent bootstrap with scikit-learn's metrics, and at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from netwright.evaluation import resampling
from netwright.evaluation.intervals import class_intervals, value_intervals, wilson
from netwright.evaluation.metrics import class_figures, epoch_figures, joined_figures, roc_auc, value_figures

NAMES = ["accuracy", "balanced_accuracy", "f1_macro", "f1", "roc_auc", "average_precision"]


def class_data(rows: int, classes: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    true = generator.integers(0, classes, rows)
    scores = generator.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[true]
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return true, np.round(proba, 2)  # rounded, so that scores tie


@pytest.mark.parametrize("classes", [2, 4])
def test_class_intervals_agree_with_a_plain_bootstrap(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "MOST_BCA", 0)
    true, proba = class_data(300, classes)
    names = NAMES if classes == 2 else [name for name in NAMES if name not in ("f1", "average_precision")]
    found = class_intervals(true, proba, names)
    assert set(found) == set(names)
    generator = np.random.default_rng(1)
    drawn = [generator.integers(0, 300, 300) for _ in range(400)]
    for name in names:
        if name == "average_precision":
            values = [metrics.average_precision_score(true[rows], proba[rows, 1]) for rows in drawn]
        elif name == "roc_auc":
            values = [roc_auc(true[rows], proba[rows], True) for rows in drawn]
        else:
            values = [class_figures(true[rows], proba[rows], False)[name] for rows in drawn]
        low, high = np.quantile(values, (0.025, 0.975))
        assert found[name] == pytest.approx((low, high), abs=0.012), name


def test_the_area_under_the_curve_has_scipys_interval() -> None:
    true, proba = class_data(300, 2)
    found = class_intervals(true, proba, ["roc_auc"])["roc_auc"]
    statistic = lambda rows: metrics.roc_auc_score(true[rows], proba[rows, 1])  # noqa: E731
    options: Any = {"vectorized": False, "n_resamples": 1000, "method": "BCa", "rng": 1}
    expected = stats.bootstrap((np.arange(300),), statistic, **options).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.2 * (expected.high - expected.low))


def test_value_intervals_agree_with_a_plain_bootstrap_far_from_zero() -> None:
    generator = np.random.default_rng(0)
    true = generator.normal(1e8, 1, size=(400, 2))
    predicted = true + generator.normal(0, 0.3, size=(400, 2))
    found = value_intervals(true, predicted)
    drawn = [generator.integers(0, 400, 400) for _ in range(400)]
    for name in ("rmse", "mae", "r2"):
        values = [value_figures(true[rows], predicted[rows])[name] for rows in drawn]
        low, high = np.quantile(values, (0.025, 0.975))
        assert found[name] == pytest.approx((low, high), rel=0.02), name


def test_a_perfect_score_has_an_honest_lower_bound() -> None:
    true = np.arange(60) % 2
    found = class_intervals(true, np.eye(2)[true], NAMES)
    assert found == {"accuracy": wilson(60, 60)}
    assert found["accuracy"] == pytest.approx((0.9398, 1.0), abs=1e-4)


def test_too_few_rows_of_a_class_give_an_interval_for_accuracy_only() -> None:
    true = np.array([0] * 50 + [1] * 4)
    assert set(class_intervals(true, np.eye(2)[np.zeros(54, int)], NAMES)) == {"accuracy"}
    assert value_intervals(np.arange(9.0)[:, None], np.arange(9.0)[:, None] + 0.1) == {}


def test_a_roc_curve_of_many_scores_is_resampled_on_bins() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 2, 20_000)
    score = generator.normal(size=20_000) + true
    low, high = class_intervals(true, np.stack([-score, score], axis=1), ["roc_auc"])["roc_auc"]
    area = metrics.roc_auc_score(true, score)
    assert low < area < high
    assert high - low == pytest.approx(4 * 0.003, rel=0.3)


def test_regression_figures_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    true, predicted = generator.normal(size=(50, 3)) * [1, 10, 100], generator.normal(size=(50, 3))
    found = value_figures(true, predicted)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(true, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(true, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(true, predicted))
    assert epoch_figures("regression", true, predicted) == pytest.approx({"rmse": found["rmse"], "mae": found["mae"]})


def test_steps_of_a_row_are_drawn_together() -> None:
    """Repeating each row's value at 50 steps says nothing new; as rows of their own they would narrow the interval."""
    generator = np.random.default_rng(0)
    error = generator.normal(size=(40, 1))
    rows = np.repeat(np.arange(40), 50)
    true, steps = np.zeros((2000, 1)), np.repeat(error, 50, axis=0)
    together = value_intervals(true, steps, clusters=rows)["rmse"]
    assert together == pytest.approx(value_intervals(np.zeros((40, 1)), error)["rmse"])
    alone = value_intervals(true, steps)["rmse"]
    assert alone[1] - alone[0] < (together[1] - together[0]) / 4
    hits = np.repeat(generator.random(40) < 0.7, 50)
    decoded = np.stack([1.0 - hits, hits], axis=1)
    low, high = class_intervals(np.ones(2000, np.int64), decoded, ["accuracy", "f1"], rows)["accuracy"]
    assert high - low > 0.2


def test_rows_of_different_length_count_by_their_steps() -> None:
    lengths = np.array([1, 99] * 10)
    error = np.repeat(np.where(lengths == 1, 10.0, 1.0), lengths)[:, None]
    low, high = value_intervals(np.zeros_like(error), error, clusters=np.repeat(np.arange(20), lengths))["mae"]
    assert low <= error.mean() <= high < 1.5


def test_figures_of_parts_join_to_those_of_all_rows() -> None:
    generator = np.random.default_rng(5)
    true = generator.normal(size=(100, 1))
    predicted = true + generator.normal(size=(100, 1))
    whole = epoch_figures("regression", true, predicted)
    cuts = [slice(0, 30), slice(30, 37), slice(37, 100)]
    parts = [(epoch_figures("regression", true[cut], predicted[cut]), len(true[cut])) for cut in cuts]
    assert joined_figures(parts) == pytest.approx(whole, rel=1e-12)
    assert joined_figures([(whole, 100)]) == whole


def test_the_deviance_of_counts_is_scikit_learns_with_an_interval() -> None:
    generator = np.random.default_rng(0)
    rate = np.exp(generator.normal(size=(300, 2)))
    true, predicted = generator.poisson(rate).astype(float), rate * np.exp(generator.normal(0, 0.3, size=(300, 2)))
    found = value_figures(true, predicted, rates=True)["mean_poisson_deviance"]
    assert found == pytest.approx(np.mean([metrics.mean_poisson_deviance(true[:, k], predicted[:, k]) for k in range(2)]))
    low, high = value_intervals(true, predicted, rates=True)["mean_poisson_deviance"]
    drawn = [generator.integers(0, 300, 300) for _ in range(400)]
    values = [value_figures(true[rows], predicted[rows], rates=True)["mean_poisson_deviance"] for rows in drawn]
    assert (low, high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), rel=0.03)
    assert "mean_poisson_deviance" not in value_figures(true, predicted - predicted.min(), rates=True)
    assert "mean_poisson_deviance" not in value_intervals(true, predicted - predicted.min(), rates=True)
    assert "mean_poisson_deviance" not in value_figures(true, predicted)
