"""The heart of the verb watch: how far a run is, read from its folder while another process writes it. Needs no torch.

Floor 11.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright import files
from netwright.errors import CheckpointError, first_line, no_run
from netwright.numerals import figure
from netwright.reporting.braille import braille_rows
from netwright.reporting.wording import duration_text, figure_text

RECORD, HISTORY, STEPS, TEST, CONFIG = (
    "run.json",
    "history.csv",
    "steps.jsonl",
    "test.json",
    "config.toml",
)  # of a run folder
RECENT = 5  # epochs that tell the rate
TAIL = 4096  # bytes at the end of steps.jsonl that hold its last line
MOST_POINTS = 2000  # of a curve in the page
MOST_REMARKS = 4
WIDE_RATIO = 40  # of the largest to the least value, from which the scale is logarithmic
COLOURS = ("cyan", "yellow", "green", "magenta")
WIDEST = 110  # characters of a curve
LABEL = 10  # characters beside a curve
STATES = {"running": "bold green", "testing": "bold green", "done": "bold cyan", "stopped": "bold yellow"}  # else red

Segment = tuple[str, str]  # a text and its style in rich's words


@dataclass(frozen=True)
class State:
    """How far a run is.

    ``columns`` is history.csv by column, ``status`` that of run.json, or testing while the test is made, or interrupted where
    no process writes any more. ``rate`` is in steps a second, ``left`` in seconds, None where nothing tells.
    """

    name: str
    status: str
    why: str
    columns: Mapping[str, Sequence[float]]
    epoch: int
    of_epochs: int | None
    step: int
    of_steps: int | None
    rate: float | None
    left: float | None
    at_most: bool
    best: tuple[int, str, float] | None
    remarks: tuple[str, ...]
    test: Mapping[str, float]

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in ("running", "testing")

    def to_json(self) -> dict[str, Any]:
        """Return plain values, not-a-number as None; of long curves every so many points, the last one always."""
        count = len(self.columns.get("epoch", ()))
        stride = max(1, math.ceil(count / MOST_POINTS))
        places = sorted({*range(0, count, stride), *([count - 1] if count else [])})
        columns = {
            name: [values[place] if math.isfinite(values[place]) else None for place in places]
            for name, values in self.columns.items()
        }
        best = None if self.best is None else {"epoch": self.best[0], "monitor": self.best[1], "value": self.best[2]}
        told = {name: value for name, value in vars(self).items() if name not in ("columns", "best")}
        return {**told, "remarks": list(self.remarks), "test": dict(self.test), "best": best, "columns": columns,
                "over": self.over, "headline": headline(self)}  # fmt: skip


def read_state(folder: Path) -> State:
    """Read how far a run is; lines that are not whole yet are left out.

    Args:
        folder: The run folder.

    Raises:
        CheckpointError: No run, or its record is damaged.
    """
    record = _record(folder)
    training = _training(folder)
    columns = _history(folder / HISTORY)
    epoch = int(columns["epoch"][-1]) if columns.get("epoch") else 0
    step = max(int(columns["step"][-1]) if columns.get("step") else 0, _last_step(folder / STEPS))
    epochs, steps = training.get("epochs"), training.get("steps")
    stopping = training.get("early_stopping")
    status = _status(folder, record)
    rate, per_epoch = _rates(columns)
    left = None
    if status == "running":
        left = _left(epoch, epochs, step, steps, rate, per_epoch)
    test = _test(folder / TEST)
    found = record.get("findings")
    findings = [str(one.get("message") or one.get("why")) for one in found or [] if isinstance(one, dict)]
    resumed = [f"resumed after step {one.get('step')}" for one in record.get("resumed") or [] if isinstance(one, dict)]
    return State(
        name=str(record.get("name") or folder.name),
        status=status,
        why=str(record.get("why") or ""),
        columns=columns,
        epoch=epoch,
        of_epochs=epochs if isinstance(epochs, int) else None,
        step=step,
        of_steps=steps if isinstance(steps, int) else None,
        rate=rate,
        left=left,
        at_most=isinstance(stopping, dict),
        best=_best(columns, stopping if isinstance(stopping, dict) else {}),
        remarks=tuple([*map(str, record.get("notes") or []), *findings, *resumed][-MOST_REMARKS:]),
        test=test,
    )


def _record(folder: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        CheckpointError: The folder is no run.
    """
    try:
        record = files.read_json(folder / RECORD)
    except (OSError, ValueError) as error:
        raise no_run(folder, getattr(error, "strerror", None) or first_line(error)) from error
    if not isinstance(record, dict) or "status" not in record:
        raise CheckpointError(f"{folder / RECORD}: no record of a run; expected an object with a status; check the file")
    return record


