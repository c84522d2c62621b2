"""Files at an address that fsspec reaches: what is told of them, their content, and its copies. Floor 2.

Source: fsspec's documentation, https://filesystem-spec.readthedocs.io.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import IO, Any, final

import fsspec

from netwright.config.values import is_address
from netwright.errors import DataError, SafetyError
from netwright.sources.copies import Copies, Copy, copies_here
from netwright.sources.packing import reason_of

PROTOCOLS = (  # of addresses; fsspec knows more, some of which run what they read
    *("http", "https", "ftp", "sftp", "ssh", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss"),
    *("hdfs", "webhdfs", "hf", "smb", "memory"),
)
TIMES = ("lastmodified", "modified", "mtime", "modify", "modificationtime", "lastwritetime", "updated", "created")
TELLING = (  # of what fsspec's file systems tell of a file, that which changes with its content; in small letters and no marks
    *("etag", "contentmd5", "md5hash", "digest", "sha", "blobid", "generation", "versionid", *TIMES),
)
FRESH = 2.0  # seconds after a change in which another one may be told as the same time, and by many servers as the same ETag
PART = 1 << 20  # bytes that are fetched at a time
SILENCE = 300.0  # seconds without a byte, after which a server is given up


@final
@dataclass(frozen=True)
class Remote:
    """The file system of an address.

    Args:
        system: fsspec's.
        prefix: What precedes a path in the address.
        copies: Where its files are copied to; None where they are read as they lie.
    """

    system: Any
    prefix: str
    copies: Copies | None = None

    def isfile(self, path: str) -> bool:
        """Tell whether it is a file."""
        return self._told(path).get("type") == "file"

    def isdir(self, path: str) -> bool:
        """Tell whether it is a folder, or a page of links by HTTP."""
        told = self._told(path)
        page = told.get("mimetype") == "text/html"  # to find links a page is read whole
        return told.get("type") == "directory" or (page and bool(self.system.isdir(path)))

    def size(self, path: str) -> int:
        """Return the bytes of a file; where they are not told it is read to know."""
        size = self._told(path).get("size")
        if size is not None:
            return int(size)
        with self.open(path, anywhere=True) as stream:
            return stream.seek(0, io.SEEK_END)

    def ls(self, path: str) -> list[str]:
        """Return the paths in a folder."""
        return [str(entry) for entry in self.system.ls(path, detail=False)]

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that a pattern matches, sorted."""
        return sorted(str(path) for path in self.system.glob(pattern))

    def open(self, path: str, anywhere: bool = False) -> IO[bytes]:
        """Open a file as it lies there.

        Args:
            path: The file.
            anywhere: Whether it is read from any position; then what comes as one answer lies in memory.

        Raises:
            DataError: It cannot be read.
        """
        try:
            stream: IO[bytes] = io.BytesIO(self.system.cat_file(path)) if anywhere and self._at_once else self._opened(path)
        except Exception as error:  # of every kind, by the package of the protocol
            raise unreadable(self.prefix + path, error) from error
        return stream

    def copy(self, path: str, patient: bool = True) -> Copy | None:
        """Return the copy of a file, fetched `FRESH` seconds after its last change, so that a further one is told; see `Copies.of`.

        Raises:
            DataError: It cannot be fetched whole.
            ResourceError: There is no room for it.
        """
        if self.copies is None:
            return None
        told, name = self._told(path), self.prefix + path
        size = told.get("size")
        early = changed_at(told) + FRESH - time.time()
        if 0 < early <= FRESH:
            time.sleep(early)
        parts = partial(self._parts, path, size, version_of(told))
        return self.copies.of(name, version_of(told) if early <= FRESH else None, size, parts, patient)

    def _parts(self, path: str, size: int | None, version: str | None) -> Iterator[bytes]:
        """Yield the content of a file from its start to its end.

        Raises:
            DataError: It breaks off, or changes meanwhile.
        """
        name, count = self.prefix + path, 0
        try:
            with self._opened(path) as stream:
                while part := stream.read(PART):
                    count += len(part)
                    yield part
            self.system.invalidate_cache(path)
        except Exception as error:  # of every kind, by the package of the protocol
            raise unreadable(name, error) from error
        if size is not None and count != size:
            raise DataError(f"{name}: {count:,} bytes came; expected {size:,}, the fetch broke off; start again")
        if version is not None and version_of(self._ask(path)) != version:
            raise DataError(f"{name}: changed while it was fetched; expected a file at rest; start again")

    @property
    def _at_once(self) -> bool:
        """Whether a file comes as one answer: by HTTP, where not every server sends pieces."""
        return "https" in self.system.protocol

    def _opened(self, path: str) -> Any:
        """Open a file for reading from its start to its end."""
        if not self._at_once:
            return self.system.open(path, "rb")
        return io.BufferedReader(_Answer(self.system.open(path, "rb", block_size=0)), PART)

    def _told(self, path: str) -> dict[str, Any]:
        """Return what the file system tells of a file or folder, nothing where there is none; asked once where copies are read."""
        name = self.prefix + path
        if self.copies is None:
            return self._ask(path)
        if name not in self.copies.told:
            self.copies.told[name] = self._ask(path)
        return self.copies.told[name]

    def _ask(self, path: str) -> dict[str, Any]:
        try:
            return dict(self.system.info(path))
        except (
            FileNotFoundError,
            NotADirectoryError,
            PermissionError,
        ):  # a store that may not be listed refuses what is not there
            return {}
        except Exception as error:  # of every kind, by the package of the protocol
            raise unreadable(self.prefix + path, error) from error


