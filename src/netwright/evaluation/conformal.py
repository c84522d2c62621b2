"""Prediction intervals of a regression by split conformal prediction. Floor 8.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005); Lei and others, Distribution-free predictive
inference for regression (2018). Where calibration rows and new rows are exchangeable, an interval holds a new value with a
chance of at least the level and at most the level + 1 / (n + 1), whatever the network and the distribution.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from netwright.evaluation.importance import drawn_rows
from netwright.evaluation.shares import mean_told

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
MOST_ERRORS = 2000  # of CV+; of more so many are drawn
AT_A_TIME = 5_000_000  # numbers held at once


def rank_of(rows: int, level: float) -> int:
    """Return which of the sorted errors of calibration rows is the half width, from 1; above ``rows`` there is none.

    Example:
        >>> rank_of(99, 0.9), rank_of(8, 0.9)
        (90, 9)
    """
    return math.ceil(round((rows + 1) * level, 9))  # 0.9 * 10 shall be 9, not a bit more


def half_widths(errors: Floats, level: float) -> Floats | None:
    """Return half the width of the interval of each output; None where the calibration rows are too few for the level.

    Args:
        errors: Errors of calibration rows in the user's units, of any sign, ``(rows, outputs)``.
        level: The share of new values that an interval shall hold.

    Returns:
        The ceil((n + 1) level)-th smallest absolute error, ``(outputs,)``.
    """
    rank = rank_of(len(errors), level)
    if rank > len(errors):
        return None
    return np.asarray(np.sort(np.abs(errors), axis=0)[rank - 1])


def fewest_rows(level: float) -> int:
    """Return how many calibration rows a level takes at least.

    Example:
        >>> fewest_rows(0.9), fewest_rows(0.95)
        (9, 19)
    """
    return next(rows for rows in range(1, 10**9) if rank_of(rows, level) <= rows)


def coverage(errors: Floats, widths: Floats, alike: Numbers | None = None) -> tuple[dict[str, float], list[float]]:
    """Return the share of values inside their intervals, with its interval, and that of each output.

    Args:
        errors: Errors of test rows, ``(rows, outputs)``.
        widths: Half widths, ``(outputs,)``.
        alike: The number of the group of each row, for rows that are alike; or None.
    """
    inside = np.abs(errors) <= widths
    rows, outputs = inside.shape
    if outputs > 1 or alike is not None:
        alike = np.repeat(np.arange(rows) if alike is None else alike, outputs)
    told = mean_told(inside.ravel().astype(np.float64), alike)
    return told, [float(share) for share in inside.mean(axis=0)]


def plus_bounds(each: Floats, errors: Floats, members: Numbers, level: float) -> tuple[Floats, Floats] | None:
    """Return where new values lie between by CV+, ``(rows, outputs)`` each; None where errors are too few for the level.

    Args:
        each: What the network of each fold gives for the new rows, ``(folds, rows, outputs)``.
        errors: Absolute errors of rows by the network of the fold that they were kept from, ``(errors, outputs)``.
        members: The fold of each, ``(errors,)``.
        level: The share of new values that an interval shall hold; promised are 2 level - 1, the level itself is usual.

    Source: Barber, Candes, Ramdas and Tibshirani, Predictive inference with the jackknife+, 2021, section 3.
    """
    rank = rank_of(len(errors), level)
    if rank > len(errors):
        return None
    chosen = drawn_rows(len(errors), MOST_ERRORS)
    errors, members = errors[chosen], members[chosen]
    rank = rank_of(len(errors), level)
    low, high = np.empty(each.shape[1:]), np.empty(each.shape[1:])
    block = max(1, AT_A_TIME // max(1, errors.size))
    for start in range(0, each.shape[1], block):
        rows = slice(start, start + block)
        values = each[members, rows]
        below, above = values - errors[:, None], values + errors[:, None]
        low[rows] = np.partition(below, len(errors) - rank, axis=0)[len(errors) - rank]
        high[rows] = np.partition(above, rank - 1, axis=0)[rank - 1]
    return low, high
