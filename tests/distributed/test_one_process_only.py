"""What several processes of a launcher cannot do together, told by the first of them in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import netwright as nw
from netwright.cli import entry, main
from netwright.distributed.world import World
from netwright.errors import ConfigError


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """The place of this process among two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", str(request.param))
    monkeypatch.setenv("WORLD_SIZE", "2")
    return int(request.param)


@pytest.mark.parametrize("word", ["cv", "tune"])
def test_commands_of_several_runs_are_refused_by_one_process(
    capsys: pytest.CaptureFixture[str], rank: int, word: str, tmp_path: Path
) -> None:
    code, err = command(capsys, word, "sklearn:iris", "--run-dir", "one")
    line = f"netwright: error: {word}: 2 processes came; expected one; start it without a launcher, it trains several runs\n"
    assert (code, err) == (2, line if rank == 0 else "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [nw.repeat, nw.cross_validate, nw.tune])
def test_verbs_of_several_runs_are_refused(rank: int, verb: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{verb.__name__}: 2 processes came") as refused:
        verb("sklearn:iris", run_dir="one")
    assert refused.value.quiet == (rank == 1)
    assert list(tmp_path.iterdir()) == []


def test_one_process_under_a_launcher_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match="seeds: 1 came"):
        nw.repeat("sklearn:iris", seeds=1)


def test_halving_rows_is_refused_before_anything_is_said_or_written(tmp_path: Path) -> None:
    world = World(rank=0, size=2)
    for verb in (nw.train, nw.resume):
        with pytest.raises(ConfigError, match="--auto-micro-batch: it came under 2 processes"):
            verb("sklearn:iris", auto_micro_batch=True, world=world)


def test_ctrl_c_before_the_training_is_told_by_one_process(
    capsys: pytest.CaptureFixture[str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*words: Any, **more: Any) -> None:
        raise click.Abort

    monkeypatch.setattr(entry.cli, "main", interrupted)
    line = "netwright: error: stopped by Ctrl-C\n"
    assert command(capsys, "train", "sklearn:iris") == (130, line if rank == 0 else "")
