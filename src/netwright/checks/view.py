"""Rows of any kind as columns of numbers, and as one hash per row; a few rows at a time. Floor 10."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.data.columns import TableEncoder
from netwright.data.mapped import Mapped
from netwright.seeding import stream
from netwright.sources.arrays import Array, Arrays
from netwright.sources.sequences import Raw, Sequences, step_numbers
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.float64, np.uint64)
BLOCK_BYTES = 1 << 24
WHOLE = 2**24  # from here on float32 holds no units
HASHED_BYTES = 1 << 19  # of rows that are hashed at once: they stay in the second cache
MOST_COLUMNS = 1000


@dataclass(frozen=True)
class Values:
    """A column of some rows: ``number``, ``date`` or ``category``; NaN, or the code 0, where a cell is missing or unknown."""

    name: str
    kind: str
    values: Floats
    named: bool = False  # in the settings, as columns of a table are

    @property
    def leave_out(self) -> str:
        """How to leave it out, in words."""
        return f'leave it out with data.ignore = ["{self.name}"]' if self.named else "leave it out of the rows"

    @cached_property
    def ordered(self) -> Floats:
        """The values that are there, in their order."""
        return np.sort(self.values[~np.isnan(self.values)])

    @property
    def complete(self) -> bool:
        """Whether no cell is missing."""
        return len(self.ordered) == len(self.values)

    @cached_property
    def levels(self) -> Floats:
        """The values that differ, in their order."""
        return distinct(self.ordered)


def distinct(ordered: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return each of some ordered numbers once.

    Example:
        >>> distinct(np.array([1.0, 1.0, 2.0]))
        array([1., 2.])
    """
    first: npt.NDArray[np.bool_] = np.append(ordered[:1] == ordered[:1], ordered[1:] != ordered[:-1])
    found: npt.NDArray[Number] = ordered[first]
    return found


def width(raw: Raw | Mapped, encoder: TableEncoder | None) -> int:
    """Return about how many columns `columns_of` gives, at least 1."""
    if isinstance(raw, Mapped):
        count = int(raw.features.shape[1])
    elif isinstance(raw, Arrays):
        count = sum(int(values.shape[1]) if values.ndim == 2 else 1 for values in raw.inputs.values())
    elif isinstance(raw, Sequences) and isinstance(raw.steps, Arrays):
        count = sum(math.prod(values.shape[1:]) for values in raw.steps.inputs.values())
    else:
        count = len(encoder.used) if encoder is not None else 1
    return max(1, min(count, MOST_COLUMNS))


def columns_of(raw: Raw | Mapped, encoder: TableEncoder | None, rows: Rows) -> list[Values]:
    """Return what the network reads of some rows, as columns.

    Images, volumes and series are told by their mean per row (and channel), sequences by their number of steps too.

    Args:
        raw: All rows.
        encoder: The learned columns of a table, or of the steps of sequences.
        rows: Which rows, int64.
    """
    if isinstance(raw, Mapped):
        return [Values(f"feature {place + 1}", "number", column) for place, column in enumerate(_flat(raw.features[rows]))]
    if isinstance(raw, Table):
        return [replace(column, named=True) for column in _encoded(raw, encoder, rows)]
    if isinstance(raw, Sequences):
        return _of_steps(raw, encoder, rows)
    found = []
    for name, values in raw.inputs.items():
        part = values[rows]
        if part.ndim == 2:
            found += [Values(f"{name}[{place}]", "number", column) for place, column in enumerate(_flat(part))]
        else:
            found.append(Values(f"mean of {name}", "number", _means(values, rows)))
    return found[:MOST_COLUMNS]


def _flat(values: Array) -> list[Floats]:
    return list(np.asarray(values[:, :MOST_COLUMNS], dtype=np.float64).T)


def _encoded(table: Table, encoder: TableEncoder | None, rows: Rows) -> list[Values]:
    if encoder is None:
        return []
    cells = encoder.matrix(Table(table.columns.take(pa.array(rows)), table.origins))
    kinds = ["number" if column.kind == "boolean" else column.kind for column in encoder.used]
    named = zip(encoder.used[:MOST_COLUMNS], kinds, cells.T, strict=False)
    return [Values(column.name, kind, np.ascontiguousarray(values)) for column, kind, values in named]


