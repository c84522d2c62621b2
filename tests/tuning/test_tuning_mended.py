"""Searches that must not go wrong unseen: other rows, workers that die early, budgets, what a search is taken for."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tuning_searches import QUICK, Killed, monkeypatched_in_line, opened, rows, search

import netwright as nw
from netwright import files
from netwright.config.spaces import settings_of
from netwright.engine import eager
from netwright.errors import CheckpointError, ConfigError, DataError, FolderInUseError, ResourceError, no_run
from netwright.files import claims
from netwright.files.claims import Worker
from netwright.runfolder import folder as folders
from netwright.tuning import trials as trained
from netwright.tuning.results import Tuning
from netwright.tuning.study import LiveTrial

FAST = {**QUICK, "epochs": 1}


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.lifecycle.run.render", lambda *place, **rows: b"<!DOCTYPE html>")
    monkeypatch.setattr("netwright.tuning.results.render_search", lambda contents: "<!DOCTYPE html>")


def table(path: Path, seed: int = 0) -> str:
    """Write a table with a number to predict."""
    X = np.random.default_rng(seed).normal(size=(80, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{a + b:.4f}" for a, b, c in X]
    path.write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"window": 4, "layers": ["Flatten()", "Linear()"]}, "windows of a series"),
        ({"split": {"calibration": 0.2}}, "rows for calibration"),
        ({"train": "{}", "valid": "{}", "test": "{}"}, "files, folders or arrays for each part"),
        ({"source": "{parts}"}, "files, folders or arrays for each part"),
    ],
)
def test_folds_of_rows_that_are_not_divided_by_chance_are_refused(
    changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    path = table(tmp_path / "rows.csv")
    parts = {name: table(tmp_path / f"{name}.csv", seed) for seed, name in enumerate(("train", "valid", "test"))}
    if changes.get("source") == "{parts}":
        path = str(tmp_path / "parts.npz")
        X, changes = np.random.default_rng(0).normal(size=(80, 3)), {"task": "regression"}
        np.savez(path, X_train=X[:60], y_train=X[:60, 0], X_test=X[60:], y_test=X[60:, 0])
    layers = {"layers": changes.pop("layers")} if "layers" in changes else {"layers": ["Linear()"]}
    own = {name: parts.get(name, value) for name, value in changes.items()}
    data = {"target": "y", **own} if "train" in changes else {"source": path, "target": "y", **own}
    with pytest.raises(ConfigError, match=f"tune.trial_folds: 2 came with {what}; .*; write trial_seeds"):
        nw.tune(
            {"data": data}, space={"training.optimizer.lr": "log 1e-3..1e-1"}, trials=1, trial_folds=2,
            run_dir=tmp_path / "folds", **{**FAST, **layers},
        )  # fmt: skip
    assert not (tmp_path / "folds").exists()


def test_a_search_with_folds_is_gone_on_with_when_there_is_a_best_run(tmp_path: Path) -> None:
    wide = {**FAST, "layers": ["Linear(768)", "ReLU()", "Linear(768)", "ReLU()", "Linear()"], "threads": None}
    with monkeypatched_in_line(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("netwright.tuning.search.cores", lambda: 1)
        found = nw.tune(
            table(tmp_path / "rows.csv"), target="y", space={"training.optimizer.lr": "log 1e-3..1e-1"}, trials=1,
            trial_folds=2, run_dir=tmp_path / "folds", **{name: value for name, value in wide.items() if value is not None},
        )  # fmt: skip
        again = nw.tune(resume=found.folder)
    assert again.retrained == found.retrained


def test_a_trial_at_which_three_workers_died_in_three_commands_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Any:
        raise Killed

    def silent(worker: Worker) -> None:
        worker._over.set()
        claims._active.discard(worker.name)

    with monkeypatch.context() as patch:
        patch.setattr(eager, "train_step", killed)
        with pytest.raises(Killed):
            search(tmp_path / "dying", trials=2, **{"epochs": 1})  # it was stopped: its worker said so
        patch.setattr(Worker, "close", silent)
        for _ in range(3):
            with pytest.raises(Killed):
                nw.tune(resume=tmp_path / "dying", data=rows())
    found = nw.tune(resume=tmp_path / "dying", data=rows())
    assert [trial.state for trial in found.trials][0] == "failed"
    assert found.trials[0].why == "3 workers died at it"
    assert (found.finished, found.failed) == (2, 1)


def test_a_worker_that_went_with_the_command_that_watched_it_did_not_die_at_its_trial(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    for number, noted in enumerate((False, True, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                claims, "identity", lambda pid=2**22 + number: {"host": socket.gethostname(), "pid": pid, "born": "1"}
            )
            gone = Worker(tmp_path, watched=True)
        assert gone.take(0) == number
        gone._over.set()
        claims._active.discard(gone.name)
        if noted:
            files.note_death(tmp_path, 2**22 + number)
    assert mine.take(0) == 3
    assert mine.deaths(0) == 1


def test_a_worker_removes_half_a_heartbeat_of_a_dead_one_of_its_machine(tmp_path: Path) -> None:
    Worker(tmp_path).close()
    ours, theirs = (
        tmp_path / "workers" / f".{host}-ab.json.{2**22 + 7}.cd.tmp" for host in (socket.gethostname(), "elsewhere")
    )
    for half in (ours, theirs):
        half.write_text("{")
    Worker(tmp_path).close()
    assert not ours.exists()
    assert theirs.exists()


def test_rows_that_changed_since_a_search_began_are_refused(tmp_path: Path) -> None:
    found = search(tmp_path / "rows", trials=1, **{"epochs": 1})
    X, y = rows()
    X[0, 0] += 1
    with pytest.raises(CheckpointError, match="other settings or data"):
        nw.tune(resume=found.folder, data=(X, y))
    assert folders.read_json(found.folder / "tune.json")["status"] == "done"  # nothing is missing
    with pytest.raises(CheckpointError, match="the data changed since the search began .*; put the file back") as caught:
        nw.tune(resume=found.folder, data=(X, y), settings=["tune.trials=2"])
    assert caught.value.exit_code == 4
    assert folders.read_json(found.folder / "tune.json")["status"] == "stopped"
    assert nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=2"]).finished == 2


def test_the_end_of_a_search_is_taken_over_from_a_machine_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Any:
        raise Killed

    folder = tmp_path / "taken-over"
    with monkeypatch.context() as patch:
        patch.setattr("netwright.lifecycle.run.Run.test", killed)
        with pytest.raises(Killed):
            search(folder, trials=1, **{"epochs": 1})
    gone = {"host": "elsewhere", "pid": 7, "born": "11"}
    (claim,) = (folder / "claims").glob("1000000000-1")
    claim.write_text(json.dumps({**gone, "worker": "elsewhere-1"}))
    (folder / "best" / "run.lock").write_text(json.dumps(gone))
    half, other = folder / ".best.7.ab12.tmp", folder / "trials" / f".0007.{2**22 + 7}.ab12.tmp"
    half.mkdir()
    other.mkdir()
    monkeypatch.setattr(claims, "SILENT", 0.0)
    found = nw.tune(resume=folder, data=rows())
    assert (found.finished, found.same) == (1, True)
    assert not half.exists()
    assert other.exists()  # a worker of another machine may be writing it at this moment


def test_a_worker_that_was_closed_holds_nothing_though_its_process_lives(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        told = {**claims.identity(), **parent()}
        patch.setattr(claims, "identity", lambda: told)
        other = Worker(tmp_path)
    assert other.take(0) == 0
    mine = Worker(tmp_path)
    assert mine.take(0) is None
    assert claims.at_work(tmp_path)
    other.close()
    assert mine.take(0) == 1
    assert mine.deaths(0) == 0
    mine.close()
    assert not claims.at_work(tmp_path)


def parent() -> dict[str, Any]:
    """Return what another process that lives would say of itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        return claims.identity()


