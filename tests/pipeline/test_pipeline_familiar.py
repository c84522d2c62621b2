"""Rows that a run was trained on are known again in other files: a test on them says that its figures are too good."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from torch import nn

import netwright as nw
from netwright.checks.view import contents_of
from netwright.cli import main
from netwright.trained import familiar

ROWS = 400


class Both(nn.Module):
    """Reads two arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 2)

    def forward(self, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.layer(torch.cat([p, q], dim=1))


def table(rows: int = ROWS, seed: int = 0, levels: int = 0) -> pa.Table:
    """Return rows of three numbers, or of levels that repeat, and a target."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(0, levels, (rows, 3)) if levels else generator.normal(size=(rows, 3)).round(4)
    target = np.where(cells[:, 0] + generator.normal(size=rows) > cells.mean(), "yes", "no")
    return pa.table({**{f"c{place}": cells[:, place] for place in range(3)}, "y": target})


def written(path: Path, rows: pa.Table) -> str:
    """Write a table as CSV and return its place."""
    pyarrow.csv.write_csv(rows, path)
    return str(path)


def command(*words: str) -> int:
    """Run a command here and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def trained(source: Any, folder: Path, **settings: Any) -> nw.Run:
    """Train a small network for an epoch."""
    layers = {} if "model" in settings else {"layers": ["Linear(4)", "ReLU()", "Linear()"]}
    given = {**layers, "epochs": 1, "test": False, "observers": [], **settings}
    return nw.train(source, run_dir=folder / "run", **given)


def notes(run: Any, data: Any) -> list[str]:
    """Return what a test on other rows says of rows that were trained on."""
    return [note for note in run.test(data).get("notes", []) if "trained or validated on" in note or "seen.npz" in note]


def test_some_train_rows_among_others_are_told(tmp_path: Path) -> None:
    rows = table()
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y")
    train = run.inputs.split.train[:60] if run.inputs is not None else []
    mixed = pa.concat_tables([table(40, seed=1), rows.take(train)])
    turned = mixed.select(["y", "c2", "c0", "c1"])  # columns go by their names
    (note,) = notes(nw.load(run.folder), written(tmp_path / "mixed.csv", turned))
    assert note.startswith("60 of these 100 rows have the inputs of a row that the run was trained or validated on (first: ")
    assert "mixed.csv:42)" in note
    held = rows.take(np.load(run.folder / "split.npz")["test"])
    assert notes(run, written(tmp_path / "held.csv", held)) == []
    assert notes(run, written(tmp_path / "new.csv", table(seed=2))) == []


def test_the_valid_rows_chose_the_epoch_and_count_too(tmp_path: Path) -> None:
    rows = table()
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y")
    valid = rows.take(np.load(run.folder / "split.npz")["valid"])
    (note,) = notes(run, written(tmp_path / "valid.csv", valid))
    assert note.startswith(f"{len(valid)} of these {len(valid)} rows")


def test_of_many_rows_some_tell_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST", 300)
    generator = np.random.default_rng(0)
    inputs, target = generator.normal(size=(3000, 4)).astype(np.float32), generator.integers(0, 2, 3000)
    run = trained((inputs, target), tmp_path)
    kept = np.load(run.folder / "seen.npz")
    assert len(kept["hashes"]) == 300
    turned = generator.permutation(3000)  # the run's own rows in another order, which no digest tells
    (note,) = notes(run, (inputs[turned], target[turned]))
    assert (told := re.match(r"about ([\d,]+) of these 3,000 rows", note)) is not None
    expected = len(np.load(run.folder / "split.npz")["train"]) + len(np.load(run.folder / "split.npz")["valid"])
    assert int(told[1].replace(",", "")) == expected
    fresh = generator.normal(size=(500, 4)).astype(np.float32)
    assert notes(run, (fresh, target[:500])) == []


def test_rows_that_are_equal_by_chance_are_no_news(tmp_path: Path) -> None:
    run = trained(written(tmp_path / "all.csv", table(levels=9)), tmp_path, target="y")
    twins, of = np.load(run.folder / "seen.npz")["twins"]
    assert 0.2 < twins / of < 0.6
    for seed in range(1, 6):
        assert notes(run, written(tmp_path / f"{seed}.csv", table(seed=seed, levels=9))) == []
    train = table(levels=9).take(np.load(run.folder / "split.npz")["train"])
    (note,) = notes(run, written(tmp_path / "train.csv", train))
    assert re.search(r" rows have .* validated on, where \d\d % would by chance \(first", note) is not None
    again = trained(written(tmp_path / "few.csv", table(levels=3)), tmp_path / "again", target="y")
    assert not (again.folder / "seen.npz").exists()  # nearly all rows repeat another


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("test", [0.0, 0.1])
def test_without_many_test_rows_chance_is_known_too(seed: int, test: float, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)

    def drawn(rows: int) -> tuple[Any, Any]:
        return generator.integers(0, 8, (rows, 3)), generator.integers(0, 2, rows)

    run = trained(drawn(120), tmp_path, settings=[f"data.split.test={test}", f"data.split.seed={seed}"])
    assert notes(run, drawn(1000)) == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int64])
