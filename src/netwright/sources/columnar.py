"""Reads files whose columns carry their types: Parquet, Feather and Arrow IPC, JSON lines. Floor 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet

from netwright.errors import DataError
from netwright.sources.packing import BROKEN, reason_of
from netwright.sources.places import Place
from netwright.sources.tables import Table, typed_table

FILE_MAGIC, OLD_MAGIC = b"ARROW1", b"FEA1"


def read_parquet(place: Place) -> Table:
    """Read a Parquet file; see `read_ipc` for the errors."""
    return _read(place, lambda source: pa.parquet.ParquetFile(source).read())


def read_ipc(place: Place) -> Table:
    """Read a Feather (version 2) or Arrow IPC file or stream; one on this machine is mapped, not copied.

    Raises:
        DataError: The file is missing, damaged, encrypted, has no rows or a column twice.
    """
    return _read(place, _ipc)


def read_json(place: Place) -> Table:
    """Read JSON lines, one object per line.

    Raises:
        DataError: A line is no object, or no rows.
    """
    try:
        with place.open() as stream:
            columns = pa.json.read_json(stream)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, *BROKEN) as error:
        bad = re.search(r"in row (\d+)", str(error))
        where = f"{place.label}:{int(bad[1]) + 1}" if bad else str(place)
        raise DataError(
            f"{where}: cannot be read ({reason_of(error)}); expected one JSON object per line; mend the line"
        ) from None
    return typed_table(columns, str(place), place.label)


def _ipc(source: Any) -> pa.Table:
    head = source.read(len(FILE_MAGIC))
    source.seek(0)
    if head.startswith(OLD_MAGIC):
        raise pa.ArrowInvalid("Feather version 1; write it as version 2")
    columns = (pa.ipc.open_file if head == FILE_MAGIC else pa.ipc.open_stream)(source).read_all()
    columns.validate(full=True)  # offsets are used unchecked later on
    return columns


def _read(place: Place, reader: Callable[[Any], pa.Table]) -> Table:
    try:
        with _source(place) as source:
            columns = reader(source)
    except (pa.ArrowException, *BROKEN) as error:
        raise DataError(
            f"{place}: cannot be read ({reason_of(error)}); expected a {place.suffix[1:]} file; check the file"
        ) from None
    return typed_table(columns, str(place), place.label)


@contextmanager
def _source(place: Place) -> Iterator[Any]:
    """Open a file for Arrow: mapped where it, or its copy, lies on this machine."""
    if place.on_disk is not None and place.size():
        yield pa.memory_map(str(place.on_disk))  # columns may lie in the map: it closes with the last of them
        return
    with place.open_anywhere() as stream:
        yield pa.PythonFile(stream, mode="r") if place.archive is None else pa.BufferReader(stream.read())
