"""Each check finds what it is for, and keeps silent where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from netwright.checks import columns as single
from netwright.checks import duplicates, leaks, parts, shift
from netwright.checks.view import Values
from netwright.data.splits import Split
from netwright.sources.marks import Markers

GENERATOR = np.random.default_rng(0)


def split(train: int, valid: int, test: int, how: str = "random") -> Split:
    ends = np.cumsum([train, valid, test])
    return Split(np.arange(ends[0]), np.arange(ends[0], ends[1]), np.arange(ends[1], ends[2]), how)


def exact(values: list[int], target: list[int] | None = None, **sizes: int) -> list[Any]:
    numbers = None if target is None else np.asarray(target, dtype=np.float64)[:, None]
    return duplicates.exact(np.asarray(values, dtype=np.uint64), numbers, split(**sizes), lambda row: f"row {row}")


def test_exact_duplicates_are_counted_per_pair_of_parts() -> None:
    found = exact([1, 2, 3, 4, 5, 1, 6, 2, 6], [0, 0, 0, 0, 0, 0, 0, 1, 0], train=5, valid=2, test=2)
    assert [finding.why.partition(" (first")[0] for finding in found] == [
        "1 of 2 test rows have the inputs of a train row, 1 of them with another target",
        "1 of 2 valid rows have the inputs of a train row",
        "1 of 2 test rows have the inputs of a valid row",
    ]
    assert "(first: row 7 and row 1)" in found[0].why
    assert exact([1, 2, 3, 4, 5, 6, 7, 8, 9], train=5, valid=2, test=2) == []
    assert exact([1, 2, 3], train=3, valid=0, test=0) == []


def test_rows_that_repeat_by_nature_are_no_finding() -> None:
    assert exact([1, 1, 2, 2, 1, 1, 2, 1], train=6, valid=1, test=1) == []


def columns(train: np.ndarray, test: np.ndarray, kind: str = "number") -> dict[str, list[Values]]:
    return {"train": [Values("a", kind, train)], "valid": [Values("a", kind, train[:0])], "test": [Values("a", kind, test)]}


def test_near_duplicates_are_found_and_neighbours_are_not() -> None:
    train = GENERATOR.normal(size=(200, 3))
    far = GENERATOR.normal(size=(50, 3))
    near = np.concatenate([train[:5] + 1e-4, far])
    named = [[Values(str(place), "number", column) for place, column in enumerate(part.T)] for part in (train, near, far)]
    found = duplicates.near({"train": named[0], "valid": named[2], "test": named[1]}, 0.05)
    assert [(finding.figures["part"], finding.figures["rows"]) for finding in found] == [("test", 5)]


def test_classes_and_labels_that_train_lacks_are_named() -> None:
    found = parts.classes(["a", "b", 3], np.array([0, 0, 1, 2]), split(2, 1, 1))
    assert [finding.figures["class"] for finding in found] == ["b", "3"]
    found = parts.classes(["a", "b"], np.array([[1, 0], [1, 0], [1, 1]]), split(2, 0, 1))
    assert [(finding.where, finding.confidence) for finding in found] == [("label 'b'", "sure")]


@pytest.mark.parametrize("name", ["patient_id", "Subject", "user", "site no", "customerId", "customer_id", "dataset group"])
def test_a_column_named_as_a_group_that_stands_in_two_parts_is_told(name: str) -> None:
    values = np.array(["a", "a", "b", "b", "c", "c", "a", "d"])
    found = parts.shared_groups({name: values}, split(6, 0, 2), None)
    assert [finding.figures for finding in found] == [{"column": name, "part": "test", "rows": 1, "groups": 1}] or (
        name == "customerId" and found == []
    )
    assert {finding.severity for finding in found} <= {"note"}  # of a handful of values nobody can tell
    many = np.tile(np.arange(12).astype(str), 4)
    (finding,) = parts.shared_groups({name: many}, split(36, 0, 12), None)
    assert finding.severity == "warning"
    apart = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    assert parts.shared_groups({name: apart}, split(6, 0, 2), None) == []


@pytest.mark.parametrize("name", ["age", "colour", "grouped_price", "userage"])
def test_other_columns_are_no_groups(name: str) -> None:
    assert parts.shared_groups({name: np.array(["a"] * 8)}, split(6, 0, 2), None) == []


def test_the_group_of_the_split_must_not_stand_in_two_parts() -> None:
    found = parts.shared_groups({"age": np.array(list("aabbccad"))}, split(6, 0, 2), "age")
    assert found[0].advice == "mend the files or row numbers"


def test_time_that_runs_backwards_and_a_series_divided_at_random_are_told() -> None:
    times = np.arange(100.0)
    backwards = Split(np.arange(40, 100), np.arange(20, 40), np.arange(20), "given")
    assert parts.time({"day": times}, backwards)[0].why.startswith("time runs backwards")
    rows = GENERATOR.permutation(100)
    random = Split(np.sort(rows[:60]), np.sort(rows[60:80]), np.sort(rows[80:]), "random")
    assert "in order of time and were divided at random" in parts.time({"day": times}, random)[0].why
    assert parts.time({"day": GENERATOR.permutation(100).astype(float)}, random) == []
    assert parts.time({"day": times}, split(60, 20, 20, "by time")) == []
    assert parts.time({"day": times // 30}, random) == []  # four days are no series


def test_a_shift_is_scikit_and_scipys_statistic_and_named() -> None:
    train, test = GENERATOR.normal(size=800), GENERATOR.normal(0.6, size=400)
    found = shift.shifts(columns(train, test))
    theirs = stats.ks_2samp(train, test, method="asymp")
    assert found[0].figures["measure"] == "Kolmogorov-Smirnov statistic"
    assert found[0].figures["distance"] == pytest.approx(theirs.statistic)
    rows = 800 * 400 / 1200
    assert np.log(shift._chance(theirs.statistic, rows)) == pytest.approx(np.log(theirs.pvalue), rel=0.05)
    assert shift.shifts(columns(train, GENERATOR.normal(size=400))) == []
    assert shift.shifts(columns(train, GENERATOR.normal(0.6, size=8))) == []  # too few to say so
    assert shift.shifts(columns(train, test), overlapping=50) == []


def test_shifts_of_categories_and_of_missing_cells_are_found() -> None:
    train, test = GENERATOR.choice(4, 600, p=[0.4, 0.3, 0.2, 0.1]), GENERATOR.choice(4, 600, p=[0.1, 0.2, 0.3, 0.4])
    found = shift.shifts(columns(train.astype(float), test.astype(float), "category"))
    shares = [np.bincount(part, minlength=4) / 600 for part in (train, test)]
    assert found[0].figures["measure"] == "total variation distance"
    assert found[0].figures["distance"] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    gaps = GENERATOR.normal(size=600)
    holes = np.where(GENERATOR.random(600) < 0.5, np.nan, GENERATOR.normal(size=600))
    assert shift.shifts(columns(gaps, holes))[0].figures["measure"] == "missing cells"


def test_only_the_farthest_columns_are_told() -> None:
    train = [Values(str(place), "number", GENERATOR.normal(size=500)) for place in range(9)]
    test = [Values(str(place), "number", GENERATOR.normal(place, size=500)) for place in range(9)]
    found = shift.shifts({"train": train, "valid": [], "test": test})
    assert len(found) == shift.MOST
    assert "8" in [finding.figures["column"] for finding in found]


NOISE = [Values("noise", "number", GENERATOR.normal(size=400))]


@pytest.mark.parametrize(
    "made",
    [lambda y: y, lambda y: np.exp(y / 3), lambda y: -3 * y + 100, np.round],
    ids=["copied", "bent", "turned", "rounded"],
)
def test_a_column_that_tells_the_value_is_suspected(made: Any) -> None:
    target = GENERATOR.uniform(0, 100, 400)
    found = leaks.leaks([*NOISE, Values("told", "number", made(target))], target, 0)
    assert [finding.figures["column"] for finding in found] == ["told"]
    hazy = Values("hazy", "number", made(target) + GENERATOR.normal(0, 0.3 * made(target).std(), 400))
    empty = Values("empty", "number", np.full(400, np.nan))
    assert leaks.leaks([*NOISE, hazy, empty], target, 0) == []


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.95, 0.05], [0.6, 0.3, 0.1]])
def test_a_column_that_tells_the_class_is_suspected(shares: list[float]) -> None:
    target = GENERATOR.choice(len(shares), 400, p=shares)
    coded = Values("code", "category", (target * 7 % 11 + 1).astype(float))
    blurred = Values("blurred", "number", target + GENERATOR.normal(0, 0.6, 400))
    found = leaks.leaks([*NOISE, coded, blurred], target.astype(float), len(shares))
    assert [finding.figures["column"] for finding in found] == ["code"]
    assert leaks.leaks([coded], target.astype(float), len(shares)) == []  # the only column is the task itself


def test_so_few_train_rows_are_known_by_heart() -> None:
    assert single.few_rows(10) == []
    told = single.few_rows(1)
    assert [(one.check, one.severity, one.figures) for one in told] == [("few-rows", "warning", {"rows": 1})]
    assert str(told[0]).startswith("train: 1 row to learn from: ")


def test_the_advice_for_a_mark_of_missing_keeps_the_other_marks() -> None:
    values = np.r_[np.random.default_rng(0).normal(size=60), np.full(9, -999.0)]
    beside = Values("b", "number", np.arange(69.0))
    found = single.singles([Values("a", "number", values, named=True), beside], 69, Markers(("", "NA")))
    marked = next(one for one in found if one.check == "sentinel-values")
    assert marked.advice == 'set data.missing_values = ["", "NA", "-999"]'
    assert marked.why.startswith("9 cells of -999 while ")


def test_a_column_that_is_the_same_in_rows_drawn_by_chance_is_not_said_to_be_so_in_all() -> None:
    columns = [Values("a", "number", np.r_[0.0, -0.0, np.zeros(58)]), Values("b", "category", np.ones(60)), *NOISE]
    whole, drawn = (single.singles(columns, 900, Markers(), drawn) for drawn in (False, True))
    assert [one.check for one in (*whole, *drawn)] == ["constant-column"] * 4
    assert [(one.why, one.confidence) for one in whole] == [
        ("it is 0 in every train row, so that it tells nothing", "sure"),
        ("it is the same in every train row", "sure"),
    ]
    assert [(one.why, one.confidence) for one in drawn] == [
        ("it is 0 in each of 60 train rows drawn by chance, so that it tells little", "hint"),
        ("it is the same in each of 60 train rows drawn by chance", "hint"),
    ]


def test_whole_numbers_that_differ_in_few_of_many_rows_number_nothing() -> None:
    some = np.random.default_rng(3).integers(0, 1_400_000, 500).astype(np.float64)
    assert len(np.unique(some)) == 500
    beside = Values("b", "number", np.random.default_rng(4).normal(size=500))
    numbered = Values("a", "number", some)
    assert single.singles([numbered, beside], 1_000_000, Markers(), drawn=True) == []
    assert [one.check for one in single.singles([numbered, beside], 1_000_000, Markers())] == ["identifier-column"]
    marked = Values("a", "number", np.r_[some[:400] % 100, np.full(100, -999.0)])
    (found,) = single.singles([marked, beside], 1_000_000, Markers(), drawn=True)
    assert found.why.startswith("100 cells of -999 in 500 rows drawn by chance while all others lie between ")


def test_numbers_are_cut_at_their_quantiles_and_missing_ones_are_apart() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    values[::10] = np.nan
    edges = np.nanquantile(values, np.linspace(0, 1, leaks.BINS + 1)[1:-1])
    expected = np.where(np.isnan(values), leaks.BINS, np.searchsorted(edges, values, side="right"))
    np.testing.assert_array_equal(leaks._bins(Values("a", "number", values)), expected)
    few = Values("b", "number", np.array([2.0, np.nan, 1.0, 2.0]))
    assert leaks._bins(few).tolist() == [1, 2, 0, 1]


def test_conflicting_targets_counts_the_rows_that_differ_not_their_group() -> None:
    hashes = np.array([*range(60), *[7] * 30, *[8] * 2], dtype=np.int64)  # row 7 comes 31 times, row 8 three times
    target = np.zeros((92, 1))
    target[[65, 91]] = 1.0
    (found,) = single.conflicts(hashes, target, True, lambda row: f"row {row}")
    assert found.figures["rows"] == 2
    assert "2 of 92 have the inputs of other train rows and another target than these (first: row 65 and row 7)" in found.why
    tied = single.conflicts(hashes[:61], np.concatenate([np.zeros((60, 1)), np.ones((1, 1))]), True, str)
    assert tied[0].figures["rows"] == 1
    amounts = np.random.default_rng(0).normal(size=(92, 1))
    amounts[hashes == 7] = 0.1
    amounts[hashes == 8] = 0.2
    assert single.conflicts(hashes, amounts, False, str) == []
    amounts[65] = 9.0
    (found,) = single.conflicts(hashes, amounts, False, str)
    assert found.figures["rows"] == 1


def test_many_classes_without_a_train_row_are_one_finding() -> None:
    split = Split(np.arange(3), np.arange(3, 4), np.arange(4, 20), "random")
    (found,) = parts.classes([f"c{place}" for place in range(20)], np.arange(20), split)
    assert found.figures == {"classes": 17}
    assert found.why.startswith("17 of 20 have no train row ('c3', 'c4', 'c5', 'c6', 'c7', ...)")
