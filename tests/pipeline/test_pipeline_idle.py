"""Settings that change nothing of a run are told, with the reason, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netwright as nw

DENSE = ["Linear(3)"]
PLANES = ["Conv2d(2, 3)", "ReLU()", "Flatten()", "Linear()"]


def told(folder: Path, layers: list[str], **settings: Any) -> list[str]:
    """Train an epoch and return the notes on settings that do nothing."""
    generator = np.random.default_rng(0)
    shape = (40, 1, 6, 6) if layers is PLANES else (40, 4)
    rows = generator.normal(size=shape).astype(np.float32), generator.integers(0, 3, 40)
    seen: list[str] = []
    nw.train(
        rows,
        layers=layers,
        epochs=1,
        test=False,
        run_dir=folder / "run",
        observers=[lambda one: seen.append(str(one))],
        **settings,
    )
    return [line for line in seen if "does nothing here" in line]


@pytest.mark.parametrize(
    ("layers", "settings", "reason"),
    [
        (DENSE, {"workers": 1}, "data.workers = 1 does nothing here: rows lie ready in memory"),
        (DENSE, {"encoding": "latin-1"}, "data.encoding = latin-1 does nothing here: rows came from Python"),
        (
            DENSE,
            {"memory_format": "channels_last"},
            "training.memory_format = channels_last does nothing here: no convolution",
        ),
        (DENSE, {"precision": "tf32", "device": "cpu"}, "training.precision = tf32 does nothing here: products on cpu"),
        (DENSE, {"strategy": "fsdp"}, "training.strategy = fsdp does nothing here: one process trains"),
        (DENSE, {"sync_batchnorm": True}, "training.sync_batchnorm does nothing here: one process trains"),
        (
            DENSE,
            {"threshold": "accuracy"},
            "evaluation.threshold = accuracy does nothing here: a threshold decides between two",
        ),
        (
            DENSE,
            {"coverage": 0.5},
            "evaluation.coverage = 0.5 does nothing here: intervals hold numbers, and the task is multiclass",
        ),
        (PLANES, {"memory_format": "channels_last"}, None),
        (PLANES, {"workers": 1, "augmentation": ["MixUp(0.2)"]}, None),
        (DENSE, {"precision": "bfloat16"}, None),
        (DENSE, {}, None),
    ],
)
def test_a_setting_that_does_nothing_is_told(
    layers: list[str], settings: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    found = told(tmp_path, layers, **settings)
    assert len(found) == (reason is not None), found
    assert all(line.startswith(f"note: {reason}") for line in found)
