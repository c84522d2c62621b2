"""The verb train, end to end: the same bits again, the run folder, best weights, early stopping, signals."""

from __future__ import annotations

import json
import os
import signal
import threading
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from torch import nn

import netwright as nw
from netwright.errors import ConfigError, FolderInUseError
from netwright.pipeline.telling import Told
from netwright.training.journal import EpochRecord

NET = ["Linear(16)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]


def weights(run: nw.Run, name: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.folder / "model" / f"{name}.safetensors")


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in history]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("source", "keywords"),
    [
        ("sklearn:wine", {"layers": NET}),
        ("sklearn:wine", {}),
        ("sklearn:diabetes", {"layers": ["Linear(8)", "ReLU()", "Linear()"], "optimizer": "AdamW(lr=0.01)"}),
        ("sklearn:digits", {"layers": ["Conv2d(4, 3)", "ReLU()", "Flatten()", "Linear()"], "batch_size": 200}),
        ("sklearn:linnerud", {"layers": ["Linear()"], "optimizer": "LBFGS(lr=0.1)"}),
    ],
)
def test_a_run_from_the_resolved_config_gives_the_same_bits(source: str, keywords: dict[str, Any], tmp_path: Path) -> None:
    first = nw.train(source, epochs=3, run_dir=tmp_path / "first", **keywords)
    again = nw.train(first.folder / "config.toml", run_dir=tmp_path / "again")
    assert equal(weights(first), weights(again))
    assert equal(weights(first, "best"), weights(again, "best"))
    assert without_seconds(first.history) == without_seconds(again.history)
    assert (first.folder / "split.npz").read_bytes() == (again.folder / "split.npz").read_bytes()
    assert (first.folder / "config.toml").read_text() == (again.folder / "config.toml").read_text()


def test_another_seed_gives_other_weights_on_the_same_split(tmp_path: Path) -> None:
    runs = [nw.train("sklearn:wine", layers=NET, epochs=2, seed=seed, run_dir=tmp_path / str(seed)) for seed in (0, 1)]
    assert not equal(weights(runs[0]), weights(runs[1]))
    assert (runs[0].folder / "split.npz").read_bytes() == (runs[1].folder / "split.npz").read_bytes()


