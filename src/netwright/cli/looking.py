"""Commands that look and train nothing: split, show, report, runs, schema. Floor 18."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

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
from netwright.reporting.formats import FORMATS, render
from netwright.terminal import print_layers, print_runs


@cli.command(short_help="Draw what train, valid and test would hold.")
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--figure", metavar="FILE", help="An .svg file to draw the parts into.")
@click.option("--strict", is_flag=True, help="A finding that is no note is an error (exit 3).")
@json_option
def split(
    source: str, target: Sequence[str], settings: Sequence[str], figure: str | None, strict: bool, as_json: bool
) -> None:
    """Print and draw what train, valid and test would hold, and what the checks find.

    Nothing is trained; nothing is written but the figure asked for.
    """
    check_config_first(source, settings, target)
    if figure is not None and not figure.lower().endswith(".svg"):
        raise ConfigError(f"--figure {figure}: expected a name that ends in .svg; change it")
    from netwright.verbs import split as work_out

    found = work_out(source, settings=settings, **targets(target))
    if figure is not None:
        from netwright import files
        from netwright.reporting.plots import parts_svg

        files.write_text(Path(figure), parts_svg(found.bins, found.shares, f"The parts of {found.source}"))
    click.echo(json.dumps(found.to_json()) if as_json else str(found))
    if strict:
        from netwright.pipeline.checking import refuse

        refuse(found.findings)


@cli.command(short_help="Show every layer: shape, parameters, multiply-adds.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@code_option
@click.option("--svg", metavar="FILE", help="Draw the network into this file.")
@json_option
def show(
    source: str, target: Sequence[str], settings: Sequence[str], code: Sequence[str], svg: str | None, as_json: bool
) -> None:
    """Show every layer of a network: output shape, parameters, multiply-adds, memory. Nothing is trained."""
    source = config_of(source)
    check_config_first(source, settings, target)
    from netwright import files
    from netwright.reporting.diagram import diagram_svg
    from netwright.verbs import described as work_out

    summary, shape, rates = work_out(source, code, settings, targets(target))
    described = summary.to_json()
    if svg is not None:
        files.write_text(Path(svg), diagram_svg(described["layers"], shape, Path(source).stem))
    if as_json:
        click.echo(json.dumps({"input": list(shape), **described, **({"schedule": rates[0]} if rates else {})}))
        return
    print_layers(described, shape)
    for line in rates:
        click.echo(line)
    if svg is not None:
        click.echo(svg)


@cli.command(short_help="Draw the report of a run anew.")
@click.argument("run")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="html", show_default=True, help="What to make.")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to; default a file in the run folder; - prints it (not a picture)."
)
@click.option("--no-rows", is_flag=True, help="Show no single row of the data: no worst errors, no point per row.")
@json_option
def report(run: str, form: str, output: str | None, no_rows: bool, as_json: bool) -> None:
    """Draw the report of a run anew and print where it is.

    html is the whole page, markdown its figures as text, png one picture, latex the test table.
    """
    if output == "-" and (form == "png" or as_json):
        what = "a picture" if form == "png" else "--json"
        raise ConfigError(f"-o -: expected a file for {what}; name one, {FORMATS[form]} say")
    if output != "-":
        refuse_output(output, (Path(FORMATS[form]).suffix, *((".htm",) if form == "html" else ())))
    from netwright import files

    content = render(Path(run), form, rows=not no_rows)
    if output == "-":
        click.echo(content.decode(), nl=False)
        return
    path = Path(output) if output is not None else Path(run) / FORMATS[form]
    files.write_bytes(path, content)
    click.echo(json.dumps({"report": str(path)}) if as_json else str(path))


@cli.command(short_help="List the runs of a folder with their figures.")
@click.argument("folder", default="runs")
@json_option
def runs(folder: str, as_json: bool) -> None:
    """List the runs of a folder with their figures, oldest first."""
    from netwright.verbs import runs as list_runs

    found = list_runs(folder)
    if as_json:
        click.echo(json.dumps({"runs": found}))
        return
    if not found:
        click.echo(f"{folder}: no runs yet")
        return
    print_runs(found)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the settings, for editors."""
    from netwright.config.read import json_schema

    click.echo(json_schema())
