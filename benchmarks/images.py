"""The default for images and volumes: 10,000 digits of MNIST (5 seeds), PneumoniaMNIST and ModelNet10 (3 seeds each).

    python benchmarks/images.py DATA --set mnist --parts 3

DATA holds ``mnist_t10k/t10k-images-idx3-ubyte.gz`` with its labels, ``pneumonia_png/pneumoniamnist_png.zip`` (train, val and
test of PneumoniaMNIST as images) and ``modelnet10/modelnet10_32.npz`` (X_train, y_train, X_test, y_test; voxels of 32 x 32 x 32).
Of MNIST each seed tests 5,000 other digits and trains on 4,500, 500 validate; of ModelNet10 a tenth of the train rows validates.
Nothing is said of network or training. Prints one line per run, and at the end mean, deviation and seconds, of the clock and of
the processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from defaults import FIGURES_ALONE, options, print_runs

import netwright as nw

PARTS = {"mnist": 5, "pneumonia": 3, "modelnet10": 3}
FIGURES = {"mnist": "accuracy", "pneumonia": "roc_auc", "modelnet10": "accuracy"}


def rows_of(data: Path, name: str, seed: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return what is trained on, and settings of how it is read and divided; a split is written into a folder."""
    if name == "mnist":
        source = data / "mnist_t10k" / "t10k-images-idx3-ubyte.gz"
        return source, {"split": {"test": 5000, "valid": 500, "seed": seed}}
    if name == "pneumonia":
        return data / "pneumonia_png" / "pneumoniamnist_png.zip", {}
    with np.load(data / "modelnet10" / "modelnet10_32.npz") as arrays:
        voxels, labels = (np.concatenate([arrays[f"{kind}_{part}"] for part in ("train", "test")]) for kind in "Xy")
        train = len(arrays["y_train"])
    np.savez(folder / "split.npz", train=np.arange(train), test=np.arange(train, len(labels)))
    split = {"file": str(folder / "split.npz"), "train": "train", "test": "test", "valid": 0.1, "seed": seed}
    return (voxels, labels), {"layout": "NDHW", "split": split}


def main() -> None:
    """Train and print."""
    parser = options(__doc__ or "", PARTS)
    parser.add_argument("--threads", type=int, help="Of each operation; default by netwright's rule.")
    given = parser.parse_args()

    def train(seed: int, folder: Path) -> nw.Run:
        data, settings = rows_of(given.data, given.set, seed, folder)
        settings |= {"threads": given.threads} if given.threads else {}
        return nw.train(data, seed=seed, evaluation=FIGURES_ALONE, run_dir=folder / "run", **settings)

    seeds = range(given.first, given.first + (given.parts or PARTS[given.set]))
    print_runs(given.set, FIGURES[given.set], seeds, train)


if __name__ == "__main__":
    main()
