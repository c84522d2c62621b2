"""The one training step, taken by several processes together: torch's DistributedDataParallel around the network. Floor 7.

Each process has a part of the batch. DistributedDataParallel (Li and others, 2020, arXiv:2006.15704) takes the mean of the
gradients of all; the loss of each is weighted first, so that this mean is the gradient of the mean loss of the whole batch, also
where parts differ in rows or rows in weight.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.distributed.failures import is_lost
from netwright.distributed.world import World
from netwright.engine.base import Failure, Loss, Steps
from netwright.engine.eager import EagerEngine, parts_of, train_step
from netwright.engine.own_code import own_code
from netwright.engine.sharding import READS_PIECES, is_sharded, reads_pieces
from netwright.errors import ConfigError, DivergedError, NetwrightError
from netwright.model.losses import LossAround, loss_weight
from netwright.model.synchronised import count_rows, synchronises

NEVER = 2**30  # steps between two in which DistributedDataParallel reads clocks, which no capture can, after the first ten


class FailedTogether(NetwrightError):
    """A step failed in one of several processes, and no process applied it."""


class _Valued(torch.autograd.Function):
    """One number with the value of another: what is told is the mean over all rows, what is derived is the own part."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, told: Tensor) -> Tensor:
        """Return the value that is told."""
        return told.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Hand the gradient to the own part."""
        return gradient, None


@final
class SharedLoss(LossAround):
    """The loss of a part of each batch, weighted for the mean over processes; its value is the mean over the whole batch.

    Args:
        loss_function: Of output and target, the mean over rows.
        world: The processes.
    """

    def __init__(self, loss_function: Loss, world: World) -> None:
        super().__init__(loss_function)
        self._world = world
        self.joined = True
        self._whole = self._own = self._found = self._mean = 0.0
        self._parts = self._left = 1

    def begin(self, own: float, whole: float, parts: int = 1) -> None:
        """Begin a step: the weights of this process's rows and of all rows of the batch, and how often it is called for them."""
        self._own, self._whole = own, whole
        self._parts = self._left = parts
        self._found, self.joined = 0.0, False

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of some rows; with the last of them all processes learn the mean, or that one of them failed.

        What is returned has the whole mean for its value with the last rows, and nothing before them.

        Raises:
            FailedTogether: The step failed elsewhere.
            DivergedError: The loss is not finite, here or elsewhere.
        """
        # in float32: a scale that float16 cannot hold, times nothing, would be no number on the way back
        loss = self.loss_function(output, target) if self._own else (output.float() * 0).sum()
        weight = self._own if self._parts == 1 else float(loss_weight(self.loss_function, target))
        found = float(loss.detach())
        error = None if found - found == 0.0 else DivergedError(f"the loss is {found}")
        nothing = float("nan")  # the mean over rows of which none counts
        self._found += 0.0 if error is not None else found * (weight / self._whole if self._whole else nothing)
        self._left -= 1
        if self._left and error is not None:
            raise error
        mean = 0.0
        if not self._left:
            mean = self._mean = self.join(self._found, error)
            self._left, self._found = self._parts, 0.0  # a step that looks uphill reads the rows twice
        told = torch.tensor(mean, dtype=loss.dtype, device=loss.device)
        share = self._own / self._whole if self._whole else nothing
        valued: Tensor = _Valued.apply(loss * (share * self._world.size), told)  # type: ignore[no-untyped-call]
        return valued

    def agreed(self, loss: Tensor) -> Tensor:
        """Return the mean of the rows that were read last, in the dtype and on the device of a loss: the same bits everywhere."""
        return torch.tensor(self._mean, dtype=loss.dtype, device=loss.device)

    def join(self, part: float, error: Exception | None) -> float:
        """Return the sum of what all processes have, unless one of them failed.

        Raises:
            FailedTogether, DivergedError: One did; the first is named.
        """
        self.joined = True
        total = self._world.total(torch.tensor([part, 0.0 if error is None else 1.0], dtype=torch.float64))
        if not total[1]:
            return float(total[0])
        told = self._world.gathered(None if error is None else [type(error).__name__, str(error)])
        rank, (kind, text) = next((rank, one) for rank, one in enumerate(told) if one is not None)
        if kind == DivergedError.__name__:
            raise DivergedError(f"{text} on rank {rank}")
        if kind == ConfigError.__name__:
            raise ConfigError(text)
        raise FailedTogether(f"{kind}: {text} on rank {rank}") from error


@final
class QuietLoss(LossAround):
    """The loss of a part of a batch, whose value is the mean over the whole batch, summed up where it lies: nothing is read.

    Args:
        loss_function: Of output and target, the mean over rows.
        share: Of the part in the weight of all rows, float64 ``()``.
        world: The processes.
    """

    def __init__(self, loss_function: Loss, share: Tensor, world: World) -> None:
        super().__init__(loss_function)
        self._share, self._size = share, world.size

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of some rows, with the mean over all for its value."""
        loss = self.loss_function(output, target)
        told = loss.detach().double() * self._share
        distributed.all_reduce(told)
        weighted = loss * (self._share * self._size).to(loss.dtype)
        valued: Tensor = _Valued.apply(weighted, told.to(loss.dtype))  # type: ignore[no-untyped-call]
        return valued


