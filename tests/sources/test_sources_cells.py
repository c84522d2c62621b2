"""Times whose order is known and names of groups: read from a column, or the row that is none is named."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from netwright.data.column import Column
from netwright.data.columns import TableEncoder
from netwright.errors import DataError
from netwright.sources.cells import group_values, time_values
from netwright.sources.marks import Markers
from netwright.sources.tables import Table, from_frame


def table_of(values: Any) -> Table:
    return from_frame(pa.table({"c": values if isinstance(values, pa.Array) else pa.array(values)}), "t")


# the cells, the decimal mark, the times
TIMES: dict[str, tuple[Any, str, list[float]]] = {
    "numbers as texts": (["10", " 9 ", "1e1"], ".", [10, 9, 10]),
    "numbers with a decimal comma": (["1,5", "1.000,5"], ",", [1.5, 1000.5]),
    "numbers with leading zeros": (["010", "9"], ".", [10, 9]),
    "typed numbers": ([3, 1], ".", [3, 1]),
    "large numbers": ([1_700_000_000_123_456_789, 0], ".", [1_700_000_000_123_456_789, 0]),
    "dates": (["1970-01-02", " 1970-01-03T12:00"], ".", [1, 2.5]),
    "basic dates": (["19700102T000000", "19700103T1200"], ".", [1, 2.5]),
    "times with an offset": (
        ["1970-01-02T02:00:00+02:00", "1970-01-01 20:30:00.5-05:30", "1970-01-03"],
        ".",
        [1, 1 + 2 / 24 + 0.5 / 86400, 2],
    ),
    "offsets in other spellings": (["1970-01-02T01:00+01", "19700102T0530+0530", "1970-01-02 00:00Z"], ".", [1, 1, 1]),
    "typed dates": ([datetime.date(1970, 1, 2), datetime.date(1969, 12, 31)], ".", [1, -1]),
    "typed times of nanoseconds": (pa.array([86_400 * 10**9 + 1, 0], pa.timestamp("ns")), ".", [1, 0]),
    "categories": (pa.array(["2", "1"]).dictionary_encode(), ".", [2, 1]),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_numbers_or_days(name: str) -> None:
    values, decimal, expected = TIMES[name]
    found = time_values(table_of(values), "c", Markers(decimal=decimal))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_times_keep_the_order_of_fractions_of_a_second() -> None:
    found = time_values(table_of(["2024-01-31T12:00:00.2", "2024-01-31T12:00:00.1000001"]), "c", Markers())
    assert found[0] > found[1]


# the cells, words of the message
BAD_TIMES: dict[str, tuple[Any, str]] = {
    "a missing text": (["1", "?", "3"], "t: row 2: data.split.time: column 'c' is missing (1 such rows)"),
    "a missing number": ([1.0, float("nan"), None], "t: row 2: data.split.time: column 'c' is missing (2 such rows)"),
    "a word": (["2024-01-31", "soon", "later"], "t: row 2: column 'c': 'soon' is neither"),
    "an offset of no time zone": (
        ["2024-01-31T12:00+24:00", "later"],
        "t: row 1: column 'c': '2024-01-31T12:00+24:00' is neither",
    ),
    "an offset without a time": (["2024-01-31+02:00", "later"], "t: row 1: column 'c': '2024-01-31+02:00' is neither"),
    "a slash date": (["1/2/2024", "2/2/2024"], "t: row 1: column 'c': '1/2/2024' is neither"),
    "a number among dates": (["2024-01-31", "2024-01-31", "5"], "t: row 3: column 'c': '5' is not a date as the others are"),
    "a date among numbers": (["5", "6", "2024-01-31"], "t: row 3: column 'c': '2024-01-31' is not a number as the others"),
    "a day that does not exist": (["2024-01-31", "2024-02-30"], "t: row 2: column 'c': '2024-02-30"),
}


@pytest.mark.parametrize("name", BAD_TIMES)
def test_a_time_of_unknown_order_is_named_by_row_and_column(name: str) -> None:
    values, words = BAD_TIMES[name]
    with pytest.raises(DataError) as problem:
        time_values(table_of(values), "c", Markers())
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)
    if "neither" in words or "as the others" in words:
        assert "write dates as 2024-01-31" in str(problem.value)


def test_groups_are_trimmed_names() -> None:
    assert group_values(table_of([" a", "b ", "a"]), "c", Markers()).tolist() == ["a", "b", "a"]
    assert group_values(table_of([3, 1]), "c", Markers()).tolist() == ["3", "1"]
    assert group_values(from_frame(pd.DataFrame({"c": pd.Categorical(["x", "y"])})), "c", Markers()).tolist() == ["x", "y"]


def test_a_missing_group_is_named_by_row() -> None:
    with pytest.raises(DataError, match=r"t: row 2: data\.split\.group: column 'c' is missing \(1 such rows\)"):
        group_values(table_of(["a", "NA", "b"]), "c", Markers())


def test_a_column_that_is_not_there_names_the_nearest() -> None:
    table = from_frame(pd.DataFrame({"colour": ["a"]}))
    for read, setting in ((time_values, "time"), (group_values, "group")):
        with pytest.raises(DataError, match=rf"data\.split\.{setting}: column 'color' .* did you mean colour\?"):
            read(table, "color", Markers())


def cells(kind: str, values: Any, settled: bool = True) -> list[float]:
    encoder = TableEncoder((Column("c", kind, 0, ()),), settled=settled)
    return encoder.matrix(table_of(values))[:, 0].tolist()


DAYS = pa.array([0, 1], pa.date32())


def test_typed_cells_that_say_what_a_column_holds_are_read() -> None:
    assert cells("number", [True, False]) == [1, 0]
    assert cells("boolean", [1.0, 0.0]) == cells("boolean", [1, 0]) == cells("boolean", [True, False]) == [1, 0]
    assert cells("date", DAYS) == cells("date", DAYS.cast(pa.timestamp("ns"))) == [0, 1]
    for kind in ("number", "boolean", "date"):
        assert np.isnan(cells(kind, pa.nulls(2))).all()


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("date", [20240131, 20240201], "holds int64; expected a date such as"),
        ("date", [0.5, 1.5], "holds double; expected a date such as"),
        ("number", DAYS, "holds date32.*; expected a number"),
        ("boolean", [1000, 1], "1000 is neither true nor false; expected true or false"),
        ("boolean", [0.5, -1.0], "0.5 is neither true nor false .and 1 more.; expected true or false"),
        ("boolean", DAYS, "holds date32.*; expected true or false"),
        ("boolean", [[1], [2]], "holds list.*; expected true or false"),
    ],
)
def test_typed_cells_of_another_kind_are_refused(kind: str, values: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        cells(kind, values)
    with pytest.raises(DataError, match="column 'c'.*data.kinds"):
        cells(kind, values, settled=False)
