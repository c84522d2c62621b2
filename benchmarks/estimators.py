"""``fit`` of NetClassifier and NetRegressor beside scikit-learn's MLPClassifier and MLPRegressor, on small tables.

Equal layers, epochs, batch size, dtype and Adam; standardising is off, so that both do the same work. Both run in turn in one
process; medians, least and most. Run: ``python benchmarks/estimators.py [--repeats 7] [--epochs 200] [--dtype float64]``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import netwright as nw
from netwright.recording import building

HIDDEN = 100


def tables() -> dict[str, tuple[bool, Any, Any]]:
    """Return the tables by name: whether y are classes, X and y."""
    found = {
        name: (name != "diabetes", *getattr(datasets, f"load_{name}")(return_X_y=True))
        for name in ("iris", "wine", "breast_cancer", "digits", "diabetes")
    }
    for rows in (1_000, 10_000):
        found[f"{rows:,} rows, 20 columns"] = (True, *datasets.make_classification(rows, 20, random_state=0))
        found[f"{rows:,} rows, 20 columns, values"] = (False, *datasets.make_regression(rows, 20, random_state=0))
    return found


def fits(classes: bool, X: Any, y: Any, epochs: int, batch: int | str) -> dict[str, Callable[[], Any]]:
    """Return what is timed."""
    ours: Any = nw.NetClassifier if classes else nw.NetRegressor
    theirs: Any = MLPClassifier if classes else MLPRegressor
    layers = [f"Linear({HIDDEN})", "ReLU()", "Linear()"]
    net = ours(layers, epochs=epochs, batch_size=batch, standardize=False, random_state=0)
    same = {
        "max_iter": epochs,
        "n_iter_no_change": epochs + 1,
        "tol": 0.0,
        "batch_size": batch,
        "alpha": 0.0,
        "random_state": 0,
    }
    peer = theirs(hidden_layer_sizes=(HIDDEN,), **same)
    return {"netwright": lambda: net.fit(X, y), "scikit-learn": lambda: peer.fit(X, y)}


def timed(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Do each in turn, once to warm up, then so many times; return the seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", default="auto")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    building.library(wait=True)  # compiled once a machine
    batch = given.batch if given.batch == "auto" else int(given.batch)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    )
    print(
        f"{given.epochs} epochs, batch {given.batch}, {given.dtype}, {given.repeats} repeats: ms, median (least to most)\n"
    )
    print("| table | netwright | scikit-learn | times as fast |\n|---|---|---|---|")
    for name, (classes, X, y) in tables().items():
        if given.only not in name:
            continue
        X = StandardScaler().fit_transform(X).astype(given.dtype)
        y = y if classes else ((y - np.mean(y)) / np.std(y)).astype(given.dtype)
        found = timed(fits(classes, X, y, given.epochs, batch), given.repeats)
        shown = [
            f"{statistics.median(times) * 1e3:,.0f} ({min(times) * 1e3:,.0f} to {max(times) * 1e3:,.0f})"
            for times in found.values()
        ]
        ratio = statistics.median(found["scikit-learn"]) / statistics.median(found["netwright"])
        print(f"| {name} | {shown[0]} | {shown[1]} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
