"""A run of a Dataset that changes its items at random: ``workers.py FOLDER WORKERS STEP``; STEP 0 trains to the end."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

import netwright as nw
from netwright.engine import eager


class Noisy(Dataset[Any]):
    """Rows that are another each time they are read."""

    def __len__(self) -> int:
        return 150

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        plain = torch.linspace(-1, 1, 5) * (row % 7 - 3) / 3
        return plain + 0.3 * torch.randn(5), int(row % 7 > 3)


def main() -> None:
    """Train or go on, and die before a step."""
    folder, workers, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    original, calls = eager.train_step, itertools.count()

    def dying(*arguments: Any) -> Any:
        if next(calls) == step and step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    eager.train_step = dying
    if folder.exists():
        nw.resume(folder, data=Noisy(), settings=[f"data.workers={workers}"], require_exact=True)
    else:
        nw.train(
            data=Noisy(), layers=["Linear(8)", "ReLU()", "Dropout(0.2)", "Linear()"], epochs=4, batch_size=16, workers=workers,
            threads=1, every_steps=3, run_dir=folder, engine="eager",
        )  # fmt: skip


if __name__ == "__main__":
    main()
