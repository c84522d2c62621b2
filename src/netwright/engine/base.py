"""What every engine offers, and what it gives. Floor 7."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.update import PLAIN, Update

Loss = Callable[[Tensor, Tensor], Tensor]
AT_A_TIME = 0.05  # seconds after which steps come back to the loop, so that no signal waits longer


@dataclass(frozen=True)
class Execution:
    """How steps shall be executed.

    ``engine`` is eager, captured or compiled; ``by_name`` tells whether it was asked for, so that it is an error where it
    cannot run. ``update`` is what each step does. ``lanes`` cores share a captured step.
    """

    engine: str = "eager"
    by_name: bool = False
    update: Update = PLAIN
    lanes: int = 1


@dataclass(frozen=True)
class Failure:
    """The batch on which a step raised an error, and the error; the update was not applied, unless that is what broke off."""

    batch: Batch
    error: Exception


@dataclass(frozen=True)
class Steps:
    """Some steps that were taken: the mean loss of each before its update and its weight, both ``(steps,)``.

    ``losses`` are of the dtype of the loss, on the device and the caller's to keep, ``weights`` float64. ``failure`` tells of
    the step after them.
    """

    losses: Tensor
    weights: Tensor
    failure: Failure | None = None


class Written(Protocol):
    """A step as it is written, of one network or of several together: what a recording is made of."""

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""
        ...

    @property
    def networks(self) -> nn.Module:
        """It, with the mean of its weights where there is one: all that a step changes."""
        ...

    @property
    def loss_function(self) -> Loss:
        """The loss of output and target."""
        ...

    @property
    def optimizer(self) -> Any:
        """What updates the parameters."""
        ...

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; return its mean loss, or that of each of several networks ``(networks,)``."""
        ...

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows of all, int64 ``(batch,)``, that lie on the device, as `train_step` would."""
        ...

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        ...

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `Engine`."""
        ...


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
    def loss_function(self) -> Loss:
        """The loss of output and target."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates the parameters."""
        ...

    @property
    def eager(self) -> Any:
        """The engine that runs the same steps as they are written; itself, where it does."""
        ...

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        ...

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed.

        Args:
            feed: It has ``most`` batches or more.
            most: How many steps to take at most, 1 or more; fewer where they take longer than `AT_A_TIME`.
            rates: Learning rate and momentum of each group for each of the steps, where they change between them, float64 ``(steps,
                2 * groups)``, the first row as the optimizer has them; fewer steps than ``most`` where it has fewer rows. An engine
                that takes one step reads those of the optimizer.

        Returns:
            One step or more, or the failure of the first.
        """
        ...
