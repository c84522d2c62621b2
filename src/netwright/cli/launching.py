"""Commands for several processes: --procs, and the commands slurm and ray. Floor 18."""

from __future__ import annotations

import errno
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from netwright import files
from netwright.cli.group import check_config_first, cli, code_option, json_option, set_option
from netwright.distributed import ending, joining, launch, slurm
from netwright.errors import ConfigError, NetwrightError, no_run
from netwright.files.naming import folder_for, name_of


def several_processes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --procs, with which torchrun runs it in several processes of this machine."""

    @click.option("--procs", type=int, metavar="N", help="Processes on this machine, started by torchrun.")
    @click.option("--restarts", type=int, default=0, metavar="K", help="With --procs: start all anew when one dies.")
    @click.option("--launcher", type=click.Choice(["slurm"]), help="Be a task of srun: one of several processes.")
    @functools.wraps(command)
    def launched(procs: int | None, restarts: int, launcher: str | None, **values: Any) -> None:
        if launcher is not None:
            if procs is not None:
                raise ConfigError(
                    f"--launcher {launcher}: it came with --procs {procs}; expected one of them; leave one out"
                )
            joining.adopt_slurm()
        if procs is None and restarts:
            raise ConfigError(f"--restarts {restarts}: it came without --procs; expected both; write --procs 2, say")
        if procs is None or procs == 1:
            command(**values)
            return
        if values.get("seeds") is not None:
            raise ConfigError(f"--procs {procs}: it came with --seeds; expected one run; leave one of them out")
        told = launch.torchrun_words([], procs, restarts)
        if "run" in values and not (Path(values["run"]) / "run.json").is_file():
            raise no_run(Path(values["run"]), os.strerror(errno.ENOENT))
        if "source" in values:
            check_config_first(values["source"], values["settings"], values["target"])
            folder = folder_for(values["run_dir"], name_of(values["source"]))
            files.refuse_existing(folder)
            values["run_dir"] = str(folder)
        told += words_of(click.get_current_context(), values)
        click.echo(shlex.join(launch.command_of(told)), err=bool(values["as_json"]))
        sys.exit(launch.launch(told))

    return launched


def words_of(ctx: click.Context, values: Mapping[str, Any]) -> list[str]:
    """Return the words that give a command these values; what is as if left out is left out."""
    words = [str(ctx.info_name)]
    options: list[str] = []
    for parameter in ctx.command.params:
        value = values.get(parameter.name or "")
        if value in (None, False, ()) or value == parameter.get_default(ctx):
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif value is True:
            options.append(parameter.opts[0])
        else:
            several = value if isinstance(value, tuple | list) else (value,)
            options += [f"{parameter.opts[0]}={one}" for one in several]
    return words + options


@cli.command("slurm", short_help="Send a training or a search to SLURM.")
@click.argument("source", metavar="CONFIG|RUN")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option("--gpus-per-node", "gpus", type=click.IntRange(0), default=0, show_default=True, help="One process for each.")
@click.option("--procs-per-node", "procs", type=click.IntRange(1), help="Processes without GPUs; default 1.")
@click.option("--cpus-per-task", "cores", type=click.IntRange(1), help="Cores of a node, or of a task of a search.")
@click.option("--time", metavar="TIME", help="The limit, such as 12:00:00 or 2-00:00:00; default that of the site file.")
@click.option("--tasks", type=click.IntRange(1), help="Search (tune): an array of that many tasks on one search.")
@click.option("--site", metavar="FILE", help="What the cluster wants: account, partition, modules; docs/clusters.md.")
@set_option
@click.option("--run-dir", metavar="DIR", help="The run folder; default runs/<name>-<time>-<4 hex>.")
@code_option
@click.option("--no-test", is_flag=True, help="Leave the test set for later.")
@click.option("--print", "show", is_flag=True, help="Print the job; write and submit nothing.")
@json_option
def send_to_slurm(source: str, site: str | None, show: bool, as_json: bool, **asked: Any) -> None:
    """Render one readable job for sbatch, and submit it. Before its time ends the run saves, goes back to the queue and goes on.

    The job is kept beside the run folder, with its log. A RUN that is there goes on.
    """
    from netwright.config.site import read_site

    known = read_site(None if site is None else Path(site))
    wanted = _wanted(asked)
    work = _work(source, asked)
    job = slurm.render(wanted, work, known)
    if show:
        click.echo(json.dumps({"run": str(work.run), "job": job}) if as_json else job, nl=as_json)
        return
    if work.script.exists():
        raise ConfigError(f"{work.script}: there is such a job; expected a new one; send it again with sbatch {work.script}")
    slurm.refuse_without_sbatch()
    files.make_folder(work.script.parent)
    files.write_text(work.script, job)
    try:
        number = slurm.submit(work.script)
    except ConfigError:
        files.remove_all(work.script)
        raise
    if as_json:
        click.echo(json.dumps({"run": str(work.run), "script": str(work.script), "job": number}))
        return
    click.echo(f"job {number}: {shlex.join(['sbatch', '--parsable', str(work.script)])}")
    click.echo(f"log: {work.script.with_suffix('')}{'' if wanted.tasks is None else '-<task>'}.log")
    click.echo(str(work.run))


def _wanted(asked: Mapping[str, Any]) -> slurm.Wanted:
    """Return what the job shall be.

    Raises:
        ConfigError: Options that do not go together.
    """
    gpus, procs, tasks = asked["gpus"], asked["procs"], asked["tasks"]
    if gpus and procs is not None and procs != gpus:
        raise ConfigError(
            f"--procs-per-node {procs}: it came with --gpus-per-node {gpus}; expected a process for each GPU; leave it out"
        )
    if tasks is not None and (asked["nodes"] > 1 or procs is not None):
        raise ConfigError(
            f"--tasks {tasks}: it came with --nodes or --procs-per-node; expected tasks of one process each; leave them out"
        )
    return slurm.Wanted(asked["nodes"], gpus, gpus or procs or 1, asked["cores"], asked["time"], tasks)


def _work(source: str, asked: Mapping[str, Any]) -> slurm.Work:
    """Return what netwright does in the job.

    Raises:
        ConfigError: Settings that cannot be used, or a run that takes no such option.
    """
    searching = asked["tasks"] is not None
    changes = [f"--set={setting}" for setting in asked["settings"]]
    code = [f"--code={Path(file).absolute()}" for file in asked["code"]]
    exists = (Path(source) / ("tune.json" if searching else "run.json")).is_file()
    if exists:
        if asked["run_dir"] is not None or asked["no_test"] or (searching and asked["settings"]):
            raise ConfigError(
                f"{source}: a run that goes on; expected no --run-dir, --no-test or settings of a search; leave them out"
            )
        run = Path(source).absolute()
    else:
        config = check_config_first(source, asked["settings"], ())
        run = folder_for(asked["run_dir"], name_of(source) + ("-tune" if searching else "")).absolute()
        files.refuse_existing(run)
        if searching:
            changes += _shared_by_tasks(config)
    go_on = ("tune", f"--resume={run}", *code) if searching else ("resume", str(run), *code)
    begin: Sequence[str] = (*go_on, *changes)
    if not exists:
        named = str(Path(source).absolute()) if Path(source).exists() else source
        ends = ["--no-test"] if asked["no_test"] and not searching else []
        begin = ("tune" if searching else "train", named, f"--run-dir={run}", *changes, *code, *ends)
    return slurm.Work(
        shlex.join(["netwright", *sys.argv[1:]]), run, run.parent / f"{run.name}.sbatch", tuple(begin), tuple(go_on)
    )


def _shared_by_tasks(config: Any) -> list[str]:
    """Return what several tasks need for one search: records in a file that several machines can share.

    Raises:
        ConfigError: There is nothing to search, which each of them would find out for itself.
    """
    from netwright.tuning.space import refuse_space

    refuse_space({} if config.tune is None else config.tune.parameters())
    return ["--set=tune.study=journal"] if config.tune.study == "sqlite" else []


@cli.command("slurm-end", hidden=True)
@click.argument("run")
@click.option("--warned", type=click.Choice(["yes", "no"]), required=True)
@click.option("--restarts", type=click.IntRange(0), required=True)
@click.option("--most", type=click.IntRange(0), required=True)
@click.option("--since", type=float, default=0.0)
@click.option("--ended", type=click.IntRange(0), default=0)
def slurm_end(run: str, warned: str, restarts: int, most: int, since: float, ended: int) -> None:
    """Say what a job of SLURM does now that its processes are gone: done, requeue, stopped or failed; used by its script."""
    found = ending.after(Path(run), warned == "yes", restarts, most, since, ended)
    click.echo(found.word)
    if found.word == "failed" and (Path(run) / "tune.json").is_file():  # one that was stopped has told it
        click.echo(f"netwright: {run}: {_so_far(run)}", err=True)
    click.echo(f"netwright: {found.why}", err=True)
    if found.code:
        sys.exit(found.code)


def _so_far(folder: str) -> str:
    """Return how many trials of a search have ended, in a line, or why nobody can tell."""
    from netwright.tuning.searching import standing

    try:
        return str(standing(folder)).splitlines()[0]
    except NetwrightError as error:
        return str(error)
