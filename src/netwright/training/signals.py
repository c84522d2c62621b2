"""Signals ask, the loop acts: Ctrl-C and SIGTERM to save and stop after the step, SIGUSR1 to save and go on.

Where a launcher started the process SIGUSR1 is its warning that the time ends: save and stop.

The handlers only set a flag; a second Ctrl-C leaves at once. Floor 9.
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
TIME = 1  # among the reasons to stop: the end of its time; the others are numbers of signals


@dataclass
class StopRequest:
    """Whether and by which signal a stop was asked for, and whether a checkpoint was.

    ``until`` is when it asks by itself, by `time.monotonic`. Where several processes train it is true once they `agree`.
    """

    signal_number: int | None = None
    save: bool = False
    until: float | None = None
    agreed: int | None = None

    def __str__(self) -> str:
        if self.signal_number is None:
            return "the end of its time"
        return "Ctrl-C" if self.signal_number == signal.SIGINT else signal.Signals(self.signal_number).name

    def __bool__(self) -> bool:
        return bool(self.asked if self.agreed is None else self.agreed)

    @property
    def asked(self) -> int:
        """The signal that came to this process, `TIME`, or 0 for none."""
        if self.signal_number is not None:
            return self.signal_number
        return TIME if self.until is not None and time.monotonic() >= self.until else 0

    def agree(self, number: int) -> None:
        """Take over what all processes agree on: a signal, `TIME`, or 0 for going on."""
        self.agreed = number
        if number > TIME:
            self.signal_number = number


@contextmanager
def stop_on_signals(until: float | None = None, warned: bool = False) -> Iterator[StopRequest]:
    """Install handlers that only set a flag, in the main thread, and put the old ones back.

    Args:
        until: When a stop is asked for without a signal, by `time.monotonic`; None for never.
        warned: Whether SIGUSR1 is a warning of a launcher, and so a reason to stop.
    """
    request = StopRequest(until=until)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == SAVE and not warned:
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
