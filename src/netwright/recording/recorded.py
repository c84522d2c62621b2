"""Work on a batch of one shape, recorded once, and whoever plays it: native code where it is there, else Python. Floor 6."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from netwright.data.batches import Batch
from netwright.data.feed import TARGET
from netwright.errors import first_line
from netwright.recording import building
from netwright.recording.native import Program, declare
from netwright.recording.operations import CannotCapture, Recorder, written_outside
from netwright.recording.planning import make_tape
from netwright.recording.tape import Played, Player, Tape, TapePlayer

CHECKED = 2  # steps that run both ways before a player is trusted
ASKED_AGAIN = 1.0  # seconds between two looks whether the native library is there
FOREVER = 1e9  # seconds


@final
@dataclass(frozen=True)
class Way:
    """How recorded work is played: natively on some cores, or from Python."""

    native: bool
    lanes: int = 1

    def __str__(self) -> str:
        return ("natively" + (f" on {self.lanes} cores" if self.lanes > 1 else "")) if self.native else "from Python"


def ways(native: bool, lanes: int) -> list[Way]:
    """Return the ways to play, the fastest first."""
    return [*(Way(True, count) for count in dict.fromkeys((lanes, 1)) if native), Way(False)]


@final
@dataclass
class Recorded:
    """Some work: the batch it reads, its calls, and the way it is played.

    ``ways`` are left to try, the first is used; ``trusted`` counts the times it gave the same bits. ``why`` tells why a faster
    way is not used.
    """

    batch: Batch
    tape: Tape
    ways: list[Way]
    numbers: Sequence[Tensor] = ()
    gathers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    player: Player | None = None
    way: Way | None = None
    trusted: int = 0
    why: str = ""
    _asked: float = -ASKED_AGAIN

    def fits(self, sources: Mapping[str, Tensor] | None) -> bool:
        """Tell whether it gathers from these rows; one that gathers nothing fits where there are none."""
        given = [] if sources is None else [source.data_ptr() for source in sources.values()]
        return given == [source.data_ptr() for source, _ in self.gathers]

    def ready(self) -> bool:
        """Tell whether the player in use is trusted; where a faster one is there by now, it is taken, and not trusted yet."""
        if self.way != self.ways[0] and time.monotonic() - self._asked > ASKED_AGAIN:
            self.choose()
        return self.trusted >= CHECKED

    def choose(self) -> None:
        """Take the fastest player that can be made now."""
        self._asked = time.monotonic()
        for way in list(self.ways):
            if way == self.way:
                return
            try:
                self.player = self._made(way)
            except (building.NotBuiltError, CannotCapture, TypeError, ValueError) as reason:
                self.why = str(reason)
                if not getattr(reason, "soon", False):
                    self.ways.remove(way)
                continue
            self.way, self.trusted = way, 0
            return

    def _made(self, way: Way) -> Player:
        if not way.native:
            return TapePlayer(self.tape, self.numbers, self.gathers)
        return Program(declare(building.library()), self.tape, self.numbers, way.lanes, self.gathers, len(self.batch))

    def refuse(self) -> bool:
        """Give the way in use up; false where no other is left."""
        if self.way in self.ways:
            self.ways.remove(self.way)
        self.player = self.way = None
        if self.ways:
            self.choose()
        return self.player is not None

    def play(self, batch: Batch, turns: Tensor | None = None) -> Played:
        """Play the work once on a batch."""
        if self.gathers:
            return self.run(batch.rows.reshape(1, -1), 1, FOREVER, turns)
        for into, value in zip(tensors_of(self.batch), tensors_of(batch), strict=True):
            into.copy_(value)
        return self.run(None, 1, FOREVER, turns)

    def output(self, batch: Batch) -> Tensor | None:
        """Return a copy of the first result for a batch; None where a number was not finite.

        Where it gathers, it does so from the inputs of the batch, which must lie in order: each core copies its own rows.
        """
        if self.gathers:
            return self.answer(list(batch.inputs.values()), checked=False)
        return None if self.play(batch).stopped is not None else self.tape.results[0].clone()

    def answer(self, inputs: Sequence[Tensor], checked: bool) -> Tensor | None:
        """Return `output` for the inputs of a batch, where it gathers; ``checked``: None for numbers that are not to be read."""
        return None if self._playing().answer(inputs, checked) is not None else self.tape.results[0].clone()

    def run(self, rows: Tensor | None, steps: int, seconds: float, turns: Tensor | None = None) -> Played:
        """Play the work step after step; see `netwright.recording.tape.Player`."""
        return self._playing().run(rows, steps, seconds, turns)

    def _playing(self) -> Player:
        """Return who plays, in this process."""
        if isinstance(self.player, Program) and not self.player.usable:  # of the process before a fork
            self.player, self.ways = None, [Way(False)]
        if self.player is None:
            trusted = self.trusted
            self.choose()
            self.trusted = trusted
        if self.player is None:
            raise ValueError("nothing plays this recording")
        return self.player


def record(
    batch: Batch,
    work: Callable[[Batch], Sequence[Tensor]],
    ways: list[Way],
    sources: Mapping[str, Tensor] | None = None,
    changed: Iterable[Tensor] = (),
) -> tuple[Recorded, Sequence[Tensor]]:
    """Do some work on a batch, once, and write it down; return what was written, and the results.

    Args:
        batch: What it is done on.
        work: Returns its results.
        ways: To play it.
        sources: All rows by the name of their input, and of the target, where batches are gathered from them by row number.
        changed: The tensors that the work may change, beside the batch.

    Raises:
        CannotCapture: It cannot be repeated from what was written.
    """
    fixed = copied_batch(batch)
    with Recorder() as recorder:
        results = work(fixed)
    filled = {**fixed.inputs, TARGET: fixed.target}
    gathers = [] if sources is None else [(source, filled[name]) for name, source in sources.items()]
    if any(not source.is_contiguous() for source, _ in gathers):
        raise CannotCapture("rows do not lie one after the other")
    recording = recorder.recording(*results)
    may = {value.untyped_storage().data_ptr() for value in (*tensors_of(fixed), *changed)}
    written = written_outside(recording)
    if any(recording.outside[number].data_ptr() not in may for number in written):
        raise CannotCapture("it changes a tensor that is neither a parameter, a buffer nor the optimizer's")
    try:
        return Recorded(fixed, make_tape(recording), ways, gathers=gathers), results
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CannotCapture(f"its operations cannot be repeated ({type(error).__name__}: {first_line(error)})") from error


def copied_batch(batch: Batch) -> Batch:
    """Return a copy of what work reads of a batch."""
    inputs = {name: value.clone() for name, value in batch.inputs.items()}
    return Batch(inputs, batch.target.clone(), batch.rows, None if batch.lengths is None else batch.lengths.clone())


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return what work reads of a batch."""
    found = [*batch.inputs.values(), batch.target]
    return found if batch.lengths is None else [*found, batch.lengths]


def shape_of(batch: Batch) -> tuple[Any, ...]:
    """Return what the recordings of a batch are known by."""
    return shape_of_tensors(tensors_of(batch), batch.lengths is None)


def shape_of_tensors(tensors: Iterable[Tensor], whole: bool = True) -> tuple[Any, ...]:
    """Return what `shape_of` does, from all that work reads; ``whole`` where none of it are lengths."""
    return (*[(value.shape, value.dtype, value.stride()) for value in tensors], whole)


def gathered_shape(sources: Mapping[str, Tensor], rows: Tensor) -> tuple[Any, ...]:
    """Return what the recordings of batches gathered from rows are known by, from the rows of some batches."""
    shapes = tuple(
        ((rows.shape[1], *source.shape[1:]), source.dtype, _strides((rows.shape[1], *source.shape[1:])))
        for source in sources.values()
    )
    return (*shapes, True)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()
