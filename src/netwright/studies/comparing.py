"""The heart of the verb compare: where runs part, in settings, figures and steps, and whether the gap is more than chance.

Two runs on the same test rows are compared row by row, two folders of seeds seed by seed. Floor 15.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netwright.config.schema import RunConfig
from netwright.data.batches import epoch_order
from netwright.errors import CheckpointError, ConfigError
from netwright.evaluation.pairs import Difference, McNemar
from netwright.numerals import counted, figure
from netwright.runfolder import folder as folders
from netwright.runfolder.showing import Sheet, members, several_html
from netwright.studies.contrasting import Side, contrast, side_of, titled, without
from netwright.studies.differing import settings_apart
from netwright.training.journal import STEPS

MOST_ROWS = 8


@dataclass(frozen=True)
class Comparison:
    """What runs differ in: settings, what they ran on, test figures; ``first`` is the first step that differs.

    ``settings`` and ``around`` hold a name and a text per run, ``figures`` a value per run, the mean over the seeds for a
    folder of seeds. ``differences`` are those of the second run from the first, with 95 % intervals where the two can be
    paired; ``how`` says by what. ``mcnemar`` is there for two classifiers on the same rows, ``remarks`` say what the
    differences are worth. The figures named in ``unlike`` are measured in different ways: they are not subtracted.
    """

    settings: tuple[tuple[str, ...], ...]
    around: tuple[tuple[str, ...], ...]
    figures: dict[str, tuple[float, ...]]
    steps: str | None = None
    first: int | None = None
    runs: tuple[str, ...] = ()
    differences: dict[str, Difference] = field(default_factory=dict)
    how: str | None = None
    mcnemar: McNemar | None = None
    deviations: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "runs": list(self.runs),
            "settings": [list(entry) for entry in self.settings],
            "around": [list(entry) for entry in self.around],
            "figures": {name: list(values) for name, values in self.figures.items()},
            "deviations": {name: list(values) for name, values in self.deviations.items()},
            "differences": {name: vars(found) for name, found in self.differences.items()},
            "how": self.how,
            "mcnemar": None if self.mcnemar is None else self.mcnemar.to_json(),
            "remarks": list(self.remarks),
            "not_subtracted": list(self.unlike),
            "steps": self.steps,
            "first_different_step": self.first,
        }

    def __str__(self) -> str:
        """Return a line per difference."""
        told = [f"{entry[0]}: {' | '.join(entry[1:])}" for entry in (*self.settings, *self.around)]
        lines = told or ["the same settings"]
        width = max((len(titled(name)) for name in self.figures), default=0)
        for name, values in self.figures.items():
            spread = self.deviations.get(name, ())
            shown = [
                figure(value, 6) + (f" (sd {figure(deviation, 2)})" if deviation is not None else "")
                for value, deviation in itertools.zip_longest(values, spread)
            ]
            lines.append(f"{titled(name):<{width}}  {' | '.join(shown)}{self._gap(name, values)}")
        lines += [text for text in [self._mcnemar_line()] if text]
        if self.how:
            lines.append(f"intervals: {self.how}")
        return "\n".join([*lines, *([self.steps] if self.steps else []), *(f"note: {text}" for text in self.remarks)])

    def _gap(self, name: str, values: Sequence[float]) -> str:
        """Return the difference of two values in words."""
        if len(values) != 2 or name in self.unlike:
            return ""
        found = self.differences.get(name)
        if found is None or found.low is None or found.high is None:
            return f"  ({_gap_text(values[1] - values[0])})"
        return f"  ({_gap_text(found.value)}, 95 % interval {_gap_text(found.low)} to {_gap_text(found.high)})"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return figures side by side, settings that differ, curves together and remarks, as one piece of HTML."""
        rows = []
        for name, values in self.figures.items():
            gap = self.differences.get(name)
            bounds = (
                ""
                if gap is None or gap.low is None or gap.high is None
                else f"{_gap_text(gap.low)} to {_gap_text(gap.high)}"
            )
            change = ["" if name in self.unlike else _gap_text(values[1] - values[0]), bounds] if len(values) == 2 else []
            rows.append([titled(name), *(figure(value, 6) for value in values), *change])
        extra = ("difference", "95 % interval") if len(self.runs) == 2 else ()
        sheets = [
            Sheet(("figure", *self.runs, *extra), rows),
            Sheet(("differs", *self.runs), (*self.settings, *self.around)),
        ]
        remarks = [self._mcnemar_line(), self.how and f"intervals: {self.how}", self.steps, *self.remarks]
        return several_html(" and ".join(self.runs), sheets, members(self.runs), [text for text in remarks if text])

    def _mcnemar_line(self) -> str | None:
        if self.mcnemar is None:
            return None
        first, second = self.mcnemar.only_first, self.mcnemar.only_second
        told = f"{counted(first, 'row')} only the first has right, {second:,} only the second"
        return f"McNemar's exact test: {told}: p = {self.mcnemar.p:.3g}"


def _gap_text(value: float) -> str:
    return figure(value, 3, "+")


