"""Differences of two networks on the same rows: their values, SciPy's own intervals, groups, McNemar's test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from netwright.evaluation import pairs, resampling
from netwright.evaluation.pairs import Outcomes, mcnemar, paired_differences


def classes(rows: int, classes: int, right: float, seed: int, true: np.ndarray) -> Outcomes:
    generator = np.random.default_rng(seed)
    found = generator.dirichlet(np.ones(classes), rows)
    good = generator.random(rows) < right
    found[good, true[good]] += 1
    found /= found.sum(axis=1, keepdims=True)
    return Outcomes("class", true, found.argmax(axis=1), classes, found)


def scores(outcomes: Outcomes) -> dict[str, float]:
    true, guess, chances = outcomes.true, outcomes.predicted, outcomes.probabilities
    assert chances is not None
    two = outcomes.classes == 2
    area = metrics.roc_auc_score(true, chances[:, 1] if two else chances, multi_class="ovr")
    return {
        "accuracy": metrics.accuracy_score(true, guess),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, guess),
        "f1_macro": metrics.f1_score(true, guess, average="macro"),
        "roc_auc": area,
        **(
            {
                "f1": metrics.f1_score(true, guess),
                "average_precision": metrics.average_precision_score(true, chances[:, 1]),
            }
            if two
            else {}
        ),
    }


@pytest.mark.parametrize("count", [2, 5])
def test_the_differences_are_those_of_scikit_learn(count: int) -> None:
    true = np.random.default_rng(0).integers(0, count, 200)
    one, other = classes(200, count, 0.6, 1, true), classes(200, count, 0.8, 2, true)
    found = paired_differences(one, other, np.arange(200))
    mine, theirs = scores(one), scores(other)
    assert set(found) == set(mine)
    for name, difference in found.items():
        assert difference.value == pytest.approx(theirs[name] - mine[name])
        assert difference.method == "BCa bootstrap"
        assert difference.low is not None
        assert difference.high is not None
        assert difference.low < difference.value < difference.high


def test_the_interval_of_the_accuracy_is_that_of_scipys_paired_bootstrap() -> None:
    true = np.random.default_rng(0).integers(0, 3, 300)
    one, other = classes(300, 3, 0.7, 1, true), classes(300, 3, 0.8, 2, true)
    hits = [(side.true == side.predicted).astype(float) for side in (one, other)]
    expected = stats.bootstrap(
        hits, lambda x, y, axis: (y - x).mean(axis), paired=True, vectorized=True, method="BCa", n_resamples=20_000,
        random_state=1,
    ).confidence_interval  # fmt: skip
    found = paired_differences(one, other, np.arange(300))["accuracy"]
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.012)


def test_pairing_sees_what_two_intervals_would_not() -> None:
    true = np.random.default_rng(0).normal(size=(400, 1))
    hard = np.random.default_rng(1).normal(size=(400, 1))
    one, other = Outcomes("values", true, true + hard), Outcomes("values", true, true + 0.95 * hard)
    found = paired_differences(one, other, np.arange(400))
    assert found["rmse"].value == pytest.approx(-0.05 * np.sqrt(np.mean(hard**2)))
    assert found["rmse"].sure
    assert found["r2"].value == pytest.approx(
        metrics.r2_score(true, other.predicted) - metrics.r2_score(true, one.predicted)
    )
    alone = 2 * 1.96 * np.std(hard**2) / np.sqrt(400)  # of one mean square by itself
    assert found["rmse"].high - found["rmse"].low < alone / 4  # type: ignore[operator]


def test_rows_of_a_group_are_drawn_together_and_the_interval_is_wider() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    true = generator.normal(size=(400, 1))
    shift = generator.normal(size=20)[groups][:, None]
    one, other = Outcomes("values", true, true + 1), Outcomes("values", true, true + 1 + 0.5 * shift)
    alone = paired_differences(one, other, np.arange(400))["mae"]
    together = paired_differences(one, other, groups)["mae"]
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 2 * (alone.high - alone.low)  # type: ignore[operator]


def test_labels_are_compared_by_their_figures() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 2, (120, 4))
    noisy = [np.where(generator.random((120, 4)) < share, 1 - true, true) for share in (0.3, 0.2)]
    one, other = (Outcomes("labels", true, guess) for guess in noisy)
    found = paired_differences(one, other, np.arange(120))
    for average in ("micro", "macro"):
        gap = np.subtract(*(metrics.f1_score(true, guess, average=average) for guess in reversed(noisy)))
        assert found[f"f1_{average}"].value == pytest.approx(gap)
    assert found["hamming_loss"].value == pytest.approx(
        metrics.hamming_loss(true, noisy[1]) - metrics.hamming_loss(true, noisy[0])
    )
    assert found["subset_accuracy"].value == pytest.approx(
        metrics.accuracy_score(true, noisy[1]) - metrics.accuracy_score(true, noisy[0])
    )


def test_many_rows_get_percentile_intervals_few_and_equal_ones_none(monkeypatch: pytest.MonkeyPatch) -> None:
    true = np.random.default_rng(0).normal(size=(60, 1))
    one, other = Outcomes("values", true, true + 1), Outcomes("values", true, true * 1.5)
    monkeypatch.setattr(resampling, "MOST_BCA", 50)
    assert paired_differences(one, other, np.arange(60))["mae"].method == "percentile bootstrap"
    assert paired_differences(one, one, np.arange(60))["mae"] == pairs.Difference(0.0)
    few = [Outcomes("values", side.true[:8], side.predicted[:8]) for side in (one, other)]
    assert paired_differences(*few, np.arange(8))["mae"].low is None


def test_mcnemars_test_counts_the_rows_that_one_alone_has_right() -> None:
    first = np.array([True] * 30 + [False] * 5 + [True] * 15)
    second = np.array([True] * 35 + [False] * 15)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (15, 5)
    assert found.p == pytest.approx(2 * sum(stats.binom.pmf(k, 20, 0.5) for k in range(6)))
    assert mcnemar(first, first).p == 1.0
