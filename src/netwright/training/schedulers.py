"""torch.optim.lr_scheduler by its own spelling: what the length of a run decides is worked out, and then the scheduler made.

Floor 9.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from netwright.config import signatures
from netwright.config.calls import Call, parse_call
from netwright.errors import ConfigError, first_line
from netwright.training.warmup import warmup_cosine

WHERE = "training.schedule"
PER_STEP = ("OneCycleLR", "CyclicLR", "WarmupCosine")  # torch documents the first two so
OWN_RATES = {"OneCycleLR": "max_lr", "CyclicLR": "base_lr and max_lr"}  # which do not read the optimizer's learning rate
PLATEAU = "ReduceLROnPlateau"
NESTED = ("SequentialLR", "ChainedScheduler")
WARMUP = 0.05  # share of the steps


@dataclass(frozen=True)
class Length:
    """How long a run is planned to be, and what it watches: the monitored column, of which more or less is better.

    ``rate`` is the optimizer's learning rate, ``rates`` those of its groups; ``watched`` tells whether the
    monitored figure will be there.
    """

    epochs: int
    steps: int
    steps_per_epoch: int
    rate: float
    monitor: str = "valid_loss"
    mode: str = "min"
    watched: bool = True
    rates: tuple[float, ...] = ()


def resolve_schedule(text: str, length: Length) -> Call:
    """Return the scheduler's call with every argument by keyword, those that the length of the run decides worked out.

    Args:
        text: For instance ``CosineAnnealingLR()`` or ``SequentialLR([LinearLR(), CosineAnnealingLR()], milestones=[5])``.
        length: Of the run.

    Raises:
        ConfigError: A name or an argument is unknown, torch refuses one, or the run has nothing to watch.

    Example:
        >>> str(resolve_schedule("CosineAnnealingLR()", Length(epochs=20, steps=200, steps_per_epoch=10, rate=0.001)))
        'CosineAnnealingLR(T_max=20)'
    """
    call = parse_call(text, WHERE)
    found = signatures.scheduler_problems(call, WHERE)
    if found:
        raise ConfigError("; ".join(found))
    resolved = _resolved(call, length, length.epochs, WHERE)
    _try(resolved, length)
    return resolved


def _resolved(call: Call, length: Length, epochs: int, where: str) -> Call:
    """Return a call worked out for a part of the run of so many epochs."""
    named = signatures.named(call, signatures.schedulers(), where)
    given = named.keywords
    if call.name in NESTED:
        return named.with_keyword("schedulers", _resolved_parts(named, length, epochs, where))
    if call.name == "CosineAnnealingLR" and "T_max" not in given:
        if epochs < 1:
            raise ConfigError(
                f"{where}: {call} begins after the run of {length.epochs} epochs; expected an earlier milestone"
            )
        return Call(call.name, (), (("T_max", epochs), *named.kwargs))
    if call.name == "OneCycleLR":
        return _one_cycle(named, length)
    if call.name == "WarmupCosine":
        return _warmup_cosine(named, length, where)
    if call.name == PLATEAU:
        return _plateau(named, length, where)
    return named


def _resolved_parts(call: Call, length: Length, epochs: int, where: str) -> list[Call]:
    """Return the schedulers inside one of several, each worked out for its part of the epochs."""
    parts, sequence = call.keywords["schedulers"], call.name == "SequentialLR"
    for part in parts:
        if part.name in NESTED:
            raise ConfigError(
                f"{where}: {part.name} inside {call.name} came, which torch cannot restart; expected single schedulers; write them "
                "in one list"
            )
        if part.name in (*PER_STEP, PLATEAU):
            told = "goes by figures" if part.name == PLATEAU else "steps after every step"
            raise ConfigError(
                f"{where}: {part.name} inside {call.name} came; it {told}, the others after every epoch; expected it alone; write "
                f"{where} = {str(part)!r}"
            )
    milestones = call.keywords.get("milestones", []) if sequence else []
    if sequence and (
        not isinstance(milestones, list | tuple)
        or len(milestones) != len(parts) - 1
        or not all(isinstance(number, int) and not isinstance(number, bool) for number in milestones)
        or list(milestones) != sorted(milestones)
    ):
        raise ConfigError(
            f"{where}: {len(parts)} schedulers with milestones={milestones!r} came; expected {len(parts) - 1} whole number(s) that "
            "rise, the epochs at which the next one begins; write for instance milestones=[5]"
        )
    ends = [*milestones, epochs] if sequence else [epochs] * len(parts)
    begins = [0, *milestones] if sequence else [0] * len(parts)
    wheres = [f"{where}.{place}" for place in range(len(parts))]
    return [
        _resolved(part, length, end - begin, inner)
        for part, inner, begin, end in zip(parts, wheres, begins, ends, strict=True)
    ]


def _one_cycle(call: Call, length: Length) -> Call:
    """Return a one-cycle schedule with its length, and the optimizer's learning rate as the largest where none is written."""
    given = call.keywords
    largest = list(length.rates) if len(set(length.rates)) > 1 else length.rate
    filled: dict[str, Any] = {} if "max_lr" in given else {"max_lr": largest}
    if "total_steps" not in given and "epochs" not in given and "steps_per_epoch" not in given:
        filled["total_steps"] = length.steps
    elif "total_steps" not in given:
        filled |= {"epochs": length.epochs} if "epochs" not in given else {}
        filled |= {"steps_per_epoch": length.steps_per_epoch} if "steps_per_epoch" not in given else {}
    worked_out = given | filled
    order = [name for name, _ in signatures.schedulers().parameters_of(call.name) or () if name in worked_out]
    return Call(call.name, (), tuple((name, worked_out[name]) for name in order))


