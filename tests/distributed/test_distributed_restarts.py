"""What is left of processes that a launcher ended on another machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import netwright as nw
from netwright.distributed.world import World
from netwright.errors import FolderInUseError


def test_the_lock_of_a_process_elsewhere_is_broken_after_a_restart_only(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "one", test=False)
    told = {"host": "another-machine", "pid": 77, "born": "1", "started": "2026-01-02 03:04:05"}
    (run.folder / "run.lock").write_text(json.dumps(told))
    with pytest.raises(FolderInUseError, match="in use by another-machine, process 77"):
        nw.resume(run.folder, settings=["training.epochs=2"])
    again = nw.resume(run.folder, settings=["training.epochs=2"], world=World(restarts=1))
    assert len(again.history) == 2
    assert not (run.folder / "run.lock").exists()