def _training(folder: Path) -> dict[str, Any]:
    """Return the section training of the settings; an empty one where it cannot be read at this moment."""
    try:
        found = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8")).get("training", {})
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _status(folder: Path, record: Mapping[str, Any]) -> str:
    """Return the status, as a process that still writes the folder makes it."""
    status, holder = str(record["status"]), files.holder_of(folder)
    if status == "running" and holder is None:
        return "interrupted"
    if status == "done" and holder is not None:
        return "testing"
    return status


def _history(path: Path) -> dict[str, list[float]]:
    """Return the whole lines of history.csv by column."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    whole = text[: text.rfind("\n") + 1]
    rows = [row for row in csv.reader(io.StringIO(whole, newline="")) if row]
    if not rows:
        return {}
    names = rows[0]
    found: dict[str, list[float]] = {name: [] for name in names}
    for row in rows[1:]:
        if len(row) == len(names):
            for name, cell in zip(names, row, strict=True):
                found[name].append(_number(cell))
    return found


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _last_step(path: Path) -> int:
    """Return the number of the last step that steps.jsonl holds whole; 0 without one."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - TAIL))
            lines = stream.read().decode("utf-8", "replace").split("\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _test(path: Path) -> dict[str, float]:
    """Return the figures of test.json; none where there is none yet."""
    try:
        metrics = files.read_json(path).get("metrics", {})
        return {str(name): float(entry["value"]) for name, entry in metrics.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _rates(columns: Mapping[str, Sequence[float]]) -> tuple[float | None, float | None]:
    """Return steps a second while training, and seconds an epoch with its validation, over the last epochs."""
    if not columns.get("epoch") or "train_seconds" not in columns:
        return None, None
    train, valid = columns["train_seconds"][-RECENT:], columns.get("valid_seconds", [0.0])[-RECENT:]
    steps = columns.get("step", [])
    before = steps[-len(train) - 1] if len(steps) > len(train) else 0.0
    taken = steps[-1] - before if steps else 0.0
    rate = taken / sum(train) if sum(train) > 0 else None
    return rate, (sum(train) + sum(valid)) / len(train)


def _left(epoch: int, epochs: object, step: int, steps: object, rate: float | None, per_epoch: float | None) -> float | None:
    """Return the seconds to the end of the plan."""
    if isinstance(steps, int) and rate:
        return max(0, steps - step) / rate
    if isinstance(epochs, int) and per_epoch is not None:
        return max(0, epochs - epoch) * per_epoch
    return None


def _best(columns: Mapping[str, Sequence[float]], stopping: Mapping[str, Any]) -> tuple[int, str, float] | None:
    """Return the best epoch so far by the monitored figure, with its value."""
    monitor = str(stopping.get("monitor") or "valid_loss")
    sign = -1.0 if stopping.get("mode") == "max" else 1.0
    pairs = [
        (sign * value, int(epoch))
        for epoch, value in zip(columns.get("epoch", []), columns.get(monitor, []), strict=False)
        if math.isfinite(value)
    ]
    if not pairs:
        return None
    value, epoch = min(pairs)
    return epoch, monitor, sign * value


def headline(state: State) -> str:
    """Return how far a run is in a line."""
    parts = [
        f"epoch {state.epoch}" + (f" of {state.of_epochs}" if state.of_epochs is not None and not state.of_steps else "")
    ]
    parts.append(f"step {state.step:,}" + (f" of {state.of_steps:,}" if state.of_steps else ""))
    if state.rate is not None:
        parts.append(f"{state.rate:,.3g} steps/s" if state.rate < 1000 else f"{state.rate:,.0f} steps/s")
    if state.left is not None:
        parts.append(f"{duration_text(state.left)} left{' at most' if state.at_most else ''}")
    return " · ".join(parts)


def epoch_line(state: State, place: int) -> str:
    """Return the epoch at a place of the history in a line, as `train` prints it."""
    row = {name: values[place] for name, values in state.columns.items()}
    shown = [
        f"{name} {figure(value)}"
        for name, value in row.items()
        if name not in ("epoch", "step", "learning_rate") and not name.endswith("_seconds")
    ]
    seconds = row.get("train_seconds", 0.0) + row.get("valid_seconds", 0.0)
    total = "" if state.of_epochs is None else f"/{state.of_epochs}"
    star = "  *" if state.best is not None and state.best[0] == row.get("epoch") else ""
    return f"epoch {row.get('epoch', place + 1):.0f}{total}  {'  '.join(shown)}  {seconds:.2f} s{star}"


def ending_lines(state: State) -> list[str]:
    """Return how a run ended, and its test figures."""
    lines = [f"{state.status}: {state.why}" if state.why else state.status]
    if state.status == "interrupted":
        lines = ["interrupted: no process writes it any more; netwright resume RUN goes on from the last checkpoint"]
    if state.test:
        lines.append("test: " + ", ".join(f"{name} {figure_text(value)}" for name, value in state.test.items()))
    return lines


def frame(state: State, width: int, height: int) -> list[list[Segment]]:
    """Return what a terminal shows of a run: lines of styled texts.

    Args:
        state: How far it is.
        width: Characters across.
        height: Lines that the curves may take together.
    """
    lines: list[list[Segment]] = [[(state.name, "bold"), ("  ", ""), (state.status, STATES.get(state.status, "bold red"))]]
    lines.append([(headline(state), "")])
    if state.best is not None:
        epoch, monitor, value = state.best
        lines.append([(f"best so far: epoch {epoch}, {monitor} {figure_text(value)}", "")])
    losses = [name for name in ("train_loss", "valid_loss") if name in state.columns]
    others = [name for name in state.columns if name.startswith("valid_") and name not in ("valid_loss", "valid_seconds")][
        : len(COLOURS)
    ]
    groups = [names for names in (losses, others) if names and state.epoch]
    for names in groups:
        lines += _curve_lines(state, names, min(width, WIDEST), max(3, height // len(groups) - 2))
    if not state.epoch:
        lines.append([("no epoch has finished yet", "dim")])
    lines += [[(f"note: {remark}", "yellow")] for remark in state.remarks]
    if state.over or state.test:
        lines += [[(line, "")] for line in ending_lines(state)]
    return lines


def _curve_lines(state: State, names: Sequence[str], width: int, height: int) -> list[list[Segment]]:
    """Return the lines of some columns drawn together, with their scale and their last values."""
    series = [state.columns[name] for name in names]
    finite = [value for values in series for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (math.nan, math.nan)
    logarithmic = bool(finite) and low > 0 and high / low > WIDE_RATIO
    legend: list[Segment] = [("", "")]
    for name, values, colour in zip(names, series, COLOURS, strict=False):
        legend += [("● ", colour), (f"{name} {figure_text(values[-1])}   ", "")]
    if logarithmic:
        legend.append(("logarithmic scale", "dim"))
    lines = [[("", "")], legend]
    rows = braille_rows(series, max(10, width - LABEL - 1), height, logarithmic)
    for place, row in enumerate(rows):
        label = figure_text(high) if place == 0 else figure_text(low) if place == height - 1 else ""
        lines.append([(f"{label:>{LABEL}} ", "dim"), *_joined(row)])
    return lines


def _joined(row: Sequence[tuple[str, int]]) -> list[Segment]:
    """Return cells as segments, neighbours of one colour together."""
    found: list[Segment] = []
    for text, owner in row:
        style = COLOURS[owner] if owner >= 0 else ""
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return found
