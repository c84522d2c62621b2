"""The heart of the verb verify eject: the script of a run in a process without netwright, its bits beside the run's. Floor 16."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch

from netwright import files
from netwright.evaluation.own_metrics import figures_told
from netwright.evaluation.testing import Verdict as Judgement
from netwright.exporting.bundle import BEST, LAST, load_preparation
from netwright.pipeline.custom import Custom, metrics_of
from netwright.pipeline.network import trusted_file
from netwright.proofs.ejecting import eject, recipe_of, refuse_inexact
from netwright.proofs.verifying import Verdict
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config

SCRIPT, FOUND, DECODED = "train.py", "found.json", "decoded.npy"
DRIVER = f"""
import json, runpy, sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "netwright":
            raise ImportError("netwright is not here")

sys.meta_path.insert(0, Guard())
names = runpy.run_path({SCRIPT!r}, run_name="__main__")
import numpy as np
if "decoded" in names:
    np.save({DECODED!r}, names["decoded"])
with open({FOUND!r}, "w") as stream:
    json.dump({{"test": names.get("test"), "netwright": "netwright" in sys.modules}}, stream)
"""
Weights = Mapping[str, npt.NDArray[Any]]


def verify_eject(folder: Path, code: Sequence[Path] = ()) -> Verdict:
    """Run the script of a run in a fresh process that cannot import netwright, and compare weights and test figures.

    Args:
        folder: A finished run.
        code: Python files that may run: an own class is part of the script.

    Raises:
        ConfigError: No script can be written of it.
        CheckpointError: The run has not ended by itself, or its data changed.
        SafetyError: An own class whose file was not named.
    """
    module = read_config(folder).model.module
    if module is not None:
        trusted_file(module, folder, code, f"netwright verify eject {folder}")
    refuse_inexact(folder, folders.read_record(folder))
    with tempfile.TemporaryDirectory(prefix="netwright-eject-") as name:
        place = Path(name)
        eject(folder, place / SCRIPT)
        command = [sys.executable, "-I", "-W", "ignore", "-c", DRIVER]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return Verdict(False, f"eject: the script fails: {last}")
        found = files.read_json(place / FOUND)
        different = difference(folder, place, found)
    if different is not None:
        return Verdict(False, f"eject: not exact: {different}")
    tensors, figures = len(safetensors.torch.load_file(folder / LAST)), _figures(folder)
    told = f" and {len(figures)} test figures ({', '.join(figures)})" if figures and found["test"] else ""
    return Verdict(True, f"eject: exact; the script alone, without netwright, gave the same {tensors} tensors, last and best"
                         f"{told}, bit for bit")  # fmt: skip


def difference(folder: Path, place: Path, found: Mapping[str, Any]) -> str | None:
    """Return what differs first between run and script; None where nothing does."""
    if found["netwright"]:
        return "the script imports netwright"
    for name, ours in ((LAST, "last.npz"), (BEST, "best.npz")):
        if (folder / name).is_file() != (place / ours).is_file():
            return f"{name}: in one of the two only"
        if (folder / name).is_file():
            with np.load(place / ours) as stored:
                weights = {key: stored[key] for key in stored.files}
            saved = {key: value.numpy() for key, value in safetensors.torch.load_file(folder / name).items()}
            different = _tensor_that_differs(saved, weights)
            if different is not None:
                return f"{Path(name).stem} weights: {different}"
    return _figure_that_differs(folder, place, found)


def _tensor_that_differs(saved: Weights, weights: Weights) -> str | None:
    order = [name for name in weights if name in saved]  # that of the layers
    for name in [*order, *(name for name in saved if name not in weights)]:
        value = saved[name]
        other = weights.get(name)
        if other is None or other.shape != value.shape or other.dtype != value.dtype:
            return f"{name}: {value.dtype} {value.shape} in the run, {'nothing' if other is None else other.shape} in the script"
        if value.tobytes() != other.tobytes():
            apart = np.abs(value.astype(np.float64) - other.astype(np.float64)).max()
            return f"{name}: up to {apart:.3g} apart"
    return next((f"{name}: in the script only" for name in weights if name not in saved), None)


def _figures(folder: Path) -> dict[str, float]:
    """Return the test figures of a run; none before its first test."""
    path = folder / folders.TEST
    found = folders.read_json(path) if path.is_file() else {}
    return {name: float(figure["value"]) for name, figure in found.get("metrics", {}).items()}


def _figure_that_differs(folder: Path, place: Path, found: Mapping[str, Any]) -> str | None:
    """Compare the figures that the script gives, and all others worked out from what it predicts."""
    saved = _figures(folder)
    if not saved or found["test"] is None:
        return None
    outcome, recipe = load_preparation(folder)[1], recipe_of(folder)
    true, decoded = recipe.target.of(folders.read_split(folder).test), np.load(place / DECODED)
    judged = Judgement(outcome.task, true, decoded, outcome.decoding)
    further = metrics_of(read_config(folder).training.metrics, Custom(), outcome.task)
    own = figures_told(further, outcome.task, true, decoded, lambda name, problem: None)
    every = {**judged.figures(), **own, **found["test"]}
    for name, value in saved.items():
        if name not in every or every[name] != value:
            return f"test {name}: {value!r} in the run, {every.get(name)!r} in the script"
    return None
