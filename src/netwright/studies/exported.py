"""A file that `netwright export` wrote, as something that predicts; ``.onnx`` files need no torch. Floor 15."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from netwright.config.read import build_config
from netwright.config.reading import read_otherwise
from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError, ConfigError, NetwrightError, SafetyError, first_line
from netwright.evaluation.prediction import answers, file_column, prediction_columns
from netwright.exporting.described import DESCRIPTION, ENDINGS, Call, Described, open_onnx, refuse_other
from netwright.model.decisions import refuse_threshold
from netwright.rows import raw_rows
from netwright.rows.reading import marked
from netwright.sources.sequences import Sequences

if TYPE_CHECKING:
    from torch import nn

    from netwright.lifecycle.run import Run
    from netwright.studies.ensembles import Ensemble

LARGEST_TEXT = 64 << 20  # bytes of a description


@final
@dataclass(frozen=True)
class Exported:
    """A program from a ``.pt2`` or ``.onnx`` file, with the settings by which rows are read."""

    path: Path
    config: RunConfig
    described: Described
    call: Call = field(repr=False)

    def reading(self, settings: Sequence[str]) -> Exported:
        """Return the program as it reads files that are written in another way; see `netwright.config.reading`."""
        config = read_otherwise(self.config, settings)
        encoder = marked(self.described.encoder, config.data)
        return replace(self, config=config, described=replace(self.described, encoder=encoder))

    def predict(self, rows: Any, threshold: float | None = None) -> npt.NDArray[Any]:
        """Predict raw rows as `netwright.lifecycle.run.Run.predict` does."""
        self._refuse(threshold, False)
        told = self.described
        return answers(told.task, self.predict_decoded(rows), told.names, told.classes, threshold)

    def predict_decoded(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return probabilities, scores or values ``(rows, ...)`` of raw rows."""
        return self.described.decoded(self._read(rows), self.call, self.path)

    def predict_file(
        self, path: str, threshold: float | None = None, interval: bool = False, disagreement: bool = False
    ) -> tuple[dict[str, Any], list[str], int]:
        """Predict the rows of a file; see `netwright.lifecycle.run.Run.predict_file`.

        Raises:
            ConfigError: A threshold that does not fit, or intervals, which need the errors of valid rows.
        """
        self._refuse(threshold, interval, disagreement)
        told = self.described
        blocks = None if told.encoder is None else raw_rows.blocks_of(self.config, told.names, path)
        if blocks is None or told.encoder is None:
            raw = self._read(path)
            named = (
                raw_rows.row_columns(self.config, told.per_step, raw, np.arange(raw.rows))
                if isinstance(raw, Sequences)
                else file_column(raw)
            )
            columns = {**named, **self._columns(told.decoded(raw, self.call, self.path), threshold)}
            return columns, raw_rows.remarks(told.encoder, told.names, raw, told.steps), raw.rows
        noticed: Counter[tuple[str, str]] = Counter()
        parts = []
        with closing(blocks.read()) as pieces:
            for _, table in pieces:
                noticed.update(told.encoder.noticed(table))
                parts.append(self.predict_decoded(table))
        decoded = np.concatenate(parts) if parts else self.predict_decoded(blocks.head())
        remarks = raw_rows.remarks_on(told.encoder, told.names, noticed, blocks.names)
        return self._columns(decoded, threshold), remarks, len(decoded)

    def _read(self, rows: Any) -> Any:
        return raw_rows.read(self.config, self.described.steps, self.described.names, rows, self.described.encoder)

    def _columns(self, decoded: npt.NDArray[np.float64], threshold: float | None) -> dict[str, Any]:
        told = self.described
        return prediction_columns(told.task, decoded, told.names, told.classes, told.probabilities, threshold)

    def _refuse(self, threshold: float | None, interval: bool, disagreement: bool = False) -> None:
        if threshold is not None:
            refuse_threshold(threshold, self.described.task, self.described.classes, self.described.probabilities)
        if interval:
            raise ConfigError(
                f"{self.path}: --interval came; expected a run or its bundle, which keep the errors of valid rows; leave it out"
            )
        if disagreement:
            raise ConfigError(
                f"{self.path}: --disagreement came; expected an ensemble or its bundle, which keep its members apart; leave it out"
            )


def load_any(
    path: str | Path,
    *,
    model: nn.Module | None = None,
    code: Sequence[str | Path] = (),
    device: str | None = None,
    trust: bool = False,
    settings: Sequence[str] = (),
) -> Run | Ensemble | Exported:
    """Load a run or an ensemble, or what was exported from one.

    Args:
        path: A run folder, a bundle, a ``.pt2`` or an ``.onnx`` file.
        model: The network again, where it was a Python object.
        code: Python files that may run.
        device: Where to predict.
        trust: Whether a ``.pt2`` file may be read, which can run code that is hidden in it.
        settings: How other files are written than those of the run, such as ``"data.decimal=,"``.

    Raises:
        CheckpointError: It is damaged, or not what it should be.
        SafetyError: Code that nobody named, or a ``.pt2`` file without ``trust``.
    """
    place = Path(path)
    if place.suffix in ENDINGS.values():
        if not place.is_file():
            raise CheckpointError(f"{place}: no such file; expected one of netwright export; check the path")
        found = load_onnx(place) if place.suffix == ".onnx" else load_torch(place, trust)
        return found.reading(settings) if settings else found
    from netwright.studies.loading import load_folder

    return load_folder(place, model=model, code=code, device=device, settings=settings)


def load_onnx(path: Path) -> Exported:
    """Read an ``.onnx`` file.

    Raises:
        CheckpointError: Not one of netwright, or damaged.
        ConfigError: onnxruntime is missing.
    """
    call, texts = open_onnx(path)
    config, described = read_description(path, texts.get(DESCRIPTION))
    return Exported(path, config, described, call)


def load_torch(path: Path, trust: bool) -> Exported:
    """Read a ``.pt2`` file.

    Raises:
        SafetyError: Nobody said that it is to be trusted: ``torch.export.load`` unpickles what the file holds.
        CheckpointError: Not one of netwright, damaged, or of another version of torch.
    """
    if not trust:
        raise SafetyError(
            f"{path}: a .pt2 file came, and torch runs code that is hidden in one when it reads it; expected a file of your own; "
            f"if you trust it, type: netwright predict {path} DATA --trust; an .onnx file or a bundle needs no trust"
        )
    config, described = read_description(path, _text_within(path))
    from netwright.exporting.programs import open_torch

    return Exported(path, config, described, open_torch(path))


def _text_within(path: Path) -> str | None:
    """Return the description in a ``.pt2`` file, which is a zip archive; None without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(f"/{DESCRIPTION}") and member.file_size <= LARGEST_TEXT:
                    return archive.read(member).decode("utf-8")
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({first_line(error)}); expected a file of netwright export; export it again"
        ) from error
    return None


def read_description(path: Path, text: str | None) -> tuple[RunConfig, Described]:
    """Return the settings and the columns that an exported file tells of.

    Raises:
        CheckpointError: It tells nothing, or something else.
    """
    try:
        if text is None:
            raise ValueError("it tells nothing of its columns and classes")
        value = json.loads(text)
        refuse_other(value)
        return build_config(value["settings"]), Described.from_json(value["program"], bool(value["lengths"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NetwrightError) as error:
        raise CheckpointError(
            f"{path}: no file of netwright export ({first_line(error)}); expected one; export the run again"
        ) from error
