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


@pytest.mark.parametrize("kind", ["csv", "parquet", "h5"])
def test_power_plant_is_the_same_from_every_file(kind: str, folder: Path, tmp_path: Path) -> None:
    path = folder / "power_plant" / "power_plant"
    runs = [
        nw.train(f"{path}.{name}", target="PE", epochs=3, run_dir=tmp_path / name) for name in dict.fromkeys(("csv", kind))
    ]
    weights = [(run.folder / "model" / "last.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[-1]


@pytest.mark.parametrize(("name", "most"), [("power_plant", 4.2), ("yacht", 1.2)])
def test_the_twenty_published_splits(name: str, most: float, folder: Path, tmp_path: Path) -> None:
    columns = {"power_plant": ["AT", "V", "AP", "RH", "PE"], "yacht": ["LC", "PC", "LD", "BDr", "LBr", "Fr", "Rr"]}[name]
    split = {"file": folder / name / "splits20.npz", "train": "train_{fold}", "test": "test_{fold}", "valid": 0.1}
    small = name == "yacht"
    found = nw.cross_validate(
        folder / name / "data.txt", columns=columns, target=columns[-1], split=split, layers=["Linear(50)", "ReLU()", "Linear()"],
        epochs=400 if small else 100, batch_size=16 if small else 64, optimizer=f"Adam(lr={0.01 if small else 0.003})",
        run_dir=tmp_path / "cv",
    )  # fmt: skip
    assert len(found.runs) == 20
    assert found.figures["rmse"].mean <= most


def test_pneumonia_images_from_the_archive(folder: Path, tmp_path: Path) -> None:
    run = nw.train(folder / "pneumonia_png" / "pneumoniamnist_png.zip", epochs=12, run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["metrics"]["roc_auc"]["value"] >= 0.93
    refused = [found for found in run.record["findings"] if found["severity"] != "note"]
    assert [(found["check"], found["rows"]) for found in refused] == [("duplicate-rows", 8)]


def test_indoor_movement_to_another_site(folder: Path, tmp_path: Path) -> None:
    archive = folder / "indoor_movement" / "IndoorMovement.zip"
    run = nw.train(
        archive / "dataset" / "MovementAAL_target.csv", sequences="MovementAAL_RSS_{#sequence_ID}.csv", target="class_label",
        join=str(archive / "groups" / "MovementAAL_DatasetGroup.csv"), ignore=["#sequence_ID"], batch_size=32, epochs=100,
        split={"group": "dataset_ID", "test": [3], "valid": 0.0}, layers=["GRU(32)", "LastStep()", "Linear()"],
        optimizer="Adam(lr=0.005)", run_dir=tmp_path / "run",
    )  # fmt: skip
    assert run.record["split"]["test"] == 104
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] >= 0.6


def test_a_forecast_of_temperatures_beats_persistence(folder: Path, tmp_path: Path) -> None:
    run = nw.train(
        folder / "timeseries" / "daily-min-temperatures.csv", target="Temp", window=24, split={"test": 365, "valid": 365},
        epochs=12, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert run.tested is not None
    assert run.tested["metrics"]["rmse"]["value"] < run.tested["baselines"]["persistence"]["metrics"]["rmse"]


@pytest.mark.parametrize(("name", "least"), [("GunPoint", 0.95), ("ItalyPowerDemand", 0.95)])
def test_series_of_the_ucr_archive(name: str, least: float, folder: Path, tmp_path: Path) -> None:
    files = {part: folder / "ucr" / f"{name}_{part.upper()}.ts" for part in ("train", "test")}
    run = nw.train({"data": files}, split={"valid": 0}, epochs=150, run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] >= least


def test_characters_of_shakespeare(folder: Path, tmp_path: Path) -> None:
    run = nw.train(
        folder / "tinyshakespeare" / "input.txt", text="characters", window=64, split={"test": 0.1, "valid": 0.0}, batch_size=32,
        layers=["Embedding(64)", "GRU(256)", "Linear()"], optimizer="Adam(lr=0.003)", epochs=3, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert run.tested is not None
    assert run.tested["metrics"]["loss"]["value"] < 1.9


def test_mammography_by_the_area_under_the_curve(folder: Path, tmp_path: Path) -> None:
    run = nw.train(
        folder / "extras" / "mammography.csv", header=False, target="column_7", epochs=40, run_dir=tmp_path / "run"
    )
    assert run.tested is not None
    assert run.tested["metrics"]["roc_auc"]["value"] >= 0.9


def test_horse_colic_with_its_question_marks(folder: Path, tmp_path: Path) -> None:
    run = nw.train(folder / "extras" / "horse-colic.csv", header=False, target="column_24", run_dir=tmp_path / "run")
    missing = {column["name"]: column["missing"] for column in run.record["data"]["columns"]}
    assert missing["column_4"] == 60
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.7
