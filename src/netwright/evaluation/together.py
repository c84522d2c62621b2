"""Rows scored by several processes: each takes its part, and the first has the outputs of all. Floor 8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from netwright.data.batches import Examples, Rows
from netwright.distributed.world import World
from netwright.engine.forward import Forward
from netwright.engine.sharding import is_sharded, let_go
from netwright.evaluation.scoring import Scores, score


def score_together(
    world: World,
    forward: Forward,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    examples: Examples,
    rows: Rows,
    batch_size: int,
) -> Scores:
    """Run rows through a network, each process its own part of them; each row is scored once.

    Args:
        world: The processes; the buffers of the network become those of the first.
        forward, loss_function, examples, rows, batch_size: See `netwright.evaluation.scoring.score`.

    Returns:
        In the first process outputs and loss of all rows, in their order; in the others the loss of all.
    """
    if world.share is None:
        return score(forward, loss_function, examples, rows, batch_size)
    world.level(list(forward.model.buffers()))
    begin, end = world.share.bounds(len(rows))
    most = world.share.of_first(len(rows)) if is_sharded(forward.model) else 0
    scores = score(forward, loss_function, examples, rows[begin:end] if end > begin else rows[:1], batch_size, most)
    let_go(forward.model)
    none = end == begin
    sums = torch.tensor([0.0, 0.0] if none else [scores.loss_sum, scores.weight], dtype=torch.float64)
    loss_sum, weight = world.total(sums).tolist()
    return Scores(world.gathered_rows(scores.outputs[:0] if none else scores.outputs), loss_sum, weight)
