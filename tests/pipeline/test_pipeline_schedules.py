"""Runs with a schedule or averaged weights: killed anywhere they end with the same bits, captured as eager; what they tell."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import netwright as nw
from netwright.checkpoint import store, trees
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError
from netwright.proofs.explaining import explain
from netwright.reporting.sections import curves_of
from netwright.runfolder.folder import read_config
from netwright.seeding import stream
from netwright.trained.testing import own_inputs

NET = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]
GIVEN: dict[str, Any] = {"layers": NET, "epochs": 4, "batch_size": 8, "threads": 1, "test": False}
KEPT = {"checkpoint": {"every_steps": 3, "keep": 100}}
RUNS: dict[str, dict[str, Any]] = {
    "WarmupCosine": {"schedule": "WarmupCosine(warmup=0.2)", "average": "EMA(decay=0.9)"},
    "OneCycleLR": {"schedule": "OneCycleLR(max_lr=0.05)"},
    "CyclicLR": {
        "schedule": "CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=5)",
        "optimizer": "SGD(lr=0.1, momentum=0.9)",
        "engine": "eager",
    },
    "ReduceLROnPlateau": {"schedule": "ReduceLROnPlateau(patience=0, threshold=0.5)", "engine": "eager"},
    "SWA": {
        "schedule": "SequentialLR([CosineAnnealingLR(), SWALR(swa_lr=0.02, anneal_epochs=1)], milestones=[2])",
        "average": "SWA(start_epoch=3)",
    },
    "RMSprop": {"schedule": "StepLR(step_size=1)", "optimizer": "RMSprop(lr=0.01)"},
}


def rows(count: int = 120) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(count, 5)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(np.int64)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows as a file."""
    found = tmp_path_factory.mktemp("schedules")
    X, y = rows()
    np.savez(found / "rows.npz", X=X, y=y)
    return found


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out reports and the wait for the disk, which take longer than these runs."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(nw.Run, "report", lambda run: run.folder / "report.html")


def train(place: Path, name: str, **given: Any) -> nw.Run:
    return nw.train(str(place / "rows.npz"), run_dir=place / name, **{**GIVEN, **KEPT, **given})


def parts(folder: Path) -> dict[str, Any]:
    found = store.newest(folder / "checkpoints", pytest.fail).parts
    return {name: value for name, value in found.items() if name not in ("execution", "history")}


def without_times(run: nw.Run) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in run.history]


def killed(whole: Path, checkpoint: str, copy: Path) -> Path:
    """Return a copy of a run as it would be, had it been killed after a checkpoint."""
    shutil.copytree(whole, copy)
    for path in (copy / "checkpoints").iterdir():
        if path.name > checkpoint:
            shutil.rmtree(path)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"status": "running"}))
    return copy


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_anywhere_ends_with_the_same_bits(name: str, place: Path) -> None:
    whole = train(place, name, **RUNS[name])
    assert len({row["learning_rate"] for row in whole.history}) > 1
    names = sorted(path.name for path in (whole.folder / "checkpoints").iterdir())
    steps = len([one for one in names if "epoch" not in one])
    assert steps >= 8  # in the middle of epochs, where per-step schedules are ahead of the steps
    for checkpoint in (names[2], names[5], names[-3]):
        folder = killed(whole.folder, checkpoint, place / f"{name}-{checkpoint}")
        run = nw.resume(folder, require_exact=True)
        assert run.record["resumed"][0]["step"] == store.step_of(Path(checkpoint))
        assert trees.first_difference(parts(whole.folder), parts(folder)) is None
        assert without_times(run) == without_times(whole)
        for file in ("best.safetensors", "last.safetensors"):
            assert (folder / "model" / file).read_bytes() == (whole.folder / "model" / file).read_bytes()


@pytest.mark.parametrize("name", ["WarmupCosine", "OneCycleLR", "SWA"])
def test_captured_steps_give_the_same_bits_and_the_resolved_config_too(name: str, place: Path) -> None:
    other = {"optimizer": "SGD(lr=0.05, momentum=0.5, nesterov=True)"} if name == "OneCycleLR" else {}
    runs = [
        train(place, f"{name}-{engine}", **{**RUNS[name], **other, "engine": engine, "epochs": 6, "checkpoint": {}})
        for engine in ("eager", "captured")
    ]
    runs.append(nw.train(runs[1].folder / "config.toml", run_dir=place / f"{name}-again", test=False))
    assert runs[1].record["played"] in ("natively", "from Python")
    expected = parts(runs[0].folder)
    for run in runs[1:]:
        assert trees.first_difference(expected, parts(run.folder)) is None
        assert without_times(run) == without_times(runs[0])
    assert runs[1].config.training.schedule == runs[2].config.training.schedule


