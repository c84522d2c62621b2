"""From a name (file, sklearn:NAME) or Python objects to `Table` or `Arrays`, with its digest. Floor 2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from netwright.data import arrays, objects, sequences, series, tables
from netwright.data.arrays import Arrays
from netwright.data.places import place_of
from netwright.data.sequences import Raw, Sequences
from netwright.data.tables import Origin, Table, TextOptions
from netwright.errors import DataError
from netwright.files import digest_bytes, digest_file

SUFFIXES = (*tables.TEXT_SUFFIXES, *tables.JSON_SUFFIXES, *tables.PARQUET_SUFFIXES, ".npz", ".npy", ".idx", ".ts")
SHEET = "save the sheet as CSV"
UNREAD = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), SHEET),
    ".json": "write one object per line and name it .jsonl",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
}


@dataclass(frozen=True)
class Reading:
    """How a source is read: text options, which columns or arrays, what the axes mean."""

    text: TextOptions = TextOptions()
    inputs: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    layout: str | None = None


def read_source(name: str, reading: Reading, target_needed: bool = True) -> Raw:
    """Read a file or a bundled set whole.

    Args:
        name: A path, or ``sklearn:NAME``.
        reading: How to read it.
        target_needed: Whether a missing target is an error (false for prediction).

    Raises:
        DataError: The file is missing, of an unknown kind, empty or malformed.
    """
    if name.startswith("sklearn:"):
        return _with_layout(arrays.bundled(name.removeprefix("sklearn:")), reading)
    path = Path(name)
    if not path.exists():
        if address := re.search(r"(?:^|/)([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", name):  # an absolute path has one slash left
            raise DataError(f"{'://'.join(address.groups())}: an address came; expected a file here; download it first")
        raise DataError(f"{path}: no such file; expected a data file; check the path")
    if path.is_dir():
        raise DataError(f"{path}: a folder came; expected a file ({', '.join(SUFFIXES)}); name a file in it")
    kind = kind_of(path)
    if kind == "table":
        return tables.read_table(path, reading.text)
    if kind == "ts":
        return series.read_ts(place_of(path), (reading.target or ("target",))[0])
    if kind == "npz":
        found = arrays.choose_arrays(arrays.read_npz(path), reading.inputs, reading.target, path.name, target_needed)
        return _with_layout(found, reading)
    if kind == "npy":
        return _with_layout(_npy(path, reading, target_needed), reading)
    if kind == "idx":
        return _with_layout(_idx(path, reading, target_needed), reading)
    suffix = path.suffix.lower()
    advice = UNREAD.get(suffix, "convert the file")
    raise DataError(f"{path}: ending {suffix!r} is unknown; expected one of {', '.join(SUFFIXES)}; {advice}")


def kind_of(path: Path) -> str | None:
    """Return what a file is by its name: ``table``, ``npz``, ``npy``, ``idx``, or None."""
    suffix = path.suffix.lower()
    if suffix in (*tables.TEXT_SUFFIXES, *tables.JSON_SUFFIXES, *tables.PARQUET_SUFFIXES):
        return "table"
    if suffix in (".npz", ".npy", ".ts"):
        return suffix[1:]
    plain = path.name.lower().removesuffix(".gz")
    return "idx" if re.search(r"idx\d?(-ubyte)?$", plain) else None


def read_parts(name: str, reading: Reading) -> dict[str, Raw]:
    """Read a source that may hold its own parts: an .npz with X_train, y_train, X_test, y_test.

    Returns:
        ``{"all": rows}``, or the rows under train, valid and test.
    """
    path = Path(name)
    if kind_of(path) != "npz" or not path.is_file() or reading.inputs:
        return {"all": read_source(name, reading)}
    found = arrays.read_npz(path)
    parts: dict[str, Raw] = {}
    for part, suffixes in arrays.PARTS.items():
        members = {key.removesuffix(end): value for end in suffixes for key, value in found.items() if key.endswith(end)}
        if members:
            label = f"{path.name} ({part})"
            parts[part] = _with_layout(arrays.choose_arrays(members, None, reading.target, label, True), reading)
    return parts if "train" in parts else {"all": read_source(name, reading)}


def declared_form(name: str, reading: Reading) -> tuple[tuple[int, ...], str | None] | None:
    """Return shape and layout of one raw row as an array file declares them in its header.

    Returns:
        The shape without the rows and the layout that `read_source` would give; None where only reading tells.

    Raises:
        DataError: The file is damaged.
    """
    path = Path(name)
    kind = kind_of(path)
    if kind in (None, "table", "ts") or not path.is_file():
        return None
    shapes = arrays.header_shapes(path, str(kind))
    train = {key.removesuffix("_train"): shape for key, shape in shapes.items() if key.endswith("_train")}
    if train and not reading.inputs:
        shapes = train
    wanted = reading.inputs or arrays.input_names(shapes, arrays.target_name(shapes, reading.target))
    found = {shapes[key][1:] for key in wanted if key in shapes}
    if len(found) != 1:
        return None
    shape = found.pop()
    return shape, reading.layout or (_idx_layout(len(shape) + 1) if kind == "idx" else None)


def declared_shape(name: str, reading: Reading) -> tuple[int, ...] | None:
    """Return the shape of one raw row that an array file declares in its header; None where only reading tells."""
    form = declared_form(name, reading)
    return None if form is None else form[0]


def _idx_layout(axes: int) -> str | None:
    return "NHW" if axes == 3 else None


def count_fields(path: Path, options: TextOptions) -> int:
    """Return the number of fields of the first line of a text file."""
    return tables.count_fields(path, options)


def with_columns(reading: Reading, names: Sequence[str]) -> Reading:
    """Return the reading with other column names for files without a header line."""
    return replace(reading, text=replace(reading.text, columns=tuple(names)))


def digest_source(name: str, target: Sequence[str] | None = None) -> str:
    """Return the digest of a source's content, a file of labels beside it included."""
    if name.startswith("sklearn:"):
        return digest_raw(arrays.bundled(name.removeprefix("sklearn:")))
    path = Path(name)
    beside = path.with_name(target[0]) if target and kind_of(path) in ("npy", "idx") else None
    labels = beside if beside is not None and beside.is_file() else arrays.idx_labels(path)
    return digest_bytes(*(digest_file(part).encode() for part in (path, *([labels] if labels else []))))


