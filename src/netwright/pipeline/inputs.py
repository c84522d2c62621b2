"""From settings to prepared rows: read, target, split, preparation; nothing is fitted on valid or test rows.

Floor 9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from netwright.config.calls import parse_call
from netwright.config.schema import DataConfig, PreparationConfig, RunConfig
from netwright.data import arrays, columns, preparation, sources, splits, targets
from netwright.data.arrays import Arrays
from netwright.data.preparation import Preparation
from netwright.data.sources import Reading
from netwright.data.splits import Split
from netwright.data.tables import Table, TextOptions
from netwright.data.targets import Target
from netwright.errors import CheckpointError, ConfigError, DataError, did_you_mean
from netwright.model.layers import CODE_LAYERS, Form

Rows = npt.NDArray[np.int64]
OBJECT = "object:"  # in a resolved config: something from Python that no file can hold
SMALLEST_TEST = 30  # below this many rows a test figure says little


@dataclass(frozen=True)
class Inputs:
    """All rows of a run: raw, target, split, preparation, and what to tell the user."""

    raw: Table | Arrays
    target: Target
    split: Split
    preparation: Preparation
    digest: str
    source: str
    notes: tuple[str, ...]

    def forms(self, prepared: dict[str, torch.Tensor]) -> dict[str, Form]:
        """Return the form of one row of each prepared input."""
        return {
            name: Form(tuple(value.shape[1:]), self.preparation.layout(name), value.dtype == torch.int64)
            for name, value in prepared.items()
        }


def reading_of(data: DataConfig) -> Reading:
    """Return how the sources are read."""
    text = TextOptions(data.delimiter, data.encoding, data.header, tuple(data.columns) if data.columns else None)
    return Reading(text, _tuple(data.inputs), _tuple(data.target), data.layout)


def markers_of(data: DataConfig) -> columns.Markers:
    """Return the missing markers and the decimal mark."""
    missing = columns.MISSING_VALUES if data.missing_values is None else tuple(data.missing_values)
    return columns.Markers(missing, data.decimal)


def _tuple(value: str | list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else (value,) if isinstance(value, str) else tuple(value)


def load(config: RunConfig, objects: Any = None) -> Inputs:
    """Read, split and fit, without writing anything.

    Args:
        config: The settings.
        objects: Rows from Python instead of ``data.source``.

    Raises:
        ConfigError, DataError: See the stages.
    """
    data = config.data
    raw, parts, digest, source = _read(data, objects)
    names = target_names(data, raw)
    target = targets.read_target(raw, names, data.task, data.labels, markers_of(data))
    split, notes = make_split(data, raw, target, parts)
    notes += _class_notes(raw, target, split, parts is not None)
    fitted, more = _fit(config, raw, names, split)
    if 0 < len(split.test) < SMALLEST_TEST:
        more.append(f"only {len(split.test)} test rows: the test figure will be rough")
    return Inputs(raw, target, split, fitted, digest, source, (*notes, *more))


def _read(data: DataConfig, objects: Any) -> tuple[Table | Arrays, dict[str, Rows] | None, str, str]:
    """Return all rows, the row numbers of given parts, the digest and the name of the source."""
    reading = reading_of(data)
    if objects is not None:
        raw = sources.from_objects(objects, reading.target, data.layout)
        first = objects[0] if isinstance(objects, tuple | list) and objects else objects
        return raw, None, sources.digest_raw(raw), f"{OBJECT}{type(first).__module__}.{type(first).__qualname__}"
    if data.train is not None:
        files = {name: getattr(data, name) for name in ("train", "valid", "test") if getattr(data, name) is not None}
        pieces = {name: sources.read_source(file, reading) for name, file in files.items()}
        digest = sources.digest_of([sources.digest_source(file, reading.target) for file in files.values()])
        raw, parts = _joined(pieces)
        return raw, parts, digest, " + ".join(files.values())
    if data.source is not None and data.source.startswith(OBJECT):
        raise CheckpointError(
            f"data.source: {data.source} came, rows that were Python objects; hand them over again: nw.train(CONFIG, data=...)"
        )
    if data.source is None:
        raise ConfigError("data.source: nothing came; expected a data file or sklearn:NAME; set data.source")
    pieces = sources.read_parts(data.source, reading)
    digest = sources.digest_source(data.source, reading.target)
    if "all" in pieces:
        return pieces["all"], None, digest, data.source
    raw, parts = _joined(pieces)
    return raw, parts, digest, data.source


def _joined(pieces: dict[str, Table | Arrays]) -> tuple[Table | Arrays, dict[str, Rows]]:
    parts: dict[str, Rows] = {}
    start = 0
    for name, piece in pieces.items():
        parts[name] = np.arange(start, start + piece.rows)
        start += piece.rows
    return sources.combine(list(pieces.values())), parts


def target_names(data: DataConfig, raw: Table | Arrays) -> list[str]:
    """Return the names of the target columns.

    Raises:
        ConfigError: A table came without ``data.target``.
    """
    names = _tuple(data.target)
    if isinstance(raw, Arrays):
        count = 1 if raw.target is None or raw.target.ndim == 1 else raw.target.shape[1]
        return (
            list(names)
            if names and len(names) == count
            else (["target"] if count == 1 else [f"target_{place + 1}" for place in range(count)])
        )
    if names is not None:
        return list(names)
    if "target" in raw.names:
        return ["target"]
    if data.source is not None and data.source == "sklearn:linnerud":
        return raw.names[-3:]
    shown = ", ".join(raw.names[:12]) + (", ..." if len(raw.names) > 12 else "")
    raise ConfigError(f"data.target: nothing came; expected one of the columns {shown}; set data.target (or --target NAME)")


def make_split(
    data: DataConfig, raw: Table | Arrays, target: Target, parts: dict[str, Rows] | None
) -> tuple[Split, list[str]]:
    """Return who trains, validates and tests: given files, given row numbers, or a division.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: Too few rows, or a row in two parts.
    """
    given = dict(parts or {})
    _given_rows(data, raw.rows, given)
    for name in ("valid", "test"):
        if name in (parts or {}) and getattr(data.split, name) is not None:
            raise ConfigError(
                f"data.split.{name}: {getattr(data.split, name)!r} came beside a file of {name} rows; leave one"
            )
    taken = np.concatenate([given[name] for name in ("valid", "test") if name in given] or [np.empty(0, np.int64)])
    pool = given.get("train", np.setdiff1d(np.arange(raw.rows), taken))
    sizes = (_size(data, "valid", given), _size(data, "test", given))
    settings = data.split
    notes: list[str] = []
    groups = None if settings.group is None else _column(raw, settings.group, "group")[pool]
    times = None if settings.time is None else _sortable(raw, settings.time)[pool]
    classes = _strata(data, target, pool, sizes, groups is None and times is None, notes)
    divided = splits.divide(pool, sizes, settings.seed, classes=classes, groups=groups, times=times)
    how = f"given, {divided.how}" if given and any(sizes) else "given" if given else divided.how
    split = Split(divided.train, np.sort(given.get("valid", divided.valid)), np.sort(given.get("test", divided.test)), how)
    splits.check_disjoint(split)
    return split, notes


def _given_rows(data: DataConfig, rows: int, given: dict[str, Rows]) -> None:
    """Add row numbers written in the config, or named in ``split.file``."""
    found = arrays.read_npz(Path(data.split.file)) if data.split.file is not None else {}
    for name in ("train", "valid", "test"):
        value = getattr(data.split, name)
        if isinstance(value, str):
            if value not in found:
                raise ConfigError(
                    f"data.split.{name}: array {value!r} is not in data.split.file; {did_you_mean(value, found)}"
                )
            given[name] = splits.check_rows(name, found[value], rows)
        elif isinstance(value, list):
            given[name] = splits.check_rows(name, value, rows)


def _size(data: DataConfig, name: str, given: dict[str, Rows]) -> float:
    value = getattr(data.split, name)
    if name in given:
        return 0.0
    return 0.2 if value is None else float(value)


def _strata(
    data: DataConfig, target: Target, pool: Rows, sizes: tuple[float, float], free: bool, notes: list[str]
) -> npt.NDArray[np.int64] | None:
    """Return the class of each row where the split keeps the shares of the classes."""
    wanted = data.split.stratify
    if target.task == "regression":
        if wanted:
            raise ConfigError("data.split.stratify: true came; the target holds numbers, not classes; leave it out")
        return None
    if wanted is False or not free:
        return None
    values = target.values[pool]
    counts = np.bincount(values)
    counts = counts[counts > 0]
    parts = 1 + sum(size > 0 for size in sizes)
    if wanted is None and counts.min() < parts:
        notes.append(f"a class has only {int(counts.min())} row(s), so the split is random, not stratified")
        return None
    return values


def _column(raw: Table | Arrays, name: str, setting: str) -> npt.NDArray[np.str_]:
    if isinstance(raw, Table):
        if name not in raw.names:
            raise DataError(f"data.split.{setting}: column {name!r} is not in the data; {did_you_mean(name, raw.names)}")
        return np.asarray([str(value) for value in raw.columns[name].to_pylist()])
    if name not in raw.others:
        raise DataError(f"data.split.{setting}: array {name!r} is not in the data; {did_you_mean(name, raw.others)}")
    return np.asarray(raw.others[name]).astype(str)


def _sortable(raw: Table | Arrays, name: str) -> npt.NDArray[np.float64] | npt.NDArray[np.str_]:
    """Return a time column as numbers where it holds numbers or times, else as texts (ISO dates sort as texts)."""
    texts = _column(raw, name, "time")
    if isinstance(raw, Table):
        missing = np.asarray(columns.clean(raw.columns[name], columns.Markers()).is_null(nan_is_null=True))
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            raise DataError(
                f"{raw.place(row)}: data.split.time: column {name!r} is missing ({int(missing.sum())} such rows); "
                "expected a time in each row; mend the cells or leave the rows out"
            )
    if isinstance(raw, Table) and pa.types.is_temporal(raw.columns[name].type):
        return np.asarray(raw.columns[name].cast(pa.timestamp("us"), safe=False).cast(pa.int64())).astype(np.float64)
    try:
        return texts.astype(np.float64)
    except ValueError:
        texts = np.char.strip(texts)
    for row, text in enumerate(texts):
        if not re.match(columns.DATE, text):
            raise DataError(
                f"{raw.place(row)}: data.split.time: {name!r}: {str(text)!r} is neither a number nor a date such as "
                "2024-01-31, so its order is unknown; rewrite the column"
            )
    return texts


def _class_notes(raw: Table | Arrays, target: Target, split: Split, files: bool) -> list[str]:
    """Tell of classes missing in train: an error for files of one's own, else a remark."""
    if target.task == "regression":
        return []
    present = set(np.unique(target.values[split.train]).tolist())
    missing = [label for place, label in enumerate(target.classes) if place not in present]
    if missing and files:
        row = int(np.flatnonzero(target.values == target.classes.index(missing[0]))[0])
        raise DataError(
            f"{raw.place(row)}: target {target.names[0]!r}: class {missing[0]!r} of the valid or test rows is not among the train "
            "rows; expected every class in train; mend the files or rename it in data.labels"
        )
    return [f"class {label!r} has no train row; the network cannot learn it" for label in missing]


