"""Work that is dealt out to processes, on one machine or on several that share a folder.

A claim is a file that only one process can make (``open`` with O_EXCL, which NFS keeps too). It names its holder; where that
one is gone, the next number of the same piece of work is free. On this machine the system says who lives; of another machine
its holder's heartbeat does, a small file written anew every few seconds. Floor 0.
"""

from __future__ import annotations

import glob
import json
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from netwright.errors import ResourceError
from netwright.files import system
from netwright.files.locks import identity, lives, same_process
from netwright.files.whole import disk_errors, make_folder, remove_dead, write_json

CLAIMS, WORKERS = "claims", "workers"
BEAT = 5.0  # seconds between two heartbeats
SILENT = 60.0  # seconds without one, as seen by the reader's own clock, after which a holder of another machine is gone
_active: set[str] = set()  # workers of this process


@final
class Worker:
    """A process that claims pieces of work in a folder, until it is closed.

    Args:
        folder: An existing folder.
        watched: Whether the process that started this one says so when it dies; see `note_death`.
    """

    def __init__(self, folder: Path, watched: bool = False) -> None:
        self.name = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        self._claims, self._beats = folder / CLAIMS, folder / WORKERS
        for place in (self._claims, self._beats):
            make_folder(place)
        remove_dead(self._beats, f"{glob.escape(socket.gethostname())}-*.json")
        self._told = {**identity(), "worker": self.name, "watched": watched}
        self._heard: dict[str, tuple[int, float]] = {}  # of other machines: the last beat, and when it was seen first
        self._over = threading.Event()
        self._beat(0)
        _active.add(self.name)
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def _beat(self, number: int) -> None:
        write_json(self._beats / f"{self.name}.json", {**self._told, "beat": number})

    def _keep_beating(self) -> None:
        number = 0
        while not self._over.wait(BEAT):
            number += 1
            with suppress(ResourceError):  # a disk that is full now may have room at the next beat
                self._beat(number)

    def take(self, work: int) -> int | None:
        """Claim a piece of work, and return how many had it before; None where somebody who lives has it."""
        before = self._claimed(work)
        if before and self._holds(before[-1]):
            return None
        path = self._claims / f"{work:04d}-{len(before) + 1}"
        with disk_errors(path):
            try:
                descriptor = system.create(path)
            except FileExistsError:
                return None
            try:
                system.write(descriptor, json.dumps(self._told).encode("utf-8"))
            finally:
                system.close(descriptor)
        return len(before)

    def had(self, work: int, holder: Mapping[str, Any]) -> bool:
        """Tell whether a process is one that had a piece of work before: it is gone, or it could not have been taken."""
        return any(same_process(holder, _read(path) or {}) for path in self._claimed(work)[:-1])

    def _claimed(self, work: int) -> list[Path]:
        """Return the claims of a piece of work, oldest first."""
        found = self._claims.glob(f"{work:04d}-*")
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def _holds(self, claim: Path) -> bool:
        """Tell whether the process that made a claim still has it."""
        told = _read(claim)
        if told is None:  # just being written, or left so by a crash
            return time.time() - claim.stat().st_mtime < SILENT
        name = str(told.get("worker"))
        if self._closed(name):
            return False  # though its process may live on, a notebook say
        if told.get("host") != socket.gethostname():
            return self._beats_on(name)
        return name in _active if told.get("pid") == self._told["pid"] else lives(told)

    def _closed(self, name: str) -> bool:
        """Tell whether a worker gave back what it had."""
        return bool((_read(self._beats / f"{name}.json") or {}).get("over"))

    def deaths(self, work: int) -> int:
        """Return how many workers died at a piece of work; one that was stopped gave it back, one may go with who watched it."""
        names = [str((_read(path) or {}).get("worker")) for path in self._claimed(work)]
        return sum(name != self.name and self._died(name) for name in names)

    def _died(self, name: str) -> bool:
        told = _read(self._beats / f"{name}.json") or {}
        return bool(told.get("died")) or not (told.get("over") or told.get("watched"))

    def _beats_on(self, name: str) -> bool:
        """Tell whether a worker of another machine was heard of a short while ago."""
        told = _read(self._beats / f"{name}.json") or {}
        beat, now = int(told.get("beat", -1)), time.monotonic()
        if self._heard.get(name, (-2, 0.0))[0] != beat:
            self._heard[name] = (beat, now)
        return now - self._heard[name][1] < SILENT

    def close(self) -> None:
        """Give back what was claimed."""
        if self.name in _active:
            self._over.set()
            _active.discard(self.name)
            write_json(self._beats / f"{self.name}.json", {**self._told, "over": True})


def note_death(folder: Path, pid: int) -> None:
    """Keep for `Worker.deaths` that a worker of this machine died while the process that watched it lives.

    Args:
        folder: Of the worker.
        pid: Of its process, which has ended.

    Raises:
        ResourceError: The disk is full.
    """
    for path in (folder / WORKERS).glob("[!.]*.json"):
        told = _read(path) or {}
        ended = (told.get("host"), told.get("pid")) == (socket.gethostname(), pid) and not told.get("over")
        if ended and not lives(told):
            write_json(path, {**told, "died": True})


def at_work(folder: Path) -> bool:
    """Tell whether a worker of a folder lives: on this machine by its process, elsewhere by the age of its heartbeat."""
    for path in (folder / WORKERS).glob("[!.]*.json"):
        told = _read(path)
        if told is None or told.get("over"):
            continue
        if lives(told) if told.get("host") == socket.gethostname() else time.time() - path.stat().st_mtime < SILENT:
            return True
    return False


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a small file says; None where it is not there or not whole."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
