"""The engine of dense layers on the CPU beside the step in float64."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from dense_cases import LOSSES, OPTIMIZERS, share
from torch import nn

from netwright.data.batches import Examples
from netwright.data.feed import Feed
from netwright.engine.dense_cpu import DenseCpuEngine, dense_cpu_engine
from netwright.engine.eager import EagerEngine
from netwright.engine.update import PLAIN, Update, change_gradients
from netwright.recording import building

BATCH, EPOCHS = 19, 3


def wait_for_library() -> None:
    """Wait for the library, or skip where there can be none."""
    if not any(shutil.which(name) for name in building.COMPILERS):
        pytest.skip("no C++ compiler here")
    building.library(wait=True, source=building.DENSE)


def rows_of(*shape: int, rows: int = 53) -> Examples:
    """Return rows of a shape and their classes."""
    draw = torch.Generator().manual_seed(1)
    return Examples({"x": torch.randn(rows, *shape, generator=draw)}, torch.randint(0, 5, (rows,), generator=draw))


def engine_for(
    model: nn.Module, loss: str = "classes", optimizer: str = "Adam", lanes: int = 2, update: Update = PLAIN
) -> DenseCpuEngine:
    """Return the engine of a network; what it cannot take runs as it is written."""
    eager = EagerEngine(model, LOSSES[loss](), OPTIMIZERS[optimizer](model), update=update)
    made = dense_cpu_engine(eager, lambda: eager, lanes)
    assert made is not None
    return made


def orders(rows: int, epochs: int = EPOCHS) -> list[np.ndarray]:
    """Return the order of the rows in some epochs."""
    return [np.random.default_rng(epoch).permutation(rows) for epoch in range(epochs)]


def train(engine: Any, examples: Examples, epochs: int = EPOCHS, batch: int = BATCH, most: int = 1000) -> list[float]:
    """Train some epochs in calls of at most so many steps; return the losses."""
    losses: list[float] = []
    for order in orders(len(examples.target), epochs):
        feed, left = Feed(examples, order, batch), -(-len(order) // batch)
        while left:
            steps = engine.train_steps(feed, min(left, most))
            assert steps.failure is None, steps.failure
            losses += steps.losses.tolist()
            left -= len(steps.losses)
    return losses


def beside_exact(engine: DenseCpuEngine, examples: Examples, optimizer: str) -> tuple[float, float]:
    """Train with an engine and the same network in float64; return how far losses and weights are from it, as shares."""
    exact, loss = copy.deepcopy(engine.model).double(), copy.deepcopy(engine.loss_function).double()  # type: ignore[attr-defined]
    made, expected = OPTIMIZERS[optimizer](exact), []
    found = train(engine, examples)
    for order in orders(len(examples.target)):
        for start in range(0, len(order), BATCH):
            rows = torch.from_numpy(order[start : start + BATCH])
            target = examples.target[rows]
            made.zero_grad()
            one = loss(exact(examples.inputs["x"][rows].double()), target.double() if target.is_floating_point() else target)
            one.backward()
            change_gradients(exact, engine.eager.update)
            made.step()
            expected.append(one.item())
    assert engine.why_not is None
    assert engine._taken_here >= len(expected) - 1
    apart = max(share(one, other) for one, other in zip(engine.model.parameters(), exact.parameters(), strict=True))
    return max(abs(one / other - 1) for one, other in zip(found, expected, strict=True)), apart
