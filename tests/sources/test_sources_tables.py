"""Tables from every kind of file and frame: the same cells in, the same matrix out; bad lines named by their number."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from netwright.data.columns import learn_columns
from netwright.errors import DataError
from netwright.sources.marks import Markers
from netwright.sources.opening import Reading, read_source
from netwright.sources.tables import Table, concatenate, from_frame
from netwright.sources.texts import TextOptions

NAMES = ["size", "count", "colour", "flag", "day"]
CELLS = [
    ["1.5", "1", "red", "true", "2024-01-31"],
    ["NA", "2", "blue", "false", "2024-02-29"],
    ["2.25", "3", "red", "true", "1969-12-31"],
    ["3", "4", "grün", "false", "2000-01-01"],
]
KINDS = ["number", "number", "category", "boolean", "date"]
# blue 1, grün 2, red 3; days since 1970
MATRIX = np.array([[1.5, 1, 3, 1, 19753], [np.nan, 2, 1, 0, 19782], [2.25, 3, 3, 1, -1], [3, 4, 2, 0, 10957]])


def read_table(path: Path, options: TextOptions) -> Table:
    table = read_source(str(path), Reading(options))
    assert isinstance(table, Table)
    return table


def text(mark: str, end: str = "\n", quote: str = "", last: bool = True, before: str = "", between: str = "") -> str:
    lines = [mark.join(f"{quote}{cell}{quote}" for cell in line) for line in [NAMES, *CELLS]]
    return before + (end + between).join(lines) + (end if last else "")


# name of the file, its text, its encoding, how it is read
FILES: dict[str, tuple[str, str, str, TextOptions]] = {
    "comma": ("t.csv", text(","), "utf-8", TextOptions()),
    "semicolon": ("t.csv", text(";"), "utf-8", TextOptions()),
    "tab": ("t.tsv", text("\t"), "utf-8", TextOptions()),
    "tab in a csv": ("t.csv", text("\t"), "utf-8", TextOptions()),
    "pipe": ("t.txt", text("|"), "utf-8", TextOptions()),
    "a delimiter of one's own": ("t.dat", text("~"), "utf-8", TextOptions(delimiter="~")),
    "white space": ("t.data", text("   "), "utf-8", TextOptions()),
    "white space, asked for": ("t.csv", text("  "), "utf-8", TextOptions(delimiter="whitespace")),
    "spaces after commas": ("t.csv", text(", "), "utf-8", TextOptions()),
    "quoted": ("t.csv", text(",", quote='"'), "utf-8", TextOptions()),
    "byte order mark": ("t.csv", text(","), "utf-8-sig", TextOptions()),
    "byte order mark and white space": ("t.txt", text(" "), "utf-8-sig", TextOptions()),
    "CRLF": ("t.csv", text(",", end="\r\n"), "utf-8", TextOptions()),
    "CRLF and white space": ("t.txt", text(" ", end="\r\n"), "utf-8", TextOptions()),
    "no final newline": ("t.csv", text(",", last=False), "utf-8", TextOptions()),
    "latin-1": ("t.csv", text(","), "latin-1", TextOptions(encoding="latin-1")),
    "latin-1 and white space": ("t.txt", text(" "), "latin-1", TextOptions(encoding="latin-1")),
    "utf-16": ("t.csv", text(","), "utf-16", TextOptions(encoding="utf-16")),
    "blank lines between": ("t.csv", text(",", between="\n"), "utf-8", TextOptions()),
    "blank lines before": ("t.csv", text(",", before="\n\n"), "utf-8", TextOptions()),
    "capital ending": ("T.CSV", text(","), "utf-8", TextOptions()),
}


def encoded(table: Table, names: list[str] | None = None) -> tuple[list[str], np.ndarray]:
    encoder, _ = learn_columns(table, np.arange(table.rows), names or table.names, {}, Markers())
    return [column.kind for column in encoder.columns], encoder.matrix(table)


@pytest.mark.parametrize("name", FILES)
def test_text_files_of_every_spelling_give_the_same_matrix(name: str, tmp_path: Path) -> None:
    file, content, encoding, options = FILES[name]
    (tmp_path / file).write_bytes(content.encode(encoding))
    table = read_table(tmp_path / file, options)
    assert table.names == NAMES
    kinds, matrix = encoded(table)
    assert kinds == KINDS
    np.testing.assert_array_equal(matrix, MATRIX)


def typed_columns() -> dict[str, list[Any]]:
    return {
        "size": [1.5, None, 2.25, 3.0],
        "count": [1, 2, 3, 4],
        "colour": ["red", "blue", "red", "grün"],
        "flag": [True, False, True, False],
        "day": [line[4] for line in CELLS],
    }


def json_lines(folder: Path) -> Table:
    columns = typed_columns()
    rows = [json.dumps({name: columns[name][row] for name in NAMES}, ensure_ascii=False) for row in range(4)]
    (folder / "t.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return read_table(folder / "t.jsonl", TextOptions())


def arrow(folder: Path) -> Table:
    columns = typed_columns()
    days = pa.array([datetime.date.fromisoformat(day) for day in columns["day"]])
    return from_frame(pa.table({**columns, "day": days}))


def parquet(folder: Path) -> Table:
    pa.parquet.write_table(arrow(folder).columns, folder / "t.parquet")
    return read_table(folder / "t.parquet", TextOptions())


def arrow_chunked(folder: Path) -> Table:
    table = arrow(folder).columns
    return from_frame(pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)]))


def arrow_not_a_number(folder: Path) -> Table:
    columns = typed_columns()
    return from_frame(pa.table({**columns, "size": pa.array([1.5, float("nan"), 2.25, 3.0])}))


def arrow_dictionary(folder: Path) -> Table:
    columns = typed_columns()
    return from_frame(pa.table({**columns, "colour": pa.array(columns["colour"]).dictionary_encode()}))


def pandas_plain(folder: Path) -> Table:
    return from_frame(pd.DataFrame(typed_columns()))


def pandas_typed(folder: Path) -> Table:
    frame = pd.DataFrame(typed_columns())
    frame["count"] = frame["count"].astype("Int64")
    frame["colour"] = frame["colour"].astype("category")
    frame["flag"] = frame["flag"].astype("boolean")
    frame["day"] = pd.to_datetime(frame["day"])
    return from_frame(frame)


def pandas_indexed(folder: Path) -> Table:
    frame = pd.DataFrame(typed_columns())
    frame.index = [7, 3, 9, 1]
    return from_frame(frame)


TYPED: dict[str, Callable[[Path], Table]] = {
    "JSON lines": json_lines,
    "Parquet": parquet,
    "pyarrow": arrow,
    "pyarrow in chunks": arrow_chunked,
    "pyarrow with NaN": arrow_not_a_number,
    "pyarrow dictionary": arrow_dictionary,
    "pandas": pandas_plain,
    "pandas category, Int64, boolean, datetime": pandas_typed,
    "pandas with an index": pandas_indexed,
}


@pytest.mark.parametrize("name", TYPED)
def test_typed_files_and_frames_give_the_matrix_of_the_text_files(name: str, tmp_path: Path) -> None:
    table = TYPED[name](tmp_path)
    assert table.names == NAMES
    kinds, matrix = encoded(table)
    assert kinds == KINDS
    np.testing.assert_array_equal(matrix, MATRIX)


def test_the_named_index_of_a_frame_is_no_column() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index([5, 6], name="patient"))
    assert from_frame(frame).names == ["a"]


def test_nullable_integers_and_booleans_keep_their_missing_cells() -> None:
    frame = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64"), "b": pd.array([True, None, False], dtype="boolean")})
    kinds, matrix = encoded(from_frame(frame))
    assert kinds == ["number", "boolean"]
    np.testing.assert_array_equal(matrix, [[1, 1], [np.nan, np.nan], [3, 0]])


def test_a_file_without_a_header_line_gets_numbered_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1,2\n3,4\n")
    table = read_table(tmp_path / "t.csv", TextOptions(header=False))
    assert (table.names, table.rows) == (["column_1", "column_2"], 2)
    table = read_table(tmp_path / "t.csv", TextOptions(columns=("a", "b")))
    assert (table.names, table.rows) == (["a", "b"], 2)


@pytest.mark.parametrize("options", [TextOptions(columns=("a", "b")), TextOptions(header=False)])
def test_a_byte_order_mark_before_data_is_no_part_of_the_first_cell(options: TextOptions, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("1,2\n3,4\n".encode("utf-8-sig"))
    np.testing.assert_array_equal(encoded(read_table(tmp_path / "t.csv", options))[1], [[1, 2], [3, 4]])


def test_commas_inside_quotes_are_no_delimiters(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"a, b","say ""hi"""\n"1","x, y"\n')
    table = read_table(tmp_path / "t.csv", TextOptions())
    assert table.names == ["a, b", 'say "hi"']
    assert table.columns.to_pylist() == [{"a, b": "1", 'say "hi"': "x, y"}]