def digest_of(digests: Sequence[str]) -> str:
    """Return one digest of several."""
    return digest_bytes(*(digest.encode() for digest in digests))


def digest_raw(raw: Raw) -> str:
    """Return the digest of rows in memory."""
    parts: list[bytes] = []
    if isinstance(raw, Sequences):
        known = [] if raw.about is None else [digest_raw(raw.about)]
        return digest_of([digest_raw(raw.steps), digest_bytes(raw.starts.tobytes(), raw.lengths.tobytes()), *known])
    if isinstance(raw, Table):
        for name in raw.names:
            parts += [name.encode(), *_column_bytes(raw.columns[name])]
    else:
        named: dict[str, Any] = {**raw.inputs, **({} if raw.target is None else {"target": raw.target})}
        for name, value in named.items():
            parts += [name.encode(), str(value.dtype).encode(), repr(value.shape).encode(), value.tobytes()]
    return digest_bytes(*parts)


def _column_bytes(column: pa.ChunkedArray) -> list[bytes]:
    """Return the type, the missing cells and the values of a column; what lies in memory behind missing cells is left out."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    described = str(column.type).encode()
    missing = np.asarray(column.is_null(), dtype=bool)
    values = column.drop_null()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())  # bits behind the last row would count otherwise
    elif pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())  # views keep texts that are no longer in the column
    table = pa.table({"": values}).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return [described, missing.tobytes(), sink.getvalue().to_pybytes()]


def from_objects(data: Any, target: Sequence[str] | None, layout: str | None) -> tuple[Raw, tuple[str, ...] | None]:
    """Read Python objects: ``(X, y)``, ``X`` alone, a dictionary of arrays, a data frame, or a list of sequences.

    Args:
        data: ``(X, y)`` with arrays or tensors ``(rows, ...)``; X may be a dictionary of arrays, a data frame, or a list of
            arrays ``(steps, features)`` of different length.
        target: Names of the target columns of a data frame, of the target among a dictionary of arrays.
        layout: What the axes mean, or None.

    Returns:
        The rows, and the names of the target columns where a data frame came with separate labels, else None.

    Raises:
        DataError: The objects are of another kind, or differ in length.
    """
    rows, labels = objects.split_pair(data)
    if objects.is_frame(rows):
        table = tables.from_frame(rows)
        return (table, None) if labels is None else objects.append_labels(table, labels, target)
    if objects.is_ragged(rows):
        items = [objects.as_array(item, "data: X") for item in rows]
        if isinstance(labels, list) and any(isinstance(row, set | frozenset) for row in labels):
            return sequences.from_list(items, "data", *objects.as_target(labels)), None
        return sequences.from_list(items, "data", labels), None
    if isinstance(rows, Mapping):
        found = {str(name): objects.as_array(value, f"data: {name}") for name, value in rows.items()}
    else:
        found = {"X": objects.as_rows(rows)}
    answers, known = (None, ()) if labels is None else objects.as_target(labels)
    if isinstance(data, Mapping) and (names := objects.target_keys(list(found), target, arrays.TARGET_NAMES)):
        parts = [found.pop(name) for name in names]
        answers = parts[0] if len(parts) == 1 else objects.side_by_side(parts, names)
    key = "y" if "y" not in found else "y (the target)"
    labelled = found if answers is None else {**found, key: answers}
    chosen = arrays.choose_arrays(labelled, list(found), [key], "data", answers is not None)
    return replace(chosen, layout=layout, labels=known), None


def combine(parts: Sequence[Raw]) -> Raw:
    """Put the rows of several sources of one kind one below the other."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Sequences) for part in parts):
        return sequences.concatenate([part for part in parts if isinstance(part, Sequences)])
    if all(isinstance(part, Table) for part in parts):
        return tables.concatenate([part for part in parts if isinstance(part, Table)])
    if all(isinstance(part, Arrays) for part in parts):
        return arrays.concatenate_arrays([part for part in parts if isinstance(part, Arrays)])
    raise DataError("data.train and data.test: rows of different kinds came; expected files of one kind")


