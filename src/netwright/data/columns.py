"""What each column of a table is (number, category, boolean, date, identifier), and its cells as numbers.

Kinds and categories are learned from the train rows only; every other row must conform, or the cell is named in the
error. `TableEncoder` turns a table into one float64 matrix: NaN is missing, 0 an unknown category. Floor 3.
"""

from __future__ import annotations

import json
import re
import shlex
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.data.column import Column
from netwright.errors import DataError, did_you_mean
from netwright.sources.cells import (
    DATE,
    FALSE_WORDS,
    OTHER_DATE,
    TRUE_WORDS,
    CellError,
    Floats,
    booleans,
    clean,
    days,
    is_text,
    numbers,
    padded,
)
from netwright.sources.marks import MOSTLY, PLAIN_NUMBERS, Markers, are_numbers, number_advice, pointed_numbers
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]

MISSING_LEVEL = "(missing)"
FEW_LEVELS = 12  # of texts: so many may be names, whatever they look like
EXPECTED = {"number": "a number", "boolean": "true or false", "date": "a date such as 2024-01-31", "category": "a name"}


# The cells of the last table that something was noticed in, for the call that reads them next: reading takes most of a prediction.
_read: list[tuple[weakref.ref[Table], TableEncoder, Floats]] = []


@dataclass(frozen=True)
class TableEncoder:
    """Turns tables with the learned columns into float64 matrices.

    The matrix has one column per used column, in order: numbers as they are (NaN missing), booleans 0 and 1, dates in
    days since 1970, categories as whole numbers (0 unknown, 1.. the levels). ``settled`` says that a network has learned with
    these columns, so that for a cell of other rows no setting helps.
    """

    columns: tuple[Column, ...]
    markers: Markers = Markers()
    settled: bool = field(default=False, compare=False)

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns the network reads."""
        return tuple(column for column in self.columns if column.kind not in ("identifier", "ignore"))

    def matrix(self, table: Table) -> Floats:
        """Return the cells as float64 ``(rows, used columns)``.

        Raises:
            DataError: A column is missing, or a cell is no number, infinite or beyond float32.
        """
        read = next(iter(_read), None)
        if read is not None and read[0]() is table and read[1] is self:
            _read.clear()
            return read[2]
        came = set(table.names)
        missing = [column.name for column in self.used if column.name not in came]
        if missing:
            raise DataError(
                f"{table.origins[0].name}: column {missing[0]!r} is missing; the network reads it; "
                f"{did_you_mean(missing[0], table.names)}"
            )
        found = np.empty((table.rows, len(self.used)))
        for place, column in enumerate(self.used):
            found[:, place] = self.cells(table, column)
        return found

    def unknown(self, table: Table) -> dict[str, int]:
        """Return the number of cells per column whose value was not seen in the train rows; see `Column.unknown`."""
        asked = [column for column in self.used if column.kind == "category" or column.constant is not None]
        counts = {column.name: column.unknown(self.cells(table, column)) for column in asked}
        return {name: count for name, count in counts.items() if count}

    def noticed(self, table: Table) -> Counter[tuple[str, str]]:
        """Return how many cells of new rows are odd, by the name of their column and how; see `Column.noticed`."""
        found: Counter[tuple[str, str]] = Counter()
        cells = self.matrix(table)
        for place, column in enumerate(self.used):
            found.update({(column.name, how): count for how, count in column.noticed(cells[:, place]).items() if count})
        _read[:] = [(weakref.ref(table, lambda gone: _read.clear()), self, cells)]
        return found

    def knowing(self, constants: Mapping[int, float], spans: Mapping[int, tuple[float, float]]) -> TableEncoder:
        """Return the encoder with the amount that all train rows hold, or between which theirs lie, by places of used columns."""
        names = [column.name for column in self.used]
        one = {names[place]: value for place, value in constants.items()}
        span = {names[place]: value for place, value in spans.items()}
        columns = [replace(column, constant=one.get(column.name), span=span.get(column.name)) for column in self.columns]
        return replace(self, columns=tuple(columns))

    def cells(self, table: Table, column: Column) -> Floats:
        """Return the cells of one column as numbers; see `matrix`."""
        try:
            return self._cells(table, column)
        except CellError as error:
            if not self.settled:
                raise
            empty = ", or an empty cell where it is not known" if "" in self.markers.missing_values else ""
            raise DataError(f"{error.told}; expected {EXPECTED[column.kind]}{empty}; mend the cell") from None

    def _cells(self, table: Table, column: Column) -> Floats:
        values = clean(table.columns[column.name], self.markers)
        if column.kind == "number":
            return numbers(values, table, column.name, self.markers)
        if column.kind == "boolean":
            return booleans(values, table, column.name)
        if column.kind == "date":
            return days(values, table, column.name)
        return _codes(values, column.levels, self.settled)

    def to_json(self) -> dict[str, Any]:
        """Return the encoder as plain values."""
        return {"columns": [asdict(column) for column in self.columns], "markers": asdict(self.markers)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> TableEncoder:
        """Read what `to_json` gave."""
        columns = tuple(Column.from_json(entry) for entry in value["columns"])
        written = value["markers"]
        markers = Markers(tuple(written["missing_values"]), written["decimal"], thousands=written.get("thousands"))
        return TableEncoder(columns, markers, settled=True)


def missing_cells(column: pa.ChunkedArray) -> int:
    """Return the number of missing cells; not-a-number is one."""
    return int(pc.sum(column.is_null(nan_is_null=True)).as_py() or 0)


def learn_columns(
    table: Table,
    rows: Rows,
    names: Sequence[str],
    kinds: Mapping[str, str],
    markers: Markers,
    rare: int = 1,
) -> tuple[TableEncoder, list[str]]:
    """Learn kinds and categories from some rows.

    Args:
        table: All rows.
        rows: The train rows, int64.
        names: The columns to learn from.
        kinds: Kinds the user wrote.
        markers: Missing markers and the marks of numbers.
        rare: A category seen fewer times counts as unknown.

    Returns:
        The encoder and remarks worth printing (identifiers left out, ...).

    Raises:
        DataError: A text column, or a text in a number column.
    """
    for name in kinds:
        if name not in table.names:
            raise DataError(f"data.kinds: column {name!r} is not in the data; {did_you_mean(name, table.names)}")
    found: list[Column] = []
    notes: list[str] = []
    prose: list[str] = []
    chosen = pa.array(rows)
    for name in names:
        column = clean(table.columns[name], markers)
        train = column.take(chosen)
        kind = kinds.get(name) or _infer(train, table, name, markers)
        if kind == "text":
            prose.append(name)
            continue
        if name not in kinds and train.null_count == len(train):
            kind = "empty"
        if name not in kinds:
            notes += _notes(kind, name, train)
        levels = levels_of(level_counts(train), rare) if kind == "category" else ()
        found.append(Column(name, "ignore" if kind == "empty" else kind, missing_cells(column), levels))
    if prose:
        raise DataError(_prose(table, prose, chosen, markers))
    encoder = TableEncoder(tuple(found), markers)
    if not encoder.used:
        raise DataError(
            f"{table.origins[0].name}: no column is left to learn from; expected at least one; "
            + ("; ".join(notes) or "check data.ignore")
        )
    return encoder, notes


def _notes(kind: str, name: str, train: pa.ChunkedArray) -> list[str]:
    """Return what to tell of a column whose kind was inferred."""
    if kind == "empty":
        return [f"column {name!r} is empty in the train rows and is left out"]
    if kind == "identifier":
        numeric = not is_text(train.type) or pc.all(pc.match_substring_regex(train.drop_null(), r"^[-+.0-9eE]+$")).as_py()
        use = "number" if numeric else "category"
        return [
            f"column {name!r} looks like an identifier (all values differ) and is left out; "
            f'to use it: data.kinds = {{"{name}" = "{use}"}}'
        ]
    if kind == "category" and padded(train.drop_null()):
        return [
            f"column {name!r} holds numbers with leading zeros and is read as categories; "
            f'to read amounts: data.kinds = {{"{name}" = "number"}}'
        ]
    return []


def _prose(table: Table, names: Sequence[str], rows: pa.Array, markers: Markers) -> str:
    """Return the message on columns of free text, with the option that leaves all of them out."""
    train = clean(table.columns[names[0]], markers).take(rows).drop_null()
    more = f" (and {', '.join(map(repr, names[1:]))} too)" if len(names) > 1 else ""
    option = shlex.quote(f"data.ignore={json.dumps(list(names), ensure_ascii=False)}")
    return (
        f"{table.origins[0].name}: column {names[0]!r} holds free text ({len(pc.unique(train))} different values, "
        f"{_words(train):.0f} words each){more}; expected numbers or categories; leave it out with --set {option} "
        f'or force data.kinds = {{"{names[0]}" = "category"}}; where it is the only input: --set data.text=words'
    )


def _infer(train: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> str:
    kind = train.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_temporal(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "identifier" if _is_key(train, name) else "number"
    if pa.types.is_null(kind):
        return "ignore"
    if not is_text(kind):
        raise DataError(
            f"{table.origins[0].name}: column {name!r} holds {kind}; expected numbers, texts, booleans or dates; "
            f'flatten it, or leave it out with data.ignore = ["{name}"]'
        )
    return _infer_text(train.drop_null(), table, name, markers)


def _infer_text(train: pa.ChunkedArray, table: Table, name: str, markers: Markers) -> str:
    count = len(train)
    if count == 0:
        return "ignore"
    _refuse_other_dates(train, table, name)
    distinct = pc.unique(train)
    if padded(train):
        return _names_or_categories(len(distinct), count)
    fitting = pc.sum(are_numbers(train, markers)).as_py()
    if fitting == count:
        return "identifier" if _is_key(pc.cast(pointed_numbers(train, markers), pa.float64()), name) else "number"
    if fitting >= MOSTLY * count:
        return "number"  # the cell that is none is named when the cells are read
    if pc.all(pc.match_substring_regex(train, DATE)).as_py():
        return "date"
    words_found = {value.lower() for value in distinct.to_pylist()} if len(distinct) <= FEW_LEVELS else set()
    if 0 < len(words_found) <= 2 and words_found <= {*TRUE_WORDS, *FALSE_WORDS}:
        return "boolean"
    commas = pc.sum(pc.match_substring(train, ",")).as_py() >= MOSTLY * count
    many = len(distinct) > FEW_LEVELS
    if (many or commas) and (advice := number_advice(train, markers)) is not None and (many or advice != PLAIN_NUMBERS):
        first = train.filter(pc.invert(are_numbers(train, markers)))[0].as_py()
        raise DataError(
            f"{table.origins[0].name}: column {name!r}: {first!r} is no number; {advice}, or "
            f'data.kinds = {{"{name}" = "category"}} where such cells are names'
        )
    if count >= 20 and len(distinct) > 0.5 * count and _words(train) >= 3:
        return "text"
    return _names_or_categories(len(distinct), count)


def _names_or_categories(distinct: int, count: int) -> str:
    """Tell names of rows, which nearly all differ, from categories."""
    return "identifier" if count >= 20 and distinct >= 0.95 * count else "category"


def _words(train: pa.ChunkedArray) -> float:
    """Return the mean number of words of a cell."""
    return float(pc.mean(pc.add(pc.count_substring(train, " "), 1)).as_py())


def _refuse_other_dates(train: pa.ChunkedArray, table: Table, name: str) -> None:
    """Refuse dates whose order of day and month nobody can tell."""
    fits = pc.match_substring_regex(train, OTHER_DATE)
    if pc.sum(fits).as_py() < MOSTLY * len(train):
        return
    first = train.filter(fits)[0].as_py()
    option = shlex.quote(f"data.ignore={json.dumps([name], ensure_ascii=False)}")
    raise DataError(
        f"{table.origins[0].name}: column {name!r}: {first!r} is a date of unknown order; expected ISO dates such as 2024-01-31; "
        f'rewrite the column, set data.kinds = {{"{name}" = "category"}}, or leave it out with --set {option}'
    )


def _is_key(train: pa.ChunkedArray, name: str) -> bool:
    """Tell whether whole numbers are a row key: all different, and counted up by one or named like one."""
    values = np.asarray(train.drop_null().cast(pa.float64(), safe=False))  # as a text table reads numbers beyond 2**53
    if len(values) < 20 or train.null_count or not np.isfinite(values).all() or (values != np.round(values)).any():
        return False
    ordered = np.sort(values)
    if (np.diff(ordered) == 0).any():
        return False
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    named = bool({"id", "key", "index", "identifier", "uuid"} & set(words)) or name.endswith(("Id", "ID"))
    share = len(values) / (ordered[-1] - ordered[0] + 1)
    in_order = bool((np.diff(values) > 0).all())
    return named or (in_order and share > 0.3)


def level_counts(train: pa.ChunkedArray) -> Counter[str]:
    """Return how often each category comes in cleaned cells; missing is one."""
    return Counter({str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(_texts(train)).to_pylist()})


def levels_of(counts: Mapping[str, int], rare: int) -> tuple[str, ...]:
    """Return the categories that come often enough, sorted."""
    return tuple(sorted(level for level, count in counts.items() if count >= rare))


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(values.cast(pa.string()), MISSING_LEVEL)


def _codes(values: pa.ChunkedArray, levels: Sequence[str], alike: bool) -> Floats:
    """Return the number of each cell's level, counted from 1; 0 for none.

    Args:
        values: Cleaned cells.
        levels: The categories that are known.
        alike: Whether a cell that is none of them is the one that is the same number or truth value in another spelling: frames
            write 2 for 2.0, JSON and text files do not.
    """
    texts = _texts(values)
    places = pc.index_in(texts, value_set=pa.array(levels, pa.string()))
    codes = np.asarray(pc.fill_null(places, -1), dtype=np.float64) + 1.0
    unknown = np.flatnonzero(codes == 0) if alike else np.zeros(0, np.int64)
    if len(unknown) and (known := _spellings(levels)):
        found = texts.take(pa.array(unknown)).combine_chunks().dictionary_encode()
        numbers = [known.get(_spelling(text) or "", 0) for text in found.dictionary.to_pylist()]
        codes[unknown] = np.asarray(numbers, np.float64)[np.asarray(found.indices)]
    return codes


def _spellings(levels: Sequence[str]) -> dict[str, int]:
    """Return the places, from 1, of levels that are whole numbers or truth values, by one spelling; not of two that share it."""
    spelled = [(spelling, place) for place, level in enumerate(levels, 1) if (spelling := _spelling(level)) is not None]
    counts = Counter(spelling for spelling, _ in spelled)
    return {spelling: place for spelling, place in spelled if counts[spelling] == 1}


def _spelling(text: str) -> str | None:
    """Return a whole number, or a truth value, as all its spellings are told; None for other texts, such as 007.

    Example:
        >>> [_spelling(text) for text in ("2", "2.0", "1.5e+01", "True", "007", "2.5")]
        ['2', '2', '15', 'true', None, None]
    """
    if text.lower() in ("true", "false"):
        return text.lower()
    if whole := re.fullmatch(r"(-?(?:0|[1-9]\d{0,300}))(?:\.0*)?", text):
        return str(int(whole[1]))
    if re.fullmatch(r"-?\d(\.\d+)?e\+\d\d", text) and abs(number := float(text)) < 2**53 and number.is_integer():
        return str(int(number))
    return None