def test_rows_are_known_in_another_dtype_and_order(dtype: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    inputs, target = generator.integers(0, 200, (90, 6)).astype(dtype), generator.integers(0, 2, 90)
    others = inputs[:, ::-1].copy()
    run = trained(({"p": inputs, "q": others}, target), tmp_path, model=(Both, {}), loss="CrossEntropyLoss()")
    train = np.load(run.folder / "split.npz")["train"]
    for other in (np.float64, np.float32, np.int64):
        given = {"q": others[train].astype(other), "p": inputs[train].astype(other)}, target[train]
        (note,) = notes(run, given)
        assert note.startswith(f"{len(train)} of these {len(train)} rows")


def test_duplicates_that_are_not_looked_for_are_not_kept(tmp_path: Path) -> None:
    run = trained(
        written(tmp_path / "all.csv", table(60)), tmp_path, target="y", settings=["checks.skip=['duplicate-rows']"]
    )
    assert not (run.folder / "seen.npz").exists()


def test_texts_are_known_by_their_letters(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def lines(count: int, letters: str) -> tuple[list[str], list[int]]:
        words = ["".join(generator.choice(list(letters), 12)) for _ in range(count)]
        return words, [int("a" in word[:6]) for word in words]

    texts, target = lines(120, "abcdef")
    source = written(tmp_path / "texts.csv", pa.table({"text": texts, "y": target}))
    layers = ["Embedding(embedding_dim=4)", "GRU(4)", "LastStep()", "Linear()"]
    run = trained(source, tmp_path, target="y", text="characters", layers=layers)
    train = np.load(run.folder / "split.npz")["train"][:30]
    others, answers = lines(30, "Zabcdef")  # a symbol before the others, which numbers them anew
    mixed = {"text": [*others, *(texts[row] for row in train)], "y": [*answers, *(target[row] for row in train)]}
    (note,) = notes(run, written(tmp_path / "mixed.csv", pa.table(mixed)))
    assert note.startswith("30 of these 60 rows")


def test_windows_share_their_steps_and_are_not_kept(tmp_path: Path) -> None:
    series = pa.table({"t": np.arange(200), "v": np.sin(np.arange(200) / 5)})
    written(tmp_path / "series.csv", series)
    run = trained(str(tmp_path / "series.csv"), tmp_path, target="v", window=8, layers=["GRU(4)", "LastStep()", "Linear()"])
    assert not (run.folder / "seen.npz").exists()


def test_a_member_of_an_ensemble_tells_for_all(tmp_path: Path) -> None:
    rows = table(120)
    found = nw.cross_validate(
        written(tmp_path / "all.csv", rows),
        target="y",
        layers=["Linear()"],
        epochs=1,
        folds=2,
        run_dir=tmp_path / "cv",
        observers=[],
    )
    part = written(tmp_path / "part.csv", rows.slice(0, 50))
    (note,) = notes(nw.load(found.folder), part)
    assert note.startswith("50 of these 50 rows have the inputs of a row that a member was trained")  # each by one of them


def test_each_member_reads_rows_by_its_own_categories(tmp_path: Path) -> None:
    runs = []
    for name, words in (("one", ["a", "b"]), ("two", ["c", "d"])):
        generator = np.random.default_rng(len(runs))
        rows = pa.table(
            {"n": generator.normal(size=80), "k": generator.choice(words, 80), "y": generator.integers(0, 2, 80)}
        )
        runs.append(
            trained(written(tmp_path / f"{name}.csv", rows), tmp_path / name, target="y", epochs=2, task="binary").folder
        )
    part = written(tmp_path / "part.csv", rows.take(np.load(runs[1] / "split.npz")["train"][:40]))
    for order in (runs, runs[::-1]):
        both = nw.ensemble(order, tmp_path / f"{order[0].parent.name}-first")
        (note,) = notes(both, part)
        assert note.startswith("40 of these 40 rows")


DAMAGED = {
    "another": {"hashes": np.arange(3)},
    "no number of twins": {"twins": np.array([1.0, np.inf])},
    "hardly a share": {"share": np.array([5e-324])},
    "turned": {"hashes": np.array([3, 2, 1], np.uint64)},
    "no hashes": {"hashes": np.array([1.0, np.inf])},
    "hashes of hashes": {"hashes": np.arange(4, dtype=np.uint64).reshape(2, 2)},
}


@pytest.mark.parametrize("how", ["gone", "cut off", *DAMAGED])
def test_without_its_hashes_a_run_is_tested_all_the_same(tmp_path: Path, how: str) -> None:
    run = trained(written(tmp_path / "all.csv", table(60)), tmp_path, target="y")
    path, part = run.folder / "seen.npz", written(tmp_path / "part.csv", table(60).slice(0, 30))
    if how == "gone":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    else:
        with np.load(path) as stored:
            np.savez(path, **{**stored, **DAMAGED[how]})
    found = notes(nw.load(run.folder), part)
    assert [("seen.npz: cannot be read" in note) for note in found] == [True] * (how != "gone")


def test_hashes_of_an_earlier_version_are_compared_as_they_were_made(tmp_path: Path) -> None:
    rows = pa.table({"t": 1_700_000_000 + np.arange(60) * 150, "y": np.arange(60.0)})
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y")
    assert run.inputs is not None
    read = np.concatenate([run.inputs.split.train, run.inputs.split.valid])
    once = contents_of(run.inputs.raw, run.inputs.preparation.encoder, read, units=False)[0]
    assert (once != contents_of(run.inputs.raw, run.inputs.preparation.encoder, read)[0]).any()
    with np.load(run.folder / "seen.npz") as stored:
        kept = {name: stored[name] for name in ("share", "twins")}
    np.savez(run.folder / "seen.npz", hashes=np.unique(once), **kept)
    (note,) = notes(nw.load(run.folder), written(tmp_path / "part.csv", rows.slice(0, 40)))
    assert "have the inputs of a row that the run was trained or validated on" in note


@pytest.mark.parametrize("form", ["table", "array", "whole numbers"])
def test_times_in_seconds_are_known_by_their_seconds(form: str, tmp_path: Path) -> None:
    times = 1_700_000_000 + np.arange(300) * 150  # float32 holds every 128th second
    y = np.sin(times / 4000)

    def rows(moved: int) -> Any:
        if form == "table":
            return written(tmp_path / f"{moved}.csv", pa.table({"t": times + moved, "y": y}))
        return (times + moved).reshape(-1, 1).astype(np.float64 if form == "array" else np.int64), y

    settings = {"target": "y"} if form == "table" else {}
    run = trained(rows(0), tmp_path, split={"test": 0.4}, **settings)
    assert notes(run, rows(20)) == []
    some = rows(0) if form != "table" else written(tmp_path / "part.csv", pa.table({"t": times[:200], "y": y[:200]}))
    (note,) = notes(run, some if form == "table" else (some[0][:200], y[:200]))
    assert "have the inputs of a row that the run was trained or validated on" in note


def test_arrays_stand_for_the_columns_of_a_table(tmp_path: Path) -> None:
    rows = table(200)
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y")
    cells = np.column_stack([rows[name].to_numpy() for name in ("c0", "c1", "c2")])
    given = cells, rows["y"].to_numpy(zero_copy_only=False)
    assert (
        run.test(given)["metrics"]
        == run.test(written(tmp_path / "turned.csv", rows.select(["y", "c1", "c2", "c0"])))["metrics"]
    )
    (note,) = notes(run, given)
    assert note.startswith(f"{run.record['split']['train'] + run.record['split']['valid']} of these 200 rows")
    with pytest.raises(nw.errors.DataError, match=r"expected numbers of shape \(rows, 3\) or a data frame"):
        run.test((cells[:, :2], given[1]))


def test_categories_that_were_not_seen_are_told_of_rows_to_test(tmp_path: Path) -> None:
    rows = pa.table({"n": np.arange(80) % 17, "k": ["a", "b"] * 40, "y": [0, 1, 1, 0] * 20})
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y", task="binary")
    other = pa.table({"n": [2.5, 3.5], "k": ["A", "b"], "y": [0, 1], "more": [1, 2]})
    found = run.test(written(tmp_path / "other.csv", other))["notes"]
    assert any("column 'k': a category not seen in training in 1 cell" in note for note in found)
    assert any("columns not used: 'more'" in note for note in found)


def test_a_file_that_is_written_in_another_way_is_read_as_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pa.table(
        {"n": np.round(np.random.default_rng(0).normal(size=80), 3), "m": np.arange(80) % 7, "y": ["no", "yes"] * 40}
    )
    run = trained(written(tmp_path / "all.csv", rows), tmp_path, target="y").folder
    lines = ["n;m;y", *(f"{row['n']};{row['m']};{row['y'].upper()}".replace(".", ",") for row in rows.to_pylist()[:20])]
    (tmp_path / "other.csv").write_text("\n".join(lines))
    how = ["data.decimal=,", "data.delimiter=;", 'data.labels={"YES" = "yes", "NO" = "no"}']
    plain = nw.load(run).test(written(tmp_path / "part.csv", rows.slice(0, 20)))
    assert nw.load(run, settings=how).test(str(tmp_path / "other.csv"))["metrics"] == plain["metrics"]
    words = [word for text in how for word in ("--set", text)]
    assert command("test", str(run), str(tmp_path / "other.csv"), "--json", *words) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == plain["metrics"]
    assert command("predict", str(run), str(tmp_path / "other.csv"), "-o", str(tmp_path / "out.csv"), *words) == 0
    found = pyarrow.csv.read_csv(tmp_path / "out.csv")["prediction"].to_pylist()
    assert found == nw.load(run).predict(rows.slice(0, 20).to_pandas()).tolist()
    second = trained(str(tmp_path / "all.csv"), tmp_path / "second", target="y", seed=1).folder
    both = nw.ensemble([run, second], tmp_path / "both")
    given = nw.load(both.folder, settings=how).predict_proba(str(tmp_path / "other.csv"))
    assert np.array_equal(given, both.predict_proba(rows.slice(0, 20).to_pandas()))
    with pytest.raises(
        nw.errors.ConfigError,
        match="training.epochs: it shaped the run; expected how another file is written: .*leave training",
    ):
        nw.load(run, settings=["training.epochs=2"])
    for found in (nw.load(run, settings="data.decimal=,"), nw.load(both.folder, settings=how)):  # one text is one setting
        with pytest.raises(
            nw.errors.ConfigError, match="data.decimal=,: it says how another file is written, and none came"
        ):
            found.test()
    assert not (run / "test.json").exists()
    assert command("test", str(run), "--set", "data.decimal=,") == 2
    assert "it says how another file is written, and none came" in capsys.readouterr().err
