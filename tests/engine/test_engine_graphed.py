"""Steps in CUDA graphs, on the CPU: the engine is the one that runs on a GPU, with a stand-in for the capture of the work.

One stand-in does the work again. The other writes down the kernels that the work runs and repeats nothing but those, as a graph
does, so that a number that Python holds would be seen to stay. What needs a GPU is in tests/gpu.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from standins import Again
from torch import Tensor, nn

import netwright as nw
from netwright.data.batches import Batch, Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine, Steps
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import CHECKED, GraphedEngine
from netwright.engine.trial import why_not_graphed
from netwright.engine.unsteady import Snapshot
from netwright.engine.update import PLAIN, Update
from netwright.errors import ConfigError, DivergedError
from netwright.pipeline import bench as bench_module
from netwright.pipeline.bench import _engine as choose_of
from netwright.pipeline.bench import gather, prepare
from netwright.recording.branches import Branches
from netwright.recording.graphs import Graphs, Work
from netwright.recording.operations import REFUSED_TAGS, Recorder
from netwright.recording.planning import make_tape
from netwright.recording.rates import numbers, put
from netwright.recording.state import copied, counted_on_cpu, differing, put_back
from netwright.recording.tape import TapePlayer
from netwright.training.optimizer import resolve_optimizer

ROWS, BATCH = 44, 10  # the last batch is smaller


class Kernels(Again):
    """Writes down the kernels of the work, and repeats them."""

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        self.captured += 1
        before = copied(*self.parts)
        with patch.dict(REFUSED_TAGS, clear=True), Recorder() as recorder:  # rows are gathered by their numbers
            work()
        put_back(before, *self.parts)
        player = TapePlayer(make_tape(recorder.recording()), (), ())

        def replay() -> None:
            self.replayed += 1
            assert player.run(None, 1, 1e9).stopped is None

        return replay


LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
    "Linear": ((12,), lambda: [nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 3)]),
    "Dropout": ((12,), lambda: [nn.Linear(12, 40), nn.Dropout(0.4), nn.ReLU(), nn.Linear(40, 3)]),
    "Conv2d": (
        (1, 9, 9),
        lambda: [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)],
    ),
}
MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.01, fused=True),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1, fused=True),
    "none first": lambda weights: torch.optim.AdamW([{"params": []}, {"params": weights}], lr=0.01, fused=True),
    "plain SGD": lambda weights: torch.optim.SGD(weights, lr=0.1),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def rows(shape: tuple[int, ...], bad: int | None = None) -> Examples:
    """Return rows and classes; one row may hold what is no number."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(ROWS, *shape, generator=draw)
    if bad is not None:
        values[bad] = torch.nan
    return Examples({"x": values}, torch.randint(0, 3, (ROWS,), generator=draw))


def engine(
    name: str = "Linear", optimizer: str = "Adam", update: Update = PLAIN, average: bool = False
) -> tuple[EagerEngine, Examples]:
    """Return the engine of a network as it is written, and rows for it."""
    shape, make = LAYERS[name]
    torch.manual_seed(3)
    model = nn.Sequential(*make())
    mean = Averaged(model, decay=0.9) if average else None
    return EagerEngine(model, nn.CrossEntropyLoss(), MAKERS[optimizer](model.parameters()), update, averaged=mean), rows(
        shape
    )


def graphed(written: EagerEngine, graphs: Again, **how: Any) -> GraphedEngine:
    """Return an engine that captures, on a stand-in."""
    graphs.parts = (written.networks, written.loss_function, written.optimizer)
    return GraphedEngine(written, graphs, **how)


def train(
    taking: Engine, examples: Examples, epochs: int = 6, rates: Callable[[int], list[float]] | None = None, first: int = 1
) -> list[Steps]:
    """Train some epochs; ``rates`` gives the row of learning rates of a step."""
    taking.model.train()
    found, done = [], 0
    for epoch in range(first, first + epochs):
        feed = Feed(examples, epoch_order(np.arange(ROWS), 7, epoch), BATCH)
        left = 5
        while left:
            table = None
            if rates is not None:
                table = torch.tensor([rates(done + later) for later in range(left)], dtype=torch.float64)
                put(taking.optimizer.param_groups, table[0].tolist())
            found.append(taking.train_steps(feed, left, table))
            left -= len(found[-1].losses)
            done += len(found[-1].losses)
            if found[-1].failure is not None:
                return found
    return found


