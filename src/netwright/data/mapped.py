"""Rows of a table that were prepared once into a file and are read from its map. Floor 3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from netwright import files
from netwright.data.order import Windows

Floats = npt.NDArray[np.float32]


@final
@dataclass(frozen=True)
class Mapped:
    """Prepared rows in a map.

    Args:
        features: float32 ``(rows, features)``, mapped: it takes memory that the system can take back at any time.
        names: The columns of the table.
        folder: Of the map; there is room.
        windows: How rows are shuffled where the map does not fit into half of the free memory.
    """

    features: Floats
    names: tuple[str, ...]
    folder: Path
    windows: Windows | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.features)

    def beside(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array as long as the rows as a map too; see `files.off_memory`."""
        return files.off_memory(np.ascontiguousarray(values), self.folder)
