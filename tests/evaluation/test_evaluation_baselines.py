"""Models without a network: against scikit-learn's own figures, series against their formulas, and what is not made."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from netwright.evaluation import baselines
from netwright.evaluation.baselines import (
    Baseline,
    LeftOutError,
    Problem,
    find_period,
    made_together,
    make_boosting,
    make_linear,
    make_simple,
    repeat_season,
)

RNG = np.random.default_rng(0)


def problem(load: object, kind: str, **settings: object) -> tuple[Problem, np.ndarray]:
    rows, target = load(return_X_y=True)  # type: ignore[operator]
    order = np.random.default_rng(1).permutation(len(rows))
    train, test = order[: len(rows) * 2 // 3], order[len(rows) * 2 // 3 :]
    target = target.astype(float)[:, None] if kind == "regression" else target
    return Problem(kind, rows[train], rows[test], target[train], **settings), target[test]  # type: ignore[arg-type]


def test_without_a_feature_the_shares_of_the_train_rows_are_given() -> None:
    target = np.array([0, 1, 1, 2, 1])
    found = make_simple("multiclass", target, 4, 3)
    prior = DummyClassifier(strategy="prior").fit(np.zeros((5, 1)), target)
    np.testing.assert_allclose(found.decoded, prior.predict_proba(np.zeros((4, 1))))
    assert found.key == "most_frequent"
    np.testing.assert_allclose(make_simple("regression", np.array([[1.0, 2.0], [3.0, 6.0]]), 2, 0).decoded, [[2, 4], [2, 4]])
    labels = np.array([[1, 0, 1]] * 3 + [[0, 0, 0]] * 2)
    found = make_simple("multilabel", labels, 2, 3)
    np.testing.assert_array_equal(found.decoded, [[1, 0, 1], [1, 0, 1]])
    assert baselines.labels_told(found.decoded, ["a", "b", "c"]) == ["a", "c"]


def test_logistic_and_linear_regression_are_scikit_learns() -> None:
    given, _ = problem(load_breast_cancer, "binary", classes=2)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(given.train, given.target)
    np.testing.assert_allclose(make_linear(given).decoded, model.predict_proba(given.test))
    given, _ = problem(load_diabetes, "regression")
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(given.train, given.target[:, 0])
    np.testing.assert_allclose(make_linear(given).decoded[:, 0], ridge.predict(given.test))


def test_boosting_learns_more_than_a_guess() -> None:
    given, true = problem(load_iris, "multiclass", classes=3)
    found = make_boosting(given)
    assert found.note == ""
    assert (found.decoded.argmax(axis=1) == true).mean() > 0.85
    given, true = problem(load_diabetes, "regression")
    error = make_boosting(given).decoded - true
    assert np.sqrt((error**2).mean()) < 0.9 * true.std()


@pytest.mark.parametrize(("far", "unit"), [(1e9, 1.0), (0.0, 1e-5)])
def test_regressions_are_as_good_whatever_the_unit_of_the_target(far: float, unit: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(11_000, 2)).astype(np.float32)  # from 10,000 on boosting looks whether it may stop
    target = (np.sin(2 * rows[:, 0]) + rows[:, 1])[:, None].astype(np.float64)
    for make in (make_linear, make_boosting):
        usual = make(Problem("regression", rows, rows[:500], target)).decoded
        found = make(Problem("regression", rows, rows[:500], far + unit * target)).decoded
        np.testing.assert_allclose((found - far) / unit, usual, atol=1e-3)


def test_a_class_without_a_train_row_gets_no_chance_and_one_class_alone_all() -> None:
    given = Problem("multiclass", RNG.normal(size=(30, 2)), RNG.normal(size=(5, 2)), np.arange(30) % 2 * 2, classes=4)
    found = make_linear(given).decoded
    assert found.shape == (5, 4)
    assert (found[:, [1, 3]] == 0).all()
    alone = Problem("multilabel", given.train, given.test, np.stack([np.zeros(30, int), np.arange(30) % 2], axis=1))
    found = make_linear(alone).decoded
    assert (found[:, 0] == 0).all()
    assert ((found[:, 1] > 0) & (found[:, 1] < 1)).all()


def test_codes_are_categories_and_not_amounts() -> None:
    codes = RNG.integers(0, 5, 400).astype(float)
    target = (codes % 2 == 0).astype(np.int64)
    given = Problem("binary", codes[:300, None], codes[300:, None], target[:300], 2, categories=(0,))
    for found in (make_linear(given), make_boosting(given)):
        assert (found.decoded.argmax(axis=1) == target[300:]).all(), found.name


def test_counts_get_poisson_models() -> None:
    rows = RNG.normal(size=(300, 3))
    counts = RNG.poisson(np.exp(rows[:, 0])).astype(float)[:, None]
    given = Problem("regression", rows[:200], rows[200:], counts[:200], rates=True)
    found = make_linear(given)
    assert found.name == "Poisson regression"
    assert (found.decoded > 0).all()
    assert (make_boosting(given).decoded > 0).all()


def test_what_is_too_much_work_is_cut_or_left_out_and_said() -> None:
    given = Problem("binary", RNG.normal(size=(50, 500)), RNG.normal(size=(5, 500)), np.arange(50) % 2, 2)
    with pytest.raises(LeftOutError, match="500 features; at most 400"):
        make_boosting(given)
    slow = Problem("binary", RNG.normal(size=(4000, 300)), RNG.normal(size=(5, 300)), RNG.integers(0, 2, 4000), 2)
    with pytest.raises(LeftOutError, match="5 rounds look at 6,500,000 numbers; at most 6,499,999 are looked at"):
        make_boosting(slow, 6_499_999)
    assert make_boosting(slow, 6_500_000).note == "5 of 100 rounds, for the many rows"
    assert make_linear(slow, 12_000_000).note == "10 of 100 iterations, for the many rows"
    wide = replace(slow, train=RNG.normal(size=(20, 300)), target=np.arange(20) % 2)
    assert make_linear(wide, 60_000).note == "10 of 100 iterations, for the many features"
    crowd = Problem("multiclass", RNG.normal(size=(40, 2)), RNG.normal(size=(5, 2)), np.arange(40) % 20, 20)
    assert make_boosting(crowd, 11_000_000).note == "5 of 100 rounds, for the many classes"
    assert make_linear(crowd, 16_000).note == "10 of 100 iterations, for the many classes"
    many = Problem("multilabel", RNG.normal(size=(20, 2)), RNG.normal(size=(5, 2)), RNG.integers(0, 2, (20, 60)))
    with pytest.raises(LeftOutError, match="60 outputs"):
        make_linear(many)


def test_a_busy_machine_gets_the_same_models(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = problem(load_iris, "multiclass", classes=3)
    quiet = [make(given).decoded for make in (make_linear, make_boosting)]
    clock = iter(range(0, 10_000_000, 1000))  # at each look a quarter of an hour has passed
    monkeypatch.setattr(baselines.time, "perf_counter", lambda: float(next(clock)))
    makers = [("linear", lambda: make_linear(given)), ("boosting", lambda: make_boosting(given))]
    busy = [made for _, made in made_together(makers, together=False)]
    assert all(isinstance(made, Baseline) for made in busy)
    assert [made.seconds for made in busy] == [1000.0, 1000.0]
    assert [made.note for made in busy] == ["", ""]
    for before, now in zip(quiet, busy, strict=True):
        np.testing.assert_array_equal(now.decoded, before)


def test_models_that_are_made_at_once_are_those_made_one_after_the_other() -> None:
    given = Problem("binary", RNG.normal(size=(3000, 12)), RNG.normal(size=(500, 12)), RNG.integers(0, 2, 3000), 2)

    def refused() -> Baseline:
        raise LeftOutError("too many")

    makers = [("boosting", lambda: make_boosting(given)), ("none", refused), ("linear", lambda: make_linear(given, 400_000))]
    filters, threads = list(warnings.filters), torch.get_num_threads()
    for _ in range(3):
        at_once, in_turn = (list(made_together(makers, together)) for together in (True, False))
        assert [name for name, _ in at_once] == [name for name, _ in in_turn] == ["boosting", "none", "linear"]
        assert str(at_once[1][1]) == str(in_turn[1][1]) == "too many"
        for place in (0, 2):
            one, other = at_once[place][1], in_turn[place][1]
            assert isinstance(one, Baseline)
            assert isinstance(other, Baseline)
            np.testing.assert_array_equal(one.decoded, other.decoded)
            assert one.note == other.note
    assert one.note == "11 of 100 iterations, for the many rows"
    assert warnings.filters == filters
    assert torch.get_num_threads() == threads


def test_models_are_made_at_once_where_nothing_is_imported_yet() -> None:
    code = """if True:
        import numpy as np
        from netwright.evaluation.baselines import Problem, made_together, make_boosting, make_linear
        rows = np.random.default_rng(0).normal(size=(60, 2))
        given = Problem("binary", rows[:50], rows[50:], np.arange(50) % 2, 2)
        made = made_together([("linear", lambda: make_linear(given)), ("boosting", lambda: make_boosting(given))])
        print([found.name for _, found in made])
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "['logistic regression', 'gradient boosting']\n"


