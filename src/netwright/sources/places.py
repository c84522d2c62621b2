"""Where data lie: a file or folder on this machine, inside a zip archive, or at an address that fsspec reaches.

Nothing is unpacked on the disk: a member of an archive and a file packed by gzip are read in place. Floor 2.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import io
import os
import posixpath
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, final

from netwright.config.values import is_address
from netwright.errors import DataError, SafetyError, did_you_mean
from netwright.files import digest_bytes, digest_file
from netwright.sources import addresses
from netwright.sources.addresses import Remote, reached, unreadable
from netwright.sources.copies import Copy
from netwright.sources.packing import BROKEN, LARGEST_RATIO, LEAST_PACKED, STRAY, Unpacked, opened, printable


class System(Protocol):
    """Files that do not lie on this machine's disk, or not as files, as `Place` asks for them."""

    def isfile(self, path: str) -> bool:
        """Tell whether it is a file."""

    def isdir(self, path: str) -> bool:
        """Tell whether it is a folder."""

    def size(self, path: str) -> int:
        """Return the bytes of a file."""

    def ls(self, path: str) -> list[str]:
        """Return the paths in a folder."""

    def open(self, path: str, anywhere: bool = False) -> IO[bytes]:
        """Open a file for reading from its start, or from any position."""

    def copy(self, path: str) -> Copy | None:
        """Return the copy that a file is read from, if any."""


@final
@dataclass(frozen=True)
class Place:
    """A file or folder that can be read.

    Args:
        path: Inside its system, ``/`` between the parts; empty for the root of an archive.
        archive: The zip archive it lies in, or None.
        system: That of an address or of what is held in memory, or None for this machine.
        address: The protocol and what precedes ``path`` in messages.
    """

    path: str
    archive: Path | None = None
    system: System | None = field(default=None, compare=False, repr=False)
    address: str = ""

    def __str__(self) -> str:
        """Return how messages name the place; characters that would break a line are escaped."""
        inside = f"{self.archive}/{self.path}".rstrip("/") if self.archive is not None else self.address + self.path
        return printable(inside)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path.rstrip("/")) or (self.archive.name if self.archive is not None else "")

    @property
    def label(self) -> str:
        """The name before a line or row number in messages; the archive stands before its member."""
        inside = self.name if self.archive is None else f"{self.archive.name}/{self.path}".rstrip("/")
        return printable(inside)

    @property
    def packed(self) -> bool:
        """Whether the file is packed by gzip, as its name tells; it is unpacked while it is read."""
        return self.name.lower().endswith(".gz")

    @property
    def suffix(self) -> str:
        """The ending of the name in small letters, with its dot; of ``x.csv.gz`` it is ``.csv``."""
        return posixpath.splitext(self.name.lower().removesuffix(".gz"))[1]

    @property
    def local(self) -> Path | None:
        """The path of a file of this machine that lies in no archive, else None."""
        return Path(self.path) if self.archive is None and self.system is None else None

    @property
    def on_disk(self) -> Path | None:
        """Where its bytes lie as a file of this machine: itself, or the copy of a file at an address; else None."""
        if self.system is None:
            return self.local
        copy = self.system.copy(self.path)
        return None if copy is None else copy.path

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
        if self.system is not None:
            return self.system.isfile(self.path)
        return Path(self.path).is_file() if self.archive is None else self.path in opened(self.archive)[1]

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""
        if self.system is not None:
            return self.system.isdir(self.path)
        if self.archive is None:
            return Path(self.path).is_dir()
        inside = f"{self.path}/" if self.path else ""
        return any(member.startswith(inside) for member in opened(self.archive)[1])

    def children(self, root: Path | None = None) -> list[Place]:
        """Return what lies in this folder, by name; files of file managers and hidden ones are left out.

        Args:
            root: The folder that links may not lead out of; default this folder.

        Raises:
            DataError: A link that leads nowhere.
            SafetyError: A link that leads out of the root.
        """
        if self.system is not None:
            names = [posixpath.basename(entry.rstrip("/")) for entry in self.system.ls(self.path)]
        elif self.archive is None:
            names = [entry.name for entry in os.scandir(self.path)]
        else:
            inside = f"{self.path}/" if self.path else ""
            below = (member.removeprefix(inside) for member in opened(self.archive)[1] if member.startswith(inside))
            names = list(dict.fromkeys(member.partition("/")[0] for member in below))
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
        """Open the file for reading from its start, unpacked.

        Raises:
            DataError: It cannot be read.
            SafetyError: It would grow more than a thousandfold when it is unpacked.
        """
        stream = self._open()
        return io.BufferedReader(Unpacked(str(self), stream, self.packed_size()), 1 << 20) if self.packed else stream

    def open_anywhere(self) -> IO[bytes]:
        """Open the file for reading from any position; what is packed is unpacked into memory."""
        plain = self.archive is None and not self.packed
        return self._open(anywhere=True) if plain else io.BytesIO(self.read_bytes())

    def _open(self, anywhere: bool = False) -> IO[bytes]:
        try:
            if self.archive is not None:
                return opened(self.archive)[0].open(self._member())
            path = self.on_disk
            return (
                self.system.open(self.path, anywhere)
                if path is None and self.system is not None
                else Path(path or self.path).open("rb")
            )
        except BROKEN as error:
            raise unreadable(str(self), error) from error

    def _member(self) -> zipfile.ZipInfo:
        members = opened(self.archive)[1] if self.archive is not None else {}
        if self.path not in members:
            raise DataError(f"{self}: no such file; expected a file of the archive; {did_you_mean(self.path, members)}")
        found = members[self.path]
        if found.file_size > LARGEST_RATIO * max(found.compress_size, LEAST_PACKED):
            raise SafetyError(
                f"{self}: {found.compress_size} bytes would grow to {found.file_size}; expected at most {LARGEST_RATIO} times as "
                "many; unpack it yourself if you trust it"
            )
        return found

    def open_text(self, encoding: str) -> IO[str]:
        """Open the file as text; line ends stay as they are."""
        stream = self.open()
        try:
            return io.TextIOWrapper(stream, encoding=encoding, newline="")
        except LookupError:
            stream.close()
            raise

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        with self.open() as stream:
            return stream.read()

    def size(self) -> int:
        """Return the bytes of the file; of a file packed by gzip the most it may grow to."""
        return LARGEST_RATIO * max(self.packed_size(), LEAST_PACKED) if self.packed else self.packed_size()

    def packed_size(self) -> int:
        """Return the bytes of the file as it lies there; of a member of an archive those it has in it when unpacked."""
        if self.archive is not None:
            return self._member().file_size
        path = self.on_disk
        return (
            self.system.size(self.path) if path is None and self.system is not None else os.stat(path or self.path).st_size
        )

    def digest(self) -> str:
        """Return the digest of the content: of a folder its names and files, of what lies in an archive the archive."""
        if self.archive is not None:
            return digest_file(self.archive)
        if self.is_dir():
            parts = [(str(place), place.digest()) for place in self.walk()]
            return digest_bytes(*(text.removeprefix(str(self)).encode() for pair in parts for text in pair))
        if self.local is not None:
            return digest_file(self.local)
        copy = None if self.system is None else self.system.copy(self.path)
        if copy is not None:
            return copy.digest
        state = hashlib.sha256()
        try:
            with self._open() as stream:
                while part := stream.read(1 << 20):
                    state.update(part)
        except BROKEN as error:
            raise unreadable(str(self), error) from error
        return f"sha256:{state.hexdigest()}"


