"""One writer per folder: a lock file that says who holds it, and that the system gives back when its holder dies.

The lock is a record lock of POSIX, which a killed process loses at once and a forked one does not inherit. Where the
file system has none, the words in the file decide: the host, the process and when it started. Floor 0.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from netwright.errors import FolderInUseError, ResourceError
from netwright.files import system

NAME = "run.lock"
SHORT = 0.02  # seconds
LINGER = 5.0  # seconds in which a process that its launcher ends may still be there
TRIES = 20  # to open a lock file that its holder removes at this moment
ENDED = ("Z", "X")  # states of a process
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_turn = threading.Lock()  # of the threads of this process, between which a record lock makes no difference
_held: set[tuple[int, int]] = set()  # lock files of this process, by device and number: its record locks never collide


@final
class Lock:
    """The right to write into a folder, held until it is released.

    Args:
        folder: An existing folder.
        launch: Which launch of several processes its holder is of, in plain values; None without one.
        name: Of the lock file, where it is the right to make one thing in the folder.

    Raises:
        FolderInUseError: Another process holds it; host, process and start are named.
        ResourceError: The folder cannot be written.
    """

    def __init__(self, folder: Path, launch: Mapping[str, Any] | None = None, name: str = NAME) -> None:
        self._path, self._launch = folder / name, launch
        with _turn:
            self._take(folder)

    def _take(self, folder: Path) -> None:
        """Take the lock, with a new file where its holder removes it at this moment."""
        for _ in range(TRIES):
            if _ours(self._path):  # opening and closing the file would give the lock back
                raise _in_use(self._path, identity())
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            except OSError as error:
                raise ResourceError(
                    f"{self._path}: cannot be written ({error.strerror}); expected a writable run folder; check it"
                ) from error
            if self._taken():
                return
            os.close(self._descriptor)
        raise FolderInUseError(f"{folder}: its lock comes and goes; expected one writer at a time; try again")

    def _taken(self) -> bool:
        """Take the lock; false where its file was removed meanwhile."""
        here = os.fstat(self._descriptor)
        self._key = (here.st_dev, here.st_ino)
        if not _record_lock(self._descriptor, self._path):
            holder = _holder(self._descriptor)
            for _ in range(TRIES):
                if holder:
                    break
                time.sleep(SHORT)  # it has taken the lock and not yet said who it is
                holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise _in_use(self._path, holder)
        if not self._path.exists() or os.stat(self._path).st_ino != here.st_ino:
            return False
        holder = _holder(self._descriptor)
        if holder and holder.get("host") != socket.gethostname():
            os.close(self._descriptor)
            raise _in_use(self._path, holder, f"; if that process is gone, remove the lock: rm {self._path}")
        told = identity() if self._launch is None else {**identity(), "launch": dict(self._launch)}
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        system.write(self._descriptor, json.dumps(told).encode("utf-8"))
        _held.add(self._key)
        return True

    def moved(self, folder: Path) -> None:
        """Note that the folder has another name now."""
        self._path = folder / self._path.name

    def touch(self) -> None:
        """Give a sign of life, which processes of other machines see: the file is as new as now."""
        with suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Remove the lock file and let others write."""
        with _turn:
            if self._key not in _held:
                return
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise ResourceError(f"{self._path}: cannot be removed ({error.strerror}); remove it by hand") from error
            finally:
                _held.discard(self._key)
                os.close(self._descriptor)


def _ours(path: Path) -> bool:
    """Tell whether this process holds the lock file."""
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) in _held


def holder_of(folder: Path) -> str | None:
    """Return in words which living process writes into a folder; None where nobody seems to."""
    if _ours(folder / NAME):
        return "this process"
    told = _told(folder / NAME)
    return process_words(told) if told is not None and lives(told) else None


def _told(path: Path) -> dict[str, Any] | None:
    """Return what a lock file says; None where there is none, or its holder has not yet said who it is."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _record_lock(descriptor: int, path: Path) -> bool:
    """Take the system's lock, or read who holds it where the file system has none."""
    try:
        import fcntl
    except ImportError:  # Windows
        return not lives(_holder(descriptor))
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno in UNSUPPORTED:
            return not lives(_holder(descriptor))
        raise ResourceError(f"{path}: cannot be locked ({error.strerror}); expected a file system with locks") from error
    return True


def _holder(descriptor: int) -> dict[str, Any]:
    """Return what the lock file says; nothing where its holder is just writing it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        told = json.loads(os.read(descriptor, 4096) or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def identity() -> dict[str, Any]:
    """Return which process of which machine this is."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join([Path(sys.argv[0]).name if sys.argv else "python", *sys.argv[1:]])[:200],
    }


def _born(pid: int) -> str | None:
    """Return when a process started, in ticks since the machine did; None where the system does not say, or it has ended.

    One that has ended, and whose parent has not asked how, still has a number; it holds nothing any more.
    """
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if told[0] in ENDED else told[19]
    except (OSError, IndexError):
        return None


def lives(told: dict[str, Any]) -> bool:
    """Tell whether a process, as `identity` named it, runs on this host; of another host it is taken for granted."""
    if not told or not isinstance(told.get("pid"), int):
        return False
    if told.get("host") != socket.gethostname():
        return True
    return process_lives(told["pid"]) and _born(told["pid"]) == told.get("born")


def break_lock_elsewhere(folder: Path, gone: Callable[[Mapping[str, Any]], bool]) -> None:
    """Remove a lock whose holder, on another machine, is known to be gone; of this machine the system says who lives.

    Args:
        folder: A run folder.
        gone: Tells by what the holder says of itself whether it is gone.
    """
    told = _told(folder / NAME)
    if told is not None and told.get("host") != socket.gethostname() and gone(told):
        (folder / NAME).unlink(missing_ok=True)


def same_process(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two `identity` are of one process."""
    return all(one.get(part) == other.get(part) for part in ("host", "pid", "born"))


def break_lock_of(folder: Path, ended: Callable[[object], bool]) -> None:
    """Remove a lock whose holder is of a launch that is known to have ended it; never that of a process that lives here.

    Args:
        folder: A run folder.
        ended: Tells by the plain values of the holder's launch whether its processes were ended.
    """
    path = folder / NAME
    if _ours(path):
        return
    told = _told(path)
    if told is None or not ended(told.get("launch")):
        return
    end = time.monotonic() + LINGER
    while told.get("host") == socket.gethostname() and lives(told):
        if time.monotonic() > end:
            return
        time.sleep(SHORT)
    path.unlink(missing_ok=True)


def process_name(pid: int) -> str:
    """Return a name of a process of this machine that no other has: host, number and start."""
    return f"{socket.gethostname()}:{pid}:{_born(pid)}"


def process_lives(pid: int) -> bool:
    """Tell whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def process_words(told: Mapping[str, Any]) -> str:
    """Return in words which process `identity` named; that it is another one where it names none."""
    return f"{told.get('host')}, process {told.get('pid')}, since {told.get('started')}" if told else "another process"


def _in_use(path: Path, holder: Mapping[str, Any], more: str = "") -> FolderInUseError:
    who = process_words(holder)
    error = FolderInUseError(
        f"{path.parent}: in use by {who}; expected one writer at a time; wait for it or name another folder{more}"
    )
    error.holder = holder
    return error