def compare_runs(paths: Sequence[Path], steps: bool = False) -> Comparison:
    """Compare runs, or folders of seeds, by their folders.

    Args:
        paths: Two or more; intervals and steps are of two.
        steps: Whether to look for the first step that differs.

    Raises:
        ConfigError: Fewer than two, or one twice.
        CheckpointError: A folder is no run, or has no history.
    """
    _refuse_paths(paths, steps)
    sides = [side_of(path) for path in paths]
    unlike, why = _unlike(sides)
    found = contrast(*(without(side, unlike) for side in sides)) if len(sides) == 2 else None
    text, first = None, None
    if steps:
        text, first = _first_step(sides[0].first, sides[1].first, [side.config for side in sides])
    figures = sides[0].figures
    return Comparison(
        settings=tuple(settings_apart([side.config for side in sides])),
        around=tuple(_around([side.record for side in sides])),
        figures={
            name: tuple(side.figures[name] for side in sides)
            for name in figures
            if all(name in side.figures for side in sides)
        },
        steps=text,
        first=first,
        runs=tuple(str(path) for path in paths),
        differences=dict(found.differences) if found else {},
        how=found.how if found else None,
        mcnemar=found.mcnemar if found else None,
        deviations=_deviations(sides),
        remarks=(*why, *(found.remarks if found else ("intervals of differences are of two runs: name two",))),
        unlike=unlike,
    )


def _refuse_paths(paths: Sequence[Path], steps: bool) -> None:
    if len(paths) < 2:
        raise ConfigError(f"compare: {len(paths)} run came; expected two or more; name another")
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise ConfigError(f"compare: {path} came twice; expected different runs; name another")
        seen[path.resolve()] = path
    several = [path for path in paths if (path / folders.SEEDS).is_file()]
    if steps and (len(paths) > 2 or several):
        what = f"{several[0]} is a folder of seeds" if several else f"{len(paths)} runs came"
        raise ConfigError(f"compare --steps: {what}; expected two single runs; name two")


def _deviations(sides: Sequence[Side]) -> dict[str, tuple[float | None, ...]]:
    """Return the standard deviation between the seeds of each side, where one is a folder of seeds."""
    if not any(side.deviations for side in sides):
        return {}
    names = [name for name in sides[0].figures if all(name in side.figures for side in sides)]
    return {name: tuple(side.deviations.get(name) for side in sides) for name in names}


def _unlike(sides: Sequence[Side]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the figures that are losses of different kinds, and why they are not subtracted."""
    kinds = [(str(side.record.get("task", {}).get("loss")), _target_scaling(side.config)) for side in sides]
    names = tuple(name for name in sides[0].figures if name.removeprefix("valid_").removeprefix("train_") == "loss")
    if len(set(kinds)) == 1 or not names:
        return (), ()
    losses = [loss for loss, _ in kinds]
    told = losses if len(set(losses)) > 1 else [f"of a target scaled by {scaling}" for _, scaling in kinds]
    return names, (f"the losses are of different kinds ({' | '.join(told)}): their difference would say nothing",)


def _target_scaling(config: RunConfig) -> str:
    """Return how the target was scaled before the loss read it."""
    preparation = config.data.preparation
    return preparation if isinstance(preparation, str) else str(preparation.target_scaling)


def _around(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield what the runs ran on, where it differs."""
    for part, keys in (("data", ("digest", "rows")), ("split", ("digest",)), ("versions", ("torch", "numpy", "platform"))):
        for key in keys:
            values = [str(dict(record.get(part, {})).get(key)) for record in records]
            if len(set(values)) > 1:
                yield (f"{part} {key}", *(value[:60] for value in values))
    for key in ("device", "threads"):
        values = [str(record.get(key)) for record in records]
        if len(set(values)) > 1:
            yield (key, *values)


def _first_step(one: Path, other: Path, configs: list[RunConfig]) -> tuple[str, int | None]:
    """Return in words where the losses of the steps part, and the number of that step."""
    count, within, epoch = 0, 0, 0
    for left, right in itertools.zip_longest(step_lines(one), step_lines(other)):
        if left is None or right is None:
            shorter = one if left is None else other
            return f"steps: the same losses in {counted(count, 'step')}, then {shorter} ends", None
        within = within + 1 if left["epoch"] == epoch else 1
        epoch = left["epoch"]
        if left["loss"] != right["loss"] or left["weight"] != right["weight"]:
            text = f"steps: step {left['step']} (epoch {epoch}) is the first that differs: loss {left['loss']!r} | "
            text += f"{right['loss']!r}; "
            return text + _batches(one, other, configs, epoch, within), int(left["step"])
        count += 1
    return f"steps: the same losses in all {counted(count, 'step')}", None


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
        return "its rows are not worked out for sequences of different length, mapped rows and rows drawn by class"
    if rows[0] == rows[1]:
        shown = ", ".join(map(str, rows[0][:MOST_ROWS]))
        what = f"both had the same {counted(rows[0], 'row')} ({shown}, ...)"
        return f"{what}, so it is the weights, the network or the machine that differ"
    return f"the rows differ: {rows[0][:MOST_ROWS]}... | {rows[1][:MOST_ROWS]}..."


def _rows(folder: Path, config: RunConfig, epoch: int, within: int) -> list[int] | None:
    """Return the rows of a step of an epoch (both from 1)."""
    if len(config.data.rungs or []) > 1 or config.data.storage == "map" or config.data.sampling is not None:
        return None
    train = folders.read_split(folder).train
    size = min(config.data.batch_size, len(train))
    order = epoch_order(train, config.training.seed, epoch)
    return [int(row) for row in order[(within - 1) * size : within * size]]