def same(one: EagerEngine, other: EagerEngine, some: list[Steps], others: list[Steps], generator: Tensor) -> None:
    """Check that two trainings, the second of which ends now, gave the same bits."""
    now = [*copied(one.networks, one.loss_function, one.optimizer)[:-1], generator]
    assert not differing(now, copied(other.networks, other.loss_function, other.optimizer))
    assert torch.equal(torch.cat([steps.losses for steps in some]), torch.cat([steps.losses for steps in others]))
    weights = [torch.cat([steps.weights.double() for steps in found]) for found in (some, others)]
    assert torch.equal(*weights)


def refused(graphs: Again) -> tuple[GraphedEngine, list[str]]:
    """Train where graphs are no use, check that the bits are those of the step as written, and return what was told."""
    plain, examples = engine()
    expected = train(plain, examples)
    generator = torch.default_generator.get_state()
    written, _ = engine()
    told: list[str] = []
    taking = graphed(written, graphs, tell=told.append)
    same(plain, written, expected, train(taking, examples), generator)
    return taking, told


@pytest.mark.parametrize("graphs", [Again, Kernels])
@pytest.mark.parametrize("optimizer", list(MAKERS))
@pytest.mark.parametrize("name", list(LAYERS))
def test_the_bits_are_those_of_the_step_as_written(name: str, optimizer: str, graphs: type[Again]) -> None:
    plain, examples = engine(name, optimizer)
    expected = train(plain, examples)
    generator = torch.default_generator.get_state()
    written, _ = engine(name, optimizer)
    stand_in = graphs()
    taking = graphed(written, stand_in)
    found = train(taking, examples)
    assert taking.why_not is None
    assert stand_in.captured == 2  # of a full batch and of the last
    assert stand_in.replayed > 20
    assert max(len(steps.losses) for steps in found) == 4  # at once
    same(plain, written, expected, found, generator)
    assert taking.played() == "in CUDA graphs"


@pytest.mark.parametrize(
    "update",
    [Update(clip_grad_norm=0.5), Update(clip_grad_value=0.01, l1=1e-3), Update(sharpness=0.05)],
    ids=["norm", "value", "uphill"],
)
def test_all_that_a_step_does_is_in_the_graph(update: Update) -> None:
    plain, examples = engine("Conv2d", "AdamW", update, average=True)
    expected = train(plain, examples)
    generator = torch.default_generator.get_state()
    written, _ = engine("Conv2d", "AdamW", update, average=True)
    taking = graphed(written, Kernels())
    found = train(taking, examples)
    assert taking.why_not is None
    same(plain, written, expected, found, generator)
    assert written.averaged is not None
    assert int(written.averaged.average.n_averaged) == 30


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "none first"])
def test_learning_rates_of_a_schedule_are_read_at_the_counter(optimizer: str) -> None:
    def turning(step: int) -> list[float]:
        return [0.5 ** (4 + step % 5), 0.9] * (2 if optimizer == "none first" else 1)  # which float32 holds

    plain, examples = engine("Linear", optimizer)
    expected = train(plain, examples, rates=turning)
    generator = torch.default_generator.get_state()
    written, _ = engine("Linear", optimizer)
    stand_in = Kernels()
    taking = graphed(written, stand_in)
    found = train(taking, examples, rates=turning)
    assert taking.why_not is None
    assert stand_in.captured == 2
    same(plain, written, expected, found, generator)
    assert numbers(written.optimizer.param_groups) == numbers(plain.optimizer.param_groups)
    assert repr(written.optimizer.state_dict()["param_groups"]) == repr(plain.optimizer.state_dict()["param_groups"])


