"""Several labels a row: sets of labels, or a column per label that says yes or no, as 0 and 1; labels as JSON. Floor 2."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.errors import ConfigError, DataError
from netwright.numerals import counted
from netwright.sources.arrays import Arrays
from netwright.sources.cells import FALSE_WORDS, TRUE_WORDS, clean, is_text, marked_no_more
from netwright.sources.marks import Markers
from netwright.sources.tables import Table

Label = str | int | float | bool | bytes | datetime.date
Numbers = npt.NDArray[np.int64]
WHOLE = r"[+-]?(0|[1-9]\d{0,14})"  # a label in a text that is a whole number; 007 is a name
FEWEST_DIFFERENT = 20  # so many different labels are never too many for the rows


@dataclass(frozen=True)
class Mentions:
    """Which row has which label.

    Args:
        row: The row of each mention, int64 ``(mentions,)``.
        label: Its place in ``found``, int64 ``(mentions,)``.
        found: The different labels.
        rows: The number of rows; one may have no label.
    """

    row: Numbers
    label: Numbers
    found: tuple[Label, ...]
    rows: int

    def matrix(self) -> Numbers:
        """Return 0 and 1 per row and label, int64 ``(rows, labels)``."""
        values = np.zeros((self.rows, len(self.found)), dtype=np.int64)
        values[self.row, self.label] = 1
        return values


def mentions(raw: Table | Arrays, names: Sequence[str], markers: Markers) -> Mentions | None:
    """Return the labels of all rows where the target is one column of sets of labels, else None.

    Args:
        raw: The rows.
        names: The target columns.
        markers: With ``label_separator`` a text is read as labels; an empty one has none.

    Raises:
        ConfigError: A separator came for something else than one column of texts.
        DataError: A set or a label in it is missing.
    """
    if isinstance(raw, Arrays):
        if raw.labels and raw.target is not None:
            row, label = np.nonzero(raw.target)
            return Mentions(row.astype(np.int64), label.astype(np.int64), raw.labels, raw.rows)
        plain = raw.target is not None and raw.target.ndim == 1 and raw.target.dtype.kind == "U"
        column = pa.chunked_array([pa.array(raw.target)]) if plain else None
    else:
        column = raw.columns[names[0]] if len(names) == 1 and names[0] in raw.names else None
    separator = markers.label_separator
    if separator is not None:
        if column is None or not is_text(clean(column, markers).type):
            raise ConfigError(
                f"data.label_separator: {separator!r} came; target {', '.join(map(repr, names))} is no single column of texts; "
                "expected labels such as 'a;b' in one column; leave it out"
            )
        return of_lists(_divided(raw, names[0], column, separator, markers), lambda row: _where(raw, names[0], row), True)
    if column is None or not is_list(column.type):
        return None
    return of_lists(column, lambda row: _where(raw, names[0], row))


def is_list(kind: pa.DataType) -> bool:
    """Tell whether cells are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def of_lists(column: pa.ChunkedArray, where: Any, whole: bool = False) -> Mentions:
    """Return the labels in a column of lists.

    Args:
        column: A list of texts, numbers or dates per row.
        where: From a row number to its place, for messages.
        whole: Whether texts that all are whole numbers are such.

    Raises:
        DataError: A list or a label in it is missing, or holds something else.
    """
    if column.null_count:
        row = int(np.flatnonzero(np.asarray(column.is_null(), dtype=bool))[0])
        raise DataError(f"{where(row)} is missing; expected a list in each row, empty where no label fits; mend the row")
    owner = np.repeat(np.arange(len(column)), np.asarray(pc.list_value_length(column), dtype=np.int64))
    flat = pc.list_flatten(column)
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    flat = flat.cast(pa.string()) if is_text(flat.type) or pa.types.is_null(flat.type) else flat
    kind = flat.type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind)):
        raise DataError(f"{where(0)} holds lists of {kind}; expected texts, numbers or dates as labels; convert them")
    bad = np.asarray(flat.is_null(nan_is_null=True), dtype=bool)
    if bad.any():
        raise DataError(f"{where(int(owner[np.flatnonzero(bad)[0]]))} holds a missing label; leave it out of the list")
    values = flat.to_pylist()
    found = sorted(set(values))
    places = {label: place for place, label in enumerate(found)}
    label = np.fromiter((places[value] for value in values), np.int64, len(values))
    if whole and found and all(re.fullmatch(WHOLE, str(text)) for text in found):
        found = [int(text) for text in found]
    return Mentions(owner, label, tuple(found), len(column))


def _where(raw: Table | Arrays, name: str, row: int) -> str:
    return f"{raw.place(row)}: target {name!r}"


def _divided(raw: Table | Arrays, name: str, column: pa.ChunkedArray, separator: str, markers: Markers) -> pa.ChunkedArray:
    """Return texts cut at the separator, trimmed, without empty parts; an empty cell, or none, is an empty list."""
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column.cast(pa.string())), ""), True)
    texts = pc.if_else(empty, pa.scalar("", pa.string()), clean(column, markers))
    missing = np.asarray(texts.is_null(), dtype=bool)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        cell = column[row].as_py()
        raise DataError(
            f"{_where(raw, name, row)} is missing ({cell!r}, {int(missing.sum())} such rows); expected labels, or an empty cell "
            "where none fits; mend the cell, or set " + marked_no_more(markers, cell)
        )
    parts = [[part.strip() for part in text.split(separator) if part.strip()] for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(parts, pa.list_(pa.string()))])


