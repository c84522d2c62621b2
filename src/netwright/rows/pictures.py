"""From settings to images: which source holds some, their files by part, and what they become. Floor 11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.data_schema import DataConfig
from netwright.errors import ConfigError, DataError
from netwright.sources import image_files, images
from netwright.sources.arrays import Arrays
from netwright.sources.image_files import ImageFiles
from netwright.sources.opening import Reading
from netwright.sources.places import fetch

Rows = npt.NDArray[np.int64]
OF_TABLES = ("inputs", "sequences", "window", "text", "join")  # settings that say nothing of images


def find(data: DataConfig, reading: Reading) -> tuple[ImageFiles, dict[str, Rows] | None] | None:
    """Return the images of a run's source, or of its files of train, valid and test rows.

    Args:
        data: The settings.
        reading: How a table of paths is read.

    Returns:
        The images and the row numbers of given parts; None where rows are no images.

    Raises:
        ConfigError: Settings that belong to other kinds of rows.
        DataError, SafetyError: See `image_files.read_files`.
    """
    if data.train is not None:
        files = {name: getattr(data, name) for name in ("train", "valid", "test") if getattr(data, name) is not None}
        read = {name: find_one(data, reading, file) for name, file in files.items()}
        pieces = {name: piece for name, piece in read.items() if piece is not None}
        if pieces and len(pieces) < len(read):
            raise DataError("data.train and data.test: rows of different kinds came; expected files of one kind")
    else:
        place = None if data.source is None else image_files.locate(data.source, data.images)
        pieces = {} if place is None else image_files.read_files(place, data.images, reading)
    if not pieces:
        return None
    for name in OF_TABLES:
        if getattr(data, name) is not None:
            raise ConfigError(f"data.{name}: images came, which are the only input; expected no such setting; leave it out")
    fetch([place for piece in pieces.values() for place in piece.files])
    if data.bad_images == "skip":
        pieces = {name: images.leave_out_bad(piece) for name, piece in pieces.items()}
    if "all" in pieces:
        return pieces["all"], None
    ends = np.cumsum([piece.rows for piece in pieces.values()])
    parts = {name: np.arange(end - piece.rows, end) for (name, piece), end in zip(pieces.items(), ends, strict=True)}
    return image_files.combine(list(pieces.values())), parts


def refuse_settings(data: DataConfig) -> None:
    """Refuse settings about images, where rows are none: they would do nothing.

    Raises:
        ConfigError: Naming the first.
    """
    written = {
        "images": data.images,
        "image_mode": data.image_mode,
        "image_size": data.image_size,
        "bad_images": data.bad_images if data.bad_images != "error" else None,
    }
    for name, value in written.items():
        if value is not None:
            raise ConfigError(
                f"data.{name}: {value} came, and the rows are no image files; expected a folder, an archive or a table of such as "
                "data.source; leave it out"
            )


def find_one(data: DataConfig, reading: Reading, rows: Any, labelled: bool = True) -> ImageFiles | None:
    """Return the images of one set of rows: a folder, an archive, a table, an image, or a list of the paths of images.

    Args:
        data: The settings.
        reading: How a table of paths is read.
        rows: What the user named.
        labelled: Whether each image needs a class or a row of a table (false for prediction).

    Returns:
        None where rows are no images.

    Raises:
        DataError: The source holds parts of its own.
    """
    if isinstance(rows, list) and rows and all(isinstance(path, str | Path) for path in rows):
        return image_files.of_paths(rows)
    place = image_files.locate(str(rows), data.images) if isinstance(rows, str | Path) else None
    if place is None:
        return None
    pieces = image_files.read_files(place, data.images, reading, labelled)
    if "all" not in pieces:
        raise DataError(f"{place}: folders {', '.join(pieces)} came; expected one set of rows; name one of the folders")
    return pieces["all"]


def find_for_run(data: DataConfig, reading: Reading, rows: Any, labelled: bool) -> ImageFiles | None:
    """Return the images that a finished run shall read; None where it was not trained on images, or rows are none."""
    return None if data.image_mode is None else find_one(data, reading, rows, labelled)


def decoded(found: ImageFiles, data: DataConfig, train: Rows | None = None) -> Arrays:
    """Read images as the settings say; what these leave open the train rows decide.

    Raises:
        ConfigError: ``data.layout`` says something else.
        DataError, SafetyError: See `images.decode`.
    """
    read = images.decode(found, train, data.image_mode, data.image_size, data.cache)
    if data.layout not in (None, read.layout):
        raise ConfigError(f"data.layout: {data.layout} came; images are {read.layout}; leave it out")
    return read


def settled(raw: Arrays) -> dict[str, Any]:
    """Return the settings that images were read with."""
    values = raw.inputs["images"]
    mode = "rgb" if values.ndim == 4 else "grey16" if values.dtype == np.float32 else "grey"
    kept = {"cache": str(Path(values.filename).parent)} if isinstance(values, np.memmap) and values.filename else {}
    return {"image_mode": mode, "image_size": [int(side) for side in values.shape[1:3]], **kept}
