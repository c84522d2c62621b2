"""Networks that take their steps together agree with networks that take them one by one, whatever differs between them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from standins import AnyOrder
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.engine.repeated import Repeated
from netwright.engine.update import PLAIN, Update
from netwright.errors import NetwrightError
from netwright.model.focal import FocalLoss
from netwright.model.modules import RandomShift, Residual
from netwright.model.numeric import PeriodicEmbeddings
from netwright.model.own import load_class
from netwright.population.engine import JointEngine, Population, Wanted
from netwright.population.likeness import why_apart
from netwright.recording.branches import Branches
from netwright.recording.graphs import Work

ROWS, BATCH, BATCHES, STEPS, MEMBERS = 90, 16, 6, 100, 3
CLASSES = torch.arange(ROWS) % 4
Make = Callable[[int], nn.Module]
Optimize = Callable[[int, nn.Module], torch.optim.Optimizer]


pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(*shape: int) -> Tensor:
    return torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(1))


def adam(number: int, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3 * (1 + number), weight_decay=1e-2 * number, fused=True)


def sgd(number: int, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, fused=True)


def engines(
    make: Make,
    loss: Callable[[int], nn.Module],
    optimize: Optimize,
    update: Update,
    captured: bool,
    average: float | None = None,
) -> list[EagerEngine | CapturedEngine]:
    found: list[EagerEngine | CapturedEngine] = []
    for number in range(MEMBERS):
        torch.manual_seed(number)
        model = make(number).train()
        averaged = None if average is None else Averaged(model, decay=average)
        eager = EagerEngine(model, loss(number), optimize(number, model), update, averaged=averaged)
        found.append(CapturedEngine(eager) if captured else eager)
    return found


def feeds(examples: Examples, epoch: int) -> list[Feed]:
    return [Feed(examples, np.random.default_rng((number, epoch)).permutation(ROWS), BATCH) for number in range(MEMBERS)]


def alone(found: list[EagerEngine | CapturedEngine], examples: Examples, steps: int) -> list[list[float]]:
    losses: list[list[float]] = []
    for number, engine in enumerate(found):
        torch.manual_seed(100 + number)
        losses.append([])
        for epoch in range(steps):
            feed = feeds(examples, epoch)[number]
            for _ in range(min(BATCHES, steps - len(losses[-1]))):
                losses[-1] += engine.eager.train_steps(feed, 1).losses.tolist()
    return losses


def together(
    found: list[EagerEngine | CapturedEngine], examples: Examples, steps: int
) -> tuple[list[list[float]], Population]:
    population = Population(found)
    generators = [torch.Generator().manual_seed(100 + number) for number in range(MEMBERS)]
    losses: list[list[float]] = [[] for _ in found]
    for epoch in range(steps):
        given = feeds(examples, epoch)
        left = min(BATCHES, steps - len(losses[0]))
        while left:
            wanted = [Wanted(feed, left, None, generator) for feed, generator in zip(given, generators, strict=True)]
            found_steps = population.take(wanted)
            for number, taken in enumerate(found_steps):
                assert taken.failure is None
                losses[number] += taken.losses.tolist()
            left -= min(len(taken.losses) for taken in found_steps)
    return losses, population


def furthest(one: list[EagerEngine | CapturedEngine], other: list[EagerEngine | CapturedEngine]) -> float:
    """Return the largest relative difference of a tensor of the networks, or of the means of their weights."""
    found = 0.0
    for first, second in zip(one, other, strict=True):
        networks = zip(first.eager.networks.state_dict().items(), second.eager.networks.state_dict().values(), strict=True)
        for (name, value), twin in networks:
            if value.is_floating_point():
                found = max(found, float((value - twin).norm() / value.norm().clamp(min=1e-6)))
            else:
                assert torch.equal(value, twin), name
    return found


CE = nn.CrossEntropyLoss()
TABLE, PICTURES, SERIES = rows_of(6), rows_of(1, 8, 8), rows_of(3, 12)
# A bias before batch norm has a gradient of rounding alone, of which Adam makes steps of full size: there are none here.
NETWORKS: dict[str, tuple[Tensor, Make]] = {
    "linear": (TABLE, lambda n: nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Linear(12, 4))),
    "dropout": (TABLE, lambda n: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.2 * n), nn.Linear(12, 4))),
    "layer norm": (TABLE, lambda n: nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.SiLU(), nn.Linear(12, 4))),
    "batch norm": (
        TABLE,
        lambda n: nn.Sequential(nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12), nn.GELU(), nn.Linear(12, 4)),
    ),
    "residual": (TABLE, lambda n: nn.Sequential(Residual(nn.Linear(6, 6), nn.Tanh()), nn.RMSNorm(6), nn.Linear(6, 4))),
    "periodic": (TABLE, lambda n: nn.Sequential(PeriodicEmbeddings(4, 5, 0.1, columns=6), nn.Flatten(), nn.LazyLinear(4))),
    "pictures": (
        PICTURES,
        lambda n: nn.Sequential(
            *(
                nn.Conv2d(1, 4, 3, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Dropout2d(0.2),
                nn.Flatten(),
            ),
            nn.Linear(36, 4),
        ),
    ),
    "series": (
        SERIES,
        lambda n: nn.Sequential(
            *(nn.Conv1d(3, 5, 3, padding=1), nn.GroupNorm(1, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
            nn.Linear(5, 4),
        ),
    ),
}


def built(name: str) -> tuple[Tensor, Make]:
    inputs, make = NETWORKS[name]
    if name != "periodic":
        return inputs, make

    def with_sizes(number: int) -> nn.Module:
        torch.manual_seed(number)
        model = make(number)
        model(inputs[:2])
        return model

    return inputs, with_sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hundred_steps_together_are_those_of_each_alone_within_rounding(name: str) -> None:
    inputs, make = built(name)
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, adam, PLAIN, True) for _ in range(2))
    expected = alone(one, examples, STEPS)
    assert why_apart(other, feeds(examples, 0)) is None
    losses, population = together(other, examples, STEPS)
    assert furthest(one, other) < 1e-5
    assert np.allclose(losses, expected, rtol=1e-5, atol=1e-7)
    assert population.played() in ("natively", "from Python"), population.played()


@pytest.mark.parametrize("optimize", [adam, sgd])
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_joint_steps_are_captured_several_at_a_time_and_on_several_streams(
    name: str, optimize: Optimize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the GPU does the operations in the worst order that the streams allow."""
    graphs: list[AnyOrder] = []

    def captures(joint: JointEngine, device: torch.device) -> GraphedEngine:
        graphs.append(AnyOrder(max))
        graphs[-1].parts = (joint.networks, joint.loss_function, joint.optimizer)
        return GraphedEngine(joint, graphs[-1], by_name=True)

    monkeypatch.setattr("netwright.population.engine._captures", captures)
    for module in ("repeated", "graphed"):
        monkeypatch.setattr(f"netwright.engine.{module}.MANY", 3)
    monkeypatch.setattr("netwright.engine.repeated.WORTHWHILE", 4)
    monkeypatch.setattr("netwright.engine.repeated.BRIEF", 10.0)
    keep = Repeated.keep_fastest

    def keep_last(known: Repeated, plays: list[Work], *more: Any) -> None:
        keep(known, plays, *more)  # which plays them many times
        known.replay_many = plays[1]

    monkeypatch.setattr(Repeated, "keep_fastest", keep_last)
    inputs, make = built(name)
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, optimize, PLAIN, True) for _ in range(2))
    expected = alone(one, examples, STEPS)
    losses, population = together(other, examples, STEPS)
    assert furthest(one, other) < 1e-5
    assert np.allclose(losses, expected, rtol=1e-5, atol=1e-7)
    assert population.played() == "in CUDA graphs"
    assert any(found != sorted(found) for found in graphs[0].orders)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_capture_that_fails_ends_no_population(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(AnyOrder):
        """Has no room for a capture, which breaks off in the update."""

        def capture(self, work: Work, branches: Branches | None = None) -> Work:
            if self.captured + 1 != which:
                return super().capture(work, branches)
            self.captured += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.optim.Adam, "step", full)
                work()
            raise AssertionError("the update did not break off")

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def captures(joint: JointEngine, device: torch.device) -> GraphedEngine:
        graphs = Full(max)
        graphs.parts = (joint.networks, joint.loss_function, joint.optimizer)
        return GraphedEngine(joint, graphs)

    monkeypatch.setattr("netwright.population.engine._captures", captures)
    for module in ("repeated", "graphed"):
        monkeypatch.setattr(f"netwright.engine.{module}.MANY", 3)
    monkeypatch.setattr("netwright.engine.repeated.WORTHWHILE", 4)
    monkeypatch.setattr("netwright.engine.repeated.BRIEF", 10.0)
    inputs, make = built("linear")
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, adam, PLAIN, True) for _ in range(2))
    alone(one, examples, STEPS)
    _, population = together(other, examples, STEPS)
    assert furthest(one, other) < 1e-5
    assert population.played() == ("as written: CUDA out of memory" if which == 1 else "in CUDA graphs")


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize(
    "optimizer", ["Adagrad", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "ASGD", "Adadelta", "Adafactor", "SGD"]
)
def test_every_optimizer_keeps_to_each_network(optimizer: str, captured: bool) -> None:
    if captured and optimizer not in ("AdamW", "SGD", "RMSprop"):
        pytest.skip("the recording of one without a fused kernel is like that of RMSprop")
    kind = getattr(torch.optim, optimizer)
    fused = {"fused": True} if optimizer in ("AdamW", "SGD", "Adagrad") else {}

    def optimize(number: int, model: nn.Module) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = kind(model.parameters(), lr=1e-3 * (1 + number), **fused)
        return made

    inputs, make = NETWORKS["linear"]
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, optimize, PLAIN, captured) for _ in range(2))
    alone(one, examples, 30)
    together(other, examples, 30)
    assert furthest(one, other) < 1e-5


