"""What is predicted: raw target cells in, class numbers, 0 and 1 per label, or float values, and the labels out. Floor 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.errors import ConfigError, DataError, did_you_mean
from netwright.numerals import counted
from netwright.sources import labels as multilabel
from netwright.sources.arrays import Arrays
from netwright.sources.cells import LARGEST, clean, is_text, marked_no_more, padded
from netwright.sources.headers import header_hint
from netwright.sources.labels import Label, plain
from netwright.sources.marks import Markers, are_numbers, number_advice, pointed_numbers
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table

MOST_INTEGER_CLASSES = 20


@dataclass(frozen=True)
class Target:
    """The target of all rows.

    ``task`` is binary, multiclass, multilabel or regression; ``values`` is int64 ``(rows,)`` of class numbers, int64
    ``(rows, labels)`` of 0 and 1, or float64 ``(rows, outputs)`` in the user's units; ``classes`` are the user's classes or
    labels in order; ``names`` the columns. With ``sequences`` the values are those of all steps.
    """

    task: str
    values: npt.NDArray[Any]
    names: tuple[str, ...]
    classes: tuple[Label, ...] = ()
    sequences: Sequences | None = None

    @property
    def per_step(self) -> bool:
        """Whether each step of a row has a value."""
        return self.sequences is not None

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the values of some rows; of a target per step those of all their steps, row after row."""
        return np.asarray(self.values[rows if self.sequences is None else self.sequences.steps_of(rows)])


def read_target(
    raw: Table | Arrays,
    names: Sequence[str],
    task: str | None,
    labels: Mapping[str, str],
    markers: Markers,
    classes: Sequence[Label] | None = None,
) -> Target:
    """Read the target of all rows and decide the task.

    Args:
        raw: The rows.
        names: Target columns of a table; a name for messages with arrays.
        task: What the user wrote, or None.
        labels: Values to rename, ``{">50K.": ">50K"}``.
        markers: Missing markers of text columns, and what stands between labels.
        classes: The known classes or labels, of a trained network or as they are named in the settings; else they are learned.

    Raises:
        ConfigError: The task does not fit sets of labels.
        DataError: A column or a cell is missing, one class only, a class unknown, a value not finite.
    """
    found = multilabel.mentions(raw, names, markers)
    if found is not None:
        if task not in (None, "multilabel"):
            raise ConfigError(
                f"data.task: {task!r} came; target {names[0]!r} holds sets of labels, which is multilabel; leave data.task out"
            )
        return Target("multilabel", *_sets(raw, names, found, labels, classes))
    texts = bool(classes) and isinstance((classes or [0])[0], str)
    if isinstance(raw, Table):
        given = _renamed([_column(raw, name, markers) for name in names], labels, classes is None)
        columns = [_cells(raw, name, column, markers, texts) for name, column in zip(names, given, strict=True)]
    else:
        columns = _array_cells(raw, names)
        if labels:
            given = [pa.chunked_array([pa.array(column, from_pandas=True)]) for column in columns]
            columns = [_of_texts(column, markers, texts) for column in _renamed(given, labels, classes is None)]
    for name, values in zip(_named(names, len(columns)), columns, strict=True):
        _refuse_missing(raw, name, values, markers)
    inferred = task is None
    if task is None:
        task = "multilabel" if multilabel.are_labels(columns) else _infer_task(columns, classes)
    if task == "regression":
        return Target(task, _floats(raw, names, columns, markers), tuple(names))
    if task == "multilabel":
        return _columns_of_labels(raw, _named(names, len(columns)), columns, classes)
    if len(columns) != 1:
        raise DataError(
            f"data.target: {len(columns)} columns of classes came; expected one column of classes, or several of 0 and 1 for "
            "labels; choose a column"
        )
    if classes is None and inferred:
        _refuse_amounts(raw, names[0], columns[0], markers)
    return _classes(raw, names[0], _whole(columns[0]), task, classes)


def _sets(
    raw: Table | Arrays,
    names: Sequence[str],
    found: multilabel.Mentions,
    renamed: Mapping[str, str],
    classes: Sequence[Label] | None,
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], tuple[Label, ...]]:
    """Return values, column and labels of a target of sets."""
    values, known = multilabel.place_labels(raw, names[0], found, renamed, classes)
    return values, tuple(names), known