def place_labels(
    raw: Table | Arrays, name: str, found: Mentions, renamed: Mapping[str, str], known: Sequence[Label] | None
) -> tuple[Numbers, tuple[Label, ...]]:
    """Return 0 and 1 per row and label, int64 ``(rows, labels)``, and the labels in order.

    Args:
        raw: The rows, for messages.
        name: The target.
        found: Which row has which label.
        renamed: Labels to rename.
        known: The labels of a trained network; None to learn them.

    Raises:
        DataError: No label at all, too many different ones, or one that is not known.
    """
    labels = [renamed.get(str(label), str(label)) for label in found.found] if renamed else list(found.found)
    if known is None:
        known = sorted(set(labels))
        if not known:
            raise DataError(
                f"{raw.origins[0].name}: target {name!r}: no row has a label; expected some; choose another target"
            )
        if len(known) > max(FEWEST_DIFFERENT, found.rows // 2):
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds {len(known)} different labels in {counted(found.rows, 'row')}; "
                "expected fewer than half as many as rows; choose another target or merge labels with data.labels"
            )
    places = {label: place for place, label in enumerate(known)}
    if labels and known and isinstance(known[0], str) != isinstance(labels[0], str):
        labels, places = [str(label) for label in labels], {str(label): place for label, place in places.items()}
    numbers = np.asarray([places.get(label, -1) for label in labels], dtype=np.int64)
    unknown = np.flatnonzero(numbers[found.label] < 0)
    if len(unknown):
        label = labels[found.label[unknown[0]]]
        raise DataError(
            f"{_where(raw, name, int(found.row[unknown[0]]))}: label {label!r} was not seen in training; expected some of "
            f"{', '.join(map(str, list(known)[:10]))}; mend the row or set data.labels"
        )
    return Mentions(found.row, numbers[found.label], tuple(known), found.rows).matrix(), tuple(known)


def yes_or_no(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which cells of a column say yes or no, and which say yes; bool ``(rows,)`` each.

    Example:
        >>> known, yes = yes_or_no(np.array(["yes", "No", "2"]))
        >>> known.tolist(), yes.tolist()
        ([True, True, False], [True, False, False])
    """
    if values.dtype.kind == "U":
        lower = np.char.lower(values)
        yes = np.isin(lower, (*TRUE_WORDS, "1"))
        return yes | np.isin(lower, (*FALSE_WORDS, "0")), yes
    if values.dtype.kind not in "biuf":
        return np.zeros(len(values), np.bool_), np.zeros(len(values), np.bool_)
    yes = values == 1
    return yes | (values == 0), yes


def are_labels(columns: Sequence[npt.NDArray[Any]]) -> bool:
    """Tell whether several columns say yes or no in every cell, written as 0 and 1, booleans or words, not as fractions."""
    return len(columns) > 1 and all(values.dtype.kind in "biuU" and yes_or_no(values)[0].all() for values in columns)


def side_by_side(raw: Table | Arrays, names: Sequence[str], columns: Sequence[npt.NDArray[Any]]) -> Numbers:
    """Return columns of yes and no as 0 and 1, int64 ``(rows, labels)``.

    Raises:
        DataError: A cell is neither.
    """
    if len(columns) < 2:
        raise DataError(
            f"{raw.origins[0].name}: target {names[0]!r}: one column came; multilabel needs several columns of 0 and 1, one column "
            'of lists, or data.label_separator = ";"; set one or data.task = "binary"'
        )
    found = []
    for name, values in zip(names, columns, strict=True):
        known, yes = yes_or_no(values)
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            raise DataError(
                f"{_where(raw, name, row)}: {plain(values[row])!r} came; a label is 0 or 1, true or false, yes or no; mend the "
                "cell or set data.task"
            )
        found.append(yes)
    return np.stack(found, axis=1).astype(np.int64)


def plain(value: Any) -> Any:
    """Return a scalar of NumPy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def to_json(label: Label) -> Any:
    """Return a label as JSON that `from_json` reads back in the same type."""
    if isinstance(label, datetime.datetime):
        return {"datetime": label.isoformat()}
    if isinstance(label, datetime.date):
        return {"date": label.isoformat()}
    return {"bytes": label.hex()} if isinstance(label, bytes) else label


def from_json(value: Any) -> Label:
    """Return the label that `to_json` wrote.

    Example:
        >>> from_json(to_json(datetime.date(2024, 1, 31)))
        datetime.date(2024, 1, 31)
    """
    if not isinstance(value, dict):
        label: Label = value
        return label
    kind, text = next(iter(value.items()))
    if kind == "bytes":
        return bytes.fromhex(text)
    return (datetime.datetime if kind == "datetime" else datetime.date).fromisoformat(text)


def shown(label: Label) -> Any:
    """Return a label for pages and records: numbers, booleans and texts as they are, dates and bytes as text."""
    if isinstance(label, str | int | float):
        return label
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
