"""From a name (path, pattern, address, sklearn:NAME) or Python objects to rows, with their digest.

`FORMATS` says which endings are read by what. Floor 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from netwright.errors import ConfigError, DataError
from netwright.files import digest_bytes
from netwright.sources import (
    arrays,
    choosing,
    columnar,
    hdf5,
    matlab,
    objects,
    sequence_parts,
    sequences,
    series,
    sheets,
    single,
    tables,
    texts,
)
from netwright.sources.arrays import Array, Arrays, Stored
from netwright.sources.bundled import bundled
from netwright.sources.packing import printable
from netwright.sources.places import Place, fetch, places_of
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Origin, Table
from netwright.sources.texts import TextOptions

BUNDLED = "sklearn:"


@dataclass(frozen=True)
class Reading:
    """How a source is read: text options, which columns or arrays, what the axes mean, which sheet, where copies may lie."""

    text: TextOptions = TextOptions()
    inputs: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    layout: str | None = None
    sheet: str | None = None
    cache: str | None = None


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        endings: Of its names.
        read: Reads the rows; the last argument tells whether a missing target is an error.
        arrays: Opens a file of arrays and lists them, so that shapes are known before data are read.
        apart: Whether its arrays may be the parts train, valid and test.
        packed: Whether it is read packed by gzip too.
    """

    endings: tuple[str, ...]
    read: Callable[[Place, Reading, bool], Raw]
    arrays: Callable[[Place], AbstractContextManager[dict[str, Stored]]] | None = None
    apart: bool = False
    packed: bool = False


def read_source(name: str, reading: Reading, target_needed: bool = True) -> Raw:
    """Read a file, all files of a pattern one below the other, or a bundled set whole.

    Args:
        name: A path, one through a zip archive, a pattern, an address, or ``sklearn:NAME``.
        reading: How to read it.
        target_needed: Whether a missing target is an error (false for prediction).

    Raises:
        DataError: The file is missing, of an unknown kind, empty or malformed.
    """
    if name.startswith(BUNDLED):
        return _with_layout(bundled(name.removeprefix(BUNDLED)), reading)
    return combine([_read(place, reading, target_needed) for place in places(name)])


def places(name: str) -> list[Place]:
    """Return the data files a name stands for; an archive stands for the one data file in it.

    Raises:
        DataError: No such file, a folder, or an archive of several data files.
    """
    found = [_file(place) for place in places_of(name)]
    fetch([place for place in found if format_of(place) is not None])  # the others are refused when they are read
    return found


def format_of(place: Place) -> Format | None:
    """Return what a file is by its name, or None."""
    for known in FORMATS:
        if place.suffix in known.endings and (known.packed or not place.packed):
            return known
    return IDX if single.is_idx(place) else None


def is_table(place: Place) -> bool:
    """Tell by its name whether a file holds a table: named columns, not arrays."""
    return format_of(place) in (TEXT, JSON, PARQUET, IPC, SHEET)


def is_text_table(name: str) -> bool:
    """Tell whether a name is that of a text table, whose columns a user may have to name."""
    return not name.startswith(BUNDLED) and format_of(places(name)[0]) is TEXT


def read_parts(name: str, reading: Reading) -> dict[str, Raw]:
    """Read a source that may hold its own parts: an .npz with X_train, y_train, X_test, y_test, an .h5 with train/X, ...

    Returns:
        ``{"all": rows}``, or the rows under train, valid and test.
    """
    found = [] if name.startswith(BUNDLED) or reading.inputs else places(name)
    known = format_of(found[0]) if len(found) == 1 else None
    if known is None or known.arrays is None or not known.apart:
        return {"all": read_source(name, reading)}
    with known.arrays(found[0]) as stored:
        parts = choosing.parts_of(stored)
        if not parts:
            return {"all": _with_layout(_chosen(stored, reading, found[0].label), reading)}
        return {
            part: _with_layout(_chosen(members, reading, f"{found[0].label} ({part})"), reading)
            for part, members in parts.items()
        }


def declared_form(name: str, reading: Reading) -> tuple[tuple[int, ...], str | None] | None:
    """Return shape and layout of one raw row as an array file declares them in its header.

    Returns:
        The shape without the rows and the layout that `read_source` would give; None where only reading tells.

    Raises:
        DataError: The file is damaged.
    """
    try:
        place = places(name)[0] if not name.startswith(BUNDLED) else Place(name)
    except DataError:
        return None  # told when the rows are read
    known = format_of(place)
    if known is None or known.arrays is None:
        return None
    with known.arrays(place) as stored:
        shape = choosing.declared_shape(stored, reading.inputs, reading.target)
    if shape is None:
        return None
    return shape, reading.layout or (single.idx_layout(len(shape) + 1) if known is IDX else None)


def with_columns(reading: Reading, names: Sequence[str]) -> Reading:
    """Return the reading with other column names for files without a header line."""
    return replace(reading, text=replace(reading.text, columns=tuple(names)))