def _columns_of_labels(
    raw: Table | Arrays, names: Sequence[str], columns: Sequence[npt.NDArray[Any]], classes: Sequence[Label] | None
) -> Target:
    """Return a target of a column per label; the columns of an array are in the order of the known labels."""
    if classes is not None and len(classes) != len(columns):
        raise DataError(
            f"{raw.origins[0].name}: {len(columns)} target columns came; the network knows {len(classes)} labels; expected a "
            "column each"
        )
    values = multilabel.side_by_side(raw, names, columns)
    return Target("multilabel", values, tuple(names), tuple(names) if classes is None else tuple(classes))


def _column(raw: Table, name: str, markers: Markers) -> pa.ChunkedArray:
    """Return a target column, texts cleaned.

    Raises:
        DataError: It is missing.
    """
    if name not in raw.names:
        hint = header_hint(raw.names) if raw.origins[0].line_of is not None else ""
        known = f"{did_you_mean(name, raw.names)}{f'; {hint}' if hint else ''}"
        raise DataError(f"{raw.origins[0].name}: target column {name!r} is missing; {known}")
    return clean(raw.columns[name], markers)


def _cells(raw: Table, name: str, column: pa.ChunkedArray, markers: Markers, texts: bool) -> npt.NDArray[Any]:
    """Return the cells of a target column; of known classes that are ``texts`` none becomes a number."""
    if is_text(column.type):
        return _of_texts(column, markers, texts)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return _dates(raw, name, column)
    known = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if not known:
        raise DataError(
            f"{raw.origins[0].name}: target {name!r} holds {column.type}; expected numbers, texts, booleans or dates; convert it"
        )
    if column.null_count:
        return np.asarray(column.to_pylist(), dtype=object)
    return np.asarray(column)


def _dates(raw: Table, name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return dates or times as Python's own, nulls as None."""
    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz))
        return np.asarray(column.to_pylist(), dtype=object)
    except (pa.ArrowInvalid, ValueError, OverflowError) as error:
        raise DataError(
            f"{raw.origins[0].name}: target {name!r}: {str(error).splitlines()[0]}; expected dates, or times in microseconds; "
            "convert it"
        ) from None


def _renamed(columns: list[pa.ChunkedArray], labels: Mapping[str, str], learning: bool) -> list[pa.ChunkedArray]:
    """Return columns as texts, those that have another name by that; truth values are true and True alike.

    Raises:
        ConfigError: A network is ``learning`` of them, and no cell has one of the names.
    """
    if not labels:
        return columns
    found, seen, matched = [], dict[str, None](), False
    for column in columns:
        others = {name.lower(): other for name, other in labels.items()} if pa.types.is_boolean(column.type) else labels
        cells = column.cast(pa.string()).to_pylist()
        matched = matched or any(cell in others for cell in cells)
        seen |= dict.fromkeys(str(cell) for cell in cells if cell is not None)
        found.append(
            pa.chunked_array([pa.array([None if cell is None else others.get(cell, cell) for cell in cells], pa.string())])
        )
    if learning and not matched:
        raise ConfigError(
            f"data.labels: {', '.join(map(repr, labels))} came; the target holds {', '.join(map(repr, list(seen)[:5]))}"
            f"{', ...' if len(seen) > 5 else ''}; expected one of these or more; mend the names"
        )
    return found


def _of_texts(column: pa.ChunkedArray, markers: Markers, texts: bool) -> npt.NDArray[Any]:
    """Return the cells of a column of texts; of known classes that are ``texts`` none becomes a number."""
    if texts and not column.null_count:
        return np.asarray(column.to_pylist(), dtype=str)
    return _typed(column, markers)


