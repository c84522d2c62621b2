"""Own modules, losses and rows from Python: unchanged, reproducible, told early when they cannot train."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets
from torch import nn
from torch.nn import functional

import netwright as nw
from netwright.errors import CheckpointError, ConfigError, DivergedError
from netwright.seeding import drawn_from
from netwright.studies.exported import load_any

CODE = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(13, 3)
"""
X, Y = datasets.load_iris(return_X_y=True)


def test_only_the_file_that_was_named_runs(tmp_path: Path) -> None:
    code, canary = tmp_path / "net.py", tmp_path / "canary"
    code.write_text(CODE)
    run = nw.train("sklearn:wine", model={"module": f"{code}:Net"}, code=[code], epochs=1, run_dir=tmp_path / "run")
    copy = run.folder / "model" / "source" / "net.py"
    copy.write_text(f"open({str(canary)!r}, 'w')\n{CODE}")
    with pytest.raises(CheckpointError, match=r"net.py: changed since training.*--code .*model/source/net.py"):
        nw.load(run.folder, code=[code])
    assert not canary.exists()
    copy.write_text(CODE)
    assert nw.load(run.folder, code=[code]).model.weight.shape == (3, 13)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"--code .*gone.py: no such file"):
        nw.load(run.folder, code=[tmp_path / "gone.py"])


def test_a_class_with_arguments_is_made_from_the_seed(tmp_path: Path) -> None:
    made = []
    for place in range(2):
        torch.manual_seed(place)
        arguments = {"in_features": 4, "out_features": 3}
        made.append(nw.train(model=(nn.Linear, arguments), data=(X, Y), epochs=1, seed=5, run_dir=tmp_path / str(place)))
    assert torch.equal(made[0].model.weight, made[1].model.weight)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model.arguments: Linear.*missing a required argument: 'out_features'"):
        nw.train(model=(nn.Linear, {"in_features": 4}), data=(X, Y), run_dir=tmp_path / "bad")


DRAWING = """
import random

import numpy as np
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.order, self.scales = np.random.permutation(4)[:3].tolist(), [random.random() for _ in range(3)]
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(x[:, self.order] * x.new_tensor(self.scales))
"""


def drawn(run: Any) -> tuple[list[int], list[float]]:
    """Return what the class of a network drew when it was built."""
    return run.model.order, run.model.scales


