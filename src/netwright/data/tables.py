"""Reads tables (CSV, TSV, white-space text, JSON lines, Parquet, data frames) with pyarrow into `Table`.

Text files are read as text, cell by cell, so that a bad cell can be named by file, line and column; typed files keep
their types. Floor 2.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from netwright.errors import ConfigError, DataError, first_line

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".dat")
JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class TextOptions:
    """How a text file is written: delimiter, decimal mark, encoding, header line, column names."""

    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Origin:
    """Where a run of rows came from: a name, its number of rows, and the text file for line numbers.

    ``files`` names the file of each row, below the folder ``name``; empty where rows have none of their own.
    ``first`` is the number of the first of them in the file.
    """

    name: str
    rows: int
    text_file: Path | None = None
    options: TextOptions = TextOptions()
    files: tuple[str, ...] = ()
    first: int = 0

    def place(self, row: int) -> str:
        """Return ``file:line`` for text files, the row's own file, else ``name: row N`` counted from 1."""
        if self.files:
            return f"{self.name}/{self.files[row]}" if self.name else self.files[row]
        if self.text_file is None:
            return f"{self.name}: row {self.first + row + 1}"
        return f"{self.name}:{_line_of(self.text_file, self.first + row, self.options)}"


@dataclass(frozen=True)
class Table:
    """Columns of equal length and where their rows came from."""

    columns: pa.Table
    origins: tuple[Origin, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.columns.num_rows)

    @property
    def names(self) -> list[str]:
        """The column names in order."""
        return list(self.columns.column_names)

    def place(self, row: int) -> str:
        """Return where a row came from, for messages."""
        return place_of(self.origins, row)


def place_of(origins: Sequence[Origin], row: int) -> str:
    """Return where a row of several sources, one below the other, came from."""
    for origin in origins:
        if row < origin.rows:
            return origin.place(row)
        row -= origin.rows
    return f"row {row + 1}"


def read_table(path: Path, options: TextOptions) -> Table:
    """Read one file.

    Args:
        path: A file whose ending tells the format.
        options: For text files.

    Raises:
        DataError: Missing, empty, ragged or malformed file.
    """
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        columns = _read_text(path, options)
        origin = Origin(path.name, columns.num_rows, path, options)
    else:
        try:
            if suffix in JSON_SUFFIXES:
                columns = pa.json.read_json(path)
            else:
                columns = pa.parquet.read_table(path)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            bad = re.search(r"in row (\d+)", str(error)) if suffix in JSON_SUFFIXES else None
            if bad:
                raise DataError(
                    f"{path.name}:{int(bad[1]) + 1}: cannot be read ({first_line(error)}); expected one JSON object; mend the line"
                ) from None
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: cannot be read ({reason}); expected a {suffix[1:]} file; check the file") from None
        origin = Origin(path.name, columns.num_rows)
    if columns.num_rows == 0:
        raise DataError(f"{path}: no rows; expected a header and at least one row; check the file")
    return Table(columns, (origin,))


def from_frame(frame: Any, name: str = "data frame") -> Table:
    """Read a pandas, polars or pyarrow table through the Arrow interface.

    Raises:
        DataError: The frame has no rows or a column Arrow cannot hold.
    """
    try:
        columns = frame if isinstance(frame, pa.Table) else pa.table(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: cannot be read ({reason}); expected columns of one type each; mend the column") from None
    columns = columns.drop_columns(_index_columns(columns))
    columns = columns.rename_columns([str(column) for column in columns.column_names])
    twice = next((column for column in columns.column_names if columns.column_names.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{name}: column {twice!r} came twice; expected different names; rename one")
    if columns.num_rows == 0:
        raise DataError(f"{name}: no rows; expected at least one row")
    plain = pa.table({column: _plain_text(columns[column]) for column in columns.column_names})
    return Table(plain, (Origin(name, columns.num_rows),))


def _plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts in Arrow's plain form: polars hands over views, large strings and dictionaries of them."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string_view(kind) or pa.types.is_large_string(kind)):
        return column
    if not pa.types.is_dictionary(column.type):
        return column.cast(pa.string())
    return pa.chunked_array([part.dictionary.cast(pa.string()).take(part.indices) for part in column.chunks], pa.string())


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
            f"{first.origins[0].name}: column types differ between the files ({error}); make them equal"
        ) from None
    return Table(columns, tuple(origin for table in tables for origin in table.origins))


def _read_text(path: Path, options: TextOptions) -> pa.Table:
    with text_form(path, options) as form:
        return pa.csv.read_csv(
            form.source, read_options=form.reading, parse_options=form.parsing, convert_options=form.converting()
        )


@dataclass(frozen=True)
class TextForm:
    """How pyarrow reads a text file: the source, its options, and the names of its columns."""

    source: Any
    reading: Any
    parsing: Any
    names: tuple[str, ...]

    def converting(self, columns: Sequence[str] | None = None) -> Any:
        """Return the options that read cells as texts, of all columns or some."""
        return pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in self.names},
            strings_can_be_null=False,
            null_values=[],
            include_columns=None if columns is None else list(columns),
        )