class Squeezed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


def test_networks_may_give_one_number_a_row_without_its_axis() -> None:
    examples = Examples({"x": TABLE}, TABLE[:, :1].sin())
    one, other = (engines(lambda n: Squeezed(6, 1), lambda n: nn.MSELoss(), adam, PLAIN, True) for _ in range(2))
    expected = alone(one, examples, STEPS)
    assert why_apart(other, feeds(examples, 0)) is None
    losses, _ = together(other, examples, STEPS)
    assert furthest(one, other) < 1e-5
    assert np.allclose(losses, expected, rtol=1e-5, atol=1e-7)


def test_clipping_penalty_and_averages_are_those_of_each_network() -> None:
    inputs, make = NETWORKS["linear"]
    examples = Examples({"x": inputs}, CLASSES)
    update = Update(clip_grad_norm=0.3, l1=1e-3, clip_grad_value=0.2)
    one, other = (engines(make, lambda n: CE, sgd, update, True, 0.9) for _ in range(2))
    alone(one, examples, STEPS)
    together(other, examples, STEPS)
    assert furthest(one, other) < 1e-5


@pytest.mark.parametrize(
    "loss", [lambda n: nn.CrossEntropyLoss(torch.rand(4) + 0.5, label_smoothing=0.1), lambda n: FocalLoss(gamma=2.0)]
)
def test_class_weights_may_differ_between_the_networks(loss: Callable[[int], nn.Module]) -> None:
    inputs, make = NETWORKS["linear"]
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, loss, sgd, PLAIN, True) for _ in range(2))
    expected = alone(one, examples, 40)
    losses, _ = together(other, examples, 40)
    assert furthest(one, other) < 1e-5
    assert np.allclose(losses, expected, rtol=1e-5)


