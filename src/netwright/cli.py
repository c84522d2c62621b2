"""The command line: parses, prints, exit codes. It imports the pipeline, and so torch, only inside a command.

Floor 11.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from netwright.errors import ConfigError, NetwrightError, ResourceError, did_you_mean
from netwright.terminal import Screen, print_layers, print_runs, print_test

INTERRUPTED = 130
BUG = 70
READER_LEFT = 1  # click's exit code where nobody reads standard output any more
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # torch's words

code_option = click.option(
    "--code", multiple=True, metavar="FILE", help="A Python file that may run (own layers); repeatable."
)
set_option = click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change one setting; repeatable.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


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


@cli.command()
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="The run folder; default runs/<name>-<time>-<4 hex>.")
@code_option
@click.option("--no-test", is_flag=True, help="Leave the test set for later.")
@click.option("--strict", is_flag=True, help="A finding of the checks is an error (exit 3); nothing is written.")
@json_option
def train(
    source: str,
    target: Sequence[str],
    settings: Sequence[str],
    run_dir: str | None,
    code: Sequence[str],
    no_test: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Train a network on a data file, or as a config describes.

    Prints the run folder as the last line.
    """
    _check_config_first(source, settings, target)
    from netwright.pipeline.verbs import train as run_training

    screen = Screen(quiet=as_json)
    with screen:
        run = run_training(
            source,
            run_dir=run_dir,
            code=code,
            settings=settings,
            observers=[screen],
            test=not no_test,
            strict=strict,
            **_targets(target),
        )
    test = _read_test(run.folder)
    if as_json:
        keys = ("status", "epochs", "steps", "best", "why")
        click.echo(json.dumps({"run": str(run.folder), **{key: run.record.get(key) for key in keys}, "test": test}))
    else:
        if test:
            print_test(test)
        click.echo(f"report: {run.folder / 'report.html'}")
        click.echo(str(run.folder))
    if run.record.get("signal"):
        sys.exit(128 + int(run.record["signal"]))


@cli.command()
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--figure", metavar="FILE", help="An .svg file to draw the parts into.")
@click.option("--strict", is_flag=True, help="A finding is an error (exit 3).")
@json_option
def split(
    source: str, target: Sequence[str], settings: Sequence[str], figure: str | None, strict: bool, as_json: bool
) -> None:
    """Print and draw what train, valid and test would hold, and what the checks find.

    Nothing is trained; nothing is written but the figure asked for.
    """
    _check_config_first(source, settings, target)
    if figure is not None and not figure.lower().endswith(".svg"):
        raise ConfigError(f"--figure {figure}: expected a name that ends in .svg; change it")
    from netwright.pipeline.verbs import split as work_out

    found = work_out(source, settings=settings, **_targets(target))
    if figure is not None:
        from netwright import files
        from netwright.reporting.plots import parts_svg

        files.write_text(Path(figure), parts_svg(found.bins, found.shares, f"The parts of {found.source}"))
    click.echo(json.dumps(found.to_json()) if as_json else str(found))
    if strict:
        from netwright.pipeline.checking import refuse

        refuse(found.findings)


@cli.command("cross-validate")
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--folds", type=click.IntRange(2), help="Parts, each tested once; default those of the config, or 5.")
@click.option("--repeats", type=click.IntRange(1), help="How often rows are dealt out anew; default 1.")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="Folder of the runs; finished ones in it are kept.")
@code_option
@json_option
def cross_validate(
    source: str,
    folds: int | None,
    repeats: int | None,
    target: Sequence[str],
    settings: Sequence[str],
    run_dir: str | None,
    code: Sequence[str],
    as_json: bool,
) -> None:
    """Train and test once per split, and print mean and standard error of each test figure.

    The splits are folds of the rows, or those of data.split.file. Prints the folder as the last line.
    """
    _check_config_first(source, settings, target)
    from netwright.pipeline.verbs import cross_validate as run_splits

    with Screen(quiet=as_json) as screen:
        found = run_splits(
            source,
            folds=folds,
            repeats=repeats,
            run_dir=run_dir,
            code=code,
            settings=settings,
            observers=[screen],
            **_targets(target),
        )
    if found.signal:
        sys.exit(128 + found.signal)
    if as_json:
        figures = {name: vars(figure) for name, figure in found.figures.items()}
        click.echo(json.dumps({"folder": str(found.folder), "runs": [str(run) for run in found.runs], "figures": figures}))
        return
    click.echo(str(found))
    click.echo("The splits share train rows: the standard error is too small as an interval for new data.")
    click.echo(str(found.folder))


def _targets(target: Sequence[str]) -> dict[str, Any]:
    """Return the target columns as a keyword."""
    return {"target": list(target) if len(target) > 1 else target[0]} if target else {}


