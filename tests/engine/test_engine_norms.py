"""Norms of the compiled engine on the CPU: beside float64, what is kept of batches, and what runs as it is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_cases import OPTIMIZERS, share
from dense_cpu_cases import BATCH, beside_exact, engine_for, rows_of, train, wait_for_library
from torch import nn

import netwright as nw
from netwright.data.batches import Examples
from netwright.engine.dense_cpu import dense_cpu_engine
from netwright.engine.dense_fit import known_whole, may_be_dense
from netwright.engine.eager import EagerEngine
from netwright.engine.likeness import CHECKED


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Wait for the library."""
    wait_for_library()


# Biases before a norm have no gradient but rounding, of which Adam makes whole steps: they are left out here, see below.
NETWORKS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "dense": (
        lambda: [
            *(nn.Linear(20, 33, bias=False), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 40), nn.Tanh()),
            *(nn.Linear(40, 17, bias=False), nn.BatchNorm1d(17, momentum=0.3, eps=0.01), nn.SiLU(), nn.Linear(17, 5)),
        ],
        (20,),
    ),
    "no activation": (lambda: [nn.Linear(20, 9, bias=False), nn.BatchNorm1d(9), nn.Linear(9, 5)], (20,)),
    "plain": (lambda: [nn.Linear(20, 9, bias=False), nn.BatchNorm1d(9, affine=False), nn.ReLU(), nn.Linear(9, 5)], (20,)),
    "pictures": (
        lambda: [
            *(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 33, 3, padding=1, bias=False), nn.BatchNorm2d(33), nn.GELU(), nn.MaxPool2d((1, 2))),
            *(nn.Flatten(), nn.Linear(33 * 6 * 3, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 5)),
        ],
        (1, 14, 15),
    ),
    "series": (
        lambda: [
            *(nn.Conv1d(3, 7, 5), nn.Tanh(), nn.Conv1d(7, 16, 4, padding=3, bias=False), nn.BatchNorm1d(16), nn.ReLU()),
            *(nn.Conv1d(16, 20, 3, bias=False), nn.BatchNorm1d(20, affine=False), nn.LeakyReLU(0.1), nn.AvgPool1d(3)),
            *(nn.Conv1d(20, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 11, 5)),
        ],
        (3, 37),
    ),
    "rows": (
        lambda: [
            *(nn.Linear(20, 33), nn.LayerNorm(33), nn.ReLU(), nn.Linear(33, 17, bias=False)),
            *(
                nn.LayerNorm(17, eps=0.01, elementwise_affine=False),
                nn.Tanh(),
                nn.Linear(17, 40),
                nn.LayerNorm(40, bias=False),
            ),
            *(nn.GELU(), nn.Linear(40, 5)),
        ],
        (20,),
    ),
    "rows of pictures": (
        lambda: [
            *(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
            *(nn.Linear(6 * 6 * 6, 19), nn.LayerNorm(19), nn.SiLU(), nn.Linear(19, 5)),
        ],
        (1, 14, 15),
    ),
    "mean of all": (
        lambda: [
            *(nn.Conv1d(1, 24, 7, padding=3, bias=False), nn.BatchNorm1d(24), nn.ReLU()),
            *(nn.Conv1d(24, 40, 3, bias=False), nn.BatchNorm1d(40), nn.ReLU(), nn.AdaptiveAvgPool1d(1)),
            *(nn.Flatten(), nn.Linear(40, 5)),
        ],
        (1, 30),
    ),
}


def network(name: str) -> tuple[nn.Sequential, Examples]:
    """Return a network and rows for it."""
    torch.manual_seed(0)
    layers, shape = NETWORKS[name]
    return nn.Sequential(*layers()), rows_of(*shape)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_norms_give_the_numbers_of_float64(name: str, optimizer: str) -> None:
    model, examples = network(name)
    of_losses, of_weights = beside_exact(engine_for(model, "classes", optimizer), examples, optimizer)
    assert max(of_losses, of_weights) < 1e-4


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "rows"])
def test_what_is_kept_of_batches_is_that_of_float64(name: str) -> None:
    model, examples = network(name)
    written = copy.deepcopy(model).double()
    engine = engine_for(model, optimizer="SGD", lanes=3)
    eager = EagerEngine(written, nn.CrossEntropyLoss(), OPTIMIZERS["SGD"](written))
    train(engine, examples)
    train(eager, Examples({"x": examples.inputs["x"].double()}, examples.target))
    assert engine.why_not is None
    kept = dict(written.named_buffers())
    assert len(kept) > 0
    assert len(kept) == 3 * sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model)
    for place, value in model.named_buffers():
        if place.endswith("tracked"):
            assert value.item() == kept[place].item() == 9
        else:
            assert share(value, kept[place]) < 1e-5


