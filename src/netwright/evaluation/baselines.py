"""Models that need no network, fitted on the same train rows and asked about the same test rows; scikit-learn's. Floor 8."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.beside import Imports
from netwright.errors import first_line
from netwright.model.decisions import decide_each

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
ROUNDS = 100  # of boosting, scikit-learn's default
ITERATIONS = 100  # of regressions, scikit-learn's default
FEWEST = 5  # rounds or iterations, below which a model says little
# What a baseline may cost, in numbers that it looks at: about ten seconds of one core. Work is counted and not the time, so that
# the figures are the same on every machine, however busy.
LINEAR_WORK, BOOSTING_WORK = 6_000_000_000, 600_000_000
TREE = 100_000  # numbers that a tree costs, however few its rows are
MOST_LINEAR, MOST_BOOSTED = 20_000, 400  # features
MOST_LABELS = 50  # models of one kind, one for each label or output
MOST_CATEGORIES = 255
CALENDAR = (7, 12, 24, 52, 168, 365)  # seasons that are taken where they fit nearly as well as the best: a peak is broad
PEAK = 0.2  # autocorrelation below which no season is said to be there
NEARLY = 0.9
IMPORTS = Imports("sklearn", (__name__, "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline"), without=("pandas",))


@dataclass(frozen=True)
class Problem:
    """What is learned from and asked about.

    ``kind`` is the task; ``train`` and ``test`` are features ``(rows, features)``, NaN missing; ``target`` that of the train
    rows: class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``; ``classes`` their number;
    ``rates``: counts are predicted; ``categories``: the places of features that are codes; ``pixels``: the features are such;
    ``weights``: how much a row counts by its class ``(classes,)``, None where all count alike.
    """

    kind: str
    train: npt.NDArray[Any]
    test: npt.NDArray[Any]
    target: npt.NDArray[Any]
    classes: int = 0
    rates: bool = False
    categories: tuple[int, ...] = ()
    pixels: bool = False
    weights: Floats | None = None


@dataclass(frozen=True)
class Baseline:
    """What a model says of the test rows, decoded as the network's outputs are: ``(rows, classes)`` or ``(rows, outputs)``."""

    key: str
    name: str
    decoded: Floats
    seconds: float = 0.0
    note: str = ""
    period: int | None = None


class LeftOutError(Exception):
    """A baseline that is not made; the text says why."""


def make_learned(problems: Mapping[str, Problem], together: bool) -> dict[str, Baseline | str]:
    """Make the baselines that learn, and return each by its name, or why it is left out.

    Args:
        problems: What each learns, by the names of `LEARNED`.
        together: Whether all are made at once, or one after the other.
    """
    return dict(made_together([(name, partial(LEARNED[name], problem)) for name, problem in problems.items()], together))


def why_left_out(error: Exception) -> str:
    """Return in words why a baseline was not made."""
    return str(error) if isinstance(error, LeftOutError) else f"{type(error).__name__}: {first_line(error)}"


def made_together(
    makers: Sequence[tuple[str, Callable[[], Baseline]]], together: bool = True
) -> Iterator[tuple[str, Baseline | str]]:
    """Make baselines, side by side on several cores, and yield each by its name, in order; of one that fails the reason.

    Each operation runs on one thread, so that figures are the same on every machine, and scikit-learn's warnings are left out,
    until all are taken.

    Args:
        makers: A name, and what makes the baseline.
        together: Whether all are made at once, or one after the other.
    """
    import sklearn.ensemble  # before their threads are limited; and two threads that import them at once meet half of them
    import sklearn.linear_model
    import sklearn.pipeline  # noqa: F401
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        if not together:
            yield from ((name, tried(make)) for name, make in makers)
            return
        found: dict[str, Baseline | str] = {}

        def work(name: str, make: Callable[[], Baseline]) -> None:
            with threadpool_limits(1, user_api="openmp"):  # each thread has its own
                found[name] = tried(make)

        threads = [threading.Thread(target=work, args=each, daemon=True) for each in makers]
        for thread in threads:
            thread.start()
        for thread, (name, _) in zip(threads, makers, strict=True):
            thread.join()
            yield name, found[name]


def tried(make: Callable[[], Baseline]) -> Baseline | str:
    """Return a baseline with the seconds that it took, or why it is left out."""
    begun = time.perf_counter()
    try:
        return replace(make(), seconds=round(time.perf_counter() - begun, 3))
    except Exception as error:  # scikit-learn refuses some rows
        return why_left_out(error)


def make_simple(kind: str, target: npt.NDArray[Any], rows: int, classes: int) -> Baseline:
    """Return what is best where nothing is known of a row: class shares, label shares, the mean.

    Args:
        kind: The task.
        target: Of the train rows, see `Problem`.
        rows: To be asked about.
        classes: Their number.
    """
    if kind == "regression":
        return Baseline("mean", "the mean of the train rows", np.tile(target.mean(axis=0), (rows, 1)))
    if kind == "multilabel":
        packed = np.packbits(target.astype(np.uint8), axis=1)
        _, first, counts = np.unique(packed, axis=0, return_index=True, return_counts=True)
        best = target[first[counts.argmax()]].astype(np.float64)
        return Baseline("most_frequent", "the most frequent set of labels", np.tile(best, (rows, 1)))
    shares = np.bincount(target, minlength=classes) / len(target)
    return Baseline("most_frequent", "the most frequent class", np.tile(shares, (rows, 1)))


