"""Hashes of rows: equal for equal rows and no others, whatever the kind of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from netwright.checks import view
from netwright.checks.view import columns_of, row_hashes
from netwright.data.columns import TableEncoder, learn_columns
from netwright.data.mapped import Mapped
from netwright.sources.arrays import Arrays
from netwright.sources.marks import Markers
from netwright.sources.sequences import Sequences, from_list
from netwright.sources.tables import Origin, Table

GENERATOR = np.random.default_rng(0)


def arrays(values: np.ndarray) -> Arrays:
    return Arrays({"X": values}, None, (Origin("x", len(values)),))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
def test_equal_rows_and_no_others_have_equal_hashes(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = GENERATOR.integers(0, 200, (500, 3, 5)).astype(dtype)
    values[400] = values[7]
    values[401] = values[7][::-1]  # the same numbers in another order
    found = row_hashes(arrays(values), None)
    assert found[400] == found[7]
    assert len(np.unique(found)) == 499
    for name in ("BLOCK_BYTES", "HASHED_BYTES"):
        monkeypatch.setattr(view, name, 1000)
        np.testing.assert_array_equal(row_hashes(arrays(values), None), found)


def test_missing_numbers_and_zeros_are_one_of_a_kind() -> None:
    values = np.array([[np.nan, 0.0], [-np.nan, -0.0], [0.0, np.nan]])
    found = row_hashes(arrays(values), None)
    assert found[0] == found[1] != found[2]


def test_the_columns_of_rows_of_any_kind_are_counted_before_they_are_read() -> None:
    values = GENERATOR.normal(size=(6, 5))
    rows, encoder = table(a=[1.5, 2.5], b=["x", "y"])
    kinds = [
        (arrays(values), None, 5),
        (arrays(values.reshape(6, 1, 5)), None, 1),  # told by its mean
        (arrays(values[:, :0]), None, 1),
        (arrays(np.zeros((2, 1200))), None, 1000),
        (rows, encoder, 2),
        (Mapped(values.astype(np.float32), ("a", "b", "c", "d", "e"), Path()), None, 5),
        (from_list([values, values[:2]], "data", np.arange(2)), None, 5),
    ]
    assert [view.width(raw, known) for raw, known, _ in kinds] == [count for *_, count in kinds]


def table(**columns: list[object]) -> tuple[Table, TableEncoder]:
    rows = Table(pa.table(columns), (Origin("t", len(next(iter(columns.values())))),))
    return rows, learn_columns(rows, np.arange(2), list(columns), {}, Markers())[0]


def test_rows_of_a_table_are_compared_as_the_network_reads_them() -> None:
    rows, encoder = table(a=[1.5, 2.5, 1.5, 1.5, 1.5], b=["x", "y", "x", "new", "newer"])
    found = row_hashes(rows, encoder)
    assert found[0] == found[2]
    assert len(np.unique(found)) == 4  # categories not seen in train are equal to none, not to each other either


def test_sequences_are_equal_where_all_their_steps_are() -> None:
    one, two = GENERATOR.normal(size=(4, 2)), GENERATOR.normal(size=(6, 2))
    rows = from_list([one, two, one.copy(), one[::-1], one[:3]], "data", np.arange(5))
    found = row_hashes(rows, None)
    assert found[0] == found[2]
    assert len(np.unique(found)) == 4


def test_the_columns_of_each_kind_of_rows() -> None:
    rows, encoder = table(a=[1.0, np.nan, 3.0], b=["x", "y", "x"])
    found = columns_of(rows, encoder, np.array([0, 2]))
    assert [(column.name, column.kind, column.values.tolist()) for column in found] == [
        ("a", "number", [1.0, 3.0]), ("b", "category", [1.0, 1.0]),
    ]  # fmt: skip
    images = columns_of(arrays(np.arange(24.0).reshape(2, 3, 4)), None, np.array([1]))
    assert [(column.name, column.values.tolist()) for column in images] == [("mean of X", [17.5])]
    flat = columns_of(arrays(np.arange(6.0).reshape(3, 2)), None, np.array([0, 2]))
    assert [(column.name, column.values.tolist()) for column in flat] == [("X[0]", [0.0, 4.0]), ("X[1]", [1.0, 5.0])]
    steps = from_list([np.ones((2, 1)), np.full((3, 1), 5.0)], "data", np.arange(2))
    assert isinstance(steps, Sequences)
    found = columns_of(steps, None, np.array([0, 1]))
    assert [(column.name, column.values.tolist()) for column in found] == [
        ("steps", [2.0, 3.0]), ("mean of channel 0", [1.0, 5.0]),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(5,), (1, 6, 6), (3, 12)])
def test_a_part_without_rows_has_columns_without_values(shape: tuple[int, ...]) -> None:
    values = arrays(GENERATOR.normal(size=(10, *shape)))
    none = columns_of(values, None, np.arange(0))
    assert [column.name for column in none] == [column.name for column in columns_of(values, None, np.arange(4))]
    assert {len(column.values) for column in none} == {0}


def test_a_part_without_rows_has_the_columns_of_a_table_read_from_text() -> None:
    rows, encoder = table(a=["1.5", "2.5", "3"], b=["x", "y", "x"])
    none = columns_of(rows, encoder, np.arange(0))
    assert [(column.name, column.kind, len(column.values)) for column in none] == [("a", "number", 0), ("b", "category", 0)]