@pytest.mark.parametrize(("rate", "captured"), [(0.003, 4), (2.0**-8, 2)])
def test_a_learning_rate_that_float32_does_not_hold_is_captured_anew(rate: float, captured: int) -> None:
    plain, examples = engine()
    written, _ = engine()
    stand_in = Kernels()
    taking = graphed(written, stand_in)
    losses = []
    for one in (plain, taking):
        torch.manual_seed(5)
        one.optimizer.param_groups[0]["lr"] = 2.0**-7
        losses.append(train(one, examples, 3))
        one.optimizer.param_groups[0]["lr"] = rate
        losses[-1] += train(one, examples, 3, first=4)
    assert stand_in.captured == captured
    same(plain, written, losses[0], losses[1], torch.default_generator.get_state())


@pytest.mark.parametrize("bad", [3, 17, 43])
def test_a_number_that_is_not_finite_ends_where_the_step_as_written_does(bad: int) -> None:
    plain, good = engine("Dropout", "Adam")
    spoiled = rows((12,), bad)
    train(plain, good, 4)
    expected = train(plain, spoiled, 1, first=5)
    generator = torch.default_generator.get_state()
    written, _ = engine("Dropout", "Adam")
    taking = graphed(written, Kernels())
    train(taking, good, 4)
    good.inputs["x"].copy_(spoiled.inputs["x"])
    found = train(taking, good, 1, first=5)
    assert taking.why_not is None
    same(plain, written, expected, found, generator)
    ends = [steps[-1].failure for steps in (expected, found)]
    assert all(end is not None and isinstance(end.error, DivergedError) for end in ends)
    assert str(ends[0].error) == str(ends[1].error) == "the loss is nan"  # type: ignore[union-attr]
    assert torch.equal(ends[0].batch.rows, ends[1].batch.rows)  # type: ignore[union-attr]


@pytest.mark.parametrize("full", range(1, 14))
def test_where_a_copy_of_the_state_has_no_room_steps_run_as_they_are_written(full: int) -> None:
    plain, examples = engine("Dropout")
    expected = train(plain, examples)
    generator = torch.default_generator.get_state()
    written, _ = engine("Dropout")
    told: list[str] = []
    taking = graphed(written, Again(), tell=told.append)
    made = 0

    def copies(*arguments: Any) -> Snapshot:
        nonlocal made
        made += 1
        if made >= full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        return Snapshot(*arguments)

    with patch("netwright.engine.unsteady.Snapshot", copies):
        same(plain, written, expected, train(taking, examples), generator)
    assert made >= full
    assert "out of memory" in told[0]
    assert taking.why_not is not None


def test_a_norm_that_is_not_finite_is_told_too() -> None:
    plain, examples = engine("Linear", "SGD", Update(clip_grad_norm=1.0))
    written, _ = engine("Linear", "SGD", Update(clip_grad_norm=1.0))
    taking = graphed(written, Again())
    for one in (plain, taking):
        train(one, examples, 4)
    scaled = Examples({"x": examples.inputs["x"].clone()}, examples.target)
    ends = []
    for one in (plain, taking):
        scaled.inputs["x"].copy_(examples.inputs["x"])
        train(one, scaled, 4, first=5)
        scaled.inputs["x"][7] = 2e38  # a loss that is a number, and gradients whose norm is not
        ends.append(train(one, scaled, 1, first=9)[-1].failure)
    assert str(ends[0].error) == str(ends[1].error)  # type: ignore[union-attr]
    assert not differing(
        copied(plain.model, plain.loss_function, plain.optimizer)[:-1],
        copied(written.model, written.loss_function, written.optimizer)[:-1],
    )


def test_training_goes_on_from_a_copy_in_the_middle_of_an_epoch() -> None:
    whole, examples = engine("Dropout", "Adam")
    taking = graphed(whole, Kernels())
    train(taking, examples, 4)
    feed = Feed(examples, epoch_order(np.arange(ROWS), 7, 5), BATCH)
    taken = len(taking.train_steps(feed, 2).losses)
    saved = copy.deepcopy((whole.model.state_dict(), whole.optimizer.state_dict()))
    generator = torch.default_generator.get_state()
    while taken < 5:
        taken += len(taking.train_steps(feed, 5 - taken).losses)
    end = copied(whole.model, whole.loss_function, whole.optimizer)
    again, _ = engine("Dropout", "Adam")
    again.model.load_state_dict(saved[0])
    again.optimizer.load_state_dict(saved[1])
    torch.default_generator.set_state(generator)
    other = graphed(again, Kernels())
    again.model.train()
    feed = Feed(examples, epoch_order(np.arange(ROWS), 7, 5), BATCH, start=2)
    for left in (3, 2, 1):
        assert len(other.train_steps(feed, left).losses) == 1
    assert not differing(end, copied(again.model, again.loss_function, again.optimizer))


