"""The cost model of several processes: what must hold whatever the machine, and what the measured file says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def scaling(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/scaling.py")


def test_bytes_on_the_wire_are_those_of_rings(scaling: ModuleType) -> None:
    network = scaling.Network(1_000, 0.1)
    assert scaling.sent_by_ddp(network, 1) == 0
    assert scaling.sent_by_ddp(network, 2) == 4_000  # each sends its half twice
    assert scaling.sent_by_ddp(network, 4) == 6_000
    assert scaling.sent_by_fsdp(network, 4) == 0.75 * 1_000 * (2 + 2 + 4)
    wire = scaling.Wire(0.0, 1e6)
    assert scaling.reduced(4_000, 4, wire) == pytest.approx(scaling.sent_by_ddp(network, 4) / 1e6)
    assert scaling.reduced(0, 4, scaling.Wire(1e-3, 1e6)) == pytest.approx(6e-3)  # 2 (N - 1) messages


def test_one_process_waits_for_nobody_and_what_is_hidden_is_never_more_than_there_is(scaling: ModuleType) -> None:
    network, wire = scaling.Network(10**8, 0.2), scaling.Wire(1e-5, 1e9)
    assert scaling.efficiency(network, 1, wire) == 1.0
    for strategy in ("ddp", "fsdp"):
        found = [scaling.efficiency(network, 8, wire, strategy, hidden) for hidden in (0.0, 0.5, 1.0)]
        assert 0 < found[0] < found[1] < found[2] <= 1
        more = [scaling.efficiency(network, processes, wire, strategy, 0.0) for processes in (2, 8, 64, 1024)]
        assert more == sorted(more, reverse=True)
    assert scaling.efficiency(scaling.Network(10, 10.0), 8, wire) == 1.0  # all of it beside the backward pass


def test_the_wire_is_found_again_in_times_that_it_made(scaling: ModuleType) -> None:
    wire = scaling.Wire(3e-5, 2e9)
    times = [(n, size, scaling.reduced(size, n, wire)) for n in (2, 4) for size in (4_096, 1 << 20, 1 << 24)]
    found = scaling.wire_of(times)
    assert (found.latency, found.bandwidth) == (pytest.approx(3e-5), pytest.approx(2e9))


def test_the_intervals_are_near_the_best_of_all(scaling: ModuleType) -> None:
    for save, failure in ((10.0, 86_400.0), (60.0, 7_200.0), (300.0, 3_600.0)):
        candidates = [failure * place / 2000 for place in range(1, 4000)]
        best = min(scaling.lost(save, 120.0, failure, interval) for interval in candidates)
        assert scaling.lost(save, 120.0, failure, scaling.daly(save, failure)) <= best * 1.02
        assert scaling.daly(save, failure) == pytest.approx(scaling.young(save, failure), rel=0.2)
    assert scaling.daly(100.0, 40.0) == 40.0
    assert scaling.lost(1.0, 0.0, math.inf, 9.0) == pytest.approx(0.1)
    assert scaling.mean_between_failures(1024.0, 1024) == 1.0


def test_published_figures_lie_between_nothing_and_everything_hidden(scaling: ModuleType) -> None:
    network = scaling.Network(8_030_000_000, 2 * 8192 / 5762, blocks=32)  # torchtitan, Llama 3.1 8B, FSDP
    worst, best = (
        scaling.efficiency(network, 128, scaling.FAST, "fsdp", hidden)
        / scaling.efficiency(network, 8, scaling.INSIDE, "fsdp", hidden)
        for hidden in (0.0, 1.0)
    )
    assert worst < 5605 / 5762 <= best
    assert scaling.GPU_BETWEEN_FAILURES / 16384 / 3600 == pytest.approx(3.1, abs=0.05)  # hours: one failure every three


def test_the_page_shows_what_was_measured(scaling: ModuleType) -> None:
    measured = json.loads(scaling.MEASURED.read_text())
    page = (scaling.HERE.parent / "docs" / "scaling.md").read_text()
    for line in scaling.tables(measured).splitlines():
        assert line in page, line
    errors = [abs(told / seconds - 1) for _, _, _, seconds, told in scaling.predicted(measured)]
    assert max(errors) < 0.3
