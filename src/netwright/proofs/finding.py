"""How an ejected script reads the rows of a run: which library call gives the same values. Floor 16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from netwright.config.data_schema import DataConfig
from netwright.data.column import Column
from netwright.exporting import script_images, script_rows
from netwright.rows.reading import BRACES, files_of, markers_of, names_of, reading_of
from netwright.sources import cells, choosing, hdf5, opening, single, texts
from netwright.sources.arrays import Arrays, npz_arrays
from netwright.sources.bundled import bundled
from netwright.sources.image_files import ENDINGS
from netwright.sources.pictures import images_in
from netwright.sources.places import Place
from netwright.sources.tables import Table

ARROW = {opening.PARQUET: "parquet", opening.IPC: "feather"}


def find_table(data: DataConfig, table: Table, used: Sequence[Column], targets: Sequence[str]) -> dict[str, Any] | None:
    """Return how a table is read, for `Source`; None where a script cannot.

    Args:
        data: The settings.
        table: As it was read.
        used: The columns the network reads.
        targets: The target columns.
    """
    names = list(files_of(data).values())
    if names[0].startswith(opening.BUNDLED):
        return {**_bundled(names[0].removeprefix(opening.BUNDLED), targets), "typed": True}
    places = [place for name in names for place in opening.places(name)]
    known = {opening.format_of(place) for place in places}
    if len(known) != 1 or any(place.local is None for place in places):
        return None
    kind, missing = known.pop(), markers_of(data).missing_values
    paths = [str(place.local.absolute()) for place in places if place.local is not None]
    if kind is opening.TEXT:
        return _text(data, places, paths, missing)
    if kind not in ARROW or any(place.packed for place in places) or not _plain(table, used, data):
        return None
    columns = [*(column.name for column in used), *targets]
    dates = [name for name in columns if name in table.names and pa.types.is_temporal(table.columns[name].type)]
    has_texts = any(cells.is_text(table.columns[name].type) for name in table.names)
    found = script_rows.arrow_table(paths, ARROW[kind], dates, has_texts or _dictionaries(table), missing)
    return {**found, "typed": True}


def _dictionaries(table: Table) -> bool:
    return any(pa.types.is_dictionary(table.columns[name].type) for name in table.names)


def _plain(table: Table, used: Sequence[Column], data: DataConfig) -> bool:
    """Tell whether typed columns say their values as Python does: texts that are read as something else do not."""
    for column in used:
        kind = table.columns[column.name].type if column.name in table.names else None
        if kind is None:
            continue
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = cells.is_text(kind)
        if column.kind in ("number", "boolean", "date") and text:
            return False
        whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        if (column.kind == "category" and not (text or whole)) or pa.types.is_decimal(kind):
            return False
    return not data.labels


def _text(data: DataConfig, places: Sequence[Place], paths: list[str], missing: Sequence[str]) -> dict[str, Any] | None:
    """Return how delimited text files are read."""
    options = reading_of(data).text
    delimiters = {texts.delimiter_of(place, options) for place in places}
    in_files = data.sequences is not None and BRACES.search(data.sequences) is not None
    if len(delimiters) != 1 or len({place.packed for place in places}) != 1:
        return None
    if in_files and (options.headerless or len(places) != 1 or places[0].packed):
        return None
    columns = options.columns if options.headerless else None
    if options.headerless and columns is None:
        columns = tuple(f"column_{place}" for place in range(1, texts.count_fields(places[0], options) + 1))
    return script_rows.text_table(paths, delimiters.pop(), options.decoder, columns, not options.headerless, missing)


def _bundled(name: str, targets: Sequence[str]) -> dict[str, Any]:
    table = bundled(name)
    several = len(targets) > 1 or "target" not in (table.names if isinstance(table, Table) else [])
    text = isinstance(table, Table) and not several and cells.is_text(table.columns["target"].type)
    return script_rows.bundled_table(name, "several" if several else "names" if text else "values", targets)


def find_arrays(data: DataConfig) -> dict[str, Any] | None:
    """Return how arrays are read, for `Source`; None where a script cannot."""
    if data.source is None:
        return None
    if data.source == "sklearn:digits":
        return dict(script_rows.DIGITS)
    places = opening.places(data.source)
    if len(places) != 1 or places[0].local is None:
        return None
    place, path, target = places[0], str(places[0].local.absolute()), names_of(data.target)
    known = opening.format_of(place)
    if known in (opening.NPY, opening.IDX):
        labels = single.labels_beside(place, target)
        local = None if labels is None else labels.local
        return None if local is None else script_rows.single_arrays(path, str(local.absolute()))
    if place.suffix == ".npz":
        with npz_arrays(place) as found:
            return script_rows.npz_arrays(path, choosing.keys_of(found, names_of(data.inputs), target, str(place)))
    if place.suffix in (".h5", ".hdf5", ".hdf"):
        with hdf5.hdf5_arrays(place) as found:
            pairs = choosing.keys_of(found, names_of(data.inputs), target, str(place))
            return script_rows.hdf5_arrays(path, pairs[0]) if len(pairs) == 1 else None
    return None


def find_images(data: DataConfig, raw: Arrays, labels: Sequence[str]) -> dict[str, Any] | None:
    """Return how folders of images by class are read, for `Source`; None where a script cannot.

    Args:
        data: The settings, with the mode and the size of all images.
        raw: As they were read.
        labels: The class of each row.
    """
    mode, size = data.image_mode, data.image_size
    roots = [Path(origin.name) for origin in raw.origins]
    if mode not in script_images.MODES or size is None or not all(root.is_dir() for root in roots):
        return None
    for part in (False, True):  # the first folder of a path may be train, valid or test, and the second the class
        folders = [root / _first(origin.files) if part else root for root, origin in zip(roots, raw.origins, strict=True)]
        found = [images_in(folder, ENDINGS) for folder in folders]
        names = [path.relative_to(root).as_posix() for root, paths in zip(roots, found, strict=True) for path in paths]
        classes = [path.relative_to(folder).parts[0] for folder, paths in zip(folders, found, strict=True) for path in paths]
        if names == [name for origin in raw.origins for name in origin.files] and classes == list(labels):
            written = [str(folder.absolute()) for folder in folders]
            return script_images.image_folders(written, mode, (size[0], size[1]))
    return None


def _first(names: Sequence[str]) -> str:
    return names[0].partition("/")[0]
