"""Writes the help of every command, so that a growing command line is seen in review, and the page of the documentation.

The help is tests/golden/help.txt; the page is docs/commands.md, made of the same texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from netwright.cli import cli
from netwright.cli.group import SECTIONS

ROOT = Path(__file__).parent.parent
SNAPSHOT = ROOT / "tests" / "golden" / "help.txt"
PAGE = ROOT / "docs" / "commands.md"
INTRODUCTION = """# Commands

<!-- made by tools/help_snapshot.py from the help of each command; what stands here is overwritten -->

`netwright COMMAND --help` prints the same. Every command takes `-h` and `--help`, and `--debug` shows a traceback with an error.
An error is one line on standard error, and nothing is written; the exit codes are those of the
[errors](reference.md#errors)."""


def render() -> str:
    """Return the help of the program and of each command."""
    texts = []
    root = context_of(cli, "netwright")
    for name in ["", *sorted(cli.commands)]:
        command = cli.commands[name] if name else cli
        with context_of(command, name or "netwright", root if name else None) as inner:
            inner.max_content_width = 100
            texts.append(command.get_help(inner))
    return "\n\n".join(texts) + "\n"


def context_of(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """Return a context with the program's own words for help; click keeps on a command those of the first context it meets."""
    return click.Context(command, info_name=name, parent=parent, help_option_names=cli.context_settings["help_option_names"])


def render_page() -> str:
    """Return the page of the commands: in the sections of the help, groups with their own commands."""
    parts = [INTRODUCTION]
    named = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in sorted(cli.commands) if name not in named)
    for title, names in {**SECTIONS, "More": rest}.items():
        present = [name for name in names if name in cli.commands]
        if present:
            parts.append(f"## {title}")
        for name in present:
            parts += described(cli.commands[name], ("netwright", name))
    return "\n\n".join(parts) + "\n"


def described(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
    """Yield the parts of one command: heading, usage, what it does, its options, its own commands."""
    context = context_of(command, " ".join(words))
    yield f"{'#' * (len(words) + 1)} {' '.join(words[1:])}"
    yield f"```text\n{' '.join([*words, *command.collect_usage_pieces(context)])}\n```"
    yield from paragraphs(inspect.cleandoc(command.help or ""))
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        rows = [f"| `{names.replace('|', chr(92) + '|')}` | {cell(told)} |" for names, told in records]
        yield "\n".join(["| option | what |", "|---|---|", *rows])
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from described(inner, (*words, name))


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help; those that click shall not fill stay lines."""
    for part in text.split("\n\n"):
        yield f"```text\n{part.removeprefix(chr(8)).strip(chr(10))}\n```" if part.startswith("\b") else cell(part)


def cell(text: str) -> str:
    """Return a help text on one line as Markdown shows it."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    SNAPSHOT.write_text(render(), encoding="utf-8")
    PAGE.write_text(render_page(), encoding="utf-8")
    print(SNAPSHOT)
    print(PAGE)
