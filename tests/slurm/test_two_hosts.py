"""Trainings over two hosts: a cable that is pulled ends both with a reason, a rank that is killed comes back."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hosts
import pytest
from controller import record, until
from hosts import TOLD, Host

LIMIT = 300.0  # seconds; the machine may be busy
PEER_TIMEOUT = 40.0
SLACK = 15.0  # seconds that a busy machine may take longer
CONFIG = """
[data]
source = "sklearn:iris"
batch_size = 10
[model]
layers = ["Linear(16)", "ReLU()", "Linear()"]
[training]
epochs = {epochs}
optimizer = "SGD(lr=0.01)"
early_stopping = "none"
threads = 1
[checkpoint]
every_steps = 20
"""
pytestmark = pytest.mark.network


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Host, Host]]:
    """Two hosts; the present folder is one that both see."""
    if absent := hosts.missing():
        pytest.skip(absent)
    monkeypatch.chdir(tmp_path)
    with hosts.two_hosts(tmp_path) as found:
        yield found


class Training:
    """A training with a rank on each host, started by torchrun as its documentation says."""

    def __init__(self, nodes: tuple[Host, Host], folder: Path, epochs: int, restarts: int) -> None:
        (folder / "iris.toml").write_text(CONFIG.format(epochs=epochs))
        self.nodes, self.run = nodes, folder / "run"
        self.logs = [folder / f"{node.name}.log" for node in nodes]
        common = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two", "--rdzv-endpoint=node1:29500"]
        words = ["-m", "netwright", "train", "iris.toml", "--run-dir", "run", f"--peer-timeout={PEER_TIMEOUT}"]
        self.launchers = [
            node.start(
                log,
                sys.executable,
                "-m",
                "torch.distributed.run",
                *common,
                f"--rdzv-conf=is_host={int(node is nodes[0])}",
                f"--max-restarts={restarts}",
                *words,
                more=TOLD,
            )
            for node, log in zip(nodes, self.logs, strict=True)
        ]

    def said(self) -> str:
        """Return what both said."""
        return "\n".join(log.read_text() for log in self.logs if log.exists())

    def ranks(self, node: Host) -> list[int]:
        """Return the processes of a host that train."""
        return node.processes(lambda words: "netwright" in words and "torch.distributed.run" not in words)

    def goes_on(self, epoch: int) -> None:
        """Wait until an epoch is done."""
        until(lambda: f"epoch {epoch}/" in self.said(), LIMIT, self.said)

    def over(self) -> list[int]:
        """Wait until both launchers have ended, and return their exit codes."""
        return [one.wait(LIMIT) for one in self.launchers]


@pytest.mark.parametrize("pulled", [0, 1])
def test_a_cable_that_is_pulled_ends_both_within_the_timeout_with_a_reason(
    nodes: tuple[Host, Host], tmp_path: Path, pulled: int
) -> None:
    training = Training(nodes, tmp_path, epochs=100_000, restarts=0)
    training.goes_on(30)
    nodes[pulled].pull_cable()
    begun = time.monotonic()
    until(lambda: not any(training.ranks(node) for node in nodes), LIMIT, training.said)
    took = time.monotonic() - begun
    first, second = (
        [line for line in log.read_text().splitlines() if line.startswith("netwright: error:")] for log in training.logs
    )
    assert len(first) == len(second) == 1, training.said()
    assert "rank 1 of 2 is gone (nothing was heard from it for 32 s)" in first[0]
    assert "the other processes and the store they shared are gone (the store does not answer)" in second[0]
    assert took < PEER_TIMEOUT + SLACK
    assert record(training.run)["status"] == "failed"
    until(
        lambda: training.launchers[0].poll() is not None, LIMIT, training.said
    )  # that of the cut-off host may hang: torch's


def test_a_rank_that_is_killed_on_another_host_comes_back_and_the_run_goes_on(
    nodes: tuple[Host, Host], tmp_path: Path
) -> None:
    training = Training(nodes, tmp_path, epochs=200, restarts=2)
    training.goes_on(30)
    (rank,) = training.ranks(nodes[1])
    os.kill(rank, signal.SIGKILL)
    assert training.over() == [0, 0], training.said()
    assert "resume: exact" in training.said()
    assert record(training.run)["status"] == "done"
    assert record(training.run)["launch"]["restarts"] == 1
