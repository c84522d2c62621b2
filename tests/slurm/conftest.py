"""One SLURM of two hosts for all tests of this folder that need one, and a folder that both hosts see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import controller
import hosts
import pytest
from controller import Slurm
from hosts import TOLD

NETWORK = """
import os
import time
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def forward(self, x):
        if self.training and not os.path.exists("go"):
            time.sleep(0.3)
        return self.layers(x)
"""  # so that what happens to a run finds one that trains; once it has happened all goes on without a pause
SITE = "warning = 30\n"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Slurm]:
    """SLURM on two hosts, gone with all its processes when the tests are over."""
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
    """The present folder, which all hosts see, with a network and a site file."""
    (tmp_path / "slow.py").write_text(NETWORK)
    (tmp_path / "site.toml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path
