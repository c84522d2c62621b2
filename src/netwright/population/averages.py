"""The averaged weights of several networks, taken after a step for all of them at once. Floor 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from netwright.engine.averaged import Averaged

COUNT = "n_averaged"
INSIDE = "module."


@final
class Averages(nn.Module):
    """Exponential moving averages of networks that stand side by side; those that have none, or an equal mean, are left out.

    Args:
        averages: One per network.
        wholes: Parameters and buffers of the networks by name, ``(networks, ...)``.
        means: The same of all averages, of which the average of each is a view; None where not all have one.

    With ``means`` and one decay, those that have begun are taken together, elementwise as each is alone.
    """

    def __init__(
        self, averages: Sequence[Averaged | None], wholes: Mapping[str, Tensor], means: Mapping[str, Tensor] | None
    ) -> None:
        super().__init__()
        self._averages = [one for one in averages if one is not None and one.decay is not None]
        decays = {one.decay for one in self._averages}
        joint = means is not None and len(decays) == 1 and len(self._averages) == len(averages)
        self._move: Any = get_ema_multi_avg_fn(decays.pop()) if joint else None  # type: ignore[no-untyped-call]
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []
        if means is None or not joint:
            self.apart = nn.ModuleList([one.average for one in self._averages])
            return
        self.register_buffer("count", means[COUNT], persistent=False)
        kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for place, (name, mean) in enumerate((name, mean) for name, mean in means.items() if name != COUNT):
            self.register_buffer(f"mean_{place}", mean, persistent=False)
            into, values = kinds.setdefault(mean.dtype, ([], []))
            into.append(mean)
            values.append(wholes[name.removeprefix(INSIDE)])
        self._pairs = list(kinds.values())

    def after_step(self) -> None:
        """Take the weights after a step into the averages."""
        if not self._pairs or not all(one.begun for one in self._averages):
            for one in self._averages:
                one.after_step()
            return
        with torch.no_grad():
            for means, values in self._pairs:
                self._move(means, values, None)
            self.get_buffer("count").add_(1)
