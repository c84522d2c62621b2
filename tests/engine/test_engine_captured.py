"""Captured steps against the step as it is written: equal weights, buffers, optimizer, losses and generator, bit by bit."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netwright.data.batches import Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine import building
from netwright.engine.base import Engine
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.state import copied, differing
from netwright.model import modules

ROWS, BATCH, EPOCHS = 44, 10, 6  # the last batch is smaller

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
    "Linear": ((12,), lambda: [nn.Linear(12, 70), nn.ReLU(), nn.Linear(70, 64), nn.Tanh(), nn.Linear(64, 3)]),
    "wide": ((300,), lambda: [nn.Linear(300, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 3)]),
    "activations": (
        (12,),
        lambda: [nn.Linear(12, 40), nn.GELU(), nn.LeakyReLU(), nn.Sigmoid(), nn.SiLU(), nn.Linear(40, 3)],
    ),
    "Conv1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(42, 3)]),
    "Conv2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)]),
    "Conv3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(32, 3)]),
    "AvgPool1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(42, 3)]),
    "AvgPool2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 3)]),
    "AvgPool3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(32, 3)]),
    "AdaptiveAvgPool2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)]),
    "RNN": ((7, 3), lambda: [modules.RNN(3, 8, batch_first=True), modules.LastStep(), nn.Linear(8, 3)]),
    "LSTM": (
        (7, 3),
        lambda: [
            modules.LSTM(3, 8, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True),
            modules.LastStep(),
            nn.Linear(16, 3),
        ],
    ),
    "GRU": ((7, 3), lambda: [modules.GRU(3, 8, batch_first=True), modules.MeanOverTime(), nn.Linear(8, 3)]),
    "Dropout": ((12,), lambda: [nn.Linear(12, 40), nn.Dropout(0.4), nn.ReLU(), nn.Linear(40, 3)]),
    "Dropout1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.Dropout1d(0.4), nn.Flatten(), nn.Linear(84, 3)]),
    "Dropout2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(294, 3)]),
    "Dropout3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.Dropout3d(0.4), nn.Flatten(), nn.Linear(256, 3)]),
    "BatchNorm1d": ((12,), lambda: [nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 3)]),
    "BatchNorm2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(294, 3)]),
    "BatchNorm3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(256, 3)]),
    "LayerNorm": ((12,), lambda: [nn.Linear(12, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 3)]),
    "InstanceNorm2d": (
        (1, 9, 9),
        lambda: [
            nn.Conv2d(1, 6, 3),
            nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
            nn.Flatten(),
            nn.Linear(294, 3),
        ],
    ),
    "GroupNorm": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(294, 3)]),
}


@pytest.fixture(scope="session")
def compiled() -> None:
    """Wait for the native library, or skip where there can be none."""
    if not any(shutil.which(name) for name in building.COMPILERS):
        pytest.skip("no C++ compiler here")
    building.library(wait=True)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples_of(shape: tuple[int, ...], classes: bool = True, rows: int = ROWS) -> Examples:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(rows, *shape, generator=generator)
    target = torch.arange(rows) % 3 if classes else X.reshape(rows, -1)[:, :3] * 2
    return Examples({"x": X}, target)


def run(engine: Engine, examples: Examples, epochs: int = EPOCHS, batch: int = BATCH) -> tuple[list[float], list[float]]:
    """Train, and return losses and weights."""
    losses: list[float] = []
    weights: list[float] = []
    torch.manual_seed(11)
    for epoch in range(1, epochs + 1):
        engine.model.train()
        order = epoch_order(np.arange(examples.rows), 0, epoch)
        feed = Feed(examples, order, batch)
        left = -(-examples.rows // batch)
        while left:
            steps = engine.train_steps(feed, left)
            if steps.failure is not None:
                raise steps.failure.error
            left -= len(steps.losses)
            losses += steps.losses.tolist()
            weights += steps.weights.tolist()
    return losses, weights


def both(
    model: nn.Module,
    examples: Examples,
    loss: Any = None,
    make: Callable[..., torch.optim.Optimizer] = lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True),
    **settings: Any,
) -> CapturedEngine:
    """Train a network both ways and demand equal bits; return the captured engine."""
    loss = nn.CrossEntropyLoss() if loss is None else loss
    other, other_loss = copy.deepcopy((model, loss))
    eager = EagerEngine(model, loss, make(model.parameters()))
    captured = CapturedEngine(EagerEngine(other, other_loss, make(other.parameters())), **settings)
    expected = run(eager, examples)
    truth = copied(model, loss, eager.optimizer)
    found = run(captured, examples)
    assert found == expected
    assert differing(copied(other, other_loss, captured.optimizer), truth) == 0
    return captured


def network(name: str) -> tuple[nn.Module, Examples]:
    torch.manual_seed(1)
    shape, layers = LAYERS[name]
    return nn.Sequential(*layers()), examples_of(shape)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_the_same_bits_replayed_from_python(name: str) -> None:
    engine = both(*network(name), native=False)
    assert engine.played() == "from Python"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.usefixtures("compiled")
def test_every_layer_gives_the_same_bits_replayed_natively(name: str, lanes: int) -> None:
    engine = both(*network(name), lanes=lanes, by_name=True)
    assert engine.played() == ("natively" if lanes == 1 else f"natively on {lanes} cores")
