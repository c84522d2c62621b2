"""Tells a run to TensorBoard: scalars per epoch, settings, test figures, as event files. Floor 10."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from netwright.tracking.records import Begun, Ended, epoch_figures, figures_of_test

if TYPE_CHECKING:
    from netwright.training.journal import EpochRecord


@final
class TensorBoard:
    """Writes event files that ``tensorboard --logdir FOLDER`` shows.

    Args:
        folder: Where each run gets a folder of its name; None for ``tracking/tensorboard`` in the run folder.

    Source: torch.utils.tensorboard, which needs the package tensorboard alone.
    """

    name = "tensorboard"

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder).absolute()
        self._writer: Any = None
        self._settings: dict[str, Any] = {}

    def begin(self, run: Begun) -> None:
        """Open an event file; one that goes on hides what an earlier one holds of later epochs."""
        from torch.utils.tensorboard import SummaryWriter

        place = run.place(self.name) if self._folder is None else self._folder / run.title
        after = run.epoch + 1 if run.epoch else None
        self._writer = SummaryWriter(str(place), purge_step=after)
        self._settings = dict(run.settings)
        lines = [f"    {path} = {value}" for path, value in run.settings.items()]
        self._writer.add_text("settings", "\n".join(lines), run.epoch)
        self._writer.flush()

    def epoch(self, record: EpochRecord) -> None:
        """Write a scalar per figure, at its epoch."""
        for name, value in epoch_figures(record).items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def end(self, run: Ended) -> None:
        """Write the test figures, for the table of hyperparameters too, and where the report is."""
        figures = figures_of_test(run)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, run.epoch)
        if figures:
            self._write_table(figures)
        self._writer.add_text("ended", f"{run.status}: {run.why}", run.epoch)
        if run.report is not None:
            self._writer.add_text("report", str(run.report.absolute()), run.epoch)
        self._writer.close()

    def _write_table(self, figures: dict[str, float]) -> None:
        """Write the session of the plugin of hyperparameters into the same event file."""
        from torch.utils.tensorboard.summary import hparams

        for part in hparams(self._settings, dict(figures)):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(part)
