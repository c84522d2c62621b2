"""Targets end to end: several labels a row, counts, and names of classes of any type, to files and back."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from sklearn import metrics
from sklearn.datasets import make_multilabel_classification
from sklearn.neural_network import MLPClassifier

import netwright as nw
from netwright.cli import main
from netwright.errors import ConfigError, DataError
from netwright.pipeline.telling import Told

NET = ["Linear(32)", "ReLU()", "Linear()"]
X = np.random.default_rng(1).normal(size=(400, 8))
Y = (X[:, :4] + 0.5 * X[:, 4:] > 0.3).astype(int)
LABELS = ["007", "blue", "green", "red"]
SETS = [[LABELS[place] for place in np.flatnonzero(row)] for row in Y]
COLUMNS = {f"x{place}": X[:, place] for place in range(8)}


def trained(folder: Path, **keywords: Any) -> nw.Run:
    settings = {"layers": NET, "epochs": 6, "run_dir": folder / "run"}
    return nw.train(**(settings | keywords))


def write_lists(folder: Path) -> dict[str, Any]:
    pa.parquet.write_table(pa.table({**COLUMNS, "tags": SETS}), folder / "t.parquet")
    return {"config": folder / "t.parquet", "target": "tags"}


def write_texts(folder: Path) -> dict[str, Any]:
    pa.csv.write_csv(pa.table({**COLUMNS, "tags": ["|".join(row) for row in SETS]}), folder / "t.csv")
    return {"config": folder / "t.csv", "target": "tags", "label_separator": "|"}


def write_columns(folder: Path) -> dict[str, Any]:
    words = {name: np.where(Y[:, place] == 1, "yes", "no") for place, name in enumerate(LABELS)}
    pa.csv.write_csv(pa.table({**COLUMNS, **words}), folder / "t.csv")
    return {"config": folder / "t.csv", "target": LABELS}


WAYS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "lists": write_lists,
    "texts": write_texts,
    "columns": write_columns,
    "a matrix": lambda _: {"data": (X, Y)},
    "sets": lambda _: {"data": (X, [set(row) for row in SETS])},
    "a frame and lists": lambda _: {"data": (pd.DataFrame(COLUMNS), SETS)},
}


@pytest.mark.parametrize("way", WAYS)
def test_several_labels_a_row_are_learned_tested_and_predicted_however_they_are_written(way: str, tmp_path: Path) -> None:
    run = trained(tmp_path, **WAYS[way](tmp_path))
    names = ("target_1", "target_2", "target_3", "target_4") if way == "a matrix" else tuple(LABELS)
    outcome = run.program.outcome
    assert (outcome.task, outcome.classes) == ("multilabel", names)
    again = nw.load(run.folder)
    assert again.program.outcome.classes == names
    features = pd.DataFrame(COLUMNS) if run.program.preparation.encoder else X
    proba, guess = again.predict_proba(features), again.predict(features)
    expected = (proba > 0.5).astype(int)
    rows = np.load(run.folder / "split.npz")["test"]
    found = {name: entry["value"] for name, entry in run.tested["metrics"].items()}
    assert found["f1_micro"] == pytest.approx(metrics.f1_score(Y[rows], expected[rows], average="micro"))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(Y[rows], proba[rows]))
    if len(outcome.names) > 1:
        assert (guess.dtype, guess.tolist()) == (np.int64, expected.tolist())
    else:
        assert guess.tolist() == [[names[place] for place in np.flatnonzero(row)] for row in expected]
    assert "valid_f1_micro" in run.history[0]
    page = (run.folder / "report.html").read_text()
    assert all(text in page for text in ("<caption>Labels</caption>", "test f1_micro", "infinitesimal jackknife", names[0]))


def test_a_run_from_the_resolved_config_of_labels_is_the_run(tmp_path: Path) -> None:
    first = trained(tmp_path, **write_texts(tmp_path), loss='BCEWithLogitsLoss(pos_weight="balanced")')
    again = nw.train(first.folder / "config.toml", run_dir=tmp_path / "again")
    assert first.tested["metrics"] == again.tested["metrics"]
    assert (first.folder / "config.toml").read_text() == (again.folder / "config.toml").read_text()


def test_the_command_line_writes_labels_as_they_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, **write_texts(tmp_path))
    later = tmp_path / "later.csv"
    pa.csv.write_csv(pa.table({**COLUMNS, "tags": ["|".join(row) for row in SETS]}).slice(0, 40), later)
    for arguments in (
        f"predict {tmp_path}/run {later} -o {tmp_path}/p.csv",
        f"predict {tmp_path}/run {later} -o {tmp_path}/p.parquet",
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments.split())
        assert ended.value.code == 0
    lists = pa.parquet.read_table(tmp_path / "p.parquet")["prediction"].to_pylist()
    text = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    assert [row.split("|") if row else [] for row in text["prediction"]] == lists
    assert list(text.columns) == ["prediction", *(f"probability_{label}" for label in LABELS)]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["test", str(tmp_path / "run"), str(later), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 40
    assert [entry["label"] for entry in found["labels"]] == LABELS
    assert "baselines" not in found  # of other rows than the run's own


def test_labels_are_learned_about_as_well_as_by_scikit_learn(tmp_path: Path) -> None:
    features, labels = make_multilabel_classification(n_samples=1000, n_features=20, n_classes=5, random_state=0)
    run = trained(tmp_path, data=(features, labels), epochs=40, layers=["Linear(64)", "ReLU()", "Linear()"])
    split = np.load(run.folder / "split.npz")
    mean, deviation = features[split["train"]].mean(axis=0), features[split["train"]].std(axis=0)
    scaled = (features - mean) / deviation
    theirs = MLPClassifier((64,), max_iter=40, batch_size=64, random_state=0, learning_rate_init=0.001)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        theirs.fit(scaled[split["train"]], labels[split["train"]])
    score = metrics.f1_score(labels[split["test"]], theirs.predict(scaled[split["test"]]), average="micro")
    assert run.tested["metrics"]["f1_micro"]["value"] == pytest.approx(score, abs=0.05)


def test_what_cannot_be_learned_of_labels_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    labels = np.column_stack([Y[:, :2], np.zeros(400, int), np.ones(400, int)])
    run = trained(tmp_path, data=(X, labels), epochs=1, observers=[lambda record: told.append(str(record))])
    assert "task: multilabel, 4 labels (columns of 0 and 1); target target_1, target_2, target_3, target_4" in "\n".join(
        told
    )
    assert any(
        line.startswith("warning: label 'target_3': it has no train row, so that the network cannot learn it")
        for line in told
    )
    assert "note: every train row has label 'target_4'; the network cannot learn where it is not" in told
    assert run.tested["notes"] == [
        "roc_auc and average_precision are the means over 2 of 4 labels: all rows or none have target_3, target_4"
    ]
    told.clear()
    fractions = Y.astype(float)
    nw.train(
        data=(X, fractions), layers=NET, epochs=1, run_dir=tmp_path / "f", observers=[lambda line: told.append(str(line))]
    )
    assert any("4 target columns hold fractions that are all 0 or 1 and are read as quantities" in line for line in told)
    assert "argmax" not in "\n".join(told)
    for dtype, read in (
        (int, "exactly one of the labels target_1, target_2, target_3"),
        (np.float32, "all 0 or 1 and are read as"),
    ):
        told.clear()
        nw.train(data=(X, np.eye(3, dtype=dtype)[np.arange(400) % 3]), layers=NET, epochs=1,
                 run_dir=tmp_path / read[:3], observers=[lambda record: told.append(str(record))])  # fmt: skip
        assert any(read in line and "its argmax(axis=1)" in line for line in told)


def test_a_label_that_only_a_given_test_file_has_is_refused(tmp_path: Path) -> None:
    for name, sets in (("train", SETS), ("test", [*SETS[:30], ["violet"], *SETS[31:]])):
        pa.parquet.write_table(pa.table({**COLUMNS, "tags": sets}), tmp_path / f"{name}.parquet")
    files = {"train": str(tmp_path / "train.parquet"), "test": str(tmp_path / "test.parquet")}
    with pytest.raises(
        DataError, match="test.parquet: row 31: target 'tags': label 'violet' of the valid or test rows is not"
    ):
        trained(tmp_path, data=files, target="tags")
    assert not (tmp_path / "run").exists()


def test_sets_of_a_given_test_part_have_the_labels_of_train_by_name(tmp_path: Path) -> None:
    sets = [set(row) for row in SETS]
    without = [known - {"007"} for known in sets[300:]]
    run = trained(tmp_path, data={"train": (X[:300], sets[:300]), "test": (X[300:], without)})
    assert run.record["task"]["classes"] == LABELS
    again = run.test((X[300:], without))
    assert run.tested is not None
    assert again["metrics"]["f1_micro"]["value"] == run.tested["metrics"]["f1_micro"]["value"]
    other = [*without[:-1], {"violet"}]
    with pytest.raises(DataError, match="label 'violet' of the valid or test rows is not among the train"):
        trained(tmp_path / "other", data={"train": (X[:300], sets[:300]), "test": (X[300:], other)})


def test_a_group_among_the_arrays_of_several_files_divides_them(tmp_path: Path) -> None:
    for place in range(2):
        np.savez(tmp_path / f"p{place}.npz", X=X[:40], y=Y[:40, 0], g=np.arange(40) // 4 + 100 * place)
    run = nw.train(tmp_path / "p*.npz", split={"group": "g"}, epochs=1, run_dir=tmp_path / "run")
    assert run.inputs is not None
    groups = [set((rows // 4).tolist()) for rows in (run.inputs.split.train, run.inputs.split.valid, run.inputs.split.test)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


# keywords, words of the line
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stratified": ({"data": (X, Y), "split": {"stratify": True}}, "a row has several labels, so no class divides the rows"),
    "another loss": ({"data": (X, Y), "loss": "CrossEntropyLoss()"}, "0 and 1 per label (float32); expected BCEWithLogitsLoss"),
    "lists of numbers": ({"data": (X, Y), "loss": "MultiLabelMarginLoss()"}, "it reads lists of label numbers, no 0 and 1"),
    "too few outputs": (
        {"data": (X, Y), "layers": ["Linear(3)"]}, "a target of 4 labels with BCEWithLogitsLoss() needs (N, 4)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_labels_is_refused(name: str, tmp_path: Path) -> None:
    keywords, words = REFUSED[name]
    with pytest.raises(ConfigError) as problem:
        trained(tmp_path, **keywords)
    assert words in str(problem.value)


def test_several_labels_per_step_are_refused(tmp_path: Path) -> None:
    steps = {"who": np.repeat(np.arange(10), 4), "x": np.arange(40.0), "a": np.arange(40) % 2, "b": np.arange(40) % 3 % 2}
    pa.csv.write_csv(pa.table(steps), tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="2 labels per step came; expected one class or numbers per step"):
        nw.train(tmp_path / "t.csv", target=["a", "b"], sequences="who", run_dir=tmp_path / "run")


def test_sequences_and_windows_have_several_labels_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(int(length), 2)) for length in generator.integers(3, 9, 60)]
    sets = [{"up"} if row[:, 0].mean() > 0 else set() for row in sequences]
    sets = [known | {"long"} if len(row) > 5 else known for known, row in zip(sets, sequences, strict=True)]
    run = nw.train(data=(sequences, sets), epochs=2, run_dir=tmp_path / "sequences")
    assert run.program.outcome.classes == ("long", "up")
    assert len(run.predict(sequences[:3])) == 3
    series = {"x": np.arange(120.0) % 7, "a": np.arange(120) % 7 // 4, "b": np.arange(120) % 2}
    pa.csv.write_csv(pa.table(series), tmp_path / "t.csv")
    run = nw.train(tmp_path / "t.csv", target=["a", "b"], window=6, epochs=2, run_dir=tmp_path / "windows")
    assert run.program.outcome.task == "multilabel"
    assert run.predict(tmp_path / "t.csv").shape == (115, 2)


def by_numbers(*labels: Any) -> list[Any]:
    return [labels[row % len(labels)] for row in range(60)]


DAY = datetime.date(2024, 1, 31)
NAMES: dict[str, tuple[list[Any], Any]] = {  # the classes of the rows, as what they are handed over
    "texts of numbers": (by_numbers("007", "07", "7"), np.asarray),
    "texts like missing ones": (by_numbers("None", "nan", "NA"), np.asarray),
    "texts in a frame": (by_numbers("yes", "no"), pd.Series),
    "other alphabets": (by_numbers("ß", "類", "a b"), np.asarray),
    "whole numbers": (by_numbers(3, -1, 7), np.asarray),
    "whole numbers of a frame": (by_numbers(3, -1, 7), pd.Series),
    "fractions": (by_numbers(0.5, 1.5), np.asarray),
    "booleans": (by_numbers(True, False), np.asarray),
    "booleans as objects": (by_numbers(True, False), lambda values: np.asarray(values, dtype=object)),
    "days": (by_numbers(DAY, DAY.replace(day=1)), pd.Series),
    "days of an array": (by_numbers(DAY, DAY.replace(day=1)), lambda values: np.asarray(values, dtype="datetime64[D]")),
    "moments": (by_numbers(datetime.datetime(2024, 1, 31, 12), datetime.datetime(2025, 1, 1)), pd.Series),
    "categories": (by_numbers("b", "a"), lambda values: pd.Series(values, dtype="category")),
    "categories of numbers": (by_numbers(5, 1), lambda values: pd.Series(values, dtype="category")),
    "bare categories": (by_numbers("b", "a"), pd.Categorical),
}


@pytest.mark.parametrize("name", NAMES)
def test_classes_of_any_type_come_back_in_that_type(name: str, tmp_path: Path) -> None:
    values, hand_over = NAMES[name]
    kinds = sorted(set(values))
    task = "binary" if name == "fractions" else None
    features = np.eye(len(kinds))[[kinds.index(value) for value in values]] * 3
    target = hand_over(values)
    rows: Any = (
        pd.DataFrame(features, columns=[f"x{k}" for k in range(len(kinds))]) if isinstance(target, pd.Series) else features
    )
    run = nw.train(
        data=(rows, target), layers=["Linear()"], optimizer="Adam(lr=0.1)", epochs=10, task=task, run_dir=tmp_path / "run"
    )
    again = nw.load(run.folder)
    for known in (run, again):
        assert list(known.program.outcome.classes) == kinds
        assert [type(label) for label in known.program.outcome.classes] == [type(kind) for kind in kinds]
        assert known.predict(rows).tolist() == values
        assert known.prediction_table(rows)["prediction"] == values
    assert run.tested["metrics"]["accuracy"]["value"] == 1.0
    found = run.test((rows.iloc[:20] if isinstance(rows, pd.DataFrame) else rows[:20], target[:20]))
    assert found["metrics"]["accuracy"]["value"] == 1.0


def test_names_of_bytes_survive_the_files_of_a_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.eye(2)[np.arange(60) % 2], y=np.array([b"ab", b"c"])[np.arange(60) % 2])
    run = nw.train(tmp_path / "t.npz", layers=["Linear()"], optimizer="Adam(lr=0.1)", epochs=10, run_dir=tmp_path / "run")
    assert nw.load(run.folder).predict(np.eye(2)).tolist() == [b"ab", b"c"]


def count_rows() -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(500, 3))
    return rows, generator.poisson(np.exp(0.6 * rows[:, 0] - 0.4 * rows[:, 1] + 1))


@pytest.mark.parametrize(
    ("loss", "layers"),
    [
        ("PoissonNLLLoss()", NET),
        ("PoissonNLLLoss(full=True)", NET),
        ("PoissonNLLLoss(log_input=False)", [*NET, "Softplus()"]),
    ],
)
def test_counts_are_predicted_as_rates_and_compared_with_their_mean(loss: str, layers: list[str], tmp_path: Path) -> None:
    rows, counts = count_rows()
    told: list[Any] = []
    run = nw.train(
        data=(rows, counts),
        loss=loss,
        layers=layers,
        optimizer="Adam(lr=0.01)",
        epochs=15,
        run_dir=tmp_path / "run",
        observers=[told.append],
    )
    rates = nw.load(run.folder).predict(rows)
    split = np.load(run.folder / "split.npz")
    test, train = split["test"], split["train"]
    assert (rates > 0).all()
    assert rates.mean() == pytest.approx(counts.mean(), rel=0.1)
    found = run.tested["metrics"]["mean_poisson_deviance"]
    assert found["value"] == pytest.approx(metrics.mean_poisson_deviance(counts[test], rates[test]), rel=1e-5)
    assert found["low"] < found["value"] < found["high"]
    base = run.tested["baselines"]["mean"]["metrics"]["mean_poisson_deviance"]
    mean = np.full(len(test), counts[train].mean())
    assert base == pytest.approx(metrics.mean_poisson_deviance(counts[test], mean))
    assert found["value"] < base
    assert any(isinstance(line, Told) and "counts" in line.text for line in told)
    assert "the mean of the train rows" in (run.folder / "report.html").read_text()


@pytest.mark.parametrize("value", [-1.0, 1.5])
def test_what_is_no_count_is_refused_with_row_and_column(value: float, tmp_path: Path) -> None:
    rows, counts = count_rows()
    cells = counts.astype(float)
    cells[7] = value
    pa.csv.write_csv(pa.table({"x": rows[:, 0], "n": cells}), tmp_path / "t.csv")
    words = f"t.csv:9: target 'n': {value:g} is no count (1 such values); PoissonNLLLoss expects whole numbers from 0"
    with pytest.raises(DataError) as problem:
        nw.train(tmp_path / "t.csv", target="n", loss="PoissonNLLLoss()", run_dir=tmp_path / "run")
    assert str(problem.value).startswith(words)
    run = nw.train(data=(rows, counts), loss="PoissonNLLLoss()", layers=NET, epochs=1, run_dir=tmp_path / "run")
    with pytest.raises(DataError, match="row 8: target 'target': .* is no count"):
        run.test((rows[:20] + 1, cells[:20]))


def test_a_regression_is_tested_on_rows_without_the_names_that_labels_mend(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=80)
    cells = ["none" if row % 9 == 0 else f"{value:.3f}" for row, value in enumerate(rows)]
    for name, column in (("all", cells), ("later", [cell for cell in cells if cell != "none"])):
        lines = [f"{value:.3f},{cell}" for value, cell in zip(rows, column, strict=False)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,y", *lines]) + "\n")
    settings = ['data.labels={none="0"}', "data.task=regression", "data.target=y"]
    run = nw.train(str(tmp_path / "all.csv"), settings=settings, epochs=1, run_dir=tmp_path / "run")
    assert run.test(str(tmp_path / "later.csv"))["n"] == 71


def test_classes_without_a_row_are_named_in_a_setting(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 4)).astype(np.float32), np.arange(120) % 3
    told: list[str] = []
    observers = [lambda record: told.append(str(record))]
    run = nw.train((X, y), layers=["Linear()"], classes=range(5), epochs=2, observers=observers, run_dir=tmp_path / "run")
    assert sum("it has no train row" in line for line in told) == 0  # a note: who names them knows
    found = json.loads((run.folder / "run.json").read_text())["findings"]
    assert [one["severity"] for one in found if one["check"] == "missing-class"] == ["note", "note"]
    assert run.model[0].out_features == 5  # type: ignore[index]
    assert run.predict_proba(X[:2]).shape == (2, 5)
    again = nw.load(run.folder)
    assert again.program.outcome.classes == (0, 1, 2, 3, 4)
    assert again.test((X, np.full(120, 4)))["n"] == 120
    with pytest.raises(DataError, match="class 2 is none that is known; expected one of 0, 1"):
        nw.train((X, y), layers=["Linear()"], classes=[0, 1], run_dir=tmp_path / "none")
    with pytest.raises(ConfigError, match="data.classes: 2 different classes came; expected two or more, each once"):
        nw.train((X, y), layers=["Linear()"], classes=[0, 1, 1], run_dir=tmp_path / "none")
    with pytest.raises(ConfigError, match=r"needs \(N, 3\); end with Linear\(\), or name all classes, .*data.classes"):
        nw.train((X, y), model=torch.nn.Linear(4, 10), run_dir=tmp_path / "none")
    names = np.array(["a", "b", "c"])[y]
    texts = nw.train((X, names), layers=["Linear()"], classes=["c", "b", "a", "d"], epochs=1, run_dir=tmp_path / "texts")
    assert texts.program.outcome.classes == ("c", "b", "a", "d")
