"""The heart of the verb cross-validate: one ordinary run per split, and what their test figures have in common. Floor 9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netwright import files
from netwright.config.data_schema import SplitConfig
from netwright.data import arrays
from netwright.data.places import place_of
from netwright.errors import CheckpointError, ConfigError
from netwright.pipeline import folder as folders
from netwright.pipeline.splitting import FOLD
from netwright.pipeline.telling import Told

SUMMARY = "cross_validation.json"
DEFAULT_FOLDS = 5
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Figure:
    """A test figure over the splits.

    ``error`` is the standard error of the mean, ``deviation / sqrt(splits)``. The trainings share rows, so it is too small
    as an interval for new data (Bengio and Grandvalet, No unbiased estimator of the variance of k-fold cross-validation,
    2004).
    """

    mean: float
    deviation: float
    error: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class CrossValidation:
    """What `netwright.cross_validate` returns: the folder, the run of each split, each test figure by name.

    ``signal`` is the number of the signal that stopped it before the last split, else None.
    """

    folder: Path
    runs: tuple[Path, ...]
    figures: dict[str, Figure]
    signal: int | None = None

    def __str__(self) -> str:
        """Return a line per figure."""
        width = max(len(name) for name in self.figures)
        heading = f"{len(self.runs)} splits: mean, standard error of the mean, standard deviation, least and most"
        return "\n".join([heading, *(f"  {name:<{width}}  {told(figure)}" for name, figure in self.figures.items())])


def told(figure: Figure) -> str:
    """Return a figure in words."""
    least, most = min(figure.values), max(figure.values)
    return f"{figure.mean:.4g} ± {figure.error:.2g}   sd {figure.deviation:.2g}   {least:.4g} to {most:.4g}"


def splits_of(split: SplitConfig) -> int:
    """Return how many splits the settings describe; 0 where they describe a single one.

    Raises:
        ConfigError: Names with ``{fold}`` that no array of the file has.
    """
    if split.folds is not None:
        return split.folds * split.repeats
    names = [value for value in (getattr(split, part) for part in PARTS) if isinstance(value, str) and FOLD in value]
    if not names or split.file is None:
        return 0
    known = arrays.read_npz(place_of(split.file))
    count = 0
    while not (missing := [name for name in (name.replace(FOLD, str(count)) for name in names) if name not in known]):
        count += 1
    if not count:
        raise ConfigError(
            f"data.split: array {missing[0]!r} is not in {split.file}; it holds {', '.join(list(known)[:6])}; mend the name"
        )
    return count


def train_splits(
    folder: Path, count: int, train_one: Callable[[int, Path], Mapping[str, Any] | int], observe: Callable[[Told], None]
) -> CrossValidation:
    """Train a run per split, those apart that are done, and write the figures over all of them.

    Args:
        folder: Where the runs shall lie, ``fold-00``, ``fold-01``, ...
        count: The number of splits.
        train_one: Trains a split into a folder, or reads the run that is there, and returns its test.json, or the number of
            a signal that stopped it.
        observe: Is told a line per split.
    """
    digits = max(2, len(str(count - 1)))
    runs = tuple(folder / f"fold-{number:0{digits}d}" for number in range(count))
    tests: list[Mapping[str, Any]] = []
    for number, path in enumerate(runs):
        test = train_one(number, path)
        if isinstance(test, int):
            return CrossValidation(folder, runs[: number + 1], {}, test)
        tests.append(test)
        observe(Told(f"split {number + 1} of {count}: {_line(test)}"))
    figures = _figures(tests)
    files.write_json(
        folder / SUMMARY,
        {
            "splits": count,
            "runs": [path.name for path in runs],
            "figures": {
                name: {"mean": found.mean, "deviation": found.deviation, "error": found.error, "values": list(found.values)}
                for name, found in figures.items()
            },
        },
    )
    return CrossValidation(folder, runs, figures)


def finished(path: Path, config: str, digest: str) -> dict[str, Any] | None:
    """Return the test of a split that is trained already; None where there is no such run, or one to go on with.

    Args:
        path: Its run folder.
        config: The resolved settings that the run must have.
        digest: The digest of its data.

    Raises:
        CheckpointError: A run of other settings or data.
    """
    if not path.exists():
        return None
    record = folders.read_record(path)
    if (path / folders.CONFIG).read_text(encoding="utf-8") != config or record["data"].get("digest") != digest:
        raise CheckpointError(
            f"{path}: a run of other settings or data; expected the same; name another folder in --run-dir"
        )
    if record["status"] != "done" or not (path / folders.TEST).is_file():
        return None
    found: dict[str, Any] = folders.read_json(path / folders.TEST)
    return found


def _line(test: Mapping[str, Any]) -> str:
    shown = [f"{name} {entry['value']:.4g}" for name, entry in test["metrics"].items()]
    return f"{', '.join(shown[:4])} ({test['n']} test rows, weights {test['weights']})"


def _figures(tests: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Return the figures that every split has."""
    found = {}
    for name in tests[0]["metrics"]:
        if all(name in test["metrics"] for test in tests):
            values = np.asarray([test["metrics"][name]["value"] for test in tests], dtype=np.float64)
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            error = deviation / float(np.sqrt(len(values)))
            found[name] = Figure(float(values.mean()), deviation, error, tuple(values.tolist()))
    return found
