"""What becomes of a training of several processes when one of them fails: all end, one tells why. Floor 5.

A process that fails writes its reason into the store that all of them share and closes its links, so that the others fail at
once instead of waiting; they look there for the reason. One that wrote nothing is gone, and is named.
"""

from __future__ import annotations

import gc
import json
import re
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, final

from netwright import errors
from netwright.errors import NetwrightError, first_line

GRACE = 5.0  # seconds in which the others are heard
ANSWER = 5.0  # seconds in which the store must answer at all
PATIENCE = 15.0  # seconds in which it must have answered everything: longer than the others are heard
SETTLING = 8.0  # seconds between the moment in which another one is missed and the end: the others are heard, one tells
PARTING = 2.0  # seconds in which links to a process that is gone are closed; what does not return by then is left behind
SPEAKING = 1.0  # seconds that the one that tells needs for its line
SIGNS = ("gloo", "NCCL", "ProcessGroup", "Connection closed by peer", "Connection reset by peer", "Socket Timeout")
left_behind: list[Any] = []  # links that cannot be closed: torch breaks a process off that ends with such a one


class LostError(NetwrightError):
    """Another process of the training is gone, or was silent for longer than is waited (exit 6)."""

    exit_code = 6


class StuckError(LostError):
    """What processes do together does not end, though all of them live (exit 6)."""


def heard_within(timeout: float) -> float:
    """Return how long a process waits for another one, where all shall have ended within some seconds, with a reason.

    Example:
        >>> heard_within(600.0), heard_within(10.0)
        (592.0, 5.0)
    """
    return max(timeout - SETTLING, timeout / 2)


def is_lost(error: BaseException) -> bool:
    """Tell whether an error of torch says that another process cannot be heard.

    Example:
        >>> is_lost(RuntimeError("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:2948"))
        True
    """
    import torch.distributed as dist

    found = isinstance(error, LostError | dist.DistError)
    return found or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))


def lost(error: BaseException) -> LostError:
    """Return what to say of an error of torch that says that another process cannot be heard.

    Example:
        >>> str(lost(RuntimeError("[.../unbound_buffer.cc:78] Timed out waiting 5000ms for recv operation to complete")))
        'nothing was heard from it for 5 s'
    """
    if isinstance(error, LostError):
        return error
    waited = re.search(r"(?:[Tt]imed out waiting|wait timeout after) (\d+)ms", str(error))
    if waited:
        return LostError(f"nothing was heard from it for {int(waited[1]) / 1000:g} s")
    return LostError("its connection closed" if "onnection" in str(error) else first_line(error))


