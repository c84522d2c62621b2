"""Whole runs whose network is dealt out (strategy fsdp) beside the same in one process, and what goes on from their checkpoints.

The ranks run `dealt_runs.main` once; the tests look at what the first of them told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dealt_runs
import pytest
import ranks

FAST = ["mean EMA", "uneven"]
OTHERS = [name for name in dealt_runs.CASES if name not in FAST]
WITHIN = {"float16": 2e-3, "float16 Adam": 2e-3}


def together(size: int, folder: Path, names: list[str]) -> dict[str, Any]:
    """Run the ranks and return what the first told; one that fails fails the test with its words."""
    actions = [(dealt_runs.main, (rank, size, folder, names)) for rank in range(size)]
    for ended in ranks.Ranks(folder / "log", actions).wait(300.0):
        assert ended.code == 0, ended.stderr
    told: dict[str, Any] = json.loads((folder / "told-0.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    return together(2, folder, FAST)


def refuse_apart(told: dict[str, Any], names: list[str], size: int) -> None:
    for name in names:
        found = told[name]
        assert found["weights"] < WITHIN.get(name, 1e-5), (name, found)
        assert found["history"] < WITHIN.get(name, 1e-5), (name, found)
        assert found["played"] == f"as written, by {size} processes (FSDP)"
        assert found["strategy"] == "fsdp"


@pytest.mark.parametrize("name", FAST)
def test_a_run_that_is_dealt_out_gives_the_figures_and_weights_of_one_process(told: dict[str, Any], name: str) -> None:
    refuse_apart(told, [name], 2)


def test_its_network_is_a_plain_one_at_the_end(told: dict[str, Any]) -> None:
    assert told["mean EMA"]["kinds"] == ["BatchNorm1d", "Linear", "ReLU", "Tanh"]


def test_a_run_goes_on_dealt_out_whole_or_alone_and_says_whether_exactly(told: dict[str, Any]) -> None:
    found = told["gone on"]
    assert {name: one["said"].removeprefix("note: ") for name, one in found.items()} == {
        "fsdp to fsdp": "resume: exact",
        "fsdp to ddp": "resume: not exact (strategy fsdp -> ddp)",
        "fsdp to alone": "resume: not exact (world size 2 -> 1)",
        "ddp to ddp": "resume: exact",
        "ddp to fsdp": "resume: not exact (strategy ddp -> fsdp)",
        "ddp to alone": "resume: not exact (world size 2 -> 1)",
    }
    assert found["fsdp to fsdp"]["weights"] == found["fsdp to fsdp"]["history"] == 0
    assert all(max(one["weights"], one["history"]) < 1e-5 for one in found.values()), found


@pytest.mark.parametrize("text", ["LBFGS()", "Rprop()", "Muon()", "Adafactor()"])
def test_an_optimizer_that_takes_no_pieces_is_refused_before_anything_is_written(told: dict[str, Any], text: str) -> None:
    assert told["refused"][text].startswith(
        f"2 training.strategy: fsdp came; it cannot deal this network out: {text[:-2]}: "
    )
    assert told["refused"]["left"] == "False"


def test_a_module_that_reads_weights_of_a_layer_it_does_not_call_is_told_so(told: dict[str, Any]) -> None:
    assert told["refused"]["reads"].startswith(
        "2 training.strategy: fsdp came; a module reads parameters of a layer that it does not call"
    )


def test_small_parts_are_refused_where_batch_norm_counts_each_alone(told: dict[str, Any]) -> None:
    found = told["refused"]["lonely"]
    assert found.startswith(
        "2 data.last_batch: keep came; 75 rows in batches of 24 leave 3 for 2 processes, and BatchNorm needs two"
    )
    assert found.endswith("set training.sync_batchnorm = true")


def test_a_missing_piece_ends_a_resumption_with_one_line_and_the_code_of_checkpoints(
    told: dict[str, Any], folder: Path
) -> None:
    run = folder / "going" / "fsdp"
    for piece in (run / "checkpoints").glob("*/optimizer-00002-of-00002.safetensors"):
        piece.unlink()
    for birth in (run / "checkpoints").glob("step-000000000-*/state.json"):
        birth.write_text("{}")
    found = ranks.alone(folder / "alone", ["resume", str(run), "--set", "training.epochs=5"])
    assert found.code == 4
    (line,) = found.errors
    assert "optimizer-00002-of-00002.safetensors: cannot be read (No such file or directory)" in line


@pytest.mark.faults
@pytest.mark.parametrize("size", [2, 4])
def test_means_sharpness_float16_freezing_and_groups_are_exact_where_they_are_dealt_out(size: int, tmp_path: Path) -> None:
    refuse_apart(together(size, tmp_path, ["mean EMA", *OTHERS]), OTHERS, size)
