"""Convolutions of the compiled engine on the CPU: beside float64, ties in a pooling, and what runs as it is written."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from dense_cases import OPTIMIZERS, share
from dense_cpu_cases import BATCH, beside_exact, engine_for, rows_of, train, wait_for_library
from torch import nn

from netwright.data.batches import Examples
from netwright.engine import dense_fit
from netwright.engine.dense_cpu import dense_cpu_engine
from netwright.engine.dense_layers import convolutions_of
from netwright.engine.eager import EagerEngine


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Wait for the library."""
    wait_for_library()


NETWORKS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "one": (lambda: [nn.Conv2d(1, 7, 3), nn.Flatten(), nn.Linear(7 * 4 * 6, 5)], (1, 6, 8)),
    "no bias": (lambda: [nn.Conv1d(2, 16, 3, padding=2, bias=False), nn.Flatten(), nn.Linear(16 * 12, 5)], (2, 10)),
    "pooled": (
        lambda: [
            *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 2 * 2, 9), nn.ReLU(), nn.Linear(9, 5)),
        ],
        (1, 14, 15),
    ),
    "uneven": (
        lambda: [
            *(nn.Conv2d(3, 5, (3, 2), padding=1), nn.Tanh(), nn.Conv2d(5, 18, 3, padding="same"), nn.GELU()),
            *(nn.MaxPool2d((2, 3)), nn.Conv2d(18, 33, 2, padding="valid"), nn.Flatten(), nn.Linear(33 * 4, 5)),
        ],
        (3, 7, 9),
    ),
    "narrow": (
        lambda: [
            *(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Conv2d(20, 3, 1), nn.Tanh(), nn.Conv2d(3, 40, 1), nn.ReLU()),
            *(nn.Conv2d(40, 10, (1, 2)), nn.Flatten(), nn.Linear(10 * 4 * 3, 5)),
        ],
        (1, 6, 6),
    ),
    "series": (
        lambda: [
            *(nn.Conv1d(3, 16, 5), nn.LeakyReLU(0.1), nn.MaxPool1d(2), nn.Conv1d(16, 20, 4, padding=3), nn.SiLU()),
            *(nn.MaxPool1d(3), nn.Flatten(), nn.Linear(20 * 7, 5)),
        ],
        (3, 40),
    ),
    "means": (
        lambda: [
            *(
                nn.Conv2d(2, 9, 3, padding=1),
                nn.ReLU(),
                nn.AvgPool2d((2, 3)),
                nn.Conv2d(9, 17, 2),
                nn.Tanh(),
                nn.AvgPool2d(2),
            ),
            *(nn.Flatten(), nn.Linear(17, 5)),
        ],
        (2, 7, 11),
    ),
    "mean of all": (
        lambda: [
            nn.Conv1d(3, 8, 5),
            nn.GELU(),
            nn.Conv1d(8, 33, 3),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(33, 5),
        ],
        (3, 21),
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_give_the_numbers_of_float64(name: str, optimizer: str) -> None:
    torch.manual_seed(0)
    layers, shape = NETWORKS[name]
    of_losses, of_weights = beside_exact(
        engine_for(nn.Sequential(*layers()), "classes", optimizer), rows_of(*shape), optimizer
    )
    assert max(of_losses, of_weights) < 1e-5


@pytest.mark.parametrize("rows", [1, 3, 19, 53])
def test_batches_of_any_size_give_the_numbers_of_float64(rows: int) -> None:
    torch.manual_seed(0)
    layers, shape = NETWORKS["pooled"]
    engine = engine_for(nn.Sequential(*layers()), "classes", "SGD", lanes=3)
    of_losses, of_weights = beside_exact(engine, rows_of(*shape, rows=rows), "SGD")
    assert max(of_losses, of_weights) < 1e-5


def test_of_equal_outputs_the_first_gets_the_gradient_as_in_torch() -> None:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 11, 2),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(11, 3, 2, padding=1),
        nn.Flatten(),
        nn.Linear(27, 5),
    )
    model = nn.Sequential(*layers)
    nn.init.zeros_(model[0].weight)  # all outputs of a picture are equal
    written, examples = copy.deepcopy(model), rows_of(1, 5, 5, rows=BATCH)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["SGD"](written))
    engine = engine_for(model, "classes", "SGD")
    train(engine, examples, epochs=1)
    train(eager, examples, epochs=1)
    assert engine.why_not is None
    assert engine._taken_here == 1
    for one, other in zip(model.parameters(), written.parameters(), strict=True):
        assert share(one, other) < 1e-5