@final
class Links:
    """The links of a process over NCCL, which end with a process that is gone.

    A kernel of NCCL waits for another process for ever, and everything after it, ``destroy_process_group`` too, for the kernel;
    ``abort`` ends it. That call itself does not return as long as a CUDA graph holds the link, so that nobody may wait for it.

    Args:
        backend: torch's ProcessGroupNCCL.

    ``broken`` says why they were ended, once they are: what was computed since then means nothing.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.broken = ""
        self._aborting: threading.Thread | None = None
        self._alone = threading.Lock()

    @classmethod
    def of(cls, dist: Any) -> Links | None:
        """Return those of the default group; None without NCCL."""
        if not dist.is_nccl_available():
            return None
        world = dist.group.WORLD
        found = [world._get_backend(device) for device in world._device_types if device.type == "cuda"]
        plain = [getattr(one, "wrapped_pg", one) for one in found]  # as TORCH_DISTRIBUTED_DEBUG=DETAIL wraps it
        return next((cls(one) for one in plain if isinstance(one, dist.ProcessGroupNCCL)), None)

    def wait_for(self, seconds: float) -> None:
        """Let torch itself wait so long before it breaks the process off."""
        self._backend._set_default_timeout(timedelta(seconds=seconds))

    def abandon(self, why: LostError) -> None:
        """Begin to end them, once."""
        with self._alone:
            self.broken = self.broken or str(why)
            if self._aborting is None:
                self._aborting = threading.Thread(target=self._abort, name="netwright abort", daemon=True)
                self._aborting.start()

    def left(self, error: BaseException, leave: Callable[[], None]) -> bool:
        """Leave, once what the error holds of the run, its graphs too, has been let go; tell whether that ended in time."""
        chain: list[BaseException] = [error]
        for one in chain:
            traceback.clear_frames(one.__traceback__)
            chain += [other for other in (one.__cause__, one.__context__) if other is not None and other not in chain]
        gc.collect()
        leaving = threading.Thread(target=self._leave, args=(leave,), name="netwright leaving", daemon=True)
        leaving.start()
        leaving.join(PARTING)
        return not leaving.is_alive()

    def _leave(self, leave: Callable[[], None]) -> None:
        if self._aborting is not None:
            self._aborting.join()
        with suppress(RuntimeError):  # what was ended cannot be closed again
            leave()

    def _abort(self) -> None:
        with suppress(RuntimeError):  # they have ended by themselves
            self._backend.abort()


def parted(links: Links | None, error: BaseException, leave: Callable[[], None]) -> bool:
    """Close what binds a process that failed to the others; tell whether it is closed, as links over NCCL may not be.

    Args:
        links: Over NCCL, where there are any.
        error: That ends the training.
        leave: Closes everything.
    """
    if links is None:
        leave()
        return True
    links.abandon(lost(error))
    return links.left(error, leave)


@final
class Reports:
    """What the processes of a training write down when they end.

    Args:
        store: That all share.
        rank: Of this process.
        size: How many processes there are.
        seconds: In which all shall have ended.
    """

    def __init__(self, store: Any, rank: int, size: int, seconds: float = SETTLING) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._grace, self._speaking = GRACE * seconds / SETTLING, SPEAKING * seconds / SETTLING

    def left(self) -> None:
        """Write down that this process ended well."""
        try:
            self._store.set(self._key(self._rank), json.dumps({"left": True}))
        except RuntimeError:  # the store went with the machine that held it; nobody is left to ask
            return

    def settled(self, error: Exception) -> Exception:
        """Return the error to end with: that of the process that failed first, where another one did.

        Args:
            error: Of this process. Where another one tells it, its ``quiet`` is true.
        """
        found: list[Exception] = []
        answered = threading.Event()
        asking = threading.Thread(target=lambda: found.append(self._asked(error, answered)), daemon=True)
        asking.start()
        if answered.wait(ANSWER):  # a store behind a broken link answers neither yes nor no
            asking.join(PATIENCE)
        return found[0] if found else self._gone("the store does not answer") if is_lost(error) else error

    def _asked(self, error: Exception, answered: threading.Event) -> Exception:
        """Return what `settled` does, by asking the store; tell when it has answered for the first time."""
        unheard = is_lost(error)
        mine = {"lost": unheard, "kind": type(error).__name__, "text": str(error)}
        try:
            try:
                self._store.set(self._key(self._rank), json.dumps(mine))
                self._store.check([self._key(self._rank)])  # to set waits for no answer
            finally:
                answered.set()
            told = self._heard()
        except RuntimeError as problem:
            if not unheard:
                return error
            return self._gone(first_line(problem))
        found, tells = self._together(error, told)
        found.quiet = not tells  # type: ignore[attr-defined]
        with suppress(RuntimeError):  # the store went with the one that tells
            self._take_turns([rank for rank, one in told.items() if not one.get("left")], tells)
        return found

    def _gone(self, why: str) -> LostError:
        return LostError(
            f"rank {self._rank} of {self._size}: the other processes and the store they shared are gone ({why}); expected them "
            "until the end; look at the machine of rank 0 and the network, then resume the run"
        )

    def _key(self, rank: int) -> str:
        return f"netwright/ended/{rank}"

    def _heard(self) -> dict[int, dict[str, Any]]:
        """Return what each process wrote, of those that did within a short time."""
        found: dict[int, dict[str, Any]] = {}
        until = time.monotonic() + self._grace
        while len(found) < self._size and time.monotonic() < until:
            for rank in range(self._size):
                if rank not in found and self._store.check([self._key(rank)]):
                    found[rank] = json.loads(self._store.get(self._key(rank)))
            time.sleep(0.02)
        return found

    def _together(self, error: Exception, told: dict[int, dict[str, Any]]) -> tuple[Exception, bool]:
        """Return the error of all, and whether this process tells it."""
        failed = {rank: one for rank, one in sorted(told.items()) if not one.get("left")}
        causes = {rank: one for rank, one in failed.items() if not one["lost"]}
        found = error
        if causes and not (self._rank in causes and len({one["text"] for one in causes.values()}) == 1):
            rank, cause = next(iter(causes.items()))
            found = error_of(rank, cause["kind"], cause["text"])
        elif causes and len(causes) < len(failed):
            mine = causes[self._rank]
            found = error_of(self._rank, mine["kind"], mine["text"])
        elif not causes:
            found = self._missing([rank for rank in range(self._size) if rank not in told], lost(error))
        return found, self._rank == min(failed)

    def _take_turns(self, failed: list[int], tells: bool) -> None:
        """Let the one that tells end first, but for those that it waits for: launchers end all as soon as one ends."""
        if tells:
            self._store.set("netwright/telling", "")
            self._wait([f"netwright/heard/{rank}" for rank in failed if rank != self._rank])  # it may hold the store
        else:
            self._wait(["netwright/telling"])
            self._store.set(f"netwright/heard/{self._rank}", "")
            time.sleep(self._speaking)

    def _wait(self, keys: list[str]) -> None:
        """Wait until others have written some keys, or for a short time."""
        until = time.monotonic() + self._grace
        while keys and not self._store.check(keys) and time.monotonic() < until:
            time.sleep(0.02)

    def _missing(self, ranks: list[int], error: LostError) -> Exception:
        if not ranks and isinstance(error, StuckError):
            return error
        if not ranks:
            return LostError(f"the processes cannot hear each other ({error}); expected a network between them; see to it")
        named = ", ".join(map(str, ranks))
        what = f"rank {named} of {self._size} is" if len(ranks) == 1 else f"ranks {named} of {self._size} are"
        return LostError(
            f"{what} gone ({error}); expected all processes until the end; see what ended it (memory, machine, network), then "
            "resume the run"
        )


def error_of(rank: int, kind: str, text: str) -> Exception:
    """Return the error that a process told of, of its class where that is one of ours.

    Args:
        rank: Of the process.
        kind: The name of the class.
        text: The message.

    Example:
        >>> error_of(1, "DataError", "rows.csv: no such file"), error_of(2, "KeyError", "'a'")
        (DataError('rank 1: rows.csv: no such file'), RuntimeError("rank 2: KeyError: 'a'"))
    """
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, NetwrightError):
        return known(f"rank {rank}: {text}")
    return RuntimeError(f"rank {rank}: {kind}: {text}")
