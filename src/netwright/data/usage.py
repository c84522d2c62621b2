"""How much memory this process takes, and the most it takes in a block. Floor 3."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import final

STATM = Path("/proc/self/statm")
EVERY = 0.002  # seconds between two looks
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of getrusage


def resident() -> int | None:
    """Return the bytes of memory that this process holds (its resident set); None where nothing tells."""
    try:
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return highest()


def highest() -> int | None:
    """Return the most bytes that this process ever held; None where nothing tells."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


@final
class Peak:
    """The most memory that the process held while a block ran, in bytes.

    A thread looks every 2 ms; where the block pushes the process above all it held before, the system's own mark is taken.
    """

    def __init__(self) -> None:
        self.before = 0
        self.bytes: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def above(self) -> int | None:
        """The bytes above those at the beginning."""
        return None if self.bytes is None else max(0, self.bytes - self.before)

    def __enter__(self) -> Peak:
        self.before, self._mark = resident() or 0, highest()
        self.bytes = resident()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._see(resident())
        mark = highest()
        if mark is not None and self._mark is not None and mark > self._mark:
            self._see(mark)

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            self._see(resident())

    def _see(self, held: int | None) -> None:
        if held is not None and self.bytes is not None:
            self.bytes = max(self.bytes, held)
