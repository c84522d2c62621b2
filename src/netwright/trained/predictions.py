"""The test rows of a finished run, read from its predictions.csv: which they are, what was true, what was predicted. Floor 13."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.errors import CheckpointError, NetwrightError
from netwright.evaluation.pairs import Outcomes
from netwright.evaluation.prediction import SEPARATOR, classes_written
from netwright.rows.reading import markers_of
from netwright.runfolder import folder as folders
from netwright.sources import cells
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.trained.testing import neighbours, own_inputs

TARGET, PREDICTION, PROBABILITY = "target", "prediction", "probability_"


@dataclass(frozen=True)
class Predictions:
    """What predictions.csv holds.

    ``keys`` are the numbers of the rows, and of the steps where each step has a prediction, ``(rows, 1 or 2)``; ``true`` and
    ``predicted`` the texts of the cells by column, ``probabilities`` the numbers by class, in the order of ``classes``, which
    are spelled as in the cells.
    """

    kind: str
    keys: npt.NDArray[np.int64]
    true: dict[str, list[str]]
    predicted: dict[str, list[str]]
    probabilities: dict[str, npt.NDArray[np.float64]]
    classes: tuple[str, ...]
    separator: str

    @property
    def per_step(self) -> bool:
        """Whether each step has a prediction."""
        return bool(self.keys.shape[1] > 1)

    def same_rows(self, other: Predictions) -> bool:
        """Tell whether another run was tested on the same rows with the same targets."""
        return bool(np.array_equal(self.keys, other.keys) and self.true == other.true)


def read_predictions(folder: Path, config: RunConfig, record: dict[str, Any]) -> Predictions:
    """Read predictions.csv of a run.

    Raises:
        CheckpointError: Missing, damaged or of other columns.
    """
    path = folder / folders.PREDICTIONS
    kind = str(record.get("task", {}).get("kind"))
    texts = pa.csv.ConvertOptions(strings_can_be_null=False, column_types={})
    try:
        names = pa.csv.open_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True)).schema.names
        texts.column_types = {name: pa.string() for name in names if name.startswith((TARGET, PREDICTION))}
        table = pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=texts)
        keys = [table[name].to_numpy().astype(np.int64) for name in ("row", "step") if name in names]
        probabilities = {
            name.removeprefix(PROBABILITY): table[name].to_numpy().astype(np.float64)
            for name in names
            if name.startswith(PROBABILITY)
        }
        labels = list(record.get("task", {}).get("classes", ()))
        classes = tuple(str(label) for label in labels) if kind == "multilabel" else classes_written(labels)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); expected the predictions of a test; test the run"
        ) from error
    if not keys:
        raise CheckpointError(f"{path}: no column row; expected the predictions of a test; test the run again")
    true = {name: table[name].to_pylist() for name in names if name.startswith(TARGET)}
    predicted = {name: table[name].to_pylist() for name in names if name.startswith(PREDICTION)}
    separator = config.data.label_separator or SEPARATOR
    return Predictions(kind, np.stack(keys, axis=1), true, predicted, probabilities, classes, separator)


def outcomes_of(one: Predictions, other: Predictions) -> tuple[Outcomes, Outcomes]:
    """Return what two runs gave for the same rows, in numbers.

    Raises:
        CheckpointError: Columns that are not those of the task.
    """
    try:
        if one.kind == "regression":
            return _values(one), _values(other)
        if one.kind == "multilabel":
            return _labels(one, other)
        names = _names((one, other))
        return _classes(one, names), _classes(other, names)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"predictions.csv: {error}; expected the columns of a {one.kind} test; test the runs"
        ) from error


def _values(rows: Predictions) -> Outcomes:
    true, predicted = (
        np.stack([np.asarray(values, dtype=np.float64) for values in columns.values()], axis=1)
        for columns in (rows.true, rows.predicted)
    )
    return Outcomes("values", true, predicted)


def _names(sides: Sequence[Predictions]) -> list[str]:
    """Return the classes as the file spells them, in the order of the run, then those of the cells alone."""
    cells_of = {text for rows in sides for texts in (rows.true[TARGET], rows.predicted[PREDICTION]) for text in texts}
    return [*sides[0].classes, *sorted(cells_of - set(sides[0].classes))]


def _classes(rows: Predictions, names: Sequence[str]) -> Outcomes:
    places = {name: place for place, name in enumerate(names)}
    true, predicted = (
        np.asarray([places[text] for text in texts], dtype=np.int64)
        for texts in (rows.true[TARGET], rows.predicted[PREDICTION])
    )
    known = dict(zip(rows.classes, rows.probabilities.values(), strict=False))
    probabilities = None
    if known and all(name in known for name in names):
        probabilities = np.stack([known[name] for name in names], axis=1)
    return Outcomes("class", true, predicted, len(names), probabilities)


def _labels(one: Predictions, other: Predictions) -> tuple[Outcomes, Outcomes]:
    """Return labels as 0 and 1: from a column each, or from one column of sets."""
    if len(one.true) > 1:
        return _label_columns(one), _label_columns(other)
    texts = [rows.true[TARGET] for rows in (one, other)] + [rows.predicted[PREDICTION] for rows in (one, other)]
    sets = [[_members(text, one.separator) for text in column] for column in texts]
    names = sorted({label for column in sets for members in column for label in members} | set(one.classes))
    found = [label_sets(column, one.separator, names) for column in texts]
    return Outcomes("labels", found[0], found[2]), Outcomes("labels", found[1], found[3])


def label_sets(column: Sequence[str], separator: str, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return cells that hold labels each as 0 and 1, ``(rows, labels)``.

    Example:
        >>> label_sets(["b;c", "", "a"], ";", ["a", "b", "c"]).tolist()
        [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    """
    places = {name: place for place, name in enumerate(names)}
    matrix = np.zeros((len(column), len(names)), dtype=np.int64)
    for row, cell in enumerate(column):
        matrix[row, [places[name] for name in _members(cell, separator)]] = 1
    return matrix