def _typed(column: pa.ChunkedArray, markers: Markers) -> npt.NDArray[Any]:
    """Return texts as whole numbers or floats where all of them are, else as texts; nulls as None.

    Whole numbers of which one has a leading zero are names: 007 stays 007. So are those of more than 64 bits, where a float
    would be the same for two of them.
    """
    if column.null_count:
        return np.asarray(column.to_pylist(), dtype=object)
    if padded(column):
        return np.asarray(column.to_pylist(), dtype=str)
    pointed = pointed_numbers(column, markers)
    whole = bool(pc.all(pc.match_substring_regex(pointed, r"^[+-]?\d+$")).as_py())
    for kind in (pa.int64(), pa.uint64()) if whole else ():
        with suppress(pa.ArrowInvalid):  # beyond it
            return np.asarray(pc.replace_substring(pointed, "+", "").cast(kind))
    try:
        found = np.asarray(pointed.cast(pa.float64()))
    except pa.ArrowInvalid:
        return np.asarray(column.to_pylist(), dtype=str)
    merged = whole and len(np.unique(found)) < len(pc.unique(pointed))
    return np.asarray(column.to_pylist(), dtype=str) if merged else found


def _array_cells(raw: Arrays, names: Sequence[str]) -> list[npt.NDArray[Any]]:
    if raw.target is None:
        raise DataError(f"{raw.origins[0].name}: no target came; expected one value per row; give y or set data.target")
    target = raw.target
    if target.ndim > 2 or target.size == 0:
        raise DataError(f"{raw.origins[0].name}: target of shape {target.shape} came; expected (rows,) or (rows, outputs)")
    if target.dtype.kind == "M":
        days = np.datetime_data(target.dtype)[0] == "D"
        target = target.astype("datetime64[D]" if days else "datetime64[us]").astype(object)
    return [target] if target.ndim == 1 else list(target.T)


def _refuse_missing(raw: Table | Arrays, name: str, values: npt.NDArray[Any], markers: Markers) -> None:
    if values.dtype == object:
        missing = np.asarray([value is None for value in values])
    elif values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        return
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise DataError(
            f"{raw.place(row)}: target {name!r} is missing ({int(missing.sum())} such rows); expected a value in each row; "
            "leave these rows out" + _marker_advice(raw, name, row, markers)
        )


def _marker_advice(raw: Table | Arrays, name: str, row: int, markers: Markers) -> str:
    """Return how a text that counts as missing becomes a class, where one came."""
    cell = raw.columns[name][row].as_py() if isinstance(raw, Table) else None
    named = isinstance(cell, str) and cell.strip()
    return f", or set {marked_no_more(markers, str(cell))} if {cell!r} is a class" if named else ""


def _infer_task(columns: Sequence[npt.NDArray[Any]], classes: Sequence[Label] | None) -> str:
    if classes is not None:
        return "binary" if len(classes) == 2 else "multiclass"
    first = _whole(columns[0])
    if len(columns) > 1 or first.dtype.kind == "f" or (columns[0].dtype.kind == "f" and len(np.unique(first)) != 2):
        return "regression"
    count = len(np.unique(first))
    if first.dtype.kind in "iu" and count > MOST_INTEGER_CLASSES:
        return "regression"
    return "binary" if count == 2 else "multiclass"


