"""The schedule of a training: which learning rates the next steps have, and where it is between two steps.

The scheduler is torch's own. It turns a double of the optimizer, so that it may be ahead of the steps, and the optimizer itself
is never wrapped; what the double says is written into the optimizer before a step. Floor 9.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau

from netwright.recording.rates import numbers, put
from netwright.training.journal import EpochRecord
from netwright.training.schedulers import OWN_RATES, Made, plain

AHEAD = 1024  # steps that are worked out at a time
Make = Callable[[torch.optim.Optimizer], Made]


@final
class Fixed:
    """No schedule: the optimizer keeps its learning rate."""

    def ahead(self, most: int) -> Tensor | None:
        """Return the rates of the next steps; None where they do not change between them."""
        return None

    def advance(self, steps: int) -> None:
        """Go on by so many steps."""

    def rate(self, optimizer: torch.optim.Optimizer) -> float:
        """Return the learning rate of the first group in the last step."""
        return float(optimizer.param_groups[0]["lr"])

    def after_epoch(self, record: EpochRecord) -> None:
        """Go on by an epoch."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint remembers."""
        return {}

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Go where `state` was asked."""


@final
class Schedule:
    """A scheduler of torch.optim.lr_scheduler for an optimizer.

    Args:
        optimizer: Whose groups get the rates.
        make: Builds the scheduler of an optimizer.
        monitor: The column of history.csv that ReduceLROnPlateau is given.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, make: Make, monitor: str = "valid_loss") -> None:
        self._optimizer, self._double = optimizer, double_of(optimizer)
        made = make(self._double)
        self._scheduler, self._per_step, self._last, self._closed = made.scheduler, made.per_step, made.last, made.closed
        self._monitor = monitor
        self._base = self._bases()
        self._used: float | None = None  # the rate of the last step, where it is another one now
        self._start_here()
        put(self._optimizer.param_groups, self._rows[0])

    def own_rates(self) -> tuple[dict[str, str], bool]:
        """Return which schedulers, by name, set rates by arguments of their own and not by the optimizer's, and whether all do."""
        single = [type(one).__name__ for one in _inside(self._scheduler) if not hasattr(one, "_schedulers")]
        found = {name: OWN_RATES[name] for name in single if name in OWN_RATES}
        return found, set(found) == set(single)

    def ahead(self, most: int) -> Tensor | None:
        """Return the rates of the next steps, at most so many, as `netwright.recording.rates.numbers`; None where they stay."""
        if not self._per_step:
            return None
        if self._at == len(self._rows) - 1:
            self._start_here()
            self._anchor = copy.deepcopy(self._now())
            self._rows += self._next(min(most, AHEAD))
            self._table = torch.tensor(self._rows, dtype=torch.float64)
        return self._table[self._at : min(self._at + most, len(self._rows) - 1)]

    def advance(self, steps: int) -> None:
        """Go on by steps that `ahead` told of."""
        if self._per_step and steps:
            self._used = self._rows[self._at + steps - 1][0]
            self._at += steps
            put(self._optimizer.param_groups, self._rows[self._at])

    def rate(self, optimizer: torch.optim.Optimizer) -> float:
        """Return the learning rate of the first group in the last step."""
        return float(optimizer.param_groups[0]["lr"]) if self._used is None else self._used

    def after_epoch(self, record: EpochRecord) -> None:
        """Go on by an epoch: torch's ``scheduler.step()``, or ``scheduler.step(figure)``."""
        if self._per_step:
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(record.columns()[self._monitor])
        else:
            self._scheduler.step()
        self._start_here()
        put(self._optimizer.param_groups, self._rows[0])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint remembers: the scheduler, its optimizer's groups, and the rates it began with."""
        if self._at < len(self._rows) - 1:  # it is ahead: back, and again up to here
            steps = self._at
            self._go_to(self._anchor)
            if steps:
                self._next(steps)
            self._start_here()
        return copy.deepcopy({**self._now(), "base": self._base, "used": self._used})

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Go where `state` was asked; where the optimizer's learning rate is another one now, in the same proportion.

        Raises:
            KeyError, TypeError, ValueError: The state is of another schedule.
        """
        fresh = _base_lists(self._scheduler)
        self._go_to(copy.deepcopy(dict(state)))
        ratios = [new / old if old else 1.0 for new, old in zip(self._base, state["base"], strict=True)]
        if any(ratio != 1.0 for ratio in ratios):
            for group, base, ratio in zip(self._double.param_groups, self._base, ratios, strict=True):
                group["lr"], group["initial_lr"] = group["lr"] * ratio, base
            for scheduler, rates in zip(_inside(self._scheduler), fresh, strict=True):
                if rates is not None:
                    scheduler.base_lrs = rates
        self._used = state["used"]
        self._start_here()
        put(self._optimizer.param_groups, self._rows[0])

    def rates_at(self, places: Sequence[int]) -> list[float]:
        """Return the learning rates of the first group in some steps, or epochs, from 0 and in order; nothing else is done after.

        Raises:
            ArithmeticError, TypeError, ValueError: A scheduler of one's own, or an argument, fails.
        """
        found, here = [], 0
        for place in places:
            missing = place - here
            if missing > 1 and self.jumps:
                last = place if self._last is None else min(place, self._last)
                self._scheduler.last_epoch = max(self._scheduler.last_epoch, last - 1)
                missing = 1
            if missing:
                self._next(missing)
            here = place
            found.append(float(self._double.param_groups[0]["lr"]))
        return found

    @property
    def by_figures(self) -> bool:
        """Whether figures decide, so that nobody knows the rates before."""
        return isinstance(self._scheduler, ReduceLROnPlateau)

    @property
    def per_step(self) -> bool:
        """Whether it goes on after every step, not after every epoch."""
        return self._per_step

    @property
    def jumps(self) -> bool:
        """Whether what it gives hangs on the number of the step alone."""
        return self._closed or isinstance(self._scheduler, OneCycleLR | CyclicLR)

    @property
    def last(self) -> int | None:
        """After how many steps the rate stays; None where that is not known before."""
        return self._last

    def _bases(self) -> list[float]:
        return [float(group.get("initial_lr", group["lr"])) for group in self._double.param_groups]

    def _start_here(self) -> None:
        """Begin the rows at the step that comes next."""
        self._rows, self._at = [numbers(self._double.param_groups)], 0

    def _now(self) -> dict[str, Any]:
        groups = [{name: value for name, value in group.items() if name != "params"} for group in self._double.param_groups]
        return {"scheduler": plain(self._scheduler.state_dict()), "groups": groups}

    def _go_to(self, state: Mapping[str, Any]) -> None:
        self._scheduler.load_state_dict(state["scheduler"])
        for group, told in zip(self._double.param_groups, state["groups"], strict=True):
            group.update(told)

    def _next(self, count: int) -> list[list[float]]:
        """Take steps of the scheduler, and return the rates after each."""
        scheduler = self._scheduler
        if self._closed:
            first, others = scheduler.last_epoch + 1, numbers(self._double.param_groups)[1::2]
            turns = list(zip(scheduler.base_lrs, scheduler.lr_lambdas, others, strict=True))
            rows = [
                [value for base, share, other in turns for value in (base * share(step), other)]
                for step in range(first, first + count)
            ]
            scheduler.last_epoch += count - 1
            scheduler._step_count += count - 1
            scheduler.step()
            return rows
        rows = []
        for _ in range(count):
            if self._last is None or scheduler.last_epoch < self._last:
                scheduler.step()
            rows.append(numbers(self._double.param_groups))
        return rows


def double_of(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer of the same class and parameters with groups of its own, which never takes a step."""
    made: torch.optim.Optimizer = object.__new__(type(optimizer))
    made.__dict__.update(optimizer.__dict__)
    made.param_groups = [dict(group) for group in optimizer.param_groups]
    for group in made.param_groups:
        group["lr"] = float(group["lr"])
    made._opt_called = True  # type: ignore[attr-defined]
    return made


def _inside(scheduler: Any) -> list[Any]:
    """Return a scheduler and those inside it."""
    return [scheduler, *(one for part in getattr(scheduler, "_schedulers", ()) for one in _inside(part))]


def _base_lists(scheduler: Any) -> list[list[float] | None]:
    return [list(one.base_lrs) if hasattr(one, "base_lrs") else None for one in _inside(scheduler)]
