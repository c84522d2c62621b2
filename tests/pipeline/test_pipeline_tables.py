"""A table without a network of its own: what is filled in, what is left alone, and that the promises hold for it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

import netwright as nw
from netwright.cli import main
from netwright.config.read import build_config, to_toml
from netwright.errors import ConfigError, DataError
from netwright.pipeline.bench import Bench, gather, prepare
from netwright.proofs.rerunning import verify_eject
from netwright.sources.tables import Table

RNG = np.random.default_rng(0)
WAVES = "PeriodicEmbeddings(dimension=16, frequencies=32, sigma=0.1, columns="


def prepared(**keywords: object) -> Bench:
    return prepare(*gather("sklearn:wine", [], keywords))


def chosen(bench: Bench) -> tuple[int, str, str, int, int]:
    """Return what a recipe fills: batch, numbers, optimizer, epochs, patience."""
    data, training = bench.config.data, bench.config.training
    assert data.preparation != "none"
    patience = 0 if training.early_stopping == "none" else training.early_stopping.patience  # type: ignore[union-attr]
    optimizer = training.optimizer.partition("(")[0]
    return data.batch_size, data.preparation.numbers, optimizer, training.epochs or 0, patience  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of numbers, one of them with gaps, categories, a truth and a date, and an amount to learn."""
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    lines = ["area,rooms,city,garage,sold,price"]
    for row in range(120):
        area, rooms = RNG.uniform(30, 200), "" if row % 9 == 0 else str(row % 7)
        city, garage = ("Paris", "Lyon", "Nice")[row % 3], ("yes", "no")[row % 2]
        lines.append(f"{area:.1f},{rooms},{city},{garage},19{row % 80 + 10}-05-01,{area * 3000 + row % 7:.0f}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return nw.train(str(table), target="price", steps=12, evaluation={"baselines": "none"}, run_dir=folder)


def test_a_constant_target_is_refused_but_for_code_of_ones_own_and_beside_another(tmp_path: Path) -> None:
    values = RNG.normal(size=(60, 2))
    same = np.full(60, 7.25)
    for storage in ("memory", "map"):
        path = tmp_path / f"{storage}.csv"
        path.write_text("\n".join(["a,b,y", *(f"{row[0]},{row[1]},7.25" for row in values)]))
        with pytest.raises(DataError, match=rf"{storage}.csv: target 'y' holds one value only \(7.25, 36 train rows\)"):
            prepare(*gather(str(path), [], {"target": "y", "storage": storage, "cache": str(tmp_path)}))
    short = {"epochs": 1, "evaluation": {"baselines": "none"}}
    both = np.stack([same, values[:, 0]], axis=1)
    assert nw.train(data=(values, both), run_dir=tmp_path / "both", **short).record["status"] == "done"
    own = torch.nn.Linear(2, 1)
    assert nw.train(data=(values, same), model=own, run_dir=tmp_path / "own", **short).record["status"] == "done"


def test_a_table_without_a_network_gets_the_recipe_and_the_resolved_config_says_so() -> None:
    bench = prepared()
    assert chosen(bench) == (32, "quantile", "AdamW", 1000, 100)
    assert (bench.config.model.layers or [])[0] == f"{WAVES}13)"
    text = to_toml(bench.config)
    for told in ('numbers = "quantile"', "batch_size = 32", "patience = 100", "PeriodicEmbeddings("):
        assert told in text


def test_what_the_user_has_written_stays() -> None:
    written = prepared(
        batch_size=7,
        optimizer="SGD(lr=0.1)",
        epochs=3,
        preparation={"numbers": "standardize"},
        early_stopping={"patience": 2},
    )
    assert chosen(written) == (7, "standardize", "SGD", 3, 2)
    assert chosen(prepared(preparation={"rare": 2}, epochs=5)) == (32, "quantile", "AdamW", 5, 0)
    assert chosen(prepared(early_stopping="none")) == (32, "quantile", "AdamW", 200, 0)
    assert chosen(prepared(early_stopping={"patience": 3})) == (32, "quantile", "AdamW", 1000, 3)
    assert prepared(preparation="none").config.data.preparation == "none"


def test_written_layers_or_a_module_bring_nothing_of_the_recipe() -> None:
    before = (64, "standardize", "Adam", 200, 20)
    assert chosen(prepared(layers=["Linear(8)", "ReLU()", "Linear()"])) == before
    net = torch.nn.Linear(13, 3)
    assert chosen(prepare(*gather("sklearn:wine", [], {}), module=net)) == before


def test_without_valid_rows_nothing_ends_a_run_early_and_it_is_not_made_longer() -> None:
    assert chosen(prepared(split={"valid": 0})) == (32, "quantile", "AdamW", 200, 0)


def test_arrays_of_columns_are_tables_too_but_for_their_ranks() -> None:
    X, y = RNG.normal(size=(100, 4)).astype(np.float32), RNG.normal(size=100)
    bench = prepare(*gather(None, [], {}), data=(X, y))
    assert chosen(bench) == (32, "standardize", "AdamW", 1000, 100)
    assert bench.config.model.layers == [
        f"{WAVES}4)", "Linear(in_features=64, out_features=128)", "SiLU()", "Linear(in_features=128, out_features=128)",
        "SiLU()", "Linear(in_features=128, out_features=1)",
    ]  # fmt: skip
    images = prepare(*gather(None, [], {}), data=(RNG.normal(size=(60, 1, 6, 6)).astype(np.float32), y[:60]))
    assert chosen(images) == (16, "standardize", "AdamW", 60, 0)


def test_numbers_and_truths_are_embedded_and_gaps_dates_and_categories_pass(run: nw.Run) -> None:
    texts = run.config.model.layers or []
    assert texts[:2] == ["EmbedColumns(levels=[4], dimensions=[2])", f"{WAVES}3)"]
    assert run.record["engine"] == "captured"
    assert "Dropout" not in "".join(texts)


def test_the_resolved_config_of_the_default_gives_the_same_bits(run: nw.Run, tmp_path: Path) -> None:
    again = nw.train(run.folder / "config.toml", run_dir=tmp_path / "again", test=False)
    eager = nw.train(run.folder / "config.toml", engine="eager", lanes=1, run_dir=tmp_path / "eager", test=False)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
        assert torch.equal(value, eager.model.state_dict()[name]), name


def test_the_default_ejects_to_a_script_with_the_same_bits(run: nw.Run) -> None:
    text = nw.eject(run)
    assert "class PeriodicEmbeddings(nn.Module):" in text
    assert "import math" in text
    assert verify_eject(run.folder).held


def test_a_config_without_numbers_is_told_what_to_leave_out() -> None:
    config = build_config(
        {"data": {"source": "sklearn:wine"}, "model": {"layers": ["PeriodicEmbeddings(columns=99)", "Linear()"]}}
    )
    with pytest.raises(ConfigError, match="columns=99 came; expected 1 to 13"):
        prepare(config, "wine")


def test_one_argument_of_the_optimizer_nobody_wrote_leaves_the_rest_of_it(tmp_path: Path) -> None:
    def optimizer(settings: list[str], **keywords: object) -> str:
        return prepare(*gather("sklearn:wine", settings, keywords)).config.training.optimizer

    assert optimizer(["training.optimizer.lr=0.01"]) == "AdamW(lr=0.01, fused=True)"
    both = ["training.optimizer.weight_decay=0.1", "training.optimizer.betas=[0.8, 0.9]"]
    assert optimizer(both) == "AdamW(lr=0.001, betas=[0.8, 0.9], weight_decay=0.1, fused=True)"
    assert optimizer([], optimizer="Default(0.02)") == "AdamW(lr=0.02, fused=True)"
    assert optimizer(["training.optimizer.lr=0.01"], layers=["Linear()"]) == "Adam(lr=0.01, fused=True)"
    assert optimizer(["training.optimizer.lr=0.01"], optimizer="SGD(lr=1.0)") == "SGD(lr=0.01, fused=True)"
    with pytest.raises(ConfigError, match=r"the default optimizer \(Adam or AdamW\) has no argument 'momentum'"):
        optimizer(["training.optimizer.momentum=0.9"])


def test_a_first_line_that_looks_like_data_is_told(tmp_path: Path) -> None:
    lines = [f"{row % 7}.{row % 9},{row % 5}.5,{'ab'[row % 2]}" for row in range(60)]
    path = tmp_path / "bare.csv"
    path.write_text("\n".join(lines) + "\n")
    told = "the first line looks like data (0.0, 0.5, a), and was read as names; for a file without names set data.header = false"
    with pytest.raises(ConfigError, match="data.target: nothing came") as problem:
        prepare(*gather(str(path), [], {}))
    assert told in str(problem.value)
    with pytest.raises(DataError, match="target column 'kind' is missing") as missing:
        prepare(*gather(str(path), [], {"target": "kind"}))
    assert told in str(missing.value)
    assert any(told in note for note in prepare(*gather(str(path), [], {"target": "a"})).inputs.notes)
    for keywords in ({"header": False, "target": "column_3"}, {"columns": ["1", "2", "kind"], "target": "kind"}):
        assert not any("looks like data" in note for note in prepare(*gather(str(path), [], keywords)).inputs.notes)


def test_a_joined_table_tells_rows_without_a_match_in_training_tests_and_predictions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    site = np.where(np.arange(80) == 7, np.nan, np.arange(80.0) % 8)
    heights = np.where(np.isnan(site), 0, site) > 3
    frame = pa.table({"site": pa.array(site, from_pandas=True), "x": generator.normal(size=80), "y": heights})
    pa.parquet.write_table(frame, tmp_path / "t.parquet")
    (tmp_path / "sites.csv").write_text("site,height\n" + "".join(f"{place},{place * 100}\n" for place in range(8)))
    told: list[str] = []
    run = nw.train(tmp_path / "t.parquet", target="y", join=str(tmp_path / "sites.csv"), ignore=["site"], epochs=1,
                   run_dir=tmp_path / "run", observers=[lambda record: told.append(str(record))])  # fmt: skip
    assert any("data.join: 1 row of 80 without a match in" in line for line in told)
    assert run.inputs is not None
    assert isinstance(run.inputs.raw, Table)
    assert run.inputs.raw.columns["height"].null_count == 1
    new = pa.table({"site": [9.0], "x": [0.5]})
    assert len(run.predict(new)) == 1
    pa.parquet.write_table(new, tmp_path / "new.parquet")
    assert any("data.join: 1 row of 1 without a match" in line for line in run.predict_file(tmp_path / "new.parquet")[1])
    tested = run.test(frame.slice(4, 8))
    assert any("data.join: 1 row of 8 without a match" in line for line in tested["notes"])


def test_parts_may_be_lists_of_dictionaries(tmp_path: Path) -> None:
    rows = [{"a": place % 7 / 7, "b": "xy"[place % 2], "y": place % 2} for place in range(90)]
    parts = {"train": rows[:60], "valid": rows[60:75], "test": rows[75:]}
    run = nw.train(data=parts, target="y", epochs=2, run_dir=tmp_path / "run")
    assert (len(run.predict(rows[:2])), len(run.predict(tuple(rows[:2]))), len(run.predict(rows[0]))) == (2, 2, 1)


def test_cells_of_new_rows_that_training_knows_nothing_of_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"hours": rng.integers(1, 99, 300), "town": rng.choice(["a", "b"], 300), "gap": rng.normal(size=300)}
    )
    frame.loc[3, "gap"] = np.nan
    frame["y"] = rng.integers(0, 2, 300)
    run = nw.train(frame, target="y", epochs=1, test=False, observers=[], run_dir=tmp_path / "run")
    again = nw.load(run.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.predict(frame.head(20)).tolist() == run.predict(frame.head(20)).tolist()
        again.predict(
            frame.assign(hours=frame.hours + 40, gap=np.nan)
        )  # within half of what training had, and gaps as there
    new = frame.head(20).assign(hours=lambda found: found.hours * 60.0, town="c")
    new.loc[0, "hours"] = np.nan
    told = [
        "column 'town': a category not seen in training in 20 cells; it counts as unknown",
        r"column 'hours': 1\d cells far beyond what training had \(1 to 98\), perhaps in another unit",
        "column 'hours': 1 cell missing, and none was in training; filled with the mean",
    ]
    numbers = frame.head(20).drop(columns=["town", "y"])
    plain = nw.train(frame.drop(columns="town"), target="y", epochs=1, test=False, observers=[], run_dir=tmp_path / "plain")
    with pytest.warns(nw.FindingWarning, match="column 'hours': 20 cells far beyond"):
        plain.predict((numbers.assign(hours=9000)).to_numpy())  # an array stands for the columns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain.predict(numbers.assign(hours=[9000, *numbers.hours[1:]]))  # one of 20 may lie in a tail
    for call in (again.predict, again.predict_proba):
        with pytest.warns(nw.FindingWarning) as found:
            call(new)
        assert [bool(re.match(line, str(one.message))) for line, one in zip(told, found, strict=True)] == [True] * 3
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(SystemExit):
        main(["predict", str(run.folder), str(tmp_path / "new.csv"), "-o", str(tmp_path / "out.csv")])
    printed = capsys.readouterr().err
    assert all(re.search(line, printed) for line in told)


def test_texts_of_symbols_that_were_not_seen_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(["good", "bad", "plain"], 4)) for _ in range(80)]
    frame = pd.DataFrame({"text": lines, "y": rng.integers(0, 2, 80)})
    run = nw.train(frame, target="y", text="words", epochs=1, test=False, observers=[], run_dir=tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.predict(pd.DataFrame({"text": ["good plain strange"]}))
    told = "text: 3 of 5 symbols were not seen in training and count as unknown; 1 row of 2 hold nothing else"
    with pytest.warns(nw.FindingWarning, match=told):
        run.predict(pd.DataFrame({"text": ["one two three", "good bad"]}))


def test_the_least_and_the_greatest_of_a_table_in_a_map_are_those_of_all_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[77_777] = 50.0
    pa.csv.write_csv(pa.table({"a": values, "y": values > 0}), tmp_path / "rows.csv")
    spans = []
    for storage in ("memory", "map"):
        run = nw.train(
            str(tmp_path / "rows.csv"),
            target="y",
            storage=storage,
            split={"valid": 0, "test": 0},
            steps=1,
            test=False,
            skip=["all"],
            observers=[],
            run_dir=tmp_path / storage,
        )
        encoder = nw.load(run.folder).program.preparation.encoder
        assert encoder is not None
        spans.append(encoder.used[0].span)
    assert spans[0] == spans[1] == (values.min(), 50.0)
