"""Which networks that stand side by side one update can change, and under which settings. Floor 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from netwright.population.holdings import COUNTS
from netwright.population.spreading import LINEAR
from netwright.recording.rates import numbers

ELEMENTWISE = (*LINEAR, torch.optim.ASGD, torch.optim.Rprop)  # a number is changed by its own gradient and state alone


@dataclass(frozen=True)
class Range:
    """Networks ``first`` to before ``end``, side by side, that are updated as one.

    ``spread`` tells whether they have learning rates of their own, ``alone`` that it is one network with its own parameters, as
    its optimizer does more than change each number by itself.
    """

    first: int
    end: int
    spread: bool = False
    alone: bool = False


def ranges(alike: Sequence[bool], near: Sequence[bool], loose: bool, spread: bool) -> list[Range]:
    """Return the ranges of networks that can be updated as one.

    Args:
        alike: Whether each network but the first has the settings and the state of the one before it.
        near: The same of learning rates and decays.
        loose: Whether these may differ within a range.
        spread: Whether they count as different though they are not.

    Example:
        >>> ranges([True, False, True], [True, True, False], loose=True, spread=False)
        [Range(first=0, end=2, spread=False, alone=False), Range(first=2, end=4, spread=True, alone=False)]
        >>> [(one.first, one.end) for one in ranges([True, False, True], [True, True, False], loose=False, spread=False)]
        [(0, 2), (2, 3), (3, 4)]
    """
    joined = [one and (loose or other) for one, other in zip(alike, near, strict=True)]
    edges = [0, *(place for place, one in enumerate(joined, 1) if not one), len(joined) + 1]
    return [
        Range(first, end, loose and (spread or not all(near[first : end - 1])))
        for first, end in zip(edges, edges[1:], strict=False)
    ]


def reader(group: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """Return what reads, in little time, all settings of groups like this but those that a schedule turns.

    Example:
        >>> groups = [torch.optim.Adagrad([torch.zeros(1, requires_grad=True)], lr=rate).param_groups[0] for rate in (0.1, 0.2)]
        >>> read = reader(groups[0])
        >>> read(groups[0]) == read(groups[1])
        True
    """
    get = itemgetter(*(name for name in group if name not in ("params", "lr", "betas", "momentum")))
    if "betas" in group:
        return lambda one: (get(one), one["betas"][1:])
    return lambda one: (get(one), bool(one["momentum"])) if "momentum" in one else get(one)


def settings_of(group: dict[str, Any]) -> tuple[Any, ...]:
    """Return the settings of a group but rate and decay; of a momentum, which a schedule may turn, whether there is one."""
    known = {name: plain(value) for name, value in group.items() if name not in ("params", "lr", "weight_decay")}
    if "betas" in known:
        known["betas"] = known["betas"][1:]
    if "momentum" in known:
        known["momentum"] = bool(known["momentum"])
    return tuple(known.items())


def plain(value: Any) -> Any:
    """Return a setting as what can be compared."""
    return (
        tuple(map(plain, value)) if isinstance(value, list | tuple) else float(value) if isinstance(value, Tensor) else value
    )


def begun(states: Sequence[Sequence[dict[str, Any]]]) -> list[Any]:
    """Return what optimizers keep by name, of each network and parameter, with the numbers that stand for a whole parameter."""
    names = [[tuple(name for name, value in state.items() if value is not None) for state in own] for own in states]
    held = [[state[name] for state in own for name in COUNTS if isinstance(state.get(name), Tensor)] for own in states]
    read = iter(_numbers([value for own in held for value in own]))
    return [(one, [next(read) for _ in own]) for one, own in zip(names, held, strict=True)]


def _numbers(values: Sequence[Tensor]) -> list[float]:
    """Return the numbers of many tensors, read at once."""
    kinds: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        kinds.setdefault((value.device, value.dtype), []).append(place)
    found = [0.0] * len(values)
    for places in kinds.values():
        for place, number in zip(places, torch.stack([values[place] for place in places]).tolist(), strict=True):
            found[place] = number
    return found


def rates_of(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[Tensor | None]) -> Tensor:
    """Return learning rate and momentum for the next steps, float64 ``(steps, networks, groups, 2)``; one row where all stay."""
    now = [numbers(one.param_groups) for one in optimizers]
    columns = max(map(len, now))
    stay = torch.tensor([row + [0.0] * (columns - len(row)) for row in now], dtype=torch.float64)
    given = [table for table in rates if table is not None]
    if given:
        steps = min(map(len, given))
        tables = [
            row.expand(steps, columns) if table is None else pad(table[:steps], (0, columns - table.shape[1]))
            for row, table in zip(stay, rates, strict=True)
        ]
        found = torch.stack(tables, dim=1)
    else:
        found = stay.unsqueeze(0)
    return found.reshape(*found.shape[:2], -1, 2)
