"""From prepared inputs to the findings in the data: which rows, which columns, which target. Floor 12."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.checks import columns as single
from netwright.checks import duplicates, leaks, parts, shift
from netwright.checks.findings import Finding, in_order
from netwright.checks.view import Hashes, Values, columns_of, row_hashes, width
from netwright.config.schema import RunConfig
from netwright.config.slugs import ALL, DATA
from netwright.data.array_preparation import ArrayPreparation
from netwright.data.mapped import Mapped
from netwright.data.targets import Target
from netwright.errors import ConfigError, DataError
from netwright.model.weighing import FOCAL
from netwright.numerals import counted
from netwright.pipeline.balancing import ways_of
from netwright.rows.inputs import Inputs
from netwright.rows.reading import markers_of
from netwright.seeding import stream
from netwright.sources import cells
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
FEWEST, MOST, MOST_CELLS = 5_000, 20_000, 2_000_000  # rows of a part whose columns are compared, and cells of these
ANSWERS = {"class_weight": "weights in the loss", "sampling": "data.sampling", "focal": FOCAL}  # to rare classes
OF_COLUMNS = (
    "shift", "target-leak", "near-duplicate-rows", "constant-column", "identifier-column", "mostly-missing", "sentinel-values",
    "label-noise",
)  # fmt: skip
MOST_ROWS, MOST_BYTES = 10_000_000, 4_000_000_000  # among which duplicates are looked for


def check_data(config: RunConfig, inputs: Inputs, thorough: bool = False) -> tuple[Finding, ...]:
    """Return what in the data may spoil training or its figures, errors first.

    Args:
        config: The settings.
        inputs: Rows, target, split and preparation.
        thorough: Also what takes longer than training should wait, or scikit-learn.
    """
    if ALL in config.checks.skip:
        return ()
    wanted = set(DATA) - set(config.checks.skip)
    split, target, encoder = inputs.split, inputs.target, inputs.preparation.encoder
    found = single.few_rows(len(split.train)) if config.data.window is None and not target.per_step else []
    if target.classes and not target.per_step:
        found += parts.classes(target.classes, target.values, split)
    table = _table(inputs)
    if table is not None:
        found += parts.shared_groups(_group_columns(config, table, target), split, config.data.split.group)
    if table is not None and encoder is not None and not isinstance(inputs.raw, Sequences):
        dates = [column for column in encoder.columns if column.kind == "date" and column.name in table.names]
        found += parts.time({column.name: encoder.cells(table, column) for column in dates}, split)
    if {"duplicate-rows", "conflicting-targets"} & wanted and config.data.window is None and _comparable(inputs.raw):
        hashes = row_hashes(inputs.raw, encoder)
        found += duplicates.exact(hashes, _numbers(target), split, lambda row: _place(inputs, row))
        found += _conflicts(hashes, inputs)
    found += _gaps(inputs)
    if not target.per_step:
        found += _of_target(config, inputs)
    if set(OF_COLUMNS) & wanted:
        found += _of_columns(config, inputs, thorough)
    return in_order(found, config.checks.skip)


def _of_columns(config: RunConfig, inputs: Inputs, thorough: bool) -> list[Finding]:
    """Look at the columns of (some) rows of each part."""
    split, target, encoder = inputs.split, inputs.target, inputs.preparation.encoder
    most = MOST
    if config.checks.near_duplicates is None:  # which are found in so far as both of a pair are drawn
        most = min(MOST, max(FEWEST, MOST_CELLS // width(inputs.raw, encoder)))
    sampled = {part: _sample(getattr(split, part), part, most) for part in ("train", "valid", "test")}
    columns = {part: columns_of(inputs.raw, encoder, rows) for part, rows in sampled.items()}
    found: list[Finding] = []
    if config.checks.near_duplicates is not None:
        found += duplicates.near(columns, config.checks.near_duplicates)
    found += shift.shifts(columns, config.data.window or 1)
    if isinstance(inputs.raw, Table) or (isinstance(inputs.raw, Arrays) and len(columns["train"]) > 1):
        drawn = len(sampled["train"]) < len(split.train)
        found += single.singles(columns["train"], inputs.raw.rows, markers_of(config.data), drawn)
    if thorough and encoder is not None:
        found += single.left_out([column.name for column in encoder.columns if column.kind == "identifier"])
    if target.per_step or config.data.window is not None:
        return found
    found += _leaks(columns["train"], target, sampled["train"])
    if thorough and target.task in ("binary", "multiclass"):
        rows = sampled["train"]
        found += single.noisy_labels(columns["train"], target.of(rows), lambda row: _place(inputs, int(rows[row])))
    return found


def _gaps(inputs: Inputs) -> list[Finding]:
    """Look for numbers that are missing in arrays of which nothing is learned that could fill them."""
    steps = inputs.raw.steps if isinstance(inputs.raw, Sequences) else inputs.raw
    named = steps.inputs if isinstance(steps, Arrays) else {}
    plain = [
        name for name, one in inputs.preparation.modules.items() if isinstance(one, ArrayPreparation) and one.mode == "none"
    ]
    missing = {name: int(np.isnan(named[name]).sum()) for name in plain if name in named and named[name].dtype.kind == "f"}
    return [
        Finding(
            "missing-as-zero",
            f"array {name!r}",
            f"{counted(count, 'number')} missing (NaN) read as 0, as rows are taken as they are (preparation = none)",
            'set data.preparation = "standardize", which fills in the mean, or fill them in what makes the rows',
            confidence="sure",
            figures={"missing": count},
        )
        for name, count in missing.items()
        if count
    ]


def _of_target(config: RunConfig, inputs: Inputs) -> list[Finding]:
    """Look at the targets of the train rows."""
    target, rows = inputs.target, inputs.split.train
    if target.task in ("binary", "multiclass"):
        ways = [ANSWERS[way] for way in ways_of(config)]
        return single.rare_classes(target.classes, target.of(rows), ways) + single.corrected_twice(ways)
    if target.task == "regression" and config.data.window is None:
        return single.far_targets(target.names, target.of(rows), lambda row: _place(inputs, int(rows[row])))
    return []


def _conflicts(hashes: Hashes, inputs: Inputs) -> list[Finding]:
    """Look for train rows of equal inputs and different targets."""
    numbers, rows = _numbers(inputs.target), inputs.split.train
    if numbers is None:
        return []
    classes = inputs.target.task != "regression"
    return single.conflicts(hashes[rows], numbers[rows], classes, lambda row: _place(inputs, int(rows[row])))


def refuse(found: tuple[Finding, ...]) -> None:
    """Refuse findings that are no notes; they are told before.

    Raises:
        ConfigError: One of them is about the network.
        DataError: All of them are about the data.
    """
    refused = [finding for finding in found if finding.refuses]
    if not refused:
        return
    names = ", ".join(dict.fromkeys(finding.check for finding in refused))
    network = any(finding.family != "data" for finding in refused)
    todo = "mend the network" if network else "mend the data"
    kind = ConfigError if network else DataError
    raise kind(
        f"--strict: {counted(refused, 'finding')} ({names}); expected none; {todo}, or name what is meant to be so in checks.skip"
    )


def _comparable(raw: Raw | Mapped) -> bool:
    """Tell whether rows are few and small enough to compare all of them."""
    values = raw.inputs.values() if isinstance(raw, Arrays) else [raw.features] if isinstance(raw, Mapped) else []
    return raw.rows <= MOST_ROWS and sum(value.nbytes for value in values) <= MOST_BYTES


def _sample(rows: Rows, part: str, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    return np.sort(stream(0, "checks", len(part)).choice(rows, most, replace=False))


def _table(inputs: Inputs) -> Table | None:
    """Return the table with a row each that is known of the rows."""
    raw: Any = inputs.raw
    if isinstance(raw, Sequences):
        raw = raw.about
    return raw if isinstance(raw, Table) and raw.rows == inputs.raw.rows else None


def _group_columns(config: RunConfig, table: Table, target: Target) -> dict[str, npt.NDArray[np.str_]]:
    """Return the columns that may be groups as texts; those with a missing cell are none."""
    found: dict[str, npt.NDArray[np.str_]] = {}
    for name in table.names:
        if name in target.names or (name != config.data.split.group and not parts.may_group(name)):
            continue
        try:
            found[name] = np.asarray(cells.group_values(table, name, markers_of(config.data)))
        except DataError:
            continue  # a missing cell: the column groups nothing
    return found


def _numbers(target: Target) -> npt.NDArray[np.float64] | None:
    """Return the target as numbers ``(rows, outputs)``; None where steps have one each."""
    return None if target.per_step else np.asarray(target.values, dtype=np.float64).reshape(len(target.values), -1)


def _place(inputs: Inputs, row: int) -> str:
    raw = inputs.raw
    if isinstance(raw, Sequences):
        return raw.place(row)
    return f"row {row + 1}" if isinstance(raw, Mapped) else raw.place(row)


def _leaks(columns: list[Values], target: Target, rows: Rows) -> list[Finding]:
    """Look at each output, or label, of the target; a column is told once."""
    values = target.of(rows).reshape(len(rows), -1)
    classes = 2 if target.task == "multilabel" else len(target.classes)
    found: dict[Any, Finding] = {}
    for output in values.T:
        for finding in leaks.leaks(columns, np.asarray(output, dtype=np.float64), classes):
            found.setdefault(finding.figures["column"], finding)
    return list(found.values())[: leaks.MOST]
