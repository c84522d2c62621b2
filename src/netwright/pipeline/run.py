"""A run that exists: load it, test it, predict with it, report on it. Floor 9."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netwright import files
from netwright.config.calls import OBJECT
from netwright.config.read import build_config
from netwright.config.schema import RunConfig
from netwright.data import labels, sources, targets, texts
from netwright.data.arrays import Arrays
from netwright.data.blocks import Blocks
from netwright.data.mapped import Mapped
from netwright.data.sequences import Raw, Sequences, from_dense, step_numbers
from netwright.data.tables import Table
from netwright.engine.choose import choose_device
from netwright.errors import CheckpointError, ConfigError, DivergedError
from netwright.evaluation import metrics
from netwright.evaluation.prediction import file_column, label_lists, prediction_columns, table_bytes, true_columns
from netwright.evaluation.scoring import score
from netwright.evaluation.testing import all_figures
from netwright.exporting.bundle import BEST, LAST, Program, load_preparation, load_weights
from netwright.model.losses import PerStep
from netwright.model.task import Task, decide, decide_each
from netwright.pipeline import folder as folders
from netwright.pipeline import pictures, windows
from netwright.pipeline.bench import executing
from netwright.pipeline.fitting import unseen
from netwright.pipeline.inputs import Inputs, load, read_target, refuse_no_counts
from netwright.pipeline.network import make_loss_again, masked, network_again
from netwright.pipeline.reading import as_rows, blocks_wanted, digest_of, read_rows, reading_of
from netwright.reporting.report import render_report


@final
@dataclass(repr=False)
class Run:
    """A trained network with its folder.

    ``model`` is a plain ``torch.nn.Module`` with the best weights (the last without validation rows); ``history`` has
    one dictionary per epoch; ``record`` is run.json.
    """

    folder: Path
    config: RunConfig
    program: Program
    record: dict[str, Any]
    inputs: Inputs | None = field(default=None, repr=False)
    loss: Any = field(default=None, repr=False)

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.program.model

    @property
    def history(self) -> list[dict[str, float]]:
        """One dictionary per epoch, the columns of history.csv."""
        return folders.read_history(self.folder)

    @property
    def tested(self) -> dict[str, Any] | None:
        """The last test of the run's own test rows (test.json), without another look; None before the first."""
        path = self.folder / folders.TEST
        found: dict[str, Any] | None = folders.read_json(path) if path.is_file() else None
        return found

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.record['task']['kind']}, {self.record['status']})"

    def predict(self, rows: Any) -> npt.NDArray[Any]:
        """Predict raw rows: classes ``(rows,)``, or values ``(rows,)`` or ``(rows, outputs)`` in the user's units.

        Several labels a row come as they were learned: 0 and 1, int64 ``(rows, labels)`` in the order of
        ``program.outcome.classes``, or a list of labels for each row, object ``(rows,)``.

        Args:
            rows: A data frame, an array ``(rows, ...)``, a dictionary of arrays, the path of a file, of an image or of a
                folder or archive of images, or a list of paths of images.
        """
        decoded = self.predict_decoded(rows)
        outcome = self.program.outcome
        if outcome.task == "multilabel":
            guess = decide_each(decoded)
            return guess if len(outcome.names) > 1 else np.fromiter(label_lists(guess, outcome.classes), object, len(guess))
        if outcome.classes:
            return np.asarray(decide(decoded, outcome.classes))
        return decoded[:, 0] if decoded.shape[1] == 1 else decoded

    def predict_proba(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return probabilities ``(rows, classes)``, or of each label, in the order of ``program.outcome.classes``.

        Raises:
            ConfigError: The network predicts numbers, or its loss gives no probabilities.
        """
        if not self.program.outcome.probabilities:
            raise ConfigError(f"predict_proba: {self.folder} gives no probabilities; expected a classifier; call predict")
        return self.predict_decoded(rows)

    def predict_decoded(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return probabilities, scores or values ``(rows, ...)`` of raw rows."""
        with executing(self.config, self.program.device):
            return np.asarray(self.program.decoded(self.read_rows(rows)))

    def read_rows(self, rows: Any) -> Raw:
        """Read rows to predict from a path or from Python objects; a target among them is not needed."""
        if isinstance(rows, Table | Arrays | Sequences):
            return rows
        data = self.config.data
        images = pictures.find_for_run(data, reading_of(data), rows, labelled=False)
        if images is not None:
            return pictures.decoded(images, data)
        if isinstance(rows, str | Path):
            raw = read_rows(data, str(rows), target_needed=False, reading=self._reading(str(rows)))
        else:
            pair = rows if isinstance(rows, tuple) else (rows, None)
            raw = as_rows(data, sources.from_objects(pair, None, data.layout)[0], None)
        return self._of_steps(raw)

    def _of_steps(self, raw: Raw) -> Raw:
        """Return rows as windows or as sequences where the network was trained on such."""
        if self.config.data.window is not None:
            return windows.all_windows(self.config.data, raw)
        if self.program.preparation.steps is not None and isinstance(raw, Arrays):
            return from_dense(raw)
        return raw

    def _reading(self, path: str) -> sources.Reading:
        """Return how to read rows to predict: of a text without a header line the target column may be left out."""
        reading = reading_of(self.config.data)
        names = reading.text.columns
        if names is None or not sources.is_text_table(path):
            return reading
        count = texts.count_fields(sources.places(path)[0], reading.text)
        features = tuple(name for name in names if name not in self.program.outcome.names)
        return sources.with_columns(reading, features if count == len(features) else names)

    def prediction_table(self, rows: Any) -> dict[str, Any]:
        """Return the columns of a prediction file for raw rows, in their order; images and rows of steps are named first."""
        outcome, raw = self.program.outcome, self.read_rows(rows)
        decoded = self.predict_decoded(raw)
        found = prediction_columns(outcome.task, decoded, outcome.names, outcome.classes, outcome.probabilities)
        named = self.row_columns(raw, np.arange(raw.rows)) if isinstance(raw, Sequences) else file_column(raw)
        return {**named, **found}

    def predict_file(self, path: str) -> tuple[dict[str, Any], list[str], int]:
        """Predict the rows of a file, block by block where the table is too large for memory.

        Returns:
            The columns of a prediction file, remarks, and the number of rows.
        """
        encoder, outcome = self.program.preparation.encoder, self.program.outcome
        blocks = None if encoder is None else self._blocks_of(path)
        if blocks is None or encoder is None:
            raw = self.read_rows(path)
            return self.prediction_table(raw), self.remarks(raw), raw.rows
        unknown: Counter[str] = Counter()
        parts = []
        for _, table in blocks.read():
            unknown.update(encoder.unknown(table))
            parts.append(self.predict_decoded(table))
        decoded = np.concatenate(parts) if parts else self.predict_decoded(blocks.head())
        columns = prediction_columns(outcome.task, decoded, outcome.names, outcome.classes, outcome.probabilities)
        return columns, self._remarks(unknown, blocks.names), len(decoded)

    def _blocks_of(self, path: str) -> Blocks | None:
        """Return a file that is too large for memory as blocks."""
        names = self._reading(path).text.columns
        told = {"source": path, "train": None, "storage": None, "columns": None if names is None else list(names)}
        return blocks_wanted(self.config.data.model_copy(update=told))[0]

    def row_columns(self, raw: Raw | Mapped, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns that say which row, or which step of it, a prediction is for.

        ``row`` is the row's number; for a forecast that of the row in the file whose target is predicted; with a
        prediction per step ``step`` counts from 0 inside the row.
        """
        if not isinstance(raw, Sequences):
            named = {} if isinstance(raw, Mapped) else file_column(raw)
            return {"row": rows, **{name: [values[row] for row in rows] for name, values in named.items()}}
        if self.program.per_step:
            lengths = raw.lengths[rows]
            return {"row": np.repeat(rows, lengths), "step": step_numbers(np.zeros_like(lengths), lengths)}
        if self.config.data.window is not None:
            return {"row": raw.starts[rows] + raw.lengths[rows] - 1 + (self.config.data.horizon or 1)}
        return {"row": rows}

    def remarks(self, rows: Raw) -> list[str]:
        """Return what a user should know of rows to predict: unknown categories, columns not used, changed images."""
        encoder = self.program.preparation.encoder
        table = rows.steps if isinstance(rows, Sequences) else rows
        if encoder is None or not isinstance(table, Table):
            return list(table.notes) if isinstance(table, Arrays) else []
        return self._remarks(encoder.unknown(table), table.names)

    def _remarks(self, unknown: Mapping[str, int], names: Sequence[str]) -> list[str]:
        encoder = self.program.preparation.encoder
        known = {*self.program.outcome.names, *([column.name for column in encoder.columns] if encoder else [])}
        extra = [name for name in names if name not in known]
        return unseen(unknown, "training") + ([f"columns not used: {', '.join(map(repr, extra))}"] if extra else [])

    def test(self, data: Any = None) -> dict[str, Any]:
        """Test the network and count the look.

        Args:
            data: Labelled rows: a path, or Python objects ``(X, y)``; None for the run's own test rows.

        Returns:
            The content of test.json. With the run's own rows it is written, with predictions.csv and report.html.

        Raises:
            DataError: The rows do not fit.
            CheckpointError: The data changed since training, or came from Python.
        """
        outcome = self.program.outcome
        if data is not None:
            raw, target, digest = self._labelled(data)
            if digest == self.record["data"]["digest"]:
                raise ConfigError(
                    f"{self.folder}: these are the run's own rows, and it was trained on {self.record['split']['train']} of "
                    "them; expected rows it has not seen; test its own test rows by leaving DATA out"
                )
            rows = np.arange(raw.rows)
            found = self._figures(raw, target, rows)[0]
            return {**found, "looks": folders.look(self.folder, digest, "all")}
        inputs = self.inputs or self._own_inputs()
        rows = inputs.split.test
        if not len(rows):
            raise ConfigError(
                f"{self.folder}: the run has no test rows; expected some; give a file: netwright test RUN DATA"
            )
        found, decoded = self._figures(inputs.raw, inputs.target, rows)
        found["looks"] = folders.look(self.folder, inputs.digest, files.digest_bytes(rows.astype("<i8").tobytes()))
        true = inputs.target.of(rows)
        columns = {**self.row_columns(inputs.raw, rows), **true_columns(outcome.task, true, outcome.names, outcome.classes)}
        columns |= prediction_columns(outcome.task, decoded, outcome.names, outcome.classes, outcome.probabilities)
        if inputs.last is not None:
            found["baselines"] = {"persistence": metrics.value_figures(true, inputs.last[rows])}
        if outcome.decoding.rates:
            mean = np.broadcast_to(inputs.target.of(inputs.split.train).mean(axis=0), true.shape)
            found.setdefault("baselines", {})["mean"] = metrics.value_figures(true, mean, rates=True)
        files.write_json(self.folder / folders.TEST, found)
        content = table_bytes(columns, ".csv", self.config.data.label_separator)
        files.write_bytes(self.folder / "predictions.csv", content)
        self.report()
        return found

    def _labelled(self, data: Any) -> tuple[Raw, targets.Target, str]:
        """Return labelled rows that the run has not seen, their target and digest."""
        settings, outcome = self.config.data, self.program.outcome
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
            steps = self.program.preparation.steps
            vocabulary = None if steps is None else steps.vocabulary
            made = windows.labelled(settings, raw, outcome.names, outcome.task, outcome.classes, vocabulary)
            return made.raw, made.target, digest
        raw = self._of_steps(raw)
        target = read_target(settings, raw, list(outcome.names), outcome.task, outcome.classes or None)
        if outcome.decoding.rates:
            refuse_no_counts(settings, raw, target)
        return raw, target, digest

    def _own_inputs(self) -> Inputs:
        """Read the run's own data again, and refuse other data than those it was trained on."""
        if (self.config.data.source or "").startswith(OBJECT):
            raise CheckpointError(
                f"{self.folder}: the run was trained on Python objects; test it from Python, run.test((X, y)), or give a file"
            )
        inputs = load(self.config)
        if "digest" not in self.record.get("data", {}):
            raise CheckpointError(f"{self.folder}/run.json: no data digest; expected the record of a run; check the file")
        if inputs.digest != self.record["data"]["digest"]:
            raise CheckpointError(
                f"{inputs.source}: the data changed since training ({self.record['data']['digest'][:19]} -> "
                f"{inputs.digest[:19]}); expected the same file; put it back, or name the new file as DATA"
            )
        saved = folders.read_split(self.folder)
        if saved.digest() != inputs.split.digest():
            raise CheckpointError(f"{self.folder}: split.npz is not the split of its config; expected equal; check the run")
        return inputs

    def _figures(
        self, raw: Raw | Mapped, target: targets.Target, rows: npt.NDArray[np.int64]
    ) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
        """Return the content of test.json and the decoded outputs of the rows."""
        task, device = self.task(), self.program.device
        with executing(self.config, device):
            whole = target.per_step or isinstance(raw, Mapped)
            examples = self.program.preparation.examples(raw, None if whole else rows)
            values = target.values if whole else target.of(rows)
            examples = examples.with_target(task.spell_target(values), target.per_step).to(device)
            chosen = rows if whole else np.arange(len(rows))
            scores = score(self.model, task.loss_function, examples, chosen, self.config.data.batch_size)
        decoded = np.asarray(self.program.outcome.decoding(scores.outputs))
        if not np.isfinite(decoded).all():
            count = int((~np.isfinite(decoded)).any(axis=1).sum())
            raise DivergedError(
                f"{self.folder}: the network gives no finite value for {count} of {len(rows)} rows; expected finite outputs; "
                "train with a lower learning rate"
            )
        true = target.of(rows)
        shown = [labels.shown(label) for label in target.classes]
        lengths = raw.lengths[rows] if self.program.per_step and isinstance(raw, Sequences) else None
        found = all_figures(target.task, true, decoded, scores.loss, shown, self.program.outcome.decoding, lengths)
        return {"n": len(true), "looks": 0, "weights": self.weights_name(), **found}, decoded

    def task(self) -> Task:
        """Return the task with its loss."""
        outcome = self.program.outcome
        text = self.record["task"]["loss"]
        function = self.loss if self.loss is not None else make_loss_again(text, outcome.decoding.outputs, self.folder)
        if isinstance(function, nn.Module):
            function.to(self.program.device)
        class_target = outcome.decoding.form in ("softmax", "exp", "score") and bool(outcome.classes)
        if self.program.per_step and not isinstance(function, PerStep):
            function = PerStep(function)
        return Task(
            outcome.task, text, function, outcome.decoding.outputs, outcome.decoding, class_target, self.program.per_step
        )

    def weights_name(self) -> str:
        """Return which weights the model holds, in words."""
        best = self.record.get("best")
        return f"best (epoch {best['epoch']})" if best else f"last (epoch {self.record.get('epochs', 0)})"

    def report(self) -> Path:
        """Draw report.html from the run folder and return its path."""
        path = self.folder / folders.REPORT
        files.write_text(path, render_report(self.folder))
        return path


def read_config(folder: Path) -> RunConfig:
    """Read the resolved config of a run.

    Raises:
        CheckpointError: Missing or damaged.
    """
    try:
        tree = tomllib.loads((folder / folders.CONFIG).read_text(encoding="utf-8"))
        return build_config(tree)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise CheckpointError(f"{folder / folders.CONFIG}: cannot be read ({error}); expected a run; check it") from error


def load_run(
    folder: str | Path, *, model: nn.Module | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a run from its folder.

    Args:
        folder: The run folder.
        model: The network again, for a run that was made from a module in Python.
        code: Python files that may run, for a network of an own class.
        device: Where to predict; default the device of the run if it is there, else the CPU.

    Raises:
        CheckpointError: A file is missing, damaged or of another network.
        SafetyError: An own class whose file was not named.
    """
    path = Path(folder)
    record = folders.read_record(path)
    config = read_config(path)
    preparation, outcome = load_preparation(path)
    network = model if model is not None else network_again(config, path, [Path(file) for file in code])
    if type(network) is nn.Sequential and len(config.data.rungs or []) > 1:
        network = masked(network, preparation)
    weights = path / (BEST if (path / BEST).exists() else LAST)
    load_weights(weights, network)
    place = choose_device(device) if device is not None else _device_again(config)
    network.to(place).eval()
    program = Program(preparation, network, outcome, config.data.batch_size, place)
    return Run(path, config, program, record)


def _device_again(config: RunConfig) -> torch.device:
    try:
        return choose_device(config.training.device)
    except ConfigError:
        return torch.device("cpu")
