"""What happened in a run, as records and as files: history.csv (a row per epoch), steps.jsonl (a line per step).

Floor 9.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from netwright.files import LineFile, Mark
from netwright.numerals import figure

PENDING = 1024  # losses that stay on the device before they are read and written
HISTORY = "history.csv"
STEPS = "steps.jsonl"


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: train_loss is the weighted mean over its steps as trained, valid figures are over all valid rows.

    ``learning_rate`` is that of its last step, of the first group of parameters.
    """

    epoch: int
    step: int
    train_loss: float
    valid: dict[str, float]
    learning_rate: float
    train_seconds: float
    valid_seconds: float
    best: bool = False
    of_epochs: int = 0

    def columns(self) -> dict[str, float]:
        """Return the row of history.csv."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "train_loss": self.train_loss,
            **{f"valid_{name}": value for name, value in self.valid.items()},
            "learning_rate": self.learning_rate,
            "train_seconds": round(self.train_seconds, 6),
            "valid_seconds": round(self.valid_seconds, 6),
        }

    def __str__(self) -> str:
        figures = "  ".join(f"valid_{name} {figure(value)}" for name, value in self.valid.items())
        star = "  *" if self.best else ""
        seconds = self.train_seconds + self.valid_seconds
        return f"epoch {self.epoch}/{self.of_epochs}  train_loss {figure(self.train_loss)}  {figures}  {seconds:.2f} s{star}"


@final
class Journal:
    """Adds up the losses of an epoch and appends to the history files of a run folder; without a folder nothing is written.

    The losses of the last steps stay on the device until they are asked for. What it remembers of an unfinished epoch is a
    weighted sum, added up step by step, so that a run that goes on from a checkpoint gives the same bits.

    Args:
        folder: The run folder, or None.
        valid_names: Names of the valid figures, which fix the columns.
        remembered: What `state` gave at the checkpoint to go on from: the files are cut back to it, and the columns are those of
            the file.

    Raises:
        CheckpointError: A history file was changed.
    """

    def __init__(self, folder: Path | None, valid_names: Sequence[str], remembered: Mapping[str, Any] | None = None) -> None:
        told = remembered or {}
        self.loss_sum: float = told.get("loss_sum", 0.0)
        self.weight: float = told.get("weight", 0.0)
        self.seconds: dict[str, float] = dict(told.get("seconds", {"train": 0.0, "valid": 0.0}))
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._last = (0, 0)  # epoch and step of the last loss
        self._files = {
            name: LineFile(folder / name, Mark(*told[name]) if name in told else None) for name in (HISTORY, STEPS) if folder
        }
        self._columns = list(EpochRecord(0, 0, 0.0, dict.fromkeys(valid_names, 0.0), 0.0, 0.0, 0.0).columns())
        if remembered is None:
            self._write(HISTORY, _csv(self._columns))
        elif folder is not None:
            self._columns = _header(folder / HISTORY) or self._columns

    def steps(self, epoch: int, last: int, losses: Tensor, weights: Tensor) -> None:
        """Keep the mean losses of steps up to the last, detached ``(steps,)``, and their weights ``(steps,)``."""
        if not len(losses):
            return
        self._pending.append((losses, weights))
        self._count += len(losses)
        self._last = (epoch, last)
        if self._count >= PENDING:
            self._read()

    def waited(self, seconds: float) -> None:
        """Count seconds in which steps waited for their rows."""
        self.seconds["waiting"] = self.seconds.get("waiting", 0.0) + seconds

    def _read(self) -> None:
        """Read the losses from the device, add them up and write a line for each."""
        if not self._pending:
            return
        epoch, last = self._last
        first = last - self._count + 1
        lines = []
        losses: list[float] = torch.cat([losses for losses, _ in self._pending]).double().tolist()
        weights: list[float] = torch.cat([weights for _, weights in self._pending]).double().tolist()
        for place, (loss, weight) in enumerate(zip(losses, weights, strict=True)):
            self.loss_sum += loss * weight
            self.weight += weight
            lines.append(f'{{"step": {first + place}, "epoch": {epoch}, "loss": {loss!r}, "weight": {weight!r}}}')
        self._pending.clear()
        self._count = 0
        self._write(STEPS, *lines)

    def train_loss(self) -> float:
        """Return the weighted mean over the steps of the epoch so far, NaN without steps."""
        self._read()
        return self.loss_sum / self.weight if self.weight else float("nan")

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch, and begin the next."""
        self._read()
        cells = record.columns()
        self._write(HISTORY, _csv([cells.get(name, math.nan) for name in self._columns]))
        self.loss_sum = self.weight = 0.0
        self.seconds["train"] += record.train_seconds
        self.seconds["valid"] += record.valid_seconds

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint remembers: the sums of the epoch, and how long the synced files are."""
        self._read()
        marks = {name: stream.mark() for name, stream in self._files.items()}
        return {
            "loss_sum": self.loss_sum,
            "weight": self.weight,
            "seconds": dict(self.seconds),
            **{name: [mark.size, mark.digest] for name, mark in marks.items()},
        }

    def _write(self, name: str, *lines: str) -> None:
        if name in self._files:
            self._files[name].write(*lines)

    def close(self) -> None:
        """Sync and close the files."""
        for stream in self._files.values():
            stream.close()


def _header(path: Path) -> list[str]:
    """Return the names of the columns of a file; none where it is empty."""
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def _csv(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
