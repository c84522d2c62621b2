"""The records of a search: which trials there are, what each tries, how it ended. The only file that imports Optuna (extra tune).

Optuna proposes and records (Akiba et al., Optuna: a next-generation hyperparameter optimization framework, 2019): TPE
(Bergstra et al., Algorithms for hyper-parameter optimization, 2011), a Gaussian process, or chance; trials that fall behind
are ended by asynchronous successive halving (Li et al., A system for massively parallel hyperparameter tuning, 2020). Floor 17.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from netwright import files
from netwright.config.spaces import Choices, Parameter
from netwright.errors import ConfigError, first_line
from netwright.seeding import stream

if TYPE_CHECKING:
    import optuna

DATABASE, JOURNAL = "study.db", "study.journal"
PATIENCE = 60  # seconds to wait for another writer of the database
RUNNING, FINISHED, PRUNED, FAILED = "running", "finished", "pruned", "failed"
STATES = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}
WHY, SECONDS, EPOCHS, ENDS = "why", "seconds", "epochs", "ends_after"  # what is noted with a trial
FEWEST_FOR_IMPORTANCE = 4
REDUCTION = 4  # one of so many trials goes on at a look of the pruner, which looks again after so many times as many epochs


@dataclass(frozen=True)
class Trial:
    """One trial as it is recorded; ``point`` holds what it tries, by dotted path."""

    number: int
    state: str
    value: float | None
    point: dict[str, Any]
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Tell whether it is one of the trials asked for, and has ended."""
        return self.state in (FINISHED, PRUNED)

    @property
    def why(self) -> str:
        """How it ended, in words."""
        return str(self.told.get(WHY, ""))

    @property
    def epochs(self) -> int:
        """Of all its runs."""
        return int(self.told.get(EPOCHS, 0))

    @property
    def seconds(self) -> float:
        """Of all its runs."""
        return float(self.told.get(SECONDS, 0.0))


@dataclass(frozen=True)
class Proposal:
    """What a study is made from: who proposes, who prunes, what is better, what may be tried."""

    sampler: str
    pruner: str
    mode: str
    seed: int
    parameters: Mapping[str, Parameter]
    rung: int = 1  # epochs before the pruner looks first


def refuse_without_optuna() -> None:
    """Refuse to search without the package.

    Raises:
        ConfigError: It is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "tune: package optuna is not installed; expected the extra tune; run: pip install 'netwright[tune]'"
        )


@final
class Study:
    """The records of a search, open for one process.

    Args:
        place: ``sqlite``, ``journal`` or an address.
        folder: Of the search; the first two lie in it.
        name: Of the study where it is kept.
        proposal: What it is made from.
        new: Whether it shall not exist yet.

    Raises:
        ConfigError: It is gone, or cannot be reached.
    """

    def __init__(self, place: str, folder: Path, name: str, proposal: Proposal, new: bool = False) -> None:
        refuse_without_optuna()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._shown, self._proposal = shown_place(place, folder), proposal
        with self._explained():
            self._storage, self._engine = _storage(place, folder, new)
            if new:
                optuna.create_study(storage=self._storage, study_name=name, direction=_direction(proposal))
            self._study = optuna.load_study(study_name=name, storage=self._storage, pruner=_pruner(proposal))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell an error of the storage in one line.

        Raises:
            ConfigError: It is gone, or cannot be reached.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
            cause = (
                error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
            )
            reason = first_line(getattr(cause, "orig", None) or cause)
            raise ConfigError(
                f"tune.study: {self._shown}: cannot be used ({reason}); expected a place for the records of this search, with "
                "those it has; check address and server, put the records back, or name a new --run-dir"
            ) from error
        except KeyError as error:
            raise ConfigError(
                f"tune.study: {self._shown}: holds no records of this search; expected them; put them back, or name a new "
                "--run-dir"
            ) from error
        except ImportError as error:
            raise ConfigError(
                f"tune.study: {self._shown}: {first_line(error)}; expected the driver of that database; for PostgreSQL run: pip "
                "install 'psycopg[binary]' and write postgresql+psycopg://..."
            ) from error

    def trials(self) -> list[Trial]:
        """Return all trials in the order of their numbers."""
        with self._explained():
            return [self._read(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _read(self, trial: optuna.trial.FrozenTrial) -> Trial:
        values = {path: self._value(path, label) for path, label in trial.params.items()}
        state = STATES.get(trial.state.name, RUNNING)
        value = trial.value if state == FINISHED else None
        return Trial(trial.number, state, value, values, dict(trial.user_attrs))

    def _value(self, path: str, label: Any) -> Any:
        """Return what a label of Optuna's stands for."""
        parameter = self._proposal.parameters.get(path)
        if not isinstance(parameter, Choices):
            return label
        found = [value for value, told in zip(parameter.values, parameter.labels(), strict=True) if told == label]
        return next((value for value in found if type(value) is type(label)), found[0])

    def begin(self, number: int) -> LiveTrial | None:
        """Return a new trial, or one whose worker is gone; None where it has ended. The caller has claimed its number.

        Which point is proposed depends on the seed, the number and the trials that ended so far.
        """
        import optuna

        with self._explained():
            self._study.sampler = _sampler(self._proposal, number)
            there = [trial for trial in self._study.get_trials(deepcopy=False) if trial.number == number]
            if there and there[0].state.is_finished():
                return None
            trial = optuna.trial.Trial(self._study, there[0]._trial_id) if there else self._study.ask()
            point = {path: _suggested(trial, path, found) for path, found in self._proposal.parameters.items()}
        return LiveTrial(self, trial, {path: self._value(path, label) for path, label in point.items()})

    def reported(self, number: int) -> set[int]:
        """Return the epochs whose figure was reported before."""
        return set(self._study.get_trials(deepcopy=False)[number].intermediate_values)

    def next_look(self, epoch: int) -> float:
        """Return the first epoch behind this one at which the pruner looks."""
        if self._proposal.pruner != "asha":
            return math.inf
        look = self._proposal.rung
        while look <= epoch:
            look *= REDUCTION
        return look

    def tell(self, number: int, state: str, value: float | None = None) -> None:
        """Record how a trial ended; one that has ended already stays as it is."""
        import optuna

        kind = next(name for name, ours in STATES.items() if ours == state)
        with self._explained():
            self._study.tell(number, value, state=optuna.trial.TrialState[kind], skip_if_finished=True)

    def importances(self) -> dict[str, float]:
        """Return which share of the figure's spread each setting explains (functional ANOVA, Hutter et al., An efficient
        approach for assessing hyperparameter importance, 2014); nothing where too few trials have ended.
        """
        import optuna

        ended = [trial for trial in self.trials() if trial.state == FINISHED]
        values = [trial.value for trial in ended]
        if len(ended) < FEWEST_FOR_IMPORTANCE or len(set(values)) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._proposal.seed)
        with self._explained():
            try:
                return optuna.importance.get_param_importances(self._study, evaluator=evaluator)
            except (RuntimeError, ValueError):  # every setting has a single value, say
                return {}

    def close(self) -> None:
        """Close the connection."""
        if self._engine is not None:
            self._engine.remove_session()
            self._engine.engine.dispose()


