"""Trainings of several processes for tests: each a child of a fork server that has imported torch once, under a hard time limit."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

PRELOADED = ["netwright.verbs", "netwright.cli", "netwright.reporting.plots", "sklearn.metrics", "torch._dynamo"]
PRELOADED += ["matplotlib.figure", "torch.nn.parallel.distributed", "netwright.engine.shared"]
LIMIT = 100.0  # seconds of a training; the machine may be busy
NET = ["Linear(16)", "ReLU()", "Dropout(0.3)", "Linear()"]
Prepare = Callable[..., None]


def context() -> Any:
    """Return the fork server's context."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nccl:
    """Stands in for torch's links over NCCL; ``ended`` is set once they are."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def abort(self) -> None:
        """End them."""
        self.ended.set()

    def _set_default_timeout(self, waits: timedelta) -> None:
        self.waits = waits


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: a signal) and what it said."""

    code: int
    stderr: str
    stdout: str

    @property
    def errors(self) -> list[str]:
        """The lines in which netwright tells an error."""
        return [line for line in self.stderr.splitlines() if line.startswith("netwright: error:")]


def _child(action: Callable[..., None], arguments: tuple[Any, ...], variables: Mapping[str, str], log: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    os.environ.update(variables)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
    try:
        action(*arguments)
    except SystemExit as stop:
        Path(f"{log}.code").write_text(str(stop.code))
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def command(words: list[str], prepare: Prepare | None) -> None:
    """Run ``netwright WORDS`` in this process; ``prepare`` may break something first."""
    from netwright.cli import main

    if prepare is not None:
        prepare()
    main(words)


class Ranks:
    """Some processes that train together, as a launcher would start them.

    Args:
        log: Where their words go, one file a rank.
        actions: What each does.
        changes: Variables of a launcher that are other than they should be.
    """

    def __init__(
        self,
        log: Path,
        actions: Iterable[tuple[Callable[..., None], tuple[Any, ...]]],
        changes: Mapping[str, str] | None = None,
    ) -> None:
        actions, self._log = list(actions), log
        places = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(len(actions)),
            **(changes or {}),
        }
        self.processes = []
        for rank, (action, arguments) in enumerate(actions):
            variables = {**places, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(len(actions))}
            process = context().Process(target=_child, args=(action, arguments, variables, f"{log}-{rank}"))
            process.start()
            self.processes.append(process)

    def wait(self, limit: float = LIMIT) -> list[Ended]:
        """Wait for all; one that hangs is killed, and the test fails."""
        until = time.monotonic() + limit
        for process in self.processes:
            process.join(max(0.1, until - time.monotonic()))
        hanging = [rank for rank, process in enumerate(self.processes) if process.exitcode is None]
        for process in self.processes:
            process.kill()
            process.join()
        found = [
            Ended(int(process.exitcode), *(Path(f"{self._log}-{rank}.{name}").read_text() for name in ("err", "out")))
            for rank, process in enumerate(self.processes)
        ]
        assert not hanging, f"ranks {hanging} hang after {limit:g} s: {found}"
        return found


def together(log: Path, size: int, words: list[str]) -> Ranks:
    """Start ``netwright WORDS`` on some ranks."""
    return Ranks(log, [(command, (words, None))] * size)


def alone(log: Path, words: list[str]) -> Ended:
    """Run ``netwright WORDS`` in one process, without a launcher."""
    process = context().Process(target=_child, args=(command, (words, None), {}, str(log)))
    process.start()
    process.join(LIMIT)
    hangs = process.exitcode is None
    process.kill()
    process.join()
    assert not hangs, "hangs"
    return Ended(int(process.exitcode), *(Path(f"{log}.{name}").read_text() for name in ("err", "out")))


def data(folder: Path, rows: int = 330, seed: int = 0) -> Path:
    """Write rows to learn from; no multiple of the batch."""
    path = folder / f"data{seed}.npz"
    if not path.exists():
        generator = np.random.default_rng(seed)
        X = generator.normal(size=(rows, 6)).astype(np.float32)
        y = (X[:, 0] + X[:, 1] ** 2 + generator.normal(size=rows) * 0.3 > 1).astype(np.int64)
        np.savez(path, X=X, y=y)
    return path


def training(source: Path, folder: Path, **changes: Any) -> list[str]:
    """Return the words of a short training: 4 epochs of 13 steps, the last of a smaller batch, a checkpoint every 5."""
    told = {
        "model.layers": json.dumps(NET),
        "training.epochs": "4",
        "training.optimizer": '"SGD(lr=0.05, momentum=0.9)"',
        "training.threads": "1",
        "data.batch_size": "16",
        "checkpoint.every_steps": "5",
        **{key: str(value) for key, value in changes.items()},
    }
    words = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    return ["train", str(source), "--run-dir", str(folder), *words]


def left(folder: Path) -> dict[str, bytes]:
    """Return what a finished run leaves, bit by bit, but for times."""
    files = ("model/best.safetensors", "model/last.safetensors", "steps.jsonl", "predictions.csv", "split.npz")
    found = {name: (folder / name).read_bytes() for name in files}
    lines = (folder / "history.csv").read_text().splitlines()
    return found | {"history": "\n".join(line.rsplit(",", 2)[0] for line in lines).encode()}


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of history.csv."""
    return list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))


def until(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not come true")


def steps_of(folder: Path) -> int:
    """Return the step of the newest checkpoint; 0 before the birth of a run."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*")] if folder.is_dir() else []
    return max((int(name[5:14]) for name in names), default=0)
