"""What signals do to a search and to its workers: nothing is lost by them, and nothing is said that is not so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netwright import files
from netwright.files import Worker
from netwright.pipeline import folder as folders
from netwright.tuning import results, supervising

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
    search = crew(tmp_path, LEAVES.format(number=int(number)), monkeypatch)
    assert supervising.supervise(search, 1, None, lambda record: told.append(str(record))) is None
    assert [f"a worker ended by {number.name}" in line for line in told] == [True]


def test_a_worker_that_leaves_because_all_shall_end_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(here: Any) -> None:
        here.hands[0].process.wait()
        os.kill(os.getpid(), signal.SIGTERM)  # all processes of a job are told, and its worker has left already

    told: list[str] = []
    monkeypatch.setattr(supervising._Crew, "listen", listen)
    search = crew(tmp_path, LEAVES.format(number=int(signal.SIGTERM)), monkeypatch)
    assert supervising.supervise(search, 1, None, lambda record: told.append(str(record))) == signal.SIGTERM
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
    search: Any = SimpleNamespace(folder=tmp_path)
    results.mark(search, results.STOPPED)
    assert folders.read_json(tmp_path / "tune.json") == {"status": "done", "result": {"finished": 6}}
