"""A curve and bars as lines of text, for a terminal. Floor 10."""

from __future__ import annotations

from collections.abc import Sequence

from netwright.reporting.braille import braille_rows

WIDTH, HEIGHT = 72, 12
FULL, PARTS = "█", " ▏▎▍▌▋▊▉"


def chart(values: Sequence[float], places: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Return a curve with its highest and lowest value on the left, and the first, middle and last place below.

    Args:
        values: At equal distances.
        places: What stands below each.
        width: Cells across.
        height: Cells down.

    Example:
        >>> [line.rstrip() for line in chart([0.0, 1.0, 2.0, 3.0], ["a", "b", "c", "d"], 3, 1)]
        ['  3 ┤⡠⠔⠉', '     a d']
    """
    rows = ["".join(text for text, _ in row) for row in braille_rows([values], width, height)]
    top, bottom = f"{max(values):.4g}", f"{min(values):.4g}"
    margin = max(len(top), len(bottom)) + 2
    labels = [top, *[""] * (height - 2), bottom] if height > 1 else [top]
    drawn = [f"{label.rjust(margin)} ┤{row}" for label, row in zip(labels, rows, strict=True)]
    first, middle, last = places[0], places[len(places) // 2], places[-1]
    room = width - len(first) - len(last)
    inner = middle.center(room) if len(middle) < room else " " * room
    return [*drawn, " " * (margin + 2) + first + inner + last]


def bar(value: float, most: float, width: int = 30) -> str:
    """Return a bar of eighths of cells, as long as its share of the most.

    Example:
        >>> bar(3.0, 4.0, 2)
        '█▌'
    """
    eighths = round(8 * width * max(0.0, min(1.0, value / most if most > 0 else 0.0)))
    return FULL * (eighths // 8) + PARTS[eighths % 8].strip()
