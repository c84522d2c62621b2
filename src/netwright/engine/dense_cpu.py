"""The step of a network of dense layers on the CPU in a library of our own, of the compiled engine: other last bits. Floor 7.

Many steps are one call (`netwright.recording.dense_cpu`). The first steps of each run are compared with the step as it is written.
Other networks take torch.compile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import AT_A_TIME, Failure, Steps, Written
from netwright.engine.dense_fit import Known, known_whole
from netwright.engine.eager import EagerEngine, one_step
from netwright.engine.likeness import CHECKED, UnlikeError, compared_step
from netwright.errors import DivergedError
from netwright.model.losses import loss_weights
from netwright.recording.building import DENSE, NotBuiltError, library
from netwright.recording.dense import Pieces
from netwright.recording.dense_cpu import DenseProgram, Parameter, Plan
from netwright.recording.graphs import CpuGenerator
from netwright.recording.rates import numbers
from netwright.recording.tape import Played

DRAWN = 16  # steps whose dropout is drawn at once, at most


@final
class DenseCpuEngine:
    """Takes steps in the library of dense layers.

    Args:
        eager: The engine that runs the step as it is written; weights and optimizer stay its own.
        otherwise: Makes what runs the steps that the library cannot take, or takes otherwise than it is written.
        lanes: Cores that share a step.
        tell: Is told in a line that the run waits for the compiler.
    """

    def __init__(
        self,
        eager: EagerEngine,
        otherwise: Callable[[], Written],
        lanes: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = "compiled"
        self.eager = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self.why_not: str | None = None  # the library is not used
        self._make, self._lanes, self._tell = otherwise, lanes, tell
        self._compared = self._taken_here = 0
        self._drawn = 1  # steps whose dropout is drawn at once: as many as one call takes, since others are drawn once more
        self._went_elsewhere = False
        self._program: DenseProgram | None = None
        self._made_of: tuple[object, ...] = ()
        self._classes: tuple[Tensor, tuple[int, ...], bool] | None = None  # held, so that no other lies in its place

    @cached_property
    def _otherwise(self) -> Written:
        return self._make()

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        if self.why_not is not None:
            return f"{self._otherwise.played()}; {self.why_not}"
        if self._taken_here:
            return "by kernels of dense layers" + (f" on {self._lanes} cores" if self._lanes > 1 else "")
        return self._otherwise.played() if self._went_elsewhere else self.eager.played()

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed; see `netwright.engine.base.Engine`."""
        known = None if self.why_not is not None else known_whole(self.eager)
        examples = feed.resident
        if known is None or examples is None or len(examples.inputs) != 1 or examples.raw:
            return self._elsewhere(feed, most, rates)
        x, target = next(iter(examples.inputs.values())), examples.target
        if not known.reads(x, target, feed.batch_size) or not self._in_range(known, target):
            return self._elsewhere(feed, most, rates)
        if not all(norm.by_row for norm in known.norms) and feed.rows(1).shape[1] == 1:  # which a BatchNorm refuses
            return self._elsewhere(feed, most, rates)
        kept = known.kept(self.optimizer)
        if kept is None:  # the step as written makes what the optimizer keeps
            return self.eager.train_steps(feed, 1)
        counts = kept[2] if len(kept) > 2 else ()
        if len({float(count) for count in counts}) > 1:
            return self._elsewhere(feed, most, rates)
        try:
            program = self._ready(known, kept, feed.batch_size, tuple(x.shape[1:]))
        except (NotBuiltError, MemoryError) as why:
            self.why_not = f"there are no kernels of dense layers: {why}"
            return self._elsewhere(feed, most, rates)
        turns = torch.tensor([numbers(self.optimizer.param_groups)], dtype=torch.float64) if rates is None else rates
        most = most if rates is None else min(most, _alike(known.kind, rates))
        play = _Play(program, known, x, target, counts, turns)
        if self._compared < CHECKED:
            self._compared += 1
            batch = feed.next()
            return one_step(batch, self.loss_function, lambda: self._compared_step(play, batch))
        return self._many(play, feed, most)

    def _elsewhere(self, feed: Feed, most: int, rates: Tensor | None) -> Steps:
        self._went_elsewhere = True
        return self._otherwise.train_steps(feed, most, rates)

    def _compared_step(self, play: _Play, batch: Batch) -> Tensor:
        def step() -> Tensor:
            played = play.run(batch.rows.reshape(1, -1))
            if played.stopped is not None:
                raise DivergedError(str(played.stopped))
            return played.results[0]

        try:
            loss = compared_step(self.eager, CpuGenerator(), step, lambda: batch, play.known.drops, play.known.noise)
        except UnlikeError as why:
            self.why_not = f"the kernels of dense layers failed: {why}"
            return self._otherwise.train_step(batch)
        self._taken_here += 1
        return loss

    def _many(self, play: _Play, feed: Feed, most: int) -> Steps:
        rows = feed.rows(min(most, self._drawn) if play.known.drops else most)
        begun = time.perf_counter()
        played = play.run(rows)
        count = len(played.results)
        if count < len(rows):
            self._drawn = max(1, count)
        elif count == self._drawn and time.perf_counter() - begun < AT_A_TIME / 2:
            self._drawn = min(2 * count, DRAWN)
        feed.take(count)
        feed.waited += played.gathering
        self._taken_here += count
        weights = loss_weights(self.loss_function, feed.examples.target, rows[:count])
        failure = None if played.stopped is None else Failure(feed.next(), DivergedError(str(played.stopped)))
        return Steps(played.results, weights, failure)

    def _in_range(self, known: Known, target: Tensor) -> bool:
        """Tell whether classes are those of the network, looked at once: others the step as written refuses."""
        if known.head.kind != "classes":
            return True
        key = (-1 if target.is_inference() else target._version, target.data_ptr(), known.layers[-1].weight.shape[0])
        if self._classes is None or self._classes[0] is not target or self._classes[1] != key:
            least, greatest = target.aminmax()
            self._classes = (target, key, bool(least >= 0 and greatest < key[-1]))
        return self._classes[2]

    def _ready(self, known: Known, kept: list[Pieces], rows: int, shape: tuple[int, ...]) -> DenseProgram:
        """Return the program of a step; the one of before, where nothing that it is made of has changed."""
        plan = self._plan(known, kept)
        key = (*plan.key, rows, shape, os.getpid())
        if self._program is None or key != self._made_of:
            self._compared = 0
            self._tell_of_waiting()
            self._program, self._made_of = DenseProgram(plan, self._lanes, rows, shape), key
        return self._program

    def _tell_of_waiting(self) -> None:
        try:
            library(source=DENSE)
        except NotBuiltError as why:
            if why.soon:
                self._tell(
                    "the kernels of dense layers are being compiled, once on this machine; the run waits for some seconds"
                )

    def _plan(self, known: Known, kept: list[Pieces]) -> Plan:
        groups = self.optimizer.param_groups
        numbered = {id(value): number for number, group in enumerate(groups) for value in group["params"]}
        firsts, seconds = ([*kept, None, None] if len(kept) < 2 else kept)[:2]
        parameters = tuple(
            Parameter(
                value,
                None if firsts is None else firsts[place],
                None if seconds is None else seconds[place],
                numbered[id(value)],
                float(groups[numbered[id(value)]].get("weight_decay", 0.0)),
            )
            for place, value in enumerate(known.weights)
        )
        beta2, epsilon = float(groups[0].get("betas", (0.0, 0.0))[1]), float(groups[0].get("eps", 0.0))
        rule, clips = (known.kind, beta2, epsilon), (known.clip_norm, known.clip_value)
        return Plan(known.recurrent, known.layers, known.head, *rule, parameters, known.convolutions, *clips)


