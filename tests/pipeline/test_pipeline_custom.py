"""Optimizers, figures, training steps and stop conditions from Python: exact on resume, refused early, told in one line."""

from __future__ import annotations

import json
import math
import time
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets, metrics
from torch import nn

import netwright as nw
from netwright.checkpoint import store, trees
from netwright.cli import main as command
from netwright.errors import CheckpointError, ConfigError, DivergedError
from netwright.evaluation import own_metrics
from netwright.training.journal import EpochRecord

X, Y = datasets.load_iris(return_X_y=True)
LAYERS = ["Linear(8)", "ReLU()", "Dropout(0.2)", "Linear()"]
SMALL: dict[str, Any] = {"data": (X, Y), "layers": LAYERS, "batch_size": 16}
ROWS = np.random.default_rng(0).random((120, 8)).astype(np.float32)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, fused=True)


def state_of(run: nw.Run) -> dict[str, Any]:
    """Return what the newest checkpoint holds, without times."""
    parts = store.newest(run.folder / "checkpoints", lambda problem: None).parts
    return {name: parts[name] for name in ("model", "optimizer", "generators", "progress", "best")}


def same(one: nw.Run, other: nw.Run) -> None:
    assert trees.first_difference(state_of(one), state_of(other)) is None
    histories = [
        [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in run.history]
        for run in (one, other)
    ]
    assert repr(histories[0]) == repr(histories[1])


class Halt(BaseException):
    """Pulls the plug."""


def interrupted(epoch: int, folder: Path, **keywords: Any) -> None:
    """Train up to an epoch, and die there with checkpoints of every third step."""

    def pull(record: Any) -> None:
        if isinstance(record, EpochRecord) and record.epoch == epoch:
            raise Halt

    with pytest.raises(Halt):
        nw.train(**keywords, observers=[pull], run_dir=folder, settings=["checkpoint.every_steps=3"])


def test_an_own_optimizer_gives_the_bits_of_its_text(tmp_path: Path) -> None:
    one = nw.train(**SMALL, epochs=3, optimizer=adamw, run_dir=tmp_path / "one")
    other = nw.train(**SMALL, epochs=3, optimizer="AdamW(lr=0.01, weight_decay=0.1)", run_dir=tmp_path / "other")
    same(one, other)
    assert one.config.training.optimizer == f"object:{__name__}.adamw: AdamW(lr=0.01, weight_decay=0.1, fused=True)"
    assert one.config.training.engine == other.config.training.engine == "captured"


def test_a_class_a_partial_and_a_function_of_the_module_build_optimizers(tmp_path: Path) -> None:
    def groups(model: nn.Sequential) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters(), "lr": 0.0}], lr=0.5
        )

    kinds: list[Any] = [torch.optim.Adagrad, partial(torch.optim.SGD, lr=0.1, momentum=0.9), groups]
    runs = [nw.train(**SMALL, epochs=2, optimizer=kind, run_dir=tmp_path / str(n)) for n, kind in enumerate(kinds)]
    assert runs[1].config.training.optimizer == "object:torch.optim.sgd.SGD: SGD(lr=0.1, momentum=0.9)"
    assert runs[2].config.training.optimizer.endswith("SGD(lr=0.1) and SGD(lr=0.0)")
    begin = nw.train(**SMALL, epochs=0, optimizer=groups, run_dir=tmp_path / "begin")
    before, after = dict(begin.model.named_parameters()), dict(runs[2].model.named_parameters())
    assert torch.equal(before["3.weight"], after["3.weight"])
    assert not torch.equal(before["0.weight"], after["0.weight"])


class Sign(torch.optim.Optimizer):
    """Steps by the sign of the gradient, and remembers how often."""

    def __init__(self, parameters: Any, lr: float = 0.01) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["times"] = state.get("times", 0) + 1
                parameter.data.sub_(parameter.grad.sign(), alpha=group["lr"] / math.sqrt(state["times"]))
        return loss


