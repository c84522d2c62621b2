"""Arrays as maps of files: made whole or not at all, and arrays moved off the memory. Floor 0."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netwright.errors import ResourceError
from netwright.files import system
from netwright.files.whole import disk_errors, make_folder, temporary_name

if TYPE_CHECKING:
    import numpy.typing as npt


@contextlib.contextmanager
def born_array(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[npt.NDArray[Any]]:
    """Prepare a mapped .npy file beside ``path`` and let it appear by one rename when the block ends well.

    Args:
        path: Where the file shall stand; its folder is made where it is missing.
        shape: Of the array.
        dtype: Of the array, such as ``uint8``.

    Yields:
        The array to fill; what is written into it goes to the disk, not into memory.

    Raises:
        ResourceError: There is no room on the disk; it is taken before the block starts.
    """
    import numpy as np

    make_folder(path.parent)
    temporary = temporary_name(path)
    try:
        with disk_errors(path):
            values = np.lib.format.open_memmap(temporary, "w+", np.dtype(dtype), shape)
            _take_room(temporary)
        yield values
        with disk_errors(path):
            values.flush()
            del values  # a mapped file cannot be renamed on Windows
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        system.sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_room(path: Path) -> None:
    """Take the blocks of a file with holes: a full disk would end a write into its map by a signal."""
    with path.open("rb+") as stream:
        size = path.stat().st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def mapped(path: Path) -> npt.NDArray[Any]:
    """Return the array of an .npy file, mapped: rows are read from the file when they are asked for, and kept by the system.

    Args:
        path: What `born_array` made. Changes to the array stay in memory.

    Raises:
        ResourceError: The file is missing or damaged.
    """
    import numpy as np

    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
        return found
    except (OSError, ValueError) as error:
        raise ResourceError(f"{path}: cannot be mapped ({error}); expected an array file; delete its folder") from error


def off_memory(values: npt.NDArray[Any], folder: Path) -> npt.NDArray[Any]:
    """Return an array as the map of a nameless file, so that it takes no memory that cannot be given back.

    Args:
        values: The array, any shape and dtype.
        folder: Where there is room; it must exist. The file goes with the process.

    Raises:
        ResourceError: There is no room.
    """
    import numpy as np

    path = folder / f".{secrets.token_hex(8)}.tmp"
    if values.size == 0:
        return values
    with disk_errors(path):
        try:
            with path.open("xb") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
            return mapped(path)
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps the file of a map
                path.unlink(missing_ok=True)
