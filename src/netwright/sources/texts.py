"""Reads text tables (CSV, TSV, between white space) with pyarrow, cell by cell as text, so that a bad one can be named.

What is wrong is told by file and line: a line of another number of fields, a quote that does not close, a byte of
another encoding. Lines are bounded, so that no file fills the memory. Floor 2.
"""

from __future__ import annotations

import bisect
import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from netwright.errors import ConfigError, DataError
from netwright.sources.packing import BROKEN, reason_of
from netwright.sources.places import Place
from netwright.sources.tables import Origin, Table, repeated

LONGEST_LINE = 1 << 24  # bytes, with the lines a quoted cell goes on for
MOST_COLUMNS = 100_000
WHITE_SPACE = "whitespace"
UNEVEN = re.compile(r"CSV parse error: (?:Row #(?P<row>\d+): )?Expected (?P<expected>\d+) columns, got (?P<actual>\d+)")
LINE_END, FIRST_PRINTABLE = 10, 32


@dataclass(frozen=True)
class TextOptions:
    """How a text file is written: delimiter, encoding, header line, column names."""

    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool | None = None
    columns: tuple[str, ...] | None = None

    @property
    def headerless(self) -> bool:
        """Whether the first line holds cells."""
        return self.columns is not None or self.header is False

    @property
    def decoder(self) -> str:
        """The encoding without the byte order mark that some editors write."""
        return "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding


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


def read_text(place: Place, options: TextOptions) -> Table:
    """Read a text file.

    Args:
        place: The file, packed by gzip or not.
        options: How it is written.

    Raises:
        DataError: Missing, empty, ragged or malformed file.
        SafetyError: A packed file that grows too much.
    """
    with text_form(place, options) as form:
        columns = pa.csv.read_csv(
            form.source, read_options=form.reading, parse_options=form.parsing, convert_options=form.converting()
        )
        refuse_controls(columns, place, options)
    if not columns.num_rows:
        raise _no_rows(place)
    return Table(columns, (Origin(place.label, columns.num_rows, Lines(place, options)),))


@contextmanager
def text_form(place: Place, options: TextOptions, block_bytes: int = LONGEST_LINE) -> Iterator[TextForm]:
    """Find out how a text file is written, and name file and line of what goes wrong while it is read in the block.

    Args:
        place: The file.
        options: What the user said of it.
        block_bytes: How much is parsed at a time; no line may be longer.

    Raises:
        DataError: A malformed file.
    """
    before, sample = _head(place, options)
    delimiter = options.delimiter or _sniff(place, sample)
    names = header_names(_fields(place, sample, delimiter, before), options, f"{place.label}:{before + 1}")
    on_disk = None if place.packed else place.on_disk
    with ExitStack() as stack:
        if delimiter == WHITE_SPACE:
            source: Any = _tabbed(place, options)
        else:
            source = stack.enter_context(place.open()) if on_disk is None else str(on_disk)
        skipped = 0 if delimiter == WHITE_SPACE else before
        reading = pa.csv.ReadOptions(
            column_names=names,
            skip_rows=skipped + (not options.headerless),
            encoding=options.encoding,
            use_threads=False,
            block_size=block_bytes,
        )
        mark = "\t" if delimiter == WHITE_SPACE else delimiter
        parsing = pa.csv.ParseOptions(delimiter=mark, newlines_in_values=True)  # Arrow's threads may outlive a handler
        try:
            yield TextForm(source, reading, parsing, tuple(names))
        except (pa.ArrowInvalid, UnicodeDecodeError, LookupError, *BROKEN) as error:
            if "Empty CSV" in str(error) or "Could not skip" in str(error):
                raise _no_rows(place) from None
            uneven = UNEVEN.search(str(error))
            _refuse_damage(place, options, None if uneven else delimiter)
            if uneven:
                _refuse_uneven(place, options, delimiter, uneven)
            raise DataError(
                f"{place}: cannot be read ({reason_of(error)}); expected {options.encoding} text with {len(names)} columns; "
                "set data.encoding or data.delimiter"
            ) from None


def delimiter_of(place: Place, options: TextOptions) -> str:
    """Return what stands between fields, one character or "whitespace"."""
    return options.delimiter or _sniff(place, _head(place, options)[1])


def written_in_columns(place: Place, options: TextOptions) -> bool:
    """Tell whether fields are separated by a delimiter, not by white space."""
    return delimiter_of(place, options) != WHITE_SPACE


def count_fields(place: Place, options: TextOptions) -> int:
    """Return the number of fields of the first line of a text file.

    Raises:
        DataError: The file is missing, empty or of another encoding.
    """
    before, sample = _head(place, options)
    return len(_fields(place, sample, options.delimiter or _sniff(place, sample), before))


