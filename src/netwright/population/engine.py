"""Networks of one architecture that train together: one vectorised step for all of them, in the engine that each would have alone.

The step is `netwright.engine.eager.train_step` on a `Stack`, and is recorded and replayed where the networks' own steps would be.
Floor 8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import TARGET, Feed
from netwright.engine.base import AT_A_TIME, Engine, Steps
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine, one_step, train_step
from netwright.engine.graphed import GraphedEngine
from netwright.engine.update import Update
from netwright.errors import ConfigError, NetwrightError, first_line
from netwright.model.losses import loss_weights
from netwright.population.averages import Averages
from netwright.population.gathering import batches
from netwright.population.holdings import Holdings
from netwright.population.merging import Merged
from netwright.population.spreading import AHEAD
from netwright.population.stacking import Losses, Stack, storages
from netwright.recording.graphs import CudaGraphs

SOURCES_ROOM = 1 << 28  # bytes of rows that are copied so that all lie in one place
EACH_AT_A_TIME = 0.003  # seconds of steps together for each network: what it does between them then takes a small part
MOST_AT_A_TIME = 0.5


Given = tuple[dict[str, Tensor], Tensor]  # all rows by the name of their input, and the numbers of those of the next batches


@dataclass(frozen=True)
class Wanted:
    """What the run of one network asks for: steps on the next batches of its feed.

    ``rates`` are those of its engine's `train_steps`. ``generator`` has the state of the run's own, and is
    left as the steps leave it.
    """

    feed: Feed
    most: int
    rates: Tensor | None
    generator: torch.Generator


@final
class Until:
    """When steps come back: after so many seconds from now on, and as soon as someone asks."""

    def __init__(self, seconds: float, asked: Callable[[], bool]) -> None:
        self._begun, self._seconds, self._asked = time.perf_counter(), seconds, asked

    def late(self) -> bool:
        """Tell whether it is time."""
        return time.perf_counter() - self._begun > self._seconds or self._asked()

    def pace(self, done: int) -> int:
        """Return how many steps end in time, as many took until now."""
        return max(1, int(0.9 * done * self._seconds / (time.perf_counter() - self._begun)))


@final
class JointEngine:
    """Runs the vectorised step as it is written; what is recorded, or captured."""

    def __init__(self, stack: Stack, losses: Losses, merged: Merged, update: Update, averages: Averages) -> None:
        self.model: nn.Module = stack
        self.networks: nn.Module = nn.ModuleList([stack, merged.own, averages])
        self.loss_function, self.optimizer, self.averaged = losses, merged, None
        self._stack, self._losses, self._merged, self._update, self._averages = stack, losses, merged, update, averages

    def train_step(self, batch: Batch) -> Tensor:
        """Train on a batch of each network; return the mean loss of each, ``(networks,)``."""
        optimizer: Any = self.optimizer
        self._stack.remember()
        train_step(self.model, self.loss_function, optimizer, batch, self._update)
        self._averages.after_step()
        if self._stack.masks or self._merged.turns:
            self._stack.advance()
        return self._losses.each

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows; see `netwright.engine.base.Written`."""
        return self.train_step(examples.batch(rows))

    def played(self) -> str:
        """Return in words how steps are executed."""
        return "as written"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))


