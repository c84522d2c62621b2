"""What zip archives and gzip hold, read in place and bounded; the same words for what is damaged. Floor 2."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, final

from netwright.errors import DataError, SafetyError, first_line

LARGEST_RATIO = 1000  # what grows more than this when it is unpacked is refused
LEAST_PACKED = 1024  # bytes; what is packed smaller may grow as if it had so many
STRAY = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")  # what file managers leave behind
# what a damaged file raises; Runtime: encrypted, unknown packing
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, UnicodeError)


@final
class Unpacked(io.RawIOBase):
    """The content of a file packed by gzip, up to a thousandfold of its size."""

    def __init__(self, where: str, stream: IO[bytes], size: int) -> None:
        super().__init__()
        self._where, self._stream, self._size = where, stream, size
        self._unpacked = gzip.GzipFile(fileobj=stream, mode="rb")
        self._left = LARGEST_RATIO * max(size, LEAST_PACKED)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer and return how many.

        Raises:
            DataError: The file is damaged.
            SafetyError: It grows too much.
        """
        view = memoryview(buffer).cast("B")
        try:
            count = self._unpacked.readinto(view)
        except BROKEN as error:
            raise DataError(
                f"{self._where}: cannot be read ({reason_of(error)}); expected a file packed by gzip; copy it again"
            ) from None
        self._left -= count
        if self._left < 0:
            raise SafetyError(
                f"{self._where}: {self._size} bytes grow to more than {LARGEST_RATIO} times as many; expected less; unpack it "
                "yourself if you trust it"
            )
        return count

    def close(self) -> None:
        """Close the file."""
        self._unpacked.close()
        self._stream.close()
        super().close()


Opened = tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]
_LAST: dict[tuple[int, str, int, int], Opened] = {}  # the archive read last stays open: its members are asked for one by one


def opened(archive: Path) -> Opened:
    """Return an archive, open for reading, and its files by path.

    Raises:
        DataError: It is damaged.
        SafetyError: Two members of one name, or a name that leads out of the archive.
    """
    try:
        stat = archive.stat()
        key = (os.getpid(), str(archive.absolute()), stat.st_mtime_ns, stat.st_size)  # a forked process opens its own
        if key not in _LAST:
            packed = zipfile.ZipFile(archive)
            _LAST.clear()
            _LAST[key] = (packed, _files(archive, packed))
    except BROKEN as error:
        raise DataError(f"{archive}: cannot be read ({reason_of(error)}); expected a zip archive; check the file") from None
    return _LAST[key]


def _files(archive: Path, packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in packed.infolist():
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith("/") or ".." in parts or entry.filename in found:
            raise SafetyError(
                f"{archive}: member {entry.filename!r} came; expected names inside the archive, each once; pack it again"
            )
        if not entry.is_dir() and parts[-1] not in STRAY and parts[0] not in STRAY:
            found[entry.filename] = entry
    return found


def printable(text: str) -> str:
    """Return a text in which characters that would break a line are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def reason_of(error: BaseException) -> str:
    """Return why something could not be read, in one line."""
    return getattr(error, "strerror", None) or first_line(error)
