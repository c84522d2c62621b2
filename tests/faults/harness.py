"""What the suites of faults share: trainings in processes that can be killed, and a digest of all that a run leaves.

Processes come from a fork server that has imported torch and netwright once and entered no parallel region.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netwright.checkpoint import store, trees

PRELOADED = ["netwright.verbs", "netwright.cli", "netwright.reporting.plots", "sklearn.metrics", "torch._dynamo"]
PRELOADED += ["matplotlib.figure", "pytest", "pyarrow.parquet", "pyarrow.csv", "tomli_w", "PIL.Image", "html.parser"]
NET = ["Linear(16)", "BatchNorm1d()", "ReLU()", "Dropout(0.3)", "Linear()"]
LOST = 255  # what multiprocessing says where the fork server lost the exit code, which it seldom does
WAITING = 120.0  # seconds for a process that should have ended


def context() -> Any:
    """Return the fork server's context."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: a signal) and what it said on stderr."""

    code: int
    stderr: str
    stdout: str = ""

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return (self.stderr.strip().splitlines() or [""])[-1]


def _child(words: list[str], log: str, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Run the command line in this process, its words in files."""
    from netwright.cli import main

    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    torch.set_num_threads(1)
    if prepare is not None:
        prepare(*arguments)
    try:
        main(words)
    except SystemExit as stop:
        Path(f"{log}.code").write_text(str(stop.code))
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def start(words: list[str], log: Path, prepare: Callable[..., None] | None = None, *arguments: Any) -> Any:
    """Start ``netwright WORDS`` in a process of its own; ``prepare`` may break something in it first."""
    Path(f"{log}.code").unlink(missing_ok=True)
    process = context().Process(target=_child, args=(words, str(log), prepare, arguments))
    process.start()
    return process


def wait(process: Any, log: Path) -> Ended:
    """Wait for a process."""
    process.join(WAITING)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"hangs: {Path(f'{log}.err').read_text()}")
    code = process.exitcode
    if code == LOST:
        told = Path(f"{log}.code")
        code = int(told.read_text()) if told.exists() else -signal.SIGKILL
    texts = [Path(f"{log}.{name}").read_text() if Path(f"{log}.{name}").exists() else "" for name in ("err", "out")]
    return Ended(code, *texts)


def run(words: list[str], log: Path, prepare: Callable[..., None] | None = None, *arguments: Any) -> Ended:
    """Run ``netwright WORDS`` in a process of its own."""
    return wait(start(words, log, prepare, *arguments), log)


def killed_after(seconds: float, words: list[str], log: Path) -> Ended:
    """Run ``netwright WORDS`` and kill it, by SIGKILL, after so many seconds unless it has ended."""
    process = start(words, log)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
    return wait(process, log)


def data(folder: Path, rows: int = 330) -> Path:
    """Write the rows that the trainings learn from: distinct, and no multiple of the batch."""
    path = folder / "data.npz"
    if not path.exists():
        generator = np.random.default_rng(0)
        X = generator.normal(size=(rows, 6)).astype(np.float32)
        y = (X[:, 0] + X[:, 1] ** 2 + generator.normal(size=rows) * 0.3 > 1).astype(np.int64)
        np.savez(path, X=X, y=y)
    return path


def settings(**changes: Any) -> list[str]:
    """Return the words that make a training short and rich in state: 4 epochs of 13 steps, a checkpoint every 5."""
    told = {
        "model.layers": json.dumps(NET),
        "training.epochs": "4",
        "training.optimizer": '"AdamW(lr=0.01)"',
        "training.threads": "1",
        "data.batch_size": "16",
        "checkpoint.every_steps": "5",
        **{key: str(value) for key, value in changes.items()},
    }
    return [word for key, value in told.items() for word in ("--set", f"{key}={value}")]


def training(source: Path, folder: Path, **changes: Any) -> list[str]:
    """Return the words of a training."""
    return ["train", str(source), "--run-dir", str(folder), *settings(**changes)]


TIMES = ("train_seconds", "valid_seconds")


def digest(folder: Path) -> str:
    """Return the digest of all that a finished run leaves, but for times: weights, the last state, history, predictions."""
    state = hashlib.sha256()
    for name in ("model/best.safetensors", "model/last.safetensors", "predictions.csv", "steps.jsonl", "split.npz"):
        if (folder / name).exists():
            state.update(name.encode() + (folder / name).read_bytes())
    for row in history(folder):
        state.update(json.dumps(row).encode())
    parts = last_parts(folder)
    for name in ("model", "loss", "optimizer", "generators", "progress", "best"):
        state.update(tree_digest(parts[name]).encode())
    state.update(repr((parts["history"]["loss_sum"], parts["history"]["weight"])).encode())
    return state.hexdigest()


def history(folder: Path) -> list[dict[str, str]]:
    """Return history.csv without the columns of times."""
    rows = csv.DictReader(io.StringIO((folder / "history.csv").read_text()))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def last_parts(folder: Path) -> dict[str, Any]:
    """Return the newest checkpoint of a run; none may be damaged."""

    def never(problem: str) -> None:
        raise AssertionError(problem)

    return store.newest(folder / "checkpoints", never).parts


def tree_digest(value: Any) -> str:
    """Return the digest of nested values and tensors."""
    tensors: dict[str, torch.Tensor] = {}
    state = hashlib.sha256(json.dumps(trees.encode(value, tensors, "x")).encode())
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return state.hexdigest()


def resumed_to_the_end(folder: Path, log: Path, begin: list[str]) -> None:
    """Go on with a killed run, or begin it anew where it was killed before it was born."""
    words = ["resume", str(folder)] if folder.exists() else begin
    found = run(words, log)
    assert found.code == 0, found.stderr
    assert "Traceback" not in found.stderr


def verified(folder: Path) -> list[str]:
    """Return the names of the checkpoints that verify."""
    return [path.name for path in store.checkpoints(folder / "checkpoints") if store.verifies(path)]


def leftovers(folder: Path) -> list[str]:
    """Return temporary files and folders, and locks."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name == "run.lock"
    )


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(FileNotFoundError):
            found = condition()
            if found:
                return found
        time.sleep(0.002)
    raise AssertionError("it did not come true")


def in_parallel(calls: Mapping[str, Callable[[], Any]], workers: int = 2) -> dict[str, Any]:
    """Call functions in a few threads at a time, and return what each gave."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        return {name: future.result() for name, future in futures.items()}


def some(values: Iterable[Any], few: Iterable[Any]) -> list[Any]:
    """Return parameters of which only a few are no long test."""
    short = list(few)
    return [pytest.param(value, marks=[] if value in short else pytest.mark.faults) for value in values]
