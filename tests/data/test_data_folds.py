"""Folds: each row tested once in each repetition, shares of classes kept, groups whole, time forward."""

from __future__ import annotations

import numpy as np
import pytest

from netwright.data.folds import fold_rows
from netwright.errors import DataError

ROWS = np.arange(100, 203)
GENERATOR = np.random.default_rng(0)
CLASSES = GENERATOR.choice(3, len(ROWS), p=[0.7, 0.25, 0.05])
GROUPS = GENERATOR.integers(0, 12, len(ROWS))


@pytest.mark.parametrize("settings", [{}, {"classes": CLASSES}, {"groups": GROUPS}], ids=["random", "stratified", "grouped"])
def test_each_row_is_tested_once_in_each_repetition(settings: dict[str, np.ndarray]) -> None:
    dealt = []
    for repetition in range(2):
        tested = []
        for fold in range(5):
            test, rest = fold_rows(ROWS, 5, 5 * repetition + fold, 3, **settings)
            assert np.array_equal(np.sort(np.concatenate([test, rest])), ROWS)
            again, _ = fold_rows(ROWS, 5, 5 * repetition + fold, 3, **settings)
            np.testing.assert_array_equal(test, again)
            tested.append(test)
        assert np.array_equal(np.sort(np.concatenate(tested)), ROWS)
        dealt.append(tested)
    assert any(not np.array_equal(*pair) for pair in zip(*dealt, strict=True))  # a repetition deals anew
    assert not np.array_equal(fold_rows(ROWS, 5, 0, 3, **settings)[0], fold_rows(ROWS, 5, 0, 4, **settings)[0])


def test_the_shares_of_the_classes_differ_by_one_row_at_most() -> None:
    counts = np.stack(
        [np.bincount(CLASSES[fold_rows(ROWS, 5, fold, 0, classes=CLASSES)[0] - 100], minlength=3) for fold in range(5)]
    )
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_groups_stay_whole_and_folds_even() -> None:
    sizes = []
    for fold in range(4):
        test, rest = fold_rows(ROWS, 4, fold, 0, groups=GROUPS)
        assert not set(GROUPS[test - 100]) & set(GROUPS[rest - 100])
        sizes.append(len(test))
    assert max(sizes) - min(sizes) <= np.bincount(GROUPS).max()


def test_blocks_go_forward_in_time_with_their_gap() -> None:
    times = GENERATOR.permutation(len(ROWS))
    last = -1
    for fold in range(5):
        test, rest = fold_rows(ROWS, 5, fold, 0, times=times, gap=4)
        tested, before = times[test - 100], times[rest - 100]
        assert before.max() + 5 == tested.min() > last
        last = tested.max()
        assert len(test) == len(ROWS) // 6
    assert last == len(ROWS) - 1


def test_equal_times_stay_together() -> None:
    times = np.arange(len(ROWS)) // 10
    for fold in range(3):
        test, rest = fold_rows(ROWS, 3, fold, 0, times=times)
        assert times[rest - 100].max() < times[test - 100].min()


@pytest.mark.parametrize(
    ("settings", "number", "words"),
    [
        ({}, 4, "3 rows cannot give 5 folds; expected more rows"),
        ({"groups": np.array([1, 1, 2])}, 0, r"2 groups came; 5 folds need 5 or more"),
        ({"times": np.arange(3)}, 0, "3 rows cannot give 5 folds"),
        ({"times": np.arange(3)}, 5, "5 came; in order of time there are 5 folds; leave data.split.repeats out"),
    ],
)
def test_too_few_rows_for_the_folds_are_told(settings: dict[str, np.ndarray], number: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fold_rows(np.arange(3), 5, number, 0, **settings)
