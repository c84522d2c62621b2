"""When files at an address are copied into the cache: for what trains, and for maps. All else writes nothing. Floor 11."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netwright.config.data_schema import DataConfig
from netwright.distributed.world import ALONE, World
from netwright.sources.cache import FOLDER
from netwright.sources.copies import Copies, copied, copies_here
from netwright.sources.memory import processes, shared_by


@contextmanager
def fetched(data: DataConfig, world: World = ALONE) -> Iterator[None]:
    """Fetch files at an address that are read in a block into the cache, each once for all processes that see the folder.

    Within another such block its copies are read, so that several runs are of the same rows. What rows may take of the memory of
    a machine is shared by its processes.

    Args:
        data: The settings.
        world: The processes that read the same files; each begins with others.
    """
    found, around = _copies(data, True, (world.rank, world.size)), copies_here()
    mine = around if around is not None and (around.making, around.cache) == (True, found.cache) else found
    with copied(mine), shared_by(processes() if world.alone else world.local_size):
        yield


@contextmanager
def copies_of(data: DataConfig) -> Iterator[Copies]:
    """Yield the copies that files are read from in a block: those of the block around it, else those that are there."""
    around = copies_here()
    if around is not None:
        yield around
        return
    found = _copies(data, data.storage == "map", (0, 1))
    with copied(found):
        yield found


def _copies(data: DataConfig, making: bool, share: tuple[int, int]) -> Copies:
    return Copies(Path(data.cache or FOLDER).absolute(), data.cache is not None, making, share)
