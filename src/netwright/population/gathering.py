"""Batches whose rows are gathered for some steps at a time, so that a step begins with none of that. Floor 8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from netwright.data.batches import Batch
from netwright.data.feed import TARGET

STEPS = 64
ROOM = {"cuda": 1 << 25}  # bytes of rows that are gathered at a time
LEAST_ROOM = 1 << 20  # on a CPU: they are read again while they are in its cache


def batches(sources: Mapping[str, Tensor], order: Tensor) -> Iterator[Batch]:
    """Yield the batches of steps.

    Args:
        sources: All rows by the name of their input, and the target, on one device.
        order: The row numbers of each step, int64 ``(steps, rows)``.
    """
    device = sources[TARGET].device
    size = order.shape[1]
    row = sum(value[:1].numel() * value.element_size() for value in sources.values())
    steps = max(1, min(STEPS, ROOM.get(device.type, LEAST_ROOM) // max(1, row * size)))
    for block in torch.split(order, steps):
        numbers = block.reshape(-1).to(device)
        parts = {name: torch.split(value.index_select(0, numbers), size) for name, value in sources.items()}
        for place, rows in enumerate(block):
            inputs = {name: part[place] for name, part in parts.items() if name != TARGET}
            yield Batch(inputs, parts[TARGET][place], rows)
