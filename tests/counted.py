"""A file system for fsspec that lies in a folder: it writes down which file was opened, by which process, and the bytes read.

A file of a certain name in the folder changes how it behaves: see `SILENT`, `SLOW` and `BROKEN`.
"""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import fsspec

PROTOCOL = "oss"
LOG = ".opened"
SILENT = ".silent"  # nothing but sizes is told
SLOW = ".slow"  # a file takes a fifth of a second
BROKEN = ".broken"  # a file ends after its first bytes


class Counted(fsspec.AbstractFileSystem):
    """The files of a folder, at addresses such as ``oss:///folder/part-0.csv``."""

    protocol = PROTOCOL

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Tell of a file as object stores do."""
        path = self._strip_protocol(path)
        stat = os.stat(path)
        told = {"name": path, "size": stat.st_size, "type": "directory" if os.path.isdir(path) else "file"}
        beside = Path(path).parent
        return told if (beside / SILENT).exists() else {**told, "ETag": f"{stat.st_ino}-{stat.st_mtime_ns}"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder."""
        path = self._strip_protocol(path)
        found = [self.info(entry.path) for entry in os.scandir(path)]
        return found if detail else [one["name"] for one in found]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return _Counting(path)


class _Counting(io.FileIO):
    def __init__(self, path: str) -> None:
        super().__init__(path, "rb")
        self._count, self._folder = 0, Path(path).parent
        if (self._folder / SLOW).exists():
            time.sleep(0.2)

    def read(self, size: int | None = -1) -> bytes:
        if (self._folder / BROKEN).exists():
            size = 10 - self._count
        found = super().read(-1 if size is None else size) or b""
        self._count += len(found)
        return found

    def close(self) -> None:
        if not self.closed:
            line = json.dumps({"name": Path(str(self.name)).name, "process": os.getpid(), "bytes": self._count})
            with (self._folder / LOG).open("a") as log:
                log.write(line + "\n")
        super().close()


def register() -> None:
    """Let fsspec find it."""
    fsspec.register_implementation(PROTOCOL, Counted, clobber=True)


def address(path: Path) -> str:
    """Return the address of a file or pattern."""
    return f"{PROTOCOL}://{path}"


def opened(folder: Path) -> list[dict[str, Any]]:
    """Return what was opened in a folder, in turn."""
    log = folder / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
