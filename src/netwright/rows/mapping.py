"""From settings to a map: a table larger than memory learned and prepared block by block, once, and found again. Floor 11."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch

from netwright import files
from netwright.config.data_schema import DataConfig, PreparationConfig
from netwright.config.schema import RunConfig
from netwright.data import columns
from netwright.data import ingest as ingesting
from netwright.data.columns import TableEncoder
from netwright.data.mapped import Mapped
from netwright.data.order import Windows, windows_for
from netwright.data.preparation import Preparation
from netwright.errors import DataError, FolderInUseError, ResourceError, first_line
from netwright.rows.fitting import codes_wanted, input_columns, missing_cell
from netwright.rows.raw_rows import unseen
from netwright.rows.reading import Source, markers_of
from netwright.sources.blocks import Blocks
from netwright.sources.memory import free_memory
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
CACHE = ".netwright-cache"
ABOUT, TENSORS = "about.json", "preparation.safetensors"
FORM = 1  # of what a map holds; another number makes new maps
STALE = 3600.0  # seconds after which what a writer left is taken for dead


def ingest(
    config: RunConfig, source: Source, blocks: Blocks, target: Sequence[str], train: Rows
) -> tuple[Mapped, Preparation, list[str]]:
    """Return the prepared rows in a map, the preparation fitted on the train rows, and remarks.

    Args:
        config: The settings.
        source: The columns that divide the rows, of all rows.
        blocks: The table.
        target: The columns a network may not read.
        train: The train rows, sorted.

    Raises:
        DataError: A cell does not fit.
        ResourceError: There is no room for the map.
    """
    data = config.data
    first = ingesting.first_rows(blocks, train, blocks.names)
    names = input_columns(data, first, target)
    encoder, notes = columns.learn_columns(first, np.arange(first.rows), names, data.kinds, markers_of(data))
    cache = Path(data.cache or CACHE).absolute()
    key = _key(config, source, blocks, encoder, train)
    entry = cache / f"table-{key.removeprefix('sha256:')[:24]}"
    made = False
    if not entry.is_dir():
        files.make_folder(cache)
        with files.waited(entry, entry.is_dir):  # the processes of a machine read the table once
            made = not entry.is_dir()
            if made:
                notes += _changed(cache, source)
                files.remove_stale(cache, STALE)
                _make(config, source, blocks, encoder, train, entry)
    about, preparation = _read(entry)
    features = files.mapped(entry / ingesting.ROWS)
    if features.shape != (source_rows(source), ingesting.width(preparation)):
        raise ResourceError(f"{entry}: {features.shape} came; expected {source_rows(source)} rows; delete the folder")
    rows = Mapped(features, blocks.names, cache, _windows(data, features))
    notes += unseen(preparation.encoder, about["unknown"], "train")
    return rows, preparation, [*notes, *_told(source, entry, made, rows, first)]


def source_rows(source: Source) -> int:
    """Return the number of rows of a source."""
    return int(source.raw.rows)


def described(rows: Mapped) -> dict[str, Any]:
    """Return the settings that give the same map and the same order again."""
    windows = rows.windows
    shuffle = "full" if windows is None else [windows.block, windows.blocks]
    return {"storage": "map", "cache": str(rows.folder), "shuffle": shuffle}


def _windows(data: DataConfig, features: npt.NDArray[np.float32]) -> Windows | None:
    """Return how rows are shuffled: as written, else by the free memory."""
    if isinstance(data.shuffle, list):
        return Windows(*data.shuffle)
    free = free_memory()
    if data.shuffle == "full" or free is None:
        return None
    return windows_for(4 * features.shape[1], len(features), free)


def _key(config: RunConfig, source: Source, blocks: Blocks, encoder: TableEncoder, train: Rows) -> str:
    """Return the digest of all that a map hangs on: the source, the train rows, and how rows are read and prepared."""
    data, settings = config.data, config.data.preparation
    hangs_on = {
        "form": FORM,
        "names": blocks.names,
        "text": [data.delimiter, data.encoding, data.columns is not None or data.header is False],
        "encoder": encoder.to_json()["markers"],
        "columns": [[column.name, column.kind] for column in encoder.columns],
        "preparation": settings.model_dump(include={"numbers", "rare"}) if isinstance(settings, PreparationConfig) else None,
        "missing": data.missing,
        "codes": codes_wanted(config, encoder),
    }
    rows = files.digest_bytes(train.astype("<i8").tobytes())
    return files.digest_bytes(source.digest.encode(), rows.encode(), json.dumps(hangs_on).encode())


def _make(config: RunConfig, source: Source, blocks: Blocks, encoder: TableEncoder, train: Rows, entry: Path) -> None:
    """Learn, prepare and write; the folder appears by one rename when all is done."""
    data, settings = config.data, config.data.preparation
    before = blocks.stamps()
    kinds_found = [column.name for column in encoder.columns if column.name not in data.kinds]
    learned = ingesting.learn(blocks, train, encoder, kinds_found)
    numbers, rare = (settings.numbers, settings.rare) if isinstance(settings, PreparationConfig) else ("none", 1)
    preparation = ingesting.fitted(encoder, learned, rare, numbers, codes_wanted(config, encoder))
    found = preparation.encoder or encoder
    if data.missing == "error":
        _refuse_missing(source, found, learned.first_missing)
    needed, free = 4 * source_rows(source) * ingesting.width(preparation), files.room(entry.parent)
    if needed > free:
        raise ResourceError(
            f"{entry.parent}: {free / 1e9:.1f} GB free; the map of {source_rows(source)} rows takes {needed / 1e9:.1f} GB; "
            "set data.cache to a folder with more room"
        )
    try:
        with files.born(entry) as folder:
            unknown = ingesting.write_rows(blocks, source_rows(source), preparation, found, folder)
            if blocks.stamps() != before:
                raise DataError(f"{source.name}: changed while it was read; expected a file at rest; start again")
            described = {"source": source.name, "digest": source.digest, "unknown": unknown}
            files.write_json(folder / ABOUT, {**described, "preparation": preparation.to_json()})
            files.write_bytes(folder / TENSORS, safetensors.torch.save(preparation.modules.state_dict()))
    except FolderInUseError:
        pass  # another run has made the same map meanwhile


def _refuse_missing(source: Source, encoder: TableEncoder, rows: Mapping[str, int]) -> None:
    for column in encoder.used:
        if column.missing and isinstance(source.raw, Table):
            raise missing_cell(source.raw.place(rows[column.name]), column)


def _read(entry: Path) -> tuple[dict[str, Any], Preparation]:
    try:
        about: dict[str, Any] = files.read_json(entry / ABOUT)
        tensors = safetensors.torch.load((entry / TENSORS).read_bytes())
        return about, Preparation.from_json(about["preparation"], tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise ResourceError(f"{entry}: cannot be read ({first_line(error)}); expected a map; delete the folder") from error


def _changed(cache: Path, source: Source) -> list[str]:
    """Tell that a source has changed since a map of it was made."""
    for path in sorted(cache.glob(f"table-*/{ABOUT}")):
        try:
            about = files.read_json(path)
            if about["source"] == source.name and about["digest"] != source.digest:
                return [f"{source.name} has changed since {path.parent} was made; that folder can be deleted"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return []


def _told(source: Source, entry: Path, made: bool, rows: Mapped, first: Table) -> list[str]:
    """Return what a user should know of a map."""
    size = f"{rows.features.nbytes / 1e9:.3g} GB"
    when = "made now" if made else "made before, the source is unchanged"
    notes = [f"rows are read from a map of {size} ({when}): {source.why}; {entry}"]
    if first.rows == ingesting.FIRST:
        notes.append(f"column kinds are those of the first {first.rows} train rows")
    if rows.windows is None:
        return [*notes, "order: a full shuffle, worked out batch by batch"]
    block, blocks = rows.windows.block, rows.windows.blocks
    return [
        *notes,
        f"order: the map does not fit into half of the free memory, so blocks of {block} neighbouring rows are shuffled in windows "
        f"of {blocks} ({block * blocks} rows)",
    ]