def test_networks_may_read_rows_of_their_own_and_differ_in_their_last_batch() -> None:
    inputs, make = NETWORKS["linear"]
    one, other = (engines(make, lambda n: CE, adam, PLAIN, True) for _ in range(2))
    examples = [Examples({"x": inputs * (1 + number)}, CLASSES) for number in range(MEMBERS)]

    def given(number: int) -> Feed:
        return Feed(examples[number], np.arange(ROWS - (number > 0)), BATCH)

    for number, engine in enumerate(one):
        feed = given(number)
        for _ in range(6):
            engine.eager.train_steps(feed, 1)
    population, all_feeds = Population(other), [given(number) for number in range(MEMBERS)]
    left = BATCHES
    while left:
        taken = population.take([Wanted(feed, left, None, torch.Generator()) for feed in all_feeds])
        assert all(steps.failure is None for steps in taken)
        left -= min(len(steps.losses) for steps in taken)
    assert furthest(one, other) < 1e-5


def test_a_network_that_leaves_goes_on_alone_and_the_others_together() -> None:
    inputs, make = NETWORKS["dropout"]
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, adam, PLAIN, False) for _ in range(2))
    alone(one[1:], examples, 1)  # puts nothing but the generators elsewhere
    population = Population(other)
    kept = [value.clone() for value in other[0].model.state_dict().values()]
    population.leave([other[0]])
    given = feeds(examples, 0)[1:]
    population.take([Wanted(feed, 1, None, torch.Generator()) for feed in given])
    assert all(torch.equal(value, now) for value, now in zip(kept, other[0].model.state_dict().values(), strict=True))
    taken = other[0].train_steps(feeds(examples, 0)[0], 1)
    assert taken.failure is None
    assert not torch.equal(kept[0], other[0].model.state_dict()["0.weight"])


