"""Rows drawn with replacement, each class as often as any other. Printed by eject. Floor 3."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def class_chances(classes: Rows) -> Floats:
    """Return the chance of each row in a draw in which each class is as likely as any other.

    These are the weights of ``torch.utils.data.WeightedRandomSampler`` that balance classes, divided by their sum.

    Args:
        classes: The class number of each row, int64 ``(rows,)``.

    Returns:
        float64 ``(rows,)``, of sum 1.

    Example:
        >>> class_chances(np.array([0, 0, 0, 1])).round(3).tolist()
        [0.167, 0.167, 0.167, 0.5]
    """
    counts = np.bincount(classes)
    return 1.0 / (np.count_nonzero(counts) * counts[classes])


def drawn(chances: Floats, generator: np.random.Generator) -> Rows:
    """Return as many places as there are rows, drawn with replacement, int64 ``(rows,)``."""
    return generator.choice(len(chances), len(chances), p=chances)


def times_before(rows: Rows) -> Rows:
    """Return how often the row at each place came before, int64 ``(rows,)``.

    Example:
        >>> times_before(np.array([7, 3, 7, 7, 3])).tolist()
        [0, 0, 1, 2, 1]
    """
    places = np.argsort(rows, kind="stable")
    alike = rows[places]
    first = np.searchsorted(alike, alike, side="left")
    counts = np.empty(len(rows), dtype=np.int64)
    counts[places] = np.arange(len(rows)) - first
    return counts
