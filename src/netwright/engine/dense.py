"""The step of a network of dense layers on a GPU in a few kernels of our own, of the compiled engine: other last bits. Floor 7.

A small step in torch's operations is some thirty kernels, of which each begins when the one before has ended. Here a layer is one
forward and one back, with its activation and dropout, and all updates are one (`netwright.recording.dense_kernels`). What comes out
is compared with the step as it is written, at the first steps of each run. Other networks take torch.compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.base import Steps, Written
from netwright.engine.dense_fit import Known, known_whole
from netwright.engine.eager import EagerEngine, one_step
from netwright.engine.likeness import CHECKED, UnlikeError, compared_step
from netwright.errors import DivergedError
from netwright.recording.dense import Launched, Pieces, Rule
from netwright.recording.graphs import Graphs
from netwright.recording.operations import is_deferred


@final
class DenseEngine:
    """Runs the step in kernels of dense layers.

    Args:
        eager: The engine that runs the step as it is written; weights and optimizer stay its own.
        otherwise: Makes what runs the steps that the kernels cannot take, or take otherwise than it is written.
        graphs: Knows the generator of the device.
    """

    def __init__(self, eager: EagerEngine, otherwise: Callable[[], Written], graphs: Graphs) -> None:
        self.name = "compiled"
        self.eager = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self.why_not: str | None = None  # the kernels are not taken
        self._make, self._graphs = otherwise, graphs
        self._device = next(self.model.parameters()).device
        self._compared = self._taken_here = 0
        self._went_elsewhere = False
        self._constants: dict[tuple[str, tuple[float, ...]], Tensor] = {}
        self._alike: dict[tuple[int, ...], bool] = {}  # whether the numbers of steps that lie there are the same

    @cached_property
    def _otherwise(self) -> Written:
        return self._make()

    @property
    def networks(self) -> nn.Module:
        """The network, with the mean of its weights where there is one."""
        return self.eager.networks

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        if self.why_not is not None:
            return f"{self._otherwise.played()}; {self.why_not}"
        if self._taken_here:
            return "by kernels of dense layers"
        return self._otherwise.played() if self._went_elsewhere else self.eager.played()

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `netwright.engine.eager.train_step`."""
        whole = len(batch.inputs) == 1 and batch.lengths is None
        return self._taken(batch.input if whole else None, batch.target, None, lambda: batch)

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows, int64 ``(batch,)``, which are read where they lie."""
        direct = len(examples.inputs) == 1 and not examples.raw and examples.resident
        x = next(iter(examples.inputs.values())) if direct else None
        return self._taken(x, examples.target, rows, lambda: examples.batch(rows))

    def _taken(self, x: Tensor | None, target: Tensor, rows: Tensor | None, batch: Callable[[], Batch]) -> Tensor:
        known = None if self.why_not is not None or x is None else known_whole(self.eager)
        if (
            x is None
            or known is None
            or not known.dense_alone
            or not known.reads(x, target, len(target if rows is None else rows))
        ):
            return self._elsewhere(batch)
        averaged = self.eager.averaged
        beginning = averaged is not None and averaged.decay is not None and not averaged.begun
        kept = known.kept(self.optimizer)
        if beginning or kept is None:  # the step as written makes what optimizer and average keep
            return self.eager.train_step(batch())
        rule = self._rule(known, kept)
        if rule is None:
            return self._elsewhere(batch)
        precision = "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            launch = partial(Launched, known.layers, known.head, rule, x.reshape(len(x), -1), target, rows, precision)
            if self._compared >= CHECKED or is_deferred():
                return self._step(launch())
            self._compared += 1
            try:
                return compared_step(self.eager, self._graphs, lambda: self._step(launch()), batch, known.drops)
            except UnlikeError as why:
                self.why_not = f"the kernels of dense layers failed: {why}"
                return self._otherwise.train_step(batch())

    def _elsewhere(self, batch: Callable[[], Batch]) -> Tensor:
        self._went_elsewhere = True
        return self._otherwise.train_step(batch())

    def _step(self, launched: Launched) -> Tensor:
        """Take the step.

        Raises:
            DivergedError: The loss is not finite; the update is not applied.
        """
        with torch.no_grad():
            losses = launched.forward()
            if not is_deferred() and not math.isfinite(total := losses.sum().item()):
                launched.forget()
                raise DivergedError(f"the loss is {total}")
            loss = launched.update()
        self._taken_here += 1
        if self.eager.averaged is not None:
            self.eager.averaged.after_step()
        return loss

    def _rule(self, known: Known, kept: list[Pieces]) -> Rule | None:
        """Return what the update reads and writes; None where the optimizer counts its steps otherwise."""
        weights = known.weights
        groups = {id(value): group for group in self.optimizer.param_groups for value in group["params"]}
        none: list[Pieces] = [tuple(weights), tuple(weights), ()]  # any tensors, where none are read
        firsts, seconds, steps = kept + none[len(kept) :]
        if steps and not self._counted_alike(steps):
            return None
        group = self.optimizer.param_groups[0]
        beta1, beta2 = group.get("betas", (group.get("momentum", 0.0), 0.0))
        numbers = (float(beta1), 1.0 - float(beta1), float(beta2), 1.0 - float(beta2), float(group.get("eps", 0.0)))
        rates = [self._rate(number, group["lr"]) for number, group in enumerate(self.optimizer.param_groups)]
        numbered = {id(group): rate for group, rate in zip(self.optimizer.param_groups, rates, strict=True)}
        return Rule(
            known.kind,
            self._held("numbers", numbers, torch.float32),
            self._held("betas", numbers[:3:2], torch.float64),
            firsts,
            seconds,
            steps,
            tuple(numbered[id(groups[id(value)])] for value in weights),
            tuple(float(groups[id(value)].get("weight_decay", 0.0)) for value in weights),
        )

    def _rate(self, number: int, rate: float | Tensor) -> Tensor:
        """Return the learning rate of a group as a tensor on the device."""
        if isinstance(rate, Tensor) and rate.device == self._device and rate.dtype == torch.float32:
            return rate
        return self._held(f"rate {number}", (float(rate),), torch.float32)

    def _held(self, name: str, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        """Return numbers as a tensor on the device: the one of before, where they are the same, as graphs read it."""
        key = (name, tuple(values))
        if key not in self._constants:
            for old in [other for other in self._constants if other[0] == name]:
                del self._constants[old]
            self._constants[key] = torch.tensor(values, dtype=dtype).to(self._device)
        return self._constants[key]

    def _counted_alike(self, steps: Sequence[Tensor]) -> bool:
        """Tell whether the optimizer has counted as many steps of each parameter, on the device; looked at once for each place."""
        key = tuple(value.data_ptr() for value in steps)
        if key not in self._alike:
            there = all(value.device == self._device and value.dtype == torch.float32 for value in steps)
            self._alike = {key: there and len({float(value) for value in steps}) == 1}
        return self._alike[key]


def dense_engine(eager: EagerEngine, otherwise: Callable[[], Written], graphs: Graphs) -> DenseEngine | None:
    """Return the engine of a network of dense layers on a GPU; None where anything of a step is more than that.

    Args:
        eager: The step as it is written.
        otherwise: Makes what runs it where the kernels do not.
        graphs: Knows the generator of the device.
    """
    weights = list(eager.model.parameters())
    there = bool(weights) and all(value.is_cuda for value in weights) and find_spec("triton") is not None
    known = known_whole(eager) if there else None
    return DenseEngine(eager, otherwise, graphs) if known is not None and known.dense_alone else None
