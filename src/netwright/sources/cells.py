"""The cells of a column as numbers, truth values, days or names; a cell that is none of them is named in the error.

Floor 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.errors import DataError, did_you_mean
from netwright.sources.marks import NUMBER, Markers, are_numbers, number_advice, pointed_numbers
from netwright.sources.tables import Table

Floats = npt.NDArray[np.float64]

OFFSET = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)?"  # from UTC, after a time
DATE = (
    rf"^\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?{OFFSET}|Z)?$"
    rf"|^\d{{8}}T\d{{4}}(\d{{2}}(\.\d+)?)?{OFFSET}$"
)
MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"  # tells order, and is no date of a day
OTHER_DATE = r"^(\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2})([T ]\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?)?$"
PADDED = r"^0\d+$"  # a whole number with a leading zero, as in codes of places and articles
TRUE_WORDS = ("true", "yes", "t", "y")
FALSE_WORDS = ("false", "no", "f", "n")
LARGEST = float(np.finfo(np.float32).max)


class CellError(DataError):
    """A cell that is not what its column holds; ``told`` says so without what to do.

    Args:
        told: Which cell, and what is wrong with it.
        advice: What to do where the settings may still change.
    """

    def __init__(self, told: str, advice: str) -> None:
        super().__init__(f"{told}; {advice}")
        self.told = told

    def __reduce__(self) -> tuple[type[DataError], tuple[str]]:
        """Go to another process as a line."""
        return DataError, (str(self),)


def clean(column: pa.ChunkedArray, markers: Markers) -> pa.ChunkedArray:
    """Return a column with text trimmed and missing markers as nulls; dictionary columns become text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_text(column.type):
        return column
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    missing = pc.is_in(trimmed, value_set=pa.array([marker.strip() for marker in markers.missing_values], pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether cells are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def padded(values: pa.ChunkedArray) -> bool:
    """Tell whether texts are whole numbers of which one has a leading zero: names such as 01234, not amounts."""
    if not is_text(values.type) or not (pc.any(pc.match_substring_regex(values, PADDED)).as_py() or False):
        return False
    return bool(pc.all(pc.match_substring_regex(values, r"^\d+$")).as_py())


def numbers(values: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> Floats:
    """Return cells as numbers, NaN where one is missing.

    Raises:
        DataError: A cell is no number, infinite or beyond float32.
    """
    if is_text(values.type):
        pointed = pointed_numbers(values, markers)
        fits = pc.fill_null(pc.match_substring_regex(pointed, NUMBER), True)
        if not pc.all(fits, min_count=0).as_py():  # true for no rows
            wrong = ~np.asarray(fits, dtype=bool)
            row = int(np.flatnonzero(wrong)[0])
            advice = number_advice(values.drop_null(), markers)
            refuse(table, name, values, wrong, "no number", advice or _bad_number_advice(name, markers, values[row].as_py()))
        values = pointed
    _refuse_type(values, table, name, "numbers", _AMOUNTS)
    found = np.asarray(values.cast(pa.float64(), safe=False), dtype=np.float64)
    too_large = np.isinf(found) | (np.abs(found) > LARGEST)
    if too_large.any():
        refuse(table, name, values, too_large, "infinite or beyond float32", "mend the cell or leave the row out")
    return found


_AMOUNTS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
_DATES = (pa.types.is_date, pa.types.is_timestamp)


def _refuse_type(
    values: pa.ChunkedArray, table: Table, name: str, expected: str, known: Sequence[Callable[[pa.DataType], bool]]
) -> None:
    """Refuse a column whose type says that its cells are something else than what is expected; texts are read cell by cell."""
    if is_text(values.type) or pa.types.is_null(values.type) or any(fits(values.type) for fits in known):
        return
    kind = "number" if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) else "category"
    told = f"{table.origins[0].name}: column {name!r} holds {values.type}"
    raise CellError(told, f'expected {expected}; convert it, set data.kinds = {{"{name}" = "{kind}"}} or leave it out')


def _bad_number_advice(name: str, markers: Markers, cell: str) -> str:
    """Return how a text becomes a missing cell, or its column one of categories."""
    return f'set {marked_too(markers, cell)} if it means missing, or data.kinds = {{"{name}" = "category"}}'


def marked_too(markers: Markers, cell: str) -> str:
    """Return the setting that makes a cell mean missing, beside the texts that mean it already.

    Example:
        >>> marked_too(Markers(("", "NA")), "x")
        'data.missing_values = ["", "NA", "x"]'
    """
    return f"data.missing_values = {json.dumps([*markers.missing_values, cell], ensure_ascii=False)}"


def marked_no_more(markers: Markers, cell: str) -> str:
    """Return the setting that lets a cell mean itself, the other texts still missing."""
    kept = [marker for marker in markers.missing_values if marker.strip() != cell.strip()]
    return f"data.missing_values = {json.dumps(kept, ensure_ascii=False)}"


def booleans(values: pa.ChunkedArray, table: Table, name: str) -> Floats:
    """Return cells as 0 and 1, NaN where one is missing.

    Raises:
        DataError: A cell is neither true nor false.
    """
    _refuse_type(values, table, name, "true and false", _AMOUNTS)
    if not is_text(values.type):
        kind = pa.int8() if pa.types.is_boolean(values.type) else values.type
        cells = np.asarray(values.cast(kind).cast(pa.float64(), safe=False), dtype=np.float64)
        wrong = ~(np.isnan(cells) | (cells == 0) | (cells == 1))
        if wrong.any():
            refuse(table, name, values, wrong, "neither true nor false", f'set data.kinds = {{"{name}" = "number"}}')
        return cells
    lower = pc.utf8_lower(values)
    true = pc.is_in(lower, value_set=pa.array([*TRUE_WORDS, "1"]))
    false = pc.is_in(lower, value_set=pa.array([*FALSE_WORDS, "0"]))
    known = np.asarray(pc.or_(pc.or_(true, false), pc.is_null(values)), dtype=bool)
    if not known.all():
        refuse(table, name, values, ~known, "neither true nor false", f'set data.kinds = {{"{name}" = "category"}}')
    return np.where(np.asarray(pc.is_null(values), dtype=bool), np.nan, np.asarray(true, dtype=np.float64))


def days(values: pa.ChunkedArray, table: Table, name: str) -> Floats:
    """Return dates as days since 1970, of UTC where their time has an offset; NaN where one is missing.

    Raises:
        DataError: A cell is no date.
    """
    east, written = None, values
    if is_text(values.type):
        fits = np.asarray(pc.fill_null(pc.match_substring_regex(values, DATE), True), dtype=bool)
        if not fits.all():
            refuse(table, name, values, ~fits, "no date", "expected 2024-01-31 or 2024-01-31T12:00:00; mend the cell")
        east = _minutes_east(values)
        values = _plain_dates(values)
    _refuse_type(values, table, name, "dates", _DATES)
    try:
        stamps = values.cast(pa.timestamp("us"), safe=False)
    except pa.ArrowInvalid as error:
        bad = np.asarray([not _is_day(value) for value in values.to_pylist()])
        if bad.any():
            refuse(table, name, written, bad, "no date", "mend the cell")
        raise DataError(
            f"{table.origins[0].name}: column {name!r}: no date ({str(error).splitlines()[0]}); mend it"
        ) from None
    micros = np.asarray(pc.fill_null(stamps.cast(pa.int64()), 0))
    micros = (micros if east is None else micros - east * 60_000_000).astype(np.float64)
    return np.where(np.asarray(pc.is_null(stamps), dtype=bool), np.nan, micros / 86_400e6)


def _minutes_east(values: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """Return by how many minutes the times of texts are before those of UTC; None where none has an offset."""
    found = pc.extract_regex(values, r"[T ][0-9:.]+(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?$")
    if found.null_count == len(found):
        return None
    parts = [pc.struct_field(found, [name]) for name in ("sign", "hours", "minutes")]
    hours, minutes = (
        np.asarray(pc.if_else(pc.equal(pc.fill_null(part, ""), ""), "0", part).cast(pa.int64())) for part in parts[1:]
    )
    west = np.asarray(pc.fill_null(pc.equal(parts[0], "-"), False), dtype=bool)
    east: npt.NDArray[np.int64] = np.where(west, -1, 1) * (60 * hours + minutes)
    return east


def _plain_dates(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ISO dates as 2024-01-31 or 2024-01-31T12:00:00.123456."""
    for pattern, replacement in (
        (r"([T ][0-9:.]+)[+-]\d{2}(:?\d{2})?$", r"\1"),
        (r"Z$", ""),
        (r"(\.\d{6})\d+$", r"\1"),
        (r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})", r"\1-\2-\3T\4:\5:"),
        (r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}):$", r"\1:00"),
        (r"([T ]\d{2}:\d{2})$", r"\1:00"),
    ):
        values = pc.replace_substring_regex(values, pattern, replacement)
    return values


def _is_day(value: Any) -> bool:
    try:
        pa.scalar(value, pa.string()).cast(pa.timestamp("us"))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def refuse(table: Table, name: str, values: pa.ChunkedArray, bad: npt.NDArray[np.bool_], what: str, advice: str) -> None:
    """Raise a `DataError` that names the first bad cell."""
    row = int(np.flatnonzero(bad)[0])
    more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
    told = f"{table.place(row)}: column {name!r}: {values[row].as_py()!r} is {what}{more}"
    raise CellError(told, advice)


def time_values(table: Table, name: str, markers: Markers) -> Floats:
    """Return a column as times whose order is known: numbers as they are, ISO dates and months in days since 1970; ``(rows,)``.

    Raises:
        DataError: The column or a cell is missing, or is neither a number nor such a date.
    """
    values = _complete(table, name, markers, "time")
    if pa.types.is_temporal(values.type):
        return days(values, table, name)
    if not is_text(values.type):
        return numbers(values, table, name, markers)
    number = np.asarray(are_numbers(values, markers), dtype=bool)
    date = np.asarray(pc.match_substring_regex(values, DATE), dtype=bool)
    if number.all():
        return numbers(values, table, name, markers)
    if date.all():
        return days(values, table, name)
    if pc.all(pc.match_substring_regex(values, MONTH)).as_py():
        return days(pc.binary_join_element_wise(values, "01", "-"), table, name)
    if (number | date).all():
        wrong, expected = (~number, "a number") if number.sum() > date.sum() else (~date, "a date")
        what = f"not {expected} as the others are"
    else:
        wrong, what = ~(number | date), "neither a number nor a date such as 2024-01-31"
    advice = "so its order is unknown; write dates as 2024-01-31"
    refuse(table, name, values, wrong, what, advice)
    raise AssertionError(name)


def group_values(table: Table, name: str, markers: Markers) -> npt.NDArray[np.str_]:
    """Return a column as the names of groups, trimmed; ``(rows,)``.

    Raises:
        DataError: The column or a cell is missing.
    """
    values = _complete(table, name, markers, "group")
    return np.asarray([str(value) for value in values.to_pylist()], dtype=np.str_)


def _complete(table: Table, name: str, markers: Markers, setting: str) -> pa.ChunkedArray:
    """Return a cleaned column in which no cell is missing."""
    if name not in table.names:
        raise DataError(f"data.split.{setting}: column {name!r} is not in the data; {did_you_mean(name, table.names)}")
    values = clean(table.columns[name], markers)
    missing = np.asarray(values.is_null(nan_is_null=True), dtype=bool)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise DataError(
            f"{table.place(row)}: data.split.{setting}: column {name!r} is missing ({int(missing.sum())} such rows); "
            f"expected a {setting} in each row; mend the cells or leave the rows out"
        )
    return values
