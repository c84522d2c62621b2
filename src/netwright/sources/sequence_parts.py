"""Sequences of several sources as one: the same symbols, a target per step in all or in none. Floor 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from netwright.errors import DataError
from netwright.sources.arrays import Arrays, concatenate_arrays
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.sources.tables import concatenate as concatenate_tables


def concatenate(parts: Sequence[Sequences]) -> Sequences:
    """Put sequences of several sources one below the other; the steps need the same columns, symbols are numbered anew."""
    parts = _of_common_symbols(_answered_alike(parts))
    tables = [part.steps for part in parts if isinstance(part.steps, Table)]
    arrays = [part.steps for part in parts if isinstance(part.steps, Arrays)]
    steps = concatenate_tables(tables) if tables else concatenate_arrays(arrays)
    offsets = np.cumsum([0, *(part.steps.rows for part in parts)])
    starts = np.concatenate([part.starts + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    lengths = np.concatenate([part.lengths for part in parts])
    about_tables = [part.about for part in parts if isinstance(part.about, Table)]
    about_arrays = [part.about for part in parts if isinstance(part.about, Arrays)]
    about: Table | Arrays | None = None
    if len(about_tables) == len(parts):
        about = concatenate_tables(about_tables)
    elif len(about_arrays) == len(parts):
        about = concatenate_arrays(about_arrays)
    names = tuple(name for part in parts for name in part.names)
    return Sequences(steps, starts, lengths, about, parts[0].per_step, parts[0].symbols, names)


def answered(rows: Sequences, per_step: bool, names: Sequence[str]) -> Sequences:
    """Return rows with a target per step, or one per row, as it is wanted: a label of a sequence is that of each of its steps.

    Args:
        rows: The rows.
        per_step: Which of both.
        names: The target columns.

    Raises:
        DataError: The steps of a row have different labels where one is wanted; or rows of arrays have one label each.
    """
    if rows.per_step == per_step:
        return rows
    name, about = rows.origins[0].name, rows.about
    if not per_step:
        raise DataError(
            f"{name}: target {', '.join(map(repr, names))} came per step and changes inside a sequence; expected one value per "
            "sequence, as in training; mend the labels, or train on sequences in which they change"
        )
    if not isinstance(rows.steps, Table) or not isinstance(about, Table):
        raise DataError(
            f"{name}: one label per row came; expected one per step, as the other rows have; give labels per step"
        )
    owner = pa.array(np.repeat(np.arange(rows.rows), rows.lengths))
    columns = rows.steps.columns
    for column in (column for column in names if column in about.names and column not in rows.steps.names):
        columns = columns.append_column(column, about.columns[column].take(owner))
    return replace(rows, steps=replace(rows.steps, columns=columns), per_step=True)


def _answered_alike(parts: Sequence[Sequences]) -> list[Sequences]:
    """Return parts that all have a target per step where one of them has."""
    example = next((part.steps for part in parts if part.per_step), None)
    if example is None:
        return list(parts)
    names = example.names if isinstance(example, Table) else []
    return [answered(part, True, names) for part in parts]


def _of_common_symbols(parts: Sequence[Sequences]) -> list[Sequences]:
    """Return texts whose steps hold numbers of the symbols of all of them; those of the first keep their numbers."""
    places: dict[str, int] = {}
    for part in parts:
        for symbol in part.symbols:
            places.setdefault(symbol, len(places))
    found = []
    for part in parts:
        steps = part.steps
        if part.symbols and isinstance(steps, Arrays):
            numbers = np.asarray([places[symbol] for symbol in part.symbols], dtype=np.int32)
            steps = replace(steps, inputs={name: numbers[values] for name, values in steps.inputs.items()})
        found.append(replace(part, steps=steps, symbols=tuple(places)))
    return found
