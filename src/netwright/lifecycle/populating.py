"""Runs that train together: each in a thread of its own, one of them at work at a time, their steps taken as one vectorised step.

A run is what it always is: its loop, checkpoints, validation and test know nothing of the others. Where its engine is asked for
steps, it waits until all have asked. The global generators, which every run believes its own, are put back when its turn comes.
Floor 14.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from netwright.data.feed import Feed
from netwright.engine.base import Engine, Steps
from netwright.engine.choose import Arithmetic
from netwright.pipeline.telling import Told
from netwright.population.engine import Population, Wanted
from netwright.population.likeness import why_apart
from netwright.seeding import all_forked, forked, generator_states, restore_generators
from netwright.training.signals import StopRequest, stop_on_signals

Result = TypeVar("Result")
ALONE = "as part of no population"


class _AbandonedError(BaseException):
    """Ends the thread of a run whose population was given up."""


@final
@dataclass(eq=False)
class Seat:
    """The place of one run among those that train together."""

    asked: StopRequest = field(default_factory=StopRequest)
    members: int = 1  # of the population that it steps with; 1 while there is none
    waiting: _Waiting | None = None
    apart: bool = False
    abandoned: bool = False
    worked: float = 0.0  # seconds, its share of the joint steps among them
    _since: float = 0.0
    _turn: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    def engine(self, own: Engine) -> Engine:
        """Return the engine of the run, which steps with the others; ``own`` is what it would be alone."""
        self.members = 1  # until a population is formed of this run and others
        return MemberEngine(self, own)

    @contextmanager
    def stopping(self, until: float | None) -> Iterator[StopRequest]:
        """Yield what asks the run to stop: the signals of the main thread, or the end of its time."""
        self.asked.until = until
        yield self.asked

    def clock(self) -> float:
        """Return the seconds that the run has worked until now; asked for while it works."""
        return self.worked + time.perf_counter() - self._since

    def go(self) -> None:
        """Let the run work until it waits for steps, or ends."""
        self._done.clear()
        self._since = time.perf_counter()
        self._turn.set()
        self._done.wait()
        self.worked += time.perf_counter() - self._since

    def rest(self) -> None:
        """Let the others work."""
        self._done.set()

    def wait(self) -> None:
        """Wait for a turn, in the thread of the run.

        Raises:
            _AbandonedError: There will be none.
        """
        if not self.abandoned:
            self._turn.wait()
            self._turn.clear()
        if self.abandoned:
            raise _AbandonedError


@final
@dataclass
class _Waiting:
    """What a run waits for, and with which threads and precision it computes."""

    engine: Engine
    wanted: Wanted
    threads: int
    steps: Steps | None = None


@final
class MemberEngine:
    """The engine of one run of a population, named as the one that the run would have alone.

    Args:
        seat: The place of the run.
        own: The engine that it would have alone.
    """

    def __init__(self, seat: Seat, own: Engine) -> None:
        self._seat, self._own = seat, own
        self.played_with = ""
        self.name, self.eager = own.name, own.eager
        self.model, self.loss_function, self.optimizer = own.model, own.loss_function, own.optimizer

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return self.played_with or self._own.played()

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed together with the others."""
        seat = self._seat
        if not seat.apart:
            device = next(self.model.parameters()).device
            states, threads = generator_states(device), torch.get_num_threads()
            precision = torch.get_float32_matmul_precision()
            generator = torch.Generator(device)
            generator.set_state(torch.cuda.get_rng_state(device) if device.type == "cuda" else states["torch"])
            waiting = seat.waiting = _Waiting(self, Wanted(feed, most, rates, generator), threads)
            seat.rest()
            seat.wait()
            torch.set_float32_matmul_precision(precision)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            restore_generators(states, device)
            if waiting.steps is not None:
                if device.type == "cuda":
                    torch.cuda.set_rng_state(generator.get_state(), device)
                else:
                    torch.default_generator.set_state(generator.get_state())
                return waiting.steps
        return self._own.train_steps(feed, most, rates)


@final
@dataclass
class _Ended(Generic[Result]):
    """How a run ended: what it gave, or the error."""

    result: Result | None = None
    error: BaseException | None = None