@final
class _Answer(io.RawIOBase):
    """The content of one answer, read from its start to its end; what goes wrong is an OSError, as of a file."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            part = self._stream.read(len(view))
        except Exception as error:  # of every kind, by the package of the protocol
            raise OSError(reason_of(error)) from error
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._stream.close()
        super().close()


def reached(text: str) -> tuple[Remote, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        DataError: The address is of an unknown protocol or one for which a package is missing.
        SafetyError: The address holds a password.
    """
    protocol, _, rest = text.partition("://")
    if protocol.lower() not in PROTOCOLS:
        raise DataError(
            f"{text}: {protocol}:// is no known protocol; expected a path or one of {', '.join(PROTOCOLS)}; download the file"
        )
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and (":" in user or protocol.lower() in ("http", "https")):  # there a name alone is a token
        raise SafetyError(
            f"{protocol}://***@{rest.rpartition('@')[2]}: a password came in the address; expected none, a run folder keeps its "
            "settings; write it in fsspec's own configuration"
        )
    try:
        system, path = fsspec.core.url_to_fs(
            text, **({"get_client": _client} if protocol.lower() in ("http", "https") else {})
        )
    except (ImportError, ValueError, OSError) as error:
        raise DataError(
            f"{text}: fsspec cannot reach {protocol}:// ({reason_of(error)}); expected a protocol whose package is installed; "
            "install it or download the file"
        ) from None
    copies = copies_here()
    if copies is not None and protocol not in copies.asked:
        copies.asked.add(protocol)
        system.invalidate_cache()  # fsspec keeps lists of files as long as the process lives
    return Remote(system, "" if is_address(str(path)) else f"{protocol}://", copies), str(path)


async def _client(**settings: Any) -> Any:
    """Return what asks by HTTP, and waits as long as bytes come; aiohttp's own gives up after five minutes in all."""
    from aiohttp import ClientSession, ClientTimeout

    patient = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    return ClientSession(**{"timeout": patient, **settings})


def fetch(found: list[tuple[Remote, str]]) -> None:
    """Fetch files that shall be read, each process from another one on; those that others fetch are waited for when they are read.

    Args:
        found: File systems and paths.
    """
    copies = next((remote.copies for remote, _ in found if remote.copies is not None), None)
    if copies is None or not copies.making:
        return
    for place in copies.in_turn(len(found)):
        remote, path = found[place]
        remote.copy(path, patient=False)


def version_of(told: Mapping[str, Any]) -> str | None:
    """Return what tells this state of a file from others, by what its file system tells; None where only its size is told.

    Example:
        >>> version_of({"name": "a", "size": 3, "ETag": "x"}), version_of({"name": "a", "size": 3, "type": "file"})
        ('[3, {"ETag": "x"}]', None)
    """
    found = {name: str(told[name]) for name in sorted(told) if told[name] is not None and _plain(name) in TELLING}
    return json.dumps([told.get("size"), found]) if found else None


def changed_at(told: Mapping[str, Any]) -> float:
    """Return the last time of change that is told, in seconds since 1970; infinity where it cannot be read, minus where none is.

    Example:
        >>> changed_at({"Last-Modified": "Thu, 01 Jan 1970 00:01:40 GMT"}), changed_at({"ETag": "x"})
        (100.0, -inf)
    """
    times = [_seconds(told[name]) for name in told if told[name] is not None and _plain(name) in TIMES]
    return max(times, default=float("-inf"))


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _seconds(told: Any) -> float:
    """Return a told time in seconds since 1970; infinity where it is written in no known way."""
    if isinstance(told, int | float):
        return told / 1000 if told > 1e11 else told  # Hadoop tells milliseconds
    try:
        found = told if isinstance(told, datetime) else _moment(str(told))
    except ValueError:
        return float("inf")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _moment(text: str) -> datetime:
    """Read a time as web servers, FTP (14 digits) and ISO 8601 write it."""
    if not text[:1].isdecimal():
        return parsedate_to_datetime(text)
    return datetime.fromisoformat(f"{text[:8]}T{text[8:14]}" if text[:14].isdecimal() else text)


def unreadable(name: str, error: BaseException) -> DataError:
    """Return the error that says why a file cannot be read."""
    return DataError(f"{name}: cannot be read ({reason_of(error)}); expected a readable file; check the path")
