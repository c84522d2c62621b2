"""A run that exists: load, test, predict, compare with what the training process saw."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from sklearn import datasets, metrics
from torch import nn
from torch.utils.data import TensorDataset

import netwright as nw
from netwright.config.data_schema import DataConfig
from netwright.errors import CheckpointError, ConfigError, DataError, SafetyError
from netwright.trained.testing import gone

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.one, self.two = nn.Linear(13, hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))
"""


def table_file(path: Path, rows: int = 120) -> Path:
    generator = np.random.default_rng(1)
    size, colour = generator.normal(50, 10, rows), generator.choice(["red", "green", "blue"], rows)
    price = size * 3 + (colour == "red") * 40 + generator.normal(0, 2, rows)
    sizes = [None if place % 17 == 3 else float(value) for place, value in enumerate(size)]
    pa.csv.write_csv(pa.table({"size": sizes, "colour": colour, "price": price}), path)
    return path


def test_predictions_of_a_loaded_run_equal_those_of_the_training_process(tmp_path: Path) -> None:
    run = nw.train(str(table_file(tmp_path / "p.csv")), target="price", epochs=5, run_dir=tmp_path / "run")
    loaded = nw.load(run.folder)
    rows = pa.table({"size": [30.0, None, 70.0], "colour": ["red", "blue", "violet"]})
    assert np.array_equal(run.predict(rows), loaded.predict(rows))
    assert run.predict(rows).shape == (3,)


def test_a_file_may_stand_where_arrays_may(tmp_path: Path) -> None:
    source = table_file(tmp_path / "houses.csv")
    one, other = (
        nw.train(**named, target="price", epochs=1, run_dir=tmp_path / name)
        for name, named in {"one": {"data": source}, "other": {"config": str(source)}}.items()
    )
    assert one.config == other.config
    with pytest.raises(ConfigError, match=r"rows came as .*other\.csv first and as data=.*; expected them once"):
        nw.train("other.csv", data=source, target="price")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"config": "a.csv", "data": (np.zeros((9, 2)), np.zeros(9))}, "a.csv first and as data=tuple"),
        ({"config": "a.csv", "source": "b.csv"}, "a.csv first and as source=b.csv"),
        ({"config": "sklearn:iris", "data": pd.DataFrame({"a": [1]})}, "sklearn:iris first and as data=DataFrame"),
        ({"data": (np.zeros((9, 2)), np.zeros(9)), "source": "b.csv"}, "data=tuple and as source=b.csv"),
        ({"data": pd.DataFrame({"a": [1]}), "train": "b.csv"}, "data=DataFrame and as train=b.csv"),
        ({"config": np.zeros((9, 2)), "data": "b.csv"}, "ndarray first and as data=b.csv"),
    ],
)
def test_rows_that_come_in_two_ways_are_refused(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        nw.train(**given, target="y", run_dir=tmp_path / "run")
    assert str(refused.value) == f"train: rows came as {told}; expected them once; leave one out"


def test_a_part_of_another_name_is_refused(tmp_path: Path) -> None:
    rows = (np.zeros((9, 2)), np.arange(9) % 2)
    with pytest.raises(ConfigError, match="^data: 'val' came beside 'train'; expected train, valid and test; rename it$"):
        nw.train(data={"train": rows, "val": rows}, run_dir=tmp_path / "run")


def test_predictions_are_in_the_users_units(tmp_path: Path) -> None:
    run = nw.train(str(table_file(tmp_path / "p.csv")), target="price", epochs=150, run_dir=tmp_path / "run")
    test = json.loads((run.folder / "test.json").read_text())
    assert test["metrics"]["rmse"]["value"] < 40  # the deviation of the prices is about 40, of the scaled target 1
    written = pd.read_csv(run.folder / "predictions.csv")
    assert list(written) == ["row", "target", "prediction"]
    rmse = float(np.sqrt(np.mean((written["target"] - written["prediction"]) ** 2)))
    assert rmse == pytest.approx(test["metrics"]["rmse"]["value"], rel=1e-9)
    assert metrics.r2_score(written["target"], written["prediction"]) == pytest.approx(test["metrics"]["r2"]["value"])


def test_column_order_and_extra_columns_do_no_harm(tmp_path: Path) -> None:
    run = nw.train(str(table_file(tmp_path / "p.csv")), target="price", epochs=2, run_dir=tmp_path / "run")
    frame = pd.read_csv(tmp_path / "p.csv").head(10)
    shuffled = frame[["price", "colour", "size"]].assign(note="x", size=frame["size"])
    assert np.array_equal(run.predict(frame), run.predict(shuffled))
    with pytest.raises(DataError, match="column 'colour' is missing"):
        run.predict(frame[["size"]])


def test_labels_of_any_type_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 4))
    for labels in (np.array(["no", "yes"]), np.array([3, 7]), np.array([False, True])):
        y = labels[(X[:, 0] > 0).astype(int)]
        run = nw.train(
            data=(X, y), layers=["Linear()"], epochs=30, run_dir=tmp_path / labels.dtype.kind, optimizer="Adam(0.1)"
        )
        assert set(run.predict(X).tolist()) == set(labels.tolist())
        loaded = nw.load(run.folder)
        assert loaded.predict(X).tolist() == run.predict(X).tolist()
        assert metrics.accuracy_score(y, loaded.predict(X)) > 0.8
        proba = loaded.predict_proba(X)
        assert proba.shape == (60, 2)
        assert np.allclose(proba.sum(axis=1), 1)


