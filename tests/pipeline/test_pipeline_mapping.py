"""Rows in a map: the same rows, split, preparation and errors as in memory; made once, never half, never stale."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

import netwright as nw
from netwright.data import ingest
from netwright.data.mapped import Mapped
from netwright.engine.eager import EagerEngine
from netwright.errors import ConfigError, DataError, NetwrightError, ResourceError
from netwright.pipeline import job
from netwright.pipeline.bench import Bench
from netwright.pipeline.resolving import plan_of
from netwright.rows import mapping, new_rows, reading
from netwright.sources import blocks
from netwright.training.journal import Journal
from netwright.training.loop import Progress, train
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.signals import StopRequest
from netwright.verbs import gather_all

ROWS = 4000


def table(rows: int = ROWS) -> pa.Table:
    """Return numbers with holes, whole numbers, categories with an unseen one and holes, truth values and dates."""
    generator = np.random.default_rng(0)
    size, missing = generator.normal(1e6, 10, rows), generator.random(rows) < 0.1
    colour = generator.choice(["red", "green", "blue"], rows).astype(object)
    colour[generator.random(rows) < 0.05] = None
    return pa.table(
        {
            "size": pa.array(size, mask=missing),
            "count": generator.integers(0, 9, rows),
            "day": pa.array(np.datetime64("2020-01-01") + generator.integers(0, 900, rows)),
            "colour": pa.array(colour, pa.string()),
            "flag": generator.random(rows) < 0.3,
            "one": np.ones(rows),
            "price": (size - 1e6) * 3 + generator.normal(0, 2, rows),
        }
    )


@pytest.fixture(params=[".csv", ".parquet"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is read in several blocks."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    return written(tmp_path / f"t{request.param}", table())


def written(path: Path, rows: pa.Table) -> Path:
    if path.suffix == ".csv":
        pa.csv.write_csv(rows, path)
    else:
        pa.parquet.write_table(rows, path, row_group_size=900)
    return path


def bench(source: Path, storage: str, *settings: str, **keywords: Any) -> Bench:
    told = [f"data.storage={storage}", f"data.cache={source.parent / 'cache'}", *settings]
    keywords = {"target": "price", "epochs": 2, **keywords}
    return gather_all(str(source), None, None, None, (), told, keywords).bench()


def features(made: Bench) -> np.ndarray[Any, Any]:
    return made.examples.inputs["table"].numpy()


@pytest.mark.parametrize(
    "settings", [(), ("data.preparation.numbers=quantile",), ("data.preparation=none",), ("data.preparation.rare=1200",)]
)
def test_rows_split_and_preparation_are_those_of_rows_in_memory(source: Path, settings: tuple[str, ...]) -> None:
    memory, mapped = bench(source, "memory", *settings), bench(source, "map", *settings)
    assert isinstance(mapped.inputs.raw, Mapped)
    assert mapped.inputs.split.digest() == memory.inputs.split.digest()
    np.testing.assert_array_equal(mapped.inputs.target.values, memory.inputs.target.values)
    assert mapped.inputs.preparation.to_json() == memory.inputs.preparation.to_json()
    for name, value in memory.inputs.preparation.modules.state_dict().items():
        found = mapped.inputs.preparation.modules.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(features(mapped), features(memory), rtol=1e-5, atol=1e-6)


class Unsaved:
    """Keeps no checkpoint."""

    def due(self, step: int) -> bool:
        return False

    def steps_until(self, step: int, most: int) -> int:
        return most

    def save(self, progress: Progress) -> None:
        assert progress.ended is not None


def trained(made: Bench) -> dict[str, torch.Tensor]:
    """Train as the command does, in the order of mapped rows."""
    plan = dataclasses.replace(plan_of(made.config, made.inputs), mapped=True)
    optimizer = make_optimizer(resolve_optimizer(made.config.training.optimizer, made.device), made.network.module)
    engine = EagerEngine(made.network.module, made.network.task.loss_function, optimizer)
    torch.manual_seed(0)
    train(engine, made.examples, plan, None, Journal(None, []), Unsaved(), lambda _: None, StopRequest(), Progress())
    return engine.model.state_dict()


def test_in_the_same_order_a_table_of_one_block_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    source = written(tmp_path / "t.parquet", table())
    memory, mapped = trained(bench(source, "memory")), trained(bench(source, "map"))
    assert all(torch.equal(memory[name], mapped[name]) for name in memory)


def test_a_run_in_a_map_tests_predicts_and_reports_as_one_in_memory(source: Path, tmp_path: Path) -> None:
    runs = [
        nw.train(
            str(source),
            target="price",
            epochs=15,
            run_dir=tmp_path / storage,
            settings=[f"data.storage={storage}", f"data.cache={tmp_path / 'cache'}"],
        )
        for storage in ("memory", "map")
    ]
    figures = [run.tested["metrics"]["rmse"]["value"] for run in runs if run.tested]
    assert figures[1] == pytest.approx(figures[0], rel=0.1)
    notes = " ".join(runs[1].record["notes"])
    assert "rows are read from a map of" in notes
    assert "order: a full shuffle" in notes
    assert runs[1].record["data"]["rows"] == ROWS
    loaded = nw.load(tmp_path / "map")
    again = loaded.test()
    assert again["metrics"] == (runs[1].tested or {})["metrics"]
    assert np.array_equal(loaded.predict(str(source)), runs[1].predict(str(source)))
    assert not list((tmp_path / "cache").glob(".*"))
    rerun = nw.train(str(tmp_path / "map" / "config.toml"), run_dir=tmp_path / "again")
    weights, others = runs[1].model.state_dict(), rerun.model.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert "made before, the source is unchanged" in " ".join(rerun.record["notes"])


def test_classes_groups_and_time_divide_as_in_memory(source: Path) -> None:
    for settings in (
        {"target": "colour", "missing_values": ["none"], "labels": {"": "none"}, "split": {"group": "count"}},
        {"target": "flag", "split": {"time": "day"}},
    ):
        if source.suffix == ".parquet" and settings["target"] == "colour":
            continue  # nulls are missing targets there
        memory, mapped = bench(source, "memory", **settings), bench(source, "map", **settings)
        assert mapped.inputs.split.digest() == memory.inputs.split.digest()
        assert mapped.inputs.target.classes == memory.inputs.target.classes
        np.testing.assert_allclose(features(mapped), features(memory), rtol=1e-5, atol=1e-6)


def test_files_of_ones_own_are_mapped_as_one(tmp_path: Path) -> None:
    rows = table()
    train_file, test_file = (
        written(tmp_path / "a.csv", rows.slice(0, 3000)),
        written(tmp_path / "b.csv", rows.slice(3000)),
    )
    made = [
        gather_all(
            {"data": {"train": str(train_file), "test": str(test_file), "target": "price", "cache": str(tmp_path / "c")}},
            None, None, None, (), [f"data.storage={storage}"], {"epochs": 1},
        ).bench()
        for storage in ("memory", "map")
    ]  # fmt: skip
    assert made[0].inputs.split.digest() == made[1].inputs.split.digest()
    np.testing.assert_allclose(features(made[1]), features(made[0]), rtol=1e-5, atol=1e-6)


def entries(source: Path) -> list[str]:
    return sorted(path.name for path in (source.parent / "cache").iterdir())


def test_a_map_is_made_once_and_another_for_other_preparation_or_rows(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench(source, "map")
    first = entries(source)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "write_rows", None)
        bench(source, "map", "data.batch_size=7", "training.seed=4")
    assert entries(source) == first
    bench(source, "map", "data.preparation.numbers=none")
    bench(source, "map", "data.split.seed=1")
    bench(source, "map", "model.layers=['Linear()']")  # one-hot instead of codes
    assert len(entries(source)) == 4


def test_a_changed_source_gets_a_new_map_and_is_told(source: Path) -> None:
    before = features(bench(source, "map")).copy()
    rows = table()
    written(source, rows.set_column(1, "count", pa.array(np.arange(ROWS) % 5)))
    changed = bench(source, "map")
    assert any("has changed since" in note for note in changed.inputs.notes)
    assert len(entries(source)) == 2
    assert not np.array_equal(features(changed), before)


def test_a_source_that_changes_while_it_is_read_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ingest.write_rows

    def touched(*arguments: Any) -> Any:
        found = real(*arguments)
        os.utime(source, ns=(1, 1))
        return found

    monkeypatch.setattr(ingest, "write_rows", touched)
    with pytest.raises(DataError, match=r"changed while it was read; expected a file at rest; start again$"):
        bench(source, "map")
    assert entries(source) == []


def test_a_map_that_a_kill_cut_off_is_never_used(tmp_path: Path) -> None:
    source = written(tmp_path / "t.parquet", table())
    script = f"""