def _check_config_first(source: str, settings: Sequence[str], target: Sequence[str]) -> None:
    """Read the settings before torch is imported, so that a mistake is answered at once."""
    from netwright.config.read import apply_setting, build_config, read_file

    tree = read_file(Path(source)) if source.endswith(".toml") else {"data": {"source": source}}
    if target:
        apply_setting(tree, f"data.target={json.dumps(list(target))}")
    for setting in settings:
        apply_setting(tree, setting)
    build_config(tree)


def _read_test(folder: Path) -> dict[str, Any] | None:
    path = folder / "test.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@cli.command()
@click.argument("run")
@click.argument("data", required=False)
@code_option
@json_option
def test(run: str, data: str | None, code: Sequence[str], as_json: bool) -> None:
    """Test a run on its test rows, or on a file of labelled rows. Each look is counted."""
    from netwright.pipeline.verbs import load

    found = load(run, code=code).test(data)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_test(found)


@cli.command()
@click.argument("run")
@click.argument("data")
@click.option("-o", "--output", metavar="FILE", help="A .csv or .parquet file; default: CSV on the screen.")
@code_option
@json_option
def predict(run: str, data: str, output: str | None, code: Sequence[str], as_json: bool) -> None:
    """Predict the rows of a file, in their order, in the labels and units of the data."""
    from netwright import files
    from netwright.evaluation.prediction import check_suffix, table_bytes
    from netwright.pipeline.verbs import load

    suffix = check_suffix(output)
    loaded = load(run, code=code)
    columns, remarks, rows = loaded.predict_file(data)
    for remark in remarks:
        click.echo(f"note: {remark}", err=True)
    content = table_bytes(columns, suffix, loaded.config.data.label_separator)
    if output is None and not as_json:
        click.echo(content.decode("utf-8"), nl=False)
        return
    if output is not None:
        files.write_bytes(Path(output), content)
    if as_json:
        values = {name: [_plain(value) for value in column] for name, column in columns.items()} if output is None else {}
        click.echo(json.dumps({"rows": rows, "output": output, **({"predictions": values} if values else {})}))
    else:
        click.echo(output)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float) else str(value)


@cli.command()
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
    resolved = Path(source) / "config.toml"
    source = str(resolved) if resolved.is_file() else source
    _check_config_first(source, settings, target)
    from netwright import files
    from netwright.pipeline.verbs import show as work_out
    from netwright.reporting.diagram import diagram_svg

    summary, shape = work_out(source, code=code, settings=settings, **_targets(target))
    described = summary.to_json()
    if svg is not None:
        files.write_text(Path(svg), diagram_svg(described["layers"], shape, Path(source).stem))
    if as_json:
        click.echo(json.dumps({"input": list(shape), **described}))
        return
    print_layers(described, shape)
    if svg is not None:
        click.echo(svg)


@cli.command()
@click.argument("run")
@json_option
def report(run: str, as_json: bool) -> None:
    """Draw the report of a run anew and print where it is."""
    from netwright import files
    from netwright.reporting.report import render_report

    path = Path(run) / "report.html"
    files.write_text(path, render_report(Path(run)))
    click.echo(json.dumps({"report": str(path)}) if as_json else str(path))


@cli.command()
@click.argument("folder", default="runs")
@json_option
def runs(folder: str, as_json: bool) -> None:
    """List the runs of a folder with their figures, oldest first."""
    from netwright.pipeline.verbs import runs as list_runs

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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of the design: every error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # wherever it stands
    words = [word for word in words if word != "--debug"]
    sys.exit(_guarded(lambda: cli.main(args=words, prog_name="netwright", standalone_mode=False), debug))


def _guarded(action: Callable[[], Any], debug: bool) -> int:
    """Run an action and return the exit code, telling any error in one line."""
    try:
        action()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return 0 if stop.code == READER_LEFT else int(stop.code or 0)
    except click.NoSuchOption as error:
        message = error.format_message().rstrip(".")
        return _fail(f"{message}; settings are changed with --set PATH=VALUE, such as --set training.epochs=3", 2, debug)
    except click.ClickException as error:
        return _fail(error.format_message().rstrip("."), error.exit_code, debug)
    except (click.Abort, KeyboardInterrupt):
        return _fail("stopped by Ctrl-C", INTERRUPTED, debug)
    except NetwrightError as error:
        return _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        return 0
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY):
            return _fail(f"out of memory; set a smaller data.batch_size ({error})", ResourceError.exit_code, debug)
        return _bug(error, debug)
    except Exception as error:  # the last net: a bug of ours is told in one line too
        return _bug(error, debug)
    return 0


def _bug(error: BaseException, debug: bool) -> int:
    return _fail(f"a bug of netwright: {type(error).__name__}: {error}; run again with --debug and report it", BUG, debug)


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"netwright: error: {' '.join(message.split())}", err=True)
    return exit_code
