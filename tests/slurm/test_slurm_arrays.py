"""Searches as arrays on a SLURM of two nodes itself: exactly the trials asked for, whatever happens to a task."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import controller
import pytest
from controller import TRAINING, Slurm, netwright_words
from hosts import Host

LIMIT = 600.0  # seconds of a search; the machine may be busy
TRIALS = 6
CONFIG = f"""{TRAINING}[checkpoint]
every_steps = 5
[evaluation]
baselines = "none"
importance = false
[tune]
trials = {TRIALS}
[tune.space]
"training.optimizer.lr" = "log 1e-3..1e-1"
"""
pytestmark = pytest.mark.slurm


def _works(words: list[str]) -> bool:
    """Tell whether a process is of a search: its command or its worker."""
    return "tune-worker" in words or "netwright" in words


def _leads(words: list[str]) -> bool:
    """Tell whether a process is the command of a search, without which its worker ends."""
    return words[1:4] == ["-m", "netwright", "tune"]


@dataclass(frozen=True)
class Search:
    """A search of two tasks, one on each node."""

    cluster: Slurm
    folder: Path
    job: str

    def task(self, number: int) -> dict[str, str]:
        """Wait until a task is over, and return what SLURM says of it."""
        return self.cluster.over(f"{self.job}_{number}", LIMIT)

    def host(self, number: int) -> Host:
        """Return the node of a task that runs."""
        name = self.cluster.job(f"{self.job}_{number}")["NodeList"]
        return next(node for node in self.cluster.nodes if node.name == name)

    def said(self, number: int) -> str:
        """Return what a task said."""
        return self.folder.with_name(f"{self.folder.name}-{number}.log").read_text()

    def logs(self) -> str:
        """Return what both tasks and SLURM said."""
        return "\n".join([*(path.read_text() for path in self.folder.parent.glob("*.log")), self.cluster.logs()])

    def workers(self) -> dict[str, str]:
        """Return which host had which trials last, by their numbers."""
        claims = sorted((self.folder / "claims").glob("0*"))
        return {path.name[:4]: json.loads(path.read_text() or "{}").get("host", "") for path in claims}

    def trains(self) -> bool:
        """Tell whether both nodes are in the middle of a trial."""
        begun = [trial for trial in self.workers() if _epochs(self.folder / "trials" / trial)]
        return {self.workers()[trial] for trial in begun} == {"node1", "node2"}

    def killed(self, number: int, chosen: Any) -> None:
        """Kill a process of a task's node."""
        (process,) = self.host(number).processes(chosen)
        os.kill(process, signal.SIGKILL)


def _epochs(trial: Path) -> int:
    history = trial / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.is_file() else 0


@pytest.fixture
def search(cluster: Slurm, folder: Path, request: pytest.FixtureRequest) -> Search:
    """A search in which both nodes are in the middle of a trial, and go on as soon as there is a file ``go``."""
    (folder / "slow.toml").write_text(CONFIG)
    time = getattr(request, "param", "30")
    asked = ("--tasks", "2", "--cpus-per-task", "2", "--time", time, "--site", "site.toml", "--code", "slow.py")
    told = json.loads(cluster.ask(*netwright_words("slurm", "slow.toml", *asked, "--run-dir", "found", "--json")))
    found = Search(cluster, folder / "found", told["job"])
    controller.until(found.trains, LIMIT, found.logs)
    return found


def ended_well(search: Search) -> None:
    """Check all that holds of a search that ended, whatever happened to it."""
    record = json.loads((search.folder / "tune.json").read_text())
    result = record["result"]
    assert record["status"] == "done"
    assert (result["finished"], result["failed"], result["trials"]) == (TRIALS, 0, TRIALS), search.logs()
    assert result["best"]["same"] is True
    trials = sorted((search.folder / "trials").iterdir())
    assert [trial.name for trial in trials] == [f"{number:04d}" for number in range(TRIALS)]
    for run in (*trials, search.folder / "best"):
        assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert [path for path in search.folder.rglob("*") if path.name.endswith(".tmp") or path.name == "run.lock"] == []
    assert len((search.folder.parent / "looks.jsonl").read_text().splitlines()) == 1
    for node in search.cluster.nodes:
        controller.until(lambda node=node: not node.processes(_works), 60, search.logs)


@pytest.mark.parametrize("search", ["3"], indirect=True)  # minutes; SLURM warns both while they are in the middle
def test_tasks_out_of_time_go_back_to_the_queue_and_both_nodes_do_their_part(search: Search, folder: Path) -> None:
    words = "out of time (its state is kept); back to the queue, 1 of at most 20 times"
    controller.until(lambda: all(words in search.said(number) for number in (0, 1)), LIMIT, search.logs)
    (folder / "go").touch()
    for told in (search.task(0), search.task(1)):
        assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), search.logs()
        assert int(told["Restarts"]) >= 1
    assert set(search.workers().values()) == {"node1", "node2"}
    ended_well(search)


def test_a_task_is_cancelled_and_the_worker_of_the_other_killed(search: Search, folder: Path) -> None:
    stopped = max(trial for trial, host in search.workers().items() if host == search.host(1).name)
    search.killed(0, lambda words: "tune-worker" in words)
    search.cluster.ask("scancel", f"{search.job}_1")
    assert search.task(1)["JobState"] == "CANCELLED"
    controller.until(lambda: "others go on with the search" in search.said(1), LIMIT, search.logs)
    assert "this task was stopped by a signal" in search.said(1)
    record = json.loads((search.folder / "trials" / stopped / "run.json").read_text())
    assert (record["status"], record["signal"]) == ("stopped", signal.SIGTERM)  # saved, not lost
    (folder / "go").touch()
    told = search.task(0)
    assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), search.logs()
    assert "a worker ended by SIGKILL at trial" in search.said(0)
    ended_well(search)


def test_a_task_is_killed_and_its_trial_goes_on_on_the_other_node(search: Search, folder: Path) -> None:
    search.killed(1, _leads)
    told = search.task(1)
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "6:0"), search.logs()
    assert "this task was killed (memory, a node); others go on with the search" in search.said(1)
    (folder / "go").touch()
    told = search.task(0)
    assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), search.logs()
    ended_well(search)


def test_all_tasks_are_killed_and_the_same_job_goes_on(search: Search, folder: Path) -> None:
    for number in (0, 1):
        search.killed(number, _leads)
    for told in (search.task(0), search.task(1)):
        assert (told["JobState"], told["ExitCode"]) == ("FAILED", "6:0"), search.logs()
    missing, why = search.said(1).splitlines()[-2:]
    assert f"0 of {TRIALS} trials finished" in missing
    again = why.partition("to go on: ")[2].split()
    (folder / "go").touch()
    second = Search(search.cluster, search.folder, search.cluster.ask(*again).split()[-1])
    for told in (second.task(0), second.task(1)):
        assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), search.logs()
    ended_well(second)
