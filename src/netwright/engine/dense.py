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
from netwright.engine.unsteady import Snapshot
from netwright.errors import DivergedError, first_line
from netwright.recording.dense import Launched, Pieces, Rule
from netwright.recording.graphs import Graphs
from netwright.recording.operations import is_deferred
from netwright.recording.state import tensors

CHECKED = 2  # steps that are compared with those as written
FAR = 0.05  # how far a change may be from that of the step as written, as a share of it
FAR_OF_WEIGHTS = 0.5  # theirs, as Adam takes a step of full length where a gradient is nothing but rounding
NOISE = 16.0  # times as far as the step as written is from itself with its rows in another order
ROUNDING = 2.0**-23  # of a number of float32, as a share of it
KEPT = {  # by an optimizer for each parameter, by the kind of its update: first, second, and how many steps it has counted
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
}


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
        if x is None or known is None or not known.reads(x, target, len(target if rows is None else rows)):
            return self._elsewhere(batch)
        averaged = self.eager.averaged
        beginning = averaged is not None and averaged.decay is not None and not averaged.begun
        if beginning or not self._begun(known):  # the step as written makes what optimizer and average keep
            return self.eager.train_step(batch())
        rule = self._rule(known)
        if rule is None:
            return self._elsewhere(batch)
        precision = "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            launch = partial(Launched, known.layers, known.head, rule, x.reshape(len(x), -1), target, rows, precision)
            if self._compared < CHECKED and not is_deferred():
                self._compared += 1
                return self._compared_step(launch, batch, draws=any(layer.dropout for layer in known.layers))
            return self._step(launch())

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

    def _compared_step(self, launch: Callable[[], Launched], batch: Callable[[], Batch], draws: bool) -> Tensor:
        """Take the step as it is written and with the kernels, from the same state; go on from the latter, where they are alike.

        Where a change is nothing but rounding, as at an optimum, both are far from each other; so is the step as written from
        itself with its rows in another order, unless it ``draws`` for each row.
        """
        there = list(tensors(self.networks, self.loss_function, self.optimizer))
        before = Snapshot(there, self._graphs)
        expected = self.eager.train_step(batch())
        self.optimizer.zero_grad()
        written = Snapshot(there, self._graphs)
        before.put_back()
        try:
            loss = self._step(launch())
        except DivergedError:
            raise
        except Exception as error:  # of Triton, or of its compiler
            return self._given_up(first_line(error), before, batch)
        taken = Snapshot(there, self._graphs)
        of_loss = _times(loss, expected, torch.zeros_like(loss))
        far = max(of_loss, _most(there, taken, written, before))
        if far > 1 and not draws:
            before.put_back()
            self._backwards(batch())
            far = max(of_loss, _most(there, taken, written, before, there))
        if far > 1:
            return self._given_up(
                f"one of them was {far:.2g} times as far from the step as written as it may be", before, batch
            )
        taken.put_back()
        return loss

    def _backwards(self, batch: Batch) -> None:
        """Take the step as it is written with the rows of a batch in the other order, in float32."""
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            inputs = {name: value.flip(0) for name, value in batch.inputs.items()}
            self.eager.train_step(Batch(inputs, batch.target.flip(0), batch.rows.flip(0)))
        finally:
            torch.set_float32_matmul_precision(precision)
        self.optimizer.zero_grad()

    def _given_up(self, why: str, before: Snapshot, batch: Callable[[], Batch]) -> Tensor:
        self.why_not = f"the kernels of dense layers failed: {why}"
        before.put_back()
        return self._otherwise.train_step(batch())

    def _begun(self, known: Known) -> bool:
        """Tell whether the optimizer has made what it keeps."""
        states = [self.optimizer.state.get(value, {}) for value in known.weights]
        return all(isinstance(state.get(name), Tensor) for state in states for name in KEPT[known.kind])

    def _rule(self, known: Known) -> Rule | None:
        """Return what the update reads and writes; None where the optimizer counts its steps otherwise."""
        weights = known.weights
        groups = {id(value): group for group in self.optimizer.param_groups for value in group["params"]}
        kept = [tuple(self.optimizer.state[value][name] for value in weights) for name in KEPT[known.kind]]
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


def _most(
    there: Sequence[Tensor], found: Snapshot, expected: Snapshot, before: Snapshot, own: Sequence[Tensor] = ()
) -> float:
    """Return how many times as far as it may be any tensor is from where it was expected, see `_times`.

    Args:
        there: The tensors; weights may be further away.
        found, expected, before: They after both steps, and before them.
        own: They after the step that was expected, taken in another order; empty where it was not.
    """
    most = 0.0
    for number, value in enumerate(there):
        share = FAR_OF_WEIGHTS if isinstance(value, nn.Parameter) else FAR
        other = own[number].detach() if own else expected.values[number]
        most = max(most, _times(found.values[number], expected.values[number], before.values[number], share, other))
    return most


def _times(found: Tensor, expected: Tensor, before: Tensor, share: float = FAR, own: Tensor | None = None) -> float:
    """Return how many times as far as it may be a tensor is from where it was expected; infinite where either is no number.

    It may be away by a share of what changed, by rounding, and by some times what ``own`` is away.
    """
    if not found.is_floating_point():
        return 0.0 if torch.equal(expected, found) else math.inf
    exact = expected.double()
    away, noise = (found - exact).norm().item(), 0.0 if own is None else (own - exact).norm().item()
    allowed = share * (exact - before).norm().item() + ROUNDING * exact.norm().item() + NOISE * noise
    if not math.isfinite(away + allowed):
        return math.inf
    return away / allowed if allowed else (math.inf if away else 0.0)


def dense_engine(eager: EagerEngine, otherwise: Callable[[], Written], graphs: Graphs) -> DenseEngine | None:
    """Return the engine of a network of dense layers on a GPU; None where anything of a step is more than that.

    Args:
        eager: The step as it is written.
        otherwise: Makes what runs it where the kernels do not.
        graphs: Knows the generator of the device.
    """
    weights = list(eager.model.parameters())
    there = bool(weights) and all(value.is_cuda for value in weights) and find_spec("triton") is not None
    return DenseEngine(eager, otherwise, graphs) if there and known_whole(eager) is not None else None
