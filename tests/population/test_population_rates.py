"""A population's optimizer, on tensors of all networks, does what that of each does alone; many cost as many calls as few."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from netwright.config.calls import parse_call
from netwright.data.batches import Examples
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.update import PLAIN, Update
from netwright.errors import NetwrightError
from netwright.population.engine import Population, Wanted
from netwright.recording.rates import numbers, put
from netwright.recording.recorded import Recorded
from netwright.recording.tape import Played
from netwright.training.optimizer import make_optimizer

ROWS, BATCH, BATCHES = 96, 16, 6
TABLE = torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(ROWS) % 3
Engines = list[Any]
Optimize = Callable[[int, nn.Module], torch.optim.Optimizer]


pytestmark = pytest.mark.usefixtures("one_thread")


def network(number: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def engines(
    optimize: Optimize,
    members: int = 3,
    update: Update = PLAIN,
    captured: bool = False,
    make: Callable[[int], nn.Module] = network,
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss,
    decays: tuple[float | None, ...] = (None,),
) -> Engines:
    found: Engines = []
    for number in range(members):
        torch.manual_seed(number)
        model = make(number).train()
        decay = decays[number % len(decays)]
        averaged = None if decay is None else Averaged(model, decay=decay)
        eager = EagerEngine(model, loss(), optimize(number, model), update, averaged=averaged)
        found.append(CapturedEngine(eager) if captured else eager)
    return found


def feeds(members: int, examples: Examples, epoch: int = 0) -> list[Feed]:
    return [Feed(examples, np.random.default_rng((number, epoch)).permutation(ROWS), BATCH) for number in range(members)]


def table_of(engine: Any, steps: int, number: int) -> Tensor:
    """Return rates that fall at every step, for each network in its own way, momenta as they are."""
    now = torch.tensor(numbers(engine.optimizer.param_groups), dtype=torch.float64).expand(steps, -1).clone()
    now[:, ::2] *= (0.9 - 0.1 * number) ** torch.arange(steps, dtype=torch.float64)[:, None]
    return now


def alone(found: Engines, examples: Examples, epochs: int, turned: bool = False) -> None:
    for number, engine in enumerate(found):
        for epoch in range(epochs):
            feed = feeds(len(found), examples, epoch)[number]
            table = table_of(engine, BATCHES, number)
            for step in range(BATCHES):
                if turned:
                    put(engine.optimizer.param_groups, table[step].tolist())
                assert engine.eager.train_steps(feed, 1).failure is None
            put(engine.optimizer.param_groups, table[0].tolist())


def together(
    found: Engines, examples: Examples, epochs: int, turned: bool = False, population: Population | None = None
) -> Population:
    population = population or Population(found)
    for epoch in range(epochs):
        given, left = feeds(len(found), examples, epoch), BATCHES
        tables = [table_of(engine, BATCHES, number) for number, engine in enumerate(found)]
        while left:
            wanted = []
            for feed, engine, table in zip(given, found, tables, strict=True):
                ahead = table[BATCHES - left :]
                if turned:
                    put(engine.optimizer.param_groups, ahead[0].tolist())
                wanted.append(Wanted(feed, left, ahead if turned else None, torch.Generator()))
            taken = population.take(wanted)
            assert all(one.failure is None for one in taken)
            left -= len(taken[0].losses)
        for engine, table in zip(found, tables, strict=True):
            put(engine.optimizer.param_groups, table[0].tolist())
    return population


def apart(one: Engines, other: Engines) -> float:
    """Return the largest relative difference of a tensor of networks, averages and optimizers; the names must be the same."""
    furthest = 0.0
    for first, second in zip(one, other, strict=True):
        pairs = list(
            zip(first.eager.networks.state_dict().values(), second.eager.networks.state_dict().values(), strict=True)
        )
        states, twins = first.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
        assert states.keys() == twins.keys()
        for place, state in states.items():
            assert list(state) == list(twins[place])
            pairs += [(value, twins[place][name]) for name, value in state.items() if isinstance(value, Tensor)]
        for value, twin in pairs:
            assert value.shape == twin.shape
            furthest = max(furthest, float((value - twin).double().norm() / value.double().norm().clamp(min=1e-6)))
    return furthest


def of(kind: str, differ: tuple[str, ...] = (), **settings: Any) -> Optimize:
    """Return what makes optimizers whose settings ``differ`` by the number of the network."""

    def optimize(number: int, model: nn.Module) -> torch.optim.Optimizer:
        own = {name: value * (1 + number) if name in differ else value for name, value in settings.items()}
        made: torch.optim.Optimizer = getattr(torch.optim, kind)(model.parameters(), **own)
        return made

    return optimize


MUON = of("Muon", ("lr",), lr=1e-2)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize(
    "optimize",
    [
        of("Adam", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2, fused=True),
        of("AdamW", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-1, fused=True),
        of("SGD", ("lr",), lr=1e-2, momentum=0.9, nesterov=True, weight_decay=1e-3, fused=True),
    ],
    ids=["Adam", "AdamW", "SGD"],
)
def test_rates_and_decays_of_their_own_are_one_update(optimize: Optimize, captured: bool, turned: bool) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    one, other = (engines(optimize, captured=captured) for _ in range(2))
    alone(one, examples, 8, turned)
    population = together(other, examples, 8, turned)
    assert apart(one, other) < 1e-5
    (part,) = population._parts.values()
    assert [len(group["params"]) for group in part.merged.param_groups] == [4]


@pytest.mark.parametrize(
    "optimize",
    [
        of("NAdam", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2, decoupled_weight_decay=True),
        of("RAdam", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2, foreach=True),
        of("RMSprop", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2, momentum=0.5, centered=True),
        of("Adagrad", ("lr",), lr=1e-2, lr_decay=0.1, initial_accumulator_value=0.1),
        of("Adamax", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2),
        of("Adadelta", ("lr", "weight_decay"), lr=0.3, weight_decay=1e-2),
        of("Adam", ("lr",), lr=1e-3, amsgrad=True, maximize=True),
        of("Adam", ("eps",), lr=1e-3, eps=1e-4, fused=True),
        of("SGD", ("momentum",), lr=1e-2, momentum=0.2),
        of("ASGD", ("lr",), lr=1e-2),
        of("Rprop", (), lr=1e-3),
        of("Adafactor", ("lr",), lr=1e-2),
        MUON,
    ],
    ids=lambda one: one.__closure__[1].cell_contents if isinstance(one, type(of)) else "",
)
def test_every_optimizer_gives_each_network_what_it_has_alone(optimize: Optimize) -> None:
    def bias_free(number: int) -> nn.Module:
        found = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 3, bias=False))
        # The gradient of the outputs of classes says nothing of one direction; Muon makes it as long as the others, of last bits.
        found[2].weight.requires_grad_(optimize is not MUON)
        return found

    examples = Examples({"x": TABLE}, CLASSES)
    one, other = (engines(optimize, make=bias_free) for _ in range(2))
    alone(one, examples, 5)
    together(other, examples, 5)
    assert apart(one, other) < 1e-5


class Calls(TorchDispatchMode):
    """Counts the operations of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def calls_of_a_step(members: int) -> int:
    examples = Examples({"x": TABLE}, CLASSES)
    update = Update(clip_grad_norm=0.5, l1=1e-4, clip_grad_value=0.1)
    found = engines(
        of("Adam", ("lr", "weight_decay"), lr=1e-3, weight_decay=1e-2, fused=True), members, update, decays=(0.9,)
    )
    population = together(found, examples, 1)
    counts = []
    for steps in (1, 4):
        wanted = [Wanted(feed, steps, None, torch.Generator()) for feed in feeds(members, examples)]
        with Calls() as calls:
            assert len(population.take(wanted)[0].losses) == steps
        counts.append(calls.count)
    return (counts[1] - counts[0]) // 3


