"""Tells a run to Weights & Biases, offline unless the user's own environment asks otherwise. Floor 10."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from netwright import files
from netwright.tracking.records import Begun, Ended, epoch_figures, figures_of_test

if TYPE_CHECKING:
    from netwright.training.journal import EpochRecord


@final
class WandB:
    """Writes an offline run that ``wandb sync FOLDER`` sends.

    Nothing leaves the machine unless WANDB_MODE, in the user's own environment or wandb's settings file, says so.

    Args:
        folder: Where the runs are written; None for ``tracking/wandb`` in the run folder.
        project: The project; None for the name of the config.

    Source: wandb.init with ``mode="offline"``.
    """

    name = "wandb"

    def __init__(self, folder: str | Path | None = None, project: str | None = None) -> None:
        self._folder = None if folder is None else Path(folder).absolute()
        self._project = project
        self._run: Any = None

    def begin(self, run: Begun) -> None:
        """Begin a run with the settings as its config; one that goes on has the same number."""
        import wandb

        place = run.place(self.name) if self._folder is None else self._folder
        files.make_folder(place)
        asked = wandb.setup().settings
        mode = asked.mode if "mode" in asked.model_fields_set else "offline"
        number = files.digest_bytes(f"{run.folder.absolute()} {run.started}".encode()).rpartition(":")[2][:16]
        self._run = wandb.init(
            mode=mode,
            dir=str(place),
            project=self._project or run.name,
            name=run.title,
            id=number,
            resume=None if mode == "offline" else "allow",
            config=dict(run.settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def epoch(self, record: EpochRecord) -> None:
        """Write the figures of an epoch."""
        self._run.log({**epoch_figures(record), "epoch": record.epoch}, step=record.epoch)

    def end(self, run: Ended) -> None:
        """Write test figures, status and where the report is into the summary, and finish."""
        self._run.summary.update(figures_of_test(run))
        self._run.summary.update({"status": run.status, "ended": run.why})
        if run.report is not None:
            self._run.summary.update({"report": str(run.report.absolute())})
        self._run.finish(exit_code=0 if run.status in ("done", "stopped") else 1)
