"""Commands that prove and explain: verify, eject, explain, replay, compare, import-weights. Floor 18."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from netwright.cli.group import cli, code_option, json_option, refuse_output
from netwright.errors import CheckpointError, ConfigError
from netwright.terminal import print_lesson, print_replay


@cli.group(short_help="Prove a promise on this machine, with copies of a run.")
def verify() -> None:
    """Prove a promise on this machine, with copies of a run."""


@verify.command("resume")
@click.argument("run")
@click.option("--kills", type=click.IntRange(1), default=3, show_default=True, help="How often the copy is killed.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the moments of the kills.")
@code_option
@json_option
def verify_resume(run: str, kills: int, seed: int, code: Sequence[str], as_json: bool) -> None:
    """Kill and resume a copy of a run, and compare it with the run bit for bit (exit 4 where they differ)."""
    from netwright.proofs.verifying import verify_resume as prove

    found = prove(Path(run), kills, [Path(file) for file in code], seed, lambda text: _tell(text, as_json))
    _print_verdict(run, found.held, found.text, as_json)


@verify.command("determinism")
@click.argument("run")
@code_option
@json_option
def verify_determinism(run: str, code: Sequence[str], as_json: bool) -> None:
    """Train a run twice more; where the two differ, name the first step and tensor (exit 4)."""
    from netwright.proofs.verifying import verify_determinism as prove

    found = prove(Path(run), [Path(file) for file in code], lambda text: _tell(text, as_json))
    _print_verdict(run, found.held, found.text, as_json)


@verify.command("eject")
@click.argument("run")
@code_option
@json_option
def verify_eject(run: str, code: Sequence[str], as_json: bool) -> None:
    """Run the script that eject writes in a fresh process without netwright; compare weights and test figures (exit 4)."""
    from netwright.proofs.rerunning import verify_eject as prove

    found = prove(Path(run), [Path(file) for file in code])
    _print_verdict(run, found.held, found.text, as_json)


@cli.command(short_help="Write a run as a standalone script in plain PyTorch.")
@click.argument("run")
@click.option("-o", "--output", metavar="FILE", help="The script; split.npz is put beside it. Default: printed.")
@json_option
def eject(run: str, output: str | None, as_json: bool) -> None:
    """Write a run as a standalone script in plain PyTorch, which ends with the same bits."""
    refuse_output(output, (".py",))
    from netwright.proofs.ejecting import eject as write

    text = write(Path(run), output)
    if as_json:
        click.echo(json.dumps({"output": output, "lines": len(text.splitlines()), **({} if output else {"script": text})}))
    else:
        click.echo(text if output is None else output, nl=output is not None)


@cli.command(short_help="Print the training loop of a run, for learning.")
@click.argument("run")
@code_option
@json_option
def explain(run: str, code: Sequence[str], as_json: bool) -> None:
    """Print the training loop of a run line by line, with its own shapes and numbers, for learning."""
    from netwright.proofs.explaining import explain as tell

    lines = tell(Path(run), [Path(file) for file in code])
    if as_json:
        click.echo(json.dumps({"lines": [{"code": line.code, "comment": line.comment} for line in lines]}))
    else:
        print_lesson(lines)


@verify.command("export")
@click.argument("run")
@click.option(
    "--format", type=click.Choice(["bundle", "torch", "onnx"]), help="One format; default: all that are installed."
)
@code_option
@json_option
def verify_export(run: str, format: str | None, code: Sequence[str], as_json: bool) -> None:
    """Export a run or an ensemble, predict its own rows from the file in a new process, and compare (exit 4 beyond tolerance)."""
    from netwright.proofs.agreeing import verify_export as prove

    found = prove(Path(run), format, [Path(file) for file in code])
    _print_verdict(run, found.held, found.text, as_json)


def _tell(text: str, as_json: bool) -> None:
    if not as_json:
        click.echo(text)


def _print_verdict(run: str, held: bool, text: str, as_json: bool) -> None:
    """Print what was found; a promise that did not hold is an error."""
    if as_json:
        click.echo(json.dumps({"held": held, "text": text}))
    elif held:
        click.echo(text)
    if not held:
        raise CheckpointError(f"{run}: {text}")


@cli.command(short_help="Run the step that ended a run again, layer by layer.")
@click.argument("run")
@code_option
@json_option
@click.pass_context
def replay(ctx: click.Context, run: str, code: Sequence[str], as_json: bool) -> None:
    """Run the step that ended a run again, from its capsule, and show every layer of it.

    With --debug the traceback is shown too.
    """
    from netwright.lifecycle.replaying import replay_run

    found = replay_run(Path(run), code=[Path(file) for file in code])
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_replay(found.to_json())
    if found.error is not None and ctx.obj:
        click.echo("".join(traceback.format_exception(found.error)), err=True)
    if not found.reproduced:
        raise CheckpointError(
            f"{run}: step {found.step} works now; expected it to fail again ({found.then}); look for state outside the network"
        )


@cli.command(short_help="Show where runs differ: settings, figures, steps.")
@click.argument("run")
@click.argument("others", metavar="RUN...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", help="Draw the curves together: an .html page with the table, or an .svg.")
@click.option("--steps", is_flag=True, help="Find the first step whose loss differs, and the rows of its batch.")
@json_option
def compare(run: str, others: Sequence[str], output: str | None, steps: bool, as_json: bool) -> None:
    """Show where runs differ: settings, machine, test figures with intervals, and with --steps the first step.

    Each RUN is a run, or a folder of seeds. Two runs on the same test rows are compared row by row.
    """
    check_together(output)
    from netwright.runfolder.showing import write_together
    from netwright.studies.comparing import compare_runs

    found = compare_runs([Path(run), *map(Path, others)], steps)
    if output is not None:
        write_together(" and ".join(found.runs), found.to_html(), found.runs, Path(output))
    click.echo(json.dumps({**found.to_json(), "output": output}) if as_json else str(found))
    if output is not None and not as_json:
        click.echo(output)


def check_together(output: str | None) -> None:
    """Refuse a file to draw into that is neither a page nor a drawing."""
    if output is not None and Path(output).suffix.lower() not in (".html", ".svg"):
        raise ConfigError(f"-o {output}: expected a name that ends in .html or .svg; change it")


@cli.command("import-weights", short_help="Turn weights of another program into safetensors.")
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", help="Default: the same name with .safetensors.")
@json_option
def import_weights(file: str, output: str | None, as_json: bool) -> None:
    """Turn weights of another program (.pt, .pth, .bin) into safetensors, in a process of its own with limits."""
    from netwright.exporting.foreign import import_weights_file

    target = Path(output) if output is not None else Path(file).with_suffix(".safetensors")
    shapes = import_weights_file(Path(file), target)
    if as_json:
        click.echo(json.dumps({"output": str(target), "tensors": {name: list(shape) for name, shape in shapes.items()}}))
        return
    for name, shape in shapes.items():
        click.echo(f"{name}  {shape}")
    click.echo(str(target))
