"""How much memory there is, by what the system and a container tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwright.sources import memory


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, **contents: str) -> int | None:
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_text(content)
    monkeypatch.setattr(memory, "MEMINFO", folder / "meminfo")
    monkeypatch.setattr(memory, "GROUP", folder)
    return memory.free_memory()


def test_free_memory_is_what_programs_can_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(tmp_path, monkeypatch, meminfo="MemTotal: 9 kB\nMemAvailable:   2000 kB\n") == 2_048_000


def test_a_container_counts_and_its_file_cache_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = "MemAvailable: 2000 kB\n"
    limits = {"memory_max": "900000\n", "memory_current": "500000\n", "memory_stat": "anon 1\nfile 300000\n"}
    assert told(tmp_path, monkeypatch, meminfo=free, **limits) == 700_000
    assert told(tmp_path, monkeypatch, memory_max="max\n") == 2_048_000


def test_giving_memory_back_changes_nothing_that_is_used() -> None:
    kept = bytearray(b"x" * 10_000_000)
    memory.give_back()
    assert kept == b"x" * 10_000_000
