"""Captured steps against the step as it is written: equal weights, buffers, optimizer, losses and generator, bit by bit."""

from __future__ import annotations

import copy
import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine.base import Engine, Execution
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.forward import Forward
from netwright.engine.update import PLAIN, Update
from netwright.errors import ConfigError, DivergedError
from netwright.model import modules
from netwright.recording import building
from netwright.recording.lanes import Barrier, _name, _region, in_lanes
from netwright.recording.operations import Place
from netwright.recording.recorded import Recorded
from netwright.recording.state import copied, differing
from netwright.recording.tape import Tape

ROWS, BATCH, EPOCHS = 44, 10, 6  # the last batch is smaller

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
    "Linear": ((12,), lambda: [nn.Linear(12, 70), nn.ReLU(), nn.Linear(70, 64), nn.Tanh(), nn.Linear(64, 3)]),
    "wide": ((300,), lambda: [nn.Linear(300, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 3)]),
    "activations": (
        (12,),
        lambda: [nn.Linear(12, 40), nn.GELU(), nn.LeakyReLU(), nn.Sigmoid(), nn.SiLU(), nn.Linear(40, 3)],
    ),
    "Conv1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(42, 3)]),
    "Conv2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)]),
    "Conv3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(32, 3)]),
    "AvgPool1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(42, 3)]),
    "AvgPool2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 3)]),
    "AvgPool3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(32, 3)]),
    "AdaptiveAvgPool2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)]),
    "RNN": ((7, 3), lambda: [modules.RNN(3, 8, batch_first=True), modules.LastStep(), nn.Linear(8, 3)]),
    "LSTM": (
        (7, 3),
        lambda: [
            modules.LSTM(3, 8, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True),
            modules.LastStep(),
            nn.Linear(16, 3),
        ],
    ),
    "both directions": (
        (7, 3),
        lambda: [modules.GRU(3, 8, bidirectional=True, batch_first=True), modules.LastStep(), nn.RReLU(), nn.Linear(16, 3)],
    ),
    "GRU": ((7, 3), lambda: [modules.GRU(3, 8, batch_first=True), modules.MeanOverTime(), nn.Linear(8, 3)]),
    "Dropout": ((12,), lambda: [nn.Linear(12, 40), nn.Dropout(0.4), nn.ReLU(), nn.Linear(40, 3)]),
    "Dropout1d": ((2, 16), lambda: [nn.Conv1d(2, 6, 3), nn.Dropout1d(0.4), nn.Flatten(), nn.Linear(84, 3)]),
    "Dropout2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(294, 3)]),
    "Dropout3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.Dropout3d(0.4), nn.Flatten(), nn.Linear(256, 3)]),
    "BatchNorm1d": ((12,), lambda: [nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 3)]),
    "BatchNorm2d": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(294, 3)]),
    "BatchNorm3d": ((1, 6, 6, 6), lambda: [nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(256, 3)]),
    "LayerNorm": ((12,), lambda: [nn.Linear(12, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 3)]),
    "InstanceNorm2d": (
        (1, 9, 9),
        lambda: [
            nn.Conv2d(1, 6, 3),
            nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
            nn.Flatten(),
            nn.Linear(294, 3),
        ],
    ),
    "large convolutions": (
        (3, 20, 20),
        lambda: [
            nn.Conv2d(3, 24, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 40, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1960, 3),
        ],
    ),
    "MaxPool": (
        (2, 11, 13),
        lambda: [
            nn.Conv2d(2, 4, 3),
            nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
            nn.MaxPool2d((1, 2)),
            nn.Flatten(),
            nn.LazyLinear(3),
        ],
    ),
    "GroupNorm": ((1, 9, 9), lambda: [nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(294, 3)]),
}


@pytest.fixture(scope="session")
def compiled() -> None:
    """Wait for the native library, or skip where there can be none."""
    if not any(shutil.which(name) for name in building.COMPILERS):
        pytest.skip("no C++ compiler here")
    building.library(wait=True)


pytestmark = pytest.mark.usefixtures("one_thread")


def examples_of(shape: tuple[int, ...], classes: bool = True, rows: int = ROWS) -> Examples:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(rows, *shape, generator=generator)
    target = torch.arange(rows) % 3 if classes else X.reshape(rows, -1)[:, :3] * 2
    return Examples({"x": X}, target)


