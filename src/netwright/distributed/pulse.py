"""Processes that are busy by themselves say that they live, so that a slow one is not taken for one that is gone. Floor 5."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

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
    done, missed, left = threading.Event(), list[Exception](), False
    wakes = threading.current_thread() is threading.main_thread()

    def beat() -> None:
        ready = left_by = 0
        try:
            while ready < world.size and not left_by:
                here = done.wait(PULSE)
                ready, left_by = world.total(torch.tensor([int(here), int(here and left)])).tolist()
        except Exception as error:  # raised by the thread that asked
            missed.append(error)
            if wakes and not done.is_set():
                _interrupt()

    thread = threading.Thread(target=beat, name="netwright pulse", daemon=True)
    thread.start()
    try:
        try:
            return make()
        except BaseException as error:
            left = not missed and not isinstance(error, Exception)  # the others learn of it where they speak next
            raise
        finally:
            done.set()
            thread.join()
            time.sleep(0)  # an interruption that was on its way comes here
            if missed and not left:
                raise missed[0]
    except KeyboardInterrupt:
        if not missed:
            raise
        done.set()
        raise missed[0] from None


def _interrupt() -> None:
    """Let the main thread raise KeyboardInterrupt, out of a call that waits too where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
