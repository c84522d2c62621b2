"""The splits of a cross-validation one by one: their figures, and the worst errors of all of them, with links. Floor 15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netwright.numerals import figure
from netwright.runfolder import folder as folders
from netwright.runfolder.showing import Sheet

MOST_FIGURES = 6  # of a split, beside the loss
MOST_WORST = 12
SURE = "probability_of_true"


def splits_sheet(runs: Sequence[Path], linked: bool) -> Sheet:
    """Return a line per split: its test rows, its best epoch, its figures.

    Args:
        runs: The run of each, tested.
        linked: Whether its name leads to its report, from a page in the folder around the runs.
    """
    tests = [folders.read_json(path / folders.TEST) for path in runs]
    names = [name for name in tests[0]["metrics"] if all(name in test["metrics"] for test in tests)][: MOST_FIGURES + 1]
    rows = []
    for path, test in zip(runs, tests, strict=True):
        best = folders.read_record(path).get("best") or {}
        rows.append(
            (path.name, f"{test['n']:,}", str(best.get("epoch", "")), *(_between(test["metrics"][name]) for name in names))
        )
    return Sheet(("split", "test rows", "best epoch", *names), rows, _links(runs) if linked else ())


def worst_sheet(runs: Sequence[Path], linked: bool) -> Sheet:
    """Return the rows on which the network of any split is most wrong, the worst first; no rows where none were looked for.

    Args:
        runs: The run of each split, tested.
        linked: Whether a line leads to the worst errors of its split.
    """
    found: list[tuple[float, int, Path, Mapping[str, Any]]] = []
    for path in runs:
        worst = folders.read_json(path / folders.TEST).get("worst") or []
        found += [(_badness(entry, place), place, path, entry) for place, entry in enumerate(worst)]
    found.sort(key=lambda one: (one[0], one[1], one[2].name))
    rows, paths = [], []
    for _, _, path, entry in found[:MOST_WORST]:
        sure = entry.get(SURE, entry.get("error", entry.get("wrong_labels", entry.get("wrong_steps"))))
        told = (str(entry[name]) if isinstance(entry[name], str) else figure(entry[name]) for name in ("true", "predicted"))
        rows.append((path.name, str(entry.get("where") or entry["row"]), *told, "" if sure is None else figure(sure)))
        paths.append(path)
    last = {
        SURE: "probability of the true class",
        "error": "error",
        "wrong_labels": "wrong labels",
        "wrong_steps": "wrong steps",
    }
    heading = next((words for name, words in last.items() if found and name in found[0][3]), "")
    return Sheet(("worst errors", "row", "true", "predicted", heading), rows, _links(paths, "#worst") if linked else ())


def _links(runs: Sequence[Path], to: str = "") -> list[str]:
    """Return the addresses of reports beside a page."""
    return [f"{path.name}/{folders.REPORT}{to}" for path in runs]


def _between(entry: Mapping[str, Any]) -> str:
    """Return a figure with its interval."""
    return figure(entry["value"]) + (f" ({figure(entry['low'])} to {figure(entry['high'])})" if "low" in entry else "")


def _badness(entry: Mapping[str, Any], place: int) -> float:
    """Return what sorts worst errors of several splits, the worst first; their place where nothing else is known."""
    if SURE in entry:
        return float(entry[SURE])
    if "wrong_steps" in entry:
        return -float(entry["wrong_steps"]) / max(int(entry.get("steps", 1)), 1)
    for name in ("error", "wrong_labels"):
        if name in entry:
            return -abs(float(entry[name]))
    return float(place)
