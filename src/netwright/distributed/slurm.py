"""SLURM: one readable job file rendered and submitted; the place of a task of srun. Floor 5.

Programs are called with lists of arguments, never by a shell; what goes into a job is matched or quoted. Options: the manual of
sbatch (https://slurm.schedmd.com/sbatch.html); rendezvous: torchrun's (https://docs.pytorch.org/docs/stable/elastic/run.html).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netwright.errors import ConfigError

if TYPE_CHECKING:
    from netwright.config.site import Site

TIME = re.compile(r"([0-9]{1,3}-)?[0-9]{1,5}(:[0-9]{1,2}){0,2}")
SUBMITTED = re.compile(r"([0-9]{1,18})(;[A-Za-z0-9_.-]+)?")
PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")  # what a name of a job does not need
UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines and paragraphs
SPARE = 30  # seconds between the last moment in which ranks may still save and the end of the job's time


@dataclass(frozen=True)
class Wanted:
    """What a job is asked to be.

    ``processes`` are those of a node: one for each GPU, or as many as asked for without any. ``tasks`` is the number of tasks
    of an array that searches, None for a training. Times are texts of SLURM such as ``12:00:00``.
    """

    nodes: int = 1
    gpus: int = 0
    processes: int = 1
    cores: int | None = None
    time: str | None = None
    tasks: int | None = None


@dataclass(frozen=True)
class Work:
    """What netwright does in a job: its words at the first start, those after it, and the folder it fills.

    ``command`` is what the person typed; ``run`` and ``script`` are absolute.
    """

    command: str
    run: Path
    script: Path
    begin: tuple[str, ...]
    go_on: tuple[str, ...]


def render(wanted: Wanted, work: Work, site: Site) -> str:
    """Return the job as bash with its #SBATCH lines.

    Args:
        wanted: Nodes, processes, time.
        work: What is trained.
        site: What the cluster wants.

    Raises:
        ConfigError: A time that is none of SLURM's, or a path that no job file can hold.
    """
    _refuse_unwritable(work)
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("netwright.distributed", ".")
    page = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.keep_trailing_newline = True
    page.filters |= {"quoted": lambda text: shlex.quote(str(text)), "words": shlex.join}
    template = page.get_template("train.sbatch" if wanted.tasks is None else "tune.sbatch")
    return template.render(
        command=" ".join(work.command.split()),
        run=work.run,
        begin=work.begin,
        go_on=work.go_on,
        options=_options(wanted, work, site),
        processes=wanted.processes,
        tasks=wanted.tasks,
        python=(*site.container, site.python or sys.executable),
        site=site,
        warning=site.warning,
        patience=max(site.warning - SPARE, SPARE),
        restarts=site.restarts,
        requeues=site.requeues,
    )


def _options(wanted: Wanted, work: Work, site: Site) -> list[str]:
    """Return the options of sbatch, those that a person looks for first in front."""
    time = wanted.time or site.time
    if time is not None and not TIME.fullmatch(time):
        raise ConfigError(
            f"--time {time}: no time of SLURM; expected minutes or [days-]hours:minutes:seconds; write 12:00:00"
        )
    told: dict[str, Any] = {
        "job-name": PLAIN.sub("-", work.run.name) or "netwright",
        "account": site.account,
        "partition": site.partition,
        "qos": site.qos,
    }
    told |= {"constraint": site.constraint, "time": time}
    if wanted.tasks is None:
        told["nodes"] = wanted.nodes
    else:
        told["array"] = f"0-{wanted.tasks - 1}"
    if wanted.gpus:
        told |= {site.gpus: wanted.gpus if site.gpus == "gpus-per-node" else f"gpu:{wanted.gpus}"}
    told |= {"cpus-per-task": wanted.cores, **site.sbatch}
    log = str(work.script.with_suffix("")).replace("%", "%%")  # a % alone begins a name that sbatch fills in
    log += ".log" if wanted.tasks is None else "-%a.log"
    return [*(f"--{name}={value}" for name, value in told.items() if value is not None), f"--output={shlex.quote(log)}"]


def _refuse_unwritable(work: Work) -> None:
    """Refuse paths with characters that would end a line of the job, or that sbatch reads in its own way.

    Raises:
        ConfigError: The path is told.
    """
    paths = [
        str(work.run),
        str(work.script),
        *(word for word in (*work.begin, *work.go_on) if not word.startswith("--set=")),
    ]
    for path in paths:
        if any(unicodedata.category(letter) in UNWRITABLE for letter in path):
            raise ConfigError(
                f"slurm: {path!r} came; expected a path without line ends or other control characters; rename it"
            )
    if "\\" in str(work.script):
        raise ConfigError(
            f"slurm: {str(work.run)!r} came; expected a run folder without a backslash, which sbatch reads; rename it"
        )


def refuse_without_sbatch() -> None:
    """Refuse to submit where there is no SLURM.

    Raises:
        ConfigError: No sbatch on the PATH.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("sbatch: not found on this machine; expected that of SLURM; see the job with --print")