# text, how it is read, the file's ending, the line that holds the bad cell 'x'
LINES: dict[str, tuple[str, TextOptions, str, int]] = {
    "plain": ("a,b\n1,2\n3,x\n", TextOptions(), "csv", 3),
    "the first row": ("a,b\n1,x\n3,4\n", TextOptions(), "csv", 2),
    "blank lines before the header": ("\n\na,b\n1,2\n3,x\n", TextOptions(), "csv", 5),
    "blank lines between": ("a,b\n\n1,2\n\n\n3,x\n", TextOptions(), "csv", 6),
    "CRLF and blank lines": ("a,b\r\n\r\n1,2\r\n3,x\r\n", TextOptions(), "csv", 4),
    "headerless, columns named": ("1,2\n3,x\n", TextOptions(columns=("a", "b")), "csv", 2),
    "headerless, blank lines": ("\n1,2\n\n3,x\n", TextOptions(columns=("a", "b")), "csv", 4),
    "white space": ("a b\n1 2\n\n3   x\n", TextOptions(), "txt", 4),
    "semicolon": ("a;b\n1;2\n3;x", TextOptions(), "csv", 3),
    "byte order mark": ("\ufeffa,b\n1,2\n3,x\n", TextOptions(), "csv", 3),
    "quoted cells": ('"a","b"\n"1","2"\n"3","x"\n', TextOptions(), "csv", 3),
}


