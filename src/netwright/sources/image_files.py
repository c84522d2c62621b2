"""Which files are the images of a set and what is known of each: class folders, parts, or a table of paths. Floor 2."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.errors import ConfigError, DataError, SafetyError, did_you_mean
from netwright.files import digest_bytes
from netwright.numerals import counted
from netwright.sources import opening
from netwright.sources.arrays import Arrays
from netwright.sources.opening import Reading
from netwright.sources.packing import printable
from netwright.sources.places import Place, place_of
from netwright.sources.tables import Origin, Table

ENDINGS = {
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
}
PARTS = {"train": ("train", "training"), "valid": ("valid", "val", "validation"), "test": ("test", "testing")}
FORMATS = "PNG, JPEG, WebP, BMP, TIFF or GIF"


@dataclass(frozen=True)
class ImageFiles:
    """The files of images in their order, not yet read.

    Args:
        files: One per row.
        origins: The folders they lie in, with their paths below them.
        about: What is known of each row: its class as the target of arrays, or its row of a table.
        notes: What was left out.
    """

    files: tuple[Place, ...]
    origins: tuple[Origin, ...]
    about: Table | Arrays
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of images."""
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """The path of each image below its folder."""
        return tuple(name for origin in self.origins for name in origin.files)

    def digest(self) -> str:
        """Return the digest of names, contents and what is known of the rows."""
        archives = dict.fromkeys(place.archive for place in self.files if place.archive is not None)
        parts = [opening.digest_raw(self.about), *self.names, *(Place("", archive).digest() for archive in archives)]
        parts += [place.digest() for place in self.files if place.archive is None]
        return digest_bytes(*(part.encode() for part in parts))

    def without(self, rows: Sequence[int]) -> ImageFiles:
        """Return the same images but for some rows."""
        kept = np.setdiff1d(np.arange(self.rows), np.asarray(rows, dtype=np.int64))
        origins, start = [], 0
        for origin in self.origins:
            inside = kept[(kept >= start) & (kept < start + origin.rows)] - start
            origins.append(Origin(origin.name, len(inside), files=tuple(origin.files[row] for row in inside)))
            start += origin.rows
        if isinstance(self.about, Table):
            about: Table | Arrays = Table(self.about.columns.take(pa.array(kept)), tuple(origins))
        else:
            about = _labels(None if self.about.target is None else self.about.target[kept], tuple(origins))
        return replace(self, files=tuple(self.files[row] for row in kept), origins=tuple(origins), about=about)


def _labels(target: npt.NDArray[Any] | None, origins: tuple[Origin, ...]) -> Arrays:
    """Return classes, int or text ``(rows,)``, as arrays whose input says nothing."""
    return Arrays({"row": np.zeros((sum(origin.rows for origin in origins), 1), np.uint8)}, target, origins)


def locate(name: str, column: str | None) -> Place | None:
    """Return the image, the folder or archive of images, or the table of their paths that a name stands for.

    Args:
        name: A source.
        column: The table's column of paths, where rows are images.

    Returns:
        None for every other kind of data.
    """
    if name.startswith(("sklearn:", "object:")):
        return None
    place = place_of(name)
    if place.suffix in ENDINGS or place.is_dir():
        found = place.is_file() if place.suffix in ENDINGS else any(file.suffix in ENDINGS for file in place.walk())
        return place if found else None
    return place if column is not None else None


def read_files(place: Place, column: str | None, reading: Reading, labelled: bool = True) -> dict[str, ImageFiles]:
    """Find the images of a source.

    Args:
        place: What `locate` gave.
        column: The table's column of paths, or None.
        reading: How a table is read.
        labelled: Whether each image needs a class or a row of a table (false for prediction).

    Returns:
        ``{"all": images}``, or the images under train, valid and test.

    Raises:
        DataError: No class folders, an empty one, a path without a file.
        SafetyError: A path or a link that leads out of the folder.
    """
    if place.suffix in ENDINGS and place.is_file():
        if labelled:
            raise DataError(f"{place}: one image came; expected a folder per class, or a table with data.images; name these")
        return {"all": of_paths([place])}
    if column is not None and (table := _table_in(place, labelled)) is not None:
        return {"all": _by_table(table, column, reading)}
    root = _unwrapped(place)
    if not labelled:
        return {"all": _found(root, [(file, "") for file in root.walk()], with_classes=False)}
    folders = {child.name.lower(): child for child in root.children() if not child.is_file()}
    parts = {part: [folders[name] for name in names if name in folders] for part, names in PARTS.items()}
    if parts["train"]:
        return {part: _found(root, _by_class(root, found)) for part, found in parts.items() if found}
    if folders and sum(map(len, parts.values())) == len(folders):
        raise DataError(f"{root}: folders {', '.join(folders)} came; expected train as well; add it, or name one of them")
    return {"all": _found(root, _by_class(root, [root]))}


