"""Several runs in one folder, one after the other: those that are done are kept, the others trained or gone on with.

What cross-validation (a run per split) and repetition (a run per seed) share. Floor 14.
"""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from netwright.config.read import build_config
from netwright.config.schema import RunConfig
from netwright.config.values import shown
from netwright.errors import CheckpointError
from netwright.lifecycle.changes import worked_out_otherwise
from netwright.lifecycle.owners import told_copied
from netwright.lifecycle.populating import Seat, train_together
from netwright.lifecycle.resuming import Objects, resume_run
from netwright.lifecycle.running import start
from netwright.numerals import counted, figure
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.pipeline.observing import Audience, Listener
from netwright.pipeline.preflight import be_strict, check_bench
from netwright.pipeline.telling import Told
from netwright.rows.fetching import fetched
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.runfolder.weights import refuse_unsound

MOST_NAMES = 4  # figures in a line
CHOSEN = {"data": ("storage", "cache", "shuffle"), "training": ("threads", "lanes")}  # for all runs of a folder


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Manner:
    """How each of several runs is trained; ``birth`` is called before a new one appears, ``refuse`` with what it
    would train. ``population`` tells whether they take their steps together."""

    test: bool = True
    strict: bool = False
    auto_micro_batch: bool = False
    birth: Callable[[], None] = _nothing
    refuse: Callable[[Bench], None] | None = None
    population: bool = False


def train_member(asked: Asked, path: Path, observe: Listener, manner: Manner, beside: Sequence[Path] = ()) -> int | None:
    """Train a run among several into its folder, go on with the one that is there, or find it done.

    A module from Python starts as it was handed over.

    Args:
        asked: Its settings and objects.
        path: Its run folder.
        observe: Is told remarks, epochs, the beginning and the end.
        manner: How.
        beside: The folders of all runs, whose machine has chosen for this one too where one of them exists.

    Returns:
        The number of the signal that stopped it, or None.

    Raises:
        CheckpointError: There is a run of other settings or data.
    """
    observe = _without_advice(observe)
    asked = _chosen_before(asked, (path, *beside))
    with fetched(asked.config.data):
        bench = replace(asked, module=copy.deepcopy(asked.module)).bench()
    bench = check_bench(bench)
    if manner.strict:
        be_strict(bench.findings, observe)
    if path.exists() and _is_done(path, asked.config, bench, manner):
        return None
    if path.exists():
        objects = Objects(asked.data, copy.deepcopy(asked.module), asked.loss, asked.code, asked.custom)
        run = resume_run(path, objects, (), observe, False, manner.auto_micro_batch, manner.test)
    else:
        if manner.refuse is not None:
            manner.refuse(bench)
        manner.birth()
        run = start(bench, path, observe, manner.test, manner.auto_micro_batch)
    signal = run.record.get("signal")
    return int(signal) if signal else None


def train_members(
    asked: Sequence[Asked], paths: Sequence[Path], audience: Audience, manner: Manner, ended: Callable[[int], None]
) -> tuple[int, int] | None:
    """Train several runs, one after the other or together.

    Args:
        asked: What each trains.
        paths: Their folders.
        audience: Is told the remarks on the first.
        manner: How.
        ended: Is called with the place of each run that ended.

    Returns:
        The place of a run that a signal stopped, and the number of the signal; None where all ended.
    """
    copied = told_copied(asked[0].module)
    if copied is not None:
        audience(Told(copied, "warning"))
    with fetched(_chosen_before(asked[0], paths).config.data):
        if manner.population:
            works = [
                partial(_train_in, copy_context(), one, path, audience.quiet(place == 0), manner, paths)
                for place, (one, path) in enumerate(zip(asked, paths, strict=True))
            ]
            found = train_together(works, audience)
        else:
            found = []
        for place, (one, path) in enumerate(zip(asked, paths, strict=True)):
            signal = found[place] if found else train_member(one, path, audience.quiet(place == 0), manner, paths)
            if signal is not None:
                return place, signal
            ended(place)
    return None


def _train_in(
    here: Context, asked: Asked, path: Path, observe: Listener, manner: Manner, beside: Sequence[Path], seat: Seat
) -> int | None:
    """Train a run in its thread, which begins outside the block that reads from copies."""
    return here.run(train_member, replace(asked, custom=replace(asked.custom, seat=seat)), path, observe, manner, beside)


