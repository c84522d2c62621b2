"""Named columns of equal length, `Table`, and where their rows came from; data frames through the Arrow interface. Floor 2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from netwright.errors import DataError, first_line

UNNAMED_INDEX = "__index_level_"  # how pandas names the index of a frame in a file


@dataclass(frozen=True)
class Origin:
    """Where a run of rows came from: a name, its number of rows, and what finds the line of one in the file.

    ``files`` names the file of each row, below the folder ``name``; empty where rows have none of their own. ``first`` is
    the number of the first of them in the file. ``words`` tells where a row came from otherwise.
    """

    name: str
    rows: int
    line_of: Callable[[int], int] | None = None
    files: tuple[str, ...] = ()
    first: int = 0
    words: Callable[[int], str] | None = None

    def place(self, row: int) -> str:
        """Return ``file:line`` for files that have lines, the row's own file, else ``name: row N`` counted from 1."""
        if self.words is not None:
            return self.words(row)
        if self.files:
            return f"{self.name}/{self.files[row]}" if self.name else self.files[row]
        row += self.first
        return f"{self.name}: row {row + 1}" if self.line_of is None else f"{self.name}:{self.line_of(row)}"


@dataclass(frozen=True)
class Table:
    """Columns of equal length and where their rows came from.

    ``inputs`` are the columns to learn from where the user names none; None for all but the target. ``sets`` are further
    names that stand for columns: the data sets of a file in which a column is a part of a data set. ``notes`` are for the user.
    """

    columns: pa.Table
    origins: tuple[Origin, ...]
    inputs: tuple[str, ...] | None = None
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.columns.num_rows)

    @property
    def names(self) -> list[str]:
        """The column names in order."""
        return list(self.columns.column_names)

    def spread(self, names: Sequence[str]) -> list[str]:
        """Return names with the columns that they stand for."""
        return [column for name in names for column in (self.sets.get(name, (name,)) if name not in self.names else (name,))]

    def place(self, row: int) -> str:
        """Return where a row came from, for messages."""
        return place_among(self.origins, row)


def place_among(origins: Sequence[Origin], row: int) -> str:
    """Return where a row of several sources, one below the other, came from."""
    for origin in origins:
        if row < origin.rows:
            return origin.place(row)
        row -= origin.rows
    return f"row {row + 1}"


def from_frame(frame: Any, name: str = "data frame") -> Table:
    """Read a pandas, polars or pyarrow table through the Arrow interface.

    Raises:
        DataError: The frame has no rows or a column Arrow cannot hold.
    """
    try:
        columns = frame if isinstance(frame, pa.Table) else pa.table(_without_pandas_own(frame))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"{name}: cannot be read ({first_line(error)}); expected columns of one type each; mend the column"
        ) from None
    columns = columns.drop_columns(_index_columns(columns))
    return typed_table(columns.rename_columns([str(column) for column in columns.column_names]), name, name)


def _without_pandas_own(frame: Any) -> Any:
    """Return a frame with pandas' periods as the dates they begin at, and its intervals, as `pandas.cut` gives them, as texts.

    Arrow has neither: it would take periods for numbers and intervals for pairs of numbers.
    """
    dtypes: Any = getattr(frame, "dtypes", None)
    if not hasattr(dtypes, "items") or not hasattr(frame, "assign") or not frame.columns.is_unique:
        return frame
    changed = {}
    for name, dtype in dtypes.items():
        cells = getattr(getattr(dtype, "categories", None), "dtype", dtype)  # of a category what its levels are
        if type(cells).__name__ == "PeriodDtype":
            changed[name] = frame[name].astype(cells).dt.to_timestamp()
        elif type(cells).__name__ == "IntervalDtype":
            changed[name] = frame[name].astype(object).map(str, na_action="ignore")
    if changed:
        frame = frame.copy(deep=False)
        for name, cells in changed.items():
            frame[name] = cells
    return frame


def typed_table(columns: pa.Table, name: str, label: str) -> Table:
    """Return columns that carry their types as a table.

    Args:
        columns: As Arrow read them; an index that pandas did not name is left out.
        name: Where they came from, whole.
        label: The same in short, before row numbers.

    Raises:
        DataError: No rows, or a column twice.
    """
    try:
        columns = columns.drop_columns([column for column in columns.column_names if column.startswith(UNNAMED_INDEX)])
    except UnicodeDecodeError:
        raise DataError(f"{name}: a column whose name is no UTF-8 came; expected UTF-8; write the file again") from None
    twice = repeated(columns.column_names)
    if twice is not None:
        raise DataError(f"{name}: column {twice!r} came twice; expected different names; rename one")
    if columns.num_rows == 0:
        raise DataError(f"{name}: no rows; expected at least one row; check what was written")
    plain = pa.table({column: plain_text(columns[column]) for column in columns.column_names})
    return Table(plain, (Origin(label, plain.num_rows),))


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that came before; None where all differ.

    Example:
        >>> repeated(["age", "town", "age"])
        'age'
    """
    known: set[str] = set()
    for name in names:
        if name in known:
            return name
        known.add(name)
    return None


def plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts in Arrow's plain form: polars hands over views, large strings, and dictionaries and lists of them."""
    if (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) and _unplain(column.type.value_type):
        return column.cast(pa.list_(pa.string()))
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _unplain(kind):
        return column
    if not pa.types.is_dictionary(column.type):
        return column.cast(pa.string())
    return pa.chunked_array([part.dictionary.cast(pa.string()).take(part.indices) for part in column.chunks], pa.string())


def _unplain(kind: pa.DataType) -> bool:
    """Tell whether texts are in another form than Arrow's plain one."""
    return bool(pa.types.is_string_view(kind) or pa.types.is_large_string(kind))


def _index_columns(columns: pa.Table) -> list[str]:
    """Return the columns that hold the index of a pandas frame: an index is no column."""
    described = (columns.schema.pandas_metadata or {}).get("index_columns", [])
    return [column for column in described if isinstance(column, str) and column in columns.column_names]


def concatenate(tables: Sequence[Table]) -> Table:
    """Put tables with the same columns one below the other, in the column order of the first.

    Raises:
        DataError: A later table lacks a column of the first.
    """
    first = tables[0]
    for table in tables[1:]:
        missing = [name for name in first.names if name not in table.names]
        if missing:
            raise DataError(
                f"{table.origins[0].name}: column {missing[0]!r} is missing; {first.origins[0].name} has it; "
                "the files need the same columns"
            )
    parts = [table.columns.select(first.names) for table in tables]
    try:
        columns = pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{first.origins[0].name}: column types differ between the files ({first_line(error)}); expected equal ones; "
            "make them equal"
        ) from None
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return replace(
        first, columns=columns, origins=tuple(origin for table in tables for origin in table.origins), notes=notes
    )
