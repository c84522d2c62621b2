"""What signals do to a search and to its workers: nothing is lost by them, and nothing is said that is not so."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_tuning_searches import rows, search

import netwright as nw
from netwright import files
from netwright.engine import eager
from netwright.files import Worker, claims
from netwright.runfolder import folder as folders
from netwright.tuning import following, results, supervising
from netwright.tuning import worker as working

LEAVES = """
import os, sys
try:
    os.mkdir(os.path.join(sys.argv[3], "second"))
except FileExistsError:
    sys.exit(0)
sys.exit(128 + {number})
"""  # the first worker leaves as after a signal, the second finds all done


def crew(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a search whose workers do something else than to train."""
    monkeypatch.setattr(supervising, "STARTED", text)
    return SimpleNamespace(folder=folder, asked=SimpleNamespace(code=()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_somebody_else_stopped_is_replaced(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    workers = crew(tmp_path, LEAVES.format(number=int(number)), monkeypatch)
    assert supervising.supervise(workers, 1, None, lambda record: told.append(str(record))) is None
    assert [f"a worker ended by {number.name}" in line for line in told] == [True]


def test_a_worker_that_leaves_because_all_shall_end_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(here: Any) -> None:
        here.hands[0].process.wait()
        os.kill(os.getpid(), signal.SIGTERM)  # all processes of a job are told, and its worker has left already

    told: list[str] = []
    monkeypatch.setattr(supervising._Crew, "listen", listen)
    workers = crew(tmp_path, LEAVES.format(number=int(signal.SIGTERM)), monkeypatch)
    assert supervising.supervise(workers, 1, None, lambda record: told.append(str(record))) == signal.SIGTERM
    assert told == []


def test_a_search_that_ends_while_another_process_is_stopped_stays_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_json(tmp_path / "tune.json", {"status": "running"})
    worker, original = Worker(tmp_path), files.at_work

    def at_work(folder: Path) -> bool:
        files.write_json(tmp_path / "tune.json", {"status": "done", "result": {"finished": 6}})
        worker.close()
        return original(folder)

    monkeypatch.setattr(files, "at_work", at_work)
    stopped: Any = SimpleNamespace(folder=tmp_path)
    results.mark(stopped, results.STOPPED)
    assert folders.read_json(tmp_path / "tune.json") == {"status": "done", "result": {"finished": 6}}


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process leaves on SIGTERM as a worker does, and another one comes while it writes down that it is over."""
    original = claims.write_json

    def write(path: Path, told: Any) -> None:
        if told.get("over"):
            os.kill(os.getpid(), signal.SIGTERM)
        original(path, told)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(claims, "write_json", write)
    following.leave_on_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)


def over(folder: Path) -> list[bool]:
    """Return of each worker whether it gave back what it had."""
    return [bool(json.loads(path.read_text()).get("over")) for path in (folder / "workers").glob("[!.]*.json")]


def test_a_second_sigterm_does_not_break_off_what_the_first_began(tmp_path: Path, leaving: None) -> None:
    worker = Worker(tmp_path)
    with pytest.raises(SystemExit) as left:
        os.kill(os.getpid(), signal.SIGTERM)
    worker.close()
    assert (left.value.code, over(tmp_path)) == (128 + signal.SIGTERM, [True])


def test_a_sigterm_after_the_one_that_stopped_a_training_breaks_off_nothing(
    tmp_path: Path, leaving: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "_begin", lambda *told: [])
    monkeypatch.setattr(working, "_train_some", lambda *told: int(signal.SIGTERM))  # a training saved and ended
    study = SimpleNamespace(trials=list, close=lambda: None)
    asked: Any = SimpleNamespace(folder=tmp_path, study=lambda: study, trials=1, in_line=False)
    assert working.work(asked, lambda record: None) == signal.SIGTERM
    assert over(tmp_path) == [True]


def test_a_search_that_is_stopped_while_its_best_trial_trains_alone_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "render_search", lambda contents: "<!DOCTYPE html>")
    original, step = results.train_member, eager.train_step

    def train_step(*told: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*told)

    def train_member(*told: Any) -> int | None:
        patch.setattr(eager, "train_step", train_step)
        return original(*told)

    with monkeypatch.context() as patch:
        patch.setattr(results, "train_member", train_member)
        found = search(tmp_path / "found", trials=1, epochs=2)
    assert (found.signal, found.retrained) == (signal.SIGTERM, None)
    assert folders.read_json(found.folder / "tune.json")["status"] == "stopped"
    again = nw.tune(resume=found.folder, data=rows())
    assert (again.signal, again.same) == (None, True)
    assert folders.read_json(found.folder / "tune.json")["status"] == "done"