def of_paths(paths: Sequence[str | Path | Place]) -> ImageFiles:
    """Return images named one by one, without labels.

    Raises:
        DataError: One of them is no file.
    """
    places = tuple(path if isinstance(path, Place) else place_of(path) for path in paths)
    for place in places:
        if not place.is_file():
            raise DataError(f"{place}: no such file; expected an image ({FORMATS}); check the path")
    origins = (Origin("", len(places), files=tuple(str(place) for place in places)),)
    return ImageFiles(places, origins, _labels(None, origins))


def combine(parts: Sequence[ImageFiles]) -> ImageFiles:
    """Put the images of several sources one below the other."""
    about = opening.combine([part.about for part in parts])
    if not isinstance(about, Table | Arrays):
        raise DataError("data.train and data.test: rows of different kinds came; expected files of one kind")
    return ImageFiles(
        tuple(place for part in parts for place in part.files),
        tuple(origin for part in parts for origin in part.origins),
        about,
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _unwrapped(place: Place) -> Place:
    """Return the folder that holds parts or classes: folders that only wrap another are passed."""
    children = place.children()
    folders = [child for child in children if not child.is_file()]
    if len(folders) != 1 or any(child.suffix in ENDINGS for child in children if child.is_file()):
        return place
    known = folders[0].name.lower() in {name for names in PARTS.values() for name in names}
    wraps = not known and any(not child.is_file() for child in folders[0].children())
    return _unwrapped(folders[0]) if wraps else place


def _by_class(root: Place, folders: Sequence[Place]) -> Iterator[tuple[Place, str]]:
    """Yield every file of the class folders below some folders with its class; files beside them have none."""
    above = () if root.local is None else (root.local.resolve(),)
    for folder in folders:
        children = folder.children(above[0] if above else None)
        if all(child.is_file() for child in children):
            raise DataError(
                f"{folder}: no class folders; expected one folder of images per class; make them, or name the column of paths "
                "of a table in data.images"
            )
        for child in children:
            if child.is_file():
                yield child, ""
                continue
            files = list(child.walk(above))
            if not any(file.suffix in ENDINGS for file in files):
                raise DataError(f"{child}: no images; expected at least one ({FORMATS}); add some or remove the folder")
            yield from ((file, printable(child.name)) for file in files)


def _found(
    root: Place, files: Iterator[tuple[Place, str]] | list[tuple[Place, str]], with_classes: bool = True
) -> ImageFiles:
    """Return the images among some files with their classes, and a remark on the others."""
    every = list(files)
    used = [(file, label) for file, label in every if file.suffix in ENDINGS and (label or not with_classes)]
    if not used:
        raise DataError(f"{root}: no images; expected at least one ({FORMATS}); check the folder")
    names = tuple(str(file)[len(str(root)) :].lstrip("/") for file, _ in used)
    origins = (Origin(str(root), len(used), files=names),)
    target = np.asarray([label for _, label in used]) if with_classes else None
    left = [file.name for file, label in every if file.suffix not in ENDINGS or (with_classes and not label)]
    note = f"{counted(left, 'file')} left out, no images of a class: {printable(', '.join(left[:3]))}"
    return ImageFiles(
        tuple(file for file, _ in used),
        origins,
        _labels(target, origins),
        (note + (", ..." if len(left) > 3 else ""),) if left else (),
    )


def _table_in(place: Place, needed: bool) -> Place | None:
    """Return the table of a folder or archive, or the file itself."""
    if not place.is_dir():
        return place
    root = _unwrapped(place)
    found = [child for child in root.children() if child.suffix != ".txt" and opening.is_table(child) and child.is_file()]
    if len(found) != 1 and (needed or found):
        raise DataError(f"{root}: {len(found)} tables came; expected one, of images; name it, such as {root}/labels.csv")
    return found[0] if found else None


def _by_table(place: Place, column: str, reading: Reading) -> ImageFiles:
    """Return the images that a table names."""
    table = opening.read_source(str(place), replace(reading, inputs=None), target_needed=False)
    if not isinstance(table, Table):
        raise ConfigError(f"data.images: {place} holds no table; expected a column of paths; leave data.images out")
    if column not in table.names:
        raise DataError(f"{place}: data.images: column {column!r} is missing; {did_you_mean(column, table.names)}")
    folder, found, names = place.parent, [], []
    for row, value in enumerate(table.columns[column].to_pylist()):
        path = posixpath.normpath("" if value is None else str(value).strip().replace("\\", "/"))
        file = folder.child(path)
        if path == ".":
            raise DataError(
                f"{table.place(row)}: column {column!r} is missing; expected the path of an image; mend the cell"
            )
        if path.startswith(("/", "../")) or path == ".." or _leaves(file, folder):
            raise SafetyError(
                f"{table.place(row)}: column {column!r}: {value!r} leads out of {folder}; expected a path inside; move the table"
            )
        if not file.is_file():
            raise DataError(f"{table.place(row)}: column {column!r}: {value!r} is no file of {folder}; check the path")
        found.append(file)
        names.append(printable(path))
    return ImageFiles(tuple(found), (Origin(str(folder), len(found), files=tuple(names)),), table)


def _leaves(file: Place, folder: Place) -> bool:
    """Tell whether a file of this machine is a link out of a folder."""
    if file.local is None or folder.local is None:
        return False
    return not file.local.resolve().is_relative_to(folder.local.resolve())
