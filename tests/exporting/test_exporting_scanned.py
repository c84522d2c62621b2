"""Recurrent layers step by step are the layers themselves, and stay so as a graph with a free number of steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.export import Dim

from netwright.exporting.scanned import read_step_by_step
from netwright.model import modules
from netwright.model.masked import Masked

KINDS = {"RNN": modules.RNN, "LSTM": modules.LSTM, "GRU": modules.GRU}
SETTINGS: dict[str, dict[str, Any]] = {
    "one level": {},
    "two levels": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
}
LENGTHS = torch.tensor([9, 1, 4, 7, 2, 9])


def layer_of(kind: str, **settings: Any) -> Any:
    torch.manual_seed(1)
    return KINDS[kind](4, 8, batch_first=True, **settings).eval()


def step_by_step(layer: Any) -> Any:
    found = copy.deepcopy(layer)
    read_step_by_step(found)
    return found


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_outputs_are_those_of_the_layer(kind: str, settings: str) -> None:
    layer = layer_of(kind, **SETTINGS[settings])
    x = torch.randn(6, 9, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        other = step_by_step(layer)
        assert torch.allclose(other(x), layer(x), atol=1e-6)
        assert torch.allclose(other(x, LENGTHS), layer(x, LENGTHS), atol=1e-6)  # 0 where no step is


def test_relu_is_kept() -> None:
    layer, x = layer_of("RNN", nonlinearity="relu"), torch.ones(2, 3, 4)
    with torch.no_grad():
        assert torch.allclose(step_by_step(layer)(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("settings", ["one level", "both directions"])
def test_a_graph_reads_any_number_of_rows_and_steps(settings: str) -> None:
    network = Masked(layer_of("GRU", **SETTINGS[settings]), modules.MeanOverTime()).eval()
    free = ({0: Dim("rows", min=1), 1: Dim("time", min=1)}, {0: Dim("rows", min=1)})
    with torch.no_grad():
        graph = torch.export.export(
            step_by_step(network), (torch.randn(3, 7, 4), torch.tensor([7, 2, 5])), dynamic_shapes=free
        )
        for rows, time in ((1, 1), (6, 9), (2, 30)):
            x, lengths = torch.randn(rows, time, 4), torch.arange(rows) % time + 1
            assert torch.allclose(graph.module()(x, lengths), network(x, lengths), atol=1e-6)
