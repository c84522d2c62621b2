"""A network on one batch: what it reads, how it ends, whether it answers twice the same and learns rows by heart. Floor 10."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netwright.checks import consistency, description, ending, overfit, rehearsal
from netwright.checks.findings import Finding
from netwright.checks.overfit import Overfit
from netwright.checks.rehearsal import Rehearsed
from netwright.errors import first_line
from netwright.seeding import stream, torch_seed

ROWS, FEWEST = 64, 8  # of the one batch
WORK = 200_000_000  # multiply-adds of a forward pass of it, about; one thread does so much in some milliseconds
MOST_WORK, MOST_PARAMETERS = 5 * WORK, 50_000_000  # beyond which training does not wait for it
TARGETS = 5000  # of train rows, that a purpose is told with
LEARNED_ROWS = 32
ALWAYS_RANDOM = {"dropout-always-on", "layer-made-in-forward"}  # slips in code that explain answers drawn at random


def waited_for(work: int, parameters: int) -> bool:
    """Tell whether training waits for it: a network of so many multiply-adds a row and so many parameters is quick enough."""
    return quick(work) and parameters <= MOST_PARAMETERS


def quick(work: int) -> bool:
    """Tell whether one thread has done the fewest rows soon, of a network of so many multiply-adds a row."""
    return work * FEWEST <= MOST_WORK


def drawn_from(rows: npt.NDArray[np.int64], work: int) -> Tensor:
    """Return the numbers of the train rows of the batch, for a network of so many multiply-adds a row, from a stream of its own."""
    count = max(FEWEST, min(ROWS, WORK // max(work, 1)))
    return torch.from_numpy(rows[stream(0, "checks", 1).permutation(len(rows))[:count]])


def look(
    rehearsed: Callable[[], Rehearsed], found: Sequence[Finding], parameters: int, learned: bool = False
) -> tuple[list[Finding], Overfit | None]:
    """Add to findings what one batch shows; torch's generators are moved.

    Args:
        rehearsed: Makes the network with its batch, anew for each pass.
        found: Of description and code; what lines of code explain is not told again.
        parameters: That are trained.
        learned: Whether to see if some rows can be learned by heart.

    Returns:
        The findings, and how the rows were learned where that was asked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(torch_seed(0, "checks"))
        try:
            return _watched(rehearsed, found, parameters, learned)
        except Exception as error:  # the user's own module may not stand to be watched, though it trains
            why = f"the network could not be watched on one batch ({type(error).__name__}: {first_line(error)})"
            return [*found, Finding("not-watched", "one batch", why, "nothing to do; less is checked", "note", "sure")], None


def _watched(
    rehearsed: Callable[[], Rehearsed], told: Sequence[Finding], parameters: int, learned: bool
) -> tuple[list[Finding], Overfit | None]:
    one = rehearsed()
    flow, seen = rehearsal.rehearse(one)
    lines = {finding.check for finding in told if finding.family == "code"}
    seen = [finding for finding in seen if finding.check not in lines]  # told already, with the line
    found = [
        *told,
        *seen,
        *ending.endings(flow, one.purpose),
        *ending.on_output(flow),
        *description.layers(flow, parameters),
    ]
    if any(finding.check == "not-finite" for finding in seen):
        return found, None
    answered = consistency.consistent(rehearsed(), flow)
    found += [finding for finding in answered if not (finding.check == "random-in-eval" and lines & ALWAYS_RANDOM)]
    if not learned:
        return found, None
    last = rehearsed()
    reached, more = overfit.overfit(replace(last, batch=last.batch.part(0, LEARNED_ROWS)))
    return [*found, *more], reached
