"""A table larger than memory to prepared rows in a map: learned and prepared block by block.

Learning takes one pass over the train rows, after a look at the first of them; writing takes another. Memory holds one
block, the sample for quantiles and a count per category. Floor 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import nn

from netwright import files
from netwright.data import columns as kinds
from netwright.data.columns import TableEncoder
from netwright.data.moments import Moments, merged, moments_of, spanned
from netwright.data.order import ROUNDS, Bijection
from netwright.data.preparation import SCALED, TABLE, Preparation, TablePreparation, table_module
from netwright.errors import DataError
from netwright.seeding import stream
from netwright.sources.blocks import Blocks
from netwright.sources.cells import Floats, clean
from netwright.sources.tables import Origin, Table

Rows = npt.NDArray[np.int64]
FIRST = 100_000  # train rows on which column kinds are found
SAMPLED = 1 << 16  # train rows, drawn by chance, on which quantiles are found
ROWS = "rows.npy"


@dataclass
class Learned:
    """What a pass over the train rows told: categories, missing cells, moments, ends and a sample of the amounts.

    ``missing`` counts cells of all rows, and ``first_missing`` holds the first such row of each column.
    """

    levels: dict[str, Counter[str]] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    first_missing: dict[str, int] = field(default_factory=dict)
    moments: Moments | None = None
    span: tuple[Floats, Floats] | None = None
    sample: list[Floats] = field(default_factory=list)


def first_rows(blocks: Blocks, train: Rows, columns: Sequence[str]) -> Table:
    """Return the first train rows, 100 000 or all: those on which the kinds of columns are found."""
    found: list[pa.Table] = []
    origin: Origin | None = None
    with closing(blocks.read(columns)) as pieces:
        for start, table in pieces:
            origin = origin or table.origins[0]
            found.append(table.columns.take(_inside(train, start, table.rows)))
            if sum(part.num_rows for part in found) >= FIRST:
                break
    whole = pa.concat_tables(found, promote_options="permissive").slice(0, FIRST)
    return Table(whole, (replace(origin or Origin("", 0), rows=whole.num_rows),))


def learn(blocks: Blocks, train: Rows, encoder: TableEncoder, inferred: Sequence[str]) -> Learned:
    """Learn from all train rows what the first of them do not tell.

    Args:
        blocks: The table.
        train: The train rows, int64, sorted.
        encoder: With the kinds that the first rows told.
        inferred: The columns whose kind nobody wrote.

    Raises:
        DataError: A cell does not fit the kind of its column.
    """
    found = Learned()
    amounts = replace(encoder, columns=tuple(column for column in encoder.used if column.kind in SCALED))
    categories = [column.name for column in encoder.used if column.kind == "category"]
    empty = [column.name for column in encoder.columns if column.kind == "ignore" and column.name in inferred]
    drawn = _drawn(train)
    with closing(blocks.read([column.name for column in encoder.columns])) as pieces:
        for start, table in pieces:
            inside = _inside(train, start, table.rows)
            for column in encoder.columns:
                values = clean(table.columns[column.name], encoder.markers)
                _count_missing(found, column.name, values, start)
                if column.name in categories:
                    found.levels.setdefault(column.name, Counter()).update(kinds.level_counts(values.take(inside)))
                if column.name in empty:
                    _refuse_late(table, column.name, values, inside)
            cells = amounts.matrix(table)
            if len(inside) and cells.shape[1]:
                part = np.ascontiguousarray(cells[inside])
                found.moments, found.span = merged(found.moments, moments_of(part)), spanned(part, found.span)
                found.sample.append(cells[_inside(drawn, start, table.rows)])
    return found


def fitted(encoder: TableEncoder, learned: Learned, rare: int, numbers: str, codes: bool) -> Preparation:
    """Return the preparation that was learned.

    Args:
        encoder: With the kinds of the columns.
        learned: What `learn` found.
        rare: A category seen fewer times counts as unknown.
        numbers: How numbers are scaled.
        codes: Whether categories stay codes.
    """
    columns = tuple(
        replace(
            column,
            missing=learned.missing[column.name],
            levels=kinds.levels_of(learned.levels.get(column.name, {}), rare),
        )
        for column in encoder.columns
    )
    encoder = replace(encoder, columns=columns)
    places = [place for place, column in enumerate(encoder.used) if column.kind in SCALED]
    moments = learned.moments
    missing = [False] * len(places) if moments is None else (moments.present < moments.rows).tolist()
    module = table_module(encoder, dict(zip(places, missing, strict=True)), numbers, codes)
    if moments is not None:
        order = np.argsort([encoder.used[place].kind == "date" for place in places], kind="stable")  # dates stand last
        chosen = Moments(moments.rows, *(getattr(moments, name)[order] for name in ("present", "fill", "mean", "squares")))
        ends = None if learned.span is None else (learned.span[0][order], learned.span[1][order])
        encoder = encoder.knowing(*module.settle(chosen, np.concatenate(learned.sample)[:, order], ends))
    return Preparation(encoder, nn.ModuleDict({TABLE: module}))


def write_rows(blocks: Blocks, rows: int, preparation: Preparation, encoder: TableEncoder, folder: Path) -> dict[str, int]:
    """Prepare all rows and write them as the float32 array ``rows.npy`` ``(rows, features)`` into a folder.

    Args:
        blocks: The table.
        rows: How many there are.
        preparation: As it was learned.
        encoder: Its columns.
        folder: Of the file.

    Returns:
        The number of cells per column whose value was not seen in the train rows.

    Raises:
        DataError: A cell does not fit, or the number of rows has changed.
        ResourceError: There is no room.
    """
    used = encoder.used
    unknown: Counter[str] = Counter()
    written = 0
    with files.born_array(folder / ROWS, (rows, width(preparation)), "float32") as array:
        with closing(blocks.read([column.name for column in used])) as pieces:
            for start, table in pieces:
                if start + table.rows > rows:
                    break
                cells = encoder.matrix(table)
                for place, column in enumerate(used):
                    unknown[column.name] += column.unknown(cells[:, place])
                array[start : start + table.rows] = preparation.features(TABLE, cells).numpy()
                written = start + table.rows
        if written != rows:
            raise DataError(f"{blocks.places[0]}: changed while it was read; expected a file at rest; start again")
    return {name: count for name, count in unknown.items() if count}


def width(preparation: Preparation) -> int:
    """Return the number of features of a table's rows."""
    module = preparation.modules[TABLE]
    return module.features() if isinstance(module, TablePreparation) else 0


