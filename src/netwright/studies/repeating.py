"""The heart of the verb repeat: one ordinary run per seed on the same split, and how far chance alone moves their figures.

Floor 15.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from netwright import files
from netwright.errors import CheckpointError, ConfigError, FolderInUseError
from netwright.lifecycle.running import remove_told
from netwright.lifecycle.several import Manner, deviation_of, figures_of, line_of_test, train_members, values_of
from netwright.numerals import figure
from netwright.pipeline.asking import Asked
from netwright.pipeline.observing import Audience
from netwright.pipeline.telling import Told
from netwright.runfolder import folder as folders
from netwright.runfolder.membership import without_figures
from netwright.runfolder.showing import Sheet, joined, several_html

DEFAULT_SEEDS = 5
LEVEL = 0.95
METHOD = "95 % t-interval of the mean over the seeds"
SAME_WEIGHTS = (
    "every seed begins from the weights of the module handed over, so the seeds differ in order, dropout and augmentation "
    "alone; model=(Class, arguments) draws new weights for each seed"
)


@dataclass(frozen=True)
class SeedFigure:
    """A figure over the seeds, one value each; ``low`` and ``high`` bound the t-interval of its mean.

    The interval speaks of chance in training (initialisation, order, dropout, augmentation) on these very rows. Other test
    rows bring their own chance, which the interval of each run tells.
    """

    mean: float
    deviation: float
    low: float
    high: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        least, most = min(self.values), max(self.values)
        middle = f"{figure(self.mean)} ({figure(self.low)} to {figure(self.high)})"
        return f"{middle}   sd {figure(self.deviation, 2)}   {figure(least)} to {figure(most)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "values": list(self.values)}


@dataclass(frozen=True)
class Repetition:
    """What `netwright.repeat` returns: the folder, the run of each seed, and each figure over the seeds by name.

    ``of`` says of which rows the figures are: test, or valid where no test was made. ``differences`` holds, per baseline of
    the test, network minus baseline, paired by seed. ``signal`` is the number of the signal that stopped it, else None.
    """

    folder: Path
    seeds: tuple[int, ...]
    runs: tuple[Path, ...]
    of: str = "test"
    figures: dict[str, SeedFigure] = field(default_factory=dict)
    differences: dict[str, dict[str, SeedFigure]] = field(default_factory=dict)
    signal: int | None = None

    def __str__(self) -> str:
        """Return a line per figure, and one per baseline and figure."""
        if not self.figures:
            return (
                f"{len(self.runs)} of {len(self.seeds)} seeds begun, not all of them done; to go on: the same command with "
                f"--run-dir {self.folder}"
            )
        against = {
            f"{name} - {baseline}": figure for baseline, found in self.differences.items() for name, figure in found.items()
        }
        width = max(len(name) for name in (*self.figures, *against))
        heading = f"{len(self.seeds)} seeds, {self.of} figures: mean ({METHOD}), standard deviation, least and most"
        lines = [heading, *(f"  {name:<{width}}  {figure}" for name, figure in self.figures.items())]
        if against:
            lines += ["network minus baseline, on the same rows:"]
            lines += [f"  {name:<{width}}  {figure}" for name, figure in against.items()]
        if self.of == "valid":
            lines.append("the validation rows chose the epochs too: these figures flatter")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        against = {f"{name} minus {base}": one for base, found in self.differences.items() for name, one in found.items()}
        rows = [
            (
                name,
                figure(found.mean),
                f"{figure(found.low)} to {figure(found.high)}",
                figure(found.deviation, 2),
                joined(found.values),
            )
            for name, found in {**self.figures, **against}.items()
        ]
        sheet = Sheet((f"{self.of} figure", "mean", "95 % t-interval", "sd", "values"), rows)
        return several_html(f"{len(self.seeds)} seeds", [sheet], {self.folder.name: self.runs}, [str(self.folder)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as in seeds.json."""
        return {
            "seeds": list(self.seeds),
            "runs": [path.name for path in self.runs],
            "of": self.of,
            "interval": METHOD,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "differences": {
                baseline: {name: figure.to_json() for name, figure in found.items()}
                for baseline, found in self.differences.items()
            },
        }


def seed_figure(values: Sequence[float]) -> SeedFigure:
    """Return mean, standard deviation and the 95 % t-interval of the mean (Student, The probable error of a mean, 1908).

    Args:
        values: One per seed, at least two.

    Example:
        >>> found = seed_figure([0.90, 0.92, 0.94])
        >>> round(found.low, 4), round(found.high, 4)
        (0.8703, 0.9697)
    """
    from scipy.stats import t

    mean, deviation = sum(values) / len(values), deviation_of(values)
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return SeedFigure(mean, deviation, mean - half, mean + half, tuple(values))