def test_the_test_figures_are_scikit_learns_on_the_predictions(tmp_path: Path) -> None:
    run = nw.train("sklearn:digits", layers=["Flatten()", "Linear()"], epochs=4, run_dir=tmp_path / "run")
    split = np.load(run.folder / "split.npz")
    digits = datasets.load_digits()
    truth = digits.target[split["test"]]
    images = digits.images[split["test"]].astype(np.uint8)
    guess, proba = run.predict(images), run.predict_proba(images)
    found = {name: entry["value"] for name, entry in json.loads((run.folder / "test.json").read_text())["metrics"].items()}
    assert found["accuracy"] == metrics.accuracy_score(truth, guess)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, guess))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, proba, multi_class="ovr"))
    assert found["loss"] == pytest.approx(metrics.log_loss(truth, proba), rel=1e-5)


def test_each_look_at_the_same_test_rows_is_counted(tmp_path: Path) -> None:
    first = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "a")
    second = nw.train("sklearn:iris", layers=["Linear()"], epochs=2, run_dir=tmp_path / "b")
    third = nw.train("sklearn:iris", layers=["Linear()"], epochs=2, run_dir=tmp_path / "c", split={"seed": 1})
    looks = [json.loads((run.folder / "test.json").read_text())["looks"] for run in (first, second, third)]
    assert looks == [1, 2, 1]
    assert nw.load(first.folder).test()["looks"] == 3
    unseen = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "d", test=False)
    assert not (unseen.folder / "test.json").exists()
    assert unseen.test()["looks"] == 4


def test_testing_again_gives_the_same_figures(tmp_path: Path) -> None:
    run = nw.train(str(table_file(tmp_path / "p.csv")), target="price", epochs=3, run_dir=tmp_path / "run")
    before = json.loads((run.folder / "test.json").read_text())
    again = nw.load(run.folder).test()
    assert again["metrics"] == before["metrics"]


def test_changed_data_are_refused_for_the_runs_own_test(tmp_path: Path) -> None:
    path = table_file(tmp_path / "p.csv")
    run = nw.train(str(path), target="price", epochs=1, run_dir=tmp_path / "run")
    table_file(path, rows=121)
    with pytest.raises(CheckpointError, match="the data changed since training"):
        nw.load(run.folder).test()
    assert nw.load(run.folder).test(path)["n"] == 121


