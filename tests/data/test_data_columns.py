"""What a column is and what its cells mean: kinds, missing markers, numbers, dates; learned from the train rows only."""

from __future__ import annotations

import datetime
import decimal
import json
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from netwright.data.columns import TableEncoder, learn_columns
from netwright.errors import DataError
from netwright.sources.marks import MISSING_VALUES, Markers
from netwright.sources.tables import Table, from_frame

WORDS = "the quick brown fox jumps over a lazy dog while nobody is looking at the moon tonight again".split()


def table_of(**columns: Any) -> Table:
    return from_frame(pa.table({name: values if isinstance(values, pa.Array) else pa.array(values)
                                for name, values in columns.items()}), "t")  # fmt: skip


def learn(
    values: Sequence[Any] | pa.Array,
    name: str = "c",
    rows: Sequence[int] | None = None,
    kind: str | None = None,
    **options: Any,
) -> tuple[TableEncoder, list[str], Table]:
    beside = pa.array([0.5] * len(values))
    table = table_of(**{name: values, "beside": beside})
    chosen = np.asarray(range(len(values)) if rows is None else rows)
    markers = Markers(**{key: options.pop(key) for key in ("missing_values", "decimal", "thousands") if key in options})
    encoder, notes = learn_columns(table, chosen, table.names, {} if kind is None else {name: kind}, markers, **options)
    return encoder, notes, table


def cells(values: Sequence[Any] | pa.Array, **options: Any) -> list[float]:
    encoder, _, table = learn(values, **options)
    return encoder.matrix(table)[:, 0].tolist()


def texts(count: int, words: int) -> list[str]:
    return [
        " ".join([*(WORDS[(row + word) % len(WORDS)] for word in range(words - 1)), f"end{row}"]) for row in range(count)
    ]


# the cells, the column's name, the kind
INFERRED: dict[str, tuple[Sequence[Any] | pa.Array, str, str]] = {
    "whole numbers": (["1", "2", "2"], "c", "number"),
    "numbers with signs and exponents": (["-1", "+2.5", "1e-3"], "c", "number"),
    "numbers without a digit before or after the point": ([".5", "1.", "-.5"], "c", "number"),
    "numbers and missing": (["1", "", "?", "NA", "3"], "c", "number"),
    "zero and one": (["0", "1", "1"], "c", "number"),
    "true and false": (["true", "False", "TRUE"], "c", "boolean"),
    "yes and no": (["yes", "no", ""], "c", "boolean"),
    "t and f": (["t", "f", "t"], "c", "boolean"),
    "one word of a boolean": (["yes", "yes", "yes"], "c", "boolean"),
    "yes, no and maybe": (["yes", "no", "maybe"], "c", "category"),
    "words": (["red", "blue", "red"], "c", "category"),
    "codes with letters": (["A1", "B2", "A1"], "c", "category"),
    "dates": (["2024-01-31", "2024-02-01"], "c", "date"),
    "dates with times": (["2024-01-31T12:00:00", "2024-02-01 06:30", "2024-02-01T06:30:00.5Z"], "c", "date"),
    "dates and missing": (["2024-01-31", "", "?"], "c", "date"),
    "basic dates": (["20140502T000000", "20140503T0000", "20140503T120000Z"], "c", "date"),
    "names with leading zeros": (["01234", "98101", "01234"], "c", "category"),
    "one leading zero": (["007", "12", "3"], "c", "category"),
    "zeros alone": (["0", "10", "0"], "c", "number"),
    "names with leading zeros that all differ": ([f"{row * 37:05}" for row in range(30)], "c", "identifier"),
    "fractions with leading zeros": (["00.5", "01.25"], "c", "number"),
    "a few slash dates among words": (["1/2/2024", "soon", "late"], "c", "category"),
    "a row number": ([str(row) for row in range(20)], "c", "identifier"),
    "a row number, typed": (list(range(100, 130)), "c", "identifier"),
    "19 rows are too few to tell": ([str(row) for row in range(19)], "c", "number"),
    "shuffled numbers named so": ([(7 * row) % 31 for row in range(31)], "patient_id", "identifier"),
    "shuffled numbers named otherwise": ([(7 * row) % 31 for row in range(31)], "age", "number"),
    "a row number with a gap of missing": ([*map(str, range(19)), ""], "c", "number"),
    "distinct fractions": ([row + 0.5 for row in range(30)], "c", "number"),
    "distinct words": ([f"user{row}" for row in range(30)], "c", "identifier"),
    "typed booleans": ([True, False], "c", "boolean"),
    "typed dates": ([datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)], "c", "date"),
    "typed times": (pa.array([0, 1], pa.timestamp("ns", "Europe/Berlin")), "c", "date"),
    "decimals": ([decimal.Decimal("1.50"), decimal.Decimal("2.25")], "c", "number"),
    "short whole numbers": (pa.array([1, 2], pa.uint8()), "c", "number"),
    "half precision": (pa.array(np.array([1, 2], np.float16)), "c", "number"),
    "large strings": (pa.array(["a", "b"], pa.large_string()), "c", "category"),
    "string views": (pa.array(["a", "b"], pa.string_view()), "c", "category"),
    "empty": (["", "?", "NA"], "c", "ignore"),
    "nulls": (pa.nulls(3), "c", "ignore"),
}


