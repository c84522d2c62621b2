"""Ensembles and predictions out of fold: the mean of the members everywhere, honest figures, one line for what does not fit."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy
from sklearn import metrics
from sklearn.datasets import load_iris
from torch import nn

import netwright as nw
from netwright.cli import main
from netwright.data.column import Column
from netwright.data.columns import TableEncoder
from netwright.errors import CheckpointError, ConfigError, DataError, FolderInUseError
from netwright.exporting.joint import joined_encoder
from netwright.lifecycle.run import Run, load_run
from netwright.numerals import figure
from netwright.studies.ensembles import Ensemble
from netwright.studies.exported import load_any
from netwright.terminal import print_test

SHORT: dict[str, Any] = {
    "layers": ["Linear(8)", "ReLU()", "Linear()"],
    "epochs": 2,
    "evaluation": {"importance": False, "worst": 0},
}
ROWS = 96


def frame(seed: int = 0) -> pd.DataFrame:
    """A table with towns that only some folds hold."""
    draw = np.random.default_rng(seed)
    found = pd.DataFrame({"size": draw.normal(size=ROWS), "town": draw.choice(["ash", "birch"], ROWS)})
    found.loc[[3, 40], "town"] = ["Ulm", "Wien"]
    found.loc[7:9, "size"] = np.nan
    found["house"] = np.arange(ROWS) // 4
    found["price"] = found["size"].fillna(0) * 3 + (found["town"] == "ash") + draw.normal(size=ROWS) / 4
    found["kind"] = np.where(found["price"] > 0, "large", "small")
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("ensembles")
    frame().to_csv(found / "t.csv", index=False)
    new = frame(1)
    new.loc[[0, 1, 2], "town"] = ["Ulm", "never seen", "Wien"]
    new.to_csv(found / "new.csv", index=False)
    return found


@pytest.fixture(scope="module")
def prices(place: Path) -> Ensemble:
    """Folds of a regression."""
    nw.cross_validate(str(place / "t.csv"), folds=3, target="price", ignore=["kind", "house"], run_dir=place / "cv", **SHORT)
    return loaded(place / "cv")


@pytest.fixture(scope="module")
def kinds(place: Path) -> Ensemble:
    """Seeds of a classifier."""
    nw.repeat(str(place / "t.csv"), seeds=3, target="kind", ignore=["price", "house"], run_dir=place / "seeds", **SHORT)
    return loaded(place / "seeds")


def loaded(folder: Path, **how: Any) -> Ensemble:
    found = nw.load(folder, **how)
    assert isinstance(found, Ensemble)
    return found


def run_of(found: Any) -> Run:
    assert isinstance(found, Run)
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_out_of_fold_holds_each_row_once_as_the_fold_that_did_not_train_on_it_predicts_it(prices: Ensemble) -> None:
    found = rows_of(prices.folder / "out_of_fold.csv")
    assert [int(row["row"]) for row in found] == list(range(ROWS))
    table = frame()
    assert [float(row["target"]) for row in found] == pytest.approx(table["price"].tolist())
    for number, member in enumerate(prices.members):
        mine = [int(row["row"]) for row in found if int(row["fold"]) == number]
        with np.load(member.folder / "split.npz") as split:
            assert mine == split["test"].tolist()
            assert not set(mine) & set(split["train"].tolist())
        values = [float(found[row]["prediction"]) for row in mine]
        assert values == pytest.approx(member.predict(table.iloc[mine]), rel=1e-5)


def test_figures_out_of_fold_are_those_of_all_rows_with_intervals(prices: Ensemble) -> None:
    found = rows_of(prices.folder / "out_of_fold.csv")
    true, guess = ([float(row[name]) for row in found] for name in ("target", "prediction"))
    told = json.loads((prices.folder / "cross_validation.json").read_text())["out_of_fold"]
    assert (told["n"], told["untested"], told["file"]) == (ROWS, 0, "out_of_fold.csv")
    rmse = told["metrics"]["rmse"]
    assert rmse["value"] == pytest.approx(metrics.root_mean_squared_error(true, guess))
    assert told["metrics"]["r2"]["value"] == pytest.approx(metrics.r2_score(true, guess))
    assert rmse["low"] < rmse["value"] < rmse["high"]
    assert "BCa" in told["intervals"]["method"]
    page = (prices.folder / "report.html").read_text()
    assert "rows out of fold" in page
    assert f"{rmse['value']:.4g}" in page


def test_repeats_give_the_mean_of_what_each_deal_gave(place: Path, tmp_path: Path) -> None:
    split = {"folds": 2, "repeats": 2, "group": "house"}
    found = nw.cross_validate(
        str(place / "t.csv"), target="kind", ignore=["price"], split=split, run_dir=tmp_path / "cv", **SHORT
    )
    parts = [rows_of(run / "predictions.csv") for run in found.runs]
    given: dict[str, list[float]] = {}
    for row in (row for part in parts for row in part):
        given.setdefault(row["row"], []).append(float(row["probability_large"]))
    rows = rows_of(tmp_path / "cv" / "out_of_fold.csv")
    assert [float(row["probability_large"]) for row in rows] == pytest.approx([np.mean(given[row["row"]]) for row in rows])
    assert {row["times"] for row in rows} == {"2"}
    assert all(len(row["fold"].split(";")) == 2 for row in rows)
    assert found.out_of_fold is not None
    assert found.out_of_fold["intervals"]["groups"] == {"column": "house", "n": ROWS // 4}
    assert any("tested 2 times" in note for note in found.out_of_fold["notes"])


def test_an_ensemble_gives_the_mean_of_its_members(prices: Ensemble, kinds: Ensemble, place: Path) -> None:
    new = str(place / "new.csv")
    values = np.stack([member.predict(new) for member in prices.members])
    assert np.array_equal(prices.predict(new), values.mean(axis=0))
    chances = np.stack([member.predict_proba(new) for member in kinds.members])
    assert np.array_equal(kinds.predict_proba(new), chances.mean(axis=0))
    names = np.asarray(kinds.program.outcome.classes)
    assert kinds.predict(new).tolist() == names[chances.mean(axis=0).argmax(axis=1)].tolist()
    assert kinds.predict(new, threshold=0.0).tolist() == [names[1]] * ROWS
    with pytest.raises(ConfigError, match="gives no probabilities"):
        prices.predict_proba(new)


def test_categories_that_only_some_folds_know_are_known_to_the_ensemble(
    prices: Ensemble, place: Path, tmp_path: Path
) -> None:
    encoders = [member.program.preparation.encoder for member in prices.members]
    levels = {encoder.used[1].levels for encoder in encoders if encoder is not None}
    assert len(levels) > 1
    _, remarks, _ = prices.predict_file(str(place / "new.csv"))
    assert remarks[0].startswith("column 'town': a category not seen in training in 1 cell;")  # a member knows Ulm and Wien
    path = nw.export(prices, "torch", tmp_path / "prices.pt2")
    assert "its members alone reach rmse" in path.with_name(f"{path.name}.md").read_text()
    again = load_any(path, trust=True).predict(str(place / "new.csv"))
    assert np.allclose(again, prices.predict(str(place / "new.csv")), rtol=1e-6, atol=1e-6)


def test_a_bundle_of_an_ensemble_predicts_the_same_bits(
    kinds: Ensemble, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = nw.export(kinds, output=tmp_path / "bundle")
    again = loaded(path)
    assert np.array_equal(again.predict_proba(str(place / "new.csv")), kinds.predict_proba(str(place / "new.csv")))
    assert (again.of, len(again.members)) == ("seeds", 3)
    card = (path / "README.md").read_text()
    parameters = sum(value.numel() for member in kinds.members for value in member.model.parameters())
    assert f"{parameters:,} parameters" in card
    assert "The mean of 3 networks (seeds)" in card
    assert "a bundle holds no rows" in refused(["test", str(path)], 2, capsys)
    weights = path / "members" / "01" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "members/01/model.safetensors" in refused(["predict", str(path), str(place / "new.csv")], 4, capsys)
    shutil.rmtree(path / "members" / "01")
    assert "members/01/config.json: missing" in refused(["predict", str(path), str(place / "new.csv")], 4, capsys)


def test_the_test_of_seeds_is_one_look_beside_the_members(kinds: Ensemble, place: Path) -> None:
    looks = len((place / "looks.jsonl").read_text().splitlines())
    found = kinds.test()
    assert len((place / "looks.jsonl").read_text().splitlines()) == looks + 1
    assert found["looks"] == 4  # a look of each member before
    rows = rows_of(kinds.folder / "predictions.csv")
    true, guess = ([row[name] for row in rows] for name in ("target", "prediction"))
    accuracy = found["metrics"]["accuracy"]["value"]
    assert accuracy == pytest.approx(metrics.accuracy_score(true, guess))
    theirs = [member.tested["metrics"]["accuracy"]["value"] for member in kinds.members if member.tested]
    assert [one["accuracy"] for one in found["members"]["each"]] == pytest.approx(theirs)
    gap = found["members"]["difference"]["accuracy"]
    assert gap["value"] == pytest.approx(accuracy - np.mean(theirs))
    assert found["weights"] == "mean of 3 networks"
    assert kinds.tested == json.loads(json.dumps(found))
    assert "Ensemble of 3" in (kinds.folder / "report.html").read_text()


def test_seeds_of_python_objects_are_tested_by_the_same_objects(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    pair = draw, 10_000 * draw[:, 0]
    nw.repeat(data=pair, seeds=2, run_dir=tmp_path / "seeds", **SHORT)
    seeds = loaded(tmp_path / "seeds")
    with pytest.raises(CheckpointError, match=r"in Python nw\.load\(.*\)\.test\(data\)"):
        seeds.test()
    found = seeds.test(pair)
    with np.load(seeds.members[0].folder / "split.npz") as split:
        rows = split["test"]
    assert found["looks"] == 3  # a look of each member before
    assert [int(row["row"]) for row in rows_of(seeds.folder / "predictions.csv")] == rows.tolist()
    expected = metrics.root_mean_squared_error(pair[1][rows], seeds.predict(draw[rows]))
    assert found["metrics"]["rmse"]["value"] == pytest.approx(expected, rel=1e-5)
    assert seeds.tested == json.loads(json.dumps(found))
    assert figure(expected) in (seeds.folder / "report.html").read_text()
    nw.cross_validate(data=pair, folds=2, run_dir=tmp_path / "cv", **SHORT)
    with pytest.raises(ConfigError, match="which was trained on some of them"):
        loaded(tmp_path / "cv").test(pair)


def test_figures_of_members_are_printed_as_all_others(capsys: pytest.CaptureFixture[str]) -> None:
    members = {
        "each": [{"rmse": 68412.31}, {"rmse": 68520.0}],
        "mean": {"rmse": 68466.155},
        "difference": {"rmse": {"value": -1234.5}},
    }
    print_test(
        {"n": 9, "weights": "mean of 2 networks", "looks": 1, "metrics": {"rmse": {"value": 67231.655}}, "members": members}
    )
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=1)[1] == "68,412 to 68,520, mean 68,466   -1,234"


def test_folds_are_not_tested_on_rows_that_some_trained_on(
    prices: Ensemble, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["test", str(prices.folder)], 2, capsys)
    assert "trained on by some of its 3 folds" in message
    assert "cross_validation.json" in message
    own = refused(["test", str(prices.folder), str(place / "t.csv")], 2, capsys)
    assert "fold-00, which was trained on some of them" in own
    found = prices.test(str(place / "new.csv"))
    table = pd.read_csv(place / "new.csv")
    expected = metrics.root_mean_squared_error(table["price"], prices.predict(table))
    assert found["metrics"]["rmse"]["value"] == pytest.approx(expected)
    mean = found["members"]["mean"]["rmse"]
    assert expected < mean  # the mean of squares is above the square of the mean
    assert not (prices.folder / "test.json").exists()


def test_an_array_stands_for_the_columns_of_a_table_in_their_order(kinds: Ensemble, tmp_path: Path) -> None:
    values = load_iris().data
    found = nw.cross_validate("sklearn:iris", folds=2, run_dir=tmp_path / "cv", **SHORT)
    ensemble = loaded(found.folder)
    bundle = loaded(nw.export(ensemble, output=tmp_path / "bundle"))
    for one in (ensemble, ensemble.members[0], bundle):
        expected = one.predict_proba("sklearn:iris")
        for rows in (values, values.tolist(), torch.tensor(values)):
            assert (one.predict_proba(rows) == expected).all()
    program = load_any(nw.export(ensemble, "torch", tmp_path / "i.pt2"), trust=True)
    assert program.predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == ensemble.predict(values[:1]).tolist()
    with pytest.raises(
        DataError, match=r"int64 of shape \(1, 3\) came; .* shape \(rows, 4\) .* 'sepal length \(cm\)', 'sepal width"
    ):
        ensemble.predict([[1, 2, 3]])
    with pytest.raises(DataError, match=r"a data frame with the columns 'size', 'town'; .* stand for 'town' \(category\)"):
        kinds.predict(np.zeros((2, 2)))


def test_columns_of_an_ensemble_are_in_the_order_of_the_table() -> None:
    one = TableEncoder((Column("a", "ignore"), Column("b", "number"), Column("c", "number")))
    other = TableEncoder((Column("a", "number"), Column("b", "number"), Column("c", "ignore")))
    assert [column.name for column in joined_encoder([one, other]).used] == ["a", "b", "c"]


def test_a_column_is_constant_for_an_ensemble_where_all_members_know_one_amount() -> None:
    one = TableEncoder((Column("a", "number", constant=1.0), Column("b", "number", constant=1.0)))
    other = TableEncoder((Column("a", "number", constant=1.0), Column("b", "number", constant=2.0)))
    for encoders in ([one, other], [one, other, one]):
        assert [column.constant for column in joined_encoder(encoders).used] == [1.0, None]


def test_disagreement_is_the_mutual_information_or_the_deviation(kinds: Ensemble, prices: Ensemble, place: Path) -> None:
    new = str(place / "new.csv")
    table = kinds.prediction_table(new, disagreement=True)
    chances = np.stack([member.predict_proba(new) for member in kinds.members])
    whole = entropy(chances.mean(axis=0), axis=1)
    assert table["entropy"] == pytest.approx(whole)
    assert table["disagreement"] == pytest.approx(whole - entropy(chances, axis=2).mean(axis=0), abs=1e-12)
    values = np.stack([member.predict(new) for member in prices.members])
    assert prices.prediction_table(new, disagreement=True)["disagreement"] == pytest.approx(values.std(axis=0))
    with pytest.raises(ConfigError, match="one network, and --disagreement came"):
        prices.members[0].predict_file(new, disagreement=True)


def test_intervals_of_folds_are_those_of_cross_validation_plus(prices: Ensemble, kinds: Ensemble, place: Path) -> None:
    new = pd.read_csv(place / "new.csv").head(5)
    found = rows_of(prices.folder / "out_of_fold.csv")
    errors = [abs(float(row["target"]) - float(row["prediction"])) for row in found]
    given = np.stack([prices.members[int(row["fold"])].predict(new) for row in found])
    rank = int(np.ceil(0.9 * (ROWS + 1)))
    low, high = prices.predict_interval(new, coverage=0.9)
    assert low == pytest.approx(np.sort(given - np.asarray(errors)[:, None], axis=0)[ROWS - rank])
    assert high == pytest.approx(np.sort(given + np.asarray(errors)[:, None], axis=0)[rank - 1])
    with pytest.raises(ConfigError, match="intervals are for a regression"):
        kinds.predict_interval(new)
    with pytest.raises(ConfigError, match="96 out-of-fold rows came; an interval of 0.999 takes 999"):
        prices.predict_interval(new, coverage=0.999)


def test_named_runs_are_an_ensemble(
    kinds: Ensemble, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(kinds.members[0].folder), str(kinds.members[2].folder)]
    with pytest.raises(SystemExit):
        main(["ensemble", *runs, "-o", str(tmp_path / "two"), "--json"])
    assert json.loads(capsys.readouterr().out)["members"] == runs
    two = loaded(tmp_path / "two")
    new = str(place / "new.csv")
    chances = [kinds.members[number].predict_proba(new) for number in (0, 2)]
    assert np.array_equal(two.predict_proba(new), np.mean(chances, axis=0))
    assert two.test()["n"] == kinds.members[0].record["split"]["test"]
    with pytest.raises(FolderInUseError, match="two: exists already"):
        nw.ensemble(runs, tmp_path / "two")
    with pytest.raises(ConfigError, match="seed-0 came twice"):
        nw.ensemble([kinds.folder, runs[0]], tmp_path / "no")
    with pytest.raises(ConfigError, match="1 run came; expected two"):
        nw.ensemble(runs[:1], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_members_that_do_not_fit_are_one_line(
    kinds: Ensemble, prices: Ensemble, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(kinds.members[0].folder)
    words = ["-o", str(tmp_path / "no")]
    message = refused(["ensemble", one, str(prices.members[0].folder), *words], 4, capsys)
    assert "task: regression came; expected binary" in message
    iris = nw.train("sklearn:iris", run_dir=tmp_path / "iris", **SHORT)
    renamed = frame()[["town", "kind"]].rename(columns={"town": "place"})
    renamed.to_csv(tmp_path / "renamed.csv", index=False)
    other = nw.train(str(tmp_path / "renamed.csv"), target="kind", run_dir=tmp_path / "other", **SHORT)
    assert "task: multiclass came" in refused(["ensemble", one, str(iris.folder), *words], 4, capsys)
    assert "columns: place came; expected size, town" in refused(["ensemble", one, str(other.folder), *words], 4, capsys)
    assert "nowhere: no run" in refused(["ensemble", one, str(tmp_path / "nowhere"), *words], 4, capsys)
    assert not (tmp_path / "no").exists()


def test_half_trained_folders_and_lost_members_are_one_line(
    kinds: Ensemble, prices: Ensemble, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(place / "new.csv")
    assert "holds seeds already" in refused(["cv", "sklearn:iris", "--run-dir", str(kinds.folder)], 7, capsys)
    shutil.copytree(prices.folder, tmp_path / "cv")
    shutil.rmtree(tmp_path / "cv" / "fold-02")
    assert "cv/fold-02: a run of the ensemble" in refused(["predict", str(tmp_path / "cv"), new], 4, capsys)
    (tmp_path / "cv" / "cross_validation.json").unlink()
    assert "2 folds begun, not all of them done" in refused(["predict", str(tmp_path / "cv"), new], 4, capsys)
    shutil.copytree(kinds.folder, tmp_path / "seeds")
    told = json.loads((tmp_path / "seeds" / "seeds.json").read_text())
    (tmp_path / "seeds" / "seeds.json").write_text(json.dumps({**told, "figures": {}}))
    record = tmp_path / "seeds" / "seed-2" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "interrupted"}))
    assert "2 of its 3 seeds are done" in refused(["predict", str(tmp_path / "seeds"), new], 4, capsys)
    (tmp_path / "seeds" / "seeds.json").write_text(json.dumps(told))
    assert "seed-2: interrupted; expected a run that ended" in refused(["predict", str(tmp_path / "seeds"), new], 4, capsys)
    both = [run_of(nw.load(tmp_path / "seeds" / name)).folder for name in ("seed-0", "seed-1")]
    nw.ensemble(both, tmp_path / "both")
    record = both[1] / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "weights": {"model/best.safetensors": "other"}}))
    with pytest.raises(CheckpointError, match=r"seed-1.*(trained again since|does not agree)"):
        nw.load(tmp_path / "both")
    (tmp_path / "both" / "ensemble.json").write_text('{"runs": 3}')
    assert "no summary of runs" in refused(["predict", str(tmp_path / "both"), new], 4, capsys)


def test_ensembles_of_other_tasks_are_the_mean_and_export(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(60, 4)).astype(np.float32)
    labels = (rows[:, :3] > 0).astype(np.int64)
    np.savez(tmp_path / "m.npz", x=rows, y=labels)
    keywords: dict[str, Any] = {"target": "y", "task": "multilabel", "layers": ["Linear()"], "epochs": 1}
    found = nw.cross_validate(str(tmp_path / "m.npz"), folds=2, run_dir=tmp_path / "m", **keywords)
    several = loaded(tmp_path / "m")
    chances = np.stack([member.predict_proba(rows) for member in several.members])
    assert np.array_equal(several.predict(rows), (chances.mean(axis=0) > 0.5).astype(np.int64))
    table = rows_of(tmp_path / "m" / "out_of_fold.csv")
    guess = [[int(row[name]) for name in row if name.startswith("prediction")] for row in table]
    assert np.shape(guess) == (60, 3)
    assert found.out_of_fold is not None
    assert found.out_of_fold["metrics"]["f1_micro"]["value"] == pytest.approx(
        metrics.f1_score(labels, guess, average="micro")
    )
    apart = several.prediction_table(rows, disagreement=True)
    one, first = chances.mean(axis=0)[:, 0], chances[:, :, 0]
    whole = entropy([one, 1 - one])
    assert apart["entropy_target_1"] == pytest.approx(whole)
    within = entropy([first, 1 - first]).mean(axis=0)
    assert apart["disagreement_target_1"] == pytest.approx(whole - within, abs=1e-12)
    tested = several.test((rows + 1, labels))
    assert {"f1_micro", "subset_accuracy"} <= set(tested["members"]["difference"])


def test_texts_of_which_each_fold_knows_other_letters(tmp_path: Path) -> None:
    words = ["kind and good", "bad luck", "quite a fine day", "poor, very poor"] * 8
    lines = [f'"{word}{"äöü"[row % 3] if row < 3 else ""}",{"up" if row % 2 else "down"}' for row, word in enumerate(words)]
    (tmp_path / "t.csv").write_text("text,mood\n" + "\n".join(lines) + "\n")
    layers = ["Embedding(4)", "MeanOverTime()", "Linear()"]
    keywords: dict[str, Any] = {"target": "mood", "text": "characters", "epochs": 1}
    nw.cross_validate(str(tmp_path / "t.csv"), folds=3, layers=layers, run_dir=tmp_path / "cv", **keywords)
    found = loaded(tmp_path / "cv")
    vocabularies = {
        member.program.preparation.steps.vocabulary for member in found.members if member.program.preparation.steps
    }
    assert len(vocabularies) > 1
    expected = found.predict_proba(str(tmp_path / "t.csv"))
    again = load_any(nw.export(found, "torch", tmp_path / "t.pt2"), trust=True)
    assert np.allclose(again.predict_decoded(str(tmp_path / "t.csv")), expected, atol=1e-6)


def test_modules_from_python_and_own_code(tmp_path: Path, place: Path) -> None:
    rows, labels = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    module = nn.Sequential(nn.Linear(4, 2))
    nw.repeat(
        model=module,
        data=(rows, labels),
        seeds=2,
        epochs=3,
        batch_size=16,
        run_dir=tmp_path / "s",
        loss="CrossEntropyLoss()",
    )
    found = loaded(tmp_path / "s", model=module)
    assert found.members[0].model is not found.members[1].model
    weights = [member.model.state_dict()["0.weight"] for member in found.members]
    assert not torch.equal(weights[0], weights[1])
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Linear(4, 3)\n\n    def forward(self, x):\n        return self.layer(x)\n"
    )
    code = [tmp_path / "own.py"]
    nw.repeat("sklearn:iris", seeds=2, module=f"{code[0]}:Net", code=code, epochs=1, run_dir=tmp_path / "o")
    path = nw.export(tmp_path / "o", output=tmp_path / "bundle", code=code)
    new = "sklearn:iris"
    again = loaded(path, code=code)  # the file of one's own holds the bytes of those inside
    assert np.array_equal(again.predict_proba(new), loaded(tmp_path / "o", code=code).predict_proba(new))


def test_cv_is_the_command_and_cross_validate_means_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sklearn:iris", "--folds", "2", "--run-dir", "cv", "--set", "training.epochs=1"]
    with pytest.raises(SystemExit) as ended:
        main(["cross-validate", *words])
    assert ended.value.code == 0
    assert "150 rows out of fold (cv/out_of_fold.csv), 95 % intervals" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["cv", *words, "--json"])  # both folds are kept
    found = json.loads(capsys.readouterr().out)
    assert found["out_of_fold"]["n"] == 150
    with pytest.raises(SystemExit):
        main(["predict", "cv", "sklearn:iris", "--disagreement", "--json"])
    columns = json.loads(capsys.readouterr().out)["predictions"]
    assert list(columns)[-2:] == ["entropy", "disagreement"]
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "  cv " in shown
    assert "cross-validate" not in shown
    assert load_run("cv/fold-00").record["status"] == "done"
