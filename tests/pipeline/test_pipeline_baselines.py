"""A test stands beside models without a network, on every kind of rows, and draws together what belongs together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets, metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

import netwright as nw
from netwright.cli import main
from netwright.trained import baselines

RNG = np.random.default_rng(0)


def beside(run: nw.Run) -> dict[str, Any]:
    assert run.tested is not None
    found: dict[str, Any] = run.tested["baselines"]
    return found


def test_a_table_stands_beside_three_models_with_paired_intervals(tmp_path: Path) -> None:
    run = nw.train("sklearn:breast_cancer", epochs=8, run_dir=tmp_path / "run")
    found = beside(run)
    assert list(found) == ["most_frequent", "logistic", "boosting"]
    assert run.tested is not None
    assert run.tested["seconds"]["baselines"] >= max(entry["seconds"] for entry in found.values()) > 0
    assert "baselines (test)" in (run.folder / "report.html").read_text()
    for entry in found.values():
        gap = entry["difference"]["accuracy"]
        own = run.tested["metrics"]["accuracy"]["value"]
        assert gap["value"] == pytest.approx(own - entry["metrics"]["accuracy"])
        assert gap.get("low", gap["value"]) <= gap["value"] <= gap.get("high", gap["value"])
    split = np.load(run.folder / "split.npz")
    from sklearn.datasets import load_breast_cancer

    rows, target = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[split["train"]], target[split["train"]])
    accuracy = model.score(rows[split["test"]], target[split["test"]])
    assert found["logistic"]["metrics"]["accuracy"] == pytest.approx(accuracy, abs=0.01)


def test_what_is_learned_from_are_the_train_rows_alone(tmp_path: Path) -> None:
    """Targets of valid and test rows that contradict the train rows change no baseline's answer."""
    rows = RNG.normal(size=(300, 3))
    target = (rows[:, 0] > 0).astype(int)
    split = {"train": list(range(200)), "valid": list(range(200, 250)), "test": list(range(250, 300))}
    changed = target.copy()
    changed[200:] = 1 - changed[200:]
    accuracies = [
        beside(nw.train(data=(rows, answers), split=split, epochs=1, run_dir=tmp_path / name))["logistic"]["metrics"][
            "accuracy"
        ]
        for name, answers in (("a", target), ("b", changed))
    ]
    assert accuracies[0] == pytest.approx(1 - accuracies[1])


def test_categories_images_labels_values_and_counts_have_baselines(tmp_path: Path) -> None:
    frame = pd.DataFrame({"colour": RNG.choice(["red", "green", "blue"], 200), "size": RNG.normal(size=200)})
    frame["target"] = np.where((frame["colour"] == "red") ^ (RNG.random(200) < 0.05), "yes", "no")
    for layers in (None, ["EmbedColumns()", "Linear(8)", "ReLU()", "Linear()"]):
        run = nw.train(frame, target="target", layers=layers, epochs=1, run_dir=tmp_path / f"table{layers is None}")
        assert beside(run)["logistic"]["metrics"]["accuracy"] > 0.8
        assert beside(run)["boosting"]["metrics"]["accuracy"] > 0.8
    images = nw.train("sklearn:digits", epochs=1, run_dir=tmp_path / "images")
    assert list(beside(images)) == ["most_frequent", "logistic"]
    assert images.tested is not None
    assert images.tested["baselines_left_out"][0]["name"] == "boosting"
    labels = nw.train(
        data=(rows := RNG.normal(size=(200, 4)), (rows > 0).astype(int)[:, :3]), epochs=1, run_dir=tmp_path / "l"
    )
    assert beside(labels)["most_frequent"]["labels"] is not None
    assert beside(labels)["logistic"]["metrics"]["f1_macro"] > 0.8
    values = nw.train(data=(rows, rows[:, :2] * 10 + 100), epochs=1, run_dir=tmp_path / "values")
    assert list(beside(values)) == ["mean", "linear", "boosting"]
    assert beside(values)["linear"]["metrics"]["rmse"] < 1


