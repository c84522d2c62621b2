"""The engine of dense layers: what it takes, how it compares, and what it does where a step is not as it is written.

Its kernels run on a GPU (tests/gpu/test_gpu_dense.py); here the same step in operations of torch stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_cases import BATCH, LOSSES, NETWORKS, OPTIMIZERS, ROWS, ByTorch, Pair, dense
from standins import Again
from torch import nn

import netwright as nw
from netwright.data.batches import Batch, Examples, epoch_order
from netwright.data.feed import Feed
from netwright.engine import choose
from netwright.engine import dense as dense_module
from netwright.engine.averaged import Averaged
from netwright.engine.dense import DenseEngine, dense_engine
from netwright.engine.dense_fit import MOST_PRODUCTS, head_of, kind_of, known_whole
from netwright.engine.dense_layers import MOST_LAYERS, MOST_OUTPUTS, layers_of
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.engine.likeness import CHECKED
from netwright.engine.update import Update
from netwright.errors import DivergedError
from netwright.pipeline import bench as bench_module
from netwright.recording.state import copied, differing

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let operations of torch stand in for the kernels."""
    monkeypatch.setattr(dense_module, "Launched", ByTorch)


def pair(network: str = "three layers", loss: str = "classes", optimizer: str = "Adam") -> Pair:
    """Return a step with the stand-in beside float64."""
    return Pair(network, loss, optimizer, CPU, Again(), fused=True)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_networks_and_optimizers_are_understood(network: str, optimizer: str) -> None:
    both = pair(network, "classes", optimizer)
    assert max(both.take(5, by_number=True)) < 1e-5
    assert both.engine.why_not is None
    assert both.engine._compared == CHECKED
    assert both.apart < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_understood(loss: str) -> None:
    both = pair("three layers", loss)
    assert max(both.take(5, by_number=False)) < 1e-5
    assert both.engine._compared == CHECKED
    assert both.apart < 1e-5


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2)),
    "batch norm behind it": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2)),
    "activation at the end": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU()),
    "dropout at the end": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1)),
    "another activation": lambda: nn.Sequential(nn.Linear(4, 3), nn.ELU(), nn.Linear(3, 2)),
    "GELU by tanh": lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU("tanh"), nn.Linear(3, 2)),
    "everything dropped": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0), nn.Linear(3, 2)),
    "half flattened": lambda: nn.Sequential(nn.Flatten(1, 2), nn.Linear(4, 3)),
    "too many outputs": lambda: nn.Linear(4, MOST_OUTPUTS + 1),
    "too many layers": lambda: dense(*[4] * (MOST_LAYERS + 2)),
    "own module": lambda: type("Own", (nn.Linear,), {})(4, 3),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_networks_are_not_taken(name: str) -> None:
    assert layers_of(UNKNOWN[name]()) is None


def test_dropout_is_read_by_its_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(0.25), nn.Linear(3, 2))
    assert [layer.dropout for layer in layers_of(model) or []] == [0.25, 0.0]
    assert [layer.dropout for layer in layers_of(model.eval()) or []] == [0.0, 0.0]


def test_other_losses_and_optimizers_are_not_taken() -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1)
    for loss in (
        weighted,
        nn.CrossEntropyLoss(reduction="sum"),
        nn.L1Loss(),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
    ):
        assert head_of(loss) is None
    assert head_of(lambda output, target: output.mean()) is None
    weights = [torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)]
    assert kind_of(torch.optim.Adam(weights, amsgrad=True)) is None
    assert kind_of(torch.optim.SGD(weights, maximize=True)) is None
    assert kind_of(torch.optim.SGD(weights, momentum=0.9, dampening=0.1)) is None
    assert kind_of(torch.optim.AdamW(weights, eps=0.0)) is None
    groups = [{"params": weights[:1], "betas": (0.5, 0.9)}, {"params": weights[1:]}]
    assert kind_of(torch.optim.Adam(groups)) is None


def engine(model: nn.Module, **given: Any) -> EagerEngine:
    """Return the step as it is written."""
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=0.01)
    return EagerEngine(model, nn.CrossEntropyLoss(), optimizer, **given)


