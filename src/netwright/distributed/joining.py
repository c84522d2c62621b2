"""How a process finds the others of its training: a group that exists, or the variables of torchrun. Floor 5.

The only readers of RANK and its like. Nothing of torch is imported where none of them is set.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from netwright.distributed import slurm
from netwright.distributed.identity import launch_of
from netwright.distributed.meeting import Met, MissingError, meet
from netwright.errors import ConfigError, first_line

if TYPE_CHECKING:
    from netwright.distributed.failures import Links, Reports
    from netwright.distributed.world import World

TIMEOUT = 600.0  # seconds after which all have ended where one is silent
LEAVE = 3.0  # seconds in which one that is asked to end by SIGTERM may still tell why the training ended
HANGING = 10.0  # seconds beyond that, after which a process that found nobody is ended
PARENT_DEATH_SIGNAL = 1  # of prctl, PR_SET_PDEATHSIG
VARIABLES = ("RANK", "WORLD_SIZE")
_joined = itertools.count()  # groups of this process: what the processes of one wrote is not read by the next


@dataclass(frozen=True)
class Place:
    """Where a launcher put this process among the others."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    restarts: int

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Place:
        """Read the variables of torchrun.

        Raises:
            ConfigError: One of them is no number, or they do not fit together.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        given = {name: variables[name] for name in names if name in variables}
        try:
            rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
            local_rank = int(given.get("LOCAL_RANK", rank))
            found = cls(rank, size, local_rank, int(given.get("LOCAL_WORLD_SIZE", size)), int(given.get(names[-1], 0)))
        except ValueError as error:
            raise ConfigError(
                f"the environment: {_shown(given)} came ({error}); expected whole numbers, as torchrun sets them"
            ) from error
        if not 0 <= found.rank < found.size:
            raise ConfigError(
                f"the environment: {_shown(given)} came; expected RANK from 0 to WORLD_SIZE - 1; start the processes with torchrun"
            )
        return found


def _shown(given: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())


def launched() -> bool:
    """Tell whether a launcher started this process as one of several, or as one that may be started again."""
    return all(name in os.environ for name in VARIABLES)


def leads() -> bool:
    """Tell whether this process is alone or the first of several, as its launcher says; it need not have joined them."""
    return not launched() or os.environ["RANK"].strip() in ("0", "")


def refuse_several(what: str) -> None:
    """Refuse what one process does alone, where a launcher started several; the first of them tells it.

    Args:
        what: Is refused, such as ``cv``.

    Raises:
        ConfigError: There are several processes.
    """
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        size, first = dist.get_world_size(), dist.get_rank() == 0
    elif launched():
        place = Place.of(os.environ)
        size, first = place.size, place.rank == 0
    else:
        return
    if size > 1:
        error = ConfigError(
            f"{what}: {size} processes came; expected one; start it without a launcher, it trains several runs"
        )
        error.quiet = not first
        raise error


def adopt_slurm() -> None:
    """Take the place that srun gave this process, as if torchrun had given it; only where somebody asks for it.

    Raises:
        ConfigError: This is no task of srun.
    """
    os.environ.update(slurm.place(os.environ))


@contextmanager
def join(timeout: float = TIMEOUT) -> Iterator[World]:
    """Be one of the processes of a training for a block; without a launcher the world is this process alone.

    Args:
        timeout: Seconds after which all have ended where one is silent, or never came.

    Raises:
        ConfigError: The processes cannot find each other.
        LostError: Another process is gone; the first that failed is named, with its reason.
    """
    from netwright.distributed.world import ALONE, World

    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        with _of_group(dist, timeout) as world:
            yield world
        return
    if not launched():
        yield ALONE
        return
    place = Place.of(os.environ)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_launcher()
    if place.size == 1:
        yield World(restarts=place.restarts, launched=True, launch=launch_of(os.environ, place.restarts))
        return
    with _group(place, timeout) as world:
        yield world


@contextmanager
def _of_group(dist: Any, timeout: float) -> Iterator[World]:
    """Be in the world of a group that somebody else made; what we say goes over one of our own, as long as the block lasts."""
    from netwright.distributed.failures import Links, heard_within
    from netwright.distributed.heartbeat import heard_by_neighbours
    from netwright.distributed.world import ALONE, World

    rank, size = dist.get_rank(), dist.get_world_size()
    if size == 1:
        yield ALONE
        return
    local_rank, local_size = (int(os.environ.get(name, other)) for name, other in _local(rank, size))
    patience = heard_within(timeout)
    talk = dist.new_group(backend="gloo", timeout=timedelta(seconds=patience))
    try:
        found = _beside(World(rank, size, local_rank, local_size, group=talk, links=Links.of(dist), patience=patience))
        with heard_by_neighbours(found, dist.distributed_c10d._get_default_store(), ours=False):
            yield found
    finally:
        if dist.is_initialized():  # the block may have ended it all
            dist.destroy_process_group(talk)


def _local(rank: int, size: int) -> list[tuple[str, int]]:
    return [("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", size)]


@contextmanager
def _group(place: Place, timeout: float) -> Iterator[World]:
    """Make the process group, and end with the reason of the process that failed."""
    import torch
    import torch.distributed as dist

    from netwright.distributed.failures import Links, Reports, heard_within
    from netwright.distributed.heartbeat import heard_by_neighbours
    from netwright.distributed.world import World

    cuda = torch.cuda.is_available()
    if cuda and place.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(place.local_rank)
    _resolve(place)
    watch = threading.Timer(
        timeout + HANGING, os._exit, [ConfigError.exit_code]
    )  # torch may wait for ever where no store answers
    watch.daemon = True
    watch.start()
    try:
        shared, met = _met(place, timeout)
        place = replace(place, restarts=met.restarts)
        store = dist.distributed_c10d.PrefixStore(f"{met.name}/{next(_joined)}", shared)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        patience = heard_within(timeout)
        waits = timedelta(seconds=patience)
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=waits)
        talk = dist.new_group(backend="gloo", timeout=waits)  # by all, also where only some of them see a GPU
    except (RuntimeError, ValueError) as error:
        raise _not_met(place, timeout, error) from error
    finally:
        watch.cancel()
    reports, links = Reports(store, place.rank, place.size, timeout - patience), Links.of(dist)
    with _patient() as settling, _settled(reports, settling, links):
        found = World(
            place.rank,
            place.size,
            place.local_rank,
            place.local_size,
            place.restarts,
            launched=True,
            launch=launch_of(os.environ, place.restarts),
            group=talk,
            links=links,
            patience=patience,
        )
        found = _beside(found)
        with heard_by_neighbours(found, store, ours=True):
            yield found


def _beside(world: World) -> World:
    """Return a world with what this process has beside the others of its machine: a GPU of its own, cores together.

    ``srun --gpus-per-task`` shows each task its own GPU, as number 0; ``srun --cpu-bind=cores`` and ``taskset`` give each its own
    cores, which ``os.sched_getaffinity`` tells. Links over NCCL are worth something only where all processes have them.
    """
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    nccl = world.links is not None
    mine: dict[str, Any] = {"host": socket.gethostname(), "gpu": _only_gpu(world), "cores": sorted(bound), "nccl": nccl}
    every = world.gathered(mine)
    here = [one for one in every if one["host"] == mine["host"]]
    links = world.links if all(one["nccl"] for one in every) else None
    own_gpu = mine["gpu"] is not None and [one["gpu"] for one in here].count(mine["gpu"]) == 1
    return replace(world, links=links, own_gpu=own_gpu, cores=len({core for one in here for core in one["cores"]}))


def _only_gpu(world: World) -> str | None:
    """Return the name of the one GPU that this process sees; None where it sees none or several, or is alone on its machine."""
    import torch

    if world.local_size == 1 or not torch.cuda.is_available() or torch.cuda.device_count() != 1:
        return None
    name = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return None if name is None else str(name)


@contextmanager
def _settled(reports: Reports, settling: threading.Event, links: Links | None) -> Iterator[None]:
    """Close the links at the end of a block; where it fails, end with the reason of the process that failed first."""
    import torch.distributed as dist

    from netwright.distributed.failures import left_behind, parted

    try:
        yield
    except Exception as error:
        settling.set()
        if not parted(links, error, lambda: _leave(dist)):
            left_behind.append(links)
        found = reports.settled(error)
        if found is error:
            raise
        raise found from error
    else:
        reports.left()
        _leave(dist)


@cache
def _met(place: Place, timeout: float) -> tuple[Any, Met]:
    """Return the store in which all processes write, and what they have in common; once, as long as the process lives."""
    until = time.monotonic() + timeout
    store = _store(place, timeout)
    return store, meet(store, place.rank, place.size, place.restarts, max(0.0, until - time.monotonic()))


def _store(place: Place, timeout: float) -> Any:
    """Return the store of torchrun, or that of rank 0, as torch's ``env://`` does; it waits for no other process.

    Raises:
        ValueError: A variable is not there, or the port is no number.
        RuntimeError: The port is taken, or the store does not answer in time.
    """
    import torch.distributed as dist

    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ValueError(f"environment variable {name} expected, but not set")
    leads = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=leads,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=leads,
        use_libuv=os.environ.get("USE_LIBUV", "1") == "1",
    )


def _leave(dist: Any) -> None:
    """Close the links; what still holds them, a network that was wrapped say, lets go first, as torch wants it."""
    gc.collect()
    dist.destroy_process_group()


def _not_met(place: Place, timeout: float, error: Exception) -> ConfigError:
    """Return what to say where the processes did not find each other."""
    variables = {name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in os.environ}
    where = ":".join(variables.values()) or "no MASTER_ADDR"
    if "EADDRINUSE" in str(error) or "address already in use" in str(error):
        what = "the port is taken; expected a free one; choose another (torchrun --master-port)"
    else:
        what = f"{first_line(error)}; expected all {place.size} processes within {timeout:g} s; see whether each was started"
    found = ConfigError(f"rank {place.rank} of {place.size}: {where}: {what}")
    found.quiet = isinstance(error, MissingError) and error.told
    return found


def _resolve(place: Place) -> None:
    """Refuse a name of the host of rank 0 that this machine does not know; torch would try until its time is up.

    Raises:
        ConfigError: The name is told.
    """
    host = os.environ.get("MASTER_ADDR", "")
    try:
        socket.getaddrinfo(host, os.environ.get("MASTER_PORT", "0"))
    except OSError as error:
        raise ConfigError(
            f"rank {place.rank} of {place.size}: MASTER_ADDR={host}: the name does not resolve; expected the "
            "host of rank 0; check its spelling, or write its number"
        ) from error


def _end_with_launcher() -> None:
    """Ask the system for SIGTERM when torchrun is gone, so that no process of a training outlives it (prctl, Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


@contextmanager
def _patient() -> Iterator[threading.Event]:
    """Let SIGTERM end this process a moment later, so that it can tell why the training ended.

    A launcher ends all processes as soon as one has died, maybe before the others have seen it. While a run trains, signals
    are those of `netwright.training.signals`.

    Yields:
        An event; once it is set the process ends by itself.
    """
    settling = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield settling
        return

    def end() -> None:
        if not settling.is_set():
            os._exit(128 + signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        timer = threading.Timer(LEAVE, end)
        timer.daemon = True
        timer.start()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield settling
    finally:
        settling.set()
        signal.signal(signal.SIGTERM, before)