def test_a_loss_that_is_not_finite_fails_the_network_that_has_it_alone() -> None:
    inputs, make = NETWORKS["linear"]
    found = engines(make, lambda n: CE, sgd, PLAIN, True)
    examples = Examples({"x": inputs}, CLASSES)
    with torch.no_grad():
        found[1].model[0].weight.fill_(float("inf"))  # type: ignore[index]
    population = Population(found)
    taken = population.take([Wanted(feed, 3, None, torch.Generator()) for feed in feeds(examples, 0)])
    assert [steps.failure is None for steps in taken] == [True, False, True]
    assert "nan" in str(taken[1].failure and taken[1].failure.error)
    assert [len(steps.losses) for steps in taken] == [1, 0, 1]


def begun_and_new() -> tuple[list[EagerEngine | CapturedEngine], Examples]:
    """Return networks of which one has taken steps before, with two groups each, and their rows."""

    def optimize(number: int, model: nn.Module) -> torch.optim.Optimizer:
        groups = [{"params": list(model.parameters())[:2]}, {"params": list(model.parameters())[2:], "lr": 0.03}]
        return torch.optim.SGD(groups, lr=0.02, momentum=0.9, fused=True)

    def make(number: int) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))

    examples = Examples({"x": TABLE}, CLASSES)
    found = engines(make, lambda n: CE, optimize, PLAIN, False)
    found[1].train_steps(feeds(examples, 0)[1], 1)
    return found, examples


def test_a_network_with_momentum_and_others_without_step_once_each() -> None:
    one, examples = begun_and_new()
    other, _ = begun_and_new()
    alone(one, examples, 5)
    together(other, examples, 5)
    assert furthest(one, other) < 1e-5


@pytest.mark.parametrize("captured", [False, True])
def test_networks_may_differ_in_how_many_groups_their_parameters_are_in(captured: bool) -> None:
    def optimize(number: int, model: nn.Module) -> torch.optim.Optimizer:
        weights, biases = list(model.parameters())[::2], list(model.parameters())[1::2]
        groups: list[dict[str, object]] = [{"params": [*weights, *biases]}]
        if number:
            groups = [{"params": weights, "lr": 0.01 * (1 + number)}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.01, fused=True)

    inputs, make = NETWORKS["linear"]
    examples = Examples({"x": inputs}, CLASSES)
    one, other = (engines(make, lambda n: CE, optimize, PLAIN, captured) for _ in range(2))
    alone(one, examples, 20)
    together(other, examples, 20)
    assert furthest(one, other) < 1e-5


