"""From a name (file, sklearn:NAME) or Python objects to `Table` or `Arrays`, with its digest. Floor 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netwright.data import arrays, tables
from netwright.data.arrays import Array, Arrays
from netwright.data.tables import Origin, Table, TextOptions
from netwright.errors import DataError
from netwright.files import digest_bytes, digest_file

SUFFIXES = (*tables.TEXT_SUFFIXES, *tables.JSON_SUFFIXES, *tables.PARQUET_SUFFIXES, ".npz", ".npy", ".idx", ".gz")


@dataclass(frozen=True)
class Reading:
    """How a source is read: text options, which columns or arrays, what the axes mean."""

    text: TextOptions = TextOptions()
    inputs: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    layout: str | None = None


def read_source(name: str, reading: Reading, target_needed: bool = True) -> Table | Arrays:
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
        raise DataError(f"{path}: no such file; expected a data file; check the path")
    if path.is_dir():
        raise DataError(f"{path}: a folder came; expected a file ({', '.join(SUFFIXES)}); name a file in it")
    suffix = path.suffix.lower()
    if suffix in (*tables.TEXT_SUFFIXES, *tables.JSON_SUFFIXES, *tables.PARQUET_SUFFIXES):
        return tables.read_table(path, reading.text)
    if suffix == ".npz":
        found = arrays.choose_arrays(arrays.read_npz(path), reading.inputs, reading.target, path.name, target_needed)
        return _with_layout(found, reading)
    if suffix == ".npy":
        return _with_layout(_npy(path, reading, target_needed), reading)
    if suffix == ".idx" or "idx" in path.name:
        return _with_layout(_idx(path, reading, target_needed), reading)
    raise DataError(f"{path}: ending {suffix!r} is unknown; expected one of {', '.join(SUFFIXES)}; convert the file")


def read_parts(name: str, reading: Reading) -> dict[str, Table | Arrays]:
    """Read a source that may hold its own parts: an .npz with X_train, y_train, X_test, y_test.

    Returns:
        ``{"all": rows}``, or the rows under train, valid and test.
    """
    if not name.endswith(".npz") or not Path(name).is_file() or reading.inputs:
        return {"all": read_source(name, reading)}
    found = arrays.read_npz(Path(name))
    parts: dict[str, Table | Arrays] = {}
    for part, suffixes in (("train", ("_train",)), ("valid", ("_valid", "_val")), ("test", ("_test",))):
        members = {key.removesuffix(end): value for end in suffixes for key, value in found.items() if key.endswith(end)}
        if members:
            label = f"{Path(name).name} ({part})"
            parts[part] = _with_layout(arrays.choose_arrays(members, None, reading.target, label, True), reading)
    return parts if "train" in parts else {"all": read_source(name, reading)}


def declared_shape(name: str, reading: Reading) -> tuple[int, ...] | None:
    """Return the shape of one raw row that an array file declares in its header; None where only reading tells."""
    path = Path(name)
    if not path.is_file() or not (path.suffix in (".npz", ".npy") or "idx" in path.name):
        return None
    shapes = arrays.header_shapes(path)
    targets = {*arrays.TARGET_NAMES, *(reading.target or ())}
    wanted = reading.inputs or [key for key in shapes if key.removesuffix("_train") not in targets]
    found = {shapes[key][1:] for key in wanted if key in shapes and not key.endswith(("_valid", "_val", "_test"))}
    return found.pop() if len(found) == 1 else None


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
    beside = path.with_name(target[0]) if target and path.suffix in (".npy", ".idx", ".gz") else None
    labels = beside if beside is not None and beside.is_file() else arrays.idx_labels(path)
    return digest_bytes(*(digest_file(part).encode() for part in (path, *([labels] if labels else []))))


def digest_of(digests: Sequence[str]) -> str:
    """Return one digest of several."""
    return digest_bytes(*(digest.encode() for digest in digests))


def digest_raw(raw: Table | Arrays) -> str:
    """Return the digest of rows in memory."""
    parts: list[bytes] = []
    if isinstance(raw, Table):
        for name in raw.names:
            column = raw.columns[name].combine_chunks()
            parts += [name.encode(), str(column.type).encode(), repr(column.to_pylist()).encode()]
    else:
        named: dict[str, Any] = {**raw.inputs, **({} if raw.target is None else {"target": raw.target})}
        for name, value in named.items():
            parts += [name.encode(), str(value.dtype).encode(), repr(value.shape).encode(), value.tobytes()]
    return digest_bytes(*parts)


def from_objects(data: Any, target: Sequence[str] | None, layout: str | None) -> Table | Arrays:
    """Read Python objects: ``(X, y)``, ``X`` alone, a dictionary of arrays, or a data frame.

    Args:
        data: ``(X, y)`` with arrays or tensors ``(rows, ...)``; X may be a dictionary of arrays or a data frame.
        target: Name of the target column of a data frame.
        layout: What the axes mean, or None.

    Raises:
        DataError: The objects are of another kind, or differ in length.
    """
    inputs, labels = data if isinstance(data, tuple | list) and len(data) == 2 else (data, None)
    if _is_frame(inputs):
        table = tables.from_frame(inputs)
        if labels is None:
            return table
        name = (target or [str(getattr(labels, "name", None) or "target")])[0]
        values = labels if isinstance(labels, pa.Array | pa.ChunkedArray) else pa.array(np.asarray(labels))
        if len(values) != table.rows:
            raise DataError(f"data: {table.rows} rows and {len(values)} targets came; expected equally many; check both")
        if name in table.names:
            raise DataError(f"data: column {name!r} of the rows has the name of the target; rename one")
        return Table(table.columns.append_column(name, values), table.origins)
    named = inputs if isinstance(inputs, Mapping) else {"X": inputs}
    found = {str(name): as_array(value, f"data: {name}") for name, value in named.items()}
    label_array = None if labels is None else as_array(labels, "data: y")
    chosen = arrays.choose_arrays(
        {**found, **({} if label_array is None else {"y": label_array})}, list(found), ["y"], "data", label_array is not None
    )
    return replace(chosen, layout=layout)


def as_array(value: Any, where: str) -> Array:
    """Return a list, array or tensor as a NumPy array; objects are refused."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: no array ({error}); expected rows of equal shape; pad or convert it") from None
    if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise DataError(f"{where}: dtype {array.dtype} came; expected numbers, booleans or texts; convert it")
    return array


def combine(parts: Sequence[Table | Arrays]) -> Table | Arrays:
    """Put the rows of several sources of one kind one below the other."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Table) for part in parts):
        return tables.concatenate([part for part in parts if isinstance(part, Table)])
    if all(isinstance(part, Arrays) for part in parts):
        return arrays.concatenate_arrays([part for part in parts if isinstance(part, Arrays)])
    raise DataError("data.train and data.test: a table and arrays came; expected files of one kind")


def _is_frame(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__dataframe__") or hasattr(value, "iloc")


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
    return Arrays({"images": values}, target, (Origin(path.name, len(values)),), "NHW" if values.ndim == 3 else None)