def _label_columns(rows: Predictions) -> Outcomes:
    true, predicted = (
        np.stack([np.asarray(column, dtype=np.int64) for column in columns.values()], axis=1)
        for columns in (rows.true, rows.predicted)
    )
    return Outcomes("labels", true, predicted)


def _members(text: str, separator: str) -> list[str]:
    """Return the labels in a cell."""
    if text.startswith("["):
        return [str(label) for label in json.loads(text)]
    return text.split(separator) if text else []


def units_of(
    folder: Path, config: RunConfig, record: dict[str, Any], rows: Predictions
) -> tuple[npt.NDArray[np.int64], str | None, str | None]:
    """Return the unit of each test row that is drawn as one: its group, the row of its steps, or the row itself.

    Returns:
        Numbers from 0 ``(rows,)``; what the units are where they are not single rows, in words; and a remark where the groups
        of the split could not be read again.
    """
    numbers = rows.keys[:, 0]
    group = config.data.split.group
    remark = None
    if group is not None:
        try:
            texts = _groups(folder, config, record, group)[numbers]
            return np.unique(texts, return_inverse=True)[1].astype(np.int64), f"groups of {group}", None
        except (NetwrightError, IndexError) as error:
            remark = f"the groups of {group} could not be read again ({error}), so rows were drawn alone: too narrow"
    if config.data.window is not None and not rows.per_step and (drawn := neighbours(config.data, numbers)) is not None:
        return (drawn.clusters, "series", None) if group is not None else (drawn.clusters, drawn.name, remark)
    if rows.per_step:
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64), "rows with all their steps", remark
    return np.arange(len(numbers)), None, remark


def _groups(folder: Path, config: RunConfig, record: dict[str, Any], name: str) -> npt.NDArray[np.str_]:
    """Return the group of every row of the data.

    Raises:
        NetwrightError: The data are gone or changed, came from Python, or are mapped from a file.
    """
    if (config.data.source or "").startswith(OBJECT):
        raise CheckpointError(f"{folder}: its rows came from Python")
    if config.data.window is not None:
        raise CheckpointError(f"{folder}: its rows are windows")
    raw = own_inputs(folder, config, record).raw
    about = raw.about if isinstance(raw, Sequences) else raw
    if isinstance(about, Mapped):
        raise CheckpointError(f"{folder}: its rows are mapped from a file")
    if isinstance(about, Table):
        return np.asarray(cells.group_values(about, name, markers_of(config.data)))
    if isinstance(about, Arrays) and name in about.others:
        return np.asarray(about.others[name]).astype(str)
    raise CheckpointError(f"{folder}: {name} is not in its data")