def test_batches_that_are_worked_out_elsewhere_are_copied_into_the_graph() -> None:
    def changed(examples: Examples) -> Iterator[Batch]:
        for first in range(0, 40, BATCH):
            yield examples.batch(torch.arange(first, first + BATCH))

    plain, examples = engine("Dropout", "Adam")
    written, _ = engine("Dropout", "Adam")
    stand_in = Kernels()
    taking = graphed(written, stand_in)
    found: list[list[Steps]] = []
    states = []
    for one in (plain, taking):
        torch.manual_seed(2)
        one.model.train()
        found.append([])
        for _ in range(4):
            feed = Feed(examples, np.arange(40), BATCH, changed=changed(examples))
            found[-1] += [one.train_steps(feed, 4) for _ in range(4)]
        states.append(torch.default_generator.get_state())
    assert taking.why_not is None
    assert stand_in.captured == 1
    assert stand_in.replayed > 10
    same(plain, written, found[0], found[1], states[0])


def test_what_gives_other_bits_than_the_step_as_written_is_refused() -> None:
    class Wrong(Again):
        def capture(self, work: Work, branches: Branches | None = None) -> Work:
            first = super().capture(work, branches)

            def replay() -> None:
                first()
                self.parts[0][0].bias.data.add_(1e-4)

            return replay

    _, told = refused(Wrong())
    assert told == ["steps run as they are written (eager engine): its replay gives other bits, in 1 of 18 tensors"]
    written, examples = engine()
    with pytest.raises(ConfigError, match="cannot be captured as a CUDA graph: its replay gives other bits"):
        train(graphed(written, Wrong(), by_name=True), examples)


class Noise(torch.autograd.Function):
    """A kernel whose gradient has other last digits each time."""

    draw = torch.Generator().manual_seed(0)

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * (1 + 1e-6 * torch.rand(gradients[0].shape, generator=Noise.draw))


def test_a_network_whose_own_bits_differ_is_replayed_within_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    written, examples = engine("Linear", "SGD")
    forward = nn.ReLU.forward
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: Noise.apply(forward(self, x)))
    monkeypatch.setattr("netwright.engine.graphed.why_not_told", lambda model, loss: None)
    taking = graphed(written, Again())
    train(taking, examples)
    assert taking.why_not is None
    assert taking.played() == "in CUDA graphs: kernels of this network give other last bits each time"


def test_what_cannot_be_captured_is_told_in_a_line() -> None:
    class Failing(Again):
        def capture(self, work: Work, branches: Branches | None = None) -> Work:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    taking, told = refused(Failing())
    assert len(told) == 1
    assert told[0].endswith("CUDA error: operation not permitted when stream is capturing")
    assert taking.played().startswith("as written: CUDA error")


@pytest.mark.parametrize(
    ("optimizer", "rates", "reason"),
    [
        ("Adam", lambda step: [0.01, 0.9 - 0.01 * step], "changes the momentum at every step"),
        ("plain SGD", lambda step: [0.1 / (1 + step), 0.0], "SGD has no fused kernel that reads it"),
    ],
)
def test_rates_that_no_graph_reads_are_told(optimizer: str, rates: Any, reason: str) -> None:
    written, examples = engine("Linear", optimizer)
    with pytest.raises(ConfigError, match=reason):
        train(graphed(written, Again(), by_name=True), examples, rates=rates)
    told: list[str] = []
    train(graphed(written, Again(), tell=told.append), examples, 2, rates=rates)
    assert len(told) == 1
    assert reason in told[0]


