"""A table that is read block by block, as often as asked: Parquet and text files larger than memory. Floor 2."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from netwright.errors import DataError, first_line
from netwright.sources import tables, texts
from netwright.sources.opening import PARQUET, TEXT, format_of
from netwright.sources.places import Place
from netwright.sources.tables import Origin, Table
from netwright.sources.texts import TextOptions

Rows = npt.NDArray[np.int64]
BLOCK_BYTES = 1 << 25  # of a block's cells as float64, and of the text parsed at a time
CELL_BYTES = 8 + 4  # a cell as float64 and as float32, as a table in memory is prepared
TEXT_GROWTH = 3  # what a text file takes in memory, as texts and as numbers, by its size


@final
@dataclass(frozen=True)
class Blocks:
    """Files with the same columns, one below the other.

    Args:
        places: The files.
        options: For text files.
        names: The columns, in the order of the first file.
    """

    places: tuple[Place, ...]
    options: TextOptions
    names: tuple[str, ...]

    def read(self, columns: Sequence[str] | None = None) -> Generator[tuple[int, Table]]:
        """Yield the number of its first row and the rows of each block; a block knows its place in the file.

        Args:
            columns: Which columns; default all.

        Raises:
            DataError: A file is malformed, or lacks a column.
        """
        start = 0
        for place in self.places:
            first = 0
            with closing(_pieces(place, self.options, list(columns or self.names))) as pieces:
                for piece in pieces:
                    yield start, Table(piece, (replace(self._origin(place, piece.num_rows), first=first),))
                    first, start = first + piece.num_rows, start + piece.num_rows

    def some(self, columns: Sequence[str]) -> tuple[Table, list[int]]:
        """Return some columns of all rows, which must fit into memory, and the rows of each file.

        Raises:
            DataError: See `read`; a file without rows.
        """
        parts: list[Table] = []
        counts = []
        for place in self.places:
            with closing(replace(self, places=(place,)).read(columns)) as pieces:
                found = [table for _, table in pieces]
            rows = sum(table.rows for table in found)
            if rows == 0:
                raise DataError(f"{place}: no rows; expected a header and at least one row; check the file")
            counts.append(rows)
            parts.append(Table(pa.concat_tables([table.columns for table in found]), (self._origin(place, rows),)))
        return tables.concatenate(parts), counts

    def head(self) -> Table:
        """Return the first block."""
        with closing(self.read()) as blocks:
            for _, table in blocks:
                return table
        raise DataError(f"{self.places[0]}: no rows; expected a header and at least one row; check the file")

    def size(self) -> int:
        """Return about how many bytes the table takes in memory, prepared."""
        return sum(_size(place) for place in self.places)

    def stamps(self) -> list[tuple[int, int]]:
        """Return size and time of change of each file."""
        return [(stat.st_size, stat.st_mtime_ns) for stat in (os.stat(_path(place)) for place in self.places)]

    def _origin(self, place: Place, rows: int) -> Origin:
        line_of = texts.Lines(place, self.options) if format_of(place) is TEXT else None
        return Origin(place.label, rows, line_of)


def blocks_of(places: Sequence[Place], options: TextOptions) -> Blocks | None:
    """Return files that can be read block by block; None where one cannot.

    Args:
        places: Files that exist.
        options: For text files.

    Raises:
        DataError: A file is malformed, or lacks a column of the first.
    """
    if not all(_streamed(place, options) for place in places):
        return None
    found = [_names(place, options) for place in places]
    for place, names in zip(places, found, strict=True):
        missing = [name for name in found[0] if name not in names]
        if missing:
            raise DataError(
                f"{place.label}: column {missing[0]!r} is missing; {places[0].label} has it; the files need the same columns"
            )
    return Blocks(tuple(places), options, found[0])


def _streamed(place: Place, options: TextOptions) -> bool:
    if place.packed or place.archive is not None or format_of(place) not in (PARQUET, TEXT) or place.on_disk is None:
        return False
    return format_of(place) is PARQUET or texts.written_in_columns(place, options)


def _path(place: Place) -> str:
    """Return where a file that is read block by block lies on this machine."""
    return str(place.on_disk or place.path)


def _names(place: Place, options: TextOptions) -> tuple[str, ...]:
    if format_of(place) is TEXT:
        with texts.text_form(place, options) as form:
            return form.names
    with closing(_opened(place)) as file:
        return tuple(name for name in file.schema_arrow.names if not name.startswith(tables.UNNAMED_INDEX))


def _size(place: Place) -> int:
    if format_of(place) is TEXT:
        return place.size() * TEXT_GROWTH
    with closing(_opened(place)) as file:
        about = file.metadata
        unpacked = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        return int(about.num_rows * about.num_columns * CELL_BYTES + unpacked)


def _pieces(place: Place, options: TextOptions, columns: list[str]) -> Generator[pa.Table]:
    if format_of(place) is TEXT:
        with texts.text_form(place, options, BLOCK_BYTES) as form:
            reader = pa.csv.open_csv(
                form.source,
                read_options=form.reading,
                parse_options=form.parsing,
                convert_options=form.converting(columns),
            )
            with reader:
                for batch in reader:
                    if batch.num_rows:
                        piece = pa.Table.from_batches([batch])
                        texts.refuse_controls(piece, place, options)
                        yield piece
        return
    rows = max(1024, BLOCK_BYTES // (8 * len(columns)))
    with closing(_opened(place)) as file:
        try:
            for batch in file.iter_batches(rows, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch]).select(columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(place, error) from None


def _opened(place: Place) -> Any:
    """Open a Parquet file so that only what is read of it lies in memory."""
    try:
        return pa.parquet.ParquetFile(_path(place), buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _damaged(place, error) from None


def _damaged(place: Place, error: BaseException) -> DataError:
    return DataError(f"{place}: cannot be read ({first_line(error)}); expected a {place.suffix[1:]} file; check the file")
