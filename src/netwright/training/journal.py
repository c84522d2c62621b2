"""What happened in a run, as records and as files: history.csv (a row per epoch), steps.jsonl (a line per step).

Floor 7.
"""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from netwright.files import LineFile

FOLDED = 1024  # losses kept as one tensor: a tensor each would take more memory than many a table


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: train_loss is the weighted mean over its steps as trained, valid figures are over all valid rows."""

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
        figures = "  ".join(f"valid_{name} {value:.4g}" for name, value in self.valid.items())
        star = "  *" if self.best else ""
        seconds = self.train_seconds + self.valid_seconds
        return f"epoch {self.epoch}/{self.of_epochs}  train_loss {self.train_loss:.4g}  {figures}  {seconds:.2f} s{star}"


@dataclass
class EpochLosses:
    """The losses of an epoch's steps, kept on the device until they are read."""

    losses: list[Tensor] = field(default_factory=list)
    weights: array[float] = field(default_factory=lambda: array("d"))
    folded: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor, weight: float) -> None:
        """Keep one step's mean loss and its weight."""
        self.losses.append(loss)
        self.weights.append(weight)
        if len(self.losses) == FOLDED:
            self.folded.append(torch.stack(self.losses))
            self.losses.clear()

    def read(self) -> list[float]:
        """Return the losses as numbers."""
        rest = [torch.stack(self.losses)] if self.losses else []
        values: list[float] = torch.cat([*self.folded, *rest]).double().tolist() if self.folded or rest else []
        return values

    def mean(self) -> float:
        """Return the weighted mean, NaN without steps."""
        total = sum(self.weights)
        if not total:
            return float("nan")
        return sum(loss * weight for loss, weight in zip(self.read(), self.weights, strict=True)) / total


@final
class Journal:
    """Appends to the history files of a run folder; a run without a folder keeps its records in memory only.

    Args:
        folder: The run folder, or None.
        valid_names: Names of the valid figures, which fix the columns.
    """

    def __init__(self, folder: Path | None, valid_names: Sequence[str]) -> None:
        self.records: list[EpochRecord] = []
        self._history = LineFile(folder / "history.csv") if folder else None
        self._steps = LineFile(folder / "steps.jsonl") if folder else None
        empty = EpochRecord(0, 0, 0.0, dict.fromkeys(valid_names, 0.0), 0.0, 0.0, 0.0)
        if self._history:
            self._history.write(_csv(list(empty.columns())))

    def epoch(self, record: EpochRecord, losses: EpochLosses) -> None:
        """Write an epoch and its steps."""
        self.records.append(record)
        if self._history:
            self._history.write(_csv(list(record.columns().values())))
        if self._steps:
            values = losses.read()
            first = record.step - len(values) + 1
            self._steps.write(
                *(
                    json.dumps({"step": first + place, "epoch": record.epoch, "loss": value, "weight": weight})
                    for place, (value, weight) in enumerate(zip(values, losses.weights, strict=True))
                )
            )

    def close(self) -> None:
        """Sync and close the files."""
        for stream in (self._history, self._steps):
            if stream:
                stream.close()


def _csv(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
