"""Arrays that memory does not hold lie in files, which are made once and found again."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netwright.sources import cache

KEY = "sha256:" + "0123456789abcdef" * 4


def fill(values: Any) -> None:
    values[:] = np.arange(len(values))


def unasked(*_: Any) -> Any:
    raise AssertionError("asked for nothing")


def test_a_small_array_stays_in_memory_and_asks_for_no_key(tmp_path: Path) -> None:
    values, notes = cache.filled((5,), "uint8", fill, unasked, str(tmp_path / "c"))
    assert (values.tolist(), notes) == ([0, 1, 2, 3, 4], [])
    assert list(tmp_path.iterdir()) == []


def test_above_a_quarter_of_the_memory_it_is_a_file_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 20)
    assert not isinstance(cache.filled((5,), "uint8", fill, lambda: KEY, str(tmp_path))[0], np.memmap)
    values, notes = cache.filled((6,), "uint8", fill, lambda: KEY, str(tmp_path))
    assert values.tolist() == [0, 1, 2, 3, 4, 5]
    assert not values.flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == ["0123456789abcdef" * 2 + ".npy"]
    (file,) = tmp_path.iterdir()
    assert notes == [
        f"0.0 GB are more than a quarter of the free memory and lie in {file}; delete it when you need the room"
    ]


def test_a_file_is_found_again_and_made_anew_where_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 0)
    cache.filled((6,), "uint8", fill, lambda: KEY, str(tmp_path))
    cache.filled((6,), "uint8", unasked, lambda: KEY, str(tmp_path))
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"x" * 300, file.read_bytes()[:-3]):
        file.write_bytes(damage)
        assert cache.filled((6,), "uint8", fill, lambda: KEY, str(tmp_path))[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert cache.filled((2, 3), "uint8", lambda values: None, lambda: KEY, str(tmp_path))[0].shape == (2, 3)


def test_the_file_lies_in_the_working_folder_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 0)
    monkeypatch.chdir(tmp_path)
    cache.filled((6,), "uint8", fill, lambda: KEY, None)
    assert [path.parent.name for path in tmp_path.rglob("*.npy")] == [".netwright-cache"]


def test_where_the_system_does_not_tell_eight_gigabytes_are_taken_for_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: None)
    assert not isinstance(cache.filled((6,), "uint8", fill, unasked, None)[0], np.memmap)


def test_of_several_who_ask_at_once_one_fills_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 0)
    filling, together = [], threading.Barrier(2)

    def slow(values: Any) -> None:
        filling.append(len(values))
        time.sleep(0.3)
        fill(values)

    def ask(_: int) -> list[int]:
        together.wait()
        return cache.filled((6,), "uint8", slow, lambda: KEY, str(tmp_path))[0].tolist()  # type: ignore[no-any-return]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == [[0, 1, 2, 3, 4, 5]] * 2
    assert filling == [6]
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_data_sets_that_share_a_folder_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 0)
    other = "sha256:" + "fedcba9876543210" * 4

    def fill_both(values: Any) -> None:
        inner = ThreadPoolExecutor(1).submit(cache.filled, (6,), "uint8", fill, lambda: other, str(tmp_path))
        values[:] = inner.result(timeout=20)[0]

    assert cache.filled((6,), "uint8", fill_both, lambda: KEY, str(tmp_path))[0].tolist() == [0, 1, 2, 3, 4, 5]
