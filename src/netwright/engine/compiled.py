"""The one training step through torch.compile: other kernels, so other last bits; asked for by name. Floor 7.

The first step compiles for some seconds. What is compiled is kept on the disk by torch (torch.compiler's caches), so the
same network starts faster the next time. On a GPU its steps are captured like others, see `netwright.engine.graphed`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.base import Steps
from netwright.engine.eager import EagerEngine
from netwright.recording.building import COMPILERS


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
        compiled.forward = _apart(compiled.forward)
        self._step = replace(eager, model=compiled)

    @property
    def networks(self) -> nn.Module:
        """The network, with the mean of its weights where there is one."""
        return self.eager.networks

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `netwright.engine.eager.train_step`."""
        return self._step.train_step(batch)

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows; see `netwright.engine.base.Written`."""
        return self.train_step(examples.batch(rows))

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return "by torch.compile"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        return self._step.train_steps(feed, most)


def _apart(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call during which nothing watches operations: what is compiled is not compiled anew where a capture does."""

    @wraps(call)
    def apart(*inputs: Any, **named: Any) -> Any:
        with _disable_current_modes():
            return call(*inputs, **named)

    return apart


def why_not_compiled(device: torch.device) -> str | None:
    """Return why torch.compile cannot run on a device; None where it can."""
    if device.type == "cpu" and not any(shutil.which(name) for name in COMPILERS):
        return f"no C++ compiler is found ({', '.join(COMPILERS)})"
    return None