def header_names(fields: Sequence[str], options: TextOptions, where: str) -> list[str]:
    """Return the column names of a table from the fields of its first line.

    Args:
        fields: The first line, trimmed.
        options: Whether they are names, or which names the user gives.
        where: The first line, for messages.

    Raises:
        ConfigError: The user's names come twice.
        DataError: Names that are too few, come twice, or are numbers.
    """
    if len(fields) > MOST_COLUMNS:
        raise DataError(
            f"{where}: {len(fields)} fields came; expected at most {MOST_COLUMNS}; check data.delimiter, or give so wide a table "
            "as an array in an npz or hdf5 file"
        )
    if options.columns is not None:
        twice = repeated(options.columns)
        if twice is not None:
            raise ConfigError(f"data.columns: {twice!r} came twice; expected different names; rename one")
        if len(options.columns) != len(fields):
            raise DataError(
                f"{where}: {len(fields)} fields came; data.columns names {len(options.columns)}; name each column"
            )
        return list(options.columns)
    if options.header is False:
        return [f"column_{place}" for place in range(1, len(fields) + 1)]
    if all(_is_number(field) for field in fields):
        raise DataError(
            f"{where}: the first line holds numbers only ({', '.join(fields[:3])}, ...); expected column names; "
            "set data.header = false or name them in data.columns"
        )
    names: dict[str, int] = {}
    for place, field in enumerate(fields, 1):
        name = field or f"column_{place}"
        if names.setdefault(name, place) != place:
            raise DataError(
                f"{where}: column {name!r} came twice (columns {names[name]} and {place}); "
                "expected different names; rename one"
            )
    return list(names)


@final
class Lines:
    """Tells the line at which a row of a text table starts, counted from 1; reads the file as far, or twice as far as before."""

    def __init__(self, place: Place, options: TextOptions) -> None:
        self._place, self._options, self._known = place, options, 0
        self._moves = [(0, 1)]  # from a row on, lines below it: more after blank lines, and cells over lines

    def __call__(self, row: int) -> int:
        """Return the line of a row; of one that is not there, where it would be."""
        if row >= self._known:
            self._read(max(row + 1, 2 * self._known))
        place = bisect.bisect(self._moves, row, key=lambda move: move[0]) - 1
        return row + (self._moves[place][1] if row < self._known else 1)

    def _read(self, rows: int) -> None:
        place, options = self._place, self._options
        records = _records(place, options, options.delimiter or _sniff(place, _head(place, options)[1]))
        starts = islice((number for number, _ in records), not options.headerless, None)
        self._moves, self._known = [(0, 1)], 0
        for row, line in enumerate(islice(starts, rows)):
            if line - row != self._moves[-1][1]:
                self._moves.append((row, line - row))
            self._known = row + 1


def refuse_controls(columns: pa.Table, place: Place, options: TextOptions) -> None:
    """Refuse cells with a NUL byte, and a quote that closes only lines later where it should not."""
    least = FIRST_PRINTABLE
    lines = False
    for part in (part for column in columns.columns for part in column.chunks if part.buffers()[2] is not None):
        letters = np.frombuffer(part.buffers()[2], dtype=np.uint8)
        least = min(least, int(letters.min(initial=FIRST_PRINTABLE)))
        lines = lines or (least < FIRST_PRINTABLE and bool((letters == LINE_END).any()))
    if least == 0:
        _refuse_damage(place, options, None)
    if lines:
        _refuse_open_quote(place, options, options.delimiter or _sniff(place, _head(place, options)[1]))


def _no_rows(place: Place) -> DataError:
    return DataError(f"{place}: no rows; expected a header and at least one row; check the file")


def _head(place: Place, options: TextOptions) -> tuple[int, str]:
    """Return the number of blank lines at the start, and the first line that is not blank."""
    try:
        codecs.lookup(options.encoding)
        with place.open_text(options.decoder) as stream:
            before = 0
            while line := stream.readline(LONGEST_LINE):
                if line.strip():
                    if "\0" in line or len(line) == LONGEST_LINE:
                        _refuse_damage(place, options, None)
                    return before, line
                before += 1
    except UnicodeError as error:
        _refuse_damage(place, options, None)
        raise DataError(
            f"{place}: {reason_of(error)}; expected {options.encoding} text; set data.encoding, for instance utf-8"
        ) from None
    except LookupError:
        raise DataError(
            f"{place}: encoding {options.encoding!r} is unknown; expected one Python knows; write for instance utf-8 or latin-1"
        ) from None
    except BROKEN as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected a readable file; check the path") from error
    raise _no_rows(place)