import os
import netwright as nw
from netwright import files
whole = files.write_json
files.write_json = lambda path, value: os._exit(9) if path.name == "about.json" else whole(path, value)
nw.train({str(source)!r}, target="price", epochs=1, run_dir={str(tmp_path / "run")!r},
         settings=["data.storage=map", "data.cache={tmp_path / "cache"}"])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=tmp_path).returncode == 9
    left = sorted(entries(source))
    assert [(name[:7], name.rpartition(".")[2]) for name in left] == [(".table-", "tmp"), (".table-", "lock")]
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (1, 1))
    os.utime(tmp_path / "cache" / left[0], (1, 1))
    mapped = bench(source, "map")
    assert not set(left) & set(entries(source))  # the lock is taken over; an hour later the rest is swept away
    np.testing.assert_array_equal(features(mapped), features(bench(source, "memory")))


def test_a_damaged_map_is_named(source: Path) -> None:
    bench(source, "map")
    folder = source.parent / "cache" / entries(source)[0]
    shutil.copy(folder / mapping.ABOUT, folder / ingest.ROWS)
    with pytest.raises(
        ResourceError, match=r"rows\.npy: cannot be mapped \(.*\); expected an array file; delete its folder$"
    ):
        bench(source, "map")
    (folder / mapping.ABOUT).write_text("{}")
    with pytest.raises(ResourceError, match=r"cannot be read \('preparation'\); expected a map; delete the folder$"):
        bench(source, "map")