@final
class _Part:
    """Some networks that stand side by side, for batches of one size.

    Args:
        common: What lies side by side of all networks of the population.
        first, end: Which of them take part.
        batch: One of the first of them.
        captured: Whether steps are captured.
    """

    def __init__(self, common: _Common, first: int, end: int, batch: Batch, captured: bool) -> None:
        self.members = common.members[first:end]
        models = [member.model for member in self.members]
        eager = [member.eager for member in self.members]
        wholes = {name: whole[first:end] for name, whole in common.wholes.items()}
        self.stack = Stack(models, wholes, len(batch))
        self.stack.lay_out(batch.inputs)
        self.stack.train()
        update = eager[0].update
        self.merged = Merged(self.stack, common.holdings, first, update)
        self.losses = Losses([member.loss_function for member in self.members])
        alone = Update(autocast=update.autocast)  # what is done to gradients is done for each by `Merged`
        means = None if common.means is None else {name: whole[first:end] for name, whole in common.means.items()}
        averages = Averages([one.averaged for one in eager], wholes, means)
        self.joint = JointEngine(self.stack, self.losses, self.merged, alone, averages)
        self.captured = captured
        self.engine: Any = _captures(self.joint, self.stack.turn.device) if captured else self.joint
        self._examples: Examples | None = None
        self._offsets = torch.empty(0, dtype=torch.long)
        self._lie: list[int] = []
        self._failed = False  # the last step
        self._pace = 1  # steps that end soon enough, where masks are drawn for all of them before

    def take(self, wanted: Sequence[Wanted], given: Sequence[Given], until: Until) -> list[Steps] | None:
        """Take steps; None where the first fails: nothing was updated, and no batch was handed out.

        Args:
            wanted: By each network.
            given: All rows of each, and which its next batches have.
            until: When to come back.

        Raises:
            NetwrightError: An update broke off.
        """
        examples = self._joined([sources for sources, _ in given], wanted[0].feed.examples.device)
        if examples is None:
            return None
        tables = [rows for _, rows in given]
        most = min([*(rows.shape[0] for rows in tables), *(len(one.rates) for one in wanted if one.rates is not None)])
        if self.stack.masks:
            most = min(most, self.stack.ahead, self._pace)
        table = self.merged.refresh([None if one.rates is None else one.rates[:most] for one in wanted])
        most = most if table is None else min(most, len(table))
        states = [one.generator.get_state() for one in wanted if self.stack.masks]
        self.stack.draw([one.generator for one in wanted], most)
        order = torch.stack([rows if rows.shape[0] == most else rows[:most] for rows in tables], dim=1) + self._offsets
        try:
            losses = self._losses(examples, order.flatten(1), table, until)
        finally:
            self.merged.settle()
        if self.merged.torn is not None:
            raise self._torn(self.merged.torn)
        if self._failed:
            self.stack.put_back()
        done = len(losses)
        self._pace = until.pace(done)
        if done < most and self.stack.masks:
            for one, state in zip(wanted, states, strict=True):
                one.generator.set_state(state)
            self.stack.draw([one.generator for one in wanted], done)
        if not done:
            return None
        for one in wanted:
            one.feed.take(done)
        each, weights = losses.t().contiguous().unbind(), self._weights(examples, order[:done])
        return [Steps(*both) for both in zip(each, weights, strict=True)]

    def _weights(self, examples: Examples, order: Tensor) -> Sequence[Tensor]:
        """Return what the loss of each step of each network weighs, by the rows ``(steps, networks, rows)``."""
        losses = [member.loss_function for member in self.members]
        if not self.losses.names:
            rows = order.transpose(0, 1)
            return loss_weights(losses[0], examples.target, rows.flatten(0, 1)).view(rows.shape[:2]).unbind()
        return [loss_weights(loss, examples.target, order[:, number]) for number, loss in enumerate(losses)]

    def _torn(self, error: Exception) -> NetwrightError:
        """Return what ends the runs where an update broke off: a step tried again could be taken twice."""
        return NetwrightError(
            f"population: the joint update of {len(self.members)} runs broke off ({type(error).__name__}: "
            f"{first_line(error)[:200]}), and some weights may have changed; expected an update of all; resume the runs one by "
            "one from their checkpoints, or train without population"
        )

    def _losses(self, examples: Examples, order: Tensor, table: Tensor | None, until: Until) -> Tensor:
        """Take steps until all are done, it is time to come back, or one fails; return the losses ``(steps, networks)``."""
        found: list[Tensor] = []
        self._failed = False
        taken = self._recorded(examples, order, table) if self.captured else self._written(examples, order, table)
        for losses in taken:
            found.append(losses)
            if until.late():
                break
        return torch.cat(found) if found else torch.empty(0, len(self.members))

    def _written(self, examples: Examples, order: Tensor, table: Tensor | None) -> Iterator[Tensor]:
        """Take steps as they are written, and yield the losses of each; end where one fails."""
        sources = {**examples.inputs, TARGET: examples.target}
        for step, batch in enumerate(batches(sources, order)):
            if table is not None and step:
                self.merged.turn(table[step])
            try:
                losses = self.joint.train_step(batch)
            except ConfigError:
                raise
            except Exception:  # an own layer or loss may raise anything; whose it is comes out one by one
                self._failed = True
                return
            yield losses.unsqueeze(0)

    def _recorded(self, examples: Examples, order: Tensor, table: Tensor | None) -> Iterator[Tensor]:
        """Take steps by the engine that captures them, and yield the losses of some at a time; end where one fails."""
        feed, most, done = Feed(examples, order.reshape(-1).numpy(), order.shape[1]), len(order), 0
        while done < most:
            begun = int(self.stack.begun)
            steps = self.engine.train_steps(feed, most - done, None if table is None else table[done:])
            done += len(steps.losses)
            self._failed = steps.failure is not None
            in_update = self._failed and int(self.stack.begun) - begun > len(steps.losses)
            self.merged.torn = (
                steps.failure.error if steps.failure is not None and in_update else None
            )  # trials are put back
            if len(steps.losses):
                yield steps.losses.detach()
            if steps.failure is not None:
                return
            if table is not None and done < most:
                self.merged.turn(table[done])

    def _joined(self, sources: Sequence[dict[str, Tensor]], device: torch.device) -> Examples | None:
        """Return the rows of all networks in one place; None where that takes too much room."""
        lie = [value.data_ptr() for one in sources for value in one.values()]
        if lie != self._lie:
            self._lie, self._examples = lie, None
            if all(_same(one, sources[0]) for one in sources[1:]):
                whole, lengths = sources[0], [0] * len(sources)
            elif sum(_bytes(one) for one in sources) > SOURCES_ROOM:
                return None
            else:
                whole = {name: torch.cat([one[name] for one in sources]) for name in sources[0]}
                lengths = [len(one[TARGET]) for one in sources]
            self._offsets = torch.tensor([sum(lengths[:place]) for place in range(len(lengths))]).view(-1, 1)
            inputs = {name: value for name, value in whole.items() if name != TARGET}
            self._examples = Examples(inputs, whole[TARGET], device)
            self.losses.look_at(whole[TARGET])
        return self._examples


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(one[name] is other[name] or torch.equal(one[name], other[name]) for name in other)