def _whole(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return floats as whole numbers where all of them are: classes 0.0 and 1.0 are 0 and 1."""
    if values.dtype.kind != "f" or not np.isfinite(values).all() or (np.abs(values) > 2**53).any():
        return values
    whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


def _refuse_amounts(raw: Table | Arrays, name: str, values: npt.NDArray[Any], markers: Markers) -> None:
    """Refuse many different texts that are numbers but for a comma or a sign."""
    if values.dtype.kind != "U" or len(found := np.unique(values)) <= MOST_INTEGER_CLASSES:
        return
    texts = pa.chunked_array([found.tolist()], pa.string())
    advice = number_advice(texts, markers)
    if advice is not None:
        row = int(np.flatnonzero(values == found[~np.asarray(are_numbers(texts, markers), dtype=bool)][0])[0])
        raise DataError(
            f"{raw.place(row)}: target {name!r}: {str(values[row])!r} is no number ({len(found)} different texts); {advice}, or "
            'data.task = "multiclass" where they are names'
        )


def _floats(
    raw: Table | Arrays, names: Sequence[str], columns: Sequence[npt.NDArray[Any]], markers: Markers
) -> npt.NDArray[np.float64]:
    result = []
    for name, values in zip(_named(names, len(columns)), columns, strict=True):
        try:
            numbers = values.astype(np.float64)
        except (ValueError, TypeError):
            bad = next(place for place, value in enumerate(values) if not _is_float(value))
            advice = number_advice(pa.chunked_array([values.astype(str).tolist()], pa.string()), markers)
            raise DataError(
                f"{raw.place(bad)}: target {name!r}: {str(values[bad])!r} is no number; a regression needs numbers; "
                + (advice or _no_number_advice(len(columns)))
            ) from None
        wrong = ~np.isfinite(numbers) | (np.abs(numbers) > LARGEST)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{raw.place(row)}: target {name!r}: {numbers[row]} is infinite or beyond float32; mend the cell"
            )
        result.append(numbers)
    return np.stack(result, axis=1)


def _no_number_advice(columns: int) -> str:
    if columns == 1:
        return 'mend the cell or set data.task = "multiclass"'
    return "several columns are numbers, or 0 and 1 each for labels; mend the cell or choose one column"


def _named(names: Sequence[str], count: int) -> list[str]:
    """Return one name per target column; the columns of an array share its name."""
    return list(names) if len(names) == count else [names[0]] * count


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _classes(raw: Table | Arrays, name: str, values: npt.NDArray[Any], task: str, classes: Sequence[Label] | None) -> Target:
    found = np.unique(values)
    if classes is None:
        if len(found) < 2:
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds one class only ({plain(found[0])!r}, {counted(values, 'row')}); "
                "expected two or more; choose another target"
            )
        if found.dtype.kind in "UO" and len(found) > max(20, len(values) // 2):
            kind = "texts" if found.dtype.kind == "U" else "dates"
            written = kind == "texts" and all(map(_is_float, found))
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds {len(found)} different {kind} in {len(values)} rows; "
                f"expected classes; {'of numbers hand over y.astype(float)' if written else 'choose another target'}"
            )
        if task == "binary" and len(found) != 2:
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds {len(found)} classes; binary needs 2; "
                'set data.task = "multiclass" or data.labels'
            )
        labels = [plain(value) for value in found]
    else:
        labels = list(classes)
        if labels and isinstance(labels[0], str) and values.dtype.kind in "biuO":
            values = _as_texts(values, labels)
        if labels and not isinstance(labels[0], str) and values.dtype.kind == "U":
            labels_as_text = {str(label): place for place, label in enumerate(labels)}
            if isinstance(labels[0], bool):
                spelled = (str.lower, str.upper)
                labels_as_text |= {spell(text): place for text, place in labels_as_text.items() for spell in spelled}
            return Target(task, _numbered(raw, name, values, labels_as_text), (name,), tuple(labels))
    places = {label: place for place, label in enumerate(labels)}
    return Target(task, _numbered(raw, name, values, places), (name,), tuple(labels))


def _as_texts(values: npt.NDArray[Any], labels: Sequence[Label]) -> npt.NDArray[np.str_]:
    """Return values as texts; truth values as the labels write them."""
    if values.dtype.kind != "b":
        return values.astype(str)
    written = {str(label).lower(): str(label) for label in labels}
    return np.asarray([written.get(str(value).lower(), str(value)) for value in values.tolist()], dtype=str)


def _numbered(raw: Table | Arrays, name: str, values: npt.NDArray[Any], places: Mapping[Any, int]) -> npt.NDArray[np.int64]:
    found, inverse = np.unique(values, return_inverse=True)
    merging = values.dtype.kind == "f"  # floats of that size are several whole numbers each
    known = [-1 if merging and abs(value) >= 2**53 else places.get(plain(value), -1) for value in found]
    numbers = np.asarray(known, dtype=np.int64)[inverse]
    if (numbers < 0).any():
        row = int(np.flatnonzero(numbers < 0)[0])
        raise DataError(
            f"{raw.place(row)}: target {name!r}: class {plain(values[row])!r} is none that is known; expected one of "
            f"{', '.join(str(place) for place in list(places)[:10])}; mend the cell or set data.labels"
        )
    return numbers