def test_a_generator_that_a_graph_would_hold_is_noticed() -> None:
    class Elsewhere(Again):
        def aside(self) -> Any:
            return torch.default_generator.get_state().numpy().tobytes()

    written, examples = engine("Dropout")
    told: list[str] = []
    train(graphed(written, Elsewhere(), tell=told.append), examples, 2)
    assert told == [
        "steps run as they are written (eager engine): it draws from a generator of the CPU, whose numbers a CUDA graph would hold"
    ]


def test_hooks_and_own_code_that_is_not_told_whole_run_as_written() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.numpy().sum() > 0 else -x

    written, examples = engine()
    written.model[0].register_forward_hook(lambda *given: None)  # type: ignore[index, operator]
    told: list[str] = []
    train(graphed(written, Again(), tell=told.append), examples, 2)
    assert told == ["steps run as they are written (eager engine): Linear has a hook"]
    own = nn.Sequential(nn.Linear(12, 3), Reads())
    reading = EagerEngine(own, nn.CrossEntropyLoss(), MAKERS["Adam"](own.parameters()))
    told.clear()
    taking = graphed(reading, Again(), tell=told.append)
    feed = Feed(examples, np.arange(ROWS), BATCH)
    assert taking.train_steps(feed, 1).failure is not None  # numpy of what needs a gradient
    assert not told


class Asks(nn.Module):
    """Reads a number in the middle of the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows, smaller where they are large."""
        return x / 2 if x.abs().max().item() > 100 else x


def test_why_a_network_is_not_captured_is_told_before_it_trains() -> None:
    def why(
        model: nn.Module, make: Any = MAKERS["Adam"], lengths: Tensor | None = None, update: Update = PLAIN
    ) -> str | None:
        batch = Batch({"x": torch.ones(4, 12)}, torch.tensor([0, 1, 2, 0]), torch.arange(4), lengths)
        return why_not_graphed(model, nn.CrossEntropyLoss(), lambda trial: make(trial.parameters()), batch, update)

    plain = nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.1))
    before = torch.default_generator.get_state()
    assert why(plain) is None
    assert (
        why(plain, torch.optim.NAdam) == "NAdam reads the number of the step on the CPU; write NAdam(..., capturable=True)"
    )
    assert why(plain, lambda weights: torch.optim.NAdam(weights, capturable=True)) is None
    assert counted_on_cpu(torch.optim.SparseAdam([torch.zeros(2, 2, requires_grad=True)])) is None  # its trial step tells
    assert torch.equal(torch.default_generator.get_state(), before)
    assert why(plain, torch.optim.LBFGS) == "LBFGS evaluates the loss several times a step"
    assert why(plain, lengths=torch.ones(4, dtype=torch.long)) == "rows differ in length and are padded batch by batch"
    assert why(nn.GRU(12, 3, num_layers=2, dropout=0.1)) == (
        "a CUDA graph does not repeat the dropout between the layers of GRU, which cuDNN draws; Dropout() after a layer is captured"
    )
    assert why(plain, update=Update(micro_batch=2)) == "a batch in parts is several pieces of work"
    assert why(nn.Sequential(nn.Linear(12, 3), Asks())) == (
        "a number is read in the middle of the step (aten._local_scalar_dense.default)"
    )


def test_what_a_device_has_at_all_decides_which_engine_runs() -> None:
    config, name = gather("sklearn:iris", [], {"epochs": 1})
    bench = prepare(config, name)
    make = lambda model: torch.optim.SGD(model.parameters(), lr=0.1)  # noqa: E731
    batch = bench.examples.batch(torch.arange(4))

    def engine_on(device: str, engine: str) -> tuple[str, str]:
        training = bench.config.training.model_copy(update={"engine": engine})
        asked = bench.config.model_copy(update={"training": training})
        return choose_of(asked, bench.network, torch.device(device), make, batch, None)

    assert engine_on("cpu", "auto") == ("captured", "replayed with the same bits")
    assert engine_on("cuda", "auto") == ("captured", "replayed with the same bits")
    assert engine_on("cuda", "captured") == ("captured", "asked for")
    assert engine_on("mps", "auto") == ("eager", "steps are recorded on the CPU, or captured on a GPU of CUDA")
    with pytest.raises(ConfigError, match="captured came; it cannot run here: steps are recorded on the CPU"):
        engine_on("mps", "captured")