def _fit(config: RunConfig, raw: Table | Arrays, target: Sequence[str], split: Split) -> tuple[Preparation, list[str]]:
    data, settings = config.data, config.data.preparation
    if isinstance(raw, Arrays):
        return preparation.fit_arrays(raw, split.train, _array_mode(config, raw)), _missing_notes(raw)
    names = list(_tuple(data.inputs) or [name for name in raw.names if name not in target])
    for name in [*names, *data.ignore]:
        if name not in raw.names:
            raise DataError(f"{raw.origins[0].name}: column {name!r} is missing; {did_you_mean(name, raw.names)}")
        if name in target and name in names:
            raise ConfigError(f"data.inputs: {name!r} is the target; a network may not read its target; leave it out")
    left_out = {*data.ignore, *([data.split.group] if data.split.group and data.inputs is None else [])}
    rare = settings.rare if isinstance(settings, PreparationConfig) else 1
    encoder, notes = columns.learn_columns(
        raw, split.train, [name for name in names if name not in left_out], data.kinds, markers_of(data), rare
    )
    _refuse_missing(data, raw, encoder)
    numbers = settings.numbers if isinstance(settings, PreparationConfig) else "none"
    fitted = preparation.fit_table(raw, split.train, encoder, numbers, _codes_wanted(config, encoder))
    notes += [
        f"column {name!r}: {count} cell(s) hold categories not seen in train; they count as unknown"
        for name, count in encoder.unknown(raw).items()
    ]
    return fitted, notes


