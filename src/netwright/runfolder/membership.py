"""Which runs an ensemble is of: those of a folder of seeds or of folds, or runs that were named. Floor 11."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright import files
from netwright.errors import CheckpointError, ConfigError
from netwright.runfolder import folder as folders

ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Membership:
    """The runs of an ensemble.

    ``of`` is ``seeds``, ``folds`` or ``runs``; ``weights`` are the digests of the weights of each, where runs were named.
    """

    of: str
    runs: tuple[Path, ...]
    weights: tuple[Any, ...] = ()


def membership_of(folder: Path) -> Membership | None:
    """Return the runs of a folder that stands for an ensemble; None where it is something else.

    Raises:
        CheckpointError: Its summary is damaged, or not all of its runs are done.
    """
    if (folder / folders.RECORD).is_file():
        return None
    for name, of in ((folders.SEEDS, "seeds"), (folders.FOLDS, "folds"), (ENSEMBLE, "runs")):
        if (folder / name).is_file():
            return _read(folder, name, of)
    begun = [path for path in folders.runs_inside(folder) if path.name.startswith("fold-")]
    if begun and (folder.parent.parent / folders.TUNE).is_file():
        raise CheckpointError(
            f"{folder}: a trial of the search {folder.parent.parent}, which trains it on {len(begun)} folds; expected a run or an "
            f"ensemble; name {folder.parent.parent / 'best'}"
        )
    if begun:
        raise CheckpointError(
            f"{folder}: {len(begun)} folds begun, not all of them done; expected all; repeat the command netwright cv with "
            f"--run-dir {folder}"
        )
    return None


def _read(folder: Path, name: str, of: str) -> Membership:
    told = folders.read_json(folder / name)
    try:
        runs = tuple(folder / str(run) for run in told["runs"])
        done = of == "runs" or bool(told["figures"])
        weights = tuple(told["weights"]) if of == "runs" else ()
        if len(runs) < 2 or (weights and len(weights) != len(runs)):
            raise ValueError(f"{len(runs)} runs")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / name}: no summary of runs ({error}); expected the names of two or more; check the file"
        ) from error
    if not done:
        raise without_figures(folder, runs, of)
    for path in runs:
        if not (path / folders.RECORD).is_file():
            raise CheckpointError(f"{path}: a run of the ensemble {folder} is gone; expected it there; put it back")
    return Membership(of, runs, weights)


def without_figures(folder: Path, runs: Sequence[Path], of: str) -> CheckpointError:
    """Return what to say of a folder of seeds or folds whose summary has no figures, and what gives it some."""
    waiting = waiting_for(runs)
    if waiting is None:
        return CheckpointError(
            f"{folder}: no figures of the weights that are in its {len(runs)} {of}; expected some; repeat the command with "
            f"--run-dir {folder}, or netwright resume {runs[0]}"
        )
    begun = all((path / folders.RECORD).is_file() for path in runs)
    todo = f"go on with netwright resume {waiting}" if begun else f"repeat the command with --run-dir {folder}"
    done = sum(status_of(path) == "done" for path in runs)
    untested = f"{waiting.name} is not tested; " if status_of(waiting) == "done" else ""
    return CheckpointError(f"{folder}: {done} of its {len(runs)} {of} are done; expected all; {untested}{todo}")


def waiting_for(runs: Sequence[Path]) -> Path | None:
    """Return the first of several runs that is not done, or not tested where others are; None where there is none."""
    tested = {path: (path / folders.TEST).is_file() for path in runs}
    return next((path for path in runs if status_of(path) != "done" or not tested[path] and any(tested.values())), None)


def status_of(run: Path) -> str:
    """Return the status of a run that may not be there yet."""
    return str(folders.read_record(run)["status"]) if (run / folders.RECORD).is_file() else "not begun"


def write_membership(folder: Path, runs: Sequence[Path]) -> None:
    """Write a folder that stands for an ensemble of named runs, which stay where they are.

    Args:
        folder: A new folder.
        runs: Two or more run folders.

    Raises:
        FolderInUseError: The folder exists.
    """
    place = folder.absolute()
    told = {
        "runs": [Path(os.path.relpath(run.absolute(), place)).as_posix() for run in runs],
        "weights": [folders.read_record(run).get("weights") for run in runs],
    }
    with files.born(folder) as temporary:
        files.write_json(temporary / ENSEMBLE, told)


def named_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the runs that were named; a folder that stands for an ensemble stands for its runs.

    Raises:
        ConfigError: Fewer than two, or one twice.
    """
    found: list[Path] = []
    for path in paths:
        several = membership_of(path)
        found += [path] if several is None else several.runs
    if len(found) < 2:
        raise ConfigError(f"ensemble: {len(found)} run came; expected two or more; name another")
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise ConfigError(f"ensemble: {path} came twice; expected different runs; name each once")
        seen.add(path.resolve())
    return found
