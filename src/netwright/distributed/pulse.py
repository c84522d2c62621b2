"""Processes that are busy by themselves say that they live, so that a slow one is not taken for one that is gone. Floor 5."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TypeVar, final

import torch

from netwright.distributed.world import World

Value = TypeVar("Value")
PULSE = 0.25  # seconds between two signs of life, of which the shortest --peer-timeout holds two


def done_by_all(world: World, make: Callable[[], Value]) -> Value:
    """Do what takes each process its own time, and return once all are done with it, however long that takes one that lives.

    Beside it a thread adds up, a few times a second and over all processes, how many are done: who is gone, or silent for longer
    than is waited, is missed there, and what is done here is interrupted. It says nothing to the others meanwhile.

    Args:
        world: The processes; every one must ask.
        make: Is called in each.

    Returns:
        What it gave here.

    Raises:
        netwright.distributed.failures.LostError: Another process is gone.
        Exception: What ``make`` raised here, once the others are done.

    Example:
        >>> from netwright.distributed.world import ALONE
        >>> done_by_all(ALONE, lambda: 3)
        3
    """
    if world.alone:
        return make()
    main, missed = threading.current_thread() is threading.main_thread(), list[Exception]()
    with _interruptible(missed) if main else nullcontext():
        return _done_beside(_Pulse(world, _interrupt if main else None, missed), make)


def _done_beside(pulse: _Pulse, make: Callable[[], Value]) -> Value:
    """Do what takes this process its own time, beside a pulse; see `done_by_all`."""
    try:
        try:
            return make()
        except BaseException as error:
            stopped = not isinstance(error, Exception)  # the others learn of it where they speak next
            pulse.left = stopped and not pulse.missed
            raise
        finally:
            pulse.end()
            time.sleep(0)  # an interruption that was on its way comes here
            if pulse.missed and not pulse.left:
                raise pulse.missed[0]
    except KeyboardInterrupt:
        if not pulse.missed:
            raise
        pulse.done.set()
        raise pulse.missed[0] from None


@contextmanager
def _interruptible(missed: Sequence[Exception]) -> Iterator[None]:
    """Let an interruption of ours come through in a block where Ctrl-C is ignored, as it is in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if missed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@final
class _Pulse:
    """A thread that says for this process that it lives, until all are done.

    Args:
        world: The processes.
        wake: Called where another process is missed before this one is done.
        missed: Gets the error of the one that is.

    ``left`` says that this one leaves without being done.
    """

    def __init__(self, world: World, wake: Callable[[], None] | None, missed: list[Exception]) -> None:
        self.done, self.missed, self.left = threading.Event(), missed, False
        self._world, self._wake = world, wake
        self._thread = threading.Thread(target=self._beat, name="netwright pulse", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Say that this process is done, and wait until all are, or one is missed."""
        self.done.set()
        self._thread.join()

    def _beat(self) -> None:
        ready = left_by = 0
        try:
            while ready < self._world.size and not left_by:
                here = self.done.wait(PULSE)
                ready, left_by = self._world.total(torch.tensor([int(here), int(here and self.left)])).tolist()
        except Exception as error:  # raised by the thread that asked
            self.missed.append(error)
            if self._wake is not None and not self.done.is_set():
                self._wake()


def _interrupt() -> None:
    """Let the main thread raise KeyboardInterrupt, out of a call that waits too where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
