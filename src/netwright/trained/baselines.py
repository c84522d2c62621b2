"""The network beside models that need none: their rows, which of them are made, and by how much the network differs. Floor 13."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.beside import begin
from netwright.data.batches import Batch, Examples
from netwright.data.mapped import Mapped
from netwright.data.preparation import TABLE, Preparation, TablePreparation
from netwright.data.splits import Split
from netwright.evaluation import baselines
from netwright.evaluation.baselines import LEARNED, Baseline, LeftOutError, Problem, make_learned, tried, why_left_out
from netwright.evaluation.testing import Verdict
from netwright.pipeline.balancing import factors_of
from netwright.rows.inputs import Inputs
from netwright.rows.windows import Past
from netwright.seeding import stream
from netwright.sources import labels
from netwright.trained.known import Known

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
WEIGHTED = "its classes count as in the network's training"
MOST_TRAIN = 200_000  # rows that a baseline learns from
MOST_NUMBERS = 100_000_000  # in the features of train rows, and in those of test rows
FEWEST_TRAIN = 1000  # of very many rows
MOST_CODES = 20_000
MOST_TOGETHER = 20_000_000  # numbers of train rows, up to which models are fitted at once: each holds copies
CHUNK = 1024
IMAGE_AXES = 4  # of a batch, from which features lie in space and boosting of single ones is not sensible


@dataclass(frozen=True)
class Standing:
    """What a network is compared on: its run's rows, and what it gave for the test rows.

    ``verdict`` holds the test rows' targets and the network's decoded outputs.
    """

    known: Known
    inputs: Inputs
    verdict: Verdict


def begin_to_compare(standing: Standing) -> Callable[[], dict[str, Any]]:
    """Begin to fit models, and return what waits for their entries in test.json: ``baselines`` and what is about them.

    Each model is fitted on the train rows (of very many, on a part) as the network's preparation gives them, linear ones on
    standardised numbers, boosting on categories as one feature for each column, and asked about the test rows; the difference is
    the network's figure less the model's, with a paired interval.
    """
    first = time.perf_counter()
    learned = _begin_to_learn(standing)
    begun = time.perf_counter() - first

    def wait() -> dict[str, Any]:
        first = time.perf_counter()
        entries = _entries(standing, learned)
        took = {"seconds": {"baselines": round(begun + time.perf_counter() - first, 3)}}
        return {**entries, **(took if any(entries.values()) else {})}

    return wait


def _entries(standing: Standing, learned: Callable[[], Mapping[str, Baseline | str]]) -> dict[str, Any]:
    """Return what test.json says of the models that are wanted."""
    found: dict[str, Any] = {}
    left_out: list[dict[str, str]] = []
    for key, made in _all_made(standing, learned):
        if isinstance(made, str):
            left_out.append({"name": key, "why": made})
            continue
        entry: dict[str, Any] = {"name": made.name, **standing.verdict.beside(made.decoded)}
        if made.key == "most_frequent" and standing.inputs.target.task == "multilabel":
            names = [str(labels.shown(label)) for label in standing.inputs.target.classes]
            entry["labels"] = baselines.labels_told(made.decoded, names)
        entry |= {"period": made.period} if made.period is not None else {}
        entry |= {"note": made.note} if made.note else {}
        found[made.key] = {**entry, "seconds": made.seconds}
    return {"baselines": found, **({"baselines_left_out": left_out} if left_out else {})}


def _all_made(
    standing: Standing, learned: Callable[[], Mapping[str, Baseline | str]]
) -> Iterator[tuple[str, Baseline | str]]:
    """Yield each baseline that is wanted by its name, or why it is left out; those that learn, last, as they take long."""
    if "simple" in standing.known.config.evaluation.baselines:
        yield from ((name, tried(make)) for name, make in _simple(standing))
    yield from learned().items()


def _begin_to_learn(standing: Standing) -> Callable[[], Mapping[str, Baseline | str]]:
    """Begin to fit the models that learn, and return what waits for them, by name, or for why one is left out."""
    wanted, inputs = standing.known.config.evaluation.baselines, standing.inputs
    names: list[str] = [name for name in LEARNED if name in wanted and not inputs.target.per_step]
    if not names:
        return dict
    preparation, raw = standing.known.program.preparation, inputs.raw
    try:
        problem, note = _problem(standing, preparation)
        note = "; ".join(text for text in (note, "" if problem.weights is None else WEIGHTED) if text)
        straight = _straight(preparation) if "linear" in names and not isinstance(raw, Mapped) else None
        linear = problem if straight is None else _problem(standing, straight)[0]
    except Exception as reason:  # no model can be made of these rows; the network's test goes on
        left_out: dict[str, Baseline | str] = dict.fromkeys(names, why_left_out(reason))
        return lambda: left_out
    given = {"linear": linear, "boosting": _as_codes(problem, preparation)}
    problems = {name: given[name] for name in names}
    together = problem.train.size <= MOST_TOGETHER
    light = together and problem.test.size <= MOST_TOGETHER
    waiting = begin(make_learned, problems, True) if light else partial(make_learned, problems, together)
    return lambda: {name: made if isinstance(made, str) else _noted(made, note) for name, made in waiting().items()}


def _noted(made: Baseline, note: str) -> Baseline:
    """Return a model with a note of its rows before its own."""
    return replace(made, note="; ".join(text for text in (note, made.note) if text))


def _simple(standing: Standing) -> list[tuple[str, Callable[[], Baseline]]]:
    """Return the names of the baselines that learn nothing of a row, and what makes them."""
    target, split, past = standing.inputs.target, standing.inputs.split, standing.inputs.past
    rows = len(target.of(split.test))
    simple = partial(baselines.make_simple, target.task, target.of(split.train), rows, len(target.classes))
    if past is None:
        return [("simple", simple)]
    season = standing.known.config.evaluation.season
    last = past.values[past.known[split.test]]
    return [
        ("simple", simple),
        ("persistence", partial(baselines.persist, last)),
        ("seasonal", partial(_seasonal, past, split, season)),
    ]


def _seasonal(past: Past, split: Split, period: int | None) -> Baseline:
    """Return the seasonal naive forecast.

    Raises:
        LeftOutError: The train steps show no season and none is set.
    """
    if period is None:
        known = past.known[split.train]
        first = known[past.begins[split.train] == past.begins[split.train][0]]
        period = baselines.find_period(past.values[first.min() : first.max() + 1, 0])
    if period is None:
        raise LeftOutError("the train steps show no season; set evaluation.season")
    known, begins = past.known[split.test], past.begins[split.test]
    return baselines.repeat_season(past.values, known, past.horizon, period, past.values[known], begins)


def _straight(preparation: Preparation) -> Preparation | None:
    """Return a preparation that standardises the numbers of a table, where the run's bends them; None where it does not.

    What is linear in the scores of quantiles is not linear in a column.
    """
    module = _of_table(preparation)
    if module is None or module.numbers != "quantile":
        return None
    plain = copy.copy(module)
    plain.numbers = "standardize"  # the means and deviations are learned in any case
    return replace(preparation, modules=nn.ModuleDict({TABLE: plain}))


def _problem(standing: Standing, preparation: Preparation) -> tuple[Problem, str]:
    """Return the prepared train and test rows as features, and how many train rows they are where it is a part.

    Raises:
        LeftOutError: Too many numbers.
    """
    inputs, program = standing.inputs, standing.known.program
    train, test, target = inputs.split.train, inputs.split.test, inputs.target
    examples = preparation.examples(inputs.raw)
    size = _features(examples, train[:1], _most_codes(examples, train[:CHUNK])).shape[1]
    room = min(MOST_TRAIN, MOST_NUMBERS // size)
    if room < min(FEWEST_TRAIN, len(train)) or size * len(test) > MOST_NUMBERS:
        raise LeftOutError(f"{size:,} features of {len(test):,} test rows; at most {MOST_NUMBERS:,} numbers are taken")
    note = ""
    if len(train) > room:
        note = f"fitted on {room:,} of {len(train):,} train rows"
        train = np.sort(stream(0, "resampling").choice(train, room, replace=False))
    codes = _most_codes(examples, train)
    features = [_features(examples, rows, codes) for rows in (train, test)]
    return (
        Problem(
            target.task,
            features[0],
            features[1],
            target.of(train),
            len(target.classes),
            program.outcome.decoding.rates,
            _code_places(preparation, features[0].shape[1]),
            any(len(shape) + 1 >= IMAGE_AXES for shape in examples.shapes.values()),
            _weights(standing),
        ),
        note,
    )


def _weights(standing: Standing) -> Floats | None:
    """Return how much the network's loss and sampling let a row count by its class, 1 in the mean; None where all alike."""
    target = standing.inputs.target
    if target.task not in ("binary", "multiclass") or target.per_step:
        return None
    counts = np.bincount(target.of(standing.inputs.split.train), minlength=len(target.classes))
    factors = factors_of(standing.known.config, len(target.classes), counts.tolist())
    return None if factors is None else factors * (counts.sum() / (factors * counts).sum())


