"""Cross-validation: one ordinary run per split, every row tested once, figures over the splits, going on after a stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError
from netwright.pipeline.telling import Told

SHORT = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "epochs": 2}


def rows_tested(run: Path) -> list[int]:
    with np.load(run / "split.npz") as found:
        rows: list[int] = found["test"].tolist()
    return rows


def test_every_row_is_tested_once_and_the_figures_are_those_of_the_runs(tmp_path: Path) -> None:
    told: list[object] = []
    found = nw.cross_validate("sklearn:iris", folds=4, run_dir=tmp_path / "cv", observers=[told.append], **SHORT)
    assert sorted(row for run in found.runs for row in rows_tested(run)) == list(range(150))
    values = [nw.load(run).tested["metrics"]["accuracy"]["value"] for run in found.runs]  # type: ignore[index]
    figure = found.figures["accuracy"]
    assert figure.values == tuple(values)
    assert figure.mean == pytest.approx(np.mean(values))
    assert figure.error == pytest.approx(np.std(values, ddof=1) / 2)
    written = json.loads((tmp_path / "cv" / "cross_validation.json").read_text())
    assert written["figures"]["accuracy"]["values"] == values
    assert written["runs"] == ["fold-00", "fold-01", "fold-02", "fold-03"]
    assert all(isinstance(record, Told) for record in told)
    assert [str(record).partition(":")[0] for record in told][-4:] == [f"split {place} of 4" for place in (1, 2, 3, 4)]
    assert "accuracy" in str(found)
    page = (tmp_path / "cv" / "report.html").read_text()
    for run in found.runs:  # each split leads to its report, and the worst errors of all to those of theirs
        assert f'<a href="{run.name}/report.html">{run.name}</a>' in page
        assert (tmp_path / "cv" / run.name / "report.html").is_file()
    worst = [entry for run in found.runs for entry in (nw.load(run).tested or {})["worst"]]
    hardest = min(worst, key=lambda entry: float(entry["probability_of_true"]))
    first = page.partition("<th>worst errors</th>")[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert "/report.html#worst" in first
    assert f"<td>{hardest['true']}</td><td>{hardest['predicted']}</td>" in first
    assert "<svg" in page
    assert "<a href=" not in found.to_html()


def test_a_split_alone_is_the_same_run(tmp_path: Path) -> None:
    found = nw.cross_validate("sklearn:wine", folds=3, run_dir=tmp_path / "cv", **SHORT)
    alone = nw.train("sklearn:wine", split={"folds": 3, "fold": 1}, run_dir=tmp_path / "alone", **SHORT)
    assert (alone.folder / "predictions.csv").read_bytes() == (found.runs[1] / "predictions.csv").read_bytes()
    again = nw.train(str(found.runs[1] / "config.toml"), run_dir=tmp_path / "again")
    assert (again.folder / "predictions.csv").read_bytes() == (found.runs[1] / "predictions.csv").read_bytes()


def test_a_module_starts_each_split_as_it_was_handed_over(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    before = module[0].weight.detach().clone()
    nw.cross_validate("sklearn:iris", folds=2, model=module, epochs=3, run_dir=tmp_path / "cv")
    assert (module[0].weight == before).all()


def test_the_splits_of_a_file_are_found_by_their_pattern(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(150)
    arrays = {f"{part}_{place}": rows for place in range(3) for part, rows in
              (("train", np.roll(order, 40 * place)[:110]), ("test", np.roll(order, 40 * place)[110:]))}  # fmt: skip
    np.savez(tmp_path / "splits.npz", **arrays)
    split = {"file": str(tmp_path / "splits.npz"), "train": "train_{fold}", "test": "test_{fold}", "valid": 0.1}
    found = nw.cross_validate("sklearn:iris", split=split, run_dir=tmp_path / "cv", **SHORT)
    assert [rows_tested(run) for run in found.runs] == [sorted(arrays[f"test_{place}"].tolist()) for place in range(3)]
    one = nw.train("sklearn:iris", split={**split, "fold": 2}, run_dir=tmp_path / "one", **SHORT)
    assert rows_tested(one.folder) == rows_tested(found.runs[2])
    with pytest.raises(ConfigError, match="array 'tested_0' is not in .*splits.npz; it holds train_0"):
        nw.cross_validate("sklearn:iris", split={**split, "test": "tested_{fold}"}, run_dir=tmp_path / "no", **SHORT)


def test_finished_splits_are_kept_and_others_of_the_same_settings_are_trained(tmp_path: Path) -> None:
    first = nw.cross_validate("sklearn:iris", folds=3, run_dir=tmp_path / "cv", **SHORT)
    before = first.runs[0].joinpath("run.json").read_bytes()
    for path in sorted(first.runs[2].rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    first.runs[2].rmdir()
    again = nw.cross_validate("sklearn:iris", folds=3, run_dir=tmp_path / "cv", **SHORT)
    assert again.figures == first.figures
    assert first.runs[0].joinpath("run.json").read_bytes() == before
    with pytest.raises(CheckpointError, match="fold-00: a run of other settings or data"):
        nw.cross_validate("sklearn:iris", folds=3, run_dir=tmp_path / "cv", **{**SHORT, "epochs": 3})


def test_what_splits_have_in_common_is_worked_out_again_when_one_of_them_trains_on_alone(tmp_path: Path) -> None:
    found = nw.cross_validate("sklearn:diabetes", folds=2, run_dir=tmp_path / "cv", **SHORT)
    names = ("cross_validation.json", "out_of_fold.csv", "errors.npz", "report.html")
    before = {name: (found.folder / name).read_bytes() for name in names}
    there: list[list[str]] = []
    listen = [lambda _: there.append([name for name in names if (found.folder / name).exists()])]
    loaded = nw.load(found.folder)
    nw.resume(found.runs[0], settings=["training.epochs=9"], observers=listen)
    with pytest.raises(CheckpointError, match="a fold has trained on since this ensemble was loaded; .* load it again"):
        loaded.bounds(np.zeros((2, 3, 1)))
    assert nw.load(found.folder).bounds(np.zeros((2, 3, 1)))[0].shape == (3, 1)
    assert there[-3] == ["cross_validation.json"]  # while it trains, and without figures
    assert all((found.folder / name).read_bytes() != before[name] for name in names)
    told = json.loads((found.folder / "cross_validation.json").read_text())
    values = [nw.load(run).tested["metrics"]["rmse"]["value"] for run in found.runs]  # type: ignore[index]
    assert told["figures"]["rmse"]["values"] == values
    rows = [line.split(",") for line in (found.folder / "out_of_fold.csv").read_text().splitlines()]
    of_first = {row[0]: row[rows[0].index("prediction")] for row in rows[1:] if row[rows[0].index("fold")] == "0"}
    tested = [line.split(",") for line in (found.runs[0] / "predictions.csv").read_text().splitlines()]
    assert of_first == {row[0]: row[tested[0].index("prediction")] for row in tested[1:]}
    gaps = [(float(row[rows[0].index("prediction")]) - float(row[rows[0].index("target")])) ** 2 for row in rows[1:]]
    assert told["out_of_fold"]["metrics"]["rmse"]["value"] == pytest.approx(np.sqrt(np.mean(gaps)))
    with np.load(found.folder / "errors.npz") as kept:
        assert np.mean(kept["errors"] ** 2) == pytest.approx(np.mean(gaps))


def test_a_finished_split_that_is_damaged_is_named_before_it_says_done(tmp_path: Path) -> None:
    made = nw.cross_validate("sklearn:iris", folds=2, run_dir=tmp_path / "cv", **SHORT)
    kept = shutil.copytree(made.folder, tmp_path / "kept")

    def refused(place: int, name: str, content: bytes | None) -> str:
        shutil.rmtree(made.folder)
        shutil.copytree(kept, made.folder)
        (made.runs[place] / name).unlink()
        if content is not None:
            (made.runs[place] / name).write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            nw.cross_validate("sklearn:iris", folds=2, run_dir=made.folder, **SHORT)
        assert str(error.value).endswith(f"; to train it anew remove {made.runs[place]} and type the same command")
        return str(error.value)

    best = "model/best.safetensors"
    assert "best.safetensors: no such file; expected it as written;" in refused(1, best, None)
    assert "does not agree with its digest" in refused(1, best, (kept / "fold-01" / best).read_bytes()[:-1])
    assert "preparation.json: no such file" in refused(1, "preparation.json", None)
    assert "no run (run.json: No such file" in refused(1, "run.json", None)
    assert "no run (run.json: Expecting" in refused(1, "run.json", b"{")
    assert "test.json: cannot be read" in refused(1, "test.json", b"{")
    assert "config.toml: cannot be read" in refused(0, "config.toml", b"[")
    shutil.rmtree(made.runs[0])
    assert nw.cross_validate("sklearn:iris", folds=2, run_dir=made.folder, **SHORT).figures == made.figures


class Stopped(nn.Module):
    """A network that asks the process to end while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(x)


