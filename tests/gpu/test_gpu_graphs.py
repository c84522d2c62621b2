"""Steps in CUDA graphs beside steps as written, on a GPU: same weights, buffers, optimizer, losses and generator.

The bits are compared wherever the step as written gives its own bits again; cuDNN is asked for kernels that do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netwright as nw
from netwright.data.batches import Batch, Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine, Execution, Steps
from netwright.engine.eager import EagerEngine
from netwright.engine.forward import Forward
from netwright.engine.graphed import CHECKED, GraphedEngine
from netwright.engine.repeated import Repeated
from netwright.engine.unsteady import apart
from netwright.engine.update import PLAIN, Update
from netwright.errors import ConfigError, DivergedError
from netwright.recording import graphed_calls
from netwright.recording.graphs import CudaGraphs
from netwright.recording.rates import put
from netwright.recording.state import differing, tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CUDA = torch.device("cuda")
ROWS, BATCH, EACH = 330, 32, 11  # rows, of a batch, batches of an epoch; the last is smaller
EPOCHS = 10


class LastStep(nn.Module):
    """The last output of a recurrent layer."""

    def forward(self, given: Any) -> Tensor:
        last: Tensor = given[0][:, -1]
        return last


NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
    "MLP": ((20,), lambda: [nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 3)]),
    "CNN": (
        (1, 12, 12),
        lambda: [
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Dropout(0.2), nn.Linear(200, 3)),
        ],
    ),
    "LSTM": ((9, 4), lambda: [nn.LSTM(4, 16, batch_first=True), LastStep(), nn.Linear(16, 3)]),
}
MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True, fused=True),
    "plain SGD": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.003, fused=True),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.003, weight_decay=0.1, amsgrad=True, fused=True),
    "RMSprop": lambda weights: torch.optim.RMSprop(weights, lr=0.003, capturable=True),
}


@pytest.fixture(autouse=True)
def steady_kernels() -> Iterator[None]:
    """Let cuDNN choose kernels that give the same bits each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def rows(shape: tuple[int, ...], bad: int | None = None) -> Examples:
    """Return rows and classes on the GPU; one row may hold what is no number."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(ROWS, *shape, generator=draw)
    if bad is not None:
        values[bad] = torch.nan
    return Examples({"x": values}, torch.randint(0, 3, (ROWS,), generator=draw)).to(CUDA)


def engine(name: str, optimizer: str, update: Update = PLAIN, average: bool = False) -> EagerEngine:
    """Return the engine of a network as it is written."""
    torch.manual_seed(3)
    model = nn.Sequential(*NETWORKS[name][1]()).to(CUDA)
    mean = Averaged(model, decay=0.9) if average else None
    torch.manual_seed(4)
    return EagerEngine(model, nn.CrossEntropyLoss(), MAKERS[optimizer](model.parameters()), update, averaged=mean)


def train(
    taking: Engine, examples: Examples, epochs: int, first: int = 1, rates: Callable[[int], list[float]] | None = None
) -> list[Steps]:
    """Train some epochs; ``rates`` gives the row of learning rates of a step."""
    taking.model.train()
    found = []
    for epoch in range(first, first + epochs):
        feed, left = Feed(examples, epoch_order(np.arange(ROWS), 7, epoch), BATCH), EACH
        while left:
            table = None
            if rates is not None:
                done = epoch * EACH - left
                table = torch.tensor([rates(done + later) for later in range(left)], dtype=torch.float64)
                put(taking.optimizer.param_groups, table[0].tolist())
            found.append(taking.train_steps(feed, left, table))
            left -= len(found[-1].losses)
            if found[-1].failure is not None:
                return found
    return found


def state(one: EagerEngine) -> list[Tensor]:
    """Return a copy of all that a step changes, the generator of the GPU last."""
    found = [value.detach().clone() for value in tensors(one.networks, one.loss_function, one.optimizer)]
    return [*found, torch.cuda.get_rng_state()]


def same(some: list[Tensor], others: list[Tensor], taking: GraphedEngine) -> None:
    """Check that two states have the same bits, or are as near as kernels that add in any order let them be."""
    assert taking.why_not is None
    assert taking.played().startswith("in CUDA graphs")
    assert torch.equal(some[-1], others[-1]), "the generators are elsewhere"
    if taking.played() == "in CUDA graphs":
        assert differing(some, others) == 0, f"{apart(some, others)} apart"
    else:
        assert apart(some, others) < 0.05


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *(("MLP", optimizer) for optimizer in MAKERS),
        *(("CNN", optimizer) for optimizer in ("SGD", "Adam")),
        ("LSTM", "Adam"),
    ],
)
def test_the_bits_are_those_of_the_step_as_written(name: str, optimizer: str) -> None:
    examples, plain = rows(NETWORKS[name][0]), engine(name, optimizer)
    expected = train(plain, examples, EPOCHS)
    end = state(plain)
    written = engine(name, optimizer)
    taking = GraphedEngine(written, CudaGraphs(CUDA), by_name=True)
    found = train(taking, examples, EPOCHS)
    same(end, state(written), taking)
    assert max(len(steps.losses) for steps in found) == EACH - 1  # all full batches of an epoch at once
    if taking.played() == "in CUDA graphs":
        assert torch.equal(torch.cat([one.losses for one in expected]), torch.cat([one.losses for one in found]))
    weights = [torch.cat([one.weights.double().cpu() for one in both]) for both in (expected, found)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("which", [0, -1], ids=["one stream", "several streams"])
@pytest.mark.parametrize("name", [*NETWORKS, "odd"])
def test_many_steps_together_give_the_bits_of_the_steps_as_written(
    name: str, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    keep_fastest = Repeated.keep_fastest

    def keep(known: Repeated, plays: Any, *more: Any) -> None:
        assert len(plays) == 2
        keep_fastest(known, plays, *more)
        known.replay_many = plays[which]
        kept.append(known)

    monkeypatch.setattr(Repeated, "keep_fastest", keep)
    monkeypatch.setattr("netwright.engine.repeated.WORTHWHILE", 8)
    monkeypatch.setattr("netwright.engine.repeated.BRIEF", 1.0)
    monkeypatch.setattr("netwright.engine.graphed.own_code", lambda model, loss: False)  # of torch's operations alone
    monkeypatch.setitem(
        NETWORKS, "odd", ((20,), lambda: [nn.Linear(20, 1003), nn.ReLU(), nn.Linear(1003, 303), nn.Linear(303, 3)])
    )
    optimizer = "AdamW" if name == "odd" else "Adam"
    examples, plain = rows(NETWORKS[name][0]), engine(name, optimizer)
    expected = train(plain, examples, 40)
    end = state(plain)
    written = engine(name, optimizer)
    taking = GraphedEngine(written, CudaGraphs(CUDA), by_name=True)
    found = train(taking, examples, 40)
    assert kept
    same(end, state(written), taking)
    if taking.played() == "in CUDA graphs":
        assert torch.equal(torch.cat([one.losses for one in expected]), torch.cat([one.losses for one in found]))


def test_no_kernel_of_an_mlp_is_unsteady() -> None:
    taking = GraphedEngine(engine("MLP", "Adam"), CudaGraphs(CUDA), by_name=True)
    train(taking, rows((20,)), 5)
    assert taking.played() == "in CUDA graphs"


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_schedule_clipping_and_average_are_in_the_graph(optimizer: str) -> None:
    def turning(step: int) -> list[float]:
        return [0.01 / (1 + 0.1 * step), 0.9]  # that float32 does not hold: rounded the same way in every engine

    update, examples = Update(clip_grad_norm=0.5, clip_grad_value=0.1, l1=1e-5), rows((20,))
    plain = engine("MLP", optimizer, update, average=True)
    train(plain, examples, EPOCHS, rates=turning)
    end = state(plain)
    written = engine("MLP", optimizer, update, average=True)
    taking = GraphedEngine(written, CudaGraphs(CUDA), by_name=True)
    train(taking, examples, EPOCHS, rates=turning)
    same(end, state(written), taking)
    assert written.averaged is not None
    assert int(written.averaged.average.n_averaged) == EPOCHS * EACH
    assert isinstance(written.optimizer.param_groups[0]["lr"], float)
    assert written.optimizer.param_groups[0].get("capturable", False) is False


@pytest.mark.parametrize("update", [Update(autocast=torch.bfloat16), Update(sharpness=0.05)], ids=["bfloat16", "uphill"])
def test_other_steps_are_captured_too(update: Update) -> None:
    examples, plain = rows((1, 12, 12)), engine("CNN", "Adam", update)
    train(plain, examples, EPOCHS)
    end = state(plain)
    written = engine("CNN", "Adam", update)
    taking = GraphedEngine(written, CudaGraphs(CUDA), by_name=True)
    train(taking, examples, EPOCHS)
    same(end, state(written), taking)


@pytest.mark.parametrize("bad", [3, 200])
def test_a_number_that_is_not_finite_ends_where_the_step_as_written_does(bad: int) -> None:
    good, spoiled = rows((20,)), rows((20,), bad)
    plain = engine("MLP", "Adam")
    train(plain, good, 4)
    expected = train(plain, spoiled, 1, first=5)
    end = state(plain)
    written = engine("MLP", "Adam")
    taking = GraphedEngine(written, CudaGraphs(CUDA), by_name=True)
    train(taking, good, 4)
    good.inputs["x"].copy_(spoiled.inputs["x"])  # where the graphs read
    found = train(taking, good, 1, first=5)
    same(end, state(written), taking)
    ends = [steps[-1].failure for steps in (expected, found)]
    assert all(one is not None and isinstance(one.error, DivergedError) for one in ends)
    assert str(ends[0].error) == str(ends[1].error) == "the loss is nan"  # type: ignore[union-attr]
    assert torch.equal(ends[0].batch.rows, ends[1].batch.rows)  # type: ignore[union-attr]
    assert sum(len(steps.losses) for steps in expected) == sum(len(steps.losses) for steps in found)


def test_training_goes_on_from_a_copy_in_the_middle_of_an_epoch() -> None:
    examples, whole = rows((20,)), engine("MLP", "Adam")
    taking = GraphedEngine(whole, CudaGraphs(CUDA), by_name=True)
    train(taking, examples, 4)
    feed, left = Feed(examples, epoch_order(np.arange(ROWS), 7, 5), BATCH), EACH
    left -= len(taking.train_steps(feed, 4).losses)
    assert left == EACH - 4
    saved = copy.deepcopy((whole.model.state_dict(), whole.optimizer.state_dict(), torch.cuda.get_rng_state()))
    while left:
        left -= len(taking.train_steps(feed, left).losses)
    train(taking, examples, 3, first=6)
    end = state(whole)
    again = engine("MLP", "Adam")
    again.model.load_state_dict(saved[0])
    again.optimizer.load_state_dict(saved[1])
    torch.cuda.set_rng_state(saved[2])
    other = GraphedEngine(again, CudaGraphs(CUDA), by_name=True)
    again.model.train()
    feed, left = Feed(examples, epoch_order(np.arange(ROWS), 7, 5), BATCH, start=4), EACH - 4
    while left:
        left -= len(other.train_steps(feed, left).losses)
    train(other, examples, 3, first=6)
    same(end, state(again), other)


def test_batches_from_elsewhere_are_copied_into_the_graph() -> None:
    def changed() -> Iterator[Batch]:
        for first in range(0, 320, BATCH):
            yield examples.batch(torch.arange(first, first + BATCH))

    examples, ends = rows((20,)), []
    for captured in (False, True):
        written = engine("MLP", "Adam")
        written.model.train()
        taking: Any = GraphedEngine(written, CudaGraphs(CUDA), by_name=True) if captured else written
        for _ in range(3):
            feed = Feed(examples, np.arange(320), BATCH, changed=changed())
            for _ in range(10):
                assert taking.train_steps(feed, 1).failure is None
        ends.append(state(written))
    same(*ends, taking)


class Reads(nn.Module):
    """Reads a number in the middle of the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows, smaller where they are large."""
        return x / 2 if x.abs().max().item() > 100 else x


def test_a_capture_that_fails_leaves_torch_as_it_was() -> None:
    def network() -> EagerEngine:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(20, 16), Reads(), nn.Dropout(0.2), nn.Linear(16, 3)).to(CUDA)
        torch.manual_seed(4)
        return EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), fused=True))

    examples, plain, written = rows((20,)), network(), network()
    torch.manual_seed(5)
    train(plain, examples, 3)
    end = state(plain)
    told: list[str] = []
    taking = GraphedEngine(written, CudaGraphs(CUDA), tell=told.append)
    torch.manual_seed(5)
    stream = torch.cuda.current_stream()
    train(taking, examples, 3)
    assert len(told) == 1
    assert told[0].startswith("steps run as they are written (eager engine): ")
    assert "\n" not in told[0]
    assert differing(end, state(written)) == 0
    assert torch.cuda.current_stream() == stream
    assert torch.rand(4, device=CUDA).sum().item() > 0
    with pytest.raises(ConfigError, match="training.engine: captured came"):
        train(GraphedEngine(network(), CudaGraphs(CUDA), by_name=True), examples, 1)
    test_the_bits_are_those_of_the_step_as_written("MLP", "Adam")


def test_state_on_the_cpu_is_told() -> None:
    torch.manual_seed(3)
    model = nn.Linear(20, 3).to(CUDA)
    written = EagerEngine(model, nn.CrossEntropyLoss(), torch.optim.RMSprop(model.parameters()))
    told: list[str] = []
    train(GraphedEngine(written, CudaGraphs(CUDA), tell=told.append), rows((20,)), 1)
    assert told[0].endswith("lies on the CPU, as the steps that RMSprop counts do; write RMSprop(..., capturable=True)")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return grey images of digits as bytes ``(rows, 1, 8, 8)``, and their classes."""
    from sklearn.datasets import load_digits

    values, classes = load_digits(return_X_y=True)
    return (values * 15).reshape(-1, 1, 8, 8).astype(np.uint8), classes


