"""Averaged weights beside those that train: torch.optim.swa_utils.AveragedModel, updated by steps that can be recorded. Floor 7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from netwright.distributed.pieces import dealt_as, is_dealt


@final
class Averaged:
    """The mean of the weights and buffers that a network had, as a network of its own in eval mode.

    Args:
        model: The network that trains, on its device; it is copied.
        decay: Share of the mean that stays at a step, of an exponential moving average (EMA) after every step; None for the equal
            mean (SWA) of the epochs from ``start`` on.
        start: The first epoch of such a mean, from 1.

    The weights are those that `AveragedModel` with ``use_buffers=True`` gives, bit by bit (torch.optim.swa_utils, documentation;
    Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407). The first update copies the network.
    """

    def __init__(self, model: nn.Module, decay: float | None = None, start: int = 1) -> None:
        self.model, self.decay, self.start = model, decay, start
        self._move: Any = None if decay is None else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True).eval()
        device = next((value.device for value in model.parameters()), self.average.n_averaged.device)
        self.average.n_averaged = self.average.n_averaged.to(device)  # where the steps are counted that a graph repeats
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether there is a mean yet."""
        return self._begun

    @property
    def shown(self) -> nn.Module:
        """The network that is validated and kept: the mean, or the network itself while there is none."""
        return self.average.module if self._begun else self.model

    def after_step(self) -> None:
        """Take the weights after a step into an exponential moving average; nothing of a number is read on the way."""
        if self._move is None:
            return
        if not self._begun:
            self._update()
            return
        with torch.no_grad():
            for means, values in _by_dtype(self.average.module, self.model):
                self._move(means, values, self.average.n_averaged)
            self.average.n_averaged.add_(1)

    def after_epoch(self, epoch: int) -> None:
        """Take the weights after an epoch into an equal mean, from its first epoch on."""
        if self.decay is None and epoch >= self.start:
            self._update()

    def _update(self) -> None:
        self.average.update_parameters(self.model)
        self._begun = True

    def state_dict(self) -> dict[str, Any]:
        """Return the mean by name, with all its buffers, and of how many weights it is."""
        return {"begun": self._begun, "count": self.average.n_averaged, "mean": _named(self.average.module)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the mean where `state_dict` found it.

        Raises:
            KeyError, RuntimeError: It is of another network.
        """
        with torch.no_grad():
            self.average.n_averaged.copy_(state["count"])
            held = _named(self.average.module)
            for name, value in dealt_as({name: state["mean"][name] for name in held}, held).items():
                held[name].copy_(value)
        self._begun = bool(state["begun"])


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}


def _by_dtype(mean: nn.Module, model: nn.Module) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Return the tensors of two networks side by side, those of one dtype together, as AveragedModel groups them.

    Those of which each process holds a piece stand apart from those that all hold.
    """
    found: dict[tuple[torch.dtype, bool], tuple[list[Tensor], list[Tensor]]] = {}
    for into, value in zip(_named(mean).values(), _named(model).values(), strict=True):
        means, values = found.setdefault((into.dtype, is_dealt(into)), ([], []))
        means.append(into)
        values.append(value)
    return list(found.values())
