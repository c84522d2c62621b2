"""Who is told what of a run: functions its remarks and epochs, trackers its beginning and end too. None can steer. Floor 12."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from netwright.config.schema import RunConfig
from netwright.config.values import shown
from netwright.errors import ConfigError, first_line, warn_of
from netwright.pipeline.telling import Told
from netwright.runfolder import folder as folders
from netwright.seeding import all_forked, forked
from netwright.tracking.choosing import check_trackers
from netwright.tracking.records import Begun, Ended, Tracker
from netwright.training.journal import EpochRecord

Record = Told | EpochRecord | Begun | Ended
Observer = Callable[[Told | EpochRecord], None]  # what a user hands over
Listener = Callable[[Record], None]  # what a run tells
TRACKER = ("name", "begin", "epoch", "end")  # what `Tracker` has


@final
class Audience:
    """Tells each record to those that it is meant for.

    A tracker that raises is dropped with one note; what it draws from the global generators of torch (CPU), NumPy and Python
    is put back, so that a run gives the same bits with and without it.

    Args:
        observers: Functions, told remarks and epochs; trackers, told beginning, epochs and end. Without a function, findings that
            are no notes are warnings of Python, so that none stays unseen.

    Raises:
        ConfigError: One is neither, or a package of a tracker is missing.
    """

    def __init__(self, observers: Iterable[Observer | Tracker]) -> None:
        told = _each_of(observers)
        self._trackers = [observer for observer in told if isinstance(observer, Tracker)]
        self._functions = [observer for observer in told if not isinstance(observer, Tracker)] or [warn]
        check_trackers([tracker.name for tracker in self._trackers if _ours(tracker)])

    def __call__(self, record: Record) -> None:
        if isinstance(record, Told | EpochRecord):
            for function in self._functions:
                with all_forked(), forked(_device()):
                    function(record)
        if not isinstance(record, Told):
            self._track(record)

    def quiet(self, remarks: bool) -> Listener:
        """Return who is told of one run among several: trackers all of it, functions no epochs, and its remarks where asked."""

        def tell(record: Record) -> None:
            if isinstance(record, Told):
                if remarks:
                    self(record)
            else:
                self._track(record)

        return tell

    def _track(self, record: EpochRecord | Begun | Ended) -> None:
        """Tell the trackers, and drop those that fail."""
        for tracker in list(self._trackers):
            try:
                with all_forked(), forked(_device()):
                    _tell(tracker, record)
            except Exception as error:  # whatever its library raises: it must not end a training
                self._trackers.remove(tracker)
                what = f"{type(error).__name__}: {first_line(error)}"
                self(Told(f"tracker {tracker.name}: {what}; it is told nothing more, the run goes on", "note"))


def nobody(record: Told | EpochRecord) -> None:
    """Be told all, and say nothing: the observer of processes that leave it to another to tell."""


def warn(record: object) -> None:
    """Make findings warnings of Python."""
    if isinstance(record, Told) and record.kind == "warning":
        warn_of(record.text)


def _each_of(observers: Any) -> list[Any]:
    """Return observers one by one.

    Raises:
        ConfigError: One can be told nothing; what it lacks is named.
    """
    if not isinstance(observers, Iterable):
        raise ConfigError(f"observers: {shown(observers)} came; expected a list of functions and trackers; put it into one")
    told = list(observers)
    for one in told:
        lacks = [name for name in TRACKER if not hasattr(one, name)]
        if isinstance(one, type) and not set(lacks) - {"name"}:  # which its instances may get first
            kind = one.__name__
            raise ConfigError(f"observers: the class {kind} came; expected a tracker that is made of it; write {kind}()")
        if not lacks or callable(one):
            continue
        known = len(lacks) < len(TRACKER)  # it was meant as a tracker
        without, advice = (f" without {', '.join(lacks)}", f"add {', '.join(lacks)}") if known else ("", "leave it out")
        raise ConfigError(
            f"observers: {shown(one)} came{without}; expected functions, and trackers, which have {', '.join(TRACKER)}; {advice}"
        )
    return told


def _ours(tracker: Tracker) -> bool:
    return type(tracker).__module__.startswith("netwright.tracking.")


def _device() -> torch.device:
    """Return the device whose generator could be drawn from."""
    begun_there = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    return torch.device("cuda", torch.cuda.current_device()) if begun_there else torch.device("cpu")


def _tell(tracker: Tracker, record: EpochRecord | Begun | Ended) -> None:
    if isinstance(record, Begun):
        tracker.begin(record)
    elif isinstance(record, Ended):
        tracker.end(record)
    else:
        tracker.epoch(record)


def begun(config: RunConfig, folder: Path, epoch: int) -> Begun:
    """Return the record of a run that begins, or goes on after so many epochs."""
    record = folders.read_record(folder)
    settings = dict(_flat("", config.model_dump()))
    return Begun(folder, str(record.get("name", folder.name)), str(record.get("started")), settings, epoch)


def _flat(path: str, value: Any) -> Iterable[tuple[str, str | int | float | bool]]:
    """Yield settings by dotted path; those that are not set are left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, str | int | float | bool):
        yield path, value
    elif isinstance(value, Sequence):
        if value:
            yield path, ", ".join(map(str, value))
    elif value is not None:
        yield path, str(value)


def ended(folder: Path) -> Ended:
    """Return the record of a run that ended, from its folder."""
    record = folders.read_record(folder)
    path = folder / folders.TEST
    metrics = dict(folders.read_json(path).get("metrics", {})) if path.is_file() else {}
    figures = {}
    for name, entry in metrics.items():
        for bound, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            if key in entry:
                figures[f"{name}{bound}"] = float(entry[key])
    report = folder / folders.REPORT
    status, why = str(record.get("status")), str(record.get("why"))
    return Ended(folder, status, why, int(record.get("epochs") or 0), figures, report if report.is_file() else None)
