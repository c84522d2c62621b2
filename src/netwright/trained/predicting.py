"""What predicting, exporting and serving need of a network, be it one run or an ensemble, and how rows are predicted with it.

Floor 13.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from netwright.config.schema import RunConfig
from netwright.errors import ConfigError, warn_of
from netwright.evaluation.ensembles import disagreement_columns, mean_of
from netwright.evaluation.prediction import answers, file_column, prediction_columns
from netwright.exporting.bundle import Form
from netwright.rows import new_rows
from netwright.sources.sequences import Sequences
from netwright.trained.calibrating import checked_threshold

if TYPE_CHECKING:
    from netwright.exporting.programs import Exportable

Floats = npt.NDArray[np.float64]


class Predictor(Protocol):
    """A trained network or several as one: what it takes to predict with it, to export it and to serve it.

    ``record`` is run.json, or what would stand there of an ensemble.
    """

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def config(self) -> RunConfig:
        """The settings by which rows are read."""

    @property
    def record(self) -> dict[str, Any]:
        """What is known of its training."""

    @property
    def program(self) -> Form:
        """What it reads and gives."""

    @property
    def tested(self) -> dict[str, Any] | None:
        """Its last test, or None."""

    def each(self, rows: Any) -> Floats:
        """Return what each member gives for raw rows, ``(members, rows, ...)``; of a run one."""

    def predict_decoded(self, rows: Any) -> Floats:
        """Return probabilities, scores or values ``(rows, ...)`` of raw rows; of an ensemble the mean."""

    def bounds(self, each: Floats, coverage: float | None = None) -> tuple[Floats, Floats]:
        """Return where values lie between, ``(rows, outputs)`` each, from what each member gave for the rows.

        Raises:
            ConfigError: It gives no intervals.
        """

    def whole(self) -> Exportable:
        """Return it as one torch module."""

    def write_bundle(self, folder: Path, name: str) -> None:
        """Fill the folder of a bundle that will be called ``name``."""


@dataclass(frozen=True)
class Wanted:
    """What a table of predictions holds beside the predictions.

    Args:
        threshold: The probability from which on the second of two classes is predicted; None for the likelier one.
        interval: Whether ``low`` and ``high`` follow.
        disagreement: Whether it follows how far the members of an ensemble are apart.
    """

    threshold: float | None = None
    interval: bool = False
    disagreement: bool = False


NOTHING_MORE = Wanted()


def predicted(found: Predictor, rows: Any, threshold: float | None = None) -> npt.NDArray[Any]:
    """Return classes, labels or values of raw rows; see `netwright.lifecycle.run.Run.predict`."""
    threshold = checked_threshold(found.program, threshold)
    outcome = found.program.outcome
    return answers(outcome.task, found.predict_decoded(_read(found, rows)), outcome.names, outcome.classes, threshold)


def _read(found: Predictor, rows: Any) -> Any:
    """Return rows read, where something may be odd in them, which is warned of; arrays of numbers as they are."""
    preparation = found.program.preparation
    texts = preparation.steps is not None and preparation.steps.vocabulary is not None
    if preparation.encoder is None and not texts:
        return rows
    raw = new_rows.read(found.config, found.program, rows)
    for remark in new_rows.odd(found.program, raw):
        warn_of(remark)
    return raw


def probabilities(found: Predictor, rows: Any) -> Floats:
    """Return probabilities ``(rows, classes)``, or of each label.

    Raises:
        ConfigError: The network predicts numbers, or its loss gives no probabilities.
    """
    if not found.program.outcome.probabilities:
        raise ConfigError(f"predict_proba: {found.folder} gives no probabilities; expected a classifier; call predict")
    return found.predict_decoded(_read(found, rows))


def interval_of(found: Predictor, rows: Any, coverage: float | None) -> tuple[Floats, Floats]:
    """Return where the values of raw rows lie between; see `netwright.lifecycle.run.Run.predict_interval`."""
    refuse_unfit(found, Wanted(interval=True), coverage)
    low, high = (
        values[:, 0] if values.shape[1] == 1 else values for values in found.bounds(found.each(_read(found, rows)), coverage)
    )
    return low, high


def columns_of(found: Predictor, each: Floats, wanted: Wanted) -> dict[str, Any]:
    """Return the columns of a prediction file but for the names of the rows, from what each member gave."""
    outcome, decoded = found.program.outcome, mean_of(each)
    bounds = found.bounds(each) if wanted.interval else None
    columns = prediction_columns(
        outcome.task, decoded, outcome.names, outcome.classes, outcome.probabilities, wanted.threshold, bounds
    )
    if wanted.disagreement:
        columns |= disagreement_columns(outcome.task, each, outcome.names, outcome.classes, outcome.probabilities)
    return columns


def prediction_table(found: Predictor, rows: Any, wanted: Wanted = NOTHING_MORE) -> dict[str, Any]:
    """Return the columns of a prediction file for raw rows, in their order; images and rows of steps are named first."""
    refuse_unfit(found, wanted)
    raw = new_rows.read(found.config, found.program, rows)
    named = (
        new_rows.row_columns(found.config, found.program, raw, np.arange(raw.rows))
        if isinstance(raw, Sequences)
        else file_column(raw)
    )
    return {**named, **columns_of(found, found.each(raw), wanted)}


def predict_file(found: Predictor, path: str, wanted: Wanted = NOTHING_MORE) -> tuple[dict[str, Any], list[str], int]:
    """Predict the rows of a file, block by block where the table is too large for memory.

    Args:
        found: What predicts.
        path: The file.
        wanted: What the columns hold beside.

    Returns:
        The columns of a prediction file, remarks, and the number of rows.
    """
    refuse_unfit(found, wanted)
    encoder = found.program.preparation.encoder
    blocks = None if encoder is None else new_rows.blocks_of(found.config, found.program, path)
    if blocks is None or encoder is None:
        raw = new_rows.read(found.config, found.program, path)
        remarks = new_rows.remarks(found.program, raw)
        return prediction_table(found, raw, wanted), remarks, raw.rows
    noticed: Counter[tuple[str, str]] = Counter()
    parts = []
    with closing(blocks.read()) as pieces:
        for _, table in pieces:
            noticed.update(encoder.noticed(table))
            parts.append(found.each(table))
    each = np.concatenate(parts, axis=1) if parts else found.each(blocks.head())
    return columns_of(found, each, wanted), new_rows.remarks_on(found.program, noticed, blocks.names), each.shape[1]


def refuse_unfit(found: Predictor, wanted: Wanted, coverage: float | None = None) -> None:
    """Refuse what a network does not give, before rows are read.

    Raises:
        ConfigError: A threshold, intervals or a disagreement are asked of a network that gives none.
    """
    checked_threshold(found.program, wanted.threshold)
    members = int(found.record.get("ensemble", {}).get("members", 1))
    if wanted.interval:
        found.bounds(np.zeros((members, 0, len(found.program.outcome.names))), coverage)
    if wanted.disagreement and members < 2:
        raise ConfigError(
            f"{found.folder}: one network, and --disagreement came; expected an ensemble; train one with --seeds 5 or netwright cv"
        )
