"""The command ray: what it refuses, and (--faults, where ray is installed) two workers of which one is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import netwright
from netwright.cli import main
from netwright.cli.raying import train_in_worker
from netwright.errors import FolderInUseError

LIMIT = 900  # seconds
LAYERS = 'model.layers=["Linear(16)", "ReLU()", "Linear()"]'
SETTINGS = ["training.epochs=150", "data.batch_size=10", "training.optimizer=SGD(lr=0.01)", "training.early_stopping=none"]
SETTINGS += [LAYERS, "checkpoint.every_steps=20"]
WORDS = ["sklearn:iris", "--run-dir", "one", *(word for setting in SETTINGS for word in ("--set", setting))]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0), capsys.readouterr().err


def test_without_ray_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, err = command(capsys, "ray", "sklearn:iris", "--workers", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert "ray: package ray" in err
    assert "pip install 'netwright[ray]'" in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_takes_no_new_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("netwright.cli.raying.refuse_without_ray", lambda: None)
    (tmp_path / "run.json").write_text("{}")
    code, err = command(capsys, "ray", str(tmp_path), "--workers", "2", "--run-dir", "two")
    assert code == 2
    assert f"{tmp_path}: a run that goes on; expected no --run-dir" in err


def test_a_process_that_ray_starts_again_takes_the_lock_of_its_own_launch_only(tmp_path: Path) -> None:
    settings = ["training.epochs=1", LAYERS]
    wanted = {"source": "sklearn:iris", "run": str(tmp_path / "one"), "settings": settings, "code": [], "launch": "first"}
    wanted |= {"test": False, "quiet": True}
    assert train_in_worker(wanted) == {"ended": True}
    lock = tmp_path / "one" / "run.lock"
    elsewhere = {"host": "another-machine", "pid": 77, "born": "1", "started": "2026-01-02 03:04:05"}
    lock.write_text(json.dumps(elsewhere | {"launch": netwright.load(tmp_path / "one").record["launch"]}))
    with pytest.raises(FolderInUseError, match="in use by another-machine, process 77"):
        train_in_worker(wanted | {"launch": "second"})
    assert train_in_worker(wanted) == {"ended": True}
    assert not lock.exists()


def started(*words: str) -> subprocess.Popen[str]:
    """Start netwright in the present folder."""
    told = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [Path(netwright.__file__).parent.parent, *sys.path]))}
    command = [sys.executable, "-m", "netwright", *words]
    return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.faults
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed")
def test_ray_starts_a_killed_worker_again_and_ends_with_the_weights_of_torchrun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ray", "torchrun"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "ray")
    killed, lines = False, []
    with started("ray", *WORDS, "--workers", "2") as process:
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"RayTrainWorker pid=(\d+)\S* epoch 30/", line)
            if found and not killed:
                killed = True
                os.kill(int(found[1]), signal.SIGKILL)
        limit.cancel()
    assert process.returncode == 0, "".join(lines[-30:])
    assert killed
    assert any("resume: exact" in line for line in lines)
    monkeypatch.chdir(tmp_path / "torchrun")
    with started("train", *WORDS, "--procs", "2") as other:
        said, _ = other.communicate(timeout=LIMIT)
    assert other.returncode == 0, said
    weights = [json.loads((tmp_path / name / "one" / "run.json").read_text())["weights"] for name in ("ray", "torchrun")]
    assert weights[0] == weights[1]
