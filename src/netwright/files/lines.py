"""Text files that grow by whole lines, and are cut back to where they were at a checkpoint. Floor 0."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, final

from netwright.errors import CheckpointError
from netwright.files import system
from netwright.files.whole import disk_errors

PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Mark:
    """How long a file was, in bytes, and the SHA-256 of what it held."""

    size: int
    digest: str


@final
class LineFile:
    """A text file that grows by whole lines.

    Args:
        path: The file; made where it is missing.
        mark: Where it shall go on: what stands behind is cut off; None to go on at its end.

    Raises:
        CheckpointError: The file does not hold what the mark says.
        ResourceError: It cannot be written.
    """

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        self._path, self._hash, self._size = path, hashlib.sha256(), 0
        if mark is not None:
            self._cut(mark)
        with disk_errors(path):
            self._descriptor: int | None = system.append(path)

    def _cut(self, mark: Mark) -> None:
        """Read up to the mark, and cut off what stands behind it."""
        try:
            with self._path.open("rb") as stream:
                while self._size < mark.size and (piece := stream.read(min(PIECE, mark.size - self._size))):
                    self._hash.update(piece)
                    self._size += len(piece)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be read ({error.strerror}); expected {_told(mark)}") from error
        if (self._size, self._hash.hexdigest()) != (mark.size, mark.digest):
            raise CheckpointError(
                f"{self._path}: changed since the checkpoint; expected {_told(mark)}; put the file back as it was"
            )
        if self._path.stat().st_size > mark.size:
            with disk_errors(self._path):
                system.truncate(self._path, mark.size)

    def write(self, *lines: str) -> None:
        """Append lines and hand them to the operating system."""
        if self._descriptor is None:
            raise ValueError(f"{self._path} is closed")
        data = "".join(f"{line}\n" for line in lines).encode("utf-8")
        with disk_errors(self._path):
            system.write(self._descriptor, data)
        self._hash.update(data)
        self._size += len(data)

    def mark(self) -> Mark:
        """Wait until the lines are on the disk, and return where the file ends."""
        if self._descriptor is not None:
            with disk_errors(self._path):
                system.sync(self._descriptor)
        return Mark(self._size, self._hash.hexdigest())

    def close(self) -> None:
        """Sync and close the file; nothing where it is closed."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with disk_errors(self._path):
            try:
                system.sync(descriptor)
            finally:
                system.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def cut_back(path: Path) -> int:
    """Cut a file of lines back to its last whole line, and return how many bytes a crash had left behind it."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with disk_errors(path):
            system.truncate(path, whole)
    return len(data) - whole


def _told(mark: Mark) -> str:
    return f"{mark.size} bytes with the digest sha256:{mark.digest[:12]}..."
