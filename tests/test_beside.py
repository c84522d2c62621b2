"""Processes beside this one: they answer what is called, are never needed, and end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import netwright as nw
from netwright import beside
from netwright.beside import Imports, begin, call, importing
from netwright.config.read import build_config, from_keywords
from netwright.config.schema import RunConfig
from netwright.pipeline import ahead
from netwright.pipeline.ahead import imported_ahead

FUNCTIONS = """
import os, threading, time
IMPORTED = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if hasattr(threading, "get_native_id") else None
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
def unsent():
    return lambda: None
def leaves(parent):
    if os.getpid() != parent:
        raise SystemExit(0)
    return "here"
def stops(parent):
    if os.getpid() != parent:
        import signal
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
    return "here"
def urgency():
    import threading
    return IMPORTED, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
def first():
    import sys
    return sys.path[0]
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
        theirs = call(functions.number)
        first, second, third = begin(functions.twice, 1), begin(functions.number), begin(functions.twice, [3] * 1_000_000)
        assert len(third()) == 2_000_000
        assert second() == second() == theirs
        assert call(functions.twice, 4) == 8
        assert first() == 2
        forgotten = begin(functions.number)
    assert forgotten() == os.getpid()


def test_blocks_within_share_a_process_which_ends_with_the_outer_one(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        with importing(WANTED):
            assert len(beside._open) == 1
            assert call(functions.number) == theirs
        assert call(functions.number) == theirs


@pytest.mark.parametrize("why", ["imported", "core", "python", "inside", "frozen", "starts", "forbidden"])
def test_without_a_process_functions_are_called_here(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str
) -> None:
    if why == "core":
        monkeypatch.setattr(beside, "cores", lambda: 1)
    elif why == "python":
        monkeypatch.setattr(sys, "executable", "")
    elif why == "inside":  # a program that has Python in it would be started once more
        studio = tmp_path / "studio"
        studio.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'started'}'\n")
        studio.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(studio))
    elif why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif why == "forbidden":

        def forbidden(*given: Any, **more: Any) -> Any:
            raise RuntimeError("no processes here")

        monkeypatch.setattr(subprocess, "Popen", forbidden)
    elif why == "starts":
        monkeypatch.setattr(sys, "executable", "/no/such/python")
    with importing(Imports("json" if why == "imported" else "no_package_of_this_name", ("beside_functions",))):
        assert call(functions.number) == os.getpid()
    assert not (tmp_path / "started").exists()


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


