"""What a launcher's restart may do to a run: go on with its own, take the lock of its own dead; never that of another. Floor 11."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netwright import files
from netwright.distributed.world import World
from netwright.errors import CheckpointError, ResourceError
from netwright.runfolder import folder as folders

AGAIN = ("ConfigError", "DataError", "CheckpointError", "DivergedError")  # what a restart does not mend


@contextmanager
def held(folder: Path, world: World, needless: bool = False) -> Iterator[None]:
    """Hold the lock of a run folder for a block, in the first process; that of a dead process of this launch is broken.

    Args:
        folder: The run folder.
        world: The processes.
        needless: Whether nothing is to be written, so that the block goes without a lock where none can be.

    Raises:
        FolderInUseError: Another process trains it.
        ResourceError: The folder cannot be written.
    """
    if not world.leads:
        yield
        return
    lock = None
    try:
        if world.launch is not None:
            files.break_lock_of(folder, world.launch.ended)
        lock = files.Lock(folder, world.launch_told)
    except (ResourceError, OSError):
        if not needless:
            raise
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def goes_on(folder: Path, world: World) -> bool:
    """Tell all processes whether a launcher started them again after this very launch had begun the run of a folder."""
    if not world.restarts:
        return False
    return world.told(world.leads and (folder / folders.RECORD).is_file() and _ours(folders.read_record(folder), world))


def refuse_again(folder: Path, world: World) -> None:
    """Refuse to start a run again that ended with an error which would only come back.

    Raises:
        CheckpointError: It is told once more.
    """
    record = world.told(folders.read_record(folder) if world.leads else {})
    why = str(record.get("why"))
    if record.get("status") in ("failed", "diverged") and why.partition(":")[0] in AGAIN:
        raise CheckpointError(
            f"{folder}: ended with {why}; expected something else from starting it again ({world.restarts} so far); mend that, "
            "then netwright resume"
        )


def ended_by_signal(record: Mapping[str, Any], world: World) -> bool:
    """Tell whether a signal stopped a run under this launch: its launcher starts it again, yet somebody wanted it to stop."""
    signalled = record.get("status") == "stopped" and record.get("signal") is not None
    return bool(world.restarts) and signalled and _ours(record, world)


def _ours(record: Mapping[str, Any], world: World) -> bool:
    """Tell whether a run was last trained by the launch of these processes."""
    return world.launch is not None and world.launch.same(record.get("launch"))