def _without_advice(observe: Listener) -> Listener:
    """Return a listener that is not told how to go on with one run: all of them are gone on with by one command."""
    return lambda record: None if getattr(record, "kind", "") == "advice" else observe(record)


def _chosen_before(asked: Asked, paths: Sequence[Path]) -> Asked:
    """Return what is asked for with what a machine chose by its memory and cores for the first of some runs that exists."""
    run = next((path for path in paths if (path / folders.CONFIG).is_file()), None)
    if run is None:
        return asked
    with _trained_anew(run):
        kept = read_config(run)
    return replace(asked, config=_as_in(kept, CHOSEN, asked.config, asked.config))


@contextmanager
def _trained_anew(path: Path) -> Iterator[None]:
    """Tell of a run that is there and damaged how it is trained anew."""
    try:
        yield
    except CheckpointError as error:
        what = str(error).rsplit("; ", 1)[0]
        raise CheckpointError(f"{what}; to train it anew remove {path} and type the same command") from error


def _as_in(run: RunConfig, names: Mapping[str, Sequence[str]], asked: RunConfig, config: RunConfig) -> RunConfig:
    """Return settings with some of those of a run, but for what somebody wrote into those that are asked for."""
    for section, found in names.items():
        written, theirs = getattr(asked, section), getattr(run, section)
        free = [name for name in found if getattr(written, name) == type(written).model_fields[name].default]
        part = getattr(config, section).model_copy(update={name: getattr(theirs, name) for name in free})
        config = config.model_copy(update={section: part})
    return config


def _is_done(path: Path, asked: RunConfig, bench: Bench, manner: Manner) -> bool:
    """Tell whether a run that is there has nothing left to do.

    Raises:
        CheckpointError: It is damaged, or of other settings or data; what differs is named.
    """
    with _trained_anew(path):
        record, kept = folders.read_record(path), read_config(path)
    config = _as_in(kept, {"training": _settled_in(kept, manner)}, asked, bench.config)
    wanted = build_config(tomllib.loads(folders.config_text(config, path)))
    if others := worked_out_otherwise(kept, wanted):
        raise _other(path, [f"{name} {shown(old)} -> {shown(new)}" for name, old, new in others])
    then, now = str(record["data"].get("digest")), bench.inputs.digest
    if then != now:
        raise _other(path, [f"{bench.inputs.source} {then[:19]} -> {now[:19]}"])
    if record["status"] != "done":
        return False
    with _trained_anew(path):
        refuse_unsound(path, record)
        if (path / folders.TEST).is_file():
            folders.read_json(path / folders.TEST)
            return True
    return not (manner.test and len(bench.inputs.split.test))


def _settled_in(kept: RunConfig, manner: Manner) -> tuple[str, ...]:
    """Return what a run may have settled for itself while it trained: smaller parts of a batch, steps that are not replayed."""
    smaller = ("micro_batch",) if manner.auto_micro_batch else ()
    return (*smaller, "engine") if kept.training.engine == "eager" else smaller


def _other(path: Path, what: Sequence[str]) -> CheckpointError:
    """Return what to say of a run that is not the one asked for."""
    told = ", ".join([*what[:MOST_NAMES], *(["..."] if len(what) > MOST_NAMES else [])])
    return CheckpointError(
        f"{path}: a run of other settings or data ({told}); expected the same; name another folder in --run-dir"
    )


def figures_of(test: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a test.json by name."""
    return {name: float(entry["value"]) for name, entry in dict(test.get("metrics", {})).items()}


def values_of(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Return the values of every figure that all runs have, in the order of the runs.

    Example:
        >>> values_of([{"rmse": 1.0, "r2": 0.5}, {"rmse": 3.0}])
        {'rmse': (1.0, 3.0)}
    """
    return {name: tuple(one[name] for one in found) for name in found[0] if all(name in one for one in found)}


def deviation_of(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample (divided by n - 1); 0 of a single value.

    Example:
        >>> deviation_of([1.0, 3.0]) == 2**0.5
        True
    """
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def line_of_test(test: Mapping[str, Any]) -> str:
    """Return the figures of a test.json in a line."""
    shown = [f"{name} {figure(value)}" for name, value in figures_of(test).items()]
    return f"{', '.join(shown[:MOST_NAMES])} ({counted(test['n'], 'test row')}, weights {test['weights']})"
