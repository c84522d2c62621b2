"""Recorded work as calls that can be repeated, and their player from Python. Floor 6."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, final

import torch
from torch import Tensor
from torch._ops import OpOverload

from netwright.recording.operations import Place
from netwright.sources.cells import LARGEST


@final
@dataclass
class Call:
    """One call with its tensors: ``function(*arguments, **keywords)``.

    ``function`` is None for a guard: its one argument must be finite. ``written`` are the tensors it writes to; ``fresh``,
    for each output that it allocates itself, the tensors to point at that output; ``spent`` those that nobody reads after
    the call. ``draws`` tells whether it takes random numbers, ``gradients`` whether they are switched on. ``turned`` are the
    keywords that each step gives anew, by their columns in a table of numbers.
    """

    function: OpOverload | None
    arguments: list[Any]
    keywords: dict[str, Any] = field(default_factory=dict)
    written: list[Tensor] = field(default_factory=list)
    fresh: list[list[Tensor]] = field(default_factory=list)
    spent: list[Tensor] = field(default_factory=list)
    draws: bool = False
    gradients: bool = False
    turned: dict[str, int] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return every tensor it reads or writes, some of them twice."""
        return [
            *tensors_in([*self.arguments, *self.keywords.values()]),
            *self.written,
            *(tensor for aliases in self.fresh for tensor in aliases),
        ]


@final
@dataclass(frozen=True)
class Tape:
    """Calls in order, what they give, and the bytes that were planned for them."""

    calls: tuple[Call, ...]
    results: tuple[Tensor, ...]
    planned: int

    @cached_property
    def lies(self) -> dict[int, int]:
        """The addresses of what calls write, by the identity of the tensor, as they were planned."""
        return {id(tensor): tensor.data_ptr() for call in self.calls for tensor in call.written}

    def moved(self) -> str | None:
        """Return the name of a kernel that gave an output another shape or place than was planned; None where none did."""
        for call in self.calls:
            for tensor in call.written:
                where = place_of(tensor)
                if where.moves:
                    continue
                if tuple(tensor.shape) != where.shape or tensor.data_ptr() != self.lies[id(tensor)]:
                    return str(call.function)
        return None

    def turn(self, numbers: Sequence[float]) -> None:
        """Give calls the numbers of a step."""
        for call in self._turned:
            call.keywords.update({name: numbers[column] for name, column in call.turned.items()})

    @cached_property
    def draws(self) -> bool:
        """Whether a call takes random numbers."""
        return any(call.draws for call in self.calls)

    @cached_property
    def _turned(self) -> list[Call]:
        return [call for call in self.calls if call.turned]

    def refill(self) -> None:
        """Give the tensors that a player has emptied memory of their size again, for another player."""
        for call in self.calls:
            for tensor in (tensor for aliases in call.fresh for tensor in aliases):
                where = place_of(tensor)
                if tuple(tensor.shape) != where.shape:
                    room = torch.empty(where.span[1], dtype=torch.uint8)
                    tensor.set_(room.untyped_storage(), where.offset, where.shape, where.strides)

    def play(self) -> bool:
        """Make every call; False where a guard found a number that is not finite: nothing after it was done."""
        for call in self.calls:
            function = call.function
            if function is None:
                if not torch.isfinite(call.arguments[0]):
                    return False
                continue
            torch._C._set_grad_enabled(call.gradients)
            if not call.fresh:
                function(*call.arguments, **call.keywords)
            else:
                result = function(*call.arguments, **call.keywords)
                outputs = result if isinstance(result, tuple | list) else (result,)
                for output, aliases in zip(_flat(outputs), call.fresh, strict=True):
                    for alias in aliases:
                        _point(alias, output)
            for tensor in call.spent:
                _point(tensor, NOTHING)
        return True


@final
@dataclass(frozen=True)
class Played:
    """What steps gave: numbers ``(steps, numbers)`` of those that were done, in their dtype, and the seconds of gathering rows.

    ``stopped`` tells why the step after them was not done: a guard found a number that is not finite, or a kernel failed.
    """

    results: Tensor
    gathering: float
    stopped: Exception | None = None


class NotFiniteError(Exception):
    """A guard found a number that is not finite."""


class Player(Protocol):
    """Takes recorded steps."""

    def run(self, rows: Tensor | None, steps: int, seconds: float, turns: Tensor | None = None) -> Played:
        """Take steps until they are done, the seconds are over, or one stops.

        Args:
            rows: The numbers of the rows to gather, int64 ``(steps, batch)``, contiguous; None where nothing is gathered.
            steps: How many at most.
            seconds: After which no further step begins.
            turns: The numbers that calls get for each step, float64 ``(steps, columns)``, contiguous, or one row of them for all;
                None where no call has such.
        """
        ...

    def answer(self, inputs: Sequence[Tensor], checked: bool) -> Exception | None:
        """Take one step on other rows than those that it gathers from, and return why it stopped, if it did.

        Args:
            inputs: For each gathered input as many rows as a batch has, in order, contiguous; they are not kept.
            checked: Whether it stops before a float32 or float64 number that is infinite or beyond float32.
        """
        ...


@final
@dataclass(frozen=True)
class TapePlayer:
    """Takes the steps of a tape call by call from Python; see `netwright.recording.native.Program` for the arguments."""

    tape: Tape
    numbers: Sequence[Tensor]
    gathers: Sequence[tuple[Tensor, Tensor]]

    def run(self, rows: Tensor | None, steps: int, seconds: float, turns: Tensor | None = None) -> Played:
        """Take steps; see `Player`."""
        results, begun, gathering = [], time.perf_counter(), 0.0
        table = [] if turns is None else turns.tolist()
        stopped: Exception | None = None
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for step in range(steps):
                before = time.perf_counter()
                if rows is not None:
                    for source, into in self.gathers:
                        torch.index_select(source, 0, rows[step], out=into)
                now = time.perf_counter()
                gathering += now - before
                if step < len(table):
                    self.tape.turn(table[step])
                try:
                    stopped = None if self.tape.play() else NotFiniteError()
                except Exception as error:  # of a kernel
                    stopped = error
                if stopped is not None:
                    break
                results.append([number.item() for number in self.numbers])
                if time.perf_counter() - begun > seconds:
                    break
        dtype = self.numbers[0].dtype if self.numbers else torch.float32
        return Played(torch.tensor(results, dtype=dtype).reshape(len(results), len(self.numbers)), gathering, stopped)

    def answer(self, inputs: Sequence[Tensor], checked: bool) -> Exception | None:
        """Take one step on inputs; see `Player`."""
        for (_, into), value in zip(self.gathers, inputs, strict=True):
            if checked and value.dtype in (torch.float32, torch.float64) and bool((value.abs() > LARGEST).any()):
                return NotFiniteError()
            into.copy_(value)
        return self.run(None, 1, math.inf).stopped


NOTHING = torch.empty(0)


def _flat(outputs: Iterable[Any]) -> list[Any]:
    return [part for output in outputs for part in (output if isinstance(output, tuple | list) else (output,))]


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of an argument."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, list | tuple) else []


def _point(alias: Tensor, output: Tensor) -> None:
    """Let a tensor read what another one holds, as it was recorded; of nothing it reads nothing."""
    where = place_of(alias)
    if output is NOTHING:
        alias.set_(NOTHING.untyped_storage(), 0, (0,), (1,))
    else:
        alias.set_(output.untyped_storage(), where.offset, where.shape, where.strides)


def place_of(tensor: Tensor) -> Place:
    """Return the place of a tensor of a tape."""
    place: Place = tensor.place  # type: ignore[attr-defined]
    return place
