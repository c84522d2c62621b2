"""Learning rates and decays that differ between networks, in one update: torch's says where to, each network how far. Floor 8.

The update of most optimizers is the learning rate times a direction that does not hang on it. So torch's own takes its step with
a rate of 1 and without decay, from zeros; that is the direction, in torch's own kernels. What each network makes of it is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

AHEAD = 1024  # steps for which rates are written down at a time
LINEAR = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta),
)


def may_differ(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether learning rate and decay of networks that one update changes may differ."""
    kinds = {parameter.dtype for group in optimizer.param_groups for parameter in group["params"]}
    return (
        isinstance(optimizer, LINEAR)
        and not any(group.get("maximize") for group in optimizer.param_groups)
        and kinds <= {torch.float32, torch.float64}
    )


def decoupled(group: dict[str, Any]) -> bool:
    """Tell whether decay shrinks the weights by itself (AdamW) and is no part of the gradient."""
    return bool(group.get("decoupled_weight_decay"))


@final
@dataclass(frozen=True)
class Moved:
    """A parameter of networks: ``weights`` ``(networks, ...)``, the ``direction`` of their update, the number of its ``group``."""

    weights: Tensor
    direction: nn.Parameter
    group: int


@final
class Spread(nn.Module):
    """Networks that stand side by side, with learning rates and decays of their own.

    Args:
        moved: Their parameters.
        groups: Of each network; the decays are read there.
        turn: The number of the step among those whose rates are written down, int64 ``(1,)``.
    """

    rates: Tensor
    decays: Tensor

    def __init__(self, moved: Sequence[Moved], groups: Sequence[Sequence[dict[str, Any]]], turn: Tensor) -> None:
        super().__init__()
        first = moved[0].weights
        count = len(groups[0])
        self._moved, self._turn = moved, (turn,)
        self._shapes = [(-1, *(1 for _ in one.weights.shape[1:])) for one in moved]
        self.directions = nn.ParameterList([one.direction for one in moved])
        self._zeros: list[Tensor] = [one.direction for one in moved]
        room = torch.zeros(AHEAD, 2 * count, len(groups), dtype=first.dtype, device=first.device)
        self.register_buffer("rates", room, persistent=False)
        self.register_buffer("decays", torch.zeros_like(room[0, :count]), persistent=False)
        self._decoupled = [decoupled(group) for group in groups[0]]
        self._shrinks: tuple[bool, ...] = ()
        self._pulls: tuple[bool, ...] = ()
        self._written: Tensor | None = None
        self._rows: dict[tuple[int, ...], Tensor] = {}  # of this step, by the shape in which they meet the weights

    def write(self, table: Tensor, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
        """Write down the rates of the next steps, float64 ``(steps, networks, groups)``, or one row for all, and the decays."""
        decays = torch.tensor(
            [[float(group.get("weight_decay", 0.0)) for group in own] for own in groups], dtype=torch.float64
        )
        left = 1.0 - table * decays
        rows = torch.cat([table, left], dim=2).transpose(1, 2)
        written = torch.cat([rows[0], decays.t()])
        if len(rows) == 1 and self._written is not None and torch.equal(written, self._written):
            return
        self._written = written if len(rows) == 1 else None
        self.rates[: AHEAD if len(rows) == 1 else len(rows)].copy_(rows)
        self.decays.copy_(decays.t())
        some = [bool(own.any()) for own in decays.t()]
        self._shrinks = tuple(one and alone for one, alone in zip(some, self._decoupled, strict=True))
        self._pulls = tuple(one and not alone for one, alone in zip(some, self._decoupled, strict=True))

    @torch.no_grad()
    def before(self) -> None:
        """Take the decays of the networks, in the weights or in the gradients, and begin with no direction."""
        row = self.rates.index_select(0, self._turn[0])
        half = row.shape[1] // 2
        self._rows = {shape: row.view(row.shape[1], *shape) for shape in set(self._shapes)}
        for one, shape in zip(self._moved, self._shapes, strict=True):
            if one.direction.grad is None:
                continue
            if self._shrinks[one.group]:
                one.weights.mul_(self._rows[shape][half + one.group])
            elif self._pulls[one.group]:
                one.direction.grad.addcmul_(one.weights, self.decays[one.group].view(shape))
        torch._foreach_zero_(self._zeros)

    @torch.no_grad()
    def after(self) -> None:
        """Move the weights of every network by its own rate."""
        for one, shape in zip(self._moved, self._shapes, strict=True):
            if one.direction.grad is not None:
                one.weights.addcmul_(one.direction, self._rows[shape][one.group])
