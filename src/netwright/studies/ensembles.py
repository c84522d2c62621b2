"""Several runs that predict as one: the mean of what they give. Floor 15.

Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from netwright import files
from netwright.config.read import build_config
from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError, ConfigError, NetwrightError, first_line
from netwright.evaluation.conformal import fewest_rows, plus_bounds
from netwright.evaluation.ensembles import mean_of
from netwright.exporting.described import BUNDLE
from netwright.exporting.joint import Joint, refuse_unequal
from netwright.lifecycle.run import Run, load_run
from netwright.numerals import figure
from netwright.pipeline.network import OwnModule
from netwright.rows import new_rows
from netwright.runfolder import folder as folders
from netwright.runfolder.membership import Membership
from netwright.runfolder.weights import ENDED
from netwright.sources import arrays
from netwright.sources.places import place_of
from netwright.studies.bundles import load_bundle
from netwright.studies.joint_testing import test_members
from netwright.trained.calibrating import ERRORS, checked_level
from netwright.trained.packaging import SOURCE, write_description
from netwright.trained.predicting import (
    Wanted,
    interval_of,
    predict_file,
    predicted,
    prediction_table,
    probabilities,
)

if TYPE_CHECKING:
    from netwright.exporting.averaged import Averaged

Floats = npt.NDArray[np.float64]
MEMBERS = "members"  # the folder of a bundle that holds those of its members
ALIKE = ("image_mode", "image_size", "layout", "window", "horizon", "text", "sequences", "join", "labels", "label_separator")


@final
@dataclass(repr=False)
class Ensemble:
    """Runs that predict as one: probabilities, values or rates are the mean of theirs.

    ``members`` are the runs; ``of`` says what they differ in: ``seeds``, ``folds`` or ``runs`` that were named.
    """

    folder: Path
    of: str
    members: tuple[Run, ...]
    config: RunConfig = field(init=False, repr=False)
    program: Joint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.config = self.members[0].config
        self.program = Joint(tuple(member.program for member in self.members))
        self._written = _state_of(self.folder / ERRORS)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Ensemble({str(self.folder)!r}, {len(self.members)} {self.of})"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What would stand in run.json, of all members."""
        return _record_of(self)

    @property
    def tested(self) -> dict[str, Any] | None:
        """The last test of rows that no member saw (test.json), without another look; None before the first."""
        path = self.folder / folders.TEST
        found: dict[str, Any] | None = folders.read_json(path) if path.is_file() else None
        return found

    def reading(self, settings: Sequence[str]) -> Ensemble:
        """Return the ensemble as it reads files that are written in another way; see `netwright.config.reading`."""
        return replace(self, members=tuple(member.reading(settings) for member in self.members))

    def each(self, rows: Any) -> Floats:
        """Return what each member gives for raw rows, ``(members, rows, ...)``."""
        if self.program.preparation.encoder is not None or new_rows.plain_array(self.config, rows) is None:
            rows = new_rows.read(self.config, self.program, rows)
        return np.stack([member.predict_decoded(rows) for member in self.members])

    def predict(self, rows: Any, threshold: float | None = None) -> npt.NDArray[Any]:
        """Predict raw rows as `netwright.lifecycle.run.Run.predict` does."""
        return predicted(self, rows, threshold)

    def predict_proba(self, rows: Any) -> Floats:
        """Return probabilities ``(rows, classes)``, or of each label."""
        return probabilities(self, rows)

    def predict_decoded(self, rows: Any) -> Floats:
        """Return probabilities, scores or values ``(rows, ...)`` of raw rows."""
        return mean_of(self.each(rows))

    def predict_interval(self, rows: Any, coverage: float | None = None) -> tuple[Floats, Floats]:
        """Return where the values of raw rows lie between; see `bounds`."""
        return interval_of(self, rows, coverage)

    def bounds(self, each: Floats, coverage: float | None = None) -> tuple[Floats, Floats]:
        """Return where values lie between, by the errors that each fold made on rows it was not trained on (CV+).

        Raises:
            ConfigError: It is no ensemble of the folds of a regression, or has too few errors for the coverage.
        """
        level = checked_level(self.folder, self.config, self.program, coverage)
        kept = self._errors
        if kept is None:
            raise ConfigError(
                f"{self.folder}: an ensemble of {self.of} keeps no errors; expected one of netwright cv, or a single run; leave "
                "the interval out"
            )
        found = plus_bounds(each, *kept, level)
        if found is None:
            raise ConfigError(
                f"{self.folder}: {len(kept[0])} out-of-fold rows came; an interval of {level:g} takes {fewest_rows(level)}; lower "
                "the coverage"
            )
        low, high = found
        return (np.maximum(low, 0.0) if self.program.outcome.decoding.rates else low), high

    @cached_property
    def _errors(self) -> tuple[Floats, npt.NDArray[np.int64]] | None:
        """The absolute errors out of fold ``(rows, outputs)``, and the member that made each."""
        path = self.folder / ERRORS
        if _state_of(path) != self._written:
            raise CheckpointError(
                f"{path}: a fold has trained on since this ensemble was loaded; expected the errors of its members; load it again"
            )
        if self._written is None:
            return None
        try:
            read = arrays.read_npz(place_of(path))
            return np.asarray(read["errors"], dtype=np.float64), np.asarray(read["member"], dtype=np.int64)
        except (NetwrightError, KeyError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({first_line(error)}); expected errors of folds; it is damaged"
            ) from error

    def prediction_table(
        self, rows: Any, threshold: float | None = None, interval: bool = False, disagreement: bool = False
    ) -> dict[str, Any]:
        """Return the columns of a prediction file for raw rows; see `netwright.trained.predicting.Wanted`."""
        return prediction_table(self, rows, Wanted(threshold, interval, disagreement))

    def predict_file(
        self, path: str, threshold: float | None = None, interval: bool = False, disagreement: bool = False
    ) -> tuple[dict[str, Any], list[str], int]:
        """Predict the rows of a file; see `netwright.trained.predicting.predict_file`."""
        return predict_file(self, path, Wanted(threshold, interval, disagreement))

    def test(self, data: Any = None) -> dict[str, Any]:
        """Test the ensemble and count one look; see `netwright.studies.joint_testing.test_members`.

        Args:
            data: Labelled rows: a path, or Python objects ``(X, y)``; None for the test rows that all members share.

        Returns:
            What test.json holds: the figures, those of the members, and the ensemble's less their mean.
        """
        return test_members(self.folder, self.of, self.members, data)

    def whole(self) -> Averaged:
        """Return the members as one torch module that gives their mean, copies."""
        from netwright.exporting.averaged import Averaged

        return Averaged(self.program)

    def write_bundle(self, folder: Path, name: str) -> None:
        """Fill the folder of a bundle: one of each member, and what they have in common."""
        places = [f"{MEMBERS}/{number:02d}" for number in range(len(self.members))]
        written = [f"{place}/{BUNDLE}" for place in places]  # each holds the digests of its other files
        for place, member in zip(places, self.members, strict=True):
            files.make_folder(folder / place)
            member.write_bundle(folder / place, f"{name}/{place}")
        if (self.folder / ERRORS).is_file():
            files.copy_file(self.folder / ERRORS, folder / ERRORS)
            written.append(ERRORS)
        write_description(folder, self, name, written, members=places)


