"""The command check: mistakes found before an hour is lost. Floor 18."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from netwright.cli.group import check_config_first, cli, code_option, config_of, json_option, set_option, targets
from netwright.terminal import print_preflight


@cli.command(short_help="Look for mistakes in network, own code and data.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@code_option
@click.option("--strict", is_flag=True, help="Errors and warnings exit 2 (network) or 3 (data).")
@json_option
def check(
    source: str, target: Sequence[str], settings: Sequence[str], code: Sequence[str], strict: bool, as_json: bool
) -> None:
    """Look for mistakes in network, own code and data before training; nothing is written.

    Also tries whether one batch can be learned by heart. See docs/checks.md for every check.
    """
    source = config_of(source)
    check_config_first(source, settings, target)
    from netwright.pipeline.checking import refuse
    from netwright.verbs import check as look

    found = look(source, code=code, settings=settings, **targets(target))
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_preflight(found)
    if strict:
        refuse(found.findings)
