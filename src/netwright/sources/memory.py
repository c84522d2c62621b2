"""How much memory there is. Floor 2."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pyarrow as pa

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
_PROCESSES: ContextVar[int] = ContextVar("processes", default=1)


def free_memory() -> int | None:
    """Return the bytes that programs can still take, the limit of a container counted in; None where nothing tells."""
    found = [_available(), _left_in_group()]
    told = [amount for amount in found if amount is not None]
    return min(told) if told else None


def free_share() -> int | None:
    """Return the bytes that this process can still take where others of the machine take as much; see `shared_by`."""
    free = free_memory()
    return None if free is None else free // _PROCESSES.get()


def processes() -> int:
    """Return how many processes of this machine read the same rows."""
    return _PROCESSES.get()


@contextlib.contextmanager
def shared_by(count: int) -> Iterator[None]:
    """Tell that so many processes of this machine read the same rows in a block, each for itself."""
    before = _PROCESSES.set(count)
    try:
        yield
    finally:
        _PROCESSES.reset(before)


def give_back() -> None:
    """Hand memory that is free, but kept by pyarrow and the C library for later, back to the system."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # glibc has it, musl has not
            ctypes.CDLL(None).malloc_trim(0)


def _available() -> int | None:
    try:
        line = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
        if line:
            return int(line[1]) * 1024
    except OSError:
        pass
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS says no more


def _left_in_group() -> int | None:
    """Return what a control group leaves; what it holds of files can be given back and counts as free."""
    try:
        limit = (GROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((GROUP / "memory.current").read_text(encoding="ascii"))
        cached = re.search(r"^file (\d+)", (GROUP / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
        return int(limit) - used + (int(cached[1]) if cached else 0)
    except (OSError, ValueError):
        return None
