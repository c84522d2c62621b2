"""Calls of a network in CUDA graphs, on the CPU: a stand-in repeats the kernels it saw. What needs a GPU is in tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from standins import Again
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.engine.base import Execution
from netwright.engine.forward import NOTHING, Forward
from netwright.recording.branches import Branches
from netwright.recording.graphed_calls import CHECKED
from netwright.recording.graphs import Work
from netwright.recording.operations import Recorder
from netwright.recording.planning import make_tape
from netwright.recording.tape import TapePlayer
from netwright.seeding import drawn_from

CAPTURED = Execution("captured")
pytestmark = pytest.mark.usefixtures("one_thread")


class Kernels(Again):
    """Writes down the kernels of the work, and repeats nothing but those; or fails as CUDA would."""

    def __init__(self, fails: bool = False, wrong: bool = False) -> None:
        super().__init__()
        self._fails, self._wrong = fails, wrong

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        if self._fails:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.captured += 1
        with Recorder() as recorder:
            work()
        player = TapePlayer(make_tape(recorder.recording()), (), ())

        def replay() -> None:
            self.replayed += 1
            if not self._wrong:
                assert player.run(None, 1, 1e9).stopped is None

        return replay

    def aside(self) -> Any:
        return drawn_from()


def network() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 3)]
    return nn.Sequential(*layers).eval()


def batch_of(rows: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return Batch({"x": torch.randn(rows, 1, 8, 8, generator=draw)}, NOTHING, torch.arange(rows))


def same(forward: Forward, model: nn.Module, batch: Batch) -> Tensor:
    """Return the output of a call, which is that of the call as written."""
    with torch.inference_mode():
        found = forward(batch)
        assert torch.equal(found, model(batch.inputs["x"]))
    return found


def test_a_shape_that_comes_again_is_captured_compared_and_replayed() -> None:
    model, graphs = network(), Kernels()
    forward = Forward(model, CAPTURED, graphs)
    kept = [same(forward, model, batch_of(10, seed)) for seed in range(8)]
    assert (graphs.captured, graphs.replayed) == (1, 6)  # of eight calls one was seen, and one captured
    with torch.inference_mode():
        expected = [model(batch_of(10, seed).inputs["x"]) for seed in range(8)]
    for seed in range(2):
        same(forward, model, batch_of(7, seed))  # the last batch has a graph of its own
    assert graphs.captured == 2
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert not torch.equal(same(forward, model, batch_of(10, 3)), kept[3])  # weights are read where they lie
    assert all(torch.equal(kept[seed], fresh) for seed, fresh in enumerate(expected))  # outputs are the caller's


def test_new_weights_elsewhere_are_captured_anew() -> None:
    model, graphs = network(), Kernels()
    forward = Forward(model, CAPTURED, graphs)
    for seed in range(5):
        same(forward, model, batch_of(10, seed))
    model[5] = nn.Linear(4 * 36, 3).eval()
    for seed in range(5):
        same(forward, model, batch_of(10, seed))
    assert graphs.captured == 2


@pytest.mark.parametrize(("graph", "replayed"), [(0.9, 0), (0.7, 6)])
@pytest.mark.parametrize("brief", [True, False])
def test_only_a_call_that_gains_keeps_the_memory_of_a_graph(graph: float, replayed: int, brief: bool) -> None:
    model, graphs = network(), Kernels()
    short = [0.0012, 0.001, 0.0014, 0.0011, 0.0013]  # the least of some times
    graphs.times = [*short, *(graph * took for took in short)] if brief else [1.0, graph]
    forward = Forward(model, CAPTURED, graphs)
    for seed in range(8):
        same(forward, model, batch_of(10, seed))
    assert (graphs.captured, graphs.replayed) == (1, replayed)


class Counting(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        output: Tensor = self.layer(x.flatten(1)) + self.calls
        return output


class Masked(nn.Module):
    """Draws a mask in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(nn.functional.dropout(x.flatten(1), 0.5, training=True))
        return output


@pytest.mark.parametrize("make", [Counting, Masked])
def test_a_call_that_changes_something_is_made_as_written(make: Callable[[], nn.Module]) -> None:
    outputs = []
    for graphs in (Kernels(), None):
        torch.manual_seed(0)
        model = make().eval()
        forward = Forward(model, CAPTURED if graphs else Execution(), graphs)
        with torch.inference_mode():
            outputs.append(torch.cat([forward(batch_of(5, seed)) for seed in range(6)]))
        assert graphs is None or graphs.captured == 0
    assert torch.equal(*outputs)


@pytest.mark.parametrize("how", ["fails", "wrong"])
def test_what_cannot_be_captured_or_gives_other_bits_runs_as_written(how: str) -> None:
    model, graphs = network(), Kernels(**{how: True})
    forward = Forward(model, CAPTURED, graphs)
    for seed in range(6):
        same(forward, model, batch_of(10, seed))
    assert graphs.replayed <= 1 < CHECKED


def test_padded_rows_are_read_as_written() -> None:
    class Lengths(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return x.sum(1) / lengths.unsqueeze(1)

    graphs = Kernels()
    forward = Forward(Lengths().eval(), CAPTURED, graphs)
    values = torch.randn(4, 6, 2)
    batch = Batch({"x": values}, NOTHING, torch.arange(4), torch.tensor([6, 3, 2, 1]))
    with torch.inference_mode():
        found = [forward(batch) for _ in range(4)]
    assert all(torch.equal(each, values.sum(1) / torch.tensor([[6], [3], [2], [1]])) for each in found)
    assert graphs.captured == 0
