"""Commands to begin with: init, doctor, completion. Floor 18."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from netwright.cli.group import check_config_first, cli, json_option, set_option, targets
from netwright.errors import ConfigError


@cli.command(short_help="Write a commented config for a data file, to edit.")
@click.argument("source", metavar="DATA")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("-o", "--output", metavar="FILE", help="A .toml file that is not there yet; default: on the screen.")
@json_option
def init(source: str, target: Sequence[str], settings: Sequence[str], output: str | None, as_json: bool) -> None:
    """Look at a data file and write a commented config to edit: columns, split, a default network."""
    if output is not None and not output.endswith(".toml"):
        raise ConfigError(f"-o {output}: expected a name that ends in .toml; change it")
    if output is not None and Path(output).exists():
        raise ConfigError(f"-o {output}: there is such a file; expected a new name; choose another or remove it")
    if source.endswith(".toml"):
        raise ConfigError(f"{source}: a config came; expected a data file; look at a config with netwright show {source}")
    check_config_first(source, settings, target)
    from netwright import files
    from netwright.verbs import draft

    found = draft(source, output=output, settings=settings, **targets(target))
    if output is not None:
        files.write_text(Path(output), found.text)
    if as_json:
        click.echo(json.dumps({"output": output, "config": found.text}))
    else:
        click.echo(found.text.rstrip("\n") if output is None else output)


@cli.command(short_help="Look at this machine: torch, devices, cores, extras.")
@json_option
def doctor(as_json: bool) -> None:
    """Look at this machine: Python, torch, devices, cores, a compiler, extras. Exits 2 where something cannot work."""
    from netwright.pipeline.environment import look_around

    found = look_around()
    click.echo(json.dumps(found.to_json()) if as_json else str(found))
    if not found.sound:
        sys.exit(2)


@cli.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options.

    \b
      bash   eval "$(netwright completion bash)"      in ~/.bashrc
      zsh    eval "$(netwright completion zsh)"       in ~/.zshrc
      fish   netwright completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigError(f"completion: {shell} came; this click completes for bash, zsh and fish; update it")
    click.echo(kind(cli, {}, "netwright", "_NETWRIGHT_COMPLETE").source())
