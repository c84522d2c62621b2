"""A process that claims a trial, trains it and tells the study, until the trials asked for have ended. Floor 17.

Whoever dies, the trial that it had is claimed by another worker and goes on from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from netwright.errors import ConfigError
from netwright.files import Worker
from netwright.lifecycle.populating import Seat, train_together
from netwright.training.journal import EpochRecord
from netwright.tuning.following import leave_undisturbed
from netwright.tuning.search import Search
from netwright.tuning.study import EPOCHS, FAILED, RUNNING, SECONDS, WHY, LiveTrial, Study, Trial
from netwright.tuning.telling import Tell, TrialEnd, TrialEpoch
from netwright.tuning.trials import Outcome, clear, train_trial

LOOK_AGAIN = 0.25  # seconds, where others have all that is left
DEATHS = 3  # of workers at one trial, after which it counts as failed
FAILED_AT_FIRST = 5  # trials without one that worked, after which a search ends


def work(search: Search, tell: Tell, budget: float | None = None) -> int | None:
    """Train trials until those asked for have ended.

    Args:
        search: What is searched.
        tell: Is told epochs and ends of trials.
        budget: Seconds from the first trial on, after which a run is stopped and none begun; None for ever.

    Returns:
        The number of the signal that stopped it, or None.

    Raises:
        ConfigError: Nearly all trials fail.
        NetwrightError: What is no fault of a single trial.
    """
    worker, study = Worker(search.folder, watched=not search.in_line), search.study()
    try:
        until: float | None = None
        while until is None or time.monotonic() < until:
            trials = study.trials()
            _refuse_failures(trials, search.trials)
            if sum(trial.counts for trial in trials) >= search.trials:
                return None
            begun = _begin(search, worker, study, tell)
            if begun is None:
                time.sleep(LOOK_AGAIN)
                continue
            if until is None and budget is not None:
                until = time.monotonic() + budget
            signal = _train_some(search, study, begun, tell, until)
            if signal is not None:
                return signal
        return None
    finally:
        try:
            leave_undisturbed()
        finally:
            worker.close()
            study.close()


def _begin(search: Search, worker: Worker, study: Study, tell: Tell) -> list[LiveTrial] | None:
    """Claim as many trials as are trained at a time; None where others have all."""
    found: list[LiveTrial] = []
    claimed = _claim(worker, study.trials(), search.trials)
    if claimed is None:
        return None
    while claimed is not None:
        number, before = claimed
        if before:
            _clear(search, worker, number)
        trial = study.begin(number)
        if trial is not None and worker.deaths(trial.number) >= DEATHS:
            _end(search, study, trial, Outcome(FAILED, None, f"{DEATHS} workers died at it"), tell)
        elif trial is not None:
            found.append(trial)
        if len(found) >= (search.tune.population or 1):
            break
        claimed = _claim(worker, study.trials(), search.trials)
    return found


def _clear(search: Search, worker: Worker, number: int) -> None:
    """Remove what workers that are gone left of the runs of a trial."""
    for name, _ in search.members:
        clear(worker, number, search.path(number, name))


def _train_some(search: Search, study: Study, trials: Sequence[LiveTrial], tell: Tell, until: float | None) -> int | None:
    """Train trials, several together; return the number of a signal that stopped them."""
    if len(trials) < 2:
        signals = [_train(search, study, trial, tell, until) for trial in trials]
    else:
        works = [partial(_train, search, study, trial, tell, until) for trial in trials]
        signals = train_together(works, tell)
    return next((signal for signal in signals if signal is not None), None)


def _claim(worker: Worker, trials: Sequence[Trial], wanted: int) -> tuple[int, int] | None:
    """Claim a trial whose worker is gone, or the next new one; return its number and how many had it before."""
    asked_for = [trial for trial in trials if trial.state != FAILED][:wanted]
    numbers = [trial.number for trial in asked_for if trial.state == RUNNING]
    if len(asked_for) < wanted:
        numbers.append(len(trials))
    for number in numbers:
        before = worker.take(number)
        if before is not None:
            return number, before
    return None


def _refuse_failures(trials: Sequence[Trial], wanted: int) -> None:
    """End a search whose trials do not work.

    Raises:
        ConfigError: The first five failed, or three times as many as were asked for.
    """
    failed = [trial for trial in trials if trial.state == FAILED]
    none_works = len(failed) >= FAILED_AT_FIRST and not any(trial.counts for trial in trials)
    if none_works or len(failed) > 3 * max(wanted, FAILED_AT_FIRST):
        raise ConfigError(
            f"tune: {len(failed)} trials failed, the last: {failed[-1].why or 'its worker died'}; expected a space whose points "
            "can be trained; mend the space and begin a new search"
        )


def _train(
    search: Search, study: Study, trial: LiveTrial, tell: Tell, until: float | None, seat: Seat | None = None
) -> int | None:
    """Train a trial and record how it ended; return the number of a signal that stopped it."""

    def watch(record: EpochRecord, run: str) -> None:
        tell(TrialEpoch(trial.number, record.epoch, record.of_epochs, record.columns()[search.metric], run))

    outcome = train_trial(search, trial, watch, until, seat)
    if not outcome.state:
        return outcome.signal
    _end(search, study, trial, outcome, tell)
    return None


def _end(search: Search, study: Study, trial: LiveTrial, outcome: Outcome, tell: Tell) -> None:
    """Record how a trial ended, and tell it."""
    trial.note(**{WHY: outcome.why, EPOCHS: outcome.epochs, SECONDS: round(outcome.seconds, 3)})
    study.tell(trial.number, outcome.state, outcome.value)
    tell(
        TrialEnd(
            trial.number,
            outcome.state,
            outcome.value,
            trial.point,
            outcome.why,
            outcome.epochs,
            outcome.seconds,
            metric=search.metric,
        )
    )
