"""The run folder, the interface between the commands: its names, its birth, its record, the ledger of test looks.

Floor 11.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netwright import files
from netwright.config.read import build_config, to_toml
from netwright.config.schema import RunConfig
from netwright.data.splits import Split
from netwright.errors import CheckpointError, ConfigError, NetwrightError, first_line, no_run
from netwright.files.naming import folder_for as folder_for
from netwright.sources import arrays
from netwright.sources.places import place_of

CONFIG = "config.toml"
RECORD = "run.json"
SPLIT = "split.npz"
SEEN = "seen.npz"  # hashes of rows that were trained on, to know them again
TEST = "test.json"
PREDICTIONS = "predictions.csv"
REPORT = "report.html"
HISTORY = "history.csv"
DIAGRAM = "network.svg"
LOOKS = "looks.jsonl"
START = "model/start.safetensors"  # the weights that a run took from elsewhere
CHECKPOINTS = "checkpoints"
SEEDS = "seeds.json"  # of a folder that holds a run per seed
TUNE = "tune.json"  # of a folder that holds the trials of a search and its best run
FOLDS = "cross_validation.json"  # of one that holds a run per split
DEEPEST = 3  # folders above a run of a search: its trial, the trials, the search
PRUNED = "pruned"  # how the reason begins why a run ended that fell behind other trials
OUT_OF_FOLD = "out_of_fold.csv"  # beside it: what the splits gave for the rows that they tested
SEVERAL = (SEEDS, FOLDS)  # summaries of a folder of runs
FIGURES: Mapping[str, Mapping[str, Any]] = {
    SEEDS: {"figures": {}, "differences": {}},
    FOLDS: {"figures": {}, "out_of_fold": None},
}  # what a summary tells of the weights of its runs, as it is without


def now() -> str:
    """Return the present time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions that figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
    }


def command_line() -> list[str]:
    """Return how this process was started, without the interpreter's path."""
    return [Path(sys.argv[0]).name if sys.argv else "python", *sys.argv[1:]]


def config_text(config: RunConfig, folder: Path) -> str:
    """Return the resolved settings as the run folder keeps them; weights to start from are those that lie in it."""
    if config.model.weights is not None:
        kept = config.model.model_copy(update={"weights": str((folder / START).absolute())})
        config = config.model_copy(update={"model": kept})
    return to_toml(_rows_by_file(config, folder))


def _rows_by_file(config: RunConfig, folder: Path) -> RunConfig:
    """Name the run's split.npz in place of row numbers written out; groups, and steps of windows, stay as they are."""
    split = config.data.split
    parts = ("train", "valid", "test")
    if split.group is not None or config.data.window is not None:
        return config
    if not any(isinstance(getattr(split, part), list) for part in parts):
        return config
    kept = (*parts, "calibration") if split.calibration else parts
    named = split.model_copy(update={"file": str((folder / SPLIT).absolute()), **{part: part for part in kept}})
    return config.model_copy(update={"data": config.data.model_copy(update={"split": named})})


def write_split(folder: Path, split: Split) -> None:
    """Write the split of a run as an .npz file."""
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    aside = {"calibration": split.calibration} if len(split.calibration) else {}
    files.write_arrays(folder / SPLIT, parts | aside)


def read_split(folder: Path) -> Split:
    """Read the split of a run.

    Raises:
        CheckpointError: Missing or damaged.
    """
    try:
        files.refuse_no_file(folder / SPLIT)
        found = arrays.read_npz(place_of(folder / SPLIT))
        aside = found.get("calibration", np.empty(0, np.int64))
        return Split(found["train"], found["valid"], found["test"], "as saved", aside)
    except (NetwrightError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{folder / SPLIT}: cannot be read ({error}); expected the split of a run; check it"
        ) from error


