"""Rows in a fixed order, cut into batches by index; the order is a pure function of seed and epoch. Floor 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netwright.seeding import stream

Rows = npt.NDArray[np.int64]
RESIDENT_SHARE = 0.3  # of a device's free memory


@dataclass(frozen=True)
class Batch:
    """Some rows as the training step reads them.

    ``inputs`` are tensors ``(batch, ...)`` by name, ``target`` is ``(batch,)`` int64 of classes or
    ``(batch, outputs)`` float32, ``rows`` are the row numbers, int64.
    """

    inputs: dict[str, Tensor]
    target: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Examples:
    """All prepared rows: the inputs by name ``(rows, ...)`` and the target ``(rows, ...)``."""

    inputs: dict[str, Tensor]
    target: Tensor
    device: torch.device = torch.device("cpu")

    def to(self, device: torch.device) -> Examples:
        """Return the same rows for a device: they live there if they take at most 30 % of its free memory.

        Rows too large for that stay in the computer's memory, and each batch is sent over.
        """
        if device.type == "cuda" and self.size() > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return Examples(self.inputs, self.target, device)
        return Examples({name: value.to(device) for name, value in self.inputs.items()}, self.target.to(device), device)

    def size(self) -> int:
        """Return the bytes of all rows."""
        return sum(value.numel() * value.element_size() for value in (*self.inputs.values(), self.target))

    def batch(self, rows: Tensor) -> Batch:
        """Gather rows by their numbers, int64 ``(batch,)``, on the device."""
        index = rows.to(self.target.device)
        inputs = {name: value[index].to(self.device) for name, value in self.inputs.items()}
        return Batch(inputs, self.target[index].to(self.device), index)


def epoch_order(rows: Rows, seed: int, epoch: int) -> Rows:
    """Return the rows in the order in which an epoch (from 1) trains on them."""
    return stream(seed, "order", epoch).permutation(rows)


def steps_per_epoch(rows: int, batch_size: int, last_batch: str) -> int:
    """Return the number of batches an epoch has."""
    whole, rest = divmod(rows, batch_size)
    return max(1, whole + (1 if rest and last_batch == "keep" else 0))


def batches(examples: Examples, rows: Rows, batch_size: int, last_batch: str = "keep") -> Iterator[Batch]:
    """Cut rows, in the order given, into batches.

    Args:
        examples: All prepared rows.
        rows: The row numbers to deliver, in order.
        batch_size: Rows per batch.
        last_batch: ``keep`` or ``drop`` a smaller last batch.

    Yields:
        One batch after the other.
    """
    index = torch.from_numpy(np.ascontiguousarray(rows))
    for number in range(steps_per_epoch(len(rows), batch_size, last_batch)):
        yield examples.batch(index[number * batch_size : (number + 1) * batch_size])
