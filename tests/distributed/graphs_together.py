"""Steps that two processes share, replayed by a stand-in for CUDA graphs that does the work again: what each rank does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ranks import Nccl
from standins import Again
from torch import nn

from netwright.data.batches import Examples, epoch_order
from netwright.data.feed import Feed
from netwright.distributed import failures
from netwright.distributed.heartbeat import over_in_all
from netwright.distributed.joining import join
from netwright.distributed.world import World
from netwright.engine import graphed, repeated
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine
from netwright.engine.eager import EagerEngine
from netwright.engine.shared import SharedEngine
from netwright.engine.shared_graphs import SharedGraphedEngine
from netwright.engine.update import Update
from netwright.errors import ConfigError
from netwright.recording.graphs import Work

BAD, BAD_EPOCH = 17, 6  # the row that holds what is no number in one case, and the epoch from which it is read
ROWS, BATCH, EPOCHS = 105, 10, 9  # the last batch has five rows: three for the first process


def rows(bad: bool) -> Examples:
    """Return rows and classes; one row may hold what is no number."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(ROWS, 12, generator=draw)
    if bad:
        values[BAD] = torch.nan
    return Examples({"x": values}, torch.randint(0, 3, (ROWS,), generator=draw))


def written(rank: int, loss: nn.Module | None = None, **how: Any) -> EagerEngine:
    """Return the engine of a network with batch norm and dropout, and a mean of its weights, as it is written."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Dropout(0.2), nn.Linear(30, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    torch.manual_seed(10 + rank)  # each process draws its own dropout
    average = Averaged(model, decay=0.9)
    return EagerEngine(model.train(), loss or nn.CrossEntropyLoss(), optimizer, averaged=average, **how)


def train(engine: Engine, examples: Examples, world: World, epochs: int) -> tuple[list[float], list[int], str]:
    """Train; return the losses, how many steps each call took, and the error that ended it."""
    losses, calls = [], []
    for epoch in range(1, epochs + 1):
        order = epoch_order(np.arange(ROWS), 7, epoch)[:]
        order = order if epoch >= BAD_EPOCH else np.where(order == BAD, 0, order)
        feed = Feed(examples, order, BATCH, share=world.share)
        left = -(-ROWS // BATCH)
        while left:
            steps = engine.train_steps(feed, left)
            losses += steps.losses.tolist()
            calls.append(len(steps.losses))
            left -= len(steps.losses)
            if steps.failure is not None:
                return losses, calls, f"{type(steps.failure.error).__name__}: {steps.failure.error}"
    return losses, calls, ""


def weights(engine: EagerEngine) -> str:
    """Return all numbers that a step changes, and the next that is drawn."""
    return repr([value.flatten().tolist() for value in engine.networks.state_dict().values()] + [torch.rand(1).tolist()])


class Otherwise(Again):
    """Gives other bits in each replay, as a stand-in whose capture went wrong would."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network

    def capture(self, work: Work, branches: Any = None) -> Work:
        def replay() -> None:
            work()
            with torch.no_grad():
                next(self._network.parameters()).add_(1e-3)

        return replay


class Refused(Again):
    """Cannot capture."""

    def capture(self, work: Work, branches: Any = None) -> Work:
        raise RuntimeError("no room for a graph")


class Broken(Again):
    """Cannot replay, as where a kernel fails."""

    def capture(self, work: Work, branches: Any = None) -> Work:
        def replay() -> None:
            raise RuntimeError("the kernel broke")

        return replay


class Quiet(Again):
    """Does the work again, in which the processes may not tell each other anything by the host."""

    def capture(self, work: Work, branches: Any = None) -> Work:
        again = super().capture(work, branches)

        def replay() -> None:
            with patch.object(World, "_heard", side_effect=AssertionError("the host speaks within a graph")):
                again()

        return replay


def _graphs(world: World, name: str, model: nn.Module) -> Again:
    """Return the stand-in of a case: what is wrong is wrong in the second process."""
    if world.rank == 0 or name not in ("other bits", "refused", "refused by name", "broken"):
        return Quiet()
    return {"other bits": lambda: Otherwise(model), "broken": Broken}.get(name, Refused)()


@contextmanager
def _changed(name: str, world: World) -> Iterator[None]:
    """Let calls take as many steps as there are, whatever the clock says, and what a case is about be otherwise."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(graphed, "AT_A_TIME", 100.0))
        stack.enter_context(patch.multiple(repeated, BRIEF=100.0 if name == "many" else 0.0, WORTHWHILE=8))
        if name == "scattered" and world.rank == 1:  # its rows do not lie where steps are taken
            stack.enter_context(patch.object(Feed, "whole", lambda feed: None))
        yield


def case(world: World, name: str) -> dict[str, Any]:
    """Train as written and replayed; return what came out of both in this process."""
    how = {"update": Update(clip_grad_norm=0.5)} if name == "clipped" else {}
    examples = rows(name == "bad")
    if name == "ignored":
        examples.target[5] = -100
    one = written(world.rank, **how)
    epochs = EPOCHS if name in REPLAYED else 3
    expected = train(SharedEngine(one, world), examples, world, epochs)
    after = weights(one)
    other, told = written(world.rank, **how), list[str]()
    graphs = _graphs(world, name, other.model)
    engine = SharedGraphedEngine(other, graphs, world, by_name="by name" in name, tell=told.append)
    try:
        with _changed(name, world):
            found = train(engine, examples, world, epochs)
    except ConfigError as error:
        return {"error": str(error)}
    return {
        "losses": [expected[0], found[0]],
        "calls": found[1],
        "ends": [expected[2], found[2]],
        "same": after == weights(other),
        "told": told,
        "played": engine.played(),
        "replayed": graphs.replayed,
        "captured": graphs.captured,
    }


REPLAYED = ("plain", "clipped", "many", "bad")
NAMES = (*REPLAYED, "other bits", "refused", "refused by name", "ignored", "scattered")


def main(place: str) -> None:
    """Run all cases, and write down what this process saw."""
    with join() as world:
        found = {name: case(world, name) for name in NAMES}
        Path(place, f"told-{world.rank}.json").write_text(json.dumps(found))


def _over_nccl() -> None:
    """Let this process have links over NCCL."""
    failures.Links.of = lambda dist: failures.Links(Nccl())  # type: ignore[method-assign]


def breaks() -> None:
    """Train where a replay fails in the second process."""
    _over_nccl()
    with join(120.0) as world:
        one = written(world.rank)
        engine, examples = (
            SharedGraphedEngine(one, _graphs(world, "broken", one.model), world, by_name=True),
            rows(bad=False),
        )
        for epoch in range(1, EPOCHS + 1):
            feed = Feed(examples, epoch_order(np.arange(ROWS), 7, epoch), BATCH, share=world.share)
            for _ in range(-(-ROWS // BATCH)):
                steps = engine.train_steps(feed, 1)
                if steps.failure is not None:
                    raise steps.failure.error


def waits() -> None:
    """Wait for work that is never over in the first process and cannot be asked for in the second."""

    def over() -> bool:
        if world.rank == 1:
            raise RuntimeError("an illegal memory access")
        return False

    _over_nccl()
    with join(120.0) as world:
        over_in_all(world, over)