def run(engine: Engine, examples: Examples, epochs: int = EPOCHS, batch: int = BATCH) -> tuple[list[float], list[float]]:
    """Train, and return losses and weights."""
    losses: list[float] = []
    weights: list[float] = []
    torch.manual_seed(11)
    for epoch in range(1, epochs + 1):
        engine.model.train()
        order = epoch_order(np.arange(examples.rows), 0, epoch)
        feed = Feed(examples, order, batch)
        left = -(-examples.rows // batch)
        while left:
            steps = engine.train_steps(feed, left)
            if steps.failure is not None:
                raise steps.failure.error
            left -= len(steps.losses)
            losses += steps.losses.tolist()
            weights += steps.weights.tolist()
    return losses, weights


def both(
    model: nn.Module,
    examples: Examples,
    loss: Any = None,
    make: Callable[..., torch.optim.Optimizer] = lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True),
    update: Update = PLAIN,
    **settings: Any,
) -> CapturedEngine:
    """Train a network both ways and demand equal bits; return the captured engine."""
    loss = nn.CrossEntropyLoss() if loss is None else loss
    other, other_loss = copy.deepcopy((model, loss))
    eager = EagerEngine(model, loss, make(model.parameters()), update)
    captured = CapturedEngine(EagerEngine(other, other_loss, make(other.parameters()), update), **settings)
    expected = run(eager, examples)
    truth = copied(model, loss, eager.optimizer)
    found = run(captured, examples)
    assert found == expected
    assert differing(copied(other, other_loss, captured.optimizer), truth) == 0
    return captured


def network(name: str) -> tuple[nn.Module, Examples]:
    torch.manual_seed(1)
    shape, layers = LAYERS[name]
    model, examples = nn.Sequential(*layers()), examples_of(shape)
    model(examples.inputs["x"])  # lazy layers
    return model, examples


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_the_same_bits_replayed_from_python(name: str) -> None:
    engine = both(*network(name), native=False)
    assert engine.played() == "from Python"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.usefixtures("compiled")
def test_every_layer_gives_the_same_bits_replayed_natively(name: str, lanes: int) -> None:
    engine = both(*network(name), lanes=lanes, by_name=True)
    assert engine.played() == ("natively" if lanes == 1 else f"natively on {lanes} cores")


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True, fused=True),
        lambda parameters: torch.optim.Adagrad(parameters, lr=0.05, fused=True),
        lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5),
        lambda parameters: torch.optim.Adadelta(parameters),
    ],
)
def test_optimizers_give_the_same_bits(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    assert both(*network("Linear"), make=optimizer, by_name=True, native=False).why_not is None


def test_an_optimizer_that_reads_its_step_runs_as_it_is_written() -> None:
    engine = both(*network("Linear"), make=lambda parameters: torch.optim.NAdam(parameters))
    assert engine.why_not is not None
    assert "a number is read in the middle of the step" in engine.why_not


def test_groups_of_parameters_keep_their_own_learning_rates() -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        one, *others = parameters
        return torch.optim.Adam([{"params": [one], "lr": 0.1}, {"params": others}], lr=0.001, fused=True)

    assert both(*network("Linear"), make=make, by_name=True).why_not is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_learning_rate_may_change_between_steps(fused: bool) -> None:
    """Fused kernels read it from a tensor; for others the step is recorded again."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        if fused:
            return torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        return torch.optim.SGD(model.parameters(), lr=0.01)

    model, examples = network("Linear")
    other = copy.deepcopy(model)
    engines: list[Any] = [
        EagerEngine(model, nn.CrossEntropyLoss(), make(model)),
        CapturedEngine(EagerEngine(other, nn.CrossEntropyLoss(), make(other)), by_name=True),
    ]
    found = []
    for engine in engines:
        losses = []
        for rate in (0.01, 0.02, 0.005):
            engine.optimizer.param_groups[0]["lr"] = rate
            losses.append(run(engine, examples, epochs=3))
        found.append(losses)
    assert found[0] == found[1]
    assert differing(list(model.parameters()), list(other.parameters())) == 0


UPDATES = {
    "clipped by norm": Update(clip_grad_norm=0.1),
    "clipped by value": Update(clip_grad_value=0.01),
    "uphill": Update(sharpness=0.05),
    "all": Update(clip_grad_norm=0.1, clip_grad_value=0.01, l1=0.001, sharpness=0.05),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("layers", ["wide", "BatchNorm1d", "Dropout"])
def test_what_else_a_step_does_is_replayed_from_python(name: str, layers: str) -> None:
    assert both(*network(layers), update=UPDATES[name], native=False).played() == "from Python"


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("layers", ["wide", "BatchNorm1d", "LSTM"])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.usefixtures("compiled")
def test_what_else_a_step_does_is_replayed_natively(name: str, layers: str, lanes: int) -> None:
    engine = both(*network(layers), update=UPDATES[name], lanes=lanes, by_name=True)
    assert engine.played() == ("natively" if lanes == 1 else f"natively on {lanes} cores")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.usefixtures("compiled")
def test_a_norm_that_is_not_finite_stops_a_replayed_step_before_the_update(native: bool) -> None:
    """The loss of the last row is 1e38, which is finite; its gradient is not."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)
    X = torch.ones(40, 1)
    X[-1] = 2e19
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, fused=True)
    eager = EagerEngine(model, nn.MSELoss(), optimizer, Update(clip_grad_norm=1.0))
    engine = CapturedEngine(eager, native=native, by_name=True)
    feed = Feed(Examples({"x": X}, torch.zeros(40, 1)), np.arange(40), 1)
    losses: list[float] = []
    while (steps := engine.train_steps(feed, 40 - len(losses))).failure is None:
        losses += steps.losses.tolist()
    assert len(losses) + len(steps.losses) == 39
    assert engine.played() == ("natively" if native else "from Python")
    assert isinstance(steps.failure.error, DivergedError)
    assert str(steps.failure.error) == "a number that follows from the loss is not finite"
    assert 0.4999 < model.weight.item() < 0.5


