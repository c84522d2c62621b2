"""From settings to prepared rows: read, target, split, preparation; nothing is fitted on valid or test rows.

Floor 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.config import signatures
from netwright.config.calls import parse_call
from netwright.config.schema import DataConfig, PreparationConfig, RunConfig
from netwright.data import cells, columns, preparation, sources, targets
from netwright.data.arrays import Arrays
from netwright.data.cells import Markers
from netwright.data.preparation import Preparation
from netwright.data.sources import Reading
from netwright.data.splits import Split
from netwright.data.tables import Table, TextOptions
from netwright.data.targets import Target
from netwright.errors import CheckpointError, ConfigError, DataError, did_you_mean
from netwright.model.layers import AXES, CODE_LAYERS, Form, layouts_read
from netwright.pipeline.splitting import make_split

Rows = npt.NDArray[np.int64]
OBJECT = "object:"  # in a resolved config: something from Python that no file can hold
MOST_LIKELY_CLASSES = 100
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


def markers_of(data: DataConfig) -> Markers:
    """Return the missing markers and the decimal mark."""
    missing = cells.MISSING_VALUES if data.missing_values is None else tuple(data.missing_values)
    return Markers(missing, data.decimal)


def _tuple(value: str | list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else (value,) if isinstance(value, str) else tuple(value)


def load(config: RunConfig, objects: Any = None, implied: str | None = None) -> Inputs:
    """Read, split and fit, without writing anything.

    Args:
        config: The settings.
        objects: Rows from Python instead of ``data.source``.
        implied: The task that the loss leaves no doubt about, or None.

    Raises:
        ConfigError, DataError: See the stages.
    """
    data = config.data
    rows = _read(data, objects)
    raw, axes = _with_axes(config, rows.raw)
    names = list(rows.target) if rows.target is not None else target_names(data, raw)
    target = targets.read_target(raw, names, data.task, data.labels, markers_of(data))
    if data.task is None and _loss_decides(implied, target):
        target = targets.read_target(raw, names, implied, data.labels, markers_of(data))
    split, notes = make_split(data, raw, target, rows.parts, markers_of(data))
    fitted, more = _fit(config, raw, names, split)
    notes = [*axes, *_task_notes(data.task or implied, target), *notes]
    if 0 < len(split.test) < SMALLEST_TEST:
        more.append(f"only {len(split.test)} test rows: the test figure will be rough")
    return Inputs(raw, target, split, fitted, rows.digest, rows.source, (*notes, *more))


@dataclass(frozen=True)
class _Source:
    """All rows as read: row numbers of given parts, digest, name, and the target's names where Python objects told them."""

    raw: Table | Arrays
    parts: dict[str, Rows] | None
    digest: str
    source: str
    target: tuple[str, ...] | None = None


def _read(data: DataConfig, objects: Any) -> _Source:
    """Return all rows from Python objects, files of one's own, or one source."""
    reading = reading_of(data)
    if objects is not None:
        raw, names = sources.from_objects(objects, reading.target, data.layout)
        first = objects[0] if isinstance(objects, tuple | list) and objects else objects
        name = f"{OBJECT}{type(first).__module__}.{type(first).__qualname__}"
        return _Source(raw, None, sources.digest_raw(raw), name, names)
    if data.train is not None:
        files = {name: getattr(data, name) for name in ("train", "valid", "test") if getattr(data, name) is not None}
        pieces = {name: sources.read_source(file, reading) for name, file in files.items()}
        digest = sources.digest_of([sources.digest_source(file, reading.target) for file in files.values()])
        raw, parts = _joined(pieces)
        return _Source(raw, parts, digest, " + ".join(files.values()))
    if data.source is not None and data.source.startswith(OBJECT):
        raise CheckpointError(
            f"data.source: {data.source} came, rows that were Python objects; hand them over again: nw.train(CONFIG, data=...)"
        )
    if data.source is None:
        raise ConfigError("data.source: nothing came; expected a data file or sklearn:NAME; set data.source")
    pieces = sources.read_parts(data.source, reading)
    digest = sources.digest_source(data.source, reading.target)
    if "all" in pieces:
        return _Source(pieces["all"], None, digest, data.source)
    raw, parts = _joined(pieces)
    return _Source(raw, parts, digest, data.source)


