"""The bootstrap: figures that follow from sums over rows, worked out again for rows drawn anew.

Every figure here is a function of a few sums over rows (hits of a class, squared errors, counts of scores), so a resample
is a product of two matrices. Rows that belong together (of one group, the steps of one row) are drawn together (Field and
Welsh, Bootstrapping clustered data, 2007). Intervals are BCa (Efron, Better bootstrap confidence intervals, 1987) up to
`MOST_BCA` of what is drawn, above that percentiles. Floor 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.seeding import stream

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Bounds = dict[str, tuple[float, float]]
RESAMPLES = 1000
MOST_BCA = 2000
MOST_DRAWN = 20_000  # rows or clusters; of more a part is drawn from, and the deviations are scaled by the root of its share
FEWEST_DRAWN = 10
LEVEL = (0.025, 0.975)
NORMAL = NormalDist()
AT_A_TIME = 500_000  # numbers held at once: as many as lie near a core


@dataclass(frozen=True)
class Summed:
    """Figures as functions of sums over rows.

    ``parts`` are what each row adds, dense or sparse ``(rows, sums)``; ``figures`` turns sums ``(resamples, sums)`` into
    values ``(resamples,)`` by name.
    """

    parts: Any
    figures: Callable[[Floats], dict[str, Floats]]

    def values(self) -> dict[str, float]:
        """Return the figures of all rows."""
        whole = np.asarray(self.parts.sum(axis=0), dtype=np.float64).reshape(1, -1)
        return {name: float(found[0]) for name, found in _gathered(self.figures, iter([whole])).items()}


def joined(tables: Sequence[Summed]) -> Summed:
    """Return the figures of several tables of the same rows in one."""
    ends = np.cumsum([table.parts.shape[1] for table in tables])

    def figures(sums: Floats) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for table, end in zip(tables, ends, strict=True):
            found |= table.figures(sums[:, end - table.parts.shape[1] : end])
        return found

    return Summed(beside([table.parts for table in tables]), figures)


def beside(parts: Sequence[Any]) -> Any:
    """Return what rows add to several tables side by side, sparse where one of them is."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts, axis=1)
    from scipy import sparse

    return sparse.hstack([sparse.csr_array(part) for part in parts], format="csr")


@dataclass(frozen=True)
class Resampled:
    """Figures by name: of all rows, and of rows drawn anew.

    ``whole`` are those of all rows, ``centre`` those of the rows that are drawn from, ``drawn`` those of each resample
    ``(resamples,)``, ``lifted`` those without each row in turn ``(rows,)``, for BCa; ``scale`` shrinks the deviations where a part
    of the rows is drawn from. Figures of other models of the same rows are of the same resamples.
    """

    whole: dict[str, float]
    centre: dict[str, float]
    drawn: dict[str, Floats]
    lifted: dict[str, Floats]
    scale: float

    def less(self, others: Sequence[Resampled]) -> Resampled:
        """Return these figures less the mean of others', of the same rows; those that all have."""
        names = [name for name in self.whole if all(name in other.whole for other in others)]

        def apart(part: str) -> dict[str, Any]:
            own, rest = getattr(self, part), [getattr(other, part) for other in others]
            with np.errstate(invalid="ignore"):  # of a figure that some rows do not define
                return {name: own[name] - np.mean([one[name] for one in rest], axis=0) for name in names if name in own}

        return Resampled(apart("whole"), apart("centre"), apart("drawn"), apart("lifted"), self.scale)

    def bounds(self) -> Bounds:
        """Return the 95 % interval (low, high) of each figure but those that never vary, or that most resamples do not define."""
        found = {}
        for name, values in self.drawn.items():
            values = values[np.isfinite(values)]
            centre = self.centre[name]
            if len(values) <= RESAMPLES // 2 or not np.isfinite(centre) or values.min() == values.max():
                continue
            shares = _bca(values, centre, self.lifted[name]) if name in self.lifted else LEVEL
            low, high = (self.whole[name] + (float(bound) - centre) * self.scale for bound in np.quantile(values, shares))
            found[name] = (low, high)
        return found


def resample(table: Summed, clusters: Numbers | None = None, seed: int = 0) -> Resampled:
    """Return the figures of all rows, and of rows drawn anew.

    Args:
        table: Of all rows.
        clusters: The number of the cluster of each row, ``(rows,)``; None where each row stands for itself.
        seed: Of the resampling; which rows are drawn depends on it and on their number alone.

    Returns:
        Nothing drawn below ten rows or clusters.
    """
    parts = table.parts if clusters is None else _of_clusters(table.parts, clusters)
    count, scale, whole = parts.shape[0], 1.0, table.values()
    if count < FEWEST_DRAWN:
        return Resampled(whole, whole, {}, {}, scale)
    generator = stream(seed, "resampling")
    if count > MOST_DRAWN:
        parts = parts[np.sort(generator.choice(count, MOST_DRAWN, replace=False))]
        scale = float(np.sqrt(MOST_DRAWN / count))
    drawn = _gathered(table.figures, _resampled(parts, generator))
    centre = Summed(parts, table.figures).values()
    lifted = _gathered(table.figures, _left_out(parts)) if count <= MOST_BCA else {}
    return Resampled(whole, centre, drawn, lifted, scale)


