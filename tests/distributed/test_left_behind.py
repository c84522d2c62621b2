"""A link that cannot be closed, as NCCL keeps one that a CUDA graph holds: the process ends all the same, with its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import data, free_port, steps_of, training, until

from netwright.distributed import failures, heartbeat
from netwright.distributed.heartbeat import over_in_all
from netwright.distributed.world import World

STUCK = """import atexit, os, sys, threading
from netwright.distributed import failures
from netwright.cli import main

class Nccl:
    def abort(self):
        threading.Event().wait()
    def _set_default_timeout(self, waits):
        pass

failures.Links.of, failures.PARTING = (lambda dist: failures.Links(Nccl())), 0.2
atexit.register(os.abort)  # what comes last, as torch does where a thread of its own still runs
main(sys.argv[1:])
"""


def test_the_exit_code_is_that_of_the_error(tmp_path: Path) -> None:
    run, port = tmp_path / "run", str(free_port())
    words = training(data(tmp_path), run, **{"training.epochs": 10_000, "training.early_stopping": "false"})
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (tmp_path / "said").open("w") as said:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", STUCK, *words],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=said if not rank else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for rank in range(2)
        ]
    try:
        until(lambda: steps_of(run) >= 10)
        ranks[1].send_signal(signal.SIGKILL)
        assert ranks[0].wait(60) == failures.LostError.exit_code
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert "rank 1 of 2 is gone" in (tmp_path / "said").read_text().splitlines()[-1]


class Nccl:
    """Stands in for torch's links over NCCL."""

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1
        raise RuntimeError("it has ended by itself")


def test_links_over_nccl_are_ended_once_and_others_never(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Nccl()

    class Group:
        _device_types = (torch.device("cpu"), torch.device("cuda"))

        def _get_backend(self, device: torch.device) -> Any:
            return link if device.type == "cuda" else object()

    def torch_with(nccl: Any, available: bool = True) -> Any:
        return SimpleNamespace(
            group=SimpleNamespace(WORLD=Group()), is_nccl_available=lambda: available, ProcessGroupNCCL=nccl
        )

    assert failures.Links.of(torch_with(int)) is None
    assert failures.Links.of(torch_with(Nccl, available=False)) is None
    links = failures.Links.of(torch_with(Nccl))
    assert links is not None
    closed: list[int] = []
    assert links.left(ValueError(), lambda: closed.append(link.aborted))
    for why in ("the first", "the second"):
        links.abandon(failures.LostError(why))
    assert str(links.broken) == "the first"
    assert links.left(ValueError(), lambda: closed.append(link.aborted))
    assert closed == [0, 1]


def test_links_that_cannot_be_ended_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "PARTING", 0.1)
    stuck, closed = threading.Event(), list[int]()
    links = failures.Links(SimpleNamespace(abort=stuck.wait))
    links.abandon(failures.LostError("gone"))
    assert not links.left(ValueError(), lambda: closed.append(1))
    assert not closed
    stuck.set()
    until(lambda: closed)


def test_what_an_error_holds_of_a_run_is_let_go() -> None:
    class Graph:
        """Keeps a link open as long as it lives."""

    alive = []

    def inner() -> None:
        graph = Graph()
        alive.append(weakref.ref(graph))
        raise KeyError("the first")

    def run() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("the second") from error

    with pytest.raises(ValueError, match="the second") as found:
        run()
    assert alive[0]() is not None
    assert failures.Links(Nccl()).left(found.value, lambda: None)
    assert alive[0]() is None


def test_work_that_waits_for_a_process_that_is_gone_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Nccl()
    world = World(0, 2, links=failures.Links(link), patience=0.1)
    asked = iter([False, False, True])
    over_in_all(world, lambda: next(asked))
    assert next(asked, None) is None
    threading.Timer(0.2, lambda: world.abandon(failures.LostError("its connection closed"))).start()
    with pytest.raises(failures.LostError, match="its connection closed"):
        over_in_all(world, lambda: bool(link.aborted))
    with pytest.raises(failures.LostError, match="its connection closed"):
        over_in_all(world, lambda: True)  # what was ended is over, but means nothing
    monkeypatch.setattr(heartbeat, "PARTING", 0.05)
    with pytest.raises(failures.LostError, match="its connection closed"):
        over_in_all(world, lambda: False)


def test_work_that_does_not_end_or_cannot_be_asked_ends_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SLOW", 0.2)
    link = Nccl()
    with pytest.raises(
        failures.StuckError, match="2 processes do together did not end within 0.2 s, and all processes live"
    ):
        over_in_all(World(0, 2, links=failures.Links(link), patience=0.1), lambda: False)
    until(lambda: link.aborted)
    link = Nccl()
    with pytest.raises(ZeroDivisionError):
        over_in_all(World(0, 2, links=failures.Links(link)), lambda: bool(1 / 0))
    until(lambda: link.aborted)