def _bytes(sources: dict[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in sources.values())


@final
class _Common:
    """What lies side by side of all networks of a population: weights and buffers, what optimizers keep, averages of weights."""

    def __init__(self, members: Sequence[Engine]) -> None:
        self.members = members
        models = [member.model for member in members]
        self.wholes = storages(models)
        self.holdings = Holdings([list(model.parameters()) for model in models], [member.optimizer for member in members])
        averages = [member.eager.averaged for member in members]
        found = [one.average for one in averages if one is not None]
        self.means = storages(found) if len(found) == len(members) else None


def _captures(joint: JointEngine, device: torch.device) -> Engine:
    """Return the engine that captures a joint step on a device."""
    return GraphedEngine(joint, CudaGraphs(device)) if device.type == "cuda" else CapturedEngine(joint)


def recorded(members: Sequence[Engine]) -> bool:
    """Tell whether the joint step of some engines is captured: their own are."""
    return all(member.name == "captured" for member in members)


def never() -> bool:
    """Tell that nobody asks."""
    return False


@final
class Population:
    """Engines whose networks are of one architecture; see `netwright.population.likeness` for which may be in it.

    Args:
        members: One per run.
    """

    def __init__(self, members: Sequence[Engine]) -> None:
        self.members = list(members)
        self.captured = recorded(self.members)
        self._common = _Common(self.members)
        self._parts: dict[tuple[int, int, int], _Part] = {}
        self._broken: set[tuple[int, int, int]] = set()  # parts whose step failed though no member's own did

    def leave(self, left: Sequence[Engine]) -> None:
        """Go on without some, which keep their tensors."""
        self.members = [member for member in self.members if not any(member is one for one in left)]
        self._parts.clear()
        self._broken.clear()
        if self.members:
            self._common = _Common(self.members)

    def take(self, wanted: Sequence[Wanted], asked: Callable[[], bool] = never) -> list[Steps]:
        """Take steps for every member, in their order; one or more each, or a failure.

        Those whose batches are of one size, and the next too, step together; one that is alone in that steps by its own engine.
        They come back as soon as someone ``asked``, and else the later the more there are, as each then goes on with its own work.
        What a network gets hangs on neither: those that step together have always taken as many steps.
        """
        found: list[Steps] = []
        most = min([AHEAD, *(one.most for one in wanted)])
        sources = [one.feed.sources for one in wanted]
        given = [None if own is None else (own, one.feed.rows(most)) for own, one in zip(sources, wanted, strict=True)]
        rows = [0 if one is None else one[1].shape[1] for one in given]
        sizes = [(one.feed.batch_size, own) for one, own in zip(wanted, rows, strict=True)]
        first = 0
        while first < len(wanted):
            end = first + 1
            while end < len(wanted) and sizes[end] == sizes[first]:
                end += 1
            steps = None
            key, tried = (first, end, rows[first]), end - first > 1 and rows[first] > 0
            if tried and key not in self._broken:
                part = self._part(*key, wanted[first].feed)
                until = Until(min(MOST_AT_A_TIME, max(AT_A_TIME, EACH_AT_A_TIME * (end - first))), asked)
                steps = part.take(wanted[first:end], [one for one in given[first:end] if one is not None], until)
            found += self._apart(key, tried, wanted[first:end]) if steps is None else steps
            first = end
        return found

    def _apart(self, key: tuple[int, int, int], tried: bool, wanted: Sequence[Wanted]) -> list[Steps]:
        """Take one step of each network by itself; ``tried`` tells whether one together failed, or would have."""
        found = [_alone(self.members[key[0] + place], one) for place, one in enumerate(wanted)]
        self._common.holdings.last = None
        if tried and all(one.failure is None for one in found):
            self._broken.add(key)
        return found

    def _part(self, first: int, end: int, rows: int, feed: Feed) -> _Part:
        found = self._parts.get((first, end, rows))
        if found is None:
            batch = feed.examples.batch(feed.rows(1)[0])
            found = self._parts[first, end, rows] = _Part(self._common, first, end, batch, self.captured)
        return found

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        part = next(iter(self._parts.values()), None)
        words = "alone" if part is None else str(part.engine.played())
        return f"{words}, some of them one by one" if self._broken else words


def _alone(member: Engine, one: Wanted) -> Steps:
    """Take one step of a network as it is written, drawing from its own generator."""
    eager: EagerEngine = member.eager
    on_gpu = one.generator.device.type == "cuda"
    shared = torch.cuda.default_generators[one.generator.device.index or 0] if on_gpu else torch.default_generator
    before = shared.get_state()
    try:
        shared.set_state(one.generator.get_state())
        return eager.train_steps(one.feed, 1)
    finally:
        one.generator.set_state(shared.get_state())
        shared.set_state(before)