def bootstrap(table: Summed, clusters: Numbers | None = None, seed: int = 0) -> Bounds:
    """Return the 95 % interval (low, high) of each figure that has one; see `resample` and `Resampled.bounds`."""
    return resample(table, clusters, seed).bounds()


def block_length(rows: int, horizon: int) -> int:
    """Return how many neighbours of a series are drawn together: the cube root of the rows, at least the horizon."""
    return max(horizon, int(round(rows ** (1 / 3), 6)))


def blocks_of(places: Numbers, length: int, stride: int = 1, series: Numbers | None = None) -> Numbers:
    """Return the number of the block of each row of one series or several.

    Args:
        places: Where each row stands among the steps of all series, rising ``(rows,)``; where they jump, a block ends.
        length: Rows of a block; the last of a series may be shorter.
        stride: From one row of a series to the next.
        series: The number of the series of each row ``(rows,)``; None where only jumps tell them apart.
    """
    if len(places) < 2:
        return np.zeros(len(places), dtype=np.int64)
    ends = np.diff(places) != stride
    ends = ends if series is None else ends | (np.diff(series) != 0)
    begins = np.concatenate([[0], np.flatnonzero(ends) + 1])
    run = np.searchsorted(begins, np.arange(len(places)), side="right") - 1
    within = (np.arange(len(places)) - begins[run]) // length
    return np.unique(np.stack([run, within], axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def method_of(drawn: int) -> str:
    """Return in words how so many rows or clusters are resampled."""
    part = f" of {MOST_DRAWN:,} rows, scaled" if drawn > MOST_DRAWN else ""
    return f"{'BCa' if drawn <= MOST_BCA else 'percentile'} bootstrap, {RESAMPLES:,} resamples{part}"


def _of_clusters(parts: Any, clusters: Numbers) -> Any:
    """Return what each cluster adds, ``(clusters, sums)``."""
    from scipy import sparse

    codes = np.unique(clusters, return_inverse=True)[1]
    rows = len(codes)
    belongs = sparse.csr_array((np.ones(rows), (codes, np.arange(rows))), shape=(int(codes.max()) + 1, rows))
    return belongs @ parts


def _resampled(parts: Any, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield the sums ``(resamples, sums)`` of rows drawn with replacement, in blocks that fit into memory."""
    count, width = parts.shape
    block = max(1, min(RESAMPLES, AT_A_TIME // max(count, width)))
    for start in range(0, RESAMPLES, block):
        resamples = min(block, RESAMPLES - start)
        drawn = generator.integers(0, count, size=(resamples, count))
        drawn += np.arange(resamples)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count)
        yield np.asarray(weights.astype(np.float64) @ parts)


def _left_out(parts: Any) -> Iterator[Floats]:
    """Yield the sums without each row in turn, ``(rows, sums)``, in blocks."""
    whole = np.asarray(parts.sum(axis=0), dtype=np.float64).reshape(1, -1)
    block = max(1, AT_A_TIME // parts.shape[1])
    for start in range(0, parts.shape[0], block):
        part = parts[start : start + block]
        yield whole - (part if isinstance(part, np.ndarray) else part.toarray())


def _gathered(figures: Callable[[Floats], dict[str, Floats]], blocks: Iterator[Floats]) -> dict[str, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [figures(sums) for sums in blocks]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _bca(values: Floats, centre: float, lifted: Floats) -> tuple[float, float]:
    """Return the shares at which the quantiles of resampled values are taken; `LEVEL` where they are not defined.

    Args:
        values: Of the resamples.
        centre: Of the rows themselves.
        lifted: Without each row in turn.
    """
    below = (np.mean(values < centre) + np.mean(values <= centre)) / 2
    moves = lifted[np.isfinite(lifted)].mean() - lifted
    spread = float((moves**2).sum()) ** 1.5
    if not 0 < below < 1 or not np.isfinite(moves).all() or spread == 0:
        return LEVEL
    bias, skew = NORMAL.inv_cdf(float(below)), float((moves**3).sum()) / (6 * spread)
    shifted = [bias + NORMAL.inv_cdf(share) for share in LEVEL]
    low, high = (NORMAL.cdf(bias + one / (1 - skew * one)) for one in shifted)
    return (low, high) if 0 < low < high < 1 else LEVEL
