"""Signs of life between neighbours, beside everything else, where torch itself may wait for a process that is gone. Floor 5.

Over NCCL a process waits for another one in a kernel, which no error ends: of a process that died there the others would learn by
torch's watchdog alone, which ends them after the timeout of the group. So every process listens all the time to the one before
it, in a ring, over a connection of gloo that the two have for that alone: such a one closes with its process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, final

import torch

from netwright.distributed.failures import (
    GRACE,
    PARTING,
    Links,
    LostError,
    StuckError,
    is_lost,
    left_behind,
    lost,
)
from netwright.distributed.world import World

ALIVE, LEFT, FAILED, GONE = range(4)  # the words: this process lives, is done, ends for an error, or misses another one
EVERY = 0.25  # seconds between two words, of which the shortest wait holds eight
SOON = 0.5  # seconds in which neighbours that live have heard of an error
LATEST = 60.0  # seconds in which a neighbour that is slow has heard that this process is done
FOREVER = timedelta(days=365)
ASKED = 5e-5  # seconds between two questions whether something is over
SLOW = 60.0  # seconds that a call of many steps may take at least: who is slow is not gone
CONNECT = 30.0  # seconds in which a neighbour that was just heard has made its side of a connection
LONGER = 30.0  # seconds that torch itself waits beyond that for work over links of ours, as a last resort


@contextmanager
def heard_by_neighbours(world: World, store: Any, ours: bool) -> Iterator[None]:
    """Let the others learn at once, for a block, that this process is gone, and end what waits here for one that is.

    Args:
        world: The processes; without links over NCCL gloo tells by itself, and nothing is done here.
        store: That all share; of torch.distributed.
        ours: Whether the links end with the block anyway. Else they stay where all processes fail for one reason.
    """
    if world.links is None:
        yield
        return
    if ours:
        world.links.wait_for(world.patience + LONGER)
    heart, latest = _Heart(world, world.links, store, 0.0 if ours else GRACE), min(LATEST, world.patience)
    try:
        yield
    except BaseException as error:
        well = isinstance(error, SystemExit) and not error.code
        word = LEFT if well else GONE if isinstance(error, LostError) else FAILED
        heart.end(word, latest if well else SOON)
        raise
    heart.end(LEFT, latest)


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
                    "live; expected none that is so late, and a network between the GPUs; see what NCCL_DEBUG=INFO tells, then "
                    "resume the run"
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
    """Tells the next process of the ring that this one lives, and listens to the process before.

    Three threads: one speaks, one listens, each of which may wait in gloo for a neighbour that is silent, and one watches the time.

    Args:
        world: The processes.
        links: To end where the one before is gone.
        store: That all share.
        grace: Seconds in which this process may fail by itself, after the one before did.
    """

    def __init__(self, world: World, links: Links, store: Any, grace: float) -> None:
        self._links, self._grace, self._patience = links, grace, world.patience
        self._every = min(EVERY, world.patience / 8)
        self._word, self._ending = ALIVE, threading.Event()
        self._heard = time.monotonic()
        to_next, from_before = _pairs(world, store)
        self._threads = [
            threading.Thread(target=work, args=given, name="netwright heartbeat", daemon=True)
            for work, given in ((self._speak, (to_next,)), (self._listen, (from_before,)), (self._watch, ()))
        ]
        self._speaking = self._threads[0]
        for thread in self._threads:
            thread.start()

    def end(self, word: int, seconds: float) -> None:
        """Say a last word and listen no longer; a neighbour that is silent is waited for some seconds, then left behind."""
        self._say(word)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            left_behind.append(self)

    def _say(self, word: int) -> None:
        """Say a last word, unless one was said."""
        self._word = self._word or word
        self._ending.set()

    def _miss(self, why: LostError) -> None:
        """End the links, and let the next process know, unless this one has ended."""
        if not self._ending.is_set():
            self._links.abandon(why)
            self._say(GONE)

    def _speak(self, group: Any) -> None:
        """Say every moment that this process lives, and the last word."""
        over = False
        while not over:
            over = self._ending.wait(self._every)
            try:
                group.send([torch.tensor([self._word], dtype=torch.uint8)], 1, 0).wait(FOREVER)
            except RuntimeError:  # it has left, or is gone: others hear of that
                return

    def _listen(self, group: Any) -> None:
        """Listen until the process before said its last word, or this one did; miss one that is gone."""
        heard = torch.tensor([ALIVE], dtype=torch.uint8)
        try:
            while heard == ALIVE and (self._speaking.is_alive() or not self._ending.is_set()):
                group.recv([heard], 0, 0).wait(FOREVER)
                self._heard = time.monotonic()
        except RuntimeError as error:
            if not is_lost(error):
                raise
            self._miss(lost(error))
            return
        self._heard = float("inf")  # nothing more is to be heard
        if heard == FAILED:
            self._ending.wait(self._grace)
        if heard in (FAILED, GONE):
            self._miss(LostError("it ended while others waited for it"))

    def _watch(self) -> None:
        """Miss a process that is silent; seconds in which this one stood still itself do not count."""
        before = time.monotonic()
        while not self._ending.wait(self._every):
            now = time.monotonic()
            if now - before > 4 * self._every:
                self._heard += now - before
            before = now
            if now - self._heard > self._patience:
                self._miss(LostError(f"nothing was heard from it for {self._patience:g} s"))


def _pairs(world: World, store: Any) -> tuple[Any, Any]:
    """Return the connections to the next process, in which this one is the first, and from the one before, in which it is second.

    Processes with even numbers make that to the next one first, the others that from the one before: nobody waits in a ring.
    """
    import torch.distributed as dist

    waits = timedelta(seconds=min(CONNECT, world.patience / 2))
    ring = store.add(f"netwright/rings/{world.rank}", 1)  # a process may join others again

    def pair(first: int, place: int) -> Any:
        own = dist.PrefixStore(f"netwright/ring/{ring}/{first}", store)  # type: ignore[attr-defined]
        return dist.ProcessGroupGloo(own, place, 2, timeout=waits)

    before = (world.rank - 1) % world.size
    if world.rank % 2 == 0:
        to_next = pair(world.rank, 0)
        return to_next, pair(before, 1)
    from_before = pair(before, 1)
    return pair(world.rank, 0), from_before
