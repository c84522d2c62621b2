"""The layers for numbers of a table that torch.nn does not have; they import only torch.

Printed by eject. Floor 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PeriodicEmbeddings(nn.Module):
    """Turns the first columns of a table, numbers, into vectors of waves; the columns after them pass.

    A number x becomes ``relu(linear([cos(2 pi c x), sin(2 pi c x)]))``: each column learns its own frequencies c, all share the
    Linear. So an MLP sees small differences of a number that it would smooth away.

    Args:
        dimension: Length of the vector of a number.
        frequencies: How many waves of a number there are.
        sigma: Deviation of the normal distribution that the frequencies are drawn from, in turns per unit of the number.
        columns: How many of the first columns are numbers.

    Shape: ``(batch, columns + others)`` to ``(batch, columns * dimension + others)``.
    Source: Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning, 2022 (PLR, "lite").

    Example:
        >>> PeriodicEmbeddings(dimension=8, columns=2)(torch.zeros(5, 3)).shape
        torch.Size([5, 17])
    """

    def __init__(self, dimension: int = 16, frequencies: int = 32, sigma: float = 0.1, *, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.frequencies = nn.Parameter(nn.init.normal_(torch.empty(columns, frequencies), std=sigma))
        self.linear = nn.Linear(2 * frequencies, dimension)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors of the numbers, and the other columns, side by side."""
        turns = 2 * math.pi * self.frequencies * x[:, : self.columns].unsqueeze(2)
        waves = torch.cat([turns.cos(), turns.sin()], dim=2)
        vectors = nn.functional.relu(self.linear(waves))
        return torch.cat([vectors.flatten(1), x[:, self.columns :]], dim=1)
