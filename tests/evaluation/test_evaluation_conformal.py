"""Intervals by split conformal prediction: what the theory promises, and means with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from netwright.evaluation import conformal
from netwright.evaluation.intervals import wilson
from netwright.evaluation.shares import mean_told


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("count", [9, 20, 99])
@pytest.mark.parametrize("noise", ["normal", "heteroscedastic", "heavy"])
def test_coverage_over_many_repeats_is_within_the_bounds_of_the_theory(level: float, count: int, noise: str) -> None:
    generator = np.random.default_rng(count)
    repeats, covered, fresh = 3000, 0.0, 20
    for _ in range(repeats):
        place = generator.uniform(0, 3, size=count + fresh)
        errors = {
            "normal": generator.normal(size=count + fresh),
            "heteroscedastic": generator.normal(size=count + fresh) * np.exp(place),
            "heavy": generator.standard_cauchy(size=count + fresh),
        }[noise]
        widths = conformal.half_widths(errors[:count, None], level)
        assert widths is not None
        covered += float((np.abs(errors[count:]) <= widths[0]).mean())
    slack = 4 * 0.5 / np.sqrt(repeats) * np.sqrt(1 / fresh + 1 / (count + 2))
    assert level - slack <= covered / repeats <= level + 1 / (count + 1) + slack


def test_the_half_width_is_that_sorted_error_of_each_output() -> None:
    errors = np.array([[-9.0, 1.0], [1.0, 2.0], [3.0, 3.0], [-5.0, 4.0]])
    assert conformal.half_widths(errors, 0.6).tolist() == [5.0, 3.0]  # type: ignore[union-attr]
    assert conformal.half_widths(errors, 0.8).tolist() == [9.0, 4.0]  # type: ignore[union-attr]
    assert conformal.half_widths(errors, 0.81) is None


@pytest.mark.parametrize(("level", "rows"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99)])
def test_the_fewest_rows_of_a_level(level: float, rows: int) -> None:
    assert conformal.fewest_rows(level) == rows
    assert conformal.half_widths(np.ones((rows, 1)), level) is not None
    assert conformal.half_widths(np.ones((rows - 1, 1)), level) is None


def test_coverage_counts_values_on_the_edge_and_has_the_interval_of_wilson() -> None:
    errors = np.linspace(-1, 1, 41)[:, None]
    told, each = conformal.coverage(errors, np.array([0.5]))
    assert told["value"] == each[0] == pytest.approx(21 / 41)
    assert (told["low"], told["high"]) == wilson(21, 41)


def test_several_outputs_of_a_row_are_no_independent_values() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=(200, 1))
    alone, _ = conformal.coverage(one, np.array([1.0]))
    twice, each = conformal.coverage(np.hstack([one, one]), np.array([1.0, 1.0]))
    assert twice["value"] == alone["value"]
    assert each == [alone["value"]] * 2
    assert twice["high"] - twice["low"] > 0.9 * (alone["high"] - alone["low"])  # copies are no further evidence


def test_the_interval_of_a_mean_is_the_normal_one_and_rows_without_spread_have_none() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    told = mean_told(values)
    half = stats.norm.ppf(0.975) * stats.sem(values)
    assert (told["low"], told["high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    assert mean_told(np.full(50, 2.0)) == {"value": 2.0}
    assert mean_told(np.array([0.5, 1.5])) == {"value": 1.0}
    squares = mean_told(values**2, root=True)
    assert squares["value"] == pytest.approx(np.sqrt(np.mean(values**2)))
    assert squares["low"] < squares["value"] < squares["high"]


def test_intervals_over_groups_hold_the_truth_as_often_as_they_say() -> None:
    generator, hits = np.random.default_rng(2), 0
    for _ in range(600):
        sizes = generator.integers(2, 8, size=40)
        alike = np.repeat(np.arange(40), sizes)
        values = generator.normal(size=40)[alike] + 0.2 * generator.normal(size=sizes.sum())
        told = mean_told(values, alike)
        hits += told["low"] <= 0.0 <= told["high"]
    assert 0.91 <= hits / 600 <= 0.98
