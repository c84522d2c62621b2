"""Means and shares with an interval from a formula, for tables of many small parts. Floor 8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwright.evaluation.intervals import FEWEST_ROWS, NORMAL_QUANTILE, wilson

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def mean_told(values: Floats, alike: Numbers | None = None, root: bool = False) -> dict[str, float]:
    """Return a mean with its 95 % interval; none below ten rows, or ten groups of rows that are alike.

    A share of rows gets Wilson's interval (1927). Other means, and shares of rows that are alike in groups, get the normal
    interval of a ratio of sums over the groups (Cochran, Sampling Techniques, 1977, chapter 9A), each row a group of its own
    where nothing is known.

    Args:
        values: Numbers, 0 and 1 for a share, ``(rows,)``, at least one.
        alike: The number of the group of each row, or None.
        root: Whether the root of the mean is wanted, as of squared errors; its interval is the root of that of the mean.

    Returns:
        ``value``, and ``low`` and ``high`` where there are enough rows.
    """
    mean, rows = float(values.mean()), len(values)
    told = {"value": mean}
    share = bool(np.isin(values, (0.0, 1.0)).all())
    if alike is None and share and rows >= FEWEST_ROWS:
        told["low"], told["high"] = wilson(int(values.sum()), rows)
    elif not (alike is None and share):
        told |= _normal(values, mean, alike, share)
    return {name: float(np.sqrt(max(value, 0.0))) for name, value in told.items()} if root else told


def _normal(values: Floats, mean: float, alike: Numbers | None, share: bool) -> dict[str, float]:
    """Return the bounds of a ratio of sums over groups, nothing for few of them or such as never differ."""
    left_over = values - mean
    if alike is not None:
        sums = np.bincount(np.unique(alike, return_inverse=True)[1], weights=left_over)
        left_over = np.asarray(sums, dtype=np.float64)
    groups = len(left_over)
    if groups < FEWEST_ROWS:
        return {}
    half = NORMAL_QUANTILE * float(np.sqrt((left_over**2).sum() * groups / (groups - 1))) / len(values)
    if half == 0.0:
        return {}
    low, high = mean - half, mean + half
    return {"low": max(low, 0.0), "high": min(high, 1.0)} if share else {"low": low, "high": high}