def test_a_mean_far_from_0_takes_no_digits() -> None:
    model, examples = network("dense")
    examples.inputs["x"] += 1000.0
    of_losses, of_weights = beside_exact(engine_for(model, optimizer="SGD"), examples, "SGD")
    assert max(of_losses, of_weights) < 1e-2


@pytest.mark.parametrize("rows", [2, 3, 5, 21, 53])
def test_batches_of_any_size_give_the_numbers_of_float64(rows: int) -> None:
    for name in ("dense", "pictures"):
        model, _ = network(name)
        examples = rows_of(*NETWORKS[name][1], rows=rows)
        of_losses, of_weights = beside_exact(engine_for(model, "classes", "SGD", lanes=3), examples, "SGD")
        assert max(of_losses, of_weights) < 1e-4


@pytest.mark.parametrize(("optimizer", "decay"), [("Adam", 0.0), ("SGD", 0.1)])
def test_a_bias_before_a_norm_has_no_gradient(optimizer: str, decay: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv1d(3, 7, 3), nn.BatchNorm1d(7), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(56, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5)),
    )
    engine, examples = engine_for(model, "classes", optimizer), rows_of(3, 10)
    train(engine, examples, epochs=1)  # what an optimizer keeps is made by the step as it is written
    for place in (0, 4):
        model[place].bias.data.fill_(1.0)
        state = engine.optimizer.state[model[place].bias]
        if state:
            state["exp_avg"].zero_()
    train(engine, examples, epochs=1)
    assert engine.why_not is None
    for place in (0, 4):
        expected = (1 - 0.1 * decay) ** 3
        assert torch.allclose(model[place].bias, torch.full_like(model[place].bias, expected), rtol=1e-6, atol=0)


def test_a_loss_that_is_no_number_leaves_what_is_kept_of_batches() -> None:
    model, examples = network("pictures")
    engine = engine_for(model, optimizer="SGD")
    train(engine, examples, epochs=1)
    before = [value.clone() for value in model.buffers()]
    examples.inputs["x"][:] = torch.nan
    with pytest.raises(AssertionError, match="Failure"):
        train(engine, examples, epochs=1)
    assert all(torch.equal(one, other) for one, other in zip(before, model.buffers(), strict=True))