def test_a_signal_ends_it_at_once(tmp_path: Path) -> None:
    found = nw.cross_validate("sklearn:iris", folds=3, model=Stopped(), epochs=5, run_dir=tmp_path / "cv")
    assert found.signal == signal.SIGTERM
    assert [run.name for run in found.runs] == ["fold-00"]
    assert not (tmp_path / "cv" / "cross_validation.json").exists()
    again = nw.cross_validate("sklearn:iris", folds=3, model=Stopped(), epochs=5, run_dir=tmp_path / "cv")
    assert again.signal == signal.SIGTERM  # it goes on with the fold that was stopped, and is stopped again
    steps = [entry["step"] for entry in json.loads((tmp_path / "cv" / "fold-00" / "run.json").read_text())["resumed"]]
    assert len(steps) == 1
    assert steps[0] > 0


def test_the_command_prints_a_line_per_split_and_the_folder_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["cross-validate", "sklearn:diabetes", "--folds", "2", "--run-dir", "cv", "--set", "training.epochs=1"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "cv"
    assert "standard error is too small" in lines[-2]
    assert sum(line.startswith("split ") and " of 2: " in line for line in lines) == 2
    with pytest.raises(SystemExit):
        main(
            ["cross-validate", "sklearn:diabetes", "--folds", "2", "--run-dir", "cv", "--set", "training.epochs=1", "--json"]
        )
    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 2
    assert set(found["figures"]["rmse"]) == {"mean", "deviation", "error", "values"}


def test_classes_that_differ_by_case_alone_stay_apart(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).normal(size=(60, 2))
    rows = [f"{one:.4f},{other:.4f},{'a' if one > 0 else 'A'}" for one, other in draw]
    (tmp_path / "t.csv").write_text("\n".join(["p,q,y", *rows]) + "\n")
    found = nw.cross_validate(str(tmp_path / "t.csv"), target="y", folds=3, run_dir=tmp_path / "cv", **SHORT)
    told = json.loads((found.folder / "cross_validation.json").read_text())["out_of_fold"]["metrics"]
    assert told["accuracy"]["value"] == pytest.approx(found.figures["accuracy"].mean, abs=1e-9)
    out = [line.split(",") for line in (found.folder / "out_of_fold.csv").read_text().splitlines()]
    target = out[0].index("target")
    assert [line[target].strip('"') for line in out[1:]] == [row[-1] for row in rows]
    shutil.copytree(found.runs[0], tmp_path / "copy")
    apart = nw.compare(found.runs[0], tmp_path / "copy")
    assert {"f1", "roc_auc"} <= set(apart.differences)


def test_whether_to_test_is_not_asked_where_the_test_is_the_result(tmp_path: Path) -> None:
    for call in (nw.cross_validate, nw.tune):
        with pytest.raises(ConfigError, match="test: False came; expected none: only nw.train and nw.repeat are asked"):
            call("sklearn:iris", test=False, run_dir=tmp_path / "run")
