"""Steps dealt out to streams: any order that the streams allow gives the bits of the order as written; updates in pieces too.

A stand-in for a GPU does the operations again in another order, the worst that is allowed or one by chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from standins import Again, AnyOrder
from torch import Tensor, nn

from netwright.data.batches import Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine, Steps
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.engine.repeated import MANY, Repeated
from netwright.engine.update import PLAIN, Update
from netwright.errors import DivergedError
from netwright.recording.branches import InPieces, Watcher, in_pieces
from netwright.recording.rates import put
from netwright.recording.state import copied, differing

ROWS, BATCH, EACH = 263, 10, 27  # rows, of a batch, batches of an epoch; the last is smaller
pytestmark = pytest.mark.usefixtures("one_thread")


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def forward(self, given: Any) -> Tensor:
        """Return it."""
        last: Tensor = given[0][:, -1]
        return last


NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
    "MLP": ((12,), lambda: [nn.Linear(12, 30), nn.ReLU(), nn.Dropout(0.2), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 3)]),
    "CNN": (
        (1, 9, 9),
        lambda: [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)],
    ),
    "LSTM": ((5, 4), lambda: [nn.LSTM(4, 8, batch_first=True), Last(), nn.Linear(8, 3)]),
}
KEEP = Repeated.keep_fastest
ORDERS: dict[str, Callable[[list[int]], int]] = {
    "latest": max,
    "earliest": min,
    "chance": random.Random(3).choice,
}


@pytest.fixture(autouse=True)
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture many steps at once early, however long one takes, and whatever is faster here."""
    monkeypatch.setattr("netwright.engine.repeated.WORTHWHILE", 4)
    monkeypatch.setattr("netwright.engine.repeated.BRIEF", 10.0)
    monkeypatch.setattr("netwright.engine.graphed.own_code", lambda model, loss: False)
    monkeypatch.setattr("netwright.engine.graphed.AT_A_TIME", 10.0)
    monkeypatch.setattr("netwright.engine.repeated.Repeated.keep_fastest", keep_last)


def keep_last(known: Repeated, plays: Any, *more: Any) -> None:
    """Take the capture on several streams, after all were timed."""
    assert len(plays) == 2
    KEEP(known, plays, *more)
    known.replay_many = plays[-1]


def rows(shape: tuple[int, ...]) -> Examples:
    draw = torch.Generator().manual_seed(1)
    return Examples({"x": torch.randn(ROWS, *shape, generator=draw)}, torch.randint(0, 3, (ROWS,), generator=draw))


def engine(name: str, update: Update = PLAIN, average: bool = False) -> EagerEngine:
    torch.manual_seed(3)
    model = nn.Sequential(*NETWORKS[name][1]())
    mean = Averaged(model, decay=0.9) if average else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=2.0**-7, fused=True)
    return EagerEngine(model, nn.CrossEntropyLoss(), optimizer, update, averaged=mean)


def graphed(written: EagerEngine, graphs: Again) -> GraphedEngine:
    graphs.parts = (written.networks, written.loss_function, written.optimizer)
    return GraphedEngine(written, graphs, by_name=True)


def train(taking: Engine, examples: Examples, epochs: int, first: int = 1, turning: bool = False) -> list[Steps]:
    """Train some epochs, with learning rates that float32 holds."""
    taking.model.train()
    found = []
    for epoch in range(first, first + epochs):
        feed, left = Feed(examples, epoch_order(np.arange(ROWS), 7, epoch), BATCH), EACH
        while left:
            table = None
            if turning:
                rates = [[0.5 ** (5 + (epoch * EACH - left + later) % 4), 0.9] for later in range(left)]
                table = torch.tensor(rates, dtype=torch.float64)
                put(taking.optimizer.param_groups, rates[0])
            found.append(taking.train_steps(feed, left, table))
            left -= len(found[-1].losses)
            if found[-1].failure is not None:
                return found
    return found


