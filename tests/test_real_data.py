"""Published data sets, where a folder of them is at hand: pytest -m real_data --real-data FOLDER."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import netwright as nw

pytestmark = pytest.mark.real_data

ADULT = (
    "age workclass fnlwgt education education-num marital-status occupation relationship race sex capital-gain "
    "capital-loss hours-per-week native-country income"
).split()


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--real-data")
    if given is None:
        pytest.skip("needs --real-data FOLDER")
    return Path(given)


def test_adult_official_test(folder: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "train": folder / "adult" / "adult-train.csv",
        "test": folder / "adult" / "adult-test.csv",
        "columns": ADULT,
        "target": "income",
        "labels": {">50K.": ">50K", "<=50K.": "<=50K"},
        "batch_size": 256,
    }
    run = nw.train({"data": data}, run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["n"] == 16_281
    assert run.tested["metrics"]["accuracy"]["value"] >= 0.850


def test_power_plant_first_split(folder: Path, tmp_path: Path) -> None:
    split = {"file": folder / "power_plant" / "splits20.npz", "train": "train_0", "test": "test_0", "valid": 0.1}
    run = nw.train(
        folder / "power_plant" / "power_plant.csv", target="PE", split=split,
        layers=["Linear(50)", "ReLU()", "Linear()"], epochs=200, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert run.tested is not None
    assert run.tested["metrics"]["rmse"]["value"] <= 4.3


def test_mnist_five_thousand_digits(folder: Path, tmp_path: Path) -> None:
    images = folder / "mnist_t10k" / "t10k-images-idx3-ubyte.gz"
    run = nw.train(images, split={"test": 5000, "valid": 500}, epochs=20, run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["n"] == 5000
    assert run.tested["metrics"]["accuracy"]["value"] >= 0.975
