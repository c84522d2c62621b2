"""Searches in this process: exactly the trials asked for, told by valid rows alone, the best one again with the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netwright as nw
from netwright.cli import main
from netwright.engine import eager
from netwright.errors import CheckpointError, ConfigError, NetwrightError
from netwright.runfolder import folder as folders
from netwright.tuning.results import Tuning
from netwright.tuning.search import Search
from netwright.tuning.study import Study

LAYERS = ["Linear(8)", "ReLU()", "Dropout(0.1)", "Linear()"]
SPACE = {"training.optimizer.lr": "log 1e-3..1e-1", "model.layers.2.p": "0.0..0.5", "data.batch_size": [16, 32]}
QUICK: dict[str, Any] = {
    "layers": LAYERS, "epochs": 3, "threads": 1, "engine": "eager", "baselines": "none", "importance": False, "worst": 0,
}  # fmt: skip


def rows() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(150, 4)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.8).astype(np.int64)


def search(folder: Path, **changes: Any) -> Tuning:
    """Search in this process: rows from Python."""
    return nw.tune(**{"data": rows(), "space": SPACE, "trials": 5, "run_dir": folder, **QUICK, **changes})


def points(found: Tuning) -> list[tuple[str, float | None, dict[str, Any]]]:
    return [(trial.state, trial.value, trial.point) for trial in found.trials]


@pytest.fixture(autouse=True)
def _no_pages(done: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the reports of one search only."""
    monkeypatch.setattr("netwright.lifecycle.run.render", lambda *place, **rows: b"<!DOCTYPE html>")
    monkeypatch.setattr("netwright.tuning.results.render_search", lambda contents: "<!DOCTYPE html>")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    threads = torch.get_num_threads()
    found = search(tmp_path_factory.mktemp("searches") / "plain")
    torch.set_num_threads(threads)
    return found


def test_exactly_the_trials_asked_for_end_and_the_best_is_the_best(done: Tuning) -> None:
    assert [trial.number for trial in done.trials] == [0, 1, 2, 3, 4]
    assert (done.finished, done.failed) == (5, 0)
    values = [trial.value for trial in done.trials if trial.value is not None]
    assert done.best is not None
    assert done.best.value == min(values)
    assert len(done.trials) - len(values) == done.pruned
    assert len({json.dumps(trial.point) for trial in done.trials}) == 5
    for trial in done.trials:
        assert set(trial.point) == set(SPACE)
        assert 1e-3 <= trial.point["training.optimizer.lr"] <= 1e-1
        assert trial.point["data.batch_size"] in (16, 32)


def test_the_best_trained_alone_has_the_same_bits_and_the_only_test(done: Tuning) -> None:
    assert done.best is not None
    assert done.same is True
    assert done.retrained == done.best.value
    trial = done.folder / "trials" / f"{done.best.number:04d}"
    weights = [(place / "model" / "best.safetensors").read_bytes() for place in (trial, done.run)]
    assert weights[0] == weights[1]
    assert (done.run / "test.json").is_file()
    assert list((done.folder / "trials").glob("**/test.json")) == []
    assert list((done.folder / "trials").glob("**/predictions.csv")) == []
    looks = (done.folder.parent / "looks.jsonl").read_text().splitlines()
    assert [json.loads(line)["run"] for line in looks] == ["plain/best"]
    assert list(done.folder.glob("**/looks.jsonl")) == []


def test_trials_are_ordinary_runs_with_what_they_try_in_their_config(done: Tuning) -> None:
    for trial in done.trials:
        run = done.folder / "trials" / f"{trial.number:04d}"
        config = folders.read_record(run) and (run / "config.toml").read_text()
        assert f"lr={trial.point['training.optimizer.lr']}" in config
        assert f"p={trial.point['model.layers.2.p']}" in config
        assert "[tune]" not in config
        assert "object:netwright" not in config
        assert folders.read_record(run)["status"] == "done"
        if trial.state == "pruned":
            assert folders.read_record(run)["final"].startswith("pruned after epoch")


