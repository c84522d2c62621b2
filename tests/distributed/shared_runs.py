"""Whole runs of rows that are changed, mixed, padded, drawn by weight, read from a map or taken in parts, by some ranks and by one.

Each rank trains every case with the others; the first trains it alone too and writes ``told.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from dealt_runs import gap, histories
from PIL import Image

import netwright as nw
from netwright.data import order
from netwright.data.augmentation import Augmentation
from netwright.distributed.joining import join
from netwright.distributed.world import ALONE, World
from netwright.engine.shared import SharedEngine
from netwright.lifecycle.run import Run
from netwright.rows import mapping, reading
from netwright.sources import memory, opening

GENERATOR = np.random.default_rng(1)
CLASSES = (np.arange(117) % 3 == 0).astype(np.int64)  # a third of the rows
IMAGES = GENERATOR.integers(0, 80, (117, 1, 8, 8), dtype=np.uint8) + (CLASSES * 90).astype(np.uint8)[:, None, None, None]
SERIES = GENERATOR.normal(size=(117, 9, 2)) + 0.7 * CLASSES[:, None, None]
THREE = np.minimum(np.arange(117) % 6, 2).astype(np.int64)
QUARTER = (np.arange(117) % 4 == 0).astype(np.int64)
ROWS = GENERATOR.normal(size=(117, 5)) + CLASSES[:, None]
RAGGED = [row[: 4 + number % 6] for number, row in enumerate(SERIES)]
NUMBERS = ROWS @ GENERATOR.normal(size=5)
MLP = ["Linear(9)", "Tanh()", "Linear()"]
CNN = ["Conv2d(4, 3, padding=1)", "Tanh()", "Flatten()", "Linear()"]
GRU = ["GRU(6)", "LastStep()", "Linear()"]
NORMED = ["Linear(9, bias=False)", "BatchNorm1d()", "Tanh()", "Linear()"]
BASE = {"epochs": 3, "batch_size": 16, "early_stopping": False, "optimizer": "SGD(lr=0.05, momentum=0.9)", "test": False}
CASES: dict[str, dict[str, Any]] = {
    "changed series": {"data": (SERIES, CLASSES), "layers": GRU, "augmentation": ["Noise(0.2)", "TimeShift(2)"]},
    "changed images": {"data": (IMAGES, CLASSES), "layers": CNN, "augmentation": ["Noise(0.2)"]},
    "mixed images": {"data": (IMAGES, CLASSES), "layers": CNN, "augmentation": ["CutMix(1.0)", "MixUp(0.4)"]},
    "mixed series": {
        "data": (SERIES, NUMBERS),
        "layers": GRU,
        "augmentation": ["Noise(0.1)", "MixUp(0.4)"],
        "sync_batchnorm": True,
    },
    "mixed and weighted": {
        "data": (SERIES, CLASSES),
        "layers": GRU,
        "augmentation": ["MixUp(0.4)"],
        "class_weight": "balanced",
    },
    "padded": {"data": (RAGGED, CLASSES), "layers": GRU},
    "padded and drawn": {"data": (RAGGED, CLASSES), "layers": GRU, "sampling": "balanced", "augmentation": ["Noise(0.1)"]},
    "drawn": {"data": (ROWS, CLASSES), "layers": MLP, "sampling": "balanced"},
    "in parts": {"data": (ROWS, CLASSES), "layers": MLP, "micro_batch": 3, "clip_grad_norm": 0.3, "sharpness": 0.02},
    "in weighted parts": {"data": (ROWS, THREE), "layers": MLP, "micro_batch": 3, "class_weight": "balanced"},
    "in parts that may count nothing": {  # a process may have no row that counts in a step
        "data": (ROWS, QUARTER),
        "layers": MLP,
        "micro_batch": 2,
        "loss": "CrossEntropyLoss(ignore_index=0)",
        "last_batch": "drop",
    },
    "normed": {"data": (ROWS, CLASSES), "layers": NORMED, "sync_batchnorm": True},
}
# not dealt out: gradients of parts are added up where they are whole
WHOLE = ("in parts", "in weighted parts", "in parts that may count nothing")
FILES = {"mapped": {"storage": "map"}, "mapped and drawn": {"storage": "map", "sampling": "balanced"}}


def trained(case: dict[str, Any], folder: Path, **more: Any) -> Run:
    asked = {**BASE, **case, **more}
    return nw.train(asked.pop("config", None), run_dir=folder, threads=1, split={"test": 0.1, "valid": 0.2}, **asked)


def table(place: Path) -> Path:
    """Write the rows as a table, once."""
    path = place / "rows.csv"
    if dist.get_rank() == 0:
        lines = [",".join([*(f"{cell:.6f}" for cell in row), "ab"[kind]]) for row, kind in zip(ROWS, CLASSES, strict=True)]
        path.write_text("\n".join(["a,b,c,d,e,target", *lines]) + "\n")
    dist.barrier()
    return path


def compared(name: str, case: dict[str, Any], place: Path, world: World, strategy: str) -> dict[str, Any]:
    """Train a case together and, in the first rank, alone; return how far apart they are."""
    place = place / name.replace(" ", "-")
    seen: list[int] = []
    original = Augmentation.batches

    def watched(self: Augmentation, *arguments: Any, **more: Any) -> Any:
        for batch in original(self, *arguments, **more):
            if self.share is not None:  # no step that is tried before anything is written
                seen.append(len(batch))
            yield batch

    Augmentation.batches = watched  # type: ignore[method-assign]
    losses = trained_together(case, place / "shared", "ddp" if name in WHOLE else strategy, world)
    Augmentation.batches = original  # type: ignore[method-assign]
    if not world.leads:
        return {}
    one = trained(case, place / "one", world=ALONE)
    steps = one.record["steps"]
    return {
        "weights": gap(place / "shared", place / "one"),
        "history": histories(place / "shared", place / "one"),
        "steps": steps,
        "rows of a batch": max(seen, default=0),
        "steps of other losses": sum(len(set(step)) > 1 for step in zip(*losses, strict=True)),
    }


def trained_together(case: dict[str, Any], folder: Path, strategy: str, world: World) -> list[list[float]]:
    """Train a case together; return the losses of all steps as each rank sees them."""
    told: list[float] = []
    original = SharedEngine.train_steps

    def watched(self: SharedEngine, *arguments: Any) -> Any:
        steps = original(self, *arguments)
        told.extend(steps.losses.tolist())
        return steps

    SharedEngine.train_steps = watched  # type: ignore[method-assign]
    trained(case, folder, strategy=strategy)
    SharedEngine.train_steps = original  # type: ignore[method-assign]
    return world.gathered(told)


def ingested(path: Path, world: World) -> list[int]:
    """Read a table into a map with the other ranks; return how many rows each of them read to learn and to write it."""
    counted, read = [0], mapping.Blocks.read

    def counting(self: Any, columns: Any = None) -> Any:
        for start, rows in read(self, columns):
            counted[0] += rows.rows
            yield start, rows

    mapping.Blocks.read = counting  # type: ignore[method-assign]
    case = {"config": str(path), "layers": MLP, "storage": "map", "cache": str(path.parent / "cache"), "epochs": 1}
    trained(case, path.parent / "ingested")
    mapping.Blocks.read = read  # type: ignore[method-assign]
    return world.gathered(counted[0])


def pictures(folder: Path) -> Path:
    """Write the images as files, once."""
    if dist.get_rank() == 0:
        for number, (image, kind) in enumerate(zip(IMAGES, CLASSES, strict=True)):
            (folder / "ab"[kind]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(folder / "ab"[kind] / f"{number:03d}.png")
    dist.barrier()
    return folder


def unlike(path: Path, world: World) -> dict[str, Any]:
    """Train on the table where each rank finds other memory free; return what the ranks read and how far one process is apart."""
    place = path.parent / "unlike"
    case = {"config": str(path), "layers": MLP, "cache": str(place / "cache")}
    size = reading.blocks_of(opening.places(str(path)), reading.TextOptions()).size()  # type: ignore[union-attr]
    told = {}
    for name, first, others in (
        ("all", 8, 8),
        ("one", 12, 7),
        ("little", 7, 7),
    ):  # times the size; in 2 processes 8 is enough
        free = size * (first if world.leads else others)
        with mock.patch.object(memory, "free_memory", return_value=free):
            told[name] = trained(case, place / name).config.data.storage
    few = mock.patch.object(mapping, "free_memory", return_value=117 * 20 + 400 * world.rank)
    with few, mock.patch.object(order, "SMALLEST_BLOCK", 2 * 20):  # two rows
        run = trained(case, place / "windows", storage="map")
    ordered = world.gathered(run.config.data.shuffle)
    with mock.patch.object(memory, "free_memory", return_value=10**9 if world.leads else 100):
        run = trained({**case, "config": str(pictures(path.parent / "pictures")), "layers": CNN}, place / "images")
    told["images"] = run.record["status"]
    if not world.leads:
        return {}
    one = trained({**case, "shuffle": ordered[0]}, place / "windows-one", storage="map", world=ALONE)
    return {"storage": told, "shuffle": ordered, "weights": gap(place / "windows", one.folder)}


def main(folder: Path, strategy: str, names: list[str]) -> None:
    """Train the cases of these names."""
    torch.set_num_threads(1)
    Run.report = lambda self: None  # type: ignore[assignment, method-assign]
    told: dict[str, Any] = {}
    with join(60.0) as world:
        path = table(folder)
        told["read"] = ingested(path, world)
        told["entries"] = [entry.name for entry in (folder / "cache").iterdir()]
        files = {"config": str(path), "layers": MLP, "cache": str(folder / "cache")}
        cases = {**CASES, **{name: {**files, **case} for name, case in FILES.items()}}
        told["unlike"] = unlike(path, world)
        for name in names:
            told[name] = compared(name, cases[name], folder, world, strategy)
        if world.leads:
            (folder / "told.json").write_text(json.dumps(told))
