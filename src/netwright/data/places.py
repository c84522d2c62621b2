"""Where data lie: a file or folder on this machine, inside a zip archive, or at an address that fsspec reaches.

Nothing is unpacked: a member of an archive is read in place. Floor 2.
"""

from __future__ import annotations

import glob
import io
import os
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, final

import fsspec

from netwright.errors import DataError, SafetyError, first_line
from netwright.files import digest_bytes, digest_file

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
LARGEST_RATIO = 1000  # a member that grows more than this when it is unpacked is refused
STRAY = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")  # what file managers leave behind


@final
@dataclass(frozen=True)
class Place:
    """A file or folder that can be read.

    Args:
        path: Inside its system, ``/`` between the parts; empty for the root of an archive.
        archive: The zip archive it lies in, or None.
        system: The fsspec file system of an address, or None for this machine.
        address: The protocol and what precedes ``path`` in messages.
    """

    path: str
    archive: Path | None = None
    system: Any = field(default=None, compare=False, repr=False)
    address: str = ""

    def __str__(self) -> str:
        """Return how messages name the place; characters that would break a line are escaped."""
        return printable(f"{self.archive}/{self.path}".rstrip("/") if self.archive is not None else self.address + self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path.rstrip("/")) or (self.archive.name if self.archive is not None else "")

    @property
    def suffix(self) -> str:
        """The ending of the name in small letters, with its dot."""
        return posixpath.splitext(self.name)[1].lower()

    @property
    def local(self) -> Path | None:
        """The path of a file of this machine that lies in no archive, else None."""
        return Path(self.path) if self.archive is None and self.system is None else None

    @property
    def parent(self) -> Place:
        """The folder it lies in."""
        return Place(posixpath.dirname(self.path.rstrip("/")), self.archive, self.system, self.address)

    def child(self, name: str) -> Place:
        """Return the place of a name in this folder."""
        return Place(posixpath.join(self.path, name), self.archive, self.system, self.address)

    def exists(self) -> bool:
        """Tell whether there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        if self.local is not None:
            return self.local.is_file()
        if self.archive is not None:
            return self.path in _opened(self.archive)[1]
        return bool(self.system.isfile(self.path))

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""
        if self.local is not None:
            return self.local.is_dir()
        if self.archive is not None:
            inside = f"{self.path}/" if self.path else ""
            return any(member.startswith(inside) for member in _opened(self.archive)[1])
        return bool(self.system.isdir(self.path))

    def children(self, root: Path | None = None) -> list[Place]:
        """Return what lies in this folder, by name; files of file managers and hidden ones are left out.

        Args:
            root: The folder that links may not lead out of; default this folder.

        Raises:
            DataError: A link that leads nowhere.
            SafetyError: A link that leads out of the root.
        """
        if self.local is not None:
            names = [entry.name for entry in os.scandir(self.local)]
        elif self.archive is not None:
            inside = f"{self.path}/" if self.path else ""
            below = (member.removeprefix(inside) for member in _opened(self.archive)[1] if member.startswith(inside))
            names = list(dict.fromkeys(member.partition("/")[0] for member in below))
        else:
            names = [posixpath.basename(str(entry).rstrip("/")) for entry in self.system.ls(self.path, detail=False)]
        found = [self.child(name) for name in sorted(names) if not name.startswith(".") and name not in STRAY]
        for place in found:
            _refuse_leaving(place, root or self.local)
        return found

    def walk(self, above: tuple[Path, ...] = ()) -> Iterator[Place]:
        """Yield every file below this folder, by path.

        Args:
            above: The folders it lies in, resolved, from the one that links may not lead out of.

        Raises:
            DataError: A link that leads back to a folder it lies in, or nowhere.
            SafetyError: A link that leads out.
        """
        if self.local is not None:
            above = (*above, self.local.resolve())
            if above[-1] in above[:-1]:
                raise DataError(f"{self}: a link back to {above[-1]} came; expected folders that end; remove it")
        for place in self.children(above[0] if above else None):
            if not place.is_file() and place.is_dir():
                yield from place.walk(above)
            else:
                yield place

    def open(self) -> IO[bytes]:
        """Open the file for reading; members of archives can be read from any position.

        Raises:
            DataError: It cannot be read.
            SafetyError: A member of an archive that would grow more than a thousandfold.
        """
        try:
            if self.local is not None:
                return self.local.open("rb")
            if self.archive is not None:
                return _opened(self.archive)[0].open(self._member())
            opened: IO[bytes] = self.system.open(self.path, "rb")
            return opened
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise DataError(
                f"{self}: cannot be read ({reason_of(error)}); expected a readable file; check the path"
            ) from error

    def _member(self) -> zipfile.ZipInfo:
        found = _opened(self.archive)[1][self.path] if self.archive is not None else zipfile.ZipInfo()
        if found.file_size > LARGEST_RATIO * max(found.compress_size, 1024):
            raise SafetyError(
                f"{self}: {found.compress_size} bytes would grow to {found.file_size}; expected at most {LARGEST_RATIO} times as "
                "many; unpack it yourself if you trust it"
            )
        return found

    def open_text(self, encoding: str) -> IO[str]:
        """Open the file as text; line ends stay as they are."""
        return io.TextIOWrapper(self.open(), encoding=encoding, newline="")

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        with self.open() as stream:
            return stream.read()

    def size(self) -> int:
        """Return the bytes of the file, unpacked."""
        if self.local is not None:
            return self.local.stat().st_size
        if self.archive is not None:
            return self._member().file_size
        return int(self.system.size(self.path))

    def digest(self) -> str:
        """Return the digest of the content: of a folder its names and files, of what lies in an archive the archive."""
        if self.archive is not None:
            return digest_file(self.archive)
        if self.is_dir():
            parts = [(str(place), place.digest()) for place in self.walk()]
            return digest_bytes(*(text.removeprefix(str(self)).encode() for pair in parts for text in pair))
        return digest_file(self.local) if self.local is not None else digest_bytes(self.read_bytes())


def place_of(name: str | Path) -> Place:
    """Return the place that a path, a path through a zip archive, or an address names; it need not exist.

    Raises:
        DataError: The address is of a protocol for which a package is missing, or the archive is damaged.
    """
    text = str(name)
    if ADDRESS.match(text):
        return _remote(text)
    path = Path(text)
    archive = next((part for part in (path, *path.parents) if part.suffix.lower() == ".zip" and part.is_file()), None)
    if archive is None:
        return Place(text)
    inside = path.relative_to(archive).as_posix()
    _opened(archive)
    return Place("" if inside == "." else inside, archive)


def places_of(name: str | Path) -> list[Place]:
    """Return the places a name stands for: one, or those that a pattern such as ``part-*.csv`` matches, by name.

    Raises:
        DataError: No file matches the pattern.
    """
    text = str(name)
    if not glob.has_magic(text) or Path(text).exists():
        return [place_of(text)]
    first = place_of(re.split(r"/[^/]*[*?\[]", text)[0]) if ADDRESS.match(text) else None
    if first is not None:
        found = [Place(str(path), None, first.system, first.address) for path in sorted(first.system.glob(text))]
    else:
        found = [place_of(path) for path in sorted(glob.glob(text, recursive=True))]
    if not found:
        raise DataError(f"{text}: no file matches; expected at least one; check the pattern")
    return found


def _remote(text: str) -> Place:
    """Return the place at an address."""
    protocol = text.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError, OSError) as error:
        raise DataError(
            f"{text}: fsspec cannot reach {protocol}:// ({reason_of(error)}); expected a path or a known protocol; install its "
            "package or download the file"
        ) from None
    return Place(str(path), None, system, f"{protocol}://")


Opened = tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]
_LAST: dict[tuple[str, int, int], Opened] = {}  # the archive read last stays open: its members are asked for one by one


def _opened(archive: Path) -> Opened:
    """Return an archive, open for reading, and its files by path.

    Raises:
        DataError: It is damaged.
        SafetyError: Two members of one name, or a name that leads out of the archive.
    """
    try:
        stat = archive.stat()
        key = (str(archive.absolute()), stat.st_mtime_ns, stat.st_size)
        if key not in _LAST:
            opened = zipfile.ZipFile(archive)
            _LAST.clear()
            _LAST[key] = (opened, _files(archive, opened))
    except (zipfile.BadZipFile, OSError, UnicodeError) as error:
        raise DataError(f"{archive}: cannot be read ({reason_of(error)}); expected a zip archive; check the file") from None
    return _LAST[key]


def _files(archive: Path, opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in opened.infolist():
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith("/") or ".." in parts or entry.filename in found:
            raise SafetyError(
                f"{archive}: member {entry.filename!r} came; expected names inside the archive, each once; pack it again"
            )
        if not entry.is_dir() and parts[-1] not in STRAY and parts[0] not in STRAY:
            found[entry.filename] = entry
    return found


def _refuse_leaving(place: Place, folder: Path | None) -> None:
    """Refuse a link that leads out of a folder."""
    if place.local is None or folder is None or not place.local.is_symlink():
        return
    try:
        inside = place.local.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        raise DataError(f"{place}: a link that leads nowhere came; expected a file or folder; remove it") from None
    if not inside:
        raise SafetyError(
            f"{place}: a link out of {printable(str(folder))} came; expected files inside it; copy the file or remove the link"
        )


def printable(text: str) -> str:
    """Return a text in which characters that would break a line, or that no encoding holds, are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def reason_of(error: BaseException) -> str:
    """Return why something could not be read, in one line."""
    return getattr(error, "strerror", None) or first_line(error)
