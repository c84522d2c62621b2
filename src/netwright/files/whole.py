"""Files and folders that appear whole or not at all.

Whole files are written to a temporary name in the same folder, synced and renamed; a folder is filled beside its place
and appears by one rename. A full or read-only disk ends as `ResourceError`, which names the free bytes. Floor 0.
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from netwright.errors import FolderInUseError, ResourceError
from netwright.files import system
from netwright.files.locks import holder_of, process_lives

if TYPE_CHECKING:
    import numpy.typing as npt

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn an operating-system error into one line that names the path, and on a full disk the room.

    Args:
        path: What is written.
        needed: How many bytes it takes, where that is known.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.strerror or error}{_room_told(path, needed) if error.errno in FULL else ''}"
        raise ResourceError(
            f"{path}: cannot be written ({what}); expected a writable folder with free space; "
            "free some space or name another folder"
        ) from error


def _room_told(path: Path, needed: int | None) -> str:
    """Return how many bytes are needed and free, in words; nothing where the disk does not say."""
    try:
        free = f"{room(path.parent):,} bytes are free"
    except OSError:
        return ""
    return f"; {free}" if needed is None else f"; {needed:,} bytes are needed, {free}"


def temporary_name(path: Path) -> Path:
    """Return a name beside a path for what is not whole yet; it tells the process that writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def write_bytes(path: Path, data: bytes, lasting: bool = True) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a part.

    Args:
        path: Where the file shall stand; its folder must exist.
        data: The content.
        lasting: Whether to wait for the disk; what need not outlive a power cut, whole or at all, does without.

    Raises:
        ResourceError: The disk is full, read-only or the folder is missing.
    """
    with _whole(path, len(data), lasting) as descriptor:
        system.write(descriptor, data)


@contextlib.contextmanager
def _whole(path: Path, needed: int | None = None, lasting: bool = True) -> Iterator[int]:
    """Write a file under another name and rename it when the block ends well; not lasting, a power cut may take it."""
    with disk_errors(path, needed):
        temporary = temporary_name(path)
        descriptor = system.create(temporary)
        try:
            try:
                yield descriptor
                if lasting:
                    system.sync(descriptor)
            finally:
                system.close(descriptor)
            system.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if lasting:
            system.sync_folder(path.parent)


@contextlib.contextmanager
def _streamed(path: Path) -> Iterator[IO[bytes]]:
    """Write a whole file through a stream."""
    with _whole(path) as descriptor:
        stream = system.stream(descriptor)
        yield stream
        stream.flush()


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as an .npz file, piece by piece; see `write_bytes`."""
    import numpy as np

    with _streamed(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def write_parts(path: Path, parts: Iterable[bytes], needed: int | None = None) -> tuple[str, int]:
    """Write a whole file part by part, digested on the way, which tells damage by a power cut; see `write_bytes`.

    Args:
        path: Where the file shall stand.
        parts: The content; what goes wrong in getting it is told by no OSError.
        needed: Its bytes, where they are known.

    Returns:
        The digest, as `digest_file` gives it, and the number of bytes.
    """
    state, size = hashlib.sha256(), 0
    with _whole(path, needed, lasting=False) as descriptor:
        for part in parts:
            state.update(part)
            system.write(descriptor, part)
            size += len(part)
    return f"sha256:{state.hexdigest()}", size


def write_text(path: Path, text: str, lasting: bool = True) -> None:
    """Write a whole UTF-8 file; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8", "replace"), lasting)  # half of a surrogate pair is no character


def write_json(path: Path, value: Any, lasting: bool = True) -> None:
    """Write a value as indented JSON; not-a-number is refused; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", lasting)


def make_folder(path: Path) -> None:
    """Make a folder and the folders above it where they are missing."""
    with disk_errors(path):
        if path.is_dir():
            return
        if not path.parent.is_dir():
            make_folder(path.parent)
        try:
            system.make_folder(path)
        except FileExistsError:
            if not path.is_dir():  # else another process made it meanwhile
                raise
        system.sync_folder(path.parent)


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
    refuse_existing(folder)
    make_folder(folder.parent)
    with _filled_beside(folder) as temporary:
        yield temporary
        _sync_all(temporary)
        with disk_errors(folder):
            try:
                os.rename(temporary, folder)
            except OSError as error:
                if folder.exists():
                    holder = holder_of(folder)
                    what = f"appeared meanwhile, in use by {holder}" if holder else "appeared meanwhile"
                    raise FolderInUseError(
                        f"{folder}: {what}; expected a new folder, a run is never overwritten; name another (--run-dir, run_dir=)"
                    ) from error
                raise
            system.sync_folder(folder.parent)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that exists, and name who writes into it.

    Raises:
        FolderInUseError: It exists.
    """
    if folder.exists():
        holder = holder_of(folder)
        what = f"exists already, in use by {holder}" if holder else "exists already"
        raise FolderInUseError(
            f"{folder}: {what}; expected a new folder, a run is never overwritten; name another (--run-dir, run_dir=)"
        )


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Prepare a folder beside ``folder`` and let it appear by one rename; one of that name goes first.

    Args:
        folder: Its parent must exist.

    Yields:
        The temporary folder to fill.
    """
    with _filled_beside(folder) as temporary:
        yield temporary
        with disk_errors(folder):
            _sync_all(temporary)
            if folder.is_symlink() or folder.exists():
                remove_all(folder)
            system.rename(temporary, folder)
            system.sync_folder(folder.parent)


@contextlib.contextmanager
def _filled_beside(folder: Path) -> Iterator[Path]:
    """Make a folder of another name, and remove it if the block fails."""
    temporary = temporary_name(folder)
    with disk_errors(folder):
        system.make_folder(temporary)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync_all(folder: Path) -> None:
    """Sync the names in a folder and in those below it."""
    for path in folder.iterdir():
        if path.is_dir():
            _sync_all(path)
    system.sync_folder(folder)


def move(source: Path, target: Path, lasting: bool = True) -> None:
    """Give a file or folder another name on the same disk; a folder of that name is an error; see `write_bytes`."""
    with disk_errors(target):
        system.rename(source, target)
        if lasting:
            system.sync_folder(target.parent)


def remove_all(path: Path) -> None:
    """Remove a file, or a folder with all it holds, which first loses its name at once; links are not followed."""
    with disk_errors(path):
        if path.is_symlink() or not path.is_dir():
            system.remove(path)
            return
        doomed = path
        if not path.name.endswith(".tmp"):
            doomed = temporary_name(path)
            system.rename(path, doomed)
        for entry in doomed.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                remove_all(entry)
            else:
                system.remove(entry)
        system.remove_folder(doomed)


def remove_stale(folder: Path, age: float) -> None:
    """Remove what writers that were killed left in a folder: temporary files and folders untouched for ``age`` seconds."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            newest = max(entry.stat().st_mtime for entry in [path, *path.glob("**/*")])
            if time.time() - newest > age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_dead(folder: Path, names: str = "*") -> None:
    """Remove what writers of this machine that are gone left in a folder, not in those below it.

    Args:
        folder: Where they wrote.
        names: What they wrote, as `glob` has it, where writers of other machines give other names.
    """
    for path in folder.glob(f".{names}.*.tmp"):
        parts = path.name.rsplit(".", 3)
        if len(parts) == 4 and parts[1].isdecimal() and not process_lives(int(parts[1])):
            with contextlib.suppress(ResourceError):  # another process removes it at this moment
                remove_all(path)


def remove_unfinished(path: Path) -> None:
    """Remove what writers that are known to be gone, on any machine, had of a file or folder before it got its name."""
    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
        remove_all(unfinished)


def room(folder: Path) -> int:
    """Return the free bytes of the disk that a folder lies on, or will lie on."""
    found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(found).free
