"""Trains 2,000 steps in a process of its own: ``steady.py FOLDER EVERY`` prints resident bytes and open files per epoch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import netwright as nw


def main() -> None:
    """Train, with a checkpoint after every so many steps."""
    X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)

    def watch(record: Any) -> None:
        if hasattr(record, "epoch"):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
            print(resident, len(list(Path("/proc/self/fd").iterdir())), flush=True)

    nw.train(
        data=(X, X[:, :1]), layers=["Linear(64)", "ReLU()", "Linear()"], epochs=200, batch_size=16, threads=1, test=False,
        split={"test": 0.1, "valid": 0.1}, every_steps=int(sys.argv[2]), run_dir=sys.argv[1], observers=[watch],
    )  # fmt: skip


if __name__ == "__main__":
    main()
