"""From settings to a split: given files, given row numbers, or a division by chance, class, group or time. Floor 11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.data_schema import DataConfig, SplitConfig
from netwright.data import folds, splits
from netwright.data.splits import Split
from netwright.data.targets import Target
from netwright.errors import ConfigError, DataError, did_you_mean
from netwright.numerals import counted
from netwright.sources import arrays, cells
from netwright.sources.arrays import Arrays
from netwright.sources.marks import Markers
from netwright.sources.places import place_of
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
FOLD = "{fold}"  # in the name of an array of split.file


def make_split(
    data: DataConfig, raw: Table | Arrays, target: Target, parts: dict[str, Rows] | None, markers: Markers
) -> tuple[Split, list[str]]:
    """Return who trains, validates and tests.

    Args:
        data: The settings.
        raw: All rows.
        target: Of all rows.
        parts: Row numbers of files of one's own, by part.
        markers: Missing markers of text columns.

    Returns:
        The split, and remarks for the user.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: Too few rows, a row in two parts, a missing group or time.
    """
    settings = data.split
    _refuse_contradictions(data, parts or {})
    given = dict(parts or {})
    _given_rows(data, raw, markers, given)
    taken = np.concatenate([given[name] for name in ("valid", "test") if name in given] or [np.empty(0, np.int64)])
    pool = given["train"] if "train" in given else _others(raw.rows, taken)
    pool = pool[~np.isin(pool, given["calibration"])] if "calibration" in given else pool
    notes: list[str] = []
    groups = None if settings.group is None else _groups(raw, settings.group, markers)
    times: npt.NDArray[Any] | None = np.arange(raw.rows) if settings.in_order else None
    times = times if settings.time is None else times_of(raw, settings.time, markers)
    free = groups is None and times is None
    if settings.folds is not None:
        strata = _strata(data, target, pool, 1, free, notes)
        given["test"], pool = folds.fold_rows(
            pool, settings.folds, settings.fold, settings.seed, classes=strata,
            groups=_of(groups, pool), times=_of(times, pool), gap=settings.gap,
        )  # fmt: skip
    sizes = (_size(data, "valid", given), _size(data, "test", given))
    strata = _strata(data, target, pool, 1 + sum(size > 0 for size in sizes), free, notes)
    divided = splits.divide(
        pool, sizes, settings.seed, classes=strata, groups=_of(groups, pool), times=_of(times, pool), gap=settings.gap
    )
    how = _how(settings, divided.how, bool(given), any(sizes))
    train, aside = _set_aside(settings, divided.train, given, groups, times)
    how = how + (f"; {len(aside)} train rows set aside for calibration" if len(aside) else "")
    valid, test = np.sort(given.get("valid", divided.valid)), np.sort(given.get("test", divided.test))
    split = Split(train, valid, test, how, aside)
    splits.check_disjoint(split)
    return split, [*notes, *_class_notes(raw, target, split, parts is not None)]


def _set_aside(
    settings: SplitConfig,
    train: Rows,
    given: dict[str, Rows],
    groups: npt.NDArray[Any] | None,
    times: npt.NDArray[Any] | None,
) -> tuple[Rows, Rows]:
    """Return the train rows that are left, and those set aside for calibration: whole groups, the newest, or by chance."""
    if "calibration" in given:
        return np.setdiff1d(train, given["calibration"]), given["calibration"]
    if not settings.calibration or isinstance(settings.calibration, str):
        return train, np.empty(0, np.int64)
    found = splits.divide(
        train,
        (settings.calibration, 0.0),
        settings.seed,
        groups=_of(groups, train),
        times=_of(times, train),
        gap=settings.gap,
    )
    return found.train, found.valid


def _of(values: npt.NDArray[Any] | None, rows: Rows) -> npt.NDArray[Any] | None:
    return None if values is None else values[rows]


def _how(settings: SplitConfig, divided: str, given: bool, some: bool) -> str:
    """Say in words how rows were divided."""
    if settings.folds is not None:
        again = f", repetition {settings.fold // settings.folds + 1} of {settings.repeats}" if settings.repeats > 1 else ""
        return f"fold {settings.fold % settings.folds + 1} of {settings.folds}{again}, {divided}"
    return f"given, {divided}" if given and some else "given" if given else divided


def _others(rows: int, taken: Rows) -> Rows:
    """Return the numbers of all rows but those taken, sorted."""
    free = np.ones(rows, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)


def _refuse_contradictions(data: DataConfig, parts: dict[str, Rows]) -> None:
    """Raise `ConfigError` where two settings want different splits."""
    split = data.split
    for name in ("valid", "test"):
        if name in parts and getattr(split, name) is not None:
            raise ConfigError(f"data.split.{name}: {getattr(split, name)!r} came beside a file of {name} rows; leave one")
    ways = [name for name in ("group", "time") if getattr(split, name) is not None] + ["in_order"] * split.in_order
    if split.stratify:
        ways.append("stratify")
    if split.calibration and data.window is not None:
        raise ConfigError(
            f"data.split.calibration: {split.calibration!r} came with data.window; windows overlap, so rows set aside would be "
            "known; leave it out, and valid calibrates"
        )
    _refuse_folds(split, parts)
    if len(ways) > 1:
        raise ConfigError(f"data.split: {' and '.join(ways)} came together; a split follows one of them; leave one out")


def _refuse_folds(split: SplitConfig, parts: dict[str, Rows]) -> None:
    """Raise `ConfigError` where folds, repetitions or a gap have no meaning."""
    tested = split.test is not None or "test" in parts or split.file is not None
    if split.folds is not None and tested:
        raise ConfigError(
            "data.split.folds: test rows came too; each fold brings its own; leave split.test and split.file out"
        )
    if split.folds is None and split.repeats > 1:
        raise ConfigError(f"data.split.repeats: {split.repeats} came without data.split.folds; set it, for instance to 5")
    if split.folds is None and split.fold and split.file is None:
        raise ConfigError(f"data.split.fold: {split.fold} came without data.split.folds; set it, for instance to 5")
    if split.folds is not None and split.fold >= split.folds * split.repeats:
        raise ConfigError(
            f"data.split.fold: {split.fold} came; {split.folds} folds, {split.repeats} time(s), are numbered from 0 to "
            f"{split.folds * split.repeats - 1}; choose one of them"
        )
    if split.gap and split.time is None and not split.in_order:
        raise ConfigError(f"data.split.gap: {split.gap} came; rows have no order of time; set data.split.time or in_order")


def _given_rows(data: DataConfig, raw: Table | Arrays, markers: Markers, given: dict[str, Rows]) -> None:
    """Add row numbers written in the config, or named in ``split.file``, and rows whose groups are written."""
    found = arrays.read_npz(place_of(data.split.file)) if data.split.file is not None else {}
    unnamed = data.split.file is not None and not any(
        isinstance(getattr(data.split, name), str) for name in ("train", "valid", "test")
    )
    if unnamed and not {"train", "valid", "test"} & set(found):
        raise ConfigError(
            f"data.split.file: it holds {', '.join(sorted(found))}; expected train, valid and test; say which is which, "
            'for instance train = "train_0", test = "test_0"'
        )
    for name in ("train", "valid", "test", "calibration"):
        value = getattr(data.split, name)
        if value is None and unnamed and name in found:
            value = name
        if isinstance(value, str):
            array = value.replace(FOLD, str(data.split.fold))
            if array not in found:
                raise ConfigError(
                    f"data.split.{name}: array {array!r} is not in data.split.file; {did_you_mean(array, found)}"
                )
            given[name] = splits.check_rows(name, found[array], raw.rows)
        elif isinstance(value, list) and data.split.group is not None:
            given[name] = _rows_of_groups(name, value, _groups(raw, data.split.group, markers))
        elif isinstance(value, list):
            given[name] = splits.check_rows(name, value, raw.rows)


def _rows_of_groups(part: str, wanted: Sequence[int | str], groups: npt.NDArray[np.str_]) -> Rows:
    """Return the rows whose group is among those written."""
    known = np.unique(groups).tolist()
    for value in map(str, wanted):
        if value not in known:
            raise DataError(f"data.split.{part}: no row has the group {value!r}; {did_you_mean(value, known)}")
    return np.flatnonzero(np.isin(groups, [str(value) for value in wanted]))


def _size(data: DataConfig, name: str, given: dict[str, Rows]) -> float:
    value = getattr(data.split, name)
    if name in given:
        return 0.0
    return 0.2 if value is None else float(value)


def _strata(
    data: DataConfig, target: Target, pool: Rows, parts: int, free: bool, notes: list[str]
) -> npt.NDArray[np.int64] | None:
    """Return the class of each row where the split keeps the shares of the classes."""
    wanted = data.split.stratify
    if target.task == "regression":
        if wanted:
            raise ConfigError("data.split.stratify: true came; the target holds numbers, not classes; leave it out")
        return None
    if target.task == "multilabel":
        if wanted:
            raise ConfigError(
                "data.split.stratify: true came; a row has several labels, so no class divides the rows; leave it out (the split "
                "is random), or give row numbers of your own in data.split.file"
            )
        return None
    if wanted is False or not free or target.per_step:
        return None
    values = target.values[pool]
    counts = np.bincount(values)
    counts = counts[counts > 0]
    if wanted is None and counts.min() < parts:
        notes.append(f"a class has only {counted(int(counts.min()), 'row')}, so the split is random, not stratified")
        return None
    return values


def _groups(raw: Table | Arrays, name: str, markers: Markers) -> npt.NDArray[np.str_]:
    """Return the group of each row as text."""
    if isinstance(raw, Table):
        _refuse_unknown("group", name, raw.names)
        return np.asarray(cells.group_values(raw, name, markers))
    _refuse_unknown("group", name, raw.others)
    return np.asarray(raw.others[name]).astype(str)


def times_of(raw: Table | Arrays, name: str, markers: Markers) -> npt.NDArray[np.float64]:
    """Return the time of each row as a number.

    Args:
        raw: The rows.
        name: The column, or the array beside the others.
        markers: Missing markers of text columns.

    Raises:
        DataError: It is not there, or a time is missing or no number.
    """
    if isinstance(raw, Table):
        _refuse_unknown("time", name, raw.names)
        return np.asarray(cells.time_values(raw, name, markers))
    _refuse_unknown("time", name, raw.others)
    try:
        times = np.asarray(raw.others[name]).astype(np.float64)
    except ValueError:
        raise DataError(
            f"data.split.time: array {name!r} holds {raw.others[name].dtype}; expected numbers; convert it"
        ) from None
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise DataError(f"{raw.place(row)}: data.split.time: {name!r} is {times[row]}; expected a finite number; mend it")
    return times


def _refuse_unknown(setting: str, name: str, known: Any) -> None:
    if name not in known:
        alone = "arrays of inputs and target came alone; expected a column of a table or frame, or one more array of an .npz file"
        raise DataError(
            f"data.split.{setting}: {name!r} is not in the data; {did_you_mean(name, known) if known else alone}"
        )


def _class_notes(raw: Table | Arrays, target: Target, split: Split, files: bool) -> list[str]:
    """Refuse classes of files of one's own that train lacks; the checks tell of others. Tell what labels cannot be learned."""
    if target.task == "regression":
        return []
    if target.task == "multilabel":
        return _label_notes(raw, target, split, files)
    present = set(np.unique(target.of(split.train)).tolist())
    missing = [label for place, label in enumerate(target.classes) if place not in present]
    if missing and files:
        row = int(np.flatnonzero(target.values == target.classes.index(missing[0]))[0])
        raise DataError(
            f"{raw.place(row)}: target {target.names[0]!r}: class {missing[0]!r} of the valid or test rows is not among the train "
            "rows; expected every class in train; mend the files or rename it in data.labels"
        )
    return []


def _label_notes(raw: Table | Arrays, target: Target, split: Split, files: bool) -> list[str]:
    """Refuse labels of files of one's own that no train row has; tell of those that every one has."""
    train = target.values[split.train]
    often = train.sum(axis=0)
    missing = np.flatnonzero(often == 0)
    asked = missing[target.values[:, missing].any(axis=0)]
    if len(asked) and files:
        row = int(np.flatnonzero(target.values[:, asked[0]])[0])
        raise DataError(
            f"{raw.place(row)}: target {target.names[0]!r}: label {target.classes[asked[0]]!r} of the valid or test rows is not "
            "among the train rows; expected every label in train; mend the files or rename it in data.labels"
        )
    always = np.flatnonzero(often == len(train))
    notes = [
        f"every train row has label {target.classes[place]!r}; the network cannot learn where it is not" for place in always
    ]
    if len(train) and len(target.classes) > 1 and (train.sum(axis=1) == 1).all():
        notes.append(
            f"every train row has exactly one of the labels {', '.join(map(str, target.classes[:6]))}; if they exclude one "
            "another, give one column of classes instead, of a matrix its argmax(axis=1)"
        )
    return notes