def check_seeds(seeds: object) -> int:
    """Return a number of seeds, or refuse it.

    Raises:
        ConfigError: No whole number, or fewer than 2.

    Example:
        >>> check_seeds(1)
        Traceback (most recent call last):
        netwright.errors.ConfigError: seeds: 1 came; expected 2 or more to see the noise between them; leave it out for one run
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int):
        raise ConfigError(f"seeds: {seeds!r} came; expected how many, such as 5; the first is training.seed")
    if seeds < 2:
        raise ConfigError(f"seeds: {seeds} came; expected 2 or more to see the noise between them; leave it out for one run")
    return seeds


def train_seeds(asked: Asked, folder: Path, count: int, audience: Audience, manner: Manner) -> Repetition:
    """Train a run per seed, those apart that are done, and write the figures over all of them.

    Args:
        asked: What each seed trains; its own seed is the first.
        folder: Where the runs shall lie, ``seed-0``, ``seed-1``, ...
        count: How many.
        audience: Is told the remarks on the first seed, and a line per seed.
        manner: Whether to test, and what is an error.

    Raises:
        FolderInUseError: The folder holds something else.
        CheckpointError: It holds runs of other settings or data.
    """
    refuse_other_folder(folder)
    first = asked.config.training.seed
    seeds = tuple(range(first, first + count))
    runs = tuple(folder / f"seed-{seed}" for seed in seeds)
    if isinstance(asked.module, nn.Module):
        audience(Told(SAME_WEIGHTS, "note"))
    summary = Repetition(folder, seeds, runs)

    def birth() -> None:
        if not (folder / folders.SEEDS).is_file():
            files.make_folder(folder)
            files.write_json(folder / folders.SEEDS, summary.to_json())

    def ended(place: int) -> None:
        audience(Told(f"seed {seeds[place]} ({place + 1} of {count}): {_line(runs[place])}"))

    each = [_with_seed(asked, seed) for seed in seeds]
    stopped = train_members(each, runs, audience, replace(manner, birth=birth), ended)
    if stopped is not None:
        return replace(summary, runs=tuple(path for path in runs if path.exists()), signal=stopped[1])
    done = sum_up_seeds(folder, seeds, runs)
    if dict(folders.read_json(folder / folders.SEEDS)).get("runs") != [path.name for path in runs]:
        remove_told(folder)  # a test of their mean was of other members
    files.write_json(folder / folders.SEEDS, done.to_json())
    return done


def refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that exists and is none of seeds.

    Raises:
        FolderInUseError: It is.
    """
    if folder.exists() and not (folder / folders.SEEDS).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FolderInUseError(
            f"{folder}: exists already and holds no seeds; expected a new folder, or one of train --seeds to go on with; "
            "name another (--run-dir, run_dir=)"
        )


def _with_seed(asked: Asked, seed: int) -> Asked:
    training = asked.config.training.model_copy(update={"seed": seed})
    return replace(asked, config=asked.config.model_copy(update={"training": training}))


def _line(path: Path) -> str:
    """Return the figures of a run in a line."""
    if (path / folders.TEST).is_file():
        return line_of_test(folders.read_json(path / folders.TEST))
    return ", ".join(f"{name} {figure(value)}" for name, value in valid_figures(path).items()) or "no figures"


def valid_figures(path: Path) -> dict[str, float]:
    """Return the validation figures of the epoch whose weights a run keeps; the train loss where there are none."""
    history = folders.read_history(path)
    if not history:
        return {}
    best = (folders.read_record(path).get("best") or {}).get("epoch", history[-1]["epoch"])
    row = next((row for row in history if row["epoch"] == best), history[-1])
    found = {name: value for name, value in row.items() if name.startswith("valid_") and not name.endswith("_seconds")}
    return found or {"train_loss": row["train_loss"]}


def sum_up_seeds(folder: Path, seeds: tuple[int, ...], runs: tuple[Path, ...]) -> Repetition:
    """Return the figures over seeds that are done: of the test where every run has one."""
    if not all((path / folders.TEST).is_file() for path in runs):
        found = values_of([valid_figures(path) for path in runs])
        return Repetition(folder, seeds, runs, "valid", {name: seed_figure(values) for name, values in found.items()})
    tests = [folders.read_json(path / folders.TEST) for path in runs]
    figures = {name: seed_figure(values) for name, values in values_of([figures_of(test) for test in tests]).items()}
    gaps = [_gaps(test) for test in tests]
    differences = {
        baseline: {name: seed_figure(values) for name, values in values_of([one.get(baseline, {}) for one in gaps]).items()}
        for baseline in gaps[0]
    }
    return Repetition(folder, seeds, runs, "test", figures, {name: found for name, found in differences.items() if found})


def _gaps(test: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return network minus baseline, by baseline and figure."""
    mine, found = figures_of(test), {}
    for name, entry in dict(test.get("baselines") or {}).items():
        theirs = entry.get("metrics", entry) if isinstance(entry, Mapping) else {}
        numbers = {key: value for key, value in theirs.items() if isinstance(value, int | float) and key in mine}
        found[str(name)] = {key: mine[key] - float(value) for key, value in numbers.items()}
    return found


def read_seeds(folder: Path) -> Repetition:
    """Read a folder of seeds again.

    Raises:
        CheckpointError: It is none, is damaged, or not all seeds are done.
    """
    told = folders.read_json(folder / folders.SEEDS)
    try:
        seeds, runs = tuple(map(int, told["seeds"])), tuple(folder / str(name) for name in told["runs"])
        read = {name: _read_figure(entry) for name, entry in told["figures"].items()}
        against = {
            name: {key: _read_figure(entry) for key, entry in found.items()} for name, found in told["differences"].items()
        }
        of = str(told["of"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / folders.SEEDS}: no summary of seeds ({error}); check the file") from error
    if not read:
        raise without_figures(folder, runs, "seeds")
    return Repetition(folder, seeds, runs, of, read, against)


def _read_figure(entry: Mapping[str, Any]) -> SeedFigure:
    values = tuple(map(float, entry["values"]))
    return SeedFigure(float(entry["mean"]), float(entry["deviation"]), float(entry["low"]), float(entry["high"]), values)