def _of_steps(raw: Sequences, encoder: TableEncoder | None, rows: Rows) -> list[Values]:
    lengths = raw.lengths[rows]
    found = [Values("steps", "number", lengths.astype(np.float64))] if len(np.unique(raw.lengths)) > 1 else []
    filled = rows[lengths > 0]
    if raw.symbols or not len(filled):
        return found
    steps = raw.steps_of(filled)
    starts = np.cumsum(raw.lengths[filled]) - raw.lengths[filled]
    if isinstance(raw.steps, Table):
        parts = [(part.name, part.kind, part.values) for part in _encoded(raw.steps, encoder, steps)]
    else:
        values = next(iter(raw.steps.inputs.values()))
        flat = np.asarray(values[steps], dtype=np.float64).reshape(len(steps), -1)
        parts = [(f"channel {place}", "number", column) for place, column in enumerate(flat.T)]
    means = [
        (name, np.add.reduceat(column, starts) / raw.lengths[filled]) for name, kind, column in parts if kind == "number"
    ]
    return found + [Values(f"mean of {name}", "number", values) for name, values in means]


def _means(values: Array, rows: Rows) -> Floats:
    step = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    parts = [values[rows[start : start + step]] for start in range(0, len(rows), step)]
    means = [np.asarray(part, dtype=np.float64).reshape(len(part), -1).mean(axis=1) for part in parts]
    return np.concatenate([np.empty(0), *means])  # a part may have no rows


def row_hashes(raw: Raw | Mapped, encoder: TableEncoder | None) -> Hashes:
    """Return 64 bits per row that are equal where all that the network reads of two rows is equal.

    A row with a category that no train row has gets bits of its own, because it is equal to none that is known.
    """
    if isinstance(raw, Sequences):
        return _of_rows(raw, _hashes(_blocks(raw.steps, encoder)))
    return _hashes(_blocks(raw, encoder))


def contents_of(
    raw: Raw, encoder: TableEncoder | None, rows: Rows | None = None, units: bool = True
) -> tuple[Hashes, Marks]:
    """Return 64 bits per row that tell its content wherever it is read, and which rows have only categories that are known.

    Numbers count as float32, large ones by their units, arrays of a dictionary by their names, symbols of a text by their
    letters: rows are known again in another file, dtype or order. Of sequences all steps are hashed.

    Args:
        raw: The rows.
        encoder: The learned columns of a table, or of the steps of sequences.
        rows: Which of them; None for all.
        units: Whether large numbers count by their units, or as float32 alone, as they once did.
    """
    if isinstance(raw, Sequences):
        found, known = contents_of(_spelled(raw), encoder, units=units)
        some = raw if rows is None else replace(raw, starts=raw.starts[rows], lengths=raw.lengths[rows])
        strange = _of_rows(some, (~known).astype(np.uint64), weighted=False)
        return _of_rows(some, found), strange == some.lengths.astype(np.uint64)
    if isinstance(raw, Table):
        table = raw if rows is None else Table(raw.columns.take(pa.array(rows)), raw.origins)
        hashes, marks = zip(*((_content(cells, units), ~unknown) for cells, unknown in _cells(table, encoder)), strict=True)
        return np.concatenate(hashes), np.concatenate(marks)
    named = [values if rows is None else values[rows] for _, values in sorted(raw.inputs.items())]
    parts = [np.zeros(0, np.uint64), *(_content(block, units) for block in _beside(named))]
    return np.concatenate(parts), np.ones(len(named[0]), dtype=bool)