def test_the_report_draws_history_importance_and_all_trials(done: Tuning) -> None:
    page = (done.folder / "report.html").read_text()
    assert page.count("<svg") >= 2
    for text in ("Trials in order", "Side by side", "All trials", "log 0.001..0.1", "flatters"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_same_seed_tries_the_same_points(done: Tuning, tmp_path: Path) -> None:
    assert points(search(tmp_path / "again", trials=4)) == points(done)[:4]


class Killed(BaseException):
    """Ends a process in a test, as SIGKILL would: nothing is written any more."""


@pytest.mark.parametrize("step", [14, 22])
def test_a_search_that_died_inside_a_trial_goes_on_with_the_same_bits(
    step: int, done: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = iter(range(10**6)), eager.train_step

    def dying(*arguments: Any) -> Any:
        if next(calls) == step:
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(eager, "train_step", dying)
        with pytest.raises(Killed):
            search(tmp_path / "died", every_steps=2)
    states = [trial.state for trial in opened(tmp_path / "died").trials()]
    assert states.count("running") == 1
    found = nw.tune(resume=tmp_path / "died", data=rows())
    assert points(found) == points(done)
    one, other = ((place / "best" / "model" / "best.safetensors").read_bytes() for place in (found.folder, done.folder))
    assert one == other
    resumed = folders.read_record(found.folder / "trials" / f"{states.index('running'):04d}")["resumed"]
    assert resumed[0]["step"] > 0 or step == 22
    assert len(list((found.folder / "claims").glob(f"{states.index('running'):04d}-*"))) == 2


def opened(folder: Path) -> Study:
    from netwright.pipeline.asking import gather_all
    from netwright.tuning.search import read_search

    return read_search(folder, gather_all(None, None, rows(), None, (), (), {})).study()


def test_a_search_that_died_before_it_told_is_told_again(
    done: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Study.tell

    def dying(study: Study, number: int, state: str, value: float | None = None) -> None:
        if number == 1:
            raise Killed
        original(study, number, state, value)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dying)
        with pytest.raises(Killed):
            search(tmp_path / "untold")
    assert points(nw.tune(resume=tmp_path / "untold", data=rows())) == points(done)


def test_more_trials_may_be_asked_for_later_and_nothing_else_changed(done: Tuning, tmp_path: Path) -> None:
    found = search(tmp_path / "grown", trials=3)
    with pytest.raises(ConfigError, match="it would change the trials that are there; expected tune.trials"):
        nw.tune(resume=found.folder, data=rows(), settings=["training.epochs=9"])
    before = found.best
    found = nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=5"])
    assert points(found) == points(done)
    assert before is not None
    assert found.best is not None
    kept = found.folder / f"best-{before.number:04d}"
    assert kept.is_dir() == (before.number != found.best.number)
    again = nw.tune(resume=found.folder, data=rows())
    assert again.to_json() == found.to_json()
    fewer = nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=2"])
    assert fewer.to_json() == found.to_json()
    result = folders.read_json(found.folder / folders.TUNE)["result"]
    assert (result["trials"], result["finished"]) == (5, 5)


def test_a_trial_that_diverges_is_pruned_and_one_that_cannot_be_built_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [["Linear(8)", "ReLU()", "Linear()"], ["Conv2d(4, 3)", "Flatten()", "Linear()"]]
    space = {"training.optimizer.lr": [0.01, 1e30], "model.layers": layers}
    monkeypatch.setattr("netwright.tuning.search.try_networks", lambda asked, parameters, bench: None)
    found = search(
        tmp_path / "hard", space=space, layers=layers[0], optimizer="SGD(lr=0.1)", trials=6, sampler="random", pruner="none"
    )
    assert (found.finished, len(found.trials)) == (6, 6 + found.failed)
    assert found.failed > 0
    assert found.pruned > 0
    for trial in found.trials:
        built = trial.point["model.layers"] == layers[0]
        assert (trial.state == "failed") == (not built)
        if trial.state == "pruned":
            assert trial.point["training.optimizer.lr"] == 1e30
            assert trial.why.startswith("diverged: ")
    assert [trial.number for trial in found.trials] == list(range(len(found.trials)))


def test_a_study_where_nothing_finished_is_one_line_and_stays(tmp_path: Path) -> None:
    space = {"training.optimizer.lr": [1e30, 1e31]}
    with pytest.raises(ConfigError, match="tune: no trial finished: 2 pruned, 0 failed, the last diverged: .* --resume"):
        search(tmp_path / "none", space=space, optimizer="SGD(lr=0.1)", trials=2)
    assert [trial.state for trial in opened(tmp_path / "none").trials()] == ["pruned", "pruned"]
    assert not (tmp_path / "none" / "best").exists()


def test_a_search_whose_trials_all_fail_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"model.layers": [["Conv2d(4, 3)"], ["Linear()"], ["Conv2d(5, 3)"]], "training.optimizer.lr": [0.1]}
    monkeypatch.setattr("netwright.tuning.search.try_networks", lambda asked, parameters, bench: None)
    monkeypatch.setattr("optuna.trial.Trial.suggest_categorical", lambda trial, name, labels: labels[0])
    with pytest.raises(ConfigError, match="tune: 5 trials failed, the last: .*Conv2d.*; mend the space"):
        search(tmp_path / "fails", space=space)


def test_the_figure_of_a_trial_may_be_the_mean_over_seeds(tmp_path: Path) -> None:
    found = search(tmp_path / "seeds", trials=2, trial_seeds=3, pruner="none", metric="valid_accuracy")
    for trial in found.trials:
        runs = sorted((found.folder / "trials" / f"{trial.number:04d}").iterdir())
        assert [run.name for run in runs] == ["seed-0", "seed-1", "seed-2"]
        best = [folders.read_record(run)["best"]["epoch"] for run in runs]
        values = [folders.read_history(run)[epoch - 1]["valid_accuracy"] for run, epoch in zip(runs, best, strict=True)]
        assert trial.value == pytest.approx(np.mean(values))
    assert found.mode == "max"
    assert found.same is True


def test_a_trial_of_several_runs_is_listed_as_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(tmp_path / "seeds", trials=2, trial_seeds=2, pruner="none")
    trials = found.folder / "trials"
    monkeypatch.chdir(trials)

    def states() -> list[tuple[str, int]]:
        return [(entry["status"], entry["runs"]) for entry in sorted(nw.runs("."), key=lambda entry: entry["run"])]

    assert states() == [("done", 2), ("done", 2)]
    shutil.rmtree(trials / "0001" / "seed-1")
    assert states() == [("done", 2), ("unfinished", 1)]
    folders.update_record(trials / "0001" / "seed-0", {"final": "pruned after epoch 1: behind"})
    assert states() == [("done", 2), ("done", 1)]
    folders.update_record(trials / "0000" / "seed-1", {"status": "running"})
    assert states() == [("interrupted", 2), ("done", 1)]


def test_folds_of_a_trial_validate_every_row_once_and_no_test_row(tmp_path: Path) -> None:
    X, y = rows()
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    with monkeypatched_in_line():
        found = nw.tune(
            str(tmp_path / "rows.npz"), target="y", space=SPACE, trials=1, trial_folds=3, run_dir=tmp_path / "folds", **QUICK
        )
    runs = sorted((found.folder / "trials" / "0000").iterdir())
    splits = [folders.read_split(run) for run in runs]
    test = folders.read_split(found.run).test
    assert all((split.test == test).all() for split in splits)
    valid = np.concatenate([split.valid for split in splits])
    assert sorted([*valid, *test]) == list(range(150))
    assert found.same is None
    assert found.trials[0].value == pytest.approx(
        np.mean([min(row["valid_loss"] for row in folders.read_history(run)) for run in runs])
    )


def monkeypatched_in_line() -> Any:
    """Train trials of files in this process too."""
    from contextlib import contextmanager

    from netwright.tuning import searching
    from netwright.tuning.worker import work

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searching, "supervise", lambda search, processes, until, tell: work(search, tell, until))
            yield

    return patched()


