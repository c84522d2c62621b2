"""What the parts share that they should not, and what train lacks: classes, groups, time. Floor 10."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding
from netwright.data.splits import Split

GROUP_NAMES = re.compile(
    r"(?:^|_|\b)(?:patient|subject|user|person|participant|customer|client|speaker|author|household|family|animal|device|"
    r"machine|sensor|site|station|session|group|batch|scene|video|document)s?(?:[ _-]?(?:id|nr|no|num|number|code|name|key))?$",
    re.IGNORECASE,
)
ID_NAMES = re.compile(r".+(?:[ _-](?:id|nr|no|key)|Id|ID)$")  # of what, the name does not tell
FEWEST_GROUPS = 10
MOST_NAMED = 5  # classes that train lacks, in findings of their own
RANDOM = ("random", "stratified random")
IN_ORDER = 0.9  # share of distinct times from which on rows in order of time are a series


def classes(names: Sequence[Any], values: npt.NDArray[Any], split: Split) -> list[Finding]:
    """Return the classes (or labels) that train lacks.

    Args:
        names: The classes or labels.
        values: Class numbers ``(rows,)`` or 0 and 1 ``(rows, labels)``.
        split: Who trains.
    """
    train = values[split.train]
    counts = train.sum(axis=0) if values.ndim == 2 else np.bincount(train, minlength=len(names))
    word = "label" if values.ndim == 2 else "class"
    lost = [str(name) for name, count in zip(names, counts, strict=True) if not count]
    if len(lost) > MOST_NAMED:
        some = ", ".join(map(repr, lost[:MOST_NAMED]))
        why = f"{len(lost):,} of {len(counts):,} have no train row ({some}, ...), so that the network cannot learn them"
        advice = "divide otherwise, merge them in data.labels, or leave rare ones out; is the target an amount?"
        where = "the classes" if word == "class" else "the labels"
        return [Finding("missing-class", where, why, advice, confidence="sure", figures={"classes": len(lost)})]
    there = set(np.unique(values).tolist()) if lost and values.ndim == 1 else set(range(len(names)))
    return [  # a note on those that stand in data.classes alone
        Finding(
            "missing-class",
            f"{word} {name!r}",
            "it has no train row, so that the network cannot learn it",
            "divide otherwise, or merge it in data.labels",
            "warning" if place in there else "note",
            "sure",
            {"class": str(name)},
        )
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
        if not count
    ]


def may_group(name: str) -> bool:
    """Tell whether a column is named as groups are.

    Example:
        >>> may_group("patient_id"), may_group("storeId"), may_group("age")
        (True, True, False)
    """
    return GROUP_NAMES.search(name) is not None or ID_NAMES.search(name) is not None


def shared_groups(columns: Mapping[str, npt.NDArray[np.str_]], split: Split, group: str | None) -> list[Finding]:
    """Return the columns that look like groups and stand in several parts.

    Args:
        columns: Columns of texts or whole numbers ``(rows,)``.
        split: Who trains, validates and tests.
        group: The column that the split follows; None for another split.
    """
    found = []
    for name, values in columns.items():
        distinct = len(np.unique(values))
        named = name == group or (group is None and GROUP_NAMES.search(name) is not None)
        perhaps = group is None and ID_NAMES.search(name) is not None and distinct >= FEWEST_GROUPS
        if not (named or perhaps) or distinct < 2 or (name != group and distinct > len(values) / 2):
            continue
        likely = named and (name == group or distinct >= FEWEST_GROUPS)  # of a handful, device may be a kind of device
        train = np.unique(values[split.train])
        for part in ("test", "valid"):
            rows = values[getattr(split, part)]
            shared = np.isin(rows, train)
            if not shared.any():
                continue
            count, groups = int(shared.sum()), len(np.unique(rows[shared]))
            advice = "mend the files or row numbers" if name == group else f'set data.split.group = "{name}" if they do'
            found.append(
                Finding(
                    "shared-groups",
                    f"column {name!r}",
                    f"{count} of {len(rows)} {part} rows have a value that train rows have too ({groups} of them); rows of one "
                    f"group may belong together, and then the {part} figure is too good",
                    advice,
                    "warning" if likely else "note",
                    "sure" if name == group else "likely" if likely else "hint",
                    {"column": name, "part": part, "rows": count, "groups": groups},
                )
            )
            break
    return found


def time(columns: Mapping[str, npt.NDArray[np.float64]], split: Split) -> list[Finding]:
    """Return where time runs backwards, or a series was divided at random.

    Args:
        columns: Times ``(rows,)``, NaN missing.
        split: Who trains and tests.
    """
    found = []
    for name, times in columns.items():
        train, test = (times[rows][np.isfinite(times[rows])] for rows in (split.train, split.test))
        if not len(train) or not len(test):
            continue
        known = times[np.isfinite(times)]
        if split.how in RANDOM and len(known) > 2 and (np.diff(known) >= 0).all():
            if len(np.unique(known)) >= IN_ORDER * len(known):
                found.append(
                    Finding(
                        "time-order",
                        f"column {name!r}",
                        "rows stand in order of time and were divided at random; the neighbours of a test row train, so a "
                        "forecast looks too good",
                        f'set data.split.time = "{name}" if the future is asked for',
                        figures={"column": name},
                    )
                )
            continue
        if split.how not in RANDOM and np.median(test) < np.quantile(train, 0.05):
            found.append(
                Finding(
                    "time-order",
                    f"column {name!r}",
                    "time runs backwards: most test rows are older than 95 % of the train rows",
                    "exchange the files, or leave it if the past is asked for",
                    confidence="sure",
                    figures={"column": name},
                )
            )
    return found