LOSSES: dict[str, tuple[Any, bool]] = {
    "class weights": (nn.CrossEntropyLoss(weight=torch.tensor([0.3, 1.0, 2.0])), True),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), True),
    "ignored": (nn.CrossEntropyLoss(ignore_index=1), True),
    "mse": (nn.MSELoss(), False),
    "huber": (nn.HuberLoss(), False),
    "l1": (nn.L1Loss(), False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_weights_are_the_same(name: str) -> None:
    loss, classes = LOSSES[name]
    model, _ = network("Linear")
    both(model, examples_of((12,), classes), loss, by_name=True)


@pytest.mark.parametrize("native", [True, False])
def test_float64_networks_are_recorded_too(native: bool, compiled: None) -> None:
    model, examples = network("Linear")
    doubles = Examples({"x": examples.inputs["x"].double()}, examples.target)
    engine = both(model.double(), doubles, by_name=True, native=native)
    assert engine.played() == ("natively" if native else "from Python")


@pytest.mark.parametrize("native", [True, False])
def test_a_float64_loss_that_is_not_finite_stops_before_it_changes_anything(native: bool, compiled: None) -> None:
    model, examples = network("Linear")
    target = examples.inputs["x"][:, :3].double().clone()
    doubles = Examples({"x": examples.inputs["x"].double()}, target)
    optimizer = torch.optim.SGD(model.double().parameters(), lr=0.01)
    engine = CapturedEngine(EagerEngine(model, nn.MSELoss(), optimizer), by_name=True, native=native)
    run(engine, doubles)
    assert engine.played() == ("natively" if native else "from Python")
    target[5] = 1e300  # finite itself, its square is not
    with pytest.raises(DivergedError, match="the loss is inf"):
        run(engine, doubles)
    assert all(bool(torch.isfinite(value).all()) for value in model.parameters())
    target[5] = 1e30  # its square is finite in float64 only
    losses, _ = run(engine, doubles, epochs=1)
    assert 1e58 < max(losses) < 1e60


def test_losses_of_another_dtype_run_as_they_are_written() -> None:
    model, examples = network("Linear")
    halves = Examples({"x": examples.inputs["x"].bfloat16()}, examples.target)
    engine = both(model.bfloat16(), halves)
    assert engine.why_not == "the loss is torch.bfloat16 (); expected one float32 or float64"


class Counting(nn.Module):
    """Reads a number of a tensor to decide what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)
        return output * 2 if output.mean().item() > 0 else output


def test_a_branch_on_a_number_of_a_tensor_runs_as_it_is_written() -> None:
    engine = both(Counting(), examples_of((12,)))
    assert "a number is read in the middle of the step (aten._local_scalar_dense.default)" in str(engine.why_not)
    assert engine.played().startswith("as written: a number is read")


def test_asked_for_by_name_it_is_an_error() -> None:
    model = Counting()
    engine = CapturedEngine(EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters())), by_name=True)
    with pytest.raises(ConfigError, match=r"training.engine: captured came; a step cannot be captured: a number is read"):
        run(engine, examples_of((12,)))


def test_hooks_run_in_every_step() -> None:
    calls = []
    model, examples = network("Linear")
    model[0].register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    told: list[str] = []
    engine = CapturedEngine(EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters())), tell=told.append)
    run(engine, examples)
    assert len(calls) == EPOCHS * 5
    assert told == ["steps run as they are written (eager engine): Linear has a hook"]


def test_a_replay_that_gives_other_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Tape.play

    def wrong(tape: Tape) -> bool:
        done = original(tape)
        tape.calls[-1].arguments[0][0].view(-1)[0] += 1e-6
        return done

    monkeypatch.setattr(Tape, "play", wrong)
    engine = both(*network("Linear"), native=False)
    assert engine.why_not is not None
    assert "its replay gives other bits, in 1 of" in engine.why_not


@pytest.mark.parametrize("native", [True, False])
def test_a_loss_that_is_not_finite_stops_before_its_update(native: bool) -> None:
    model, examples = network("Linear")
    examples.inputs["x"][17] = float("inf")
    others = [copy.deepcopy(model) for _ in range(2)]
    engines: list[Any] = [
        EagerEngine(each, nn.CrossEntropyLoss(), torch.optim.Adam(each.parameters(), fused=True)) for each in others
    ]
    engines[1] = CapturedEngine(engines[1], native=native)
    good = Examples({"x": examples.inputs["x"].clone()}, examples.target)
    good.inputs["x"][17] = 0.0
    states = []
    for engine in engines:
        run(engine, good, epochs=4)  # the recordings are trusted by now
        order = np.array([row for row in range(ROWS) if row != 17] + [17])
        feed = Feed(examples, order[4:], BATCH)
        taken = 0
        while True:
            steps = engine.train_steps(feed, 4 - taken)
            taken += len(steps.losses)
            if steps.failure is not None:
                break
        assert taken == 3
        assert isinstance(steps.failure.error, DivergedError)
        assert str(steps.failure.error) == "the loss is nan"
        assert 17 in steps.failure.batch.rows.tolist()
        states.append(copied(engine.model, engine.loss_function, engine.optimizer))
    assert differing(*states) == 0


def test_rows_that_are_changed_on_their_way_are_copied_in() -> None:
    model, examples = network("Linear")
    other = copy.deepcopy(model)
    engines: list[Any] = [
        EagerEngine(each, nn.CrossEntropyLoss(), torch.optim.SGD(each.parameters(), lr=0.1)) for each in (model, other)
    ]
    engines[1] = CapturedEngine(engines[1], by_name=True)
    for engine in engines:
        for epoch in range(1, 5):
            rows = [torch.arange(start, start + 10) for start in range(0, 40, 10)]
            changed = (Batch({"x": examples.inputs["x"][part] * epoch}, examples.target[part], part) for part in rows)
            feed = Feed(examples, np.arange(40), 10, changed=changed)
            for _ in rows:
                engine.train_steps(feed, 4)
    assert differing(list(model.parameters()), list(other.parameters())) == 0
    assert engines[1].why_not is None


def test_settings_that_change_make_new_recordings() -> None:
    """Modes, frozen parameters and a loaded optimizer: each run goes on with the same bits."""
    model, examples = network("Dropout")
    other = copy.deepcopy(model)
    engines: list[Any] = [
        EagerEngine(each, nn.CrossEntropyLoss(), torch.optim.Adam(each.parameters(), lr=0.01, fused=True))
        for each in (model, other)
    ]
    engines[1] = CapturedEngine(engines[1], by_name=True)
    for engine in engines:
        run(engine, examples, epochs=3)
        engine.model[1].p = 0.0
        run(engine, examples, epochs=3)
        next(engine.model.parameters()).requires_grad_(False)
        run(engine, examples, epochs=3)
        engine.optimizer.load_state_dict(copy.deepcopy(engine.optimizer.state_dict()))
        run(engine, examples, epochs=3)
    assert differing(list(model.parameters()), list(other.parameters())) == 0


def test_networks_that_share_a_weight() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
            self.second.weight = self.first.weight
            self.last = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.last(self.second(torch.relu(self.first(x))))
            return output

    both(Tied(), examples_of((12,)), by_name=True)


@pytest.mark.usefixtures("compiled")
def test_many_engines_leave_no_threads() -> None:
    for _ in range(3):
        both(*network("wide"), lanes=2, by_name=True)
    gc.collect()
    assert len(list(Path("/proc/self/task").iterdir())) < 40 if Path("/proc/self/task").exists() else True


def test_forward_gives_the_same_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAYERS:
        model, examples = network(name)
        model.eval()
        forward = Forward(model, Execution("captured"))
        batch = examples.batch(torch.arange(20))
        with torch.inference_mode():
            expected = model(batch.inputs["x"])
            found = [forward(batch) for _ in range(6)]
            assert all(torch.equal(each, expected) for each in found), name
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)
        with torch.inference_mode():
            assert torch.equal(forward(batch), model(batch.inputs["x"])), name
            assert torch.equal(found[-1], expected)  # it is the caller's


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("rows", [512, 700])
def test_many_rows_are_dealt_out_to_cores(rows: int) -> None:
    shape, layers = LAYERS["wide"]
    examples = examples_of(shape, rows=3 * rows)
    found = []
    for lanes in (0, 2):
        torch.manual_seed(1)
        model = nn.Sequential(*layers())
        eager = EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), fused=True))
        engine = CapturedEngine(eager, lanes, by_name=True) if lanes else eager
        losses, _ = run(engine, examples, epochs=4, batch=rows)
        found.append([torch.tensor(losses), *model.state_dict().values()])
    assert engine.played() == "natively on 2 cores"
    (known,) = (known for known in engine._known.values() if len(known.batch) == rows)
    products = [
        call for call in in_lanes(known.tape.calls, 2)[1] if not isinstance(call, Barrier) and _name(call) == "aten::addmm"
    ]
    assert products[0].arguments[1].shape[0] < rows  # by rows, not by neurons
    assert differing(*found) == 0


@pytest.mark.usefixtures("compiled")
def test_cores_that_share_steps_and_one_alone_take_turns_with_the_same_bits() -> None:
    """The way that is faster of late is taken, and the other one tried in every 32nd call."""
    model, examples = network("wide")
    other = copy.deepcopy(model)
    eager, shared = (
        EagerEngine(each, nn.CrossEntropyLoss(), torch.optim.Adam(each.parameters(), fused=True)) for each in (model, other)
    )
    engine = CapturedEngine(shared, 3, by_name=True)
    assert run(engine, examples, epochs=80) == run(eager, examples, epochs=80)
    assert engine.played() == "natively on 3 cores"
    assert differing(list(model.state_dict().values()), list(other.state_dict().values())) == 0


@pytest.mark.usefixtures("compiled")
def test_forward_reads_the_rows_it_is_given() -> None:
    model, examples = network("wide")
    forward = Forward(model.eval(), Execution("captured", lanes=2))
    draw = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        for turned in (False, True):  # the columns of a turned array do not lie one after the other
            for _ in range(6):
                values = torch.randn(
                    *((examples.shapes["x"][0], 600) if turned else (600, *examples.shapes["x"])), generator=draw
                )
                batch = Batch({"x": values.T if turned else values}, torch.empty(0), torch.arange(600))
                assert torch.equal(forward(batch), model(batch.inputs["x"]))
    inputs = [known.gathers for known in forward._known.values() if isinstance(known, Recorded) and known.ready()]
    assert [len(gathers) for gathers in inputs] == [1, 0]
    assert inputs[0][0][0].numel() == 0  # the rows of the caller are let go


def test_forward_records_batch_norm_and_leaves_its_statistics() -> None:
    model, examples = network("BatchNorm2d")
    model.train()(examples.inputs["x"])
    forward, before = Forward(model.eval(), Execution("captured")), copy.deepcopy(model.state_dict())
    batch = examples.batch(torch.arange(20))
    with torch.inference_mode():
        for _ in range(6):
            assert torch.equal(forward(batch), model(batch.inputs["x"]))
    (known,) = forward._known.values()
    assert known is not None
    assert known.ready()
    assert differing(list(model.state_dict().values()), list(before.values())) == 0


def test_forward_reads_nothing_and_turned_signs_as_written() -> None:
    model = nn.Linear(3, 2).eval()
    forward = Forward(model, Execution("captured"))
    for values in (torch.empty(0, 3), torch._neg_view(torch.randn(4, 3))):
        batch = Batch({"x": values}, torch.empty(0), torch.arange(len(values)))
        with torch.inference_mode():
            assert all(torch.equal(forward(batch), model(values)) for _ in range(5))


class Guarded(nn.Module):
    """Gives no number for some dropout masks, on one row."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.layer = nn.Dropout(0.7), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        keep = self.drop(torch.ones_like(x))
        spoiled = torch.where((keep > 0) & (x > 2.8), torch.inf, 0.0).sum(1, keepdim=True)
        output: Tensor = self.layer(x) + spoiled
        return output


@pytest.mark.parametrize("native", [True, False])
def test_a_step_that_stops_is_not_run_again(native: bool) -> None:
    """The generator moves once, so chance gives no second try."""
    torch.manual_seed(0)
    model, examples = Guarded(), examples_of((4,))
    examples.inputs["x"][5, 1] = 3.0
    others = [copy.deepcopy(model) for _ in range(2)]
    engines: list[Any] = [
        EagerEngine(each, nn.CrossEntropyLoss(), torch.optim.SGD(each.parameters(), fused=True)) for each in others
    ]
    engines[1] = CapturedEngine(engines[1], native=native)
    found = []
    for engine in engines:
        taken, failure = 0, None
        torch.manual_seed(5)
        for epoch in range(1, 60):
            feed, left = Feed(examples, epoch_order(np.arange(ROWS), 0, epoch), BATCH), 5
            while left and failure is None:
                steps = engine.train_steps(feed, left)
                taken, left, failure = taken + len(steps.losses), left - len(steps.losses), steps.failure
            if failure is not None:
                break
        assert failure is not None
        state = copied(engine.model, engine.loss_function, engine.optimizer)
        found.append((taken, str(failure.error), failure.batch.rows.tolist(), state))
    assert found[0][:3] == found[1][:3]
    assert differing(found[0][3], found[1][3]) == 0


@pytest.mark.parametrize("native", [True, False])
def test_a_kernel_that_fails_late_is_the_failure_of_its_step(native: bool) -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 3))
    codes = torch.arange(2 * ROWS).reshape(ROWS, 2) % 10
    good, bad = Examples({"x": codes}, torch.arange(ROWS) % 3), Examples({"x": codes}, torch.arange(ROWS) % 3)
    engine = CapturedEngine(
        EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), fused=True)), native=native
    )
    run(engine, good)
    codes[33, 1] = 30
    feed = Feed(bad, np.arange(40), BATCH)
    taken = 0
    while (steps := engine.train_steps(feed, 4 - taken)).failure is None:
        taken += len(steps.losses)
    assert taken + len(steps.losses) == 3
    assert "index out of range in self" in str(steps.failure.error)
    assert 33 in steps.failure.batch.rows.tolist()


