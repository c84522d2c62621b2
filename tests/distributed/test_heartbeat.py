"""A process that dies while the others wait for it in a kernel of NCCL, for which stand-ins wait here, ends them all the same."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as torch_distributed
from ranks import Nccl, Ranks, command, data, steps_of, training, until
from torch import nn

from netwright.distributed import failures, heartbeat
from netwright.distributed.world import World
from netwright.engine import shared
from netwright.engine.eager import EagerEngine
from netwright.pipeline.dealing import final_weights, whole_beginning
from netwright.training.loop import Progress


def dies_in_the_exchange() -> None:
    """Let the second process die in a step, after what all tell each other in it, where the others wait for its gradients."""
    links, steps, as_written = Nccl(), itertools.count(1), shared.train_step

    def train_step(model: Any, loss_function: Any, *others: Any) -> Any:
        if next(steps) != 20:
            return as_written(model, loss_function, *others)
        loss_function.join(0.5, None)
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        links.ended.wait()
        return torch.tensor(0.5)  # it means nothing

    shared.train_step = train_step
    failures.Links.of = lambda dist: failures.Links(links)  # type: ignore[method-assign]


def test_who_waits_in_the_exchange_of_gradients_ends_with_the_line_and_keeps_no_such_step(tmp_path: Path) -> None:
    words = training(data(tmp_path), tmp_path / "run", **{"data.batch_size": 18, "checkpoint.every_steps": 1})
    first, killed, last = Ranks(tmp_path / "said", [(command, (words, dies_in_the_exchange))] * 3).wait()
    assert (first.code, killed.code, last.code) == (6, -signal.SIGKILL, 6)
    assert "error: rank 1 of 3 is gone (" in first.errors[0]
    assert last.errors == []
    assert steps_of(tmp_path / "run") == 19


class Ring:
    """Processes as threads of this one, whose blocks end as they are told."""

    def __init__(self, size: int, patience: float = 60.0, ours: bool = True) -> None:
        store = torch_distributed.HashStore()
        self.links = [failures.Links(Nccl()) for _ in range(size)]
        self.ends: list[BaseException | None] = [None] * size
        self.may_end = [threading.Event() for _ in range(size)]
        self.ready = threading.Barrier(size + 1)

        def live(rank: int) -> None:
            world = World(rank, size, links=self.links[rank], patience=patience)
            try:
                with heartbeat.heard_by_neighbours(world, store, ours):
                    self.ready.wait(60)
                    self.may_end[rank].wait(60)
                    if (error := self.ends[rank]) is not None:
                        raise error
            except (KeyError, failures.LostError, SystemExit):
                return

        self.threads = [threading.Thread(target=live, args=(rank,)) for rank in range(size)]
        for thread in self.threads:
            thread.start()
        self.ready.wait(60)

    def end(self, rank: int, error: BaseException | None = None) -> None:
        """Let one end."""
        self.ends[rank] = error
        self.may_end[rank].set()
        self.threads[rank].join(60)


def threads() -> list[threading.Thread]:
    """Return the threads of all hearts."""
    return [one for one in threading.enumerate() if one.name == "netwright heartbeat"]


def test_those_who_leave_well_are_not_missed_and_nothing_is_left_of_them() -> None:
    ring = Ring(3)
    for rank in (1, 0, 2):
        time.sleep(2 * heartbeat.EVERY)  # the others live on without it
        begun = time.monotonic()
        ring.end(rank)
        assert time.monotonic() - begun < heartbeat.LATEST / 2
        assert not ring.threads[rank].is_alive()
    assert [links.broken for links in ring.links] == ["", "", ""]
    assert failures.left_behind == []
    assert not threads()


def test_who_is_later_than_all_others_by_far_leaves_well_though_somebody_still_holds_their_world() -> None:
    ring = Ring(2)
    ring.end(1)
    time.sleep(4 * heartbeat.EVERY)
    ring.end(0)
    assert [links.broken for links in ring.links] == ["", ""]
    assert not threads()


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("error", [KeyError("its own"), failures.LostError("gone"), SystemExit(2)])
def test_of_one_that_fails_all_hear(error: BaseException, ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ours or isinstance(error, failures.LostError)  # that they need not wait for their own errors
    monkeypatch.setattr(heartbeat, "GRACE", 600.0 if known else 0.5)
    ring = Ring(4, ours=ours)
    begun = time.monotonic()
    ring.end(2, error)
    for rank in (3, 0, 1):
        until(lambda rank=rank: ring.links[rank].broken == "it ended while others waited for it")  # type: ignore[misc]
    assert known or time.monotonic() - begun > 0.5
    assert ring.links[2].broken == ""
    for rank in (3, 0, 1):
        ring.end(rank, failures.LostError("gone"))
    until(lambda: not threads())


def test_where_all_fail_for_one_reason_the_links_of_somebody_else_stay() -> None:
    ring = Ring(3, ours=False)
    for rank in (1, 2, 0):
        ring.end(rank, KeyError("the same everywhere"))
    assert [links.broken for links in ring.links] == ["", "", ""]


def test_who_exits_well_is_not_missed() -> None:
    ring = Ring(2)
    ring.end(1, SystemExit(0))
    time.sleep(2 * heartbeat.EVERY)
    ring.end(0)
    assert [links.broken for links in ring.links] == ["", ""]


class Beside:
    """One process with a heart, and another one that has its connections and says nothing.

    Args:
        patience: Of the first.
    """

    def __init__(self, patience: float) -> None:
        store, self.links, self.over = torch_distributed.HashStore(), failures.Links(Nccl()), threading.Event()
        self.made = threading.Event()
        self.pairs: list[Any] = []

        def other() -> None:
            self.pairs += heartbeat._pairs(World(1, 2, patience=60.0), store)

        making = threading.Thread(target=other)
        making.start()

        def live() -> None:
            with suppress(failures.LostError):
                with heartbeat.heard_by_neighbours(World(0, 2, links=self.links, patience=patience), store, True):
                    self.made.set()
                    self.over.wait(60)
                    raise failures.LostError("gone")

        self.thread = threading.Thread(target=live)
        self.thread.start()
        making.join()
        assert self.made.wait(60)

    def end(self) -> None:
        """Let the first end."""
        self.pairs.clear()
        self.over.set()
        self.thread.join(60)


def test_of_one_whose_connection_closes_the_next_hears() -> None:
    two = Beside(60.0)
    time.sleep(2 * heartbeat.EVERY)
    assert two.links.broken == ""
    two.pairs.clear()  # as it is with a process that is gone
    until(lambda: two.links.broken)
    assert two.links.broken == "its connection closed"
    two.end()


def test_one_that_is_silent_is_missed_and_torch_would_wait_longer() -> None:
    two = Beside(0.8)
    until(lambda: two.links.broken)
    assert two.links.broken == "nothing was heard from it for 0.8 s"
    assert two.links._backend.waits == timedelta(seconds=0.8 + heartbeat.LONGER)
    two.end()


def test_a_process_that_stood_still_listens_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(2, patience=1.0)
    clock = time.monotonic
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock() + 3600)  # both were suspended for an hour
    time.sleep(2.0)
    assert [links.broken for links in ring.links] == ["", ""]
    monkeypatch.undo()
    for rank in range(2):
        ring.end(rank)


def test_a_neighbour_that_is_silent_at_the_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(heartbeat, "left_behind", found)
    two = Beside(60.0)
    pairs = list(two.pairs)
    two.end()
    assert len(found) == 1
    del pairs[:]
    until(lambda: not threads())


def test_nothing_is_said_once_the_links_are_broken() -> None:
    links = failures.Links(Nccl())
    world = World(0, 2, links=links)
    links.abandon(failures.LostError("the first"))
    links.abandon(failures.LostError("the second"))
    for say in (lambda: world.highest([1]), lambda: world.gathered(1), lambda: world.total(torch.zeros(1))):
        with pytest.raises(failures.LostError, match="the first"):
            say()
    model = nn.Linear(2, 1)
    engine = EagerEngine(model, nn.MSELoss(), torch.optim.SGD(model.parameters()))
    for keep in (lambda: whole_beginning({}, engine, world), lambda: final_weights(engine, Progress(), world)):
        with pytest.raises(failures.LostError, match="the first"):
            keep()


def test_without_nccl_nothing_runs_beside() -> None:
    with heartbeat.heard_by_neighbours(World(0, 2), None, True):
        assert not threads()