@pytest.mark.parametrize(
    ("optimizer", "schedule", "turns"),
    [
        ("AdamW(lr=0.01, fused=True)", "OneCycleLR(max_lr=0.01)", True),
        ("AdamW(lr=0.01, fused=True)", "OneCycleLR(max_lr=0.01, cycle_momentum=False)", False),
        ("SGD(lr=0.1, momentum=0.9, fused=True)", "CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=5)", True),
        ("AdamW(lr=0.01, fused=True)", "WarmupCosine()", False),
        ("AdamW(lr=0.01, fused=True)", "StepLR(step_size=1)", False),
        ("AdamW(lr=0.01, fused=True)", None, False),
    ],
)
def test_a_schedule_that_turns_momentum_is_told_on_a_gpu_before_anything_is_written(
    optimizer: str, schedule: str | None, turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords = {"epochs": 2, "optimizer": optimizer, **({} if schedule is None else {"schedule": schedule})}
    cpu = prepare(*gather("sklearn:iris", [], keywords))
    assert cpu.config.training.engine == "captured"

    def on_a_gpu(engine: str) -> Any:
        """Prepare for a device that nothing is laid on before training."""
        config, name = gather("sklearn:iris", [], {**keywords, "engine": engine})
        return prepare(config, name)

    monkeypatch.setattr(bench_module, "device_of", lambda config, world: torch.device("cuda"))
    monkeypatch.setattr(bench_module, "forked", lambda device: nullcontext())
    found = on_a_gpu("auto")
    reason = "the schedule changes the momentum at every step, which a CUDA graph holds"
    if turns:
        assert (found.config.training.engine, found.why_engine) == ("eager", reason)
        with pytest.raises(ConfigError, match=f"captured came; it cannot run here: {reason}; expected another engine"):
            on_a_gpu("captured")
    else:
        assert (found.config.training.engine, on_a_gpu("captured").config.training.engine) == ("captured", "captured")
    assert found.config.training.schedule == cpu.config.training.schedule
    assert found.rates == cpu.rates


@pytest.mark.parametrize(
    ("optimizer", "advice"),
    [
        ("NAdam()", "; write NAdam(..., capturable=True)"),
        ("AdamW(foreach=True)", "; write AdamW(..., capturable=True)"),
        ("Adagrad()", ""),
        ("NAdam(capturable=True)", None),
        ("SGD(lr=0.1, momentum=0.9, foreach=True)", None),
        ("Adam()", None),
    ],
)
def test_an_optimizer_that_counts_on_the_cpu_is_told_on_a_gpu_before_anything_is_written(
    optimizer: str, advice: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_module, "device_of", lambda config, world: torch.device("cuda"))
    monkeypatch.setattr(bench_module, "forked", lambda device: nullcontext())
    found = prepare(*gather("sklearn:iris", [], {"epochs": 1, "optimizer": optimizer}))
    if advice is None:
        assert found.config.training.engine == "captured"
        return
    reason = f"{optimizer.partition('(')[0]} reads the number of the step on the CPU{advice}"
    assert (found.config.training.engine, found.why_engine) == ("eager", reason)
    with pytest.raises(
        ConfigError, match=re.escape(f"captured came; it cannot run here: {reason}; expected another engine")
    ):
        nw.train("sklearn:iris", epochs=1, optimizer=optimizer, engine="captured", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_capturable_is_of_a_gpu_alone() -> None:
    text = "RMSprop(lr=0.01, capturable=True)"
    assert str(resolve_optimizer(text, torch.device("cpu"))) == "RMSprop(lr=0.01, capturable=False)"
    assert str(resolve_optimizer(text, torch.device("cuda"))) == text


def test_graphs_is_what_both_stand_ins_are() -> None:
    taking: list[Graphs] = [Again(), Kernels()]
    assert len(taking) == 2
    assert CHECKED == 2
