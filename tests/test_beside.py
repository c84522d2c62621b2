"""Processes beside this one: they answer what is called, are never needed, and end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from netwright import beside
from netwright.beside import Imports, begin, call, importing

FUNCTIONS = """
import os, time
def number(): return os.getpid()
def twice(value): return 2 * value
def fails(): raise ValueError("cannot be")
def dies(parent):
    if os.getpid() != parent:
        os._exit(3)
    return "here"
def here(parent):
    if os.getpid() != parent:
        raise ValueError("not there")
    return "here"
def sleeps(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)
def has(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True
"""


@pytest.fixture(autouse=True)
def _the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 300.0)


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "beside_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "beside_functions", raising=False)
    return import_module("beside_functions")


WANTED = Imports("no_package_of_this_name", ("beside_functions",))


def test_a_process_answers_and_is_gone_after_the_block(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        assert theirs != os.getpid()
        assert call(functions.number) == theirs
        assert call(functions.twice, value=[1, 2]) == [1, 2, 1, 2]
    assert call(functions.number) == os.getpid()
    with pytest.raises(ProcessLookupError):  # reaped too
        os.kill(theirs, 0)
    assert beside._open == []


def test_a_call_goes_on_meanwhile_and_answers_are_not_mixed_up(functions: ModuleType) -> None:
    with importing(WANTED):
        forgotten, wanted = begin(functions.twice, 1), begin(functions.twice, 2)
        assert wanted() == 4
        assert call(functions.twice, 3) == 6
        assert forgotten is not wanted


def test_blocks_within_share_a_process_which_ends_with_the_outer_one(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        with importing(WANTED):
            assert call(functions.number) == theirs
        assert call(functions.number) == theirs


@pytest.mark.parametrize("why", ["imported", "core", "python", "frozen", "starts"])
def test_without_a_process_functions_are_called_here(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "core":
        monkeypatch.setattr(beside, "cores", lambda: 1)
    elif why == "python":
        monkeypatch.setattr(sys, "executable", "")
    elif why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif why == "starts":
        monkeypatch.setattr(sys, "executable", "/no/such/python")
    with importing(Imports("json" if why == "imported" else "no_package_of_this_name", ("beside_functions",))):
        assert call(functions.number) == os.getpid()


def test_a_function_of_another_module_is_called_here(functions: ModuleType) -> None:
    with importing(Imports("no_package_of_this_name", ("beside_others",))):
        assert call(functions.number) == os.getpid()


def test_a_process_that_dies_is_done_without(functions: ModuleType) -> None:
    with importing(WANTED):
        assert call(functions.number) != os.getpid()
        assert call(functions.dies, os.getpid()) == "here"
        assert call(functions.number) == os.getpid()
        waiting = begin(functions.number)
    assert waiting() == os.getpid()


def test_one_that_died_before_it_was_asked_is_done_without(functions: ModuleType) -> None:
    with importing(WANTED):
        os.kill(call(functions.number), signal.SIGKILL)
        assert call(functions.twice, 2) == 4


def test_what_fails_there_is_called_here_and_tells_why_itself(functions: ModuleType) -> None:
    with importing(WANTED):
        with pytest.raises(ValueError, match="cannot be"):
            call(functions.fails)
        assert call(functions.here, os.getpid()) == "here"


def test_imports_that_are_late_or_fail_are_not_waited_for(
    functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_late.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(beside, "PATIENCE", 0.05)
    begun = time.monotonic()
    with importing(Imports("no_package_of_this_name", ("beside_late", "beside_functions"))):
        assert call(functions.number) == os.getpid()
    assert time.monotonic() - begun < 60
    monkeypatch.setattr(beside, "PATIENCE", 300.0)
    with importing(Imports("no_package_of_this_name", ("beside_functions", "beside_that_is_missing"))):
        assert call(functions.number) != os.getpid()  # what did not fail can be used


def test_packages_are_kept_away(functions: ModuleType) -> None:
    with importing(Imports("no_package_of_this_name", ("beside_functions",), without=("sqlite3",))):
        assert not call(functions.has, "sqlite3")
        assert call(functions.has, "wave")


def test_other_threads_and_forked_processes_call_functions_themselves(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        waiting, found = begin(functions.number), []
        for asked in (lambda: call(functions.number), waiting):
            thread = threading.Thread(target=lambda asked=asked: found.append(asked()))
            thread.start()
            thread.join()
        assert found == [os.getpid()] * 2
        forked = os.fork()
        if not forked:
            right = call(functions.number) == os.getpid()
            beside._end(beside._open[-1])  # as the end of a block does
            os._exit(0 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
        assert waiting() == theirs
        assert call(functions.number) == theirs


def test_ctrl_c_is_left_to_the_process_that_asks(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        os.kill(theirs, signal.SIGINT)
        assert call(functions.number) == theirs


def test_it_ends_with_the_other_process_in_the_midst_of_a_call(tmp_path: Path, functions: ModuleType) -> None:
    code = f"""if True:
        import os, sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        import beside_functions
        from netwright.beside import Imports, begin, importing
        with importing(Imports("no_package_of_this_name", ("beside_functions",))):
            begin(beside_functions.sleeps, {str(tmp_path / "number")!r})
            while not os.path.exists({str(tmp_path / "number")!r}):
                time.sleep(0.01)
            os.kill(os.getpid(), 9)
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    theirs = until(lambda: int((tmp_path / "number").read_text() or "0"))
    until(lambda: gone(theirs))


def until(found: Callable[[], Any]) -> Any:
    """Wait for something, a minute at most."""
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return value


def gone(process: int) -> bool:
    """Tell whether a process has ended, whoever has to reap it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


TRAINING = """if True:
    import json, os, sys
    if sys.argv[2] == "alone":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np, netwright as nw, netwright.beside
    netwright.beside.PATIENCE = 300.0  # the machine is busy
    X = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    run = nw.train(data=(X, (X[:, 0] > 0.3).astype(int)), epochs=2, run_dir=sys.argv[1])
    report = (run.folder / "report.html").read_text()
    imported = [name for name in ("sklearn", "matplotlib", "pandas") if name in sys.modules]
    print(json.dumps({"test": run.tested, "imported": imported, "drawn": report.count("<svg")}))
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or beside.cores() < 2, reason="needs two cores, and to be bound to one of them"
)
def test_a_training_tests_and_draws_the_same_with_them_and_without(tmp_path: Path) -> None:
    found = {}
    for how in ("beside", "alone"):
        words = [sys.executable, "-c", TRAINING, str(tmp_path / how), how]
        answer = subprocess.run(words, capture_output=True, text=True, check=True)
        found[how] = json.loads(answer.stdout.splitlines()[-1])
        for entry in found[how]["test"]["baselines"].values():
            entry.pop("seconds")
        del found[how]["test"]["seconds"], found[how]["test"]["looks"]
    assert found["beside"]["imported"] == []
    assert set(found["alone"]["imported"]) >= {"sklearn", "matplotlib"}
    assert set(found["beside"]["test"]["baselines"]) == {"most_frequent", "logistic", "boosting"}
    assert found["beside"]["test"] == found["alone"]["test"]
    assert found["beside"]["drawn"] == found["alone"]["drawn"] > 3