def _with_axes(config: RunConfig, raw: Table | Arrays) -> tuple[Table | Arrays, list[str]]:
    """Return arrays with what their axes mean where the first layer tells or the default network must guess."""
    if not isinstance(raw, Arrays) or raw.layout is not None or len(raw.inputs) != 1:
        return raw, []
    shape = next(iter(raw.inputs.values())).shape[1:]
    calls = config.layer_calls()
    if len(shape) == 2 and calls is not None:
        layout = next((read for read in layouts_read(calls[0]) if read in ("NTC", "NCT")), None)
        return (raw if layout is None or calls[0].name == "Transpose" else replace(raw, layout=layout)), []
    form = f"(N, {', '.join(str(size) for size in shape)})"
    advice = "set data.layout if they mean something else"
    if len(shape) == 2 and config.model.module is None and config.model.object is None:
        layout = "NCT" if shape[0] <= shape[1] else "NTC"
        return replace(raw, layout=layout), [f"the axes {form} are read as {AXES[layout]} = {layout}; {advice}"]
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        return raw, [
            f'the axes {form} are read as {AXES["NCHW"]}; if the last one holds the channels, set data.layout = "NHWC"'
        ]
    return raw, []


def _loss_decides(implied: str | None, target: Target) -> bool:
    """Tell whether the loss asks for another task that the target allows: numbers, or two of them as classes."""
    if implied == "regression":
        return bool(target.classes) and not any(isinstance(label, str | bool) for label in target.classes)
    return implied == "binary" and target.task == "regression" and len(np.unique(target.values)) == 2


def _task_notes(told: str | None, target: Target) -> list[str]:
    """Tell how a target was read where it could be read otherwise."""
    values = target.values
    if told is None and target.task == "regression" and values.shape[1] == 1:
        distinct = np.unique(values)
        if len(distinct) <= MOST_LIKELY_CLASSES and (distinct == np.round(distinct)).all():
            return [
                f"target {target.names[0]!r} holds {len(distinct)} different whole numbers and is read as a quantity; "
                'for classes set data.task = "multiclass"'
            ]
    return []


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


def _fit(config: RunConfig, raw: Table | Arrays, target: Sequence[str], split: Split) -> tuple[Preparation, list[str]]:
    data, settings = config.data, config.data.preparation
    if isinstance(raw, Arrays):
        mode = _array_mode(config, raw)
        missing = _missing_notes(data, raw)
        return preparation.fit_arrays(
            raw, split.train, mode, _code_limit(config, raw, split) if mode == "codes" else None
        ), missing
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
            values = cells.clean(raw.columns[column.name], encoder.markers)
            row = int(np.flatnonzero(np.asarray(values.is_null(nan_is_null=True)))[0])
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


def _code_limit(config: RunConfig, raw: Arrays, split: Split) -> int | None:
    """Return the number of codes of an Embedding: as written, else those of the train rows."""
    calls = config.layer_calls()
    if calls is None:
        return None
    written = signatures.bind(calls[0], signatures.layers(), "model.layers.0").get("num_embeddings")
    values = next(iter(raw.inputs.values()))
    return int(written) if written is not None else int(values[split.train].max()) + 1


def _missing_notes(data: DataConfig, raw: Arrays) -> list[str]:
    """Tell of missing numbers in arrays, or refuse them where the settings do."""
    notes = []
    for name, values in raw.inputs.items():
        missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
        if missing and data.missing == "error":
            row = int(np.argwhere(np.isnan(values))[0][0])
            raise DataError(
                f'{raw.place(row)}: array {name!r} is missing ({missing} such numbers) and data.missing = "error"; '
                'mend them or set data.missing = "fill"'
            )
        if missing:
            notes.append(f"array {name!r}: {missing} missing numbers (NaN) are filled with the mean")
    return notes
