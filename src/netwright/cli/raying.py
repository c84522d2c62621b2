"""The command ray: a training in processes that Ray places. Floor 18."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from netwright import files
from netwright.cli.group import (
    check_config_first,
    cli,
    code_option,
    json_option,
    peer_option,
    read_test,
    set_option,
    targets,
)
from netwright.distributed import ending
from netwright.distributed.identity import Launch
from netwright.distributed.ray import Placement, fit, refuse_without_ray
from netwright.errors import ConfigError, NetwrightError
from netwright.files.naming import folder_for, name_of
from netwright.terminal import Screen, print_test


@cli.command("ray", short_help="Train in processes that Ray places and starts again.")
@click.argument("source", metavar="CONFIG|DATA|RUN")
@click.option("--workers", type=click.IntRange(1), required=True, metavar="N", help="Processes.")
@click.option("--gpus", is_flag=True, help="One GPU for each.")
@click.option("--restarts", type=click.IntRange(0), default=3, show_default=True, help="How often all start anew.")
@click.option("--address", help="Of a Ray cluster; default the one of this machine, or a new one.")
@click.option("--target", multiple=True, metavar="COLUMN", help="Column to predict; repeatable.")
@set_option
@click.option("--run-dir", metavar="DIR", help="The run folder; default runs/<name>-<time>-<4 hex>.")
@code_option
@click.option("--no-test", is_flag=True, help="Leave the test set for later.")
@peer_option
@json_option
def train_by_ray(source: str, code: tuple[str, ...], no_test: bool, as_json: bool, **asked: Any) -> None:
    """Train through Ray Train (the extra ray): the same training as by torchrun, in processes that Ray places.

    A process that dies makes Ray start all of them again; the run goes on from its last checkpoint. A RUN that is there goes on.
    """
    refuse_without_ray()
    begun = (Path(source) / "run.json").is_file()
    if begun and (asked["run_dir"] is not None or no_test or asked["target"]):
        raise ConfigError(f"{source}: a run that goes on; expected no --run-dir, --target or --no-test; leave them out")
    run = Path(source).absolute()
    if not begun:
        check_config_first(source, asked["settings"], asked["target"])
        run = folder_for(asked["run_dir"], name_of(source)).absolute()
        files.refuse_existing(run)
    wanted = {
        "source": str(Path(source).absolute()) if Path(source).exists() else source,
        "run": str(run),
        "settings": list(asked["settings"]),
        "code": [str(Path(file).absolute()) for file in code],
        "launch": uuid.uuid4().hex,
        "test": not no_test,
        "quiet": as_json,
        **targets(asked["target"]),
    }
    placement = Placement(asked["workers"], asked["gpus"], asked["restarts"], asked["peer_timeout"], asked["address"])
    _print_end(fit(train_in_worker, wanted, placement, run), run, as_json)


def _print_end(told: Mapping[str, Any], run: Path, as_json: bool) -> None:
    """Print what became of the training, the run folder last.

    Raises:
        NetwrightError: What its processes raised.
    """
    if "error" in told:
        error = NetwrightError(str(told["error"]))
        error.exit_code = int(told["code"])
        raise error
    found, test = ending.after(run, warned=False, restarts=0, most=0), read_test(run)
    if as_json:
        click.echo(json.dumps({"run": str(run), "status": found.word, "test": test}))
    else:
        if test:
            print_test(test)
        click.echo(str(run))
    if found.code:
        click.echo(f"netwright: {found.why}", err=True)
        sys.exit(found.code)


def _launch(folder: Path, name: str) -> Launch:
    """Return the launch of processes of Ray, which does not say how often it has started them; the run they began does."""
    from netwright.runfolder.folder import read_record

    told = read_record(folder).get("launch") if (folder / "run.json").is_file() else None
    first = Launch(name)
    return replace(first, restarts=int(told["restarts"]) + 1) if told and first.same(told) else first


def train_in_worker(wanted: dict[str, Any]) -> dict[str, Any]:
    """Be one of the processes: train, or go on where they were started again.

    Args:
        wanted: Plain values, as the command made them.

    Returns:
        That it ended.
    """
    from netwright.distributed.joining import join
    from netwright.studies.continuing import resume
    from netwright.verbs import train

    folder, settings, code = Path(wanted["run"]), wanted["settings"], wanted["code"]
    target = {"target": wanted["target"]} if "target" in wanted else {}
    with join() as found, Screen(quiet=wanted["quiet"] or not found.leads) as screen:
        world = replace(found, launch=_launch(folder, wanted["launch"]))
        if world.told((folder / "run.json").is_file()):
            resume(folder, code=code, observers=[screen], world=world)
        else:
            train(
                wanted["source"],
                run_dir=folder,
                code=code,
                settings=settings,
                observers=[screen],
                test=wanted["test"],
                world=world,
                **target,
            )
    return {"ended": True}
