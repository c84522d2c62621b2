"""The one training step through torch.compile: other kernels, so other last bits; asked for by name. Floor 5.

The first step compiles for some seconds. What is compiled is kept on the disk by torch (torch.compiler's caches), so the
same network starts faster the next time.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.feed import Feed
from netwright.engine.base import Steps
from netwright.engine.building import COMPILERS
from netwright.engine.eager import EagerEngine


@final
class CompiledEngine:
    """Runs the step with the network compiled, loss and optimizer as they are.

    Args:
        eager: The engine that runs the step as it is written; the weights stay those of its network.
    """

    def __init__(self, eager: EagerEngine) -> None:
        self.name = "compiled"
        self.eager = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        compiled: nn.Module = torch.compile(eager.model)  # type: ignore[assignment]
        self._step = replace(eager, model=compiled)

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return "by torch.compile"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        return self._step.train_steps(feed, most)


def why_not_compiled(device: torch.device) -> str | None:
    """Return why torch.compile cannot run on a device; None where it can."""
    if device.type == "cpu" and not any(shutil.which(name) for name in COMPILERS):
        return f"no C++ compiler is found ({', '.join(COMPILERS)})"
    return None
