"""The group of commands, options that several share, and what is checked before torch is imported. Floor 11."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netwright import files
from netwright.errors import did_you_mean

code_option = click.option(
    "--code", multiple=True, metavar="FILE", help="A Python file that may run (own layers); repeatable."
)
set_option = click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change one setting; repeatable.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
track_option = click.option(
    "--track", multiple=True, metavar="TRACKER", help="Follow the run in tensorboard, mlflow or wandb (offline); repeatable."
)
memory_option = click.option(
    "--auto-micro-batch", is_flag=True, help="Out of memory: halve the rows that go forward at a time, and go on."
)


class Commands(click.Group):
    """A group that names the nearest command when one is misspelled."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"{args[0]!r} is no command; {did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="netwright", prog_name="netwright")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(debug: bool) -> None:  # main takes --debug out before click sees it; here it stands in the help
    """From a data file to a trained, tested and usable neural network, in PyTorch's own words.

    \b
      netwright train sklearn:digits
      netwright train housing.csv --target median_house_value
      netwright train digits.toml --set training.epochs=50
    """


def targets(target: Sequence[str]) -> dict[str, Any]:
    """Return the target columns as a keyword."""
    return {"target": list(target) if len(target) > 1 else target[0]} if target else {}


def check_config_first(source: str, settings: Sequence[str], target: Sequence[str]) -> None:
    """Read the settings before torch is imported, so that a mistake is answered at once."""
    from netwright.config.read import apply_setting, build_config, read_file

    tree = read_file(Path(source)) if source.endswith(".toml") else {"data": {"source": source}}
    if target:
        apply_setting(tree, f"data.target={json.dumps(list(target))}")
    for setting in settings:
        apply_setting(tree, setting)
    build_config(tree)


def read_test(folder: Path) -> dict[str, Any] | None:
    path = folder / "test.json"
    return files.read_json(path) if path.is_file() else None
