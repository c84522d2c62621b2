"""What a person sees of a search: a table of trials that is drawn anew on a terminal, a line per trial elsewhere. Floor 18."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, final

import click

from netwright.terminal import COLOURS

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

STATES = {"finished": "green", "pruned": "yellow", "failed": "red", "running": ""}
MOST_ENDED = 12  # trials that stay in the table


@final
class TrialScreen:
    """Shows remarks, the trials that run and those that ended."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        self._running: dict[int, Any] = {}
        self._ended: list[Any] = []
        self._best: Any = None
        self._drawn = False

    def __enter__(self) -> TrialScreen:
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop()

    def __call__(self, record: Any) -> None:
        if self._quiet:
            return
        try:
            self._show(record)
        except BrokenPipeError:  # the reader left (| head); the search goes on
            self._quiet = True

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, record: Any) -> None:
        if not hasattr(record, "trial"):
            text, colour = str(record), COLOURS.get(getattr(record, "kind", ""))
            if self._live is not None:
                self._live.console.print(text, style=colour or "", highlight=False, markup=False)
            else:
                click.echo(click.style(text, fg=colour) if colour else text)
            return
        ended = hasattr(record, "state")
        if not sys.stdout.isatty():
            if ended:
                click.echo(str(record))
            return
        if ended:
            self._running.pop(record.trial, None)
            self._ended.append(record)
            self._best = record if record.best else self._best
        else:
            self._running[record.trial] = record
        self._draw()

    def _draw(self) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(self._table())

    def _table(self) -> Table:
        """Return the trials as a table: the last that ended, then those that run."""
        from rich import box
        from rich.table import Table

        last = self._ended[-1] if self._ended else None
        title = "no trial has ended yet" if last is None else f"{last.ended} of {last.of_trials} trials"
        if self._best is not None:
            title += f", best {self._best.metric} {self._best.value:.5g} (trial {self._best.trial})"
        table = Table(box=box.SIMPLE, header_style="bold", title=title, title_justify="left", title_style="bold")
        for name in ("trial", "state", "epochs", "figure", "seconds", "settings"):
            table.add_column(name, justify="right" if name in ("trial", "epochs", "figure", "seconds") else "left")
        for end in self._ended[-MOST_ENDED:]:
            value = "" if end.value is None else f"{end.value:.5g}{' *' if end is self._best else ''}"
            table.add_row(
                str(end.trial), end.state, str(end.epochs), value, f"{end.seconds:.2f}", end.settings,
                style="bold green" if end is self._best else STATES.get(end.state, ""),
            )  # fmt: skip
        for epoch in self._running.values():
            table.add_row(str(epoch.trial), "running", f"{epoch.epoch}/{epoch.of_epochs}", f"{epoch.value:.5g}", "", "")
        return table
