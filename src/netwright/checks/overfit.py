"""Whether a network can learn one batch by heart: the oldest test of all (Karpathy, 2019). Only on request. Floor 10."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from torch import nn

from netwright.checks.findings import Finding
from netwright.checks.rehearsal import Rehearsed
from netwright.engine.eager import train_step
from netwright.errors import DivergedError
from netwright.model.modules import MOVES
from netwright.numerals import counted, figure

STEPS = 200
SECONDS = 5.0  # of this thread's own work: a machine that is busy with something else gets the same answer
HARDLY, LEARNED = 0.9, 0.1  # of the first loss: hardly fallen, and enough
DROPPING = ("p", "dropout")


@dataclass(frozen=True)
class Overfit:
    """What was reached: losses of the first and the last step, steps taken, rows of the batch."""

    first: float
    reached: float
    steps: int
    rows: int

    def __str__(self) -> str:
        return (
            f"one batch of {counted(self.rows, 'row')}: loss {figure(self.first)} to {figure(self.reached)} in "
            f"{counted(self.steps, 'step')}"
        )


def overfit(one: Rehearsed, steps: int = STEPS) -> tuple[Overfit, list[Finding]]:
    """Train a copy on one batch, without dropout.

    Args:
        one: The network is a copy and is trained.
        steps: At most so many, or 5 seconds of work.

    Returns:
        What was reached, and a finding where the loss hardly falls.
    """
    model = without_dropout(one.model).train()
    optimizer = one.make(model)
    begun = time.thread_time()
    losses: list[float] = []
    problem = ""
    for _ in range(steps):
        try:
            losses.append(float(train_step(model, one.loss, optimizer, one.batch, one.update)))
            if losses[-1] <= LEARNED * losses[0]:
                break
        except DivergedError as error:
            problem = str(error)
            break
        if time.thread_time() - begun > SECONDS:
            break
    first = losses[0] if losses else math.nan
    best = min(losses[-10:]) if losses else math.nan
    reached = Overfit(first, best, len(losses), len(one.batch))
    if problem:
        why = f"training on one batch fails after {counted(losses, 'step')}: {problem}"
        return reached, [
            Finding(
                "cannot-overfit", "one batch", why, "use a smaller learning rate, and look at the inputs", "error", "sure"
            )
        ]
    if len(losses) < steps // 4 or first <= 1e-6 or best <= HARDLY * first:
        return reached, []
    return reached, [
        Finding(
            "cannot-overfit",
            "one batch",
            f"{reached}, without dropout: a network that cannot learn {counted(reached.rows, 'row')} by heart will not learn more",
            "look at the learning rate, at what the loss reads, and whether inputs and targets belong together",
            confidence="sure",
            figures={"first": first, "reached": best, "steps": len(losses)},
        )
    ]


def without_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout of a copy to 0, take out what moves rows at random, and return it."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # named_children leaves out a layer that stands in two places
            if isinstance(child, MOVES):
                setattr(module, name, nn.Identity())
        for name in DROPPING:
            if isinstance(getattr(module, name, None), float) and (name == "dropout" or "Dropout" in type(module).__name__):
                setattr(module, name, 0.0)
    return model