def test_operations_that_only_raise_are_replayed_too() -> None:
    class Factor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            square = torch.eye(2) + x[0, 0] * 0 - torch.eye(2) * (x > 5).any().to(torch.float32) * 2
            output: Tensor = self.layer(x) + torch.linalg.cholesky(square).sum() * 0
            return output

    model, examples = Factor(), examples_of((4,))
    engine = CapturedEngine(EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), fused=True)))
    run(engine, examples)
    assert engine.why_not is None
    examples.inputs["x"][3, 0] = 6.0
    with pytest.raises(RuntimeError, match="not positive-definite"):
        run(engine, examples, epochs=1)


def test_regions_that_share_a_number_meet() -> None:
    generator = np.random.default_rng(0)
    base = torch.arange(24 * 40).reshape(24, 40)
    missed = 0
    for _ in range(2000):
        tensors = []
        for _ in range(2):
            bounds = [sorted(generator.choice(size + 1, 2, replace=False)) for size in base.shape]
            part = base[bounds[0][0] : bounds[0][1], bounds[1][0] : bounds[1][1]]
            part = part.t() if generator.random() < 0.3 else part
            part.place = Place(0, part.dtype, tuple(part.shape), tuple(part.stride()), int(part.storage_offset()))
            tensors.append(part)
        shared = bool(np.intersect1d(*(part.reshape(-1).numpy() for part in tensors)).size)
        met = _region(tensors[0]).meets(_region(tensors[1]))
        missed += shared and not met
    assert missed == 0


