"""Commands that train: train, resume, cv. Floor 18."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netwright import files
from netwright.cli.group import (
    check_config_first,
    cli,
    code_option,
    json_option,
    memory_option,
    peer_option,
    population_option,
    read_test,
    set_option,
    targets,
    track_option,
)
from netwright.cli.launching import several_processes
from netwright.cli.processes import processes
from netwright.distributed.joining import refuse_several
from netwright.errors import ConfigError, no_run
from netwright.numerals import counted
from netwright.terminal import Screen, print_test

if TYPE_CHECKING:
    from netwright.distributed.world import World
    from netwright.lifecycle.run import Run
    from netwright.studies.repeating import Repetition
    from netwright.tracking.records import Tracker


@cli.command(short_help="Train a network on a data file, or by a config.")
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="The run folder; default runs/<name>-<time>-<4 hex>.")
@code_option
@click.option("--seeds", type=int, metavar="N", help="Train N times, seeds counting up from training.seed, on one split.")
@population_option
@click.option("--no-test", is_flag=True, help="Leave the test set for later.")
@click.option("--strict", is_flag=True, help="Findings exit 2 (network) or 3 (data); nothing is written.")
@track_option
@memory_option
@peer_option
@json_option
@several_processes
def train(
    source: str,
    target: Sequence[str],
    settings: Sequence[str],
    run_dir: str | None,
    code: Sequence[str],
    seeds: int | None,
    population: bool,
    no_test: bool,
    strict: bool,
    track: Sequence[str],
    auto_micro_batch: bool,
    peer_timeout: float,
    as_json: bool,
) -> None:
    """Train a network on a data file, or as a config describes.

    Prints the run folder as the last line. With --seeds it holds a run per seed; the same command with its --run-dir keeps
    those that are done.
    """
    wanted: dict[str, Any] = {
        "run_dir": run_dir,
        "code": code,
        "settings": settings,
        "test": not no_test,
        "strict": strict,
        "auto_micro_batch": auto_micro_batch,
        **targets(target),
    }
    if seeds is not None and seeds < 2:
        raise ConfigError(f"--seeds {seeds}: expected 2 or more to see the noise between them; leave it out for one run")
    if seeds is None and population:
        raise ConfigError("--population speaks of several runs; expected --seeds N with it; leave it out")
    with processes(peer_timeout) as world:
        config = check_config_first(source, settings, target)
        trackers = _trackers(track)
        from netwright.pipeline.ahead import imported_ahead

        if seeds is not None:
            with imported_ahead(config, not no_test):
                _repeat(source, seeds, trackers, {**wanted, "population": population}, as_json, world)
            return
        named = run_dir is not None and Path(run_dir).name.strip(".")  # of another name `train` says what is wrong
        if world is None and run_dir is not None and named:
            files.refuse_existing(Path(run_dir))
        with imported_ahead(config, not no_test, world is None), Screen(quiet=as_json) as screen:
            from netwright.verbs import train as run_training

            run = run_training(source, observers=[screen, *trackers], world=world, **wanted)
    _print_end(run, as_json, world)


def _repeat(
    source: str, seeds: int, trackers: list[Tracker], wanted: dict[str, Any], as_json: bool, world: World | None
) -> None:
    """Train once per seed, and print the figures."""
    if world is not None and not world.alone:
        raise ConfigError(f"--seeds {seeds}: {world.size} processes came; expected one; start each seed as a run of its own")
    from netwright.verbs import repeat

    with Screen(quiet=as_json) as screen:
        repetition = repeat(source, seeds=seeds, observers=[screen, *trackers], **wanted)
    _print_seeds(repetition, as_json)


def _trackers(names: Sequence[str]) -> list[Tracker]:
    """Return the trackers of some names; torch is not imported yet."""
    from netwright.tracking.choosing import make_trackers

    return make_trackers(names)


def _print_seeds(found: Repetition, as_json: bool) -> None:
    """Print the figures over the seeds, the folder last, and exit as a signal asks."""
    if as_json:
        click.echo(json.dumps({"folder": str(found.folder), **found.to_json(), "signal": found.signal}))
    else:
        click.echo(str(found))
        if not found.signal:
            click.echo(f"their mean predicts as one run: netwright test {found.folder} tells what it gains")
        click.echo(str(found.folder))
    if found.signal:
        sys.exit(128 + found.signal)


@cli.command(short_help="Go on with a run as if it had never stopped.")
@click.argument("run")
@set_option
@code_option
@click.option("--require-exact", is_flag=True, help="A result that is not exact, bit for bit, is an error (exit 4).")
@track_option
@memory_option
@peer_option
@json_option
@several_processes
def resume(
    run: str,
    settings: Sequence[str],
    code: Sequence[str],
    require_exact: bool,
    track: Sequence[str],
    auto_micro_batch: bool,
    peer_timeout: float,
    as_json: bool,
) -> None:
    """Go on with a run from its newest checkpoint, as if it had never stopped.

    Epochs, early stopping, learning rate, checkpoints and workers may be changed with --set. A finished run is left as
    it is. Prints the run folder as the last line.
    """
    with processes(peer_timeout) as world:
        if not (Path(run) / "run.json").is_file():
            raise no_run(Path(run), os.strerror(errno.ENOENT))
        trackers = _trackers(track)
        from netwright.pipeline.ahead import imported_for_run

        with imported_for_run(Path(run)) if world is None else nullcontext(), Screen(quiet=as_json) as screen:
            from netwright.studies.continuing import resume as go_on

            found = go_on(
                run,
                code=code,
                settings=settings,
                observers=[screen, *trackers],
                require_exact=require_exact,
                auto_micro_batch=auto_micro_batch,
                world=world,
            )
    _print_end(found, as_json, world)


def _print_end(run: Run, as_json: bool, world: World | None) -> None:
    """Print how a training ended, the run folder last, and exit as its signal asks; one of several processes prints."""
    test = read_test(run.folder)
    if world is not None and not world.leads:
        pass
    elif as_json:
        keys = ("status", "epochs", "steps", "best", "why")
        click.echo(json.dumps({"run": str(run.folder), **{key: run.record.get(key) for key in keys}, "test": test}))
    else:
        if test:
            print_test(test)
        click.echo(f"report: {run.folder / 'report.html'}")
        click.echo(str(run.folder))
    if run.record.get("signal"):
        sys.exit(128 + int(run.record["signal"]))


@cli.command("cv", short_help="Train and test once per split; predict out of fold.")
@click.argument("source", metavar="CONFIG|DATA")
@click.option("--folds", type=click.IntRange(2), help="Parts, each tested once; default those of the config, or 5.")
@click.option("--repeats", type=click.IntRange(1), help="How often rows are dealt out anew; default 1.")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="Folder of the runs; finished ones in it are kept.")
@population_option
@code_option
@track_option
@json_option
def cross_validate(
    source: str,
    folds: int | None,
    repeats: int | None,
    target: Sequence[str],
    settings: Sequence[str],
    run_dir: str | None,
    population: bool,
    code: Sequence[str],
    track: Sequence[str],
    as_json: bool,
) -> None:
    """Train and test once per split: figures, predictions out of fold, and an ensemble of the runs.

    The splits are folds of the rows, or those of data.split.file. The folder, printed as the last line, holds out_of_fold.csv (a
    row for each row of the data) and a report, and predicts, tests, exports and serves as the mean of its runs.
    """
    refuse_several("cv")
    check_config_first(source, settings, target)
    trackers = _trackers(track)
    from netwright.studies.crossing import SHARED
    from netwright.verbs import cross_validate as run_splits

    with Screen(quiet=as_json) as screen:
        found = run_splits(
            source,
            folds=folds,
            repeats=repeats,
            run_dir=run_dir,
            code=code,
            settings=settings,
            population=population,
            observers=[screen, *trackers],
            **targets(target),
        )
    if found.signal:
        if not as_json:
            begun = counted(len(found.runs), "split")
            click.echo(f"{begun} begun, not all of them done; to go on: the same command with --run-dir {found.folder}")
        sys.exit(128 + found.signal)
    if as_json:
        click.echo(json.dumps({"folder": str(found.folder), **found.to_json(), "runs": [str(run) for run in found.runs]}))
        return
    click.echo(str(found))
    click.echo(f"report: {found.folder / 'report.html'}")
    click.echo(SHARED)
    click.echo(str(found.folder))