def test_a_journal_that_a_crash_cut_off_is_read_on(tmp_path: Path) -> None:
    found = search(tmp_path / "journal", trials=2, study="journal")
    path = found.folder / "study.journal"
    with path.open("a") as stream:
        stream.write('{"op_code": 5, "worker_id": "x", "tri')
    whole = nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=3"])
    assert points(whole)[:2] == points(found)
    assert whole.finished == 3
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(("study", "name"), [("sqlite", "study.db"), ("journal", "study.journal")])
def test_records_that_are_gone_are_one_line(study: str, name: str, done: Tuning, tmp_path: Path) -> None:
    found = search(tmp_path / "gone", trials=1, study=study)
    (found.folder / name).rename(tmp_path / "aside")
    with pytest.raises(ConfigError, match=f"tune.study: .*{name}: cannot be used .*, put the records back"):
        nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=2"])
    (found.folder / name).write_bytes(b"no records\n")
    with pytest.raises(ConfigError, match=f"tune.study: .*{name}: "):
        nw.tune(resume=found.folder, data=rows())
    (tmp_path / "aside").rename(found.folder / name)
    assert nw.tune(resume=found.folder, data=rows(), settings=["tune.trials=2"]).finished == 2


BAD = [
    ({"space": {}}, "tune.space: it is empty; expected settings to try"),
    ({"space": {"training.optimizer.lr": "1e-1..1e-5"}}, "'1e-1..1e-5' came; 0.1 is more than 1e-05"),
    ({"space": {"training.optimizer.lr": "log 0..1"}}, "'log 0..1' came; log begins above 0"),
    ({"space": {"training.optimizer.lr": "about 0.1"}}, "'about 0.1' came; expected a range or a list of choices"),
    ({"space": {"training.optimizer.lr": 0.1}}, "space"),
    ({"space": {"data.batch_size": []}}, "an empty list came; expected choices such as"),
    ({"space": {"data.batch_size": [32, 32]}}, "32 came twice among choices"),
    ({"space": {"data.batch_size": [32]}}, "it holds a single point"),
    ({"space": {"training.optimizer.speed": "0..1"}}, "tune.space: .*speed"),
    ({"space": {"training.epoch": [3, 4]}}, "training.epoch: unknown key; did you mean epochs"),
    ({"space": {"optimizer.lr": [3, 4]}}, "optimizer is no section"),
    ({"space": {"model.layers.9.p": "0..1"}}, "model.layers has layers 0 to 3; '9' is none"),
    ({"space": {"model.layers.2.p": "0..2"}}, "tune.space: .*dropout probability has to be between 0 and 1"),
    ({"space": {"model.layers": [LAYERS, ["Conv2d(4, 3)"]]}}, "tune.space: .*Conv2d.* .tried with"),
    ({"space": {"training.optimizer.momentum": [0.1, 0.9]}}, "tune.space: .*the default optimizer .* has no argument 'momentum'"),
    ({"space": {"training.optimizer.lr": "-1..1"}}, "tune.space: .*-1"),
    ({"space": {"data.batch_size": "-4..4"}}, "data.batch_size: -4 came; expected at least 1"),
    ({"space": {"data.split.seed": [1, 2]}}, "data.split.seed came; trials on other validation rows cannot be compared"),
    ({"space": {"training.seed": [1, 2]}}, "the best of many seeds is luck; tune.trial_seeds = 3"),
    ({"space": {"training.loss": ["CrossEntropyLoss()", "MultiMarginLoss()"]}}, "losses of other kinds cannot be compared"),
    ({"metric": "valid_speed"}, "tune.metric: 'valid_speed' came; expected a figure of the valid rows; .*valid_"),
    ({"metric": "train_loss"}, "tune.metric: 'train_loss' came; the train loss would choose what is learned by heart"),
    ({"metric": "valid_own", "metrics": {"own": lambda true, predicted: 1.0}}, 'valid_own is a figure .*; write direction = "max"'),
    ({"split": {"valid": 0, "test": 0.2}}, "tune: there are no valid rows"),
    ({"processes": 2}, "tune.processes: 2 came with objects from Python"),
    ({"trial_seeds": 2, "trial_folds": 2}, "trial_seeds and trial_folds came together"),
    ({"trial_folds": 2}, "tune.trial_folds: 2 came with objects from Python; .*; write trial_seeds"),
    ({"study": "mysql"}, "tune.study: 'mysql' came; expected sqlite, journal or an address"),
    ({"study": "postgresql://nobody:secret@nowhere.invalid/none"}, "tune.study: postgresql://nowhere.invalid/none: "),
    ({"trials": 0}, "tune.trials: 0 came; expected at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_a_search_that_cannot_be_is_one_line_and_nothing_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        search(tmp_path / "bad", **changes)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_of_ones_own_is_searched_in_the_direction_that_was_said(tmp_path: Path) -> None:
    found = search(
        tmp_path / "own", metric="valid_own", direction="max", trials=3, pruner="none",
        metrics={"own": lambda true, predicted: float((true == predicted).mean())},
    )  # fmt: skip
    assert found.best is not None
    assert found.best.value == max(trial.value for trial in found.trials if trial.value is not None)
    assert found.same is True


def test_a_folder_that_exists_or_is_no_search_is_refused(done: Tuning, tmp_path: Path) -> None:
    with pytest.raises(NetwrightError, match="exists already") as caught:
        search(done.folder)
    assert caught.value.exit_code == 7
    with pytest.raises(CheckpointError, match="no search .tune.json is not there"):
        nw.tune(resume=tmp_path, data=rows())


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"package optuna is not installed; .* pip install 'netwright\[tune\]'"):
        search(tmp_path / "without")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune"], "nothing came; expected a config or a data file"),
        (["tune", "x.toml", "--resume", "there"], "x.toml came with --resume there"),
        (["tune", "sklearn:iris"], "tune.space: it is empty"),
        (["tune", "sklearn:iris", "--set", "tune.space.training.optimizer.lr=fast"], "'fast' came; expected a range"),
    ],
)
def test_words_that_say_no_search_exit_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_is_one_line_in_the_list_of_runs(done: Tuning) -> None:
    (entry,) = [run for run in nw.runs(done.folder.parent) if Path(run["run"]).name == "plain"]
    assert (entry["status"], entry["runs"], entry["task"]) == ("done", 5, "binary")
    assert 0 < entry["test"]["accuracy"] <= 1
    (trials,) = [run for run in nw.runs(done.folder) if Path(run["run"]).name == "trials"]
    assert (trials["status"], trials["runs"]) == ("done", 5)


