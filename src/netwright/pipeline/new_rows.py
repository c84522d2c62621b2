"""New rows for a finished run: read, and cut into windows, as those that it was trained on. Floor 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.config.schema import RunConfig
from netwright.data import objects, sources, texts
from netwright.data.arrays import NUMBERS, Arrays
from netwright.data.blocks import Blocks
from netwright.data.mapped import Mapped
from netwright.data.sequences import Raw, Sequences, from_dense, step_numbers
from netwright.data.tables import Table
from netwright.data.targets import Target
from netwright.evaluation.prediction import file_column
from netwright.exporting.bundle import Program
from netwright.pipeline import pictures, windows
from netwright.pipeline.fitting import unseen
from netwright.pipeline.inputs import read_target, refuse_no_counts
from netwright.pipeline.reading import as_rows, blocks_wanted, digest_of, read_rows, reading_of


def are_plain(rows: Any) -> bool:
    """Tell whether reading rows runs no code of others, so that nobody draws a random number."""
    if type(rows) is np.ndarray:
        return rows.dtype.kind in NUMBERS
    return type(rows) in (torch.Tensor, Table, Arrays, Sequences)


def plain_array(config: RunConfig, rows: Any) -> npt.NDArray[Any] | None:
    """Return an array or a tensor of numbers that are rows as they are; None for all else."""
    data = config.data
    others = data.image_mode, data.window, data.sequences, data.text, data.join
    return None if any(value is not None for value in others) else objects.plain_rows(rows)


def read(config: RunConfig, program: Program, rows: Any) -> Raw:
    """Read rows to predict from a path or from Python objects; a target among them is not needed."""
    if isinstance(rows, Table | Arrays | Sequences):
        return rows
    data = config.data
    if data.image_mode is not None:
        images = pictures.find_for_run(data, reading_of(data), rows, labelled=False)
        if images is not None:
            return pictures.decoded(images, data)
    if isinstance(rows, str | Path):
        raw = read_rows(data, str(rows), target_needed=False, reading=_reading(config, program, str(rows)))
    else:
        pair = rows if isinstance(rows, tuple) else (rows, None)
        raw = as_rows(data, sources.from_objects(pair, None, data.layout)[0], None)
    return _of_steps(config, program, raw)


def _of_steps(config: RunConfig, program: Program, raw: Raw) -> Raw:
    """Return rows as windows or as sequences where the network was trained on such."""
    if config.data.window is not None:
        return windows.all_windows(config.data, raw)
    if program.preparation.steps is not None and isinstance(raw, Arrays):
        return from_dense(raw)
    return raw


def _reading(config: RunConfig, program: Program, path: str) -> sources.Reading:
    """Return how to read rows to predict: of a text without a header line the target column may be left out."""
    reading = reading_of(config.data)
    names = reading.text.columns
    if names is None or not sources.is_text_table(path):
        return reading
    count = texts.count_fields(sources.places(path)[0], reading.text)
    features = tuple(name for name in names if name not in program.outcome.names)
    return sources.with_columns(reading, features if count == len(features) else names)


def blocks_of(config: RunConfig, program: Program, path: str) -> Blocks | None:
    """Return a file that is too large for memory as blocks."""
    names = _reading(config, program, path).text.columns
    told = {"source": path, "train": None, "storage": None, "columns": None if names is None else list(names)}
    return blocks_wanted(config.data.model_copy(update=told))[0]


def labelled(config: RunConfig, program: Program, data: Any) -> tuple[Raw, Target, str]:
    """Return labelled rows that the run has not seen, their target and digest."""
    settings, outcome = config.data, program.outcome
    images = pictures.find_for_run(settings, reading_of(settings), data, labelled=True)
    if images is not None:
        target = read_target(settings, images.about, list(outcome.names), outcome.task, outcome.classes or None)
        return pictures.decoded(images, settings), target, images.digest()
    if isinstance(data, str | Path):
        raw, digest = read_rows(settings, str(data)), digest_of(settings, str(data))
    else:
        read, _ = sources.from_objects(data, list(outcome.names), settings.layout)
        raw, digest = as_rows(settings, read, None), sources.digest_raw(read)
    if settings.window is not None:
        steps = program.preparation.steps
        vocabulary = None if steps is None else steps.vocabulary
        made = windows.labelled(settings, raw, outcome.names, outcome.task, outcome.classes, vocabulary)
        return made.raw, made.target, digest
    raw = _of_steps(config, program, raw)
    target = read_target(settings, raw, list(outcome.names), outcome.task, outcome.classes or None)
    if outcome.decoding.rates:
        refuse_no_counts(settings, raw, target)
    return raw, target, digest


def row_columns(config: RunConfig, program: Program, raw: Raw | Mapped, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns that say which row, or which step of it, a prediction is for.

    ``row`` is the row's number; for a forecast that of the row in the file whose target is predicted; with a
    prediction per step ``step`` counts from 0 inside the row.
    """
    if not isinstance(raw, Sequences):
        named = {} if isinstance(raw, Mapped) else file_column(raw)
        return {"row": rows, **{name: [values[row] for row in rows] for name, values in named.items()}}
    if program.per_step:
        lengths = raw.lengths[rows]
        return {"row": np.repeat(rows, lengths), "step": step_numbers(np.zeros_like(lengths), lengths)}
    if config.data.window is not None:
        return {"row": raw.starts[rows] + raw.lengths[rows] - 1 + (config.data.horizon or 1)}
    return {"row": rows}


def remarks(program: Program, rows: Raw) -> list[str]:
    """Return what a user should know of rows to predict: unknown categories, columns not used, changed images."""
    encoder = program.preparation.encoder
    table = rows.steps if isinstance(rows, Sequences) else rows
    if encoder is None or not isinstance(table, Table):
        return list(table.notes) if isinstance(table, Arrays) else []
    return remarks_on(program, encoder.unknown(table), table.names)


def remarks_on(program: Program, unknown: Mapping[str, int], names: Sequence[str]) -> list[str]:
    encoder = program.preparation.encoder
    known = {*program.outcome.names, *([column.name for column in encoder.columns] if encoder else [])}
    extra = [name for name in names if name not in known]
    return unseen(unknown, "training") + ([f"columns not used: {', '.join(map(repr, extra))}"] if extra else [])