def digest_source(name: str, target: Sequence[str] | None = None) -> str:
    """Return the digest of a source's content, files of labels beside it included."""
    if name.startswith(BUNDLED):
        return digest_raw(bundled(name.removeprefix(BUNDLED)))
    found = [part for place in places(name) for part in (place, _labels(place, target)) if part is not None]
    return digest_of([part.digest() for part in found])


def digest_of(digests: Sequence[str]) -> str:
    """Return one digest of several."""
    return digest_bytes(*(digest.encode() for digest in digests))


def digest_raw(raw: Raw) -> str:
    """Return the digest of rows in memory."""
    parts: list[bytes | memoryview] = []
    if isinstance(raw, Sequences):
        known = [] if raw.about is None else [digest_raw(raw.about)]
        return digest_of([digest_raw(raw.steps), digest_bytes(raw.starts.tobytes(), raw.lengths.tobytes()), *known])
    if isinstance(raw, Table):
        for name in raw.names:
            parts += [name.encode(), *_column_bytes(raw.columns[name])]
    else:
        named: dict[str, Any] = {**raw.inputs, **({} if raw.target is None else {"target": raw.target})}
        for name, value in named.items():
            parts += [name.encode(), str(value.dtype).encode(), repr(value.shape).encode(), _content(value)]
    return digest_bytes(*parts)


def _content(value: Array) -> memoryview:
    """Return the bytes of an array, row by row."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _column_bytes(column: pa.ChunkedArray) -> list[bytes | memoryview]:
    """Return the type, the missing cells and the values of a column; what lies in memory behind missing cells is left out."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    described = str(column.type).encode()
    missing = np.asarray(column.is_null(), dtype=bool)
    values = column.drop_null()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())  # bits behind the last row would count otherwise
    table = pa.table({"": values}).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return [described, missing.tobytes(), memoryview(sink.getvalue())]


def from_objects(data: Any, target: Sequence[str] | None, layout: str | None) -> tuple[Raw, tuple[str, ...] | None]:
    """Read Python objects: ``(X, y)``, ``X`` alone, a dictionary of arrays, a data frame, records, or a list of sequences.

    Args:
        data: ``(X, y)`` with arrays or tensors ``(rows, ...)``; X may be a dictionary of arrays, a data frame, a list of
            dictionaries (rows by the names of columns; one row may come without the list), or a list of arrays
            ``(steps, features)`` of different length. Or a Dataset or DataLoader of torch, opened or not.
        target: Names of the target columns of a data frame, of the target among a dictionary of arrays.
        layout: What the axes mean, or None.

    Returns:
        The rows, and the names of the target columns where a data frame came with separate labels, else None.

    Raises:
        DataError: The objects are of another kind, or differ in length.
    """
    from netwright.sources import datasets  # needs torch, which reading files does not

    rows, labels = objects.split_pair(data)
    if labels is None and target is None and (plain := objects.plain_rows(rows)) is not None:
        return Arrays({"X": plain}, None, (Origin("data", len(plain)),), layout), None
    if datasets.is_dataset(rows) and datasets.is_dataset(labels):
        raise DataError('data: two Datasets came; expected rows and labels; hand over data={"train": TRAIN, "test": TEST}')
    if datasets.is_dataset(rows) and labels is None:
        rows = datasets.open_dataset(rows, as_named=isinstance(data, tuple))
    if isinstance(rows, datasets.Opened):
        opened, alone = rows, isinstance(data, tuple)  # (X, None): rows to predict
        rows, labels, layout = opened.numbers if alone else opened.inputs, opened.target, layout or opened.layout
        labels = None if alone else labels
        data = rows if labels is None and not alone else (rows, labels)
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
    if isinstance(data, Mapping) and (names := objects.target_keys(list(found), target, choosing.TARGET_NAMES)):
        parts = [found.pop(name) for name in names]
        answers = parts[0] if len(parts) == 1 else objects.side_by_side(parts, names)
    key = "y" if "y" not in found else "y (the target)"
    labelled = found if answers is None else {**found, key: answers}
    stored = {name: choosing.held(value) for name, value in labelled.items()}
    chosen = choosing.choose_rows(stored, list(found), [key], "data", answers is not None)
    return (replace(chosen, layout=layout, labels=known) if isinstance(chosen, Arrays) else chosen), None