CHAINS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...], set[str]]] = {
    "norm before a norm": (
        lambda: [
            *(nn.Linear(20, 33), nn.BatchNorm1d(33), nn.Linear(33, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)),
            nn.Linear(32, 5),
        ],
        (20,),
        {"0.bias", "1.bias", "2.bias"},
    ),
    "layer before a norm": (
        lambda: [nn.Linear(20, 33), nn.Linear(33, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 5)],
        (20,),
        {"0.bias", "1.bias"},
    ),
    "norm of rows before a norm": (
        lambda: [
            *(nn.Linear(20, 33), nn.LayerNorm(33), nn.Linear(33, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)),
            nn.Linear(32, 5),
        ],
        (20,),
        {"1.bias", "2.bias"},
    ),
    "convolution before a norm": (
        lambda: [
            *(nn.Conv2d(1, 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2)),
            *(nn.Flatten(), nn.Linear(8 * 9, 5)),
        ],
        (1, 8, 8),
        {"0.bias", "2.bias"},
    ),
    "zeros between": (
        lambda: [
            *(nn.Conv1d(1, 6, 3), nn.AvgPool1d(2), nn.Conv1d(6, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(8 * 4, 7), nn.Tanh(), nn.Dropout(0.2), nn.Linear(7, 6), nn.BatchNorm1d(6)),
            *(nn.ReLU(), nn.Linear(6, 5)),
        ],
        (1, 10),
        {"2.bias", "9.bias"},
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_what_a_norm_centres_is_nothing_but_noise_and_no_reason_to_give_up(chain: str) -> None:
    torch.manual_seed(0)
    layers, shape, noise = CHAINS[chain]
    model = nn.Sequential(*layers())
    engine = engine_for(model)
    known = known_whole(engine.eager)
    assert known is not None
    places = {id(value): name for name, value in model.named_parameters()}
    assert {places[id(value)] for value in known.noise} == noise
    train(engine, rows_of(*shape, rows=BATCH * 6))
    assert engine.why_not is None
    assert engine._compared == CHECKED


def test_a_norm_that_is_told_to_keep_nothing_keeps_nothing() -> None:
    model, examples = network("dense")
    engine = engine_for(model, optimizer="SGD")
    train(engine, examples, epochs=1)
    taken, before = engine._taken_here, [value.clone() for value in model.buffers()]
    model[1].track_running_stats = False
    train(engine, examples, epochs=1)
    assert engine.why_not is None
    assert engine._taken_here == taken + 3
    same = [torch.equal(one, other) for one, other in zip(before, model.buffers(), strict=True)]
    assert same == [True, True, True, False, False, False]


def test_a_single_row_is_left_to_the_step_as_written() -> None:
    model, _ = network("dense")
    engine = engine_for(model, optimizer="SGD")
    train(engine, rows_of(20, rows=BATCH), epochs=2)
    assert engine._taken_here == 2
    with pytest.raises(AssertionError, match="more than 1 value per channel"):
        train(engine, rows_of(20, rows=BATCH + 1), epochs=1)


def test_a_single_row_is_normalised_by_itself() -> None:
    model, _ = network("rows")
    engine = engine_for(model, optimizer="SGD")
    of_losses, of_weights = beside_exact(engine, rows_of(20, rows=BATCH + 1), "SGD")
    assert max(of_losses, of_weights) < 1e-5
    assert engine._taken_here == 6


def test_a_norm_that_begins_to_rest_is_left_to_the_step_as_written() -> None:
    model, examples = network("pictures")
    engine = engine_for(model, optimizer="SGD")
    train(engine, examples, epochs=1)
    taken, before = engine._taken_here, [value.clone() for value in model[1].buffers()]
    model[1].eval()
    train(engine, examples, epochs=1)
    assert engine._taken_here == taken
    assert all(torch.equal(one, other) for one, other in zip(before, model[1].buffers(), strict=True))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2)],
        [nn.BatchNorm1d(4), nn.Linear(4, 2)],
        [nn.Linear(4, 2), nn.BatchNorm1d(2)],
        [nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.BatchNorm1d(3, eps=0.0), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.ReLU(), nn.LayerNorm(3), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.LayerNorm(3, eps=0.0), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.LayerNorm(3).double(), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.RMSNorm(3), nn.Linear(3, 2)],
        [nn.Conv1d(1, 3, 4), nn.LayerNorm(1), nn.Flatten(), nn.Linear(3, 2)],
        [nn.Linear(4, 3), nn.BatchNorm1d(3).double(), nn.Linear(3, 2)],
    ],
)
def test_other_norms_run_as_they_are_written(layers: list[nn.Module]) -> None:
    model = nn.Sequential(*layers)
    eager = EagerEngine(model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model))
    assert dense_cpu_engine(eager, lambda: eager, 1) is None


def test_on_a_gpu_they_go_to_torch() -> None:
    model, _ = network("dense")
    assert may_be_dense(model, nn.CrossEntropyLoss(), 10, torch.device("cpu"))
    assert not may_be_dense(model, nn.CrossEntropyLoss(), 10, torch.device("cuda"))
    known = known_whole(EagerEngine(model, nn.CrossEntropyLoss(), OPTIMIZERS["Adam"](model)))
    assert known is not None
    assert not known.dense_alone


def test_whole_runs_take_it_and_are_resumed_exactly(tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "config": "sklearn:digits", "engine": "compiled", "baselines": "none", "importance": False, "worst": 0,
        "early_stopping": "none", "batch_size": 128, "optimizer": "AdamW(lr=0.01)",
        "layers": [
            *("Conv2d(8, 3, padding=1)", "BatchNorm2d()", "ReLU()", "MaxPool2d(2)", "Dropout2d(0.1)"),
            *("Conv2d(16, 3)", "BatchNorm2d()", "ReLU()", "AdaptiveAvgPool2d(1)", "Flatten()", "Linear()"),
        ],
    }  # fmt: skip
    whole = nw.train(run_dir=tmp_path / "whole", epochs=8, **how)
    short = nw.train(run_dir=tmp_path / "short", epochs=3, **how)
    again = nw.resume(short.folder, settings=["training.epochs=8"])
    assert "by kernels of dense layers" in whole.record["played"]
    assert whole.record["played"] == again.record["played"]
    assert whole.tested is not None
    assert whole.tested["metrics"]["accuracy"]["value"] > 0.85
    pairs = zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
