"""Further columns of another table: which keys are equal, what is missing, what is told and refused."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest

from netwright.errors import DataError
from netwright.sources.joining import join
from netwright.sources.marks import Markers
from netwright.sources.tables import Origin, Table, concatenate


def table(name: str, **columns: Any) -> Table:
    found = pa.table(columns)
    return Table(found, (Origin(name, found.num_rows),))


def joined(left: Any, right: Any, markers: Markers | None = None, needed: bool = True) -> list[int | None]:
    """Return, for each key of the left, which of the keys of the right it met, counted from 1."""
    other = table("right", k=right, v=list(range(1, len(right) + 1)))
    found = join(table("left", k=left), other, "right.csv", markers or Markers(), needed)
    values: list[int | None] = found.columns["v"].to_pylist()
    return values


# keys of the rows, keys of the other table, which of them meet
EQUAL: dict[str, tuple[Any, Any, list[int | None]]] = {
    "texts": (["a", " b ", "c"], ["b", "a"], [2, 1, None]),
    "floats and whole numbers": ([1.0, 2.0, 2.5], [2, 1], [2, 1, None]),
    "floats and texts": ([1.0, 2.5], ["1", "2.50"], [1, 2]),
    "whole numbers and texts of floats": ([1, 2, 3], ["1.0", "2.0"], [1, 2, None]),
    "whole numbers beyond doubles": ([2**60 + 1, 2**60], [str(2**60), str(2**60 + 1)], [2, 1]),
    "decimals": ([decimal.Decimal("1.0"), decimal.Decimal("2.5")], ["1", "2.5"], [1, 2]),
    "texts of numbers": (["1", "2", "3"], ["1.0", "2.0"], [1, 2, None]),
    "versions": (["1.1", "1.10"], ["1.10", "1.1"], [2, 1]),
    "names with leading zeros": (["007", "7"], ["7", "007"], [2, 1]),
    "names with leading zeros and numbers": ([7, 12], ["007", "12"], [None, 2]),
    "numbers and words": ([1.0, 2.0], ["one", "1", "nan"], [2, None]),
    "truth values": ([True, False], ["False", "True"], [2, 1]),
    "categories": (pa.array(["a", "b"]).dictionary_encode(), ["b", "a"], [2, 1]),
    "missing": ([1.0, None, float("nan")], ["1", "None", "nan", ""], [1, None, None]),
    "missing texts": (["a", "", "None", None], pa.array(["a", None, None, ""]), [1, None, None, None]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_keys_that_are_equal_meet_and_missing_ones_never_do(name: str) -> None:
    left, right, expected = EQUAL[name]
    assert joined(left, right) == expected


def test_a_decimal_comma_is_one_in_keys_too() -> None:
    assert joined([1.5, 2.0], ["2,0", "1,5"], Markers(decimal=",")) == [2, 1]


def test_all_common_columns_are_the_key() -> None:
    other = table("right", site=["x", "x", None], day=["1", "2", "1"], v=[10, 20, 30])
    found = join(table("left", day=[2, 1, 1], site=["x", "x", None]), other, "right.csv", Markers())
    assert found.columns["v"].to_pylist() == [20, 10, None]


def test_rows_without_a_match_are_told_with_their_number_and_the_first() -> None:
    other = table("right", k=["a"], v=[1])
    found = join(table("left", k=["a", "b", None]), other, "right.csv", Markers())
    told = "data.join: 2 rows of 3 without a match in right.csv, the first left: row 2 (k = 'b')"
    note = f"{told}; the joined cells are missing there"
    assert found.notes == (note,)
    assert join(table("left", k=["a"]), other, "right.csv", Markers()).notes == ()
    assert concatenate([found, found]).notes == (note,)


def test_rows_of_which_none_matches_are_refused_but_for_predictions() -> None:
    with pytest.raises(DataError, match=r"^left: row 1: data\.join: k = 3 is not in right\.csv, and of no other row either"):
        joined([3, 4], ["a", "b"])
    assert joined([3, 4], ["a", "b"], needed=False) == [None, None]


def test_a_key_that_came_twice_is_refused_and_a_missing_one_is_not() -> None:
    with pytest.raises(DataError, match=r"^right: row 3: data\.join: k = 1 came twice; expected each once"):
        joined([1.0], ["1", "2", "1"])
    assert joined(["a"], [None, None, "a"]) == [3]


def test_tables_without_a_common_column_are_refused() -> None:
    with pytest.raises(DataError, match=r"^right\.csv: no column has the name of one of left; expected a common one"):
        join(table("left", k=[1]), table("right", v=[1]), "right.csv", Markers())


def test_a_row_meets_the_same_key_whatever_other_rows_hold() -> None:
    right = ["0.0", "1.0", "2.0"]
    assert joined(["1", "0", "2"], right) == [2, 1, 3]
    assert joined(["1", "0", "unknown"], right) == [2, 1, None]
    assert joined(["1", "0", "1.0"], right) == [2, 1, 2]
    assert joined(["1.1", "1.10", "x"], ["1.10", "1.1"]) == [2, 1, None]  # versions, as the other table says
