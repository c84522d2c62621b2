"""Rows that are runs of steps: sequences of any length, windows over a time series, texts as symbols.

The steps of all rows lie one after the other in one table or one array, so that windows that overlap share their
memory; a row is a start and a length. Floor 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.tables import Origin, Table

Rows = npt.NDArray[np.int64]
MOST_RUNGS = 8
EMPTY = "\0"  # the symbol of a text without any


@final
@dataclass(frozen=True)
class Sequences:
    """Rows of steps.

    Args:
        steps: The steps of all rows, one per row of a table or of arrays ``(steps, features)``.
        starts: The first step of each row, int64 ``(rows,)``.
        lengths: The number of steps of each row, int64 ``(rows,)``, at least one each.
        about: What belongs to a row as a whole (its label, its group): a table or arrays of as many rows, or None.
        per_step: Whether the target has one value per step; it then stands among ``steps``.
        symbols: The different symbols of a text, of which ``steps`` holds the numbers; empty for everything else.
        names: A name per row for messages, or empty.
        series: The number of the series that each row is a window of, int64 ``(rows,)``; None where there is one, or rows are no
            windows.
    """

    steps: Table | Arrays
    starts: Rows
    lengths: Rows
    about: Table | Arrays | None = None
    per_step: bool = False
    symbols: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    series: Rows | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.starts)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where the rows came from."""
        return self.labelled.origins

    @property
    def labelled(self) -> Table | Arrays:
        """What holds the target: the steps, or what is known of the rows."""
        return self.steps if self.per_step or self.about is None else self.about

    def place(self, row: int) -> str:
        """Return where a row came from, for messages."""
        if self.names:
            return self.names[row]
        if self.about is not None:
            return self.about.place(row)
        return self.steps.place(int(self.starts[row]))

    def place_of_step(self, step: int) -> str:
        """Return where a step came from, for messages: the row that holds it, and which of its steps it is."""
        row = int(np.argmax((self.starts <= step) & (step < self.starts + self.lengths)))
        return f"{self.place(row)}, step {step - int(self.starts[row]) + 1} of {self.lengths[row]}"

    def steps_of(self, rows: Rows) -> Rows:
        """Return the numbers of the steps of some rows, row after row."""
        return step_numbers(self.starts[rows], self.lengths[rows])

    def steps_in(self, rows: Rows) -> Rows:
        """Return the numbers of the steps that some rows hold, sorted, each once."""
        changes = np.zeros(self.steps.rows + 1, dtype=np.int64)
        np.add.at(changes, self.starts[rows], 1)
        np.add.at(changes, self.starts[rows] + self.lengths[rows], -1)
        return np.flatnonzero(np.cumsum(changes[:-1]))


Raw = Table | Arrays | Sequences


def table_notes(raw: Raw) -> tuple[str, ...]:
    """Return what a user should know of the tables that rows came from."""
    tables = (raw.steps, raw.about) if isinstance(raw, Sequences) else (raw,)
    return tuple(dict.fromkeys(note for table in tables if isinstance(table, Table) for note in table.notes))


@final
@dataclass(frozen=True)
class StepForm:
    """How rows of steps reach the network, learned with the preparation.

    Args:
        channels_first: ``(batch, channels, time)`` instead of ``(batch, time, features)``.
        rungs: The lengths that batches are padded to; one for rows of equal length.
        per_step: Whether the target has one value per step.
        vocabulary: The symbols of the train rows, code 1 and up; 0 is a symbol not among them. None without text.
    """

    channels_first: bool
    rungs: tuple[int, ...]
    per_step: bool = False
    vocabulary: tuple[str, ...] | None = None

    def coded(self, raw: Sequences) -> Table | Arrays:
        """Return the steps; symbols as codes of the vocabulary. Messages tell the row of a step that is no row by itself."""
        if not isinstance(raw.steps, Arrays):
            return raw.steps
        if self.vocabulary is None:
            apart = raw.about is not None or raw.names
            origin = Origin(raw.steps.origins[0].name, raw.steps.rows, words=raw.place_of_step)
            return replace(raw.steps, origins=(origin,)) if apart else raw.steps
        places = {symbol: place + 1 for place, symbol in enumerate(self.vocabulary)}
        codes = np.asarray([places.get(symbol, 0) for symbol in raw.symbols], dtype=np.int64)
        inputs = {name: codes[numbers] for name, numbers in raw.steps.inputs.items()}
        return Arrays(inputs, None, raw.steps.origins)

    @staticmethod
    def from_json(value: Any) -> StepForm | None:
        """Read what ``dataclasses.asdict`` gave."""
        if value is None:
            return None
        known = value["vocabulary"]
        return StepForm(
            value["channels_first"], tuple(value["rungs"]), value["per_step"], None if known is None else tuple(known)
        )


