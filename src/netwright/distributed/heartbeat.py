"""Signs of life between neighbours, beside everything else, where torch itself may wait for a process that is gone. Floor 5.

Over NCCL a process waits for another one in a kernel, which no error ends: of a process that died there the others would learn by
torch's watchdog alone, which ends them after the timeout of the group. So every process listens all the time to the one before
it, in a ring, over the connections of gloo that are there anyway: such a one closes with its process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, final

import torch

from netwright.distributed.failures import GRACE, PARTING, Links, LostError, StuckError, is_lost, lost
from netwright.distributed.world import World

ALIVE, LEFT, FAILED, GONE = range(4)  # the words: this process lives, is done, ends for an error, or misses another one
EVERY = 0.25  # seconds between two words
TAG = 7_317  # of the words among what is sent over the same connections
SOON = 2 * EVERY  # seconds in which neighbours that live have heard a last word
ASKED = 5e-5  # seconds between two questions whether something is over
SLOW = 60.0  # seconds that a call of many steps may take at least: who is slow is not gone
SOONER = 2.0  # seconds before torch's watchdog would end everything


@contextmanager
def heard_by_neighbours(world: World) -> Iterator[None]:
    """Let the others learn at once, for a block, that this process is gone, and end what waits here for one that is.

    Args:
        world: The processes; without links over NCCL gloo tells by itself, and nothing is done here.
    """
    if world.links is None:
        yield
        return
    heart = _Heart(world, world.links)
    try:
        yield
    except BaseException as error:
        heart.end(GONE if isinstance(error, LostError) else FAILED, SOON)
        raise
    heart.end(LEFT, PARTING)


def over_in_all(world: World, over: Callable[[], bool]) -> None:
    """Wait until what processes do together is over in this one, such as work of a GPU; signals stay what they are.

    Args:
        world: The processes.
        over: Tells whether it is over; asked again and again.

    Raises:
        netwright.distributed.failures.LostError: Another process is gone, or all live and it does not end.
    """
    seconds = max(world.patience, SLOW)
    late = time.monotonic() + seconds
    try:
        while not (world.broken or over()):
            time.sleep(ASKED)
            if time.monotonic() > late:
                raise StuckError(
                    f"what the GPUs of all {world.size} processes do together did not end within {seconds:g} s, and all processes "
                    "live; expected a network between the GPUs; see what NCCL_DEBUG=INFO tells, then resume the run"
                )
    except BaseException as error:
        world.abandon(lost(error))
        raise
    if world.broken:
        until = time.monotonic() + PARTING
        while not over() and time.monotonic() < until:  # what waits for it is ended, so that nothing else waits
            time.sleep(ASKED)
        world.refuse_broken()


@final
class _Heart:
    """Two threads: one tells the next process of the ring that this one lives, one listens to the process before.

    Args:
        world: The processes.
        links: To end where the one before is gone.
    """

    def __init__(self, world: World, links: Links) -> None:
        self._links = links
        self._patience = timedelta(seconds=world.patience - min(world.patience / 4, SOONER))
        self._word, self._ending = ALIVE, threading.Event()
        group, rank, size = world.group._get_backend(torch.device("cpu")), world.rank, world.size
        self._speaking = threading.Thread(
            target=self._speak, args=(group, (rank + 1) % size), name="netwright heartbeat", daemon=True
        )
        self._listening = threading.Thread(
            target=self._listen, args=(group, (rank - 1) % size), name="netwright listening", daemon=True
        )
        self._speaking.start()
        self._listening.start()

    def end(self, word: int, seconds: float) -> None:
        """Say a last word, and listen no longer; a neighbour that is silent is waited for some seconds."""
        self._say(word)
        until = time.monotonic() + seconds
        for thread in (self._speaking, self._listening):
            thread.join(max(0.0, until - time.monotonic()))

    def _say(self, word: int) -> None:
        """Say a last word, unless one was said."""
        self._word = self._word or word
        self._ending.set()

    def _speak(self, group: Any, following: int) -> None:
        """Say every moment that this process lives, and the last word."""
        over = False
        while not over:
            over = self._ending.wait(EVERY)
            try:
                group.send([torch.tensor([self._word], dtype=torch.uint8)], following, TAG).wait()
            except RuntimeError:  # it has left, or is gone: others hear of that
                return

    def _listen(self, group: Any, before: int) -> None:
        """Listen until the process before has left or this one has said its last word; end the links where it is gone."""
        heard = torch.tensor([ALIVE], dtype=torch.uint8)
        try:
            while heard == ALIVE and (self._speaking.is_alive() or not self._ending.is_set()):
                group.recv([heard], before, TAG).wait(self._patience)
            if heard in (ALIVE, LEFT):
                return
            if heard == FAILED:  # maybe all do, for one reason: their links may be somebody else's
                self._ending.wait(GRACE)
            found = LostError("it ended while others waited for it")
        except RuntimeError as error:
            if not is_lost(error):
                raise
            found = lost(error)
        if not self._ending.is_set():
            self._links.abandon(found)
            self._say(GONE)
