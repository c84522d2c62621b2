"""A stop that one of several processes is asked for: all answer alike, also where an epoch goes on after its last step."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netwright.data.batches import Examples
from netwright.distributed.world import World
from netwright.training.journal import Journal
from netwright.training.loop import Plan, Progress, train
from netwright.training.signals import StopRequest


@pytest.mark.parametrize("own", [signal.SIGTERM, None])
def test_after_the_last_step_of_an_epoch_a_process_waits_for_what_all_say(
    own: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def highest(world: World, flags: list[int]) -> list[int]:
        """Answer as if a process had been sent SIGTERM before the loop began."""
        said.append("agreed")
        return [max(int(flags[0]), int(signal.SIGTERM)), *map(int, flags[1:])]

    def steps(feed: Any, most: int, rates: Any) -> Any:
        said.append("step")
        return SimpleNamespace(losses=torch.ones(1), weights=torch.ones(1), failure=None)

    def validate() -> dict[str, float]:
        said.append("validation")
        return {"loss": 1.0}

    monkeypatch.setattr(World, "highest", highest)
    engine: Any = SimpleNamespace(
        model=nn.Linear(1, 1), eager=SimpleNamespace(averaged=None), train_steps=steps, optimizer=None
    )
    saving: Any = SimpleNamespace(due=lambda step: False, steps_until=lambda step, most: most, save=lambda progress: None)
    rows = np.arange(8)
    plan = Plan(rows, 4, "keep", 3, 0, world=World(1, 2))
    schedule = SimpleNamespace(
        ahead=lambda most: None, advance=lambda taken: None, rate=lambda optimizer: 0.1, after_epoch=lambda record: None
    )
    object.__setattr__(plan, "schedule", schedule)
    examples = Examples((torch.ones(8, 1),), torch.ones(8, 1))
    stop = StopRequest(own)
    journal = Journal(None, ["loss"], None)
    end = train(engine, examples, plan, validate, journal, saving, lambda record: None, stop, Progress(1, 2, 2))
    assert said == ["validation", "agreed", "step", "agreed"]
    assert end.ended == "stopped by SIGTERM after step 3"
