"""Whole runs of 2 and 4 processes, and runs saved by 2 that go on with 4, 2 and 1: weights and test figures of one process."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ranks
import safetensors.torch
from ranks import together, training

LAYERS = ["Linear(16, bias=False)", "BatchNorm1d()", "ReLU()", "Linear(8)", "Tanh()", "Linear()"]
WITHIN = 1e-5  # relative, float32
Trained = Callable[[int, str], Path]
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranks.data(tmp_path_factory.mktemp("data"))  # 198 rows train, 66 validate, 66 test: no multiples of 4


def words(source: Path, run: Path, strategy: str) -> list[str]:
    plain = {"model.layers": json.dumps(LAYERS), "training.sync_batchnorm": "true", "training.strategy": f'"{strategy}"'}
    return training(source, run, **plain)


@pytest.fixture(scope="module")
def trained(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the run of a number of processes in a strategy; each is trained once."""
    done: dict[tuple[int, str], Path] = {}

    def train(size: int, strategy: str) -> Path:
        if (size, strategy) not in done:
            folder = tmp_path_factory.mktemp(f"{strategy}{size}")
            line = words(source, folder / "run", strategy)
            found = together(folder / "log", size, line).wait() if size > 1 else [ranks.alone(folder / "log", line)]
            assert [one.code for one in found] == [0] * size, found
            done[size, strategy] = folder / "run"
        return done[size, strategy]

    return train


def refuse_other_weights(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        left, right = (safetensors.torch.load_file(run / "model" / f"{name}.safetensors") for run in (one, other))
        assert left.keys() == right.keys()
        for key, value in left.items():
            far = (right[key] - value).abs().max() / value.abs().max()
            assert far <= WITHIN, (name, key, float(far))


def told(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "test.json").read_text())
    return found


def refuse_other_figures(one: Path, other: Path) -> None:
    left, right = told(one), told(other)
    assert left["n"] == right["n"] == 66
    assert left["metrics"].keys() == right["metrics"].keys()
    for name, figure in left["metrics"].items():
        for bound in ("value", "low", "high"):
            assert right["metrics"][name][bound] == pytest.approx(figure[bound], rel=WITHIN), (name, bound)
    assert left["metrics"]["accuracy"] == right["metrics"]["accuracy"]
    for first, second in zip(ranks.history(one), ranks.history(other), strict=True):
        for name in ("train_loss", "valid_loss"):
            assert float(second[name]) == pytest.approx(float(first[name]), rel=WITHIN), name
        assert first["valid_accuracy"] == second["valid_accuracy"]


def predicted(run: Path) -> list[list[str]]:
    """Return the number of the row, the true class and the predicted one of each line."""
    rows = list(csv.DictReader(io.StringIO((run / "predictions.csv").read_text())))
    return [[value for name, value in row.items() if not name.startswith("probability")] for row in rows]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("size", [2, 4])
def test_figures_over_every_test_row_once_are_those_of_one_process(trained: Trained, size: int, strategy: str) -> None:
    alone, found = trained(1, "auto"), trained(size, strategy)
    refuse_other_weights(alone, found)
    refuse_other_figures(alone, found)
    lines = predicted(found)
    assert lines == predicted(alone)
    assert len(lines) == len({line[0] for line in lines}) == 66


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_that_two_processes_saved_within_an_epoch_goes_on_with_four_with_two_and_with_one(
    source: Path, trained: Trained, tmp_path: Path, strategy: str
) -> None:
    run = tmp_path / "run"
    two = together(tmp_path / "log", 2, words(source, run, strategy))
    ranks.until(lambda: ranks.steps_of(run) >= 15)
    two.processes[1].terminate()
    assert [one.code for one in two.wait()] == [143, 143]
    assert json.loads((run / "run.json").read_text())["steps"] < 52
    for size in (4, 2, 1):
        other = Path(shutil.copytree(run, tmp_path / f"with{size}"))
        line = ["resume", str(other)]
        log = tmp_path / f"log{size}"
        found = together(log, size, line).wait() if size > 1 else [ranks.alone(log, line)]
        assert [one.code for one in found] == [0] * size, found
        said = "resume: exact" if size == 2 else f"resume: not exact (world size 2 -> {size})"
        assert said in found[0].stdout
        refuse_other_weights(trained(1, "auto"), other)
        refuse_other_figures(trained(1, "auto"), other)
        if size == 2:
            assert ranks.left(other) == ranks.left(trained(2, strategy))
