"""Rows that are changed, mixed, padded, drawn by weight, read from a map or taken in parts, beside the same in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ranks
import shared_runs

NAMES = [*shared_runs.CASES, *shared_runs.FILES]
FAST = ["mixed images", "padded and drawn", "in weighted parts", "in parts that may count nothing"]


def together(size: int, strategy: str, folder: Path, names: list[str]) -> dict[str, Any]:
    """Run the ranks and return what the first told; one that fails fails the test with its words."""
    for ended in ranks.Ranks(folder / "log", [(shared_runs.main, (folder, strategy, names))] * size).wait(500.0):
        assert ended.code == 0, ended.stderr
    told: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return together(2, "ddp", tmp_path_factory.mktemp("runs"), FAST)


def refuse_apart(found: dict[str, Any], name: str, size: int) -> None:
    dropped = "last_batch" in shared_runs.CASES.get(name, {})
    assert found["steps"] == 3 * (5 if dropped else 6), name  # 81 rows in batches of 16: the last has one row
    assert found["steps of other losses"] == 0, name  # to the bit: an epoch may end all by them
    assert max(found["weights"], found["history"]) < 1e-5, (name, found)
    changed = "augmentation" in shared_runs.CASES.get(name, {})
    assert found["rows of a batch"] == (16 // size if changed else 0), name  # each process changes its own rows


@pytest.mark.parametrize("name", FAST)
def test_figures_and_weights_are_those_of_one_process(told: dict[str, Any], name: str) -> None:
    refuse_apart(told[name], name, 2)


def test_a_table_is_read_into_a_map_by_one_process_of_a_machine(told: dict[str, Any]) -> None:
    once = sorted(told["read"])
    assert once[1] - once[0] == 2 * 117  # one pass to learn, one to write
    assert [name.partition("-")[0] for name in told["entries"]] == ["table"]


def test_processes_that_find_other_memory_free_read_and_shuffle_as_one(told: dict[str, Any]) -> None:
    found = told["unlike"]
    assert found["storage"] == {"all": "memory", "one": "map", "little": "map", "images": "done"}
    first, second = found["shuffle"]
    assert isinstance(first, list)
    assert first == second
    assert found["weights"] < 1e-5


@pytest.mark.faults
@pytest.mark.parametrize(("size", "strategy"), [(2, "ddp"), (2, "fsdp"), (4, "ddp"), (4, "fsdp")])
def test_every_case_gives_the_same_in_2_and_4_processes_dealt_out_or_not(size: int, strategy: str, tmp_path: Path) -> None:
    told = together(size, strategy, tmp_path, NAMES)
    for name in NAMES:
        refuse_apart(told[name], name, size)