def test_a_plain_training_leaves_the_section_alone(tmp_path: Path) -> None:
    run = nw.train(data=rows(), space=SPACE, trials=3, run_dir=tmp_path / "run", test=False, **QUICK)
    assert "[tune]" not in (run.folder / "config.toml").read_text()


def test_a_trial_uses_its_share_of_the_machine_and_says_so_in_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netwright.pipeline.asking import gather_all
    from netwright.sources import memory
    from netwright.tuning.trials import shared_bench

    wide = {"layers": ["Linear(2048)", "ReLU()", "Linear(2048)", "ReLU()", "Linear()"], "epochs": 1, "batch_size": 120}
    asked = gather_all(None, None, rows(), None, (), (), {**wide, "space": SPACE, "trials": 2})
    search = Search(tmp_path, asked, "name", "accuracy", "max", 1)
    training = shared_bench(search, asked).config.training
    assert (training.threads, training.lanes) == (1, 1)
    written = shared_bench(search, asked.with_settings(["training.threads=2"])).config.training
    assert written.threads == 2
    table = tmp_path / "t.csv"
    table.write_text("a,target\n" + "\n".join(f"{number % 7},{number % 3}" for number in range(90)))
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * 3 * table.stat().st_size)
    stored = []
    for processes in (1, 2):
        read = {**QUICK, "space": SPACE, "trials": 2, "processes": processes, "cache": str(tmp_path / "cache")}
        asked = gather_all(str(table), None, None, None, (), (), read)
        stored.append(shared_bench(replace(search, asked=asked), asked).config.data.storage)
    assert stored == ["memory", "map"]