@pytest.mark.parametrize("name", LINES)
def test_a_bad_cell_is_named_by_its_line_in_the_file(name: str, tmp_path: Path) -> None:
    content, options, ending, line = LINES[name]
    path = tmp_path / f"t.{ending}"
    path.write_bytes(content.encode())
    table = read_table(path, options)
    encoder, _ = learn_columns(table, np.arange(2), ["a", "b"], {"b": "number"}, Markers())
    with pytest.raises(DataError) as problem:
        encoder.matrix(table)
    assert str(problem.value).startswith(f"t.{ending}:{line}: column 'b': 'x' is no number")


# text, how it is read, the file's ending, the words of the message
RAGGED: dict[str, tuple[str, TextOptions, str, str]] = {
    "too many": ("a,b\n1,2\n3,4,5\n", TextOptions(), "csv", "t.csv:3: 3 fields came; expected 2"),
    "too few": ("a,b\n1,2\n\n3\n", TextOptions(), "csv", "t.csv:4: 1 fields came; expected 2"),
    "the first of two": ("a,b\n1\n3\n", TextOptions(), "csv", "t.csv:2: 1 fields came; expected 2"),
    "headerless": ("1,2\n3,4,5\n", TextOptions(header=False), "csv", "t.csv:2: 3 fields came; expected 2"),
    "white space": ("a b\n1 2\n\n3 4 5\n", TextOptions(), "txt", "t.txt:4: 3 fields came; expected 2"),
    "tab": ("a\tb\n1\t2\n3\n", TextOptions(), "tsv", "t.tsv:3: 1 fields came; expected 2"),
    "names do not fit": ("1,2\n3,4\n", TextOptions(columns=("a",)), "csv", "t.csv:1: 2 fields came; data.columns names 1"),
    "same name twice": ("a,b,a\n1,2,3\n", TextOptions(), "csv", "column 'a' came twice (columns 1 and 3)"),
    "numbers only": ("1,2\n3,4\n", TextOptions(), "csv", "t.csv:1: the first line holds numbers only (1, 2, ...)"),
}


@pytest.mark.parametrize("name", RAGGED)
def test_a_line_with_another_number_of_fields_is_named(name: str, tmp_path: Path) -> None:
    content, options, ending, words = RAGGED[name]
    path = tmp_path / f"t.{ending}"
    path.write_text(content)
    with pytest.raises(DataError) as problem:
        read_table(path, options)
    assert words in str(problem.value)


