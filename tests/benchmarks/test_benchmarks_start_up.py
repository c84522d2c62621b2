"""The benchmark of the start: it comes to the first steps of a run, and leaves the run there."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def start_up(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/start_up.py")


def test_a_training_is_timed_to_its_first_steps(start_up: ModuleType) -> None:
    found = start_up.first_step(start_up.DIGITS)
    assert 0 < found[start_up.ENTERED] <= found[start_up.DONE] < 120