def _code_places(preparation: Preparation, size: int) -> tuple[int, ...]:
    """Return which features of a table are codes of categories."""
    module = _of_table(preparation)
    return () if module is None or not module.codes else tuple(range(size - len(module.categories), size))


def _of_table(preparation: Preparation) -> TablePreparation | None:
    """Return what prepares the rows of a table; None where rows are something else."""
    module = preparation.modules[TABLE] if TABLE in preparation.modules and preparation.steps is None else None
    return module if isinstance(module, TablePreparation) else None


def _as_codes(problem: Problem, preparation: Preparation) -> Problem:
    """Return a problem whose categories are a feature each, whole numbers from 1 on, 0 for none that is known.

    Trees divide such a feature by sets of categories, and look at it once instead of once for each category.
    """
    module = _of_table(preparation)
    if module is None or module.codes or not module.categories:
        return problem
    levels = [module.levels[place] for place in module.categories]
    ends = problem.train.shape[1] - sum(levels) + np.cumsum([0, *levels])

    def coded(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        blocks = [rows[:, start:end] @ np.arange(1, end - start + 1, dtype=rows.dtype) for start, end in pairwise(ends)]
        return np.column_stack([rows[:, : ends[0]], *blocks])

    places = tuple(range(int(ends[0]), int(ends[0]) + len(levels)))
    return replace(problem, train=coded(problem.train), test=coded(problem.test), categories=places)


def _most_codes(examples: Examples, rows: Rows) -> int:
    """Return one more than the largest symbol of rows that are sequences of such; 0 for others."""
    first = examples.batch(torch.from_numpy(rows[:1])).inputs
    names = [name for name, value in first.items() if value.dtype == torch.int64]
    if not names:
        return 0
    largest = [int(batch.inputs[name].max()) + 1 for batch in _batches(examples, rows) for name in names]
    return min(max(largest, default=0), MOST_CODES)


def _features(examples: Examples, rows: Rows, codes: int) -> npt.NDArray[np.float32]:
    """Return prepared rows as features ``(rows, features)``."""
    first = examples.spans is not None and examples.spans.channels_first
    uniform = examples.spans is None or examples.spans.uniform
    parts = [
        np.concatenate([_flat(value, batch.lengths, codes, uniform, first) for value in batch.inputs.values()], axis=1)
        for batch in _batches(examples, rows)
    ]
    return np.concatenate(parts)


def _batches(examples: Examples, rows: Rows) -> Iterator[Batch]:
    for start in range(0, len(rows), CHUNK):
        yield examples.batch(torch.from_numpy(rows[start : start + CHUNK]))


def _flat(value: Tensor, lengths: Tensor | None, codes: int, uniform: bool, channels_first: bool) -> npt.NDArray[np.float32]:
    """Return an input of a batch as numbers of each row: as they are, symbols counted, unequal series summed up."""
    if value.dtype == torch.int64:
        counted = torch.zeros(len(value), max(codes, 1))
        counted.scatter_add_(1, value.flatten(1).clamp(max=max(codes, 1) - 1), torch.ones(value.flatten(1).shape))
        return counted.numpy()
    if uniform or lengths is None:
        return value.flatten(1).float().numpy()
    steps = value.transpose(1, 2) if channels_first else value
    there = (torch.arange(steps.shape[1]) < lengths.unsqueeze(1)).unsqueeze(2)
    count = lengths.clamp(min=1).unsqueeze(1)
    mean = (steps * there).sum(1) / count
    deviation = ((((steps - mean.unsqueeze(1)) ** 2) * there).sum(1) / count).sqrt()
    least = steps.masked_fill(~there, torch.inf).amin(1)
    most = steps.masked_fill(~there, -torch.inf).amax(1)
    last = steps[torch.arange(len(steps)), (lengths - 1).clamp(min=0)]
    told = [mean, deviation, least, most, last, count.float()]
    return torch.nan_to_num(torch.cat(told, dim=1), posinf=0.0, neginf=0.0).float().numpy()
