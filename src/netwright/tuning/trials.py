"""One trial: ordinary runs without a test, ended early where the study says so, gone on with where a worker died. Floor 17."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from netwright import files
from netwright.config.spaces import settings_of
from netwright.errors import CheckpointError, ConfigError, DataError, DivergedError, ResourceError, first_line, out_of_memory
from netwright.files import Worker
from netwright.lifecycle.populating import Seat
from netwright.lifecycle.resuming import Objects, resume_run
from netwright.lifecycle.running import start
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.pipeline.observing import Record
from netwright.rows.fetching import fetched
from netwright.rows.reading import read
from netwright.runfolder import folder as folders
from netwright.sources.memory import shared_by
from netwright.training.journal import EpochRecord
from netwright.tuning.search import Search
from netwright.tuning.study import FAILED, FINISHED, PRUNED, LiveTrial


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; ``signal`` where one stopped it before."""

    state: str
    value: float | None = None
    why: str = ""
    epochs: int = 0
    seconds: float = 0.0
    signal: int | None = None


def refuse_other_rows(search: Search, bench: Bench, whole: bool) -> None:
    """Refuse rows that are not those the search began with: trials on them could not be compared.

    Args:
        search: What is searched.
        bench: Of a run that would begin.
        whole: Whether it has the split of the search too, not that of a fold.

    Raises:
        CheckpointError: They changed since.
    """
    (data, split), inputs = search.digests, bench.inputs
    _refuse_changed(inputs.source, "data", data, inputs.digest)
    if whole:
        _refuse_changed(inputs.source, "split", split, inputs.split.digest())


def _refuse_changed(source: str, what: str, then: str, now: str) -> None:
    if then != now:
        raise CheckpointError(
            f"{source}: the {what} changed since the search began ({then[:19]} -> {now[:19]}); expected the same rows; put the "
            "file back, or begin a new search"
        )


def _refuse_other_data(search: Search) -> None:
    """Refuse rows that changed since the search began, or are gone; needed where a trial could not prepare them.

    Raises:
        CheckpointError: They changed since.
        DataError: They cannot be read.
    """
    source = read(search.asked.config.data, search.asked.data)
    _refuse_changed(source.name, "data", search.digests[0], source.digest)


def asked_of(search: Search, point: dict[str, Any], changes: tuple[str, ...]) -> Asked:
    """Return what a run of a trial trains; a module from Python starts as it was handed over."""
    asked = search.asked.with_settings([*settings_of(point), *changes])
    return replace(asked, module=copy.deepcopy(asked.module))


def shared_bench(search: Search, asked: Asked) -> Bench:
    """Prepare a run that shares the machine: no more threads, lanes and memory than its share, unless they are written.

    What was decided stands in the resolved config, so that the run alone gives the same bits.
    """
    with shared_by(search.processes), fetched(asked.config.data):
        bench = asked.bench()
    written = asked.config.training
    training = bench.config.training
    changes = {
        name: min(getattr(training, name) or 1, search.cores)
        for name in ("threads", "lanes")
        if getattr(written, name) is None
    }
    return replace(bench, config=bench.config.model_copy(update={"training": training.model_copy(update=changes)}))


def clear(worker: Worker, work: int, path: Path) -> None:
    """Remove what workers that are gone left of a run: the lock of one on another machine, and a folder that was not yet whole.

    Args:
        worker: Has claimed the work, which others had before.
        work: The number of a trial, or of another piece of work.
        path: The run folder, or where it would be.
    """
    files.break_lock_elsewhere(path, partial(worker.had, work))
    files.remove_unfinished(path)


def train_trial(
    search: Search,
    trial: LiveTrial,
    tell: Callable[[EpochRecord, str], None],
    until: float | None = None,
    seat: Seat | None = None,
) -> Outcome:
    """Train the runs of a trial, those that are done apart, and return how it ended.

    Args:
        search: What is searched.
        trial: Whose settings are tried.
        tell: Is told each epoch and the name of its run.
        until: By `time.monotonic`, when it is stopped with a checkpoint; None for never.
        seat: Its place among trials that train together, or None.

    Returns:
        How it ended; no state where it was stopped.

    Raises:
        NetwrightError: What is no fault of this trial, such as a full disk or rows that changed.
    """
    values, epochs, seconds = [], 0, 0.0
    for name, changes in search.members:
        path = search.path(trial.number, name)
        try:
            record = _train_run(search, trial, path, changes, tell, (seat, until))
        except DivergedError as error:
            return Outcome(PRUNED, None, f"diverged: {first_line(error)}"[:300])
        except ConfigError as error:
            return Outcome(FAILED, None, first_line(error)[:300])
        except DataError as error:
            _refuse_other_data(search)
            return Outcome(FAILED, None, first_line(error)[:300])
        except (ResourceError, MemoryError, RuntimeError) as error:
            if out_of_memory(error) or "out of memory" in str(error):
                return Outcome(FAILED, None, f"out of memory: {first_line(error)}"[:300])
            raise
        if record["status"] != "done":
            return Outcome("", signal=record.get("signal"))
        epochs += int(record.get("epochs") or 0)
        seconds += float((record.get("seconds") or {}).get("total", 0.0))
        if str(record.get("final") or "").startswith(folders.PRUNED):
            return Outcome(PRUNED, None, str(record["final"]), epochs, seconds)
        values.append(figure_of(path, search.metric))
    value = math.fsum(values) / len(values)
    if not math.isfinite(value):
        return Outcome(PRUNED, None, f"{search.metric} is {value}, no finite number", epochs, seconds)
    return Outcome(FINISHED, value, "", epochs, seconds)


def _train_run(
    search: Search,
    trial: LiveTrial,
    path: Path,
    changes: tuple[str, ...],
    tell: Callable[[EpochRecord, str], None],
    seated: tuple[Seat | None, float | None],
) -> dict[str, Any]:
    """Train one run of a trial, or go on with it, and return its record; ``seated`` is its place and until when."""
    if (path / folders.RECORD).is_file() and folders.read_record(path)["status"] == "done":
        return folders.read_record(path)
    asked = asked_of(search, trial.point, changes)

    def rule(record: EpochRecord) -> str | None:
        value = record.columns()[search.metric]
        goes_on = (
            changes == search.members[0][1] and record.epoch < record.of_epochs
        )  # after the last epoch nothing is saved by it
        if goes_on and trial.falls_behind(record.epoch, value):
            return f"{folders.PRUNED} after epoch {record.epoch}: {search.metric} {value:.4g} is behind that of other trials"
        return None

    def watch(record: Record) -> None:
        if isinstance(record, EpochRecord):
            tell(record, path.name)

    seat, until = seated
    custom = replace(asked.custom, trial=rule, until=until, seat=seat)
    if path.exists():
        objects = Objects(asked.data, asked.module, asked.loss, asked.code, custom)
        with shared_by(search.processes):
            run = resume_run(path, objects, (), watch, False, False, False)
    else:
        files.make_folder(path.parent)
        bench = shared_bench(search, asked)
        refuse_other_rows(search, bench, whole=not path.name.startswith("fold"))
        run = start(replace(bench, custom=replace(bench.custom, trial=rule, until=until, seat=seat)), path, watch, False)
    return dict(run.record)


def figure_of(path: Path, metric: str) -> float:
    """Return a validation figure of the epoch whose weights a run keeps; NaN where none was finite."""
    best = folders.read_record(path).get("best")
    if best is None:
        return math.nan
    return next(row[metric] for row in folders.read_history(path) if row["epoch"] == best["epoch"])
