"""A run that exists: load it, test it, predict with it, report on it. Floor 14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netwright import files
from netwright.beside import call
from netwright.config.reading import read_otherwise
from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.data.targets import Target
from netwright.engine.choose import choose_device
from netwright.errors import ConfigError, warn_of
from netwright.evaluation.prediction import prediction_columns, table_bytes, true_columns
from netwright.evaluation.testing import Verdict
from netwright.exporting.bundle import Program, load_preparation
from netwright.exporting.whole import Whole
from netwright.lifecycle.owners import learning, refuse_taken, take
from netwright.model.losses import PerStep
from netwright.model.task import Task
from netwright.pipeline.balancing import headline_told
from netwright.pipeline.bench import arithmetic, executing
from netwright.pipeline.custom import Custom, metrics_of
from netwright.pipeline.network import OwnModule, given_again, make_loss_again, masked, network_again, placed
from netwright.pipeline.resolving import execution_of
from netwright.pipeline.transferring import freezing_in
from netwright.reporting.formats import FORMATS, render
from netwright.rows import new_rows
from netwright.rows.inputs import Inputs
from netwright.rows.reading import marked
from netwright.runfolder import folder as folders
from netwright.runfolder.showing import run_html
from netwright.runfolder.weights import ENDED, PREPARED, refuse_damaged, weights_into
from netwright.sources.sequences import Raw
from netwright.trained.baselines import Standing, begin_to_compare
from netwright.trained.calibrating import ERRORS, bounds_around, widths_of, with_temperature
from netwright.trained.examining import Tested, examine, joined
from netwright.trained.familiar import familiar
from netwright.trained.known import Known
from netwright.trained.own_testing import test_by_figures
from netwright.trained.packaging import write_bundle
from netwright.trained.predicting import Wanted, interval_of, predict_file, predicted, prediction_table, probabilities
from netwright.trained.testing import are_own, judge, own_inputs, put_back

Floats = npt.NDArray[np.float64]


@final
@dataclass(repr=False)
class Run:
    """A trained network with its folder.

    ``model`` is a plain ``torch.nn.Module`` with the best weights (the last without validation rows); ``history`` has
    one dictionary per epoch; ``record`` is run.json; ``otherwise`` are settings by which it reads other files than its own.
    """

    folder: Path
    config: RunConfig
    program: Program
    record: dict[str, Any]
    inputs: Inputs | None = field(default=None, repr=False)
    loss: Any = field(default=None, repr=False)
    custom: Custom = field(default=Custom(), repr=False)
    otherwise: tuple[str, ...] = ()
    _widths: dict[Any, Floats] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._place = self.folder.resolve()  # another folder may be the current one later

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

    def __fspath__(self) -> str:
        return str(self.folder)  # a run stands for its folder wherever one is asked for

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.record['task']['kind']}, {self.record['status']})"

    def _repr_html_(self) -> str:
        return run_html(self.folder)

    def predict(self, rows: Any, threshold: float | None = None) -> npt.NDArray[Any]:
        """Predict raw rows: classes ``(rows,)``, or values ``(rows,)`` or ``(rows, outputs)`` in the user's units.

        Several labels a row come as they were learned: 0 and 1, int64 ``(rows, labels)`` in the order of
        ``program.outcome.classes``, or a list of labels for each row, object ``(rows,)``.

        Args:
            rows: A data frame, an array ``(rows, ...)`` (of a table the columns that the network reads, in their order), a
                dictionary of arrays, the path of a file, of an image or of a folder or archive of images, or a list of paths of
                images.
            threshold: The probability from which on the second of two classes is predicted; None for the likelier one.

        Raises:
            ConfigError: A threshold came, and there are not two classes with probabilities.
        """
        return predicted(self, rows, threshold)

    def predict_proba(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return probabilities ``(rows, classes)``, or of each label, in the order of ``program.outcome.classes``.

        Raises:
            ConfigError: The network predicts numbers, or its loss gives no probabilities.
        """
        return probabilities(self, rows)

    def predict_interval(
        self, rows: Any, coverage: float | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return where the values of raw rows lie between, ``(rows,)`` or ``(rows, outputs)`` each, in the user's units.

        Split conformal prediction by the errors of the valid rows, see `netwright.evaluation.conformal`.

        Args:
            rows: As for `predict`.
            coverage: The share of new values that lie between; None for ``evaluation.coverage``.

        Raises:
            ConfigError: The network predicts classes, or too few errors of valid rows are kept.
        """
        return interval_of(self, rows, coverage)

    def bounds(self, each: Floats, coverage: float | None = None) -> tuple[Floats, Floats]:
        """Return the intervals around what the network gave, ``(1, rows, outputs)``; see `predict_interval`."""
        key = (coverage, (self.record.get("files") or {}).get(ERRORS))
        if key not in self._widths:
            self._widths[key] = widths_of(self.folder, self.config, self.program, self.record, coverage)
        return bounds_around(each[0], self._widths[key], self.program.outcome.decoding.rates)

    def each(self, rows: Any) -> Floats:
        """Return what `predict_decoded` does, ``(1, rows, ...)``: a run is an ensemble of one."""
        return self.predict_decoded(rows)[np.newaxis]

    def predict_decoded(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return probabilities, scores or values ``(rows, ...)`` of raw rows."""
        self._refuse_taken()
        forward = self.program.raw_forward
        answer = None if forward is None else forward.at_once(rows)
        if answer is not None:
            return answer
        values = new_rows.plain_array(self.config, rows)
        if values is not None:
            found = self._trusted(values)
            if found is not None:
                return found
        with executing(self.config, self.program.device, new_rows.are_plain(rows) and self.program.forward.computes):
            raw = new_rows.read(self.config, self.program, rows)
            for remark in new_rows.unlike(self.program, raw) if raw is not rows else []:
                warn_of(remark)
            return np.asarray(self.program.decoded(raw))

    def _trusted(self, values: npt.NDArray[Any]) -> Floats | None:
        """Return the predictions of rows of an array from recordings that are trusted; None: call the network."""
        with arithmetic(self.config) as how:
            found = self.program.trusted(values)
            if found is not None and self.program.raw_forward is not None:
                self.program.raw_forward.remember(values, *how)
        return None if found is None else found.numpy()

    def prediction_table(self, rows: Any, threshold: float | None = None, interval: bool = False) -> dict[str, Any]:
        """Return the columns of a prediction file for raw rows; see `netwright.trained.predicting.prediction_table`."""
        return prediction_table(self, rows, Wanted(threshold, interval))

    def predict_file(
        self, path: str, threshold: float | None = None, interval: bool = False, disagreement: bool = False
    ) -> tuple[dict[str, Any], list[str], int]:
        """Predict the rows of a file; see `netwright.trained.predicting.predict_file`.

        Args:
            path: The file.
            threshold: As for `predict`.
            interval: Whether ``low`` and ``high`` of `predict_interval` follow.
            disagreement: Only an ensemble has one.

        Returns:
            The columns of a prediction file, remarks, and the number of rows.
        """
        return predict_file(self, path, Wanted(threshold, interval, disagreement))

    def whole(self) -> Whole:
        """Return preparation, network and decoding as one torch module, a copy."""
        self._refuse_taken()
        return Whole(self.program)

    def _refuse_taken(self) -> None:
        refuse_taken(self.program.model, self.folder, self._place)

    def write_bundle(self, folder: Path, name: str) -> None:
        """Fill the folder of a bundle; see `netwright.trained.packaging.export_run`."""
        self._refuse_taken()
        write_bundle(folder, self, self.program, name)

    def test(self, data: Any = None) -> dict[str, Any]:
        """Test the network and count the look.

        Args:
            data: Labelled rows: a path, or Python objects ``(X, y)``; None for the run's own test rows. Of a run that was trained
                on Python objects and is loaded again these very objects stand for its own rows.

        Returns:
            The content of test.json. With the run's own rows it is written, with predictions.csv and report.html.

        Raises:
            DataError: The rows do not fit, or those of the run are gone.
            CheckpointError: The data changed since training, or came from Python.
        """
        self._refuse_taken()
        if self.config.training.step is not None:
            return self._test_own_step(data)
        if data is not None and are_own(self.config, self.record, data):
            return self._test_own_rows(self.own_inputs(data))
        if data is not None:
            raw, target, digest = new_rows.labelled(self.config, self.program, data)
            if digest == self.record["data"]["digest"]:
                raise ConfigError(
                    f"{self.folder}: these are the run's own rows, and it was trained on {self.record['split']['train']} of "
                    f"them; expected rows it has not seen; to test the run's own test rows {put_back(self.config)}leave DATA out"
                )
            rows = np.arange(raw.rows)
            known = self.known(raw, target)
            found, verdict = self._figures(known, rows)
            found = joined(found, examine(Tested(known, rows, verdict), self.folder, self.record))
            seen = familiar([(self.folder, self.program.preparation.encoder)], raw)
            found = joined(found, {"notes": [*new_rows.remarks(self.program, raw), *seen]})
            return {**found, "looks": folders.look(self.folder, digest, "all")}
        return self._test_own_rows(self.own_inputs())

    def own_inputs(self, data: Any = None) -> Inputs:
        """Return the rows that the run was trained, validated and tested on.

        Args:
            data: These very rows, where they came from Python and the run was loaded again.

        Raises:
            ConfigError: The run reads files that are written in another way.
            DataError: They are gone.
            CheckpointError: They changed since training, or came from Python.
        """
        if self.otherwise:
            raise ConfigError(
                f"{self.otherwise[0]}: it says how another file is written, and none came; give that file, or leave it out"
            )
        return self.inputs or own_inputs(self.folder, self.config, self.record, data)

    def _test_own_rows(self, inputs: Inputs) -> dict[str, Any]:
        """Test the run's own test rows, and write what a test leaves."""
        outcome, rows = self.program.outcome, inputs.split.test
        if not len(rows):
            raise ConfigError(
                f"{self.folder}: the run has no test rows; expected some; give a file: netwright test RUN DATA"
            )
        known = self.known(inputs.raw, inputs.target)
        found, verdict = self._figures(known, rows)
        found["looks"] = folders.look(self.folder, inputs.digest, files.digest_bytes(rows.astype("<i8").tobytes()))
        columns = {
            **new_rows.row_columns(self.config, self.program, inputs.raw, rows),
            **true_columns(outcome.task, verdict.true, outcome.names, outcome.classes),
        }
        columns |= prediction_columns(outcome.task, verdict.decoded, outcome.names, outcome.classes, outcome.probabilities)
        compared = begin_to_compare(Standing(known, inputs, verdict))
        examined = examine(Tested(known, rows, verdict, inputs.split), self.folder, self.record)
        found = joined(found | compared(), examined)
        content = table_bytes(columns, ".csv", self.config.data.label_separator)
        files.write_bytes(self.folder / folders.PREDICTIONS, content)
        files.write_json(self.folder / folders.TEST, found)  # last: where it stands, the test was made
        self.report()
        return found

    def _test_own_step(self, data: Any) -> dict[str, Any]:
        if data is not None:
            raise ConfigError("test: rows came, of a run with step=; expected none; call evaluate with a batch of them")
        weights = self.weights_name()
        found = test_by_figures(self.folder, self.config, self.program, self.inputs, self.custom, weights)
        self.report()
        return found

    def _figures(self, known: Known, rows: npt.NDArray[np.int64]) -> tuple[dict[str, Any], Verdict]:
        """Return the content of test.json but for the looks, and what the network gave for the rows."""
        found, verdict = judge(self.folder, known, rows)
        found |= headline_told(self.record["task"], found["metrics"])
        return {"n": found.pop("n"), "looks": 0, "weights": self.weights_name(), **found}, verdict

    def known(self, raw: Raw | Mapped, target: Target) -> Known:
        """Return the network with labelled rows."""
        metrics = metrics_of(self.config.training.metrics, self.custom, target.task)
        return Known(self.config, self.program, self.task(), raw, target, metrics)

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

    def reading(self, settings: Sequence[str]) -> Run:
        """Return the run as it reads files that are written in another way than its own; see `netwright.config.reading`."""
        config, known = read_otherwise(self.config, settings), self.program.preparation
        preparation = replace(known, encoder=marked(known.encoder, config.data))
        program = replace(self.program, preparation=preparation)
        return replace(self, config=config, program=program, otherwise=(*self.otherwise, *settings))

    def weights_name(self) -> str:
        """Return which weights the model holds, in words."""
        best = self.record.get("best")
        return f"best (epoch {best['epoch']})" if best else f"last (epoch {self.record.get('epochs', 0)})"

    def report(self, format: str = "html", path: str | Path | None = None, *, rows: bool = True) -> Path:
        """Draw the report from the run folder and return its path.

        Args:
            format: ``html``, ``markdown``, ``png`` or ``latex``.
            path: Where to; default ``report`` with the format's ending in the run folder.
            rows: Whether single test rows may be shown.

        Raises:
            ConfigError: A format that is not known.
        """
        content = call(render, self.folder, format, rows=rows)
        place = self.folder / FORMATS[format] if path is None else Path(path)
        files.write_bytes(place, content)
        return place


def load_run(
    folder: str | Path, *, model: OwnModule | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a run from its folder.

    Args:
        folder: The run folder.
        model: The network again, its class, or its class with arguments, for a run that was made from a module in Python.
        code: Python files that may run, for a network of an own class.
        device: Where to predict; default the device of the run if it is there, else the CPU.

    Raises:
        CheckpointError: A file is missing, damaged or of another network.
        SafetyError: An own class whose file was not named.
    """
    path = Path(folder)
    record = folders.read_record(path)
    config = folders.read_config(path)
    preparation, outcome = load_preparation(path)
    written = record.get("files")
    digests = dict(written) if isinstance(written, dict) else {}
    refuse_damaged(path, digests, [name for name in PREPARED if name in digests and (path / name).is_file()])
    if model is not None:
        network = given_again(model, config.training.seed)
    else:
        network = network_again(config, path, [Path(file) for file in code])
    if type(network) is nn.Sequential and len(config.data.rungs or []) > 1:
        network = masked(network, preparation)
    record = {**record, **weights_into(network, path, record)}
    take(learning(network, freezing_in(config, network)), path)
    place = choose_device(device) if device is not None else device_again(config)
    network = placed(network, config, place).eval()
    program = Program(preparation, network, outcome, config.data.batch_size, place, execution_of(config))
    if record["status"] in ENDED:  # of a run that goes on it would be that of other weights
        program = with_temperature(program, record.get("temperature"))
    return Run(path, config, program, record)


def device_again(config: RunConfig) -> torch.device:
    """Return the device of a run if it is there, else the CPU."""
    try:
        return choose_device(config.training.device)
    except ConfigError:
        return torch.device("cpu")
