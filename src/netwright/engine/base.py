"""What every engine offers. Floor 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch


class Engine(Protocol):
    """Executes training steps on one model, loss and optimizer."""

    @property
    def name(self) -> str:
        """The name as in ``training.engine``."""
        ...

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""
        ...

    @property
    def loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of output and target."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates the parameters."""
        ...

    def learning_rate(self) -> float:
        """Return the learning rate of the first parameter group."""
        ...

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch and return its mean loss, detached; the caller may keep it.

        Raises:
            DivergedError: The loss is not a finite number; the update was not applied.
        """
        ...
