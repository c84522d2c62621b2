"""The only writer of the product: no other module opens a file for writing.

Whole files are written to a temporary name in the same folder, synced and renamed; a run folder is born by one
rename of a folder prepared beside it. A full or read-only disk ends as `ResourceError`. Floor 0.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, final

import numpy as np
import numpy.typing as npt

from netwright.errors import FolderInUseError, ResourceError


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be written ({error.strerror or error}); expected a writable folder with free space; "
            "free some space or name another folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot sync a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a part.

    Args:
        path: Where the file shall stand; its folder must exist.
        data: The content.

    Raises:
        ResourceError: The disk is full, read-only or the folder is missing.
    """
    with _whole(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under another name and rename it when the block ends well."""
    with _disk_errors(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as an .npz file, piece by piece; see `write_bytes`."""
    with _whole(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; not-a-number is refused; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and the folders above it where they are missing."""
    with _disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content."""
    write_bytes(target, source.read_bytes())


@contextlib.contextmanager
def born(folder: Path) -> Iterator[Path]:
    """Prepare a folder beside ``folder`` and let it appear by one rename when the block ends well.

    Args:
        folder: The run folder to be; must not exist.

    Yields:
        The temporary folder to fill.

    Raises:
        FolderInUseError: ``folder`` exists already.
    """
    if folder.exists():
        raise FolderInUseError(
            f"{folder}: exists already; expected a new folder, a run is never overwritten; name another --run-dir"
        )
    make_folder(folder.parent)
    with _disk_errors(folder):
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
        temporary.mkdir()
    try:
        yield temporary
        _sync_folder(temporary)
        with _disk_errors(folder):
            try:
                os.rename(temporary, folder)
            except OSError as error:
                if folder.exists():
                    raise FolderInUseError(
                        f"{folder}: appeared meanwhile; expected a new folder, a run is never overwritten; "
                        "name another --run-dir"
                    ) from error
                raise
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _disk_errors(path):
            values = np.lib.format.open_memmap(temporary, "w+", np.dtype(dtype), shape)
            _take_room(temporary)
        yield values
        with _disk_errors(path):
            values.flush()
            del values  # a mapped file cannot be renamed on Windows
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        _sync_folder(path.parent)
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
    path = folder / f".{secrets.token_hex(8)}.tmp"
    if values.size == 0:
        return values
    with _disk_errors(path):
        try:
            with path.open("xb") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
            return mapped(path)
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps the file of a map
                path.unlink(missing_ok=True)


def remove_stale(folder: Path, age: float) -> None:
    """Remove what writers that were killed left in a folder: temporary files and folders untouched for ``age`` seconds."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            newest = max(entry.stat().st_mtime for entry in [path, *path.glob("**/*")])
            if time.time() - newest > age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def room(folder: Path) -> int:
    """Return the free bytes of the disk that a folder lies on, or will lie on."""
    found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(found).free


@final
class LineFile:
    """A text file that grows by whole lines.

    Args:
        path: The file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _disk_errors(path):
            self._stream: IO[str] = open(path, "a", encoding="utf-8", newline="\n")

    def write(self, *lines: str) -> None:
        """Append lines and hand them to the operating system."""
        with _disk_errors(self._path):
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()

    def close(self) -> None:
        """Sync and close the file."""
        with _disk_errors(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def digest_bytes(*parts: bytes | memoryview) -> str:
    """Return ``sha256:<hex>`` of the parts, each preceded by its length."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return f"sha256:{state.hexdigest()}"


def digest_file(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file's content."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