@final
class LiveTrial:
    """A trial that this process trains."""

    def __init__(self, study: Study, trial: optuna.trial.Trial, point: dict[str, Any]) -> None:
        self._study, self._trial, self.number, self.point = study, trial, trial.number, point
        self._reported = study.reported(trial.number)
        self._look = study.next_look(max(self._reported, default=0))

    def note(self, **told: Any) -> None:
        """Write something down with the trial."""
        with self._study._explained():
            for name, value in told.items():
                self._trial.set_user_attr(name, value)

    def falls_behind(self, epoch: int, value: float) -> bool:
        """Report a figure where the pruner looks, and tell whether the trial shall end there; elsewhere the study is not asked.

        A trial that is gone on with gives the same answers again.
        """
        ends = self._trial.user_attrs.get(ENDS)
        if ends is not None:
            return epoch >= int(ends)
        if not math.isfinite(value) or (epoch < self._look and epoch not in self._reported):
            return False
        self._look = self._study.next_look(epoch)
        with self._study._explained():
            if epoch not in self._reported:
                self._trial.report(value, epoch)
            if not self._trial.should_prune():
                return False
        self.note(**{ENDS: epoch})
        return True


def _storage(place: str, folder: Path, new: bool) -> tuple[Any, Any]:
    """Return where the records are kept, and what must be closed."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    name = {"sqlite": DATABASE, "journal": JOURNAL}.get(place)
    if name is not None and not new and not (folder / name).is_file():
        raise FileNotFoundError(2, "no such file")
    if place == "journal":
        path = str(folder / JOURNAL)
        lock = JournalFileOpenLock(path)
        if not new:
            lock.acquire()
            try:
                files.cut_back(folder / JOURNAL)  # a writer that was killed leaves half a line
            finally:
                lock.release()
        return JournalStorage(JournalFileBackend(path, lock_obj=lock)), None
    url = f"sqlite:///{(folder / DATABASE).absolute()}" if place == "sqlite" else place
    options = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    found = RDBStorage(url, engine_kwargs=options)
    return found, found


def shown_place(place: str, folder: Path) -> str:
    """Return where the records are kept, without a password."""
    if place in ("sqlite", "journal"):
        return str(folder / (DATABASE if place == "sqlite" else JOURNAL))
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _direction(proposal: Proposal) -> Literal["minimize", "maximize"]:
    return "minimize" if proposal.mode == "min" else "maximize"


def _pruner(proposal: Proposal) -> Any:
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    if proposal.pruner != "asha":
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=proposal.rung, reduction_factor=REDUCTION)


def _sampler(proposal: Proposal, number: int) -> Any:
    """Return what proposes the trial of that number."""
    from optuna import samplers

    seed = int(stream(proposal.seed, "tuning", number).integers(2**32))
    if proposal.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if proposal.sampler == "gp":
        return samplers.GPSampler(seed=seed)
    return samplers.TPESampler(seed=seed)


def _suggested(trial: optuna.trial.Trial, path: str, parameter: Parameter) -> Any:
    """Return the value of one setting in a trial."""
    if isinstance(parameter, Choices):
        return trial.suggest_categorical(path, parameter.labels())
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return trial.suggest_int(path, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(path, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