def test_a_full_disk_does_not_end_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, beats, full = Worker(tmp_path), threading.Event(), iter([True, True])
    original = claims.write_json

    def writing(path: Path, told: Any) -> None:
        if next(full, False):
            raise ResourceError("no space left on device")
        original(path, told)
        beats.set()

    monkeypatch.setattr(claims, "BEAT", 0.01)
    monkeypatch.setattr(claims, "write_json", writing)
    second = threading.Thread(target=worker._keep_beating, daemon=True)
    second.start()
    assert beats.wait(5)
    worker.close()
    second.join(5)


def test_a_time_budget_stops_a_trial_in_this_process_and_it_is_gone_on_with(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no trial finished: 0 pruned, 0 failed.*longer time_budget"):
        search(tmp_path / "budget", trials=2, epochs=3000, time_budget=0.3)
    assert time.monotonic() - started < 20
    told = folders.read_record(tmp_path / "budget" / "trials" / "0000")
    assert (told["status"], told["signal"]) == ("stopped", None)
    assert "the end of its time" in told["why"]
    assert folders.read_json(tmp_path / "budget" / "tune.json")["status"] == "stopped"
    assert [trial.state for trial in opened(tmp_path / "budget").trials()] == ["running"]


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("data.window", [4, 8], "data.window came; trials on other steps"),
        ("data.horizon", [1, 2], "data.horizon came; trials with another target"),
        ("data.preparation.target_scaling", ["standardize", "none"], "losses of other kinds cannot be compared"),
    ],
)
def test_what_makes_trials_unfair_is_refused(path: str, values: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        nw.tune(table(tmp_path / "rows.csv"), target="y", space={path: values}, run_dir=tmp_path / "bad", **FAST)
    assert not (tmp_path / "bad").exists()


def test_arguments_of_an_optimizer_nobody_wrote_are_those_of_the_usual_one(tmp_path: Path) -> None:
    told = {name: value for name, value in FAST.items() if name != "layers"}
    with monkeypatched_in_line():
        found = nw.tune(
            table(tmp_path / "rows.csv"), target="y", space={"training.optimizer.lr": "log 1e-3..1e-1"}, trials=1,
            run_dir=tmp_path / "usual", **told,
        )  # fmt: skip
    assert nw.load(found.run).config.training.optimizer.startswith("AdamW(")


def test_rows_that_one_trial_cannot_use_fail_that_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = trained.start, iter(range(10))

    def start(*arguments: Any) -> Any:
        if next(calls) == 0:
            raise DataError("a category of the valid rows is unknown")
        return original(*arguments)

    monkeypatch.setattr(trained, "start", start)
    found = search(tmp_path / "data", trials=2, **{"epochs": 1})
    assert (found.finished, found.failed, found.trials[0].why) == (2, 1, "a category of the valid rows is unknown")


def test_whole_parameter_groups_may_be_tried(tmp_path: Path) -> None:
    groups = [[{"parameters": ["biases"], "weight_decay": 0.0}], [{"parameters": ["0.weight"], "lr": 0.01}]]
    assert settings_of({"a.b": groups[0]}) == ['a.b=[{"parameters" = ["biases"], "weight_decay" = 0.0}]']
    found = search(tmp_path / "groups", space={"training.parameter_groups": groups}, trials=2, **{"epochs": 1})
    assert all(trial.point["training.parameter_groups"] in groups for trial in found.trials)


def test_the_pruner_does_not_look_after_the_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(LiveTrial, "falls_behind", lambda trial, epoch, value: seen.append(epoch))
    search(tmp_path / "last", trials=1)
    assert seen == [1, 2]


def test_looks_of_trials_are_counted_beside_the_search(tmp_path: Path) -> None:
    run = tmp_path / "search" / "trials" / "0001" / "seed-1"
    run.mkdir(parents=True)
    (tmp_path / "search" / "tune.json").write_text("{}")
    assert [folders.look(path, "data", "rows") for path in (run, run.parent, tmp_path / "search" / "best")] == [1, 2, 3]
    names = [json.loads(line)["run"] for line in (tmp_path / "looks.jsonl").read_text().splitlines()]
    assert names == ["search/trials/0001/seed-1", "search/trials/0001", "search/best"]


def test_a_search_is_called_a_search(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    (folder / "best").mkdir(parents=True)
    (folder / "tune.json").write_text('{"status": "running", "started": "2026"}')
    (entry,) = nw.runs(tmp_path)
    assert entry["status"] == "interrupted"
    assert (
        f"a search, no run; expected one run; it has no best run yet, or go on with netwright tune --resume {folder}"
        in str(no_run(folder, ""))
    )
    (folder / "best" / "run.json").write_text("{}")
    assert f"name {folder / 'best'}" in str(no_run(folder, ""))
    assert str(Tuning(folder, "valid_loss", "min", 3, ())).startswith("0 of 3 trials finished")


def test_files_among_choices_are_taken_from_the_config(tmp_path: Path) -> None:
    from netwright.config.read import absolute_paths

    tree = {"tune": {"space": {"model.weights": ["one.safetensors"], "data": {"batch_size": [1, 2]}}}}
    told = absolute_paths(tree, tmp_path)["tune"]["space"]
    assert told == {"model.weights": [str(tmp_path / "one.safetensors")], "data.batch_size": [1, 2]}


def test_the_lock_of_a_trial_is_broken_only_where_its_holder_is_a_worker_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**told: Any) -> bool:
        (run / "run.lock").write_text(json.dumps(told))
        files.break_lock_elsewhere(run, partial(worker.had, 0))
        return (run / "run.lock").exists()

    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "claims").mkdir()
    gone, other = {"host": "elsewhere", "pid": 7, "born": "11"}, {"host": "elsewhere", "pid": 8, "born": "12"}
    (tmp_path / "claims" / "0000-1").write_text(json.dumps({**gone, "worker": "elsewhere-1"}))
    monkeypatch.setattr(claims, "SILENT", 0.0)
    worker = Worker(tmp_path)
    try:
        assert worker.take(0) == 1  # its worker is not heard of any more
        assert not locked(**gone)
        assert locked(**other)  # somebody resumes the run by hand over there
        assert locked(**{**claims.identity(), "pid": os.getppid()})
        assert locked(**other)
        with pytest.raises(FolderInUseError, match="elsewhere.*remove the lock"):
            files.Lock(run)
    finally:
        worker.close()


@pytest.mark.parametrize(("pruner", "told"), [("asha", [2, 8, 32]), ("none", [])])
def test_the_records_are_written_where_the_pruner_looks_and_not_every_epoch(
    pruner: str, told: list[int], tmp_path: Path
) -> None:
    with monkeypatched_in_line():
        found = nw.tune(
            table(tmp_path / "rows.csv"), target="y", space={"training.optimizer.lr": "log 1e-3..1e-1"}, trials=1,
            pruner=pruner, run_dir=tmp_path / "search", **{**FAST, "epochs": 40},
        )  # fmt: skip
    import optuna

    study = json.loads((found.folder / "tune.json").read_text())["study"]
    records = optuna.load_study(study_name=study, storage=f"sqlite:///{found.folder / 'study.db'}")
    assert list(records.trials[0].intermediate_values) == told
    assert found.trials[0].epochs == 40
