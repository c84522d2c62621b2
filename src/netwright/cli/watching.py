"""The command watch: a run shown while another process trains it. It imports no torch. Floor 18."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netwright.cli.group import cli, json_option

if TYPE_CHECKING:
    from rich.console import Group

    from netwright.runfolder.watching import State

EVERY = 0.5  # seconds between two looks
BESIDE = 14  # lines of a screen that are no curves
FEWEST, MOST = 6, 36  # lines of curves


@cli.command(short_help="Show the curves of a run that trains elsewhere.")
@click.argument("run")
@click.option("--web", is_flag=True, help="Serve a live page on 127.0.0.1 and print its address.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Of the page; 0 is any free one.")
@click.option("--keep", is_flag=True, help="Serve the page after the run has ended too, until Ctrl-C.")
@json_option
def watch(run: str, web: bool, port: int, keep: bool, as_json: bool) -> None:
    """Show the curves of a run while another process trains it.

    Ends with the run; Ctrl-C leaves, the run goes on. Where no terminal is, each epoch is a line. With --json: how far the
    run is now.
    """
    from netwright.runfolder.watching import read_state

    folder = Path(run)
    state = read_state(folder)
    if as_json:
        click.echo(json.dumps(state.to_json()))
        return
    try:
        if web:
            _serve(folder, port, keep)
        elif sys.stdout.isatty():
            _draw(folder, state)
        else:
            _list(folder, state)
    except KeyboardInterrupt:
        return


def _serve(folder: Path, port: int, keep: bool) -> None:
    """Serve the live page; its address is the last line."""
    from netwright.runfolder.broadcasting import Broadcast

    broadcast = Broadcast(folder, port)
    try:
        click.echo("Ctrl-C ends this page; the run goes on without it")
        click.echo(broadcast.address)
        broadcast.wait(keep)
    finally:
        broadcast.close()


def _draw(folder: Path, state: State) -> None:
    """Draw the curves into the terminal, again and again."""
    from rich.live import Live

    from netwright.runfolder.watching import read_state

    with Live(_picture(state), refresh_per_second=4, transient=False) as live:
        while not state.over:
            time.sleep(EVERY)
            state = read_state(folder)
            live.update(_picture(state))


def _picture(state: State) -> Group:
    """Return what the terminal shows."""
    import shutil

    from rich.console import Group
    from rich.text import Text

    from netwright.runfolder.watching import frame

    size = shutil.get_terminal_size()
    lines = frame(state, size.columns - 1, min(MOST, max(FEWEST, size.lines - BESIDE)))
    return Group(*(Text.assemble(*line, no_wrap=True, overflow="ellipsis") for line in lines))


def _list(folder: Path, state: State) -> None:
    """Print a line for each epoch as it comes, then how the run ended."""
    from netwright.runfolder.watching import ending_lines, epoch_line, read_state

    told = 0.0
    while True:
        for place, epoch in enumerate(state.columns.get("epoch", ())):
            if epoch > told:
                click.echo(epoch_line(state, place))
                told = epoch
        if state.over:
            break
        time.sleep(EVERY)
        state = read_state(folder)
    for line in ending_lines(state):
        click.echo(line)
