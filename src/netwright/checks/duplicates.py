"""Rows of one part that stand in another too: exact ones by 64-bit hashes, near ones by the nearest neighbour. Floor 10."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding
from netwright.checks.view import Hashes, Values, distinct
from netwright.data.splits import Split

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
REPEATING = 0.5  # share of train rows that repeat another: from here on rows repeat by nature, as with a few categories
PAIRS = (("test", "train"), ("valid", "train"), ("test", "valid"))


def exact(
    hashes: Hashes, target: npt.NDArray[np.float64] | None, split: Split, place: Callable[[int], str]
) -> list[Finding]:
    """Return how many rows of a part have the inputs of a row of another.

    Args:
        hashes: Of all rows, ``(rows,)``.
        target: A number per row and output, to tell contradictions; None where a row has no single target.
        split: Who trains, validates and tests.
        place: Where a row came from.

    Returns:
        At most a finding per pair of parts; nothing where more than half of the train rows repeat another.
    """
    ordered = {part: np.sort(hashes[getattr(split, part)]) for part in ("train", "valid")}
    train = ordered["train"]
    if len(train) and len(distinct(train)) < (1 - REPEATING) * len(train):
        return []
    found = []
    for one, other in PAIRS:
        rows, others = getattr(split, one), getattr(split, other)
        if not len(rows) or not len(others):
            continue
        places = np.searchsorted(ordered[other], hashes[rows])
        same = ordered[other][np.minimum(places, len(others) - 1)] == hashes[rows]
        if not same.any():
            continue
        order = others[np.argsort(hashes[others], kind="stable")]
        first, twin = int(rows[same][0]), int(order[places[same][0]])
        count = int(same.sum())
        against = 0 if target is None else int((target[rows[same]] != target[order[places[same]]]).any(axis=1).sum())
        told = f", {against} of them with another target" if against else ""
        found.append(
            Finding(
                "duplicate-rows",
                f"{one} rows",
                f"{count} of {len(rows)} {one} rows have the inputs of a {other} row{told} (first: {place(first)} and "
                f"{place(twin)}), so that their answer is known before they are asked",
                "leave repeats out, or keep them in one part with data.split.group",
                confidence="sure",
                figures={"part": one, "of": other, "rows": count, "share": count / len(rows), "other_target": against},
            )
        )
    return found


def near(columns: dict[str, list[Values]], share: float) -> list[Finding]:
    """Return how many valid and test rows lie much nearer to a train row than train rows do to each other.

    Args:
        columns: Of (some) rows of each part.
        share: A row is near where its distance is below this share of the median distance between train neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    train = _scaled(columns["train"], columns["train"])
    if len(train) < 3 or not train.shape[1]:
        return []
    neighbours = NearestNeighbors(n_neighbors=2).fit(train)
    usual = float(np.median(neighbours.kneighbors(train)[0][:, 1]))
    found = []
    for part in ("test", "valid"):
        rows = _scaled(columns[part], columns["train"])
        if not len(rows):
            continue
        distances = neighbours.kneighbors(rows, n_neighbors=1)[0][:, 0]
        count = int(((distances > 0) & (distances < share * usual)).sum())
        if count:
            found.append(
                Finding(
                    "near-duplicate-rows",
                    f"{part} rows",
                    f"{count} of {len(rows)} {part} rows are nearer to a train row than {share:g} times the median distance "
                    f"between train neighbours ({usual:.3g} deviations), so that they may be copies",
                    "look at them, or divide by data.split.group",
                    figures={"part": part, "rows": count, "share": count / len(rows), "median_distance": usual},
                )
            )
    return found


def _scaled(columns: list[Values], train: list[Values]) -> Floats:
    """Return columns as numbers of mean 0 and deviation 1 among the train rows; categories count 1 where they differ."""
    parts = []
    for column, known in zip(columns, train, strict=True):
        if column.kind == "category":
            levels = np.unique(known.values)[:100]
            parts.append((column.values[:, None] == levels) / np.sqrt(2))
            continue
        mean, deviation = np.nanmean(known.values), np.nanstd(known.values)
        if np.isfinite(mean) and deviation > 0:
            parts.append(np.nan_to_num((column.values - mean) / deviation)[:, None])
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(columns[0].values) if columns else 0, 0))
