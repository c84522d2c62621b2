"""The benchmark of series: single runs and ensembles are told alike, and a division leaves the test file alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import log_loss

QUICK = {"evaluation": {"baselines": [], "importance": False, "slices": [], "worst": 0}, "training": {"epochs": 2}}


@pytest.fixture(scope="module")
def series(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/series.py")


def test_an_ensemble_is_told_after_its_members_and_has_no_larger_log_loss(series: ModuleType, tmp_path: Path) -> None:
    places = series.trained({**QUICK, "data": {"source": "sklearn:iris"}}, tmp_path / "run", 2)
    assert [place.name for place in places] == ["seed-0", "seed-1", "run"]
    *members, one = [series.figures(place, "accuracy") for place in places]
    assert one["log loss"] <= sum(member["log loss"] for member in members) / 2
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["setosa", "versicolor", "virginica"]
    given = np.array([[float(row[f"probability_{name}"]) for name in names] for row in rows])
    assert one["log loss"] == pytest.approx(log_loss([row["target"] for row in rows], given, labels=names))
    assert series.summed_up(members, each=True).startswith(f"accuracy {members[0]['accuracy']:.4f} ")


def test_a_division_reads_the_train_file_alone(series: ModuleType) -> None:
    assert series.settings(Path("data"), "GunPoint", 0.7, 3) == {
        "source": "data/ucr/GunPoint_TRAIN.ts",
        "split": {"test": 0.7, "valid": 0, "seed": 3},
    }


def test_a_part_of_an_ensemble_is_refused(
    series: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["series.py", "data", "--set", "airline", "--seeds", "7", "--ensemble", "5"])
    with pytest.raises(SystemExit):
        series.main()
    assert "--seeds 7 --ensemble 5: expected ensembles that the seeds fill" in capsys.readouterr().err