def _with_layout(raw: Table | Arrays, reading: Reading) -> Table | Arrays:
    if isinstance(raw, Arrays) and reading.layout is not None:
        return replace(raw, layout=reading.layout)
    return raw


def _npy(path: Path, reading: Reading, target_needed: bool) -> Arrays:
    values = arrays.read_npy(path)
    if values.ndim == 0:
        raise DataError(f"{path}: one number came; expected an array with a row each; check the file")
    if not target_needed and not reading.target:
        return Arrays({"X": values}, None, (Origin(path.name, len(values)),))
    if reading.target and reading.target[0].endswith(".npy"):
        labels = path.with_name(reading.target[0])
        if labels.exists():
            found = {"X": values, "y": arrays.read_npy(labels)}
            return arrays.choose_arrays(found, ["X"], ["y"], path.name, True)
        if not target_needed:
            return Arrays({"X": values}, None, (Origin(path.name, len(values)),))
        raise DataError(f"{labels}: no such file; expected the targets of {path.name}; set data.target")
    raise DataError(f'{path}: one array without a target; set data.target = "FILE.npy" beside it, or save both in an .npz')


def _idx(path: Path, reading: Reading, target_needed: bool) -> Arrays:
    values = arrays.read_idx(path)
    if values.ndim == 0:
        raise DataError(f"{path}: one number came; expected an array with a row each; check the file")
    labels = path.with_name(reading.target[0]) if reading.target and reading.target[0] != "target" else None
    labels = labels if labels is not None and labels.exists() else arrays.idx_labels(path)
    if labels is None and target_needed:
        raise DataError(f"{path}: no label file beside it; expected ...-labels-idx1-...; set data.target to its name")
    target = None if labels is None else arrays.read_idx(labels)
    if target is not None and len(target) != len(values):
        raise DataError(f"{labels}: {len(target)} labels for {len(values)} images; expected equally many; check the files")
    return Arrays({"images": values}, target, (Origin(path.name, len(values)),), _idx_layout(values.ndim))
