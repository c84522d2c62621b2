"""From settings to rows as they were read: one source, files of one's own, Python objects; joined, as sequences, as text.

Floor 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netwright.config.calls import OBJECT
from netwright.config.data_schema import DataConfig
from netwright.data.columns import TableEncoder
from netwright.errors import CheckpointError, ConfigError, DataError, did_you_mean
from netwright.rows import pictures
from netwright.rows.fetching import copies_of
from netwright.sources import joining, opening, sequences, tables
from netwright.sources.arrays import Arrays
from netwright.sources.blocks import Blocks, blocks_of
from netwright.sources.image_files import ImageFiles
from netwright.sources.marks import MISSING_VALUES, Markers
from netwright.sources.memory import free_share, processes
from netwright.sources.objects import are_records, is_frame
from netwright.sources.opening import Reading
from netwright.sources.places import place_of
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Origin, Table
from netwright.sources.texts import TextOptions

if TYPE_CHECKING:
    from netwright.data.augmentation import Reread

Rows = npt.NDArray[np.int64]
MEMORY_SHARE = 0.25  # of the free memory that a table may take before it is read block by block
PARTS = ("train", "valid", "test")
BRACES = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Source:
    """All rows as read: row numbers of given parts, digest, name, and the target's names where Python objects told them.

    With ``blocks`` only the columns that divide the rows are in ``raw``, and ``why`` says why the rest is read in blocks.
    ``reread`` reads the items of a Dataset that changes them at random; ``notes`` are for the user. Images are not read
    before the split, because the train rows decide what they become.
    """

    raw: Raw | ImageFiles
    parts: dict[str, Rows] | None
    digest: str
    name: str
    target: tuple[str, ...] | None = None
    reread: Reread | None = None
    notes: tuple[str, ...] = ()
    blocks: Blocks | None = None
    why: str = ""


def reading_of(data: DataConfig) -> Reading:
    """Return how the sources are read."""
    text = TextOptions(data.delimiter, data.encoding, data.header, tuple(data.columns) if data.columns else None)
    return Reading(text, names_of(data.inputs), names_of(data.target), data.layout, data.sheet, data.cache)


def marked(encoder: TableEncoder | None, data: DataConfig) -> TableEncoder | None:
    """Return learned columns as they read files that are written in another way; None where there are none."""
    return None if encoder is None else replace(encoder, markers=markers_of(data))


def markers_of(data: DataConfig) -> Markers:
    """Return the missing markers, the marks of numbers and what stands between labels."""
    missing = MISSING_VALUES if data.missing_values is None else tuple(data.missing_values)
    return Markers(missing, data.decimal, data.label_separator, data.thousands)


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
    with copies_of(data) as copies:
        source = _read(data, objects)
    note = copies.note()
    return source if note is None else replace(source, notes=(*source.notes, note))


def _read(data: DataConfig, objects: Any) -> Source:
    reading = reading_of(data)
    if objects is not None:
        return _from_python(data, objects, reading)
    images = pictures.find(data, reading)
    if images is not None:
        return Source(*images, images[0].digest(), " + ".join(files_of(data).values()))
    pictures.refuse_settings(data)
    blocks, why = blocks_wanted(data)
    if blocks is not None:
        return _in_blocks(data, blocks, why)
    if data.train is not None:
        files = files_of(data)
        pieces = {name: read_rows(data, file) for name, file in files.items()}
        raw, parts = _joined(pieces)
        return Source(
            raw, parts, opening.digest_of([digest_of(data, file) for file in files.values()]), " + ".join(files.values())
        )
    if data.source is not None and data.source.startswith(OBJECT):
        raise CheckpointError(
            f"data.source: {data.source} came, rows that were Python objects; hand them over again in Python: "
            "nw.train(CONFIG, data=...), nw.resume(RUN, data=...)"
        )
    if data.source is None:
        raise ConfigError("data.source: nothing came; expected a data file or sklearn:NAME; set data.source")
    if _is_text(data, data.source):
        found = {"all": read_rows(data, data.source)}
    else:
        found = {name: as_rows(data, part, data.source) for name, part in opening.read_parts(data.source, reading).items()}
    rows, given = (found["all"], None) if "all" in found else _joined(found)
    return Source(rows, given, digest_of(data, data.source), data.source)


def parts_of(given: Any) -> dict[str, Any]:
    """Return what Python handed over by part: train, valid and test of a split of one's own, else ``{"all": ...}``.

    Raises:
        ConfigError: Another part beside train.
    """
    from netwright.sources import datasets  # needs torch, which reading files does not

    own = isinstance(given, Mapping) and "train" in given
    known = (is_frame, datasets.is_dataset, are_records, lambda part: isinstance(part, tuple))
    if own and all(any(fits(part) for fits in known) for part in given.values()):
        for name in given:
            if name not in PARTS:
                raise ConfigError(f"data: {name!r} came beside 'train'; expected train, valid and test; rename it")
        return {name: given[name] for name in PARTS if name in given}
    return {"all": given}


def _from_python(data: DataConfig, given: Any, reading: Reading) -> Source:
    """Return the rows of Python objects."""
    from netwright.sources import datasets

    pictures.refuse_settings(data)
    parts = parts_of(given)
    pieces: dict[str, Raw] = {}
    names: tuple[str, ...] | None = None
    reread: Reread | None = None
    notes: list[str] = []
    for part, value in parts.items():
        opened = datasets.open_dataset(value, data.workers) if datasets.is_dataset(value) else None
        raw, names = opening.from_objects(value if opened is None else opened, reading.target, data.layout)
        pieces[part] = as_rows(data, raw, None)
        if opened is not None:
            own = type(value.dataset if hasattr(value, "dataset") and hasattr(value, "collate_fn") else value).__name__
            taken = ("its items are taken as they are (preparation = none)",) if data.preparation == "none" else ()
            notes += [f"{own}: {note}" for note in (*opened.notes, *taken)]
            reread = opened.reread if part in ("train", "all") else reread
    rows, given_parts = (pieces["all"], None) if "all" in pieces else _joined(pieces)
    digests = [opening.digest_raw(piece) for piece in pieces.values()]
    digest = digests[0] if len(digests) == 1 else opening.digest_of(digests)
    first = next(iter(parts.values()))
    first = first[0] if isinstance(first, tuple | list) and first else first
    name = f"{OBJECT}{type(first).__module__}.{type(first).__qualname__}"
    return Source(rows, given_parts, digest, name, names, reread, tuple(dict.fromkeys(notes)))


def files_of(data: DataConfig) -> dict[str, str]:
    """Return the files of the parts, or of all rows."""
    names = ("source",) if data.train is None else PARTS
    return {name: getattr(data, name) for name in names if getattr(data, name) is not None}


def blocks_wanted(data: DataConfig) -> tuple[Blocks | None, str]:
    """Return the tables that are read block by block, and why; None where rows are read into memory.

    Raises:
        ConfigError: A map was asked for, of what cannot be read so.
    """
    if data.storage == "memory":
        return None, ""
    single = data.join is None and data.text is None and not data.of_steps
    named = [name for name in files_of(data).values() if not name.startswith((OBJECT, opening.BUNDLED))] if single else []
    blocks = blocks_of([place for name in named for place in opening.places(name)], reading_of(data).text) if named else None
    if data.storage == "map":
        if blocks is None:
            raise ConfigError(
                'data.storage: "map" came; expected Parquet or delimited text files with a row each; leave it out'
            )
        return blocks, 'data.storage = "map"'
    share, count = free_share(), processes()
    if blocks is None or share is None or (size := blocks.size()) <= MEMORY_SHARE * share:
        return None, ""
    each = f" in each of {count} processes" if count > 1 else ""
    free = f"{share * count / 1e9:.1f} GB of free memory"
    return blocks, f"the table would take {size / 1e9:.1f} GB{each}, more than a quarter of the {free}"


def _in_blocks(data: DataConfig, blocks: Blocks, why: str) -> Source:
    """Return the columns that divide the rows; where one is missing, a block with all columns, which tells it."""
    named = files_of(data)
    digests = [digest_of(data, file) for file in named.values()]
    wanted = [*(names_of(data.target) or ("target",)), data.split.group, data.split.time]
    names = list(dict.fromkeys(name for name in wanted if name is not None))
    complete = all(name in blocks.names for name in names)
    raw, counts = blocks.some(names) if complete else (blocks.head(), [0] * len(blocks.places))
    ends = np.cumsum([0, *counts])[np.cumsum([0, *(len(opening.places(file)) for file in named.values())])]
    parts = {name: np.arange(ends[place], ends[place + 1]) for place, name in enumerate(named)}
    digest = digests[0] if data.train is None else opening.digest_of(digests)
    return Source(raw, None if data.train is None else parts, digest, " + ".join(named.values()), blocks=blocks, why=why)


def read_rows(data: DataConfig, source: str, target_needed: bool = True, reading: Reading | None = None) -> Raw:
    """Read one source as the settings say: a table or arrays, joined, as sequences or as text."""
    if _is_text(data, source):
        place = place_of(source)
        with place.open_text(data.encoding) as stream:
            return _texts([stream.read()], data, Arrays({"row": np.zeros((1, 1))}, None, (Origin(place.name, 1),)))
    return as_rows(data, opening.read_source(source, reading or reading_of(data), target_needed), source, target_needed)


def digest_of(data: DataConfig, source: str) -> str:
    """Return the digest of a source with the tables and files that belong to it."""
    digests = [opening.digest_source(source, names_of(data.target))]
    digests += [place_of(data.join).digest()] if data.join is not None else []
    if data.sequences is not None and BRACES.search(data.sequences):
        digests.append(place_of(source).parent.child(data.sequences).parent.digest())
    return digests[0] if len(digests) == 1 else opening.digest_of(digests)


def _joined(pieces: dict[str, Raw]) -> tuple[Raw, dict[str, Rows]]:
    parts: dict[str, Rows] = {}
    start = 0
    for name, piece in pieces.items():
        parts[name] = np.arange(start, start + piece.rows)
        start += piece.rows
    return opening.combine(list(pieces.values())), parts


def _is_text(data: DataConfig, source: str) -> bool:
    """Tell whether a source is one long text instead of a table."""
    return data.text is not None and data.target is None and Path(source).suffix.lower() == ".txt"


def as_rows(data: DataConfig, raw: Raw, source: str | None, labelled: bool = True) -> Raw:
    """Return what was read as the rows that the settings ask for: joined with a table, as sequences, as text.

    Args:
        data: The settings.
        raw: What a reader gave.
        source: Where it came from: files of sequences are looked for beside it; None for Python objects.
        labelled: Whether they are to be trained or tested on, not only predicted: then some must be in the joined table.

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
        other = opening.read_source(data.join, Reading(reading_of(data).text))
        if not isinstance(other, Table):
            raise ConfigError(f"data.join: {data.join} holds arrays; expected a table; leave it out")
        raw = joining.join(raw, other, data.join, markers_of(data), labelled)
    if data.sequences is not None and BRACES.search(data.sequences):
        return _files(data, raw, source)
    if data.sequences is not None:
        _refuse_unknown(raw, data.sequences, "data.sequences")
        return sequences.by_column(raw, data.sequences, names_of(data.target) or ("target",))
    if data.text is not None:
        column = _text_column(data, raw)
        values = ["" if text is None else str(text) for text in raw.columns[column].to_pylist()]
        return _texts(values, data, Table(raw.columns.drop_columns([column]), raw.origins, notes=raw.notes))
    return raw


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
        found = opening.read_source(str(place), reading)
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
