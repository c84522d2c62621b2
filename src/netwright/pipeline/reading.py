"""From settings to rows as they were read: one source, files of one's own, Python objects; joined, as sequences, as text.

Floor 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.config.schema import DataConfig
from netwright.data import cells, sequences, sources, tables
from netwright.data.arrays import Arrays
from netwright.data.cells import Markers
from netwright.data.places import place_of
from netwright.data.sequences import Raw, Sequences
from netwright.data.sources import Reading
from netwright.data.tables import Origin, Table, TextOptions
from netwright.errors import CheckpointError, ConfigError, DataError, did_you_mean

Rows = npt.NDArray[np.int64]
OBJECT = "object:"  # in a resolved config: something from Python that no file can hold
BRACES = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Source:
    """All rows as read: row numbers of given parts, digest, name, and the target's names where Python objects told them."""

    raw: Raw
    parts: dict[str, Rows] | None
    digest: str
    name: str
    target: tuple[str, ...] | None = None


def reading_of(data: DataConfig) -> Reading:
    """Return how the sources are read."""
    text = TextOptions(data.delimiter, data.encoding, data.header, tuple(data.columns) if data.columns else None)
    return Reading(text, names_of(data.inputs), names_of(data.target), data.layout)


def markers_of(data: DataConfig) -> Markers:
    """Return the missing markers, the decimal mark and what stands between labels."""
    missing = cells.MISSING_VALUES if data.missing_values is None else tuple(data.missing_values)
    return Markers(missing, data.decimal, data.label_separator)


def names_of(value: str | list[str] | None) -> tuple[str, ...] | None:
    """Return one name or several as a tuple; None where nothing was written."""
    return None if value is None else (value,) if isinstance(value, str) else tuple(value)


def read(data: DataConfig, objects: Any = None) -> Source:
    """Return all rows from Python objects, files of one's own, or one source.

    Raises:
        ConfigError: No source is named.
        CheckpointError: The rows were Python objects.
        DataError: See the readers.
    """
    reading = reading_of(data)
    if objects is not None:
        raw, names = sources.from_objects(objects, reading.target, data.layout)
        first = objects[0] if isinstance(objects, tuple | list) and objects else objects
        name = f"{OBJECT}{type(first).__module__}.{type(first).__qualname__}"
        return Source(as_rows(data, raw, None), None, sources.digest_raw(raw), name, names)
    if data.train is not None:
        files = {name: getattr(data, name) for name in ("train", "valid", "test") if getattr(data, name) is not None}
        pieces = {name: read_rows(data, file) for name, file in files.items()}
        raw, parts = _joined(pieces)
        return Source(
            raw, parts, sources.digest_of([digest_of(data, file) for file in files.values()]), " + ".join(files.values())
        )
    if data.source is not None and data.source.startswith(OBJECT):
        raise CheckpointError(
            f"data.source: {data.source} came, rows that were Python objects; hand them over again: nw.train(CONFIG, data=...)"
        )
    if data.source is None:
        raise ConfigError("data.source: nothing came; expected a data file or sklearn:NAME; set data.source")
    if _is_text(data, data.source):
        found = {"all": read_rows(data, data.source)}
    else:
        found = {name: as_rows(data, part, data.source) for name, part in sources.read_parts(data.source, reading).items()}
    rows, given = (found["all"], None) if "all" in found else _joined(found)
    return Source(rows, given, digest_of(data, data.source), data.source)


def read_rows(data: DataConfig, source: str, target_needed: bool = True, reading: Reading | None = None) -> Raw:
    """Read one source as the settings say: a table or arrays, joined, as sequences or as text."""
    if _is_text(data, source):
        place = place_of(source)
        with place.open_text(data.encoding) as stream:
            return _texts([stream.read()], data, Arrays({"row": np.zeros((1, 1))}, None, (Origin(place.name, 1),)))
    return as_rows(data, sources.read_source(source, reading or reading_of(data), target_needed), source)


def digest_of(data: DataConfig, source: str) -> str:
    """Return the digest of a source with the tables and files that belong to it."""
    digests = [sources.digest_source(source, names_of(data.target))]
    digests += [place_of(data.join).digest()] if data.join is not None else []
    if data.sequences is not None and BRACES.search(data.sequences):
        digests.append(place_of(source).parent.child(data.sequences).parent.digest())
    return digests[0] if len(digests) == 1 else sources.digest_of(digests)


def _joined(pieces: dict[str, Raw]) -> tuple[Raw, dict[str, Rows]]:
    parts: dict[str, Rows] = {}
    start = 0
    for name, piece in pieces.items():
        parts[name] = np.arange(start, start + piece.rows)
        start += piece.rows
    return sources.combine(list(pieces.values())), parts


def _is_text(data: DataConfig, source: str) -> bool:
    """Tell whether a source is one long text instead of a table."""
    return data.text is not None and data.target is None and Path(source).suffix.lower() == ".txt"