def test_a_step_of_many_networks_is_as_many_calls_as_one_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netwright.population.engine.AT_A_TIME", 60.0)
    monkeypatch.setattr("netwright.population.engine.MOST_AT_A_TIME", 60.0)
    assert calls_of_a_step(2) == calls_of_a_step(12)


def test_the_optimizers_of_runs_are_merged_into_one_group() -> None:
    def optimize(number: int, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(parse_call("Adam(lr=0.001, fused=True)", "training.optimizer"), model)

    population = together(engines(optimize), Examples({"x": TABLE}, CLASSES), 1)
    (part,) = population._parts.values()
    assert [len(group["params"]) for group in part.merged.param_groups] == [4]


@pytest.mark.parametrize("decays", [(0.9,), (0.9, 0.8), (0.9, None)])
def test_averages_are_those_of_each_network(decays: tuple[float | None, ...]) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    one, other = (engines(of("SGD", lr=0.05), decays=decays) for _ in range(2))
    alone(one, examples, 4)
    together(other, examples, 4)
    assert apart(one, other) < 1e-5
    for first, second in zip(one, other, strict=True):
        if first.eager.averaged is not None:
            assert int(first.eager.averaged.average.n_averaged) == int(second.eager.averaged.average.n_averaged) == 24


@pytest.mark.parametrize("captured", [False, True])
def test_counts_of_steps_may_differ(captured: bool) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    optimize = of("Adam", ("lr",), lr=1e-3, fused=True)
    one, other = (engines(optimize, 4, captured=captured) for _ in range(2))
    for found in (one, other):
        feed = feeds(4, examples, 9)[1]
        for _ in range(3):
            found[1].eager.train_steps(feed, 1)
    alone(one, examples, 4)
    together(other, examples, 4)
    assert apart(one, other) < 1e-5
    assert [int(engine.optimizer.state_dict()["state"][0]["step"]) for engine in other] == [24, 27, 24, 24]


def test_a_network_may_be_put_back_and_step_alone_in_between() -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    optimize = of("Adam", ("lr",), lr=1e-3, fused=True)
    one, other = (engines(optimize) for _ in range(2))
    alone(one, examples, 1)
    population = together(other, examples, 1)
    for found in (one, other):
        weights, state = copy.deepcopy((found[2].model.state_dict(), found[2].optimizer.state_dict()))
        found[2].train_steps(feeds(3, examples, 5)[2], 1)
        found[2].model.load_state_dict(weights)
        found[2].optimizer.load_state_dict(state)
        found[0].train_steps(feeds(3, examples, 5)[0], 1)
    alone(one, examples, 2)
    together(other, examples, 2, population=population)
    assert apart(one, other) < 1e-5


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), torch.where(torch.rand(ROWS) < 0.2, -100, CLASSES)),
        (nn.MSELoss, torch.randn(ROWS, 3)),
        (nn.L1Loss, torch.randn(ROWS, 3)),
        (nn.BCEWithLogitsLoss, (torch.rand(ROWS, 3) < 0.5).float()),
        (nn.HuberLoss, torch.randn(ROWS, 3)),
        (nn.CrossEntropyLoss, torch.rand(ROWS, 3).softmax(1)),
    ],
)
def test_losses_side_by_side_are_those_of_each(loss: Callable[[], nn.Module], target: Tensor) -> None:
    examples = Examples({"x": TABLE}, target)
    one, other = (engines(of("SGD", ("lr",), lr=0.01), loss=loss) for _ in range(2))
    alone(one, examples, 3)
    together(other, examples, 3)
    assert apart(one, other) < 1e-5