def test_whoever_takes_no_more_models_gets_warnings_and_threads_back() -> None:
    given = Problem("binary", RNG.normal(size=(50, 2)), RNG.normal(size=(5, 2)), np.arange(50) % 2, 2)
    filters, threads = list(warnings.filters), torch.get_num_threads()
    found = made_together([("linear", lambda: make_linear(given)), ("boosting", lambda: make_boosting(given))])
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert warnings.filters == filters
    assert torch.get_num_threads() == threads


def test_a_season_is_repeated_from_what_is_known() -> None:
    values = np.arange(40.0)[:, None]
    known = np.array([2, 20, 21])
    found = repeat_season(values, known, 1, 7, values[known])
    np.testing.assert_array_equal(found.decoded[:, 0], [2, 14, 15])  # the first begins before the series: the last value
    found = repeat_season(values, known, 10, 7, values[known])
    np.testing.assert_array_equal(found.decoded[:, 0], [2, 16, 17])  # two seasons before the tenth step ahead
    assert (found.decoded[:, 0] <= known).all()


@pytest.mark.parametrize("period", [7, 12, 30, 365])
def test_a_season_is_found_beside_a_trend_and_noise(period: int) -> None:
    times = np.arange(5 * period)
    series = 0.02 * times + np.sin(2 * np.pi * times / period) + RNG.normal(0, 0.3, len(times))
    assert find_period(series) == period


def test_noise_trends_and_constants_have_no_season() -> None:
    found = [find_period(np.random.default_rng(seed).normal(size=300)) for seed in range(20)]
    assert sum(period is not None for period in found) <= 2
    assert find_period(np.arange(200.0)) is None
    assert find_period(np.ones(200)) is None
    assert find_period(np.ones(5)) is None
