"""A search as its folder tells it: what is trained, what may be tried, what is better; its birth, and what may change later.

The folder holds ``tune.toml`` (the settings as they were written), ``tune.json`` (what was decided), the study, ``claims``
and ``workers`` (who does what), ``trials`` (a run each) and in the end ``best`` and ``report.html``. Floor 17.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netwright import files
from netwright.beside import cores
from netwright.config.spaces import Parameter, points
from netwright.data.folds import fold_rows
from netwright.errors import CheckpointError, ConfigError, did_you_mean
from netwright.lifecycle.owners import told_copied
from netwright.numerals import counted
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.pipeline.drawing import planned_steps
from netwright.pipeline.observing import Listener
from netwright.pipeline.preflight import check_bench
from netwright.pipeline.stopping import mode_of, monitored
from netwright.pipeline.telling import Told, describe
from netwright.runfolder import folder as folders
from netwright.tuning.space import bench_in_the_middle, refuse_space, try_networks, try_settings
from netwright.tuning.study import Proposal, Study, refuse_without_optuna

SETTINGS = "tune.toml"
TRIALS, BEST = "trials", "best"
FIRST_RUNG = 20  # the first look of the pruner comes after so small a part of the epochs
LATER = ("trials", "processes", "time_budget")  # of [tune], what tune --resume may change


@dataclass(frozen=True)
class Search:
    """What a search is, for one process that works on it.

    ``asked`` is what each trial trains but for its own settings, ``cores`` how many of them a trial may use at most, ``members``
    the settings in which the runs of one trial differ (several seeds or folds; else a single empty one), ``rung`` the epochs after
    which the pruner looks first, ``digests`` those of data and split when it began.
    """

    folder: Path
    asked: Asked
    name: str
    metric: str
    mode: str
    cores: int
    members: tuple[tuple[str, tuple[str, ...]], ...] = (("", ()),)
    rung: int = 1
    digests: tuple[str, str] = ("", "")

    @property
    def trials(self) -> int:
        """How many finished or pruned trials are asked for."""
        return int(self.tune.trials)

    @property
    def tune(self) -> Any:
        """The section [tune]."""
        return self.asked.config.tune

    @property
    def processes(self) -> int:
        """How many processes of a machine train trials at a time."""
        return int(self.tune.processes or 1)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What each setting may be."""
        found: dict[str, Parameter] = self.tune.parameters()
        return found

    @property
    def in_line(self) -> bool:
        """Whether objects from Python are trained, which only this process has."""
        asked = self.asked
        custom = (asked.custom.optimizer, asked.custom.metrics or None, asked.custom.step, asked.custom.stop)
        return any(part is not None for part in (asked.data, asked.module, asked.loss, *custom))

    def study(self, new: bool = False, folder: Path | None = None) -> Study:
        """Open the records."""
        tune, seed = self.tune, int(self.asked.config.training.seed)
        proposal = Proposal(tune.sampler, tune.pruner, self.mode, seed, self.parameters, self.rung)
        return Study(tune.study, folder or self.folder, self.name, proposal, new)

    def path(self, number: int, member: str = "") -> Path:
        """Return where a trial lies, or one of its several runs."""
        return self.folder / TRIALS / f"{number:04d}" / member

    def better(self, one: float, other: float) -> bool:
        """Tell whether one figure is better than another."""
        return one < other if self.mode == "min" else one > other


