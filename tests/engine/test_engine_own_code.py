"""Which own code is taken for one that a recording tells whole."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netwright.engine.own_code import own_code, why_not_told

SEEN: list[int] = []
COUNT = 0
SCALE = 2.0


def doubled(x: Tensor) -> Tensor:
    return x * SCALE


def remembered(x: Tensor) -> Tensor:
    SEEN.append(len(x))
    return x


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.more = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.scale = 0.5
        self.seen: list[int] = []
        self.count = 0

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)

    def helper(self, x: Tensor, times: int = 2) -> Tensor:
        return x * times * self.scale


class Plain(Base):
    def forward(self, x: Tensor) -> Tensor:
        """Return what plain code gives."""
        parts = [F.relu(each(x)) for each in self.more]
        y = torch.cat(parts, dim=1).view(x.size(0), -1, 4).mean(dim=1)
        for _ in range(2):
            y = self.helper(y) + doubled(y)
        if self.training and y.shape[0] > 1:
            y = F.dropout(y, 0.1)
        y[:, 0] = 0
        return super().forward(y)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.times = 3
        ctx.save_for_backward(x)
        return x * ctx.times

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient * ctx.times + 0 * x


class OwnGradient(Base):
    def forward(self, x: Tensor) -> Any:
        return Straight.apply(self.layer(x))


class Counter(Base):
    def forward(self, x: Tensor) -> Any:
        self.count += 1
        return self.layer(x) * (1 if self.count < 100 else 2)


class Global(Base):
    def forward(self, x: Tensor) -> Any:
        global COUNT
        COUNT += 1
        return self.layer(x)


class Chance(Base):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x) if random.random() < 0.5 else x


class NumPyChance(Base):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * float(np.random.rand())


class Printing(Base):
    def forward(self, x: Tensor) -> Any:
        print(x.shape)
        return self.layer(x)


class Listing(Base):
    def forward(self, x: Tensor) -> Any:
        self.seen.append(len(x))
        return self.layer(x)


class Outside(Base):
    def forward(self, x: Tensor) -> Any:
        return remembered(self.layer(x))


class Unseen(Base):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * (1 + int(x.detach().numpy().sum() > 0))


class Trying(Base):
    def forward(self, x: Tensor) -> Any:
        try:
            return self.layer(x)
        except RuntimeError:
            return x


class Nesting(Base):
    def forward(self, x: Tensor) -> Any:
        def twice(value: Tensor) -> Tensor:
            return value * 2

        return twice(self.layer(x))


class Child(Counter):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def encode(self, x: Tensor) -> Any:
        return self.layer(x) if random.random() < 0.9 else x


class UsingEncoders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Encoder()])

    def forward(self, x: Tensor) -> Any:
        for part in self.parts:
            x = part.encode(x)
        return x


class Generating(Base):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * sum(random.random() for _ in range(1))


class Defaulting(Base):
    def forward(self, x: Tensor, seen: list[int] = []) -> Any:  # noqa: B006
        return self.layer(x) * len(seen)


class OfClass(Base):
    factor = 2.0

    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * self.factor


class Property(Base):
    @property
    def chance(self) -> float:
        return random.random()

    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * self.chance


class OwnConvolution(nn.Conv1d):
    def _conv_forward(self, *arguments: Any) -> Any:
        return super()._conv_forward(*arguments)


class OwnTensor(Base):
    def __init__(self) -> None:
        super().__init__()
        self.other = torch.zeros(1)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x) + self.other


class Copying(Base):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * torch.tensor([(x > 2.9).any()])


def test_layers_of_torch_and_of_ours_are_not_own_code() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert not own_code(model, nn.MSELoss())
    assert why_not_told(model, nn.MSELoss()) is None
    assert own_code(Plain(), nn.MSELoss())
    assert own_code(model, F.mse_loss)


@pytest.mark.parametrize("kind", [Plain, OwnGradient, Base])
def test_code_that_only_computes_is_taken(kind: type[nn.Module]) -> None:
    assert why_not_told(kind(), nn.MSELoss()) is None


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Counter, "Counter.forward changes self.count"),
        (Global, "Global.forward has global in it"),
        (Chance, "Chance.forward uses random, a module from outside"),
        (NumPyChance, "NumPyChance.forward uses np, a module from outside"),
        (Printing, "Printing.forward calls print"),
        (Listing, "Listing.forward reads self.seen, a list, which may change"),
        (Outside, "remembered uses SEEN, a list from outside"),
        (Unseen, "Unseen.forward uses .numpy"),
        (Nesting, "Nesting.forward has a function in it"),
        (Trying, "Trying.forward has try in it"),
        (Child, "Counter.forward changes self.count"),
        (UsingEncoders, "Encoder.encode uses random, a module from outside"),
        (Generating, "Generating.forward uses random, a module from outside"),
        (Defaulting, "an argument of Defaulting.forward has a default that may change"),
        (OfClass, "OfClass.forward reads self.factor, a float of its class, which may change"),
        (Property, "Property.forward reads self.chance, a property of its class, which may change"),
        (lambda: OwnConvolution(1, 1, 1), "OwnConvolution overrides _conv_forward of torch"),
        (OwnTensor, "OwnTensor.forward reads self.other, a Tensor, which may change"),
        (Copying, "Copying.forward calls .tensor"),
    ],
)
def test_code_that_may_do_more_is_not(kind: type[nn.Module], why: str) -> None:
    assert why_not_told(kind(), nn.MSELoss()) == why


def test_losses_are_read_too() -> None:
    def plain(output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).mean()

    def counting(output: Tensor, target: Tensor) -> Tensor:
        SEEN.append(1)
        return (output - target).abs().mean()

    model = nn.Linear(4, 1)
    assert why_not_told(model, plain) is None
    assert why_not_told(model, F.mse_loss) is None
    assert "SEEN, a list from outside" in str(why_not_told(model, counting))
    assert "no function of its own" in str(why_not_told(model, lambda output, target: (output - target).mean()))


def test_a_forward_that_was_replaced_is_seen() -> None:
    model = nn.Linear(4, 4)
    model.forward = lambda input: input  # type: ignore[method-assign]
    assert why_not_told(model, nn.MSELoss()) == "the forward of Linear was replaced"