def combine(parts: Sequence[Raw]) -> Raw:
    """Put the rows of several sources of one kind one below the other."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Sequences) for part in parts):
        return sequence_parts.concatenate([part for part in parts if isinstance(part, Sequences)])
    if all(isinstance(part, Table) for part in parts):
        return tables.concatenate([part for part in parts if isinstance(part, Table)])
    if all(isinstance(part, Arrays) for part in parts):
        return arrays.concatenate_arrays([part for part in parts if isinstance(part, Arrays)])
    raise DataError("data.train and data.test: rows of different kinds came; expected files of one kind")


def _refuse_runs(place: Place) -> None:
    """Refuse a folder that this program wrote, runs or a search, and name the settings in it."""
    if place.archive is not None or place.system is not None:
        return
    folder = Path(place.path)
    records = [folder / "run.json", folder / "tune.json", *sorted(folder.glob("[!.]*/run.json"))]
    for record in records:
        config = record.with_name("tune.toml" if record.name == "tune.json" else "config.toml")
        if record.is_file() and config.is_file():
            what = "a run" if record == records[0] else "a search" if record == records[1] else "a folder of runs"
            raise DataError(
                f"{place}: {what} came; expected data or a config; to use its settings name {printable(str(config))}"
            )


def _file(place: Place) -> Place:
    """Return a data file: the place itself, or the only one in an archive."""
    if place.is_file():
        return place
    if place.archive is not None and not place.path:
        inside = [member for member in place.walk() if format_of(member) is not None and not single.is_labels(member)]
        if len(inside) == 1:
            return inside[0]
        shown = ", ".join(member.path for member in inside[:4]) + (", ..." if len(inside) > 4 else "")
        raise DataError(
            f"{place}: an archive of {len(inside)} data files came ({shown}); expected one; name a file in it, such as "
            f"{place}/{inside[0].path if inside else 'rows.csv'}"
        )
    if place.is_dir():
        _refuse_runs(place)
        raise DataError(f"{place}: a folder came; expected a file ({', '.join(ENDINGS)}); name a file in it")
    if place.system is not None:
        raise DataError(
            f"{place}: no such file, or it cannot be reached; expected a data file; check the address and the network"
        )
    if place.archive is None and (place.path == "-" or Path(place.path).exists()):
        raise DataError(
            f"{place}: a pipe or device came; expected a data file, which may be read several times; write its rows into a "
            "file first"
        )
    raise DataError(f"{place}: no such file; expected a data file; check the path")


def _read(place: Place, reading: Reading, target_needed: bool) -> Raw:
    known = format_of(place)
    if known is None:
        ending = "".join(Path(place.name).suffixes[-2:] if place.packed else Path(place.name).suffixes[-1:]).lower()
        advice = "unpack it first" if place.packed else UNREAD.get(place.suffix, "convert the file")
        raise DataError(f"{place}: ending {ending!r} is unknown; expected one of {', '.join(ENDINGS)}; {advice}")
    if reading.sheet is not None and known is not SHEET:
        raise ConfigError(f"data.sheet: {reading.sheet!r} came; {place} is no Excel file; leave it out")
    return _with_layout(known.read(place, reading, target_needed), reading)


def _with_layout(raw: Raw, reading: Reading) -> Raw:
    if isinstance(raw, Arrays) and reading.layout is not None:
        return replace(raw, layout=reading.layout)
    return raw


def _chosen(found: Mapping[str, Stored], reading: Reading, name: str, needed: bool = True) -> Table | Arrays:
    return choosing.choose_rows(found, reading.inputs, reading.target, name, needed, reading.cache)


def _choose(opened: Callable[[Place], AbstractContextManager[dict[str, Stored]]]) -> Callable[[Place, Reading, bool], Raw]:
    """Return the reader of a file of named arrays."""

    def read(place: Place, reading: Reading, target_needed: bool) -> Raw:
        with opened(place) as found:
            return _chosen(found, reading, place.label, target_needed)

    return read


def _labels(place: Place, target: Sequence[str] | None) -> Place | None:
    return single.labels_beside(place, target) if format_of(place) in (NPY, IDX) else None


TEXT = Format((".csv", ".tsv", ".txt", ".data", ".dat"), lambda at, how, _: texts.read_text(at, how.text), packed=True)
SHEET = Format((".xlsx", ".xlsm"), lambda at, how, _: sheets.read_sheet(at, how.text, how.sheet))
JSON = Format((".jsonl", ".ndjson"), lambda at, how, _: columnar.read_json(at), packed=True)
PARQUET = Format((".parquet", ".pq"), lambda at, how, _: columnar.read_parquet(at))
IPC = Format((".feather", ".arrow", ".ipc"), lambda at, how, _: columnar.read_ipc(at))
NPY = Format((".npy",), lambda at, how, needed: single.read_npy(at, how.target, needed, how.cache), arrays.npy_array)
IDX = Format((".idx",), lambda at, how, needed: single.read_idx(at, how.target, needed), arrays.idx_array, packed=True)
FORMATS = (
    TEXT,
    JSON,
    PARQUET,
    IPC,
    SHEET,
    Format((".npz",), _choose(arrays.npz_arrays), arrays.npz_arrays, apart=True),
    NPY,
    Format((".mat",), _choose(matlab.matlab_arrays), matlab.matlab_arrays, apart=True),
    Format((".h5", ".hdf5", ".hdf"), _choose(hdf5.hdf5_arrays), hdf5.hdf5_arrays, apart=True),
    IDX,
    Format((".ts",), lambda at, how, _: series.read_ts(at, (how.target or ("target",))[0])),
)
ENDINGS = tuple(ending for known in FORMATS for ending in known.endings)
UNREAD = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), "save the sheet as CSV or .xlsx"),
    ".json": "write one object per line and name it .jsonl",
    ".zip": "it is no zip archive",
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth", ".joblib"), "it may run code when it is read; save arrays in an .npz"
    ),
}
