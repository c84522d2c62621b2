"""Arrays too large for memory, as mapped files that are made once and found again by what they were made from. Floor 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from netwright import files
from netwright.sources.arrays import Array, declared_size
from netwright.sources.memory import free_share

FOLDER = ".netwright-cache"  # beside runs/, where the user already lets this program write
IN_MEMORY = 0.25  # of the free memory that one array may take
UNKNOWN_MEMORY = 8 * 2**30  # bytes, where the system does not tell


def fits(size: int) -> bool:
    """Tell whether an array of so many bytes takes no more than a quarter of the free memory, in all processes that read it."""
    free = free_share()
    return size <= IN_MEMORY * (UNKNOWN_MEMORY if free is None else free)


def filled(
    shape: tuple[int, ...], dtype: str, fill: Callable[[Array], None], key: Callable[[], str], folder: str | None
) -> tuple[Array, list[str]]:
    """Return an array in memory, or above a quarter of the free memory a read-only one mapped from a file of the cache.

    Args:
        shape: Of the array.
        dtype: Of the array, such as ``uint8``.
        fill: Writes the whole content into the array it is given.
        key: The digest of everything the content depends on; asked only where a file is needed.
        folder: Where the files are kept; None for ``.netwright-cache`` in the working folder.

    Returns:
        The array and, where it lies in a file, a remark that names it.

    Raises:
        ResourceError: The disk is full or cannot be written.
    """
    size = declared_size(shape) * np.dtype(dtype).itemsize
    if fits(size):
        values: Array = np.empty(shape, dtype)
        fill(values)
        return values, []
    path = Path(folder or FOLDER).absolute() / f"{key().partition(':')[2][:32]}.npy"
    kept = _kept(path, shape, dtype)
    if kept is None:
        files.make_folder(path.parent)
        with files.waited(path, lambda: _kept(path, shape, dtype) is not None):  # the processes of a machine fill it once
            kept = _kept(path, shape, dtype)
            if kept is None:
                with files.born_array(path, shape, dtype) as new:
                    fill(new)
                    del new  # Windows renames no file that is still mapped
                kept = np.load(path, mmap_mode="r")
    note = (
        f"{size / 1e9:.1f} GB are more than a quarter of the free memory and lie in {path}; delete it when you need the room"
    )
    return kept, [note]


def _kept(path: Path, shape: tuple[int, ...], dtype: str) -> Array | None:
    """Return the array of a file, or None where there is none or it is damaged."""
    try:
        found: Array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.dtype(dtype) else None
