"""Steps in float16: the loss is scaled so that small gradients do not vanish; a step whose gradients overflow is skipped.

Floor 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.engine.update import Update
from netwright.errors import DivergedError

LEAST = 2.0**-8  # a scale at which gradients that overflow are no matter of float16


@final
class Scaler:
    """torch.amp.GradScaler (Micikevicius and others, 2018), and how many steps it skipped.

    Where several processes share a step, the loss of each is weighted for the mean of their gradients, so that it is as many
    times as large as its part of the whole. It goes backward as that part: in float16 nothing overflows then that would not in
    one process, and the same steps are skipped.

    Args:
        device: The type of device of the weights, such as ``cpu``.
        processes: That share each step.
    """

    def __init__(self, device: str, processes: int = 1) -> None:
        self._device, self._processes = device, processes
        self._scaler = torch.amp.GradScaler(device)
        self.skipped = 0

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss, scaled."""
        scaled: Tensor = self._scaler.scale(loss / self._processes if self._processes > 1 else loss)
        return scaled

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the scale."""
        self._scaler.unscale_(optimizer)
        if self._processes > 1:
            held = (parameter.grad for group in optimizer.param_groups for parameter in group["params"])
            torch._foreach_mul_([gradient for gradient in held if gradient is not None], float(self._processes))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimizer's step, or skip it where gradients overflow: then the scale is halved.

        Raises:
            DivergedError: Gradients are not finite at any scale.
        """
        before = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        after = self._scaler.get_scale()
        if after < before:
            self.skipped += 1
            if after < LEAST:
                raise DivergedError(f"the gradients are not finite even where the loss is scaled by {before:g}")

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, when it grows again, and the steps skipped."""
        return {"scaler": self._scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it where `state_dict` found it."""
        self._scaler = torch.amp.GradScaler(self._device)  # one that failed within a step would not begin another
        self._scaler.load_state_dict(dict(state["scaler"]))
        self.skipped = state["skipped"]


def scaler_for(update: Update, model: nn.Module, processes: int = 1) -> Scaler | None:
    """Return a scaler where steps, of so many processes together, are in float16; else None."""
    if update.autocast is not torch.float16:
        return None
    return Scaler(next((parameter.device.type for parameter in model.parameters()), "cpu"), processes)
