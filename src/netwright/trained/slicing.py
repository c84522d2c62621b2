"""By which columns test rows are shown apart, and their groups. Floor 13."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.data.column import Column
from netwright.data.columns import TableEncoder, learn_columns
from netwright.data.splits import Split
from netwright.errors import DataError, did_you_mean
from netwright.evaluation.slices import MISSING, MOST_VALUES, Sliced, figures_of, of_numbers, of_values, slice_table
from netwright.rows.reading import markers_of
from netwright.sources import cells
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.trained.known import Known

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def sliced(
    known: Known, rows: Rows, decoded: Floats, split: Split | None, alike: Rows | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the figures of test rows by the values of columns, and remarks.

    Args:
        known: The network, its rows and the target.
        rows: The test rows.
        decoded: What it gives for them, or for all their steps.
        split: Who trains, for the quartiles of numbers; None where the rows themselves give them.
        alike: The number of the group of each row, or step; see `netwright.trained.examining.Tested`.
    """
    columns, remarks = _columns(known, rows, rows if split is None else split.train)
    if not columns:
        return [], remarks
    if known.target.per_step and isinstance(known.raw, Sequences):
        lengths = known.raw.lengths[rows]
        columns = [Sliced(column.column, np.repeat(column.places, lengths), column.values) for column in columns]
    figures = figures_of(known.target.task, known.target.of(rows), decoded, alike)
    found, more = slice_table(columns, figures)
    return found, [*remarks, *more]


def about_rows(known: Known) -> Table | Arrays | None:
    """Return what has a value for each row: a table, arrays, or what is known of sequences."""
    raw = known.raw
    if isinstance(raw, Sequences):
        return raw.about
    return raw if isinstance(raw, Table | Arrays) else None


def group_numbers(known: Known, rows: Rows) -> Rows | None:
    """Return the number of the group of each row where the split goes by groups."""
    name, about = known.config.data.split.group, about_rows(known)
    if name is not None and known.config.data.window is not None and isinstance(known.raw, Sequences):
        about, rows = known.raw.steps, known.raw.starts[rows]  # a window is of the group of its steps
    if name is None or about is None or (isinstance(about, Table) and name not in about.names):
        return None
    if isinstance(about, Table):
        column = _of_table(about, name, rows, known)
        return None if column is None else column.places
    values = about.others.get(name)
    return None if values is None else np.unique(values[rows], return_inverse=True)[1].astype(np.int64)


def _columns(known: Known, rows: Rows, train: Rows) -> tuple[list[Sliced], list[str]]:
    """Return the columns that divide rows: those that are named, else categories of few values and the group."""
    about, named = about_rows(known), known.config.evaluation.slices
    if about is None:
        return [], [f"slices: rows of this kind have no column {name!r}" for name in named or ()]
    names = _usual(known, about) if named is None else named
    found, remarks = [], []
    for name in names:
        column = (
            _of_table(about, name, rows, known, train) if isinstance(about, Table) else _of_arrays(about, name, rows, train)
        )
        if column is not None and len(column.values) > 1:
            found.append(column)
        elif column is None:
            there = about.names if isinstance(about, Table) else [*about.inputs, *about.others]
            remarks.append(f"slices: {name!r} is not in the data; {did_you_mean(name, there)}")
    return found, remarks


def _usual(known: Known, about: Table | Arrays) -> list[str]:
    group, encoder = known.config.data.split.group, known.program.preparation.encoder
    there = about.names if isinstance(about, Table) else list(about.others)
    few = [
        column.name
        for column in (encoder.columns if encoder is not None else ())
        if column.kind == "boolean" or (column.kind == "category" and 1 < len(column.levels) <= MOST_VALUES)
    ]
    return [name for name in dict.fromkeys([*few, *([group] if group is not None else [])]) if name in there]


def _of_table(about: Table, name: str, rows: Rows, known: Known, train: Rows | None = None) -> Sliced | None:
    """Return a column of a table: numbers by the quartiles of the train rows, dates by their year, all else by its values.

    Numbers of at most ten values stand for themselves.
    """
    if name not in about.names:
        return None
    values = cells.clean(about.columns[name], markers_of(known.config.data))
    kind = "" if train is None else _kind(about, name, known, train)
    if kind == "number" and train is not None:
        encoder = TableEncoder((), markers_of(known.config.data))
        numbers = encoder.cells(_taken(about, name, np.concatenate([rows, train])), Column(name, "number"))
        if len(np.unique(numbers[: len(rows)])) > MOST_VALUES:
            return of_numbers(name, numbers[: len(rows)], numbers[len(rows) :])
    if kind == "date":
        return of_values(
            name, [None if value is None else str(value)[:4] for value in values.take(pa.array(rows)).to_pylist()]
        )
    return _by_value(name, values, rows)


def _kind(about: Table, name: str, known: Known, train: Rows) -> str:
    """Return the kind of a column, learned on the train rows where the network does not read it; empty for others."""
    encoder, data = known.program.preparation.encoder, known.config.data
    learned = next((column for column in (encoder.columns if encoder is not None else ()) if column.name == name), None)
    if learned is not None:
        return learned.kind
    kinds = {name: data.kinds[name]} if name in data.kinds else {}
    try:
        return learn_columns(about, train, [name], kinds, markers_of(data))[0].columns[0].kind
    except DataError:  # names, texts, what no network could learn from
        return ""


def _taken(about: Table, name: str, rows: Rows) -> Table:
    return Table(about.columns.select([name]).take(pa.array(rows)), about.origins)


def _by_value(name: str, values: pa.ChunkedArray, rows: Rows) -> Sliced:
    encoded = values.take(pa.array(rows)).combine_chunks().dictionary_encode(null_encoding="encode")
    words = [MISSING if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    return Sliced(name, np.asarray(encoded.indices, dtype=np.int64), tuple(words))


def _of_arrays(about: Arrays, name: str, rows: Rows, train: Rows) -> Sliced | None:
    """Return an array with a value per row, or the column of one, ``x[3]``."""
    values = about.others.get(name)
    array, _, place = name.removesuffix("]").rpartition("[")
    if values is None and array in about.inputs and place.isdigit():
        inputs = about.inputs[array]
        values = inputs[:, int(place)] if inputs.ndim == 2 and int(place) < inputs.shape[1] else None
    if values is None or np.ndim(values) != 1:
        return None
    if values.dtype.kind == "f" or (values.dtype.kind in "iu" and len(np.unique(values[rows])) > MOST_VALUES):
        numbers = values.astype(np.float64)
        return of_numbers(name, numbers[rows], numbers[train])
    return of_values(name, values[rows].tolist())
