"""The command tune: settings searched by the validation rows; and its workers, which no person starts. Floor 18."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from netwright import files
from netwright.cli.group import check_config_first, cli, code_option, json_option, read_test, set_option, targets
from netwright.cli.trials import TrialScreen
from netwright.distributed.joining import refuse_several
from netwright.errors import ConfigError
from netwright.terminal import print_test


@cli.command(short_help="Search for good settings, then test the best once.")
@click.argument("source", metavar="[CONFIG|DATA]", required=False)
@click.option("--resume", metavar="DIR", help="Go on with the search in this folder, or add processes to it.")
@click.option("--trials", type=click.IntRange(1), help="Finished or pruned trials; default tune.trials, or 20.")
@click.option("--processes", type=click.IntRange(1), help="Worker processes on this machine; default tune.processes, or 1.")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="The folder of the search; default runs/<name>-tune-<time>-<4 hex>.")
@code_option
@json_option
def tune(
    source: str | None,
    resume: str | None,
    trials: int | None,
    processes: int | None,
    target: Sequence[str],
    settings: Sequence[str],
    run_dir: str | None,
    code: Sequence[str],
    as_json: bool,
) -> None:
    """Search for good settings by the validation rows, then train the best and test it once.

    The section [tune] of a config says what is tried: trials, space, sampler, pruner, metric. Killed or stopped, a search
    goes on with --resume DIR. Prints the folder as the last line.
    """
    refuse_several("tune")
    told = {"tune.trials": trials, "tune.processes": processes}
    settings = [*settings, *(f"{path}={value}" for path, value in told.items() if value is not None)]
    if resume is None and source is None:
        raise ConfigError(
            "tune: nothing came; expected a config or a data file, or --resume DIR; write netwright tune CONFIG"
        )
    if resume is not None and (source is not None or run_dir is not None or target):
        what = source or run_dir or "--target"
        raise ConfigError(f"tune: {what} came with --resume {resume}; expected the folder of the search alone; leave it out")
    if resume is None and source is not None:
        check_config_first(source, settings, target)
        if run_dir is not None and Path(run_dir).name.strip("."):
            files.refuse_existing(Path(run_dir))
    from netwright.tuning.searching import tune as search

    with TrialScreen(quiet=as_json) as screen:
        found = search(
            source, resume=resume, run_dir=run_dir, code=code, settings=settings, observers=[screen], **targets(target)
        )
    if as_json:
        click.echo(json.dumps({**found.to_json(), "signal": found.signal}))
    else:
        click.echo(str(found))
        test = read_test(found.run)
        if test and found.signal is None:
            print_test(test)
            click.echo(f"report: {found.folder / 'report.html'}")
        if found.signal is not None or found.finished < found.wanted:
            click.echo(f"to go on: netwright tune --resume {found.folder}")
        click.echo(str(found.folder))
    if found.signal:
        sys.exit(128 + found.signal)


@cli.command("tune-worker", hidden=True)
@click.argument("folder")
@code_option
def tune_worker(folder: str, code: Sequence[str]) -> None:
    """Train trials of a search until all have ended; started by tune, ends with it. Tells each record as a line of JSON."""
    from netwright.tuning.searching import work_for
    from netwright.tuning.telling import to_json

    signal = work_for(folder, code, lambda record: click.echo(json.dumps(to_json(record))))
    if signal:
        sys.exit(128 + signal)
