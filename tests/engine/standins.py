"""Stand-ins for what captures work on a GPU; see `netwright.engine.graphs.Graphs`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from netwright.engine.graphs import Work


class Again:
    """Does the work again; counts what it was asked for."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0
        self.parts: Any = None

    def warm(self, work: Work) -> None:
        work()

    def capture(self, work: Work) -> Work:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay

    def generator(self) -> Tensor:
        return torch.default_generator.get_state()

    def set_generator(self, state: Tensor) -> None:
        torch.default_generator.set_state(state)

    def aside(self) -> Any:
        """Return nothing: the generator of the device is that of the CPU here."""