def read_config(folder: Path) -> RunConfig:
    """Read the resolved config of a run.

    Raises:
        CheckpointError: Missing or damaged.
    """
    try:
        files.refuse_no_file(folder / CONFIG)
        tree = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return build_config(tree)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        if isinstance(error, OSError) and not (folder / RECORD).exists():
            raise no_run(folder, error.strerror or first_line(error)) from error
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({error}); expected a run; check it") from error


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        CheckpointError: The folder is no run, or the file is damaged.
    """
    try:
        record = files.read_json(folder / RECORD)
    except (OSError, ValueError, RecursionError) as error:
        raise no_run(folder, getattr(error, "strerror", None) or first_line(error)) from error
    if (
        not isinstance(record, dict)
        or "status" not in record
        or not all(isinstance(record.get(part, {}), dict) for part in ("data", "task", "split", "model"))
    ):
        raise CheckpointError(f"{folder / RECORD}: no record of a run; expected an object with a status; check the file")
    return record


def runs_inside(folder: Path) -> list[Path]:
    """Return the runs in a folder, by name; none where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and (path / RECORD).is_file())


def summary_of(run: Path) -> Path | None:
    """Return the summary of seeds or splits that names a run; None where it lies beside none, or is not yet one of its runs."""
    for place in dict.fromkeys(
        (Path(os.path.abspath(run)), run.resolve())
    ):  # a link may lie among the others, or lead to them
        for path in (place.parent / name for name in SEVERAL):
            members = _object_of(path).get("runs")
            if isinstance(members, list) and place.name in members:
                return path
    return None


def forget_figures(summary: Path) -> None:
    """Leave in a summary which runs it is of, without their figures."""
    told = _object_of(summary)
    without = {**told, **FIGURES[summary.name]}
    if without != told:
        files.write_json(summary, without)


def update_record(folder: Path, changes: Mapping[str, Any]) -> None:
    """Write some entries of run.json anew."""
    files.write_json(folder / RECORD, {**read_record(folder), **changes})


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read history.csv: one dictionary per epoch.

    Raises:
        CheckpointError: Missing or damaged.
    """
    if folder.is_dir() and not (folder / HISTORY).exists() and not (folder / RECORD).exists():
        raise CheckpointError(f"{folder}: a bundle came, which has no history; expected the run that it was exported from")
    try:
        with (folder / HISTORY).open(encoding="utf-8", newline="") as stream:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / HISTORY}: cannot be read ({error}); expected a history; check the run") from error


def look(folder: Path, data_digest: str, rows_digest: str) -> int:
    """Count one look at test rows in the ledger beside the runs, and return how many there were.

    Args:
        folder: The run that looks.
        data_digest: Of the data.
        rows_digest: Of the row numbers.

    The ledger of a run among seeds, or of a run of a search, lies beside their folder: they all look at the same rows.
    """
    top = folder.absolute()
    for place in list(top.parents)[:DEEPEST]:
        if (place / SEEDS).is_file() or (place / TUNE).is_file():
            top = place
    ledger, name = top.parent / LOOKS, folder.absolute().relative_to(top.parent).as_posix()
    looks = 1
    if ledger.exists():
        for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # a line cut off by a crash is no look
            looks += isinstance(entry, dict) and (entry.get("data"), entry.get("rows")) == (data_digest, rows_digest)
    with files.LineFile(ledger) as stream:
        stream.write(json.dumps({"time": now(), "run": name, "data": data_digest, "rows": rows_digest}))
    return looks


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        CheckpointError: Missing or damaged.
    """
    try:
        return files.read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)}); expected JSON; check the run") from error


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Return name, status, start, best and test figures of every run in a folder, oldest first.

    A run whose files are damaged is listed with the status "damaged". A folder of runs (seeds, splits) is one entry, with the
    number of its runs and the means of their figures.

    Raises:
        ConfigError: No such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected a folder of runs; train something first or name another")
    found = [_listed(path) for path in runs_inside(folder)]
    others = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not (path / RECORD).is_file()]
    found += [_listed_search(path) for path in others if (path / TUNE).is_file()]
    several = [path for path in others if not (path / TUNE).is_file()]
    found += [_listed_several(path, inside) for path in several if (inside := runs_inside(path))]
    return sorted(found, key=lambda run: str(run["started"] or ""))


