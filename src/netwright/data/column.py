"""What is known of a column of a table, and which cells of new rows are odd for it. Floor 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-7  # share of an amount by which float32 may differ from it


@dataclass(frozen=True)
class Column:
    """One column: name, kind, number of missing cells, and what the train rows hold.

    ``levels`` are their categories, ``constant`` the amount that all of them hold where they hold one only, ``span`` the least
    and the greatest of their numbers.
    """

    name: str
    kind: str
    missing: int = 0
    levels: tuple[str, ...] = ()
    constant: float | None = None
    span: tuple[float, float] | None = field(default=None, compare=False)

    def unknown(self, cells: Floats) -> int:
        """Return how many cells, as `TableEncoder.matrix` gives them, hold what no train row did, as far as that is known."""
        if self.kind == "category":
            return int((cells == 0).sum())
        if self.constant is None:
            return 0
        return int((np.abs(cells - self.constant) > ROUNDING * min(abs(self.constant), 1e3)).sum())  # NaN is missing

    def noticed(self, cells: Floats) -> dict[str, int]:
        """Return how many cells of new rows are ``unknown``, far ``beyond`` the span, or ``missing`` where none was.

        Far beyond is by more than the span: another unit, or rows of another kind. ``of`` is how many cells were asked of that.
        """
        found = {"unknown": self.unknown(cells)}
        if self.kind != "category" and not self.missing:
            found["missing"] = int(np.isnan(cells).sum())
        if self.kind == "number" and self.span is not None and self.constant is None:
            low, high = self.span
            found["beyond"] = int((np.abs(cells - (low + high) / 2) > 1.5 * (high - low)).sum())  # NaN is missing
            found["of"] = len(cells)
        return found

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Column:
        """Read the plain values of a column."""
        span = value.get("span")
        told = value.get("constant"), None if span is None else (float(span[0]), float(span[1]))
        return Column(value["name"], value["kind"], value["missing"], tuple(value["levels"]), *told)
