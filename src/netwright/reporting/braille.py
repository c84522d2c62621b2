"""Curves in the cells of a terminal: each character is a grid of 2 by 4 dots of Unicode's braille patterns. Floor 10."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLANK = 0x2800
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column and row of a cell
ACROSS, DOWN = 2, 4
NOBODY = -1

Cell = tuple[str, int]  # a character, and the place of the series that drew it last


def braille_rows(series: Sequence[Sequence[float]], width: int, height: int, logarithmic: bool = False) -> list[list[Cell]]:
    """Draw series over one another.

    Args:
        series: Values one after the other, at equal distances; those that are not finite leave gaps.
        width: Cells across.
        height: Cells down.
        logarithmic: Whether the scale is; values must be above 0.

    Returns:
        ``height`` rows of ``width`` cells.

    Example:
        >>> ["".join(text for text, _ in row) for row in braille_rows([[0.0, 1.0, 2.0, 3.0]], 2, 1)]
        ['⡠⠊']
    """
    dots = [[0] * width for _ in range(height)]
    owners = [[NOBODY] * width for _ in range(height)]
    scaled = [[_scaled(value, logarithmic) for value in values] for values in series]
    finite = [value for values in scaled for value in values if math.isfinite(value)]
    if not finite:
        return [[(" ", NOBODY)] * width for _ in range(height)]
    low, high = min(finite), max(finite)
    longest = max(map(len, scaled))
    for owner, values in enumerate(scaled):
        for x, top, bottom in _columns(values, longest, width * ACROSS, height * DOWN, (low, high)):
            for y in range(top, bottom + 1):
                dots[y // DOWN][x // ACROSS] |= DOTS[x % ACROSS][y % DOWN]
                owners[y // DOWN][x // ACROSS] = owner
    return [
        [(chr(BLANK + dot) if dot else " ", owner) for dot, owner in zip(*row, strict=True)]
        for row in zip(dots, owners, strict=True)
    ]


def _scaled(value: float, logarithmic: bool) -> float:
    if not logarithmic:
        return value
    return math.log(value) if value > 0 else math.nan


def _columns(
    values: Sequence[float], longest: int, width: int, height: int, ends: tuple[float, float]
) -> list[tuple[int, int, int]]:
    """Return for each column of dots that a curve crosses its place, its highest and its lowest dot."""
    low, high = ends
    found: dict[int, tuple[int, int]] = {}

    def mark(x: int, y: int) -> None:
        top, bottom = found.get(x, (y, y))
        found[x] = (min(top, y), max(bottom, y))

    before: tuple[int, int] | None = None
    for place, value in enumerate(values):
        if not math.isfinite(value):
            before = None
            continue
        x = round(place / max(longest - 1, 1) * (width - 1))
        share = (value - low) / (high - low) if high > low else 0.5
        y = round((1 - share) * (height - 1))
        if before is not None:
            for step in range(before[0] + 1, x):
                mark(step, round(before[1] + (y - before[1]) * (step - before[0]) / (x - before[0])))
            if x > before[0]:
                _join(found, before, (x, y))
        mark(x, y)
        before = (x, y)
    return [(x, top, bottom) for x, (top, bottom) in sorted(found.items())]


def _join(found: dict[int, tuple[int, int]], before: tuple[int, int], after: tuple[int, int]) -> None:
    """Close the gaps between neighbouring columns of a steep line."""
    (left, upper), (right, lower) = before, after
    last = upper
    for x in range(left + 1, right + 1):
        y = round(upper + (lower - upper) * (x - left) / (right - left))
        if abs(y - last) > 1:
            step = 1 if y > last else -1
            top, bottom = found.get(x, (y, y))
            found[x] = (min(top, last + step, y), max(bottom, last + step, y))
        last = y
