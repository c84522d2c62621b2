"""Stand-ins for what captures work on a GPU; see `netwright.recording.graphs.Graphs`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from netwright.recording.branches import Branches
from netwright.recording.graphs import Work
from netwright.recording.operations import IGNORED, Mode
from netwright.recording.state import copied, put_back


class Again:
    """Does the work again; counts what it was asked for."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0
        self.parts: Any = None
        self.times: list[float] = []

    def warm(self, work: Work) -> None:
        work()

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay

    def seconds(self, work: Work) -> float:
        """Return the next of the seconds that a test gives; nothing where there are none."""
        return self.times.pop(0) if self.times else 0.0

    def generator(self) -> Tensor:
        return torch.default_generator.get_state()

    def set_generator(self, state: Tensor) -> None:
        torch.default_generator.set_state(state)

    def aside(self) -> Any:
        """Return nothing: the generator of the device is that of the CPU here."""

    def beside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def ended(self) -> Callable[[], bool]:
        return lambda: True


class Noted(Mode):
    """Keeps the operations that run under it with all their tensors, so that each can be done again where those lie."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.gradients: list[bool] = []  # whether they were on: some operations keep more for the way back then

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.namespace not in IGNORED:
            self.done.append((function, args, kwargs or {}, result))
            self.gradients.append(torch.is_grad_enabled())
        return result

    def again(self, number: int) -> None:
        """Do an operation again; what it returns comes to lie where it lay."""
        function, args, keywords, before = self.done[number]
        with torch._C._AutoDispatchBelowAutograd(), torch.set_grad_enabled(self.gradients[number]):
            result = function(*args, **keywords)
            for value, into in zip(flat(result), flat(before), strict=True):
                if value.data_ptr() != into.data_ptr():
                    into.copy_(value)


def flat(value: Any) -> list[Tensor]:
    """Return the tensors in what an operation returned."""
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in flat(part)]
    return [value] if isinstance(value, Tensor) else []


def draws(function: Any) -> bool:
    """Tell whether an operation draws random numbers; a graph of a GPU holds which ones, so their order is kept here."""
    return torch.Tag.nondeterministic_seeded in function.tags


class AnyOrder(Again):
    """Repeats the operations of the work one after the other; of branches, in some order that they allow.

    Args:
        choose: Returns which of some operations that may run, by number, runs next.
    """

    def __init__(self, choose: Callable[[list[int]], int]) -> None:
        super().__init__()
        self._choose = choose
        self.dealt: list[Branches] = []
        self.orders: list[list[int]] = []

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        self.captured += 1
        before = copied(*self.parts)
        noted = Noted()
        with noted:
            work()
        put_back(before, *self.parts)
        numbers = range(len(noted.done))
        if branches is not None:
            assert [str(function) for function, *_ in noted.done] == list(branches.names)
            self.dealt.append(branches)

        def replay() -> None:
            self.replayed += 1
            order = list(numbers) if branches is None else self._order(branches, [draws(one[0]) for one in noted.done])
            for number in order:
                if branches is None or branches.streams[number] is not None:
                    noted.again(number)

        return replay

    def _order(self, branches: Branches, drawn: list[bool]) -> list[int]:
        """Return all operations but views: each after those before it on its stream, and after what it waits for."""
        needs: dict[int, set[int]] = {}
        last: dict[Any, int] = {}
        for number, stream in enumerate(branches.streams):
            if stream is not None:
                keys = [stream, *(["draws"] if drawn[number] else [])]
                needs[number] = {last[key] for key in keys if key in last} | set(branches.waits[number])
                last |= dict.fromkeys(keys, number)
        order: list[int] = []
        while needs:
            ready = [number for number, others in needs.items() if not others & needs.keys()]
            order.append(self._choose(ready))
            del needs[order[-1]]
        self.orders.append(order)
        return order