def test_a_tensor_that_is_no_buffer_is_not_changed_twice() -> None:
    count = torch.zeros(1)

    class Loss(nn.Module):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(output, target) + 0 * count.add_(1).sum()

    model, examples = network("Linear")
    engine = CapturedEngine(EagerEngine(model, Loss(), torch.optim.SGD(model.parameters(), fused=True)))
    run(engine, examples)
    assert engine.why_not is not None
    assert count.item() == EPOCHS * 5


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("compiled")
def test_numbers_that_are_not_to_be_read_are_not_answered(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(building, "library", lambda: (_ for _ in ()).throw(building.NotBuiltError("none")))
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU()).to(dtype).eval()
    forward, values = Forward(model, Execution("captured", lanes=2)), torch.randn(300, 6, dtype=dtype)
    batch = Batch({"x": values}, torch.empty(0), torch.arange(300))
    with torch.inference_mode():
        assert forward.trusted([values]) is None
        for _ in range(5):
            expected = forward(batch)
        found = forward.trusted([values])
        assert found is not None
        assert torch.equal(found[0], expected)
        for row, wrong in ((0, torch.inf), (299, -torch.inf), (150, -1e300 if dtype == torch.float64 else -torch.inf)):
            changed = values.clone()
            changed[row, 3] = wrong
            assert forward.trusted([changed]) is None
            assert torch.equal(forward(Batch({"x": changed}, torch.empty(0), torch.arange(300))), model(changed))
        values[7, 1] = torch.nan  # is missing
        found = forward.trusted([values])
        assert found is not None
        assert bool(found[0][7].isnan().all())
        model.train()
        assert forward.trusted([values]) is None