def _listed(path: Path) -> dict[str, Any]:
    """Return one line of the list of runs."""
    entry: dict[str, Any] = {"run": str(path), "status": "damaged", "started": None, "task": None, "epochs": None}
    entry |= {"best": None, "test": {}, "headline": None}
    try:
        record = read_record(path)
        test = read_json(path / TEST) if (path / TEST).is_file() else {}
        figures = {name: float(metric["value"]) for name, metric in dict(test.get("metrics", {})).items()}
    except (CheckpointError, AttributeError, KeyError, TypeError, ValueError):
        return entry
    told = {key: record.get(key) for key in ("status", "started", "epochs", "best")}
    if told["status"] == "running" and files.holder_of(path) is None:
        told["status"] = "interrupted"
    headline = (test.get("headline") or {}).get("metric")
    return {**entry, **told, "task": record.get("task", {}).get("kind"), "test": figures, "headline": headline}


def _listed_search(path: Path) -> dict[str, Any]:
    """Return one line for a search: its best run where there is one, and how many trials there are."""
    told = _object_of(path / TUNE)
    best = _listed(path / "best") if (path / "best" / RECORD).is_file() else {}
    entry = {"task": None, "epochs": None, "best": None, "test": {}, "headline": None, **best}
    trials = sum(place.is_dir() and not place.name.startswith(".") for place in (path / "trials").glob("*"))
    return {
        **entry,
        "run": str(path),
        "started": told.get("started"),
        "status": _status_of_search(path, told),
        "runs": trials,
    }


def _status_of_search(path: Path, told: Mapping[str, Any]) -> str:
    """Return the status of a search, which its own file tells: one that is said to run may have been interrupted."""
    status = str(told.get("status"))
    return "interrupted" if status == "running" and not files.at_work(path) else status


def _listed_several(path: Path, inside: list[Path]) -> dict[str, Any]:
    """Return one line for a folder of runs."""
    members = [_listed(run) for run in inside]
    summary = next((name for name in SEVERAL if (path / name).is_file()), None)
    told = _object_of(path / summary) if summary else {}
    figures = told.get("figures") if told.get("of", "test") == "test" else {}
    figures = figures if isinstance(figures, dict) else {}
    states = {str(member["status"]) for member in members}
    search = _object_of(path.absolute().parent.parent / TUNE)
    if search:
        status = _of_trial(search, inside, states)
    elif beside := _object_of(path.absolute().parent / TUNE):  # the trials of a search
        status = _status_of_search(path.absolute().parent, beside)
    else:
        status = "done" if told.get("figures") else "running" if "running" in states else "unfinished"
    return {
        "run": str(path),
        "status": status,
        "started": min((str(member["started"]) for member in members if member["started"]), default=None),
        "task": members[0]["task"],
        "epochs": None,
        "best": None,
        "test": {
            name: float(entry["mean"])
            for name, entry in figures.items()
            if isinstance(entry, dict) and isinstance(entry.get("mean"), int | float)
        },
        "headline": members[0]["headline"],
        "runs": len(members),
    }


def _of_trial(search: Mapping[str, Any], inside: Sequence[Path], states: Collection[str]) -> str:
    """Return the status of a trial of several runs: done with all of them, or where it was pruned; else what one of them is."""
    others = sorted(state for state in states if state != "done")
    if others:
        return others[0]
    pruned = any(str(_object_of(run / RECORD).get("final") or "").startswith(PRUNED) for run in inside)
    return "done" if pruned or len(inside) >= len(search.get("members") or ()) else "unfinished"


def _object_of(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file; an empty one where it is damaged."""
    try:
        found = read_json(path)
    except CheckpointError:
        return {}
    return found if isinstance(found, dict) else {}
