"""What every test is held to: it begins with the same generators, and leaves torch as it was; the scripts of the repository."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# Threads of torch that have nothing to do sleep, here and in the processes that tests start: by default they spin, and with
# several processes on a few cores most of the time goes there. Read when torch is loaded; the bits are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch


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
    asked = config.getoption("markexpr")
    for marker, what in MARKED.items():
        if config.getoption(f"--{marker}") or (marker == "browser" and asked == "browser"):
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{what}: --{marker} runs it"))
