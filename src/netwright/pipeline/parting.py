"""What each part of a split holds, for the verb split: counts, classes or values, groups, times, lengths. Floor 12."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding, told_as
from netwright.checks.parts import GROUP_NAMES
from netwright.config.schema import RunConfig
from netwright.data.splits import Split
from netwright.data.targets import Target
from netwright.errors import DataError
from netwright.model.task import implied_task
from netwright.numerals import counted, figure
from netwright.pipeline.checking import check_data
from netwright.rows.inputs import Inputs, load
from netwright.rows.reading import markers_of
from netwright.sources import cells, labels
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
NAMES = ("train", "valid", "test")
BINS = 10
BAR = 24  # characters
MOST_CLASSES = 20
EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Parts:
    """Who trains, validates and tests, and what each part holds.

    ``shares`` are, per part, the share of its rows in each class, or in each tenth of the target's range, named by ``bins``.
    """

    source: str
    how: str
    train: Rows
    valid: Rows
    test: Rows
    described: dict[str, dict[str, Any]]
    bins: tuple[str, ...]
    shares: dict[str, tuple[float, ...]]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what each part holds, drawn with bars."""
        total = sum(len(getattr(self, name)) for name in NAMES)
        lines = [f"{self.source}, {counted(total, 'row')} in the parts ({self.how})"]
        for name in NAMES:
            told = self.described[name]
            more = "; ".join(f"{key} {value}" for key, value in told.items() if key != "rows")
            lines.append(f"  {name:<5} {told['rows']:>9,} rows  {told['rows'] / max(total, 1):>6.1%}  {more}".rstrip())
        used = [name for name in NAMES if len(getattr(self, name))]
        if self.bins:
            width = max(len(text) for text in self.bins)
            lines += ["", f"  {'':<{width}}  " + "  ".join(f"{name:<{BAR + 7}}" for name in used).rstrip()]
            most = max(max(self.shares[name], default=0.0) for name in used) or 1.0
            for place, text in enumerate(self.bins):
                bars = [f"{_bar(self.shares[name][place] / most)} {self.shares[name][place]:>6.1%}" for name in used]
                lines.append(f"  {text:<{width}}  " + "  ".join(bars).rstrip())
        lines += [""] if self.notes or self.findings else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{told_as(finding)}: {finding}" for finding in self.findings]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; row numbers are left out."""
        return {
            "source": self.source,
            "how": self.how,
            "parts": self.described,
            "bins": list(self.bins),
            "shares": {name: list(values) for name, values in self.shares.items()},
            "findings": [found.to_json() for found in self.findings],
            "notes": list(self.notes),
        }


def divide(config: RunConfig, data: Any = None, watched: bool = False) -> Parts:
    """Read and divide rows as a run would.

    Args:
        config: The settings.
        data: Rows from Python instead of ``data.source``.
        watched: Whether something that is not in the settings reads figures of valid rows; a search does.

    Raises:
        ConfigError, DataError: See the stages.
    """
    inputs = load(config, data, implied_task(config.training.loss, None), watched=watched or config.tune is not None)
    split = inputs.split
    bins, shares = _shares(inputs.target, split)
    return Parts(
        inputs.source,
        split.how,
        split.train,
        split.valid,
        split.test,
        {name: _described(config, inputs, getattr(split, name)) for name in NAMES},
        bins,
        shares,
        check_data(config, inputs),
        inputs.notes,
    )


def _described(config: RunConfig, inputs: Inputs, rows: Rows) -> dict[str, Any]:
    """Return counts and ranges of the rows of a part."""
    found: dict[str, Any] = {"rows": len(rows)}
    raw, target = inputs.raw, inputs.target
    if not len(rows):
        return found
    if target.task == "regression":
        values = target.of(rows)[:, 0]
        found["target"] = (
            f"{figure(values.mean())} ± {figure(values.std(), 3)} ({figure(values.min())} to {figure(values.max())})"
        )
    if isinstance(raw, Sequences):
        lengths = raw.lengths[rows]
        if len(np.unique(raw.lengths)) > 1:
            found["steps"] = f"{int(lengths.min())} to {int(lengths.max())}"
        raw = raw.about if isinstance(raw.about, Table) and config.data.window is None else raw
    if isinstance(raw, Table):
        found |= _groups_and_times(config, raw, target, rows)
    return found


def _groups_and_times(config: RunConfig, table: Table, target: Target, rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {}
    markers, split = markers_of(config.data), config.data.split
    for name in table.names:
        try:
            if name == split.group or (name not in target.names and GROUP_NAMES.search(name)):
                found[name] = f"{len(np.unique(np.asarray(cells.group_values(table, name, markers))[rows]))} groups"
            elif name == split.time:
                column = table.columns[name].take(rows.tolist())
                ordered = np.argsort(np.asarray(cells.time_values(table, name, markers))[rows], kind="stable")
                found[name] = f"{column[int(ordered[0])].as_py()} to {column[int(ordered[-1])].as_py()}"
        except DataError:
            continue  # a missing cell: it is no group of the split
    return found


def _shares(target: Target, split: Split) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]]:
    """Return the classes, or tenths of the target's range, and their share of each part."""
    values = {name: target.of(getattr(split, name)) for name in NAMES}
    if target.task == "multilabel":
        shown = np.arange(min(len(target.classes), MOST_CLASSES))
        shares = {name: part[:, shown].mean(axis=0) if len(part) else np.zeros(len(shown)) for name, part in values.items()}
        return tuple(str(labels.shown(target.classes[place])) for place in shown), _tuples(shares)
    if target.classes:
        counts = np.bincount(np.concatenate(list(values.values())), minlength=len(target.classes))
        shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
        shares = {name: np.bincount(part, minlength=len(counts))[shown] / max(len(part), 1) for name, part in values.items()}
        return tuple(str(labels.shown(target.classes[place])) for place in shown), _tuples(shares)
    first = {name: part[:, 0] for name, part in values.items()}
    every = np.concatenate(list(first.values()))
    edges = np.histogram_bin_edges(every, bins=BINS) if len(every) else np.linspace(0, 1, BINS + 1)
    shares = {name: np.histogram(part, edges)[0] / max(len(part), 1) for name, part in first.items()}
    return tuple(f"{figure(low)} to {figure(high)}" for low, high in zip(edges[:-1], edges[1:], strict=True)), _tuples(
        shares
    )


def _tuples(shares: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(share) for share in values) for name, values in shares.items()}


def _bar(share: float) -> str:
    """Return a bar of a share, in eighths of a character."""
    eighths = round(max(0.0, min(share, 1.0)) * BAR * 8)
    return (EIGHTHS[8] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")).ljust(BAR)
