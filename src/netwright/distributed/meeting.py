"""How processes that were started together meet in a store that may hold what an earlier start left there. Floor 5.

torchrun keeps its store when it starts all again, and counts restarts on each machine by itself: one that only follows the restart
of another machine keeps its count (``TORCHELASTIC_RESTART_COUNT``), so the count does not tell one start from the next.
Source: https://docs.pytorch.org/docs/stable/elastic/agent.html
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

NAME = "netwright/start"  # the name that rank 0 gives this start
RESTARTS = "netwright/restarts"  # of the last start in which all met
PAUSE = 0.01  # seconds between two looks
LATER = 2.0  # seconds that the others wait longer than rank 0, which tells who is missing


@dataclass(frozen=True)
class Met:
    """What the processes of a start have in common: its name, and how often all were started again."""

    name: str
    restarts: int


class MissingError(RuntimeError):
    """Somebody did not come in time.

    Args:
        ranks: That did not come.
        told: Whether rank 0 tells it.
    """

    def __init__(self, ranks: list[int], told: bool) -> None:
        who = "rank" if len(ranks) == 1 else "ranks"
        super().__init__(f"{who} {', '.join(map(str, ranks[:20]))}{' ...' if len(ranks) > 20 else ''} did not come")
        self.told = told


def meet(store: Any, rank: int, size: int, restarts: int, timeout: float) -> Met:
    """Wait for all processes of this start.

    Args:
        store: That all share; of torch.distributed.
        rank: Of this process.
        size: How many there are.
        restarts: As the launcher of this machine counts them.
        timeout: Seconds that rank 0 waits.

    Raises:
        MissingError: Somebody did not come.
        RuntimeError: The store does not answer.

    Example:
        >>> import torch.distributed as dist
        >>> store = dist.HashStore()
        >>> first, again = meet(store, 0, 1, 0, 1.0), meet(store, 0, 1, 0, 1.0)
        >>> first.restarts, again.restarts, first.name == again.name
        (0, 1, False)
    """
    until = time.monotonic() + timeout
    return _lead(store, size, restarts, until) if rank == 0 else _follow(store, rank, size, restarts, until + LATER)


def _lead(store: Any, size: int, restarts: int, until: float) -> Met:
    """Be rank 0: name the start, wait for the others, and tell them who came."""
    name = uuid.uuid4().hex
    store.set(NAME, name)
    came: dict[int, dict[str, Any]] = {}
    while len(came) < size - 1:
        absent = [rank for rank in range(1, size) if rank not in came]
        came |= {rank: _read(store, _came(name, rank)) for rank in absent if store.check([_came(name, rank)])}
        if len(came) < size - 1 and time.monotonic() > until:
            missing = [rank for rank in absent if rank not in came]
            store.set(f"{name}/over", json.dumps({"tokens": _tokens(came), "missing": missing}))
            _wait(store, name, len(came))
            raise MissingError(missing, told=False)
        time.sleep(PAUSE)
    before = int(store.get(RESTARTS)) if store.check([RESTARTS]) else -1
    restarts = max(restarts, before + 1, *(one["restarts"] for one in came.values()))
    store.set(RESTARTS, str(restarts))
    store.set(f"{name}/over", json.dumps({"tokens": _tokens(came), "restarts": restarts}))
    return Met(name, restarts)


def _wait(store: Any, name: str, came: int) -> None:
    """Wait until all who came know who did not: the store may be of this process, and end with it."""
    until = time.monotonic() + LATER
    while store.add(f"{name}/known", 0) < came and time.monotonic() < until:
        time.sleep(PAUSE)


def _follow(store: Any, rank: int, size: int, restarts: int, until: float) -> Met:
    """Be another rank: tell rank 0 that this one came, again where what was found is of an earlier start."""
    token, told = uuid.uuid4().hex, ""
    while time.monotonic() < until:
        name = store.get(NAME).decode() if store.check([NAME]) else ""
        if name != told:
            store.set(_came(name, rank), json.dumps({"token": token, "restarts": restarts}))
            told = name
        over = _read(store, f"{name}/over") if name and store.check([f"{name}/over"]) else {"tokens": []}
        if token in over["tokens"]:
            if "missing" in over:
                store.add(f"{name}/known", 1)
                raise MissingError(over["missing"], told=True)
            return Met(name, int(over["restarts"]))
        time.sleep(PAUSE)
    here = bool(told) and not store.check([f"{told}/over"])  # rank 0 came so late that it waits for longer
    missing = [other for other in range(1, size) if not store.check([_came(told, other)])] if here else []
    raise MissingError(missing or [0], told=False)


def _came(name: str, rank: int) -> str:
    return f"{name}/came/{rank}"


def _read(store: Any, key: str) -> dict[str, Any]:
    return dict(json.loads(store.get(key)))


def _tokens(came: dict[int, dict[str, Any]]) -> list[str]:
    return [one["token"] for one in came.values()]