def test_training_does_not_move_the_callers_generators_or_threads(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    nw.train("sklearn:wine", layers=NET, epochs=1, threads=1, run_dir=tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


class Shifted(nn.Module):
    """A network that makes a tensor in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(13, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.out(self.hidden(x) + torch.ones(len(x), 8))
        return output


def test_the_callers_default_dtype_changes_no_bit(tmp_path: Path) -> None:
    X, y = load_wine(return_X_y=True)
    own = nw.train(model=Shifted(), data=(X, y), epochs=1, run_dir=tmp_path / "own").predict_proba(X)
    run = nw.train("sklearn:wine", layers=NET, epochs=1, run_dir=tmp_path / "run")
    net = nw.NetClassifier(epochs=2, random_state=0).fit(X, y)
    torch.set_default_dtype(torch.float64)
    try:
        again = nw.train("sklearn:wine", layers=NET, epochs=1, run_dir=tmp_path / "again")
        loaded = nw.load(run.folder).predict_proba("sklearn:wine")
        own_loaded = nw.load(tmp_path / "own", model=Shifted).predict_proba(X)
        same = nw.NetClassifier(epochs=2, random_state=0).fit(X, y)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert equal(weights(run), weights(again))
    assert np.array_equal(run.predict_proba("sklearn:wine"), loaded)
    assert np.array_equal(own, own_loaded)
    assert np.array_equal(net.predict_proba(X), same.predict_proba(X))


def test_threads_train_one_after_the_other_with_the_bits_of_each_alone(tmp_path: Path) -> None:
    layers, begun, pool = ["Linear(8)", "Dropout(0.5)", "Linear()"], threading.Event(), ThreadPoolExecutor(1)

    def train(name: str, observer: Any) -> nw.Run:
        return nw.train("sklearn:wine", layers=layers, epochs=2, run_dir=tmp_path / name, observers=[observer], test=False)

    def beside(record: Any) -> None:
        if not others:
            others.append(pool.submit(train, "second", lambda record: begun.set()))
            assert not begun.wait(0.2)

    others: list[Future[nw.Run]] = []
    with pool:
        first = train("first", beside)
    second, alone = others[0].result(), train("alone", print)
    assert equal(weights(first), weights(alone))
    assert equal(weights(second), weights(alone))


def test_the_run_folder_holds_what_the_design_names(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=NET, epochs=2, run_dir=tmp_path / "run")
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    first, last = (f"checkpoints/step-{name}" for name in ("000000000-epoch-000000", "000000004-epoch-000002"))
    held = ("generators.safetensors", "manifest.json", "model.safetensors", "state.json")
    assert names == {
        *(f"{folder}/{name}" for folder in (first, last) for name in held),
        f"{last}/best.safetensors",
        f"{last}/optimizer.safetensors",
        "config.toml",
        "history.csv",
        "model/best.safetensors",
        "model/last.safetensors",
        "network.svg",
        "predictions.csv",
        "preparation.json",
        "preparation.safetensors",
        "report.html",
        "run.json",
        "seen.npz",
        "split.npz",
        "steps.jsonl",
        "test.json",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"run", "looks.jsonl"}
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "done"
    assert record["split"]["train"] + record["split"]["valid"] + record["split"]["test"] == record["data"]["rows"] == 178
    config = tomllib.loads((run.folder / "config.toml").read_text())
    assert config["training"]["optimizer"] == "Adam(lr=0.001, fused=True)"
    assert config["model"]["layers"][0] == "Linear(in_features=13, out_features=16)"
    steps = [json.loads(line) for line in (run.folder / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    test = json.loads((run.folder / "test.json").read_text())
    assert set(test["metrics"]) == {"loss", "accuracy", "balanced_accuracy", "f1_macro", "roc_auc"}
    for name, entry in test["metrics"].items():
        assert name == "loss" or entry["low"] <= entry["value"] <= entry["high"]


def test_train_loss_is_the_weighted_mean_over_the_steps(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=NET, epochs=1, batch_size=40, run_dir=tmp_path / "run")
    steps = [json.loads(line) for line in (run.folder / "steps.jsonl").read_text().splitlines()]
    assert [step["weight"] for step in steps] == [40, 40, 26]
    mean = sum(step["loss"] * step["weight"] for step in steps) / 106
    assert run.history[0]["train_loss"] == pytest.approx(mean, rel=1e-12)


def test_the_best_epoch_is_restored_and_said(tmp_path: Path) -> None:
    lines: list[str] = []
    run = nw.train(
        "sklearn:wine",
        layers=["Linear(64)", "ReLU()", "Linear()"],
        optimizer="Adam(lr=0.05)",
        epochs=40,
        run_dir=tmp_path / "run",
        observers=[lambda record: lines.append(str(record))],
    )
    losses = [row["valid_loss"] for row in run.history]
    best = int(np.argmin(losses)) + 1
    assert run.record["best"] == {
        "epoch": best,
        "step": best * 2,
        "monitor": "valid_loss",
        "value": losses[best - 1],
    }
    assert f"40 epochs done; best epoch {best} restored (valid_loss {losses[best - 1]:.4g})" in lines
    assert equal(dict(run.model.state_dict()), weights(run, "best"))
    assert best < 40
    assert not equal(weights(run, "best"), weights(run, "last"))


def test_early_stopping_waits_for_patience_and_names_the_figure(tmp_path: Path) -> None:
    run = nw.train(
        "sklearn:wine",
        layers=["Linear(64)", "ReLU()", "Linear()"],
        optimizer="Adam(lr=0.05)",
        epochs=200,
        early_stopping={"monitor": "valid_accuracy", "patience": 4},
        run_dir=tmp_path / "run",
    )
    assert len(run.history) == run.record["best"]["epoch"] + 4
    assert run.record["why"] == "valid_accuracy has not improved for 4 epochs"
    assert run.config.training.early_stopping.mode == "max"  # type: ignore[union-attr]


def test_steps_end_a_run_inside_an_epoch(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=NET, batch_size=10, steps=15, run_dir=tmp_path / "run")
    assert [row["step"] for row in run.history] == [11, 15]
    assert run.record["why"] == "15 steps done"


def test_without_epochs_a_run_has_patience_twenty(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", layers=["Linear()"], optimizer="Adam(lr=0.3)", run_dir=tmp_path / "run", test=False)
    assert run.config.training.epochs == 200
    assert run.config.training.early_stopping.patience == 20  # type: ignore[union-attr]
    assert len(run.history) in (200, run.record["best"]["epoch"] + 20)


def test_a_single_last_row_is_dropped_where_batchnorm_could_not_train(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=NET, batch_size=35, epochs=1, run_dir=tmp_path / "run")
    assert run.record["split"]["train"] % 35 == 1
    assert run.config.data.last_batch == "drop"
    assert run.history[0]["step"] == 3
    with pytest.raises(ConfigError, match="106 train rows in batches of 35 leave one row"):
        nw.train("sklearn:wine", layers=NET, batch_size=35, last_batch="keep", run_dir=tmp_path / "other")


def test_zero_epochs_give_the_network_as_it_was_made(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=NET, epochs=0, run_dir=tmp_path / "run")
    assert run.history == []
    assert run.record["best"] is None
    assert (run.folder / "test.json").exists()


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(FolderInUseError, match="exists already"):
        nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_cleanly_with_what_it_has(number: int, code: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)

    def interrupt(record: Told | EpochRecord) -> None:
        if isinstance(record, EpochRecord) and record.epoch == 3:
            os.kill(os.getpid(), number)

    run = nw.train("sklearn:wine", layers=NET, epochs=50, run_dir=tmp_path / "run", observers=[interrupt])
    assert len(run.history) == 3  # the step after the signal is the last, and its epoch is not complete
    assert run.record["steps"] == 7
    assert run.record["status"] == "stopped"
    assert 128 + run.record["signal"] == code
    assert (run.folder / "report.html").exists()
    assert not (run.folder / "test.json").exists()
    assert not (tmp_path / "looks.jsonl").exists()
    assert signal.getsignal(number) == before
    assert len(nw.load(run.folder).predict(wine_rows())) == 2


def wine_rows() -> pa.Table:
    wine = load_wine()
    return pa.table({name: wine.data[:2, place] for place, name in enumerate(wine.feature_names)})


def test_an_observer_cannot_steer(tmp_path: Path) -> None:
    def change(record: Told | EpochRecord) -> None:
        if isinstance(record, EpochRecord):
            record.epoch = 99  # type: ignore[misc]

    with pytest.raises(AttributeError, match="cannot assign to field 'epoch'"):
        nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run", observers=[change])


def test_settings_reach_into_call_texts(tmp_path: Path) -> None:
    run = nw.train(
        "sklearn:wine",
        layers=NET,
        run_dir=tmp_path / "run",
        settings=["training.epochs=1", "training.optimizer.lr=0.5", "model.layers.3.p=0.75"],
    )
    assert run.config.training.optimizer == "Adam(lr=0.5, fused=True)"
    assert run.model[3].p == 0.75  # type: ignore[index]
    assert len(run.history) == 1


def test_class_weights_from_train_counts_stand_in_the_resolved_config(tmp_path: Path) -> None:
    run = nw.train(
        "sklearn:breast_cancer", layers=["Linear(2)"], loss='CrossEntropyLoss(weight="balanced")', epochs=1,
        run_dir=tmp_path / "run",
    )  # fmt: skip
    train = np.load(run.folder / "split.npz")["train"]
    malignant = int((load_breast_cancer().target[train] == 0).sum())
    assert run.program.outcome.classes == ("benign", "malignant")
    expected = [len(train) / (2 * (len(train) - malignant)), len(train) / (2 * malignant)]
    assert run.config.training.loss == f"CrossEntropyLoss(weight={expected})"


def test_shapes_of_an_array_file_are_checked_before_its_data_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.zeros((40, 1, 28, 28), np.float32), y=np.arange(40) % 2)
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole.replace(b"\0" * 4000, b"\1" * 4000, 1))  # the data no longer fit their checksum
    with pytest.raises(
        ConfigError, match=r"layer 1 Linear\(784, 10\) expects 784 features but layer 0 MaxPool2d\(2\) gives"
    ):
        nw.train(str(tmp_path / "a.npz"), layers=["MaxPool2d(2)", "Linear(784, 10)"], run_dir=tmp_path / "run")
    with pytest.raises(nw.NetwrightError, match=r"a.npz: cannot be read"):
        nw.train(str(tmp_path / "a.npz"), layers=["Flatten()", "Linear()"], run_dir=tmp_path / "run")
