"""Several labels a row: every way to write them gives the same 0 and 1, and what cannot be read is named."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from netwright.data.targets import Target, read_target
from netwright.errors import ConfigError, DataError, NetwrightError
from netwright.sources import labels
from netwright.sources.arrays import Arrays
from netwright.sources.marks import Markers
from netwright.sources.opening import from_objects
from netwright.sources.tables import Origin, Table, from_frame

SETS: list[list[str]] = [["b", "a"], [], ["c"], ["a", "c", "a"], ["b"]]
MATRIX = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]]
DAYS = [datetime.date(2024, 1, day) for day in (1, 2, 3)]


def table(**columns: Any) -> Table:
    return from_frame(pa.table(columns), "t")


def read(raw: Table | Arrays, *names: str, task: str | None = None, separator: str | None = None, **options: Any) -> Target:
    markers = options.pop("markers", Markers(label_separator=separator))
    return read_target(raw, names or ["y"], task, options.pop("renamed", {}), markers, **options)


def of_sets(sets: Any) -> Target:
    return read(from_objects((np.zeros((len(sets), 2)), sets), None, None)[0])  # type: ignore[arg-type]


def in_frame(sets: Any) -> Target:
    raw, names = from_objects((pd.DataFrame({"x": np.zeros(len(sets))}), sets), None, None)
    return read(raw, *(names or ()))  # type: ignore[arg-type]


WRITTEN: dict[str, Any] = {
    "a list column": lambda: read(table(y=SETS)),
    "large lists": lambda: read(table(y=pa.array(SETS, pa.large_list(pa.large_string())))),
    "lists of views": lambda: read(table(y=pa.array(SETS, pa.large_list(pa.string_view())))),
    "lists of categories": lambda: read(table(y=pa.array(SETS, pa.list_(pa.dictionary(pa.int8(), pa.string()))))),
    "a text with a separator": lambda: read(table(y=["b; a", " ", "c;", "a;c;a", "b"]), separator=";"),
    "a text array with a separator": lambda: read(
        Arrays({"X": np.zeros((5, 1))}, np.array(["b|a", "", "c", "a|c", "b"]), (Origin("a", 5),)), separator="|"
    ),
    "lists from Python": lambda: of_sets(SETS),
    "sets from Python": lambda: of_sets([set(row) for row in SETS]),
    "tuples in a Series": lambda: of_sets(pd.Series([tuple(row) for row in SETS])),
    "lists beside a frame": lambda: in_frame(SETS),
    "sets in a Series beside a frame": lambda: in_frame(pd.Series([frozenset(row) for row in SETS], name="y")),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_sets_of_labels_are_read_alike_however_they_are_written(name: str) -> None:
    target = WRITTEN[name]()
    assert (target.task, target.classes, len(target.names)) == ("multilabel", ("a", "b", "c"), 1)
    assert (target.values.dtype, target.values.tolist()) == (np.int64, MATRIX)


COLUMNS: dict[str, list[Any]] = {
    "whole numbers": [1, 0, 1],
    "booleans": [True, False, True],
    "texts of 0 and 1": ["1", "0", "1"],
    "words": ["yes", "No", "Y"],
    "true and false": ["True", "false", "t"],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_yes_and_no_are_labels_by_their_names(name: str) -> None:
    target = read(table(one=COLUMNS[name], x=[1.5, 2, 3], two=[0, 0, 1]), "one", "two")
    assert (target.task, target.classes, target.names) == ("multilabel", ("one", "two"), ("one", "two"))
    assert target.values.tolist() == [[1, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_a_matrix_of_0_and_1_is_labels(dtype: Any) -> None:
    raw = from_objects((np.zeros((3, 2)), np.array([[1, 0], [0, 1], [1, 1]], dtype)), None, None)[0]
    target = read(raw, "target_1", "target_2")  # type: ignore[arg-type]
    assert (target.task, target.classes) == ("multilabel", ("target_1", "target_2"))
    assert target.values.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_fractions_other_numbers_and_the_task_decide_otherwise() -> None:
    assert read(table(a=[0.0, 1.0], b=[1.0, 0.0]), "a", "b").task == "regression"
    assert read(table(a=[0.0, 1.0], b=[1.0, 0.0]), "a", "b", task="multilabel").values.tolist() == [[0, 1], [1, 0]]
    assert read(table(a=[0, 2], b=[1, 0]), "a", "b").task == "regression"
    assert read(table(a=[0, 1], b=[1, 0]), "a", "b", task="regression").values.dtype == np.float64
    assert of_sets([[1, 2], [3, 4]]).task == "regression"


# the labels of the rows, the classes in order
TYPES: dict[str, tuple[list[list[Any]], tuple[Any, ...]]] = {
    "whole numbers": ([[3, 1], [2]], (1, 2, 3)),
    "fractions": ([[0.5], [1.5, 0.5]], (0.5, 1.5)),
    "dates": ([[DAYS[1]], [DAYS[0], DAYS[2]]], tuple(DAYS)),
    "texts that look like nothing": ([["None", "nan"], ["", "NA"]], ("", "NA", "None", "nan")),
    "other alphabets": ([["ß"], ["é", "類"]], ("ß", "é", "類")),
    "leading zeros": ([["007"], ["7"]], ("007", "7")),
}


@pytest.mark.parametrize("name", TYPES)
def test_labels_keep_their_type_and_come_back_from_json(name: str) -> None:
    sets, classes = TYPES[name]
    target = read(table(y=sets))
    assert target.classes == classes
    assert [type(label) for label in target.classes] == [type(label) for label in classes]
    again = [labels.from_json(labels.to_json(label)) for label in target.classes]
    assert [(type(label), label) for label in again] == [(type(label), label) for label in classes]


def test_texts_that_are_whole_numbers_are_such_unless_one_has_a_leading_zero() -> None:
    assert read(table(y=["1;2", "10"]), separator=";").classes == (1, 2, 10)
    assert read(table(y=["1;2", "010"]), separator=";").classes == ("010", "1", "2")


def test_a_cell_that_is_none_has_no_label_as_an_empty_text() -> None:
    for cells in (["a;b", ""], ["a;b", None]):
        target = read(table(y=cells), separator=";")
        assert (target.classes, target.values.tolist()) == (("a", "b"), [[1, 1], [0, 0]])


def test_labels_are_renamed_and_may_become_one() -> None:
    target = read(table(y=["a;b", "c"]), separator=";", renamed={"c": "b"})
    assert (target.classes, target.values.tolist()) == (("a", "b"), [[1, 1], [0, 1]])


@pytest.mark.parametrize(
    ("raw", "separator", "classes", "values"),
    [
        (table(y=[["c"], []]), None, ("a", "b", "c"), [[0, 0, 1], [0, 0, 0]]),
        (table(y=[["2"], ["1"]]), None, (1, 2), [[0, 1], [1, 0]]),
        (table(y=[[2], [1]]), None, ("1", "2"), [[0, 1], [1, 0]]),
        (table(y=["2", ""]), ";", (1, 2), [[0, 1], [0, 0]]),
        (table(y=pa.array([[], []], pa.list_(pa.null()))), None, ("a",), [[0], [0]]),
        (Arrays({"X": np.zeros((2, 1))}, np.array([[0, 1], [1, 1]]), (Origin("a", 2),)), None, ("a", "b"), [[0, 1], [1, 1]]),
    ],
)
def test_later_rows_get_the_places_of_training(raw: Any, separator: Any, classes: Any, values: Any) -> None:
    target = read(raw, task="multilabel", separator=separator, classes=classes)
    assert (target.classes, target.values.tolist()) == (classes, values)


# what is read, words of the line
BAD: dict[str, tuple[Any, str]] = {
    "a missing list": (lambda: read(table(y=[["a"], None])), "t: row 2: target 'y' is missing; expected a list in each row"),
    "a missing label": (lambda: read(table(y=[["a"], ["b", None]])), "t: row 2: target 'y' holds a missing label"),
    "lists of booleans": (lambda: read(table(y=[[True], [False]])), "target 'y' holds lists of bool"),
    "no label at all": (lambda: read(table(y=pa.array([[], []], pa.list_(pa.string())))), "target 'y': no row has a label"),
    "too many labels": (
        lambda: read(table(y=[[f"a{row}", f"b{row}"] for row in range(40)])),
        "target 'y' holds 80 different labels in 40 rows",
    ),
    "a label that is new": (
        lambda: read(table(y=[["a"], ["d"]]), classes=("a", "b")),
        "t: row 2: target 'y': label 'd' was not seen in training; expected some of a, b",
    ),
    "a missing text": (
        lambda: read(table(y=["a;b", "NA"]), separator=";"),
        "t: row 2: target 'y' is missing ('NA', 1 such rows)",
    ),
    "a separator for numbers": (lambda: read(table(y=[1, 2]), separator=";"), "data.label_separator: ';' came; target 'y'"),
    "a separator for two columns": (
        lambda: read(table(a=["x", "y"], b=["x", "y"]), "a", "b", separator=";"),
        "data.label_separator: ';' came; target 'a', 'b' is no single column of texts",
    ),
    "another task": (lambda: read(table(y=[["a"], ["b"]]), task="multiclass"), "data.task: 'multiclass' came"),
    "a 2 among 0 and 1": (
        lambda: read(table(a=[0, 1, 1], b=[1, 2, 0]), "a", "b", task="multilabel"),
        "t: row 2: target 'b': 2 came; a label is 0 or 1, true or false, yes or no",
    ),
    "one column": (lambda: read(table(y=[0, 1]), task="multilabel"), "one column came; multilabel needs several columns"),
    "texts in several columns": (
        lambda: read(table(a=["u", "v"], b=["x", "y"]), "a", "b"),
        "several columns are numbers, or 0 and 1 each for labels",
    ),
    "classes in several columns": (
        lambda: read(table(a=[1, 2], b=[1, 2]), "a", "b", task="multiclass"),
        "2 columns of classes came; expected one column of classes, or several of 0 and 1 for labels",
    ),
    "another number of columns": (
        lambda: read(table(a=[0, 1], b=[0, 1]), "a", "b", task="multilabel", classes=("a", "b", "c")),
        "2 target columns came; the network knows 3 labels",
    ),
    "a missing set": (lambda: of_sets([{"a"}, None]), "row 2 is missing; expected a list in each row"),
    "objects of two kinds": (lambda: of_sets(np.array([1, "a"], dtype=object)), "data: y: dtype object came"),
    "labels of two kinds": (lambda: of_sets([{"a"}, {1}]), "data: y: "),
}


@pytest.mark.parametrize("name", BAD)
def test_labels_that_cannot_be_read_are_told_in_one_line(name: str) -> None:
    action, words = BAD[name]
    with pytest.raises(NetwrightError) as problem:
        action()
    assert isinstance(problem.value, ConfigError | DataError)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)
