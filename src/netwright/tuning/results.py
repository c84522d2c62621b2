"""How a search ends: the best trial trained alone with its one look at the test, the figure compared, the report. Floor 17."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from netwright import files
from netwright.errors import ConfigError
from netwright.files import Worker
from netwright.lifecycle.several import Manner, train_member
from netwright.pipeline.observing import Audience
from netwright.pipeline.telling import Told
from netwright.reporting.trials import SearchContents, render_search
from netwright.runfolder import folder as folders
from netwright.runfolder.showing import Sheet, several_html
from netwright.tuning.search import BEST, Search
from netwright.tuning.study import FAILED, FINISHED, PRUNED, RUNNING, Study, Trial
from netwright.tuning.telling import shown_point
from netwright.tuning.trials import asked_of, clear, figure_of, refuse_other_rows, shared_bench

CONCLUSION = 10**9  # the piece of work that only one process does: the end
STOPPED = "stopped"


@dataclass(frozen=True)
class Tuning:
    """What `netwright.tune` returns: the folder, every trial, the best, and its run trained alone.

    ``retrained`` is the metric of ``folder / "best"`` and ``same`` whether it equals that of the trial bit for bit (None where a
    trial is several folds, or took its steps together with others). ``signal`` is the number of
    the signal that stopped the search before its end, else None.
    """

    folder: Path
    metric: str
    mode: str
    wanted: int
    trials: tuple[Trial, ...]
    best: Trial | None = None
    retrained: float | None = None
    same: bool | None = None
    signal: int | None = None
    importances: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """How many trials ended, pruned ones included."""
        return sum(trial.counts for trial in self.trials)

    @property
    def pruned(self) -> int:
        """How many ended early, or diverged."""
        return sum(trial.state == PRUNED for trial in self.trials)

    @property
    def failed(self) -> int:
        """How many could not be trained; others took their place."""
        return sum(trial.state == FAILED for trial in self.trials)

    @property
    def run(self) -> Path:
        """The run of the best trial, trained alone."""
        return self.folder / BEST

    def __str__(self) -> str:
        """Return a line on the trials, one on the best, one on its run."""
        of = f" of {self.wanted}" if self.finished <= self.wanted else ""
        lines = [f"{self.finished}{of} trials finished, {self.pruned} of them pruned; {self.failed} failed"]
        if self.best is not None:
            lines.append(
                f"best: trial {self.best.number}  {self.metric} {self.best.value:.6g}  {shown_point(self.best.point)}"
            )
        if self.same is not None:
            what = "the same bits" if self.same else f"{self.retrained!r} instead of the trial's figure"
            lines.append(f"trained alone: {self.metric} {self.retrained:.6g}, {what}")
        elif self.retrained is not None:
            lines.append(f"trained alone: {self.metric} {self.retrained:.6g}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        ended = [trial for trial in self.trials if trial.counts]
        rows = [(str(trial.number), trial.state, _figure(trial), shown_point(trial.point)) for trial in ended]
        sheet = Sheet(("trial", "state", self.metric, "settings"), rows)
        return several_html(f"{self.finished} trials", [sheet], {self.folder.name: (self.run,)}, [str(self.folder)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``trials`` is how many were asked for, or are there where fewer were asked for later."""
        best = self.best
        found = None
        if best is not None:
            found = {"trial": best.number, "value": best.value, "settings": best.point, "run": str(self.run)}
            found |= {"retrained": self.retrained, "same": self.same}
        trials = max(self.wanted, self.finished)
        counts = {"finished": self.finished, "pruned": self.pruned, "failed": self.failed, "trials": trials}
        return {"folder": str(self.folder), **counts, "metric": self.metric, "direction": self.mode, "best": found}


def _figure(trial: Trial) -> str:
    return "" if trial.value is None else f"{trial.value:.5g}"


