"""One maker per thing: processes that need the same file or folder make it one after the other, so that it is made once. Floor 0.

What is made must appear at once, by a rename: then two who make it do no harm, and a maker on another machine that gives no sign of
life is not waited for.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netwright.errors import FolderInUseError
from netwright.files.locks import Lock, process_words

WAIT = 0.1  # seconds between two looks
PATIENCE = 2.0  # seconds after which it is told who is waited for
PULSE = 10.0  # seconds between two signs of life of a maker
SILENCE = 60.0  # seconds without one, after which a maker on another machine is taken for gone


@contextmanager
def waited(entry: Path, done: Callable[[], bool], patient: bool = True) -> Iterator[bool]:
    """Hold the right to make a file or folder for a block, once nobody else makes it.

    A maker on this machine is waited for as long as it lives, one on another machine as long as it gives signs of life. Who is
    waited for is told to the log ``netwright``, which Python writes to stderr unless a program says otherwise.

    Args:
        entry: What is made, in an existing folder; the lock lies beside it.
        done: Tells whether there is nothing left to make; then nobody is waited for.
        patient: Whether to wait; else the block learns that somebody else makes it.

    Yields:
        Whether nobody else makes it: the right is held, or there is nothing left to make.

    Raises:
        ResourceError: The folder cannot be written.
    """
    lock = _taken(entry, done, patient)
    if lock is None:
        yield done()
        return
    ended = threading.Event()
    pulse = threading.Thread(target=_live, args=(lock, ended), name="netwright lock", daemon=True)
    pulse.start()
    try:
        yield True
    finally:
        ended.set()
        pulse.join()
        lock.release()


def _taken(entry: Path, done: Callable[[], bool], patient: bool) -> Lock | None:
    """Return the lock of an entry, waited for; None where the entry is done before, or without patience somebody has it."""
    path = entry.with_name(f".{entry.name}.lock")
    begun = heard = time.monotonic()
    sign, told = _sign(path), False
    while not done():
        try:
            return Lock(path.parent, name=path.name)
        except FolderInUseError as error:
            holder = error.holder
        if not patient:
            return None
        now, latest = time.monotonic(), _sign(path)
        if latest != sign:
            sign, heard = latest, now
        if not told and now - begun >= PATIENCE:
            _tell(f"{entry}: waiting for {process_words(holder)}, which makes it")
            told = True
        if holder.get("host", socket.gethostname()) != socket.gethostname() and now - heard >= SILENCE:
            _tell(f"{entry}: {process_words(holder)}, gave no sign of life for {SILENCE:.0f} seconds; it is made here")
            path.unlink(missing_ok=True)  # so that the others here wait for one of them
            continue
        time.sleep(WAIT)
    return None


def _sign(path: Path) -> tuple[Any, ...] | None:
    """Return what changes while the holder of a lock lives; other machines' clocks do not matter."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _live(lock: Lock, ended: threading.Event) -> None:
    """Give signs of life until the end."""
    while not ended.wait(PULSE):
        lock.touch()


def _tell(text: str) -> None:
    import logging

    logging.getLogger("netwright").warning(text)