def test_a_series_stands_beside_the_last_value_and_its_season(tmp_path: Path) -> None:
    times = np.arange(400)
    series = pd.DataFrame({"y": 10 + np.sin(2 * np.pi * times / 12) + RNG.normal(0, 0.1, 400)})
    run = nw.train(series, target="y", window=6, epochs=2, run_dir=tmp_path / "run")
    found = beside(run)
    assert found["seasonal"]["period"] == 12
    assert found["seasonal"]["metrics"]["rmse"] < found["persistence"]["metrics"]["rmse"]
    test = np.load(run.folder / "split.npz")["test"]
    assert run.inputs is not None
    answers = run.inputs.raw.starts[test] + 6  # type: ignore[union-attr]
    expected = np.sqrt(np.mean((series["y"].to_numpy()[answers] - series["y"].to_numpy()[answers - 12]) ** 2))
    assert found["seasonal"]["metrics"]["rmse"] == pytest.approx(expected)
    assert run.tested is not None
    assert run.tested["intervals"]["groups"]["column"] == "blocks of 4 steps"
    set_to = nw.train(series, target="y", window=6, season=24, epochs=1, run_dir=tmp_path / "set")
    assert beside(set_to)["seasonal"]["period"] == 24


def test_sequences_of_different_length_are_summed_up(tmp_path: Path) -> None:
    lengths = RNG.integers(5, 20, 150)
    level = RNG.integers(0, 2, 150)
    rows = [RNG.normal(size=(length, 2)) + 2 * label for length, label in zip(lengths, level, strict=True)]
    run = nw.train(data=(rows, level), layers=["LSTM(8)", "LastStep()", "Linear()"], epochs=1, run_dir=tmp_path / "run")
    assert beside(run)["logistic"]["metrics"]["accuracy"] > 0.9


def test_rows_of_a_group_are_drawn_together(tmp_path: Path) -> None:
    patients = np.repeat(np.arange(60), 10)
    level = RNG.normal(size=60)[patients]
    frame = pd.DataFrame(
        {"patient": patients, "x": level + RNG.normal(0, 0.1, 600), "y": level + RNG.normal(size=60)[patients]}
    )
    grouped = nw.train(frame, target="y", split={"group": "patient"}, epochs=3, run_dir=tmp_path / "grouped")
    assert grouped.tested is not None
    assert grouped.tested["intervals"]["groups"] == {"column": "patient", "n": 12}
    rows = [int(row) for row in np.load(grouped.folder / "split.npz")["test"]]
    rest = [row for row in range(600) if row not in rows]
    split = {"train": rest[:360], "valid": rest[360:], "test": rows}
    alone = nw.train(frame, target="y", ignore=["patient"], split=split, epochs=3, run_dir=tmp_path / "alone")
    assert alone.tested is not None
    widths = [run.tested["metrics"]["mae"]["high"] - run.tested["metrics"]["mae"]["low"] for run in (grouped, alone)]
    assert widths[0] > 1.5 * widths[1]


def test_baselines_are_switched_off_and_never_touch_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        nw.train("sklearn:iris", epochs=3, baselines=wanted, run_dir=tmp_path / name)
        for name, wanted in (("none", "none"), ("simple", ["simple"]), ("all", ["simple", "linear", "boosting"]))
    ]
    assert [list(beside(run)) for run in runs] == [[], ["most_frequent"], ["most_frequent", "logistic", "boosting"]]
    files = [(run.folder / "model" / "best.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1] == files[2]
    assert len({json.dumps(run.tested["metrics"]) for run in runs if run.tested}) == 1
    with pytest.raises(SystemExit):
        main(["test", str(runs[2].folder)])
    printed = capsys.readouterr().out
    assert "beside, fitted on the same train rows (accuracy, and the network less it):" in printed
    assert "logistic regression" in printed


def test_own_losses_and_modules_are_compared_too(tmp_path: Path) -> None:
    rows = RNG.normal(size=(200, 3))
    run = nw.train(
        model=nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)),
        data=(rows, rows[:, :1] * 2),
        loss=lambda output, target: ((output - target) ** 2).mean(),
        epochs=1,
        run_dir=tmp_path / "run",
    )
    assert list(beside(run)) == ["mean", "linear", "boosting"]
    assert run.tested is not None
    assert "low" not in run.tested["metrics"]["loss"]  # the loss of a row is not known
    assert "low" in run.tested["metrics"]["rmse"]


