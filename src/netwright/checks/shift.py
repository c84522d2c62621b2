"""How far the distribution of a column in valid or test lies from that in train. Floor 10."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwright.checks.findings import Finding
from netwright.checks.view import Values

Floats = npt.NDArray[np.float64]
LEAST = 0.1  # distance below which nothing is said
RARE = 1e-3  # chance of such a distance without a shift, over all columns together
MOST = 5


def shifts(columns: dict[str, list[Values]], overlapping: int = 1) -> list[Finding]:
    """Return the columns whose distribution differs, the farthest first.

    Numbers and dates by the Kolmogorov-Smirnov statistic (with its asymptotic chance, Smirnov 1948), categories by the
    total variation distance (chance by the bound of Weissman and others, 2003); a share of missing cells counts as one of
    a category.

    Args:
        columns: Of (some) rows of each part, in the same order.
        overlapping: How many neighbouring rows share what they hold, as windows do: they count as one.
    """
    found: list[tuple[float, Finding]] = []
    tests = max(1, 2 * len(columns["train"]))
    for part in ("test", "valid"):
        for train, other in zip(columns["train"], columns[part], strict=False):
            told = _distance(train, other, overlapping)
            if told is None or told[1] < LEAST or told[2] * tests > RARE:
                continue
            measure, distance, _ = told
            found.append((distance, _finding(part, train, other, measure, distance)))
    found.sort(key=lambda pair: -pair[0])
    return [finding for _, finding in found[:MOST]]


def _finding(part: str, train: Values, other: Values, measure: str, distance: float) -> Finding:
    means = ""
    if train.kind == "number" and measure != "missing cells":
        means = f", mean {np.nanmean(train.values):.4g} in train and {np.nanmean(other.values):.4g} in {part}"
    return Finding(
        "shift",
        f"column {train.name!r}",
        f"it is distributed otherwise in {part} than in train ({measure} {distance:.2f}{means}), so that the {part} figure tells "
        "of other rows than train",
        "look at how the parts were made",
        confidence="sure",
        figures={"column": train.name, "part": part, "measure": measure, "distance": distance},
    )


def _distance(train: Values, other: Values, overlapping: int) -> tuple[str, float, float] | None:
    """Return the measure, its value, and the chance of it without a shift."""
    if train.kind == "category":
        return _variation("total variation distance", train.values, other.values, overlapping)
    if not (train.complete and other.complete):
        gaps = [np.isnan(values).astype(np.float64) for values in (train.values, other.values)]
        missing = _variation("missing cells", gaps[0], gaps[1], overlapping)
        if missing is not None and missing[1] >= LEAST:
            return missing
    one, two = train.ordered, other.ordered
    if not len(one) or not len(two):
        return None
    points = np.concatenate([one, two])
    distance = float(np.abs(_share(one, points) - _share(two, points)).max())
    return "Kolmogorov-Smirnov statistic", distance, _chance(distance, _rows(one, two, overlapping))


def _rows(one: Floats, two: Floats, overlapping: int) -> float:
    """Return the number of independent rows that a comparison of two samples stands on."""
    return len(one) * len(two) / (len(one) + len(two)) / overlapping


def _share(ordered: Floats, points: Floats) -> Floats:
    return np.searchsorted(ordered, points, side="right") / len(ordered)


def _chance(distance: float, rows: float) -> float:
    return float(min(1.0, 2 * np.exp(-2 * rows * distance**2)))


def _variation(measure: str, one: Floats, two: Floats, overlapping: int) -> tuple[str, float, float] | None:
    """Return half the sum of the differences between the shares of the values."""
    if not len(one) or not len(two):
        return None
    levels, inverse = np.unique(np.concatenate([one, two]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(levels)) / len(part) for part in (inverse[: len(one)], inverse[len(one) :])]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    rows = _rows(one, two, overlapping)
    with np.errstate(over="ignore"):
        bound = float(np.exp(min(700.0, len(levels) * np.log(2.0)) - 2 * rows * distance**2 / 2))
    return measure, distance, min(1.0, bound)
