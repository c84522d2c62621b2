"""The one training step, recorded once for each shape of a batch and replayed: same kernels, same bits, no autograd.

A step is recorded while it runs. Then some steps run both ways from the same state and are compared bit by bit; only after
that are steps replayed. What cannot be recorded, or differs, runs as it is written. Floor 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import AT_A_TIME, Failure, Loss, Steps, Written
from netwright.engine.eager import one_step
from netwright.engine.own_code import constants_read, why_not_told
from netwright.errors import ConfigError, DivergedError, first_line
from netwright.model.losses import loss_weights
from netwright.recording.operations import CannotCapture
from netwright.recording.rates import numbers, turned
from netwright.recording.recorded import Recorded, gathered_shape, record, shape_of, ways
from netwright.recording.state import copied, differing, hooked, put_back, signature, tensors, unfit
from netwright.recording.tape import NotFiniteError, Tape

MOST_SHAPES = 8


@final
class CapturedEngine:
    """Records the step and replays it.

    Args:
        eager: The engine that runs the step as it is written, on the CPU.
        lanes: Cores that share a step, where it is played natively; each operation runs on one thread then.
        by_name: Whether it is an error that a step cannot be captured; else such steps run as they are written.
        tell: Is told in a line why steps run as they are written.
        native: Whether steps are played by the compiled library, where there is one.
    """

    def __init__(
        self,
        eager: Written,
        lanes: int = 1,
        by_name: bool = False,
        tell: Callable[[str], None] = lambda text: None,
        native: bool = True,
    ) -> None:
        self.name = "captured"
        self.eager = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self._networks = eager.networks
        self.why_not: str | None = None  # steps run as they are written
        self._ways, self._by_name, self._tell = ways(native, lanes), by_name, tell
        self._known: dict[tuple[Any, ...], Recorded] = {}
        self._names = constants_read(self.model, self.loss_function)
        self._signature: tuple[Any, ...] | None = None
        self._settled: tuple[Any, ...] | None = None  # the signature after a step that was not recorded

    def played(self) -> str:
        """Return in words how steps are played, and why not faster."""
        if self.why_not is not None:
            return f"as written: {self.why_not}"
        found = next(iter(self._known.values()), None)
        if found is None or found.way is None:
            return "as written: the run is short"
        return f"{found.way}" + (f": {found.why}" if found.why and not found.way.native else "")

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batches of a feed; see `netwright.engine.base.Engine`.

        Raises:
            ConfigError: A step cannot be captured, and that was asked for by name.
        """
        if self.why_not is not None:
            return self.eager.train_steps(feed, most)
        self._forget_what_changed()
        sources = feed.sources
        if sources is not None:
            rows = feed.rows(most if rates is None else min(most, len(rates)))
            known = self._known_for(gathered_shape(sources, rows), sources)
            if known is not None and known.ready():
                return self._replay(known, feed, rows, rates)
        batch = feed.next()
        found = self._known_for(shape_of(batch), sources)
        if found is None:
            return one_step(batch, self.loss_function, lambda: self._recorded_step(batch, sources))
        if found.ready():
            return one_step(batch, self.loss_function, lambda: self._replayed_step(found, batch))
        return one_step(batch, self.loss_function, lambda: self._compared_step(found, batch))

    def _known_for(self, shape: tuple[Any, ...], sources: dict[str, Tensor] | None) -> Recorded | None:
        """Return the recording of a shape; one that gathers from other rows is dropped."""
        found = self._known.get(shape)
        if found is not None and not found.fits(sources):
            del self._known[shape]
            return None
        return found

    def _parts(self) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
        """Return what a step changes: the network, with the mean of its weights where there is one, loss and optimizer."""
        return self._networks, self.loss_function, self.optimizer

    def _forget_what_changed(self) -> None:
        """Drop the recordings where tensors lie elsewhere now, or a setting that was written down has changed."""
        found = self._what_it_hangs_on()
        if found != self._signature:
            self._known.clear()
            self._signature = found

    def _what_it_hangs_on(self) -> tuple[Any, ...]:
        names = tuple(inside.get(name) for inside, name in self._names)
        return (*signature(*self._parts()), names)

    def _recorded_step(self, batch: Batch, sources: dict[str, Tensor] | None) -> Tensor:
        """Take a step, and record it where the one before has made all that steps need."""
        if self._signature != self._settled:
            loss = self.eager.train_step(batch)
            self._settled = self._what_it_hangs_on()
            return loss
        if len(self._known) >= MOST_SHAPES:
            return self.eager.train_step(batch)
        before = copied(*self._parts())
        try:
            reason = hooked(self.model, self.loss_function) or unfit(*self._parts())
            reason = reason or why_not_told(self.model, self.loss_function)
            if reason is not None:
                raise CannotCapture(reason)
            known, results = record(
                batch, lambda fixed: each(self.eager.train_step(fixed)), list(self._ways), sources, tensors(*self._parts())
            )
            loss = _as_one(results)
            known.numbers = known.tape.results
            turned(known.tape, self.optimizer)
        except CannotCapture as why:
            put_back(before, *self._parts())
            self._give_up(str(why))
            return self.eager.train_step(batch)
        self.optimizer.zero_grad()
        self._known[shape_of(batch)] = known
        return loss

    def _compared_step(self, known: Recorded, batch: Batch) -> Tensor:
        """Take a step both ways from the same state; a way that gives other bits is not used again."""
        before = copied(*self._parts())
        problem, loss = "", torch.zeros(())
        planned = known.tape.lies
        try:
            loss = self._replayed_step(known, batch)
            moved = known.tape.moved()
            problem = f"{moved} puts its output elsewhere" if planned and moved else ""
        except Exception as error:  # a kernel may raise anything
            problem = first_line(error)
        after = copied(*self._parts())
        put_back(before, *self._parts())
        expected = self.eager.train_step(batch)
        self.optimizer.zero_grad()
        wrong = differing([*after, loss], [*copied(*self._parts()), expected])
        if not problem and not wrong:
            known.trusted += 1
        elif not known.refuse():
            self._give_up(problem or f"its replay gives other bits, in {wrong} of {len(before) + 1} tensors")
        return expected

    def _give_up(self, reason: str) -> None:
        if self._by_name:
            raise ConfigError(
                f"training.engine: captured came; a step cannot be captured: {reason}; expected one of recorded operations; "
                "write auto or eager, which runs it as it is written"
            )
        self.why_not = reason
        self._known.clear()
        self._tell(f"steps run as they are written (eager engine): {reason}")

    def _replay(self, known: Recorded, feed: Feed, rows: Tensor, rates: Tensor | None) -> Steps:
        """Take many steps at once, each with its own rates where they are given."""
        played = known.run(rows, len(rows), AT_A_TIME, self._rates_now() if rates is None else rates)
        count = len(played.results)
        feed.take(count)
        feed.waited += played.gathering
        weights = loss_weights(self.loss_function, feed.examples.target, rows[:count])
        failure = None if played.stopped is None else Failure(feed.next(), self._error(known, played.stopped))
        several = played.results.shape[1] > 1
        return Steps(played.results if several else played.results[:, 0], weights, failure)

    def _rates_now(self) -> Tensor:
        """Return the numbers of the optimizer for all steps of a call, float64 ``(1, columns)``."""
        return torch.tensor([numbers(self.optimizer.param_groups)], dtype=torch.float64)

    def _replayed_step(self, known: Recorded, batch: Batch) -> Tensor:
        """Take one step.

        Raises:
            DivergedError: The loss is not finite; the update was not applied.
        """
        played = known.play(batch, self._rates_now())
        if played.stopped is not None:
            raise self._error(known, played.stopped)
        return _as_one(played.results[0].unbind())

    @staticmethod
    def _error(known: Recorded, stopped: Exception) -> Exception:
        """Return the error of a step that stopped."""
        if isinstance(stopped, NotFiniteError):
            return DivergedError(spoiled_by(known.tape))
        return stopped


def each(loss: Tensor) -> list[Tensor]:
    """Return the one number of a loss, or those of several networks ``(networks,)``."""
    return [loss] if loss.numel() == 1 else list(loss.unbind())


def _as_one(numbers: Sequence[Tensor]) -> Tensor:
    return numbers[0] if len(numbers) == 1 else torch.stack(list(numbers))


def spoiled_by(tape: Tape) -> str:
    """Return in words which guard of a tape found a number that is not finite: that of the loss, or of a norm after it."""
    loss = tape.results[0].item()
    return "a number that follows from the loss is not finite" if math.isfinite(loss) else f"the loss is {loss}"