def make_linear(problem: Problem, work: int = LINEAR_WORK) -> Baseline:
    """Return logistic, Poisson or ridge regression on standardised features, with scikit-learn's defaults.

    Args:
        problem: What is learned.
        work: Numbers that it may look at: of many rows fewer iterations are made.

    Raises:
        LeftOutError: Too many features or labels, or a few iterations are too much work.
    """
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one_hot = _as_one_hot(problem)
    _refuse_large(one_hot, MOST_LINEAR)
    if problem.kind == "regression" and not problem.rates:
        return _fitted("linear", "linear regression", one_hot, lambda: make_pipeline(StandardScaler(), Ridge(alpha=1.0)))

    each = one_hot.train.size
    iterations = _affordable(ITERATIONS, "iterations", each * _outputs(problem), work)
    key, name, kind = "logistic", "logistic regression", LogisticRegression
    if problem.rates:
        key, name, kind = "linear", "Poisson regression", PoissonRegressor
    made = _fitted(key, name, one_hot, lambda: make_pipeline(StandardScaler(), kind(max_iter=iterations)))
    note = f"{iterations} of {ITERATIONS} iterations, {_cause(one_hot, ITERATIONS * each > work)}"
    return replace(made, note=note) if iterations < ITERATIONS else made


def make_boosting(problem: Problem, work: int = BOOSTING_WORK) -> Baseline:
    """Return histogram gradient boosting with scikit-learn's defaults.

    Args:
        problem: What is learned.
        work: Numbers that it may look at: of many rows fewer rounds are made.

    Raises:
        LeftOutError: Pixels, too many features or labels, or a few rounds are too much work.
    """
    if problem.pixels:
        raise LeftOutError("the rows are images; trees on single pixels say little")
    _refuse_large(problem, MOST_BOOSTED)
    each = problem.train.size + TREE
    rounds = _affordable(ROUNDS, "rounds", each * _outputs(problem), work)
    made = _fitted("boosting", "gradient boosting", problem, lambda: _boosted(problem, rounds))
    note = f"{rounds} of {ROUNDS} rounds, {_cause(problem, ROUNDS * each > work)}"
    return replace(made, note=note) if rounds < ROUNDS else made


LEARNED: dict[str, Callable[[Problem], Baseline]] = {"linear": make_linear, "boosting": make_boosting}


def _refuse_large(problem: Problem, features: int) -> None:
    """Refuse more features or labels than a baseline is made for."""
    if problem.train.shape[1] > features:
        raise LeftOutError(f"{problem.train.shape[1]:,} features; at most {features:,} are taken")
    if _models(problem) > MOST_LABELS:
        raise LeftOutError(f"{_models(problem)} outputs; at most {MOST_LABELS} are taken")