def _inside(rows: Rows, start: int, count: int) -> Rows:
    """Return which of a block's rows are among sorted row numbers, from 0 in the block."""
    low, high = np.searchsorted(rows, [start, start + count])
    return np.asarray(rows[low:high], dtype=np.int64) - start


def _drawn(train: Rows) -> Rows:
    """Return train rows drawn by chance, all where they are few, sorted."""
    if len(train) <= SAMPLED:
        return train
    key = stream(0, "resampling").integers(0, 2**64, ROUNDS, dtype=np.uint64)
    chosen = Bijection(len(train), tuple(int(word) for word in key))(np.arange(SAMPLED))
    return np.sort(train[chosen])


def _count_missing(found: Learned, name: str, values: pa.ChunkedArray, start: int) -> None:
    count = kinds.missing_cells(values)
    if count and name not in found.first_missing:
        missing = np.asarray(values.is_null(nan_is_null=True), dtype=bool)
        found.first_missing[name] = start + int(missing.argmax())
    found.missing[name] += count


def _refuse_late(table: Table, name: str, values: pa.ChunkedArray, inside: Rows) -> None:
    """Refuse values in a column that is empty in the rows that told its kind."""
    present = ~np.asarray(values.is_null(nan_is_null=True), dtype=bool)[inside]
    if present.any():
        row = int(inside[present.argmax()])
        raise DataError(
            f"{table.place(row)}: column {name!r}: {values[row].as_py()!r} came; it is empty in the first {FIRST} train rows, "
            f'which tell the kind; set data.kinds = {{"{name}" = "number"}}, or leave it out in data.ignore'
        )