def as_rows(data: DataConfig, raw: Raw, source: str | None) -> Raw:
    """Return what was read as the rows that the settings ask for: joined with a table, as sequences, as text.

    Args:
        data: The settings.
        raw: What a reader gave.
        source: Where it came from: files of sequences are looked for beside it; None for Python objects.

    Raises:
        ConfigError: Settings that need a table, of other data.
        DataError: A column or a file is missing.
    """
    wanted = [name for name in ("join", "sequences", "text") if getattr(data, name) is not None]
    if not wanted or isinstance(raw, Sequences):
        return raw
    if not isinstance(raw, Table):
        raise ConfigError(f"data.{wanted[0]}: arrays came; expected a table with named columns; leave it out")
    if data.join is not None:
        raw = _join(raw, sources.read_source(data.join, Reading(reading_of(data).text)), data.join)
    if data.sequences is not None and BRACES.search(data.sequences):
        return _files(data, raw, source)
    if data.sequences is not None:
        _refuse_unknown(raw, data.sequences, "data.sequences")
        return sequences.by_column(raw, data.sequences, names_of(data.target) or ("target",))
    if data.text is not None:
        column = _text_column(data, raw)
        values = ["" if text is None else str(text) for text in raw.columns[column].to_pylist()]
        return _texts(values, data, Table(raw.columns.drop_columns([column]), raw.origins))
    return raw


def _join(raw: Table, other: Raw, name: str) -> Table:
    """Return a table with the further columns of another, row by row."""
    if not isinstance(other, Table):
        raise ConfigError(f"data.join: {name} holds arrays; expected a table; leave it out")
    keys = [column for column in raw.names if column in other.names]
    if not keys:
        raise DataError(
            f"{name}: no column has the name of one of {raw.origins[0].name}; expected a common one; rename it "
            f"({', '.join(raw.names[:8])} and {', '.join(other.names[:8])})"
        )
    places: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(_keys(other, keys)):
        if places.setdefault(key, row) != row:
            raise DataError(
                f"{other.place(row)}: data.join: {', '.join(keys)} = {', '.join(key)} came twice; expected each once"
            )
    found = [places.get(key) for key in _keys(raw, keys)]
    further = other.columns.drop_columns(keys).take(pa.array(found, pa.int64()))
    columns = raw.columns
    for column in further.column_names:
        columns = columns.append_column(column, further[column])
    return Table(columns, raw.origins)


def _keys(table: Table, names: list[str]) -> list[tuple[str, ...]]:
    columns = [[str(value).strip() for value in table.columns[name].to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def _files(data: DataConfig, about: Table, source: str | None) -> Sequences:
    """Return the sequences of the files that the rows of a table name."""
    pattern = data.sequences or ""
    if source is None or source.startswith("sklearn:"):
        raise ConfigError(
            f"data.sequences: {pattern!r} came without a file of rows; expected the files beside one; set data.source"
        )
    names = BRACES.findall(pattern)
    for name in names:
        _refuse_unknown(about, name, "data.sequences")
    folder = place_of(source).parent
    reading = Reading(replace(reading_of(data).text, columns=None, header=None))
    parts: list[Table] = []
    for row, key in enumerate(_keys(about, names)):
        path = BRACES.sub("{}", pattern).format(*key)
        place = folder.child(path)
        if not place.exists():
            raise DataError(
                f"{about.place(row)}: data.sequences: {place}: no such file; expected one per row; check the pattern"
            )
        found = sources.read_source(str(place), reading)
        if not isinstance(found, Table):
            raise DataError(f"{place}: arrays came; expected a table with a line per step; convert it")
        parts.append(found)
    lengths = np.asarray([part.rows for part in parts], dtype=np.int64)
    steps = tables.concatenate(parts)
    targets = names_of(data.target) or ("target",)
    per_step = all(name in steps.names for name in targets) and not any(name in about.names for name in targets)
    labels = tuple(part.origins[0].name for part in parts)
    return Sequences(steps, sequences.starts_of(lengths), lengths, about, per_step, names=labels)


def _text_column(data: DataConfig, raw: Table) -> str:
    """Return the column that holds the text."""
    inputs = names_of(data.inputs)
    if inputs is None:
        others = {*(names_of(data.target) or ("target",)), *data.ignore, data.split.group, data.split.time}
        inputs = tuple(name for name in raw.names if name not in others)
    if len(inputs) != 1:
        raise ConfigError(
            f"data.text: columns {', '.join(inputs[:8])} came; expected one column of text; name it in data.inputs"
        )
    _refuse_unknown(raw, inputs[0], "data.inputs")
    return inputs[0]


def _texts(values: list[str], data: DataConfig, about: Table | Arrays) -> Sequences:
    numbers, lengths, symbols = sequences.symbols_of(values, data.text or "characters")
    steps = Arrays({"text": numbers}, None, (Origin(about.origins[0].name, len(numbers)),))
    names = tuple(about.place(row) for row in range(about.rows)) if about.rows < 2 else ()
    return Sequences(steps, sequences.starts_of(lengths), lengths, about, symbols=symbols, names=names)


def _refuse_unknown(raw: Table, name: str, setting: str) -> None:
    if name not in raw.names:
        raise DataError(f"{raw.origins[0].name}: {setting}: column {name!r} is missing; {did_you_mean(name, raw.names)}")
