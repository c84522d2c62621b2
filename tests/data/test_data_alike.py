"""The same numbers give the same weights, bit for bit, whatever file they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

import netwright as nw

BUNCH = datasets.load_diabetes()
FRAME = pd.DataFrame(np.round(BUNCH.data[:200], 5), columns=[f"x{place}" for place in range(10)]).assign(
    y=BUNCH.target[:200]
)
INPUTS = list(FRAME.columns[:10])


def hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["data/X"] = FRAME[INPUTS].to_numpy()
        file["data/X"].attrs["columns"] = INPUTS
        file["data/y"] = FRAME["y"].to_numpy()


def hdf5_without_names(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = FRAME[INPUTS].to_numpy(), FRAME["y"].to_numpy()


def matlab(path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(path, {"X": FRAME[INPUTS].to_numpy(), "y": FRAME["y"].to_numpy()})


def sheet(path: Path) -> None:
    pytest.importorskip("openpyxl")
    FRAME.to_excel(path, index=False)


def packed(path: Path) -> None:
    FRAME.to_csv(path, index=False, compression={"method": "zip", "archive_name": "rows.csv"})


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "csv": ("t.csv", lambda path: FRAME.to_csv(path, index=False)),
    "tsv": ("t.tsv", lambda path: FRAME.to_csv(path, index=False, sep="\t")),
    "gz": ("t.csv.gz", lambda path: FRAME.to_csv(path, index=False)),
    "zip": ("t.zip", packed),
    "jsonl": ("t.jsonl", lambda path: FRAME.to_json(path, orient="records", lines=True, double_precision=15)),
    "parquet": ("t.parquet", FRAME.to_parquet),
    "feather": ("t.feather", FRAME.to_feather),
    "xlsx": ("t.xlsx", sheet),
    "hdf5": ("t.h5", hdf5),
    "hdf5 without names": ("u.h5", hdf5_without_names),
    "mat": ("t.mat", matlab),
    "npz": ("t.npz", lambda path: np.savez(path, X=FRAME[INPUTS].to_numpy(), y=FRAME["y"].to_numpy())),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    return nw.train(data=FRAME, target="y", layers=LAYERS, epochs=3, run_dir=folder / "run").folder


LAYERS = ["Linear(16)", "ReLU()", "Linear()"]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_weights_and_predictions(name: str, reference: Path, tmp_path: Path) -> None:
    file, write = FILES[name]
    write(tmp_path / file)
    target = {} if file in ("u.h5", "t.mat", "t.npz") else {"target": "data/y" if name == "hdf5" else "y"}
    run = nw.train(str(tmp_path / file), layers=LAYERS, epochs=3, run_dir=tmp_path / "run", **target)
    for part in ("model/best.safetensors", "model/last.safetensors"):
        assert (run.folder / part).read_bytes() == (reference / part).read_bytes(), part
    columns = [np.genfromtxt(path / "predictions.csv", delimiter=",", skip_header=1) for path in (run.folder, reference)]
    np.testing.assert_array_equal(*columns)