def _content(values: Array, units: bool) -> Hashes:
    """Return a hash per row of numbers as float32; of those whose units it does not hold (times in seconds) with what it lacks."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        found = _hashes(iter([single]))
        if not units or values.dtype.kind not in "fiu" or values.dtype.itemsize < 4 or values.dtype == np.float32:
            return found
        lost = np.where(np.abs(single) >= WHOLE, np.rint(values.astype(np.float64)) - single, 0.0)
    lost[~np.isfinite(lost)] = 0.0
    return found ^ _hashes(iter([lost])) if lost.any() else found


def _of_rows(raw: Sequences, of_steps: Hashes, weighted: bool = True) -> Hashes:
    """Return the number of steps of each row and the sum of what its steps have, each times a number of its place."""
    steps = of_steps[raw.steps_of(np.arange(raw.rows))]
    if weighted:
        factors = _factors(int(raw.lengths.max(initial=0)), "steps")
        steps = steps * factors[step_numbers(np.zeros_like(raw.lengths), raw.lengths)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(steps, dtype=np.uint64)])
    ends = np.cumsum(raw.lengths)
    return np.asarray(sums[ends] - sums[ends - raw.lengths] + raw.lengths.astype(np.uint64), dtype=np.uint64)


def _spelled(raw: Sequences) -> Table | Arrays:
    """Return the steps, symbols by their letters: another text numbers them in another way."""
    if not raw.symbols or not isinstance(raw.steps, Arrays):
        return raw.steps
    letters = np.array([zlib.crc32(symbol.encode()) & 0xFFFFFF for symbol in raw.symbols], dtype=np.float32)  # exactly
    return replace(raw.steps, inputs={name: letters[numbers] for name, numbers in raw.steps.inputs.items()})


def _blocks(raw: Table | Arrays | Mapped, encoder: TableEncoder | None) -> Iterator[Array]:
    """Yield the content of rows, a few at a time, as arrays ``(rows, ...)``."""
    if isinstance(raw, Table):
        start = 0
        for cells, unknown in _cells(raw, encoder):
            yield np.column_stack([cells, np.where(unknown, start + np.arange(len(cells)) + 1.0, 0.0)])
            start += len(cells)
        return
    yield from _beside(list(raw.inputs.values()) if isinstance(raw, Arrays) else [raw.features])


def _cells(table: Table, encoder: TableEncoder | None) -> Iterator[tuple[Floats, Marks]]:
    """Yield the cells of some rows at a time as numbers, and which rows have a category that no train row has."""
    width = max(1, len(encoder.used) if encoder is not None else 1)
    places = [place for place, column in enumerate(encoder.used if encoder else ()) if column.kind == "category"]
    for start in range(0, max(1, table.rows), step := max(1, BLOCK_BYTES // (8 * width))):
        part = Table(table.columns.slice(start, step), table.origins)
        cells = encoder.matrix(part) if encoder is not None else np.zeros((part.rows, 0))
        yield cells, (cells[:, places] == 0).any(axis=1)


def _beside(values: list[Array]) -> Iterator[Array]:
    """Yield arrays with a row each side by side, some rows at a time; one alone keeps its dtype."""
    size = sum(part[:1].nbytes for part in values)
    for start in range(0, len(values[0]), step := max(1, BLOCK_BYTES // max(1, size))):
        parts = [np.asarray(part[start : start + step]) for part in values]
        if len(parts) == 1:
            yield parts[0]
        else:
            yield np.column_stack([part.reshape(len(part), -1).astype(np.float64) for part in parts])


def _hashes(blocks: Iterator[Array]) -> Hashes:
    found = [np.zeros(0, np.uint64)]
    for block in blocks:
        step = max(1, HASHED_BYTES // max(1, block[:1].nbytes))
        found += [_hashed(block[start : start + step]) for start in range(0, len(block), step)]
    return np.concatenate(found)


def _hashed(values: Array) -> Hashes:
    """Return a hash per row: the sum of its words, each times an odd number of its own, mixed at the end."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1))
    if flat.dtype.kind == "f":
        flat = flat + flat.dtype.type(0)  # one zero
        flat[np.isnan(flat)] = np.nan  # one NaN
    content = flat.view(np.uint8).reshape(len(values), -1)
    words = np.zeros((len(values), -(-content.shape[1] // 8)), np.uint64)
    words.view(np.uint8)[:, : content.shape[1]] = content
    words ^= words >> np.uint64(32)
    words *= np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(29)
    words *= _factors(words.shape[1], "columns")
    return np.asarray(words.sum(axis=1, dtype=np.uint64))


@lru_cache(maxsize=2)  # of rows, and of steps: many pieces of rows ask for the same ones
def _factors(count: int, name: str) -> Hashes:
    generator = stream(0, "checks", len(name))
    return generator.integers(0, 2**63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
