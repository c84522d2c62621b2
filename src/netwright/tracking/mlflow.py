"""Tells a run to MLflow: parameters, metrics per epoch, tags, the report as artifact. Floor 10."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from netwright import files
from netwright.tracking.records import Begun, Ended, epoch_figures, figures_of_test

if TYPE_CHECKING:
    from netwright.training.journal import EpochRecord

AT_ONCE = 100  # parameters in a call, at most
LONGEST = 6000  # characters of a parameter
STATES = {"done": "FINISHED", "stopped": "KILLED"}  # any other is FAILED
FOLDER = "netwright.folder"  # a tag


@final
class MLflow:
    """Writes a run into an MLflow store; one that goes on is gone on with there.

    Args:
        uri: The tracking server or database; None for an SQLite file in ``tracking/mlflow`` of the run folder, which
            ``mlflow ui --backend-store-uri sqlite:///FILE`` shows.
        experiment: The name of the experiment; None for that of the config.

    Source: mlflow.MlflowClient, which leaves MLflow's global state alone.
    """

    name = "mlflow"

    def __init__(self, uri: str | Path | None = None, experiment: str | None = None) -> None:
        self._uri, self._experiment = None if uri is None else str(uri), experiment
        self._client: Any = None
        self._run = ""

    def begin(self, run: Begun) -> None:
        """Make or find the run, and write the settings as parameters; one that was changed on resuming becomes a tag."""
        with _quiet():
            from mlflow import MlflowClient
            from mlflow.entities import Param

            self._client = MlflowClient(tracking_uri=self._store(run))
            experiment = self._experiment_number(run)
            self._run = self._known(experiment, run) or self._made(experiment, run)
        known = self._client.get_run(self._run).data.params
        wanted = {path: str(value)[:LONGEST] for path, value in run.settings.items() if str(value)}
        fresh = [Param(path, value) for path, value in wanted.items() if path not in known]
        for start in range(0, len(fresh), AT_ONCE):
            self._client.log_batch(self._run, params=fresh[start : start + AT_ONCE])
        for path, value in wanted.items():
            if path in known and known[path] != value:
                self._client.set_tag(self._run, f"changed.{path}", value)

    def _store(self, run: Begun) -> str:
        """Return the address of the store."""
        if self._uri is not None:
            return self._uri
        files.make_folder(run.place(self.name))
        return f"sqlite:///{run.place(self.name) / 'mlflow.db'}"

    def _experiment_number(self, run: Begun) -> str:
        """Return the number of the experiment, made where it is missing."""
        name = self._experiment or run.name
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = (run.place(self.name) / "artifacts").as_uri() if self._uri is None else None
        return str(self._client.create_experiment(name, artifact_location=place))

    def _known(self, experiment: str, run: Begun) -> str | None:
        """Return the number of a run that goes on; None for a new one."""
        if not run.epoch:
            return None
        folder = str(run.folder.absolute()).replace("'", "\\'")
        found = self._client.search_runs([experiment], f"tags.`{FOLDER}` = '{folder}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _made(self, experiment: str, run: Begun) -> str:
        tags = {FOLDER: str(run.folder.absolute())}
        return str(self._client.create_run(experiment, run_name=run.title, tags=tags).info.run_id)

    def epoch(self, record: EpochRecord) -> None:
        """Write a metric per figure, with the epoch as its step."""
        self._write(epoch_figures(record), record.epoch)

    def end(self, run: Ended) -> None:
        """Write the test figures, the status, and the report: a copy into the run's own store, else where it is."""
        self._write(figures_of_test(run), run.epoch)
        self._client.set_tag(self._run, "netwright.ended", run.why)
        if run.report is not None:
            self._client.set_tag(self._run, "netwright.report", str(run.report.absolute()))
            if self._uri is None:
                self._client.log_artifact(self._run, str(run.report))
        self._client.set_terminated(self._run, STATES.get(run.status, "FAILED"))

    def _write(self, figures: dict[str, float], epoch: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, epoch) for name, value in figures.items()])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of MLflow and its database on making tables from the screen."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