def error_of(source: Path, storage: str, *settings: str, **keywords: Any) -> NetwrightError:
    with pytest.raises(NetwrightError) as caught:
        bench(source, storage, *settings, **keywords)
    return caught.value


@pytest.mark.parametrize("row", [5, 3900])
@pytest.mark.parametrize(("column", "cell"), [("size", "12x"), ("size", "inf"), ("day", "2020-13-44"), ("price", "")])
def test_a_bad_cell_is_named_as_in_memory(
    row: int, column: str, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    source = written(tmp_path / "t.csv", table())
    lines = source.read_text().splitlines()
    cells = lines[row + 1].split(",")
    cells[table().column_names.index(column)] = cell
    lines[row + 1] = ",".join(cells)
    source.write_text("\n".join(lines) + "\n")
    told = error_of(source, "map")
    assert str(told) == str(error_of(source, "memory"))
    assert f"t.csv:{row + 2}" in str(told)
    assert isinstance(told, DataError)
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize(
    "keywords",
    [
        {"target": "prize"},
        {"target": None},
        {"split": {"group": "clinic"}},
        {"split": {"time": "hour"}},
        {"inputs": ["size", "wight"]},
        {"ignore": ["wight"]},
        {"inputs": ["size", "price"]},
        {"kinds": {"wight": "number"}},
        {"missing": "error"},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused_as_in_memory(source: Path, keywords: dict[str, Any]) -> None:
    assert str(error_of(source, "map", **keywords)) == str(error_of(source, "memory", **keywords))


def test_a_column_that_is_empty_at_first_and_filled_later_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "FIRST", 100)
    rows = table()
    late = pa.array([None] * 2000 + [1.5] * 2000)
    source = written(tmp_path / "t.parquet", rows.append_column("late", late))
    with pytest.raises(
        DataError, match=r"^t\.parquet: row \d+: column 'late': 1\.5 came; it is empty in the first 100 train rows"
    ):
        bench(source, "map", split={"in_order": True})
    assert "late" in bench(source, "map", split={"in_order": True}, kinds={"late": "number"}).inputs.raw.names


def test_levels_and_missing_cells_beyond_the_first_rows_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "FIRST", 50)
    source = written(tmp_path / "t.parquet", table())
    memory, mapped = bench(source, "memory"), bench(source, "map")
    assert mapped.inputs.preparation.to_json() == memory.inputs.preparation.to_json()
    assert "column kinds are those of the first 50 train rows" in mapped.inputs.notes


def test_quantiles_of_a_drawn_sample_are_near_those_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SAMPLED", 1500)
    source = written(tmp_path / "t.parquet", table(10_000))
    memory, mapped = (bench(source, storage, "data.preparation.numbers=quantile") for storage in ("memory", "map"))
    apart = np.abs(features(mapped)[:, 0] - features(memory)[:, 0])
    assert 0 < apart.mean() < 0.1


def test_a_table_goes_into_a_map_by_its_size(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "free_share", lambda: 10**12)
    monkeypatch.chdir(source.parent)
    made = gather_all(str(source), None, None, None, (), (), {"target": "price", "epochs": 1}).bench()
    assert not isinstance(made.inputs.raw, Mapped)
    assert made.config.data.storage == "memory"
    monkeypatch.setattr(reading, "free_share", lambda: 1_000_000)
    made = gather_all(str(source), None, None, None, (), (), {"target": "price", "epochs": 1}).bench()
    assert isinstance(made.inputs.raw, Mapped)
    assert made.config.data.storage == "map"
    assert made.config.data.cache == str(source.parent / ".netwright-cache")
    assert any("more than a quarter of the 0.0 GB of free memory" in note for note in made.inputs.notes)


def test_a_map_too_large_for_memory_is_shuffled_in_windows(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "free_memory", lambda: 50_000)
    monkeypatch.setattr("netwright.data.order.SMALLEST_BLOCK", 400)
    run = nw.train(
        str(source),
        target="price",
        epochs=2,
        run_dir=tmp_path / "run",
        settings=["data.storage=map", f"data.cache={tmp_path / 'cache'}"],
    )
    shuffle = run.config.data.shuffle
    assert isinstance(shuffle, list)
    assert any(f"blocks of {shuffle[0]} neighbouring rows" in note for note in run.record["notes"])
    monkeypatch.undo()
    rerun = nw.train(str(tmp_path / "run" / "config.toml"), run_dir=tmp_path / "again")
    weights, others = run.model.state_dict(), rerun.model.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_file_too_large_for_memory_is_predicted_block_by_block(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nw.train(str(source), target="price", epochs=1, run_dir=tmp_path / "run", ignore=["one"])
    rows = table().drop_columns(["price"])
    other = written(tmp_path / f"new{source.suffix}", rows.set_column(3, "colour", pa.array(["violet"] * ROWS)))
    whole, remarks, count = run.predict_file(str(other))
    monkeypatch.setattr(reading, "free_share", lambda: 1000)
    monkeypatch.setattr(new_rows, "read", lambda config, program, rows: rows if not isinstance(rows, str) else None)
    found, told, number = run.predict_file(str(other))
    assert (told, number) == (remarks, count) == (told, ROWS)
    assert told[0].startswith("column 'colour': a category not seen in training in 4,000 cells")
    np.testing.assert_allclose(found["prediction"], whole["prediction"], rtol=1e-6)


def test_another_value_of_a_column_that_was_constant_in_training_is_told_as_in_memory(source: Path, tmp_path: Path) -> None:
    other = written(
        tmp_path / f"new{source.suffix}", table().drop_columns(["one"]).append_column("one", pa.array([2.0] * ROWS))
    )
    for storage in ("memory", "map"):
        run = nw.train(str(source), target="price", epochs=1, run_dir=tmp_path / storage, storage=storage)
        (remark,) = run.predict_file(str(other))[1]
        assert remark.startswith("column 'one': another value than 1, the only one in training, in 4,000 cells;")


def test_what_cannot_be_read_in_blocks_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": 1, "price": 2}) + "\n")
    with pytest.raises(ConfigError, match=r'^data\.storage: "map" came; expected Parquet or delimited text files'):
        bench(tmp_path / "t.jsonl", "map")


def test_too_little_room_on_the_disk_is_told_before_writing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.files.room", lambda folder: 1000)
    with pytest.raises(
        ResourceError, match=r"0\.0 GB free; the map of 4000 rows takes 0\.0 GB; set data\.cache to a folder"
    ):
        bench(source, "map")
    assert entries(source) == []


def test_validation_in_pieces_gives_the_figures_of_all_rows(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in ("price", "flag"):
        whole = nw.train(str(source), target=target, epochs=2, run_dir=tmp_path / f"{target}-whole", test=False)
        with monkeypatch.context() as patch:
            patch.setattr(job, "AT_ONCE", 300)
            pieces = nw.train(str(source), target=target, epochs=2, run_dir=tmp_path / f"{target}-pieces", test=False)
        for one, other in zip(whole.history, pieces.history, strict=True):
            figures = [name for name in one if name.startswith("valid_") and name != "valid_seconds"]
            assert len(figures) >= 2
            assert [other[name] for name in figures] == pytest.approx([one[name] for name in figures], rel=1e-6)
