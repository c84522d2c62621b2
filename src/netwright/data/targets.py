"""What is predicted: raw target cells in, class numbers or float values and the names of the classes out. Floor 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.data.arrays import Arrays
from netwright.data.cells import LARGEST, Markers, clean, is_text, number_advice, padded, pointed_numbers
from netwright.data.sequences import Sequences
from netwright.data.tables import Table
from netwright.errors import DataError, did_you_mean

MOST_INTEGER_CLASSES = 20
Label = str | int | float | bool


@dataclass(frozen=True)
class Target:
    """The target of all rows.

    ``task`` is binary, multiclass or regression; ``values`` is int64 ``(rows,)`` of class numbers, or float64
    ``(rows, outputs)`` in the user's units; ``classes`` are the user's labels in order; ``names`` the columns. With
    ``sequences`` the values are those of all steps.
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
        markers: Missing markers of text columns.
        classes: The known classes when a trained network is tested; else they are learned.

    Raises:
        DataError: A column or a cell is missing, one class only, a class unknown, a value not finite.
    """
    texts = bool(classes) and isinstance((classes or [0])[0], str)
    if isinstance(raw, Table):
        columns = [_cells(raw, name, labels, markers, texts) for name in names]
    else:
        columns = _array_cells(raw, names)
    for name, values in zip(_named(names, len(columns)), columns, strict=True):
        _refuse_missing(raw, name, values)
    if task is None:
        task = _infer_task(columns)
    if task == "regression":
        return Target(task, _floats(raw, names, columns, markers), tuple(names))
    if len(columns) != 1:
        raise DataError(f"data.target: {len(columns)} columns of classes came; expected one; choose a column")
    if classes is None:
        _refuse_amounts(raw, names[0], columns[0], markers)
    return _classes(raw, names[0], _whole(columns[0]), task, classes)


def _cells(raw: Table, name: str, labels: Mapping[str, str], markers: Markers, texts: bool) -> npt.NDArray[Any]:
    """Return the cells of a target column; of known classes that are ``texts`` none becomes a number."""
    if name not in raw.names:
        raise DataError(f"{raw.origins[0].name}: target column {name!r} is missing; {did_you_mean(name, raw.names)}")
    column = clean(raw.columns[name], markers)
    if labels and not is_text(column.type):
        column = column.cast(pa.string())
    if is_text(column.type):
        if labels:
            renamed = [None if value is None else labels.get(value, value) for value in column.to_pylist()]
            column = pa.chunked_array([pa.array(renamed, pa.string())])
        if texts and not column.null_count:
            return np.asarray(column.to_pylist(), dtype=str)
        return _typed(column, markers)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    known = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if not known:
        raise DataError(
            f"{raw.origins[0].name}: target {name!r} holds {column.type}; expected numbers, texts or booleans; convert it"
        )
    if column.null_count:
        return np.asarray(column.to_pylist(), dtype=object)
    return np.asarray(column)


def _typed(column: pa.ChunkedArray, markers: Markers) -> npt.NDArray[Any]:
    """Return texts as whole numbers or floats where all of them are, else as texts; nulls as None.

    Whole numbers of which one has a leading zero are names: 007 stays 007.
    """
    if column.null_count:
        return np.asarray(column.to_pylist(), dtype=object)
    if padded(column):
        return np.asarray(column.to_pylist(), dtype=str)
    pointed = pointed_numbers(column, markers)
    if pc.all(pc.match_substring_regex(pointed, r"^[+-]?\d{1,15}$")).as_py():
        return np.asarray(pc.replace_substring(pointed, "+", "").cast(pa.int64()))
    try:
        return np.asarray(pointed.cast(pa.float64()))
    except pa.ArrowInvalid:
        return np.asarray(column.to_pylist(), dtype=str)


def _array_cells(raw: Arrays, names: Sequence[str]) -> list[npt.NDArray[Any]]:
    if raw.target is None:
        raise DataError(f"{raw.origins[0].name}: no target came; expected one value per row; give y or set data.target")
    target = raw.target
    if target.ndim > 2 or target.size == 0:
        raise DataError(f"{raw.origins[0].name}: target of shape {target.shape} came; expected (rows,) or (rows, outputs)")
    return [target] if target.ndim == 1 else list(target.T)


def _refuse_missing(raw: Table | Arrays, name: str, values: npt.NDArray[Any]) -> None:
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
            "leave these rows out"
        )


def _infer_task(columns: Sequence[npt.NDArray[Any]]) -> str:
    first = _whole(columns[0])
    if columns[0].dtype.kind == "f" and len(np.unique(columns[0])) != 2:
        return "regression"
    if len(columns) > 1 or first.dtype.kind == "f":
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
    advice = number_advice(found.tolist()) if markers.decimal == "." else None
    if advice is not None:
        raise DataError(
            f"{raw.place(0)}: target {name!r}: {str(values[0])!r} is no number ({len(found)} different texts); {advice}"
        )


def _floats(
    raw: Table | Arrays, names: Sequence[str], columns: Sequence[npt.NDArray[Any]], markers: Markers
) -> npt.NDArray[np.float64]:
    result = []
    for name, values in zip(_named(names, len(columns)), columns, strict=True):
        try:
            numbers = values.astype(np.float64)
        except ValueError:
            bad = next(place for place, value in enumerate(values) if not _is_float(value))
            advice = number_advice([str(values[bad])]) if markers.decimal == "." else None
            raise DataError(
                f"{raw.place(bad)}: target {name!r}: {str(values[bad])!r} is no number; a regression needs numbers; "
                + (advice or 'mend the cell or set data.task = "multiclass"')
            ) from None
        wrong = ~np.isfinite(numbers) | (np.abs(numbers) > LARGEST)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{raw.place(row)}: target {name!r}: {numbers[row]} is infinite or beyond float32; mend the cell"
            )
        result.append(numbers)
    return np.stack(result, axis=1)


def _named(names: Sequence[str], count: int) -> list[str]:
    """Return one name per target column; the columns of an array share its name."""
    return list(names) if len(names) == count else [names[0]] * count


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _classes(raw: Table | Arrays, name: str, values: npt.NDArray[Any], task: str, classes: Sequence[Label] | None) -> Target:
    found = np.unique(values)
    if classes is None:
        if len(found) < 2:
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds one class only ({found[0].item()!r}, {len(values)} rows); "
                "expected two or more; choose another target"
            )
        if found.dtype.kind == "U" and len(found) > max(20, len(values) // 2):
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds {len(found)} different texts in {len(values)} rows; "
                "expected classes; choose another target"
            )
        if task == "binary" and len(found) != 2:
            raise DataError(
                f"{raw.origins[0].name}: target {name!r} holds {len(found)} classes; binary needs 2; "
                'set data.task = "multiclass" or data.labels'
            )
        labels = [value.item() for value in found]
    else:
        labels = list(classes)
        if labels and isinstance(labels[0], str) and values.dtype.kind in "iu":
            values = values.astype(str)
        if labels and not isinstance(labels[0], str) and values.dtype.kind == "U":
            labels_as_text = {str(label): place for place, label in enumerate(labels)}
            return Target(task, _numbered(raw, name, values, labels_as_text), (name,), tuple(labels))
    places = {label: place for place, label in enumerate(labels)}
    return Target(task, _numbered(raw, name, values, places), (name,), tuple(labels))


def _numbered(raw: Table | Arrays, name: str, values: npt.NDArray[Any], places: Mapping[Any, int]) -> npt.NDArray[np.int64]:
    found, inverse = np.unique(values, return_inverse=True)
    numbers = np.asarray([places.get(value.item(), -1) for value in found], dtype=np.int64)[inverse]
    if (numbers < 0).any():
        row = int(np.flatnonzero(numbers < 0)[0])
        raise DataError(
            f"{raw.place(row)}: target {name!r}: class {values[row].item()!r} was not seen in training; expected one of "
            f"{', '.join(str(place) for place in list(places)[:10])}; mend the cell or set data.labels"
        )
    return numbers
