"""The native library: compiled once into a cache that is the user's alone, replaced by Python where it cannot be."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_engine_captured import both, examples_of, network, run
from torch import nn

from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.recording import building, recorded
from netwright.recording.building import NotBuiltError


@pytest.fixture
def cached() -> Path:
    """The folder of the library on this machine."""
    if not any(shutil.which(name) for name in building.COMPILERS):
        pytest.skip("no C++ compiler here")
    building.library(wait=True)
    return building._place(None)[0]


def copied(cached: Path, root: Path) -> Path:
    """Copy the library into another cache, and return its folder there."""
    folder = building._place(root)[0]
    folder.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    shutil.copytree(cached / building.BUILT, folder / building.BUILT)
    return folder


def test_the_cache_is_the_users_alone(cached: Path) -> None:
    for path in (cached, cached / building.BUILT, cached / building.BUILT / building.LIBRARY):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    assert [path.name for path in (cached / building.BUILT).iterdir()] == [building.LIBRARY]


def test_a_library_without_torch_is_named_by_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {source: building._place(tmp_path / "here", source)[0] for source in (building.REPLAY, building.DENSE)}
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    others = {source: building._place(tmp_path / "there", source)[0] for source in places}
    assert places[building.DENSE].name == others[building.DENSE].name
    assert places[building.REPLAY].name != others[building.REPLAY].name
    for name in ("dense.cpp", *building.DENSE.headers):
        shutil.copy(building.DENSE.path.with_name(name), tmp_path / name)
    monkeypatch.setattr(building, "__file__", str(tmp_path / "building.py"))
    assert building._place(tmp_path / "moved", building.DENSE)[0].name == places[building.DENSE].name
    for name in ("dense.cpp", building.DENSE.headers[-1]):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(before + "\n")
        assert building._place(tmp_path / name, building.DENSE)[0].name != places[building.DENSE].name
        (tmp_path / name).write_text(before)


@pytest.mark.parametrize("source", [building.REPLAY, building.DENSE])
def test_what_a_source_includes_of_ours_is_named(source: building.Source) -> None:
    found, left = set(), [source.path]
    while left:
        names = re.findall(r'#include "(.+)"', left.pop().read_text())
        left += [source.path.with_name(name) for name in names if name not in found]
        found |= set(names)
    assert found == set(source.headers)


@pytest.mark.parametrize("part", ["", building.BUILT, f"{building.BUILT}/{building.LIBRARY}"])
def test_a_library_that_others_can_write_is_not_loaded(cached: Path, tmp_path: Path, part: str) -> None:
    folder = copied(cached, tmp_path / "cache")
    building.library(tmp_path / "cache")
    (folder / part).chmod(0o777)
    with pytest.raises(NotBuiltError, match="can be written by others; expected a folder of this user alone; remove it"):
        building.library(tmp_path / "cache")


def test_a_damaged_library_is_told(cached: Path, tmp_path: Path) -> None:
    folder = copied(cached, tmp_path / "cache")
    (folder / building.BUILT / building.LIBRARY).write_bytes(b"no library")
    with pytest.raises(NotBuiltError, match="cannot be loaded"):
        building.library(tmp_path / "cache")


def test_what_the_compiler_says_is_kept(tmp_path: Path) -> None:
    compiler = next((found for name in building.COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C++ compiler here")
    building.build(tmp_path / "native", [compiler, "-c", str(tmp_path / "missing.cpp"), building.LINK, "-shared"])
    told = (tmp_path / "native" / building.BUILT / building.LOG).read_text()
    assert "missing.cpp" in told
    assert not (tmp_path / "native" / building.BUILT / building.LIBRARY).exists()


def test_without_a_compiler_steps_are_replayed_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "COMPILERS", ("no-such-compiler",))
    building._place.cache_clear()
    try:
        with pytest.raises(NotBuiltError, match=r"no C\+\+ compiler is found \(no-such-compiler\)"):
            building.library()
        model = nn.Linear(3, 3)
        engine = CapturedEngine(EagerEngine(model, nn.MSELoss(), torch.optim.SGD(model.parameters())))
        run(engine, examples_of((3,), classes=False))
        assert engine.played() == "from Python: no C++ compiler is found (no-such-compiler)"
    finally:
        building._place.cache_clear()


def test_a_library_that_is_there_later_is_taken_then(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python at first, natively once it is compiled, compared again, and the same bits all along."""
    original, asked = building.library, []

    def late() -> object:
        asked.append(1)
        if len(asked) < 4:
            raise NotBuiltError("it is being compiled, once on this machine", soon=True)
        return original()

    monkeypatch.setattr(building, "library", late)
    monkeypatch.setattr(recorded, "ASKED_AGAIN", 0.0)
    assert both(*network("LSTM")).played() == "natively"
    assert len(asked) >= 4


def test_a_compiler_that_goes_on_after_this_process_is_no_mistake(tmp_path: Path) -> None:
    start = "import sys; from pathlib import Path; from netwright.recording import building"
    start += "; building._start(Path(sys.argv[1]), ('no-such-compiler', building.LINK))"
    words = [sys.executable, "-W", "error::ResourceWarning", "-c", start, str(tmp_path / "native")]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def test_nothing_of_the_current_folder_runs_when_it_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("platform", "ctypes", "subprocess"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path)
    command = ("no-such-compiler", "-c", "x.cpp", building.LINK, "-shared")
    building._start(tmp_path / "native", command)
    building._CHILDREN[-1].wait(60)
    assert (tmp_path / "native").exists()
    assert not (tmp_path / "ran").exists()
