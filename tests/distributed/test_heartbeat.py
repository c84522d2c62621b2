"""A process that dies while the others wait for it in a kernel of NCCL, for which stand-ins wait here, ends them all the same."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as torch_distributed
from ranks import Ranks, command, data, steps_of, training, until

from netwright.distributed import failures, heartbeat
from netwright.distributed.world import World
from netwright.engine import shared


class Nccl:
    """Stands in for torch's links over NCCL; ``ended`` is set once they are."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def abort(self) -> None:
        """End them."""
        self.ended.set()


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

    def __init__(self, size: int, patience: float = 60.0) -> None:
        store = torch_distributed.HashStore()
        self.links = [failures.Links(Nccl()) for _ in range(size)]
        self.ends: list[BaseException | None] = [None] * size
        self.may_end = [threading.Event() for _ in range(size)]
        made = threading.Barrier(size + 1)

        def live(rank: int) -> None:
            group = torch_distributed.ProcessGroupGloo(store, rank, size, timeout=timedelta(seconds=60))
            talk = SimpleNamespace(_get_backend=lambda device: group)
            world = World(rank, size, group=talk, links=self.links[rank], patience=patience)
            made.wait(60)
            if self.ends[rank] is SILENT:
                self.may_end[rank].wait(60)
                return
            try:
                with heartbeat.heard_by_neighbours(world):
                    self.may_end[rank].wait(60)
                    if (error := self.ends[rank]) is not None:
                        raise error
            except (KeyError, failures.LostError):
                return

        self.threads = [threading.Thread(target=live, args=(rank,)) for rank in range(size)]
        for thread in self.threads:
            thread.start()
        self._made = made

    def begin(self) -> None:
        """Let all begin."""
        self._made.wait(60)

    def end(self, rank: int, error: BaseException | None = None) -> None:
        """Let one end."""
        self.ends[rank] = self.ends[rank] or error
        self.may_end[rank].set()
        self.threads[rank].join(60)


SILENT = OSError()


def test_those_who_leave_well_are_not_missed() -> None:
    ring = Ring(3)
    ring.begin()
    for rank in (1, 0, 2):
        time.sleep(2 * heartbeat.EVERY)  # the others live on without it
        ring.end(rank)
    assert [links.broken for links in ring.links] == ["", "", ""]
    until(lambda: not [one for one in threading.enumerate() if one.name in ("netwright heartbeat", "netwright listening")])


@pytest.mark.parametrize("error", [KeyError("its own"), failures.LostError("gone")])
def test_of_one_that_fails_all_hear(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "GRACE", 0.5 if isinstance(error, KeyError) else 600.0)
    ring = Ring(4)
    ring.begin()
    begun = time.monotonic()
    ring.end(2, error)
    for rank in (3, 0, 1):
        until(lambda rank=rank: ring.links[rank].broken == "it ended while others waited for it")  # type: ignore[misc]
    assert isinstance(error, failures.LostError) or time.monotonic() - begun > 0.5
    assert ring.links[2].broken == ""
    for rank in (3, 0, 1):
        ring.end(rank, failures.LostError("gone"))


def test_where_all_fail_for_one_reason_the_links_stay() -> None:
    ring = Ring(3)
    ring.begin()
    for rank in (1, 2, 0):
        ring.end(rank, KeyError("the same everywhere"))
    assert [links.broken for links in ring.links] == ["", "", ""]


def test_of_one_whose_connection_closes_all_hear() -> None:
    ring = Ring(3)
    ring.ends[1] = SILENT
    ring.begin()
    time.sleep(2 * heartbeat.EVERY)
    assert not any(links.broken for links in ring.links)
    ring.end(1)  # its group goes with its thread
    until(lambda: ring.links[2].broken)
    assert ring.links[2].broken == "its connection closed"
    until(lambda: ring.links[0].broken)
    for rank in (0, 2):
        ring.end(rank, failures.LostError("gone"))


def test_one_that_is_silent_is_missed_before_torch_ends_everything() -> None:
    ring = Ring(2, patience=2.0)
    ring.ends[1] = SILENT
    ring.begin()
    until(lambda: ring.links[0].broken)
    assert ring.links[0].broken == "nothing was heard from it for 1.5 s"
    ring.end(0, failures.LostError("gone"))
    ring.end(1)


def test_nothing_is_said_once_the_links_are_broken() -> None:
    links = failures.Links(Nccl())
    world = World(0, 2, links=links)
    links.abandon(failures.LostError("the first"))
    links.abandon(failures.LostError("the second"))
    for say in (lambda: world.highest([1]), lambda: world.gathered(1), lambda: world.total(torch.zeros(1))):
        with pytest.raises(failures.LostError, match="the first"):
            say()


def test_without_nccl_nothing_runs_beside() -> None:
    before = threading.active_count()
    with heartbeat.heard_by_neighbours(World(0, 2)):
        assert threading.active_count() == before
