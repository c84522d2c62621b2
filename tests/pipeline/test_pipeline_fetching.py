"""A run on files at an address: each is fetched once by what trains, and nothing is written by what only looks."""

from __future__ import annotations

import json
from pathlib import Path

import counted
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError

SHORT = {
    "layers": ["Linear(4)", "Tanh()", "Linear()"],
    "epochs": 2,
    "batch_size": 16,
    "target": "y",
    "optimizer": "SGD(lr=0.1)",
}


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three shards of a table at an address, and a working folder of their own."""
    counted.register()
    folder, working = tmp_path / "remote", tmp_path / "working"
    folder.mkdir()
    working.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        values = generator.normal(size=(40, 2))
        rows = pa.table({"a": values[:, 0], "b": values[:, 1], "y": values @ [1.0, -2.0]})
        pa.csv.write_csv(rows, folder / f"part-{number}.csv")
    monkeypatch.chdir(working)
    return folder


def written() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def weights(run: Path) -> bytes:
    return (run / "model" / "last.safetensors").read_bytes()


@pytest.mark.parametrize("storage", ["memory", "map"])
def test_each_shard_is_fetched_once_for_a_run_and_never_for_a_resume_or_a_test(storage: str, remote: Path) -> None:
    name, told = counted.address(remote / "part-*.csv"), []
    run = nw.train(name, **SHORT, storage=storage, run_dir="far", observers=[told.append])
    here = nw.train(str(remote / "part-*.csv"), **SHORT, storage=storage, run_dir="near")
    assert [line["name"] for line in counted.opened(remote)] == ["part-0.csv", "part-1.csv", "part-2.csv"]
    assert weights(run.folder) == weights(here.folder)
    record, other = (json.loads((folder / "run.json").read_text())["data"] for folder in (run.folder, here.folder))
    assert record["digest"] == other["digest"]
    assert record["source"] == name
    assert f'source = "{name}"' in (run.folder / "config.toml").read_text()
    assert any("3 files at an address" in str(line) and "3 fetched now" in str(line) for line in told)
    longer = nw.resume(run.folder, settings=["training.epochs=4"])
    assert weights(longer.folder) == weights(nw.resume(here.folder, settings=["training.epochs=4"]).folder)
    nw.load(run.folder).test()
    nw.train(str(run.folder / "config.toml"), run_dir="again")
    assert len(counted.opened(remote)) == 3


def test_a_run_does_not_go_on_with_a_file_that_has_changed(remote: Path) -> None:
    run = nw.train(counted.address(remote / "part-*.csv"), **SHORT, run_dir="run")
    with (remote / "part-1.csv").open("a") as shard:
        shard.write("1,2,3\n")
    with pytest.raises(CheckpointError, match="the data changed since the run began"):
        nw.resume(run.folder, settings=["training.epochs=4"])
    assert [line["name"] for line in counted.opened(remote)][3:] == ["part-1.csv"]


def test_what_only_looks_writes_nothing(remote: Path) -> None:
    name = counted.address(remote / "part-0.csv")
    nw.check(name, **SHORT)
    nw.split(name, target="y")
    nw.draft(name, target="y")
    assert written() == []
    run = nw.train(str(remote / "part-0.csv"), **SHORT, run_dir="run")
    before = written()
    run.predict(counted.address(remote / "part-1.csv"))
    assert written() == before
    assert ".netwright-cache" not in before


def test_a_working_folder_without_a_cache_is_read_from_the_address(remote: Path) -> None:
    Path(".netwright-cache").write_text("no folder")
    run = nw.train(counted.address(remote / "part-0.csv"), **SHORT, run_dir="run")
    assert weights(run.folder) == weights(nw.train(str(remote / "part-0.csv"), **SHORT, run_dir="near").folder)
    with pytest.raises(ConfigError, match='"map" came; expected Parquet or delimited text files'):
        nw.train(counted.address(remote / "part-0.csv"), **SHORT, storage="map", run_dir="other")


def test_images_at_an_address_are_fetched_once(remote: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for place in range(12):
        folder = remote / "photos" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(generator.integers(0, 255, (6, 6), dtype=np.uint8)).save(folder / f"{place:02}.png")
    run = nw.train(counted.address(remote / "photos"), layers=["Flatten()", "Linear()"], epochs=1, run_dir="run")
    names = [line["name"] for kind in "ab" for line in counted.opened(remote / "photos" / kind)]
    assert sorted(names) == [f"{place:02}.png" for place in range(12)]
    assert run.history


def test_a_table_that_is_joined_and_files_of_sequences_are_fetched_once(remote: Path) -> None:
    (remote / "more.csv").write_text(
        "a,c\n" + "".join(f"{value},{n}\n" for n, value in enumerate(column(remote / "part-0.csv")))
    )
    nw.train(counted.address(remote / "part-0.csv"), **SHORT, join=counted.address(remote / "more.csv"), run_dir="run")
    assert sorted(line["name"] for line in counted.opened(remote)) == ["more.csv", "part-0.csv"]


def column(path: Path) -> list[str]:
    """Return the first cells of a table as they are written."""
    return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]


def test_a_fetch_that_breaks_off_is_one_line_and_nothing_is_written(
    remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (remote / counted.BROKEN).touch()
    with pytest.raises(SystemExit) as ended:
        main(["train", counted.address(remote / "part-0.csv"), "--target", "y"])
    assert ended.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "part-0.csv: 10 bytes came" in line
    assert "the fetch broke off; start again" in line
    assert written() == [".netwright-cache"]
    assert list(Path(".netwright-cache/fetched").iterdir()) == []


@pytest.mark.parametrize("population", [False, True])
def test_the_runs_of_several_seeds_read_what_was_fetched_once(population: bool, remote: Path) -> None:
    (remote / counted.SILENT).touch()
    nw.repeat(counted.address(remote / "part-0.csv"), **SHORT, seeds=2, population=population, run_dir="seeds")
    assert len(counted.opened(remote)) == 1
