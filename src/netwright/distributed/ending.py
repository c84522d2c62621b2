"""What became of a training whose processes are gone, by what its record says: exit codes of launchers are not asked. Floor 5."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from netwright import files
from netwright.errors import ConfigError, NetwrightError

CODES = {kind.__name__: kind.exit_code for kind in NetwrightError.__subclasses__()}
ENDS = ("stopped", "failed", "diverged")
SIGNALLED = 128  # and the number of the signal: the exit code of a process that one ended
KILLED = 6  # the run neither ended nor was it warned: memory, a node, or somebody killed it


@dataclass(frozen=True)
class Next:
    """What a job does after its processes are gone: ``word`` is done, requeue, stopped or failed; ``why`` is for people."""

    word: str
    code: int
    why: str


def after(run: Path, warned: bool, restarts: int, most: int, since: float = 0.0, ended: int = 0) -> Next:
    """Return what a job does now that its processes are gone; exit codes of launchers are not asked.

    Args:
        run: A run folder, or the folder of a search.
        warned: Whether SLURM said that the time of the job ends.
        restarts: How often the job was sent back to the queue.
        most: How often it may be.
        since: When the processes were started, in seconds since 1970; a record that says an earlier end was not touched by them.
        ended: The exit code of a task of a search, as bash tells it: netwright's own, or 128 and the number of a signal.

    Example:
        >>> after(Path("no-such-run"), warned=True, restarts=0, most=20).word
        'requeue'
    """
    if ended or (run / "tune.json").is_file():
        return _after_a_task(run, warned, restarts, most, ended)
    record = _record(run / "run.json")
    status, why = str(record.get("status")), str(record.get("why") or "")
    if status == "done":
        return Next("done", 0, f"{run}: done")
    if status in ENDS and not warned and _when(record) < since:
        return Next("failed", ConfigError.exit_code, f"{run}: it did not go on; the reason stands above")
    if status in ("failed", "diverged"):
        return Next("failed", CODES.get(why.partition(":")[0], 70 if status == "failed" else 5), f"{run}: {status}, {why}")
    if status == "stopped" and not warned and not record.get("signal"):
        return Next("done", 0, f"{run}: stopped, {why}")
    if warned:
        kept = "its state is kept" if status == "stopped" else "from its last checkpoint" if record else "nothing was begun"
        return _out_of_time(run, kept, restarts, most)
    if status == "stopped":
        return Next("stopped", SIGNALLED + int(record["signal"]), f"{run}: stopped by a signal; {_again(run)}")
    if not record:
        return Next("failed", ConfigError.exit_code, f"{run}: no run began; the reason stands above")
    return Next("failed", KILLED, f"{run}: its processes were killed (memory, a node); {_again(run)}")


def _after_a_task(run: Path, warned: bool, restarts: int, most: int, ended: int) -> Next:
    """Return what a task of an array does, which is one of several that work on a search; see `after`."""
    status = str(_record(run / "tune.json").get("status", "not begun"))
    if status == "done":
        return Next("done", 0, f"{run}: done")
    if 0 < ended < SIGNALLED:
        return Next("failed", ended, f"{run}: this task failed, the reason stands above; {_others(run)}")
    stopped = ended - SIGNALLED in (signal.SIGTERM, signal.SIGINT)
    if warned:
        kept = "its state is kept" if stopped else "from the last checkpoint"
        return _out_of_time(run, kept if (run / "tune.json").is_file() else "nothing was begun", restarts, most)
    if not ended:
        return Next("done", 0, f"{run}: this task has ended, the search is {status}")
    if stopped:
        return Next("stopped", ended, f"{run}: this task was stopped by a signal; {_others(run)}")
    return Next("failed", KILLED, f"{run}: this task was killed (memory, a node); {_others(run)}")


def _out_of_time(run: Path, kept: str, restarts: int, most: int) -> Next:
    if restarts < most:
        return Next("requeue", 0, f"{run}: out of time ({kept}); back to the queue, {restarts + 1} of at most {most} times")
    return Next("stopped", 143, f"{run}: out of time, and sent back {restarts} times already; {_again(run)}")


def _others(run: Path) -> str:
    """Say whether others are still at work on a search, which of those on other nodes is known after a minute; how to go on."""
    who = "others go on with the search; if not" if files.at_work(run) else "nobody goes on with it"
    return f"{who}, {_again(run)}"


def _again(run: Path) -> str:
    """Say how to go on; a job that was only printed lies where its owner wrote it to."""
    script = f"{run}.sbatch"
    return f"to go on: {f'sbatch {shlex.quote(script)}' if Path(script).is_file() else 'submit the same job again'}"


def _when(record: Mapping[str, Any]) -> float:
    """Return when a record says that its run ended, in seconds since 1970."""
    try:
        return datetime.fromisoformat(str(record.get("ended"))).timestamp()
    except ValueError:
        return math.inf


def _record(path: Path) -> Mapping[str, Any]:
    """Return what a record says; nothing where there is none that can be read."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