def best_of(search: Search, trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial with the best figure, the first of equal ones."""
    best: Trial | None = None
    for trial in trials:
        if trial.state == FINISHED and trial.value is not None:
            if best is None or best.value is None or search.better(trial.value, best.value):
                best = trial
    return best


def mark(search: Search, status: str) -> None:
    """Write down whether a search goes on; where others are still at work in its folder it does, or they ended it."""
    if status != RUNNING and files.at_work(search.folder):
        return
    told = folders.read_json(search.folder / folders.TUNE)  # read after that: who has left wrote down how it ended
    if status == RUNNING or told["status"] != "done":
        files.write_json(search.folder / folders.TUNE, {**told, "status": status})


def so_far(search: Search, signal: int | None = None) -> Tuning:
    """Return what a search holds that goes on, or that a signal stopped."""
    study = search.study()
    trials = tuple(study.trials())
    study.close()
    return Tuning(search.folder, search.metric, search.mode, search.trials, trials, best_of(search, trials), signal=signal)


def conclude(search: Search, audience: Audience) -> Tuning:
    """Train the best trial alone, test it once, compare, and draw the report; of several processes one does it, all return it.

    Raises:
        ConfigError: No trial finished; the study stays as it is.
    """
    worker, study = Worker(search.folder), search.study()
    try:
        trials = tuple(study.trials())
        best = best_of(search, trials)
        if best is None:
            raise ConfigError(_nothing_finished(search, trials))
        while (before := worker.take(CONCLUSION)) is None:
            time.sleep(1.0)
        if before:
            clear(worker, CONCLUSION, search.folder / BEST)
        return _concluded(search, study, trials, best, audience)
    finally:
        worker.close()
        study.close()


def _nothing_finished(search: Search, trials: Sequence[Trial]) -> str:
    pruned, failed = (sum(trial.state == state for trial in trials) for state in (PRUNED, FAILED))
    last = next((trial.why for trial in reversed(trials) if trial.why), "")
    return (
        f"tune: no trial finished: {pruned} pruned, {failed} failed{f', the last {last}' if last else ''}; expected one that ran "
        'to its end; mend the space, write pruner = "none" or a longer time_budget, or go on with netwright tune '
        f"--resume {search.folder}"
    )


def _concluded(search: Search, study: Study, trials: tuple[Trial, ...], best: Trial, audience: Audience) -> Tuning:
    """Return the end of a search; what was done already is only read."""
    told = folders.read_json(search.folder / folders.TUNE)
    path, done = search.folder / BEST, told.get("best_trial")
    if path.exists() and done is not None and done != best.number:
        files.move(path, search.folder / f"{BEST}-{done:04d}")
    record = search.folder / folders.TUNE
    files.write_json(record, {**told, "best_trial": best.number})
    audience(Told(f"trial {best.number} is the best; it is trained alone, with its test: {path}"))
    signal = _train_alone(search, best, path, audience)
    found = Tuning(
        search.folder,
        search.metric,
        search.mode,
        search.trials,
        trials,
        best,
        signal=signal,
        importances=study.importances(),
    )
    if signal is not None:
        return found
    found = _compared(search, found, best, path)
    if found.same is False:
        audience(
            Told(
                f"{path}: {search.metric} is not that of trial {best.number}; look for state outside the network", "warning"
            )
        )
    files.write_text(search.folder / folders.REPORT, render_search(_contents(search, found)))
    status = "done" if found.finished >= search.trials else STOPPED
    files.write_json(
        record,
        {**told, "best_trial": best.number, "status": status, "ended": folders.now(), "result": found.to_json()},
    )
    return found


def _train_alone(search: Search, best: Trial, path: Path, audience: Audience) -> int | None:
    """Train the best trial with nothing beside it; return the number of a signal that stopped it."""
    name, changes = search.members[0]
    whole = not name.startswith("fold")
    asked = asked_of(search, best.point, changes if whole else ())
    if whole:
        asked = asked.with_file(search.path(best.number, name) / folders.CONFIG)
    elif (path / folders.CONFIG).is_file():
        asked = asked.with_file(path / folders.CONFIG)
    else:
        config = shared_bench(search, asked).config
        asked = asked.with_settings([f"training.{part}={getattr(config.training, part)}" for part in ("threads", "lanes")])
    return train_member(
        asked, path, audience.quiet(False), Manner(test=True, refuse=partial(refuse_other_rows, search, whole=True))
    )


def _compared(search: Search, found: Tuning, best: Trial, path: Path) -> Tuning:
    """Return the end with the figure of the best run, and whether it is that of the trial."""
    retrained = figure_of(path, search.metric)
    name = search.members[0][0]
    if name.startswith("fold"):
        return replace(found, retrained=retrained)
    if folders.read_record(search.path(best.number, name)).get("members", 1) > 1:
        return replace(found, retrained=retrained)  # within rounding
    before = figure_of(search.path(best.number, name), search.metric)
    return replace(found, retrained=retrained, same=before == retrained)


def _contents(search: Search, found: Tuning) -> SearchContents:
    """Return what the report shows."""
    test = search.folder / BEST / folders.TEST
    ranges = {path: str(parameter) for path, parameter in search.parameters.items()}
    return SearchContents(
        name=search.asked.name,
        metric=search.metric,
        mode=search.mode,
        rows=found.trials,
        ranges=ranges,
        logarithmic=[path for path, parameter in search.parameters.items() if getattr(parameter, "log", False)],
        importances=found.importances,
        best=None if found.best is None else found.best.number,
        summary=str(found).splitlines(),
        looks=0 if not test.is_file() else int(folders.read_json(test).get("looks", 1)),
        test={} if not test.is_file() else dict(folders.read_json(test).get("metrics", {})),
    )