def test_an_update_that_breaks_off_ends_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found, examples = begun_and_new()
    before = [parameter.clone() for engine in found for parameter in engine.model.parameters()]
    population = Population(found)
    wanted = [Wanted(feed, 3, None, torch.Generator()) for feed in feeds(examples, 0)]

    def break_off(self: torch.optim.SGD, closure: object = None) -> None:
        raise RuntimeError("no kernel for 12 rows")

    monkeypatch.setattr(torch.optim.SGD, "step", break_off)
    with pytest.raises(
        NetwrightError, match=r"the joint update of 3 runs broke off \(RuntimeError: no kernel for 12 rows\)"
    ):
        population.take(wanted)
    after = [parameter for engine in found for parameter in engine.model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Twice(nn.Module):
    def __init__(self, chance: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(chance)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + self.drop(2 * x)


class Reading(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.detach().sum().item()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.AlphaDropout(0.1), "layer 1 (AlphaDropout) draws random numbers in a way of its own"),
        (RandomShift(1), "layer 1 (RandomShift) draws random numbers in a way of its own"),
        (Twice(0.3), "dropout 1.drop is called 2 times in one step"),
        (Twice(0.0), "dropout 1.drop is called 2 times in one step"),
        (nn.LSTM(12, 12), "layer 1 (LSTM): torch has no vectorised rule for recurrent layers"),
        (nn.BatchNorm1d(12, momentum=None), "torch cannot vectorise a step"),
        (nn.TransformerEncoderLayer(12, 2, 8, dropout=0.0), "torch has no vectorised rule for aten::_scaled_dot_product"),
        (Drawing(), "torch cannot vectorise a step"),
        (Reading(), "torch cannot vectorise a step"),
    ],
)
def test_what_cannot_be_vectorised_is_told(layer: nn.Module, reason: str) -> None:
    def make(number: int) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 12), copy.deepcopy(layer), nn.Linear(12, 4))

    examples = Examples({"x": TABLE}, CLASSES)
    why = why_apart(engines(make, lambda n: CE, adam, PLAIN, False), feeds(examples, 0))
    assert why is not None
    assert reason in why


@pytest.mark.parametrize(
    ("make", "optimize", "update", "reason"),
    [
        (lambda n: nn.Sequential(nn.Linear(6, 4 + n)), adam, PLAIN, "the networks differ in their layers"),
        (
            NETWORKS["linear"][1],
            lambda n, m: torch.optim.LBFGS(m.parameters()),
            PLAIN,
            "LBFGS evaluates the loss several times",
        ),
        (NETWORKS["linear"][1], lambda n, m: (sgd if n else adam)(n, m), PLAIN, "optimizers differ: Adam and SGD"),
        (NETWORKS["linear"][1], adam, Update(micro_batch=4), "a batch in parts"),
        (NETWORKS["linear"][1], adam, Update(sharpness=0.05), "sharpness-aware steps go forward twice"),
    ],
)
def test_runs_that_differ_in_more_than_numbers_go_apart(make: Make, optimize: Optimize, update: Update, reason: str) -> None:
    examples = Examples({"x": TABLE}, CLASSES)
    why = why_apart(engines(make, lambda n: CE, optimize, update, False), feeds(examples, 0))
    assert why is not None
    assert reason in why


OWN = """
import torch
from torch import nn

SCALE = 2.0

class Own(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.layer, self.act = nn.Linear(6, 4), act

    def forward(self, x):
        return self.act(self.layer(x)) * SCALE
"""


@pytest.mark.parametrize(
    ("last", "act", "reason"),
    [
        (OWN, torch.relu, None),
        (OWN, torch.tanh, "the networks differ in their layers"),
        (OWN.replace("SCALE = 2.0", "SCALE = 3.0"), torch.relu, "the code of the networks differs"),
        (OWN.replace("* SCALE", "+ SCALE"), torch.relu, "the networks differ in their layers"),
    ],
)
def test_a_class_that_is_loaded_anew_for_each_network_is_known_by_its_code(
    last: str, act: Callable[[Tensor], Tensor], reason: str | None, tmp_path: Path
) -> None:
    def make(number: int) -> nn.Module:
        file = tmp_path / str(number) / "own_of_a_population.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(last if number == MEMBERS - 1 else OWN)
        made: nn.Module = load_class(file, "Own")(act if number == MEMBERS - 1 else torch.relu)  # type: ignore[call-arg]
        return made

    found = engines(make, lambda n: CE, adam, PLAIN, False)
    assert len({type(engine.model) for engine in found}) == MEMBERS
    assert why_apart(found, feeds(Examples({"x": TABLE}, CLASSES), 0)) == reason


def test_rows_that_change_on_their_way_go_apart() -> None:
    inputs, make = NETWORKS["linear"]
    batch = Batch({"x": inputs[:4]}, CLASSES[:4], torch.arange(4))
    changed = [Feed(Examples({"x": inputs}, CLASSES), np.arange(4), 4, changed=iter([batch])) for _ in range(MEMBERS)]
    why = why_apart(engines(make, lambda n: CE, adam, PLAIN, False), changed)
    assert why is not None
    assert why.startswith("rows are changed")
