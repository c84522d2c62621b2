"""What a search tells while it goes on: an epoch of a trial, the end of a trial. Told as records, sent as JSON. Floor 17."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from netwright.config.values import shown
from netwright.pipeline.telling import Told
from netwright.tuning.study import Trial

MOST_SETTINGS = 6  # of a trial, in a line


@dataclass(frozen=True)
class TrialEpoch:
    """An epoch of a trial that goes on."""

    trial: int
    epoch: int
    of_epochs: int
    value: float
    run: str = ""

    def __str__(self) -> str:
        return f"trial {self.trial}  epoch {self.epoch}/{self.of_epochs}  {self.value:.4g}"


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended, and how many did so far."""

    trial: int
    state: str
    value: float | None
    point: dict[str, Any]
    why: str
    epochs: int
    seconds: float
    ended: int = 0
    of_trials: int = 0
    best: bool = False
    metric: str = ""

    @property
    def settings(self) -> str:
        """What it tried, in a few words."""
        return shown_point(self.point)

    def __str__(self) -> str:
        told = self.why if self.why.startswith(self.state) else f"{self.state}: {self.why}".removesuffix(": ")
        what = told if self.value is None else f"{self.metric} {self.value:.5g}"
        star = "  *" if self.best else ""
        return (
            f"trial {self.trial} ({self.ended} of {self.of_trials})  {what}  {self.settings}  "
            f"{self.epochs} epochs, {self.seconds:.2f} s{star}"
        )


Record = Told | TrialEpoch | TrialEnd
Tell = Callable[[Record], None]
KINDS = {"epoch": TrialEpoch, "end": TrialEnd, "told": Told}


def shown_point(point: dict[str, Any]) -> str:
    """Return the settings of a trial in a few words, each by the end of its path.

    Example:
        >>> shown_point({"training.optimizer.lr": 0.00123456, "data.batch_size": 64})
        'lr 0.001235, batch_size 64'
    """
    parts = [f"{short_name(path, list(point))} {_shown_value(value)}" for path, value in point.items()]
    return ", ".join(parts[:MOST_SETTINGS]) + (", ..." if len(parts) > MOST_SETTINGS else "")


def short_name(path: str, others: Sequence[str]) -> str:
    """Return the end of a path that no other path shares.

    Example:
        >>> short_name("model.layers.6.p", ["model.layers.3.p", "model.layers.6.p"])
        '6.p'
    """
    parts = path.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[-count:])
        if sum(other == name or other.endswith(f".{name}") for other in others) == 1:
            return name
    return path


def _shown_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else shown(value)


def to_json(record: Record) -> dict[str, Any]:
    """Return a record as plain values; `from_json` reads them."""
    kind = next(name for name, found in KINDS.items() if isinstance(record, found))
    return {"kind": kind, "record": asdict(record)}


def from_json(told: dict[str, Any]) -> Record:
    """Return the record that another process sent."""
    found: Record = KINDS[told["kind"]](**told["record"])
    return found


def counted(end: TrialEnd, trials: Sequence[Trial], wanted: int, best: int | None) -> TrialEnd:
    """Return the end of a trial with how many ended so far."""
    values = {**asdict(end), "ended": sum(trial.counts for trial in trials), "of_trials": wanted, "best": best == end.trial}
    return TrialEnd(**values)
