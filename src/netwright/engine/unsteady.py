"""The state of a step on a device kept and put back, and how far two are apart where kernels give other bits each time. Floor 7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from netwright.recording.graphs import Generators


@final
class Snapshot:
    """A copy of tensors and of the state of the generator on their device.

    Args:
        tensors: What a step changes.
        generators: Knows the generator.

    ``values`` are the copies, the state of the generator last.
    """

    def __init__(self, tensors: Sequence[Tensor], generators: Generators) -> None:
        self._generators = generators
        self._there = [value.detach() for value in tensors]
        self._here = [value.clone() for value in self._there]
        self._generator = generators.generator()

    @property
    def values(self) -> list[Tensor]:
        """The copies, and the state of the generator."""
        return [*self._here, self._generator]

    def renew(self) -> None:
        """Copy everything again, into the same room."""
        _copy(self._there, self._here)
        self._generator = self._generators.generator()

    def put_back(self) -> None:
        """Put everything where it was."""
        _copy(self._here, self._there)
        self._generators.set_generator(self._generator)


@torch.no_grad()
def _copy(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    """Copy many tensors, those of one dtype at once."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for value, place in zip(values, into, strict=True):
        values_so_far, places_so_far = by_dtype.setdefault(value.dtype, ([], []))
        values_so_far.append(value)
        places_so_far.append(place)
    for some, places in by_dtype.values():
        torch._foreach_copy_(places, some)


def apart(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the 2-norm of the difference of all numbers of two lists; infinite where whole numbers or generators differ.

    Example:
        >>> apart([torch.tensor([3.0, 0.0]), torch.tensor(1)], [torch.tensor([0.0, 4.0]), torch.tensor(1)])
        5.0
    """
    total = 0.0
    for one, other in zip(some, others, strict=True):
        if one.is_floating_point():
            unlike = one != other  # of which an infinity that is the same in both is none
            total += float((one[unlike].double() - other[unlike].double()).square().sum())
        elif not torch.equal(one, other):
            return math.inf
    return math.sqrt(total) if math.isfinite(total) else math.inf
