"""New rows for a finished run: read, and cut into windows, as those that it was trained on. Floor 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.config.schema import RunConfig
from netwright.data.array_preparation import ArrayPreparation
from netwright.data.mapped import Mapped
from netwright.data.targets import Target
from netwright.exporting.bundle import Form
from netwright.rows import pictures, raw_rows, windows
from netwright.rows.inputs import read_target, refuse_no_counts
from netwright.rows.reading import as_rows, digest_of, read_rows, reading_of
from netwright.sources import objects, opening
from netwright.sources.arrays import NUMBERS, Arrays
from netwright.sources.blocks import Blocks
from netwright.sources.sequence_parts import answered
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Table


def are_plain(rows: Any) -> bool:
    """Tell whether reading rows runs no code of others, so that nobody draws a random number."""
    if type(rows) is np.ndarray:
        return rows.dtype.kind in NUMBERS
    return type(rows) in (torch.Tensor, Table, Arrays, Sequences)


def plain_array(config: RunConfig, rows: Any) -> npt.NDArray[Any] | None:
    """Return an array or a tensor of numbers that are rows as they are; None for all else."""
    data = config.data
    apart = data.image_mode is None and data.window is None and data.sequences is None
    return objects.plain_rows(rows) if apart and data.text is None and data.join is None else None


def read(config: RunConfig, program: Form, rows: Any) -> Raw:
    """Read rows to predict from a path or from Python objects; a target among them is not needed."""
    preparation = program.preparation
    return raw_rows.read(config, preparation.steps, program.outcome.names, rows, preparation.encoder)


def blocks_of(config: RunConfig, program: Form, path: str) -> Blocks | None:
    """Return a file that is too large for memory as blocks."""
    return raw_rows.blocks_of(config, program.outcome.names, path)


def labelled(config: RunConfig, program: Form, data: Any) -> tuple[Raw, Target, str]:
    """Return labelled rows that the run has not seen, their target and digest."""
    settings, outcome = config.data, program.outcome
    images = pictures.find_for_run(settings, reading_of(settings), data, labelled=True)
    if images is not None:
        target = read_target(settings, images.about, list(outcome.names), outcome.task, outcome.classes)
        return pictures.decoded(images, settings), target, images.digest()
    if isinstance(data, str | Path):
        raw, digest = read_rows(settings, str(data)), digest_of(settings, str(data))
    else:
        read, _ = opening.from_objects(data, list(outcome.names), settings.layout)
        raw, digest = as_rows(settings, _in_columns(config, program, read), None), opening.digest_raw(read)
    if settings.window is not None:
        steps = program.preparation.steps
        vocabulary = None if steps is None else steps.vocabulary
        made = windows.labelled(settings, raw, outcome.names, outcome.task, outcome.classes, vocabulary)
        return made.raw, made.target, digest
    steps = program.preparation.steps
    raw = raw_rows.of_steps(config, steps, raw)
    if steps is not None and isinstance(raw, Sequences):
        raw = answered(raw, steps.per_step, outcome.names)
    target = read_target(settings, raw, list(outcome.names), outcome.task, outcome.classes)
    if outcome.decoding.rates:
        refuse_no_counts(settings, raw, target)
    return raw, target, digest


def _in_columns(config: RunConfig, program: Form, raw: Raw) -> Raw:
    """Return arrays of rows and target as the table that the network reads, where it reads one."""
    table = raw_rows.in_columns(config, program.preparation.steps, program.preparation.encoder, raw)
    if not isinstance(table, Table) or not isinstance(raw, Arrays) or raw.target is None:
        return raw
    return objects.append_labels(table, raw.target, program.outcome.names)[0]


def row_columns(config: RunConfig, program: Form, raw: Raw | Mapped, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns that say which row, or which step of it, a prediction is for; see `raw_rows.row_columns`."""
    return raw_rows.row_columns(config, program.per_step, raw, rows)


def remarks(program: Form, rows: Raw) -> list[str]:
    """Return what a user should know of rows to predict: unknown categories, columns not used, changed images."""
    found = raw_rows.remarks(program.preparation.encoder, program.outcome.names, rows, program.preparation.steps)
    return [*found, *unlike(program, rows)]


def unlike(program: Form, rows: Raw) -> list[str]:
    """Return a remark on each array whose numbers are of another size than those of training."""
    if not isinstance(rows, Arrays):
        return []
    found: list[str] = []
    for name, module in program.preparation.modules.items():
        values = program.preparation.array_of(name, rows)
        if not isinstance(module, ArrayPreparation) or values is None or values.shape[1:] != tuple(module.shape):
            continue  # its `check` tells
        told = module.unlike(values)
        found += [] if told is None else [f"array {name!r}: {told}"]
    return found


def odd(program: Form, rows: Raw) -> list[str]:
    """Return what is odd in rows to predict for what was seen in training: cells of a table, symbols of texts."""
    encoder = program.preparation.encoder
    table = rows.steps if isinstance(rows, Sequences) else rows
    cells = raw_rows.strange(encoder, encoder.noticed(table)) if encoder is not None and isinstance(table, Table) else []
    return [*cells, *raw_rows.unread(program.preparation.steps, rows)]


def remarks_on(program: Form, noticed: Mapping[tuple[str, str], int], names: Sequence[str]) -> list[str]:
    return raw_rows.remarks_on(program.preparation.encoder, program.outcome.names, noticed, names)
