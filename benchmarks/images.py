"""The default for images and volumes: 10,000 digits of MNIST (5 seeds), PneumoniaMNIST and ModelNet10 (3 seeds each).

    python benchmarks/images.py DATA --set mnist --parts 3

DATA holds ``mnist_t10k/t10k-images-idx3-ubyte.gz`` with its labels, ``pneumonia_png/pneumoniamnist_png.zip`` (train, val and
test of PneumoniaMNIST as images) and ``modelnet10/modelnet10_32.npz`` (X_train, y_train, X_test, y_test; voxels of 32 x 32 x 32).
Of MNIST each seed tests 5,000 other digits and trains on 4,500, 500 validate; of ModelNet10 a tenth of the train rows validates.
Nothing is said of network or training. Prints one line per run, and at the end mean, deviation and seconds, of the clock and of
the processor.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=sorted(PARTS), required=True)
    parser.add_argument("--parts", type=int, help="Seeds, from 0; default all.")
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--threads", type=int, help="Of each operation; default by netwright's rule.")
    given = parser.parse_args()
    figure = FIGURES[given.set]
    found, seconds, worked = [], [], []
    for seed in range(given.first, given.first + (given.parts or PARTS[given.set])):
        begun, spent = time.perf_counter(), time.process_time()
        evaluation = {"baselines": [], "importance": False, "slices": [], "worst": 0}
        with tempfile.TemporaryDirectory() as folder:
            data, settings = rows_of(given.data, given.set, seed, Path(folder))
            settings |= {"threads": given.threads} if given.threads else {}
            run = nw.train(data, seed=seed, evaluation=evaluation, run_dir=Path(folder) / "run", **settings)
            found.append(float(run.tested["metrics"][figure]["value"]))
            epoch, epochs = run.record["best"]["epoch"], run.config.training.epochs
        seconds.append(time.perf_counter() - begun)
        worked.append(time.process_time() - spent)
        told = f"{seconds[-1]:.0f} s, {worked[-1]:.0f} s of the processor"
        print(f"{given.set} {seed}: {figure} {found[-1]:.4f}, best epoch {epoch} of {epochs}, {told}", flush=True)
    spread = f" +- {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    times = f"{statistics.mean(seconds):.0f} s each, {statistics.mean(worked):.0f} s of the processor"
    print(f"{given.set}: {figure} {statistics.mean(found):.4f}{spread} ({len(found)} runs, {times})")


if __name__ == "__main__":
    main()
