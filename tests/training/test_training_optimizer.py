"""torch.optim by its own spelling, with the fused kernel written down."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from netwright.config import signatures
from netwright.errors import ConfigError
from netwright.training.optimizer import light, make_optimizer, resolve_optimizer

CPU = torch.device("cpu")
ALONE = """
import copy, sys
import torch
from torch import nn
from netwright.training.optimizer import make_optimizer, resolve_optimizer

def network(bias):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=bias), nn.Tanh(), nn.Linear(4, 2, bias=bias))

def train(model, optimizer, steps):
    generator = torch.Generator().manual_seed(3)
    inputs, target = torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)

    def forward_and_backward():
        loss = nn.functional.mse_loss(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        assert torch.is_grad_enabled(), name
        return loss

    for _ in range(steps):
        optimizer.step(forward_and_backward)
        assert torch.is_grad_enabled(), name
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

made = {}
for name in sys.argv[1:]:
    call = resolve_optimizer(f"{name}()", torch.device("cpu"))
    ours, seen = network(bias=name != "Muon"), []  # Muon takes matrices only
    late = make_optimizer(call, ours)
    late.register_step_post_hook(lambda *told, seen=seen: seen.append(told))
    train(ours, late, 3)
    assert "torch._dynamo" not in sys.modules, name
    made[name] = call, ours, late, seen
for name, (call, ours, late, seen) in made.items():
    kind, theirs = getattr(torch.optim, name), network(bias=name != "Muon")
    usual = kind(theirs.parameters(), **call.keywords)
    train(theirs, usual, 3)
    assert "torch._dynamo" in sys.modules, name
    for steps in (0, 2):
        train(ours, late, steps)
        train(theirs, usual, steps)
        assert all(map(torch.equal, ours.parameters(), theirs.parameters())), name
        assert str(late.state_dict()) == str(usual.state_dict()), name
    assert len(seen) == 5 and repr(late) == repr(usual) and isinstance(late, kind), name
    print(name)
"""
COMPILED = """
import torch
from torch import nn
from netwright.training.optimizer import make_optimizer, resolve_optimizer

def breaks(optimizer, model):
    def step():
        optimizer.step()

    model(torch.ones(2, 3)).sum().backward()
    before = model.weight.clone()
    torch.compile(step, backend="eager")()
    assert not torch.equal(before, model.weight)
    found = sum(torch._dynamo.utils.counters["graph_break"].values())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return found

ours, theirs = nn.Linear(3, 1), nn.Linear(3, 1)
late = make_optimizer(resolve_optimizer("RMSprop()", torch.device("cpu")), ours)
assert breaks(late, ours) == breaks(torch.optim.RMSprop(theirs.parameters()), theirs) > 0
"""


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
    made = make_optimizer(call, nn.Linear(2, 2))
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
        make_optimizer(resolve_optimizer(text, CPU), nn.Linear(2, 2))


def test_a_network_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter needs a gradient"):
        make_optimizer(resolve_optimizer("Adam()", CPU), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ConfigError, match="it has no parameter that torch sees; .* go into nn.ModuleList"):
        make_optimizer(resolve_optimizer("Adam()", CPU), nn.ReLU())


def test_every_optimizer_gives_the_bits_of_torch_without_importing_the_compiler() -> None:
    names = [name for name in sorted(signatures.optimizers().known) if name != "SparseAdam"]
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALONE, *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, names), done.stderr


def test_where_torch_wraps_nothing_an_optimizer_stays_as_it_is() -> None:
    class Own(torch.optim.SGD):
        def step(self, closure: object = None) -> None: ...

        def zero_grad(self, set_to_none: bool = True) -> None: ...

    kept = light(Own)
    assert {"step", "zero_grad"} & set(vars(kept)) == set()
    assert (kept.__name__, kept.__qualname__, kept.__module__) == (Own.__name__, Own.__qualname__, Own.__module__)


def test_a_step_that_a_user_compiles_breaks_where_that_of_torch_breaks() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
