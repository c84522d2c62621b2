"""Calls in processes: answered in order, errors travel whole, a process that dies is told."""

from __future__ import annotations

import os
import signal

import pytest

from netwright.errors import ConfigError, DataError
from netwright.sources.workers import in_order


def squared(number: int) -> int:
    return number * number


def refused(number: int) -> int:
    raise ConfigError(f"key {number}: refused")


def killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [0, 2])
def test_answers_come_in_the_order_of_the_keys(workers: int) -> None:
    assert list(in_order(squared, range(9), workers)) == [number * number for number in range(9)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_that_explains_itself_comes_through(workers: int) -> None:
    with pytest.raises(ConfigError, match="key 0: refused"):
        list(in_order(refused, range(3), workers))


def test_a_process_that_dies_is_told(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(DataError, match=r"data\.workers: DataLoader worker .*; expected a process that lives; free memory"):
        list(in_order(killed, range(9), 2))
