"""What a run folder holds, read once and kept as plain values for the page.

`run.json` must be there and sound; every other file may be missing, unfinished or damaged, and is then told about
in a sentence instead. Nothing here opens a file for writing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netwright import files
from netwright.errors import CheckpointError, first_line, no_run


@dataclass(frozen=True)
class RunContents:
    """The readable part of one run folder.

    Args:
        folder: The run folder.
        run: ``run.json``.
        settings: The text of ``config.toml``; None where there is none.
        history: ``history.csv`` by column, NaN where a cell is empty or no number.
        test: ``test.json``; None before the first look at the test set.
        problems: One sentence for each file that could not be read as it should.
    """

    folder: Path
    run: Mapping[str, object]
    settings: str | None
    history: Mapping[str, Sequence[float]]
    test: Mapping[str, object] | None
    problems: Sequence[str]


@dataclass(frozen=True)
class TargetPairs:
    """True and predicted values of one regression target, row by row.

    Args:
        name: The target's name; empty where there is only one.
        true: Values of the target, in its own unit.
        predicted: Predictions, as many as ``true``.
    """

    name: str
    true: Sequence[float]
    predicted: Sequence[float]


def section(record: Mapping[str, object] | None, key: str) -> Mapping[str, object]:
    """Return the object under ``key``, or an empty one.

    Args:
        record: A JSON object, or None.
        key: The name in it.

    Returns:
        The object there; empty where there is none or it is of another kind.
    """
    value = record.get(key) if record else None
    return value if isinstance(value, Mapping) else {}


def entries(record: Mapping[str, object] | None, key: str) -> Sequence[object]:
    """Return the list under ``key``, or an empty one.

    Args:
        record: A JSON object, or None.
        key: The name in it.

    Returns:
        The list there; empty where there is none or it is of another kind.
    """
    value = record.get(key) if record else None
    return value if isinstance(value, list) else []


def objects(record: Mapping[str, object] | None, key: str) -> list[Mapping[str, object]]:
    """Return the JSON objects of the list under ``key``.

    Args:
        record: A JSON object, or None.
        key: The name in it.

    Returns:
        Those entries that are objects, in order.
    """
    return [entry for entry in entries(record, key) if isinstance(entry, Mapping)]


def read_run(folder: Path) -> RunContents:
    """Read everything the page needs but the predictions.

    Args:
        folder: A run folder.

    Returns:
        Its contents.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.
    """
    run = _read_run_record(folder / "run.json")
    problems: list[str] = []
    history = _read_history(folder / "history.csv", problems)
    test = _read_test(folder / "test.json", problems)
    settings = None
    if (folder / "config.toml").is_file():
        try:
            settings = (folder / "config.toml").read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            problems.append(f"config.toml could not be read: {error.strerror or error}.")
    return RunContents(folder, run, settings, history, test, problems)


def _read_run_record(path: Path) -> Mapping[str, object]:
    """Read ``run.json`` or say what came, what was expected and what to do."""
    try:
        value = files.read_json(path)
    except OSError as error:
        raise no_run(path.parent, error.strerror or first_line(error)) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not JSON ({error}); expected the run.json that netwright writes; "
            "restore the file from a copy, or train again"
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path}: holds a JSON {type(value).__name__}; expected an object with name, status, data and model; "
            "restore the file from a copy, or train again"
        )
    if not isinstance(value.get("status"), str):
        raise CheckpointError(
            f"{path}: has no status (it has {', '.join(sorted(value)[:8]) or 'nothing'}); expected the run.json that "
            "netwright writes; give the path that netwright train printed"
        )
    return value


def _read_history(path: Path, problems: list[str]) -> dict[str, list[float]]:
    """Read ``history.csv`` by column; a cell that is no number is NaN."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, ValueError, csv.Error) as error:
        problems.append(f"history.csv could not be read: {error}.")
        return {}
    if not rows:
        return {}
    names = rows[0]
    complete = [row for row in rows[1:] if len(row) == len(names)]
    if len(complete) < len(rows) - 1:
        torn = len(rows) - 1 - len(complete)
        problems.append(f"history.csv: {torn} of {len(rows) - 1} rows have not {len(names)} cells and were left out.")
    return {name: [_cell(row[place]) for row in complete] for place, name in enumerate(names)}


def _cell(text: str) -> float:
    """Return a cell's number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_test(path: Path, problems: list[str]) -> Mapping[str, object] | None:
    """Read ``test.json``; None where there is none, or where it is damaged."""
    if not path.is_file():
        return None
    try:
        value = files.read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"test.json could not be read ({error}), so no test figures are shown; test the run again.")
        return None
    if not isinstance(value, dict) or not isinstance(value.get("metrics"), dict):
        problems.append("test.json has no metrics, so no test figures are shown; test the run again.")
        return None
    return value


def read_target_pairs(folder: Path) -> list[TargetPairs]:
    """Read true and predicted values of a regression from ``predictions.csv``.

    Args:
        folder: A run folder.

    Returns:
        One entry per target, in the file's order, rows that are not finite numbers left out; empty where the file
        is missing or holds no such columns.
    """
    try:
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            names = next(reader, [])
            places = _pair_places(names)
            values: list[tuple[list[float], list[float]]] = [([], []) for _ in places]
            for row in reader:
                if len(row) != len(names):
                    continue
                for (_, true_place, predicted_place), (true, predicted) in zip(places, values, strict=True):
                    pair = _cell(row[true_place]), _cell(row[predicted_place])
                    if math.isfinite(pair[0]) and math.isfinite(pair[1]):
                        true.append(pair[0])
                        predicted.append(pair[1])
    except (OSError, ValueError, csv.Error):
        return []
    return [TargetPairs(name, *pair) for (name, _, _), pair in zip(places, values, strict=True)]


def _pair_places(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (target's name, place of its true value, place of its prediction) for each target."""
    if "target" in names and "prediction" in names:
        return [("", names.index("target"), names.index("prediction"))]
    targets = [name.removeprefix("target_") for name in names if name.startswith("target_")]
    return [
        (target, names.index(f"target_{target}"), names.index(f"prediction_{target}"))
        for target in targets
        if f"prediction_{target}" in names
    ]