@final
@dataclass(frozen=True)
class _Play:
    """A program with what it reads: all rows, the counters of the optimizer and the numbers that its groups have."""

    program: DenseProgram
    known: Known
    x: Tensor
    target: Tensor
    counts: Pieces
    turns: Tensor

    def run(self, rows: Tensor) -> Played:
        """Take the steps of some rows, int64 ``(steps, batch)``, and count them; draws are those of the steps that were taken."""
        counted = float(self.counts[0]) if self.counts else 0.0
        before = torch.default_generator.get_state() if self.known.drops else None
        played = self.program.run(self.x, self.target, rows, self.turns, counted, AT_A_TIME, self._kept(rows, len(rows)))
        count = len(played.results)
        begun = count + (played.stopped is not None)
        if before is not None and begun < len(rows):
            torch.default_generator.set_state(before)
            self._kept(rows, begun)
        counts = [*self.counts, *self.known.counts]
        if counts:
            torch._foreach_add_(counts, count)
        return played

    def _kept(self, rows: Tensor, steps: int) -> Tensor | None:
        """Draw what dropout keeps in some steps, as the step as written draws it."""
        if not self.known.drops:
            return None
        dropped = self.known.dropped(self.x.shape[1:])
        drawn = [
            torch.empty(rows.shape[1] * outputs, dtype=torch.uint8).bernoulli_(1 - dropout)
            for _ in range(steps)
            for outputs, dropout in dropped
        ]
        return torch.cat(drawn) if drawn else None


def _alike(kind: str, rates: Tensor) -> int:
    """Return how many of the next steps are of one kind of update: SGD keeps nothing in those whose momentum is 0."""
    if kind not in ("sgd", "momentum", "nesterov"):
        return len(rates)
    others = ((rates[:, 1::2] == 0) != (rates[:1, 1::2] == 0)).any(dim=1)
    return int(others.int().argmax()) if others.any() else len(rates)


def dense_cpu_engine(
    eager: EagerEngine, otherwise: Callable[[], Written], lanes: int, tell: Callable[[str], None] = lambda text: None
) -> DenseCpuEngine | None:
    """Return the engine of a network of dense layers on the CPU; None where anything of a step is more than that.

    Args:
        eager: The step as it is written.
        otherwise: Makes what runs it where the library does not.
        lanes: Cores that share a step.
        tell: Is told in a line that the run waits for the compiler.
    """
    known = known_whole(eager) if eager.averaged is None else None
    return DenseCpuEngine(eager, otherwise, lanes, tell) if known is not None else None
