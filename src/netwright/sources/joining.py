"""A table with the further columns of another, row by row, matched by the columns that both have. Floor 2."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from netwright.errors import DataError
from netwright.numerals import counted
from netwright.sources.cells import clean, is_text
from netwright.sources.marks import NUMBER, Markers, pointed_numbers
from netwright.sources.tables import Table

Key = int | float | str | None
NAMED = r"[+-]?0\d"  # how a name such as 007 begins, which is no amount
WHOLE = r"[+-]?\d{1,300}"
BLANK = Markers(("",))


def join(table: Table, other: Table, name: str, markers: Markers, needed: bool = True) -> Table:
    """Return a table with the columns of another that it has not.

    Args:
        table: The rows.
        other: One row for each value of the columns that both have. Numbers that are equal match, however they are written;
            a missing value never matches.
        name: Of the other table.
        markers: Tell the decimal mark.
        needed: Whether rows of which none matches are an error.

    Returns:
        The table; cells without a match are missing, which its notes tell.

    Raises:
        DataError: No common column, a key twice, or no match at all.
    """
    keys = [column for column in table.names if column in other.names]
    if not keys:
        raise DataError(
            f"{name}: no column has the name of one of {table.origins[0].name}; expected a common one; rename it "
            f"({', '.join(table.names[:8])} and {', '.join(other.names[:8])})"
        )
    pairs = [_comparable(table.columns[key], other.columns[key], markers) for key in keys]
    wanted, given = ([_whole_key(key) for key in zip(*(pair[side] for pair in pairs), strict=True)] for side in (0, 1))
    places: dict[tuple[Key, ...], int] = {}
    for row, key in enumerate(given):
        if key is not None and places.setdefault(key, row) != row:
            raise DataError(
                f"{other.place(row)}: data.join: {', '.join(keys)} = {', '.join(map(str, key))} came twice; expected each once"
            )
    found = [None if key is None else places.get(key) for key in wanted]
    further = other.columns.drop_columns(keys).take(pa.array(found, pa.int64()))
    columns = table.columns
    for column in further.column_names:
        columns = columns.append_column(column, further[column])
    notes = [*table.notes, *_unmatched(table, name, keys, found, needed)]
    return Table(columns, table.origins, notes=tuple(notes))


def _whole_key(key: tuple[Key, ...]) -> tuple[Key, ...] | None:
    """Return a key; None where a part of it is missing."""
    return None if None in key else key


def _unmatched(table: Table, name: str, keys: Sequence[str], found: Sequence[int | None], needed: bool) -> list[str]:
    """Return what to tell of rows without a match."""
    alone = [row for row, place in enumerate(found) if place is None]
    if not alone:
        return []
    cells = ", ".join(f"{key} = {table.columns[key][alone[0]].as_py()!r}" for key in keys)
    if needed and len(alone) == len(found):
        raise DataError(
            f"{table.place(alone[0])}: data.join: {cells} is not in {name}, and of no other row either; expected the same "
            f"values of {', '.join(map(repr, keys))} in both; mend them, or rename a column that is no key"
        )
    return [
        f"data.join: {counted(alone, 'row')} of {len(found)} without a match in {name}, the first {table.place(alone[0])} "
        f"({cells}); the joined cells are missing there"
    ]


def _comparable(left: pa.ChunkedArray, right: pa.ChunkedArray, markers: Markers) -> tuple[list[Key], list[Key]]:
    """Return the cells of a column of both tables so that those match which are equal; a missing one is None.

    Texts are numbers beside a column of numbers; two columns of texts are where all of the other table are numbers, of which no
    two different ones are equal (1.1 and 1.10 may be versions): that table, which all rows meet, decides for each row alike.
    """
    columns = (clean(left, BLANK), clean(right, BLANK))
    if not all(is_text(column.type) for column in columns):
        numeric = any(_is_numeric(column.type) for column in columns)
        first, second = (_numbers(column, markers) if numeric else _texts(column) for column in columns)
        return first, second
    texts, numbers = _texts(columns[1]), _numbers(columns[1], markers)
    if any(isinstance(value, str) for value in numbers) or len(set(texts)) > len(set(numbers)):
        return _texts(columns[0]), texts
    return _numbers(columns[0], markers), numbers


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _texts(column: pa.ChunkedArray) -> list[Key]:
    return [None if value is None else str(value).strip() for value in column.to_pylist()]


def _numbers(column: pa.ChunkedArray, markers: Markers) -> list[Key]:
    """Return cells as numbers where they are; a text that is none, or a name such as 007, stays as it is."""
    if not is_text(column.type):
        return [_number(value) for value in column.to_pylist()]
    pointed = pointed_numbers(column, markers).to_pylist()
    return [_parsed(text, number) for text, number in zip(column.to_pylist(), pointed, strict=True)]


def _number(value: Any) -> Key:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, float) and math.isnan(value):
        return None
    return value if type(value) in (int, float) else str(value).strip()


def _parsed(text: str | None, number: str | None) -> Key:
    if text is None or number is None or not re.match(NUMBER, number) or re.match(NAMED, number):
        return text
    value = int(number) if re.fullmatch(WHOLE, number) else float(number)
    return value if math.isfinite(value) else text
