"""Processes of one start meet in a store that still holds what earlier starts wrote."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ranks
import torch.distributed as dist

from netwright.distributed import joining, meeting
from netwright.distributed.joining import Place
from netwright.distributed.meeting import Met, MissingError, meet


def start(store: dist.Store, counts: list[int]) -> list[Met]:
    """Let ranks whose launchers counted so many restarts meet, the first of them last."""
    with ThreadPoolExecutor(len(counts)) as pool:
        ranks = reversed(range(len(counts)))
        found = [pool.submit(meet, store, rank, len(counts), counts[rank], 20.0) for rank in ranks]
        return [one.result() for one in found]


def test_a_restart_that_one_machine_does_not_count_has_a_name_and_a_number_of_its_own() -> None:
    store, told = dist.HashStore(), []
    for counts in ([0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]):  # a machine that only follows keeps its count
        first, *others = start(store, counts)
        assert others == [first, first]
        told.append(first)
    assert [one.restarts for one in told] == [0, 1, 2, 3]
    assert len({one.name for one in told}) == 4


def test_a_start_in_which_somebody_died_before_it_came_is_left_behind() -> None:
    store = dist.HashStore()
    with pytest.raises(MissingError, match="rank 1 did not come"):
        meet(store, 0, 2, 0, 0.05)
    first, second = start(store, [1, 1])
    assert first == second
    assert first.restarts == 1


def test_who_is_missing_is_told_by_rank_0_and_known_to_those_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LATER", 20.0)
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(meet, store, 1, 4, 0, 1.0)
        first = pool.submit(meet, store, 0, 4, 0, 1.0)
        told, known = first.exception(), waiting.exception()
    assert str(told) == str(known) == "ranks 2, 3 did not come"
    assert (told.told, known.told) == (False, True)  # type: ignore[union-attr]


def test_without_rank_0_the_others_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LATER", 0.0)
    store = dist.HashStore()
    store.set(meeting.NAME, "earlier")
    store.set("earlier/over", json.dumps({"tokens": ["of another process"], "restarts": 0}))
    with pytest.raises(MissingError, match="rank 0 did not come") as found:
        meet(store, 1, 2, 0, 0.05)
    assert not found.value.told


def test_who_comes_before_a_late_rank_0_and_waits_no_longer_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LATER", 0.0)
    store = dist.HashStore()
    store.set(meeting.NAME, "now")
    store.set("now/came/2", json.dumps({"token": "of rank 2", "restarts": 0}))
    with pytest.raises(MissingError, match="^rank 3 did not come$") as found:
        meet(store, 1, 4, 0, 0.3)
    assert not found.value.told


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_who_is_missing_is_named_where_rank_0_makes_the_store(late: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LATER", 20.0)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(ranks.free_port()))

    def come(rank: int) -> Exception | None:
        time.sleep(0.0 if rank else late)
        try:
            joining._met.__wrapped__(Place(rank, 3, rank, 3, 0), 1.5)
        except MissingError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        told, known = pool.map(come, [0, 1])
    assert str(told) == str(known) == "rank 2 did not come"
    assert (told.told, known.told) == (False, True)  # type: ignore[union-attr]


def test_one_deadline_holds_for_the_store_and_for_those_that_meet_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    left = []

    def store(place: Place, timeout: float) -> dist.Store:
        time.sleep(0.2)
        return dist.HashStore()

    monkeypatch.setattr(joining, "_store", store)
    monkeypatch.setattr(joining, "meet", lambda *given: left.append(given[-1]))
    joining._met.__wrapped__(Place(1, 3, 1, 3, 0), 1.0)
    assert 0.0 <= left[0] <= 0.8
