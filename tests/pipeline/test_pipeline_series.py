"""Series without a network of their own: what is filled in, what is left alone, and that the promises hold for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import netwright as nw
from netwright.distributed.world import World
from netwright.errors import DataError
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench, gather, prepare
from netwright.pipeline.telling import SEVERAL, describe
from netwright.proofs.rerunning import verify_eject

WAVES = np.random.default_rng(0).normal(size=(200, 1, 20)).astype(np.float32)
LABELS = np.arange(200) % 2
SLOWER = torch.optim.lr_scheduler.ConstantLR


def prepared(rows: int = 60, data: Any = None, **keywords: Any) -> Bench:
    custom = keywords.pop("custom", {})
    config, name = gather(None, [], keywords)
    return prepare(config, name, data=(WAVES[:rows], LABELS[:rows]) if data is None else data, **custom)


def chosen(bench: Bench) -> tuple[int, int, str, int, bool, bool]:
    """Return train and valid rows, optimizer, epochs, whether the rate falls and whether a run may end early."""
    training, split = bench.config.training, bench.inputs.split
    optimizer = training.optimizer.partition(", fused")[0]
    return (
        len(split.train), len(split.valid), optimizer, training.epochs or 0, training.schedule is not None,
        training.early_stopping != "none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    folder = tmp_path_factory.mktemp("runs")
    path = folder / "waves.npz"
    np.savez(path, X=WAVES[:40], y=LABELS[:40])
    evaluation = {"baselines": "none", "importance": False}
    return nw.train(str(path), target="y", layout="NCT", epochs=2, threads=1, evaluation=evaluation, run_dir=folder / "run")


def test_few_series_all_train_and_it_is_said() -> None:
    bench = prepared()
    assert chosen(bench) == (48, 0, "AdamW(lr=0.003", 300, True, False)
    assert bench.config.data.batch_size == 16
    assert bench.config.data.split.valid == 0
    assert any("48 rows to learn from, too few to set some apart" in note for note in bench.inputs.notes)


def test_few_series_are_told_of_several_seeds_where_one_trains(tmp_path: Path) -> None:
    assert SEVERAL in [told.text for told in describe(prepared())]
    assert SEVERAL not in [told.text for told in describe(prepared(200))]
    assert SEVERAL not in [
        told.text for told in describe(replace(prepared(strategy="ddp"), world=World(0, 2)))
    ]  # --seeds is refused there
    told: list[str] = []
    nw.repeat(
        data=(WAVES[:20], LABELS[:20]), layout="NCT", seeds=2, epochs=1, test=False, threads=1, run_dir=tmp_path / "seeds",
        observers=[lambda record: told.append(str(record))],
    )  # fmt: skip
    assert any("none validates" in line for line in told)
    assert not any("--seeds" in line for line in told)


def test_more_series_keep_valid_rows_that_choose_the_best_epoch() -> None:
    bench = prepared(200)
    assert chosen(bench) == (120, 40, "AdamW(lr=0.003", 300, True, False)
    assert bench.config.data.split.valid is None


@pytest.mark.parametrize(
    "written",
    [
        {"split": {"valid": 0.2}},
        {"early_stopping": {"patience": 3}},
        {"metrics": ["cohen_kappa_score"]},
        {"evaluation": {"temperature": True}},
        {"evaluation": {"threshold": "accuracy"}},
        {"optimizer": "SGD(lr=0.1)", "schedule": "ReduceLROnPlateau()"},
        {"tune": {"space": {"training.optimizer.lr": "log 1e-4..1e-2"}, "trials": 2}},
    ],
    ids=str,
)
def test_valid_rows_stay_where_a_setting_speaks_of_them(written: dict[str, Any]) -> None:
    assert len(prepared(**written).inputs.split.valid) == 12


def test_valid_rows_stay_for_objects_that_read_figures_and_for_rows_of_ones_own() -> None:
    stop = nw.pipeline.custom.Custom(stop=lambda record: record.valid["loss"] < 0)
    assert len(prepared(custom={"custom": stop}).inputs.split.valid) == 12
    own = {"train": (WAVES[:30], LABELS[:30]), "valid": (WAVES[30:40], LABELS[30:40])}
    assert len(prepared(data=own).inputs.split.valid) == 10


def test_amounts_keep_valid_rows_because_their_intervals_are_made_from_them() -> None:
    bench = prepared(data=(WAVES[:60], WAVES[:60, 0, :3].sum(axis=1)))
    assert chosen(bench)[:2] == (36, 12)


def test_what_the_user_has_written_stays_and_the_schedule_goes_with_the_optimizer() -> None:
    bench = prepared(optimizer="SGD(lr=0.1)", epochs=7, batch_size=5)
    assert chosen(bench) == (48, 0, "SGD(lr=0.1", 7, False, False)
    assert bench.config.data.batch_size == 5
    assert prepared(schedule="none").config.training.schedule is None
    own = nw.pipeline.custom.Custom(optimizer=torch.optim.SGD)
    assert prepared(custom={"custom": own}).config.training.schedule is None
    assert chosen(prepared(layers=["Flatten()", "Linear()"])) == (36, 12, "Adam(lr=0.001", 200, False, True)


def test_a_run_of_one_step_has_no_warm_up() -> None:
    told = prepared(rows=20, epochs=1).config.training.schedule
    assert told == "WarmupCosine(warmup=0, total_steps=1, final=0.0)"


def test_both_orders_of_the_axes_get_the_same_network_but_for_a_transpose() -> None:
    first = prepared(layout="NCT").config.model.layers or []
    last = prepared(data=(WAVES[:60].transpose(0, 2, 1), LABELS[:60]), layout="NTC").config.model.layers or []
    assert last == ["Transpose()", *first]


def test_sequences_of_different_length_are_normalised_per_step_and_padding_says_nothing(tmp_path: Path) -> None:
    rows = [WAVES[row, 0, : 10 + row % 9] for row in range(30)]
    found = nw.train(data=(rows, LABELS[:30]), epochs=1, threads=1, test=False, run_dir=tmp_path / "run")
    assert "LayerNorm(normalized_shape=48)" in (found.config.model.layers or [])
    model, x = found.model.eval(), torch.from_numpy(WAVES[:1, :, :18].transpose(0, 2, 1).copy())
    with torch.no_grad():
        torch.testing.assert_close(model(x, lengths=torch.tensor([11])), model(x[:, :11]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("shape", "rows"), [((1, 3), 12), ((100, 30), 12), ((2, 5_000), 6)])
def test_short_long_and_wide_series_train(shape: tuple[int, int], rows: int, tmp_path: Path) -> None:
    X = np.random.default_rng(1).normal(size=(rows, *shape)).astype(np.float32)
    found = nw.train(data=(X, np.arange(rows) % 2), layout="NCT", epochs=1, threads=1, test=False, run_dir=tmp_path / "run")
    assert np.isfinite(found.history[-1]["train_loss"])


def test_a_forecast_by_a_line_goes_on_beyond_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    path.write_text("value\n" + "\n".join(f"{step + 3 * (step % 4)}" for step in range(140)) + "\n")
    evaluation = {"baselines": ["simple"], "importance": False}
    found = nw.train(
        str(path), target="value", window=8, kinds={"value": "number"}, task="regression", threads=1, evaluation=evaluation,
        split={"test": 30, "valid": 20}, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert found.config.model.layers == ["Flatten()", "Linear(in_features=8, out_features=1)"]
    assert found.tested is not None
    assert found.tested["metrics"]["rmse"]["value"] < found.tested["baselines"]["persistence"]["metrics"]["rmse"]


def test_the_resolved_config_gives_the_same_bits_in_either_engine(run: nw.Run, tmp_path: Path) -> None:
    again = nw.train(run.folder / "config.toml", run_dir=tmp_path / "again", test=False)
    eager = nw.train(run.folder / "config.toml", engine="eager", lanes=1, run_dir=tmp_path / "eager", test=False)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
        assert torch.equal(value, eager.model.state_dict()[name]), name


def test_the_default_ejects_to_a_script_with_the_same_bits(run: nw.Run) -> None:
    assert verify_eject(run.folder).held


def test_a_search_over_the_learning_rate_keeps_the_schedule_that_train_takes() -> None:
    tune = {"space": {"training.optimizer.lr": "log 1e-4..1e-2"}, "trials": 2}
    config, name = gather(None, [], {"tune": tune})
    asked = Asked(config, name, (WAVES[:60], LABELS[:60]), None, None, (), "")
    known = asked.with_settings(["training.optimizer.lr=0.002"]).bench().config.training
    assert known.optimizer.startswith("AdamW(lr=0.002")
    assert (known.schedule or "").startswith("WarmupCosine(")


@pytest.mark.parametrize(
    "reader", [{"tune": {"space": {"training.seed": [1, 2]}}}, {"schedule": lambda optimizer: SLOWER(optimizer)}]
)
def test_the_split_shown_is_the_split_trained_on(reader: dict[str, Any]) -> None:
    data = (WAVES[:60], LABELS[:60])
    assert len(nw.split(data=data).valid) == 0
    assert len(nw.split(data=data, **reader).valid) == 12


def test_months_tell_the_order_of_a_series(tmp_path: Path) -> None:
    months = [f"{1990 + place // 12}-{1 + place % 12:02d}" for place in range(96)]
    frame = pd.DataFrame({"month": months, "sold": np.sin(np.arange(96) / 3)})
    asked: dict[str, Any] = {"target": "sold", "window": 6, "epochs": 1, "baselines": []}
    run = nw.train(frame, **asked, run_dir=tmp_path / "run")
    timed = nw.train(frame, **asked, split={"time": "month"}, run_dir=tmp_path / "timed")
    assert run.predict(frame.tail(20)).shape == timed.predict(frame.tail(20)).shape
    mixed = frame.sample(frac=1, random_state=0)
    for call in (lambda: nw.train(mixed, **asked, run_dir=tmp_path / "none"), lambda: run.predict(mixed)):
        with pytest.raises(DataError, match="column 'month' is earlier than one line above"):
            call()


def test_classes_of_a_series_that_lacks_some_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"level": np.sin(np.arange(90) / 3), "state": np.where(np.arange(90) % 2, "up", "down")})
    run = nw.train(
        frame, target="state", classes=["down", "up", "still"], window=5, epochs=1, baselines=[], run_dir=tmp_path / "run"
    )
    assert run.program.outcome.task == "multiclass"
    assert run.predict_proba(frame).shape[1] == 3
