"""Steps that can be undone: how the step that spoils a training is found, and the state before it kept. Floor 9."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import Steps
from netwright.engine.eager import EagerEngine, one_step
from netwright.errors import DivergedError
from netwright.training.loop import Progress
from netwright.training.state import put_back, remembered, spoiled


@final
class CarefulEngine:
    """The steps as they are written; one that raises, or leaves a number that is not finite, is undone before it is told.

    Several times slower than the steps themselves: each is preceded by a copy of the whole state.

    Args:
        eager: The engine whose steps are undone where they spoil something.
        device: Of its network.
    """

    name = "careful"

    def __init__(self, eager: EagerEngine, device: torch.device) -> None:
        self.eager, self.device = eager, device
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return "as written, each undone where it spoils something"

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch.

        Raises:
            DivergedError: Loss, gradient, parameters or optimizer are not finite; everything is as it was before.
        """
        before = copy.deepcopy(remembered(self.eager, self.device, Progress()))
        try:
            loss = self.eager.train_step(batch)
            bad = spoiled(self.eager)
            if bad is not None:
                raise DivergedError(f"the loss is {loss.item():.4g}, but after the update {bad} is not finite")
        except Exception:
            put_back(before, self.eager, self.device)
            raise
        return loss

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))
