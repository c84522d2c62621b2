"""What a step does beside the tutorial's lines, against the same written by hand; float16; every optimizer of torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netwright.checkpoint import store
from netwright.config import signatures
from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.base import Engine
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine, train_step
from netwright.engine.scaling import Scaler
from netwright.engine.update import Update
from netwright.errors import DivergedError
from netwright.model.modules import MeanOverTime
from netwright.recording.state import copied, differing
from netwright.training.loop import Progress
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.state import put_back, remembered

CPU = torch.device("cpu")
ROWS = 24


pytestmark = pytest.mark.usefixtures("one_thread")


def network(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8) if norm else nn.Tanh(), nn.ReLU(), nn.Linear(8, 3))


def batch(rows: int = ROWS) -> Batch:
    X = torch.randn(rows, 5, generator=torch.Generator().manual_seed(3))
    return Batch({"x": X}, torch.arange(rows) % 3, torch.arange(rows))


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    return [each for each in found if each is not None]


def test_sharpness_takes_the_gradient_uphill_and_counts_a_batch_once() -> None:
    model, rho = network(), 0.1
    other, one = copy.deepcopy(model), batch()
    loss = train_step(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), one, Update(sharpness=rho))

    first = nn.functional.cross_entropy(other(one.inputs["x"]), one.target)
    first.backward()
    running = copy.deepcopy(dict(other.named_buffers()))
    norm = torch.cat([gradient.flatten() for gradient in gradients(other)]).norm()
    above = copy.deepcopy(other)
    with torch.no_grad():
        for parameter, gradient in zip(above.parameters(), gradients(other), strict=True):
            parameter += rho * gradient / norm
    above.zero_grad()
    nn.functional.cross_entropy(above(one.inputs["x"]), one.target).backward()
    with torch.no_grad():
        for parameter, gradient in zip(other.parameters(), gradients(above), strict=True):
            parameter -= 0.1 * gradient
    assert loss == first.detach()
    for ours, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, running[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize(
    "update",
    [
        Update(clip_grad_norm=0.05),
        Update(clip_grad_value=0.01),
        Update(l1=0.01),
        Update(sharpness=0.1),
        Update(clip_grad_norm=0.05, l1=0.01, sharpness=0.1),
    ],
)
def test_a_batch_in_parts_is_changed_once_as_a_whole(update: Update) -> None:
    whole, parts = network(norm=False), network(norm=False)
    for model, micro in ((whole, None), (parts, 7)):
        how = Update(micro, None, update.clip_grad_norm, update.clip_grad_value, update.l1, update.sharpness)
        train_step(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), batch(), how)
    for one, other in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    if update.clip_grad_norm is not None:
        assert float(nn.utils.get_total_norm(gradients(parts))) == pytest.approx(update.clip_grad_norm, rel=1e-4)


def test_l1_brings_weights_to_0_and_leaves_biases_norms_and_the_loss_alone() -> None:
    model, plain = network(), network()
    losses = [
        train_step(each, nn.CrossEntropyLoss(), torch.optim.SGD(each.parameters(), lr=0.0), batch(), Update(l1=l1))
        for each, l1 in ((model, 0.5), (plain, None))
    ]
    assert losses[0] == losses[1]
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        added = 0.5 * one.detach().sign() if name in ("0.weight", "3.weight") else torch.zeros(())
        torch.testing.assert_close(one.grad, other.grad + added)


class Raising(nn.Module):
    """Fails at its second call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = nn.Linear(5, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("the second pass fails")
        out: Tensor = self.inner(x)
        return out


def test_weights_come_back_where_the_pass_uphill_fails() -> None:
    model = Raising()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="the second pass fails"):
        train_step(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), batch(), Update(sharpness=0.5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("update", [Update(clip_grad_norm=1.0), Update(sharpness=0.1)])
def test_a_norm_that_is_not_finite_is_a_diverged_step(update: Update) -> None:
    model = nn.Linear(5, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    with pytest.raises(DivergedError, match="the norm of the gradients is (nan|inf)"):
        train_step(
            model,
            lambda output, target: output.abs().sqrt().mean(),
            torch.optim.SGD(model.parameters(), lr=0.1),
            batch(),
            update,
        )
    assert not model.weight.any()


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Scaler, factor: float) -> Tensor:
    update = Update(autocast=torch.float16, clip_grad_norm=1.0)
    return train_step(model, lambda output, target: output.float().mean() * factor, optimizer, batch(), update, scaler)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_in_float16_whose_gradients_overflow_is_skipped_and_counted(fused: bool) -> None:
    model, scaler = network(), Scaler("cpu")
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scaled(model, optimizer, scaler, 1e6)
    assert scaler.skipped == 1
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    scaled(model, optimizer, scaler, 1.0)
    assert scaler.skipped == 1
    assert not torch.equal(before[0], next(model.parameters()))
    state = scaler.state_dict()
    assert (state["skipped"], state["scaler"]["scale"], state["scaler"]["_growth_tracker"]) == (1, 32768.0, 1)
    other = Scaler("cpu")
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_gradients_that_overflow_at_any_scale_are_a_diverged_step() -> None:
    model, scaler = network(), Scaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DivergedError, match="the gradients are not finite even where the loss is scaled by 0.00390625"):
        [scaled(model, optimizer, scaler, 1e12) for _ in range(40)]
    assert scaler.skipped == 25