def test_rows_that_were_moved_are_told_with_where_the_run_read_them(tmp_path: Path) -> None:
    path, moved = table_file(tmp_path / "p.csv"), tmp_path / "moved.csv"
    run = nw.train(str(path), target="price", epochs=1, baselines="none", run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="the run's own rows, .*; to test the run.s own test rows leave DATA out"):
        nw.load(run.folder).test(path)
    path.rename(moved)
    where = rf"read its rows from {path} \(data.source\), which is not there; expected the same rows there; put them back"
    with pytest.raises(DataError, match=rf"run: the run {where}, or test other labelled rows: netwright test RUN DATA"):
        nw.load(run.folder).test()
    with pytest.raises(
        ConfigError, match=rf"; to test the run.s own test rows put them back to {path} \(data.source\), .*leave DATA"
    ):
        nw.load(run.folder).test(moved)
    with pytest.raises(CheckpointError, match=where):
        nw.resume(run.folder, settings=["training.epochs=2"])
    moved.rename(path)
    assert nw.load(run.folder).test()["looks"] == 2


def test_rows_are_gone_where_a_file_of_theirs_is_and_never_at_an_address(tmp_path: Path) -> None:
    here, none = table_file(tmp_path / "p.csv"), tmp_path / "none"
    data = DataConfig()
    for there in (
        {"source": str(here)},
        {"source": f"{tmp_path}/*.csv"},
        {"source": "sklearn:iris"},
        {"source": "s3://a/b.csv"},
    ):
        assert gone(data.model_copy(update=there)) is None
    assert gone(data.model_copy(update={"source": f"{none}-*.csv"})) == f"{none}-*.csv (data.source)"
    assert gone(data.model_copy(update={"train": str(here), "test": str(none)})) == f"{none} (data.test)"
    assert gone(data.model_copy(update={"source": str(here), "join": str(none)})) == f"{none} (data.join)"