def test_a_step_that_does_more_is_not_taken() -> None:
    assert known_whole(engine(dense(4, 3, 2))) is not None
    for update in (Update(l1=0.1), Update(autocast=torch.bfloat16), Update(micro_batch=2), Update(sharpness=0.1)):
        assert known_whole(engine(dense(4, 3, 2), update=update)) is None
    for update in (Update(clip_grad_norm=1.0), Update(clip_grad_value=0.1)):
        known = known_whole(engine(dense(4, 3, 2), update=update))
        assert known is not None
        assert not known.dense_alone
    assert known_whole(engine(dense(4, 3, 2).double())) is None
    frozen = dense(4, 3, 2)
    frozen[0].requires_grad_(False)
    assert known_whole(engine(frozen)) is None
    twice = nn.Linear(4, 4)
    assert known_whole(engine(nn.Sequential(twice, nn.ReLU(), twice))) is None
    hooked = dense(4, 3, 2)
    hooked[0].register_forward_hook(lambda *given: None)
    assert known_whole(engine(hooked)) is None
    apart = dense(4, 3, 2)
    left_out = EagerEngine(apart, nn.CrossEntropyLoss(), torch.optim.Adam(apart[0].parameters()))
    assert known_whole(left_out) is None


def test_a_norm_that_comes_later_is_left_to_the_step_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "Launched", ByTorch)
    made = Pair("nothing between", "classes", "SGD", CPU, Again())
    made.take(3, by_number=True)
    before, norm = made.engine._taken_here, nn.BatchNorm1d(33, affine=False)
    made.eager.model[1] = norm  # type: ignore[operator]
    for each in (made.engine, made.eager):
        each.model[1] = norm  # type: ignore[operator]
    made.engine.train_rows(made.examples, torch.arange(BATCH))
    assert made.engine._taken_here == before
    assert norm.num_batches_tracked == 1


def test_it_is_for_a_gpu_alone() -> None:
    eager = engine(dense(4, 3, 2))
    assert dense_engine(eager, lambda: eager, Again()) is None


