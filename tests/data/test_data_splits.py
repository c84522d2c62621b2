"""Who trains, validates and tests: complete, disjoint, exact, deterministic; groups and equal times never part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netwright.data.splits import Split, check_disjoint, check_rows, divide
from netwright.errors import DataError

SIZES = [(0.2, 0.2), (0.0, 0.2), (0.2, 0.0), (0.0, 0.0), (0.1, 0.3), (0.45, 0.45), (1, 1), (3, 5), (0, 7), (20, 0.25)]
COUNTS = [*range(1, 41), 59, 60, 61, 99, 100, 101, 150, 199, 200]


def wanted(size: float, rows: int) -> int:
    if size >= 1:
        return int(size)
    return max(1, round(size * rows)) if size > 0 else 0


def cases() -> Iterator[tuple[int, tuple[float, float], int]]:
    for count in COUNTS:
        for place, sizes in enumerate(SIZES):
            for seed in (0, 1, 7 * count + place):
                yield count, sizes, seed


def parts(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.valid, split.test


def refuse_invalid(split: Split, rows: np.ndarray) -> None:
    """Complete, disjoint, sorted, int64, and somebody trains."""
    together = np.concatenate(parts(split))
    assert np.sort(together).tolist() == np.sort(rows).tolist()
    for part in parts(split):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert len(split.train) >= 1


def tried(rows: np.ndarray, sizes: tuple[float, float], seed: int, **how: Any) -> Split | None:
    """A valid split, or None where it is refused with a message."""
    try:
        split = divide(rows, sizes, seed, **how)
    except DataError as error:
        return None if str(error).startswith("data.split") else pytest.fail(str(error))
    refuse_invalid(split, rows)
    again = divide(rows, sizes, seed, **how)
    assert [part.tolist() for part in parts(again)] == [part.tolist() for part in parts(split)]
    return split


def test_random_splits_are_complete_disjoint_exact_and_deterministic() -> None:
    made = 0
    for count, sizes, seed in cases():
        rows = np.arange(count) * 3 + 5
        split = tried(rows, sizes, seed)
        valid, test = (wanted(size, count) for size in sizes)
        assert (split is None) == (count - valid - test < 1)
        if split is not None:
            made += 1
            assert (len(split.valid), len(split.test)) == (valid, test)
    assert made > 1000


def test_stratified_splits_keep_the_shares_of_the_classes_within_one_row() -> None:
    made = 0
    for count, sizes, seed in cases():
        classes = np.random.default_rng(seed).integers(0, 1 + seed % 4, count)
        split = tried(np.arange(count), sizes, seed, classes=classes)
        if split is None:
            continue
        made += 1
        assert (len(split.valid), len(split.test)) == tuple(wanted(size, count) for size in sizes)
        for label in np.unique(classes):
            members = (classes == label).sum()
            for part in (split.valid, split.test):
                exact = members * len(part) / count
                found = (classes[part] == label).sum()
                # where a class would get less than a row and there is room, it gets one, at the cost of the largest
                if min(np.bincount(classes)[np.unique(classes)]) * len(part) / count >= 1:
                    assert abs(found - exact) <= 1
            assert (classes[split.train] == label).sum() >= 1
    assert made > 600


def test_each_class_of_a_stratified_split_stands_in_each_part_where_that_fits() -> None:
    classes = np.array([0] * 90 + [1] * 7 + [2] * 3)
    split = divide(np.arange(100), (0.2, 0.2), 0, classes=classes)
    for part in parts(split):
        assert set(classes[part]) == {0, 1, 2}
    assert [len(part) for part in parts(split)] == [60, 20, 20]


def test_too_few_rows_of_a_class_are_an_error_with_the_class_number() -> None:
    with pytest.raises(DataError, match=r"class number 3 has 2 rows; a stratified split into 3 parts needs 3 of each"):
        divide(np.arange(20), (0.2, 0.2), 0, classes=np.array([1] * 18 + [3] * 2))


def test_groups_never_part() -> None:
    made = 0
    for count, sizes, seed in cases():
        groups = np.random.default_rng(seed).integers(0, 2 + count // (2 + seed % 3), count).astype(str)
        split = tried(np.arange(count), sizes, seed, groups=groups)
        if split is None:
            continue
        made += 1
        seen = [set(groups[part]) for part in parts(split)]
        assert sum(len(values) for values in seen) == len(seen[0] | seen[1] | seen[2])
        assert [len(part) > 0 for part in (split.valid, split.test)] == [wanted(size, count) > 0 for size in sizes]
        assert split.how == f"by group ({len(np.unique(groups))} groups)"
    assert made > 500


def test_group_parts_are_near_their_sizes_when_groups_are_small() -> None:
    for seed in range(50):
        groups = np.repeat(np.arange(100), 5)
        split = divide(np.arange(500), (0.2, 0.2), seed, groups=groups)
        assert [len(part) for part in parts(split)] == [300, 100, 100]


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.split\.group: 2 groups came; 3 parts need 3 or more"):
        divide(np.arange(10), (0.2, 0.2), 0, groups=np.array(["a", "b"] * 5))


@pytest.mark.parametrize("spread", [1, 3, 10, 1000])
def test_time_never_runs_backwards_and_equal_times_never_part(spread: int) -> None:
    made = 0
    for count, sizes, seed in cases():
        times = np.random.default_rng(seed).integers(0, 1 + count // spread, count).astype(float)
        split = tried(np.arange(count), sizes, seed, times=times)
        if split is None:
            continue
        made += 1
        previous = -np.inf
        for part in parts(split):
            if len(part):
                assert times[part].min() > previous
                previous = times[part].max()
        for part, size in ((split.valid, sizes[0]), (split.test, sizes[1])):
            assert (len(part) > 0) == (wanted(size, count) > 0)
    assert made > (800 if spread == 1 else 100)


def test_time_splits_of_distinct_times_are_exact_and_need_no_seed() -> None:
    order = np.random.default_rng(3).permutation(50)
    one, other = (divide(np.arange(50), (0.2, 0.3), seed, times=order.astype(float)) for seed in (0, 1))
    assert [len(part) for part in parts(one)] == [25, 10, 15]
    assert one.digest() == other.digest()
    assert sorted(order[one.test]) == list(range(35, 50))


def test_times_that_are_texts_are_sorted_as_texts() -> None:
    days = np.array(["2024-03-01", "2023-12-31", "2024-02-29", "2024-01-01", "2022-05-05"])
    split = divide(np.arange(5), (1, 1), 0, times=days)
    assert [part.tolist() for part in parts(split)] == [[1, 3, 4], [2], [0]]


def test_one_time_for_all_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.split\.time: too many rows share one time"):
        divide(np.arange(10), (0.2, 0.2), 0, times=np.zeros(10))


def test_other_seeds_give_other_splits_and_equal_seeds_equal_ones() -> None:
    digests = {divide(np.arange(100), (0.2, 0.2), seed).digest() for seed in range(100)}
    assert len(digests) == 100


def test_a_split_moves_no_global_generator_and_changes_no_argument() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    rows, classes = np.arange(30)[::-1].copy(), np.arange(30) % 2
    divide(rows, (0.2, 0.2), 0, classes=classes)
    assert (np.random.get_state()[1] == before).all()
    assert rows.tolist() == list(range(30))[::-1]
    assert classes.tolist() == [row % 2 for row in range(30)]


def test_the_default_sizes_give_sixty_twenty_twenty() -> None:
    split = divide(np.arange(150), (0.2, 0.2), 0)
    assert [len(part) for part in parts(split)] == [90, 30, 30]


def test_the_split_of_a_seed_is_the_same_for_ever() -> None:
    split = divide(np.arange(10), (0.2, 0.2), seed=0)
    assert [part.tolist() for part in parts(split)] == [[0, 1, 4, 5, 6, 9], [3, 8], [2, 7]]
    assert split.digest() == "sha256:65aff375065ec0287b31942ac4867817a68a65b0042954e42e91973326989420"
    stratified = divide(np.arange(10), (0.2, 0.2), seed=1, classes=np.array([0, 1] * 5))
    assert [part.tolist() for part in parts(stratified)] == [[2, 3, 4, 5, 6, 9], [1, 8], [0, 7]]


def test_the_digest_depends_on_the_parts_and_not_on_their_order() -> None:
    one = Split(np.array([3, 1]), np.array([2]), np.array([0]), "given")
    same = Split(np.array([1, 3], dtype=">i4"), np.array([2], dtype=np.uint8), np.array([0]), "random")
    moved = Split(np.array([3]), np.array([1, 2]), np.array([0]), "given")
    swapped = Split(np.array([1, 3]), np.array([0]), np.array([2]), "given")
    assert one.digest() == same.digest()
    assert len({one.digest(), moved.digest(), swapped.digest()}) == 3


# rows, sizes, words of the message
REFUSED: dict[str, tuple[int, tuple[float, float], str]] = {
    "no rows": (0, (0.2, 0.2), "0 rows cannot give"),
    "nobody trains": (10, (5, 5), "10 rows cannot give 5 to valid and 5 to test"),
    "two rows": (2, (0.2, 0.2), "2 rows cannot give 1 to valid and 1 to test"),
    "more than there are": (10, (0, 11), "10 rows cannot give 0 to valid and 11 to test"),
    "shares of one": (10, (0.5, 0.5), "10 rows cannot give 5 to valid and 5 to test"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_sizes_that_leave_nobody_to_train_are_an_error(name: str) -> None:
    count, sizes, words = REFUSED[name]
    with pytest.raises(DataError) as problem:
        divide(np.arange(count), sizes, 0)
    assert words in str(problem.value)


# the row numbers, the number of rows, words of the message
BAD_ROWS: dict[str, tuple[Any, int, str]] = {
    "beyond the end": ([0, 5], 5, "rows 0 to 5 came; the data have rows 0 to 4"),
    "below zero": ([-1, 2], 5, "rows -1 to 2 came"),
    "twice": ([2, 1, 2], 5, "row 2 came twice"),
    "fractions": ([0.5], 5, "float64 of shape (1,) came"),
    "a mask": ([True, False], 5, "bool of shape (2,) came"),
    "texts": (["1"], 5, "<U1 of shape (1,) came"),
    "two axes": ([[1], [2]], 5, "int64 of shape (2, 1) came"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_row_numbers_that_cannot_be_are_refused(name: str) -> None:
    rows, count, words = BAD_ROWS[name]
    with pytest.raises(DataError) as problem:
        check_rows("test", rows, count)
    assert str(problem.value).startswith("data.split.test: ")
    assert words in str(problem.value)


@pytest.mark.parametrize("rows", [[3, 1, 2], np.array([3, 1, 2], np.uint8), (3, 1, 2), np.array([3, 1, 2], ">i2")])
def test_row_numbers_are_sorted_whole_numbers(rows: Any) -> None:
    found = check_rows("test", rows, 5)
    assert (found.tolist(), found.dtype) == ([1, 2, 3], np.int64)


# train, valid, test, words of the message
SHARED: dict[str, tuple[list[int], list[int], list[int], str]] = {
    "train and valid": ([0, 1, 2], [2, 1], [3], "row 1 is in train and in valid (2 such rows)"),
    "train and test": ([0, 1], [], [1], "row 1 is in train and in test (1 such rows)"),
    "valid and test": ([0], [4, 5], [5], "row 5 is in valid and in test (1 such rows)"),
    "nobody trains": ([], [1], [2], "no row is left to train"),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_row_in_two_parts_is_named(name: str) -> None:
    train, valid, test, words = SHARED[name]
    with pytest.raises(DataError) as problem:
        check_disjoint(Split(*(np.array(part, np.int64) for part in (train, valid, test)), "given"))
    assert words in str(problem.value)


def test_disjoint_parts_pass_whether_complete_or_not() -> None:
    check_disjoint(Split(np.array([0, 9]), np.array([], np.int64), np.array([4]), "given"))