def place_of(name: str | Path) -> Place:
    """Return the place that a path, a path through a zip archive, or an address names; it need not exist.

    Raises:
        DataError: The address is of an unknown protocol or one for which a package is missing, or the archive is damaged.
        SafetyError: The address holds a password.
    """
    text = str(name)
    if is_address(text):
        protocol, _, rest = text.partition("://")
        if protocol.lower() in ("file", "local"):
            return place_of(rest)
        system, path = reached(text)
        return Place(path, None, system, system.prefix)
    archive = _archive_of(Path(text))
    if archive is None:
        return Place(text)
    inside = Path(text).relative_to(archive).as_posix()
    opened(archive)
    return Place("" if inside == "." else inside, archive)


def _archive_of(path: Path) -> Path | None:
    """Return the zip archive that a path is or leads through, if any."""
    return next((part for part in (path, *path.parents) if part.suffix.lower() == ".zip" and part.is_file()), None)


@final
@dataclass(frozen=True)
class _Held:
    """One file that is held in memory, as `Place` asks for it."""

    content: bytes

    def isfile(self, path: str) -> bool:
        return bool(path)

    def isdir(self, path: str) -> bool:
        return not path

    def size(self, path: str) -> int:
        return len(self.content)

    def ls(self, path: str) -> list[str]:
        return []

    def open(self, path: str, anywhere: bool = False) -> IO[bytes]:
        return io.BytesIO(self.content)

    def copy(self, path: str) -> Copy | None:
        return None


def held(name: str, content: bytes) -> Place:
    """Return the place of a file whose content is at hand: it lies nowhere on the disk, and nothing lies beside it.

    Args:
        name: For messages, with the ending that tells the format; of one part, and not packed.
        content: The bytes.

    Example:
        >>> held("body.csv", b"a,b").read_bytes()
        b'a,b'
    """
    return Place(name, None, _Held(content))


def places_of(name: str | Path) -> list[Place]:
    """Return the places a name stands for: one, or the files that a pattern such as ``part-*.csv`` matches, by name.

    Raises:
        DataError: No file matches the pattern.
    """
    text = str(name)
    plain = not glob.has_magic(text) or text.lower().startswith(("http:", "https:"))  # there a ? starts a query
    if plain or (not is_address(text) and Path(text).exists()):
        return [place_of(text)]
    if is_address(text):
        first = place_of(text)
        if isinstance(first.system, Remote):
            found = [Place(path, None, first.system, first.address) for path in first.system.glob(first.path)]
        else:
            found = places_of(first.path)
    elif (archive := _archive_of(Path(text))) is not None:
        pattern = Path(text).relative_to(archive).parts
        members = sorted(opened(archive)[1])
        found = [Place(member, archive) for member in members if _matches(member.split("/"), pattern)]
    else:
        found = [place_of(path) for path in sorted(glob.glob(text, recursive=True))]
    found = [place for place in found if place.is_file()]
    if not found:
        raise DataError(f"{text}: no file matches; expected at least one; check the pattern")
    return found


def _matches(parts: list[str], pattern: tuple[str, ...]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def fetch(places: Sequence[Place]) -> None:
    """Fetch those of some files that lie at an address into the cache, where they are read from copies.

    Raises:
        DataError: One cannot be fetched.
        ResourceError: There is no room.
    """
    addresses.fetch([(place.system, place.path) for place in places if isinstance(place.system, Remote)])


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
