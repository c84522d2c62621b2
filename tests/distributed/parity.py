"""Networks that some ranks train together, step by step, for a comparison with one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from netwright.data.batches import Examples
from netwright.distributed.joining import join
from netwright.distributed.pieces import whole_parts
from netwright.distributed.world import ALONE, World
from netwright.engine.base import Execution
from netwright.engine.choose import choose_engine
from netwright.engine.sharding import shard, without_fusion
from netwright.estimators.learning import NothingKept
from netwright.model.losses import loss_weight
from netwright.model.synchronised import synchronised
from netwright.training.loop import Plan, Progress, train_epoch
from netwright.training.signals import StopRequest

ROWS, BATCH, STEPS = 97, 12, 200  # the ninth batch of an epoch has one row: of four ranks three have none
FINE, USUAL = torch.float64, torch.float32
CPU = torch.device("cpu")
CASES = (("mlp", FINE), ("mlp", USUAL), ("cnn", FINE), ("cnn", USUAL), ("lstm", FINE), ("lstm", USUAL))


class Last(nn.Module):
    """The last step of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.lstm(x)[0][:, -1])
        return found


def network(case: str) -> nn.Module:
    """Return a network with the weights of one seed."""
    torch.manual_seed(3)
    if case == "mlp":
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    if case == "cnn":
        norm = nn.BatchNorm2d(4)  # of all rows of a batch; the bias before it would be taken out again
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        )
    return Last()


def rows(case: str, dtype: torch.dtype) -> Examples:
    """Return rows of three classes, of which one is rare and one row has the class that the loss ignores."""
    shape = {"mlp": (6,), "cnn": (1, 8, 8), "lstm": (5, 3)}[case]
    generator = torch.Generator().manual_seed(5)
    values = torch.randn((ROWS, *shape), generator=generator, dtype=torch.float64)
    target = (values.flatten(1)[:, 0] > 0.3).long() + (values.flatten(1)[:, 1] > 1.2).long()
    target[7] = -100
    return Examples({"x": values.to(dtype)}, target)


class Losses:
    """Takes the losses of steps."""

    def __init__(self) -> None:
        self.seconds = {"train": 0.0, "valid": 0.0}
        self.told: list[Tensor] = []

    def steps(self, epoch: int, last: int, losses: Tensor, weights: Tensor) -> None:
        self.told += [torch.stack([loss.double(), weight.double()]) for loss, weight in zip(losses, weights, strict=True)]

    def waited(self, seconds: float) -> None:
        self.seconds["waiting"] = seconds


def trained(case: str, dtype: torch.dtype, world: World = ALONE, strategy: str = "ddp") -> dict[str, Tensor]:
    """Train for 200 steps by SGD; return losses with their weights ``(steps, 2)`` and what the network holds."""
    model = network(case).to(dtype)
    if not world.alone:
        model = synchronised(model, CPU)
    if strategy == "fsdp":
        model = shard(model, CPU)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0], dtype=dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    if strategy == "fsdp":
        without_fusion(optimizer)
    engine = choose_engine(Execution(), model, loss, optimizer, world=world)
    plan = Plan(np.arange(ROWS), BATCH, "keep", 99, 1, steps=STEPS, world=world)
    examples, losses, progress = rows(case, dtype), Losses(), Progress()
    while progress.step < STEPS:
        if progress.within:
            progress = Progress(progress.epoch, progress.step)
        progress = train_epoch(engine, examples, plan, progress, losses, NothingKept(), StopRequest())
    assert loss_weight(loss, examples.target) > 0
    world.level(list(model.buffers()))
    held = {name: value.clone() for name, value in whole_parts(model.state_dict()).items()}
    return {"losses": torch.stack(losses.told), **held}


def train_cases(folder: Path, strategy: str) -> None:
    """Train each case in both dtypes with the other ranks; the first rank writes what came out."""
    with join(60.0) as world:
        for case, dtype in CASES:
            found = trained(case, dtype, world, strategy)
            if world.leads:
                safetensors.torch.save_file(found, folder / f"{case}-{dtype}.safetensors")
