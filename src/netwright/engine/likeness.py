"""A step taken otherwise than it is written, compared with it from the same state: alike but for last bits, or not. Floor 7."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.engine.eager import EagerEngine
from netwright.engine.unsteady import Snapshot
from netwright.errors import first_line
from netwright.recording.graphs import Generators
from netwright.recording.state import tensors

CHECKED = 2  # steps that are compared with those as written
FAR = 0.05  # how far a change may be from that of the step as written, as a share of it
FAR_OF_WEIGHTS = 0.5  # theirs, as Adam takes a step of full length where a gradient is nothing but rounding
NOISE = 16.0  # times as far as the step as written is from itself with its rows in another order
ROUNDING = 2.0**-23  # of a number of float32, as a share of it
LEAST = 8 * ROUNDING  # that a loss may be away, which is a difference of numbers about 1


class UnlikeError(Exception):
    """Why a step otherwise is not to be taken; everything is as it was before it."""


def compared_step(
    eager: EagerEngine,
    generators: Generators,
    step: Callable[[], Tensor],
    batch: Callable[[], Batch],
    draws: bool,
    noise: Sequence[Tensor] = (),
) -> Tensor:
    """Take a step as it is written and otherwise, from the same state; go on from the latter, where they are alike.

    Where a change is nothing but rounding, as at an optimum, both are far from each other; so is the step as written from
    itself with its rows in another order, unless it ``draws`` for each row.

    Args:
        eager: The step as it is written.
        generators: What steps draw from.
        step: Takes it otherwise, and returns its loss.
        batch: Makes the rows of the step.
        draws: Whether a step draws random numbers.
        noise: Parameters whose gradient is nothing but rounding: they and what the optimizer keeps of them are not compared.

    Raises:
        UnlikeError: The step otherwise fails, or is not alike.
        DivergedError: The loss of the step as written is not finite.
    """
    there = list(tensors(eager.networks, eager.loss_function, eager.optimizer))
    before = Snapshot(there, generators)
    expected = eager.train_step(batch())
    eager.optimizer.zero_grad()
    written = Snapshot(there, generators)
    before.put_back()
    beside = [id(value) for one in noise for value in (one, *eager.optimizer.state.get(one, {}).values())]
    compared = [number for number, value in enumerate(there) if id(value) not in beside]
    try:
        loss = step()
    except Exception as error:  # of a compiler, or of what it made; a loss that is not finite, where that as written is
        before.put_back()
        raise UnlikeError(first_line(error)) from error
    taken = Snapshot(there, generators)
    of_loss = _times(loss, expected, torch.zeros_like(loss), least=LEAST)
    far = max(of_loss, _most(there, compared, taken, written, before))
    if far > 1 and not draws:
        before.put_back()
        _backwards(eager, batch())
        far = max(of_loss, _most(there, compared, taken, written, before, there))
    if far > 1:
        before.put_back()
        raise UnlikeError(f"one of them was {far:.2g} times as far from the step as written as it may be")
    taken.put_back()
    return loss


def _backwards(eager: EagerEngine, batch: Batch) -> None:
    """Take the step as it is written with the rows of a batch in the other order, in float32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        inputs = {name: value.flip(0) for name, value in batch.inputs.items()}
        eager.train_step(Batch(inputs, batch.target.flip(0), batch.rows.flip(0)))
    finally:
        torch.set_float32_matmul_precision(precision)
    eager.optimizer.zero_grad()


def _most(
    there: Sequence[Tensor],
    compared: Sequence[int],
    found: Snapshot,
    expected: Snapshot,
    before: Snapshot,
    own: Sequence[Tensor] = (),
) -> float:
    """Return how many times as far as it may be any tensor is from where it was expected, see `_times`.

    Args:
        there: The tensors; weights may be further away.
        compared: The numbers of those that are compared.
        found, expected, before: They after both steps, and before them.
        own: They after the step that was expected, taken in another order; empty where it was not.
    """
    most = 0.0
    for number in compared:
        share = FAR_OF_WEIGHTS if isinstance(there[number], nn.Parameter) else FAR
        other = own[number].detach() if own else expected.values[number]
        most = max(most, _times(found.values[number], expected.values[number], before.values[number], share, other))
    return most


def _times(
    found: Tensor, expected: Tensor, before: Tensor, share: float = FAR, own: Tensor | None = None, least: float = 0.0
) -> float:
    """Return how many times as far as it may be a tensor is from where it was expected; infinite where either is no number.

    It may be away by a share of what changed, by rounding, by some times what ``own`` is away, and by ``least``.
    """
    if not found.is_floating_point():
        return 0.0 if torch.equal(expected, found) else math.inf
    exact = expected.double()
    away, noise = (found - exact).norm().item(), 0.0 if own is None else (own - exact).norm().item()
    allowed = share * (exact - before).norm().item() + ROUNDING * exact.norm().item() + NOISE * noise + least
    if not math.isfinite(away + allowed):
        return math.inf
    return away / allowed if allowed else (math.inf if away else 0.0)