@pytest.mark.parametrize("how", ["leaves", "stops"])
def test_one_that_ends_or_stops_in_a_call_is_done_without(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(beside, "LONGEST", 300.0 if how == "leaves" else 0.5)
    with importing(WANTED):
        assert call(getattr(functions, how), os.getpid()) == "here"
        assert beside._open == []


def test_what_cannot_be_sent_is_called_here(functions: ModuleType) -> None:
    with importing(WANTED):
        assert callable(call(functions.unsent))
        assert beside._open == []
    with importing(WANTED):
        assert call(functions.number) != os.getpid()
        generator = (value for value in range(2))
        with pytest.raises(TypeError):  # of what was called here
            call(functions.twice, generator)
        assert beside._open == []


@pytest.mark.skipif(sys.platform != "linux", reason="the urgency of a thread is Linux's")
def test_imports_are_less_urgent_and_calls_are_not(functions: ModuleType) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with importing(WANTED):
        imported, called = call(functions.urgency)
    assert called == ours
    assert imported == min(ours + beside.LESS_URGENT, 19) if ours == 0 else imported >= ours


def test_it_reads_modules_where_this_process_does(functions: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(sys.path[0]))
    monkeypatch.setattr(sys, "path", [Path(sys.path[0]), *sys.path[1:]])  # as some scripts do
    with importing(WANTED):
        assert call(functions.first) == str(sys.path[0])
        assert call(functions.number) != os.getpid()
    flags = beside._flags()
    assert flags[0] == "-P"
    code = "from netwright import beside; print(beside._flags())"
    words = [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {[str(place) for place in sys.path]!r}; {code}"]
    assert "-I" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_none_is_started_where_standard_output_is_closed(functions: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Low:
        def __init__(self) -> None:
            self.closed = False

        def fileno(self) -> int:
            return 2

        def close(self) -> None:
            self.closed = True

    ends = Low(), Low()
    monkeypatch.setattr(beside, "Pipe", lambda: ends)
    with importing(WANTED):
        assert beside._open == []
        assert call(functions.number) == os.getpid()
    assert all(end.closed for end in ends)


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
        waiting, other, found = begin(functions.number), begin(functions.number), []
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
        assert other() == theirs
        assert call(functions.number) == theirs


def test_ctrl_c_is_left_to_the_process_that_asks(functions: ModuleType) -> None:
    with importing(WANTED):
        theirs = call(functions.number)
        os.kill(theirs, signal.SIGINT)
        assert call(functions.number) == theirs


@pytest.mark.parametrize("forked", [False, True])
def test_it_ends_with_the_other_process_in_the_midst_of_a_call(tmp_path: Path, functions: ModuleType, forked: bool) -> None:
    code = f"""if True:
        import os, sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        import beside_functions
        from netwright.beside import Imports, begin, call, importing
        with importing(Imports("no_package_of_this_name", ("beside_functions",))):
            call(beside_functions.number)
            begin(beside_functions.sleeps, {str(tmp_path / "number")!r})
            if {forked} and not os.fork():
                while not os.path.exists({str(tmp_path / "enough")!r}):
                    time.sleep(0.02)  # holds the connection a while longer
                os._exit(0)
            while not os.path.exists({str(tmp_path / "number")!r}):
                time.sleep(0.01)
            os.kill(os.getpid(), 9)
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    theirs = until(lambda: int((tmp_path / "number").read_text() or "0"))
    until(lambda: gone(theirs))
    (tmp_path / "enough").touch()


def until(found: Callable[[], Any]) -> Any:
    """Wait for something, a minute at most."""
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return value


COMMANDS = """if True:
    import os, sys
    from netwright import beside
    begun = []
    process = beside._Process
    def watched(wanted):
        begun.append(wanted.package)
        assert "torch" not in sys.modules
        return process(wanted)
    beside._Process = watched
    from netwright.cli import main
    try:
        main(sys.argv[1:])
    except SystemExit as stop:
        assert not stop.code, stop.code
    print(begun)
"""


@pytest.mark.skipif(beside.cores() < 2, reason="needs two cores")
def test_commands_begin_with_them_before_torch_is_imported(tmp_path: Path) -> None:
    def begun(*words: str) -> str:
        answer = subprocess.run([sys.executable, "-c", COMMANDS, *words], capture_output=True, text=True, cwd=tmp_path)
        assert not answer.returncode, answer.stderr
        return answer.stdout.splitlines()[-1]

    short = ("--set", "training.epochs=1")
    assert begun("train", "sklearn:iris", "--run-dir", "run", *short) == "['sklearn', 'matplotlib']"
    assert begun("test", "run") == "['sklearn', 'matplotlib']"
    assert begun("resume", "run") == "['sklearn', 'matplotlib']"


@pytest.mark.parametrize(
    ("given", "how", "wanted"),
    [
        ({}, {}, ["sklearn", "matplotlib"]),
        ({}, {"test": False}, ["matplotlib"]),
        ({"baselines": "simple"}, {}, ["matplotlib"]),
        ({}, {"alone": False}, []),
    ],
)
def test_imported_ahead_is_what_the_run_will_need(
    given: dict[str, Any], how: dict[str, bool], wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    @contextmanager
    def importing(*imports: beside.Imports) -> Iterator[None]:
        begun.extend(one.package for one in imports)
        yield

    monkeypatch.setattr(beside, "importing", importing)
    with imported_ahead(build_config(from_keywords({"source": "sklearn:iris", **given})), **how):
        assert begun == wanted


def test_trainings_of_a_session_but_the_first_import_what_they_need_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []

    @contextmanager
    def imported(config: RunConfig, test: bool, alone: bool) -> Iterator[None]:
        begun.append(test)
        yield

    monkeypatch.setattr(ahead, "imported_ahead", imported)
    monkeypatch.setattr(ahead, "_TRAININGS", count())
    for test in (False, True):
        run = nw.train("sklearn:iris", epochs=1, test=test, observers=[])
        assert run.history
    assert begun == [False]


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
    from netwright import beside
    beside.PATIENCE = 300.0  # the machine is busy
    if sys.argv.pop(1) == "alone":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from netwright.cli import main
    try:
        main(sys.argv[1:])
    except SystemExit as stop:
        assert not stop.code, stop.code
    print(json.dumps([name for name in ("sklearn", "matplotlib", "pandas") if name in sys.modules]))
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or beside.cores() < 2, reason="needs two cores, and to be bound to one of them"
)
def test_a_training_is_tested_the_same_with_them_and_without(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, y=(rows[:, 0] > 0.3).astype(np.int64))
    imported, tested = {}, {}
    for how in ("beside", "alone"):
        words = [
            "train",
            str(tmp_path / "rows.npz"),
            "--target",
            "y",
            "--set",
            "training.epochs=2",
            "--run-dir",
            str(tmp_path / how),
        ]
        answer = subprocess.run([sys.executable, "-c", TRAINING, how, *words], capture_output=True, text=True, check=True)
        imported[how] = json.loads(answer.stdout.splitlines()[-1])
        tested[how] = json.loads((tmp_path / how / "test.json").read_text())
        for entry in tested[how]["baselines"].values():
            entry.pop("seconds")
        del tested[how]["seconds"], tested[how]["looks"]
    assert imported["beside"] == []
    assert set(imported["alone"]) >= {"sklearn", "matplotlib"}
    assert set(tested["beside"]["baselines"]) == {"most_frequent", "logistic", "boosting"}
    assert tested["beside"] == tested["alone"]
    one, other = ((tmp_path / how / "predictions.csv").read_bytes() for how in ("beside", "alone"))
    assert one == other


def test_a_report_is_drawn_the_same_beside(tmp_path: Path) -> None:
    folder = nw.train("sklearn:iris", epochs=2, run_dir=tmp_path / "run", evaluation={"baselines": "simple"}).folder
    code = f"""if True:
        import sys
        from pathlib import Path
        import netwright.beside
        from netwright.beside import call, importing
        from netwright.reporting import formats
        netwright.beside.PATIENCE = 300.0
        with importing(formats.IMPORTS):
            there = call(formats.render, Path({str(folder)!r}))
        assert "matplotlib" not in sys.modules
        here = formats.render(Path({str(folder)!r}))
        assert there == here and there.count(b"<svg") > 3, (len(there), len(here))
    """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
