"""A SLURM of two nodes itself: the warning before the limit, save, back to the queue, resume, and the weights of a quiet run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import controller
import hosts
import pytest
from controller import Slurm, record

import netwright

LIMIT = 900.0  # seconds of a job; the machine may be busy
NETWORK = """
import os
import time
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def forward(self, x):
        if self.training and not os.path.exists("saved"):
            time.sleep(0.3)
        return self.layers(x)
"""  # so that the warning finds a run that trains; once one is saved it goes on without a pause
CONFIG = """
[data]
source = "sklearn:iris"
batch_size = 10
[model]
module = "slow.py:Slow"
[training]
epochs = 60
optimizer = "SGD(lr=0.01, momentum=0.9)"
early_stopping = "none"
threads = 1
[checkpoint]
every_steps = 50
"""
SITE = "warning = 30\n"
TOLD = {"PYTHONPATH": str(Path(netwright.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Slurm]:
    """SLURM on two hosts, gone with all its processes when the tests of this file are over."""
    programs = controller.find(pytestconfig.getoption("slurm_prefix"))
    if isinstance(programs, str):
        pytest.skip(programs)
    if absent := hosts.missing():
        pytest.skip(absent)
    folder = tmp_path_factory.mktemp("cluster")
    with hosts.two_hosts(folder) as nodes:
        yield controller.start(nodes, programs, folder, TOLD)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, which all hosts see, with a config and a site file."""
    (tmp_path / "slow.py").write_text(NETWORK)
    (tmp_path / "slow.toml").write_text(CONFIG)
    (tmp_path / "site.toml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def netwright_words(*words: str) -> list[str]:
    return [sys.executable, "-m", "netwright", *words]


def weights(run: Path) -> dict[str, bytes]:
    """Return what a run learned, and how, bit by bit."""
    return {name: (run / name).read_bytes() for name in ("model/best.safetensors", "model/last.safetensors", "steps.jsonl")}


def test_a_job_out_of_time_goes_back_to_the_queue_and_ends_with_the_weights_of_a_quiet_run(
    cluster: Slurm, folder: Path
) -> None:
    saved, run = folder / "saved", folder / "sent"
    saved.touch()
    train = netwright_words("train", "slow.toml", "--code", "slow.py", "--run-dir", "quiet", "--procs", "2")
    quiet = subprocess.run(train, env=os.environ | TOLD, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert quiet.returncode == 0, quiet.stderr
    saved.unlink()

    asked = ("--nodes", "2", "--time", "2", "--site", "site.toml", "--code", "slow.py", "--run-dir", "sent", "--json")
    job = json.loads(cluster.ask(*netwright_words("slurm", "slow.toml", *asked)))["job"]
    stopped = controller.until(
        lambda: found if (found := record(run)).get("status") == "stopped" else None, LIMIT, cluster.logs
    )
    assert stopped["signal"] == signal.SIGTERM
    saved.touch()
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
