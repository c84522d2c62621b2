"""Dense layers on the CPU: the library beside float64, the same bits on any number of cores and in calls of any length."""

from __future__ import annotations

import copy
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_cases import LOSSES, NETWORKS, OPTIMIZERS, dense, rows_for, share
from dense_cpu_cases import BATCH, beside_exact, engine_for, orders, rows_of, train, wait_for_library
from torch import nn

import netwright as nw
from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine import choose
from netwright.engine import dense_cpu as engine_module
from netwright.engine.averaged import Averaged
from netwright.engine.base import Execution, Steps
from netwright.engine.choose import choose_engine
from netwright.engine.dense_cpu import DRAWN, DenseCpuEngine, dense_cpu_engine
from netwright.engine.dense_layers import recurrent_of
from netwright.engine.eager import EagerEngine
from netwright.engine.forward import Forward
from netwright.engine.likeness import CHECKED
from netwright.engine.update import PLAIN, Update
from netwright.errors import DivergedError
from netwright.model.modules import GRU, LSTM, RNN, LastStep
from netwright.pipeline.bench import gather, prepare
from netwright.recording import building
from netwright.recording import dense_cpu as program_module
from netwright.recording.building import NotBuiltError
from netwright.recording.dense_cpu import DenseProgram
from netwright.recording.state import copied, differing, tensors
from netwright.recording.tape import NotFiniteError, Played


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Wait for the library."""
    wait_for_library()


CELLS: dict[str, Callable[..., nn.Module]] = {
    "LSTM": LSTM,
    "GRU": GRU,
    "RNN": RNN,
    "RNN of relu": partial(RNN, nonlinearity="relu"),
}


def recurrent(cell: str = "LSTM", features: int = 3, hidden: int = 21, outputs: int = 5) -> nn.Sequential:
    """Return a recurrent layer whose last step goes through two layers."""
    first = CELLS[cell](features, hidden, batch_first=True)
    return nn.Sequential(first, LastStep(), nn.Linear(hidden, 9), nn.Tanh(), nn.Linear(9, outputs))


def sequences(rows: int = 53, steps: int = 11, features: int = 3) -> Examples:
    """Return rows of sequences and their classes."""
    return rows_of(steps, features, rows=rows)


def wide(rows: int = 300) -> Examples:
    """Return rows of 20 numbers and their classes."""
    return rows_of(20, rows=rows)


DROPPING: Callable[[], nn.Sequential] = lambda: nn.Sequential(  # noqa: E731
    *(nn.Linear(20, 33), nn.ReLU(), nn.Dropout(0.3)), *(nn.Linear(33, 17), nn.GELU(), nn.Dropout(0.5)), nn.Linear(17, 5)
)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_networks_and_optimizers_give_the_numbers_of_float64(network: str, optimizer: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS[network]()
    examples = rows_for(model, "classes", (4, 5) if network == "flattened" else None)
    of_losses, of_weights = beside_exact(engine_for(model, "classes", optimizer), examples, optimizer)
    assert max(of_losses, of_weights) < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_give_the_numbers_of_float64(loss: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS["three layers"]()
    of_losses, of_weights = beside_exact(engine_for(model, loss), rows_for(model, loss), "Adam")
    assert max(of_losses, of_weights) < 1e-5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hidden", [4, 21, 64])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers_give_the_numbers_of_float64(cell: str, optimizer: str, hidden: int) -> None:
    torch.manual_seed(0)
    engine = engine_for(recurrent(cell, hidden=hidden), "classes", optimizer)
    of_losses, of_weights = beside_exact(engine, sequences(), optimizer)
    assert max(of_losses, of_weights) < 1e-5


STACKED: dict[str, Callable[[], list[nn.Module]]] = {
    **{cell: lambda cell=cell: [CELLS[cell](3, 21, num_layers=3, batch_first=True)] for cell in CELLS},  # type: ignore[misc]
    "one after the other": lambda: [
        LSTM(3, 33, batch_first=True),
        GRU(33, 7, num_layers=2, batch_first=True),
        RNN(7, 21, batch_first=True),
    ],
}


@pytest.mark.parametrize("optimizer", ["Adam decayed", "AdamW", "SGD"])
@pytest.mark.parametrize("case", STACKED)
def test_recurrent_layers_behind_another_give_the_numbers_of_float64(case: str, optimizer: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*STACKED[case](), LastStep(), nn.Linear(21, 9), nn.Tanh(), nn.Linear(9, 5))
    of_losses, of_weights = beside_exact(engine_for(model, "classes", optimizer), sequences(), optimizer)
    assert max(of_losses, of_weights) < 1e-5


def stacked(cell: str = "LSTM") -> nn.Sequential:
    """Return recurrent layers with dropout between and behind them."""
    first = CELLS[cell](3, 21, num_layers=3, dropout=0.3, batch_first=True)
    return nn.Sequential(first, CELLS[cell](21, 8, batch_first=True), LastStep(), nn.Dropout(0.2), nn.Linear(8, 5))


def dropping(cell: str = "LSTM") -> nn.Sequential:
    """Return a recurrent layer with dropout behind it, and behind the layer after it."""
    first, _, last, *others = recurrent(cell)
    return nn.Sequential(first, LastStep(), nn.Dropout(0.4), last, others[0], nn.Dropout(0.2), others[1])


def convolutional() -> nn.Sequential:
    """Return two convolutions, one of them pooled, before two layers with dropout between them."""
    first = (nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(5, 19, (2, 3)), nn.GELU(), nn.Flatten())
    return nn.Sequential(*first, nn.Linear(57, 21), nn.ReLU(), nn.Dropout(0.3), nn.Linear(21, 5))


def normalised() -> nn.Sequential:
    """Return layers with norms, one of them with dropout behind it."""
    return nn.Sequential(
        *(nn.Linear(20, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 17, bias=False), nn.BatchNorm1d(17, affine=False)),
        *(nn.Tanh(), nn.Dropout(0.2), nn.Linear(17, 50), nn.LayerNorm(50), nn.GELU(), nn.Linear(50, 5)),
    )


def normalised_pictures() -> nn.Sequential:
    """Return convolutions with BatchNorm, dropout of places and of channels, and both poolings."""
    return nn.Sequential(
        *(nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2)),
        *(
            nn.Conv2d(5, 7, 2),
            nn.SiLU(),
            nn.Conv2d(7, 19, 1, bias=False),
            nn.BatchNorm2d(19),
            nn.Tanh(),
            nn.AvgPool2d((1, 2)),
        ),
        *(nn.Dropout(0.1), nn.Conv2d(19, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, 5)),
    )


def pictures(rows: int = 150) -> Examples:
    """Return pictures and their classes."""
    return rows_of(2, 8, 7, rows=rows)


CASES: dict[str, tuple[Callable[[], nn.Sequential], Callable[[], Examples]]] = {
    "dense": (lambda: dense(20, 70, 33, 5), wide),
    **{cell: (partial(recurrent, cell), sequences) for cell in CELLS},
    "dropout": (DROPPING, wide),
    "LSTM and dropout": (dropping, sequences),
    "convolutions and dropout": (convolutional, pictures),
    "layers of LSTM and dropout": (stacked, sequences),
    "layers of GRU and dropout": (partial(stacked, "GRU"), sequences),
    "norms": (normalised, wide),
    "convolutions, norms and dropout": (normalised_pictures, pictures),
    "dense and clipped": (normalised, wide),
    "layers of GRU and clipped": (partial(stacked, "GRU"), sequences),
    "convolutions, norms and clipped": (normalised_pictures, pictures),
}


CLIPPED = Update(clip_grad_norm=0.5, clip_grad_value=0.05)
CLIPPING = ("dense and clipped", "layers of GRU and clipped", "convolutions, norms and clipped")


def bits(case: str, lanes: int, most: int, batch: int = 130) -> tuple[list[float], list[torch.Tensor]]:
    """Train; return the losses, and all that was changed with the generator."""
    torch.manual_seed(0)
    network, rows = CASES[case]
    engine = engine_for(network(), lanes=lanes, update=CLIPPED if case in CLIPPING else PLAIN)
    losses = train(engine, rows(), most=most, batch=batch)
    assert engine.why_not is None
    return losses, copied(engine.model, engine.loss_function, engine.optimizer)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("lanes", "most"), [(2, 1000), (3, 1000), (1, 1), (2, 2)])
def test_neither_cores_nor_the_length_of_calls_change_a_bit(case: str, lanes: int, most: int) -> None:
    losses, parts = bits(case, 1, 1000)
    other, others = bits(case, lanes, most)
    assert losses == other
    assert differing(parts, others) == 0


@pytest.mark.parametrize("width", [4, 16])
def test_the_width_of_vectors_changes_no_bit(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(CASES)
    here = [bits(case, 2, 1000) for case in cases]
    _, command = building._place(None, building.DENSE)
    at = command.index(building.LINK)
    assert building._compile(tmp_path, [*command[:at], f"-DND_WIDTH={width}", "-Wno-psabi", *command[at:]]) == ""
    other = ctypes.CDLL(str(tmp_path / building.LIBRARY))
    monkeypatch.setattr(program_module, "library", lambda **given: other)
    for case, (losses, parts) in zip(cases, here, strict=True):
        found, others = bits(case, 2, 1000)
        assert losses == found
        assert differing(parts, others) == 0


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        (DROPPING, wide(BATCH * (DRAWN + 5))),
        (partial(dropping, "GRU"), sequences(BATCH * (DRAWN + 5))),
        (normalised_pictures, pictures(BATCH * (DRAWN + 5))),
        (stacked, sequences(BATCH * (DRAWN + 5))),
    ],
)
def test_dropout_drops_what_the_step_as_written_drops(network: Callable[[], nn.Sequential], rows: Examples) -> None:
    torch.manual_seed(0)
    model, examples = network(), rows
    written = copy.deepcopy(model)
    engine = engine_for(model)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](written))
    torch.manual_seed(1)
    found = train(engine, examples)
    there = torch.get_rng_state()
    torch.manual_seed(1)
    assert found == pytest.approx(train(eager, examples), rel=1e-4)
    assert torch.equal(torch.get_rng_state(), there)
    assert engine._compared == CHECKED


def test_rates_that_change_from_step_to_step_are_read() -> None:
    torch.manual_seed(0)
    model = dense(20, 8, 5)
    written = copy.deepcopy(model)
    engine, examples = engine_for(model, optimizer="AdamW"), wide(BATCH * 9)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["AdamW"](written))
    train(engine, examples, epochs=1)
    train(eager, examples, epochs=1)
    order = orders(len(examples.target))[0]
    rates = torch.tensor([[0.01 / (step + 1), 0.9 - step / 50, 0.001 * step, 0.8] for step in range(9)], dtype=torch.float64)
    feed, taken = Feed(examples, order, BATCH), 0
    while taken < 9:
        taken += len(engine.train_steps(feed, 9 - taken, rates[taken:]).losses)
    feed = Feed(examples, order, BATCH)
    for row in rates.tolist():
        for number, group in enumerate(eager.optimizer.param_groups):
            group["lr"], group["betas"] = row[2 * number], (row[2 * number + 1], 0.999)
        eager.train_steps(feed, 1)
    for one, other in zip(model.parameters(), written.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_no_more_steps_are_taken_than_there_are_rates() -> None:
    engine, examples = engine_for(dense(20, 8, 5)), wide()
    train(engine, examples, epochs=1)
    feed = Feed(examples, orders(300)[0], BATCH)
    assert len(engine.train_steps(feed, 5, torch.tensor([[0.001, 0.9]], dtype=torch.float64)).losses) == 1


@pytest.mark.parametrize("momenta", [(0.9, 0.5, 0, 0, 0.5, 0.9, 0, 0.9, 0.9), (0, 0.3, 0.6, 0.9, 0.9, 0, 0, 0.9, 0)])
def test_a_momentum_that_a_schedule_takes_to_0_and_from_it_is_that_of_torch(momenta: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    model = dense(20, 8, 5)
    written = copy.deepcopy(model)
    engine, examples = engine_for(model, optimizer="momentum"), wide(BATCH * 9)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["momentum"](written))
    rates = torch.tensor([[0.05, momentum] for momentum in momenta], dtype=torch.float64)
    for each in (engine, eager):
        train(each, examples, epochs=1)
        feed, taken = Feed(examples, orders(len(examples.target))[0], BATCH), 0
        while taken < 9:
            each.optimizer.param_groups[0]["momentum"] = momenta[taken]
            taken += len(each.train_steps(feed, 9 - taken, rates[taken:]).losses)
    for one, other in zip(model.parameters(), written.parameters(), strict=True):
        assert share(one, other) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_a_loss_that_is_no_number_changes_nothing(case: str) -> None:
    torch.manual_seed(0)
    network, rows = CASES[case]
    engine, examples = engine_for(network()), rows()
    train(engine, examples, epochs=1)
    order = orders(len(examples.target))[0]
    spoiled = order[2 * BATCH]
    examples.inputs["x"][spoiled] = torch.nan
    feed = Feed(examples, order, BATCH)
    torch.manual_seed(5)
    steps = Steps(torch.empty(0), torch.empty(0))
    taken = 0
    while steps.failure is None:
        before = [value.detach().clone() for value in tensors(engine.model, engine.loss_function, engine.optimizer)]
        steps = engine.train_steps(feed, 2 if taken == 0 else 1)
        taken += len(steps.losses)
    assert (taken, type(steps.failure.error), str(steps.failure.error)) == (2, DivergedError, "the loss is nan")
    assert steps.failure.batch.rows.tolist() == order[2 * BATCH : 3 * BATCH].tolist()
    assert differing(before, list(tensors(engine.model, engine.loss_function, engine.optimizer))) == 0
    there = torch.get_rng_state()
    torch.manual_seed(5)
    written = EagerEngine(copy.deepcopy(engine.model), nn.CrossEntropyLoss(), torch.optim.SGD(engine.model.parameters()))
    feed = Feed(examples, order, BATCH)
    for _ in range(3):
        written.train_steps(feed, 1)
    assert torch.equal(torch.get_rng_state(), there)


def test_a_program_that_gives_other_numbers_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    original = DenseProgram.run

    def spoils(self: DenseProgram, *given: Any) -> Any:
        played = original(self, *given)
        self._plan.parameters[0].value.detach().mul_(1.5)
        return played

    monkeypatch.setattr(DenseProgram, "run", spoils)
    torch.manual_seed(0)
    model = dense(20, 8, 5)
    engine = engine_for(model)
    exact = copy.deepcopy(model)
    eager = EagerEngine(exact, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](exact))
    assert train(engine, wide()) == train(eager, wide())
    assert engine.played().startswith("as written; the kernels of dense layers failed: one of them was")
    assert differing(list(model.parameters()), list(exact.parameters())) == 0


def test_a_loss_that_is_no_number_in_the_library_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Played(torch.empty(0), 0.0, NotFiniteError("the loss is nan"))
    monkeypatch.setattr(DenseProgram, "run", lambda *given: stopped)
    engine = engine_for(dense(20, 8, 5))
    assert len(train(engine, wide(), epochs=1)) == 16
    assert engine.played() == "as written; the kernels of dense layers failed: the loss is nan"


def test_outputs_as_large_as_they_can_be_have_a_loss() -> None:
    model = dense(1, 3, bias=False)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3e38], [-3e38], [0.0]]))
    engine = engine_for(model, optimizer="SGD")
    assert train(engine, Examples({"x": torch.ones(40, 1)}, torch.zeros(40, dtype=torch.long)), epochs=1) == [0, 0, 0]
    assert engine._taken_here == 3


def test_calls_beside_compiled_steps_are_recorded_with_the_bits_of_the_network() -> None:
    torch.manual_seed(0)
    model = convolutional().eval()
    forward, rows = Forward(model, Execution("compiled")), pictures(40).inputs["x"]
    batch = Batch({"x": rows}, torch.empty(0), torch.arange(40))
    with torch.no_grad():
        expected = model(rows)
        for _ in range(5):
            assert torch.equal(forward(batch), expected)
    assert [known is not None and known.ready() for known in forward._known.values()] == [True]


def test_a_cache_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotBuiltError, match="it cannot be compiled into .*; expected a folder that this user can write"):
        building.library(tmp_path / "file", wait=True, source=building.DENSE)


def test_a_run_that_waits_for_the_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    original, told = engine_module.library, list[str]()

    def late(**given: Any) -> Any:
        if not told:
            raise NotBuiltError("it is being compiled, once on this machine", soon=True)
        return original(**given)

    monkeypatch.setattr(engine_module, "library", late)
    model = dense(20, 8, 5)
    eager = EagerEngine(model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model))
    engine = dense_cpu_engine(eager, lambda: eager, 1, told.append)
    assert engine is not None
    train(engine, wide())
    assert engine._taken_here > 0
    assert told == ["the kernels of dense layers are being compiled, once on this machine; the run waits for some seconds"]


def test_a_program_of_another_kind_is_compared_anew() -> None:
    torch.manual_seed(0)
    engine, examples = engine_for(DROPPING()), wide()
    train(engine, examples, epochs=1)
    assert engine._compared == CHECKED
    engine.model.eval()
    engine.train_steps(Feed(examples, orders(len(examples.target))[0], BATCH), 1)
    assert engine._compared == 1


def test_without_a_library_others_take_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> None:
        raise NotBuiltError("the compiler fails, see compiler.txt")

    monkeypatch.setattr(engine_module, "DenseProgram", none)
    engine = engine_for(dense(20, 8, 5))
    train(engine, wide())
    assert engine.played() == "as written; there are no kernels of dense layers: the compiler fails, see compiler.txt"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_no_more_threads_can_be_made_others_take_the_steps() -> None:
    few = """