def test_a_step_by_step_schedule_is_that_of_the_loop_written_by_hand(place: Path) -> None:
    run = train(
        place,
        "hand",
        schedule="OneCycleLR(max_lr=0.05)",
        average="EMA(decay=0.9)",
        engine="captured",
        layers=["Linear()"],
    )
    X, y = (torch.from_numpy(value) for value in rows())
    split = np.load(run.folder / "split.npz")["train"]
    inputs = own_inputs(run.folder, read_config(run.folder), run.record)
    X = next(iter(inputs.preparation.examples(inputs.raw).inputs.values()))
    start = store.read_parts(place / "hand" / "checkpoints" / "step-000000000-epoch-000000")["model"]["state"]
    model = nn.Sequential(nn.Linear(5, 1))
    model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=4 * 9)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for epoch in range(1, 5):
        order = stream(0, "order", epoch).permutation(split)
        for few in torch.from_numpy(order).split(8):
            loss = nn.functional.binary_cross_entropy_with_logits(model(X[few]), y[few].float().unsqueeze(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
    last = parts(run.folder)
    assert all(torch.equal(last["model"]["state"][name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(last["averaged"]["mean"][name], value) for name, value in average.module.state_dict().items())


def test_the_average_is_what_is_validated_kept_and_handed_over(place: Path) -> None:
    run = train(place, "kept", **{**RUNS["WarmupCosine"], "split": {"valid": 0, "test": 0.2}})
    last = parts(run.folder)
    mean = last["averaged"]["mean"]
    assert all(torch.equal(run.model.state_dict()[name], mean[name]) for name in mean)
    assert not torch.equal(mean["0.weight"], last["model"]["state"]["0.weight"])
    loaded = nw.load(run.folder).model.state_dict()
    assert all(torch.equal(loaded[name], mean[name]) for name in mean)
    swa = train(place, "late", average="SWA(start_epoch=4)", epochs=5)
    plain = train(place, "plain", epochs=5)
    figures = [[row["valid_loss"] for row in one.history] for one in (swa, plain)]
    assert figures[0][:4] == figures[1][:4]  # the mean of one epoch is its weights
    assert figures[0][4] != figures[1][4]
    assert [row["train_loss"] for row in swa.history] == [row["train_loss"] for row in plain.history]


def lines_of(settings: list[str], run: Path, **again: Any) -> list[str]:
    lines: list[str] = []
    nw.resume(run, settings=settings, observers=[lambda record: lines.append(str(record))], **again)
    return lines


def test_going_on_for_longer_or_with_another_rate_says_what_becomes_of_the_schedule(place: Path) -> None:
    run = train(place, "longer", schedule="CosineAnnealingLR()", epochs=2)
    lines = lines_of(["training.epochs=3", "training.optimizer.lr=0.1"], run.folder)
    assert (
        "note: the schedule stays CosineAnnealingLR(T_max=2), also where it was worked out for fewer or more epochs" in lines
    )
    assert "note: the schedule CosineAnnealingLR(T_max=2) goes on, in proportion to the new learning rate" in lines
    run = train(place, "cycle", schedule="OneCycleLR(max_lr=0.05)", epochs=2)
    rates = [row["learning_rate"] for row in run.history]
    lines = lines_of(["training.epochs=4", "training.optimizer.lr=0.1"], run.folder)
    assert any(line.endswith("goes on with its own max_lr: the new learning rate changes nothing") for line in lines)
    assert "note: schedule: it ends after 18 of 36 steps; the others keep its last rate" in lines
    assert [row["learning_rate"] for row in nw.load(run.folder).history] == [*rates, rates[1], rates[1]]
    assert "resume: exact" in lines  # the schedule overrules the rate, and here is the same run at its old one
    same = train(place, "cycle-same", schedule="OneCycleLR(max_lr=0.05)", epochs=2)
    assert "resume: exact" in lines_of(["training.epochs=4"], same.folder)
    weights = [safetensors.torch.load_file(one.folder / "model" / "last.safetensors") for one in (run, same)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_part_of_a_schedule_with_rates_of_its_own_is_told_as_such(place: Path) -> None:
    def mixed(optimizer: torch.optim.Optimizer) -> Any:
        parts = [lr_scheduler.ConstantLR(optimizer, 1.0, 9), lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=9)]
        return lr_scheduler.SequentialLR(optimizer, parts, [9]), "step"

    def cycle(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=36)

    X, y = rows()
    given = {key: value for key, value in GIVEN.items() if key != "test"} | {"epochs": 1, "data": (X, y)}
    for schedule, told in (
        (mixed, "goes on, in proportion to the new learning rate; OneCycleLR in it with its own max_lr"),
        (cycle, "goes on with its own max_lr: the new learning rate changes nothing"),
    ):
        run = nw.train(schedule=schedule, run_dir=place / f"own-{schedule.__name__}", **given)
        lines: list[str] = []
        nw.resume(
            run.folder,
            data=(X, y),
            schedule=schedule,
            settings=["training.epochs=2", "training.optimizer.lr=0.1"],
            observers=[lambda one, lines=lines: lines.append(str(one))],
        )
        assert any(line.endswith(told) for line in lines), lines
        assert ("resume: exact" in lines) == (schedule is cycle)


def test_functions_from_python_step_after_epochs_or_steps_and_are_asked_for_again(place: Path) -> None:
    X, y = rows()

    def halves(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)

    given = {key: value for key, value in GIVEN.items() if key != "test"} | {"epochs": 2, "data": (X, y)}
    run = nw.train(schedule=halves, run_dir=place / "own", **given)
    assert [row["learning_rate"] for row in run.history] == [0.001, 0.0005]
    assert "halves" in str(run.config.training.schedule)
    steps = nw.train(schedule=lambda optimizer: (halves(optimizer), "step"), run_dir=place / "steps", **given)
    assert [row["learning_rate"] for row in steps.history] == [0.001 * 0.5**8, 0.001 * 0.5**17]
    with pytest.raises(CheckpointError, match=r"training.schedule: .*halves was a Python object; expected it again"):
        nw.resume(run.folder, data=(X, y), settings=["training.epochs=3"])
    again = nw.resume(run.folder, data=(X, y), schedule=halves, settings=["training.epochs=3"])
    assert again.history[-1]["learning_rate"] == 0.00025
    with pytest.raises(ConfigError, match="a part of it came from Python"):
        nw.eject(run)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "ReduceLROnPlateau()", "split": {"valid": 0}}, "there are no valid rows or no figures of them"),
        ({"schedule": "WarmupCosine()", "optimizer": "RMSprop()", "engine": "captured"}, "RMSprop has no fused kernel"),
        ({"schedule": "OneCycleLR()", "optimizer": "Adagrad()"}, "optimizer must support momentum"),
        (
            {"schedule": ["LinearLR()", "CosineAnnealingLR()"]},
            r"a list came; .*SequentialLR\(\[LinearLR\(\), CosineAnnealingLR\(\)\]",
        ),
        ({"scheduler": "StepLR(3)"}, r"scheduler='StepLR\(3\)': no known setting; did you mean schedule\?"),
        ({"schedule": 3}, "schedule: 3 came"),
        ({"average": "EMA"}, r"'EMA' came; expected a call with brackets; write EMA\(\)"),
        (
            {"schedule": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer), "split": {"valid": 0}},
            "there are no valid rows",
        ),
        ({"schedule": lambda optimizer: lr_scheduler.StepLR(optimizer, 0)}, "fails: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(given: dict[str, Any], words: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        train(place, "never", **given)
    assert "\n" not in str(error.value)
    assert not (place / "never").exists()


def test_what_a_schedule_will_do_is_told_before_it_does(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    def told(record: Any) -> None:
        lines.append(str(record))

    train(place, "told", schedule="SequentialLR([LinearLR(total_iters=2), StepLR(1)], milestones=[2])", observers=[told])
    assert (
        "schedule: SequentialLR(schedulers=[LinearLR(total_iters=2), StepLR(step_size=1)], milestones=[2]), after every epoch; "
        "learning rate 0.0003333 in epoch 1, 0.001 in epoch 3, 0.0001 in epoch 4" in lines
    )
    lines.clear()
    train(place, "watched", schedule="ReduceLROnPlateau()", average="EMA()", metrics=[], observers=[told])
    assert (
        "schedule: ReduceLROnPlateau(mode='min'), after every epoch by its valid_loss; learning rate 0.001 at first" in lines
    )
    assert "average: EMA(decay=0.999), after every step; it is validated, tested and kept" in lines
    with pytest.raises(SystemExit):
        main(["show", str(place / "told" / "config.toml")])
    assert "after every epoch; learning rate 0.0003333 in epoch 1" in capsys.readouterr().out
    code = [line.code for line in explain(place / "watched")]
    steps, validation = code.index("        optimizer.step()"), code.index("    model.eval()")
    assert steps < code.index("        average.update_parameters(model)") < validation
    assert code.index("    scheduler.step(valid_loss)") > validation


def test_the_report_draws_a_learning_rate_that_changes() -> None:
    history = {"epoch": [1.0, 2.0], "train_loss": [2.0, 1.0], "learning_rate": [0.1, 0.01]}
    assert curves_of(history)["Learning rate"] == {"learning_rate": [0.1, 0.01]}
    assert curves_of({**history, "learning_rate": [0.1, 0.1]})["Learning rate"] == {}


def test_an_accuracy_that_is_watched_is_better_higher(place: Path) -> None:
    stopping = {"monitor": "valid_accuracy", "patience": 3}
    run = train(place, "higher", schedule="ReduceLROnPlateau(patience=0)", early_stopping=stopping)
    assert run.config.training.schedule == "ReduceLROnPlateau(mode='max', patience=0)"


ONE_CYCLES = [
    "OneCycleLR(max_lr=0.05, cycle_momentum=False)",
    "OneCycleLR(pct_start=0.2)",
    "OneCycleLR(anneal_strategy='linear', max_lr=0.1)",
    "OneCycleLR(max_lr=0.1, final_div_factor=10.0)",
    "OneCycleLR(steps_per_epoch=12)",
]


@pytest.mark.parametrize("schedule", ONE_CYCLES)
def test_a_one_cycle_run_goes_on_whatever_is_written_of_it(schedule: str, place: Path) -> None:
    name = f"one-cycle-{ONE_CYCLES.index(schedule)}"
    whole = train(place, name, schedule=schedule, optimizer="Adam(lr=0.01)")
    checkpoints = sorted(path.name for path in (whole.folder / "checkpoints").iterdir())
    folder = killed(whole.folder, checkpoints[4], place / f"{name}-killed")
    text = (folder / "config.toml").read_text()
    written = read_config(folder).training.schedule
    assert written is not None
    arguments = written.removeprefix("OneCycleLR(").removesuffix(")").split(", ")
    turned = f"OneCycleLR({', '.join(reversed(arguments))})"  # as earlier versions wrote it: in another order
    (folder / "config.toml").write_text(text.replace(written, turned))
    nw.resume(folder, require_exact=True)
    assert trees.first_difference(parts(whole.folder), parts(folder)) is None


def test_steps_that_end_a_run_earlier_end_its_average_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 9 steps an epoch 18 are two epochs."""
    nw.train(str(place / "rows.npz"), run_dir=place / "early", **GIVEN | {"epochs": 40, "steps": 18, "average": "SWA()"})
    assert read_config(place / "early").training.average == "SWA(start_epoch=2)"
    text = "\n".join(["[data]", f"source = '{place / 'rows.npz'}'", "batch_size = 8", "[model]", f"layers = {json.dumps(NET)}",
                      "[training]", "epochs = 40", "steps = 18", 'average = "SWA(start_epoch=30)"'])  # fmt: skip
    (place / "never.toml").write_text(text)
    with pytest.raises(SystemExit):
        main(["train", str(place / "never.toml"), "--no-test", "--run-dir", str(place / "never")])
    told = capsys.readouterr().out
    assert "average: SWA(start_epoch=30) never begins: training.steps ends the run in epoch 2" in told
    assert "training: 18 steps, batches of 8" in told


def test_a_run_of_epochs_within_its_steps_goes_on_for_longer(place: Path) -> None:
    run = train(place, "within", epochs=1, steps=30)
    assert len(nw.resume(run.folder, settings=["training.epochs=2"]).history) == 2
    done = nw.resume(run.folder, settings=["training.epochs=9"])
    assert done.record["why"] == "30 steps done"
    with pytest.raises(ConfigError, match="finished .30 steps done., so training.epochs would change nothing; .*more steps"):
        nw.resume(run.folder, settings=["training.epochs=20"])
