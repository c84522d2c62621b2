"""A disk that is full, broken or read-only: exit 6, the older checkpoint whole, and after that the same bits."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import harness
import pytest

from netwright.checkpoint import store
from netwright.files import system

SHORT = {"training.epochs": 2, "checkpoint.every_steps": 10}
PROBLEMS = ("ENOSPC", "EDQUOT", "EIO", "EACCES", "EXDEV", "short")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    assert harness.run(harness.training(source, folder / "run", **SHORT), folder / "log").code == 0
    return harness.digest(folder / "run")


def break_disk(problem: str, number: int) -> None:
    """Let a call to the disk fail, and all later ones too; those of the first checkpoint and of the birth are spared."""
    counts = itertools.count()
    born = False

    def failing(original: Any, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal born
            here = born and next(counts) >= number
            if here and problem == "short" and name == "write":
                original(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if here and name in ("create", "write", "sync", "rename", "make_folder"):
                code = getattr(errno, problem, errno.ENOSPC)
                raise OSError(code, os.strerror(code))
            return original(*arguments)

        return call

    for name in ("create", "append", "write", "sync", "sync_folder", "rename", "make_folder", "remove", "remove_folder"):
        setattr(system, name, failing(getattr(system, name), name))
    original = store.save

    def save(*arguments: Any) -> Any:
        nonlocal born
        if arguments[1] != store.name_of(0, 0):
            born = True
        return original(*arguments)

    store.save = save


def broken(problem: str, number: int, source: Path, expected: str, place: Path) -> None:
    folder, log = place / f"{problem}{number}", place / f"log{problem}{number}"
    found = harness.run(harness.training(source, folder, **SHORT), log, break_disk, problem, number)
    assert found.code == 6, found.stderr
    assert found.line.startswith("netwright: error: ")
    assert "cannot be written" in found.line
    if problem in ("ENOSPC", "EDQUOT", "short"):
        assert "bytes are free" in found.line
    assert str(folder) in found.line
    assert harness.verified(folder)
    assert [name for name in harness.leftovers(folder) if "checkpoints" not in name] == []
    harness.resumed_to_the_end(folder, log, [])
    assert harness.digest(folder) == expected
    assert harness.leftovers(folder) == []


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_disk_that_fails_in_a_save_ends_with_six_and_costs_no_bit(
    problem: str, source: Path, expected: str, tmp_path: Path
) -> None:
    broken(problem, 3, source, expected, tmp_path)


@pytest.mark.faults
def test_a_disk_that_fails_at_any_call_of_a_save_costs_no_bit(source: Path, expected: str, tmp_path: Path) -> None:
    calls = {
        f"{problem} {number}": lambda problem=problem, number=number: broken(problem, number, source, expected, tmp_path)
        for problem in PROBLEMS
        for number in range(0, 30, 3)
    }
    assert len(harness.in_parallel(calls)) == 60


def mounted(folder: Path, options: str) -> bool:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_a_disk_that_is_really_full_ends_with_six_and_names_the_room(source: Path, expected: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, "size=2m"):
        pytest.skip("mounting is not allowed here")
    try:
        folder = disk / "run"
        words = harness.training(source, folder, **SHORT)
        process = harness.start(words, tmp_path / "log")
        harness.until(lambda: folder.exists() or process.exitcode is not None)
        with (disk / "filler").open("wb", buffering=0) as stream:
            with contextlib.suppress(OSError):
                while stream.write(b"\0" * 4096) == 4096:
                    pass
        found = harness.wait(process, tmp_path / "log")
        assert found.code == 6, found.stderr
        assert "No space left on device" in found.line
        assert harness.verified(folder)
        (disk / "filler").unlink()
        harness.resumed_to_the_end(folder, tmp_path / "log", words)
        assert harness.digest(folder) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_a_disk_too_small_for_the_checkpoints_is_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, "size=1m"):
        pytest.skip("mounting is not allowed here")
    try:
        found = harness.run(harness.training(source, disk / "run", **SHORT), tmp_path / "log")
        assert found.code == 6
        assert "bytes are free; expected" in found.line
        assert "checkpoint.keep = 1" in found.line
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_a_run_folder_that_becomes_read_only_ends_with_six(source: Path, expected: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, "size=20m"):
        pytest.skip("mounting is not allowed here")
    try:
        folder = disk / "run"
        stopped = harness.run(harness.training(source, folder, **SHORT), tmp_path / "log", break_disk, "ENOSPC", 40)
        assert stopped.code == 6
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        found = harness.run(["resume", str(folder)], tmp_path / "log")
        assert found.code == 6
        assert "Read-only file system" in found.line
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        harness.resumed_to_the_end(folder, tmp_path / "log", [])
        assert harness.digest(folder) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def remove_folder_at(step: int, folder: str) -> None:
    """Remove the run folder before a step."""
    from netwright.engine import eager

    original, calls = eager.train_step, itertools.count()

    def removing(*arguments: Any) -> Any:
        if next(calls) == step:
            shutil.rmtree(folder)
        return original(*arguments)

    eager.train_step = removing


def test_a_run_folder_that_is_removed_meanwhile_ends_with_six(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = harness.training(source, folder, **SHORT, **{"training.engine": "eager"})
    found = harness.run(words, tmp_path / "log", remove_folder_at, 5, str(folder))
    assert found.code == 6, found.stderr
    assert "cannot be written (No such file or directory)" in found.line


@pytest.mark.parametrize("name", ["a folder with spaces", "ünïcödé ☃", "x" * 200])
def test_any_folder_above_a_run_will_do_wherever_temporary_files_go(name: str, source: Path, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    found = harness.run(harness.training(source, place / "run", **SHORT), tmp_path / "log", other_temporary_folder)
    assert found.code == 0, found.stderr
    assert harness.verified(place / "run")


def other_temporary_folder() -> None:
    """Let Python's temporary files go where nobody may write."""
    import tempfile

    tempfile.tempdir = "/proc"