@final
class SharedEngine:
    """Takes the step as it is written, on this process's part of each batch.

    Args:
        eager: The engine of one process; its network and loss stay what is validated and kept.
        world: The processes.
        beside: A block that runs where steps will be captured; all of them are taken there.

    ``taken`` counts the steps since the network was wrapped.
    """

    name = "eager"

    def __init__(
        self, eager: EagerEngine, world: World, beside: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.eager, self.world, self._beside = eager, world, beside
        self.taken = 0
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self._loss = SharedLoss(eager.loss_function, world)
        self._shared: nn.Module = eager.model
        self._learning: tuple[bool, ...] | None = None
        self._feed: Feed | None = None
        # The processes meet within the pass forward: one that fails there ends, as the others wait for something else.
        self._meets = is_sharded(eager.model) or synchronises(eager.model)

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return f"as written, by {self.world.size} processes ({'FSDP' if is_sharded(self.model) else 'DDP'})"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        self.begin(feed)
        self.taken += 1
        whole = feed.rows(1)[0]
        targets, batch = feed.examples.targets(whole), feed.next()
        mixed = targets.dtype != batch.target.dtype  # shares of classes, of which each row weighs the same
        weight = torch.as_tensor(len(whole) if mixed else loss_weight(self.loss_function, targets))
        mine = feed.share is None or feed.share.bounds(len(whole))
        none = isinstance(mine, tuple) and mine[0] == mine[1]
        try:
            loss = self.train_part(batch, float(weight), none)
        except ConfigError:
            raise
        except Exception as error:  # an own module or loss may raise anything
            return Steps(torch.empty(0), torch.empty(0), Failure(batch, error))
        return Steps(loss.reshape(1), weight.reshape(1))

    def begin(self, feed: Feed) -> None:
        """Begin with a feed, where it is another one than before."""
        if feed is not self._feed:
            self._wrap()
            self._feed = feed

    def train_part(self, batch: Batch, whole: float, none: bool = False) -> Tensor:
        """Take the step on this process's part of a batch.

        Args:
            batch: The part; where no row is left for this process, one that counts nothing.
            whole: The weight of all rows of the batch.
            none: Whether no row is left.

        Returns:
            The mean loss of the whole batch.

        Raises:
            Exception: What failed here or elsewhere, the same in all processes; the update is not applied.
        """
        own = 0.0 if none else float(loss_weight(self.loss_function, batch.target))
        count_rows(self.model, not none)
        rows = self.eager.update.micro_batch
        self._loss.begin(own, whole, len(parts_of(batch, self.loss_function, rows)) if own and rows else 1)
        try:
            if is_sharded(self.model):  # DistributedDataParallel does so by itself
                self.world.level(list(self.model.buffers()))
            none_counts = bool(rows) and not own  # so none of it is added up
            return self._step(batch.part(0, rows) if none_counts else batch, self._loss)  # type: ignore[arg-type]
        except ConfigError:
            raise
        except Exception as error:  # an own module or loss may raise anything
            if reads_pieces(error):
                raise ConfigError(READS_PIECES) from error
            found = self._told(error)
            if found is error:
                raise
            raise found from error

    def train_quietly(self, batch: Batch, share: Tensor) -> Tensor:
        """Take the step with no word of the host between the processes, as a CUDA graph can hold it; else as `train_part`.

        Args:
            batch: This process's part, in which rows count.
            share: Its part of the weight of all rows, float64 ``()``.
        """
        return self._step(batch, QuietLoss(self.loss_function, share, self.world))

    def _step(self, batch: Batch, loss_function: Loss) -> Tensor:
        """Take THE training step with the network that is shared."""
        eager = self.eager
        with self._beside():
            loss = train_step(self._shared, loss_function, eager.optimizer, batch, eager.update, eager.scaler)
            if eager.averaged is not None:
                eager.averaged.after_step()
            return loss

    def _told(self, error: Exception) -> Exception:
        """Tell the others of an error that they have not seen, and return the error of all."""
        if self._loss.joined or is_lost(error) or self._meets:
            return error
        try:
            self._loss.join(0.0, error)
        except Exception as found:  # the one that all processes raise
            return found
        return error

    def _wrap(self) -> None:
        """Wrap the network anew where other parameters learn than before."""
        if is_sharded(self.model):
            return
        learning = tuple(parameter.requires_grad for parameter in self.model.parameters())
        if learning != self._learning:
            self._shared = self.model  # the old wrapping lets go of the parameters first
            self._learning, self.taken = learning, 0
            unused = bool(own_code(self.model, self.loss_function))
            with self._beside():  # gradients are added up where the wrapping was made
                self._shared = DistributedDataParallel(self.model, find_unused_parameters=unused)
                self._shared._set_ddp_runtime_logging_sample_rate(NEVER)  # type: ignore[no-untyped-call]
                if self.world.size > 2 and not unused:
                    _settle(self._shared)


class _Parameters(nn.Module):
    """A network that reads every parameter of another once, and computes nothing.

    It has the other's buffers too: DistributedDataParallel counts them once and looks for them before every pass.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self) -> Tensor:
        """Return a number that every parameter that learns has a gradient for."""
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.stack([parameter.float().sum() for parameter in learning]).sum()


def _settle(shared: DistributedDataParallel) -> None:
    """Let the buckets of gradients be what they stay, before the first step.

    DistributedDataParallel builds them anew once it has seen in which order gradients come. Where more than two numbers are
    added, the order depends on their place in the bucket, so that a run which goes on would else add its first gradients in
    another order than the one that was not interrupted. Gradients that mean nothing are added up first, and dropped.
    """
    network = shared.module
    shared.module = _Parameters(network)
    try:
        shared().backward()
    finally:
        shared.module = network
    shared.zero_grad(set_to_none=True)
