"""The heart of the verb compare: where two runs part, in their settings, figures and steps. Floor 9."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright.config.schema import RunConfig
from netwright.data.batches import epoch_order
from netwright.errors import CheckpointError
from netwright.pipeline import folder as folders
from netwright.pipeline.resuming import differences
from netwright.pipeline.run import read_config
from netwright.training.journal import STEPS

MOST_ROWS = 8


@dataclass(frozen=True)
class Comparison:
    """What two runs differ in: settings, what they ran on, test figures; ``first`` is the first step that differs."""

    settings: tuple[tuple[str, str, str], ...]
    around: tuple[tuple[str, str, str], ...]
    figures: dict[str, tuple[float, float]]
    steps: str | None = None
    first: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "settings": [list(entry) for entry in self.settings],
            "around": [list(entry) for entry in self.around],
            "figures": {name: list(values) for name, values in self.figures.items()},
            "steps": self.steps,
            "first_different_step": self.first,
        }

    def __str__(self) -> str:
        """Return a line per difference."""
        lines = [f"{path}: {old} | {new}" for path, old, new in (*self.settings, *self.around)] or ["the same settings"]
        width = max((len(name) for name in self.figures), default=0)
        lines += [
            f"test {name:<{width}}  {one:.6g} | {other:.6g}  ({other - one:+.3g})"
            for name, (one, other) in self.figures.items()
        ]
        return "\n".join([*lines, *([self.steps] if self.steps else [])])


def compare_runs(one: Path, other: Path, steps: bool) -> Comparison:
    """Compare two runs by their folders.

    Args:
        one: A run folder.
        other: Another.
        steps: Whether to look for the first step that differs.

    Raises:
        CheckpointError: A folder is no run, or has no history.
    """
    records, configs = [folders.read_record(path) for path in (one, other)], [read_config(path) for path in (one, other)]
    settings = tuple((path, str(old), str(new)) for path, old, new in differences(*configs))
    around = tuple(_around(records[0], records[1]))
    figures = _figures(one, other)
    if not steps:
        return Comparison(settings, around, figures)
    text, first = _first_step(one, other, configs)
    return Comparison(settings, around, figures, text, first)


def _around(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what the runs ran on, where it differs."""
    for part, keys in (("data", ("digest", "rows")), ("split", ("digest",)), ("versions", ("torch", "numpy", "platform"))):
        for key in keys:
            values = [str(dict(record.get(part, {})).get(key)) for record in (one, other)]
            if values[0] != values[1]:
                yield (f"{part} {key}", values[0][:60], values[1][:60])
    for key in ("device", "threads"):
        if one.get(key) != other.get(key):
            yield (key, str(one.get(key)), str(other.get(key)))


def _figures(one: Path, other: Path) -> dict[str, tuple[float, float]]:
    """Return the test figures that both have."""
    tests = [folders.read_json(path / folders.TEST) if (path / folders.TEST).is_file() else {} for path in (one, other)]
    metrics = [dict(test.get("metrics", {})) for test in tests]
    return {
        name: (float(metrics[0][name]["value"]), float(metrics[1][name]["value"]))
        for name in metrics[0]
        if name in metrics[1]
    }


def _first_step(one: Path, other: Path, configs: list[RunConfig]) -> tuple[str, int | None]:
    """Return in words where the losses of the steps part, and the number of that step."""
    count, within, epoch = 0, 0, 0
    for left, right in itertools.zip_longest(step_lines(one), step_lines(other)):
        if left is None or right is None:
            shorter = one if left is None else other
            return f"steps: the same losses in {count} steps, then {shorter} ends", None
        within = within + 1 if left["epoch"] == epoch else 1
        epoch = left["epoch"]
        if left["loss"] != right["loss"] or left["weight"] != right["weight"]:
            gap = right["loss"] - left["loss"]
            text = f"steps: step {left['step']} (epoch {epoch}) is the first that differs: loss {left['loss']!r} | "
            text += f"{right['loss']!r} ({gap:+.3g}); "
            return text + _batches(one, other, configs, epoch, within), int(left["step"])
        count += 1
    return f"steps: the same losses in all {count} steps", None


def step_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of steps.jsonl.

    Raises:
        CheckpointError: Missing or damaged.
    """
    path = folder / STEPS
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                found = json.loads(line)
                yield {key: found[key] for key in ("step", "epoch", "loss", "weight")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected a line per step; check the run") from error


def _batches(one: Path, other: Path, configs: list[RunConfig], epoch: int, within: int) -> str:
    """Return whether both runs had the same rows in a step."""
    rows = [_rows(path, config, epoch, within) for path, config in zip((one, other), configs, strict=True)]
    if rows[0] is None or rows[1] is None:
        return "its rows are not worked out for sequences of different length and mapped rows"
    if rows[0] == rows[1]:
        shown = ", ".join(map(str, rows[0][:MOST_ROWS]))
        return f"both had the same {len(rows[0])} rows ({shown}, ...), so it is the weights, the network or the machine that differ"
    return f"the rows differ: {rows[0][:MOST_ROWS]}... | {rows[1][:MOST_ROWS]}..."


def _rows(folder: Path, config: RunConfig, epoch: int, within: int) -> list[int] | None:
    """Return the rows of a step of an epoch (both from 1)."""
    if len(config.data.rungs or []) > 1 or config.data.storage == "map":
        return None
    train = folders.read_split(folder).train
    size = min(config.data.batch_size, len(train))
    order = epoch_order(train, config.training.seed, epoch)
    return [int(row) for row in order[(within - 1) * size : within * size]]