def test_two_numbers_in_round_brackets_are_no_choices(tmp_path: Path) -> None:
    for space in ({"training.optimizer.lr": (1e-3, 1e-1)}, {"training": {"optimizer": {"lr": (1e-3, 1e-1)}}}):
        with pytest.raises(
            ConfigError, match=r"training\.optimizer\.lr: \(0\.001, 0\.1\) came; a range is written '0.001\.\.0.1'"
        ):
            nw.tune("sklearn:iris", space=space, run_dir=tmp_path / "search")
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("objects", "path", "values"),
    [
        ({"optimizer": torch.optim.Adam}, "training.optimizer.lr", [0.001, 0.1]),
        ({"loss": nn.HuberLoss()}, "training.loss", ["L1Loss()", "MSELoss()"]),
        ({"model": nn.Linear(3, 1)}, "model.arguments.bias", [True, False]),
    ],
)
def test_what_came_from_python_is_not_searched(
    objects: dict[str, Any], path: str, values: list[Any], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    given = {"data": (rows, rows[:, 0]), **objects} | ({} if "model" in objects else {"layers": ["Linear()"]})
    with pytest.raises(
        ConfigError, match=rf"tune\.space: {path} came with \w+= from Python, which it cannot change; .* leave it out, or"
    ):
        nw.tune(**given, space={path: values}, trials=2, epochs=1, run_dir=tmp_path / "search")
    assert not (tmp_path / "search").exists()
    if "model" in objects:  # whose weights may be those of a file
        with pytest.raises(NetwrightError, match="none.safetensors"):
            nw.train(**given, settings=["model.weights=none.safetensors"], epochs=1, run_dir=tmp_path / "run")
        space = {"model.weights": ["none.safetensors", "nowhere.safetensors"]}
        with pytest.raises(NetwrightError, match=r"(none|nowhere).safetensors"):
            nw.tune(**given, space=space, trials=1, epochs=1, run_dir=tmp_path / "other")


class Wide(nn.Module):
    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1, bias=bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def test_arguments_of_a_class_from_python_are_searched_and_set(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    given: dict[str, Any] = {"data": (rows, rows[:, 0]), "model": (Wide, {"width": 4}), "epochs": 1, "baselines": []}
    space = {"model.arguments.width": [2, 7], "model.arguments.bias": [True, False]}
    found = nw.tune(**given, space=space, trials=4, run_dir=tmp_path / "search")
    widths = {len(trial.point) and trial.point["model.arguments.width"] for trial in found.trials}
    assert widths == {2, 7}
    best = nw.load(found.run, model=(Wide, {name.rpartition(".")[2]: value for name, value in found.best.point.items()}))
    assert best.test((rows, rows[:, 0]))["metrics"]["loss"]["value"] < 2
    run: Any = nw.train(
        **given, settings=["model.arguments.width=9", "model.arguments.bias=false"], run_dir=tmp_path / "run"
    )
    assert run.model.layers[2].weight.shape == (1, 9)
    assert run.model.layers[2].bias is None
    for text in ("model.arguments={width = 9}", " model.arguments.width = 9"):
        other: Any = nw.train(**given, settings=[text], test=False, run_dir=tmp_path / str(len(text)))
        assert other.model.layers[0].out_features == 9
        more = nw.resume(other, model=given["model"], data=given["data"], settings=[text, "training.epochs=2"])
        assert len(more.history) == 2
    with pytest.raises(ConfigError, match="hight"):
        nw.train(**given, settings=["model.arguments.hight=9"], run_dir=tmp_path / "none")