def test_a_class_that_draws_from_numpy_and_python_is_built_alike_each_time(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(DRAWING)
    made = []
    for place in range(2):
        np.random.seed(place)
        random.seed(place)
        folder = tmp_path / str(place)
        made.append(
            nw.train("sklearn:iris", model={"module": f"{code}:Net"}, code=[code], epochs=2 - place, seed=3, run_dir=folder)
        )
    assert drawn(made[0]) == drawn(made[1])
    other = nw.train("sklearn:iris", model={"module": f"{code}:Net"}, code=[code], epochs=1, run_dir=tmp_path / "other")
    assert drawn(other) != drawn(made[0])  # another seed

    before = drawn_from()
    loaded = nw.load(made[0].folder, code=[code])
    assert drawn_from() == before
    assert drawn(loaded) == drawn(made[0])
    assert loaded.test()["metrics"] == made[0].tested["metrics"]  # type: ignore[index]
    resumed = nw.resume(made[1].folder, code=[code], settings=["training.epochs=2"], require_exact=True)
    assert drawn(resumed) == drawn(made[0])
    assert torch.equal(resumed.model.head.weight, made[0].model.head.weight)  # type: ignore[union-attr, arg-type]
    bundle = nw.export(made[0].folder, output=tmp_path / "bundle", code=[code])
    inside = tmp_path / "bundle" / "source" / "net.py"
    assert drawn(nw.load(bundle, code=[inside])) == drawn(made[0])


def test_a_class_from_python_that_draws_from_numpy_is_built_alike_where_a_finished_run_is_resumed(tmp_path: Path) -> None:
    class Ordered(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.order = np.random.permutation(4).tolist()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x[:, self.order])

    run = nw.train(model=(Ordered, {}), data=(X, Y), epochs=1, run_dir=tmp_path / "run")
    np.random.seed(7)
    again = nw.resume(run.folder, model=(Ordered, {}), data=(X, Y))
    assert again.model.order == run.model.order  # type: ignore[union-attr]


class Caching(nn.Module):
    """Keeps a tensor of its first call, as masks and positions are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 3), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            self.scale = torch.ones(4)
        return self.linear(x * self.scale)


def test_a_module_that_keeps_a_tensor_of_its_first_call_trains(tmp_path: Path) -> None:
    run = nw.train(model=Caching(), data=(X, Y), epochs=2, run_dir=tmp_path / "run")
    assert len(run.history) == 2


def test_a_lazy_module_trains(tmp_path: Path) -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3))
    run = nw.train(model=model, data=(X, Y), epochs=2, run_dir=tmp_path / "run")
    assert run.model[0].weight.shape == (8, 4)  # type: ignore[index]


class FailsInTraining(nn.Linear):
    """Works in eval mode only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("no training here")
        return super().forward(x)


class KeepsMore(nn.Linear):
    """Has state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"model": KeepsMore(4, 3)}, r"get_extra_state of KeepsMore gives dict \(_extra_state\); .* keep it in a buffer"),
        ({"model": FailsInTraining(4, 3)}, "no training here"),
        ({"layers": ["Linear()"], "optimizer": "SparseAdam(lr=0.01)"}, "SparseAdam does not support dense gradients"),
        ({"model": nn.Linear(4, 3).requires_grad_(False)}, "no parameter needs a gradient"),
        (
            {"layers": ["Linear()"], "loss": nn.CrossEntropyLoss},
            r"the class CrossEntropyLoss came; .* write CrossEntropyLoss\(\)",
        ),
    ],
)
def test_what_cannot_train_is_told_before_anything_is_written(keywords: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        nw.train(data=(X, Y), epochs=1, run_dir=tmp_path / "run", **keywords)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_module_of_torch_jit_is_told(tmp_path: Path) -> None:
    scripted = torch.jit.script(nn.Linear(4, 3))
    for model, where in ((scripted, ""), (nn.Sequential(nn.Linear(4, 4), scripted), r" \(1\)")):
        with pytest.raises(ConfigError, match=f"a module of torch.jit{where} came.*as it was before torch.jit.script"):
            nw.train(data=(X, Y), model=model, run_dir=tmp_path / "run")


class FailsLater(nn.Linear):
    """Fails at its twentieth call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        FailsLater.calls += 1
        if FailsLater.calls > 20:
            raise KeyError("mine")
        return super().forward(x)


def test_a_failure_in_training_stands_in_the_record(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training: KeyError: 'mine' at step 1 .*mend the network or the loss"):
        nw.train(model=FailsLater(4, 3), data=(X, Y), epochs=50, run_dir=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["why"].startswith("ConfigError: training: KeyError: 'mine'")


def test_outputs_that_are_not_finite_are_no_result(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="no finite value for .* of 30 rows"):
        nw.train(
            data=(X, X[:, 0]), layers=["Linear(8)", "Linear()"], optimizer="SGD(lr=1e30)", steps=1, split={"valid": 0},
            run_dir=tmp_path / "run",
        )  # fmt: skip
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "diverged"


def test_a_gradient_that_is_not_finite_spoils_no_saved_weights(tmp_path: Path) -> None:
    def root(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output * 0).abs().sqrt().mean() + (output - target).square().mean()

    with pytest.raises(
        DivergedError, match="it begins with the gradient of layer 0 Linear.*last good checkpoint: step-000000000"
    ):
        nw.train(data=(X, X[:, 0]), layers=["Linear()"], loss=root, epochs=1, batch_size=16, run_dir=tmp_path / "run")
    kept = nw.load(tmp_path / "run").model.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in kept.values())


@pytest.mark.parametrize(
    ("loss", "last", "outputs", "form"),
    [
        (functional.binary_cross_entropy_with_logits, [], 1, "sigmoid"),
        (functional.binary_cross_entropy, [nn.Sigmoid()], 1, "probability"),
        (functional.cross_entropy, [], 2, "softmax"),
        (functional.nll_loss, [nn.LogSoftmax(1)], 2, "exp"),
    ],
)
def test_functional_losses_are_decoded_like_the_classes(
    loss: Any, last: list[nn.Module], outputs: int, form: str, tmp_path: Path
) -> None:
    y = (X[:, 0] > 5.8).astype(int)
    model = nn.Sequential(nn.Linear(4, outputs), *last)
    run = nw.train(model=model, data=(X, y), loss=loss, epochs=40, optimizer="Adam(0.1)", run_dir=tmp_path / "run")
    assert run.program.outcome.decoding.form == form
    assert float((run.predict(X) == y).mean()) > 0.9
    assert 0.2 < float((run.predict_proba(X)[:, 1] > 0.5).mean()) < 0.8


def test_the_loss_decides_what_the_target_leaves_open(tmp_path: Path) -> None:
    y = (X[:, :1] > 5.8).astype(np.float32)  # (rows, 1) of 0.0 and 1.0, as PyTorch users write it
    binary = nw.train(model=nn.Linear(4, 1), data=(X, y), loss=nn.BCEWithLogitsLoss(), epochs=2, run_dir=tmp_path / "a")
    assert binary.config.data.task == "binary"
    whole = nw.train(data=(X, Y), loss="MSELoss()", layers=["Linear()"], epochs=2, run_dir=tmp_path / "b")
    assert whole.config.data.task == "regression"


class Squeezed(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).squeeze()  # of a single row too


@pytest.mark.parametrize("engine", ["eager", "captured"])
@pytest.mark.parametrize(("loss", "target"), [("MSELoss()", X[:, 0]), ("BCEWithLogitsLoss()", (Y == 1).astype(int))])
def test_one_number_a_row_may_come_without_its_axis(tmp_path: Path, engine: str, loss: str, target: Any) -> None:
    kept = [
        nw.train(
            model=(kind, {"in_features": 4, "out_features": 1}),
            data=(X, target),
            loss=loss,
            epochs=3,
            batch_size=32,
            engine=engine,
            run_dir=tmp_path / kind.__name__,
        )
        for kind in (Squeezed, nn.Linear)
    ]
    assert torch.equal(kept[0].model.weight, kept[1].model.weight)  # type: ignore[arg-type]
    assert kept[0].predict(X).tolist() == kept[1].predict(X).tolist()
    assert kept[0].predict(X[:1]).tolist() == kept[1].predict(X[:1]).tolist()
    figures = [run.test()["metrics"] for run in kept]
    assert figures[0]["loss"] == figures[1]["loss"]
    checks = {finding["check"] for finding in json.loads((kept[0].folder / "run.json").read_text())["findings"]}
    assert "squeeze-without-dim" in checks


class Several(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).squeeze()  # of a single row the outputs alone are left


@pytest.mark.parametrize("target", [X[:, :3], Y])
def test_a_single_row_of_several_outputs_may_come_without_its_axis(tmp_path: Path, target: Any) -> None:
    kept = [
        nw.train(
            model=(kind, {"in_features": 4, "out_features": 3}),
            data=(X, target),
            epochs=2,
            batch_size=8,
            split={"train": list(range(41)), "valid": list(range(41, 52)), "test": list(range(52, 150))},
            run_dir=tmp_path / kind.__name__,
        )
        for kind in (Several, nn.Linear)
    ]
    assert torch.equal(kept[0].model.weight, kept[1].model.weight)  # type: ignore[arg-type]
    assert kept[0].history[-1]["valid_loss"] == kept[1].history[-1]["valid_loss"]
    assert kept[0].predict(X[:1]).tolist() == kept[1].predict(X[:1]).tolist()


def test_outputs_of_a_population_may_come_without_their_axis(tmp_path: Path) -> None:
    kept = [
        nw.repeat(
            model=(kind, {"in_features": 4, "out_features": 1}),
            data=(X, X[:, 0]),
            loss="MSELoss()",
            epochs=2,
            seeds=2,
            run_dir=tmp_path / kind.__name__,
        )
        for kind in (Squeezed, nn.Linear)
    ]
    for one, other in zip(kept[0].runs, kept[1].runs, strict=True):
        found, wanted = (json.loads((folder / "test.json").read_text()) for folder in (one, other))
        assert found["metrics"]["rmse"]["value"] == pytest.approx(wanted["metrics"]["rmse"]["value"], rel=1e-5)


def test_an_output_of_another_shape_is_explained(tmp_path: Path) -> None:
    class Mean(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).mean()

    for kind, needed in ((Mean, r"\(N, 1\)"), (Squeezed, r"\(N, 3\)")):
        data = (X, X[:, 0]) if kind is Mean else (X, Y)
        with pytest.raises(ConfigError, match=rf"needs {needed}"):
            nw.train(model=kind(4, 1), data=data, run_dir=tmp_path / "run")


def test_a_frame_and_a_named_series_are_the_rows_and_their_target(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    series = pd.Series(Y, name="kind")
    one = nw.train(data=(frame, series), layers=["Linear()"], epochs=2, run_dir=tmp_path / "one")
    two = nw.train(frame.assign(kind=series), target="kind", layers=["Linear()"], epochs=2, run_dir=tmp_path / "two")
    three = nw.train((X, Y), layers=["Linear()"], epochs=2, run_dir=tmp_path / "three")
    assert one.program.outcome.names == two.program.outcome.names == ("kind",)
    assert one.predict(frame).tolist() == two.predict(frame).tolist() == three.predict(X).tolist()


def test_a_dictionary_of_arrays_may_hold_the_target(tmp_path: Path) -> None:
    run = nw.train(data={"rows": X, "kind": Y}, target="kind", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    assert run.program.outcome.classes == (0, 1, 2)


def test_a_run_shows_itself_in_one_line_and_keeps_its_test_figures(tmp_path: Path) -> None:
    run = nw.train(data=(X, Y), layers=["Linear()"], epochs=1, run_dir=tmp_path / "run", test=False)
    assert run.tested is None
    found = run.test()
    assert run.tested == found
    assert repr(run) == f"Run({str(tmp_path / 'run')!r}, multiclass, done)"
    assert "train" in dir(nw)


def test_row_numbers_written_out_move_into_the_split_file(tmp_path: Path) -> None:
    split = {"train": list(range(100)), "test": list(range(100, 150)), "valid": 0.1}
    one = nw.train(data=(X, Y), split=split, layers=["Linear()"], epochs=1, run_dir=tmp_path / "one")
    text = (one.folder / "config.toml").read_text()
    assert f'file = "{one.folder / "split.npz"}"' in text
    two = nw.train(one.folder / "config.toml", data=(X, Y), run_dir=tmp_path / "two")
    assert (one.folder / "split.npz").read_bytes() == (two.folder / "split.npz").read_bytes()
    assert torch.equal(one.model[0].weight, two.model[0].weight)  # type: ignore[index]


def test_missing_numbers_of_rows_that_are_taken_as_they_are_are_told_as_zeros(tmp_path: Path) -> None:
    rows = X.astype(np.float32)
    gaps = np.where(np.arange(rows.size).reshape(rows.shape) % 40 == 6, np.nan, rows)
    items = torch.utils.data.TensorDataset(torch.from_numpy(gaps), torch.from_numpy(Y))
    asked: dict[str, Any] = {"loss": "CrossEntropyLoss()", "epochs": 1, "test": False}
    for place, given in enumerate(({"data": items}, {"data": (gaps, Y), "preparation": None})):
        with pytest.warns(nw.FindingWarning, match="array 'X': 15 numbers missing .NaN. read as 0, .*preparation = none"):
            run = nw.train(**given, **asked, model=nn.Linear(4, 3), run_dir=tmp_path / str(place))
        with pytest.warns(nw.FindingWarning, match="array 'X': 15 missing numbers .NaN. read as 0"):
            found = nw.load(run.folder, model=run.model).predict_proba(gaps)
        assert found.tolist() == run.predict_proba(np.nan_to_num(gaps)).tolist()
    filled = nw.train(data=items, preparation="standardize", **asked, model=nn.Linear(4, 3), run_dir=tmp_path / "filled")
    assert np.isfinite(filled.predict_proba(gaps)).all()


def test_an_own_loss_of_two_classes_may_read_two_outputs(tmp_path: Path) -> None:
    target = np.where(X[:, 2] > 3, "long", "short")

    def own(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(output, target)

    runs = [
        nw.train(
            model=(nn.Linear, {"in_features": 4, "out_features": 2}),
            data=(X, target),
            loss=loss,
            epochs=3,
            run_dir=tmp_path / name,
        )
        for name, loss in (("own", own), ("torch", nn.CrossEntropyLoss()))
    ]
    assert runs[0].predict_proba(X).tolist() == runs[1].predict_proba(X).tolist()
    assert runs[0].tested is not None
    assert runs[1].tested is not None
    assert runs[0].tested["metrics"]["accuracy"] == runs[1].tested["metrics"]["accuracy"]
    fitted = nw.NetClassifier(module=nn.Linear(4, 2), loss=own, optimizer="Adam(lr=0.05)", epochs=60, random_state=0).fit(
        X, target
    )
    assert fitted.score(X, target) > 0.9


def test_a_file_of_code_that_is_not_there_is_refused_where_no_code_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--code .*gone.py: no such file"):
        nw.train("sklearn:iris", code=[tmp_path / "gone.py"], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_program_of_a_network_without_its_axis_answers_as_the_run(tmp_path: Path) -> None:
    run = nw.train(
        model=(Squeezed, {"in_features": 4, "out_features": 1}),
        data=(X, X[:, 0]),
        epochs=1,
        test=False,
        run_dir=tmp_path / "run",
    )
    program = load_any(nw.export(run, "torch", tmp_path / "p.pt2"), trust=True)
    for some in (X[:2], X[:7]):
        assert program.predict(some) == pytest.approx(run.predict(some), abs=1e-5)
