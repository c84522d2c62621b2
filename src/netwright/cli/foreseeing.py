"""Commands before a long run: lr, batch-size, plan. Nothing is trained for good. Floor 18."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netwright.cli.group import (
    check_config_first,
    cli,
    code_option,
    config_of,
    json_option,
    refuse_output,
    set_option,
    targets,
)
from netwright.errors import ConfigError

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@cli.command(short_help="Find a learning rate by a range test on copies.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@code_option
@click.option("--from", "low", type=float, default=1e-6, show_default=True, metavar="RATE", help="The first rate.")
@click.option("--to", "high", type=float, default=10.0, show_default=True, metavar="RATE", help="The last rate.")
@click.option("--steps", type=int, default=300, show_default=True, help="Steps of each copy.")
@click.option("--copies", type=int, default=3, show_default=True, help="Copies, each with another order of the rows.")
@click.option("-o", "--output", metavar="FILE", help="A .png file to draw the curve into.")
@json_option
def lr(
    source: str,
    target: Sequence[str],
    settings: Sequence[str],
    code: Sequence[str],
    low: float,
    high: float,
    steps: int,
    copies: int,
    output: str | None,
    as_json: bool,
) -> None:
    """Find a learning rate: copies train some hundred steps while it grows (range test, Smith 2017).

    Train rows only; nothing is kept but the picture asked for.
    """
    refuse_output(output, (".png",), (source,))
    source = config_of(source)
    check_config_first(source, settings, target)
    from netwright import files
    from netwright.foresight.foreseeing import find_learning_rate

    found = find_learning_rate(
        source, rates=(low, high), steps=steps, copies=copies, code=code, settings=settings, **targets(target)
    )
    if output is not None:
        files.write_bytes(Path(output), found.picture())
    _print(found, as_json)
    if output is not None and not as_json:
        click.echo(output)


@cli.command("batch-size", short_help="Find the largest batch that fits, and the speed of each.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@code_option
@click.option("--memory", metavar="SIZE", help="What a step may take, 4GiB say; default half of the free memory.")
@click.option("--most", type=int, metavar="ROWS", help="The largest batch to try; default all train rows.")
@json_option
def batch_size(
    source: str,
    target: Sequence[str],
    settings: Sequence[str],
    code: Sequence[str],
    memory: str | None,
    most: int | None,
    as_json: bool,
) -> None:
    """Find the largest batch that fits, and how fast each size trains; measured on copies."""
    limit = None if memory is None else _bytes(memory)
    source = config_of(source)
    check_config_first(source, settings, target)
    from netwright.foresight.foreseeing import find_batch_size

    _print(find_batch_size(source, memory=limit, most=most, code=code, settings=settings, **targets(target)), as_json)


@cli.command(short_help="Say what a run will take in time, memory and disk.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@code_option
@click.option(
    "--failure-hours", type=float, default=24.0, show_default=True, metavar="HOURS", help="Hours between two failures."
)
@json_option
def plan(
    source: str, target: Sequence[str], settings: Sequence[str], code: Sequence[str], failure_hours: float, as_json: bool
) -> None:
    """Say what a run will take in time, memory and disk, by some steps on copies; nothing is kept."""
    source = config_of(source)
    check_config_first(source, settings, target)
    from netwright.foresight.foreseeing import plan as work_out

    _print(work_out(source, failure_hours=failure_hours, code=code, settings=settings, **targets(target)), as_json)


def _print(found: Any, as_json: bool) -> None:
    click.echo(json.dumps(found.to_json()) if as_json else str(found))


def _bytes(text: str) -> int:
    """Return the bytes of a text such as ``4GiB``.

    Raises:
        ConfigError: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]i?B)?", text.strip(), re.IGNORECASE)
    size = float(found[1]) * UNITS[(found[2] or "").upper()] if found else 0.0
    if size < 1:
        raise ConfigError(f"--memory {text}: expected bytes; write for instance 4GiB or 500MB")
    return int(size)