def test_sizes_may_be_lists_as_in_torch() -> None:
    one, two = nn.MaxPool2d([2, 3]), nn.MaxPool2d((2,))
    convolution = nn.Conv2d(2, 8, 3)
    convolution.stride = 1
    for pool, kept in ((one, (2, 3)), (two, (2, 2))):
        ((found,), _) = convolutions_of(nn.Sequential(convolution, pool, nn.Flatten(), nn.Linear(8, 5)))
        assert found.pool == kept


def test_a_loss_that_is_almost_0_is_that_of_float64() -> None:
    model = nn.Sequential(nn.Conv1d(1, 5, 1), nn.Flatten(), nn.Linear(5, 5))
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([13.0, 0, 0, 0, 0]))
    examples = Examples({"x": torch.randn(BATCH, 1, 1)}, torch.zeros(BATCH, dtype=torch.long))
    engine = engine_for(model, optimizer="SGD")
    (loss,) = train(engine, examples, epochs=1)
    assert engine._taken_here == 1
    assert loss == pytest.approx(math.log1p(4 * math.exp(-13)), rel=0.05)


def after(*layers: nn.Module) -> nn.Sequential:
    """Return layers before a row of classes."""
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5))


@pytest.mark.parametrize(
    "model",
    [
        after(nn.Conv2d(2, 4, 3, stride=2)),
        after(nn.Conv2d(2, 4, 3, dilation=2)),
        after(nn.Conv2d(2, 4, 3, groups=2)),
        after(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")),
        after(nn.Conv2d(2, 4, 1, padding=1)),
        after(nn.Conv2d(2, 4, 2, padding="same")),
        after(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        after(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=None)),
        after(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4).eval()),
        after(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)),
        after(nn.Conv2d(2, 4, 3), nn.MaxPool2d(3, stride=2)),
        after(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, padding=1)),
        after(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, ceil_mode=True)),
        after(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, dilation=2)),
        after(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, stride=[2, 1])),
        after(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2, stride=1)),
        after(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2, padding=1)),
        after(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2, ceil_mode=True)),
        after(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2, divisor_override=3)),
        after(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(2)),
        after(nn.Conv2d(2, 4, 3), nn.Dropout2d(), nn.ReLU()),
        after(nn.Conv2d(2, 4, 3), nn.Dropout(), nn.Dropout()),
        after(nn.Conv2d(2, 4, 3), nn.AlphaDropout()),
        after(nn.Conv3d(2, 4, 3)),
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_other_convolutions_and_poolings_run_as_they_are_written(model: nn.Sequential) -> None:
    assert convolutions_of(model) == ((), model)
    model(torch.randn(1, 2, *[9] * (3 if isinstance(model[0], nn.Conv3d) else 2)))
    eager = EagerEngine(model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model))
    assert dense_cpu_engine(eager, lambda: eager, 1) is None


def test_batches_that_would_take_much_memory_run_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, shape = NETWORKS["one"]
    held = BATCH * (1 * 6 * 8 + 2 * 7 * 4 * 6) + dense_fit.LANES * 4 * (6 + 3) * (8 + 3) * 32
    for most, taken in ((held, 3), (held - 1, 0)):
        monkeypatch.setattr(dense_fit, "MOST_HELD", most)
        engine = engine_for(nn.Sequential(*layers()), optimizer="SGD")
        train(engine, rows_of(*shape), epochs=1)
        assert engine._taken_here == taken


def test_what_norms_and_means_keep_of_narrow_convolutions_counts_as_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 5)]
    held = BATCH * (48 + 6 + 16 * 24 + 16 * (24 + 6)) + dense_fit.LANES * 4 * (6 + 3) * (8 + 3) * 32
    for most, taken in ((held, 3), (held - 1, 0)):
        monkeypatch.setattr(dense_fit, "MOST_HELD", most)
        engine = engine_for(nn.Sequential(*layers), optimizer="SGD")
        train(engine, rows_of(1, 6, 8), epochs=1)
        assert engine._taken_here == taken


@pytest.mark.parametrize("shape", [(4, 6, 8), (1, 48), (1, 8, 6, 1), (1, 6, 9)])
def test_rows_of_another_shape_are_refused_by_the_step_as_written(shape: tuple[int, ...]) -> None:
    layers, _ = NETWORKS["one"]
    with pytest.raises(AssertionError, match="Failure"):
        train(engine_for(nn.Sequential(*layers())), rows_of(*shape))
