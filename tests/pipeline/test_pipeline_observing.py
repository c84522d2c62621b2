"""Who is told: observers, and where none is, findings become warnings of Python at the user's own line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netwright as nw
from netwright.pipeline.observing import Audience, nobody
from netwright.pipeline.telling import Told

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4))
Y = (X[:, 0] > 0).astype(int)
LEAKING = (np.column_stack([X, Y]), Y)


def warned_by(call: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    return [one for one in told if one.category is nw.FindingWarning]


def test_a_finding_that_no_observer_is_told_is_a_warning_at_the_line_of_the_user(tmp_path: Path) -> None:
    (told,) = warned_by(lambda: nw.train(LEAKING, epochs=1, run_dir=tmp_path / "run"))
    assert str(told.message).startswith("column 'X[4]': it alone tells the target")
    assert told.filename == __file__
    (told,) = warned_by(lambda: nw.repeat(LEAKING, epochs=1, seeds=2, run_dir=tmp_path / "seeds"))
    assert told.filename == __file__
    (told,) = warned_by(
        lambda: nw.tune(
            LEAKING, space={"training.optimizer.lr": "log 1e-3..1e-1"}, trials=1, epochs=1, run_dir=tmp_path / "tune"
        )
    )
    assert told.filename == __file__


def test_observers_are_told_instead(tmp_path: Path) -> None:
    seen: list[str] = []
    observers = [lambda record: seen.append(str(record))]
    assert warned_by(lambda: nw.train(LEAKING, epochs=1, run_dir=tmp_path / "run", observers=observers)) == []
    assert any(line.startswith("warning: column 'X[4]'") for line in seen)


@pytest.mark.parametrize("kind", ["line", "note", "advice"])
def test_only_findings_are_warnings(kind: str) -> None:
    assert warned_by(lambda: Audience([])(Told("a remark", kind))) == []
    assert len(warned_by(lambda: Audience([])(Told("a remark", "warning")))) == 1
    assert warned_by(lambda: Audience([nobody])(Told("a remark", "warning"))) == []


def test_a_warning_that_is_an_error_ends_the_training_before_it_begins(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", nw.FindingWarning)
        with pytest.raises(nw.FindingWarning, match="X\\[4\\]"):
            nw.train(LEAKING, epochs=1, run_dir=tmp_path / "run")


@pytest.mark.parametrize("verb", [nw.train, nw.check, nw.cross_validate, nw.repeat, nw.tune])
def test_rows_and_target_by_their_places_are_answered_with_the_pair(verb: Any) -> None:
    with pytest.raises(
        nw.NetwrightError, match=rf"^nw\.{verb.__name__}: 2 values .* are a pair, nw\.{verb.__name__}\(\(X, y\)\)"
    ):
        verb(X, Y)