def same(plain: EagerEngine, written: EagerEngine, some: list[Steps], others: list[Steps], generator: Tensor) -> None:
    now = [*copied(plain.networks, plain.loss_function, plain.optimizer)[:-1], generator]
    assert not differing(now, copied(written.networks, written.loss_function, written.optimizer))
    assert torch.equal(torch.cat([steps.losses for steps in some]), torch.cat([steps.losses for steps in others]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_that_the_streams_allow_gives_the_bits_as_written(name: str, order: str) -> None:
    plain, examples = engine(name), rows(NETWORKS[name][0])
    expected = train(plain, examples, 4)
    generator = torch.default_generator.get_state()
    written, graphs = engine(name), AnyOrder(ORDERS[order])
    taking = graphed(written, graphs)
    found = train(taking, examples, 4)
    assert taking.played() == "in CUDA graphs"
    same(plain, written, expected, found, generator)
    (dealt,) = graphs.dealt
    assert len({stream for stream in dealt.streams if stream is not None}) == 4
    others = [found for found in graphs.orders if found != sorted(found)]
    assert bool(others) is (order != "earliest"), "nothing ran in another order"
    assert len(graphs.orders) > 6  # replays of many steps


@pytest.mark.parametrize(
    ("update", "average"),
    [(Update(clip_grad_norm=0.5), False), (Update(clip_grad_value=0.01, l1=1e-3), True), (Update(sharpness=0.05), False)],
    ids=["norm", "value-average", "uphill"],
)
def test_all_that_a_step_does_is_dealt_out(update: Update, average: bool) -> None:
    plain, examples = engine("CNN", update, average), rows((1, 9, 9))
    expected = train(plain, examples, 4, turning=True)
    generator = torch.default_generator.get_state()
    written, graphs = engine("CNN", update, average), AnyOrder(max)
    found = train(graphed(written, graphs), examples, 4, turning=True)
    assert graphs.orders
    same(plain, written, expected, found, generator)
    assert plain.optimizer.param_groups[0]["lr"] == written.optimizer.param_groups[0]["lr"]


def test_the_longest_way_is_far_shorter_than_the_work() -> None:
    examples, written = rows((12,)), engine("MLP")
    batch = examples.batch(torch.arange(BATCH))
    written.train_step(batch)
    written.optimizer.zero_grad()
    watcher = Watcher()
    with watcher:
        written.train_step(batch)
    found = watcher.branches()
    assert found is not None
    ends: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, stream in enumerate(found.streams):
        if stream is not None:
            before = [*found.waits[number], *([last[stream]] if stream in last else [])]
            ends[number] = 1 + max((ends[other] for other in before), default=0)
            last[stream] = number
    assert max(ends.values()) <= 0.75 * len(ends)
    assert found.held > sum(value.nbytes for value in written.model.parameters())  # gradients at least


def test_a_kernel_that_writes_where_torch_does_not_say_so_is_known() -> None:
    norm, x = nn.BatchNorm1d(4), torch.randn(8, 4)
    watcher = Watcher()
    with watcher, torch.no_grad():
        norm(x)
        mean = norm.running_mean * 2  # type: ignore[operator]
    found = watcher.branches()
    assert found is not None
    written = next(number for number, name in enumerate(found.names) if "batch_norm" in name)
    reads = next(number for number, name in enumerate(found.names) if "mul" in name)
    assert found.streams[reads] == found.streams[written] or written in found.waits[reads]
    assert mean.isfinite().all()


@torch.library.custom_op("netwright_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    """Return the double."""
    return x * 2


def test_operations_of_others_are_not_dealt_out() -> None:
    watcher = Watcher()
    with watcher:
        twice(torch.ones(2))
    assert watcher.branches() is None


def test_only_what_is_faster_than_single_steps_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("netwright.engine.repeated.WORTHWHILE", 4)
    monkeypatch.setattr("netwright.engine.repeated.BRIEF", 10.0)

    class Slow(Again):
        """Later captures are slower."""

        def capture(self, work: Any, branches: Any = None) -> Any:
            replay, wait = super().capture(work, branches), 1_000 * self.captured**6

            def slow() -> None:
                sum(range(wait))
                replay()

            return slow

    plain, examples = engine("MLP"), rows((12,))
    expected = train(plain, examples, 2)
    generator = torch.default_generator.get_state()
    written = engine("MLP")
    taking = graphed(written, Slow())
    found = train(taking, examples, 2)
    same(plain, written, expected, found, generator)
    kept = [known.replay_many for known in taking._known.values()]
    assert kept == [None, None]


@pytest.mark.parametrize("bad", [40, 200])
def test_a_number_that_is_not_finite_ends_where_the_step_as_written_does(bad: int) -> None:
    plain, good = engine("MLP"), rows((12,))
    train(plain, good, 3)
    spoiled = Examples({"x": good.inputs["x"].clone()}, good.target)
    spoiled.inputs["x"][bad] = torch.nan
    expected = train(plain, spoiled, 1, first=4)
    generator = torch.default_generator.get_state()
    written, graphs = engine("MLP"), AnyOrder(max)
    taking = graphed(written, graphs)
    train(taking, good, 3)
    assert graphs.orders
    good.inputs["x"].copy_(spoiled.inputs["x"])
    found = train(taking, good, 1, first=4)
    same(plain, written, expected, found, generator)
    ends = [steps[-1].failure for steps in (expected, found)]
    assert all(end is not None and isinstance(end.error, DivergedError) for end in ends)
    assert torch.equal(ends[0].batch.rows, ends[1].batch.rows)  # type: ignore[union-attr]


def test_steps_that_diverge_while_many_are_tried_end_where_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    wants = Repeated.wants_many
    monkeypatch.setattr(Repeated, "wants_many", lambda known, steps: wants(known, steps) and not tried.append(steps))
    plain, examples = engine("MLP"), rows((12,))
    order = list(epoch_order(np.arange(ROWS), 7, 2))
    examples.inputs["x"][order[55]] = torch.nan  # met first in the steps that are tried
    expected = train(plain, examples, 2)
    generator = torch.default_generator.get_state()
    written, graphs = engine("MLP"), AnyOrder(max)
    taking = graphed(written, graphs)
    found = train(taking, examples, 2)
    same(plain, written, expected, found, generator)
    assert len(tried) == 1
    assert not graphs.dealt


@pytest.mark.parametrize("name", ["_fused_sgd_", "_fused_adam_", "_fused_adamw_"])
def test_updates_in_pieces_give_the_bits_of_whole_ones(name: str) -> None:
    def state() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(170, 61), nn.Conv1d(3, 7, 5), nn.Linear(61, 3))
        kind = {"_fused_sgd_": torch.optim.SGD, "_fused_adam_": torch.optim.Adam, "_fused_adamw_": torch.optim.AdamW}[name]
        extra = {"momentum": 0.9, "nesterov": True} if kind is torch.optim.SGD else {"amsgrad": True}
        return model, kind(model.parameters(), lr=0.01, weight_decay=0.1, fused=True, **extra)

    ends, counts = [], []
    for cut in (False, True):
        model, optimizer = state()
        for step in range(4):
            draw = torch.Generator().manual_seed(step)
            for value in model.parameters():
                value.grad = torch.randn(value.shape, generator=draw)
            with InPieces() if cut else torch.no_grad():
                optimizer.step()
        ends.append(copied(model, nn.MSELoss(), optimizer))
        operation = getattr(torch.ops.aten, name).default
        counts.append(len(in_pieces(operation, (list(model.parameters()), [], []))[0]))
    assert not differing(*ends)
    assert counts == [11, 11]  # of six tensors, the first of 10,370 numbers


def test_a_parameter_of_no_numbers_and_one_number_stay_whole() -> None:
    model = nn.ParameterList([torch.zeros(0, 3), torch.zeros(()), torch.zeros(3000)])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for value in model:
        value.grad = torch.ones_like(value)
    with InPieces():
        optimizer.step()
    assert all(float(state["step"]) == 1 for state in optimizer.state.values())
    assert model[1].item() < 0


def test_a_parameter_that_lies_otherwise_is_not_cut() -> None:
    weight, turned = torch.zeros(100, 60), torch.zeros(60, 100).t()
    operation = torch.ops.aten._fused_sgd_.default
    assert [len(values) for values in in_pieces(operation, ([weight, turned], [weight, turned], []))] == [4, 4, 0]
    assert [len(values) for values in in_pieces(operation, ([weight], [turned], []))] == [1, 1, 0]
    large = torch.zeros(8 * 2**20, device="meta")
    assert in_pieces(operation, ([large], [large], []))[0] == [large]


def test_many_are_more_than_one() -> None:
    assert MANY > 1