def train_together(works: Sequence[Callable[[Seat], Result]], tell: Callable[[Told], None]) -> list[Result]:
    """Do the work of several runs, whose steps are taken together where that can be.

    Args:
        works: Trains a run; its engine comes from the seat that it gets.
        tell: Is told whether they step together, or why not.

    Returns:
        What each gave, in order.

    Raises:
        BaseException: The first error of a run, after the others have ended.
    """
    seats = [Seat() for _ in works]
    ended: list[_Ended[Result]] = [_Ended() for _ in works]
    threads = [
        threading.Thread(target=_run, args=(seat, work, end), daemon=True, name=f"run {number}")
        for number, (seat, work, end) in enumerate(zip(seats, works, ended, strict=True))
    ]
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    with all_forked(), forked(device), stop_on_signals() as stop:
        try:
            for seat, thread in zip(seats, threads, strict=True):
                thread.start()
                _pass_on(stop, seats)
                seat.go()
            _step_on(seats, stop, tell)
        except BaseException:
            _abandon(seats, threads)
            raise
    error = next((end.error for end in ended if end.error is not None), None)
    if error is not None:
        raise error
    return [end.result for end in ended]  # type: ignore[misc]


def _run(seat: Seat, work: Callable[[Seat], Result], end: _Ended[Result]) -> None:
    """Do the work of a run in its thread."""
    try:
        seat.wait()
        end.result = work(seat)
    except BaseException as error:  # told to whoever waits for all of them
        end.error = error
    finally:
        seat.waiting = None
        seat.apart = True
        seat.rest()


def _step_on(seats: Sequence[Seat], stop: StopRequest, tell: Callable[[Told], None]) -> None:
    """Take steps for all runs that wait for some, until none does."""
    population: Population | None = None

    def asked() -> bool:
        ends = [seat.asked.until for seat in seats if seat.asked.until is not None]
        return bool(stop) or stop.save or bool(ends) and time.monotonic() >= min(ends)

    while waiting := [seat for seat in seats if seat.waiting is not None]:
        engines = [seat.waiting.engine for seat in waiting if seat.waiting is not None]
        wanted = [seat.waiting.wanted for seat in waiting if seat.waiting is not None]
        if population is None or not all(any(one is engine for one in population.members) for engine in engines):
            population = _formed(waiting, engines, wanted, tell)
        gone = (
            [] if population is None else [one for one in population.members if not any(one is engine for engine in engines)]
        )
        if population is not None and gone:
            population.leave(gone)
        if population is not None and len(waiting) > 1:
            begun = time.perf_counter()
            with Arithmetic(waiting[0].waiting.threads if waiting[0].waiting else None):
                steps = population.take(wanted, asked)
            share = (time.perf_counter() - begun) / len(waiting)
            for seat, found, engine in zip(waiting, steps, engines, strict=True):
                if seat.waiting is not None:
                    seat.waiting.steps = found
                seat.worked += share
                played = f"{seat.members} runs in one vectorised step, {population.played()}"
                if isinstance(engine, MemberEngine):
                    engine.played_with = played
        else:
            for seat in waiting:
                seat.apart = True
        _pass_on(stop, seats)
        for seat in waiting:
            seat.waiting = None
            seat.go()
            _pass_on(stop, seats)


def _formed(
    seats: Sequence[Seat], engines: Sequence[Engine], wanted: Sequence[Wanted], tell: Callable[[Told], None]
) -> Population | None:
    """Return the population of runs that all wait for their first steps; None where they go on one by one."""
    if len(seats) < 2:
        return None
    with Arithmetic(seats[0].waiting.threads if seats[0].waiting else None):
        why = why_apart(engines, [one.feed for one in wanted])
        if why is not None:
            tell(Told(f"population: the runs train one after the other: {why}", "note"))
            return None
        found = Population(engines)
    for seat in seats:
        seat.members = len(seats)
    tell(
        Told(
            f"population: {len(seats)} runs take their steps together, vectorised; each agrees with its run alone within rounding, "
            "not bit by bit",
            "note",
        )
    )
    return found


def _pass_on(stop: StopRequest, seats: Sequence[Seat]) -> None:
    """Ask every run what a signal asked for."""
    for seat in seats:
        if stop.signal_number is not None:
            seat.asked.signal_number = stop.signal_number
        seat.asked.save |= stop.save
    stop.save = False


def _abandon(seats: Sequence[Seat], threads: Sequence[threading.Thread]) -> None:
    """End the runs that still wait, so that their locks are given back."""
    for seat, thread in zip(seats, threads, strict=True):
        seat.abandoned = True
        if thread.is_alive() and seat.waiting is not None:
            seat.go()