def learn_vocabulary(raw: Sequences, rows: Rows) -> tuple[str, ...]:
    """Return the symbols of some rows, sorted."""
    steps = next(iter(raw.steps.inputs.values())) if isinstance(raw.steps, Arrays) else np.zeros(0, np.int32)
    return tuple(sorted(raw.symbols[place] for place in np.unique(steps[raw.steps_in(rows)])))


def step_numbers(starts: Rows, lengths: Rows) -> Rows:
    """Return the step numbers of rows one after the other.

    Example:
        >>> step_numbers(np.array([0, 10]), np.array([2, 3])).tolist()
        [0, 1, 10, 11, 12]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def starts_of(lengths: Rows) -> Rows:
    """Return where rows start whose steps follow one another without a gap."""
    return np.asarray(np.cumsum(lengths) - lengths, dtype=np.int64)


def rungs_of(lengths: Rows) -> tuple[int, ...]:
    """Return the lengths that batches are padded to: at most eight, each with about as many rows up to it.

    Example:
        >>> rungs_of(np.array([3, 3, 5, 9]))
        (3, 5, 9)
    """
    distinct = np.unique(lengths)
    if len(distinct) <= MOST_RUNGS:
        return tuple(int(length) for length in distinct)
    shares = np.arange(1, MOST_RUNGS + 1) / MOST_RUNGS
    return tuple(int(length) for length in np.unique(np.quantile(lengths, shares, method="higher")))


def windows(parts: npt.NDArray[np.int64], window: int, horizon: int, stride: int) -> tuple[Rows, Rows]:
    """Return the windows over steps in order of time, none of which leaves the part in which it starts.

    Args:
        parts: The part of each step (train, valid, test, and which series), int64 ``(steps,)``; below 0 for steps
            that belong to none.
        window: Steps in a window.
        horizon: How many steps after the last one of the window its target lies.
        stride: Steps between the starts of two windows of one part.

    Returns:
        The first step of each window and the step of its target, int64 ``(windows,)``.

    Example:
        >>> first, target = windows(np.array([0, 0, 0, 0, 1, 1, 1]), window=2, horizon=1, stride=1)
        >>> first.tolist(), target.tolist()
        ([0, 1, 4], [2, 3, 6])
    """
    reach = window + horizon
    if len(parts) < reach:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    changes = np.flatnonzero(np.diff(parts)) + 1
    borders = np.concatenate([[0], changes, [len(parts)]])
    first = np.concatenate(
        [np.zeros(0, np.int64)]
        + [
            np.arange(begin, end - reach + 1, stride)
            for begin, end in zip(borders[:-1], borders[1:], strict=True)
            if parts[begin] >= 0
        ]
    ).astype(np.int64)
    return first, first + reach - 1


def from_list(items: Sequence[Any], name: str, labels: Any, known: tuple[Any, ...] = ()) -> Sequences:
    """Return sequences of unequal length that came as a list of arrays.

    Args:
        items: One array ``(steps,)`` or ``(steps, features)`` per row.
        name: Of the source, for messages.
        labels: One label per row, an array ``(rows, outputs)``, one array ``(steps,)`` per row for a target per step, or
            None.
        known: The labels that the columns of ``labels`` stand for, where they came as sets.

    Raises:
        DataError: An item has no steps, another number of features, or not one label per step.
    """
    arrays = [np.asarray(item) for item in items]
    for place, array in enumerate(arrays):
        if not array.size or array.shape[1:] != arrays[0].shape[1:] or array.ndim > 2 or array.dtype.kind not in "biuf":
            raise DataError(
                f"{name}: sequence {place + 1} has shape {array.shape} and dtype {array.dtype}; expected numbers (steps, "
                "features), as many features in each, at least one step; mend it"
            )
    flat = [array.reshape(len(array), -1) for array in arrays]
    lengths = np.asarray([len(array) for array in flat], dtype=np.int64)
    values = np.concatenate(flat)
    if all(array.ndim == 1 for array in arrays) and values.dtype.kind in "iu":
        values = values[:, 0]
    steps = Arrays({"X": values}, None, (Origin(name, len(values)),))
    names = tuple(f"{name}: sequence {place + 1}" for place in range(len(flat)))
    numbers = {"row": np.arange(len(flat)).reshape(-1, 1)}
    about = Arrays(numbers, None, (Origin(name, len(flat)),))
    rows = Sequences(steps, starts_of(lengths), lengths, about, names=names)
    if labels is None:
        return rows
    if len(labels) != len(flat):
        raise DataError(f"{name}: {len(flat)} sequences and {len(labels)} labels came; expected equally many; check both")
    whole = isinstance(labels, np.ndarray) and labels.ndim == 2
    if not whole and any(np.ndim(label) > 0 for label in labels):
        return _labels_per_step(rows, labels, name)
    return replace(rows, about=replace(about, target=np.asarray(labels), labels=known))


def from_dense(rows: Arrays) -> Sequences:
    """Return sequences of equal length that came as one array ``(rows, steps)`` or ``(rows, steps, features)``."""
    name = rows.origins[0].name
    values = next(iter(rows.inputs.values()))
    if values.ndim not in (2, 3):
        raise DataError(f"{name}: shape {values.shape} came; expected sequences (rows, steps) or (rows, steps, features)")
    count, width = values.shape[:2]
    per_step = rows.target is not None and rows.target.ndim > 1 and rows.target.shape[1] == width
    answers = None if rows.target is None or not per_step else rows.target.reshape(count * width, *rows.target.shape[2:])
    flat = values.reshape(count * width, *values.shape[2:])
    if values.ndim == 2 and values.dtype.kind == "f":
        flat = flat.reshape(-1, 1)
    steps = Arrays({"X": flat}, answers, (Origin(name, count * width),))
    lengths = np.full(count, width, dtype=np.int64)
    about = replace(rows, inputs={"row": np.arange(count).reshape(-1, 1)}, target=None if per_step else rows.target)
    return Sequences(steps, starts_of(lengths), lengths, about, per_step)


def _labels_per_step(rows: Sequences, labels: Sequence[Any], name: str) -> Sequences:
    arrays = [np.asarray(label) for label in labels]
    for place, (array, length) in enumerate(zip(arrays, rows.lengths, strict=True)):
        if array.ndim not in (1, 2) or len(array) != length:
            raise DataError(
                f"{name}: sequence {place + 1} has {length} steps and labels of shape {array.shape}; expected one label per step"
            )
    steps = rows.steps
    assert isinstance(steps, Arrays)  # noqa: S101 - made above
    answered = Arrays(steps.inputs, np.concatenate(arrays), steps.origins)
    return replace(rows, steps=answered, per_step=True)


def by_column(table: Table, column: str, targets: Sequence[str]) -> Sequences:
    """Return sequences from a table with one row per step: rows of one value in a column are one sequence.

    Args:
        table: The steps, in the order of time within a sequence.
        column: The name of the sequence.
        targets: The target columns. Where they are constant in each sequence they are its label, else one per step.

    Raises:
        DataError: The rows of a sequence do not stand together.
    """
    values = table.columns[column].combine_chunks()
    codes = np.asarray(values.dictionary_encode().indices if not pa.types.is_dictionary(values.type) else values.indices)
    borders = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]]).astype(np.int64)
    starts, lengths = borders[:-1], np.diff(borders)
    firsts = codes[starts]
    _, again = np.unique(firsts, return_index=True)
    if len(again) != len(firsts):
        late = int(starts[np.setdiff1d(np.arange(len(firsts)), again)[0]])
        raise DataError(
            f"{table.place(late)}: data.sequences: {column!r} = {values[late].as_py()!r} came before and again here; expected the "
            "steps of a sequence one below the other; sort the file"
        )
    names = tuple(f"{table.origins[0].name}: {column} {value}" for value in values.take(pa.array(starts)).to_pylist())
    constant = [name in table.names and _constant(table, name, borders) for name in targets]
    about = Table(table.columns.take(pa.array(starts)), (Origin(table.origins[0].name, len(starts)),))
    dropped = [column, *(name for name in targets if all(constant) and name in table.names and name != column)]
    steps = Table(table.columns.drop_columns(dropped), table.origins, notes=table.notes)
    return Sequences(steps, starts, lengths, about, not all(constant), names=names)


def _constant(table: Table, name: str, borders: Rows) -> bool:
    """Tell whether a column never changes inside a sequence."""
    codes = table.columns[name].combine_chunks()
    codes = codes if pa.types.is_dictionary(codes.type) else codes.dictionary_encode(null_encoding="encode")
    changes = np.flatnonzero(np.diff(np.asarray(codes.indices.fill_null(-1)))) + 1
    return bool(np.isin(changes, borders).all())


def symbols_of(texts: Sequence[str], kind: str) -> tuple[npt.NDArray[np.int32], Rows, tuple[str, ...]]:
    """Return texts as numbers of symbols.

    Args:
        texts: Any texts.
        kind: ``characters``, or ``words`` between white space.

    Returns:
        The numbers one after the other, int32 ``(steps,)``; the number of symbols of each text, int64; the symbols. A
        text without a symbol gets one, NUL.
    """
    if kind == "characters":
        texts = [text or EMPTY for text in texts]
        lengths = np.asarray([len(text) for text in texts], dtype=np.int64)
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
        found, numbers = np.unique(points, return_inverse=True)
        return numbers.astype(np.int32), lengths, tuple(chr(point) for point in found.tolist())
    words = [text.split() or [EMPTY] for text in texts]
    lengths = np.asarray([len(tokens) for tokens in words], dtype=np.int64)
    known: dict[str, int] = {}
    flat = np.fromiter((known.setdefault(word, len(known)) for tokens in words for word in tokens), np.int32)
    return flat, lengths, tuple(known)
