"""From steps in order of time to windows: the steps are split first, so no window holds steps of two parts. Floor 11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from netwright.config.data_schema import DataConfig
from netwright.data import targets
from netwright.data.splits import Split
from netwright.data.targets import Target
from netwright.errors import ConfigError, DataError
from netwright.numerals import counted
from netwright.rows.reading import markers_of
from netwright.rows.splitting import make_split, times_of
from netwright.sources import cells, sequences
from netwright.sources.arrays import Arrays
from netwright.sources.labels import Label
from netwright.sources.marks import MOSTLY
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
NEXT = "next symbol"
UNKNOWN = "(unknown)"
WIDE = 1.5  # times what nearly all steps are apart: so far apart one is missing


@dataclass(frozen=True)
class Past:
    """What is known of a target before the step that is asked for.

    ``values`` are those of all steps, ``(steps, outputs)``; ``known`` is the last step of each window, ``begins`` the first of
    its series, both ``(rows,)``; the target lies ``horizon`` steps after ``known``.
    """

    values: npt.NDArray[np.float64]
    known: Rows
    begins: Rows
    horizon: int


@dataclass(frozen=True)
class Times:
    """When steps were: the column and its values ``(steps,)``, days where it holds dates."""

    name: str
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Windows:
    """Windows as rows and their target; ``past`` is None for classes."""

    raw: Sequences
    target: Target
    past: Past | None = None


def cut(data: DataConfig, raw: Raw, names: Sequence[str], parts: dict[str, Rows] | None) -> tuple[Windows, Split, list[str]]:
    """Split steps by time and cut them into windows.

    Args:
        data: The settings; ``window`` is written.
        raw: The steps: a table or arrays in order of time, the sequences of a table, or a text.
        names: The target columns; of a text the next symbol is the target.
        parts: The row numbers of files of one's own.

    Returns:
        The windows, who trains, validates and tests, and remarks.

    Raises:
        ConfigError: Several series that nothing divides.
        DataError: Steps out of order, or a part too short for a window.
    """
    if isinstance(raw, Sequences) and raw.symbols:
        return _cut_text(data, raw, parts)
    steps, series, when = _series(data, raw)
    told = [] if when is None else _time_notes(steps, series, when)
    target = targets.read_target(steps, names, data.task, data.labels, markers_of(data), data.classes)
    split, notes = make_split(
        _by_time(data, parts, series), _named(data, raw, steps, series), target, parts, markers_of(data)
    )
    codes = _codes(steps.rows, split, series)
    made = _windows(data, steps, target, codes, series)
    if not isinstance(raw, Sequences) and series is not None:
        notes.append(f"data.window: windows end where data.split.group, {data.split.group!r}, changes")
    return made, _split_of(split, codes, made.raw.starts, data), [*notes, *told]


def _windows(data: DataConfig, steps: Table | Arrays, target: Target, codes: Rows, series: Rows | None) -> Windows:
    """Return the windows over steps whose code never changes inside, and their target ``horizon`` steps later."""
    window = data.window or 1
    starts, answers = sequences.windows(codes, window, data.horizon or 1, data.stride or 1)
    of_series = None if series is None else series[starts]
    rows = Sequences(steps, starts, np.full(len(starts), window, dtype=np.int64), series=of_series)
    past = None
    if target.task == "regression":
        begins = np.zeros_like(starts) if series is None else np.searchsorted(series, series[starts])
        past = Past(target.values, starts + window - 1, begins, data.horizon or 1)
    return Windows(rows, replace(target, values=target.values[answers]), past)


def _cut_text(data: DataConfig, raw: Sequences, parts: dict[str, Rows] | None) -> tuple[Windows, Split, list[str]]:
    """Cut texts into windows whose target is, at each step, the next symbol."""
    given = {name: raw.steps_in(rows) for name, rows in parts.items()} if parts else None
    count = raw.steps.rows
    nothing = Target("regression", np.zeros((count, 1)), (NEXT,))
    split, notes = make_split(_by_time(data, given, None), raw.steps, nothing, given, markers_of(data))
    codes = _codes(count, split, np.repeat(np.arange(raw.rows), raw.lengths))
    rows = _text_windows(data, raw, codes)
    divided = _split_of(split, codes, rows.starts, data)
    return next_symbols(data, rows, sequences.learn_vocabulary(rows, divided.train)), divided, notes


def _text_windows(data: DataConfig, raw: Sequences, codes: Rows) -> Sequences:
    window = data.window or 1
    starts, _ = sequences.windows(codes, window, data.horizon or 1, data.stride or window)
    return Sequences(raw.steps, starts, np.full(len(starts), window, dtype=np.int64), None, True, raw.symbols)


def next_symbols(data: DataConfig, rows: Sequences, vocabulary: tuple[str, ...]) -> Windows:
    """Return windows of a text with the symbol ``horizon`` steps later as the target of each step."""
    coded = sequences.StepForm(False, (1,), True, vocabulary).coded(rows)
    codes = next(iter(coded.inputs.values())) if isinstance(coded, Arrays) else np.zeros(0, np.int64)
    later = np.concatenate([codes, np.zeros(data.horizon or 1, np.int64)])[data.horizon or 1 :]
    return Windows(rows, Target("multiclass", later, (NEXT,), (UNKNOWN, *vocabulary), rows))


def labelled(
    data: DataConfig, raw: Raw, names: Sequence[str], task: str, classes: Sequence[Label], vocabulary: tuple[str, ...] | None
) -> Windows:
    """Return every window of new steps with its target, for a trained network.

    Raises:
        DataError: Fewer steps than a window and its target need.
    """
    if isinstance(raw, Sequences) and vocabulary is not None:
        found = next_symbols(data, _text_windows(data, raw, np.repeat(np.arange(raw.rows), raw.lengths)), vocabulary)
    else:
        steps, series, _ = _series(data, raw)
        target = targets.read_target(steps, names, task, data.labels, markers_of(data), classes)
        found = _windows(data, steps, target, np.zeros(steps.rows, np.int64) if series is None else series, series)
    if not found.raw.rows:
        raise _too_short(data, raw, data.horizon or 1)
    return found


def all_windows(data: DataConfig, raw: Raw) -> Sequences:
    """Return every window of steps to predict from; of a text its windows side by side, the last as long as it is.

    Raises:
        DataError: Fewer steps than a window.
    """
    window = data.window or 1
    if isinstance(raw, Sequences) and raw.symbols:
        counts = -(-raw.lengths // window)
        places = sequences.step_numbers(np.zeros_like(counts), counts)
        starts = np.repeat(raw.starts, counts) + window * places
        ends = np.repeat(raw.starts + raw.lengths, counts)
        return replace(raw, starts=starts, lengths=np.minimum(ends - starts, window), about=None, per_step=True, names=())
    steps, series, _ = _series(data, raw)
    starts, _ = sequences.windows(np.zeros(steps.rows, np.int64) if series is None else series, window, 0, 1)
    if not len(starts):
        raise _too_short(data, raw, 0)
    return Sequences(steps, starts, np.full(len(starts), window, dtype=np.int64))


def _too_short(data: DataConfig, raw: Raw, horizon: int) -> DataError:
    steps = raw.steps.rows if isinstance(raw, Sequences) else raw.rows
    return DataError(
        f"{raw.origins[0].name}: {counted(int(steps), 'step')} came; expected at least {(data.window or 1) + horizon}, a window"
        f"{' and its target' if horizon else ''}; give more"
    )


def _series(data: DataConfig, raw: Raw) -> tuple[Table | Arrays, Rows | None, Times | None]:
    """Return the steps, the number of the series each belongs to, by their groups where nothing else tells, and when they were.

    There is no number where all are of one series, no time where no column tells it.

    Raises:
        DataError: The steps of a series are not in order of time.
    """
    steps = raw.steps if isinstance(raw, Sequences) else raw
    series = np.repeat(np.arange(raw.rows), raw.lengths) if isinstance(raw, Sequences) else _runs(data, steps)
    named = data.split.time
    name = named or _only_dates(data, steps)
    when = None
    if name is not None and (isinstance(steps, Table) or name in steps.others):
        when = Times(name, times_of(steps, name, markers_of(data)))
        late = np.flatnonzero((np.diff(when.values) < 0) & _together(series))
        if len(late):
            above, advice = "one line above", "sort the file, or name the column of the series in data.sequences"
            if isinstance(steps, Arrays):
                above, advice = "in the row above", "sort the rows of all arrays"
            advice += "" if named else f', or leave it out with data.ignore = ["{name}"] if it is not when'
            raise DataError(
                f"{steps.place(int(late[0]) + 1)}: {'data.split.time: ' if named else 'column '}{name!r} is earlier than {above}; "
                f"windows need rows in order of time; {advice}"
            )
    return steps, series, when


def _together(series: Rows | None) -> npt.NDArray[np.bool_] | bool:
    """Tell of each step but the first whether it is of the series of the one above."""
    return True if series is None else np.diff(series) == 0


def _time_notes(steps: Table | Arrays, series: Rows | None, when: Times) -> list[str]:
    """Tell of steps that are missing, and of several at one time: windows take each step for the next one."""
    apart = np.diff(when.values)
    together = np.isfinite(apart) & _together(series)
    alike = np.flatnonzero(together & (apart == 0))
    if len(alike):
        came = np.unique(when.values if series is None else np.stack([series, when.values]), axis=-1, return_counts=True)[1]
        often = int(np.bincount(came).argmax())
        if often > 1 and (came == often).mean() >= MOSTLY:
            return [
                f"column {when.name!r}: each time comes {often} times; if these are several series side by side, windows mix them: "
                f"sort by what tells them apart, then by {when.name!r}, name the former in data.sequences and set data.split.time"
            ]
        many = counted(alike, "step")
        return [f"column {when.name!r}: {many} came at the time of the step above; windows take each for the next one"]
    gaps = np.flatnonzero(together & (apart > WIDE * np.quantile(apart[together], MOSTLY))) if together.any() else alike
    if not len(gaps):
        return []
    longest = int(gaps[apart[gaps].argmax()])
    width = apart[longest] / np.median(apart[together])
    return [
        f"column {when.name!r}: {counted(gaps, 'gap')} between steps, the longest before {steps.place(longest + 1)} "
        f"({width:.0f} times the usual step); windows go on over them as if no step were missing"
    ]


def _only_dates(data: DataConfig, steps: Table | Arrays) -> str | None:
    """Return the column of dates, where steps have one alone and every step has a date: it tells when they were."""
    if not isinstance(steps, Table):
        return None
    found = []
    for name in steps.names if steps.rows else ():
        values = steps.columns[name]
        if name in data.ignore or not (cells.is_text(values.type) or pa.types.is_temporal(values.type)):
            continue
        values = cells.clean(values, markers_of(data))
        if values.null_count:
            continue
        texts = cells.is_text(values.type) and any(
            pc.all(pc.match_substring_regex(values, form)).as_py() for form in (cells.DATE, cells.MONTH)
        )
        found += [name] if texts or pa.types.is_temporal(values.type) else []
    return found[0] if len(found) == 1 else None


def _runs(data: DataConfig, steps: Table | Arrays) -> Rows | None:
    """Return a number per step that rises where its group changes; None where the steps have no groups."""
    name = data.split.group
    if name is None or name not in (steps.names if isinstance(steps, Table) else steps.others):
        return None
    if isinstance(steps, Table):
        groups = cells.clean(steps.columns[name], markers_of(data)).combine_chunks()
        numbers = np.asarray(groups.dictionary_encode(null_encoding="encode").indices)
    else:
        numbers = np.unique(steps.others[name], return_inverse=True)[1].reshape(-1)
    return np.concatenate([[0], np.cumsum(np.diff(numbers) != 0)]).astype(np.int64)


def _named(data: DataConfig, raw: Raw, steps: Table | Arrays, series: Rows | None) -> Table | Arrays:
    """Return the steps with the column of their series where the split goes by it."""
    name = data.split.group
    if not isinstance(raw, Sequences) or not isinstance(raw.about, Table) or not isinstance(steps, Table) or name is None:
        return steps
    if name in steps.names or name not in raw.about.names:
        return steps
    return Table(steps.columns.append_column(name, raw.about.columns[name].take(pa.array(series))), steps.origins)


def _by_time(data: DataConfig, parts: dict[str, Rows] | None, series: Rows | None) -> DataConfig:
    """Return settings whose split follows the order of the steps where nothing else is written.

    Raises:
        ConfigError: Several series one below the other have no common order.
    """
    split = data.split
    if parts or split.group is not None or split.time is not None or split.file is not None or isinstance(split.train, list):
        return data
    if series is not None and int(series.max()) > 0:
        raise ConfigError(
            "data.window: several series came; expected a column that divides them; set data.split.time or group"
        )
    return data.model_copy(update={"split": split.model_copy(update={"in_order": True})})


def _codes(steps: int, split: Split, series: Rows | None) -> Rows:
    """Return a number per step that changes where part or series does; below 0 for steps of no part."""
    codes = np.full(steps, -1, dtype=np.int64)
    for number, part in enumerate((split.train, split.valid, split.test)):
        codes[part] = number
    return codes if series is None else np.where(codes < 0, -1, codes + 3 * series)


def _split_of(split: Split, codes: Rows, starts: Rows, data: DataConfig) -> Split:
    """Return the windows of each part.

    Raises:
        DataError: A part that has steps has no window.
    """
    part = codes[starts] % 3
    ends = "" if data.split.group is None else ", or sort the rows by data.split.group, as windows end where it changes"
    found = [np.flatnonzero(part == number) for number in range(3)]
    for name, rows, steps in zip(("train", "valid", "test"), found, (split.train, split.valid, split.test), strict=True):
        if len(steps) and not len(rows):
            raise DataError(
                f"data.window: {len(steps)} {name} steps hold no window of {data.window} steps with its target "
                f"{data.horizon or 1} later; expected one at least; make the window smaller or the part larger{ends}"
            )
    return Split(found[0], found[1], found[2], f"{split.how}, windows inside each part")
