"""The one training step of several processes in CUDA graphs: each captures its part, and the exchange of gradients. Floor 7.

NCCL's kernels are captured like any others (torch's documentation, "CUDA semantics", CUDA graphs, and "Usage with
DistributedDataParallel": the wrapping is made on a side stream, and has taken eleven steps before). What the processes decide
(whether bits are the same, how many steps a call takes) they decide together, else one would wait for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.distributed.world import World
from netwright.engine.base import Loss, Steps
from netwright.engine.eager import EagerEngine, one_step
from netwright.engine.graphed import GraphedEngine
from netwright.engine.own_code import own_code
from netwright.engine.shared import SharedEngine
from netwright.model.losses import IGNORING, PerStep, loss_weight
from netwright.recording.graphs import Graphs

SCATTERED = "rows are changed on their way or do not lie on the device"
SETTLED = 11  # steps of a wrapping before a capture, in which DistributedDataParallel measures times


def why_not_in_graphs(model: nn.Module, loss_function: Loss, together: bool = False, changed: bool = False) -> str | None:
    """Return why a step that processes share cannot be captured as CUDA graphs, beside what keeps that of one; None where it can.

    Args:
        model: The network.
        loss_function: Of output and target.
        together: Whether batch norm counts the rows of all processes.
        changed: Whether rows are changed on their way.

    Example:
        >>> why_not_in_graphs(nn.Linear(2, 1), nn.CrossEntropyLoss(weight=torch.ones(2)))
        'the weight of a part of a batch hangs on its classes'
    """
    if changed:
        return SCATTERED
    if own_code(model, loss_function):
        return "of code of one's own the processes ask in each step which parameters it used"
    if together:
        return "batch norm over all processes asks how many rows each has"
    if isinstance(loss_function, PerStep):
        return "the weight of a part of a batch hangs on its steps"
    if isinstance(loss_function, IGNORING) and loss_function.weight is not None:
        return "the weight of a part of a batch hangs on its classes"
    return None


def _uncounted(loss_function: Loss, examples: Examples) -> str:
    """Return why parts may weigh nothing, so that their mean is no number; nothing where each row counts."""
    target = examples.target
    if not isinstance(loss_function, IGNORING) or target.dtype != torch.long:
        return ""
    none = (target == loss_function.ignore_index).reshape(len(target), -1).all(dim=1).any()
    return "some rows have no target that counts" if bool(none) else ""


@final
class SharedStep:
    """The step that processes share, on a whole batch that each of them has, of which it takes its part.

    Args:
        shared: Takes it.
    """

    def __init__(self, shared: SharedEngine) -> None:
        self._shared, self._eager = shared, shared.eager
        self.model, self.loss_function, self.optimizer = shared.model, shared.loss_function, shared.optimizer
        self._bounds: Callable[[int], tuple[int, int]] = shared.world.share.bounds  # type: ignore[union-attr]

    @property
    def networks(self) -> nn.Module:
        """The network, with the mean of its weights where there is one."""
        return self._eager.networks

    def train_step(self, batch: Batch) -> Tensor:
        """Train on a whole batch; see `netwright.engine.base.Written`."""
        return self._shared.train_part(
            batch.part(*self._bounds(len(batch))), float(loss_weight(self.loss_function, batch.target))
        )

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows with no word of the host; see `netwright.engine.base.Written`."""
        begin, end = self._bounds(len(rows))
        batch = examples.batch(rows[begin:end])
        own, whole = (loss_weight(self.loss_function, target) for target in (batch.target, examples.targets(rows)))
        if isinstance(own, Tensor) and isinstance(whole, Tensor):
            share = own.double() / whole.double()
        else:
            share = torch.full((), float(own) / float(whole), dtype=torch.float64, device=batch.target.device)
        return self._shared.train_quietly(batch, share)

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed of whole ones; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return self._shared.played()


@final
class SharedGraphedEngine:
    """Captures the step that processes share and replays it; the first steps of each wrapping are taken as they are written.

    Args:
        eager: The engine of one process.
        graphs: Captures work on the device.
        world: The processes.
        by_name: Whether it is an error that a step cannot be captured.
        tell: Is told in a line why steps run as they are written.
    """

    name = "captured"

    def __init__(
        self,
        eager: EagerEngine,
        graphs: Graphs,
        world: World,
        by_name: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._shared = SharedEngine(eager, world, graphs.beside)
        self._graphed = GraphedEngine(SharedStep(self._shared), graphs, by_name, tell, world=world)
        self.eager: Any = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self._feed: Feed | None = None
        self._whole: Feed | None = None
        self._examples: Examples | None = None  # which all processes have

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        graphed, written = self._graphed.played(), self._shared.played()
        return graphed if graphed.startswith(written) else f"{written.removeprefix('as written, ')}, {graphed}"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed; see `netwright.engine.base.Engine`.

        Raises:
            ConfigError: A step cannot be captured, and that was asked for by name.
        """
        if feed is not self._feed:
            self._begin(feed)
        whole = self._whole
        if whole is None or self._shared.taken < SETTLED or len(whole.rows(1)[0]) < self._shared.world.size:
            steps = self._shared.train_steps(feed, most)
            if whole is not None:
                whole.take(1)
            return steps
        steps = self._graphed.train_steps(whole, most, rates)
        if self._graphed.why_not is not None:
            self._whole = None
        feed.take(len(steps.losses) + (steps.failure is not None))
        feed.waited = whole.waited
        return steps

    def _begin(self, feed: Feed) -> None:
        """Begin with a feed: all processes have its whole batches, or none goes by them."""
        self._feed, self._whole = feed, None
        self._shared.begin(feed)
        if self._graphed.why_not is not None:
            return
        whole = feed.whole()
        if whole is None or whole.examples is not self._examples:
            why = SCATTERED if whole is None else _uncounted(self.loss_function, whole.examples)
            if why := self._shared.world.agreed(why):
                self._graphed.give_up(why)
                return
            self._examples = feed.examples
        self._whole = whole