LAYERS = ["Conv2d(8, kernel_size=3, padding=1)", "BatchNorm2d()", "ReLU()", "Flatten()", "Dropout(0.2)", "Linear()"]
QUICK: dict[str, Any] = {
    "layers": LAYERS, "epochs": 4, "layout": "NCHW", "baselines": "none", "importance": False, "worst": 0,
}  # fmt: skip


def weights(run: Any) -> list[Tensor]:
    """Return the weights of a run."""
    return [value.cpu() for value in run.model.state_dict().values()]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"schedule": "WarmupCosine(warmup=0.1)", "average": "EMA(decay=0.9)"},
        {"augmentation": ["RandomCrop(8, padding=1)"]},
    ],
    ids=lambda how: "-".join(how) or "plain",
)
def test_a_run_in_graphs_is_the_run_as_written(how: dict[str, Any], tmp_path: Path) -> None:
    eager = nw.train(data=digits(), run_dir=tmp_path / "eager", engine="eager", **QUICK, **how)
    captured = nw.train(data=digits(), run_dir=tmp_path / "captured", engine="captured", **QUICK, **how)
    assert captured.record["played"].startswith("in CUDA graphs")
    assert captured.config.training.engine == "captured"
    assert captured.tested["metrics"]["accuracy"]["value"] > 0.8
    if captured.record["played"] == "in CUDA graphs":
        assert differing(weights(eager), weights(captured)) == 0


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    quick = {**QUICK, "layers": ["Flatten()", "Linear(64)", "ReLU()", "Dropout(0.2)", "Linear()"]}
    whole = nw.train(data=digits(), run_dir=tmp_path / "whole", engine="captured", **quick)
    short = nw.train(data=digits(), run_dir=tmp_path / "short", engine="captured", **{**quick, "epochs": 2})
    again = nw.resume(short.folder, data=digits(), settings=["training.epochs=4"])
    assert whole.record["played"] == again.record["played"] == "in CUDA graphs"
    assert differing(weights(whole), weights(again)) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_calls_in_graphs_give_the_outputs_as_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_calls, "GAIN", np.inf)  # whatever they gain beside other programs
    shape, make = NETWORKS[name]
    model, examples = nn.Sequential(*make()).to(CUDA).eval(), rows(shape)
    forward, written = Forward(model, Execution("captured", by_name=True)), Forward(model)
    for size in (128, 74):
        batch = examples.batch(torch.arange(size, device=CUDA))
        with torch.inference_mode():
            found = [forward(batch) for _ in range(CHECKED + 3)]
            assert all(differing([each], [written(batch)]) == 0 for each in found)
    assert [known is not None and known.ready() for known in forward._known.values()] == [True, True]


