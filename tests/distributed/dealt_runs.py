"""Whole runs of some ranks, dealt out and not, beside the same in one process; each rank writes ``told-RANK.json``."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file

import netwright as nw
from netwright.distributed.world import ALONE
from netwright.errors import NetwrightError
from netwright.evaluation import scoring
from netwright.lifecycle.run import Run

BASE: dict[str, Any] = {
    "config": "sklearn:iris",
    "epochs": 4,
    "batch_size": 24,
    "early_stopping": False,
    "optimizer": "SGD(lr=0.05, momentum=0.9)",
    "layers": ["Linear(9, bias=False)", "BatchNorm1d()", "ReLU()", "Linear(7)", "Tanh()", "Linear()"],
    "split": {"test": 0.2, "valid": 0.3},
    "sync_batchnorm": True,
    "test": False,
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean EMA": {"average": "EMA(decay=0.9)", "clip_grad_norm": 0.3},
    "mean SWA": {"average": "SWA(start_epoch=2)", "clip_grad_value": 0.02, "schedule": "OneCycleLR(max_lr=0.1)"},
    "uphill": {"sharpness": 0.05, "l1": 0.001, "optimizer": "AdamW(lr=0.01)"},
    "frozen": {"freeze": ["0"], "unfreeze": [{"epoch": 3, "parameters": ["0"]}], "optimizer": "Adam(lr=0.01)"},
    "groups": {
        "parameter_groups": [{"parameters": ["biases"], "weight_decay": 0.0, "lr": 0.01}],
        "optimizer": "NAdam(lr=0.01)",
    },
    "float16": {"precision": "float16"},
    "float16 Adam": {"precision": "float16", "optimizer": "Adam(lr=0.01)"},
    "weighted": {"class_weight": "balanced", "batch_size": 28},
    "uneven": {"batch_size": 22},  # 45 valid rows: 23 and 22, so that one process has a batch of them more
    "figures": {"metrics": ["cohen_kappa_score"], "schedule": "ReduceLROnPlateau(patience=0)"},
}


class Reads(torch.nn.Module):
    """A network that uses a weight of a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = torch.nn.Sequential(torch.nn.Linear(4, 5)), torch.nn.Linear(5, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(values @ self.layers[0].weight.T))


def trained(case: dict[str, Any], folder: Path, **more: Any) -> Run:
    asked = {name: value for name, value in {**BASE, **case, **more}.items() if value is not None}
    return nw.train(asked.pop("config"), run_dir=folder, **asked)


def gap(folder: Path, other: Path) -> float:
    """The largest difference of any weight, best or last, relative to the largest number of it."""
    found = []
    for name in ("last", "best"):
        one, its = (load_file(place / "model" / f"{name}.safetensors") for place in (folder, other))
        assert one.keys() == its.keys()
        for key, value in its.items():
            difference = (one[key].double() - value.double()).abs().max()
            found.append(float(difference / value.double().abs().max().clamp(min=1e-3)))
    return max(found)


def histories(folder: Path, other: Path) -> float:
    one, its = (nw.load(place).history for place in (folder, other))
    names = [name for name in its[0] if name.startswith(("train_loss", "valid_")) and not name.endswith("seconds")]
    pairs = [(float(a[name]), float(b[name])) for a, b in zip(one, its, strict=True) for name in names]
    return max(abs(a - b) / max(abs(b), 1e-2) for a, b in pairs)  # a loss near 0 is no more exact than the outputs behind it


def compared(name: str, place: Path) -> dict[str, Any]:
    case, rank = CASES[name], dist.get_rank()
    place = place / name.replace(" ", "-")
    run = trained(case, place / "dealt", strategy="fsdp")
    if rank:
        return {}
    assert isinstance(run.model, torch.nn.Sequential)
    kinds = {type(module).__name__ for module in run.model}
    trained(case, place / "one", world=ALONE)
    return {
        "kinds": sorted(kinds),
        "weights": gap(place / "dealt", place / "one"),
        "history": histories(place / "dealt", place / "one"),
        "played": run.record["played"],
        "strategy": run.config.training.strategy,
    }


def gone_on(place: Path) -> dict[str, Any]:
    """A run of some epochs that goes on dealt out, with the whole network in each process, and in one process."""
    rank, told = dist.get_rank(), {}
    half = {**CASES["mean EMA"], "epochs": 2}
    for began, other in (("fsdp", "ddp"), ("ddp", "fsdp")):
        trained(half, place / began, strategy=began)
        for ends in (began, other, "alone"):
            name = f"{began} to {ends}"
            folder = place / name.replace(" ", "-")
            if rank == 0:
                shutil.copytree(place / began, folder)
            dist.barrier()
            said: list[str] = []
            settings = ["training.epochs=4"] + ([f"training.strategy={ends}"] if ends == other else [])
            if ends != "alone":
                nw.resume(folder, settings=settings, observers=[lambda one, said=said: said.append(str(one))])
            elif rank == 0:
                nw.resume(folder, settings=settings, world=ALONE, observers=[lambda one, said=said: said.append(str(one))])
            if rank == 0:
                whole = place.parent / "mean-EMA" / "dealt"
                exact = next(line for line in said if "resume:" in line)
                told[name] = {"weights": gap(folder, whole), "history": histories(folder, whole), "said": exact}
    return told


def refused(place: Path) -> dict[str, str]:
    """What is told where a network cannot be dealt out."""
    told = {}
    for text in ("LBFGS()", "Rprop()", "Muon()", "Adafactor()"):
        layers = ["Linear(4, bias=False)", "Linear(bias=False)"]
        try:
            trained({"optimizer": text, "layers": layers}, place / "refused", strategy="fsdp")
            told[text] = "nothing"
        except NetwrightError as error:
            told[text] = f"{error.exit_code} {error}"
    try:
        trained({"sync_batchnorm": False, "last_batch": "keep"}, place / "refused", strategy="ddp")
    except NetwrightError as error:
        told["lonely"] = f"{error.exit_code} {error}"
    try:
        trained({"layers": None, "model": Reads()}, place / "reads", strategy="fsdp")
    except NetwrightError as error:
        told["reads"] = f"{error.exit_code} {error}"
    told["left"] = str((place / "refused").exists())
    return told


def main(rank: int, size: int, folder: Path, names: list[str]) -> None:
    """Train the cases of these names, and let one of them go on from checkpoints."""
    torch.set_num_threads(1)
    scoring.SMALLEST_OF_VECTORS = 1  # as many calls as of images, so that processes differ in them
    Run.report = lambda self: None  # type: ignore[assignment, method-assign]
    meeting, patience = f"file://{folder / 'meeting'}", timedelta(seconds=90)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=patience)
    told: dict[str, Any] = {name: compared(name, folder) for name in names}
    told["refused"] = refused(folder)
    told["gone on"] = gone_on(folder / "going")
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()