@contextmanager
def text_form(path: Path, options: TextOptions, block_bytes: int | None = None) -> Iterator[TextForm]:
    """Find out how a text file is written, and name file and line of what goes wrong while it is read in the block.

    Args:
        path: The file.
        options: What the user said of it.
        block_bytes: How much is parsed at a time; None leaves it to pyarrow.

    Raises:
        DataError: A malformed file.
    """
    before, sample = _head(path, options)
    delimiter = options.delimiter or _sniff(path, sample)
    names = _names(path, sample, delimiter, options)
    headerless = options.columns is not None or options.header is False
    source: Any = path
    if delimiter == "whitespace":
        source, delimiter, before = _tabbed(path, options), "\t", 0
    bad: list[Any] = []

    def refuse(row: Any) -> str:
        bad.append(row)
        return "skip"

    reading = pa.csv.ReadOptions(
        column_names=names,
        skip_rows=before if headerless else before + 1,
        encoding=options.encoding,
        use_threads=False,
        block_size=block_bytes,
    )
    try:
        yield TextForm(source, reading, pa.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=refuse), tuple(names))
    except (pa.ArrowInvalid, UnicodeDecodeError, LookupError) as error:
        if "Empty CSV" in str(error) or "Could not skip" in str(error):
            raise DataError(f"{path}: no rows; expected a header and at least one row; check the file") from None
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read ({reason}); expected {options.encoding} text with {len(names)} columns; "
            "set data.encoding or data.delimiter"
        ) from None
    if bad:
        line = _line_of_fields(path, options, delimiter, len(names), bad[0])
        raise DataError(
            f"{path.name}:{line}: {bad[0].actual_columns} fields came; "
            f"expected {bad[0].expected_columns} as in the first line; mend the line"
        )


def written_in_columns(path: Path, options: TextOptions) -> bool:
    """Tell whether fields are separated by a delimiter, not by white space."""
    return (options.delimiter or _sniff(path, _head(path, options)[1])) != "whitespace"


def _head(path: Path, options: TextOptions) -> tuple[int, str]:
    """Return the number of blank lines at the start, and the first line that is not blank."""
    try:
        with path.open(encoding=_decoder(options), newline="") as stream:
            for before, line in enumerate(stream):
                if line.strip():
                    return before, line
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a readable file; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not {options.encoding}; expected {options.encoding} text; "
            "set data.encoding, for instance latin-1"
        ) from None
    except UnicodeError as error:
        raise DataError(f"{path}: {error}; expected {options.encoding} text; set data.encoding") from None
    except LookupError:
        raise DataError(f"{path}: encoding {options.encoding!r} is unknown; write for instance utf-8 or latin-1") from None
    raise DataError(f"{path}: no rows; expected a header and at least one row; check the file")


def count_fields(path: Path, options: TextOptions) -> int:
    """Return the number of fields of the first line of a text file.

    Raises:
        DataError: The file is missing, empty or of another encoding.
    """
    sample = _head(path, options)[1]
    return len(_fields(path, sample, options.delimiter or _sniff(path, sample)))


def _decoder(options: TextOptions) -> str:
    return "utf-8-sig" if options.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else options.encoding


def _sniff(path: Path, line: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    counts = {mark: line.count(mark) for mark in (",", "\t", ";", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best]:
        return best
    return "whitespace" if path.suffix.lower() != ".csv" and len(line.split()) > 1 else ","


def _fields(path: Path, line: str, delimiter: str) -> list[str]:
    if delimiter == "whitespace":
        return line.split()
    try:
        return [field.strip() for field in next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])]
    except csv.Error as error:
        raise DataError(f"{path.name}:1: cannot be read ({error}); expected column names; check the file") from None


def _names(path: Path, line: str, delimiter: str, options: TextOptions) -> list[str]:
    fields = _fields(path, line, delimiter)
    if options.columns is not None:
        twice = next((name for name in options.columns if options.columns.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"data.columns: {twice!r} came twice; expected different names; rename one")
        if len(options.columns) != len(fields):
            raise DataError(
                f"{path.name}:1: {len(fields)} fields came; data.columns names {len(options.columns)}; name each column"
            )
        return list(options.columns)
    if options.header is False:
        return [f"column_{place}" for place in range(1, len(fields) + 1)]
    if all(_is_number(field) for field in fields):
        raise DataError(
            f"{path.name}:1: the first line holds numbers only ({', '.join(fields[:3])}, ...); expected column names; "
            "set data.header = false or name them in data.columns"
        )
    for place, name in enumerate(fields):
        if not name:
            fields[place] = name = f"column_{place + 1}"
        if name in fields[:place]:
            raise DataError(
                f"{path.name}:1: column {name!r} came twice (columns {fields.index(name) + 1} and {place + 1}); "
                "expected different names; rename one"
            )
    return fields


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tabbed(path: Path, options: TextOptions) -> io.BytesIO:
    """Return a white-space table with tabs between the fields."""
    with path.open(encoding=_decoder(options)) as stream:
        lines = ("\t".join(line.split()) for line in stream)
        return io.BytesIO("\n".join(line for line in lines if line).encode(options.encoding))


def _records(path: Path, options: TextOptions, delimiter: str) -> Any:
    """Yield (line number, fields) of each line that is not blank."""
    with path.open(encoding=_decoder(options), newline="") as stream:
        if delimiter == "whitespace":
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.split()
            return
        reader = csv.reader(stream, delimiter=delimiter)
        before = 0
        for fields in reader:
            if fields:
                yield before + 1, fields
            before = reader.line_num


def _line_of(path: Path, row: int, options: TextOptions) -> int:
    """Return the line at which a row of the table starts."""
    delimiter = options.delimiter or _sniff(path, _head(path, options)[1])
    headerless = options.columns is not None or options.header is False
    for place, (number, _) in enumerate(_records(path, options, delimiter)):
        if place == row + (0 if headerless else 1):
            return int(number)
    return row + 1


def _line_of_fields(path: Path, options: TextOptions, delimiter: str, expected: int, bad: Any) -> int:
    """Return the line of the first record whose number of fields is not the expected one."""
    if options.delimiter == "whitespace" or (delimiter == "\t" and path.suffix.lower() != ".tsv"):
        delimiter = options.delimiter or _sniff(path, _head(path, options)[1])
    for number, fields in _records(path, options, delimiter):
        if len(fields) != expected:
            return int(number)
    return int(bad.number or 0)