def _affordable(most: int, word: str, each: int, work: int) -> int:
    """Return how many rounds are made where each looks at so many numbers.

    Raises:
        LeftOutError: Too few to say anything.
    """
    rounds = min(most, work // max(each, 1))
    if rounds < FEWEST:
        raise LeftOutError(f"{FEWEST} {word} look at {FEWEST * each:,} numbers; at most {work:,} are looked at")
    return rounds


def _cause(problem: Problem, one: bool) -> str:
    """Return why a model has fewer rounds than usual; ``one``: so it would with a single class or output."""
    if one:
        return "for the many rows" if len(problem.train) >= problem.train.shape[1] else "for the many features"
    return "for the many classes" if problem.kind == "multiclass" else "for the many outputs"


def _boosted(problem: Problem, rounds: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    sizes = [int(np.nanmax(problem.train[:, place], initial=0)) for place in problem.categories]
    coded = [place for place, size in zip(problem.categories, sizes, strict=True) if size < MOST_CATEGORIES]
    settings: dict[str, Any] = {"max_iter": rounds, "random_state": 0, "categorical_features": coded or None}
    if problem.kind != "regression":
        return HistGradientBoostingClassifier(**settings)
    return HistGradientBoostingRegressor(loss="poisson" if problem.rates else "squared_error", **settings)


def _models(problem: Problem) -> int:
    """Return how many models of one output are fitted."""
    return problem.target.shape[1] if problem.target.ndim == 2 else 1


def _outputs(problem: Problem) -> int:
    """Return how many models are fitted, counting each class of several as one."""
    return _models(problem) * (problem.classes if problem.kind == "multiclass" else 1)


def _fitted(key: str, name: str, problem: Problem, make: Callable[[], Any]) -> Baseline:
    """Fit a model, one for each label or output, and ask it about the test rows; that it stopped early is noted."""
    columns = problem.target.T if problem.target.ndim == 2 else [problem.target]
    models = [make() for _ in columns]
    answers = [_answer(model, problem, column) for model, column in zip(models, columns, strict=True)]
    if problem.kind in ("multilabel", "regression"):
        decoded = np.stack([answer if answer.ndim == 1 else answer[:, 1] for answer in answers], axis=1)
    else:
        decoded = answers[0]
    stopped = key != "boosting" and any(np.max(getattr(model[-1], "n_iter_", None) or 0) >= ITERATIONS for model in models)
    note = f"stopped after {ITERATIONS} iterations" if stopped else ""
    return Baseline(key, name, decoded, note=note)


def _answer(model: Any, problem: Problem, target: npt.NDArray[Any]) -> Floats:
    """Return values ``(rows,)`` or probabilities ``(rows, classes)`` of one output; classes without a train row get 0."""
    if problem.kind == "regression" and problem.rates:
        return np.asarray(model.fit(problem.train, target).predict(problem.test), dtype=np.float64)
    if problem.kind == "regression":  # Ridge reads it in float32, and boosting stops by a tolerance that has no unit
        mean, unit = target.mean(), target.std() or 1.0
        found = model.fit(problem.train, (target - mean) / unit).predict(problem.test)
        return np.asarray(mean + unit * np.asarray(found, dtype=np.float64))
    known, codes = np.unique(target, return_inverse=True)
    found = np.zeros((len(problem.test), 2 if problem.kind == "multilabel" else problem.classes))
    if len(known) == 1:
        found[:, known[0]] = 1.0
        return found
    given = {}
    if problem.weights is not None:
        last = getattr(model, "steps", None)  # of a pipeline the last one reads them
        given = {f"{last[-1][0]}__sample_weight" if last else "sample_weight": problem.weights[target]}
    found[:, known] = model.fit(problem.train, codes, **given).predict_proba(problem.test)
    return found


def _as_one_hot(problem: Problem) -> Problem:
    """Return the problem with a feature for each category of a code, and missing numbers as 0."""
    kept = [place for place in range(problem.train.shape[1]) if place not in problem.categories]
    parts = {"train": [problem.train[:, kept]], "test": [problem.test[:, kept]]}
    for place in problem.categories:
        levels = np.unique(problem.train[:, place])
        for name, rows in (("train", problem.train), ("test", problem.test)):
            parts[name].append((rows[:, [place]] == levels).astype(np.float32))
    train, test = (np.nan_to_num(np.concatenate(parts[name], axis=1)) for name in ("train", "test"))
    return replace(problem, train=train, test=test, categories=())


def persist(last: Floats) -> Baseline:
    """Return the forecast of no change: the last value known, ``(rows, outputs)``."""
    return Baseline("persistence", "the last value", last)


def repeat_season(
    values: Floats, known: Numbers, horizon: int, period: int, last: Floats, begins: Numbers | int = 0
) -> Baseline:
    """Return the seasonal naive forecast: the value of one season before the step asked for.

    Hyndman and Athanasopoulos, Forecasting: Principles and Practice, chapter 5.2.

    Args:
        values: Of all series step by step, ``(steps, outputs)``.
        known: The last step that is known of each row, ``(rows,)``.
        horizon: Steps from there to the one asked for.
        period: Steps after which the series repeats.
        last: The last value known, ``(rows, outputs)``, for rows whose season before begins earlier than the series.
        begins: The first step of the series of each row, ``(rows,)``.
    """
    places = known + horizon - period * math.ceil(horizon / period)
    found = np.where((places >= begins)[:, None], values[np.maximum(places, 0)], last)
    return Baseline("seasonal", f"the value of {period} steps before", found, period=period)


def find_period(values: Floats) -> int | None:
    """Return after how many steps a series repeats, by the highest peak of its autocorrelation; None if nothing stands out.

    Args:
        values: One series of train steps ``(steps,)``; its straight trend is taken out.
    """
    steps = len(values)
    if steps < 8 or not np.isfinite(values).all():
        return None
    times = np.arange(steps)
    rest = values - np.polyval(np.polyfit(times, values, 1), times)
    size = 1 << (2 * steps - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(rest, size)) ** 2
    correlation = np.fft.irfft(spectrum, size)[: steps // 3 + 2]
    if correlation[0] <= 0:
        return None
    correlation = correlation / correlation[0] * steps / (steps - np.arange(len(correlation)))
    below = np.flatnonzero(correlation < 0)
    if not len(below):
        return None
    lags = np.arange(max(2, int(below[0])), len(correlation) - 1)
    around = correlation[lags]
    peaks = lags[(around >= correlation[lags - 1]) & (around >= correlation[lags + 1]) & (around > 3 / math.sqrt(steps))]
    peaks = peaks[correlation[peaks] > PEAK]
    if not len(peaks):
        return None
    high = NEARLY * correlation[peaks].max()
    usual = [lag for lag in CALENDAR if lag in lags and correlation[lag] >= high]
    return usual[0] if usual else int(peaks[np.flatnonzero(correlation[peaks] >= high)[0]])  # itself, not a multiple of it


def labels_told(decoded: Floats, labels: Sequence[Any]) -> list[Any]:
    """Return the labels of the set that a baseline gives to every row."""
    return [label for label, there in zip(labels, decide_each(decoded[:1])[0], strict=True) if there]