def submit(script: Path) -> str:
    """Hand a job to SLURM, and return its number.

    Args:
        script: What `render` gave, as a file.

    Raises:
        ConfigError: sbatch refused, in its words.
    """
    found = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    number = SUBMITTED.fullmatch(found.stdout.strip())
    if found.returncode or number is None:
        said = " ".join((found.stderr or found.stdout).split()) or f"exit code {found.returncode}"
        raise ConfigError(
            f"sbatch: refused ({said}); expected a job that it takes; change options or site file, --print shows it"
        )
    return number[1]


def first_host(nodes: str) -> str:
    """Return the first of a list of hosts as SLURM writes it.

    Args:
        nodes: Such as ``gpu[003-010,12],login1``.

    Raises:
        ConfigError: It is no list of hosts.

    Example:
        >>> first_host("gpu[003-010,12],login1"), first_host("node7,node9")
        ('gpu003', 'node7')
    """
    found = re.fullmatch(
        r"([A-Za-z0-9][A-Za-z0-9.-]*)(?:\[([0-9]+)[0-9,-]*\]([A-Za-z0-9.-]*))?(?:,[A-Za-z0-9.,\[\]-]*)?", nodes
    )
    if found is None:
        raise ConfigError(
            f"SLURM_JOB_NODELIST: {nodes} came; expected hosts such as node[1-4]; start with srun, or torchrun"
        )
    return f"{found[1]}{found[2] or ''}{found[3] or ''}"


def place(told: Mapping[str, str]) -> dict[str, str]:
    """Return what torchrun would have told this process, from the variables that srun sets for each of its tasks.

    Args:
        told: The variables of the environment.

    Returns:
        RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT; the port follows from the job's number.

    Raises:
        ConfigError: No task of srun, or a variable that holds something else than it should.

    Example:
        >>> task = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77"}
        >>> place(task | {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"})["MASTER_ADDR"]
        'node1'
    """
    numbers = {}
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID"):
        if not re.fullmatch(r"[0-9]{1,18}", told.get(name, "")):
            raise ConfigError(
                f"--launcher slurm: {name} is {told.get(name, 'not set')!r}; expected a task of srun; write srun netwright train"
            )
        numbers[name] = int(told[name])
    rank, size = numbers["SLURM_PROCID"], numbers["SLURM_NTASKS"]
    nodes = told.get("SLURM_STEP_NODELIST") or told.get("SLURM_JOB_NODELIST", "")
    here = re.match(r"[0-9]+", told.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(numbers["SLURM_LOCALID"]),
        "LOCAL_WORLD_SIZE": here[0] if here else "1",
        "MASTER_ADDR": first_host(nodes),
        "MASTER_PORT": str(20000 + numbers["SLURM_JOB_ID"] % 20000),
    }
