"""The bootstrap against SciPy's, for clusters, for many rows, and where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from netwright.evaluation import resampling
from netwright.evaluation.intervals import class_sums, mean_interval, value_sums
from netwright.evaluation.resampling import Summed, block_length, blocks_of, bootstrap, joined, method_of, resample
from netwright.evaluation.testing import Verdict
from netwright.model.task import Decoding

RNG = np.random.default_rng(0)


def mean_of(values: np.ndarray) -> Summed:
    return Summed(np.stack([values, np.ones_like(values)], axis=1), lambda sums: {"mean": sums[:, 0] / sums[:, 1]})


@pytest.mark.parametrize("shape", ["lognormal", "normal"])
def test_intervals_are_those_of_scipy(shape: str) -> None:
    values = getattr(RNG, shape)(0, 1, 60)
    found = bootstrap(mean_of(values))["mean"]
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * width)  # of 1,000 resamples


def test_skewed_figures_get_intervals_that_percentiles_do_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.lognormal(0, 1.5, 80)
    corrected = bootstrap(mean_of(values))["mean"]
    monkeypatch.setattr(resampling, "MOST_BCA", 0)
    plain = bootstrap(mean_of(values))["mean"]
    assert corrected[0] > plain[0]
    assert corrected[1] > plain[1]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for number in range(300):
        values = np.random.default_rng(number).exponential(1.0, 50)
        low, high = bootstrap(mean_of(values), seed=number)["mean"]
        held += low <= 1.0 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_rows_of_a_cluster_are_drawn_together() -> None:
    each = RNG.normal(size=40)
    clusters = np.repeat(np.arange(40), 25)
    together = bootstrap(mean_of(np.repeat(each, 25)), clusters)["mean"]
    assert together == pytest.approx(bootstrap(mean_of(each))["mean"])
    alone = bootstrap(mean_of(np.repeat(each, 25)))["mean"]
    assert alone[1] - alone[0] < (together[1] - together[0]) / 3
    assert bootstrap(mean_of(np.repeat(each, 25)), np.repeat(np.arange(8), 125)) == {}


def test_of_very_many_rows_a_part_is_drawn_and_scaled() -> None:
    values = RNG.normal(3, 2, 150_000)
    low, high = bootstrap(mean_of(values))["mean"]
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.003)
    assert high - low == pytest.approx(2 * 1.96 * 2 / np.sqrt(150_000), rel=0.1)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    true = RNG.normal(size=(400, 1))
    noise = RNG.normal(size=(400, 1))
    one, other = true + noise, true + 1.05 * noise
    low, high = resample(value_sums(true, one)).less([resample(value_sums(true, other))]).bounds()["rmse"]
    assert high < 0
    alone = bootstrap(value_sums(true, one))["rmse"]
    assert high - low < (alone[1] - alone[0]) / 3


def test_the_same_predictions_differ_by_nothing_and_get_no_interval() -> None:
    true = RNG.integers(0, 3, 100)
    decoded = RNG.dirichlet(np.ones(3), 100)
    table = class_sums(true, decoded.argmax(axis=1), 3, decoded)
    gap = resample(table).less([resample(table), resample(table)])
    assert gap.whole == dict.fromkeys(table.values(), 0.0)
    assert gap.bounds() == {}


def test_figures_that_rows_do_not_define_are_compared_without_a_word() -> None:
    one, other = (resample(value_sums(np.array([[2.0]]), np.array([[value]]))) for value in (3.0, 5.0))
    gap = one.less([other])
    assert gap.whole["mae"] == -2
    assert not np.isfinite(gap.whole["r2"])
    assert gap.bounds() == {}


@pytest.mark.parametrize("rows", [60, 3000, 30_000])
def test_models_are_compared_on_the_same_resamples(rows: int) -> None:
    """The difference of two means is the mean of the differences, in each resample."""
    one, other, third = RNG.normal(size=(3, rows))
    gap = resample(mean_of(one)).less([resample(mean_of(other)), resample(mean_of(third))]).bounds()["mean"]
    assert gap == pytest.approx(bootstrap(mean_of(one - (other + third) / 2))["mean"])


def test_joined_tables_give_the_figures_of_each() -> None:
    values = RNG.normal(size=50)
    other = Summed(values[:, None] ** 2, lambda sums: {"square": sums[:, 0]})
    found = joined([mean_of(values), other])
    assert found.values() == pytest.approx({"mean": values.mean(), "square": (values**2).sum()})
    assert set(bootstrap(found)) == {"mean", "square"}


def test_the_same_seed_gives_the_same_interval_and_no_generator_moves() -> None:
    values, state = RNG.normal(size=30), np.random.get_state()[1].tolist()
    assert bootstrap(mean_of(values)) == bootstrap(mean_of(values))
    assert bootstrap(mean_of(values)) != bootstrap(mean_of(values), seed=1)
    assert np.random.get_state()[1].tolist() == state


def test_what_cannot_be_said_is_left_out() -> None:
    assert mean_interval(np.ones(50)) is None
    assert mean_interval(RNG.normal(size=9)) is None
    undefined = Summed(np.ones((30, 1)), lambda sums: {"ratio": sums[:, 0] * np.nan})
    assert bootstrap(undefined) == {}
    assert method_of(100).startswith("BCa")
    assert method_of(100_000).startswith("percentile")


def test_blocks_end_where_a_series_does() -> None:
    places = np.array([0, 1, 2, 3, 4, 10, 11, 12])
    assert blocks_of(places, 2).tolist() == [0, 0, 1, 1, 2, 3, 3, 4]
    assert blocks_of(np.arange(0, 12, 3), 2, 3).tolist() == [0, 0, 1, 1]
    starts = np.array([0, 5, 10, 15, 20, 25])  # of windows of 4 steps and their target, in series of 10 steps each
    assert blocks_of(starts, 6, 5, starts // 10).tolist() == [0, 0, 1, 1, 2, 2]
    assert blocks_of(starts[::2], 3, 5).tolist() == [0, 1, 2]  # one window of each: none follows another
    assert blocks_of(np.array([5]), 2).tolist() == [0]
    assert block_length(1000, 1) == 10
    assert block_length(1000, 24) == 24


def test_a_difference_that_hangs_on_few_rows_of_a_class_gets_no_interval() -> None:
    true = np.array([0] * 28 + [1] * 31 + [2])
    one, other = (np.random.default_rng(seed).dirichlet(np.ones(3), 60) for seed in (1, 2))
    verdict = Verdict("multiclass", true, one, Decoding("softmax", 3))
    found = verdict.beside(other)["difference"]
    assert "low" in found["accuracy"]
    assert all("low" not in entry for name, entry in found.items() if name != "accuracy")
    assert method_of(30_000).endswith("of 20,000 rows, scaled")
