"""What a step does to gradients, from the settings to a run: told, recorded, resumed, explained, ejected, refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netwright as nw
from netwright.checkpoint import store, trees
from netwright.config.read import build_config
from netwright.errors import CheckpointError, ConfigError, DivergedError
from netwright.pipeline.telling import Told
from netwright.proofs.explaining import explain
from netwright.training.journal import EpochRecord

GROUPS = [{"parameters": ["biases", "norms"], "weight_decay": 0.0}, {"parameters": ["0"], "lr": 0.002}]
ALL: dict[str, Any] = {
    "optimizer": "AdamW(lr=0.01, weight_decay=0.1)", "parameter_groups": GROUPS,
    "clip_grad_norm": 0.5, "clip_grad_value": 0.1, "l1": 0.001, "sharpness": 0.05,
}  # fmt: skip
HALF: dict[str, Any] = {"optimizer": "SGD(lr=0.1, momentum=0.9)", "precision": "float16", "clip_grad_norm": 1.0, "l1": 0.001}
NET = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]
SAVED = ("model", "optimizer", "generators", "progress", "best")


def rows(place: Path) -> Path:
    generator = np.random.default_rng(1)
    X = generator.normal(size=(120, 5)).astype(np.float32)
    np.savez(place / "rows.npz", X=X, y=(X[:, 0] + X[:, 1] > 0).astype(int))
    return place / "rows.npz"


def train(place: Path, stopped_after: int | None = None, **keywords: Any) -> tuple[nw.Run, list[str]]:
    lines: list[str] = []

    def watch(record: Told | EpochRecord) -> None:
        lines.append(str(record))
        if isinstance(record, EpochRecord) and record.epoch == stopped_after:
            os.kill(os.getpid(), signal.SIGTERM)

    if not (place / "rows.npz").exists():
        rows(place)
    given = {"layers": NET, "batch_size": 16, "epochs": 4, "threads": 1, "baselines": [], "importance": False, **keywords}
    name = "part" if stopped_after else "whole"
    run = nw.train(str(place / "rows.npz"), target="y", run_dir=place / name, observers=[watch], test=False, **given)
    return run, lines


def kept(folder: Path, *further: str) -> dict[str, Any]:
    parts = store.newest(folder / "checkpoints", pytest.fail).parts
    return {name: parts[name] for name in (*SAVED, *further)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    place = tmp_path_factory.mktemp("all")
    return place, train(place, **ALL)[1]


def test_a_run_tells_what_its_steps_do_and_keeps_it(trained: tuple[Path, list[str]]) -> None:
    place, lines = trained
    step = next(line for line in lines if line.startswith("each step: "))
    for words in ("0.05 uphill", "an l1 penalty of 0.001", "clipped to a norm of 0.5", "clipped to 0.1"):
        assert words in step
    assert "parameter group 0: weight_decay=0.0 for 4 parameter(s) (0.bias, 1.weight, 1.bias, ...)" in lines
    assert (
        "parameter group 1: lr=0.002 for 1 parameter(s) (0.weight); 1 more that it speaks of are in a group before" in lines
    )
    record = json.loads((place / "whole" / "run.json").read_text())
    assert record["engine"] == "captured"
    assert [group["arguments"] for group in record["parameter_groups"]] == [{}, {"weight_decay": 0.0}, {"lr": 0.002}]
    assert [group["parameters"] for group in record["parameter_groups"]][::2] == [["4.weight"], ["0.weight"]]
    code = [line.code.strip() for line in explain(place / "whole")]
    first = code.index("loss.backward()")
    assert code[first + 1 : first + 6] == [
        "with uphill(model, 0.05): output, loss, zero_grad, backward as above",
        "add_l1(model, 0.001)",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)",
        "torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)",
        "optimizer.step()",
    ]


def test_the_resolved_config_run_again_as_it_is_written_gives_the_same_bits(trained: tuple[Path, list[str]]) -> None:
    place, _ = trained
    again = nw.train(
        place / "whole" / "config.toml", run_dir=place / "again", settings=["training.engine=eager"], test=False
    )
    assert trees.first_difference(kept(again.folder), kept(place / "whole")) is None


@pytest.mark.parametrize(("name", "further"), [("all", ()), ("half", ("scaler",))])
def test_a_stopped_run_goes_on_with_the_same_bits(name: str, further: tuple[str, ...], tmp_path: Path) -> None:
    how = ALL if name == "all" else HALF
    whole, _ = train(tmp_path, **how)
    part, _ = train(tmp_path, stopped_after=2, **how)
    assert part.record["status"] == "stopped"
    nw.resume(part.folder, require_exact=True)
    assert trees.first_difference(kept(part.folder, *further), kept(whole.folder, *further)) is None


def test_float16_tells_its_skipped_steps_and_why_it_is_not_captured(tmp_path: Path) -> None:
    """Inputs of some thousands: the gradients of the weights overflow until the scale is smaller."""
    X = np.random.default_rng(1).normal(size=(120, 5)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", X=X * 2000, y=(X[:, 0] > 0).astype(int))
    how = {**HALF, "preparation": "none", "layers": ["Linear()"], "optimizer": "SGD(lr=1e-6)"}
    with pytest.raises(ConfigError, match=r"captured came; it cannot run here: a step in float16 is skipped"):
        train(tmp_path, **how, engine="captured")
    run, lines = train(tmp_path, **how)
    assert run.record["why_engine"] == "a step in float16 is skipped where gradients overflow, which only taking it tells"
    skipped = run.record["skipped_steps"]
    assert 0 < skipped < 20
    assert f"float16: {skipped} of {run.record['steps']} steps were skipped, because their gradients overflowed" in lines
    assert kept(run.folder, "scaler")["scaler"]["skipped"] == skipped


def test_learning_rates_of_groups_may_change_when_a_run_goes_on_and_nothing_else_of_them(tmp_path: Path) -> None:
    part, _ = train(tmp_path, stopped_after=2, **ALL)
    for setting in ("training.parameter_groups.0.weight_decay=0.5", 'training.parameter_groups.1.parameters=["4"]'):
        with pytest.raises(CheckpointError, match=r"training.parameter_groups .* came; expected its lr only"):
            nw.resume(part.folder, settings=[setting])
    lines: list[str] = []
    settings = ["training.parameter_groups.1.lr=0.5", "training.optimizer.lr=0.25"]
    run = nw.resume(part.folder, settings=settings, observers=[lambda told: lines.append(str(told))])
    assert "note: resume: not exact (learning rate 0.01, 0.01, 0.002 -> 0.25, 0.25, 0.5)" in lines
    groups = store.newest(run.folder / "checkpoints", pytest.fail).parts["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.25, 0.25, 0.5]
    assert [row["learning_rate"] for row in run.history] == [0.01, 0.01, 0.25, 0.25]


def test_a_run_without_groups_is_resumed_as_ever_from_a_checkpoint_of_before(tmp_path: Path) -> None:
    part, _ = train(tmp_path, stopped_after=2, optimizer="SGD(lr=0.1)")
    assert "parameter_groups" not in part.record
    run = nw.resume(part.folder, settings=["training.optimizer.lr=0.5"])
    assert [row["learning_rate"] for row in run.history] == [0.1, 0.1, 0.5, 0.5]


def test_a_norm_that_is_not_finite_ends_the_run_with_its_step_undone(tmp_path: Path) -> None:
    """One row so large that the norm of its gradient overflows, though its loss does not."""
    X = np.random.default_rng(2).normal(size=(64, 3)).astype(np.float32)
    y = X[:, :1].astype(np.float64)
    X[40] = 2e20
    split = {"train": list(range(64)), "valid": [], "test": []}
    with pytest.raises(
        DivergedError, match=r"the norm of the gradients is (inf|nan) at step \d+ .*the bad update was not applied"
    ):
        nw.train(
            data=(X, y), layers=["Linear()"], loss="L1Loss()", optimizer="SGD(lr=0.001)", clip_grad_norm=1.0, epochs=2,
            batch_size=8, split=split, preparation="none", run_dir=tmp_path / "run", checks={"skip": ["all"]},
        )  # fmt: skip
    state = store.newest(tmp_path / "run" / "checkpoints", pytest.fail).parts["model"]["state"]
    assert all(bool(torch.isfinite(value).all()) for value in state.values())
    shown = nw.replay(tmp_path / "run")
    assert shown.reproduced
    assert "the norm of the gradients is" in str(shown.now)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clip_grad_norm": 0}, "training.clip_grad_norm: 0 came; expected more than 0"),
        ({"clip_grad_value": "x"}, "training.clip_grad_value: 'x' came; expected a number"),
        ({"l1": -1}, "training.l1: -1 came"),
        ({"gradient_clip_val": 1.0}, "gradient_clip_val.*did you mean clip_grad_norm"),
        ({"parameter_groups": [{"lr": 0.1}]}, "training.parameter_groups.0: no parameters came; expected a list of layers"),
        ({"parameter_groups": [{"parameters": ["0"]}]}, "expected an argument of Adam for it"),
        (
            {"parameter_groups": [{"parameters": ["0"], "momentum": 0.1}]},
            "parameter_groups.0: Adam has no argument 'momentum'",
        ),
        (
            {"parameter_groups": [{"parameters": ["0"], "fused": True}]},
            "fused = True came; expected it for all groups at once",
        ),
        ({"optimizer": "LBFGS()", "clip_grad_norm": 1.0}, "clip_grad_norm = 1.0 came with LBFGS, which searches along"),
        ({"optimizer": "LBFGS()", "precision": "float16"}, 'precision = "float16" came with LBFGS'),
        (
            {"optimizer": "LBFGS()", "parameter_groups": [{"parameters": ["0"], "lr": 1}]},
            "it came with LBFGS, which has one group",
        ),
        (
            {"sharpness": 0.1, "precision": "float16"},
            'sharpness = 0.1 came with precision = "float16"; expected one of them',
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config({"training": settings})


def test_none_turns_a_setting_off() -> None:
    off = {"clip_grad_norm": "none", "l1": "none", "sharpness": "none", "parameter_groups": "none"}
    training = build_config({"training": off}).training
    assert (training.clip_grad_norm, training.l1, training.sharpness, training.parameter_groups) == (None, None, None, [])


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"parameter_groups": [{"parameters": ["7"], "lr": 0.1}]}, "'7' matches no parameter"),
        (
            {"parameter_groups": [{"parameters": ["norms"], "lr": 0.1}], "layers": ["Linear()"]},
            "norms came; the network has none",
        ),
        (
            {"parameter_groups": [{"parameters": ["0"], "lr": 0.1}], "optimizer": torch.optim.Adam},
            "came with optimizer= from Python",
        ),
        ({"clip_grad_norm": 1.0, "step": lambda model, batch, optimizer: None}, "clip_grad_norm: 1.0 came with step="),
        ({"optimizer": "SparseAdam()"}, "SparseAdam does not support dense gradients"),
    ],
)
def test_what_does_not_fit_the_network_or_objects_is_told_before_anything_is_written(
    keywords: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, **keywords)
    assert not (tmp_path / "whole").exists()
