"""A first line that looks like data, where names of columns were expected. Floor 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 0.5  # of the names that are numbers, from which on they look like data
TOLD = 3


def header_hint(names: Sequence[str]) -> str:
    """Return the advice where names of columns look like a row of data; empty where they do not.

    Numbers at even distances (pixels, years, wavelengths) are names.

    Args:
        names: The fields of the first line.

    Example:
        >>> header_hint(["5.1", "3.5", "1.4", "setosa"])[:44]
        'the first line looks like data (5.1, 3.5, 1.'
        >>> header_hint(["pixel", "1", "2", "3"])
        ''
    """
    numbers = [value for value in map(_number, names) if value is not None]
    if not numbers or len(numbers) < SHARE * len(names) or (len(numbers) > 2 and np.allclose(np.diff(numbers, 2), 0)):
        return ""
    shown = ", ".join(names[:TOLD]) + (", ..." if len(names) > TOLD else "")
    return (
        f"the first line looks like data ({shown}), and was read as names; for a file without names set data.header = false, or "
        "name its columns in data.columns"
    )


def _number(text: str) -> float | None:
    """Return a finite number that a text writes; None for other texts."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
