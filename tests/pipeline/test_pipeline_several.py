"""Folders of several runs are gone on with whatever memory is free: what a machine chose for a run holds for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import netwright as nw
from netwright.config.data_schema import DataConfig
from netwright.errors import CheckpointError
from netwright.pipeline import job
from netwright.runfolder.folder import read_config
from netwright.sources import blocks, cache, memory

PLENTY, LITTLE, LESS = 10**7, 100, 60  # kB
SHORT: dict[str, Any] = {"layers": ["Linear()"], "epochs": 1, "settings": ["evaluation.importance=false"]}
Free = Callable[[int], None]


@pytest.fixture
def free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Free:
    """Let the system say how many kB are free."""
    told = tmp_path / "meminfo"
    monkeypatch.setattr(memory, "MEMINFO", told)
    monkeypatch.setattr(memory, "GROUP", tmp_path / "none")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("netwright.data.order.SMALLEST_BLOCK", 1 << 11)
    monkeypatch.chdir(tmp_path)

    def say(kilobytes: int) -> None:
        told.write_text(f"MemAvailable: {kilobytes} kB\n")

    return say


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A table that takes more than a quarter, and in a map more than half, of little memory."""
    rows = np.random.default_rng(0).normal(size=(3000, 7))
    np.savetxt(tmp_path / "t.csv", rows, "%.5f", ",", header="a,b,c,d,e,f,target", comments="")
    return str(tmp_path / "t.csv")


def data_of(runs: tuple[Path, ...]) -> list[DataConfig]:
    return [read_config(run).data for run in runs]


@pytest.mark.parametrize(("first", "then"), [(PLENTY, LITTLE), (LITTLE, PLENTY)])
def test_folds_are_kept_and_a_missing_one_reads_as_they_do_whatever_memory_is_free(
    first: int, then: int, source: str, tmp_path: Path, free: Free
) -> None:
    free(first)
    found = nw.cross_validate(source, folds=2, run_dir=tmp_path / "cv", **SHORT)
    one = data_of(found.runs)[0]
    assert (one.storage, type(one.shuffle)) == (("memory", type(None)) if first == PLENTY else ("map", list))
    born = found.runs[0].joinpath("run.json").read_bytes()
    free(then)
    assert nw.cross_validate(source, folds=2, run_dir=tmp_path / "cv", **SHORT).figures == found.figures
    for gone in found.runs:  # the first one too: then the second says how
        shutil.rmtree(gone)
        again = nw.cross_validate(source, folds=2, run_dir=tmp_path / "cv", **SHORT)
        assert again.figures == found.figures
        assert [(data.storage, data.cache, data.shuffle) for data in data_of(found.runs)] == [
            (one.storage, one.cache, one.shuffle)
        ] * 2
    assert found.runs[0].joinpath("run.json").read_bytes() != born  # it was trained again


@pytest.mark.parametrize("population", [False, True])
def test_seeds_in_windows_are_gone_on_with_under_other_memory_and_in_another_folder(
    population: bool, source: str, tmp_path: Path, free: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"storage": "map", "run_dir": tmp_path / "seeds", "population": population, **SHORT}
    free(LITTLE)
    found = nw.repeat(source, seeds=2, **words)
    born = [run.joinpath("run.json").read_bytes() for run in found.runs]
    shuffle = data_of(found.runs)[0].shuffle
    free(LESS)
    alone = nw.train(source, storage="map", run_dir=tmp_path / "alone", **SHORT)
    assert isinstance(shuffle, list)
    assert alone.config.data.shuffle != shuffle
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    more = nw.repeat(source, seeds=3, **words)
    assert [run.joinpath("run.json").read_bytes() for run in found.runs] == born
    assert [(data.shuffle, data.cache) for data in data_of(more.runs)] == [(shuffle, str(tmp_path / ".netwright-cache"))] * 3
    assert nw.repeat(source, seeds=3, cache=str(tmp_path / "moved"), **words).figures == more.figures
    with pytest.raises(CheckpointError, match=r"seed-0: a run of other settings or data \(data.shuffle \[.*\] -> 'full'\)"):
        nw.repeat(source, seeds=3, shuffle="full", **words)  # written, so it is wanted


def test_images_in_memory_and_in_a_map_are_the_same_rows(
    tmp_path: Path, free: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    for row in range(40):
        path = tmp_path / "images" / ("dark", "bright")[row % 2] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (6, 6), np.uint8)).save(path)
    free(PLENTY)
    words = {"folds": 2, "run_dir": tmp_path / "cv", **SHORT, "layers": ["Flatten()", "Linear()"]}
    found = nw.cross_validate(str(tmp_path / "images"), **words)
    monkeypatch.setattr(cache, "free_share", lambda: 100)
    shutil.rmtree(found.runs[1])
    again = nw.cross_validate(str(tmp_path / "images"), **words)
    assert again.figures == found.figures
    assert [data.cache for data in data_of(found.runs)] == [None, str(tmp_path / ".netwright-cache")]


def test_what_a_run_settled_for_itself_and_a_machine_by_its_cores_is_kept(tmp_path: Path) -> None:
    words: dict[str, Any] = {"seeds": 2, "run_dir": tmp_path / "seeds", **SHORT}
    found = nw.repeat("sklearn:iris", **words)
    first, second = found.runs
    config = read_config(first)
    assert (config.training.engine, config.training.threads) == ("captured", 1)
    job._fall_back(config, first, "a replay differed", lambda text: None)
    assert nw.repeat("sklearn:iris", **words).figures == found.figures
    text = (first / "config.toml").read_text().replace("threads = 1\n", "threads = 2\nmicro_batch = 32\n")
    (first / "config.toml").write_text(text)  # as if memory had run out
    shutil.rmtree(second)
    with pytest.raises(CheckpointError, match=r"\(training.micro_batch 32 -> None\)"):
        nw.repeat("sklearn:iris", **words)
    nw.repeat("sklearn:iris", auto_micro_batch=True, **words)
    training = read_config(second).training
    assert (training.engine, training.threads, training.micro_batch) == ("captured", 2, None)


def test_what_differs_is_told_with_both_values(tmp_path: Path) -> None:
    nw.cross_validate("sklearn:iris", folds=2, run_dir=tmp_path / "cv", **SHORT)
    what = r"data.batch_size 64 -> 7, training.epochs 1 -> 3"
    told = rf"fold-00: a run of other settings or data \({what}\); expected the same; name another folder"
    with pytest.raises(CheckpointError, match=told):
        nw.cross_validate("sklearn:iris", folds=2, run_dir=tmp_path / "cv", **{**SHORT, "epochs": 3, "batch_size": 7})
