"""Reads a sheet of an Excel file with openpyxl: typed cells, formulas by the values that were saved with them. Floor 2."""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from netwright.errors import DataError, SafetyError, did_you_mean
from netwright.sources.packing import BROKEN, LARGEST_RATIO, LEAST_PACKED, reason_of
from netwright.sources.places import Place
from netwright.sources.tables import Origin, Table
from netwright.sources.texts import TextOptions, header_names

MOST_ROWS = 1_048_576  # of a sheet
MISSING = ("", "#N/A")  # blank text, and the one error that means a missing cell
DAMAGED = (*BROKEN, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, SyntaxError)
Cells = list[tuple[int, list[Any]]]


def read_sheet(place: Place, options: TextOptions, sheet: str | None) -> Table:
    """Read one sheet; the first row that is not blank holds the names.

    Args:
        place: The file, .xlsx or .xlsm.
        options: Whether there is a row of names, or which names the user gives.
        sheet: Its name; None for the first.

    Raises:
        DataError: openpyxl is not installed, the file is damaged, the sheet is unknown or empty, a cell holds an error or a
            formula without its value, or stands beyond the names.
        SafetyError: The file would grow more than a thousandfold.
    """
    with _workbook(place, values=True) as book:
        name = _sheet_name(place, book, sheet)
        rows = _rows(place, book[name])
    if not rows or (len(rows) == 1 and not options.headerless):
        raise DataError(f"{place}: sheet {name!r}: no rows; expected names and at least one row; check the file")
    first = [("" if cell is None else str(cell)).strip() for cell in rows[0][1]]
    names = header_names(first, options, f"{place.label}:{rows[0][0]}")
    body = rows if options.headerless else rows[1:]
    _refuse_formulas(place, name, body)
    columns = {column: _column([cells[at] for _, cells in body]) for at, column in enumerate(names)}
    lines = [number for number, _ in body]
    return Table(pa.table(columns), (Origin(place.label, len(lines), lines.__getitem__),))


@contextmanager
def _workbook(place: Place, values: bool) -> Iterator[Any]:
    """Open the file; ``values`` gives what formulas came to, else the formulas."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{place}: openpyxl is not installed; expected it for Excel files; run: pip install 'netwright[excel]'"
        ) from None
    with place.open_anywhere() as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for entry in archive.infolist():
                    if entry.file_size > LARGEST_RATIO * max(entry.compress_size, LEAST_PACKED):
                        raise SafetyError(
                            f"{place}: member {entry.filename!r}: {entry.compress_size} bytes would grow to {entry.file_size}; "
                            f"expected at most {LARGEST_RATIO} times as many; it is damaged or hostile"
                        )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # styles and extensions that do not matter here
                book = openpyxl.load_workbook(stream, read_only=True, data_only=values, keep_links=False)
        except DAMAGED as error:
            raise _damaged(place, error) from None
        try:
            yield book
        finally:
            book.close()


def _sheet_name(place: Place, book: Any, sheet: str | None) -> str:
    names = [found.title for found in book.worksheets]
    if not names or (sheet is not None and sheet not in names):
        raise DataError(f"{place}: data.sheet: {sheet!r} is no sheet of it; {did_you_mean(sheet or '', names)}")
    return names[0] if sheet is None else sheet


def _rows(place: Place, sheet: Any) -> Cells:
    """Return number and values of the rows that are not blank, all as wide as the first."""
    rows: Cells = []
    sheet.reset_dimensions()  # the size that the file declares is not believed
    try:
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number > MOST_ROWS:
                raise DataError(f"{place}:{number}: a row came; a sheet has at most {MOST_ROWS}; check the file")
            values = [_value(place, sheet.title, cell) for cell in cells]
            width = len(rows[0][1]) if rows else 0
            while values and (values[-1] is None or (values[-1] == "" and len(values) > width)):
                values.pop()
            width = width or len(values)
            if len(values) > width:
                raise DataError(
                    f"{place.label}:{number}: sheet {sheet.title!r}: cell {cells[len(values) - 1].coordinate} stands beyond the "
                    f"{width} columns of the first row; expected as many; mend the sheet"
                )
            if any(value not in (None, "") for value in values):
                rows.append((number, values + [None] * (width - len(values))))
    except DAMAGED as error:
        raise _damaged(place, error) from None
    return rows


def _value(place: Place, sheet: str, cell: Any) -> Any:
    """Return the value of a cell, blank text as ``""`` and None where nothing or no value of a formula is written."""
    value = cell.value
    if cell.data_type == "e" and value not in MISSING:
        raise DataError(
            f"{place}: sheet {sheet!r}: cell {cell.coordinate} holds the error {value}; expected a value; mend the formula"
        )
    if isinstance(value, str):
        return value.strip()
    return "" if value is None and cell.data_type == "str" else value


def _refuse_formulas(place: Place, name: str, body: Cells) -> None:
    """Name the first empty cell that is a formula: a program wrote it, and no spreadsheet has worked it out."""
    empty = {(number, at + 1) for number, cells in body for at, value in enumerate(cells) if value is None}
    if not empty:
        return
    with _workbook(place, values=False) as book:
        sheet = book[name]
        sheet.reset_dimensions()
        for cells in sheet.iter_rows(max_row=body[-1][0]):
            for cell in cells:
                if cell.data_type == "f" and (cell.row, cell.column) in empty:
                    raise DataError(
                        f"{place}: sheet {name!r}: cell {cell.coordinate} holds the formula {str(cell.value)[:40]} without "
                        "its value; expected one; open the file in a spreadsheet program and save it"
                    )


def _column(values: Sequence[Any]) -> pa.Array:
    """Return cells of one kind with their type, of several as texts."""
    values = [None if value in MISSING else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {datetime.datetime, datetime.date}:
        return pa.array(values, pa.timestamp("us")) if kinds else pa.nulls(len(values), pa.string())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values]) if float in kinds else _whole(values)
    if kinds == {bool}:
        return pa.array(values)
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _whole(values: Sequence[Any]) -> pa.Array:
    large = any(value is not None and abs(value) >= 2**63 for value in values)
    return pa.array([None if value is None else float(value) for value in values]) if large else pa.array(values, pa.int64())


def _damaged(place: Place, error: BaseException) -> DataError:
    return DataError(f"{place}: cannot be read ({reason_of(error)}); expected an Excel file; check the file")