def test_labelled_rows_of_another_file_can_be_tested(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    run = nw.train(data=(X[::2], y[::2]), layers=["Linear()"], epochs=20, optimizer="Adam(0.1)", run_dir=tmp_path / "run")
    found = run.test((X[1::2], y[1::2]))
    assert found["n"] == 75
    turned = nw.load(run.folder).test((X[::2][::-1], y[::2][::-1]))
    assert any("of these 75 rows have the inputs of a row that the run was trained" in note for note in turned["notes"])
    fewer = nw.load(run.folder).test((X[1::4], y[1::4]))
    assert not any("have the inputs of a row" in note for note in fewer.get("notes", []))
    assert found["metrics"]["accuracy"]["value"] == metrics.accuracy_score(y[1::2], run.predict(X[1::2]))
    with pytest.raises(CheckpointError, match="trained on Python objects") as problem:
        nw.load(run.folder).test()
    assert f"in Python nw.load('{run.folder}').test(data)" in str(problem.value)
    before, again = run.tested, nw.load(run.folder).test((X[::2], y[::2]))  # these very objects stand for its own rows
    assert before is not None
    assert (again["n"], again["metrics"], again["looks"]) == (before["n"], before["metrics"], before["looks"] + 1)
    assert nw.load(run.folder).tested == again
    assert again["baselines"]["logistic"]["metrics"] == before["baselines"]["logistic"]["metrics"]
    with pytest.raises(CheckpointError, match="trained on Python objects"):
        nw.load(run.folder).test(None)


def test_the_dataset_of_a_run_tests_it_again(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    rows = TensorDataset(torch.tensor(X, dtype=torch.float32), torch.tensor(y))
    run = nw.train(data=rows, layers=["Linear()"], epochs=1, baselines="none", run_dir=tmp_path / "run")
    assert nw.load(run.folder).test(rows)["metrics"] == (run.tested or {})["metrics"]


def test_an_own_class_runs_only_when_its_file_is_named(tmp_path: Path) -> None:
    code = tmp_path / "my_net.py"
    code.write_text(CODE)
    settings: dict[str, Any] = {"module": f"{code}:Net", "arguments": {"hidden": 8}}
    with pytest.raises(SafetyError, match=r"is Python code.*type: netwright train sklearn:wine --code .*my_net.py"):
        nw.train("sklearn:wine", model=settings, epochs=1, run_dir=tmp_path / "run")
    run = nw.train("sklearn:wine", model=settings, epochs=1, run_dir=tmp_path / "run", code=[code])
    assert (run.folder / "model" / "source" / "my_net.py").read_text() == CODE
    assert type(run.model).__mro__[1] is nn.Module
    with pytest.raises(SafetyError, match="--code"):
        nw.load(run.folder)
    code.unlink()  # the copy in the run is enough
    copy = run.folder / "model" / "source" / "my_net.py"
    rows = pa.table({name: [1.0] for name in datasets.load_wine().feature_names})
    assert nw.load(run.folder, code=[copy]).predict(rows).tolist() == run.predict(rows).tolist()


def test_a_module_from_python_is_loaded_with_the_module(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    run = nw.train(data=(X, y), model=(nn.Linear, {"in_features": 4, "out_features": 3}), epochs=2, run_dir=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"torch.nn.modules.linear.Linear.*load\(RUN, model"):
        nw.load(run.folder)
    loaded = nw.load(run.folder, model=nn.Linear(4, 3))
    assert np.array_equal(loaded.predict_proba(X), run.predict_proba(X))
    with pytest.raises(CheckpointError, match=r"bias has shape \(3,\); the network has \(5,\)"):
        nw.load(run.folder, model=nn.Linear(4, 5))


def test_several_inputs_are_handed_over_by_the_names_of_forward(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

        def forward(self, right: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
            return self.left(left)[:, :1] + self.right(right)[:, :1]

    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(80, 3)), generator.normal(size=(80, 2))
    y = (left[:, 0] + right[:, 1])[:, None]
    run = nw.train(
        model=Two(), data=({"left": left, "right": right}, y), epochs=40, optimizer="Adam(0.05)", run_dir=tmp_path / "run"
    )
    assert run.history[-1]["valid_rmse"] < 0.5
    assert run.predict({"left": left, "right": right}).shape == (80,)


def test_an_own_loss_and_several_outputs(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(100, 3))
    y = np.stack([X[:, 0], 5 * X[:, 1] + 100], axis=1)

    def absolute(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).abs().mean()

    run = nw.train(
        data=(X, y), loss=absolute, layers=["Linear()"], epochs=60, optimizer="Adam(0.05)", run_dir=tmp_path / "run"
    )
    predicted = run.predict(X)
    assert predicted.shape == (100, 2)
    assert float(np.abs(predicted[:, 1] - y[:, 1]).mean()) < 1.0
    assert run.config.training.loss == "object:absolute"
    header = (run.folder / "predictions.csv").read_text().splitlines()[0]
    assert header == "row,target_target_1,target_target_2,prediction_target_1,prediction_target_2"


def test_a_summed_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reduction='sum'"):
        nw.train(data=(np.zeros((30, 2)), np.arange(30.0)), loss=nn.MSELoss(reduction="sum"), run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_runs_lists_what_is_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "runs" / name)
    found = nw.runs(tmp_path / "runs")
    assert [Path(entry["run"]).name for entry in found] == ["a", "b"]
    assert all(entry["status"] == "done" and 0 <= entry["test"]["accuracy"] <= 1 for entry in found)
    (tmp_path / "runs" / "b" / "test.json").write_text('{"metrics": 5}')
    assert [entry["status"] for entry in nw.runs(tmp_path / "runs")] == ["damaged", "done"]
    with pytest.raises(ConfigError, match="no such folder"):
        nw.runs(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damaged_weights_are_never_used(damage: str, tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    path = run.folder / "model" / "best.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "flip":
        path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    else:
        path.unlink()
        (run.folder / "model" / "last.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors: cannot be read"):
        nw.load(run.folder)


def test_a_config_of_python_objects_says_what_to_hand_over_again(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, target)

    torch.manual_seed(0)
    first = nw.train(model=nn.Linear(4, 3), data=(X, y), loss=loss, epochs=2, run_dir=tmp_path / "one")
    config = first.folder / "config.toml"
    given: dict[str, Any] = {}
    torch.manual_seed(0)
    objects = {"data": (X, y), "model": nn.Linear(4, 3), "loss": loss}
    for name, message in (
        ("data", r"data.source: object:numpy.ndarray"),
        ("model", "torch.nn.modules.linear.Linear"),
        ("loss", "loss"),
    ):
        with pytest.raises(CheckpointError, match=f"{message}.*nw.train.CONFIG, {name}="):
            nw.train(config, run_dir=tmp_path / "two", **given)
        given[name] = objects[name]
    again = nw.train(config, run_dir=tmp_path / "two", **given)
    assert torch.equal(again.model.weight, first.model.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table], ids=["pandas", "arrow"])
def test_parts_of_a_split_of_ones_own_may_be_frames(make: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    parts = {name: make({"a": draw.normal(size=rows), "b": ["x", "y"] * (rows // 2), "t": draw.normal(size=rows)})
             for name, rows in (("train", 60), ("valid", 20), ("test", 30))}  # fmt: skip
    run = nw.train(data=parts, target="t", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    assert {name: run.record["split"][name] for name in parts} == {"train": 60, "valid": 20, "test": 30}
    assert run.tested is not None
    assert run.tested["n"] == 30


class Sized(nn.Module):
    def __init__(self, hidden: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, hidden), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())  # type: ignore[no-any-return]


def test_a_run_and_its_bundle_are_loaded_with_a_class_and_its_arguments(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    run = nw.train(model=(Sized, {"hidden": 5}), data=(rows, rows[:, 0]), epochs=1, run_dir=tmp_path / "run")
    bundle = nw.export(run, output=tmp_path / "bundle")
    for place in (run.folder, bundle):
        assert (nw.load(place, model=(Sized, {"hidden": 5})).predict(rows) == run.predict(rows)).all()
        with pytest.raises(CheckpointError, match="has shape"):
            nw.load(place, model=Sized)
    usual = nw.train(model=Sized(), data=(rows, rows[:, 0]), epochs=1, run_dir=tmp_path / "usual")
    assert (nw.load(usual.folder, model=Sized).predict(rows) == usual.predict(rows)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked", [{"config": "sklearn:iris"}, {"source": "sklearn:iris"}, {"config": {"data": {"source": "sklearn:iris"}}}]
)
def test_a_run_is_named_by_its_source_however_that_was_given(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nw.train(**asked, epochs=1, test=False).folder.name.startswith("iris-20")


def test_a_module_that_is_trained_again_answers_for_its_last_run_alone(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    module = nn.Linear(4, 3)

    def trained(name: str, module: Any = module) -> nw.Run:
        return nw.train((X, y), model=module, loss="CrossEntropyLoss()", epochs=1, run_dir=tmp_path / name)

    first = trained("first")
    figures = first.tested
    with pytest.warns(
        nw.FindingWarning, match=f"this module was trained by {tmp_path / 'first'}; training goes on from those"
    ):
        second = trained("second")
    for call in (lambda: first.predict(X), first.test, lambda: nw.export(first, output=tmp_path / "out")):
        with pytest.raises(ConfigError, match="its module was handed over again and holds the weights of .*second"):
            call()
    assert first.tested == figures
    assert len(second.predict(X)) == len(X)
    again = nw.load(first.folder, model=nn.Linear(4, 3))
    assert again.test(first.inputs and (X, y))["metrics"] == figures["metrics"]
    nw.load(first.folder, model=module)
    with pytest.raises(ConfigError, match="holds the weights of .*first"):
        second.predict(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", nw.FindingWarning)
        trained("third", copy.deepcopy(module))
    with pytest.raises(ConfigError, match="holds the weights of .*first"):
        second.whole()


def test_a_module_that_learned_is_told_where_several_runs_begin_from_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    module = nn.Linear(4, 3)
    asked: dict[str, Any] = {"data": (X, y), "model": module, "loss": "CrossEntropyLoss()", "epochs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", nw.FindingWarning)
        nw.cross_validate(**asked, folds=3, run_dir=tmp_path / "before")
    nw.train(**asked, run_dir=tmp_path / "run")
    told = f"model: this module was trained by {tmp_path / 'run'}; each run here begins from those weights"
    with pytest.warns(nw.FindingWarning, match=told):
        nw.cross_validate(**asked, folds=3, run_dir=tmp_path / "folds")
    with pytest.warns(nw.FindingWarning, match=told):
        nw.repeat(**asked, seeds=2, run_dir=tmp_path / "seeds")
    space = {"data.batch_size": [8, 16]}
    with pytest.warns(nw.FindingWarning, match=told):
        nw.tune({"tune": {"trials": 1, "space": space}}, **asked, run_dir=tmp_path / "search")


@pytest.mark.parametrize("frozen", ["by hand", "by a setting", "not"])
def test_a_trunk_that_two_networks_share_is_theirs_only_where_it_never_learns(frozen: str, tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    trunk.requires_grad_(frozen != "by hand")
    settings = {"freeze": ["0"]} if frozen == "by a setting" else {}

    def trained(name: str) -> nw.Run:
        return nw.train(
            (X, y), model=nn.Sequential(trunk, nn.Linear(8, 3)), epochs=1, test=False, run_dir=tmp_path / name, **settings
        )

    first = trained("first")
    before = first.predict_proba(X)
    if frozen != "not":
        with warnings.catch_warnings():
            warnings.simplefilter("error", nw.FindingWarning)
            second = trained("second")
        assert np.array_equal(first.predict_proba(X), before)
        assert second.predict(X).shape == (150,)
        for name, run in (("first", first), ("second", second)):
            again = nw.load(tmp_path / name, model=nn.Sequential(trunk, nn.Linear(8, 3)))
            assert np.array_equal(again.predict_proba(X), run.predict_proba(X))
        return
    with pytest.warns(nw.FindingWarning, match="this module was trained by .*first"):
        trained("second")
    with pytest.raises(ConfigError, match="holds the weights of .*second"):
        first.predict(X)


def test_a_module_is_known_by_the_place_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    module = nn.Linear(4, 3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    first = nw.train((X, y), model=module, epochs=1, test=False, run_dir="run")
    monkeypatch.chdir(tmp_path / "two")
    assert len(first.predict(X)) == 150
    with pytest.warns(nw.FindingWarning, match="this module was trained by run"):
        nw.train((X, y), model=module, epochs=1, test=False, run_dir="run")
    with pytest.raises(ConfigError, match="holds the weights of run"):
        first.predict(X)
    (tmp_path / "link").symlink_to(tmp_path / "two")
    third = nw.load(tmp_path / "link" / "run", model=module)
    assert len(nw.load(tmp_path / "two" / "run", model=module).predict(X)) == len(third.predict(X)) == 150


def test_a_run_that_cannot_be_loaded_takes_no_module(tmp_path: Path) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    module = nn.Linear(4, 3)
    first = nw.train((X, y), model=module, epochs=1, test=False, run_dir=tmp_path / "first")
    nw.train((X, y == 1), model=nn.Linear(4, 2), epochs=1, test=False, run_dir=tmp_path / "other")
    with pytest.raises(nw.errors.CheckpointError, match="has shape"):
        nw.load(tmp_path / "other", model=module)
    assert len(first.predict(X)) == 150


def test_a_run_is_loaded_with_its_own_network_by_name(tmp_path: Path) -> None:
    folder = nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "run", observers=[], test=False).folder
    with pytest.raises(
        nw.errors.ConfigError, match=r"nw.load: 2 values without a name came; .* nw.load\(RUN, model=NETWORK\)"
    ):
        nw.load(folder, torch.nn.Linear(4, 3))
