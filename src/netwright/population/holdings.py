"""What optimizers of several networks keep, side by side: each tensor of all is one, and that of each a view of it. Floor 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

COUNTS = ("step", "mu_product", "eta", "mu")  # one number for a whole parameter, in torch's own optimizers


@final
class Holdings:
    """The states of optimizers of one class, of parameters of equal shapes.

    Args:
        parameters: Of each network, in one order.
        optimizers: One per network.

    A number that stands for a whole parameter, such as the count of its steps, is one per network. ``last`` is who stepped last.
    """

    def __init__(self, parameters: Sequence[Sequence[Tensor]], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.parameters, self.optimizers = parameters, optimizers
        self.last: object = None
        self._wholes: dict[tuple[int, str], Tensor] = {}

    def of(self, member: int, place: int) -> dict[str, Any]:
        """Return what an optimizer keeps of a parameter by name, which may be nothing."""
        found: dict[str, Any] = self.optimizers[member].state.get(self.parameters[member][place], {})
        return found

    def seen(self, first: int, end: int) -> list[Any]:
        """Return all that some optimizers keep, in order."""
        return [
            value
            for parameters, one in zip(self.parameters[first:end], self.optimizers[first:end], strict=True)
            for parameter in parameters
            for value in one.state.get(parameter, {}).values()
        ]

    def together(self, place: int, name: str, first: int, end: int) -> Tensor:
        """Return a tensor of some networks ``(networks, ...)``, of which that of each is a view from now on."""
        whole = self._whole(place, name, self.of(first, place)[name])[first:end]
        with torch.no_grad():
            for member, view in enumerate(whole.unbind(0), first):
                state = self.of(member, place)
                if state[name].data_ptr() != view.data_ptr():
                    view.copy_(state[name])
                    state[name] = view
        return whole

    def put(self, place: int, name: str, first: int, end: int, value: Any) -> Any:
        """Let networks keep a value: each its part of ``(networks, ...)``, or one number for all; return where it lies now."""
        if not isinstance(value, Tensor):
            views, found = [value] * (end - first), value
        else:
            like = value if name in COUNTS else value[0]
            with torch.no_grad():
                found = self._whole(place, name, like)[first:end].copy_(value)
            views = list(found.unbind(0))
        for member, view in enumerate(views, first):
            self.optimizers[member].state[self.parameters[member][place]][name] = view
        return found

    def count(self, place: int, name: str, first: int, end: int, value: Tensor) -> None:
        """Write the number that stands for a whole parameter of some networks."""
        self._wholes[place, name][first:end].copy_(value)

    def counted(self, place: int, name: str, first: int, end: int, value: Tensor) -> Tensor:
        """Return whether the numbers that stand for a parameter of some networks are all a value, bool ``()``."""
        return (self._wholes[place, name][first:end] == value).all()

    def _whole(self, place: int, name: str, like: Tensor) -> Tensor:
        found = self._wholes.get((place, name))
        if found is None:
            found = torch.zeros((len(self.optimizers), *like.shape), dtype=like.dtype, device=like.device)
            self._wholes[place, name] = found
        return found