@pytest.mark.parametrize("optimizer", [adamw, Sign, partial(torch.optim.LBFGS, lr=0.1, max_iter=3)])
def test_a_killed_run_with_an_own_optimizer_goes_on_with_the_same_bits(optimizer: Any, tmp_path: Path) -> None:
    whole = nw.train(**SMALL, epochs=5, optimizer=optimizer, run_dir=tmp_path / "whole")
    interrupted(3, tmp_path / "run", **SMALL, epochs=5, optimizer=optimizer)
    told: list[str] = []
    again = nw.resume(
        tmp_path / "run",
        data=(X, Y),
        optimizer=optimizer,
        observers=[lambda line: told.append(str(line))],
        require_exact=True,
    )
    assert "resume: exact" in told
    same(whole, again)
    assert whole.config.training.engine == ("captured" if optimizer is adamw else "eager")


def test_a_run_with_objects_is_not_gone_on_with_without_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keywords: dict[str, Any] = {
        "layers": LAYERS,
        "epochs": 3,
        "optimizer": adamw,
        "metrics": {"kappa": metrics.cohen_kappa_score},
    }
    interrupted(1, tmp_path / "run", config="sklearn:iris", **keywords)
    with pytest.raises(SystemExit) as ended:
        command(["resume", str(tmp_path / "run")])
    assert ended.value.code == 4
    assert "was a Python object" in capsys.readouterr().err
    kappa = {"metrics": keywords["metrics"]}
    with pytest.raises(
        CheckpointError, match=r"training.optimizer: .*adamw.* was a Python object.*nw.resume\(RUN, optimizer="
    ):
        nw.resume(tmp_path / "run", **kappa)
    with pytest.raises(CheckpointError, match=r"training.metrics: kappa was a Python object"):
        nw.resume(tmp_path / "run", optimizer=adamw)
    other = partial(torch.optim.AdamW, lr=0.5, fused=True)
    with pytest.raises(CheckpointError, match="training.optimizer .*hand the same Python object over"):
        nw.resume(tmp_path / "run", optimizer=other, **kappa)
    with pytest.raises(CheckpointError, match="training.optimizer is .*, a Python object, which no setting changes"):
        nw.resume(tmp_path / "run", optimizer=adamw, settings=["training.optimizer.lr=0.5"], **kappa)
    assert len(nw.resume(tmp_path / "run", optimizer=adamw, **kappa).history) == 3


OUTER = nn.Linear(4, 3)


