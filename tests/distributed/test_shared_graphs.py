"""Steps in graphs that two processes share: the bits of the step as written, and every decision made by both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs_together import breaks, main, waits
from ranks import Ranks
from torch import nn

from netwright.engine.shared_graphs import why_not_in_graphs
from netwright.model.losses import PerStep


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks saw in all cases."""
    place = tmp_path_factory.mktemp("graphs")
    for ended in Ranks(place / "log", [(main, (str(place),))] * 2).wait():
        assert ended.code == 0, ended.stderr
    return [json.loads((place / f"told-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ["plain", "clipped", "many"])
def test_steps_are_replayed_with_the_bits_of_the_step_as_written(told: list[dict[str, Any]], name: str) -> None:
    for found in (one[name] for one in told):
        assert found["losses"][0] == found["losses"][1]
        assert found["same"]
        assert found["replayed"] > 30
        assert found["captured"] == (3 if name == "many" else 2)  # of full batches, of the last one, of eight together
        assert max(found["calls"]) > 4  # many steps a call
        assert found["played"] == "by 2 processes (DDP), in CUDA graphs"
        assert not found["told"]
    assert told[0][name]["calls"] == told[1][name]["calls"]  # what the clock tells is agreed on
    assert told[0][name]["losses"] == told[1][name]["losses"]


def test_a_number_that_is_not_finite_ends_both_where_the_step_as_written_does(told: list[dict[str, Any]]) -> None:
    for found in (one["bad"] for one in told):
        assert found["losses"][0] == found["losses"][1]
        assert found["same"]
        assert found["ends"][0] == found["ends"][1]
        assert found["ends"][0].startswith("DivergedError: the loss is nan on rank ")


@pytest.mark.parametrize(
    ("name", "why"), [("other bits", "its replay gives other bits"), ("refused", "no room for a graph")]
)
def test_what_one_process_cannot_repeat_none_does(told: list[dict[str, Any]], name: str, why: str) -> None:
    for found in (one[name] for one in told):
        assert found["losses"][0] == found["losses"][1]
        assert found["same"]
        assert len(found["told"]) == 1
        assert why in found["told"][0]
        assert why in found["played"]


def test_graphs_that_were_asked_for_by_name_are_refused_by_both(told: list[dict[str, Any]]) -> None:
    for found in (one["refused by name"] for one in told):
        assert found["error"].startswith(
            "training.engine: captured came; a step cannot be captured as a CUDA graph: no room for a graph; expected"
        )


@pytest.mark.parametrize(
    ("name", "why"), [("ignored", "some rows have no target that counts"), ("scattered", "do not lie on the device")]
)
def test_rows_that_graphs_cannot_take_are_told_before_the_first_step(
    told: list[dict[str, Any]], name: str, why: str
) -> None:
    for found in (one[name] for one in told):
        assert found["losses"][0] == found["losses"][1]
        assert found["same"]
        assert found["captured"] == 0
        assert why in found["told"][0]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        pytest.param(breaks, "the kernel broke", id="replay", marks=pytest.mark.faults),
        pytest.param(waits, "an illegal memory access", id="question"),
    ],
)
def test_what_fails_in_one_process_ends_the_other_soon(action: Callable[[], None], why: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    ended = Ranks(tmp_path / "log", [(action, ())] * 2).wait(60)
    assert time.monotonic() - begun < 40
    for one in ended:
        assert one.code != 0
        assert why in one.stderr  # the first learns why of the second


def test_what_processes_would_have_to_ask_each_other_is_told_before() -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    network, loss = nn.Linear(2, 2), nn.CrossEntropyLoss()
    assert why_not_in_graphs(network, loss) is None
    assert why_not_in_graphs(network, nn.MSELoss()) is None
    weighted = nn.CrossEntropyLoss(weight=torch.ones(2))
    refused: list[tuple[tuple[Any, ...], str]] = [
        ((network, loss, False, True), "rows are changed"),
        ((Own(), loss), "own"),
        ((network, loss, True), "batch norm"),
        ((network, weighted), "classes"),
    ]
    for parts, word in refused:
        assert word in str(why_not_in_graphs(*parts))
    assert "steps" in str(why_not_in_graphs(network, PerStep(loss)))
