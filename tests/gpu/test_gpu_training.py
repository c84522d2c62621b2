"""A run on a GPU: it learns, keeps, resumes, predicts elsewhere, steps together with others; a rank without a GPU is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import netwright as nw

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LAYERS = [
    "Conv2d(16, kernel_size=3, padding=1)",
    "BatchNorm2d()",
    "ReLU()",
    "MaxPool2d(2)",
    "Flatten()",
    "Dropout(0.2)",
    "Linear()",
]
PREDICT = """import sys
import numpy as np, netwright as nw
np.save(sys.argv[3], nw.load(sys.argv[1]).predict_proba(np.load(sys.argv[2])))
"""
QUICK: dict[str, Any] = {"layers": LAYERS, "epochs": 4, "baselines": "none", "importance": False, "worst": 0}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images ``(rows, 1, 8, 8)`` and their classes."""
    values, classes = load_digits(return_X_y=True)
    return values.reshape(-1, 1, 8, 8).astype(np.float32), classes


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"precision": "tf32", "memory_format": "channels_last"},
        {"schedule": "WarmupCosine(warmup=0.1)", "average": "EMA(decay=0.9)", "clip_grad_norm": 1.0},
        {"sharpness": 0.05, "l1": 1e-5},
        {"sampling": "balanced", "class_weight": "balanced"},
    ],
    ids=lambda how: "-".join(how) or "plain",
)
def test_a_network_learns_on_the_gpu_and_predicts_on_the_cpu(
    how: dict[str, Any], digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    run = nw.train(data=digits, layout="NCHW", run_dir=tmp_path / "run", **QUICK, **how)
    assert run.config.training.device == "cuda"
    assert run.tested["metrics"]["accuracy"]["value"] > 0.85
    there = run.predict_proba(digits[0][:50])
    np.save(tmp_path / "rows.npy", digits[0][:50])
    command = [sys.executable, "-c", PREDICT, run.folder, tmp_path / "rows.npy", tmp_path / "here.npy"]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    tolerance = 1e-4 if how.get("precision", "float32") == "float32" else 0.05
    assert np.abs(np.load(tmp_path / "here.npy") - there).max() < tolerance


def test_the_default_for_images_learns(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    run = nw.train(data=digits, layout="NCHW", epochs=5, baselines="none", run_dir=tmp_path / "run")
    assert run.tested["metrics"]["accuracy"]["value"] > 0.95


def test_a_run_that_was_stopped_goes_on_within_rounding(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    whole = nw.train(data=digits, layout="NCHW", run_dir=tmp_path / "whole", **QUICK)
    short = nw.train(data=digits, layout="NCHW", run_dir=tmp_path / "short", **{**QUICK, "epochs": 2})
    again = nw.resume(short.folder, data=digits, settings=["training.epochs=4"])
    assert np.allclose(again.predict_proba(digits[0][:50]), whole.predict_proba(digits[0][:50]), atol=1e-3)


def test_runs_that_step_together_agree_with_runs_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "layers": ["Flatten()", "Linear(32)", "ReLU()", "Linear()"], "epochs": 2, "batch_size": 64, "baselines": "none", "worst": 0,
    }  # fmt: skip
    alone = nw.repeat("sklearn:digits", seeds=3, population=False, run_dir=tmp_path / "alone", **settings)
    together = nw.repeat("sklearn:digits", seeds=3, population=True, run_dir=tmp_path / "together", **settings)
    for one, other in zip(map(nw.load, alone.runs), map(nw.load, together.runs), strict=True):
        assert other.record["members"] == 3
        assert "in CUDA graphs" in other.record["played"]
        first, second = one.model.state_dict(), other.model.state_dict()
        for name, value in first.items():
            assert torch.allclose(value, second[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("more", [{}, {"optimizer": "SGD(lr=0.02, momentum=0.9)"}], ids=["AdamW", "SGD"])
def test_many_joint_steps_with_dropout_are_captured(more: dict[str, Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "layers": ["Flatten()", "Linear(32)", "ReLU()", "Dropout(0.2)", "Linear()"], "epochs": 8, "batch_size": 32,
        "baselines": "none", "worst": 0, **more,
    }  # fmt: skip
    together = nw.repeat("sklearn:digits", seeds=4, population=True, run_dir=tmp_path / "together", **settings)
    for run in map(nw.load, together.runs):
        assert "in CUDA graphs" in run.record["played"]
        assert run.tested["metrics"]["accuracy"]["value"] > 0.8


def test_more_ranks_than_gpus_are_told_in_one_line(tmp_path: Path) -> None:
    count = torch.cuda.device_count() + 1
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += [
        "-m",
        "netwright",
        "train",
        "sklearn:iris",
        "--set",
        "data.batch_size=12",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    found = subprocess.run([*command, "--set", "training.device=cuda"], capture_output=True, text=True, timeout=180)
    assert found.returncode != 0
    told = [line for line in found.stderr.splitlines() if "training.device" in line and "GPU" in line]
    assert len(told) == 1, found.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_rank_under_a_launcher_trains_on_its_gpu(strategy: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command += ["-m", "netwright", "train", "sklearn:iris", "--set", "training.epochs=3", "--run-dir", str(tmp_path / "run")]
    found = subprocess.run([*command, "--set", f"training.strategy={strategy}"], capture_output=True, text=True, timeout=180)
    assert found.returncode == 0, found.stderr[-2000:]
    assert 'device = "cuda' in (tmp_path / "run" / "config.toml").read_text()
