"""The losses of an epoch and the history files: the same numbers and lines, wherever a run was interrupted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from netwright.errors import CheckpointError
from netwright.training.journal import PENDING, EpochRecord, Journal


def fill(journal: Journal, first: int, last: int) -> None:
    for step in range(first, last):
        journal.steps(1, step + 1, torch.tensor([step / 7]), torch.tensor([1.0 + step % 2]))


@pytest.mark.parametrize("count", [0, 1, PENDING - 1, PENDING, 2 * PENDING + 3])
def test_the_train_loss_is_the_weighted_mean_of_all_steps_in_order(count: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["loss"])
    fill(journal, 0, count)
    losses = (torch.arange(count) / 7).double().tolist()
    weights = [1.0 + step % 2 for step in range(count)]
    if count:
        assert journal.train_loss() == sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(
            weights
        )
    else:
        assert journal.train_loss() != journal.train_loss()  # NaN
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == losses
    assert [line["step"] for line in lines] == list(range(1, count + 1))


@pytest.mark.parametrize("stop", [0, 1, 700, PENDING, PENDING + 1])
def test_a_journal_that_goes_on_from_a_mark_ends_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    whole.mkdir()
    first.mkdir()
    straight, broken = Journal(whole, ["loss"]), Journal(first, ["loss"])
    fill(straight, 0, 1500)
    fill(broken, 0, stop)
    state = json.loads(json.dumps(broken.state()))
    fill(broken, stop, stop + 300)  # lost
    broken.train_loss()
    broken.close()
    again = Journal(first, ["loss"], state)
    fill(again, stop, 1500)
    assert again.train_loss() == straight.train_loss()
    record = EpochRecord(1, 1500, again.train_loss(), {"loss": 0.5}, 0.1, 1.0, 2.0)
    for journal in (straight, again):
        journal.epoch(record)
        journal.close()
    for name in ("history.csv", "steps.jsonl"):
        assert (whole / name).read_bytes() == (first / name).read_bytes()
    assert again.seconds == {"train": 1.0, "valid": 2.0}


def test_figures_are_written_under_their_names_whatever_came(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["loss", "area", "n"])
    journal.epoch(EpochRecord(1, 1, 0.0, {"n": 7.0, "loss": 1.0}, 0.1, 1.0, 2.0))
    state = json.loads(json.dumps(journal.state()))
    journal.close()
    again = Journal(tmp_path, ["loss", "n", "area", "late"], state)  # of a version that asked for other names first
    again.epoch(EpochRecord(2, 2, 0.0, {"loss": 2.0, "n": 8.0, "late": 3.0, "area": 0.5}, 0.1, 1.0, 2.0))
    again.close()
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["valid_loss"], row["valid_area"], row["valid_n"]) for row in rows] == [
        ("1.0", "nan", "7.0"),
        ("2.0", "0.5", "8.0"),
    ]
    assert [(row["learning_rate"], row["valid_seconds"]) for row in rows] == [("0.1", "2.0")] * 2


@pytest.mark.parametrize("change", ["shorter", "other", "gone"])
def test_a_history_that_is_not_that_of_the_checkpoint_is_refused(change: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["loss"])
    fill(journal, 0, 5)
    state = journal.state()
    journal.close()
    path = tmp_path / "steps.jsonl"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if change == "shorter" else path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(CheckpointError, match=r"steps\.jsonl: (cannot be read|changed since the checkpoint)"):
        Journal(tmp_path, ["loss"], state)
