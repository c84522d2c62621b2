"""Single columns and the target, train rows only: constant, numbered, missing, marked, rare, far out, contradicting. Floor 10."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding
from netwright.checks.view import Hashes, Values, distinct
from netwright.model.weighing import FOCAL
from netwright.numerals import counted
from netwright.sources.cells import marked_too
from netwright.sources.marks import Markers

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FEWEST = 40
FEW_ROWS = 10  # train rows that any network knows by heart
MOST = 3  # findings of one kind; the rest is counted in the last
MOSTLY, HALF = 0.9, 0.5
TIMES = re.compile(r"(?:^|_|\b)(?:year|month|week|day|hour|minute|second|time|date|step|age|t)s?(?:$|_|\b)", re.IGNORECASE)
MARKS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)
SURE = 30  # times the rows, the square of so many: the chance that they differ by chance is below 1e-4
FAR, VERY_FAR = 20.0, 10.0
RARE, VERY_RARE = 0.2, 0.05  # share of a class, times the number of classes
CONFLICTS = 0.05
NEIGHBOURS, MOST_ROWS, MOST_COLUMNS = 10, 4000, 100


def singles(columns: Sequence[Values], rows: int, markers: Markers, drawn: bool = False) -> list[Finding]:
    """Return the columns that carry nothing, number the rows, are mostly missing or hold marks for missing.

    Args:
        columns: Of (some) train rows.
        rows: Of the whole source.
        markers: Which texts mean missing so far.
        drawn: Whether there are more train rows than these.
    """
    found: list[Finding] = []
    if len(columns) < 2 or len(columns[0].values) < FEWEST:
        return found
    each = f"each of {len(columns[0].values):,} train rows drawn by chance" if drawn else "every train row"
    for column in columns:
        known = column.ordered[np.isfinite(column.ordered)]
        missing = 1 - len(known) / len(column.values)
        if missing >= HALF:
            found.append(_missing(column, missing))
        if len(known) and known[0] == known[-1] and missing == 0:
            found.append(_constant(column, known, each, drawn))
        elif column.kind == "number" and len(known) >= FEWEST:
            # Whole numbers below 1.5 times the rows may all differ by chance where few are drawn.
            whole = not drawn or len(known) ** 2 > SURE * rows
            found += (_numbered(column, known, rows) if whole else []) or _marked(column, known, markers, drawn)
    return _few(found)


def few_rows(rows: int) -> list[Finding]:
    """Tell a train part of so few rows that a network learns them by heart."""
    if rows >= FEW_ROWS:
        return []
    return [
        Finding(
            "few-rows",
            "train",
            f"{counted(rows, 'row')} to learn from: a network knows so few by heart, and figures of fewer still are chance",
            "gather more rows, or trust the models without a network beside the test instead",
            figures={"rows": rows},
        )
    ]


def left_out(names: Sequence[str]) -> list[Finding]:
    """Return the columns that are left out because they look like identifiers."""
    why = "all its values differ: it looks like an identifier and is left out"
    advice = 'set data.kinds = {{"{}" = "number"}} if it is none'
    return [Finding("identifier-column", f"column {name!r}", why, advice.format(name), "note", "sure") for name in names]


def _constant(column: Values, known: Floats, each: str, drawn: bool) -> Finding:
    same = f"it is {known[0] + 0:g} in {each}" if column.kind != "category" else f"it is the same in {each}"
    told = "" if column.kind == "category" else ", so that it tells little" if drawn else ", so that it tells nothing"
    advice = column.leave_out + (" if it is so in the others too" if drawn else "")
    return Finding("constant-column", f"column {column.name!r}", same + told, advice, "note", "hint" if drawn else "sure")


def _missing(column: Values, share: float) -> Finding:
    return Finding(
        "mostly-missing",
        f"column {column.name!r}",
        f"{100 * share:.0f} % of its cells are missing in train; what stands there is mostly filled in",
        f"{column.leave_out}, or look at why",
        "warning" if share >= MOSTLY else "note",
        "sure",
        {"share": share},
    )


def _numbered(column: Values, known: Floats, rows: int) -> list[Finding]:
    """Tell whole numbers that all differ and fill a range as long as the rows: the number of the row."""
    if len(known) < len(column.values) or known[-1] - known[0] > 1.5 * rows or TIMES.search(column.name):
        return []
    if (known[1:] == known[:-1]).any() or (known != np.round(known)).any():
        return []
    return [
        Finding(
            "identifier-column",
            f"column {column.name!r}",
            f"{len(known)} whole numbers that all differ, {known[0]:g} to {known[-1]:g}: it looks like the number of the row, "
            "from which the network can learn the order of the file but nothing about new rows",
            column.leave_out,
        )
    ]


def _marked(column: Values, known: Floats, markers: Markers, drawn: bool) -> list[Finding]:
    """Tell a number such as -999 that repeats far from all others: a mark for missing."""
    for mark in (known[0], known[-1]):
        if mark not in MARKS:
            continue
        rest = known[known != mark]
        count = len(known) - len(rest)
        if count < max(3, 0.002 * len(known)) or len(distinct(rest)) < 5:
            continue
        if min(abs(mark - rest[0]), abs(mark - rest[-1])) <= 2 * (rest[-1] - rest[0]):
            continue
        among = f" in {len(column.values):,} rows drawn by chance" if drawn else ""
        return [
            Finding(
                "sentinel-values",
                f"column {column.name!r}",
                f"{counted(count, 'cell')} of {mark:g}{among} while all others lie between {rest[0]:.4g} and {rest[-1]:.4g}: it "
                "looks like a mark for missing, which is read as a number",
                f"set {marked_too(markers, f'{mark:g}')}" if column.named else "write NaN in its place",
                figures={"value": float(mark), "cells": count},
            )
        ]
    return []


def _few(found: list[Finding]) -> list[Finding]:
    """Keep a few findings of each kind."""
    kept: dict[str, list[Finding]] = {}
    for one in found:
        kept.setdefault(one.check, []).append(one)
    return [
        one if place < MOST - 1 or len(same) <= MOST else _joined(same[MOST - 1 :])
        for same in kept.values()
        for place, one in enumerate(same[:MOST])
    ]


def _joined(same: list[Finding]) -> Finding:
    first = same[0]
    return Finding(
        first.check,
        f"{first.where} and {len(same) - 1} more",
        first.why,
        first.advice,
        first.severity,
        first.confidence,
        first.figures,
    )


def corrected_twice(ways: Sequence[str]) -> list[Finding]:
    """Return whether rare classes are both weighed and drawn more often; see `rare_classes`."""
    both = [way for way in ways if way != FOCAL]
    if len(both) < 2:
        return []
    why = f"{' and '.join(both)} both even the classes out, so that the rare ones count more than all others"
    return [Finding("class-imbalance", "training.loss", why, "keep one of them", "warning", "sure")]


def rare_classes(names: Sequence[Any], values: Rows, ways: Sequence[str]) -> list[Finding]:
    """Return whether a class is much rarer than the others.

    Args:
        names: The classes.
        values: Class numbers of the train rows, ``(rows,)``.
        ways: What is done about it already: ``weights in the loss``, ``data.sampling``, ``FocalLoss``.
    """
    counts = np.bincount(values, minlength=len(names))
    if len(values) < FEWEST or len(names) < 2 or not counts.min():
        return []
    rare = int(counts.argmin())
    share = counts[rare] / len(values)
    if share * len(names) > RARE:
        return []
    strong = share * len(names) <= VERY_RARE and not ways
    always = counts.max() / len(values)
    return [
        Finding(
            "class-imbalance",
            f"class {names[rare]!r}",
            f"{counts[rare]} of {len(values)} train rows ({100 * share:.2g} %); always answering {names[int(counts.argmax())]!r} "
            f"has an accuracy of {always:.2f}",
            "look at balanced accuracy, average precision and the recall of each class, not at accuracy; "
            + (
                f"{' and '.join(ways)} answer it"
                if ways
                else 'where the rare class matters most: training.class_weight = "balanced", data.sampling = "balanced" or '
                "FocalLoss() (docs/imbalance.md)"
            ),
            "warning" if strong else "note",
            "sure",
            {"share": float(share), "rows": int(counts[rare])},
        )
    ]


def far_targets(names: Sequence[str], values: Floats, place: Callable[[int], str]) -> list[Finding]:
    """Return targets far outside of all others, by the median and the median deviation.

    Args:
        names: The target columns.
        values: Of the train rows, ``(rows, outputs)``.
        place: Where a train row came from, by its number among them.
    """
    found: list[Finding] = []
    for name, column in zip(names, values.T, strict=False):
        distance = np.abs(column - np.median(column))
        usual = 1.4826 * float(np.median(distance))
        if len(column) < FEWEST or usual <= 0:
            continue
        farthest = int(distance.argmax())
        score = float(distance[farthest] / usual)
        alone = distance[farthest] > VERY_FAR * float(np.quantile(distance, 0.98))
        if score <= FAR:
            continue
        count = int((distance > FAR * usual).sum())
        found.append(
            Finding(
                "target-outliers",
                f"target {name!r}",
                f"{counted(int(count), 'train row')} more than {FAR:g} deviations from the median, {place(farthest)} with "
                f"{column[farthest]:.6g} by {score:.0f}: squared errors hang on them alone",
                "look at them; a wrong unit or a lost point? Else take HuberLoss() or the logarithm of the target",
                "warning" if alone else "note",
                "likely" if alone else "hint",
                {"rows": count, "deviations": score},
            )
        )
    return found


def conflicts(hashes: Hashes, target: Floats, classes: bool, place: Callable[[int], str]) -> list[Finding]:
    """Return train rows with the same inputs as others and another target: those that a network which is right for most gets wrong.

    Args:
        hashes: Of the train rows.
        target: Their targets, ``(rows, outputs)``.
        classes: Whether they are classes or labels.
        place: Where a train row came from.
    """
    different = len(distinct(np.sort(hashes)))
    if len(hashes) < FEWEST or different == len(hashes) or different < len(hashes) / 2:
        return []
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    least, most = np.full((len(counts), target.shape[1]), np.inf), np.full((len(counts), target.shape[1]), -np.inf)
    np.minimum.at(least, inverse, target)
    np.maximum.at(most, inverse, target)
    wide: Floats = np.zeros(target.shape[1]) if classes else np.asarray(target.std(axis=0))
    conflicting = ((most - least) > wide).any(axis=1)
    if not conflicting.any():
        return []
    wrong = _off_the_most(inverse, target) if classes else _off_the_mean(inverse, target, wide / 2)
    rows = np.flatnonzero(conflicting[inverse] & wrong)
    share = len(rows) / len(hashes)
    group = np.flatnonzero(inverse == inverse[rows[0]])
    twin = next(int(row) for row in group if (target[row] != target[rows[0]]).any())
    return [
        Finding(
            "conflicting-targets",
            "train rows",
            f"{len(rows)} of {len(hashes)} have the inputs of other train rows and another target than these (first: "
            f"{place(int(rows[0]))} and {place(twin)}); no network can answer both",
            "look at how they were labelled; a column that tells them apart may be missing",
            "warning" if share >= CONFLICTS else "note",
            "sure",
            {"rows": len(rows), "share": share},
        )
    ]


def _off_the_most(groups: Rows, target: Floats) -> npt.NDArray[np.bool_]:
    """Return which rows have another target than most of their group, bool ``(rows,)``; of as many, the smaller target stands."""
    pairs, which, counts = np.unique(np.column_stack([groups, target]), axis=0, return_inverse=True, return_counts=True)
    of = pairs[:, 0].astype(np.int64)
    order = np.lexsort((np.arange(len(pairs)), -counts, of))
    first = order[np.unique(of[order], return_index=True)[1]]  # the most frequent pair of each group
    return np.asarray(first[groups] != which.reshape(-1))


def _off_the_mean(groups: Rows, target: Floats, far: Floats) -> npt.NDArray[np.bool_]:
    """Return which rows lie farther than ``far`` from the mean of their group, bool ``(rows,)``."""
    sizes = np.bincount(groups)
    means = np.stack([np.bincount(groups, column) / sizes for column in target.T], axis=1)
    return np.asarray((np.abs(target - means[groups]) > far).any(axis=1))


def noisy_labels(columns: Sequence[Values], target: Rows, place: Callable[[int], str]) -> list[Finding]:
    """Return train rows whose nearest neighbours nearly all have one other class; takes scikit-learn, so only on request.

    Source: Wilson (1972), the rule of edited nearest neighbours.

    Args:
        columns: Of (some) train rows.
        target: Their classes, ``(rows,)``.
        place: Where a row came from, by its number among them.
    """
    from sklearn.neighbors import NearestNeighbors

    usable = [
        column.values for column in columns[:MOST_COLUMNS] if column.kind != "category" and np.isfinite(column.values).all()
    ]
    if len(target) < 100 or not usable:
        return []
    values = np.stack(usable, axis=1)[:MOST_ROWS]
    values = (values - values.mean(axis=0)) / np.where(values.std(axis=0) > 0, values.std(axis=0), 1.0)
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(values).kneighbors(values, return_distance=False)[:, 1:]
    labels = target[: len(values)]
    others = labels[near]
    votes = np.stack([(others == label).sum(axis=1) for label in range(int(labels.max()) + 1)], axis=1)
    agreeing = float((votes.argmax(axis=1) == labels).mean())
    odd = np.flatnonzero((votes.max(axis=1) >= NEIGHBOURS - 1) & (votes.argmax(axis=1) != labels))
    if agreeing < 0.8 or len(odd) < max(3, 0.01 * len(labels)):
        return []
    shown = ", ".join(place(int(row)) for row in odd[:3])
    return [
        Finding(
            "label-noise",
            "train rows",
            f"{len(odd)} of {len(labels)} have another class than nearly all of their {NEIGHBOURS} nearest neighbours (first: "
            f"{shown})",
            "look at some of them: are they labelled rightly?",
            "note",
            "hint",
            {"rows": len(odd), "share": len(odd) / len(labels)},
        )
    ]