def _record_of(ensemble: Ensemble) -> dict[str, Any]:
    """Return what is known of an ensemble in the words of run.json."""
    records = [member.record for member in ensemble.members]
    first, count = records[0], len(records)
    kept: dict[str, Any] = {key: first[key] for key in ("netwright", "versions", "data", "split", "task") if key in first}
    layers = [layer for record in records for layer in record.get("model", {}).get("layers", [])]
    if ensemble.of == "folds":
        kept["split"] = {**first.get("split", {}), "how": f"{first.get('split', {}).get('how')}, each member its own"}
    told: dict[str, Any] = {"of": ensemble.of, "members": count}
    if (ensemble.folder / folders.FOLDS).is_file():
        figures = (folders.read_json(ensemble.folder / folders.FOLDS).get("out_of_fold") or {}).get("metrics", {})
        told["out_of_fold"] = ", ".join(f"{name} {figure(entry['value'])}" for name, entry in figures.items())
    name = ensemble.folder.name or str(first.get("name"))
    return {**kept, "status": "done", "name": name, "model": {"layers": layers}, "ensemble": told}


def load_ensemble(
    folder: Path,
    several: Membership,
    *,
    model: OwnModule | None = None,
    code: Sequence[str | Path] = (),
    device: str | None = None,
) -> Ensemble:
    """Load runs as one.

    Args:
        folder: Where the ensemble lies.
        several: Its runs.
        model: The network again, of runs that were made from a module in Python; each member gets a copy.
        code: Python files that may run, for networks of an own class.
        device: Where to predict.

    Raises:
        CheckpointError: A member is damaged, has not ended, was trained again, or predicts something else.
    """
    members = []
    for place, path in enumerate(several.runs):
        run = load_run(path, model=copy.deepcopy(model), code=code, device=device)
        if run.record["status"] not in ENDED:
            raise CheckpointError(
                f"{path}: {run.record['status']}; expected a run that ended; go on with netwright resume {path}"
            )
        if several.weights and run.record.get("weights") != several.weights[place]:
            raise CheckpointError(
                f"{path}: trained again since it joined {folder}; expected its weights; make the ensemble anew"
            )
        members.append(run)
    return united(folder, several.of, members)


