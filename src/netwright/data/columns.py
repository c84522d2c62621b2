"""What each column of a table is (number, category, boolean, date, identifier), and its cells as numbers.

Kinds and categories are learned from the train rows only; every other row must conform, or the cell is named in the
error. `TableEncoder` turns a table into one float64 matrix: NaN is missing, 0 an unknown category. Floor 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.data.tables import Table
from netwright.errors import DataError, did_you_mean

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MISSING_VALUES = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "-")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity|Infinity)$"
COMMA_NUMBER = r"^[+-]?\d{1,3}(\.\d{3})*,\d+$|^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?Z?$"
THOUSANDS = r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$"
TRUE_WORDS = ("true", "yes", "t", "y")
FALSE_WORDS = ("false", "no", "f", "n")
LARGEST = float(np.finfo(np.float32).max)
MOSTLY_NUMBERS = 0.9  # with so many numbers in a column a text is taken for a mistake
MISSING_LEVEL = "(missing)"


@dataclass(frozen=True)
class Column:
    """One column: name, kind, number of missing cells, and the categories seen in the train rows."""

    name: str
    kind: str
    missing: int = 0
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Markers:
    """What the cells of text columns mean: the missing markers and the decimal mark."""

    missing_values: tuple[str, ...] = MISSING_VALUES
    decimal: str = "."


@dataclass(frozen=True)
class TableEncoder:
    """Turns tables with the learned columns into float64 matrices.

    The matrix has one column per used column, in order: numbers as they are (NaN missing), booleans 0 and 1, dates in
    days since 1970, categories as whole numbers (0 unknown, 1.. the levels).
    """

    columns: tuple[Column, ...]
    markers: Markers = Markers()

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns the network reads."""
        return tuple(column for column in self.columns if column.kind not in ("identifier", "ignore"))

    def matrix(self, table: Table) -> Floats:
        """Return the cells as float64 ``(rows, used columns)``.

        Raises:
            DataError: A column is missing, or a cell is no number, infinite or beyond float32.
        """
        missing = [column.name for column in self.used if column.name not in table.names]
        if missing:
            raise DataError(
                f"{table.origins[0].name}: column {missing[0]!r} is missing; the network reads it; "
                f"{did_you_mean(missing[0], table.names)}"
            )
        cells = [self._cells(table, column) for column in self.used]
        return np.stack(cells, axis=1) if cells else np.zeros((table.rows, 0))

    def unknown(self, table: Table) -> dict[str, int]:
        """Return the number of cells per category column whose value was not seen in the train rows."""
        counts = {
            column.name: int((self._cells(table, column) == 0).sum()) for column in self.used if column.kind == "category"
        }
        return {name: count for name, count in counts.items() if count}

    def _cells(self, table: Table, column: Column) -> Floats:
        values = clean(table.columns[column.name], self.markers)
        if column.kind == "number":
            return _numbers(values, table, column.name, self.markers)
        if column.kind == "boolean":
            return _booleans(values, table, column.name)
        if column.kind == "date":
            return _days(values, table, column.name)
        return _codes(values, column.levels)

    def to_json(self) -> dict[str, Any]:
        """Return the encoder as plain values."""
        return {"columns": [asdict(column) for column in self.columns], "markers": asdict(self.markers)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> TableEncoder:
        """Read what `to_json` gave."""
        columns = tuple(
            Column(entry["name"], entry["kind"], entry["missing"], tuple(entry["levels"])) for entry in value["columns"]
        )
        markers = Markers(tuple(value["markers"]["missing_values"]), value["markers"]["decimal"])
        return TableEncoder(columns, markers)


def clean(column: pa.ChunkedArray, markers: Markers) -> pa.ChunkedArray:
    """Return a column with text trimmed and missing markers as nulls; dictionary columns become text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_text(column.type):
        return column
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    missing = pc.is_in(trimmed, value_set=pa.array([marker.strip() for marker in markers.missing_values], pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)


def _missing(column: pa.ChunkedArray) -> int:
    """Return the number of missing cells; not-a-number is one."""
    return int(pc.sum(column.is_null(nan_is_null=True)).as_py() or 0)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether cells are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def learn_columns(
    table: Table,
    rows: Rows,
    names: Sequence[str],
    kinds: Mapping[str, str],
    markers: Markers,
    rare: int = 1,
) -> tuple[TableEncoder, list[str]]:
    """Learn kinds and categories from some rows.

    Args:
        table: All rows.
        rows: The train rows, int64.
        names: The columns to learn from.
        kinds: Kinds the user wrote.
        markers: Missing markers and decimal mark.
        rare: A category seen fewer times counts as unknown.

    Returns:
        The encoder and remarks worth printing (identifiers left out, ...).

    Raises:
        DataError: A text column, or a text in a number column.
    """
    for name in kinds:
        if name not in table.names:
            raise DataError(f"data.kinds: column {name!r} is not in the data; {did_you_mean(name, table.names)}")
    found, notes = [], []
    chosen = pa.array(rows)
    for name in names:
        column = clean(table.columns[name], markers)
        train = column.take(chosen)
        kind = kinds.get(name) or _infer(train, table, name, markers)
        levels: tuple[str, ...] = ()
        if kind == "category":
            levels = _levels(train, rare)
        if kind == "identifier" and name not in kinds:
            notes.append(
                f"column {name!r} looks like an identifier (all values differ) and is left out; "
                f'to use it: data.kinds = {{"{name}" = "number"}} or "category"'
            )
        if name not in kinds and train.null_count == len(train):
            notes.append(f"column {name!r} is empty in the train rows and is left out")
            kind = "ignore"
        found.append(Column(name, kind, _missing(column), levels))
    encoder = TableEncoder(tuple(found), markers)
    if not encoder.used:
        raise DataError(
            f"{table.origins[0].name}: no column is left to learn from; expected at least one; check data.ignore"
        )
    return encoder, notes


def _infer(train: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> str:
    kind = train.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_temporal(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "identifier" if _is_key(train, name) else "number"
    if pa.types.is_null(kind):
        return "ignore"
    if not is_text(kind):
        raise DataError(
            f"{table.origins[0].name}: column {name!r} holds {kind}; expected numbers, texts, booleans or dates; "
            f'flatten it, or leave it out with data.ignore = ["{name}"]'
        )
    return _infer_text(train.drop_null(), table, name, markers)


def _infer_text(train: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> str:
    count = len(train)
    if count == 0:
        return "ignore"
    numbers = pc.sum(pc.match_substring_regex(pointed_numbers(train, markers), NUMBER)).as_py()
    if numbers == count:
        return "identifier" if _is_key(pc.cast(pointed_numbers(train, markers), pa.float64()), name) else "number"
    if numbers >= MOSTLY_NUMBERS * count:
        return "number"  # the cell that is none is named when the cells are read
    if pc.all(pc.match_substring_regex(train, DATE)).as_py():
        return "date"
    distinct = pc.unique(train)
    words_found = {value.lower() for value in distinct.to_pylist()} if len(distinct) <= 12 else set()
    if 0 < len(words_found) <= 2 and words_found <= {*TRUE_WORDS, *FALSE_WORDS}:
        return "boolean"
    if pc.sum(pc.match_substring_regex(train, COMMA_NUMBER)).as_py() >= MOSTLY_NUMBERS * count:
        raise DataError(
            f"{table.origins[0].name}: column {name!r}: {train[0].as_py()!r} is no number; expected a decimal point and "
            'no thousands mark; set data.decimal = "," or rewrite the column'
        )
    words = pc.mean(pc.add(pc.count_substring(train, " "), 1)).as_py()
    if count >= 20 and len(distinct) > 0.5 * count and words >= 3:
        raise DataError(
            f"{table.origins[0].name}: column {name!r} holds free text ({len(distinct)} different values, "
            f"{words:.0f} words each); expected numbers or categories; leave it out with "
            f'data.ignore = ["{name}"] or force data.kinds = {{"{name}" = "category"}}'
        )
    return "identifier" if count >= 20 and len(distinct) >= 0.95 * count else "category"


def _is_key(train: pa.ChunkedArray, name: str) -> bool:
    """Tell whether whole numbers are a row key: all different, and counted up by one or named like one."""
    values = np.asarray(train.drop_null().cast(pa.float64()))
    if len(values) < 20 or train.null_count or not np.isfinite(values).all() or (values != np.round(values)).any():
        return False
    ordered = np.sort(values)
    if (np.diff(ordered) == 0).any():
        return False
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    named = bool({"id", "key", "index", "identifier", "uuid"} & set(words)) or name.endswith(("Id", "ID"))
    share = len(values) / (ordered[-1] - ordered[0] + 1)
    in_order = bool((np.diff(values) > 0).all())
    return named or (in_order and share > 0.3)


def _levels(train: pa.ChunkedArray, rare: int) -> tuple[str, ...]:
    counts = pc.value_counts(_texts(train))
    levels = [str(entry["values"]) for entry in counts.to_pylist() if entry["counts"] >= rare]
    return tuple(sorted(levels))


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(values.cast(pa.string()), MISSING_LEVEL)


def _codes(values: pa.ChunkedArray, levels: Sequence[str]) -> Floats:
    places = pc.index_in(_texts(values), value_set=pa.array(levels, pa.string()))
    return np.asarray(pc.fill_null(places, -1), dtype=np.float64) + 1.0


def pointed_numbers(values: pa.ChunkedArray, markers: Markers) -> pa.ChunkedArray:
    if markers.decimal == ".":
        return values
    whole = pc.match_substring_regex(values, THOUSANDS)  # only there the points are thousands marks
    plain = pc.if_else(
        pc.fill_null(whole, False), pc.replace_substring(values, ".", ""), pc.replace_substring(values, ".", "#")
    )
    return pc.replace_substring(plain, ",", ".")


def _numbers(values: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> Floats:
    if is_text(values.type):
        pointed = pointed_numbers(values, markers)
        fits = pc.fill_null(pc.match_substring_regex(pointed, NUMBER), True)
        if not pc.all(fits).as_py():
            _refuse(table, name, values, ~np.asarray(fits, dtype=bool), "no number", _bad_number_advice(name))
        values = pointed
    try:
        numbers = np.asarray(values.cast(pa.float64(), safe=False), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"{table.origins[0].name}: column {name!r} holds {values.type}; expected numbers; "
            f'set data.kinds = {{"{name}" = "category"}} or leave it out'
        ) from None
    too_large = np.isinf(numbers) | (np.abs(numbers) > LARGEST)
    if too_large.any():
        _refuse(table, name, values, too_large, "infinite or beyond float32", "mend the cell or leave the row out")
    return numbers


def _bad_number_advice(name: str) -> str:
    return f'add it to data.missing_values, or set data.kinds = {{"{name}" = "category"}}'


def _booleans(values: pa.ChunkedArray, table: Table, name: str) -> Floats:
    if not is_text(values.type):
        return np.asarray(
            values.cast(pa.float64()) if not pa.types.is_boolean(values.type) else values.cast(pa.int8()).cast(pa.float64()),
            dtype=np.float64,
        )
    lower = pc.utf8_lower(values)
    true = pc.is_in(lower, value_set=pa.array([*TRUE_WORDS, "1"]))
    false = pc.is_in(lower, value_set=pa.array([*FALSE_WORDS, "0"]))
    known = np.asarray(pc.or_(pc.or_(true, false), pc.is_null(values)), dtype=bool)
    if not known.all():
        _refuse(table, name, values, ~known, "neither true nor false", f'set data.kinds = {{"{name}" = "category"}}')
    return np.where(np.asarray(pc.is_null(values), dtype=bool), np.nan, np.asarray(true, dtype=np.float64))


def _days(values: pa.ChunkedArray, table: Table, name: str) -> Floats:
    if is_text(values.type):
        fits = np.asarray(pc.fill_null(pc.match_substring_regex(values, DATE), True), dtype=bool)
        if not fits.all():
            _refuse(table, name, values, ~fits, "no date", "expected 2024-01-31 or 2024-01-31T12:00:00; mend the cell")
        values = pc.replace_substring_regex(pc.replace_substring(values, "Z", ""), r"\.\d+$", "")
        values = pc.replace_substring_regex(values, r"([T ]\d{2}:\d{2})$", r"\1:00")
    try:
        stamps = values.cast(pa.timestamp("us"), safe=False)
    except pa.ArrowNotImplementedError:
        raise DataError(
            f"{table.origins[0].name}: column {name!r} holds {values.type}; expected dates; "
            f'leave it out with data.ignore = ["{name}"]'
        ) from None
    except pa.ArrowInvalid as error:
        bad = np.asarray([not _is_day(value) for value in values.to_pylist()])
        if bad.any():
            _refuse(table, name, values, bad, "no date", "mend the cell")
        raise DataError(
            f"{table.origins[0].name}: column {name!r}: no date ({str(error).splitlines()[0]}); mend it"
        ) from None
    micros = np.asarray(pc.fill_null(stamps.cast(pa.int64()), 0), dtype=np.float64)
    return np.where(np.asarray(pc.is_null(stamps), dtype=bool), np.nan, micros / 86_400e6)


def _is_day(value: Any) -> bool:
    try:
        pa.scalar(value, pa.string()).cast(pa.timestamp("us"))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _refuse(table: Table, name: str, values: pa.ChunkedArray, bad: npt.NDArray[np.bool_], what: str, advice: str) -> None:
    row = int(np.flatnonzero(bad)[0])
    more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
    raise DataError(f"{table.place(row)}: column {name!r}: {values[row].as_py()!r} is {what}{more}; {advice}")
