"""Runs that take their steps together: ordinary folders, figures as alone but for rounding, stopped and gone on with, told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, DivergedError
from netwright.lifecycle.exactness import inexact
from netwright.proofs.ejecting import refuse_inexact
from netwright.proofs.explaining import explain
from netwright.runfolder import folder as folders
from netwright.studies.repeating import Repetition
from netwright.training.journal import EpochRecord

LAYERS = ["Linear(8)", "ReLU()", "Dropout(0.2)", "Linear()"]
QUICK: dict[str, Any] = {
    "layers": LAYERS, "threads": 1, "engine": "eager", "baselines": "none", "importance": False, "worst": 0, "epochs": 4,
}  # fmt: skip
PLAYED = [f"3 runs in one vectorised step, {way}" for way in ("natively", "from Python")]


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.lifecycle.run.render", lambda *place, **rows: b"<!DOCTYPE html>")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repetition, Repetition, list[str]]:
    """Seeds one after the other, the same seeds together with recorded steps, and what was told of these."""
    place, told = tmp_path_factory.mktemp("populations"), list[str]()
    settings = {**QUICK, "engine": "captured"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("netwright.lifecycle.run.render", lambda *place, **rows: b"<!DOCTYPE html>")
        alone = nw.repeat("sklearn:iris", seeds=3, run_dir=place / "alone", **settings)
        tell = lambda record: told.append(str(record))  # noqa: E731
        together = nw.repeat(
            "sklearn:iris", seeds=3, run_dir=place / "together", population=True, observers=[tell], **settings
        )
    return alone, together, told


def columns(run: Path) -> np.ndarray:
    rows = folders.read_history(run)
    return np.array([[value for name, value in row.items() if not name.endswith("_seconds")] for row in rows])


def test_seeds_together_are_ordinary_runs_with_the_figures_they_have_alone(
    both: tuple[Repetition, Repetition, list[str]],
) -> None:
    alone, together, told = both
    for one, other in zip(alone.runs, together.runs, strict=True):
        assert np.allclose(columns(one), columns(other), rtol=1e-5)
        assert not np.array_equal(columns(other), columns(together.runs[0])) or other == together.runs[0]
        names = {path.name for path in one.iterdir()}
        assert {path.name for path in other.iterdir()} == names
        assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
        record = folders.read_record(other)
        assert record["members"] == 3
        assert record["played"].partition(":")[0] in PLAYED, record["played"]
    for name, figure in alone.figures.items():
        assert figure.values == pytest.approx(together.figures[name].values, rel=1e-4)
    assert any("3 runs take their steps together, vectorised" in line and "not bit by bit" in line for line in told)


def test_what_is_not_exact_is_said(both: tuple[Repetition, Repetition, list[str]]) -> None:
    run = both[1].runs[0]
    with pytest.raises(CheckpointError, match="trained together with 2 other runs, .* within rounding, not bit by bit"):
        refuse_inexact(run, folders.read_record(run))
    assert "taken together with those of 2 other runs" in explain(run)[-1].comment
    then = {"optimizer": "Adam(lr=0.001)", "members": 3, "torch": "2"}
    now = {"optimizer": "Adam(lr=0.001)", "torch": "2", "device": None, "cpu": None, "threads": None, "micro_batch": None}
    assert inexact(then, now) == ["its steps were taken together with those of 2 other runs"]


def test_the_callers_generators_and_threads_stay_as_they_were(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", population=True, test=False, **{**QUICK, "epochs": 1})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_a_run_that_stops_early_leaves_the_others_on_their_way(tmp_path: Path) -> None:
    def stop(record: EpochRecord) -> str | None:
        return "enough" if record.epoch == 2 and record.train_loss < 1.06 else None

    settings = {**QUICK, "stop": stop, "optimizer": "Adam(lr=0.02)"}
    alone = nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "alone", test=False, **settings)
    found = nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "together", population=True, test=False, **settings)
    epochs = [len(folders.read_history(run)) for run in found.runs]
    assert sorted(epochs)[0] == 2
    assert epochs == [len(folders.read_history(run)) for run in alone.runs]
    for one, other in zip(alone.runs, found.runs, strict=True):
        assert np.allclose(columns(one), columns(other), rtol=1e-4)


def test_folds_together_differ_in_rows_and_give_the_figures_they_have_alone(tmp_path: Path) -> None:
    settings = {**QUICK, "batch_size": 16}
    alone = nw.cross_validate("sklearn:iris", folds=4, run_dir=tmp_path / "alone", **settings)
    found = nw.cross_validate("sklearn:iris", folds=4, run_dir=tmp_path / "together", population=True, **settings)
    assert folders.read_record(found.runs[3])["members"] == 4
    for name, figure in alone.figures.items():
        assert figure.values == pytest.approx(found.figures[name].values, rel=1e-4)
    assert found.out_of_fold is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": ["AlphaDropout(0.1)", "Linear()"]}, "layer 0 (AlphaDropout) draws random numbers in a way of its own"),
        ({"optimizer": "LBFGS()"}, "LBFGS evaluates the loss several times a step"),
        ({"micro_batch": 8}, "a batch in parts is several pieces of work"),
    ],
)
def test_what_cannot_step_together_trains_apart_with_the_same_bits_and_says_why(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    told: list[str] = []
    settings = {**QUICK, "epochs": 2, **changes}
    found = nw.repeat(
        "sklearn:iris", seeds=2, run_dir=tmp_path / "s", population=True, test=False,
        observers=[lambda record: told.append(str(record))], **settings,
    )  # fmt: skip
    assert f"note: population: the runs train one after the other: {reason}" in told
    alone = nw.train("sklearn:iris", seed=1, run_dir=tmp_path / "alone", test=False, **settings)
    last = Path("model") / "last.safetensors"
    assert (alone.folder / last).read_bytes() == (found.runs[1] / last).read_bytes()
    assert "members" not in folders.read_record(found.runs[1])


def test_a_signal_stops_all_with_checkpoints_and_the_same_call_goes_on(
    both: tuple[Repetition, Repetition, list[str]], tmp_path: Path
) -> None:
    seen = 0

    def stop(record: EpochRecord) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    first = nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "s", population=True, stop=stop, **QUICK)
    assert first.signal == signal.SIGTERM
    assert str(first).startswith("3 of 3 seeds begun, not all of them done")
    runs = [tmp_path / "s" / f"seed-{seed}" for seed in range(3)]
    assert [folders.read_record(run)["status"] for run in runs] == ["stopped"] * 3
    again = nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "s", population=True, stop=stop, **QUICK)
    assert again.signal is None
    for one, other in zip(both[1].runs, again.runs, strict=True):
        assert np.allclose(columns(one), columns(other), rtol=1e-5)


def test_a_run_that_goes_on_in_a_population_says_that_its_bits_are_no_longer_those_of_the_run_alone(tmp_path: Path) -> None:
    told: list[str] = []
    settings = {**QUICK, "epochs": 2, "test": False, "observers": [lambda record: told.append(str(record))]}

    def stop(record: EpochRecord) -> None:
        if record.epoch == 1 and not told.count("asked"):
            told.append("asked")
            os.kill(os.getpid(), signal.SIGTERM)

    first = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", stop=stop, **settings)
    assert str(first).startswith("1 of 2 seeds begun, not all of them done")
    nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", stop=stop, population=True, **settings)
    said = [line for line in told if "resume: " in line]
    assert len(said) == 1
    assert "not exact (its steps are taken together with those of other runs from here on, where they can be)" in said[0]


def test_a_run_that_diverges_ends_alone_and_is_told_when_the_others_are_done(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        nw.repeat(
            "sklearn:iris", seeds=2, run_dir=tmp_path / "s", population=True, test=False,
            **{**QUICK, "optimizer": "SGD(lr=1e30)", "layers": ["Linear(8)", "Linear()"]},
        )  # fmt: skip
    assert [folders.read_record(tmp_path / "s" / f"seed-{seed}")["status"] for seed in range(2)] == ["diverged"] * 2


def test_trials_together_are_ordinary_trials_and_the_best_is_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr("netwright.tuning.results.render_search", lambda contents: "<!DOCTYPE html>")
    space = {"training.optimizer.lr": "log 1e-3..1e-1", "model.layers.2.p": "0.0..0.5"}
    told: list[str] = []
    found = nw.tune(
        "sklearn:iris", space=space, trials=5, population=3, pruner="none", run_dir=tmp_path / "t",
        observers=[lambda record: told.append(str(record))], **QUICK,
    )  # fmt: skip
    assert [trial.state for trial in found.trials] == ["finished"] * 5
    members = [folders.read_record(tmp_path / "t" / "trials" / f"{number:04d}")["members"] for number in range(5)]
    assert members == [3, 3, 3, 2, 2]
    assert found.best is not None
    assert found.same is None
    assert found.retrained == pytest.approx(found.best.value, rel=1e-4)
    assert "members" not in folders.read_record(found.run)
    assert f"trained alone: valid_loss {found.retrained:.6g}" in str(found)


def test_a_single_run_has_no_population(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "sklearn:iris", "--population", "--run-dir", str(tmp_path / "r")])
    assert stopped.value.code == 2
    assert "--population speaks of several runs; expected --seeds N" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
