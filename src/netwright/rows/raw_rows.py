"""Rows to predict: read, and cut into windows, as those that a network was trained on; without torch. Floor 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.config.schema import RunConfig
from netwright.data.column import Column
from netwright.data.columns import TableEncoder
from netwright.data.mapped import Mapped
from netwright.errors import DataError
from netwright.evaluation.prediction import file_column
from netwright.numerals import counted
from netwright.rows import pictures, windows
from netwright.rows.reading import as_rows, blocks_wanted, read_rows, reading_of
from netwright.sources import opening, texts
from netwright.sources.arrays import NUMBERS, Arrays
from netwright.sources.blocks import Blocks
from netwright.sources.sequences import Raw, Sequences, StepForm, from_dense, step_numbers, table_notes
from netwright.sources.tables import Table

MOST_NAMED = 20  # columns, in an error
FAR_CELLS = 0.05  # share of a column: single cells may lie far out in a long tail, in another unit all do
MANY_UNREAD = 0.5  # share of the symbols of texts from which on it is told that they are unknown


def read(
    config: RunConfig, steps: StepForm | None, names: Sequence[str], rows: Any, encoder: TableEncoder | None = None
) -> Raw:
    """Read rows to predict from a path or from Python objects; a target among them is not needed.

    Args:
        config: The settings of the run.
        steps: How rows of steps reach its network; None for single rows.
        names: Its target columns.
        rows: The path or the objects.
        encoder: The columns that its network reads, of a table: an array of numbers stands for them in their order.

    Raises:
        DataError: The rows do not fit.
    """
    if isinstance(rows, Table | Arrays | Sequences):
        return rows
    data = config.data
    if data.image_mode is not None:
        images = pictures.find_for_run(data, reading_of(data), rows, labelled=False)
        if images is not None:
            return pictures.decoded(images, data)
    if isinstance(rows, str | Path):
        raw = read_rows(data, str(rows), target_needed=False, reading=reading_without(config, names, str(rows)))
    else:
        pair = rows if isinstance(rows, tuple) else (rows, None)
        raw = as_rows(data, opening.from_objects(pair, None, data.layout)[0], None, labelled=False)
        raw = in_columns(config, steps, encoder, raw)
    return of_steps(config, steps, raw)


def in_columns(config: RunConfig, steps: StepForm | None, encoder: TableEncoder | None, raw: Raw) -> Raw:
    """Return an array of numbers ``(rows, columns)`` as the columns of a table, where the network reads one.

    Args:
        config: The settings of the run.
        steps: How rows of steps reach its network; None for single rows.
        encoder: The columns that it reads of a table, in the order that training read them.
        raw: The array; all else is returned as it is. Its target is left out.

    Raises:
        DataError: Another shape, or columns that no number stands for.
    """
    if (
        encoder is None
        or steps is not None
        or config.data.window is not None
        or not isinstance(raw, Arrays)
        or len(raw.inputs) != 1
    ):
        return raw
    (values,) = raw.inputs.values()
    names = list(dict.fromkeys(column.name for column in encoder.used))
    texts = [f"{column.name!r} ({column.kind})" for column in encoder.used if column.kind not in ("number", "boolean")]
    if values.shape[1:] != (len(names),) or values.dtype.kind not in NUMBERS or texts:
        came = f"{values.dtype} of shape {values.shape}"
        told = ", ".join(map(repr, names[:MOST_NAMED])) + (
            f" and {len(names) - MOST_NAMED} more" * (len(names) > MOST_NAMED)
        )
        wanted = "a data frame with" if texts else f"numbers of shape (rows, {len(names)}) or a data frame, of"
        why = f"; numbers cannot stand for {texts[0]}" if texts else ""
        raise DataError(
            f"data: X: {came} came; the network was trained on a table; expected {wanted} the columns {told}{why}"
        )
    columns = {name: pa.array(values[:, place].astype(np.float64)) for place, name in enumerate(names)}
    return Table(pa.table(columns), raw.origins)


def of_steps(config: RunConfig, steps: StepForm | None, raw: Raw) -> Raw:
    """Return rows as windows or as sequences where the network was trained on such."""
    if config.data.window is not None:
        return windows.all_windows(config.data, raw)
    if steps is not None and isinstance(raw, Arrays):
        return from_dense(raw)
    return raw


def reading_without(config: RunConfig, names: Sequence[str], path: str) -> opening.Reading:
    """Return how to read rows to predict: of a text without a header line the target column may be left out."""
    reading = reading_of(config.data)
    known = reading.text.columns
    if known is None or not opening.is_text_table(path):
        return reading
    count = texts.count_fields(opening.places(path)[0], reading.text)
    features = tuple(name for name in known if name not in names)
    return opening.with_columns(reading, features if count == len(features) else known)


def blocks_of(config: RunConfig, names: Sequence[str], path: str) -> Blocks | None:
    """Return a file that is too large for memory as blocks."""
    columns = reading_without(config, names, path).text.columns
    told = {"source": path, "train": None, "storage": None, "columns": None if columns is None else list(columns)}
    return blocks_wanted(config.data.model_copy(update=told))[0]


def row_columns(config: RunConfig, per_step: bool, raw: Raw | Mapped, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns that say which row, or which step of it, a prediction is for.

    ``row`` is the row's number; for a forecast that of the row in the file whose target is predicted; with a
    prediction per step ``step`` counts from 0 inside the row.
    """
    if not isinstance(raw, Sequences):
        named = {} if isinstance(raw, Mapped) else file_column(raw)
        return {"row": rows, **{name: [values[row] for row in rows] for name, values in named.items()}}
    if per_step:
        lengths = raw.lengths[rows]
        return {"row": np.repeat(rows, lengths), "step": step_numbers(np.zeros_like(lengths), lengths)}
    if config.data.window is not None:
        return {"row": raw.starts[rows] + raw.lengths[rows] - 1 + (config.data.horizon or 1)}
    return {"row": rows}


