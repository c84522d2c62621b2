"""Schedules that are built by a function of the user's. Floor 9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from netwright.errors import ConfigError, first_line
from netwright.training.schedulers import Made, made_of

Build = Callable[[torch.optim.Optimizer], Any]
EXPECTED = (
    "a function of the optimizer, such as lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, share), or one that "
    'returns (scheduler, "step") for a scheduler that steps after every step'
)


def build_own_schedule(function: Build, optimizer: torch.optim.Optimizer) -> Made:
    """Return the scheduler that a function makes of an optimizer.

    Args:
        function: Returns a scheduler, which steps after every epoch (OneCycleLR and CyclicLR: every step), or a pair of it and
            ``"step"`` or ``"epoch"``.
        optimizer: A double of the run's, with the same groups.

    Raises:
        ConfigError: It fails, or returns no scheduler of this optimizer.
    """
    try:
        found = function(optimizer)
    except Exception as error:  # an own function may raise anything
        raise ConfigError(
            f"schedule: it cannot be built: {type(error).__name__}: {first_line(error)}; expected {EXPECTED}; mend it"
        ) from error
    scheduler, every = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if every not in (None, "step", "epoch"):
        raise ConfigError(f'schedule: {every!r} came with the scheduler; expected "step" or "epoch"; return one of them')
    if not all(callable(getattr(scheduler, name, None)) for name in ("step", "state_dict", "load_state_dict")):
        raise ConfigError(f"schedule: the function returned {type(scheduler).__name__}; expected a scheduler; return one")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ConfigError(
            "schedule: it turns another optimizer than the one it is handed; expected that one; take it from the argument"
        )
    return made_of(scheduler, isinstance(scheduler, OneCycleLR | CyclicLR) if every is None else every == "step")
