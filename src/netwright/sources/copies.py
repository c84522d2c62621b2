"""Copies of files that lie elsewhere: fetched once into the cache, digested on the way, and read from there by all. Floor 2.

A copy stands for its file as long as the same version of it is told. Within a block of `copied` that is asked once of each file,
so that all that is read there is of one version.
"""

from __future__ import annotations

import glob
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from netwright import files
from netwright.errors import ResourceError
from netwright.numerals import counted

FOLDER = "fetched"  # in the cache
STALE = 3600.0  # seconds after which what a writer of another machine left is taken for dead


@final
@dataclass(frozen=True)
class Copy:
    """A file of the cache: where it lies, the digest of its content, its bytes, and whether this process has fetched it."""

    path: Path
    digest: str
    size: int
    new: bool = False


@final
@dataclass(frozen=True)
class Copies:
    """The copies that are read within a block, and what was told of files.

    Args:
        cache: The folder they lie in is one of this.
        named: Whether somebody named it: then it is an error that it cannot be written.
        making: Whether missing ones are made.
        share: Which of how many processes this is; each begins with another file.
        told: What file systems told, by address.
        found: By address; None for a file that is read where it lies.
        asked: The protocols that were asked anew.
    """

    cache: Path
    named: bool = False
    making: bool = False
    share: tuple[int, int] = (0, 1)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: dict[str, Copy | None] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def of(
        self, name: str, version: str | None, size: int | None, parts: Callable[[], Iterable[bytes]], patient: bool = True
    ) -> Copy | None:
        """Return the copy of a file, fetched where it is missing or of another version.

        Args:
            name: The address.
            version: What tells this state of the file from others; None where nothing does: then it is fetched anew.
            size: Its bytes, where they are known.
            parts: Begins to fetch; its errors are no OSError.
            patient: Whether to wait for another process that fetches it.

        Returns:
            None where there is none and none may be made, or another process is at it.

        Raises:
            ResourceError: There is no room for it.
        """
        if name in self.found:
            return self.found[name]
        entry = self.cache / FOLDER / files.digest_bytes(name.encode()).removeprefix("sha256:")[:24]
        version = version or secrets.token_hex(8)
        copy = _kept(entry, version)
        if copy is None and self.making and self._writable:
            with files.waited(entry, lambda: _kept(entry, version) is not None, patient) as free:
                if not free:
                    return None
                copy = _kept(entry, version) or self._fetch(entry, name, version, size, parts())
        self.found[name] = copy
        return copy

    def in_turn(self, count: int) -> list[int]:
        """Return the places of files in the order in which this process fetches them.

        Example:
            >>> Copies(Path("cache"), share=(1, 2)).in_turn(4)
            [2, 3, 0, 1]
        """
        first = self.share[0] * count // self.share[1]
        return [*range(first, count), *range(first)]

    def note(self) -> str | None:
        """Return a remark on the copies that were read; None without any."""
        read = [copy for copy in self.found.values() if copy is not None]
        if not read:
            return None
        size, new = sum(copy.size for copy in read), sum(copy.new for copy in read)
        when = (
            f"{new} fetched now{' by this process' if self.share[1] > 1 else ''}"
            if new or self.share[1] > 1
            else "as before"
        )
        return (
            f"read from copies in {self.cache / FOLDER}: {counted(read, 'file')} at an address, {size / 1e6:.3g} MB ({when}); "
            "delete them when you need the room"
        )

    @cached_property
    def _writable(self) -> bool:
        """Whether copies can be written; else files are read where they lie, unless somebody named the folder."""
        folder = self.cache / FOLDER
        try:
            files.make_folder(folder)
        except ResourceError:
            if self.named:
                raise
            return False
        if not os.access(folder, os.W_OK):
            return self.named  # the error comes where the lock is taken
        files.remove_stale(folder, STALE)
        files.remove_dead(folder, f"*.{glob.escape(socket.gethostname())}")
        return True

    def _fetch(self, entry: Path, name: str, version: str, size: int | None, parts: Iterable[bytes]) -> Copy:
        """Write a copy, named by its content, and then what it is of; one of an older version goes."""
        free = files.room(entry.parent)
        if size is not None and size > free:
            raise ResourceError(
                f"{entry.parent}: {free / 1e9:.3g} GB free; the copy of {name} takes {size / 1e9:.3g} GB; set data.cache to "
                "a folder with more room"
            )
        before = _about(entry).get("content")
        coming = files.temporary_name(entry.with_name(f"{entry.name}.{socket.gethostname()}"))
        digest, written = files.write_parts(coming, parts, size)
        path = entry.with_name(f"{entry.name}-{digest.removeprefix('sha256:')[:16]}")
        if isinstance(before, str) and (older := entry.with_name(Path(before).name)) != path and older.is_file():
            files.remove_all(older)
        plain = name.partition("?")[0]  # what follows may be a secret
        about = {"address": plain, "version": version, "content": path.name, "digest": digest, "size": written}
        files.write_json(entry.with_suffix(".json"), about, lasting=False)
        files.move(coming, path, lasting=False)  # last, so that nothing lies there that is not written down
        return Copy(path, digest, written, new=True)


def _about(entry: Path) -> dict[str, Any]:
    """Return what was written down of a copy; nothing where there is none."""
    try:
        about = files.read_json(entry.with_suffix(".json"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _kept(entry: Path, version: str) -> Copy | None:
    """Return the copy of a version; None where there is none, or it is not whole."""
    about = _about(entry)
    try:
        copy = Copy(entry.with_name(about["content"]), about["digest"], about["size"])
        whole = about["version"] == version and files.digest_file(copy.path) == copy.digest
        return copy if whole else None
    except (OSError, KeyError, TypeError, ValueError):
        return None


_HERE: ContextVar[Copies | None] = ContextVar("copies", default=None)


@contextmanager
def copied(copies: Copies) -> Iterator[None]:
    """Read files at an address that are named in a block from copies, and those that are found through them later on too."""
    before = _HERE.set(copies)
    try:
        yield
    finally:
        _HERE.reset(before)


def copies_here() -> Copies | None:
    """Return the copies that files are read from in this block; None outside."""
    return _HERE.get()