def test_auto_takes_graphs(tmp_path: Path) -> None:
    run = nw.train(data=digits(), run_dir=tmp_path / "run", **QUICK)
    assert run.config.training.engine == "captured"
    assert run.record["played"].startswith("in CUDA graphs")


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, which advises TF32 too
def test_what_is_compiled_is_captured_too(tmp_path: Path) -> None:
    quick = {**QUICK, "epochs": 8}
    eager = nw.train(data=digits(), run_dir=tmp_path / "eager", engine="eager", **quick)
    compiled = nw.train(data=digits(), run_dir=tmp_path / "compiled", engine="compiled", **quick)
    again = nw.train(data=digits(), run_dir=tmp_path / "again", engine="compiled", **{**quick, "epochs": 4})
    again = nw.resume(again.folder, data=digits(), settings=["training.epochs=8"])
    assert compiled.record["played"].startswith("by torch.compile, in CUDA graphs")
    assert compiled.config.training.engine == "compiled"
    accuracies = [run.tested["metrics"]["accuracy"]["value"] for run in (eager, compiled, again)]
    assert max(accuracies) - min(accuracies) < 0.05
    assert min(accuracies) > 0.8


def test_what_no_graph_holds_is_an_error_by_name_before_anything_is_written(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Reads(), nn.Linear(16, 10))
    with pytest.raises(ConfigError, match="a number is read in the middle of the step"):
        nw.train(data=digits(), layout="NCHW", model=own, engine="captured", run_dir=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()
