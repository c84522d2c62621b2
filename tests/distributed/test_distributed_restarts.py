"""What a restart by a launcher may do: to its own run and the locks of its own dead, never to those of another launch."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import netwright as nw
from netwright import files
from netwright.distributed.identity import Launch, launch_of
from netwright.distributed.world import World
from netwright.errors import FolderInUseError
from netwright.files.locks import identity
from netwright.runfolder.folder import read_record, update_record

FIRST = Launch("one-launch")
AGAIN = World(restarts=1, launched=True, launch=Launch("one-launch", restarts=1))
OTHER = World(restarts=1, launched=True, launch=Launch("another", restarts=1))
MORE = ["training.epochs=2"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one epoch that the first launch began."""
    world = World(launched=True, launch=FIRST)
    return nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "one", test=False, world=world).folder


def lock(folder: Path, **told: Any) -> None:
    elsewhere = {"host": "another-machine", "pid": 77, "born": "1", "started": "2026-01-02 03:04:05"}
    (folder / "run.lock").write_text(json.dumps(elsewhere | told))


def test_the_lock_of_a_dead_process_elsewhere_is_broken_by_its_own_launch_only(run: Path) -> None:
    lock(run, launch=FIRST.to_json())
    with pytest.raises(FolderInUseError, match="in use by another-machine, process 77"):
        nw.resume(run, settings=MORE)
    with pytest.raises(FolderInUseError, match="in use by another-machine, process 77"):
        nw.resume(run, settings=MORE, world=OTHER)
    assert len(nw.resume(run, settings=MORE, world=AGAIN).history) == 2
    assert not (run / "run.lock").exists()


def test_a_process_that_lives_here_keeps_its_lock(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.files.locks.LINGER", 0.05)
    lock(run, **identity(), launch=FIRST.to_json())
    assert AGAIN.launch is not None
    files.break_lock_of(run, AGAIN.launch.ended)
    assert (run / "run.lock").exists()
    lock(run, host=socket.gethostname(), pid=os.getpid(), born="0", launch=FIRST.to_json())
    files.break_lock_of(run, AGAIN.launch.ended)
    assert not (run / "run.lock").exists()


def test_a_requeued_job_ends_its_earlier_start_only() -> None:
    told = {"TORCHELASTIC_RUN_ID": "77.0", "SLURM_JOB_ID": "77"}
    first = launch_of(told, 0)
    again = launch_of({"TORCHELASTIC_RUN_ID": "77.1", "SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1"}, 0)
    other = launch_of({"TORCHELASTIC_RUN_ID": "78.1", "SLURM_JOB_ID": "78", "SLURM_RESTART_COUNT": "1"}, 1)
    assert first is not None
    assert again is not None
    assert other is not None
    assert again.ended(first.to_json())
    assert not first.ended(again.to_json())
    assert not other.ended(first.to_json())
    assert launch_of({}, 0) is None


def test_a_launch_without_a_name_has_that_of_its_launcher() -> None:
    found = launch_of({"TORCHELASTIC_RUN_ID": "none"}, 1)
    assert found is not None
    assert found.name.startswith(f"{socket.gethostname()}:{os.getppid()}:")


def test_a_restart_goes_on_with_a_run_of_its_own_launch_only(run: Path) -> None:
    before = (run / "run.json").read_bytes()
    for world in (OTHER, World(restarts=1, launched=True)):
        with pytest.raises(FolderInUseError, match="exists already"):
            nw.train("sklearn:iris", epochs=9, run_dir=run, test=False, world=world)
    assert (run / "run.json").read_bytes() == before
    assert len(nw.train("sklearn:iris", epochs=1, run_dir=run, test=False, world=AGAIN).history) == 1


def test_what_a_signal_stopped_stays_so_when_its_launcher_starts_it_again(run: Path) -> None:
    update_record(run, {"status": "stopped", "signal": 15})
    before = (run / "run.json").read_bytes()
    lines: list[Any] = []
    for found in (
        nw.train("sklearn:iris", epochs=1, run_dir=run, test=False, world=AGAIN, observers=[lines.append]),
        nw.resume(run, settings=MORE, world=AGAIN),
    ):
        assert (found.record["signal"], len(found.history)) == (15, 1)
    assert (run / "run.json").read_bytes() == before
    assert f"to go on: netwright resume {run}" in str(lines[-1])
    later = World(restarts=1, launched=True, launch=Launch("later", restarts=1))
    assert len(nw.resume(run, settings=MORE, world=later).history) == 2
    assert read_record(run)["launch"]["name"] == "later"