# How each optimizer of torch is made here, and whether its step can be recorded.
MADE = {
    "SGD": "SGD(lr=0.1, momentum=0.9)",
    "SparseAdam": "SparseAdam(lr=0.05)",
    "ASGD": "ASGD(lr=0.1)",
    "LBFGS": "LBFGS(lr=0.1, line_search_fn='strong_wolfe')",  # without it last bits tell whether it comes down
}
RECORDED = ("Adadelta", "Adagrad", "Adam", "AdamW", "Muon", "RMSprop", "Rprop", "SGD")


def of_optimizer(name: str) -> tuple[nn.Module, Examples]:
    """Return a network that it can train, and rows."""
    torch.manual_seed(4)
    target = torch.arange(ROWS) % 3
    if name == "SparseAdam":
        words = torch.randint(0, 20, (ROWS, 4), generator=torch.Generator().manual_seed(5))
        return nn.Sequential(nn.Embedding(20, 3, sparse=True), MeanOverTime()), Examples({"x": words}, target)
    bias = name != "Muon"
    model = nn.Sequential(nn.Linear(5, 8, bias=bias), nn.ReLU(), nn.Linear(8, 3, bias=bias))
    return model, Examples({"x": batch().inputs["x"]}, target)


def steps(engine: Engine, examples: Examples, count: int) -> list[float]:
    """Take steps on all rows, in an order of their own each time."""
    losses: list[float] = []
    while len(losses) < count:
        order = np.random.default_rng(len(losses)).permutation(ROWS)
        taken = engine.train_steps(Feed(examples, order, ROWS), 1)
        assert taken.failure is None, taken.failure
        losses += taken.losses.tolist()
    return losses


@pytest.mark.parametrize("name", sorted(signatures.optimizers().known))
def test_every_optimizer_learns_goes_on_from_a_checkpoint_and_is_captured_where_it_can(name: str, tmp_path: Path) -> None:
    model, examples = of_optimizer(name)
    call = resolve_optimizer(MADE.get(name, f"{name}()"), CPU)

    def engine_of(network: nn.Module) -> EagerEngine:
        return EagerEngine(network, nn.CrossEntropyLoss(), make_optimizer(call, network))

    engines: list[Any] = [engine_of(copy.deepcopy(model)) for _ in range(3)]
    whole, first, last = engines
    losses = steps(whole, examples, 16)
    assert losses[-1] < losses[0]

    captured = CapturedEngine(first, native=False)
    steps(captured, examples, 8)
    assert (captured.why_not is None) == (name in RECORDED), captured.why_not
    store.write_parts(tmp_path / "kept", remembered(captured, CPU, Progress()))
    put_back(store.read_parts(tmp_path / "kept"), last, CPU)
    order = steps(last, examples, 8)
    assert len(order) == 8
    again = engine_of(copy.deepcopy(model))
    steps(again, examples, 8)
    steps(again, examples, 8)
    parts = [(one.model, one.loss_function, one.optimizer) for one in (again, last)]
    assert differing(copied(*parts[0]), copied(*parts[1])) == 0
