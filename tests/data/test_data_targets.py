"""What is predicted: the task is inferred, the labels of the user survive, and a bad cell is named."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from netwright.data.targets import Target, read_target
from netwright.errors import ConfigError, DataError
from netwright.sources import opening
from netwright.sources.arrays import Arrays
from netwright.sources.marks import Markers
from netwright.sources.tables import Origin, from_frame


def from_cells(cells: Any, task: str | None = None, labels: dict[str, str] | None = None, **options: Any) -> Target:
    table = from_frame(pa.table({"y": cells if isinstance(cells, pa.Array | pa.ChunkedArray) else pa.array(cells)}), "t")
    return read_target(table, ["y"], task, labels or {}, options.pop("markers", Markers()), **options)


def from_array(values: Any, task: str | None = None, **options: Any) -> Target:
    array = np.asarray(values)
    raw = Arrays({"X": np.zeros((len(array), 1))}, array, (Origin("a", len(array)),))
    return read_target(raw, ["y"], task, {}, Markers(), **options)


def counted(count: int) -> list[int]:
    return [row % count for row in range(3 * count)]


DAY = datetime.date(2024, 1, 31)
NOON = datetime.datetime(2024, 1, 31, 12)

# cells of a table, the task, the classes, the values
INFERRED: dict[str, tuple[Any, str, tuple[Any, ...], list[Any]]] = {
    "two texts": (["yes", "no", "yes"], "binary", ("no", "yes"), [1, 0, 1]),
    "three texts": (["b", "a", "c"], "multiclass", ("a", "b", "c"), [1, 0, 2]),
    "texts with space around": ([" a", "b ", "a"], "binary", ("a", "b"), [0, 1, 0]),
    "texts of zero and one": (["0", "1", "1"], "binary", (0, 1), [0, 1, 1]),
    "texts of whole numbers": (["3", "5", "4"], "multiclass", (3, 4, 5), [0, 2, 1]),
    "texts of signed numbers": (["-1", "+1", "-1"], "binary", (-1, 1), [0, 1, 0]),
    "numbers and a text": (["1", "2", "3+"], "multiclass", ("1", "2", "3+"), [0, 1, 2]),
    "true and false": (["true", "false", "true"], "binary", ("false", "true"), [1, 0, 1]),
    "typed booleans": ([True, False, True], "binary", (False, True), [1, 0, 1]),
    "typed whole numbers": ([2, 1, 2], "binary", (1, 2), [1, 0, 1]),
    "short whole numbers": (pa.array([2, 1], pa.int8()), "binary", (1, 2), [1, 0]),
    "dictionary": (pa.array(["a", "b", "a"]).dictionary_encode(), "binary", ("a", "b"), [0, 1, 0]),
    "large strings": (pa.array(["a", "b"], pa.large_string()), "binary", ("a", "b"), [0, 1]),
    "fractions": (["1.5", "2", "2"], "regression", (), [[1.5], [2.0], [2.0]]),
    "typed fractions": ([1.5, 2.0], "regression", (), [[1.5], [2.0]]),
    "decimals": (pa.array([1, 2, 3], pa.decimal128(5, 2)), "regression", (), [[1.0], [2.0], [3.0]]),
    "exponents": (["1e3", "2e3", "3e3"], "regression", (), [[1000.0], [2000.0], [3000.0]]),
    "two whole fractions": ([0.0, 1.0, 1.0], "binary", (0, 1), [0, 1, 1]),
    "two whole fractions as texts": (["1.0", "-1.0", "1.0"], "binary", (-1, 1), [1, 0, 1]),
    "signs and texts": (["+1", "-1", "+1"], "binary", (-1, 1), [1, 0, 1]),
    "leading zeros": (["007", "012", "7"], "multiclass", ("007", "012", "7"), [0, 1, 2]),
    "dates": ([DAY, DAY, DAY.replace(day=1)], "binary", (DAY.replace(day=1), DAY), [1, 1, 0]),
    "times": ([NOON, NOON.replace(hour=1), NOON], "binary", (NOON.replace(hour=1), NOON), [1, 0, 1]),
}


@pytest.mark.parametrize("name", INFERRED)
def test_the_task_is_inferred_and_labels_keep_their_type(name: str) -> None:
    cells, task, classes, values = INFERRED[name]
    target = from_cells(cells)
    assert (target.task, target.classes) == (task, classes)
    assert [type(label) for label in target.classes] == [type(label) for label in classes]
    assert target.values.tolist() == values
    assert target.values.dtype == (np.float64 if task == "regression" else np.int64)


@pytest.mark.parametrize("spell", [int, str, float])
@pytest.mark.parametrize(("count", "task"), [(2, "binary"), (3, "multiclass"), (20, "multiclass"), (21, "regression")])
def test_whole_numbers_are_classes_up_to_twenty_values(count: int, task: str, spell: Any) -> None:
    target = from_cells([spell(value) for value in counted(count)])
    expected = "regression" if spell is float and count > 2 else task
    assert target.task == expected
    assert len(target.classes) == (0 if expected == "regression" else count)


@pytest.mark.parametrize(("count", "task"), [(2, "binary"), (20, "multiclass"), (21, "regression")])
def test_whole_numbers_of_an_array_are_classes_up_to_twenty_values(count: int, task: str) -> None:
    for dtype in (np.int64, np.uint8, np.int32, ">i4"):
        assert from_array(np.array(counted(count), dtype)).task == task


# cells, the task the user wrote, the classes, the values
WRITTEN: dict[str, tuple[Any, str, tuple[Any, ...], list[Any]]] = {
    "few whole numbers as values": ([1, 2, 3], "regression", (), [[1.0], [2.0], [3.0]]),
    "booleans as values": ([True, False], "regression", (), [[1.0], [0.0]]),
    "many whole numbers as classes": (list(range(30)), "multiclass", tuple(range(30)), list(range(30))),
    "two classes as many": (["a", "b"], "multiclass", ("a", "b"), [0, 1]),
    "whole fractions as classes": ([0.0, 1.0, 2.0], "multiclass", (0, 1, 2), [0, 1, 2]),
    "leading zeros as values": (["007", "012"], "regression", (), [[7.0], [12.0]]),
    "fractions as classes": ([0.5, 1.5, 0.5], "binary", (0.5, 1.5), [0, 1, 0]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_task_the_user_wrote_holds(name: str) -> None:
    cells, task, classes, values = WRITTEN[name]
    target = from_cells(cells, task)
    assert (target.task, target.classes, target.values.tolist()) == (task, classes, values)


def test_labels_are_renamed_before_the_task_is_decided() -> None:
    target = from_cells([">50K.", "<=50K", ">50K", "<=50K."], labels={">50K.": ">50K", "<=50K.": "<=50K"})
    assert (target.task, target.classes, target.values.tolist()) == ("binary", ("<=50K", ">50K"), [1, 0, 1, 0])
    target = from_cells(["good", "bad", "ugly"], labels={"ugly": "bad"})
    assert (target.classes, target.values.tolist()) == (("bad", "good"), [1, 0, 0])
    target = from_cells(["1", "2", "two"], labels={"two": "2"})
    assert (target.classes, target.values.tolist()) == ((1, 2), [0, 1, 1])


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "U", "O"])
def test_labels_of_arrays_are_renamed(dtype: str) -> None:
    values = np.array([0, 1, 1, 0]).astype(dtype)
    names = {"0": "no", "1": "yes", "False": "no", "True": "yes"}
    raw = opening.from_objects((np.zeros((4, 2)), values), None, "NC")[0]
    target = read_target(raw, ["y"], None, names, Markers())
    assert (target.task, target.classes, target.values.tolist()) == ("binary", ("no", "yes"), [0, 1, 1, 0])
    known = read_target(raw, ["y"], "binary", names, Markers(), ("no", "yes"))
    assert known.values.tolist() == [0, 1, 1, 0]


def test_a_missing_label_of_an_array_is_not_renamed() -> None:
    raw = opening.from_objects((np.zeros((3, 2)), np.array([0, np.nan, 1])), None, "NC")[0]
    with pytest.raises(DataError, match="row 2: target 'y' is missing"):
        read_target(raw, ["y"], None, {"0": "no", "1": "yes"}, Markers())


def test_labels_of_which_none_is_in_the_target_are_refused_where_a_network_learns() -> None:
    told = "data.labels: 'A', 'B' came; the target holds 'a', 'b'; expected one of these or more; mend the names"
    with pytest.raises(ConfigError, match=told):
        from_cells(["a", "b", "a"], labels={"A": "z", "B": "y"})
    raw = opening.from_objects((np.zeros((3, 2)), np.array([0, 1, 0])), None, "NC")[0]
    with pytest.raises(ConfigError, match="data.labels: '2' came; the target holds '0', '1'"):
        read_target(raw, ["y"], None, {"2": "two"}, Markers())
    known = from_cells(["a", "b"], labels={"A": "a"}, classes=("a", "b"))  # other rows need not have all spellings
    assert known.values.tolist() == [0, 1]


def test_truth_values_have_either_spelling() -> None:
    for labels in ({"True": "yes", "False": "no"}, {"true": "yes", "false": "no"}):
        assert from_cells([True, False, True], labels=labels).classes == ("no", "yes")


def test_labels_are_renamed_in_typed_columns_too() -> None:
    target = from_cells([0, 1, 1, 0], labels={"0": "no", "1": "yes"})
    assert (target.classes, target.values.tolist()) == (("no", "yes"), [0, 1, 1, 0])


def test_several_columns_are_several_outputs() -> None:
    table = from_frame(pd.DataFrame({"a": [1.5, 2.5], "x": [0, 0], "b": [3, 4]}))
    target = read_target(table, ["b", "a"], None, {}, Markers())
    assert (target.task, target.names, target.classes) == ("regression", ("b", "a"), ())
    assert target.values.tolist() == [[3.0, 1.5], [4.0, 2.5]]
    target = from_array(np.array([[1, 2], [3, 4], [5, 6]]))
    assert (target.task, target.values.tolist()) == ("regression", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_an_array_of_one_column_is_one_output() -> None:
    target = from_array(np.array([[0.5], [1.5]]))
    assert (target.task, target.values.tolist()) == ("regression", [[0.5], [1.5]])
    target = from_array(np.array([[0], [1], [0]]))
    assert (target.task, target.values.tolist()) == ("binary", [0, 1, 0])


@pytest.mark.parametrize("values", [["a", "b", "a"], [b"a", b"b", b"a"], [True, False, True], [7, -3, 7]])
def test_the_labels_of_arrays_keep_their_type(values: list[Any]) -> None:
    target = from_array(values)
    assert target.classes == tuple(sorted(set(values)))
    assert [target.classes[place] for place in target.values] == values


def test_two_whole_fractions_of_an_array_are_two_classes() -> None:
    for dtype in (np.float64, np.float32, ">f4"):
        target = from_array(np.array([0.0, 1.0, 0.0], dtype))
        assert (target.task, target.classes, target.values.tolist()) == ("binary", (0, 1), [0, 1, 0])
        assert [type(label) for label in target.classes] == [int, int]
    assert from_array(np.array([[0.0, 1.0], [1.0, 0.0]])).task == "regression"


def test_texts_of_numbers_in_an_array_are_answered_with_the_numbers() -> None:
    with pytest.raises(
        DataError, match=r"60 different texts in 60 rows; expected classes; of numbers hand over y\.astype\(float\)"
    ):
        from_array(np.array([f"{row}.5" for row in range(60)]))


@pytest.mark.parametrize("form", ["{}", "{:03}"])
def test_digits_in_an_array_of_texts_are_classes(form: str) -> None:
    names = [form.format(row % 25) for row in range(100)]
    for task in (None, "multiclass"):
        target = from_array(np.array(names), task)
        assert (target.task, target.classes) == ("multiclass", tuple(sorted(set(names))))


def test_a_named_task_makes_classes_of_what_looks_like_amounts() -> None:
    codes = [f"{1 + row % 25} 107" for row in range(100)]
    with pytest.raises(DataError, match=r"'1 107' is no number .*set data.thousands = \" \", or data.task = \"multiclass\""):
        from_cells(codes)
    assert len(from_cells(codes, "multiclass").classes) == 25


def test_a_decimal_comma_holds_for_the_target_too() -> None:
    markers = Markers(decimal=",")
    assert from_cells(["1,5", "2", "1.234,5"], markers=markers).values.tolist() == [[1.5], [2.0], [1234.5]]


@pytest.mark.parametrize("first", [2**53, 10**15, 2**60, 10**18, -(2**62), 2**63])
def test_large_whole_numbers_as_texts_are_the_classes_they_are(first: int) -> None:
    values = [first, first + 1, first + 2, first]
    for cells in (pa.array(values, pa.uint64() if first > 0 else pa.int64()), [str(value) for value in values]):
        target = from_cells(cells)
        assert (target.task, target.classes) == ("multiclass", (first, first + 1, first + 2))
        assert target.values.tolist() == [0, 1, 2, 0]


def test_whole_numbers_of_more_than_64_bits_are_amounts_unless_floats_would_merge_them() -> None:
    target = from_cells([str(10**20), str(2 * 10**20), "3"])
    assert (target.task, target.values.tolist()) == ("regression", [[1e20], [2e20], [3.0]])
    codes = [str(10**20 + place) for place in (0, 1, 2, 0)]
    target = from_cells(codes)
    assert (target.task, target.classes, target.values.tolist()) == ("multiclass", tuple(codes[:3]), [0, 1, 2, 0])


def test_a_float_is_no_class_that_it_may_have_been_merged_into() -> None:
    known = from_cells([2**53, 2**53 + 1])
    with pytest.raises(DataError, match="class 9007199254740992.0 is none that is known"):
        from_cells([2.0**53, 2.0**53 + 2], known.task, classes=known.classes)


LARGE = 2**60
# the cells of training, the cells of later rows, their numbers
LATER: dict[str, tuple[Any, Any, list[int]]] = {
    "texts": (["a", "b", "c"], ["c", "a"], [2, 0]),
    "one class alone": (["a", "b"], ["b", "b"], [1, 1]),
    "whole numbers as texts": ([3, 5, 3], ["5", "3"], [1, 0]),
    "texts that are whole numbers in the later rows": (["1", "2", "3+"], ["2", "1"], [1, 0]),
    "texts that are typed whole numbers in the later rows": (["1", "2", "3+"], [2, 1], [1, 0]),
    "leading zeros": (["007", "012"], ["012", "007"], [1, 0]),
    "leading zeros that the later rows have no more": (["007", "12"], ["12", "12"], [1, 1]),
    "whole fractions": ([0.0, 1.0], [1.0, 1.0], [1, 1]),
    "whole numbers as fractions": ([0, 1, 0], [1.0, 0.0], [1, 0]),
    "booleans": ([True, False], [True, True], [1, 1]),
    "booleans as texts": ([True, False], ["True", "False"], [1, 0]),
    "texts as booleans": (["True", "False"], [True, False], [1, 0]),
    "booleans as large texts": ([True, False], ["TRUE", "FALSE"], [1, 0]),
    "small texts as booleans": (["true", "false"], [True, False], [1, 0]),
    "booleans as small texts": ([True, False], ["true", "false"], [1, 0]),
    "whole numbers that no float holds": ([str(LARGE), str(LARGE + 1)], [LARGE + 1, LARGE], [1, 0]),
    "dates": ([DAY, DAY.replace(day=1)], [DAY, DAY], [1, 1]),
    "dates as texts": ([DAY, DAY.replace(day=1)], ["2024-01-31", "2024-01-01"], [1, 0]),
    "texts as dates": (["2024-01-31", "2024-01-01"], [DAY, DAY.replace(day=1)], [1, 0]),
    "another width": (pa.array([1, 2], pa.int64()), pa.array([2], pa.int8()), [1]),
}


@pytest.mark.parametrize("name", LATER)
def test_later_rows_get_the_numbers_of_training(name: str) -> None:
    train, later, numbers = LATER[name]
    known = from_cells(train)
    target = from_cells(later, known.task, classes=known.classes)
    assert target.classes == known.classes
    assert target.values.tolist() == numbers


# the cells, the task, the classes of training, words of the message
BAD: dict[str, tuple[Any, str | None, Sequence[Any] | None, str]] = {
    "missing text": (["a", "", "b", "?"], None, None, "t: row 2: target 'y' is missing (2 such rows)"),
    "missing number": (["1.5", "NA", "2"], None, None, "t: row 2: target 'y' is missing (1 such rows)"),
    "null": ([1, None], None, None, "t: row 2: target 'y' is missing"),
    "NaN": ([1.5, float("nan")], None, None, "t: row 2: target 'y' is missing"),
    "all missing": (["", "?"], None, None, "t: row 1: target 'y' is missing (2 such rows)"),
    "infinite": (["1.5", "inf"], None, None, "t: row 2: target 'y': inf is infinite"),
    "beyond float32": ([1.5, -1e39], None, None, "t: row 2: target 'y': -1e+39 is infinite or beyond float32"),
    "a text in a regression": (["1.5", "many"], "regression", None, "t: row 2: target 'y': 'many' is no number"),
    "one class": (["a", "a"], None, None, "target 'y' holds one class only ('a', 2 rows)"),
    "one number": ([1, 1, 1], None, None, "target 'y' holds one class only (1, 3 rows)"),
    "three classes for two": (["a", "b", "c"], "binary", None, "holds 3 classes; binary needs 2"),
    "names": ([f"name{row}" for row in range(60)], None, None, "60 different texts in 60 rows"),
    "commas": ([f"{row},5" for row in range(60)], None, None, 'set data.decimal = ","'),
    "thousands marks": ([f"{row},000,000" for row in range(1, 60)], None, None, 'set data.thousands = ","'),
    "one thousands mark each": ([f"{row},000" for row in range(1, 60)], None, None, 'data.thousands = "," where the comma'),
    "points beside a decimal comma": ([f"{row}.55" for row in range(60)], None, None, 'set data.decimal = "."'),
    "money": ([f"${row},000" for row in range(1, 60)], None, None, "without currency signs"),
    "many rows of money": ([f"${row % 30},000" for row in range(300)], None, None, "without currency signs"),
    "money in a regression": (["$1,000", "$2,000"], "regression", None, "without currency signs"),
    "a new class": (["a", "b", "c"], "binary", ("a", "b"), "t: row 3: target 'y': class 'c' is none that is known"),
    "a new number": (
        [0, 7],
        "binary",
        (0, 1),
        "t: row 2: target 'y': class 7 is none that is known; expected one of 0, 1",
    ),
    "dates in a regression": ([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], "regression", None, "is no number"),
    "many dates": (
        [datetime.date(2024, 1, 1) + datetime.timedelta(row) for row in range(60)],
        None,
        None,
        "60 different dates",
    ),
    "times of a day": ([datetime.time(1), datetime.time(2)], None, None, "'y' holds time"),
    "a name that counts as missing": (["None", "a"], None, None, "\"-\"] if 'None' is a class"),
    "structures": ([{"a": 1}, {"a": 2}], None, None, "'y'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_target_that_cannot_be_learned_is_told_in_one_line(name: str) -> None:
    cells, task, classes, words = BAD[name]
    with pytest.raises(DataError) as problem:
        from_cells(cells, task, classes=classes, markers=Markers(decimal="," if "decimal comma" in name else "."))
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_target_column_that_is_missing_names_the_nearest() -> None:
    table = from_frame(pd.DataFrame({"price": [1, 2]}), "t")
    with pytest.raises(DataError, match=r"t: target column 'prize' is missing; did you mean price\?"):
        read_target(table, ["prize"], None, {}, Markers())


def test_several_columns_of_classes_are_refused() -> None:
    table = from_frame(pd.DataFrame({"a": ["x", "y"], "b": ["u", "v"]}), "t")
    with pytest.raises(DataError, match=r"2 columns of classes came|'x' is no number"):
        read_target(table, ["a", "b"], None, {}, Markers())
    with pytest.raises(DataError, match="2 columns of classes came"):
        read_target(table, ["a", "b"], "multiclass", {}, Markers())


def test_a_bad_cell_of_the_second_output_is_named_with_its_column() -> None:
    table = from_frame(pd.DataFrame({"a": [1.5, 2.5], "b": [1.0, np.inf]}), "t")
    with pytest.raises(DataError, match="t: row 2: target 'b': inf"):
        read_target(table, ["a", "b"], None, {}, Markers())


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 0)])
def test_an_array_target_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as problem:
        from_array(np.zeros(shape))
    assert str(shape) in str(problem.value)


def test_missing_rows_of_array_targets_are_named() -> None:
    with pytest.raises(DataError, match="a: row 2: target 'y' is missing"):
        from_array(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(DataError, match="a: row 3: target 'y'"):
        from_array(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]]))


def test_no_target_is_an_error() -> None:
    raw = Arrays({"X": np.zeros((2, 1))}, None, (Origin("a", 2),))
    with pytest.raises(DataError, match="a: no target came"):
        read_target(raw, ["y"], None, {}, Markers())