def _warmup_cosine(call: Call, length: Length, where: str) -> Call:
    """Return the preset with its warm-up in steps."""
    given = {"warmup": WARMUP, "total_steps": length.steps, "final": 0.0} | call.keywords
    total, warmup, final = given["total_steps"], given["warmup"], given["final"]
    for name, value, fits, expected in (
        ("total_steps", total, isinstance(total, int) and total >= 0, "a whole number of steps"),
        ("warmup", warmup, _is_number(warmup) and 0 <= warmup, "a share of the steps below 1, or a whole number of steps"),
        ("warmup", warmup, not _is_number(warmup) or warmup < 1 or warmup == int(warmup), "a whole number of steps"),
        ("final", final, _is_number(final) and 0 <= final <= 1, "a share of the learning rate from 0 to 1"),
    ):
        if not fits or isinstance(value, bool):
            raise ConfigError(f"{where}: {name}={value!r} came; expected {expected}; write WarmupCosine(warmup=0.05)")
    shared = isinstance(warmup, float) and warmup < 1
    steps = min(math.ceil(warmup * total), max(total - 1, 0)) if shared else int(warmup)  # a run of one step has none
    if total and steps >= total:
        raise ConfigError(f"{where}: warmup={steps} came of {total} steps; expected fewer; write WarmupCosine(warmup=0.05)")
    return Call(call.name, (), (("warmup", steps), ("total_steps", total), ("final", float(final))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _plateau(call: Call, length: Length, where: str) -> Call:
    """Return a schedule by figures with the direction of the monitored one."""
    if not length.watched:
        raise ConfigError(
            f"{where}: {call.name} came; it watches {length.monitor}, and there are no valid rows or no figures of them; expected "
            "some; set data.split.valid, or write another schedule"
        )
    mode = call.keywords.get("mode", length.mode)
    if mode != length.mode:
        more = "more" if length.mode == "max" else "less"
        raise ConfigError(
            f"{where}: mode={mode!r} came; of {length.monitor}, which it watches, {more} is better; expected mode={length.mode!r}; "
            "leave it out"
        )
    return Call(call.name, (), (("mode", mode), *(pair for pair in call.kwargs if pair[0] != "mode")))


@dataclass(frozen=True)
class Made:
    """A scheduler, and how it is stepped.

    ``per_step`` tells whether after every step of the optimizer, not after every epoch; ``last`` after how many steps it keeps its
    rate, None for never; ``closed`` whether what it gives hangs on the number of the step alone: a LambdaLR whose steps need not
    be taken one by one.
    """

    scheduler: Any
    per_step: bool = False
    last: int | None = None
    closed: bool = False


def make_scheduler(call: Call, optimizer: torch.optim.Optimizer) -> Made:
    """Return the scheduler of a resolved call.

    Raises:
        ConfigError: torch refuses an argument.
    """
    return made_of(build_scheduler(call, optimizer), goes_by_steps(call), call.name == "WarmupCosine")


def made_of(scheduler: Any, per_step: bool, closed: bool = False) -> Made:
    """Return a scheduler with how it is stepped; one of a cycle keeps its last rate, where torch would stop with an error."""
    last = scheduler.total_steps - 1 if isinstance(scheduler, lr_scheduler.OneCycleLR) else None
    return Made(scheduler, per_step, last, closed)


def last_step(call: Call) -> int | None:
    """Return after how many steps a resolved schedule keeps its rate; None for never."""
    given = call.keywords
    if call.name != "OneCycleLR":
        return None
    return int(given["total_steps"] if "total_steps" in given else given["epochs"] * given["steps_per_epoch"]) - 1


def _try(call: Call, length: Length) -> None:
    """Make a scheduler for an optimizer of nothing and take some steps of it.

    Raises:
        ConfigError: torch refuses an argument.
    """
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in length.rates or (length.rate,)]
    optimizer = torch.optim.SGD(groups, lr=length.rate or 1.0, momentum=0.9)
    optimizer._opt_called = True  # type: ignore[attr-defined]
    made = build_scheduler(call, optimizer)
    if not isinstance(made, lr_scheduler.OneCycleLR | lr_scheduler.ReduceLROnPlateau):
        try:
            rates = [(made.step(), optimizer.param_groups[0]["lr"])[1] for _ in range(2)]
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ConfigError(f"{WHERE}: {call} fails: {first_line(error)}; mend its arguments") from None
        wrong = [rate for rate in rates if not _is_number(rate) or not math.isfinite(rate) or rate < 0]
        if wrong:
            raise ConfigError(
                f"{WHERE}: {call} gives a learning rate of {wrong[0]!r}; expected 0 or more; mend its arguments"
            )


def build_scheduler(call: Call, optimizer: torch.optim.Optimizer) -> Any:
    """Make the scheduler of a resolved call.

    Raises:
        ConfigError: torch refuses an argument.
    """
    given = {name: value for name, value in call.kwargs if name != "schedulers"}
    try:
        if call.name in NESTED:
            parts = [build_scheduler(part, optimizer) for part in call.keywords["schedulers"]]
            if call.name == "SequentialLR":
                return lr_scheduler.SequentialLR(optimizer, parts, **given)
            return lr_scheduler.ChainedScheduler(parts, optimizer=optimizer)
        if call.name == "WarmupCosine":
            return lr_scheduler.LambdaLR(optimizer, partial(warmup_cosine, **given))
        kind: Any = SWALR if call.name == "SWALR" else getattr(lr_scheduler, call.name)
        return kind(optimizer, **given)
    except (ArithmeticError, TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{WHERE}: {call} cannot be built: {first_line(error)}; mend its arguments") from None


def goes_by_steps(call: Call) -> bool:
    """Tell whether a scheduler steps after every step of the optimizer, and not after every epoch."""
    return call.name in PER_STEP


def plain(state: Any) -> Any:
    """Return the state of a scheduler without its functions, which the scheduler is made with again."""
    if isinstance(state, Mapping) and not isinstance(state, Counter):
        return {name: plain(value) for name, value in state.items() if not callable(value)}
    if isinstance(state, list | tuple):
        return type(state)(plain(value) for value in state)
    return dict(state) if isinstance(state, Counter) else state
