"""What every test is held to: torch's number of threads is left as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_are_put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads, "the test left another number of torch threads"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-data", default=None, metavar="FOLDER", help="Folder of published data sets.")
