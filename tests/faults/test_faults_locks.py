"""One writer per run folder: of two that start, one wins; what a dead writer left is taken over; readers read meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness
import pytest

import netwright as nw
from netwright import files
from netwright.errors import FolderInUseError, NetwrightError
from netwright.files import waiting


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def killed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its middle."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = harness.start(harness.training(source, folder, **{"training.epochs": 400}), folder.parent / "log")
    harness.until(lambda: len(list((folder / "checkpoints").glob("step-*"))) >= 2)
    process.kill()
    harness.wait(process, folder.parent / "log")
    return folder


def race(number: int, killed: Path, place: Path) -> None:
    """Resume a run twice at once."""
    import shutil

    folder = place / f"run{number}"
    shutil.copytree(killed, folder)
    words = ["resume", str(folder), "--set", "training.epochs=40"]
    logs = [place / f"log{number}{name}" for name in "ab"]
    processes = [harness.start(words, log) for log in logs]
    ended = [harness.wait(process, log) for process, log in zip(processes, logs, strict=True)]
    codes = sorted(found.code for found in ended)
    assert codes == [0, 7], [found.stderr for found in ended]
    line = next(found.line for found in ended if found.code == 7)
    assert f"{folder}: in use by {socket.gethostname()}, process " in line
    assert ", since 20" in line
    assert harness.leftovers(folder) == []


def test_of_two_that_resume_a_run_one_wins(killed: Path, tmp_path: Path) -> None:
    race(0, killed, tmp_path)


@pytest.mark.faults
def test_of_two_that_resume_a_run_one_wins_fifty_times(killed: Path, tmp_path: Path) -> None:
    for number in range(50):
        race(number, killed, tmp_path)


def test_of_two_trainings_into_one_folder_one_wins(source: Path, tmp_path: Path) -> None:
    words = harness.training(source, tmp_path / "run")
    logs = [tmp_path / "a", tmp_path / "b"]
    processes = [harness.start(words, log) for log in logs]
    ended = [harness.wait(process, log) for process, log in zip(processes, logs, strict=True)]
    assert sorted(found.code for found in ended) == [0, 7], [found.stderr for found in ended]
    line = next(found.line for found in ended if found.code == 7)
    assert "a run is never overwritten; name another (--run-dir, run_dir=)" in line
    alone = harness.training(source, tmp_path / "alone")
    assert harness.run(alone, tmp_path / "c").code == 0
    assert harness.digest(tmp_path / "run") == harness.digest(tmp_path / "alone")


def test_a_folder_that_is_trained_in_is_refused_at_once_and_its_holder_is_named(source: Path, tmp_path: Path) -> None:
    words = harness.training(source, tmp_path / "run", **{"training.epochs": 2000})
    process = harness.start(words, tmp_path / "a")
    harness.until(lambda: (tmp_path / "run").exists())
    for second in (words, ["resume", str(tmp_path / "run")]):
        started = time.monotonic()
        found = harness.run(second, tmp_path / "b")
        assert time.monotonic() - started < 10
        assert found.code == 7, found.stderr
        assert f"in use by {socket.gethostname()}, process {process.pid}, since " in found.line
    process.kill()
    harness.wait(process, tmp_path / "a")


def hold(folder: str, ready: object) -> None:
    lock = files.Lock(Path(folder))
    ready.send(os.getpid())  # type: ignore[attr-defined]
    signal.pause()
    lock.release()


def test_a_lock_goes_with_its_process_and_not_before(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    holder = harness.context().Process(target=hold, args=(str(tmp_path), there))
    holder.start()
    assert here.poll(harness.WAITING)
    pid = here.recv()
    with pytest.raises(FolderInUseError, match=rf"in use by .*, process {pid}, since "):
        files.Lock(tmp_path)
    assert files.holder_of(tmp_path) is not None
    holder.kill()
    holder.join()
    assert (tmp_path / "run.lock").exists()
    assert files.holder_of(tmp_path) is None
    lock = files.Lock(tmp_path)
    lock.release()
    assert not (tmp_path / "run.lock").exists()


def test_a_process_that_holds_a_lock_does_not_lose_it_by_asking_again(tmp_path: Path) -> None:
    lock = files.Lock(tmp_path)
    with pytest.raises(FolderInUseError, match="in use by"):
        files.Lock(tmp_path)
    assert files.holder_of(tmp_path) == "this process"
    other = harness.context().Process(target=hold, args=(str(tmp_path), None))
    other.start()
    other.join(harness.WAITING)
    assert other.exitcode == 1  # refused
    lock.release()


@pytest.mark.parametrize("told", [{"pid": 2**22 + 5}, {"pid": os.getpid(), "born": "1"}, {"pid": "x"}, [], "", "{"])
def test_what_a_dead_process_left_is_taken_over(told: object, tmp_path: Path) -> None:
    text = json.dumps({"host": socket.gethostname(), **told}) if isinstance(told, dict) else str(told)
    (tmp_path / "run.lock").write_text(text)
    files.Lock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_host_is_left_alone_with_the_command_that_removes_it(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text(json.dumps({"host": "node17", "pid": 4, "started": "2026-01-01 00:00:00"}))
    with pytest.raises(FolderInUseError, match=r"in use by node17, process 4, .*if that process is gone, .*rm .*/run\.lock"):
        files.Lock(tmp_path)
    assert (tmp_path / "run.lock").exists()


def make_slowly(entry: str, ready: Any) -> None:
    """Hold the right to make something until killed."""
    with files.waited(Path(entry), lambda: False):
        ready.send(True)
        time.sleep(60)


def test_what_several_processes_make_is_made_by_one_after_the_other_and_a_finished_thing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    entry, lock = tmp_path / "map", tmp_path / ".map.lock"
    here, there = multiprocessing.Pipe()
    holder = harness.context().Process(target=make_slowly, args=(str(entry), there))
    holder.start()
    assert here.poll(harness.WAITING)
    here.recv()
    with files.waited(entry, lambda: True):
        assert json.loads(lock.read_text())["pid"] == holder.pid
    with files.waited(tmp_path / "another", lambda: False):  # which nobody makes
        assert caplog.messages == []
    asked = []

    def done() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 6:
            holder.kill()
            holder.join()
        return False

    with files.waited(entry, done):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        assert len(asked) >= 6
    assert list(tmp_path.iterdir()) == []
    (told,) = caplog.messages
    assert told.startswith(f"{entry}: waiting for {socket.gethostname()}, process {holder.pid}, since ")


def elsewhere(lock: Path) -> None:
    lock.write_text(json.dumps({"host": "node17", "pid": 4, "started": "2026-01-01 00:00:00"}))


def test_a_maker_on_another_host_is_waited_for_while_it_gives_signs_of_life_and_then_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "SILENCE", 0.4)
    monkeypatch.setattr(waiting, "WAIT", 0.02)
    entry, lock = tmp_path / "map", tmp_path / ".map.lock"
    elsewhere(lock)
    begun, asked = time.monotonic(), []

    def done() -> bool:
        asked.append(time.monotonic())
        if asked[-1] - begun < 0.8:
            os.utime(lock)
        return False

    with files.waited(entry, done):
        assert 1.1 < time.monotonic() - begun < 10
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    assert caplog.messages[-1] == (
        f"{entry}: node17, process 4, since 2026-01-01 00:00:00, gave no sign of life for 0 seconds; it is made here"
    )


def test_of_two_threads_of_a_process_one_holds_a_lock(tmp_path: Path) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(50):
                together = threading.Barrier(2)

                def take(_: int, together: threading.Barrier = together) -> files.Lock | None:
                    together.wait()
                    try:
                        return files.Lock(tmp_path)
                    except FolderInUseError:
                        return None

                (held,) = [lock for lock in pool.map(take, range(2)) if lock is not None]
                held.release()
    finally:
        sys.setswitchinterval(before)


def test_who_makes_something_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PULSE", 0.02)
    lock = tmp_path / ".map.lock"
    with files.waited(tmp_path / "map", lambda: False):
        os.utime(lock, (0, 0))
        harness.until(lambda: lock.stat().st_mtime > 0)
    assert list(tmp_path.iterdir()) == []


def test_readers_read_while_a_run_is_written(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {"training.epochs": 3000, "checkpoint.every_steps": 1, "checkpoint.keep": 1}
    process = harness.start(harness.training(source, folder, **settings), tmp_path / "log")
    harness.until(lambda: folder.exists())
    reads, steps = 0, set()
    end = time.monotonic() + 4
    try:
        while time.monotonic() < end:
            run = nw.load(folder)
            assert len(run.predict(str(source))) == 330
            steps.add(run.record["steps"])
            nw.runs(tmp_path)
            reads += 1
        assert process.exitcode is None
        run.report()
    except NetwrightError as error:
        pytest.fail(f"read {reads}: {error}")
    finally:
        process.kill()
        harness.wait(process, tmp_path / "log")
    assert reads > 20
    assert len(steps) > 5