def _sniff(place: Place, line: str) -> str:
    if place.suffix == ".tsv":
        return "\t"
    counts = {mark: line.count(mark) for mark in (",", "\t", ";", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best]:
        return best
    return WHITE_SPACE if place.suffix != ".csv" and len(line.split()) > 1 else ","


def _fields(place: Place, line: str, delimiter: str, before: int) -> list[str]:
    if delimiter == WHITE_SPACE:
        return line.split()
    try:
        return [field.strip() for field in next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])]
    except csv.Error as error:
        raise DataError(
            f"{place.label}:{before + 1}: cannot be read ({error}); expected column names; check the file"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tabbed(place: Place, options: TextOptions) -> io.BytesIO:
    """Return a white-space table with tabs between the fields."""
    with place.open_text(options.decoder) as stream:
        lines = ("\t".join(line.split()) for line in stream)
        return io.BytesIO("\n".join(line for line in lines if line).encode(options.encoding))


def _records(place: Place, options: TextOptions, delimiter: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of each line that is not blank; ``strict`` refuses quotes that close badly."""
    with place.open_text(options.decoder) as stream:
        if delimiter == WHITE_SPACE:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.split()
            return
        reader = csv.reader(stream, delimiter=delimiter, strict=strict)
        before = 0
        longest = csv.field_size_limit(LONGEST_LINE)
        try:
            for fields in reader:
                if fields:
                    yield before + 1, fields
                before = reader.line_num
        except csv.Error as error:
            raise _open_quote(place, before + 1, reason_of(error)) from None
        finally:
            csv.field_size_limit(longest)


def _refuse_uneven(place: Place, options: TextOptions, delimiter: str, told: re.Match[str]) -> None:
    """Name the first line of another number of fields than `UNEVEN` expects; where cells go over lines, an open quote."""
    expected, actual, line = int(told["expected"]), int(told["actual"]), int(told["row"] or 0)
    over_lines = False
    for number, fields in _records(place, options, delimiter):
        over_lines = over_lines or any("\n" in field for field in fields)
        if len(fields) != expected:
            line, actual = number, len(fields)
            break
    if over_lines:
        _refuse_open_quote(place, options, delimiter)
    raise DataError(f"{place.label}:{line}: {actual} fields came; expected {expected} as in the first line; mend the line")


def _refuse_damage(place: Place, options: TextOptions, delimiter: str | None) -> None:
    """Name the first line that is too long, has a NUL byte or a byte of another encoding, then the first open quote."""
    decoder = codecs.getincrementaldecoder(options.decoder)()
    offset, line, width = 0, 1, 0  # of what was decoded: bytes, lines, characters of the last line
    with place.open() as stream:
        while True:
            part = stream.read(1 << 16)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                line += bytes(error.object[: error.start]).decode(options.encoding, "replace").count("\n")
                byte = offset - waiting + error.start
                marked = byte == 0 and bytes(error.object[:2]) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                raise DataError(
                    f"{place.label}:{line}: byte {byte} of the file is 0x{error.object[error.start]:02x}, not {options.encoding}; "
                    f"expected {options.encoding} text; set data.encoding, for instance {'utf-16' if marked else 'latin-1'}"
                ) from None
            except UnicodeError:  # the file does not start as its encoding says
                return
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise DataError(
                    f"{place.label}:{line}: byte {offset + part.find(0)} of the file is NUL; expected {options.encoding} text; "
                    "set data.encoding, for instance utf-16, or mend the line"
                )
            if not part:
                break
            offset += len(part)
            line += text.count("\n")
            width = len(text) - text.rindex("\n") - 1 if "\n" in text else width + len(text)
            if width >= LONGEST_LINE:
                raise DataError(
                    f"{place.label}:{line}: more than {LONGEST_LINE} characters came in one line; expected fewer; check line ends "
                    "and quotes, or give so wide a table as an array in an npz or hdf5 file"
                )
    if delimiter is not None:
        _refuse_open_quote(place, options, delimiter)


def _refuse_open_quote(place: Place, options: TextOptions, delimiter: str) -> None:
    """Name the line in which a quote opens that does not close, or closes in the middle of a later cell."""
    for number, fields in _records(place, options, delimiter, strict=True):
        if delimiter == WHITE_SPACE and "".join(fields).count('"') % 2:
            raise _open_quote(place, number, "line end in quotes")


def _open_quote(place: Place, line: int, reason: str) -> DataError:
    return DataError(
        f"{place.label}:{line}: a quote opens and does not close where its cell ends ({reason}); expected cells such as "
        '"red, blue"; close the quote, or write "" for a quote inside'
    )
