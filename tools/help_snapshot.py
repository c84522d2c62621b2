"""Writes tests/golden/help.txt: the help of every command, so that a growing command line is seen in review."""

from __future__ import annotations

from pathlib import Path

import click

from netwright.cli import cli

SNAPSHOT = Path(__file__).parent.parent / "tests" / "golden" / "help.txt"


def render() -> str:
    """Return the help of the program and of each command."""
    texts = []
    names = cli.context_settings["help_option_names"]
    context = click.Context(cli, info_name="netwright", help_option_names=names)
    for name in ["", *sorted(cli.commands)]:
        command = cli.commands[name] if name else cli
        parent = context if name else None
        with click.Context(command, info_name=name or "netwright", parent=parent, help_option_names=names) as inner:
            inner.max_content_width = 100
            texts.append(command.get_help(inner))
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(render(), encoding="utf-8")
    print(SNAPSHOT)
