"""A worker ends with the process that started it, or where it is told to; called before anything heavy is imported. Floor 17."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

PARENT_DEATH_SIGNAL = 1  # of prctl, PR_SET_PDEATHSIG


def die_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended: nothing of a run is lost by it.

    The system is asked to on Linux (``prctl``, PR_SET_PDEATHSIG); elsewhere the end of standard input, a pipe that the parent
    holds open, tells it.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)

    def listen() -> None:
        while os.read(sys.stdin.fileno(), 1):
            continue
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()


def leave_on_sigterm() -> None:
    """Let SIGTERM end this process in order, so that it gives back what it claimed; a training that goes on saves first."""
    signal.signal(signal.SIGTERM, _leave)


def leave_undisturbed() -> None:
    """Let no second SIGTERM break off what a process does at its end; one that does not `leave_on_sigterm` stays as it is."""
    if signal.getsignal(signal.SIGTERM) is _leave:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    leave_undisturbed()
    sys.exit(128 + number)
