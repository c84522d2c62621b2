"""What a tracker is told of a run, as frozen records, and what it must offer. Floor 10."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from netwright.training.journal import EpochRecord


PLACE = "tracking"  # the folder of the trackers in a run folder
MEMBER = re.compile(r"(seed|fold)-\d+")  # the name of a run among several, which says nothing without its folder
BOOKKEEPING = ("epoch",)  # of a row of the history: it is the step that the others stand at


@dataclass(frozen=True)
class Begun:
    """A run begins, or goes on after ``epoch`` epochs.

    ``settings`` are the resolved ones by dotted path (``training.optimizer``), plain values and texts.
    """

    folder: Path
    name: str
    started: str
    settings: Mapping[str, str | int | float | bool]
    epoch: int = 0

    @property
    def title(self) -> str:
        """The name of the run folder, with that of the folder above where it is one of several runs."""
        name = self.folder.name
        return f"{self.folder.absolute().parent.name}-{name}" if MEMBER.fullmatch(name) else name

    def place(self, tracker: str) -> Path:
        """Return where a tracker writes if nothing else is asked for: a folder in the run folder."""
        return self.folder.absolute() / PLACE / tracker


@dataclass(frozen=True)
class Ended:
    """A run ended: done, stopped, diverged or failed; ``figures`` are those of the test, empty without one."""

    folder: Path
    status: str
    why: str
    epoch: int
    figures: Mapping[str, float]
    report: Path | None = None


@runtime_checkable
class Tracker(Protocol):
    """Is told when a run begins, each epoch, and how it ended; one tracker may follow several runs, one after the other."""

    name: str

    def begin(self, run: Begun) -> None:
        """Write the settings."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Write the figures of an epoch."""
        ...

    def end(self, run: Ended) -> None:
        """Write the test figures and where the report is, and close."""
        ...


def epoch_figures(record: EpochRecord) -> dict[str, float]:
    """Return the figures of an epoch by the names of history.csv, without the epoch itself.

    Example:
        >>> from netwright.training.journal import EpochRecord
        >>> list(epoch_figures(EpochRecord(1, 24, 0.5, {"loss": 0.6}, 0.001, 0.2, 0.1)))
        ['step', 'train_loss', 'valid_loss', 'learning_rate', 'train_seconds', 'valid_seconds']
    """
    return {name: float(value) for name, value in record.columns().items() if name not in BOOKKEEPING}


def figures_of_test(run: Ended) -> dict[str, float]:
    """Return the figures of the test as a tracker names them: ``test_accuracy``, ``test_accuracy_low``, ..."""
    return {f"test_{name}": value for name, value in run.figures.items()}
