"""The group of commands, options that several share, and what is checked before torch is imported. Floor 18."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netwright import files
from netwright.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from netwright.config.schema import RunConfig

LINE = 58  # characters that say what a command does

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
peer_option = click.option(
    "--peer-timeout",
    type=click.FloatRange(1.0),
    default=600.0,
    metavar="SECONDS",
    help="Of several processes: how long one waits for another; default 600.",
)

population_option = click.option(
    "--population",
    is_flag=True,
    help="Take the steps of all runs together, vectorised.",
)

SECTIONS = {  # of the list of commands, in the order of a first use
    "Begin": ("train", "init", "check", "split", "show", "doctor"),
    "Before a long run": ("lr", "batch-size", "plan"),
    "Runs": ("tune", "resume", "watch", "runs", "cv", "compare", "report"),
    "Clusters": ("slurm", "ray"),
    "Use": ("test", "predict", "ensemble", "export", "serve", "import-weights"),
    "Prove and learn": ("verify", "replay", "eject", "explain"),
    "For the shell and the editor": ("completion", "schema"),
}


ALIASES = {"cross-validate": "cv"}  # names that a command has too


class Commands(click.Group):
    """A group that lists its commands by what they are for, and names the nearest when one is misspelled."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections; one that stands in none comes last."""
        named = {name for names in SECTIONS.values() for name in names}
        seen = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        rest = tuple(name for name in seen if name not in named)
        width = max(map(len, seen))
        for title, names in {**SECTIONS, "More": rest}.items():
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(LINE)) for name in names if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments."""
        args = [ALIASES.get(word, word) if place == 0 else word for place, word in enumerate(args)]
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


def refuse_output(output: str | None, endings: Sequence[str], sources: Sequence[str] = ()) -> None:
    """Refuse to write over what is read, over a file of a run, or under an ending that promises something else.

    Args:
        output: Where to write; None for the screen.
        endings: Of which the name has one.
        sources: Files that are read.

    Raises:
        ConfigError: One of these, or no such folder.
    """
    if output is None:
        return
    path = Path(output)
    if path.suffix.lower() not in endings:
        raise ConfigError(f"-o {output}: expected a name that ends in {' or '.join(endings)}; change it")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {output}: {path.parent}: no such folder; expected one that is there; make it")
    if any(Path(source).exists() and path.exists() and path.samefile(source) for source in sources):
        raise ConfigError(f"-o {output}: it is read here; expected another file; choose a new name")
    if path.exists() and (path.parent / "run.json").is_file() and path.name != f"report{path.suffix}":
        raise ConfigError(f"-o {output}: a file of the run {path.parent}; expected another place; choose a new name")


def config_of(source: str) -> str:
    """Return the resolved config where a run folder is named, anything else as it is."""
    resolved = Path(source) / "config.toml"
    return str(resolved) if resolved.is_file() else source


def complete_paths(group: click.Group) -> None:
    """Let a shell complete file names where a command takes a file, a folder or a run."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            complete_paths(command)
        for parameter in command.params:
            words = isinstance(parameter, click.Argument) or parameter.metavar in ("FILE", "DIR", "PATH")
            if words and parameter.type is click.STRING:
                parameter.type = click.Path()  # takes any text, as before


def targets(target: Sequence[str]) -> dict[str, Any]:
    """Return the target columns as a keyword."""
    return {"target": list(target) if len(target) > 1 else target[0]} if target else {}


def check_config_first(source: str, settings: Sequence[str], target: Sequence[str]) -> RunConfig:
    """Read the settings before torch is imported, so that a mistake is answered at once."""
    from netwright.config.read import apply_setting, build_config, read_file

    tree = read_file(Path(source)) if source.endswith(".toml") else {"data": {"source": source}}
    if target:
        apply_setting(tree, f"data.target={json.dumps(list(target))}")
    for setting in settings:
        apply_setting(tree, setting)
    return build_config(tree)


def read_test(folder: Path) -> dict[str, Any] | None:
    path = folder / "test.json"
    return files.read_json(path) if path.is_file() else None
