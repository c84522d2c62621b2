"""Excel files: typed cells, the first sheet or the named one, errors and formulas named by their cell."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from netwright.errors import ConfigError, DataError, NetwrightError, SafetyError
from netwright.sources.opening import Reading, read_source
from netwright.sources.tables import Table
from netwright.sources.texts import TextOptions

DAY = datetime.datetime(2024, 1, 31)
ROWS: list[list[Any]] = [
    ["size", "count", "colour", "flag", "day", "mixed"],
    [1.5, 1, "red", True, DAY, 1],
    [None, 2, " blue ", False, DAY, "many"],
    [3, None, "", True, None, 2.5],
]


def write(folder: Path, *sheets: list[list[Any]], name: str = "t.xlsx") -> str:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for place, rows in enumerate(sheets):
        sheet = book.create_sheet(f"S{place + 1}")
        for number, row in enumerate(rows, 1):
            for column, value in enumerate(row, 1):
                sheet.cell(number, column, value)
    book.save(folder / name)
    return str(folder / name)


def read(path: str, reading: Reading | None = None) -> Table:
    table = read_source(path, reading or Reading())
    assert isinstance(table, Table)
    return table


def test_cells_keep_their_types_and_their_rows(tmp_path: Path) -> None:
    table = read(write(tmp_path, [[], *ROWS[:2], [], *ROWS[2:]]))
    assert table.columns.to_pydict() == {
        "size": [1.5, None, 3.0],
        "count": [1, 2, None],
        "colour": ["red", "blue", None],
        "flag": [True, False, True],
        "day": [DAY, DAY, None],
        "mixed": ["1", "many", "2.5"],
    }
    assert [table.place(row) for row in range(3)] == ["t.xlsx:3", "t.xlsx:5", "t.xlsx:6"]


def test_a_sheet_is_named_and_a_file_may_have_no_names(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS, [[1, 2], [3, 4]], name="t.xlsm")
    table = read(path, Reading(TextOptions(columns=("a", "b")), sheet="S2"))
    assert table.columns.to_pydict() == {"a": [1, 3], "b": [2, 4]}
    assert read(path, Reading(TextOptions(header=False), sheet="S2")).names == ["column_1", "column_2"]
    assert read(path).names == ROWS[0]


def test_a_formula_has_the_value_that_was_saved_with_it(tmp_path: Path) -> None:
    path = Path(write(tmp_path, [["a", "b", "c"], [1, "=A2*2", "=IF(A2>0,TRIM(),1)"]]))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    page = members["xl/worksheets/sheet1.xml"].decode()
    page = page.replace("<f>A2*2</f><v></v>", "<f>A2*2</f><v>2</v>").replace("<f>A2*2</f><v />", "<f>A2*2</f><v>2</v>")
    page = page.replace('<c r="C2"><f>', '<c r="C2" t="str"><f>')  # text, and blank
    members["xl/worksheets/sheet1.xml"] = page.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert read(str(path)).columns.to_pydict() == {"a": [1], "b": [2], "c": [None]}


# the sheet, how it is read, the error, words of the line
REFUSED: dict[str, tuple[list[list[Any]], Reading, type[NetwrightError], str]] = {
    "an error": ([["a", "b"], [1, "#DIV/0!"]], Reading(), DataError, "cell B2 holds the error #DIV/0!"),
    "a formula": ([["a", "b"], [1, 2], [3, "=A3*2"]], Reading(), DataError, "cell B3 holds the formula =A3*2 without"),
    "a cell beyond the names": ([["a", "b"], [1, 2], [3, 4, 5]], Reading(), DataError, "t.xlsx:3: sheet 'S1': cell C3"),
    "no such sheet": (ROWS, Reading(sheet="S9"), DataError, "data.sheet: 'S9' is no sheet of it; known: S1"),
    "names alone": ([["a", "b"]], Reading(), DataError, "sheet 'S1': no rows"),
    "nothing": ([], Reading(), DataError, "sheet 'S1': no rows"),
    "numbers for names": ([[1, 2], [3, 4]], Reading(), DataError, "t.xlsx:1: the first line holds numbers only (1, 2, ...)"),
    "a name twice": ([["a", "a"], [3, 4]], Reading(), DataError, "t.xlsx:1: column 'a' came twice (columns 1 and 2)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_sheet_that_cannot_be_read_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    rows, reading, kind, words = REFUSED[name]
    with pytest.raises(kind) as problem:
        read(write(tmp_path, rows), reading)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_the_missing_value_of_a_spreadsheet_is_a_missing_cell(tmp_path: Path) -> None:
    assert read(write(tmp_path, [["a", "b"], [1.5, "#N/A"], [2.5, 3]])).columns["b"].to_pylist() == [None, 3]


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("xl/workbook.xml", b" " * 30_000_000)
    with pytest.raises(SafetyError, match="member 'xl/workbook.xml'"):
        read(str(path))


def test_a_sheet_of_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"data\.sheet: 'S1' came; .*t\.csv is no Excel file"):
        read(str(tmp_path / "t.csv"), Reading(sheet="S1"))


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ROWS)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'netwright\[excel\]'"):
        read(path)
