"""Searches whose processes are killed: exactly the trials asked for, none lost or counted twice, nobody left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness import Ended, data, digest, leftovers, start, until, wait

import netwright as nw
from netwright.files.locks import lives
from netwright.runfolder import folder as folders

SPACE = '{ "training.optimizer.lr" = "log 1e-3..1e-1", "model.layers.3.p" = "0.0..0.5" }'


def words(source: Path, folder: Path, **changes: Any) -> list[str]:
    """Return the words of a search that takes a while and is rich in state."""
    told = {
        "tune.space": SPACE,
        "model.layers": json.dumps(["Linear(16)", "BatchNorm1d()", "ReLU()", "Dropout(0.3)", "Linear()"]),
        "training.epochs": "40",
        "training.engine": "eager",
        "data.batch_size": "16",
        "checkpoint.every_steps": "20",
        "evaluation.baselines": "[]",
        **{name: str(value) for name, value in changes.items()},
    }
    changed = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    return ["tune", str(source), "--run-dir", str(folder), *changed]


def holder(folder: Path, claim: str) -> dict[str, Any] | None:
    """Return who made a claim."""
    try:
        told: dict[str, Any] = json.loads((folder / "claims" / claim).read_text())
    except (OSError, ValueError):
        return None
    return told


def claimed(folder: Path) -> set[str]:
    """Return the workers that ever claimed a trial."""
    return {str((holder(folder, path.name) or {}).get("worker")) for path in (folder / "claims").glob("0*")}


def workers(folder: Path) -> list[dict[str, Any]]:
    """Return the workers of a search that live."""
    told = [json.loads(path.read_text()) for path in (folder / "workers").glob("[!.]*.json")]
    return [one for one in told if lives(one) and not one.get("over")]


def trained(folder: Path, trial: int, epochs: int) -> bool:
    """Tell whether a trial has so many epochs behind it, and a checkpoint after the first steps."""
    history = folder / "trials" / f"{trial:04d}" / "history.csv"
    return history.exists() and len(history.read_text().splitlines()) > epochs


def ended_well(folder: Path, wanted: int) -> dict[str, Any]:
    """Check all that holds of a search that ended, and return its result."""
    result: dict[str, Any] = folders.read_json(folder / "tune.json")["result"]
    assert (result["finished"], result["failed"], result["trials"]) == (wanted, 0, wanted)
    assert result["best"]["same"] is True
    runs = sorted((folder / "trials").iterdir())
    assert [run.name for run in runs] == [f"{number:04d}" for number in range(wanted)]
    assert all(folders.read_record(run)["status"] == "done" for run in runs)
    assert leftovers(folder) == []
    assert list((folder / "trials").glob("**/test.json")) == []
    assert workers(folder) == []
    return result


def test_workers_and_the_whole_are_killed_and_stopped_and_the_search_ends_as_if_not(tmp_path: Path) -> None:
    folder, log = tmp_path / "search", tmp_path / "log"
    process = start([*words(data(tmp_path), folder), "--trials", "3", "--processes", "2"], log)
    until(lambda: trained(folder, 0, 3) and holder(folder, "0001-1"))
    first = holder(folder, "0000-1")
    assert first is not None
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: holder(folder, "0000-2"))
    alive = workers(folder)
    process.kill()
    wait(process, log)
    until(lambda: not any(lives(one) for one in alive))  # they die with their parent

    again = start(["tune", "--resume", str(folder), "--processes", "1"], log)
    until(lambda: any(one["worker"] in claimed(folder) for one in workers(folder)))
    os.kill(again.pid, signal.SIGINT)
    stopped = wait(again, log)
    assert stopped.code == 130, stopped.stderr
    assert f"to go on: netwright tune --resume {folder}" in stopped.stdout
    assert workers(folder) == []

    last = wait(start(["tune", "--resume", str(folder), "--processes", "1", "--json"], log), log)
    assert last.code == 0, last.stderr
    assert json.loads(last.stdout)["finished"] == 3
    result = ended_well(folder, 3)
    alone = nw.train(
        folder / "trials" / f"{result['best']['trial']:04d}" / "config.toml", run_dir=tmp_path / "alone", observers=[]
    )
    assert digest(alone.folder) == digest(folder / "best")


def enough(folder: Path, alive: Callable[[], bool]) -> bool:
    """Tell whether some workers live, or the search is over."""
    return len(workers(folder)) >= 2 or not alive()


def spare(folder: Path) -> list[dict[str, Any]]:
    """Return the workers that live but for those at a trial two have died at: a third death is one of the trial's own."""
    worn = [path for path in (folder / "claims").glob("0*") if int(path.name.rpartition("-")[2]) > 2]
    held = {str((holder(folder, path.name) or {}).get("worker")) for path in worn}
    return [one for one in workers(folder) if one["worker"] not in held]


@pytest.mark.faults
@pytest.mark.parametrize("study", ["sqlite", "journal"])
def test_25_trials_in_4_processes_with_10_kills_are_25_trials(study: str, tmp_path: Path) -> None:
    generator, folder, log = random.Random(7), tmp_path / "search", tmp_path / "log"
    begin = [
        *words(data(tmp_path), folder, **{"tune.study": study, "training.epochs": 10}),
        "--trials",
        "25",
        "--processes",
        "4",
    ]
    process = start(begin, log)
    for number in range(10):
        alive = process.is_alive
        until(partial(enough, folder, alive))
        time.sleep(generator.uniform(0.0, 2.0))
        if not process.is_alive():
            break
        if number % 4 == 3:
            process.kill()
            wait(process, log)
            process = start(["tune", "--resume", str(folder)], log)
        elif victims := spare(folder):
            os.kill(generator.choice(victims)["pid"], signal.SIGKILL)
    process.join(400)
    ended: Ended = wait(process, log)
    assert ended.code == 0, ended.stderr
    ended_well(folder, 25)


@pytest.mark.faults
def test_two_commands_on_one_journal_share_the_trials(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    begin = words(data(tmp_path), folder, **{"tune.study": "journal", "tune.pruner": "none"})  # so that the other finds some
    one = start([*begin, "--trials", "8"], tmp_path / "one")
    until(lambda: holder(folder, "0000-1"))
    other = start(["tune", "--resume", str(folder)], tmp_path / "other")
    codes = [wait(process, log).code for process, log in ((one, tmp_path / "one"), (other, tmp_path / "other"))]
    assert codes == [0, 0]
    ended_well(folder, 8)
    names = {str((holder(folder, f"{number:04d}-1") or {}).get("worker")) for number in range(8)}
    assert len(names) == 2
    assert len((tmp_path / "looks.jsonl").read_text().splitlines()) == 1
