"""Signals: saved at the next step, the exit code tells, and the run goes on with the same bits."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import harness
import pytest

from netwright.checkpoint import store

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 0}
PLACES = ("step", "save", "validation", "epoch end")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    assert harness.run(harness.training(source, folder / "run"), folder / "log").code == 0
    return harness.digest(folder / "run")


def stepping(place: str) -> dict[str, str]:
    """Return settings that bring steps one by one where a signal shall come inside one; the bits stay those of ``expected``."""
    return {"training.engine": "eager"} if place == "step" else {}


def signalled(place: str, names: list[str]) -> None:
    """Send signals to this process when it comes to a place for the second time."""
    from netwright.engine import eager
    from netwright.evaluation import together
    from netwright.training.journal import Journal

    where: dict[str, tuple[Any, str, int]] = {
        "step": (eager, "train_step", 17),
        "save": (store, "write_parts", 3),
        "validation": (together, "score", 1),
        "epoch end": (Journal, "epoch", 1),
    }
    module, name, at = where[place]
    original, calls = getattr(module, name), itertools.count()

    def sending(*arguments: Any) -> Any:
        if next(calls) == at:
            for sent in names:
                os.kill(os.getpid(), getattr(signal, sent))
        return original(*arguments)

    setattr(module, name, sending)


@pytest.mark.parametrize("place", harness.some(PLACES, PLACES[:1]))
@pytest.mark.parametrize("name", CODES)
def test_a_signal_saves_and_the_run_goes_on_with_the_same_bits(
    name: str, place: str, source: Path, expected: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = harness.training(source, folder, **{"checkpoint.every_steps": 10, "checkpoint.keep": 9, **stepping(place)})
    found = harness.run(words, tmp_path / "log", signalled, place, [name])
    assert found.code == CODES[name], found.stderr
    assert "Traceback" not in found.stderr
    steps = {store.step_of(path) for path in store.checkpoints(folder / "checkpoints")}
    assert [step for step in steps if step % 10 and step != 52], "no checkpoint was made by the signal"
    if name == "SIGUSR1":
        assert harness.digest(folder) == expected
        return
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "stopped"
    assert record["why"] == f"stopped by {'Ctrl-C' if name == 'SIGINT' else name} after step {max(steps)}"
    assert f"to go on: netwright resume {folder}" in found.stdout
    assert (folder / "report.html").exists()
    assert not (folder / "test.json").exists()
    harness.resumed_to_the_end(folder, tmp_path / "log", words)
    assert harness.digest(folder) == expected


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(source: Path, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = harness.training(source, folder, **stepping("step"))
    found = harness.run(words, tmp_path / "log", signalled, "step", ["SIGINT", "SIGINT"])
    assert found.code == 130
    assert found.line == "netwright: error: stopped by Ctrl-C"
    assert max(store.step_of(path) for path in store.checkpoints(folder / "checkpoints")) == 15
    harness.resumed_to_the_end(folder, tmp_path / "log", words)
    assert harness.digest(folder) == expected


def test_a_run_stopped_while_it_is_tested_makes_up_for_the_test(source: Path, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = harness.run(harness.training(source, folder), tmp_path / "log", die_in_the_test)
    assert found.code == -signal.SIGKILL
    assert not (folder / "test.json").exists()
    found = harness.run(["resume", str(folder)], tmp_path / "log")
    assert found.code == 0, found.stderr
    assert "finished already" in found.stdout
    assert "the test was not made yet" in found.stdout
    assert harness.digest(folder) == expected
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert harness.run(["resume", str(folder)], tmp_path / "log").code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def die_in_the_test() -> None:
    """Kill this process when it looks at the test rows."""
    from netwright.lifecycle import run

    run.judge = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
