"""The state of a step on a device kept and put back, and how far two are apart where kernels give other bits each time. Floor 7."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from netwright.distributed.world import World
from netwright.errors import first_line
from netwright.recording.graphs import Generators
from netwright.recording.state import differing

AGAIN = 3  # times that a step as written is taken again to see how far it is from itself
NOISE = 4.0  # times as far from it a replay may be


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


@final
class Comparison:
    """Whether what repeats a step gives its bits, beyond what the step differs from itself; in all processes the same answer.

    Args:
        changed: Gives the tensors that a step changes.
        generators: Knows the generator that it draws from.
        world: The processes that take each step together; every one must ask.

    ``unsteady`` tells whether the step as written was seen to give other bits each time.
    """

    def __init__(self, changed: Callable[[], Iterable[Tensor]], generators: Generators, world: World) -> None:
        self._changed, self._generators, self._world = changed, generators, world
        self.unsteady = False
        self._own: dict[int, float] = {}  # how far apart they were, by how many losses were compared

    def forget(self) -> None:
        """Forget how far the step was from itself."""
        self._own.clear()

    def copy(self) -> Snapshot | str:
        """Return a copy of what steps change, or why there is none in this process or in another."""
        try:
            found, problem = Snapshot(list(self._changed()), self._generators), ""
        except RuntimeError as error:
            problem = first_line(error)
        return self._world.agreed(problem) or found

    def wrong(self, before: Snapshot, after: Snapshot, given: Any, loss: Tensor, again: Callable[[], Any]) -> str:
        """Return in what steps differ from those as written, taken last, beyond what these differ from themselves; or nothing."""
        now = self.copy()
        if isinstance(now, str):
            return now
        wrong = differing([*after.values, given.to(loss.dtype)], [*now.values, loss.reshape(-1)])
        if not self._world.anywhere(bool(wrong)):
            return ""
        own, problem = self._own.get(loss.numel(), 0.0), ""
        try:
            for _ in range(AGAIN):
                before.put_back()
                again()
                later = self.copy()
                if isinstance(later, str):
                    return later
                own = max(own, apart(now.values, later.values))
            self._own[loss.numel()] = own
            if wrong and not (0 < own < torch.inf and apart(now.values, after.values) <= NOISE * own):
                problem = f"its replay gives other bits, in {wrong} of {len(now.values) + 1} tensors"
        except RuntimeError as error:
            if not self._world.alone:  # the others wait in the middle of a step
                raise
            problem = first_line(error)
        finally:
            now.put_back()
        problem = self._world.agreed(problem)
        self.unsteady = self.unsteady or not problem
        return problem
