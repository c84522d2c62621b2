"""Features of columns as plain functions: phases of dates, ranks as normal quantiles. Printed by eject. Floor 3."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

QUANTILES = 1000


def phases(days: Tensor) -> Tensor:
    """Return sine and cosine of the time of year, week and day for days since 1970, ``(rows, 6)``."""
    turns = [days / 365.2425, days / 7.0, days]
    return torch.stack([wave(2 * math.pi * turn) for turn in turns for wave in (torch.sin, torch.cos)], dim=1)


def ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return distinct points of the train distribution and the mean share of values at or below them."""
    shares = torch.linspace(0, 1, QUANTILES, dtype=torch.float64)
    points = torch.quantile(values, shares) if len(values) < 2**24 else torch.from_numpy(np.quantile(values, shares))
    distinct, inverse = torch.unique(points, return_inverse=True)
    means = torch.zeros(len(distinct), dtype=torch.float64).scatter_reduce(0, inverse, shares, "mean", include_self=False)
    pad = QUANTILES - len(distinct)
    return (
        torch.cat([distinct, distinct[-1:].expand(pad)]),
        torch.cat([means, means[-1:].expand(pad)]),
    )


def normal_scores(cells: Tensor, points: Tensor, shares: Tensor) -> Tensor:
    """Map each number to the normal quantile of its rank among the train rows (linear between known points).

    Args:
        cells: Numbers ``(rows, columns)``.
        points: What `ranks` gave for each column, ``(columns, quantiles)``.
        shares: Likewise.
    """
    columns = cells.T.contiguous()
    upper = torch.searchsorted(points, columns).clamp(1, QUANTILES - 1)
    lower = upper - 1
    left, right = points.gather(1, lower), points.gather(1, upper)
    low, high = shares.gather(1, lower), shares.gather(1, upper)
    width = right - left
    part = torch.where(width > 0, (columns - left) / torch.where(width > 0, width, 1.0), 0.0).clamp(0.0, 1.0)
    quantiles: Tensor = torch.special.ndtri((low + part * (high - low)).clamp(0.001, 0.999)).T
    return quantiles
