"""Runs compared: row by row, seed by seed, what cannot be paired, what a difference is worth, curves together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from scipy import stats

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError
from netwright.lifecycle.run import Run
from netwright.studies.repeating import Repetition

SMALL = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "epochs": 3, "optimizer": "Adam(lr=0.01)"}
ONE_SEED = "one seed each: the noise between seeds is not known"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("pair")
    data = {"split": {"test": 0.4}}
    one = nw.train("sklearn:breast_cancer", run_dir=folder / "one", **SMALL, **data)
    return one, nw.train("sklearn:breast_cancer", run_dir=folder / "other", **{**SMALL, "epochs": 12}, **data)


def rows_of(run: Run) -> pa.Table:
    return pa.csv.read_csv(run.folder / "predictions.csv")


def test_two_runs_on_the_same_rows_are_compared_row_by_row(pair: tuple[Run, Run]) -> None:
    found = nw.compare(pair[0].folder, pair[1].folder)
    metrics = [run.tested["metrics"] for run in pair]  # type: ignore[index]
    assert set(found.differences) == {"accuracy", "balanced_accuracy", "f1_macro", "f1", "roc_auc", "average_precision"}
    for name, difference in found.differences.items():
        assert difference.value == pytest.approx(metrics[1][name]["value"] - metrics[0][name]["value"])
    right = [np.equal(table["target"].to_numpy(), table["prediction"].to_numpy()) for table in map(rows_of, pair)]
    assert found.mcnemar is not None
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == only
    assert found.mcnemar.p == pytest.approx(stats.binomtest(only[0], sum(only), 0.5).pvalue)
    assert found.how == f"paired BCa bootstrap over {len(right[0])} test rows, drawn for both runs at once"
    assert any(text.startswith(ONE_SEED) for text in found.remarks)
    assert "95 % interval" in str(found)
    assert json.loads(json.dumps(found.to_json()))["mcnemar"]["p"] == found.mcnemar.p


def test_what_a_small_difference_is_worth_is_said(tmp_path: Path) -> None:
    runs = [nw.train("sklearn:wine", run_dir=tmp_path / str(seed), seed=seed, **{**SMALL, "epochs": 20}) for seed in (0, 1)]
    found = nw.compare(*(run.folder for run in runs))
    accuracy = found.differences["accuracy"]
    assert not accuracy.sure
    said = "no difference" if accuracy.value == 0 else "may be chance: its interval holds 0"
    assert any(said in text for text in found.remarks)


def test_other_test_rows_and_other_data_are_not_paired(pair: tuple[Run, Run], tmp_path: Path) -> None:
    other = nw.train("sklearn:breast_cancer", run_dir=tmp_path / "other", split={"test": 0.4, "seed": 1}, **SMALL)
    found = nw.compare(pair[0].folder, other.folder)
    assert found.differences == {}
    assert found.mcnemar is None
    assert any("the test rows differ (228 | 228," in text and "data.split.seed" in text for text in found.remarks)
    wine = nw.train("sklearn:wine", run_dir=tmp_path / "wine", **SMALL)
    assert any("the data differ" in text for text in nw.compare(pair[0].folder, wine.folder).remarks)
    untested = nw.train("sklearn:wine", run_dir=tmp_path / "untested", test=False, **SMALL)
    assert any("is not tested yet" in text for text in nw.compare(wine.folder, untested.folder).remarks)


def test_predictions_that_are_gone_or_not_those_of_the_test_give_no_interval(pair: tuple[Run, Run], tmp_path: Path) -> None:
    for name, run in zip(("one", "other"), pair, strict=True):
        shutil.copytree(run.folder, tmp_path / name)
    test = json.loads((tmp_path / "other" / "test.json").read_text())
    test["metrics"]["accuracy"]["value"] += 0.01
    (tmp_path / "other" / "test.json").write_text(json.dumps(test))
    found = nw.compare(tmp_path / "one", tmp_path / "other")
    assert "accuracy" not in found.differences
    assert "roc_auc" in found.differences
    (tmp_path / "other" / "predictions.csv").unlink()
    found = nw.compare(tmp_path / "one", tmp_path / "other")
    assert found.differences == {}
    assert any(text.startswith("not compared row by row: ") for text in found.remarks)


def test_regressions_labels_and_steps_are_compared_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 3))
    tasks = {
        "regression": ((x, x @ [[1.0, 2.0], [0.5, 1.0], [0.0, 1.0]]), {"rmse", "mae", "r2"}),
        "multilabel": (
            (x, [[name for name, on in zip("abc", row > 0, strict=True) if on] for row in x]),
            {"f1_micro", "f1_macro", "subset_accuracy", "hamming_loss"},
        ),
    }
    for name, (data, figures) in tasks.items():
        runs = [
            nw.train(data=data, run_dir=tmp_path / f"{name}-{epochs}", split={"test": 0.3}, **{**SMALL, "epochs": epochs})
            for epochs in (1, 8)
        ]
        found = nw.compare(*(run.folder for run in runs))
        assert set(found.differences) == figures, found.remarks
        assert found.mcnemar is None


def test_a_target_per_step_is_drawn_row_by_row_with_all_its_steps(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    items = [generator.normal(size=(int(length), 1)) for length in generator.integers(3, 15, 100)]
    labels = [(np.cumsum(item[:, 0]) > 0).astype(np.int64) for item in items]
    runs = [
        nw.train(data=(items, labels), epochs=epochs, optimizer="Adam(lr=0.02)", run_dir=tmp_path / f"r{epochs}")
        for epochs in (1, 10)
    ]
    found = nw.compare(*(run.folder for run in runs))
    assert found.how == "paired BCa bootstrap over 20 rows with all their steps, drawn for both runs at once"
    assert found.mcnemar is None
    assert "accuracy" in found.differences


def test_groups_of_the_split_are_drawn_whole(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 8)
    a = generator.normal(size=240)
    table = pa.table({"person": [f"p{number}" for number in person], "a": a, "y": np.where(a > 0, "yes", "no")})
    pa.csv.write_csv(table, tmp_path / "t.csv")
    keywords = {"target": "y", "split": {"test": 0.4, "group": "person"}, "layers": ["Linear()"]}
    runs = [nw.train(tmp_path / "t.csv", run_dir=tmp_path / f"r{epochs}", epochs=epochs, **keywords) for epochs in (1, 30)]
    found = nw.compare(*(run.folder for run in runs))
    assert found.how is not None
    assert "over 12 groups of person" in found.how
    assert found.mcnemar is None
    (tmp_path / "t.csv").unlink()
    found = nw.compare(*(run.folder for run in runs))
    assert any("the groups of person could not be read again" in text for text in found.remarks)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repetition, Repetition]:
    folder = tmp_path_factory.mktemp("seeds")
    one = nw.repeat("sklearn:wine", seeds=3, run_dir=folder / "one", **SMALL)
    return one, nw.repeat("sklearn:wine", seeds=3, run_dir=folder / "other", **{**SMALL, "epochs": 15})


def test_folders_of_the_same_seeds_are_paired_by_seed(seeds: tuple[Repetition, Repetition]) -> None:
    one, other = seeds
    found = nw.compare(one.folder, other.folder)
    assert found.settings == (("training.epochs", "3", "15"),)
    for name, difference in found.differences.items():
        values = [side.figures[name].values for side in seeds]
        assert difference.value == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
        if difference.low is not None:
            expected = stats.ttest_rel(values[1], values[0]).confidence_interval(0.95)
            assert (difference.low, difference.high) == pytest.approx(tuple(expected))
    assert found.how == "paired t-interval of the difference of means over 3 and 3 seeds"
    assert found.deviations["loss"] == (one.figures["loss"].deviation, other.figures["loss"].deviation)
    assert not any(ONE_SEED in text for text in found.remarks)


def test_other_seeds_are_compared_by_welch_and_noise_is_named(seeds: tuple[Repetition, Repetition], tmp_path: Path) -> None:
    other = nw.repeat("sklearn:wine", seeds=4, seed=10, run_dir=tmp_path / "other", **SMALL)
    found = nw.compare(seeds[0].folder, other.folder)
    values = [side.figures["loss"].values for side in (seeds[0], other)]
    expected = stats.ttest_ind(values[1], values[0], equal_var=False).confidence_interval(0.95)
    difference = found.differences["loss"]
    assert (difference.low, difference.high) == pytest.approx(tuple(expected))
    assert found.how == "Welch's t-interval of the difference of means over 3 and 4 seeds"
    assert any("smaller than the standard deviation between seeds" in text or "holds 0" in text for text in found.remarks)


def test_a_single_run_is_placed_among_seeds(seeds: tuple[Repetition, Repetition], tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", seed=9, run_dir=tmp_path / "run", **SMALL)
    found = nw.compare(seeds[0].folder, run.folder)
    assert any("the single run is" in text and "the 3 seeds" in text for text in found.remarks)
    assert all(difference.low is None for difference in found.differences.values())


def test_seeds_without_a_figure_in_common_say_so(seeds: tuple[Repetition, Repetition], tmp_path: Path) -> None:
    untested = nw.repeat("sklearn:wine", seeds=2, test=False, run_dir=tmp_path / "untested", **SMALL)
    found = nw.compare(seeds[0].folder, untested.folder)
    assert found.figures == {}
    assert found.remarks == ("no figure of one is one of the other: test both, or compare validation figures of both",)


def test_three_runs_have_a_table_of_figures_alone(pair: tuple[Run, Run], tmp_path: Path) -> None:
    third = nw.train("sklearn:breast_cancer", run_dir=tmp_path / "third", split={"test": 0.4}, **{**SMALL, "epochs": 1})
    found = nw.compare(pair[0].folder, pair[1].folder, third.folder)
    assert found.settings == (("training.epochs", "3", "12", "1"),)
    assert len(found.figures["accuracy"]) == 3
    assert found.differences == {}
    with pytest.raises(ConfigError, match="3 runs came; expected two"):
        nw.compare(pair[0].folder, pair[1].folder, third.folder, steps=True)


def test_a_run_and_itself_a_lone_run_and_no_run_are_refused(pair: tuple[Run, Run], tmp_path: Path) -> None:
    run = pair[0].folder
    with pytest.raises(ConfigError, match="came twice; expected different runs"):
        nw.compare(run, run.parent / "." / run.name)
    with pytest.raises(ConfigError, match="1 run came; expected two or more"):
        nw.compare(run)
    with pytest.raises(CheckpointError, match="no run"):
        nw.compare(run, tmp_path)


@pytest.mark.usefixtures("drawn")
def test_the_command_draws_the_curves_together(
    pair: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(run.folder) for run in pair]
    for name in ("both.html", "both.svg"):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *runs, "-o", str(tmp_path / name)])
        assert ended.value.code == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / name)
    page, drawing = (tmp_path / "both.html").read_text(), (tmp_path / "both.svg").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "McNemar" in page
    assert page.count("<svg") == drawing.count("<svg") == 1
    assert "valid_accuracy" in drawing
    with pytest.raises(SystemExit) as ended:
        main(["compare", *runs, "-o", "both.png"])
    assert ended.value.code == 2
    assert "expected a name that ends in .html or .svg" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", *runs, "--json"])
    assert json.loads(capsys.readouterr().out)["runs"] == runs


def test_settings_that_differ_are_told_leaf_by_leaf(pair: tuple[Run, Run], tmp_path: Path) -> None:
    changed = {**SMALL, "layers": ["Linear(8)", "Tanh()", "Linear()"], "optimizer": "Adam(lr=0.02)"}
    other = nw.train("sklearn:breast_cancer", run_dir=tmp_path / "other", split={"test": 0.4, "valid": 0.3}, **changed)
    found = nw.compare(pair[0].folder, other.folder)
    assert set(found.settings) == {
        ("data.split.valid", "None", "0.3"),
        ("model.layers.1", "ReLU()", "Tanh()"),
        ("training.optimizer.lr", "0.01", "0.02"),
    }
    assert "training.optimizer.lr: 0.01 | 0.02" in str(found).splitlines()


def test_losses_of_different_kinds_are_not_subtracted(pair: tuple[Run, Run], tmp_path: Path) -> None:
    smooth = {**SMALL, "loss": "CrossEntropyLoss(label_smoothing=0.1)"}
    other = nw.train("sklearn:breast_cancer", run_dir=tmp_path / "other", split={"test": 0.4}, **smooth)
    found = nw.compare(pair[0].folder, other.folder)
    assert found.unlike == ("loss",)
    assert "loss" not in found.differences
    assert "accuracy" in found.differences
    line = next(line for line in str(found).splitlines() if line.startswith("test loss"))
    assert line.count("|") == 1
    assert "(" not in line
    why = "the losses are of different kinds (BCEWithLogitsLoss() | CrossEntropyLoss(label_smoothing=0.1)): "
    assert any(text.startswith(why) for text in found.remarks), found.remarks
    assert json.loads(json.dumps(found.to_json()))["not_subtracted"] == ["loss"]
    alike = nw.compare(pair[0].folder, pair[1].folder)
    assert alike.unlike == ()
    assert "(" in next(line for line in str(alike).splitlines() if line.startswith("test loss"))
