"""Signals ask, the loop acts: Ctrl-C and SIGTERM to save and stop after the step, SIGUSR1 to save and go on.

The handlers only set a flag; a second Ctrl-C leaves at once. Floor 7.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SAVE = getattr(signal, "SIGUSR1", None)  # Windows has none
STOP = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether and by which signal a stop was asked for, and whether a checkpoint was.

    ``until`` is when it asks by itself, by `time.monotonic`.
    """

    signal_number: int | None = None
    save: bool = False
    until: float | None = None

    def __str__(self) -> str:
        if self.signal_number is None:
            return "the end of its time"
        return "Ctrl-C" if self.signal_number == signal.SIGINT else signal.Signals(self.signal_number).name

    def __bool__(self) -> bool:
        return self.signal_number is not None or (self.until is not None and time.monotonic() >= self.until)


@contextmanager
def stop_on_signals(until: float | None = None) -> Iterator[StopRequest]:
    """Install handlers that only set a flag, in the main thread, and put the old ones back.

    Args:
        until: When a stop is asked for without a signal, by `time.monotonic`; None for never.
    """
    request = StopRequest(until=until)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == SAVE:
            request.save = True
            return
        if request.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_number = number

    numbers = STOP if SAVE is None else (*STOP, SAVE)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