def test_of_very_many_train_rows_a_part_is_taken_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_TRAIN", 1000)
    rows = RNG.normal(size=(3000, 3))
    run = nw.train(data=(rows, (rows[:, 0] > 0).astype(int)), epochs=1, run_dir=tmp_path / "run")
    assert beside(run)["logistic"]["note"] == "fitted on 1,000 of 1,800 train rows"
    monkeypatch.setattr(baselines, "MOST_NUMBERS", 500)
    run = nw.train(data=(rows, (rows[:, 0] > 0).astype(int)), epochs=1, run_dir=tmp_path / "small")
    assert list(beside(run)) == ["most_frequent"]
    assert run.tested is not None
    assert [entry["name"] for entry in run.tested["baselines_left_out"]] == ["linear", "boosting"]


def test_a_baseline_that_scikit_learn_refuses_is_left_out_and_the_test_goes_on(tmp_path: Path) -> None:
    rows = RNG.normal(size=(200, 3))
    counts = np.stack([RNG.poisson(np.exp(rows[:, 0])), np.zeros(200)], axis=1)
    run = nw.train(data=(rows, counts), task="regression", loss="PoissonNLLLoss()", epochs=1, run_dir=tmp_path / "run")
    assert run.record["status"] == "done"
    assert run.tested is not None
    assert "boosting" in [entry["name"] for entry in run.tested["baselines_left_out"]]


def test_windows_of_a_group_are_drawn_together(tmp_path: Path) -> None:
    level = RNG.normal(size=60)
    frame = pd.DataFrame({"series": np.repeat(np.arange(60), 12), "y": np.repeat(level, 12) + RNG.normal(0, 0.1, 720)})
    run = nw.train(
        frame, target="y", sequences="series", window=4, split={"group": "series"}, epochs=1, run_dir=tmp_path / "run"
    )
    assert run.tested is not None
    assert run.tested["intervals"]["groups"] == {"column": "series", "n": 12}
    apart: dict[str, Any] = {
        "stride": 6,
        "horizon": 2,
        "epochs": 1,
    }  # from the last window of a series to the next as far as inside
    run = nw.train(
        frame, target="y", sequences="series", window=4, split={"group": "series"}, **apart, run_dir=tmp_path / "apart"
    )
    assert run.tested is not None
    assert run.tested["n"] == 24
    assert run.tested["intervals"]["groups"] == {"column": "series", "n": 12}


def test_an_observer_that_draws_random_numbers_changes_no_bit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"layers": ["Linear(8)", "ReLU()", "Dropout(0.5)", "Linear()"], "epochs": 3, "test": False}
    plain = nw.train("sklearn:iris", run_dir=tmp_path / "plain", **settings)
    told = nw.train("sklearn:iris", run_dir=tmp_path / "told", observers=[lambda record: torch.rand(3)], **settings)
    files = [(run.folder / "model" / "last.safetensors").read_bytes() for run in (plain, told)]
    assert files[0] == files[1]


@pytest.mark.parametrize("way", [{"class_weight": "balanced"}, {"sampling": "balanced"}, {"class_weight": {"1": 4.0}}, {}])
def test_rare_classes_count_for_models_beside_a_network_as_for_it(way: dict[str, Any], tmp_path: Path) -> None:
    X, y = datasets.make_classification(600, 5, n_informative=3, n_redundant=1, weights=[0.9], random_state=1)
    run = nw.train((X, y), layers=["Linear()"], epochs=1, run_dir=tmp_path / "run", **way)
    assert run.inputs is not None
    assert run.tested is not None
    train, test = run.inputs.split.train, run.inputs.split.test
    weight = {0: 1.0, 1: 4.0} if isinstance(way.get("class_weight"), dict) else "balanced" if way else None
    scaled = StandardScaler().fit(X[train])
    model = LogisticRegression(max_iter=1000)
    counted = compute_sample_weight(weight, y[train])
    model.fit(scaled.transform(X[train]), y[train], sample_weight=counted / counted.mean())
    wanted = metrics.balanced_accuracy_score(y[test], model.predict(scaled.transform(X[test])))
    found = run.tested["baselines"]["logistic"]
    assert found["metrics"]["balanced_accuracy"] == pytest.approx(wanted, abs=1e-9)
    assert ("its classes count as in the network's training" in found.get("note", "")) == bool(way)
