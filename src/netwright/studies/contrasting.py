"""Two sides of a comparison, each a run or a folder of seeds: how far apart their figures are, and what chance could do.

Two runs on the same test rows are paired row by row, two folders of the same seeds seed by seed. Floor 15.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError
from netwright.evaluation.pairs import Difference, McNemar, Outcomes, mcnemar, paired_differences, sums_of
from netwright.lifecycle.several import figures_of
from netwright.numerals import figure
from netwright.reporting.sentences import PRINCIPAL
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.studies.repeating import read_seeds
from netwright.trained.predictions import Predictions, outcomes_of, read_predictions, units_of

LEVEL = 0.95
AGREES = 1e-6  # a figure from predictions.csv and that of test.json
BINNED = 1e-3  # likewise, where scores of very many rows are counted in bins
ONE_SEED = "one seed each: the noise between seeds is not known; netwright train CONFIG --seeds 5 shows it"


@dataclass(frozen=True)
class Side:
    """A run, or a folder of seeds, as it is compared.

    ``figures`` are those of the test, means over the seeds; ``values`` one per seed, ``deviations`` their standard
    deviations, both empty for a single run. ``first`` is the run itself, or that of the first seed.
    """

    folder: Path
    first: Path
    record: dict[str, Any]
    config: RunConfig
    figures: dict[str, float]
    values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """The differences of two sides, how their intervals were made, and what they are worth."""

    differences: dict[str, Difference] = field(default_factory=dict)
    how: str | None = None
    mcnemar: McNemar | None = None
    remarks: tuple[str, ...] = ()


def side_of(path: Path) -> Side:
    """Read a run or a folder of seeds.

    Raises:
        CheckpointError: It is neither, or damaged.
    """
    if not (path / folders.SEEDS).is_file():
        test = path / folders.TEST
        record = folders.read_record(path)
        figures = figures_of(folders.read_json(test)) if test.is_file() else {}
        return Side(path, path, record, read_config(path), figures)
    told = read_seeds(path)
    first = told.runs[0]
    return Side(
        path,
        first,
        folders.read_record(first),
        read_config(first),
        {name: figure.mean for name, figure in told.figures.items()},
        {name: figure.values for name, figure in told.figures.items()},
        {name: figure.deviation for name, figure in told.figures.items()},
        told.seeds,
    )


def without(side: Side, names: Collection[str]) -> Side:
    """Return a side without some figures."""
    kept = [{name: value for name, value in part.items() if name not in names} for part in (side.figures, side.deviations)]
    values = {name: found for name, found in side.values.items() if name not in names}
    return replace(side, figures=kept[0], values=values, deviations=kept[1])


def titled(name: str) -> str:
    """Return a figure by the name it is shown with: one of the test says so, one of valid rows does by itself.

    Example:
        >>> titled("accuracy"), titled("valid_accuracy")
        ('test accuracy', 'valid_accuracy')
    """
    return name if name.startswith(("valid_", "train_")) else f"test {name}"


def contrast(one: Side, other: Side) -> Contrast:
    """Return how far apart two sides are, with intervals where they can be had."""
    if one.seeds and other.seeds:
        return _of_seeds(one, other)
    if one.seeds or other.seeds:
        return _of_seeds_and_one(one, other)
    return _of_runs(one, other)


def _of_runs(one: Side, other: Side) -> Contrast:
    """Compare two single runs row by row."""
    if not one.figures or not other.figures:
        untested = one if not one.figures else other
        return Contrast(remarks=(f"{untested.folder} is not tested yet; netwright test {untested.folder}",))
    apart = _why_apart(one, other)
    if apart is not None:
        return Contrast(remarks=(apart, ONE_SEED))
    try:
        rows = [read_predictions(side.folder, side.config, side.record) for side in (one, other)]
        if not rows[0].same_rows(rows[1]):
            return Contrast(remarks=(_rows_differ(*rows), ONE_SEED))
        return _paired(one, other, rows[0], rows[1])
    except CheckpointError as error:
        return Contrast(remarks=(f"not compared row by row: {error}", ONE_SEED))


def _why_apart(one: Side, other: Side) -> str | None:
    """Return why two runs cannot have the same test rows, in words."""
    digests = [side.record.get("data", {}).get("digest") for side in (one, other)]
    if digests[0] != digests[1] or digests[0] is None:
        return "the data differ, so the figures are of different rows: their difference has no interval here"
    kinds = [side.record.get("task", {}).get("kind") for side in (one, other)]
    if kinds[0] != kinds[1]:
        return f"the tasks differ ({kinds[0]} | {kinds[1]}): no figure of one is that of the other"
    return None


def _rows_differ(one: Predictions, other: Predictions) -> str:
    keys = [set(map(tuple, rows.keys.tolist())) for rows in (one, other)]
    common = len(keys[0] & keys[1])
    if keys[0] == keys[1]:
        return "the targets of the test rows differ, so they are not compared row by row"
    return (
        f"the test rows differ ({len(keys[0])} | {len(keys[1])}, {common} in common), so the difference has no interval here; "
        "the same data.split.seed gives the same rows"
    )


def _paired(one: Side, other: Side, first: Predictions, second: Predictions) -> Contrast:
    """Return the paired differences of two runs on the same rows."""
    outcomes = outcomes_of(first, second)
    units, named, remark = units_of(one.folder, one.config, one.record, first)
    found = paired_differences(outcomes[0], outcomes[1], units)
    agree = set(found) & _agreeing(one, outcomes[0]) & _agreeing(other, outcomes[1])
    sound = {name: difference for name, difference in found.items() if name in agree}
    test = None
    if outcomes[0].kind == "class" and named is None and remark is None:
        test = mcnemar(*(side.true == side.predicted for side in outcomes))
    method = next((difference.method for difference in sound.values() if difference.method), None)
    what = named or "test rows"
    how = f"paired {method} over {int(units.max()) + 1:,} {what}, drawn for both runs at once" if method else None
    remarks = [text for text in (remark, _worth(sound, what)) if text]
    if not sound:
        remarks.append(
            "predictions.csv does not give the figures of test.json again, so no intervals are given; test the runs"
        )
    return Contrast(sound, how, test, (*remarks, ONE_SEED))


def _agreeing(side: Side, outcomes: Outcomes) -> set[str]:
    """Return the figures that predictions.csv gives as test.json has them."""
    found = set()
    for name, taken in sums_of(outcomes).values().items():
        told, close = side.figures.get(name), BINNED if name in ("roc_auc", "average_precision") else AGREES
        if told is not None and abs(told - taken) <= close * max(1, abs(told)):
            found.add(name)
    return found


def _worth(found: dict[str, Difference], rows: str) -> str | None:
    """Return what the difference of the main figure is worth, in words."""
    name = main_figure(found)
    if name is None:
        return None
    difference = found[name]
    if difference.value == 0:
        return f"{titled(name)}: no difference"
    if difference.low is None:
        return f"{titled(name)}: too few {rows} for an interval"
    if not difference.sure:
        return f"{titled(name)}: the difference of {figure(difference.value, 3, '+')} may be chance: its interval holds 0"
    return f"{titled(name)}: the difference of {figure(difference.value, 3, '+')} is more than the chance of these {rows}"


def main_figure(found: dict[str, Any]) -> str | None:
    """Return the name of the figure that a reader asks for first."""
    first = [*PRINCIPAL, *(f"valid_{name}" for name in PRINCIPAL)]
    return next((name for name in first if name in found), next(iter(found), None))


def _of_seeds(one: Side, other: Side) -> Contrast:
    """Compare the means of two folders of seeds: seed by seed where both have the same, else by Welch's interval.

    Source: Student, The probable error of a mean, 1908; Welch, The generalization of Student's problem when several different
    population variances are involved, 1947.
    """
    names = [name for name in one.values if name in other.values]
    if not names:
        return Contrast(remarks=("no figure of one is one of the other: test both, or compare validation figures of both",))
    digests = [(side.record["data"].get("digest"), side.record["split"].get("digest")) for side in (one, other)]
    paired = one.seeds == other.seeds and digests[0] == digests[1]
    found = {name: _mean_difference(one.values[name], other.values[name], paired) for name in names}
    method = next((difference.method for difference in found.values() if difference.method), None)
    how = (
        None if method is None else f"{method} of the difference of means over {len(one.seeds)} and {len(other.seeds)} seeds"
    )
    remarks = [text for name in filter(None, [main_figure(found)]) for text in _noise(name, found[name], one, other)]
    if digests[0] != digests[1]:
        remarks.append("the data or the split differ: the figures are of different rows")
    else:
        remarks.append("the interval is of chance in training on these test rows; other rows bring their own")
    return Contrast(found, how, None, tuple(remarks))


def _mean_difference(one: tuple[float, ...], other: tuple[float, ...], paired: bool) -> Difference:
    """Return the difference of two means with its 95 % t-interval; none where nothing varies."""
    from scipy import stats

    value = float(np.mean(other) - np.mean(one))
    gaps = np.subtract(other, one) if paired else np.concatenate([np.subtract(one, one[0]), np.subtract(other, other[0])])
    if np.ptp(gaps) == 0:
        return Difference(value)
    test = stats.ttest_rel(other, one) if paired else stats.ttest_ind(other, one, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Difference(value, float(low), float(high), "paired t-interval" if paired else "Welch's t-interval")


def _noise(name: str, found: Difference, one: Side, other: Side) -> list[str]:
    """Return what a difference of means is worth beside the noise between seeds."""
    deviation = max(one.deviations[name], other.deviations[name])
    remarks = []
    if abs(found.value) < deviation:
        remarks.append(
            f"{titled(name)}: the difference of {figure(found.value, 3, '+')} is smaller than the standard deviation between seeds "
            f"({figure(deviation, 2)}): a single run of each would not show it"
        )
    if found.low is not None and not found.sure:
        remarks.append(f"{titled(name)}: the interval holds 0: the difference may be chance")
    elif found.sure:
        remarks.append(
            f"{titled(name)}: the difference of {figure(found.value, 3, '+')} is more than the noise between these seeds"
        )
    return remarks


def _of_seeds_and_one(one: Side, other: Side) -> Contrast:
    """Compare a folder of seeds with a single run: where the run stands among the seeds."""
    seeds, single = (one, other) if one.seeds else (other, one)
    names = [name for name in seeds.values if name in single.figures]
    found = {name: Difference(other.figures[name] - one.figures[name]) for name in names}
    name = main_figure(found)
    remarks = [f"{single.folder} is one seed, so the difference has no interval: --seeds {len(seeds.seeds)} for both"]
    if name is not None:
        values, deviation = seeds.values[name], seeds.deviations[name]
        inside = min(values) <= single.figures[name] <= max(values)
        where = "among" if inside else "outside"
        remarks.insert(
            0,
            f"{titled(name)}: the single run is {where} the {len(values)} seeds ({figure(min(values))} to "
            f"{figure(max(values))}, standard deviation {figure(deviation, 2)})",
        )
    return Contrast(found, None, None, tuple(remarks))
