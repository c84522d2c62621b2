"""A checkpoint that all processes write and read together: each its pieces, the leading one writes all else, and one rename.

The folder is that of `netwright.checkpoint.store`, read by it as any other. An error of one process is raised by all of them,
so that nobody waits for one that is gone. Floor 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from netwright import files
from netwright.checkpoint import store
from netwright.checkpoint.shards import piece_file
from netwright.errors import CheckpointError, NetwrightError, ResourceError, SafetyError, first_line

Value = TypeVar("Value")
Problem = list[str]  # the class of an error and its line, as all processes are told it


KINDS: dict[str, type[NetwrightError]] = {"ResourceError": ResourceError, "SafetyError": SafetyError}


class Company(Protocol):
    """The processes that write together, as `netwright.distributed.world.World` knows them."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def told(self, value: Value) -> Value:
        """Return what process 0 tells, on each."""
        ...

    def gathered(self, value: Value) -> list[Value]:
        """Return what each process has, by rank, on each."""
        ...


def save(folder: Path, name: str, parts: Mapping[str, Any], keep: int, world: Company) -> Path:
    """Write a checkpoint together, verify it, and then remove older ones but the last ``keep``; every process must call.

    Args:
        folder: Of the checkpoints of a run, seen by every process.
        name: As `netwright.checkpoint.store.name_of` gives it.
        parts: What it holds; of what is not dealt out, that of process 0 is kept.
        keep: How many verified checkpoints stay, at least 1.
        world: The processes.

    Returns:
        The folder of the checkpoint.

    Raises:
        ResourceError: A disk is full or cannot be written, or a process does not see the folder; nothing of it stays.
    """
    path = folder / name
    if not world.told(world.rank == 0 and store.verifies(path)):
        write_parts(path, parts, world)
    if world.rank == 0:
        store.forget(folder, keep)
    return path


def newest(folder: Path, world: Company, pieces: bool, warn: Callable[[str], None]) -> store.Checkpoint:
    """Return the newest checkpoint of which every process can read what it needs; every process must call.

    Args:
        folder: Of the checkpoints of a run, whose lock process 0 holds.
        world: The processes.
        pieces: Whether they hold pieces of the network: each reads its own then, and all that is not dealt out.
        warn: Is told each newer one that does not verify, and why.

    Raises:
        CheckpointError: None verifies; the reason of the newest is told.
        SafetyError: One is refused.
    """
    names = world.told([path.name for path in store.checkpoints(folder)])
    told: list[str] = []
    place = (world.rank, world.size) if pieces else None
    for name in names:
        parts, problem = _attempt(partial(store.read_parts, folder / name, place))
        problems = world.gathered(problem)
        if parts is not None and not any(problems):
            for text in told:
                warn(f"{text}; going back to {name}")
            return store.Checkpoint(folder / name, parts)
        try:
            _refuse_first(problems)
        except CheckpointError as error:
            told.append(str(error))
    raise store.none_of(folder, told)


def write_parts(folder: Path, parts: Mapping[str, Any], world: Company) -> None:
    """Write a folder of parts at once, each process its own pieces; one of that name is replaced. See `save`."""
    pieces: dict[str, dict[str, Tensor]] = {}
    contents, problem = _attempt(lambda: store.contents_of(parts, pieces))
    _refuse_first(world.gathered(problem))
    leads = world.rank == 0
    with ExitStack() as stack:
        opened = _attempt(lambda: str(stack.enter_context(files.replaced(folder)))) if leads else (None, None)
        place, problem = world.told(opened)
        _refuse(problem)
        written, problem = _attempt(lambda: _written(Path(str(place)), pieces, world))
        _refuse_first(world.gathered(problem))
        listed = {file: entry for others in world.gathered(written or {}) for file, entry in others.items()}
        committed = (
            _attempt(lambda: _commit(stack, Path(str(place)), folder, contents or {}, listed)) if leads else (None, None)
        )
        _refuse(world.told(committed)[1])


def _commit(
    stack: ExitStack, place: Path, folder: Path, contents: Mapping[str, bytes], listed: Mapping[str, dict[str, Any]]
) -> None:
    """Write what the leading process holds and the manifest, let the folder appear, and read it back."""
    store.write_contents(place, folder.name, contents, listed)
    stack.close()
    store.verify_contents(folder, contents)


def _written(place: Path, pieces: Mapping[str, Mapping[str, Tensor]], world: Company) -> dict[str, dict[str, Any]]:
    """Write the pieces of this process, read them back, and return what the manifest says of them."""
    if not place.is_dir():
        raise ResourceError(
            f"{place.parent}: process {world.rank} does not see it; expected a folder that all processes share; name one on a "
            "shared file system in --run-dir"
        )
    found = {}
    for part, tensors in pieces.items():
        if tensors:
            name, content = piece_file(part, world.rank, world.size), store.packed(tensors)
            files.write_bytes(place / name, content)
            found[name] = store.entry_of(content)
            store.verify_contents(place, {name: content})
    return found


def _attempt(action: Callable[[], Value]) -> tuple[Value | None, Problem | None]:
    """Return what an action gives, or its error."""
    try:
        return action(), None
    except NetwrightError as error:
        return None, [type(error).__name__, str(error)]
    except OSError as error:
        return None, [
            "ResourceError",
            f"checkpoint: {type(error).__name__}: {first_line(error)}; expected a writable folder",
        ]


def _refuse_first(problems: Sequence[Problem | None]) -> None:
    """Raise the first error of the processes, on each."""
    for rank, problem in enumerate(problems):
        _refuse(problem, rank)


def _refuse(problem: Problem | None, rank: int = 0) -> None:
    """Raise the error of a process, on each."""
    if problem is not None:
        kind, text = problem
        raise KINDS.get(kind, CheckpointError)(text if rank == 0 else f"process {rank}: {text}")