@pytest.mark.parametrize("name", INFERRED)
def test_the_kind_of_a_column_is_inferred(name: str) -> None:
    values, column, kind = INFERRED[name]
    encoder, notes, table = learn(values, column)
    assert [found.kind for found in encoder.columns] == [kind, "number"]
    assert encoder.matrix(table).shape == (len(values), 1 if kind in ("identifier", "ignore") else 2)
    assert bool(notes) == (kind in ("identifier", "ignore") or "leading zero" in name and kind == "category")
    assert all(repr(column) in note for note in notes)


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.decimal128(20)])
@pytest.mark.parametrize("name", ["hash", "hash_id"])
def test_whole_numbers_beyond_doubles_are_what_they_are_in_a_text_table(name: str, kind: pa.DataType) -> None:
    values = np.random.default_rng(0).integers(2**60, 2**61, 30).tolist()
    typed, texts = learn(pa.array(values).cast(kind), name), learn([str(value) for value in values], name)
    assert [column.kind for column in typed[0].columns] == [column.kind for column in texts[0].columns]
    np.testing.assert_array_equal(typed[0].matrix(typed[2]), texts[0].matrix(texts[2]))
    assert typed[1] == texts[1]


# the cells, the kind the user wrote, the cells of the matrix
OVERRIDDEN: dict[str, tuple[Sequence[Any], str, list[float]]] = {
    "numbers as categories": (["10", "9", "10"], "category", [1, 2, 1]),
    "typed numbers as categories": ([3, 1, 2], "category", [3, 1, 2]),
    "zero and one as booleans": (["0", "1", ""], "boolean", [0, 1, np.nan]),
    "typed zero and one as booleans": ([0, 1, 1], "boolean", [0, 1, 1]),
    "booleans as categories": ([True, False, True], "category", [2, 1, 2]),
    "a row number as number": ([*map(str, range(20))], "number", [float(row) for row in range(20)]),
    "dates as categories": (["2024-01-31", "2023-01-31"], "category", [2, 1]),
    "free text as categories": (texts(20, 3), "category", [1.0 + sorted(texts(20, 3)).index(t) for t in texts(20, 3)]),
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_kind_the_user_wrote_holds(name: str) -> None:
    values, kind, expected = OVERRIDDEN[name]
    encoder, notes, table = learn(values, kind=kind)
    assert encoder.columns[0].kind == kind
    assert notes == []
    np.testing.assert_array_equal(encoder.matrix(table)[:, 0], expected)


@pytest.mark.parametrize("kind", ["ignore", "identifier"])
def test_a_column_left_out_by_the_user_needs_no_remark(kind: str) -> None:
    encoder, notes, table = learn(["1", "x", "2"], kind=kind)
    assert (encoder.matrix(table).shape, notes) == ((3, 1), [])


def test_an_identifier_is_left_out_with_a_remark_that_says_how_to_use_it() -> None:
    _, notes, _ = learn([f"user{row}" for row in range(30)], "who")
    assert len(notes) == 1
    assert "'who' looks like an identifier" in notes[0]
    assert 'data.kinds = {"who" = ' in notes[0]


def test_free_text_is_refused_with_advice() -> None:
    with pytest.raises(DataError) as problem:
        learn(texts(40, 6), "review")
    for words in (
        "'review' holds free text",
        "40 different values",
        "6 words",
        """--set 'data.ignore=["review"]'""",
        '"category"',
    ):
        assert words in str(problem.value)


def test_all_columns_of_free_text_are_named_with_one_option() -> None:
    table = table_of(one=texts(40, 6), two=texts(40, 4), x=[0.5] * 40)
    with pytest.raises(DataError, match=r"""'one' holds free text.*'two' too.*--set 'data.ignore=\["one", "two"\]'"""):
        learn_columns(table, np.arange(40), table.names, {}, Markers())


def test_names_with_leading_zeros_keep_them_and_may_be_read_as_numbers() -> None:
    encoder, notes, _ = learn(["01234", "98101", "00501"], "zip")
    assert encoder.columns[0].levels == ("00501", "01234", "98101")
    assert "'zip' holds numbers with leading zeros" in notes[0]
    assert cells(["01234", "98101", "00501"], kind="number") == [1234, 98101, 501]


@pytest.mark.parametrize(
    "text", ["31/01/2024", "1/2/24", "31.01.2024", "1.2.24", "2024/01/31", "01/31/2024 12:30", "1/2/24 1:05 PM"]
)
@pytest.mark.parametrize("mark", [".", ","])
def test_dates_of_an_unknown_order_are_refused_with_advice(text: str, mark: str) -> None:
    with pytest.raises(DataError) as problem:
        learn([*[text] * 19, "?", "later"], "day", decimal=mark)
    for words in ("t: column 'day'", repr(text), "2024-01-31", '"category"', """--set 'data.ignore=["day"]'"""):
        assert words in str(problem.value)
    assert learn([text, text], "day", kind="category")[0].columns[0].kind == "category"


def test_money_is_no_category() -> None:
    with pytest.raises(DataError, match=r"column 'c': '\$1,000' is no number; write plain numbers"):
        learn([f"${row},000" for row in range(1, 40)])


# the cell in a column of numbers, the advice
ADVICE = {
    "1,234.5": 'set data.thousands = ","',
    "1,5": 'set data.decimal = ","',
    "$5": "currency",
    "x": "data.missing_values",
}


@pytest.mark.parametrize("text", ADVICE)
def test_the_advice_for_a_cell_that_is_no_number_fits_the_cell(text: str) -> None:
    encoder, _, table = learn(["2"] * 19 + [text], rows=range(19))
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    assert ADVICE[text] in str(problem.value)
    assert ("missing_values" in str(problem.value)) == (text == "x")


@pytest.mark.parametrize("marker", [*MISSING_VALUES, " ?", "  ", " NA ", "\t"])
def test_each_marker_means_missing(marker: str) -> None:
    np.testing.assert_array_equal(cells(["1", marker, "3"]), [1, np.nan, 3])
    encoder, _, _ = learn(["1", marker, "3"])
    assert encoder.columns[0].missing == 1


def test_markers_of_ones_own_replace_the_usual_ones() -> None:
    np.testing.assert_array_equal(cells(["1", "-999", "3", " -999 "], missing_values=("-999",)), [1, np.nan, 3, np.nan])
    np.testing.assert_array_equal(cells(["a", "?", "a", "x"], missing_values=("x",)), [3, 2, 3, 1])


def test_a_missing_category_is_a_category_of_its_own() -> None:
    encoder, _, table = learn(["red", "", "blue", "?"])
    assert encoder.columns[0].levels == ("(missing)", "blue", "red")
    assert encoder.matrix(table)[:, 0].tolist() == [3, 1, 2, 1]
    assert encoder.columns[0].missing == 2


@pytest.mark.parametrize("values", [[1.0, None, 3.0], [1.0, float("nan"), 3.0]])
def test_missing_cells_of_typed_columns_are_counted(values: list[float | None]) -> None:
    encoder, _, table = learn(pa.array(values))
    assert encoder.columns[0].missing == 1
    np.testing.assert_array_equal(encoder.matrix(table)[:, 0], [1, np.nan, 3])


# the text, the decimal mark, the number
NUMBERS: dict[str, tuple[str, str, float]] = {
    "whole": ("12", ".", 12.0),
    "plus": ("+12", ".", 12.0),
    "minus": ("-12.5", ".", -12.5),
    "leading zeros": ("007.0", ".", 7.0),
    "exponent": ("1.5e-3", ".", 0.0015),
    "capital exponent": ("1E+2", ".", 100.0),
    "no digit before the point": (".5", ".", 0.5),
    "no digit after the point": ("5.", ".", 5.0),
    "many digits": ("0.1000000000000000055511151231257827", ".", 0.1),
    "largest float32": ("3.4028234e38", ".", 3.4028234e38),
    "decimal comma": ("1,5", ",", 1.5),
    "decimal comma and thousands": ("1.234,5", ",", 1234.5),
    "decimal comma, many thousands": ("-1.234.567,25", ",", -1234567.25),
    "decimal comma, whole": ("12", ",", 12.0),
    "decimal comma, exponent": ("1,5e3", ",", 1500.0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_read_exactly(name: str) -> None:
    text, mark, number = NUMBERS[name]
    assert cells([text, "2", "2"], decimal=mark) == [number, 2.0, 2.0]


# the text, the decimal mark
NO_NUMBERS = {
    "a word": ("x", "."),
    "thousands": ("1,234.5", "."),
    "decimal comma with a decimal point": ("1,5", "."),
    "hexadecimal": ("0x10", "."),
    "underscore": ("1_000", "."),
    "two points": ("1.2.3", "."),
    "a unit": ("5 kg", "."),
    "a point that is no thousands mark": ("1.5", ","),
    "a date": ("1.2.2024", ","),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_a_text_in_a_number_column_is_named_by_row_and_column(name: str) -> None:
    text, mark = NO_NUMBERS[name]
    encoder, _, table = learn(["2"] * 19 + [text], decimal=mark, rows=range(19))
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    assert str(problem.value).startswith(f"t: row 20: column 'c': {text!r} is no number")


@pytest.mark.parametrize("text", ["inf", "-inf", "Infinity", "1e39", "-1e39", "1e400"])
def test_infinite_and_too_large_numbers_are_named_by_row_and_column(text: str) -> None:
    encoder, _, table = learn(["1", text, "2"])
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    assert str(problem.value).startswith(f"t: row 2: column 'c': {text!r} is infinite or beyond float32")


def test_a_column_of_mostly_numbers_with_thousands_marks_is_refused_with_the_setting() -> None:
    with pytest.raises(DataError, match=r"column 'c': '1,5' is no number.*data\.decimal"):
        learn(["1,5"] * 10)


@pytest.mark.parametrize("plain", [0.05, 0.3, 0.6, 0.95])
def test_a_column_of_which_only_some_cells_have_marks_is_neither_name_nor_category(plain: float) -> None:
    texts = [f"{row + 100}.5" if row < plain * 60 else f"1,{row + 100}.5" for row in range(60)]
    with pytest.raises(DataError, match=r"column 'c': '1,\d+\.5' is no number.*set data\.thousands = \",\""):
        cells(texts)
    read = cells(texts, thousands=",")
    assert read == [float(text.replace(",", "")) for text in texts]


@pytest.mark.parametrize("texts", [["1", "2", "1,2", "2,3"], ["27 001", "9 001", "14 001"], ["1.200.100", "1.300.200"]])
def test_a_few_names_that_look_like_amounts_are_categories(texts: list[str]) -> None:
    encoder, _, _ = learn(texts * 20)
    assert (encoder.columns[0].kind, encoder.columns[0].levels) == ("category", tuple(sorted(texts)))


def test_the_marks_of_numbers_are_kept_with_the_columns() -> None:
    encoder, _, table = learn(["1 234,5", "2"], decimal=",", thousands=" ")
    again = TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again.matrix(table)[:, 0].tolist() == [1234.5, 2.0]
    older = encoder.to_json()
    del older["markers"]["thousands"]
    assert TableEncoder.from_json(older).markers.thousands is None


# the text, days since 1970
DATES = {
    "a day": ("1970-01-02", 1.0),
    "before 1970": ("1969-12-31", -1.0),
    "noon": ("1970-01-02T12:00:00", 1.5),
    "a space between": ("1970-01-02 06:00:00", 1.25),
    "without seconds": ("1970-01-02 18:00", 1.75),
    "with fractions": ("1970-01-02T12:00:00.250", 1.5),
    "with many fractions": ("1970-01-02T12:00:00.250000001Z", 1.5),
    "basic": ("19700102T120000", 1.5),
    "basic, without seconds": ("19700102T1200", 1.5),
    "basic, Zulu": ("19700102T120000Z", 1.5),
    "Zulu": ("1970-01-02T12:00:00Z", 1.5),
    "Zulu without seconds": ("1970-01-02T12:00Z", 1.5),
    "a leap day": ("2024-02-29", 19782.0),
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_days_since_1970(name: str) -> None:
    text, days = DATES[name]
    assert cells([text, text, text])[0] == pytest.approx(days, abs=1e-5)  # a second is 1.2e-5 days


@pytest.mark.parametrize("text", ["2024-02-30", "2024-13-01", "2024-01-01T25:00:00"])
def test_a_day_that_does_not_exist_is_named_by_row_and_column(text: str) -> None:
    encoder, _, table = learn(["2024-01-01", text, "2024-01-02"])
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    assert str(problem.value).startswith(f"t: row 2: column 'c': {text!r}")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2], pa.duration("s")),
        pa.array([1, 2], pa.time32("s")),
        pa.array([b"a", b"b"], pa.binary()),
        pa.array([[1], [2]]),
        pa.array([{"x": 1}, {"x": 2}]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_of_a_type_that_cannot_be_learned_from_is_named(values: pa.Array) -> None:
    with pytest.raises(DataError) as problem:
        cells(values)
    assert "column 'c'" in str(problem.value)
    assert str(values.type) in str(problem.value)


# the cells of the train rows, the cells of the test rows, the kind, and what the test rows give
BEYOND: dict[str, tuple[list[str], list[str], str, list[float]]] = {
    "a category only in test": (["a", "b", "a"], ["c", "b"], "category", [0, 2]),
    "a missing category only in test": (["a", "b", "a"], ["", "b"], "category", [0, 2]),
    "a number range only in test": (["1", "2", "3"], ["1000000", "-5"], "number", [1e6, -5]),
    "a missing number only in test": (["1", "2", "3"], ["", "2"], "number", [np.nan, 2]),
    "a third word beside a boolean's": (["yes", "no", "yes"], ["", "no"], "boolean", [np.nan, 0]),
    "dates of another year": (["2024-01-01", "2024-01-02", "2024-01-01"], ["1970-01-01", ""], "date", [0, np.nan]),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_stands_only_in_test_rows_changes_nothing_that_is_learned(name: str) -> None:
    train, test, kind, expected = BEYOND[name]
    alone, notes, _ = learn(train)
    encoder, notes_with, table = learn([*train, *test], rows=range(len(train)))
    assert encoder.columns[0].kind == kind
    assert [(column.kind, column.levels) for column in encoder.columns] == [
        (column.kind, column.levels) for column in alone.columns
    ]
    assert notes == notes_with
    np.testing.assert_array_equal(encoder.matrix(table)[len(train) :, 0], expected)


def test_a_text_that_stands_only_in_test_rows_of_a_number_column_is_named() -> None:
    encoder, _, table = learn(["1", "2", "3", "many"], rows=[0, 1, 2])
    assert encoder.columns[0].kind == "number"
    with pytest.raises(DataError, match="t: row 4: column 'c': 'many' is no number"):
        encoder.matrix(table)


def test_a_column_that_is_an_identifier_in_train_is_one_whatever_the_test_rows_hold() -> None:
    values = [*map(str, range(20)), "3", "3", "word"]
    encoder, _, table = learn(values, rows=range(20))
    assert encoder.columns[0].kind == "identifier"
    assert encoder.matrix(table).shape == (23, 1)


def test_unknown_categories_are_counted_per_column() -> None:
    encoder, _, table = learn(["a", "b", "c", "c", "d"], rows=[0, 1])
    assert encoder.unknown(table) == {"c": 3}


def test_a_rare_category_counts_as_unknown() -> None:
    values = ["a", "b", "a", "c", "b", "d"]
    encoder, _, table = learn(values, rows=range(5), rare=2)
    assert encoder.columns[0].levels == ("a", "b")
    assert encoder.matrix(table)[:, 0].tolist() == [1, 2, 1, 0, 2, 0]


def test_a_column_empty_in_train_is_left_out_with_a_remark() -> None:
    encoder, notes, table = learn(["", "", "7"], rows=[0, 1])
    assert encoder.columns[0].kind == "ignore"
    assert encoder.matrix(table).shape == (3, 1)
    assert notes == ["column 'c' is empty in the train rows and is left out"]


def test_a_missing_column_names_the_nearest_one() -> None:
    encoder, _, _ = learn(["1", "2"], "length")
    with pytest.raises(DataError, match=r"t: column 'length' is missing.*did you mean lenght\?"):
        encoder.matrix(table_of(lenght=["1"], beside=[0.5]))


def test_the_order_of_the_columns_of_new_rows_does_not_matter() -> None:
    encoder, _, table = learn(["1", "2"])
    turned = Table(table.columns.select(["beside", "c"]), table.origins)
    np.testing.assert_array_equal(encoder.matrix(turned), encoder.matrix(table))


def test_no_column_to_learn_from_is_an_error() -> None:
    table = table_of(c=["1", "2"])
    with pytest.raises(DataError, match="no column is left to learn from"):
        learn_columns(table, np.arange(2), ["c"], {"c": "ignore"}, Markers())


def test_no_column_to_learn_from_says_why() -> None:
    table = table_of(who=[f"user{row}" for row in range(30)], gap=[""] * 30)
    with pytest.raises(DataError, match=r"no column is left.*'who' looks like an identifier.*'gap' is empty"):
        learn_columns(table, np.arange(30), table.names, {}, Markers())


def test_a_kind_for_a_column_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"data\.kinds: column 'sise' is not in the data; did you mean size\?"):
        learn_columns(table_of(size=["1"]), np.arange(1), ["size"], {"sise": "number"}, Markers())


def test_an_encoder_survives_json() -> None:
    encoder, _, table = learn(["a", "", "b"], missing_values=("", "none"), decimal=",")
    again = TableEncoder.from_json(encoder.to_json())
    assert again == encoder
    np.testing.assert_array_equal(again.matrix(table), encoder.matrix(table))


def test_the_advice_for_a_mark_of_missing_names_the_whole_list() -> None:
    encoder, _, table = learn(["2"] * 19 + ["lost"], rows=range(19))
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    listed = re.search(r"set data\.missing_values = (\[.*?\])", str(problem.value))
    assert listed is not None
    assert json.loads(listed[1]) == [*MISSING_VALUES, "lost"]
    assert np.isnan(cells(["2"] * 19 + ["lost", "?"], missing_values=tuple(json.loads(listed[1])))[-2:]).all()


# kind of a column: its cells, a cell that is none
OTHER_CELLS = {
    "number": (["1", "2"] * 10, "many"),
    "boolean": (["true", "false"] * 10, "perhaps"),
    "date": (["2024-01-31", "2024-02-01"] * 10, "soon"),
}


@pytest.mark.parametrize("kind", OTHER_CELLS)
def test_cells_of_new_rows_are_to_be_mended_and_no_setting_is_named(kind: str) -> None:
    values, bad = OTHER_CELLS[kind]
    encoder, _, _ = learn(values, kind=kind)
    known = TableEncoder.from_json(encoder.to_json())
    assert known == encoder
    new = table_of(c=[values[0], "", bad], beside=[1.0, 2.0, 3.0])
    with pytest.raises(
        DataError, match=f"'{bad}' is n.*; expected .*, or an empty cell where it is not known; mend"
    ) as told:
        known.matrix(new)
    assert "data." not in str(told.value)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)


# the levels of training, cells of new rows, the level that each of them is, counted from 1
SPELLED: dict[str, tuple[Sequence[Any], Sequence[Any], list[float]]] = {
    "whole numbers as JSON and text files write floats": (["1", "2"], ["2.0", "1.", "2", "2.5", "02"], [2, 1, 2, 0, 0]),
    "whole floats of a text file, as a frame has them": (["1.0", "2.0"], [2.0, 1.0, 3.0], [2, 1, 0]),
    "long floats of a frame": ([123456789012.0, 2e15], ["123456789012.0", "2000000000000000"], [1, 2]),
    "truth values": (["True", "False", "maybe"], [True, False], [2, 1]),
    "truth values of a frame": ([True, False], ["True", "FALSE", "yes"], [2, 1, 0]),
    "a spelling that is a level itself": (["2", "2.0"], ["2.0", "2", "2.00"], [2, 1, 0]),
    "names with leading zeros": (["007", "7"], ["7.0", "007", "007.0"], [2, 1, 0]),
    "articles that look like numbers": (["1e5", "100000"], ["100000.0", "1E5", "1e5"], [1, 0, 2]),
}


@pytest.mark.parametrize("name", SPELLED)
def test_a_category_of_new_rows_is_known_in_the_spelling_of_another_format(name: str) -> None:
    levels, values, expected = SPELLED[name]
    encoder, _, _ = learn(levels, kind="category")
    new = table_of(c=values, beside=[0.5] * len(values))
    known = TableEncoder.from_json(encoder.to_json())
    assert known.matrix(new)[:, 0].tolist() == expected
    assert known.unknown(new).get("c", 0) == expected.count(0)


def test_while_columns_are_learned_each_spelling_is_a_category_of_its_own() -> None:
    encoder, _, table = learn(["2", "2", "2.0"], rows=[0, 1], kind="category")
    assert encoder.matrix(table)[:, 0].tolist() == [1, 1, 0]
