"""Python objects: which are taken, under which names, and the one line that refuses all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from torch.utils.data import DataLoader, TensorDataset

from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.opening import from_objects
from netwright.sources.tables import Table

X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
FRAME = pd.DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "b": ["x", "y", "x", "y"]})
WIDE = pd.DataFrame({"u": [1.5, 2.5, 3.5, 4.5], "v": [1, 2, 3, 4]})

# the labels of a frame, what the user wrote, the names of the target
NAMED: dict[str, tuple[Any, list[str] | None, tuple[str, ...]]] = {
    "an array": (Y, None, ("target",)),
    "an array, named by the user": (Y, ["kind"], ("kind",)),
    "a Series": (pd.Series(Y, name="z"), None, ("z",)),
    "a Series, named by the user": (pd.Series(Y, name="z"), ["kind"], ("kind",)),
    "a Series without a name": (pd.Series(Y), None, ("target",)),
    "a Series of categories": (pd.Series(pd.Categorical(["p", "q", "p", "q"]), name="z"), None, ("z",)),
    "an Arrow array": (pa.array(Y), None, ("target",)),
    "a tensor": (torch.from_numpy(Y), None, ("target",)),
    "a list of texts": (["p", "q", "p", "q"], None, ("target",)),
    "one column": (Y[:, None], None, ("target",)),
    "two columns": (np.stack([Y, Y + 0.5], axis=1), None, ("target_1", "target_2")),
    "two columns, named by the user": (np.stack([Y, Y + 0.5], axis=1), ["p", "q"], ("p", "q")),
    "a frame": (WIDE, None, ("u", "v")),
    "an Arrow table": (pa.table({"u": [1, 2, 3, 4], "v": [1, 2, 3, 4]}), None, ("u", "v")),
}


@pytest.mark.parametrize("name", NAMED)
def test_separate_labels_of_a_frame_become_columns_with_their_names(name: str) -> None:
    labels, target, expected = NAMED[name]
    raw, names = from_objects((FRAME, labels), target, None)
    assert isinstance(raw, Table)
    assert (names, raw.names) == (expected, ["a", "b", *expected])
    assert raw.columns[expected[0]].null_count == 0


@pytest.mark.parametrize("data", [FRAME, (FRAME, None), (X, Y), [X, Y], X, {"X": X, "y": Y}, {"X": X}])
def test_without_separate_labels_of_a_frame_there_are_no_names(data: Any) -> None:
    assert from_objects(data, None, None)[1] is None


# the dictionary, what the user wrote, the inputs, the target
DICTIONARIES: dict[str, tuple[dict[str, Any], list[str] | None, list[str], list[Any] | None]] = {
    "a named target": ({"X": X, "z": Y}, ["z"], ["X"], Y.tolist()),
    "the usual name": ({"X": X, "y": Y}, None, ["X"], Y.tolist()),
    "the usual name of a run": ({"X": X, "y": Y}, ["target"], ["X"], Y.tolist()),
    "two inputs": ({"image": X, "age": X[:, :1], "label": Y}, ["label"], ["image", "age"], Y.tolist()),
    "several targets": ({"X": X, "p": Y, "q": Y + 1}, ["p", "q"], ["X"], np.stack([Y, Y + 1], 1).tolist()),
    "rows alone": ({"X": X}, None, ["X"], None),
    "another name": ({"X": X, "y": X}, ["kind"], ["X", "y"], None),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_a_dictionary_may_hold_its_own_target(name: str) -> None:
    data, target, inputs, expected = DICTIONARIES[name]
    raw, _ = from_objects(data, target, None)
    assert isinstance(raw, Arrays)
    assert list(raw.inputs) == inputs
    assert (None if raw.target is None else raw.target.tolist()) == expected
    assert list(data) == list(DICTIONARIES[name][0])


def test_rows_with_no_target_keep_all_arrays() -> None:
    raw, _ = from_objects(({"X": X, "y": X}, None), None, None)
    assert isinstance(raw, Arrays)
    assert (list(raw.inputs), raw.target) == (["X", "y"], None)


# the array, the dtype it gets
DTYPES: dict[str, tuple[Any, str]] = {
    "bfloat16": (torch.from_numpy(X).bfloat16(), "float32"),
    "half": (torch.from_numpy(X).half(), "float16"),
    "longdouble": (X.astype(np.longdouble), "float64"),
    "big-endian": (X.astype(">f4"), "float32"),
    "big-endian whole numbers": (X.astype(">i2"), "int16"),
    "a list of tensors": (list(torch.from_numpy(X)), "float64"),
    "a list of tensors that need gradients": ([row.requires_grad_() for row in torch.from_numpy(X.copy())], "float64"),
    "a list of short floats": (list(torch.from_numpy(X).bfloat16()), "float32"),
    "a range": ([range(3)] * 4, "int64"),
}


@pytest.mark.parametrize("name", DTYPES)
def test_arrays_get_a_plain_dtype(name: str) -> None:
    values, dtype = DTYPES[name]
    raw, _ = from_objects((values, Y), None, None)
    assert isinstance(raw, Arrays)
    assert raw.inputs["X"].dtype == np.dtype(dtype)
    assert raw.inputs["X"].dtype.isnative
    np.testing.assert_array_equal(raw.inputs["X"], X if name != "a range" else [[0, 1, 2]] * 4)


SET = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
# the objects, what the user wrote, words of the message
REFUSED: dict[str, tuple[Any, list[str] | None, str]] = {
    "two Datasets": (
        (SET, DataLoader(SET)),
        None,
        'data: two Datasets came; expected rows and labels; hand over data={"train',
    ),
    "a Dataset with labels apart": (
        (SET, Y),
        None,
        "a TensorDataset came; expected arrays, tensors or a data frame; hand over",
    ),
    "a Dataset as labels": ((X, SET), None, "data: y: a TensorDataset came"),
    "a generator": ((row for row in X), None, "a generator came"),
    "a text": ("t.csv", None, "a str came"),
    "a tuple of three": ((X, Y, Y), None, "a tuple of 3 came"),
    "rows of different lengths": (([[1, 2], [3]], [0, 1]), None, "rows of different shapes came"),
    "sequences of different features": (
        ([torch.zeros(2, 1), torch.zeros(3, 2)], [0, 1]),
        None,
        "sequence 2 has shape (3, 2)",
    ),
    "a sparse matrix": ((scipy.sparse.csr_matrix(X), Y), None, ".toarray()"),
    "a sparse tensor": ((torch.from_numpy(X).to_sparse(), Y), None, ".to_dense()"),
    "masked numbers": ((np.ma.masked_equal(X, 5.0), Y), None, "masked numbers came"),
    "a Series as rows": ((pd.Series([1.0, 2.0, 3.0, 4.0]), Y), None, "reshape to (rows, 1)"),
    "one axis": (
        (np.arange(4.0), Y),
        None,
        "shape (4,) came; expected (rows, columns); reshape to (rows, 1), or a single row to (1, columns)",
    ),
    "a list of numbers": (([1.0, 2.0, 3.0], [0, 1, 0]), None, "reshape to (rows, 1)"),
    "a column of the target's name": ((FRAME, pd.Series(Y, name="a")), None, "'a' of the rows has the name of the target"),
    "a column of the name the user wrote": ((FRAME, Y), ["b"], "'b' of the rows has the name of the target"),
    "a frame of labels with the same column": ((FRAME, FRAME), None, "'a' of the rows has the name of the target"),
    "other names than columns": ((FRAME, WIDE), ["z"], "2 columns came; the names of the target are z"),
    "labels of three axes": ((FRAME, np.zeros((4, 2, 2))), None, "shape (4, 2, 2) came"),
    "labels of another length": ((FRAME, WIDE[:3]), None, "4 rows and 3 targets came"),
    "labels of two kinds": ((FRAME, [1, "a", None, 2]), None, "data: y"),
    "targets of other lengths": ({"X": X, "p": Y, "q": Y[:3]}, ["p", "q"], "targets p, q of shapes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_objects_are_refused_in_one_line(name: str) -> None:
    data, target, words = REFUSED[name]
    with pytest.raises(DataError) as problem:
        from_objects(data, target, None)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_missing_labels_of_a_frame_stay_missing() -> None:
    raw, _ = from_objects((FRAME, ["a", None, "b", "a"]), None, None)
    assert isinstance(raw, Table)
    assert raw.columns["target"].to_pylist() == ["a", None, "b", "a"]


# rows that are dictionaries, their columns
RECORDS: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "a list": ([{"a": 1.5, "b": "x"}, {"a": 2.0, "b": "y"}], {"a": [1.5, 2.0], "b": ["x", "y"]}),
    "two rows, which are no pair of rows and labels": ([{"a": 1}, {"a": 2}], {"a": [1, 2]}),
    "a single row": ({"a": 1, "b": "x"}, {"a": [1], "b": ["x"]}),
    "names that some rows lack": ([{"a": 1}, {"b": "y", "a": None}], {"a": [1, None], "b": [None, "y"]}),
    "keys that are no texts": ([{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0}], {"0": [1.0, 3.0], "1": [2.0, 4.0]}),
    "a missing text as pandas writes it": ([{"a": "x"}, {"a": float("nan")}], {"a": ["x", None]}),
    "a missing date as pandas writes it": (
        [{"a": pd.NaT}, {"a": pd.Timestamp("2024-01-01")}],
        {"a": [None, pd.Timestamp("2024-01-01")]},
    ),
    "a tuple": (({"a": 1}, {"a": 2}), {"a": [1, 2]}),
    "NumPy's numbers": ([{"a": np.float32(0.5)}, {"a": np.float32(1)}], {"a": [0.5, 1.0]}),
}


@pytest.mark.parametrize("name", RECORDS)
def test_rows_may_be_dictionaries_by_the_names_of_columns(name: str) -> None:
    rows, columns = RECORDS[name]
    table, named = from_objects(rows, None, None)
    assert isinstance(table, Table)
    assert {column: table.columns[column].to_pylist() for column in table.names} == columns
    assert named is None


def test_dictionaries_take_labels_and_cells_of_one_kind() -> None:
    table, named = from_objects(([{"a": 1.5}, {"a": 2.5}], [0, 1]), None, None)
    assert isinstance(table, Table)
    assert named == ("target",)
    with pytest.raises(DataError, match="data: column 'a': .*; expected cells of one kind; convert them"):
        from_objects([{"a": 1.5}, {"a": "x"}], None, None)
    for cell in (2**70, np.complex64(1), np.void(b"x"), "\ud800"):
        with pytest.raises(DataError, match="data: column 'a': .*; expected cells of one kind; convert them"):
            from_objects([{"a": cell}], None, None)
    with pytest.raises(DataError, match="data: column '1' came twice"):
        from_objects([{"1": 1.0, 1: 2.0}], None, None)
    with pytest.raises(DataError, match="data: valid: a str came"):
        from_objects({"valid": "x.csv", "test": "y.csv"}, None, None)
    raw, _ = from_objects({"a": [1.5, 2.5], "b": [3, 4]}, None, None)
    assert isinstance(raw, Arrays)


def test_a_row_of_a_frame_says_how_it_is_handed_over() -> None:
    with pytest.raises(DataError, match=r"of a single row X\.to_frame\(\)\.T"):
        from_objects(FRAME.iloc[0], None, None)