def remarks(encoder: TableEncoder | None, targets: Sequence[str], rows: Raw, steps: StepForm | None = None) -> list[str]:
    """Return what a user should know of rows to predict: values not seen in training, columns not used, changed images."""
    table = rows.steps if isinstance(rows, Sequences) else rows
    if encoder is None or not isinstance(table, Table):
        told = list(table.notes) if isinstance(table, Arrays) else list(table_notes(rows))
        return [*told, *unread(steps, rows)]
    return [*table_notes(rows), *remarks_on(encoder, targets, encoder.noticed(table), table.names)]


def remarks_on(
    encoder: TableEncoder | None, targets: Sequence[str], noticed: Mapping[tuple[str, str], int], names: Sequence[str]
) -> list[str]:
    """Return what `remarks` does, of counted odd cells and the names of the columns that came."""
    known = {*targets, *([column.name for column in encoder.columns] if encoder else [])}
    extra = [name for name in names if name not in known]
    return [*strange(encoder, noticed), *([f"columns not used: {', '.join(map(repr, extra))}"] if extra else [])]


def unread(steps: StepForm | None, rows: Raw) -> list[str]:
    """Return a remark where many symbols of texts were not seen in training, or all of a row."""
    if steps is None or steps.vocabulary is None or not isinstance(rows, Sequences):
        return []
    coded = steps.coded(rows)
    known = (next(iter(coded.inputs.values())) > 0) if isinstance(coded, Arrays) else np.ones(0, dtype=bool)
    known = known[rows.steps_of(np.arange(rows.rows))]
    ends = np.cumsum(rows.lengths)
    counts = np.diff(np.concatenate([[0], np.cumsum(known)])[np.concatenate([[0], ends])])
    strangers, empty = len(known) - int(known.sum()), int(((counts == 0) & (rows.lengths > 0)).sum())
    if not empty and strangers <= MANY_UNREAD * len(known):
        return []
    none = f"; {counted(empty, 'row')} of {rows.rows:,} hold nothing else" if empty else ""
    return [f"text: {strangers:,} of {len(known):,} symbols were not seen in training and count as unknown{none}"]


def strange(encoder: TableEncoder | None, noticed: Mapping[tuple[str, str], int]) -> list[str]:
    """Return a remark per column with cells that are odd for what was seen in training, as `TableEncoder.noticed` counted them."""
    unknown = {name: count for (name, how), count in noticed.items() if how == "unknown"}
    found = unseen(encoder, unknown, "training")
    for column in encoder.used if encoder else ():
        beyond, missing = noticed.get((column.name, "beyond"), 0), noticed.get((column.name, "missing"), 0)
        if beyond > FAR_CELLS * noticed.get((column.name, "of"), 0) and column.span is not None:
            low, high = (f"{value:.6g}" for value in column.span)
            found.append(
                f"column {column.name!r}: {counted(beyond, 'cell')} far beyond what training had ({low} to {high}), perhaps in "
                "another unit; the network has learned nothing of such, and a prediction may be far off"
            )
        if missing:
            found.append(
                f"column {column.name!r}: {counted(missing, 'cell')} missing, and none was in training; filled with the mean"
            )
    return found


def unseen(encoder: TableEncoder | None, unknown: Mapping[str, int], where: str) -> list[str]:
    """Return a remark per column with values that were not seen in train, of cells that `TableEncoder.unknown` counted."""
    constants = {
        column.name: _constant(column) for column in (encoder.used if encoder else ()) if column.constant is not None
    }
    return [
        f"column {name!r}: another value than {constants[name]}, the only one in {where}, in {counted(count, 'cell')}; the network "
        "has learned nothing of it, and a prediction may be far off"
        if name in constants
        else f"column {name!r}: a category not seen in {where} in {counted(count, 'cell')}; it counts as unknown"
        for name, count in unknown.items()
    ]


def _constant(column: Column) -> str:
    """Return the amount that all train rows hold of a column, as a cell would hold it."""
    value = float(column.constant or 0.0)
    if column.kind == "boolean":
        return "true" if value else "false"
    if column.kind == "date":
        return str(np.datetime64(round(value * 86_400), "s")).removesuffix("T00:00:00")
    return f"{value:.15g}"