@pytest.mark.usefixtures("compiled")
def test_a_call_with_infinite_numbers_is_recorded_as_any_other() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval()
    forward, values = Forward(model, Execution("captured")), torch.randn(300, 6)
    values[5, 2] = torch.inf
    with torch.inference_mode():
        for _ in range(6):
            found = forward(Batch({"x": values}, torch.empty(0), torch.arange(300)))
            assert torch.equal(found, model(values))
        assert forward.trusted([values]) is None  # since nobody checked it
        values[5, 2] = 0
        assert forward.trusted([values]) is not None


@pytest.mark.usefixtures("compiled")
def test_a_recording_does_not_outlive_what_it_was_made_under() -> None:
    model, values = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1)).eval(), torch.randn(200, 4)
    forward, batch = Forward(model, Execution("captured")), Batch({"x": values}, torch.empty(0), torch.arange(200))

    def changes() -> list[Callable[[], object]]:
        def turn() -> None:
            model[0].weight.data = model[0].weight.data.t()

        return [lambda: setattr(model[1], "negative_slope", 0.9), turn]

    with torch.inference_mode():
        for change in changes():
            for _ in range(5):
                forward(batch)
            assert forward.trusted([values]) is not None
            change()
            assert forward.trusted([values]) is None
            for _ in range(5):
                assert torch.equal(forward(batch), model(values))
        with torch.autocast("cpu", torch.bfloat16):
            assert forward.trusted([values]) is None
            for _ in range(5):
                assert forward(batch).dtype == torch.bfloat16
        assert torch.equal(forward(batch), model(values))
