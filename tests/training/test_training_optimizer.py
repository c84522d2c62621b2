"""torch.optim by its own spelling, with the fused kernel written down."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netwright.errors import ConfigError
from netwright.training.optimizer import make_optimizer, resolve_optimizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("Adam(1e-3)", "Adam(lr=0.001, fused=True)"),
        ("optim.SGD(0.1, 0.9)", "SGD(lr=0.1, momentum=0.9, fused=True)"),
        ("torch.optim.AdamW()", "AdamW(fused=True)"),
        ("Adagrad()", "Adagrad(fused=True)"),
        ("Adam(fused=False)", "Adam(fused=False)"),
        ("Adam(foreach=True)", "Adam(foreach=True)"),
        ("RMSprop()", "RMSprop()"),
    ],
)
def test_the_fused_kernel_is_written_where_torch_has_one(text: str, resolved: str) -> None:
    call = resolve_optimizer(text, CPU)
    assert str(call) == resolved
    made = make_optimizer(call, nn.Linear(2, 2).parameters())
    assert type(made).__name__ == call.name
    assert bool(made.defaults.get("fused")) == ("fused=True" in resolved)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Adam(lr='abc')", "lr='abc' came; expected a number"),
        ("Adam(lr=-1.0)", "Invalid learning rate: -1.0"),
        ("SGD(nesterov=True)", "Nesterov momentum requires a momentum"),
    ],
)
def test_what_torch_refuses_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_optimizer(resolve_optimizer(text, CPU), nn.Linear(2, 2).parameters())


def test_a_network_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter needs a gradient"):
        make_optimizer(resolve_optimizer("Adam()", CPU), nn.ReLU().parameters())