import resource
import test_engine_dense_cpu as cases
engine = cases.engine_for(cases.dense(20, 8, 5), lanes=500)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
most = int(status["VmSize"].split()[0]) * 1024 + 200 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
cases.train(engine, cases.wide(), epochs=1)
print(engine.played())
"""
    words = [sys.executable, "-c", few]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=paths).stdout
    assert told.startswith("as written; there are no kernels of dense layers: ")


def test_classes_that_the_network_has_not_are_left_to_the_step_as_written() -> None:
    examples = wide()
    examples.target[7] = -100  # that CrossEntropyLoss ignores
    engine = engine_for(dense(20, 8, 5))
    train(engine, examples)
    assert (engine._taken_here, engine.why_not) == (0, None)


def test_classes_that_lie_where_others_lay_are_looked_at() -> None:
    engine, rows = engine_for(dense(20, 8, 5)), wide()
    train(engine, rows, epochs=1)
    held = rows.target.numpy().copy()
    train(engine, Examples(rows.inputs, torch.from_numpy(held)), epochs=1)
    held[:] = 10_000_000
    steps = engine.train_steps(Feed(Examples(rows.inputs, torch.from_numpy(held)), orders(300)[0], BATCH), 1)
    assert steps.failure is not None
    assert isinstance(steps.failure.error, IndexError)


def test_classes_made_in_inference_mode_are_taken() -> None:
    engine, rows = engine_for(dense(20, 8, 5)), wide()
    with torch.inference_mode():
        target = rows.target.clone()
    train(engine, Examples(rows.inputs, target), epochs=1)
    assert engine._taken_here > CHECKED


def test_what_an_optimizer_keeps_in_another_order_is_left_to_the_step_as_written() -> None:
    torch.manual_seed(0)
    engine, examples = engine_for(dense(20, 8, 5)), wide()
    train(engine, examples, epochs=1)
    taken = engine._taken_here
    state = engine.optimizer.state[engine.model[0].weight]  # type: ignore[index]
    state["exp_avg"] = state["exp_avg"].t().contiguous().t()
    train(engine, examples, epochs=1)
    assert engine._taken_here == taken


def test_weights_cut_where_they_lie_are_found() -> None:
    torch.manual_seed(0)
    model = dense(20, 8, 5)
    engine, examples = engine_for(model, optimizer="SGD"), wide()
    train(engine, examples, epochs=1)
    first, last = model[0], model[2]
    first.weight.data, first.bias.data = first.weight.data[:4], first.bias.data[:4]
    last.weight.data = last.weight.data.view(-1)[:20].view(5, 4)
    written = copy.deepcopy(model)
    train(engine, examples, epochs=1)
    train(EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["SGD"](written)), examples, epochs=1)
    assert all(share(one, other) < 1e-5 for one, other in zip(model.parameters(), written.parameters(), strict=True))


def test_an_optimizer_whose_state_was_kept_as_json_is_known() -> None:
    engine = engine_for(dense(20, 8, 5))
    engine.optimizer.param_groups[0]["betas"] = [0.9, 0.99]
    train(engine, wide(), epochs=1)
    assert engine._taken_here > CHECKED


def test_counters_that_differ_are_left_to_the_step_as_written() -> None:
    engine, examples = engine_for(dense(20, 8, 5)), wide()
    train(engine, examples, epochs=1)
    taken = engine._taken_here
    engine.optimizer.state[next(engine.model.parameters())]["step"].add_(3)
    train(engine, examples, epochs=1)
    assert engine._taken_here == taken


def test_weights_that_lie_elsewhere_are_found() -> None:
    torch.manual_seed(0)
    engine, examples = engine_for(dense(20, 8, 5)), wide()
    train(engine, examples, epochs=1)
    before = train(engine, examples, epochs=1)
    for value in engine.model.parameters():
        value.data = torch.randn(value.shape)
    after = train(engine, examples, epochs=1)
    assert abs(after[0] - before[-1]) > 0.1
    assert after[-1] < after[0]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(LSTM(3, 4, batch_first=True), nn.Dropout(), LSTM(4, 4, batch_first=True), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, batch_first=True), nn.ReLU(), LSTM(4, 4, batch_first=True), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, num_layers=2, dropout=1.0, batch_first=True), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, batch_first=True), LSTM(4, 4, batch_first=True, bias=False), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, bidirectional=True, batch_first=True), LastStep(), nn.Linear(8, 2)),
        nn.Sequential(LSTM(3, 4, bias=False, batch_first=True), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, proj_size=2, batch_first=True), LastStep(), nn.Linear(2, 2)),
        nn.Sequential(RNN(3, 4, bias=False, batch_first=True), LastStep(), nn.Linear(4, 2)),
        nn.Sequential(LSTM(3, 4, batch_first=True), nn.Linear(4, 2)),
    ],
)
def test_other_recurrent_layers_are_not_taken(model: nn.Sequential) -> None:
    assert recurrent_of(model) == ((), model)
    eager = EagerEngine(model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model))
    assert dense_cpu_engine(eager, lambda: eager, 1) is None


@pytest.mark.parametrize("part", ["layer", "loss"])
def test_a_forward_set_on_one_module_is_run(part: str) -> None:
    model, loss, calls = dense(20, 8, 5), nn.CrossEntropyLoss(), []
    owner: Any = model[0] if part == "layer" else loss
    forward = owner.forward

    def counted(*given: Any) -> Any:
        calls.append(1)
        return forward(*given)

    owner.forward = counted
    eager = EagerEngine(model, loss, OPTIMIZERS["Adam"](model))
    assert dense_cpu_engine(eager, lambda: eager, 1) is None
    del owner.forward
    made = dense_cpu_engine(eager, lambda: eager, 1)
    assert made is not None
    owner.forward = counted
    assert len(train(made, wide(), epochs=1)) == len(calls) == 16


def test_it_is_chosen_by_name_where_a_step_is_no_more_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "CompiledEngine", lambda eager: "torch.compile")

    def chosen(engine: str = "compiled", update: Update | None = None, averaged: bool = False) -> Any:
        model = dense(4, 3, 2)
        how = Execution(engine, by_name=True, **({} if update is None else {"update": update}))
        average = Averaged(model, decay=0.9) if averaged else None
        return choose_engine(how, model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model), averaged=average)

    assert isinstance(chosen(), DenseCpuEngine)
    assert not isinstance(chosen("captured"), DenseCpuEngine)
    assert isinstance(chosen(update=Update(clip_grad_norm=1.0)), DenseCpuEngine)
    assert isinstance(chosen(update=Update(clip_grad_value=1.0)), DenseCpuEngine)
    assert chosen(update=Update(l1=0.1)) == chosen(averaged=True) == "torch.compile"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1, 4)),
        ({"batch_size": 1}, (1, 1)),
        ({"threads": 3}, (3, 3)),
        ({"threads": 1}, (1, 1)),
        ({"threads": 1, "lanes": 2}, (1, 2)),
        ({"lanes": 3}, (1, 3)),
        ({"engine": "captured", "threads": 3}, (3, 1)),
        ({"layers": ["Linear(2000)", "ELU()", "Linear()"]}, (1, 1)),
    ],
)
def test_cores_are_chosen_by_the_size_of_a_step(
    settings: dict[str, Any], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "cores", lambda: 8)
    given = {
        "layers": ["Linear(2000)", "ReLU()", "Linear()"],
        "engine": "compiled",
        "batch_size": 16,
        "epochs": 1,
        **settings,
    }
    training = prepare(*gather("sklearn:wine", (), {**given, "device": "cpu"})).config.training
    assert (training.threads, training.lanes) == expected


@pytest.mark.parametrize("optimizer", ["AdamW(lr=0.01)", "SGD(lr=0.1, momentum=0.9, nesterov=True)"])
def test_whole_runs_take_it(optimizer: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "config": "sklearn:digits", "layers": ["Flatten()", "Linear(64)", "ReLU()", "Dropout(0.1)", "Linear()"],
        "optimizer": optimizer, "engine": "compiled", "baselines": "none", "importance": False, "worst": 0,
        "early_stopping": "none", "batch_size": 128, "schedule": "StepLR(step_size=20, gamma=0.9)",
    }  # fmt: skip
    whole = nw.train(run_dir=tmp_path / "whole", epochs=6, **how)
    short = nw.train(run_dir=tmp_path / "short", epochs=3, **how)
    again = nw.resume(short.folder, settings=["training.epochs=6"])
    lanes = min(choose.cores(), choose.MOST_LANES)
    told = "by kernels of dense layers" + (f" on {lanes} cores" if lanes > 1 else "")
    assert whole.record["played"] == again.record["played"] == told
    assert whole.tested is not None
    assert whole.tested["metrics"]["accuracy"]["value"] > 0.9
    pairs = zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_dropout_is_drawn_for_the_steps_that_a_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    kept = engine_module._Play._kept

    def counted(self: Any, rows: torch.Tensor, steps: int) -> torch.Tensor | None:
        drawn.append(steps)
        return kept(self, rows, steps)

    monkeypatch.setattr(engine_module._Play, "_kept", counted)
    engine, examples = engine_for(DROPPING(), optimizer="SGD"), wide(BATCH * 60)
    train(engine, examples, epochs=1)
    quick = list(drawn)
    drawn.clear()
    run = DenseProgram.run

    def three(self: Any, x: Any, target: Any, rows: Any, turns: Any, counted: float, seconds: float, kept: Any) -> Played:
        return run(self, x, target, rows[:3], turns, counted, 1.0, kept)

    monkeypatch.setattr(DenseProgram, "run", three)  # which take all of a call's time
    monkeypatch.setattr(engine_module, "AT_A_TIME", 0.0)
    assert len(train(engine, examples, epochs=1)) == 60
    assert max(quick) == DRAWN
    assert drawn == [DRAWN, 3, *[3] * 19]


CLIPS = {
    "norm": Update(clip_grad_norm=0.3),
    "value": Update(clip_grad_value=0.01),
    "both": Update(clip_grad_norm=0.5, clip_grad_value=0.02),
    "more than there is": Update(clip_grad_norm=1000.0),
}


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("case", ["dense", "LSTM", "GRU", "one after the other", "convolutions", "norms"])
def test_gradients_are_clipped_as_in_float64(case: str, clip: str, optimizer: str) -> None:
    torch.manual_seed(0)
    layers: dict[str, Callable[[], nn.Sequential]] = {
        "dense": lambda: dense(20, 33, 17, 5),
        "LSTM": recurrent,
        "GRU": partial(recurrent, "GRU"),
        "one after the other": lambda: nn.Sequential(*STACKED[case](), LastStep(), nn.Linear(21, 5)),
        "convolutions": lambda: nn.Sequential(
            *(nn.Conv2d(2, 9, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(9, 20, 2), nn.Tanh(), nn.Flatten(), nn.Linear(40, 5))
        ),
        "norms": lambda: nn.Sequential(nn.Linear(20, 33, bias=False), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 5)),
    }
    rows = {"convolutions": partial(pictures, 53), "dense": partial(wide, 53), "norms": partial(wide, 53)}.get(
        case, sequences
    )
    engine = engine_for(layers[case](), "classes", optimizer, lanes=3, update=CLIPS[clip])
    of_losses, of_weights = beside_exact(engine, rows(), optimizer)
    assert max(of_losses, of_weights) < 1e-5


def test_a_norm_of_gradients_that_is_no_number_changes_nothing() -> None:
    torch.manual_seed(0)
    model = dense(20, 8, 5)
    engine, examples = engine_for(model, optimizer="SGD", update=Update(clip_grad_norm=1.0)), wide(BATCH * 5)
    train(engine, examples, epochs=1)
    examples.inputs["x"][:, 0] = 3e38
    with torch.no_grad():
        model[0].weight[:, 0] = 0.0  # the loss is finite
        model[2].weight *= 1000.0
    before = copied(model, engine.loss_function, engine.optimizer)
    feed = Feed(examples, orders(BATCH)[0], BATCH)
    steps = engine.train_steps(feed, 1)
    assert steps.failure is not None
    assert isinstance(steps.failure.error, DivergedError)
    assert str(steps.failure.error) == "the norm of the gradients is inf"
    assert differing(before, copied(model, engine.loss_function, engine.optimizer)) == 0


@pytest.mark.parametrize("dropout", [1e-6, 0.999, 0.9999])
def test_what_dropout_keeps_grows_as_in_torch(dropout: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 400), nn.Tanh(), nn.Dropout(dropout), nn.Linear(400, 5))
    written = copy.deepcopy(model)
    engine, examples = engine_for(model, optimizer="SGD"), wide(BATCH * 9)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["SGD"](written))
    for each in (engine, eager):
        for group in each.optimizer.param_groups:
            group["lr"] = 1e-6
    torch.manual_seed(1)
    found = train(engine, examples)
    torch.manual_seed(1)
    assert found == pytest.approx(train(eager, examples), rel=1e-5)
    assert engine.why_not is None
