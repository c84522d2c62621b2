"""The optimizers of several networks as one: groups of equal settings are updated together, by torch's own optimizer. Floor 5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from netwright.engine.averaged import Averaged
from netwright.engine.rates import numbers, put
from netwright.engine.recording import CannotCapture
from netwright.engine.stacking import Stack
from netwright.engine.update import Update, change_gradients


@final
class Merged:
    """What a training step asks of an optimizer, for all networks of a `Stack`.

    Args:
        stack: The networks as one, for their gradients.
        models: The networks.
        optimizers: One per network, of one class; each keeps its state, so that it can go on alone at any time.
        update: What is done to the gradients of each network before its update.

    Every update is elementwise or of one parameter, so that parameters of several networks may stand in one group.
    ``torn`` is the error of an update that broke off, after which some weights may have changed and others not.
    """

    def __init__(
        self, stack: Stack, models: Sequence[Any], optimizers: Sequence[torch.optim.Optimizer], update: Update
    ) -> None:
        self._stack, self._models, self._optimizers, self._update = stack, models, optimizers, update
        first = optimizers[0]
        self._joint: torch.optim.Optimizer = object.__new__(type(first))
        self._joint.__dict__.update(first.__dict__)
        self._owner = {parameter: one for one in optimizers for group in one.param_groups for parameter in group["params"]}
        self._columns: list[tuple[int, int]] = []
        self.torn: Exception | None = None
        self.refresh(None)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, those of equal settings as one."""
        return self._joint.param_groups

    @property
    def state(self) -> dict[Any, Any]:
        """The state of every parameter."""
        return self._joint.state

    def refresh(self, rates: Sequence[Tensor | None] | None) -> Tensor | None:
        """Read settings and states of the optimizers again, and return the joint table of rates.

        Args:
            rates: Of each network ``(steps, 2 * groups)`` for its next steps, as many for all, or None where they stay.

        Returns:
            The same for the joint groups; None where none change.
        """
        merged: dict[Any, dict[str, Any]] = {}
        self._columns = []
        for number, one in enumerate(self._optimizers):
            table = None if rates is None else rates[number]
            for place, group in enumerate(one.param_groups):
                key = [(name, _plain(value)) for name, value in group.items() if name != "params"]
                columns = b"" if table is None else table[:, 2 * place : 2 * place + 2].contiguous().numpy().tobytes()
                known = (*key, columns, _begun(one, group["params"]))
                if known not in merged:
                    merged[known] = {**group, "params": []}
                    self._columns.append((number, place))
                merged[known]["params"] += group["params"]
        self._joint.param_groups = list(merged.values())
        states: defaultdict[Any, Any] = defaultdict(dict)
        for one in self._optimizers:
            states.update(one.state)
        self._joint.state = states
        return None if rates is None else self._table(rates)

    def turn(self, row: Tensor) -> None:
        """Give the groups the numbers of the next step, for an engine that reads them there."""
        put(self._joint.param_groups, row.tolist())

    def _table(self, rates: Sequence[Tensor | None]) -> Tensor | None:
        if all(table is None for table in rates):
            return None
        steps = next(len(table) for table in rates if table is not None)
        parts = []
        for number, place in self._columns:
            table = rates[number]
            if table is None:
                now = numbers([self._optimizers[number].param_groups[place]])
                parts.append(torch.tensor([now], dtype=torch.float64).expand(steps, 2))
            else:
                parts.append(table[:, 2 * place : 2 * place + 2])
        return torch.cat(parts, dim=1).contiguous()

    def zero_grad(self) -> None:
        """Empty all gradients."""
        self._stack.forget_gradients()

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Update every network by its own gradients; return the loss that the closure gives."""
        loss = closure()
        self._stack.hand_out_gradients()
        for model in self._models:
            change_gradients(model, self._update)
        try:
            self._joint.step()
        except CannotCapture:  # whoever records puts everything back
            raise
        except Exception as error:  # an optimizer may raise anything
            self.torn = error
            raise
        for parameter, state in self._joint.state.items():
            owner = self._owner[parameter]
            if owner.state.get(parameter) is not state:
                owner.state[parameter] = state
        return loss


def _begun(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> tuple[Any, ...]:
    """Return what state parameters have by name: torch's fused kernels take those with and without it in no one group."""
    found = {
        tuple(sorted(name for name, value in optimizer.state.get(parameter, {}).items() if value is not None))
        for parameter in parameters
    }
    return tuple(sorted(found))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else float(value) if isinstance(value, Tensor) else value


def take_averages(averages: Sequence[Averaged | None]) -> None:
    """Take the weights after a step into the averages that there are."""
    for average in averages:
        if average is not None:
            average.after_step()