class NoClosure(Sign):
    """Cannot call a closure."""

    def step(self) -> None:  # type: ignore[override]
        pass


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"optimizer": torch.optim.SGD(OUTER.parameters(), lr=0.1)}, "a built SGD came; expected a function of model.parameters"),
        ({"optimizer": 3}, "optimizer: int came"),
        ({"optimizer": lambda parameters: 3}, "the function returned int; expected a torch.optim.Optimizer"),
        ({"optimizer": lambda parameters: 1 / 0}, "cannot be built: ZeroDivisionError"),
        ({"optimizer": lambda parameters: torch.optim.SGD(OUTER.parameters())}, "it holds parameters of another network"),
        ({"optimizer": NoClosure}, "the step of NoClosure takes no closure"),
        ({"optimizer": {"a": adamw}}, "several came by name; expected one, or step="),
        ({"metrics": ["cohen_kapa_score"]}, "did you mean cohen_kappa_score"),
        ({"metrics": ["max_error"]}, "max_error came, a figure of regression; the task is multiclass; expected one of acc"),
        ({"metrics": {"accuracy": metrics.accuracy_score}}, "accuracy is a figure that is there anyway"),
        ({"metrics": {"two words": metrics.accuracy_score}}, "by a name of letters"),
        ({"metrics": {"kappa": 3}}, "metrics: 'kappa': int came"),
        ({"metrics": {"own": lambda t, p: 1.0}, "early_stopping": {"monitor": "valid_own"}}, 'write mode = "max"'),
        ({"evaluate": lambda model, batch: 0.0}, "evaluate: it came without step"),
        ({"step": 3}, "step: int came"),
        ({"step": "mine"}, "training.step: 'mine' came; expected a function"),
        ({"step": lambda model, batch, optimizer: 3.0}, "step: .*lambda.* returned float; expected the loss"),
        ({"step": lambda model, batch, optimizer: 1 / 0}, "step: .* fails on 8 rows: ZeroDivisionError"),
        ({"step": lambda m, b, o: m(b.input).mean(), "loss": nn.MSELoss()}, "loss: it came with step="),
        ({"step": lambda m, b, o: m(b.input).mean(), "micro_batch": 4}, "training.micro_batch: 4 came with step="),
        ({"step": lambda m, b, o: m(b.input).mean(), "engine": "captured"}, "training.engine: captured came with step="),
        ({"step": lambda m, b, o: m(b.input).mean(), "metrics": ["log_loss"]}, "metrics: they came with step="),
        ({"step": lambda m, b, o: m(b.input).mean(), "evaluate": lambda m, b: {"x": 1.0}}, '"loss" among them'),
        ({"step": lambda m, b, o: m(b.input).mean(), "evaluate": lambda m, b: 1 / 0}, "evaluate: .* fails: ZeroDivisionError"),
        ({"step": lambda m, b, o: m(b.input).mean(), "early_stopping": True}, "no valid rows to watch, or no figures"),
        ({"stop": True}, "stop: bool came; expected a function"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_before_anything_is_written(
    keywords: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=words) as told:
        nw.train(**SMALL, epochs=1, run_dir=tmp_path / "run", **keywords)
    assert len(str(told.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_own_figures_are_those_of_the_predictions(tmp_path: Path) -> None:
    names = ["matthews_corrcoef", "roc_auc_score", "log_loss", "top_k_accuracy_score", "f1_score"]
    run = nw.train("sklearn:wine", layers=LAYERS, epochs=3, metrics=names, run_dir=tmp_path / "named")
    shown = run.tested["metrics"]  # type: ignore[index]
    rows = run.inputs.split.test  # type: ignore[union-attr]
    true = np.asarray(run.inputs.target.of(rows))  # type: ignore[union-attr]
    chances = run.predict_proba("sklearn:wine")[rows]
    expected = {
        "matthews_corrcoef": metrics.matthews_corrcoef(true, chances.argmax(1)),
        "roc_auc_score": metrics.roc_auc_score(true, chances, multi_class="ovr"),
        "log_loss": metrics.log_loss(true, chances),
        "top_k_accuracy_score": metrics.top_k_accuracy_score(true, chances, k=2),
        "f1_score": metrics.f1_score(true, chances.argmax(1), average="macro"),
    }
    assert {name: shown[name]["value"] for name in names} == pytest.approx(expected)
    assert all(
        shown[name]["low"] <= shown[name]["value"] <= shown[name]["high"] for name in names if name != "top_k_accuracy_score"
    )
    assert set(run.history[0]) >= {f"valid_{name}" for name in names}
    again = nw.load(run.folder).test()
    assert {name: again["metrics"][name] for name in names} == {name: shown[name] for name in names}


def test_a_binary_figure_reads_the_chance_of_the_second_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_metrics, "MOST_SECONDS", math.inf)
    seen: list[tuple[Any, ...]] = []

    def area(true: Any, probabilities: Any) -> float:
        seen.append((true.shape, probabilities.shape, true.dtype))
        return float(metrics.roc_auc_score(true, probabilities))

    run = nw.train("sklearn:breast_cancer", layers=LAYERS, epochs=2, metrics={"area": area}, run_dir=tmp_path / "run")
    assert seen[0] == ((114,), (114,), np.dtype("int64"))
    shown = run.tested["metrics"]  # type: ignore[index]
    assert shown["area"]["value"] == pytest.approx(shown["roc_auc"]["value"])
    assert shown["area"]["low"] == pytest.approx(shown["roc_auc"]["low"], abs=0.02)


def test_figures_of_numbers_are_in_the_units_of_the_user(tmp_path: Path) -> None:
    run = nw.train(
        "sklearn:diabetes", layers=LAYERS, epochs=2, metrics=["root_mean_squared_error"], run_dir=tmp_path / "run"
    )
    assert [row["valid_root_mean_squared_error"] for row in run.history] == pytest.approx(
        [r["valid_rmse"] for r in run.history]
    )


def test_a_figure_that_writes_into_what_it_reads_changes_nothing_else(tmp_path: Path) -> None:
    def clipped(true: Any, predicted: Any) -> float:
        true[:] = predicted[:] = 500.0
        return 0.0

    def told(true: Any, predicted: Any) -> float:
        return float(np.abs(true - predicted).mean())

    runs = []
    for name, own in (("plain", {"told": told}), ("writing", {"clipped": clipped, "told": told})):
        run = nw.train("sklearn:diabetes", layers=LAYERS, epochs=2, metrics=own, run_dir=tmp_path / name)
        runs.append((run, (run.folder / "predictions.csv").read_bytes()))
    (plain, rows), (writing, same_rows) = runs
    assert same_rows == rows
    assert [row["valid_told"] for row in writing.history] == [row["valid_told"] for row in plain.history]
    assert writing.tested["metrics"]["told"] == plain.tested["metrics"]["told"]  # type: ignore[index]
    assert writing.tested["metrics"]["mae"] == plain.tested["metrics"]["mae"]  # type: ignore[index]


def test_figures_change_no_bit_and_may_choose_the_best_epoch(tmp_path: Path) -> None:
    def drawing(true: Any, predicted: Any) -> float:
        torch.rand(1)
        return -float(np.random.random())

    plain = nw.train(**SMALL, epochs=4, run_dir=tmp_path / "plain")
    drawn = nw.train(**SMALL, epochs=4, metrics={"drawn": drawing}, run_dir=tmp_path / "drawn")
    assert trees.first_difference(state_of(plain), state_of(drawn)) is None

    epochs = iter(range(1, 9))
    rising: dict[str, Any] = {"metrics": {"count": lambda true, predicted: float(next(epochs, 0))}}
    stopping = {"monitor": "valid_count", "mode": "max", "patience": 3}
    last = nw.train(**SMALL, **rising, epochs=4, early_stopping=stopping, test=False, run_dir=tmp_path / "last")
    assert last.record["best"] == {"epoch": 4, "step": 24, "monitor": "valid_count", "value": 4.0}


def test_a_figure_that_fails_is_nan_and_told_once(tmp_path: Path) -> None:
    def failing(true: Any, predicted: Any) -> float:
        raise KeyError("mine")

    told: list[str] = []
    bad = {"failing": failing, "endless": lambda true, predicted: math.inf}
    run = nw.train(**SMALL, epochs=3, metrics=bad, run_dir=tmp_path / "run", observers=[lambda line: told.append(str(line))])
    assert [line for line in told if line.startswith("warning: metrics: failing")] == [
        "warning: metrics: failing: KeyError: 'mine' on 30 rows; it is NaN here, the run goes on"
    ]
    assert sum(line.startswith("warning: metrics: endless: it gave inf") for line in told) == 1
    assert all(math.isnan(row["valid_failing"]) for row in run.history)
    assert "failing" not in run.tested["metrics"]  # type: ignore[index]
    assert any("failing: KeyError" in note for note in run.tested["notes"])  # type: ignore[index]
    assert run.record["status"] == "done"


def reconstruct(model: nn.Module, batch: nw.Batch) -> torch.Tensor:
    return (model(batch.input) - batch.input).square().mean()


def train_step(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss = reconstruct(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def supervised(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss = nn.functional.cross_entropy(model(batch.input), batch.target)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def test_a_step_that_says_what_the_step_says_gives_its_bits(tmp_path: Path) -> None:
    plain = nw.train(**SMALL, epochs=4, split={"valid": 0}, run_dir=tmp_path / "plain", test=False)
    layers = [*LAYERS[:-1], "Linear(3)"]
    own = nw.train(**{**SMALL, "layers": layers}, epochs=4, split={"valid": 0}, step=supervised, run_dir=tmp_path / "own")
    same(plain, own)


def pair(model: nn.Module, batch: nw.Batch, optimizer: dict[str, torch.optim.Optimizer]) -> torch.Tensor:
    """Update one half after the other, with noise of all three generators."""
    loss = torch.zeros(())
    for name in ("first", "second"):
        noise = torch.rand(1).item() + np.random.random()
        loss = reconstruct(model, batch) * (1 + noise)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer[name].step()
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # left behind, as its gradients are
    return loss


OPTIMIZERS = {
    "first": lambda model: torch.optim.Adam(model[0].parameters(), lr=0.01),
    "second": lambda model: torch.optim.SGD(model[2].parameters(), lr=0.01, momentum=0.9),
}
UNLABELLED: dict[str, Any] = {
    "data": ROWS, "layers": ["Linear(3)", "Tanh()", "Linear(8)"], "batch_size": 16, "preparation": None, "epochs": 6,
    "step": pair, "evaluate": reconstruct, "optimizer": OPTIMIZERS,
}  # fmt: skip


def test_a_killed_run_of_two_optimizers_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole = nw.train(**UNLABELLED, run_dir=tmp_path / "whole")
    assert set(state_of(whole)["optimizer"]) == {"first", "second"}
    interrupted(3, tmp_path / "run", **UNLABELLED)
    again = nw.resume(tmp_path / "run", data=ROWS, step=pair, evaluate=reconstruct, optimizer=OPTIMIZERS, require_exact=True)
    same(whole, again)
    assert whole.tested == {**again.tested, "looks": whole.tested["looks"]}  # type: ignore[dict-item, index]
    (whole.folder / "test.json").unlink()  # killed before the test
    made_up = nw.resume(whole.folder, data=ROWS, step=pair, evaluate=reconstruct, optimizer=OPTIMIZERS).tested
    assert made_up["metrics"] == again.tested["metrics"]  # type: ignore[index]
    with pytest.raises(CheckpointError, match=r"training.step: .*pair was a Python object"):
        nw.train(whole.folder / "config.toml", data=ROWS, optimizer=OPTIMIZERS, run_dir=tmp_path / "other")


def test_a_run_of_an_own_step_tests_predicts_and_loads(tmp_path: Path) -> None:
    run = nw.train(**{**UNLABELLED, "step": train_step, "optimizer": "Adam(lr=0.01)"}, run_dir=tmp_path / "run")
    assert run.history[-1]["valid_loss"] < run.history[0]["valid_loss"]
    test = run.inputs.split.test  # type: ignore[union-attr]
    given = run.predict(ROWS)
    assert given.shape == ROWS.shape
    assert run.tested["metrics"]["loss"]["value"] == pytest.approx(float(np.mean((given[test] - ROWS[test]) ** 2)), rel=1e-5)  # type: ignore[index]
    assert np.array_equal(nw.load(run.folder).predict(ROWS), given)
    with pytest.raises(CheckpointError, match="its figures come from .*reconstruct, a Python object"):
        nw.load(run.folder).test()
    text = run.report("markdown").read_text()
    assert "Own step on object:numpy.ndarray" in text
    assert run.config.training.loss is None
    assert not [one for one in nw.check(**{**UNLABELLED, "step": train_step, "optimizer": "Adam()"}).findings if one.refuses]


def rising(model: nn.Module, batch: nw.Batch) -> dict[str, Any]:
    """Return figures that rise while the network learns, by names that tell it and by one that does not."""
    loss = reconstruct(model, batch)
    return {"loss": loss, "auc": -loss, "roc_auc": -loss, "recall": -loss, "critic_error": loss}


RISING: dict[str, Any] = {**UNLABELLED, "step": train_step, "evaluate": rising, "optimizer": "Adam(lr=0.01)"}


@pytest.mark.parametrize(
    ("stopping", "mode"),
    [
        ({"monitor": "valid_auc", "mode": "max"}, "max"),
        ({"monitor": "valid_roc_auc"}, "max"),
        ({"monitor": "valid_recall"}, "max"),
        ({"monitor": "valid_critic_error"}, "min"),
        ({"monitor": "valid_loss"}, "min"),
    ],
)
def test_the_best_epoch_by_a_figure_of_evaluate_is_the_one_of_its_direction(
    stopping: dict[str, str], mode: str, tmp_path: Path
) -> None:
    keywords = {**RISING, "early_stopping": stopping, "schedule": "ReduceLROnPlateau(patience=3)", "test": False}
    run = nw.train(**keywords, run_dir=tmp_path / "run")
    assert run.config.training.early_stopping.mode == mode  # type: ignore[union-attr]
    assert f"mode={mode!r}" in (run.config.training.schedule or "")
    losses = [row["valid_loss"] for row in run.history]
    assert run.record["best"]["epoch"] == 1 + losses.index(min(losses)) > 1


def test_a_figure_of_evaluate_whose_name_tells_no_direction_asks_for_one(tmp_path: Path) -> None:
    words = 'valid_auc is a figure of one\'s own; expected whether more of it is better; write mode = "max" or mode = "min"'
    with pytest.raises(ConfigError, match=words):
        nw.train(**RISING, early_stopping={"monitor": "valid_auc"}, run_dir=tmp_path / "run")
    search: dict[str, Any] = {
        "space": {"training.optimizer.lr": [1e-6, 0.01]},
        "trials": 2,
        "sampler": "random",
        "pruner": "none",
    }
    keywords = {**RISING, **search, "epochs": 2, "run_dir": tmp_path / "tune"}
    with pytest.raises(ConfigError, match='tune.metric: valid_auc is a figure of one\'s own; .* write direction = "max"'):
        nw.tune(**keywords, metric="valid_auc")
    assert not list(tmp_path.iterdir())
    found = nw.tune(**keywords, early_stopping={"monitor": "valid_auc", "mode": "max", "patience": 5})
    values = [trial.value for trial in found.trials]
    assert len(set(values)) == 2
    assert (found.mode, found.best.value) == ("max", max(values))  # type: ignore[union-attr, type-var]


def of_some_batches(model: nn.Module, batch: nw.Batch) -> dict[str, Any]:
    """Return a figure that only batches of rows of both kinds have, and one that comes where no one looks for it at first."""
    loss, late = reconstruct(model, batch), batch.rows >= 100
    both = {"area": 2 * loss} if bool(late.any()) and not bool(late.all()) else {}
    return {"loss": loss, **both, "first": float(batch.rows[0]), **({"alone": 1.0} if len(batch) == 1 else {})}


def test_a_figure_that_some_batches_lack_is_the_mean_over_the_rows_that_have_it(tmp_path: Path) -> None:
    split = {"train": list(range(60)), "valid": [*range(70, 86), *range(92, 108), 119], "test": [61, 62, 63]}
    keywords = {**UNLABELLED, "step": train_step, "evaluate": of_some_batches, "optimizer": "Adam(lr=0.01)", "split": split}
    told: list[str] = []
    whole = nw.train(**keywords, run_dir=tmp_path / "whole", observers=[lambda line: told.append(str(line))])
    for row in whole.history:
        assert list(row)[3:7] == ["valid_loss", "valid_first", "valid_area", "learning_rate"]
        assert row["valid_first"] == (70 * 16 + 92 * 16 + 119) / 33
        assert row["learning_rate"] == 0.01
    assert sum("of_some_batches gives alone, which it did not" in line for line in told) == 1
    middle = torch.from_numpy(ROWS[92:108])
    with torch.no_grad():
        area = 2 * reconstruct(whole.model, nw.Batch({"input": middle}, middle, torch.arange(16)))
    best = whole.history[int(whole.record["best"]["epoch"]) - 1]
    assert best["valid_area"] == pytest.approx(float(area), rel=1e-5)
    assert "area" not in whole.tested["metrics"]  # type: ignore[index]
    interrupted(3, tmp_path / "run", **keywords)
    again = nw.resume(tmp_path / "run", data=ROWS, step=train_step, evaluate=of_some_batches, require_exact=True)
    same(whole, again)


def test_without_figures_the_last_weights_stay(tmp_path: Path) -> None:
    told: list[str] = []
    keywords = {**UNLABELLED, "step": train_step, "optimizer": "Adam(lr=0.01)", "evaluate": None}
    run = nw.train(**keywords, run_dir=tmp_path / "run", observers=[lambda line: told.append(str(line))])
    assert run.tested is None
    assert run.weights_name() == "last (epoch 6)"
    assert any("without evaluate= has no figures: no validation, no test" in line for line in told)
    with pytest.raises(ConfigError, match="expected evaluate="):
        run.test()


def test_an_own_step_that_diverges_is_undone_and_replayed(tmp_path: Path) -> None:
    def diverging(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        loss = train_step(model, batch, optimizer)
        return loss / 0 if 7 in batch.rows else loss

    split = {"train": list(range(5, 90)), "test": list(range(90, 120)), "valid": 0}
    changes = {"step": diverging, "evaluate": None, "optimizer": "SGD(lr=0.1)", "split": split}
    keywords = {**UNLABELLED, **changes}
    with pytest.raises(DivergedError, match="the loss is inf at step .* the bad update was not applied"):
        nw.train(**keywords, run_dir=tmp_path / "run")
    found = nw.replay(tmp_path / "run", step=diverging)
    assert found.reproduced
    assert found.now is not None
    assert "the loss is inf" in found.now
    parts = store.newest(tmp_path / "run" / "checkpoints", lambda problem: None).parts
    assert trees.first_not_finite(parts["model"]) is None


def test_a_stop_condition_ends_a_run_and_it_stays_ended(tmp_path: Path) -> None:
    def enough(record: EpochRecord) -> str | bool:
        with pytest.raises(FrozenInstanceError):
            record.epoch = 0  # type: ignore[misc]
        record.valid["loss"] = math.nan  # a copy
        torch.rand(1)
        return "seen enough" if record.epoch == 3 else False

    run = nw.train(**SMALL, epochs=9, stop=enough, run_dir=tmp_path / "run")
    plain = nw.train(**SMALL, epochs=3, run_dir=tmp_path / "plain")
    assert run.record["why"] == "stop: seen enough"
    assert [row["valid_loss"] for row in run.history] == [row["valid_loss"] for row in plain.history]
    assert trees.first_difference(state_of(run)["model"], state_of(plain)["model"]) is None
    told: list[str] = []
    nw.resume(run.folder, stop=enough, observers=[lambda line: told.append(str(line))])
    assert told == ["finished already: stop: seen enough; nothing is left to do"]
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "status": "running", "final": None}))  # killed at the end
    assert len(nw.resume(run.folder, data=(X, Y), stop=enough).history) == 3


def test_a_stop_condition_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop: .*lambda.* fails after epoch 1: ZeroDivisionError.*resume the run"):
        nw.train(**SMALL, epochs=2, stop=lambda record: 1 / 0, run_dir=tmp_path / "run")  # type: ignore[arg-type, return-value]


def test_seconds_end_a_run_inside_an_epoch(tmp_path: Path) -> None:
    def slow(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        time.sleep(0.02)
        return supervised(model, batch, optimizer)

    run = nw.train(
        data=(X, Y), layers=["Linear(3)"], batch_size=1, epochs=50, seconds=0.3, step=slow, run_dir=tmp_path / "run"
    )
    assert run.record["why"] == "0.3 seconds of training done"
    assert 1 <= run.record["steps"] <= 15
    assert len(run.history) == 1
    assert nw.resume(run.folder, data=(X, Y), step=slow).record["steps"] == run.record["steps"]


def test_several_runs_take_objects_too(tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"epochs": 2, "optimizer": adamw, "metrics": {"kappa": metrics.cohen_kappa_score}}
    found = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "seeds", **keywords)
    assert len(found.figures["kappa"].values) == 2
    crossed = nw.cross_validate("sklearn:iris", folds=3, run_dir=tmp_path / "folds", **keywords)
    assert len(crossed.figures["kappa"].values) == 3
    found_one = nw.check("sklearn:iris", optimizer=adamw)
    assert not [one for one in found_one.findings if one.refuses]
    assert nw.compare(*found.runs) is not None


def test_verify_and_the_command_line_refuse_a_run_with_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = nw.train("sklearn:iris", layers=LAYERS, epochs=1, optimizer=adamw, run_dir=tmp_path / "run")
    for words in (["verify", "resume", str(run.folder)], ["train", str(run.folder / "config.toml")]):
        with pytest.raises(SystemExit) as ended:
            command(words)
        assert ended.value.code == 4
        assert "Python object" in capsys.readouterr().err


def test_a_dataloader_names_the_rows_of_a_batch_where_nothing_else_does(tmp_path: Path) -> None:
    rows = torch.utils.data.TensorDataset(torch.randn(90, 3), torch.randint(0, 2, (90,)))
    loader = torch.utils.data.DataLoader(rows, batch_size=16, drop_last=True)
    given: dict[str, Any] = {"model": nn.Linear(3, 2), "loss": nn.CrossEntropyLoss(), "epochs": 1, "test": False}
    one = nw.train(data=loader, run_dir=tmp_path / "one", **given)
    assert (one.config.data.batch_size, one.config.data.last_batch) == (16, "drop")
    given["model"] = nn.Linear(3, 2)
    two = nw.train(data={"train": loader, "valid": rows}, batch_size=8, last_batch="keep", run_dir=tmp_path / "two", **given)
    assert (two.config.data.batch_size, two.config.data.last_batch) == (8, "keep")
    usual = nw.train(
        data=torch.utils.data.DataLoader(rows), run_dir=tmp_path / "three", **{**given, "model": nn.Linear(3, 2)}
    )
    assert usual.config.data.batch_size == 64
    known = {"model": (nn.Linear, {"in_features": 3, "out_features": 2}), "loss": nn.CrossEntropyLoss(), "epochs": 1}
    folds = [nw.cross_validate(data=loader, folds=2, run_dir=tmp_path / "cv", **known) for _ in "ab"]  # the second reads
    assert folds[0].figures == folds[1].figures


@pytest.mark.parametrize(
    "text",
    [
        "data.train=rows.csv",
        "data.source=rows.csv",
        "model.module=net.py:Net",
        "model={module = 'net.py:Net'}",
        "training={optimizer = 'Adam(lr=0.5)', epochs = 3}",
        "training.optimizer.lr=0.5",
    ],
)
def test_a_setting_that_something_from_python_stands_for_is_refused(text: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": (torch.randn(60, 3), torch.randn(60)), "model": nn.Linear(3, 1), "epochs": 1}
    with pytest.raises(ConfigError, match=r"^settings: [a-z.]+ came with (data|model|optimizer)= from Python"):
        nw.train(**given, optimizer=torch.optim.Adam, settings=[text], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_that_fails_is_replayed_with_all_that_came_from_python(tmp_path: Path) -> None:
    def far(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e30)

    given = {"data": (torch.randn(60, 3), torch.randn(60)), "layers": ["Linear()"], "epochs": 9}
    with pytest.raises(DivergedError, match=r"nw.replay\('.*run', optimizer=...\) shows the step"):
        nw.train(**given, optimizer=far, run_dir=tmp_path / "run")
    assert nw.replay(tmp_path / "run", optimizer=far).reproduced
