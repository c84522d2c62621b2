"""What several processes agree on before they train one network: versions, settings, rows. Floor 12."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from netwright import errors
from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.data.order import Windows
from netwright.distributed.failures import LostError, error_of
from netwright.distributed.pulse import done_by_all
from netwright.distributed.world import World
from netwright.errors import ConfigError, DataError, NetwrightError
from netwright.numerals import counted
from netwright.pipeline.bench import Bench
from netwright.pipeline.sameness import ADVICE, facts_of
from netwright.pipeline.sharing import refuse_unlike

OF_EACH_MACHINE = ("data.cache",)  # settings that need not be alike


def agreed(world: World, make: Callable[[RunConfig], Bench], asked: RunConfig) -> Bench:
    """Let each process prepare a run by itself, and compare what came out.

    Args:
        world: The processes.
        make: Reads, prepares and builds as the settings say.
        asked: The settings as they were written; what each machine chose for itself beside them is levelled.

    Raises:
        ConfigError: Versions, settings or networks differ between the processes; rank and difference are named.
        DataError: Rows or split do.
        NetwrightError: Of a process that could not prepare; its rank is named where it is not that of all.
    """
    if world.alone:
        return make(asked)
    _compare(world, "versions", _versions(), ConfigError, "install the same everywhere")
    refuse_unlike(asked, world)
    bench = _by_each(world, lambda: make(asked))
    if len(set(world.gathered(bench.config.data.storage))) > 1:  # one of them has less memory: a map, for all
        mapped = asked.model_copy(update={"data": asked.data.model_copy(update={"storage": "map"})})
        bench = _by_each(world, lambda: make(mapped))
        notes = (*bench.inputs.notes, "one process found too little free memory for the table, so all read it from a map")
        bench = replace(bench, inputs=replace(bench.inputs, notes=notes))
    bench = in_one_order(replace(bench, config=levelled(bench.config, asked, world)), world)
    settings = {path: repr(value) for path, value in _settings(bench.config) if path not in OF_EACH_MACHINE}
    _compare(world, "settings", settings, ConfigError, "start all with the same config")
    rows = {"the rows of the data": bench.inputs.digest, "the split": bench.inputs.split.digest()}
    _compare(world, "rows", rows, DataError, "let all read the same files")
    _compare(world, "network", facts_of(bench.network.module), ConfigError, ADVICE)
    return bench


def _by_each(world: World, make: Callable[[], Bench]) -> Bench:
    """Let each process prepare, however long it takes one of them; where one cannot, none can."""
    try:
        bench = done_by_all(world, make)
    except LostError:
        raise
    except Exception as error:  # own code may raise anything; the others learn of it
        raise _first(world.gathered([_kind(error), str(error)]), error) from error
    told = world.gathered(None)
    if any(told):
        raise _first(told, None)
    return bench


def in_one_order(bench: Bench, world: World) -> Bench:
    """Return a bench whose rows in a map are shuffled as in the first process: windows follow the memory that each found free."""
    rows, shuffle = bench.inputs.raw, bench.config.data.shuffle
    told = world.told(shuffle)
    if not isinstance(rows, Mapped) or told == shuffle:
        return bench
    ordered = replace(rows, windows=Windows(*told) if isinstance(told, list) else None)
    data = bench.config.data.model_copy(update={"shuffle": told})
    config = bench.config.model_copy(update={"data": data})
    return replace(bench, config=config, inputs=replace(bench.inputs, raw=ordered))


def levelled(config: RunConfig, asked: RunConfig, world: World) -> RunConfig:
    """Return settings with what all processes can have where machines that are not alike chose for themselves.

    Args:
        config: The resolved settings of this process.
        asked: As they were written: a number of threads and a strategy that somebody wrote stay as they are.
        world: The processes; every one must ask.
    """
    training = config.training
    fewest, dealt = world.highest([-(training.threads or 1), training.strategy == "fsdp"])
    chosen: dict[str, Any] = {}
    if asked.training.threads is None:
        chosen["threads"] = -fewest
    if asked.training.strategy == "auto":
        chosen["strategy"] = "fsdp" if dealt else "ddp"  # a whole copy is too much for one of them
    return config.model_copy(update={"training": training.model_copy(update=chosen)})


def _first(told: Sequence[list[str] | None], error: Exception | None) -> Exception:
    """Return the error of all processes, or that of the first which has one."""
    if error is not None and all(one == told[0] for one in told):
        return error
    rank, (kind, text) = next((rank, one) for rank, one in enumerate(told) if one is not None)
    return error_of(rank, kind, text)


def _kind(error: Exception) -> str:
    """Return the name of an error, of a kind of ours the one that all know."""
    return next((kind.__name__ for kind in type(error).__mro__[:2] if hasattr(errors, kind.__name__)), type(error).__name__)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("netwright")
    except PackageNotFoundError:  # run from its source
        ours = "not installed"
    return {"torch": str(torch.__version__), "netwright": ours}


def _settings(config: RunConfig) -> list[tuple[str, Any]]:
    return [
        (f"{section}.{name}", value)
        for section, values in config.model_dump().items()
        if isinstance(values, Mapping)
        for name, value in values.items()
    ]


def _compare(world: World, what: str, mine: Mapping[str, str], kind: type[NetwrightError], advice: str) -> None:
    """Refuse what is not the same in all processes.

    Raises:
        NetwrightError: Of the kind; the first difference is named, with the rank and both values.
    """
    digest = hashlib.sha256(json.dumps(dict(mine), sort_keys=True).encode("utf-8")).hexdigest()
    digests = world.gathered(digest)
    if len(set(digests)) == 1:
        return
    all_told = world.gathered(dict(mine))
    rank = next(rank for rank, one in enumerate(digests) if one != digests[0])
    first, other = all_told[0], all_told[rank]
    name = next(name for name in {**first, **other} if first.get(name) != other.get(name))
    raise kind(
        f"rank {rank}: {name} is {_short(other.get(name))}, on rank 0 {_short(first.get(name))}; expected the same {what} in all "
        f"{counted(world.size, 'process', 'processes')}; {advice}"
    )


def _short(text: str | None) -> str:
    found = "not there" if text is None else text
    return found if len(found) <= 80 else f"{found[:77]}..."
