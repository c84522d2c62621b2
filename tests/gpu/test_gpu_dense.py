"""Kernels of dense layers beside the same step in float64.

They run on a GPU, or anywhere in Triton's interpreter where that is installed (``TRITON_INTERPRET=1``, with numpy before 2.4).
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_cases import LOSSES, NETWORKS, OPTIMIZERS, Pair
from sklearn.datasets import load_digits
from standins import Again
from torch import nn

import netwright as nw
from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import Execution
from netwright.engine.choose import choose_engine
from netwright.engine.dense import CHECKED, DenseEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.errors import DivergedError
from netwright.recording.graphs import CudaGraphs
from netwright.recording.state import differing, tensors

CUDA = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if CUDA else "cpu")
NEAR = 3e-6  # float32 beside float64, of weights after some steps
pytestmark = [
    pytest.mark.skipif(not CUDA and not INTERPRETED, reason="needs a GPU, or Triton's interpreter"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore:invalid value::"
    ),  # of torch.jit; of numpy in the interpreter
]
only_gpu = pytest.mark.skipif(not CUDA, reason="needs a GPU")


def graphs() -> Any:
    """Return what knows the generator."""
    return CudaGraphs(DEVICE) if CUDA else Again()


@pytest.mark.parametrize(
    ("network", "loss", "optimizer"),
    [
        *((network, "classes", "Adam") for network in NETWORKS),
        *(("three layers", loss, "Adam") for loss in LOSSES if loss != "classes"),
        *(("one layer", loss, "AdamW") for loss in LOSSES if loss != "classes"),
        *(("three layers", "classes", optimizer) for optimizer in OPTIMIZERS if optimizer != "Adam"),
        *(("one layer", "squares", optimizer) for optimizer in OPTIMIZERS if optimizer != "Adam"),
    ],
)
@pytest.mark.parametrize("by_number", [False, True], ids=["batch", "rows"])
def test_steps_are_those_of_float64(network: str, loss: str, optimizer: str, by_number: bool) -> None:
    pair = Pair(network, loss, optimizer, DEVICE, graphs())
    assert max(pair.take(6, by_number)) < NEAR
    assert pair.engine.why_not is None
    assert pair.engine._compared == CHECKED
    assert pair.apart < NEAR


@pytest.mark.parametrize("network", ["three layers", "tanh", "GELU", "leaky ReLU", "one layer"])
@pytest.mark.parametrize("spoiled", ["rows", "weights"])
def test_what_is_no_number_is_noticed_and_changes_nothing(network: str, spoiled: str) -> None:
    pair = Pair(network, "classes", "Adam", DEVICE, graphs())
    pair.take(4, by_number=False)
    batch = pair.examples.batch(torch.arange(19, device=DEVICE))
    if spoiled == "rows":
        batch.input[3, 2] = torch.nan
    else:
        with torch.no_grad():
            next(pair.eager.model.parameters())[1, 1] = torch.nan
    before = [
        value.detach().clone() for value in tensors(pair.eager.networks, pair.eager.loss_function, pair.eager.optimizer)
    ]
    with pytest.raises(DivergedError, match="the loss is nan"):
        pair.engine.train_step(batch)
    after = list(tensors(pair.eager.networks, pair.eager.loss_function, pair.eager.optimizer))
    assert differing(before, [value.detach() for value in after]) == 0


@only_gpu
@pytest.mark.parametrize("rows", [1, 10, 64, 511])
@pytest.mark.parametrize("sizes", [(784, 128, 64, 10), (40, 1000, 1), (5, 4, 3)])
def test_dropout_is_drawn_as_it_is_written_and_the_gradients_are_those_of_autograd(
    rows: int, sizes: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for width, outputs in zip(sizes, sizes[1:], strict=False):
        parts += [nn.Linear(width, outputs), nn.ReLU(), nn.Dropout(0.3)]
    model = nn.Sequential(*parts[:-2]).to(DEVICE)
    written = EagerEngine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True))
    other = copy.deepcopy(model)
    kernels = EagerEngine(other, nn.MSELoss(), torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, fused=True))
    engine = DenseEngine(kernels, lambda: kernels, graphs())
    for step in range(4):
        batch = Batch(
            {"x": torch.randn(rows, sizes[0], device=DEVICE)},
            torch.randn(rows, sizes[-1], device=DEVICE),
            torch.arange(rows),
        )
        torch.manual_seed(step)
        expected = written.train_step(batch)
        torch.manual_seed(step)
        assert engine.train_step(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert engine.why_not is None
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert (one - two).norm() < 1e-5 * one.norm()


@only_gpu
def test_the_compiled_engine_takes_them_in_cuda_graphs_with_the_same_bits_each_time() -> None:
    def weights() -> tuple[list[torch.Tensor], str]:
        pair = Pair("three layers", "classes", "Adam", DEVICE, graphs())
        engine = choose_engine(
            Execution("compiled", by_name=True), pair.eager.model, pair.eager.loss_function, pair.eager.optimizer
        )
        assert isinstance(engine, GraphedEngine)
        engine.model.train()
        for epoch in range(40):
            order = torch.randperm(53, generator=torch.Generator().manual_seed(epoch)).numpy()
            feed, left = Feed(pair.examples, order, 10), 6
            while left:
                steps = engine.train_steps(feed, left)
                assert steps.failure is None
                left -= len(steps.losses)
        return [value.detach().clone() for value in engine.model.parameters()], engine.played()

    found, played = weights()
    assert played == "by kernels of dense layers, in CUDA graphs"
    assert all(torch.equal(one, other) for one, other in zip(found, weights()[0], strict=True))


QUICK: dict[str, Any] = {
    "layers": ["Linear(64)", "ReLU()", "Dropout(0.2)", "Linear(32)", "GELU()", "Linear()"],
    "optimizer": "AdamW(lr=0.003, weight_decay=0.01)", "baselines": "none", "importance": False, "worst": 0,
}  # fmt: skip


@only_gpu
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path, precision: str) -> None:
    quick = {**QUICK, "data": load_digits(return_X_y=True), "settings": [f"training.precision={precision}"]}
    whole = nw.train(run_dir=tmp_path / "whole", engine="compiled", epochs=6, **quick)
    short = nw.train(run_dir=tmp_path / "short", engine="compiled", epochs=3, **quick)
    again = nw.resume(short.folder, data=quick["data"], settings=["training.epochs=6"])
    assert whole.record["played"] == again.record["played"] == "by kernels of dense layers, in CUDA graphs"
    pairs = zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@only_gpu
def test_a_run_with_a_schedule_is_as_good_as_one_as_written(tmp_path: Path) -> None:
    quick = {**QUICK, "data": load_digits(return_X_y=True), "schedule": "WarmupCosine(warmup=0.1)", "epochs": 8}
    runs = [nw.train(run_dir=tmp_path / engine, engine=engine, **quick) for engine in ("compiled", "eager")]
    assert runs[0].record["played"] == "by kernels of dense layers, in CUDA graphs"
    accuracies = [run.tested["metrics"]["accuracy"]["value"] for run in runs]
    assert min(accuracies) > 0.9
    assert abs(accuracies[0] - accuracies[1]) < 0.03
