"""Commands that use a run or an ensemble: test, predict, ensemble, export. Floor 18."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from netwright.cli.group import cli, code_option, json_option, refuse_output
from netwright.errors import ConfigError
from netwright.terminal import print_test

written_option = click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE",
    help="How DATA is written where it is not as the run's own rows are, such as data.decimal=,; repeatable.",
)  # fmt: skip


@cli.command(short_help="Test a run or an ensemble; each look is counted.")
@click.argument("run")
@click.argument("data", required=False)
@written_option
@code_option
@json_option
def test(run: str, data: str | None, settings: Sequence[str], code: Sequence[str], as_json: bool) -> None:
    """Test a run or an ensemble on its test rows, or on a file of labelled rows. Each look is counted.

    Of an ensemble of seeds the figures stand beside those of its members, on the test rows that they share.
    """
    if settings and data is None:
        raise ConfigError(
            f"{settings[0]}: it says how another file is written, and none came; give that file, or leave it out"
        )
    from netwright.pipeline.ahead import imported_for_run

    with imported_for_run(Path(run)) if data is None else nullcontext():
        from netwright.verbs import load

        found = load(run, code=code, settings=settings).test(data)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_test(found)


@cli.command(short_help="Predict the rows of a file, in its labels and units.")
@click.argument("run")
@click.argument("data")
@click.option("-o", "--output", metavar="FILE", help="A .csv or .parquet file; default: CSV on the screen.")
@click.option(
    "--threshold", type=float, metavar="P", help="Of two classes: from which probability on the second is predicted."
)
@click.option(
    "--interval", is_flag=True, help="Of numbers: add columns low and high, which hold evaluation.coverage of new values."
)
@click.option("--disagreement", is_flag=True, help="Of an ensemble: add how far its members are apart for each row.")
@click.option("--trust", is_flag=True, help="Read a .pt2 file, which can run code that is hidden in it.")
@written_option
@code_option
@json_option
def predict(
    run: str,
    data: str,
    output: str | None,
    settings: Sequence[str],
    code: Sequence[str],
    as_json: bool,
    trust: bool,
    **how: Any,
) -> None:
    """Predict the rows of a file, in their order, in the labels and units of the data.

    RUN is a run, an ensemble (a folder of seeds, of cv or of ensemble), a bundle, or a .pt2 or .onnx file of netwright export;
    an .onnx file needs no torch.
    """
    from netwright import files
    from netwright.evaluation.prediction import check_suffix, table_bytes
    from netwright.studies.exported import load_any

    suffix = check_suffix(output)
    refuse_output(output, (".csv", ".parquet"), (data, run))
    loaded = load_any(run, code=code, trust=trust, settings=settings)
    columns, remarks, rows = loaded.predict_file(data, **how)
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


@cli.command(short_help="Let several runs predict as one.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", required=True, help="A new folder; it names the runs, which stay.")
@code_option
@json_option
def ensemble(runs: Sequence[str], output: str, code: Sequence[str], as_json: bool) -> None:
    """Make an ensemble of runs that predict the same from the same columns, and print its folder.

    It predicts, tests, exports and serves as the mean of its runs. A folder of seeds or folds is an ensemble as it is, and
    stands here for its runs.
    """
    from netwright.verbs import ensemble as unite

    found = unite(runs, output, code=code)
    told = {"folder": output, "members": [str(member.folder) for member in found.members]}
    click.echo(json.dumps(told) if as_json else output)


@cli.command(short_help="Write a run as files that predict without it.")
@click.argument("run")
@click.option(
    "--format", type=click.Choice(["bundle", "torch", "onnx"]), default="bundle", show_default=True,
    help="safetensors and JSON, a program of torch.export (.pt2), or ONNX.",
)  # fmt: skip
@click.option("-o", "--output", metavar="PATH", help="A new folder, or a .pt2 or .onnx file; default: in the run folder.")
@code_option
@json_option
def export(run: str, format: str, output: str | None, code: Sequence[str], as_json: bool) -> None:
    """Write a run or an ensemble as files that predict without it: raw columns in, your labels or units out, a model card."""
    from netwright.verbs import export as write

    found = write(run, format, output, code=code)
    click.echo(json.dumps({"format": format, "output": str(found)}) if as_json else str(found))


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float) else str(value)
