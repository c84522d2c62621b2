"""The checks on seeded mistakes and good networks: what is found, and how often a good one is suspected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest
from corpus import good, mistakes
from corpus.cases import Case, Outcome, run

from netwright.config.slugs import CHECKS, FAMILIES

RECALL, FALSE_ALARMS = 0.9, 0.05
KNOWN_TO_BE_MISSED = {"a copy with more noise", "the difference of two columns"}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[Case, Outcome]]:
    """Every case with what the checks said of it."""
    return {case.name: (case, run(case)) for case in (*mistakes.CASES, *good.GOOD)}


def test_the_corpus_is_large_and_of_every_family() -> None:
    assert len({case.name for case in (*mistakes.CASES, *good.GOOD)}) == len(mistakes.CASES) + len(good.GOOD)
    assert len(mistakes.CASES) >= 60
    assert len(good.GOOD) >= 60
    assert min(Counter(case.family for case in mistakes.CASES)[family] for family in FAMILIES) >= 20
    assert {slug for case in mistakes.CASES for slug in case.expected} <= set(CHECKS)


def test_nine_of_ten_mistakes_are_found_and_the_others_are_known(outcomes: dict[str, tuple[Case, Outcome]]) -> None:
    missed = {
        case.name for case, outcome in outcomes.values() if case.expected and not set(case.expected) & set(outcome.found)
    }
    assert missed == KNOWN_TO_BE_MISSED
    assert len(missed) <= (1 - RECALL) * len(mistakes.CASES)


def test_good_networks_are_hardly_ever_suspected(outcomes: dict[str, tuple[Case, Outcome]]) -> None:
    suspected = {case.name: outcome.alarms for case, outcome in outcomes.values() if not case.expected and outcome.alarms}
    assert len(suspected) <= FALSE_ALARMS * len(good.GOOD), suspected


def test_the_page_shows_what_is_found(
    outcomes: dict[str, tuple[Case, Outcome]], script: Callable[[str], ModuleType]
) -> None:
    tool = script("tools/checks_table.py")
    page = tool.PAGE.read_text(encoding="utf-8")
    made = tool.page(outcomes.values())
    assert sorted(set(made.splitlines()) ^ set(page.splitlines())) == []  # the lines that differ
    assert made == page


def test_every_network_that_trains_could_be_watched(outcomes: dict[str, tuple[Case, Outcome]]) -> None:
    assert [name for name, (_, outcome) in outcomes.items() if "not-watched" in outcome.found] == []


def test_what_is_found_is_told_with_advice(outcomes: dict[str, tuple[Case, Outcome]]) -> None:
    for case, outcome in outcomes.values():
        assert outcome.text.count("-> ") >= len(outcome.alarms) or outcome.found == ("refused",), (case.name, outcome.text)
