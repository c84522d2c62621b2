"""Predictions out of fold: what each row was given by a network that was not trained on it, gathered over the splits. Floor 15.

Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from netwright import files
from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError
from netwright.evaluation.pairs import Outcomes
from netwright.evaluation.prediction import SEPARATOR, classes_written, prediction_columns, table_bytes, true_columns
from netwright.evaluation.testing import Drawn, Verdict, all_figures
from netwright.exporting.bundle import Outcome, load_preparation
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.sources import labels
from netwright.trained.calibrating import ERRORS
from netwright.trained.predictions import (
    PREDICTION,
    PROBABILITY,
    TARGET,
    Predictions,
    label_sets,
    outcomes_of,
    read_predictions,
    units_of,
)

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
CHANCE = (
    "the intervals are of the rows alone: the networks share train rows, and others would have been trained on others; so they "
    "are a little too narrow"
)


@dataclass(frozen=True)
class _Part:
    """What one split gave for its test rows: their keys, what was true, what was predicted, and further columns."""

    keys: Rows
    true: npt.NDArray[Any]
    decoded: Floats
    more: dict[str, list[str]]


@dataclass(frozen=True)
class _Gathered:
    """Every row that was tested, in the order of the source.

    Args:
        keys: Row numbers, or rows and steps ``(rows, 1 or 2)``.
        true: What was true.
        decoded: The mean of what the splits gave that tested the row.
        splits: The numbers of these, for each row.
        more: Further columns.
    """

    keys: Rows
    true: npt.NDArray[Any]
    decoded: Floats
    splits: list[list[int]]
    more: dict[str, list[str]]


def write_out_of_fold(folder: Path, runs: Sequence[Path]) -> dict[str, Any] | None:
    """Write ``out_of_fold.csv``, for a regression the errors behind intervals too, and return what it says.

    Args:
        folder: Of the splits.
        runs: The run of each, tested.

    Returns:
        ``n`` rows, ``untested`` ones, ``metrics`` with intervals, ``notes``; None where a step of one's own was trained, which
        predicts nothing that is known here.

    Raises:
        CheckpointError: A run's predictions are missing or damaged.
    """
    config, record = read_config(runs[0]), folders.read_record(runs[0])
    if config.training.step is not None:
        return None
    _, outcome = load_preparation(runs[0])
    parts = [_part_of(run, outcome) for run in runs]
    found = _gathered(parts)
    columns = _columns(found, outcome)
    files.write_bytes(folder / folders.OUT_OF_FOLD, table_bytes(columns, ".csv", config.data.label_separator))
    if outcome.task == "regression":
        errors = np.concatenate([np.abs(part.decoded - part.true) for part in parts])
        member = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
        files.write_arrays(folder / ERRORS, {"errors": errors, "member": member})
    return _figures(runs[0], config, record, outcome, found)


def _part_of(run: Path, outcome: Outcome) -> _Part:
    """Read what the run of a split gave for its test rows.

    Raises:
        CheckpointError: Its predictions are damaged.
    """
    config, record = read_config(run), folders.read_record(run)
    rows = read_predictions(run, config, record)
    if outcome.task == "multilabel":
        true, predicted = (_label_matrix(columns, rows, outcome) for columns in (rows.true, rows.predicted))
        outcomes = Outcomes("labels", true, predicted)
    else:
        rows = replace(rows, classes=classes_written(outcome.classes))
        outcomes, _ = outcomes_of(rows, rows)
        if outcomes.classes > len(outcome.classes):
            raise CheckpointError(
                f"{run / folders.PREDICTIONS}: classes that the run does not know; expected {', '.join(rows.classes)}; test the run"
            )
    return _Part(rows.keys, outcomes.true, _decoded(rows, outcomes, outcome), _further(run))


def _label_matrix(columns: dict[str, list[str]], rows: Predictions, outcome: Outcome) -> Rows:
    """Return labels as 0 and 1 ``(rows, labels)``, in the order of the run."""
    texts = list(columns.values())
    if len(outcome.names) > 1:
        return np.stack([np.asarray(column, dtype=np.int64) for column in texts], axis=1)
    return label_sets(texts[0], rows.separator, [str(label) for label in outcome.classes])


def _decoded(rows: Predictions, outcomes: Outcomes, outcome: Outcome) -> Floats:
    """Return probabilities ``(rows, classes)`` or values; where the file has no probabilities 1 for what was predicted."""
    if outcomes.kind == "values":
        return np.asarray(outcomes.predicted, dtype=np.float64)
    if outcome.probabilities:
        return np.stack(list(rows.probabilities.values()), axis=1)
    if outcomes.kind == "labels":
        return np.asarray(outcomes.predicted, dtype=np.float64)
    return np.asarray(np.eye(outcomes.classes)[outcomes.predicted])


def _further(run: Path) -> dict[str, list[str]]:
    """Return the columns of predictions.csv that say where a row is, but for its number."""
    options = pa.csv.ParseOptions(newlines_in_values=True)
    table = pa.csv.read_csv(run / folders.PREDICTIONS, parse_options=options)
    known = ("row", "step")
    names = [
        name for name in table.column_names if not name.startswith((TARGET, PREDICTION, PROBABILITY)) and name not in known
    ]
    return {name: [str(value) for value in table[name].to_pylist()] for name in names}


def _gathered(parts: Sequence[_Part]) -> _Gathered:
    """Return every row once, with the mean over the splits that tested it."""
    keys = np.concatenate([part.keys for part in parts])
    true, decoded = (np.concatenate([getattr(part, name) for part in parts]) for name in ("true", "decoded"))
    splits = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
    found, first, place, times = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    sums = np.zeros((len(found), decoded.shape[1]))
    np.add.at(sums, place, decoded)
    members: list[list[int]] = [[] for _ in range(len(found))]
    for row, split in zip(place.tolist(), splits.tolist(), strict=True):
        members[row].append(split)
    joined = {name: [text for part in parts for text in part.more[name]] for name in parts[0].more}
    more = {name: [texts[row] for row in first] for name, texts in joined.items()}
    return _Gathered(found, true[first], sums / times[:, None], members, more)


def _columns(found: _Gathered, outcome: Outcome) -> dict[str, Any]:
    """Return the columns of out_of_fold.csv."""
    once = all(len(splits) == 1 for splits in found.splits)
    names = ("row", "step")[: found.keys.shape[1]]
    columns: dict[str, Any] = {name: found.keys[:, place] for place, name in enumerate(names)}
    columns |= found.more
    if once:
        columns["fold"] = [splits[0] for splits in found.splits]
    else:
        columns["fold"] = [SEPARATOR.join(map(str, splits)) for splits in found.splits]
        columns["times"] = [len(splits) for splits in found.splits]
    columns |= true_columns(outcome.task, found.true, outcome.names, outcome.classes)
    return columns | prediction_columns(outcome.task, found.decoded, outcome.names, outcome.classes, outcome.probabilities)


def _figures(run: Path, config: RunConfig, record: dict[str, Any], outcome: Outcome, found: _Gathered) -> dict[str, Any]:
    """Return the figures of all rows out of fold, with the intervals of the one bootstrap."""
    rows = Predictions(outcome.task, found.keys, {}, {}, {}, (), SEPARATOR)
    units, named, remark = units_of(run, config, record, rows)
    drawn = None if named is None else Drawn(units, config.data.split.group or named)
    verdict = Verdict(outcome.task, found.true, found.decoded, outcome.decoding, drawn)
    told = all_figures(verdict, None, [labels.shown(label) for label in outcome.classes])
    times = sorted({len(splits) for splits in found.splits})
    untested = int(record.get("data", {}).get("rows", 0)) - len(np.unique(found.keys[:, 0]))
    notes = [*told.pop("notes", []), CHANCE, *([remark] if remark else [])]
    if times[-1] > 1:
        many = f"{times[0]}" if len(times) == 1 else f"{times[0]} to {times[-1]}"
        notes.append(
            f"each row was tested {many} times; its prediction is the mean, so these figures flatter a single network"
        )
    if untested > 0 and config.data.window is None:
        notes.append(f"{untested} rows were tested by no split")
    return {"n": len(found.keys), "untested": max(untested, 0), "file": folders.OUT_OF_FOLD, **told, "notes": notes}