def _refuse_missing(data: DataConfig, raw: Table, encoder: columns.TableEncoder) -> None:
    if data.missing != "error":
        return
    for column in encoder.used:
        if column.missing:
            cells = columns.clean(raw.columns[column.name], encoder.markers)
            row = int(np.flatnonzero(np.asarray(cells.is_null(nan_is_null=True)))[0])
            raise DataError(
                f'{raw.place(row)}: column {column.name!r} is missing ({column.missing} such cells) and data.missing = "error"; '
                'mend the cells or set data.missing = "fill"'
            )


def _codes_wanted(config: RunConfig, encoder: columns.TableEncoder) -> bool:
    """Categories stay codes for EmbedColumns() as layer 0; the default network writes it."""
    if not any(column.kind == "category" for column in encoder.used):
        return False
    model = config.model
    if model.layers is None:
        return model.module is None and model.object is None
    return parse_call(model.layers[0], "model.layers.0").name == "EmbedColumns"


def _array_mode(config: RunConfig, raw: Arrays) -> str:
    """Whole numbers stay codes for an Embedding as first layer, or for an own module without preparation."""
    whole = all(values.dtype.kind in "iu" for values in raw.inputs.values())
    model = config.model
    if model.layers is not None and whole and parse_call(model.layers[0], "model.layers.0").name in CODE_LAYERS:
        return "codes"
    if config.data.preparation == "none":
        words = all(values.dtype.itemsize >= 4 for values in raw.inputs.values())
        return "codes" if whole and words and model.layers is None else "none"
    numbers = config.data.preparation.numbers
    if numbers == "quantile":
        raise ConfigError('data.preparation.numbers: "quantile" is for tables; arrays take "standardize" or "none"')
    return numbers


def _missing_notes(raw: Arrays) -> list[str]:
    notes = []
    for name, values in raw.inputs.items():
        missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
        if missing:
            notes.append(f"array {name!r}: {missing} missing numbers (NaN) are filled with the mean")
    return notes
