"""The heart of the verb cv: one ordinary run per split, what their figures have in common, and predictions out of fold.

Floor 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright import files
from netwright.config.data_schema import SplitConfig
from netwright.errors import ConfigError, FolderInUseError
from netwright.lifecycle.several import Manner, deviation_of, figures_of, line_of_test, train_members, values_of
from netwright.numerals import counted, figure
from netwright.pipeline.asking import Asked
from netwright.pipeline.observing import Audience
from netwright.pipeline.telling import Told
from netwright.rows.splitting import FOLD
from netwright.runfolder import folder as folders
from netwright.runfolder.membership import ENSEMBLE
from netwright.runfolder.showing import Sheet, joined, several_html, write_together
from netwright.sources import arrays
from netwright.sources.places import place_of
from netwright.studies.foldwise import splits_sheet, worst_sheet
from netwright.studies.out_of_fold import write_out_of_fold

DEFAULT_FOLDS = 5
SHARED = "The splits share train rows: the standard error is too small as an interval for new data."
PARTS = ("train", "valid", "test")
USUAL = Manner()


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

    ``out_of_fold`` tells of the predictions in out_of_fold.csv: ``n`` rows and their ``metrics`` with intervals; None where a
    step of one's own predicts nothing that is known here. `netwright.load` of the folder gives the runs as one. ``signal`` is
    the number of the signal that stopped it before the last split, else None.
    """

    folder: Path
    runs: tuple[Path, ...]
    figures: dict[str, Figure]
    signal: int | None = None
    out_of_fold: dict[str, Any] | None = None

    def __str__(self) -> str:
        """Return a line per figure, over the splits and of all rows out of fold."""
        if not self.figures:
            begun = counted(len(self.runs), "split")
            return f"{begun} begun, not all of them done; to go on: the same call with run_dir={str(self.folder)!r}"
        width = max(len(name) for name in self.figures)
        heading = f"{len(self.runs)} splits: mean, standard error of the mean, standard deviation, least and most"
        lines = [heading, *(f"  {name:<{width}}  {told(found)}" for name, found in self.figures.items())]
        if self.out_of_fold is not None:
            lines.append(f"{self.out_of_fold['n']:,} rows out of fold ({self.folder / folders.OUT_OF_FOLD}), 95 % intervals")
            lines += [f"  {name:<{width}}  {value}" for name, value in self._of_all_rows()]
            lines += [f"note: {note}" for note in self.out_of_fold["notes"]]
        return "\n".join(lines)

    def _of_all_rows(self) -> list[tuple[str, str]]:
        """Return the figures out of fold in words, by name."""
        found = self.out_of_fold or {"metrics": {}}
        return [
            (name, figure(one["value"]) + (f"   {figure(one['low'])} to {figure(one['high'])}" if "low" in one else ""))
            for name, one in found["metrics"].items()
        ]

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, linked: bool = False) -> str:
        """Return the figures over the splits, of each and out of fold, the worst errors and the curves, as one piece of HTML.

        Args:
            linked: Whether splits lead to their reports: for a page in the folder.
        """
        rows = [
            (name, figure(found.mean), figure(found.error, 2), figure(found.deviation, 2), joined(found.values))
            for name, found in self.figures.items()
        ]
        sheets = [Sheet(("test figure", "mean", "standard error", "sd", "values"), rows)]
        notes = [SHARED, str(self.folder)]
        if self.figures:
            sheets.append(splits_sheet(self.runs, linked))
        if self.out_of_fold is not None:
            heading = (f"of {self.out_of_fold['n']:,} rows out of fold", "value, 95 % interval")
            sheets.append(Sheet(heading, self._of_all_rows()))
            sheets.append(worst_sheet(self.runs, linked))
            notes = [*self.out_of_fold["notes"], *notes]
        return several_html(f"{len(self.runs)} splits", sheets, {self.folder.name: self.runs}, notes)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as in cross_validation.json."""
        return {
            "splits": len(self.runs),
            "runs": [path.name for path in self.runs],
            "figures": {name: {**vars(found), "values": list(found.values)} for name, found in self.figures.items()},
            "out_of_fold": self.out_of_fold,
        }


def told(found: Figure) -> str:
    """Return a figure in words."""
    least, most = min(found.values), max(found.values)
    return f"{figure(found.mean)} ± {figure(found.error, 2)}   sd {figure(found.deviation, 2)}   {figure(least)} to {figure(most)}"


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


def train_splits(asked: Asked, folder: Path, count: int, audience: Audience, manner: Manner = USUAL) -> CrossValidation:
    """Train a run per split, those apart that are done, and write the figures over all of them.

    Args:
        asked: What each split trains.
        folder: Where the runs shall lie, ``fold-00``, ``fold-01``, ...
        count: The number of splits.
        audience: Is told the remarks on the first split, and a line per split.
        manner: How each is trained.

    Raises:
        ConfigError: A split without test rows.
        FolderInUseError: The folder is a run, or holds seeds or an ensemble.
        CheckpointError: A run of other settings or data.
    """
    _refuse_other_folder(folder)
    digits = max(2, len(str(count - 1)))
    runs = tuple(folder / f"fold-{number:0{digits}d}" for number in range(count))

    def ended(place: int) -> None:
        if not (runs[place] / folders.TEST).is_file():
            raise ConfigError(f"{runs[place]}: the split has no test rows; expected some; name them in data.split.test")
        audience(Told(f"split {place + 1} of {count}: {line_of_test(folders.read_json(runs[place] / folders.TEST))}"))

    each = [asked.with_split(fold=number) for number in range(count)]
    stopped = train_members(each, runs, audience, manner, ended)
    if stopped is not None:
        return CrossValidation(folder, tuple(path for path in runs if path.exists()), {}, stopped[1])
    return sum_up_splits(folder, runs)


def sum_up_splits(folder: Path, runs: tuple[Path, ...]) -> CrossValidation:
    """Write what splits that are done have in common: figures, predictions out of fold, the page.

    Raises:
        CheckpointError: One is not tested, or damaged.
    """
    found = CrossValidation(folder, runs, figures_over(runs), None, write_out_of_fold(folder, runs))
    write_together(folder.name, found.to_html(linked=True), [str(path) for path in runs], folder / folders.REPORT)
    files.write_json(folder / folders.FOLDS, found.to_json())  # last: where it stands, all splits are done
    return found


def _refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that stands for something else."""
    others = ((folders.SEEDS, "seeds"), (ENSEMBLE, "an ensemble"), (folders.RECORD, "a run"))
    found = next((what for name, what in others if (folder / name).is_file()), None)
    if found is not None:
        raise FolderInUseError(
            f"{folder}: holds {found} already; expected a new folder, or one of netwright cv to go on with; "
            "name another (--run-dir, run_dir=)"
        )


def figures_over(runs: Sequence[Path]) -> dict[str, Figure]:
    """Return the test figures that every split has."""
    found = {}
    for name, values in values_of([figures_of(folders.read_json(path / folders.TEST)) for path in runs]).items():
        deviation = deviation_of(values)
        found[name] = Figure(sum(values) / len(values), deviation, deviation / len(values) ** 0.5, values)
    return found
