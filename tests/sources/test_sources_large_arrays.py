"""Arrays that memory does not hold: read from a map of the file or of a copy, the same bits as in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netwright as nw
from netwright.errors import DataError
from netwright.sources import cache
from netwright.sources.arrays import Arrays
from netwright.sources.opening import Reading, read_source

GENERATOR = np.random.default_rng(0)
VALUES = GENERATOR.normal(3, 2, size=(300, 2, 30)).astype("float32")
KINDS = (VALUES[:, 0].mean(axis=1) > 3).astype("int64")


def written(folder: Path, kind: str) -> Path:
    h5py = pytest.importorskip("h5py")
    path = folder / f"{kind}.h5"
    with h5py.File(path, "w") as file:
        values = 1e-13 * VALUES.reshape(len(VALUES), -1) if kind == "columns" else VALUES
        file.create_dataset("X", data=values, **({"chunks": (64, 2, 30), "compression": "gzip"} if kind == "packed" else {}))
        file["y"] = KINDS
    return path


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "IN_MEMORY", 1e-9)


@pytest.mark.parametrize("kind", ["plain", "packed"])
@pytest.mark.usefixtures("nothing_fits")
def test_a_large_array_is_mapped_row_by_row(kind: str, tmp_path: Path) -> None:
    raw = read_source(str(written(tmp_path, kind)), Reading(cache=str(tmp_path / "cache")))
    assert isinstance(raw, Arrays)
    values = raw.inputs["X"]
    assert isinstance(values, np.memmap)
    np.testing.assert_array_equal(values, VALUES)
    assert (tmp_path / "cache").exists() == (kind == "packed")
    assert "its rows are read from a map" in raw.notes[0]


@pytest.mark.parametrize("kind", ["plain", "packed", "columns"])
def test_training_on_a_map_gives_the_bits_of_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"layout": "NCT", "layers": ["Conv1d(4, kernel_size=3)", "ReLU()", "Flatten()", "Linear()"]}
    if kind == "columns":
        settings = {"layers": ["Linear(4)", "ReLU()", "Linear()"]}
    path = str(written(tmp_path, kind))
    settings |= {"epochs": 2, "cache": str(tmp_path / "cache")}
    nw.train(path, run_dir=tmp_path / "memory", **settings)
    monkeypatch.setattr(cache, "IN_MEMORY", 1e-9)
    run = nw.train(path, run_dir=tmp_path / "map", **settings)
    for left in ("predictions.csv", "preparation.safetensors", "model/last.safetensors"):
        same = [(tmp_path / name / left).read_bytes() for name in ("memory", "map")]
        assert same[0] == same[1], left
    assert any("read from a map" in note for note in run.record["notes"])
    assert nw.load(tmp_path / "map").test()["n"] == 60


@pytest.mark.usefixtures("nothing_fits")
def test_a_large_npy_file_is_its_own_map(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    np.save(tmp_path / "y.npy", KINDS)
    raw = read_source(str(tmp_path / "x.npy"), Reading(target=("y.npy",)))
    assert isinstance(raw, Arrays)
    assert isinstance(raw.inputs["X"], np.memmap)


@pytest.mark.usefixtures("nothing_fits")
def test_infinite_and_missing_numbers_far_down_a_map_are_named(tmp_path: Path) -> None:
    values = np.tile(VALUES, (20, 1, 1))
    values[5000, 1, 4] = np.inf
    np.savez(tmp_path / "a.npz", X=values, y=np.tile(KINDS, 20))
    with pytest.raises(DataError, match=r"a.npz: row 5001: array 'X' is infinite at \[1, 4\]"):
        nw.train(str(tmp_path / "a.npz"), layout="NCT", epochs=1, run_dir=tmp_path / "run")
    values[5000, 1, 4] = np.nan
    np.savez(tmp_path / "a.npz", X=values, y=np.tile(KINDS, 20))
    with pytest.raises(DataError, match=r"a.npz: row 5001: array 'X' is missing \(1 such numbers\)"):
        nw.train(str(tmp_path / "a.npz"), layout="NCT", missing="error", epochs=1, run_dir=tmp_path / "run")