def test_rows_that_the_kernels_do_not_read_go_the_other_way() -> None:
    both = pair("one layer")
    known = known_whole(both.eager)
    assert known is not None
    x, target = torch.zeros(6, 20), torch.zeros(6, dtype=torch.long)
    assert known.reads(x, target, 6)
    assert not known.reads(x, target, MOST_PRODUCTS // 105 + 1)
    assert not known.reads(x.double(), target, 6)
    assert not known.reads(torch.zeros(20, 6).t(), target, 6)
    assert not known.reads(torch.zeros(6, 4, 5), target, 6)  # a Linear takes the last axis, and nothing flattens
    assert not known.reads(x, torch.zeros(6, 5), 6)
    assert not known.reads(x, torch.zeros(6, 2, dtype=torch.long), 6)
    flat = known_whole(pair("flattened").eager)
    assert flat is not None
    assert flat.reads(torch.zeros(6, 4, 5), target, 6)
    squares = known_whole(pair("three layers", "squares").eager)
    assert squares is not None
    assert squares.reads(torch.zeros(6, 20), torch.zeros(6, 5), 6)
    assert not squares.reads(torch.zeros(6, 20), torch.zeros(6), 6)


def test_a_step_unlike_the_one_as_written_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoiled(ByTorch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.spoiled = 1.2

    monkeypatch.setattr(dense_module, "Launched", Spoiled)
    both = pair()
    assert max(both.take(5, by_number=True)) < 1e-5  # they are those as written
    assert both.apart < 1e-5
    assert both.engine.played().startswith("as written; the kernels of dense layers failed: one of them was")
    assert both.engine._compared == 1


@pytest.mark.parametrize("rate", [1e-7, 1e-9, 0.0])
def test_a_change_that_is_lost_in_rounding_is_no_difference(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rounded(ByTorch):
        def update(self) -> torch.Tensor:
            loss = super().update()
            for value in self.weights[::2]:
                value.detach().mul_(1 + 2.0**-24 * torch.randn(value.shape).sign())
            return loss

    monkeypatch.setattr(dense_module, "Launched", Rounded)
    both = pair(optimizer="SGD")
    both.eager.optimizer.param_groups[0].update(lr=rate, weight_decay=0.0)
    both.take(4, by_number=False)
    assert both.engine.why_not is None
    assert both.engine._compared == CHECKED


def test_kernels_that_cannot_be_compiled_are_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ByTorch):
        def update(self) -> torch.Tensor:
            raise RuntimeError("PassManager::run failed\nand more")

    monkeypatch.setattr(dense_module, "Launched", Broken)
    both = pair()
    assert max(both.take(5, by_number=True)) < 1e-5
    assert both.apart < 1e-5
    assert both.engine.played() == "as written; the kernels of dense layers failed: PassManager::run failed"


def test_an_average_of_weights_is_taken() -> None:
    torch.manual_seed(3)
    model = dense(20, 8, 5)
    eager = engine(model, averaged=Averaged(model, decay=0.9))
    kernels = DenseEngine(eager, lambda: eager, Again())
    batch = Batch({"x": torch.randn(9, 20)}, torch.randint(0, 5, (9,)), torch.arange(9))
    for _ in range(4):
        kernels.train_step(batch)
    assert kernels.why_not is None
    assert eager.averaged is not None
    assert int(eager.averaged.average.n_averaged) == 4


def test_an_average_begins_with_the_weights_after_the_first_step() -> None:
    def means(kernels: bool) -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = dense(20, 8, 5)
        eager = EagerEngine(
            model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), averaged=Averaged(model, 0.9)
        )
        taking = DenseEngine(eager, lambda: eager, Again()) if kernels else eager
        for step in range(4):
            draw = torch.Generator().manual_seed(step)
            x, target = torch.randn(9, 20, generator=draw), torch.randint(0, 5, (9,), generator=draw)
            taking.train_step(Batch({"x": x}, target, torch.arange(9)))
        if isinstance(taking, DenseEngine):
            assert (taking.why_not, taking._compared) == (None, CHECKED)
        assert eager.averaged is not None
        return [value.detach() for value in eager.averaged.shown.parameters()]

    for one, other in zip(means(True), means(False), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


class Rounding(ByTorch):
    """Adds up the rows in the other order."""

    def __init__(
        self, layers: Any, head: Any, rule: Any, x: torch.Tensor, target: torch.Tensor, rows: Any, precision: str
    ) -> None:
        rows = torch.arange(len(x)) if rows is None else rows
        super().__init__(layers, head, rule, x, target, rows.roll(len(rows) // 3), precision)


@pytest.mark.parametrize("optimizer", ["SGD", "momentum", "Adam"])
def test_at_an_optimum_rounding_is_no_difference(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "Launched", Rounding)
    torch.manual_seed(2)
    x = torch.randn(60, 4)
    batch = Batch({"x": x}, x @ torch.randn(4, 1) + torch.randn(60, 1), torch.arange(60))
    model = nn.Sequential(nn.Linear(4, 1))
    made = OPTIMIZERS[optimizer](model)
    made.param_groups[0]["weight_decay"] = 0.0
    eager = EagerEngine(model, nn.MSELoss(), made)
    for _ in range(1500):
        eager.train_step(batch)
    kernels = DenseEngine(eager, lambda: eager, Again())
    for _ in range(4):
        kernels.train_step(batch)
    assert (kernels.why_not, kernels._compared) == (None, CHECKED)


def test_numbers_that_are_none_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoils(ByTorch):
        def update(self) -> torch.Tensor:
            loss = super().update()
            self.weights[0].detach()[0, 0] = torch.nan
            return loss

    monkeypatch.setattr(dense_module, "Launched", Spoils)
    both = pair()
    both.take(4, by_number=False)
    assert both.engine.why_not is not None
    assert both.apart < 1e-5


def test_steps_of_another_kind_are_told_as_what_they_are() -> None:
    both = pair()
    assert both.engine.played() == "as written"
    both.engine._otherwise = elsewhere = Elsewhere(both.eager)  # type: ignore[assignment]
    both.engine.train_step(
        Batch({"x": torch.zeros(2, 20, dtype=torch.float64)}, torch.zeros(2, dtype=torch.long), torch.arange(2))
    )
    assert (both.engine.played(), elsewhere.taken) == ("elsewhere", 1)
    both.take(2, by_number=False)
    for number, held in enumerate(both.eager.optimizer.state.values()):
        held["step"] = held["step"] + number
    both.engine.train_step(both.examples.batch(torch.arange(BATCH)))
    assert (both.engine.played(), elsewhere.taken) == ("by kernels of dense layers", 2)


class Elsewhere:
    """Counts the steps that others take."""

    def __init__(self, eager: EagerEngine) -> None:
        self.eager, self.taken = eager, 0

    def train_step(self, batch: Batch) -> torch.Tensor:
        self.taken += 1
        return batch.input.sum()

    def played(self) -> str:
        return "elsewhere"


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    both = pair()
    both.take(4, by_number=False)
    parts = (both.eager.networks, both.eager.loss_function, both.eager.optimizer)
    before = copied(*parts)
    bad = Batch({"x": torch.full((3, 20), torch.nan)}, torch.zeros(3, dtype=torch.long), torch.arange(3))
    with pytest.raises(DivergedError, match="the loss is nan"):
        both.engine.train_step(bad)
    assert differing(before, copied(*parts)) == 0


def test_a_rate_that_changes_is_read() -> None:
    both = pair()
    both.take(3, by_number=False)
    for optimizer in (both.eager.optimizer, both.exact_optimizer):
        optimizer.param_groups[0]["lr"] = 0.02
    both.take(3, by_number=False)
    assert both.apart < 1e-5
    assert len([key for key in both.engine._constants if key[0] == "rate 0"]) == 1


@pytest.mark.parametrize("rate", [0.01, 0.5**7])  # one that a graph holds, and one of float32 that it reads
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_captured_steps_are_those_taken_one_by_one(dropout: float, rate: float) -> None:
    def weights(captured: bool) -> tuple[list[torch.Tensor], str]:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 5))
        draw = torch.Generator().manual_seed(1)
        examples = Examples({"x": torch.randn(ROWS, 20, generator=draw)}, torch.randint(0, 5, (ROWS,), generator=draw))
        eager = engine(model)
        for group in eager.optimizer.param_groups:
            group["fused"], group["lr"] = True, rate
        taking: Any = DenseEngine(eager, lambda: eager, Again())
        if captured:
            taking = GraphedEngine(eager, Again(), compiled=taking)
        for epoch in range(30):
            feed, left = Feed(examples, epoch_order(np.arange(ROWS), 7, epoch), 10), 6
            while left:
                left -= len(taking.train_steps(feed, left).losses)
        return copied(eager.networks, eager.loss_function, eager.optimizer), taking.played()

    one, played = weights(captured=False)
    assert played == "by kernels of dense layers"
    other, played = weights(captured=True)
    assert played == "by kernels of dense layers, in CUDA graphs"
    assert differing(one, other) == 0


@pytest.mark.parametrize(
    "optimizer", ["Adam(lr=0.01)", "AdamW(lr=0.01)", "SGD(lr=0.1, momentum=0.9, nesterov=True)", "SGD(lr=0.1)"]
)
def test_whole_runs_take_it(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(eager: EagerEngine) -> DenseEngine:
        assert known_whole(eager) is not None
        return DenseEngine(eager, lambda: eager, Again())

    monkeypatch.setattr(choose, "CompiledEngine", made)
    monkeypatch.setattr(bench_module, "why_not_compiled", lambda device: None)
    how: dict[str, Any] = {
        "config": "sklearn:wine", "layers": ["Linear(16)", "Tanh()", "Dropout(0.1)", "Linear()"], "optimizer": optimizer,
        "engine": "compiled", "baselines": "none", "importance": False, "worst": 0, "early_stopping": "none",
    }  # fmt: skip
    whole = nw.train(run_dir=tmp_path / "whole", epochs=6, **how)
    short = nw.train(run_dir=tmp_path / "short", epochs=3, **how)
    again = nw.resume(short.folder, settings=["training.epochs=6"])
    assert whole.record["played"] == again.record["played"] == "by kernels of dense layers"
    assert whole.tested is not None
    assert whole.tested["metrics"]["accuracy"]["value"] > 0.9
    pairs = zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
