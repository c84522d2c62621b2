"""Every call that changes the disk, one small function each: what a fault can hit, and what a test can watch. Floor 0."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import IO, Any, cast, final

BUFFER = 1 << 20  # bytes that are written at a time
_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def create(path: Path) -> int:
    """Open a new file for writing and return its descriptor; one that exists, a link too, is an error."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)


def append(path: Path) -> int:
    """Open a file to write at its end; made where it is missing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)


def write(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data; the system may take less at a time."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync(descriptor: int) -> None:
    """Wait until what was written is on the disk itself."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until names that came or went in a folder are on the disk itself."""
    if os.name == "nt":  # Windows cannot sync a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close(descriptor: int) -> None:
    """Close a file."""
    os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name at once; a file of that name is replaced, a folder with content is an error."""
    os.replace(source, target)


def truncate(path: Path, size: int) -> None:
    """Cut a file to its first bytes and wait until that is on the disk."""
    descriptor = os.open(path, os.O_RDWR | _BINARY)
    try:
        os.ftruncate(descriptor, size)
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder that does not exist in one that does."""
    os.mkdir(path)


def remove(path: Path) -> None:
    """Remove a file."""
    os.unlink(path)


def remove_folder(path: Path) -> None:
    """Remove an empty folder."""
    os.rmdir(path)


@final
class _Writer(io.RawIOBase):
    """A descriptor as a stream that is written from start to end."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        write(self._descriptor, data)
        return len(data)


def stream(descriptor: int) -> IO[bytes]:
    """Return a stream that writes to a descriptor; it must be flushed, and does not close the descriptor."""
    return io.BufferedWriter(cast(io.RawIOBase, _Writer(descriptor)), BUFFER)