def united(folder: Path, of: str, members: Sequence[Run]) -> Ensemble:
    """Return runs as one.

    Raises:
        CheckpointError: They do not predict the same from the same rows.
    """
    names = [str(member.folder) for member in members]
    for member, name in zip(members, names, strict=True):
        if member.config.training.step is not None:
            raise CheckpointError(f"{name}: trained by a step of its own; expected supervised runs; leave it out")
        for setting in ALIKE:
            ours, theirs = (getattr(one.config.data, setting) for one in (member, members[0]))
            if ours != theirs:
                raise CheckpointError(
                    f"{name}: data.{setting} = {ours} came; expected {theirs}, as {names[0]}; leave it out"
                )
    refuse_unequal([member.program for member in members], names)
    return Ensemble(folder, of, tuple(members))


def is_ensemble_bundle(folder: Path) -> bool:
    """Tell whether a bundle is of an ensemble."""
    try:
        told = files.read_json(folder / BUNDLE)
    except (OSError, ValueError, RecursionError):
        return False  # reading it as a bundle of a run tells
    return isinstance(told, dict) and "members" in told


def load_ensemble_bundle(
    folder: Path, *, model: OwnModule | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Ensemble:
    """Load the bundle of an ensemble; see `load_ensemble`.

    Own code of every member runs where one file with the same bytes was named.

    Raises:
        CheckpointError: It is damaged, or a member is.
        SafetyError: An own class whose file was not named.
    """
    try:
        told = files.read_json(folder / BUNDLE)
        build_config(told["settings"])
        places, digests = [str(place) for place in told["members"]], dict(told["files"])
        of = str(told["record"]["ensemble"]["of"])
        for place in places:
            if Path(place).parts[:-1] != (MEMBERS,):
                raise ValueError(f"a member {place!r} that no bundle has")
        if len(places) < 2 or {f"{place}/{BUNDLE}" for place in places} - set(digests):
            raise ValueError("it does not tell of its members")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NetwrightError) as error:
        raise CheckpointError(
            f"{folder / BUNDLE}: no bundle of an ensemble ({first_line(error)}); expected one; export the ensemble again"
        ) from error
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or files.digest_file(path) != digest:
            raise CheckpointError(
                f"{path}: missing or not as it was written (digest); expected the bundle whole; copy it again"
            )
    members = [
        load_bundle(folder / place, model=copy.deepcopy(model), code=_code_within(folder / place, code), device=device)
        for place in places
    ]
    return united(folder, of, members)


def _code_within(folder: Path, code: Sequence[str | Path]) -> list[Path]:
    """Return the files that were named, and those of a member's bundle that hold the same bytes as one of them."""
    named = [Path(file) for file in code]
    known = {file.read_bytes() for file in named if file.is_file()}
    inside = sorted((folder / SOURCE).glob("*.py"))
    return [*named, *(file for file in inside if file.read_bytes() in known)]


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written anew; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