def begin_search(asked: Asked, folder: Path, observe: Listener) -> Search:
    """Check everything on a copy, and let the folder of a search be born.

    Args:
        asked: What is trained, with its section [tune].
        folder: Must not exist.
        observe: Is told what the data and the network look like.

    Raises:
        ConfigError: A space, metric or study that cannot be used; nothing was written.
    """
    refuse_without_optuna()
    files.refuse_existing(folder)
    parameters = {} if asked.config.tune is None else asked.config.tune.parameters()
    refuse_space(parameters)
    try_settings(asked, parameters)
    bench = bench_in_the_middle(asked, parameters)
    bench = check_bench(bench)
    try_networks(asked, parameters, bench)
    metric, mode = _metric(asked, bench)
    _refuse_other_losses(metric, parameters)
    search = Search(folder, asked, f"netwright-{secrets.token_hex(8)}", metric, mode, cores())
    _refuse_workers(search)
    search = replace(search, cores=max(1, search.cores // search.processes))
    rung = max(1, planned_steps(bench.config, bench.inputs)[0] // FIRST_RUNG)
    search = replace(search, members=_members(search, bench), rung=rung, digests=_digests(bench))
    copied = told_copied(asked.module)
    if copied is not None:
        observe(Told(copied, "warning"))
    observe(Told("a trial, here with the settings in the middle of the space:"))
    for line in describe(bench):
        observe(line)
    _tell_space(search, observe)
    with files.born(folder) as temporary:
        files.make_folder(temporary / TRIALS)
        files.write_text(temporary / SETTINGS, asked.written())
        decided = {"study": search.name, "name": asked.name, "metric": metric, "mode": mode, "cores": search.cores}
        decided |= {"digests": search.digests}
        told = {**decided, "rung": rung, "members": search.members, "started": folders.now(), "versions": folders.versions()}
        files.write_json(temporary / folders.TUNE, {**told, "status": "running"})
        search.study(new=True, folder=temporary).close()
    observe(Told(f"folder: {folder}"))
    return search


def _digests(bench: Bench) -> tuple[str, str]:
    return bench.inputs.digest, bench.inputs.split.digest()


def _tell_space(search: Search, observe: Listener) -> None:
    """Say what is searched, and where trials must repeat each other."""
    size, tune = points(list(search.parameters.values())), search.tune
    told = "; ".join(f"{path} {parameter}" for path, parameter in search.parameters.items())
    best = f"best by {search.metric} ({search.mode})"
    observe(Told(f"search: {counted(search.trials, 'trial')}, {tune.sampler}, pruner {tune.pruner}, {best}"))
    observe(Told(f"space: {told}"))
    if size < search.trials:
        observe(Told(f"the space has {size:g} points, {search.trials} trials were asked for: some are tried again", "note"))


def _metric(asked: Asked, bench: Bench) -> tuple[str, str]:
    """Return the column of history.csv that is searched by, and min or max.

    Raises:
        ConfigError: No valid rows, no such column, or nobody said what is better.
    """
    tune, config = asked.config.tune, bench.config
    if not len(bench.inputs.split.valid) or not bench.figures:
        raise ConfigError(
            "tune: there are no valid rows, or no figures of them; expected some to compare trials by; set data.split.valid"
        )
    monitor, mode = monitored(config)
    name = (None if tune is None else tune.metric) or monitor
    known = [f"valid_{figure}" for figure in bench.figures]
    if name not in known:
        why = "; the train loss would choose what is learned by heart" if name == "train_loss" else ""
        raise ConfigError(
            f"tune.metric: {name!r} came{why}; expected a figure of the valid rows; {did_you_mean(name, known)}"
        )
    if tune is not None and tune.direction is not None:
        return name, tune.direction
    if name == monitor:
        return name, mode
    try:
        return name, mode_of(config, name)
    except ConfigError as error:
        raise ConfigError(
            f'tune.metric: {name} is a figure of one\'s own; expected whether more of it is better; write direction = "max" or '
            'direction = "min" under [tune]'
        ) from error


def _refuse_other_losses(metric: str, parameters: dict[str, Parameter]) -> None:
    """Refuse to compare trials by losses that differ.

    Raises:
        ConfigError: The space changes the loss that the metric is.
    """
    changing = ("training.loss", "training.class_weight", "data.preparation.target_scaling")
    path = next((path for path in parameters if path.startswith(changing)), None)
    if path is not None and metric == "valid_loss":
        raise ConfigError(
            f"tune.metric: valid_loss came and {path} in the space; losses of other kinds cannot be compared; write another "
            "metric, such as valid_accuracy, or valid_mae for amounts"
        )


def _refuse_workers(search: Search) -> None:
    """Refuse several processes for what only one has.

    Raises:
        ConfigError: Objects from Python with several processes.
    """
    if search.in_line and search.processes > 1:
        raise ConfigError(
            f"tune.processes: {search.processes} came with objects from Python, which only this process has; expected 1; "
            "leave it out, or name files: a data file, layers or --code FILE"
        )


def _members(search: Search, bench: Bench) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return name and settings of each run of a trial.

    Raises:
        ConfigError: Seeds and folds together, or folds of rows that are not divided by chance.
    """
    tune, split = search.tune, bench.config.data.split
    if tune.trial_seeds is not None and tune.trial_folds is not None:
        raise ConfigError("tune: trial_seeds and trial_folds came together; expected one of them; leave one out")
    if tune.trial_seeds is not None and tune.trial_seeds > 1:
        first = search.asked.config.training.seed
        return tuple((f"seed-{seed}", (f"training.seed={seed}",)) for seed in range(first, first + tune.trial_seeds))
    if tune.trial_folds is None:
        return (("", ()),)
    _refuse_folds(search, bench)
    rows = bench.inputs.split
    pool = sorted([*rows.train.tolist(), *rows.valid.tolist()])
    import numpy as np

    numbers, values = np.asarray(pool, np.int64), bench.inputs.target.values
    classes = None
    if bench.inputs.target.task in ("binary", "multiclass") and values.ndim == 1:
        classes = np.unique(values[numbers], return_inverse=True)[1].astype(np.int64)
    found = []
    for number in range(tune.trial_folds):
        valid, train = fold_rows(numbers, tune.trial_folds, number, split.seed, classes=classes)
        parts = (("train", train), ("valid", valid), ("test", rows.test))
        found.append((f"fold-{number:02d}", tuple(f"data.split.{part}={found.tolist()}" for part, found in parts)))
    return tuple(found)


def _refuse_folds(search: Search, bench: Bench) -> None:
    """Refuse folds of rows that are not divided by chance: row numbers would mean other rows, or rows that know each other.

    Raises:
        ConfigError: What stands against it.
    """
    data = bench.config.data
    split = data.split
    reasons = {
        "groups": split.group is not None,
        "an order of time": split.time is not None or split.in_order,
        "folds": split.folds is not None,
        "windows of a series": data.window is not None,
        "files, folders or arrays for each part": bool(bench.inputs.parts),
        "rows for calibration": bool(split.calibration),
        "objects from Python": search.in_line,
    }
    came = next((reason for reason, found in reasons.items() if found), None)
    if came is not None:
        raise ConfigError(
            f"tune.trial_folds: {search.tune.trial_folds} came with {came}; expected rows of one file divided by chance; write "
            "trial_seeds, or leave it out"
        )


def read_search(folder: Path, asked: Asked, settings: Sequence[str] = ()) -> Search:
    """Return the search of a folder, for a worker, or to go on with.

    Args:
        folder: Of the search.
        asked: Objects from Python and files that may run; its settings are replaced by those of the folder.
        settings: Texts such as ``tune.trials=40``; they are kept.

    Raises:
        CheckpointError: The folder is none of a search.
        ConfigError: Another setting than `LATER` would change.
    """
    if not (folder / folders.TUNE).is_file() or not (folder / SETTINGS).is_file():
        raise CheckpointError(
            f"{folder}: no search ({folders.TUNE} is not there); expected a folder of netwright tune; begin one with netwright "
            "tune CONFIG --run-dir DIR"
        )
    told = folders.read_json(folder / folders.TUNE)
    asked = replace(asked.with_file(folder / SETTINGS), command=f"netwright tune --resume {folder}")
    free = [f"tune.{name}" for name in LATER]
    for setting in settings:
        if setting.partition("=")[0].strip() not in free:
            raise ConfigError(
                f"--set {setting}: it would change the trials that are there; expected {', '.join(free)}; begin a new search"
            )
    if settings:
        asked = asked.with_settings(settings)
        files.write_text(folder / SETTINGS, asked.written())
    try:
        members = tuple((str(name), tuple(map(str, changes))) for name, changes in told["members"])
        asked = replace(asked, name=str(told["name"]))
        search = Search(
            folder, asked, told["study"], told["metric"], told["mode"], int(told["cores"]), members, int(told["rung"])
        )
        data, split = map(str, told["digests"])
        search = replace(search, digests=(data, split))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / folders.TUNE}: no record of a search ({error}); check the file") from error
    _refuse_workers(search)
    return search
