"""The optimizers of several networks as one: torch's own, of tensors that hold a parameter of all of them. Floor 8.

What a step costs in Python then hangs on the layers and on how many settings there are, not on the number of networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from netwright.engine.update import Update, change_each
from netwright.population.grouping import ELEMENTWISE, Range, begun, plain, ranges, rates_of, reader, settings_of
from netwright.population.holdings import COUNTS, Holdings
from netwright.population.spreading import Moved, Spread, may_differ
from netwright.population.stacking import Stack
from netwright.recording.operations import CannotCapture
from netwright.recording.rates import put

Wanted = tuple[int, Range]  # the number of a parameter, of these networks


@final
@dataclass(eq=False)
class Piece:
    """The parameter number ``place`` of a range as the joint optimizer has it, and what that kept of it when last seen."""

    place: int
    range: Range
    tensor: nn.Parameter
    known: dict[str, Any] = field(default_factory=dict)


@final
class Merged:
    """What a training step asks of an optimizer, for all networks of a `Stack`.

    Args:
        stack: The networks as one.
        holdings: Their optimizers, of one class, and those of others; each keeps its state, so that it can go on alone at any time.
        first: The number of the first network there.
        update: What is done to the gradients of each network before its update.

    ``torn`` is the error of an update that broke off, after which some weights may have changed and others not. ``own`` holds the
    tensors that a step changes beside weights and states.
    """

    def __init__(self, stack: Stack, holdings: Holdings, first: int, update: Update) -> None:
        self._stack, self._holdings, self._first, self._update = stack, holdings, first, update
        self._weights = list(stack.weights)
        self._optimizers = holdings.optimizers[first : first + stack.members]
        self._joint: torch.optim.Optimizer = object.__new__(type(self._optimizers[0]))
        self._joint.__dict__.update(self._optimizers[0].__dict__)
        self._joint.state, self._joint.param_groups = defaultdict(dict), []
        self._loose = all(may_differ(one) for one in self._optimizers)
        self._spread = False  # networks that had rates of their own keep to that way
        self._found: list[Range] = []
        self._layout: list[list[Wanted]] = []
        self._pieces: list[Piece] = []
        self._lent: list[Piece] = []
        self._alike: list[bool] = []
        self._reader = reader(self._optimizers[0].param_groups[0])
        self._settings: list[Any] = []
        self._decays = torch.empty(0)
        self._left: list[Any] | None = None
        self.torn: Exception | None = None
        self.own = nn.ModuleList()
        self.refresh([None] * stack.members)

    @property
    def joint(self) -> torch.optim.Optimizer:
        """The optimizer of torch that takes the step of all."""
        return self._joint

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, those of equal settings as one."""
        return self._joint.param_groups

    @property
    def state(self) -> dict[Any, Any]:
        """The state of every parameter."""
        return self._joint.state

    @property
    def turns(self) -> bool:
        """Whether a step finds its rates by its number."""
        return len(self.own) > 0

    def refresh(self, rates: Sequence[Tensor | None]) -> Tensor | None:
        """Read settings and states of the optimizers again, and return the joint table of rates.

        Args:
            rates: Of each network ``(steps, 2 * groups)`` for its next steps, as many for all, or None where they stay.

        Returns:
            The same for the joint groups, as far as one update serves: how far that is hangs on the rates alone, not on how many
            came. None where none change.
        """
        table = rates_of(self._optimizers, rates)
        fresh = self._read()
        found, count = self._served(table)
        if found != self._found:  # what networks count may have gone apart while their settings were
            self._alike = self._compared()
            found, count = self._served(table)
        self._found, table = found, table[:count]
        layout, settings, columns = self._grouped(found, table)
        built = layout != self._layout
        if built:
            self._build(layout, settings, found)
        for group, known in zip(self._joint.param_groups, settings, strict=True):
            group.update({name: value for name, value in known.items() if name != "lr"})
        put(self._joint.param_groups, columns[0].tolist())
        if fresh or built:
            for piece in self._pieces:
                self._link(piece)
            self._left = None
        for spread, one in zip(self.own, [one for one in found if one.spread], strict=True):
            groups = self._groups(one)
            spread.write(table[:, one.first : one.end, : len(groups[0]), 0], groups)  # type: ignore[operator]
        return columns if any(one is not None for one in rates) else None

    def turn(self, row: Tensor) -> None:
        """Give the groups the numbers of the next step, for an engine that reads them there."""
        put(self._joint.param_groups, row.tolist())

    def zero_grad(self) -> None:
        """Empty all gradients."""
        for weight in self._weights:
            weight.grad = None
        for piece in self._lent:
            piece.tensor.grad = None

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Update every network by its own gradients; return the loss that the closure gives."""
        loss = closure()
        change_each(self._weights, self._stack.penalised, self._update)
        for piece in self._lent:
            whole = self._weights[piece.place].grad
            one = piece.range
            piece.tensor.grad = whole if whole is None else whole[one.first] if one.alone else whole[one.first : one.end]
        self._stack.begin()
        try:
            for spread in self.own:
                spread.before()  # type: ignore[operator]
            self._joint.step()
            for spread in self.own:
                spread.after()  # type: ignore[operator]
        except CannotCapture:  # whoever records puts everything back
            raise
        except Exception as error:  # an optimizer may raise anything
            self.torn = error
            raise
        for piece in self._pieces:
            state = self._joint.state.get(piece.tensor, {})
            if len(state) != len(piece.known) or any(state.get(name) is not value for name, value in piece.known.items()):
                self._take_in(piece, state)
        return loss

    def settle(self) -> None:
        """Write what stands for a whole parameter, such as the count of its steps, into the state of each network."""
        for piece, name in self._counts():
            self._holdings.count(piece.place, name, *self._numbers(piece.range), piece.known[name])
        if self._left is None:
            self._left = self._holdings.seen(self._first, self._first + self._stack.members)
        self._holdings.last = self

    def _read(self) -> bool:
        """Read settings and states, and tell whether others than this have changed a state since it stepped last."""
        settings = [[self._reader(group) for group in one.param_groups] for one in self._optimizers]
        seen = self._holdings.seen(self._first, self._first + self._stack.members)
        left = self._left if self._holdings.last is self else None
        fresh = left is None or len(seen) != len(left) or not all(map(is_, seen, left)) or not self._counted()
        if fresh or settings != self._settings:
            self._settings, self._alike = settings, self._compared()
        return fresh

    def _counts(self) -> Iterator[tuple[Piece, str]]:
        """Yield what stands for a whole parameter, by name."""
        for piece in self._pieces:
            if not piece.range.alone:
                yield from ((piece, name) for name in COUNTS if name in piece.known)

    def _counted(self) -> bool:
        """Tell whether the networks have counted the steps that were taken here, and no others."""
        found = [
            self._holdings.counted(piece.place, name, *self._numbers(piece.range), piece.known[name])
            for piece, name in self._counts()
        ]
        return not found or bool(torch.stack(found).all())

    def _compared(self) -> list[bool]:
        """Read the decays, and return of each network but the first whether settings and state are those of the one before it."""
        places, first = range(len(self._weights)), self._first
        decays = [[float(group.get("weight_decay", 0.0)) for group in one.param_groups] for one in self._optimizers]
        self._decays = pad_sequence([torch.tensor(own, dtype=torch.float64) for own in decays], batch_first=True)
        states = begun([[self._holdings.of(first + member, place) for place in places] for member in range(len(decays))])
        keys = [
            ([settings_of(group) for group in one.param_groups], state, self._assigned(member))
            for member, (one, state) in enumerate(zip(self._optimizers, states, strict=True))
        ]
        return [one == other for one, other in zip(keys[1:], keys, strict=False)]

    def _assigned(self, member: int) -> list[int | None]:
        """Return the number of the group of every parameter of a network."""
        groups = self._optimizers[member].param_groups
        found = {parameter: number for number, group in enumerate(groups) for parameter in group["params"]}
        return [found.get(parameter) for parameter in self._holdings.parameters[self._first + member]]

    def _served(self, table: Tensor) -> tuple[list[Range], int]:
        """Return the ranges for the first row of a table, and for how many of its rows they serve."""
        near = _like_before(table[..., 0]) & _like_before(self._decays.unsqueeze(0))
        alike = torch.tensor(self._alike, dtype=torch.bool) & _like_before(table[..., 1])
        found = self._ranges(alike[0].tolist(), near[0].tolist())
        return found, _as_the_first(alike if self._spread else torch.cat([alike, alike & near], dim=1))

    def _ranges(self, alike: list[bool], near: list[bool]) -> list[Range]:
        if not isinstance(self._optimizers[0], ELEMENTWISE):
            return [Range(number, number + 1, alone=True) for number in range(self._stack.members)]
        self._spread |= any(one.spread for one in ranges(alike, near, self._loose, self._spread))
        return ranges(alike, near, self._loose, self._spread)

    def _groups(self, one: Range) -> list[list[dict[str, Any]]]:
        return [optimizer.param_groups for optimizer in self._optimizers[one.first : one.end]]

    def _numbers(self, one: Range) -> tuple[int, int]:
        """Return the numbers of networks among those of the holdings."""
        return self._first + one.first, self._first + one.end

    def _grouped(self, found: Sequence[Range], table: Tensor) -> tuple[list[list[Wanted]], list[dict[str, Any]], Tensor]:
        """Return the parameters and settings of each joint group, and their columns of rates ``(steps, 2 * groups)``."""
        known: dict[Any, int] = {}
        layout: list[list[Wanted]] = []
        settings, columns = [], []
        for one in found:
            assigned = self._assigned(one.first)
            for number, group in enumerate(self._optimizers[one.first].param_groups):
                places = [place for place, its in enumerate(assigned) if its == number]
                column = table[:, one.first, number]
                wanted = {name: value for name, value in group.items() if name != "params"}
                if one.spread:
                    wanted["weight_decay"] = 0.0
                    column = torch.stack([torch.ones_like(column[:, 0]), column[:, 1]], dim=1)
                begins = frozenset(tuple(self._holdings.of(self._first + one.first, place)) for place in places)
                plainly = tuple((name, plain(value)) for name, value in wanted.items() if name != "lr")
                into = known.setdefault((plainly, column.numpy().tobytes(), begins), len(layout))
                if into == len(layout):
                    layout.append([])
                    settings.append(wanted)
                    columns.append(column)
                layout[into] += [(place, one) for place in places]
        return layout, settings, torch.cat(columns, dim=1).contiguous()

    def _build(self, layout: list[list[Wanted]], settings: list[dict[str, Any]], found: Sequence[Range]) -> None:
        """Make the joint groups and their tensors."""
        self._layout = layout
        made = {(place, one): Piece(place, one, self._tensor(place, one)) for group in layout for place, one in group}
        self._pieces = list(made.values())
        self._lent = [piece for piece in self._pieces if piece.tensor is not self._weights[piece.place]]
        self._joint.state = defaultdict(dict)
        self._joint.param_groups = [
            {"params": [made[wanted].tensor for wanted in group], **known}
            | ({"lr": known["lr"].clone()} if isinstance(known["lr"], Tensor) else {})
            for group, known in zip(layout, settings, strict=True)
        ]
        while len(self.own):
            self.own.pop(0)
        for one in (one for one in found if one.spread):
            assigned = self._assigned(one.first)
            moved = [
                Moved(self._weights[piece.place].data[one.first : one.end], piece.tensor, assigned[piece.place] or 0)
                for piece in self._pieces
                if piece.range == one
            ]
            self.own.append(Spread(moved, self._groups(one), self._stack.turn))

    def _tensor(self, place: int, one: Range) -> nn.Parameter:
        """Return the tensor that the joint optimizer changes: a parameter of networks, or the direction in which to."""
        whole = self._weights[place]
        if one.alone:
            return self._holdings.parameters[self._first + one.first][place]  # type: ignore[return-value]
        part = whole.data[one.first : one.end]
        if one.spread:
            return nn.Parameter(torch.zeros_like(part))
        return whole if len(part) == len(whole) else nn.Parameter(part)

    def _link(self, piece: Piece) -> None:
        """Let the joint optimizer keep of a parameter what those of the networks keep."""
        first, end = self._numbers(piece.range)
        given = self._holdings.of(first, piece.place)
        if piece.range.alone:
            if given:
                self._joint.state[piece.tensor] = given
            piece.known = dict(given)
            return
        before, state = self._joint.state.get(piece.tensor, {}), {}
        for name, value in list(given.items()):
            if not isinstance(value, Tensor):
                state[name] = value
                continue
            part = self._holdings.together(piece.place, name, first, end)
            if name in COUNTS:
                state[name] = before[name].copy_(value) if name in before else value.clone()
            else:
                kept = before.get(name)
                state[name] = kept if isinstance(kept, Tensor) and kept.data_ptr() == part.data_ptr() else part
        self._joint.state.pop(piece.tensor, None)
        if state:
            self._joint.state[piece.tensor] = state
        piece.known = dict(state)

    def _take_in(self, piece: Piece, state: dict[str, Any]) -> None:
        """Let the networks keep what the joint optimizer began to keep of a parameter."""
        first, end = self._numbers(piece.range)
        if piece.range.alone:
            self._optimizers[piece.range.first].state[piece.tensor] = state
        else:
            for name, value in list(state.items()):
                if name in piece.known and piece.known[name] is value:
                    continue
                found = self._holdings.put(piece.place, name, first, end, value)
                if isinstance(value, Tensor) and name not in COUNTS:
                    state[name] = found
        piece.known = dict(state)
        self._left = None


def _like_before(values: Tensor) -> Tensor:
    """Return whether the numbers ``(steps, networks, ...)`` of each network but the first are those of the one before it."""
    return (values[:, 1:] == values[:, :-1]).flatten(2).all(dim=2)


def _as_the_first(rows: Tensor) -> int:
    """Return how many of some rows ``(rows, ...)``, from the first on, are like it.

    Example:
        >>> _as_the_first(torch.tensor([[True, False], [True, False], [True, True], [True, False]]))
        2
    """
    other = (rows != rows[0]).flatten(1).any(dim=1)
    return int(other.int().argmax()) if bool(other.any()) else len(rows)
