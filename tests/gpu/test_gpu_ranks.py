"""Two processes over NCCL: steps in CUDA graphs have the bits of those as written, and a process that dies ends the other.

On a machine with one GPU both take it, which NCCL allows from 2.30 on (NCCL_MULTI_RANK_GPU_ENABLE); there each process says that
it is alone on its machine, and kernels that wait for the other process take turns, so that nothing here tells a speed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import netwright as nw
from netwright.runfolder.folder import read_record

ONE_GPU = (2, 30)  # the version of NCCL that lets processes share one
SEVERAL = torch.cuda.device_count() > 1


def nccl() -> tuple[int, ...]:
    """Return the version of NCCL that runs: of a library that was loaded before torch's own, if there is one."""
    found = ctypes.c_int()
    try:
        ctypes.CDLL(None).ncclGetVersion(ctypes.byref(found))
    except AttributeError:
        return tuple(torch.cuda.nccl.version())
    return found.value // 10_000, found.value // 100 % 100


pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        not SEVERAL and torch.cuda.is_available() and nccl()[:2] < ONE_GPU,
        reason=f"needs two GPUs, or NCCL {ONE_GPU[0]}.{ONE_GPU[1]}",
    ),
]
MLP = ["Flatten()", "Linear(32)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]
CNN = ["Conv2d(8, kernel_size=3, padding=1)", "ReLU()", "MaxPool2d(2)", "Flatten()", "Linear()"]
SOON = """import sys, netwright.engine.repeated as repeated
repeated.BRIEF, repeated.WORTHWHILE = 1.0, 8
from netwright.cli import main
main(sys.argv[1:])
"""
PLAIN = ["-m", "netwright"]


class Two:
    """Two ranks that run ``netwright WORDS``."""

    def __init__(self, words: Sequence[str], log: Path, how: Sequence[str] = PLAIN) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self._logs = [log.with_name(f"{log.name}-{rank}") for rank in range(2)]
        self.processes = []
        for rank, path in enumerate(self._logs):
            place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            place |= {"LOCAL_RANK": str(rank if SEVERAL else 0), "LOCAL_WORLD_SIZE": "2" if SEVERAL else "1"}
            with path.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *how, *words],
                        env={**os.environ, **place, "NCCL_MULTI_RANK_GPU_ENABLE": "1"},
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def ended(self, limit: float = 100.0) -> list[tuple[int, str]]:
        """Return the exit codes and what was said; a process that hangs is killed, and the test fails."""
        until = time.monotonic() + limit
        try:
            for process in self.processes:
                process.wait(max(0.1, until - time.monotonic()))
        finally:
            for process in self.processes:
                process.kill()
        return [(process.returncode, path.read_text()) for process, path in zip(self.processes, self._logs, strict=True)]


def words(folder: Path, **how: Any) -> list[str]:
    """Return the words of a training of digits."""
    told = {"training.epochs": 6, "data.batch_size": 64, "checkpoint.every_steps": 20, **how}
    told = {"evaluation.baselines": '"none"', "evaluation.importance": "false", **told}
    return ["train", "sklearn:digits", "--run-dir", str(folder), *(f"--set={key}={value}" for key, value in told.items())]


def trained(folder: Path, how: Sequence[str] = PLAIN, **settings: Any) -> dict[str, Any]:
    """Train by two ranks; return the record."""
    for code, said in Two(words(folder, **settings), folder.with_suffix(".log"), how).ended():
        assert code == 0, said[-3000:]
    return read_record(folder)


CASES: dict[str, dict[str, Any]] = {
    "AdamW": {"model.layers": json.dumps(MLP)},
    "all": {
        "model.layers": json.dumps(MLP),
        "training.optimizer": '"Adam(lr=0.003)"',
        "training.schedule": '"WarmupCosine(warmup=0.1)"',
        "training.average": '"EMA(decay=0.9)"',
        "training.clip_grad_norm": 0.5,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_steps_in_graphs_have_the_bits_of_those_as_written(name: str, tmp_path: Path) -> None:
    plain = trained(tmp_path / "eager", **CASES[name], **{"training.engine": '"eager"'})
    how = PLAIN if name == "AdamW" else ["-c", SOON]  # eight steps in one graph, too
    graphed = trained(tmp_path / "graphs", how, **CASES[name], **{"training.engine": '"captured"'})
    assert plain["played"] == "as written, by 2 processes (DDP)"
    assert graphed["played"] == "by 2 processes (DDP), in CUDA graphs"
    for file in ("model/last.safetensors", "model/best.safetensors", "steps.jsonl", "predictions.csv"):
        assert (tmp_path / "graphs" / file).read_bytes() == (tmp_path / "eager" / file).read_bytes(), file


def test_a_convolutional_network_learns_in_graphs(tmp_path: Path) -> None:
    how = {"model.layers": json.dumps(CNN), "training.optimizer": '"Adam(lr=0.01)"', "training.engine": '"captured"'}
    found = trained(tmp_path / "run", **how)
    assert found["played"].startswith("by 2 processes (DDP), in CUDA graphs")
    assert nw.load(tmp_path / "run").tested["metrics"]["accuracy"]["value"] > 0.9


def test_a_process_that_dies_ends_the_other_and_the_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    how = {**CASES["AdamW"], "training.engine": '"captured"', "training.epochs": 40, "training.early_stopping": "false"}
    trained(tmp_path / "whole", **how)
    folder = tmp_path / "killed"
    two = Two([*words(folder, **how), "--peer-timeout", "20"], tmp_path / "killed.log")
    until = time.monotonic() + 90
    while len(list((folder / "checkpoints").glob("step-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    assert two.processes[1].poll() is None, "it was done too soon"
    two.processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (code, said), _ = two.ended(60)
    assert code == 6, said[-3000:]
    assert "rank 1" in said.splitlines()[-1]
    assert time.monotonic() - killed < 30
    for code, said in Two(["resume", str(folder)], tmp_path / "again.log").ended():
        assert code == 0, said[-3000:]
    for file in ("model/last.safetensors", "model/best.safetensors", "steps.jsonl", "predictions.csv"):
        assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
