"""The one training step on a GPU, captured as a CUDA graph for each size of a batch: many steps a call, nothing read between them.

The graph holds all of a step: gathering its rows, forward, backward, what is done to gradients, the optimizer, the mean of the
weights. What changes from step to step lies on the device beside a counter: row numbers, learning rates, losses. Whether numbers
are finite is asked after a call; where one is not, the state of before the call comes back and the steps before it are taken
again. Floor 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.distributed.failures import is_lost
from netwright.distributed.heartbeat import over_in_all
from netwright.distributed.world import ALONE, World
from netwright.engine.base import AT_A_TIME, Loss, Steps, Written
from netwright.engine.eager import one_step
from netwright.engine.own_code import constants_read, own_code, why_not_told
from netwright.engine.repeated import FIRST, MANY, Repeated
from netwright.engine.unsteady import Comparison, Snapshot
from netwright.errors import ConfigError, first_line
from netwright.model.losses import loss_weights
from netwright.recording.graphs import Graphs, Work, drawn_by_cudnn
from netwright.recording.rates import numbers, put, rounded, why_not_held, why_not_turned
from netwright.recording.recorded import shape_of
from netwright.recording.state import fused, hooked, hooked_optimizer, signature, tensors, unfit

CHECKED = 2  # replays that are compared with the step as it is written before a graph is trusted
MOST_SHAPES = 8
FAILS = "training.engine: captured came; a step of CUDA graphs fails: {}; leave it out, or write eager"
PADDED = "rows differ in length and are padded batch by batch"


@final
class GraphedEngine:
    """Captures the step and replays it.

    Args:
        eager: The engine that runs the step as it is written.
        graphs: Captures work on the device.
        by_name: Whether it is an error that a step cannot be captured; else such steps run as they are written.
        tell: Is told in a line why steps run as they are written.
        compiled: The same step with other kernels, which is captured and compared with itself instead.
        world: The processes that take each step together: what one of them cannot repeat none does.
    """

    def __init__(
        self,
        eager: Written,
        graphs: Graphs,
        by_name: bool = False,
        tell: Callable[[str], None] = lambda text: None,
        compiled: Written | None = None,
        world: World = ALONE,
    ) -> None:
        self._world = world
        self.name = "captured" if compiled is None else "compiled"
        self.eager = eager
        self._step, self._compiled = compiled or eager, compiled is not None
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self.why_not: str | None = None  # steps run as they are written
        self._graphs, self._by_name, self._tell = graphs, by_name, tell
        self._known: dict[tuple[Any, ...], Repeated] = {}
        self._names = constants_read(self.model, self.loss_function)
        self._signature: tuple[Any, ...] | None = None
        self._settled: tuple[Any, ...] | None = None  # the signature after a step as written
        self._before: Snapshot | None = None  # of the call that goes on
        self._comparison = Comparison(lambda: tensors(*self._parts()), graphs, world)

    def played(self) -> str:
        """Return in words how steps are executed, and why not faster."""
        written = self._step.played()
        if self.why_not is not None:
            return f"{written}: {self.why_not}"
        if not any(known.trusted >= CHECKED for known in self._known.values()):
            return f"{written}: the run is short"
        graphs = f"{written}, in CUDA graphs" if self._compiled else "in CUDA graphs"
        return graphs + (": kernels of this network give other last bits each time" if self._comparison.unsteady else "")

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed; see `netwright.engine.base.Engine`.

        Raises:
            ConfigError: A step cannot be captured, and that was asked for by name.
        """
        if self.why_not is None:
            reason = self._why_not_turned(rates)
            if reason is not None:
                self.give_up(reason)
        if self.why_not is not None:
            return self._step.train_steps(feed, most)
        turned = self._rates_now() if rates is None else rates
        self._forget_what_changed(turned is not None)
        examples = feed.resident
        if examples is not None:
            rows = feed.rows(most if rates is None else min(most, len(rates)))
            known = self._known_for((rows.shape[1],), examples)
            if known is not None and known.trusted >= CHECKED:
                return self._replay(known, feed, rows, turned)
        turned = None if turned is None else turned[:1]
        batch = feed.next()
        key = shape_of(batch) if examples is None else (len(batch),)
        known = self._known_for(key, examples)
        if known is None:
            step = partial(self._first_step, key, batch, examples, turned)
        elif known.trusted >= CHECKED:
            step = partial(self._replayed_step, known, batch, turned)
        else:
            step = partial(self._compared_step, known, batch, turned)
        return one_step(batch, self.loss_function, step)

    def _why_not_turned(self, rates: Tensor | None) -> str | None:
        """Return why rates cannot be read from the device; None where they can."""
        if rates is None:
            return None
        return why_not_held(rates) or why_not_turned(self.optimizer)

    def _rates_now(self) -> Tensor | None:
        """Return the rates of the optimizer for all steps of a call, float64 ``(1, columns)``; None where a graph must hold them.

        So it must where a kernel reads none from a tensor, or float32 does not hold one. A schedule gives rates that it does.
        """
        groups = self.optimizer.param_groups
        if not all(fused(group) and float(group["lr"]) == rounded(float(group["lr"])) for group in groups):
            return None
        return torch.tensor([numbers(groups)], dtype=torch.float64)

    def _known_for(self, key: tuple[Any, ...], examples: Examples | None) -> Repeated | None:
        """Return what repeats the step of a key; what gathers from other rows is dropped."""
        found = self._known.get(key)
        if found is not None and found.examples is not examples:
            del self._known[key]
            return None
        return found

    def _parts(self) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
        """Return what a step changes: the network, with the mean of its weights where there is one, loss and optimizer."""
        return self._step.networks, self.loss_function, self.optimizer

    @property
    def _of_torch(self) -> torch.optim.Optimizer:
        """The optimizer, of several networks that which steps for all of them."""
        return getattr(self.optimizer, "joint", self.optimizer)  # type: ignore[no-any-return]

    def _forget_what_changed(self, turned: bool) -> None:
        """Drop the graphs where tensors lie elsewhere now, or a setting that they hold has changed."""
        found = self._what_they_hang_on(turned)
        if self._world.anywhere(found != self._signature):
            self._known.clear()
            self._comparison.forget()
            self._signature, self._before = found, None

    def _what_they_hang_on(self, turned: bool) -> tuple[Any, ...]:
        names = tuple(inside.get(name) for inside, name in self._names)
        held = numbers(self.optimizer.param_groups)
        return (*signature(*self._parts()), names, turned, tuple(held[1::2] if turned else held))

    def _first_step(self, key: tuple[Any, ...], batch: Batch, examples: Examples | None, turned: Tensor | None) -> Tensor:
        """Take a step as written; capture it too, where the one before has made all that steps need."""
        if self._world.anywhere(self._signature != self._settled):
            before = self._graphs.aside()
            loss = self._step.train_step(batch)
            self._settled = self._what_they_hang_on(turned is not None)
            if self._world.anywhere(self._graphs.aside() != before):
                self.give_up("it draws from a generator of the CPU, whose numbers a CUDA graph would hold")
            return loss
        if len(self._known) >= MOST_SHAPES:
            return self._step.train_step(batch)
        reason = self._world.agreed(self._why_not_captured(batch) or "")
        if reason:
            self.give_up(reason)
            return self._step.train_step(batch)
        known = Repeated(self._step, batch, examples, len(self.optimizer.param_groups) if turned is not None else 0)
        return self._compared_step(known, batch, turned, key)

    def _why_not_captured(self, batch: Batch) -> str | None:
        """Return why steps cannot be captured, as far as is known before it is tried; None where they may be."""
        reason = hooked(self.model, self.loss_function) or hooked_optimizer(self._of_torch) or unfit(*self._parts())
        reason = reason or why_not_told(self.model, self.loss_function) or drawn_by_cudnn(self.model)
        device = batch.target.device
        if reason is None and batch.lengths is not None:
            reason = PADDED
        if reason is None and any(value.device != device for value in tensors(*self._parts())):
            kind = type(self._of_torch).__name__
            fits = any("capturable" in group for group in self.optimizer.param_groups)
            told = f"; write {kind}(..., capturable=True)" if fits else ""
            reason = f"a tensor of its state lies on the CPU, as the steps that {kind} counts do{told}"
        return reason

    def _compared_step(
        self, known: Repeated, batch: Batch, turned: Tensor | None, key: tuple[Any, ...] | None = None
    ) -> Tensor:
        """Take a step both ways from the same state, and go on from the one as written.

        With a key the other way is the work that is captured then; without one it is a replay.
        """
        before, problem = self._kept(), ""
        if before is None:
            return self._step.train_step(batch)
        known.load(batch.rows.reshape(1, -1), turned, batch)
        try:
            if key is None:
                known.replay()
            else:
                self._warm(known.work)
            self._wait()
            numbers_given = known.results(1)[0]
        except Exception as error:  # of own code, or of a kernel; the step as written tells it, where it fails too
            problem = first_line(error)
            if is_lost(error):
                raise
            if not self._world.alone:  # the others wait in the middle of a step
                raise ConfigError(FAILS.format(problem)) from error
        after = problem or self._comparison.copy()
        problem = after if isinstance(after, str) else ""
        before.put_back()
        loss = self._written(batch)
        if not isinstance(after, str):
            problem = self._comparison.wrong(before, after, numbers_given, loss, lambda: self._written(batch))
        if not problem and key is not None:
            problem = self._captured(known)
        self.optimizer.zero_grad()
        if problem:
            self.give_up(problem)
        elif key is not None:
            self._known[key] = known
        else:
            known.trusted += 1
        return loss

    def _capture_many(self, known: Repeated, rows: Tensor, rates: Tensor | None) -> None:
        """Capture some steps together, one after the other and on several streams; keep the fastest that gives the same bits.

        The next steps are taken to try them, and everything is put back to where it was.
        """
        before = self._comparison.copy()
        if isinstance(before, str):  # there is no room
            return
        turns = None if rates is None or len(rates) == 1 else rates.tolist()

        def as_written() -> Tensor:
            given = []
            for step, row in enumerate(rows):
                if turns is not None:
                    put(self.optimizer.param_groups, turns[step])
                given.append(self._written(known.examples.batch(row)).reshape(-1))  # type: ignore[union-attr]
            return torch.cat(given)

        def fails(play: Work) -> bool:
            before.put_back()
            known.load(rows, rates)
            play()
            self._wait()
            given, after = known.results(len(rows)).reshape(-1), self._comparison.copy()
            expected.put_back()
            return isinstance(after, str) or bool(self._comparison.wrong(before, after, given, losses, as_written))

        try:
            losses = as_written()
            kept = self._comparison.copy()
            if isinstance(kept, str):
                return
            expected = kept
            if not fails(partial(self._warm, known.work_of_many)):
                plays = self._captures_of_many(known)
                fine = [play for play in plays if not any(fails(play) for _ in range(CHECKED))]
                known.keep_fastest(fine, rows, rates, before.put_back, self._wait, self._world.told)
        except Exception:  # of CUDA, or of a step, which tells it when it is taken by itself
            known.replay_many = None
            if not self._world.alone:  # the others wait in the middle of a step
                raise
        finally:
            before.put_back()
            self.optimizer.zero_grad()
            if turns is not None:
                put(self.optimizer.param_groups, turns[0])

    def _warm(self, work: Work) -> None:
        """Do work once where it will be captured."""
        if self._world.alone:
            self._graphs.warm(work)
            return
        with self._graphs.beside():
            work()

    def _written(self, batch: Batch) -> Tensor:
        """Take a step as it is written."""
        loss = self._step.train_step(batch)
        self._wait()
        return loss

    def _captures_of_many(self, known: Repeated) -> list[Work]:
        """Return captures of some steps together; none where they cannot be captured, here or in another process."""
        plays: list[Work] = []
        with suppress(Exception):  # of CUDA, or of a step, which tells it when it is taken by itself
            plays = known.captures_of_many(self._graphs, self._known_whole())
        return [] if self._world.anywhere(not plays) else plays

    def _known_whole(self) -> bool:
        """Tell whether all that a step runs are operations of torch, which says what they read and write; own kernels are not."""
        written = self._compiled or own_code(self.model, self.loss_function) or hooked_optimizer(self._of_torch)
        return not written and self._world.alone

    def _captured(self, known: Repeated) -> str:
        """Capture a step; return why that cannot be, or nothing."""
        problem = ""
        try:
            known.capture(self._graphs)
        except Exception as error:  # of CUDA, or of own code that notices
            problem = first_line(error)
        return self._world.agreed(problem)

    def _kept(self) -> Snapshot | None:
        """Return a copy of what steps change; None, and they run as they are written, where there is no room for one."""
        found = self._comparison.copy()
        if not isinstance(found, str):
            return found
        self.give_up(f"a copy of what it changes has no room: {found}")
        return None

    def give_up(self, reason: str) -> None:
        """Take steps as they are written from now on, and tell why.

        Raises:
            ConfigError: Graphs were asked for by name.
        """
        if self._by_name:
            raise ConfigError(
                f"training.engine: captured came; a step cannot be captured as a CUDA graph: {reason}; expected one of kernels "
                "alone; write auto or eager, which runs it as it is written"
            )
        self.why_not = reason
        self._known.clear()
        self._before = None
        how = "are started one by one (compiled engine)" if self._compiled else "run as they are written (eager engine)"
        self._tell(f"steps {how}: {reason}")

    def _replay(self, known: Repeated, feed: Feed, rows: Tensor, rates: Tensor | None) -> Steps:
        """Take many steps at once, each with its own rates where they are given."""
        rows = rows[: known.soon(AT_A_TIME, FIRST if self._world.alone else 1)]
        if known.wants_many(len(rows)):
            self._capture_many(known, rows[:MANY], None if rates is None else rates[:MANY])
        given = self._played(known, rows, rates)
        count = len(given)
        if not count:
            batch = feed.next()
            return one_step(batch, self.loss_function, lambda: self._step.train_step(batch))
        feed.take(count)
        weights = loss_weights(self.loss_function, feed.examples.target, known.rows(count))
        return Steps(given if given.shape[1] > 1 else given[:, 0], weights)

    def _replayed_step(self, known: Repeated, batch: Batch, turned: Tensor | None) -> Tensor:
        """Take one step on a batch that was gathered elsewhere."""
        given = self._played(known, batch.rows.reshape(1, -1), turned, batch)
        return given[0] if len(given) else self._step.train_step(batch)

    def _played(self, known: Repeated, rows: Tensor, rates: Tensor | None, batch: Batch | None = None) -> Tensor:
        """Take steps, up to the first whose numbers are not finite; return their losses ``(steps, networks)``."""
        self._before = before = self._before or self._kept()
        if before is None:
            return torch.empty(0, 1)
        before.renew()
        count = len(rows)
        while count:
            begun = time.perf_counter()
            known.load(rows[:count], None if rates is None else rates[:count], batch)
            known.play(count)
            finite, seconds = self._ended(known, count, begun)
            if finite == count:
                known.took(count, seconds)
                return known.results(count)
            before.put_back()
            count = finite
        return torch.empty(0, 1)

    def _wait(self) -> None:
        """Wait for what was begun, where another process may be gone: a kernel of a graph waits for it for ever."""
        if not self._world.alone:
            over_in_all(self._world, self._graphs.ended())

    def _ended(self, known: Repeated, count: int, begun: float) -> tuple[int, float]:
        """Wait for steps; return how many of them gave finite numbers, and the seconds they took, the same in all processes."""
        if self._world.alone:
            return known.finite(count), time.perf_counter() - begun
        self._wait()
        took = int(1e9 * (time.perf_counter() - begun))
        spoiled, took = self._world.highest([count - known.finite(count), took])
        return count - spoiled, took / 1e9
