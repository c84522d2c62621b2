"""What every test is held to: torch's number of threads is left as it was; the scripts of the repository."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_are_put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads, "the test left another number of torch threads"


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Load a script of the repository that is no part of the package, by its path below the root."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.replace("/", "_"), Path(__file__).parent.parent / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="Run the long suites of faults too.")
    parser.addoption("--real-data", default=None, metavar="FOLDER", help="Folder of published data sets.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--faults"):
        for item in items:
            if item.get_closest_marker("faults"):
                item.add_marker(pytest.mark.skip(reason="a long suite of faults: --faults runs it"))
