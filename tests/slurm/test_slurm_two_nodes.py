"""A SLURM of two nodes itself: the warning before the limit, save, back to the queue, resume, and the weights of a quiet run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import controller
import pytest
from controller import TRAINING, Slurm, netwright_words, record
from hosts import TOLD

LIMIT = 900.0  # seconds of a job; the machine may be busy
CONFIG = f"""{TRAINING}[checkpoint]
every_steps = 50
"""
pytestmark = pytest.mark.slurm


def weights(run: Path) -> dict[str, bytes]:
    """Return what a run learned, and how, bit by bit."""
    return {name: (run / name).read_bytes() for name in ("model/best.safetensors", "model/last.safetensors", "steps.jsonl")}


def test_a_job_out_of_time_goes_back_to_the_queue_and_ends_with_the_weights_of_a_quiet_run(
    cluster: Slurm, folder: Path
) -> None:
    (folder / "slow.toml").write_text(CONFIG)
    go, run = folder / "go", folder / "sent"
    go.touch()
    train = netwright_words("train", "slow.toml", "--code", "slow.py", "--run-dir", "quiet", "--procs", "2")
    quiet = subprocess.run(train, env=os.environ | TOLD, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert quiet.returncode == 0, quiet.stderr
    go.unlink()

    asked = ("--nodes", "2", "--time", "2", "--site", "site.toml", "--code", "slow.py", "--run-dir", "sent", "--json")
    job = json.loads(cluster.ask(*netwright_words("slurm", "slow.toml", *asked)))["job"]
    stopped = controller.until(
        lambda: found if (found := record(run)).get("status") == "stopped" else None, LIMIT, cluster.logs
    )
    assert stopped["signal"] == signal.SIGTERM
    go.touch()
    told = cluster.over(job, LIMIT)
    said = (folder / "sent.log").read_text()
    assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), said + cluster.logs()
    assert int(told["Restarts"]) >= 1
    assert "out of time (its state is kept); back to the queue" in said
    assert "resume: exact" in said
    assert said.splitlines()[-1] == f"netwright: {run}: done"
    assert record(run)["status"] == "done"
    assert weights(run) == weights(folder / "quiet")
    for node in cluster.nodes:
        controller.until(lambda node=node: not node.processes(lambda words: "netwright" in words), 60, cluster.logs)
