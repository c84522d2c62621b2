"""What every test is held to: it begins with the same generators, and leaves torch as it was; the scripts of the repository."""

from __future__ import annotations

import gc
import importlib.util
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

# Several processes test on a few cores: torch, OpenBLAS and scikit-learn take one thread each where a run does not ask for more,
# and threads that have nothing to do sleep, here and in the processes that tests start. Read when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import matplotlib  # noqa: F401  # imported here, so that no process imports them beside a test
import numpy as np
import pytest
import sklearn  # noqa: F401
import torch

from netwright.cli import main

TESTS = Path(__file__).parent
# What is proved here is not what a report looks like: tests of reports, commands, examples and configs draw for the others.
WITHOUT_DRAWINGS = ("checks", "data", "engine", "estimators", "evaluation", "exporting", "model", "pipeline", "population")
WITHOUT_DRAWINGS += ("serving", "sources", "tracking", "training", "tuning", "test_docs.py")
ON_DISK = ("faults",)  # wait until every file is safely there
# Files that take longest are begun first, so that all processes end at about the same time.
LONGEST = ("test_docs_commands.py", "test_docs.py", "test_checks_corpus.py", "test_pipeline_examining.py")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put every generator back before a test and its fixtures, so that nothing depends on what ran before in the process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    for generator, state in _BEGINNINGS.get(getattr(item, "module", None), ()):
        generator.bit_generator.state = state


_BEGINNINGS: dict[ModuleType | None, list[tuple[np.random.Generator, Any]]] = {}  # generators of a file, as it left them


def _remember_generators(module: ModuleType) -> None:
    found = [value for value in vars(module).values() if isinstance(value, np.random.Generator)]
    _BEGINNINGS[module] = [(generator, generator.bit_generator.state) for generator in found]


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    assert torch.get_num_threads() == threads, "the test left another number of torch threads"
    assert torch.get_default_dtype() == dtype, "the test left another default dtype"


@pytest.fixture
def one_thread(_torch_is_left_as_it_was: None) -> Iterator[None]:
    """Compute on one thread, as small steps do: fastest, and always alike. Files ask for it by ``usefixtures``."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _is_in(request: pytest.FixtureRequest, folders: tuple[str, ...]) -> bool:
    path = request.path
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).parts[0] in folders


@pytest.fixture(scope="module", autouse=True)
def _nothing_waits_for_the_disk(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write without waiting until the disk has it, which takes a tenth of the time: no test cuts off the power."""
    with pytest.MonkeyPatch.context() as patch:
        if not _is_in(request, ON_DISK):
            patch.setattr(os, "fsync", os.fstat)  # which fails on what is no open file too
        yield


@pytest.fixture(scope="module", autouse=True)
def _reports_are_not_drawn(request: pytest.FixtureRequest) -> Iterator[pytest.MonkeyPatch]:
    """Leave the drawings of a report empty where it is not looked at: they take a third of the time of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        if _is_in(request, WITHOUT_DRAWINGS):
            _leave_drawings_empty(patch)
        yield patch


@pytest.fixture
def drawn(_reports_are_not_drawn: pytest.MonkeyPatch) -> None:
    """Draw as always, from this test of a file on."""
    _reports_are_not_drawn.undo()


def _leave_drawings_empty(patch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn = Figure.savefig

    def emptied(figure: Figure, target: Any, *places: Any, **how: Any) -> None:
        if how.get("format") == "svg":
            target.write('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
        else:
            drawn(figure, target, *places, **how)

    patch.setattr(Figure, "savefig", emptied)
    patch.setattr("netwright.reporting.canvas._lay_out", lambda figure: None)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that netwright would give to a new process of its own run in this one; a start takes two seconds."""

    def run(command: list[str], **_how: Any) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "netwright"]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(command[3:])
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Load a script of the repository that is no part of the package, by its path below the root."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.replace("/", "_"), Path(__file__).parent.parent / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # a dataclass looks there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny runs with a test of every kind of evidence merged in: classes, values, pictures."""
    import filled

    import netwright as nw

    place = tmp_path_factory.mktemp("reported")
    threads = torch.get_num_threads()
    kinds = (("iris", filled.of_classes), ("diabetes", filled.of_values), ("digits", filled.of_pictures))
    folders = {}
    for name, full in kinds:
        run = nw.train(f"sklearn:{name}", epochs=4, run_dir=place / name)
        folders[name] = filled.fill(run.folder, full, filled.FINDINGS if name == "iris" else ())
    torch.set_num_threads(threads)
    return folders


class Doctests:
    """Keeps the collector of garbage away from doctests: their debugger walks through the sources that Python knows, from which
    SQLAlchemy takes those of classes that are collected, and breaks off where one is gone."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        if not isinstance(item, pytest.DoctestItem):
            return (yield)
        gc.disable()
        try:
            return (yield)
        finally:
            gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Doctests())  # for those in src too


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collector of garbage, which otherwise looks through all of it again and again."""
    gc.collect()
    gc.freeze()


MARKED = {  # by what stands beside a test: why it does not run unasked
    "faults": "a long suite of faults",
    "browser": "needs a browser",
    "network": "needs two hosts (network namespaces)",
    "slurm": "needs a SLURM",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="Run the long suites of faults too.")
    parser.addoption("--browser", action="store_true", help="Run the tests in a browser too.")
    parser.addoption("--chromium", default="", metavar="FILE", help="The Chromium of --browser; default one on the PATH.")
    parser.addoption("--network", action="store_true", help="Run the tests on two hosts (network namespaces, as root) too.")
    parser.addoption("--slurm", action="store_true", help="Run the tests on a SLURM of two such hosts too.")
    parser.addoption("--slurm-prefix", default="", metavar="FOLDER", help="Where the SLURM of --slurm was unpacked.")
    parser.addoption("--real-data", default=None, metavar="FOLDER", help="Folder of published data sets.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for module in {getattr(item, "module", None) for item in items} - {None}:
        _remember_generators(module)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    asked = config.getoption("markexpr")
    for marker, what in MARKED.items():
        if config.getoption(f"--{marker}") or (marker == "browser" and asked == "browser"):
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{what}: --{marker} runs it"))