def with_norm(number: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


@pytest.mark.parametrize("captured", [False, True])
def test_a_network_that_diverges_leaves_batch_norm_of_the_others_alone(captured: bool) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    one, other = (engines(of("SGD", lr=0.01, fused=True), captured=captured, make=with_norm) for _ in range(2))
    alone(one, examples, 2)
    population = together(other, examples, 2)
    for found in (one, other):
        with torch.no_grad():
            found[1].model[3].weight.fill_(float("inf"))
    taken = population.take([Wanted(feed, 3, None, torch.Generator()) for feed in feeds(3, examples, 7)])
    assert [steps.failure is None for steps in taken] == [True, False, True]
    for number in (0, 2):
        one[number].eager.train_steps(feeds(3, examples, 7)[number], 1)
    assert apart([one[0], one[2]], [other[0], other[2]]) < 1e-5


def test_a_replay_that_breaks_off_half_way_ends_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    found = engines(of("SGD", lr=0.01, fused=True), captured=True)
    population = together(found, examples, 2)
    play = Recorded.run

    def broken(self: Recorded, *given: Any) -> Played:
        played = play(self, *given)  # the weights have changed, and yet:
        return Played(played.results[:-1], played.gathering, RuntimeError("no memory for 12 rows"))

    monkeypatch.setattr(Recorded, "run", broken)
    with pytest.raises(
        NetwrightError, match=r"the joint update of 3 runs broke off \(RuntimeError: no memory for 12 rows\)"
    ):
        population.take([Wanted(feed, 1, None, torch.Generator()) for feed in feeds(3, examples, 7)])


def test_networks_whose_rates_part_and_meet_again_keep_what_they_count() -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    one, other = (engines(of("ASGD", lr=0.01)) for _ in range(2))
    rates = [[0.01, 0.01, 0.01 * (1 + number), 0.01 * (1 + number), 0.01, 0.01] for number in range(3)]
    population, given = Population(other), feeds(3, examples)
    for step in range(BATCHES):
        for member, own in zip(other, rates, strict=True):
            put(member.optimizer.param_groups, [own[step], 0.0])
        population.take([Wanted(feed, 1, None, torch.Generator()) for feed in given])
    for number, feed in enumerate(feeds(3, examples)):
        for step in range(BATCHES):
            put(one[number].optimizer.param_groups, [rates[number][step], 0.0])
            one[number].train_steps(feed, 1)
    assert apart(one, other) < 1e-5


@pytest.mark.parametrize("optimizer", ["AdamW", "Rprop"])
def test_the_bits_hang_on_the_steps_and_not_on_how_many_are_taken_at_a_time(optimizer: str) -> None:
    examples, found = Examples({"x": TABLE}, CLASSES), []
    for at_a_time in (BATCHES, 4, 1):
        members = engines(of(optimizer, lr=0.01))
        population, given, done = Population(members), feeds(3, examples), 0
        tables = [torch.tensor([numbers(one.optimizer.param_groups)] * BATCHES, dtype=torch.float64) for one in members]
        tables[1][3:, 0] *= 0.37  # as after a warm-up that all share
        while done < BATCHES:
            for one, table in zip(members, tables, strict=True):
                put(one.optimizer.param_groups, table[done].tolist())
            rows = [table[done : done + at_a_time] for table in tables]
            wanted = [Wanted(feed, len(own), own, torch.Generator()) for feed, own in zip(given, rows, strict=True)]
            done += len(population.take(wanted)[0].losses)
        found.append([value for one in members for value in one.model.state_dict().values()])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_networks_with_batches_of_other_sizes_never_step_together() -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    population = Population(engines(of("SGD", lr=0.01), members=2))
    given = [Feed(examples, np.arange(20), 16, start=1), Feed(examples, np.arange(36), 32, start=1)]  # both have 4 rows left
    population.take([Wanted(feed, 1, None, torch.Generator()) for feed in given])
    assert population.played() == "alone"


class Rooted(nn.Module):
    """Takes the root of a matrix that has none where the first number of a row is far below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = self.before(x).view(-1, 2, 2)
        return self.after(torch.linalg.cholesky(one @ one.transpose(1, 2) + x[:, :1, None] * 1e4 * torch.eye(2)).flatten(1))


@pytest.mark.parametrize("captured", [False, True])
def test_an_error_in_the_forward_pass_of_one_network_is_its_own(captured: bool) -> None:
    rows = [TABLE.abs() + 1 for _ in range(3)]
    rows[1][50, 0] = -500.0
    examples = [Examples({"x": own}, CLASSES) for own in rows]
    found = engines(of("SGD", lr=0.01, fused=True), captured=captured, make=lambda number: Rooted())
    population, taken = Population(found), 0
    order = [*range(BATCH)] * 11 + [*range(48, 64)]
    given = [Feed(own, np.array(order), BATCH) for own in examples]
    while taken < 11:
        steps = population.take([Wanted(feed, 12 - taken, None, torch.Generator()) for feed in given])
        taken += len(steps[0].losses)
    assert population.played() in (("natively", "from Python") if captured else ("as written",))
    steps = population.take([Wanted(feed, 1, None, torch.Generator()) for feed in given])
    assert [one.failure is None for one in steps] == [True, False, True]
    assert "factorization could not be completed" in str(steps[1].failure and steps[1].failure.error)


def test_steps_come_back_when_somebody_asks() -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    population = Population(engines(of("SGD", lr=0.01)))
    wanted = [Wanted(feed, BATCHES, None, torch.Generator()) for feed in feeds(3, examples)]
    taken = population.take(wanted, lambda: True)
    assert [len(steps.losses) for steps in taken] == [1, 1, 1]
