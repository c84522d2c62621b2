"""A link that cannot be closed, as NCCL keeps one that a CUDA graph holds: the process ends all the same, with its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ranks import data, free_port, steps_of, training, until

from netwright.distributed import failures
from netwright.distributed.pulse import over_in_all
from netwright.distributed.world import World

STUCK = """import atexit, os, sys, threading
from netwright.distributed import failures
from netwright.cli import main
stuck = threading.Thread(target=threading.Event().wait, daemon=True)
stuck.start()
failures.abandon, failures.PARTING = (lambda: stuck), 0.2
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


def test_links_over_nccl_are_aborted_once_and_others_never(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import torch.distributed as dist

    link = Nccl()

    class Group:
        _device_types = (torch.device("cpu"), torch.device("cuda"))

        def _get_backend(self, device: torch.device) -> Any:
            return link if device.type == "cuda" else object()

    assert failures.abandon() is None  # there is no group
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD=Group()))
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    assert failures.abandon() is None
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(dist, "ProcessGroupNCCL", Nccl, raising=False)
    thread = failures.abandon()
    assert thread is not None
    thread.join(10)
    assert failures.abandon() is thread
    assert link.aborted == 1
    monkeypatch.setattr(dist, "ProcessGroupNCCL", int, raising=False)
    assert failures.abandon() is None


class Talk(World):
    """A world whose other process is gone."""

    def total(self, values: Any) -> Any:
        raise failures.LostError("its connection closed")


def test_work_that_waits_for_a_process_that_is_gone_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.distributed.pulse.PARTING", 0.05)
    with pytest.raises(failures.LostError, match="its connection closed"):
        over_in_all(Talk(0, 2), lambda: False)
    asked = iter([False, False, True])
    over_in_all(World(), lambda: next(asked))
    assert next(asked, None) is None
    assert not [one for one in threading.enumerate() if one.name == "netwright pulse"]
