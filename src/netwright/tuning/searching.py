"""What Python users call to search for hyperparameters; the command line calls the same. Floor 17."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from netwright.config.spaces import flattened
from netwright.distributed.joining import refuse_several
from netwright.errors import ConfigError, NetwrightError
from netwright.pipeline.asking import gather_all, rows_first, setting_texts
from netwright.pipeline.custom import Evaluate, Step, Stop
from netwright.pipeline.observing import Audience, warn
from netwright.pipeline.telling import Told
from netwright.runfolder import folder as folders
from netwright.seeding import one_at_a_time
from netwright.training.own_optimizer import Factories
from netwright.tuning.results import STOPPED, Tuning, best_of, conclude, mark, so_far
from netwright.tuning.search import Search, begin_search, read_search
from netwright.tuning.study import RUNNING
from netwright.tuning.supervising import supervise
from netwright.tuning.telling import Record, Tell, TrialEnd, counted
from netwright.tuning.worker import work

Watcher = Callable[[Any], None]


@rows_first
@one_at_a_time
def tune(
    config: Any = None,
    *,
    resume: str | Path | None = None,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    optimizer: str | Factories | None = None,
    metrics: Sequence[str] | Mapping[str, Callable[..., Any]] | None = None,
    step: Step | None = None,
    evaluate: Evaluate | None = None,
    stop: Stop | None = None,
    run_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Watcher] = (),
    **keywords: Any,
) -> Tuning:
    """Search for settings by the validation rows, then train the best trial alone and test it once.

    Args:
        config: As for `train`; its section [tune] says what is tried.
        resume: The folder of a search to go on with, instead of ``config``; ``settings`` may then change ``tune.trials``,
            ``tune.processes`` and ``tune.time_budget``.
        model, data, loss, optimizer, metrics, step, evaluate, stop: As for `train`; objects are trained in this process alone.
        run_dir: The folder of the search; default ``runs/<name>-tune-<time>-<4 hex>``.
        code, settings: As for `train`.
        observers: Functions that are told remarks, epochs and ends of trials, such as ``print``.
        **keywords: Any setting by its own name: ``trials=50``, ``space={"training.optimizer.lr": "log 1e-5..1e-1"}``.

    Returns:
        ``found.best.point``, ``found.best.value``, ``found.trials``, and in ``found.run`` the run of the best trial.

    Raises:
        ConfigError: A space that cannot be sampled, a path that is no setting, a metric without direction, a study that is
            gone, or no trial that finished.
        CheckpointError: ``resume`` names no search.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
        ...     found = nw.tune("sklearn:iris", space={"training.optimizer.lr": "log 1e-3..1"}, run_dir=folder + "/lr")
        ...     found.best.point["training.optimizer.lr"]
    """
    refuse_several("tune")
    keywords |= {"optimizer": optimizer, "metrics": metrics, "step": step, "evaluate": evaluate, "stop": stop}
    _refuse_pairs(keywords.get("space"))
    tell = _to_all(observers or [warn])
    audience = Audience([lambda record: tell(record) if isinstance(record, Told) else None])
    asked = gather_all(config, model, data, loss, code, () if resume is not None else settings, keywords)
    asked = replace(asked, command=asked.command.replace("netwright train", "netwright tune", 1))
    if resume is not None:
        search = read_search(Path(resume), asked, setting_texts(settings))
    else:
        folder = folders.folder_for(run_dir, f"{asked.name}-tune")
        search = begin_search(asked, folder, audience)
    return _to_the_end(search, tell, audience)


def _refuse_pairs(space: Any) -> None:
    """Refuse two numbers in round brackets, which others read as a range and this would read as two choices.

    Raises:
        ConfigError: Naming the first.
    """
    for name, value in flattened(space).items() if isinstance(space, Mapping) else ():
        if isinstance(value, tuple) and len(value) == 2 and all(isinstance(one, Real) for one in value):
            low, high = value
            raise ConfigError(
                f"tune.space: {name}: {value} came; a range is written '{low}..{high}' or 'log {low}..{high}', choices "
                f"[{low}, {high}]; write one of these"
            )


def _to_all(observers: Sequence[Watcher]) -> Tell:
    def tell(record: Record) -> None:
        for observer in observers:
            observer(record)

    return tell


def _to_the_end(search: Search, tell: Tell, audience: Audience) -> Tuning:
    """Search, then train the best; a search that an error or a signal ended is marked as stopped.

    Raises:
        NetwrightError: As it came.
    """
    try:
        signal = _search(search, tell)
        found = conclude(search, audience) if signal is None else so_far(search, signal)
        if found.signal is not None:
            mark(search, STOPPED)
        return found
    except NetwrightError:
        mark(search, STOPPED)
        raise


def _search(search: Search, tell: Tell) -> int | None:
    """Train the trials in this process or in others; return the number of the signal that stopped it."""
    budget = search.tune.time_budget
    study = search.study()
    try:
        trials = study.trials()
        if sum(trial.counts for trial in trials) >= search.trials:
            return None
        mark(search, RUNNING)

        def count(record: Record) -> None:
            if isinstance(record, TrialEnd):
                found = study.trials()
                best = best_of(search, found)
                record = counted(record, found, search.trials, None if best is None else best.number)
            tell(record)

        if not search.in_line:
            return supervise(search, search.processes, budget, count)
        try:
            return work(search, count, budget)
        except KeyboardInterrupt:
            return int(signals.SIGINT)
    finally:
        study.close()


def standing(folder: str | Path) -> Tuning:
    """Return what a search has come to so far, whoever works on it.

    Raises:
        CheckpointError: The folder is none of a search.
        ConfigError: Its records are gone, or cannot be reached.
    """
    return so_far(read_search(Path(folder), gather_all(None, None, None, None, (), (), {})))


def work_for(folder: str | Path, code: Sequence[str | Path], tell: Tell) -> int | None:
    """Be a worker of a search, started by `supervise`: train its trials.

    Args:
        folder: Of the search.
        code: Python files that may run.
        tell: Is told epochs and ends of trials.

    Returns:
        The number of the signal that stopped it, or None.
    """
    asked = gather_all(None, None, None, None, code, (), {})
    return work(read_search(Path(folder), asked), tell)