def test_a_ragged_line_far_down_is_named(tmp_path: Path) -> None:
    lines = ["a,b", *(f"{row},{row}" for row in range(200_000)), "1,2,3"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"t\.csv:200002: 3 fields came; expected 2"):
        read_table(tmp_path / "t.csv", TextOptions())


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", TextOptions(), "no rows"),
        (b"\n\n\n", TextOptions(), "no rows"),
        (b"a,b\n", TextOptions(), "no rows"),
        (b"a,b", TextOptions(), "no rows"),
        (b"\xef\xbb\xbf", TextOptions(), "no rows"),
        (b"a,b\n1,gr\xfcn\n", TextOptions(), "data.encoding"),
        (b"a,gr\xfcn\n1,2\n", TextOptions(), "data.encoding"),
        (b"a,b\n1,2\n", TextOptions(encoding="klingon"), "'klingon' is unknown"),
        (b"a,b\n1,2\n", TextOptions(encoding="utf-16"), "utf-16"),
        (b"a,b\n1,2\n", TextOptions(encoding="base64"), "base64"),
    ],
)
def test_a_text_file_that_cannot_be_read_is_told_in_one_line(
    content: bytes, options: TextOptions, words: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as problem:
        read_table(tmp_path / "t.csv", options)
    assert words in str(problem.value)
    assert "t.csv" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_column_of_one_name_keeps_its_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n\n3\n")
    table = read_table(tmp_path / "t.csv", TextOptions())
    assert table.columns.to_pylist() == [{"a": "1"}, {"a": "3"}]  # a blank line is no row
    with pytest.raises(DataError, match=r"t\.csv:4: column 'a'"):
        learn_columns(table, np.arange(2), ["a"], {"a": "boolean"}, Markers())[0].matrix(
            Table(pa.table({"a": ["1", "x"]}), table.origins)
        )


def test_tables_are_joined_by_name_and_rows_keep_their_places(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "two.csv").write_text("b,extra,a\n\n6,9,5\n8,9,7\n")
    joined = concatenate([read_table(tmp_path / name, TextOptions()) for name in ("one.csv", "two.csv")])
    assert joined.columns.to_pydict() == {"a": ["1", "3", "5", "7"], "b": ["2", "4", "6", "8"]}
    assert [joined.place(row) for row in range(4)] == ["one.csv:2", "one.csv:3", "two.csv:3", "two.csv:4"]


def test_a_file_that_lacks_a_column_of_the_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b\n1,2\n")
    (tmp_path / "two.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"two\.csv: column 'b' is missing; one\.csv has it"):
        concatenate([read_table(tmp_path / name, TextOptions()) for name in ("one.csv", "two.csv")])


def test_rows_of_frames_are_counted_from_one() -> None:
    table = from_frame(pd.DataFrame({"a": [1.0, np.inf]}))
    encoder, _ = learn_columns(table, np.arange(1), ["a"], {}, Markers())
    with pytest.raises(DataError, match=r"data frame: row 2: column 'a': inf is infinite"):
        encoder.matrix(table)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame({"a": [1, "x"]}), "a"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "'a'"),
    ],
)
def test_a_frame_that_cannot_be_read_is_told_in_one_line(frame: Any, words: str) -> None:
    with pytest.raises(DataError) as problem:
        from_frame(frame)
    assert words in str(problem.value)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"{", b"PAR1", b"\x00\xff" * 50])
def test_a_damaged_typed_file_is_told_in_one_line(ending: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"t.{ending}").write_bytes(content)
    with pytest.raises(DataError) as problem:
        read_table(tmp_path / f"t.{ending}", TextOptions())
    place = "t.jsonl:1" if ending == "jsonl" and content in (b"{", b"PAR1") else f"t.{ending}"
    assert f"{place}: cannot be read" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_parquet_file_with_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"])
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: .*\ba\b"):
        read_table(tmp_path / "t.parquet", TextOptions())


def test_texts_as_polars_hands_them_over_are_plain_texts() -> None:
    texts = pa.array(["u", "v", None, "u"])
    codes = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, None, 0], pa.uint32()), pa.array(["u", "v"]).cast(pa.string_view())
    )
    table = pa.table({"view": texts.cast(pa.string_view()), "large": texts.cast(pa.large_string()), "codes": codes})
    columns = from_frame(table).columns
    for name in ("view", "large", "codes"):
        assert columns[name].type == pa.string()
        assert columns[name].to_pylist() == ["u", "v", None, "u"]


def test_pandas_periods_are_dates_and_its_intervals_texts() -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=3, freq="MS"))
    amounts = pd.Series([1.0, 5.0, np.nan])
    frame = pd.DataFrame({0: days.dt.to_period("M"), 1: pd.cut(amounts, [0, 2, 6])})
    frame[2] = frame[0].astype("category")
    before = frame.copy()
    table = from_frame(frame)
    assert table.columns["0"].to_pylist() == table.columns["2"].to_pylist() == list(days)
    assert table.columns["1"].to_pylist() == ["(0, 2]", "(2, 6]", None]
    pd.testing.assert_frame_equal(frame, before)


def test_a_column_that_arrow_does_not_hold_is_refused_in_a_line() -> None:
    with pytest.raises(DataError, match="data frame: cannot be read .*complex128"):
        from_frame(pd.DataFrame({"a": [1j, 2j]}))
