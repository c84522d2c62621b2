"""The one training step, the trial step, and the choice of device and threads."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from netwright.data.batches import Batch
from netwright.engine.choose import choose_device, choose_threads
from netwright.engine.eager import train_step
from netwright.engine.trial import try_step
from netwright.errors import ConfigError, DivergedError


def batch(rows: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 3, generator=generator)
    return Batch({"x": inputs}, inputs[:, :1] * 2, torch.arange(rows))


def test_a_step_is_forward_loss_zero_grad_backward_step() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 1), nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    one, other = torch.optim.Adam(ours.parameters(), lr=0.1), torch.optim.Adam(theirs.parameters(), lr=0.1)
    for _ in range(3):
        loss = train_step(ours, nn.MSELoss(), one, batch())
        predicted = theirs(batch().inputs["x"])
        other.zero_grad()
        by_hand = nn.MSELoss()(predicted, batch().target)
        by_hand.backward()
        other.step()
        assert torch.equal(loss, by_hand.detach())
        assert not loss.requires_grad
    assert torch.equal(ours.weight, theirs.weight)


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    model = nn.Linear(3, 1)
    before = model.weight.detach().clone()
    with pytest.raises(DivergedError, match="the loss is inf"):
        train_step(
            model, lambda output, target: output.square().sum() * float("inf"), torch.optim.SGD(model.parameters()), batch()
        )
    assert torch.equal(model.weight, before)


def test_a_trial_touches_neither_model_nor_generator() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    try_step(model, nn.MSELoss(), lambda model: torch.optim.Adam(model.parameters()), batch())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_gives_no_number_is_told() -> None:
    came = {
        "1.0 came for output (6, 1)": lambda *_: 1.0,
        "a tensor of shape (6, 1) came": lambda output, target: output - target,
    }
    for what, loss in came.items():
        with pytest.raises(ConfigError, match=f"training.loss: {re.escape(what)}.* expected one number as a tensor; .*mean"):
            try_step(nn.Linear(3, 1), loss, lambda model: torch.optim.Adam(model.parameters()), batch())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"fails on output \(6, 1\) and target \(6, 1\) float32"):
        try_step(
            nn.Linear(3, 1),
            nn.CrossEntropyLoss(weight=torch.ones(5)),
            lambda model: torch.optim.Adam(model.parameters()),
            batch(),
        )


def test_small_steps_get_one_thread() -> None:
    assert choose_threads(multiply_adds=1000, batch_size=64) == 1
    assert choose_threads(multiply_adds=10_000_000, batch_size=64) >= 1


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=name.partition(":")[0]):
        choose_device(name)
    assert choose_device("cpu") == choose_device("auto" if not torch.cuda.is_available() else "cpu") == torch.device("cpu")
