"""The layers torch.nn does not have as such; they import only torch.

The recurrent layers and attention are torch's own, with the same parameters and state_dict keys, returning the sequence
alone so that they fit into ``nn.Sequential``. Printed by eject. Floor 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class RNN(nn.RNN):
    """torch.nn.RNN that returns the sequence only: ``(batch, time, features)`` to ``(batch, time, hidden)``."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the output of every step; with lengths, int64 ``(batch,)``, each row is read as if it were alone."""
        if lengths is None:
            sequence: Tensor = super().forward(x)[0]
            return sequence
        return read_alone(super().forward, x, lengths)


class LSTM(nn.LSTM):
    """torch.nn.LSTM that returns the sequence only: ``(batch, time, features)`` to ``(batch, time, hidden)``."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the output of every step; with lengths, int64 ``(batch,)``, each row is read as if it were alone."""
        if lengths is None:
            sequence: Tensor = super().forward(x)[0]
            return sequence
        return read_alone(super().forward, x, lengths)


class GRU(nn.GRU):
    """torch.nn.GRU that returns the sequence only: ``(batch, time, features)`` to ``(batch, time, hidden)``."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the output of every step; with lengths, int64 ``(batch,)``, each row is read as if it were alone."""
        if lengths is None:
            sequence: Tensor = super().forward(x)[0]
            return sequence
        return read_alone(super().forward, x, lengths)


def read_alone(forward: Callable[[Any], Any], x: Tensor, lengths: Tensor) -> Tensor:
    """Return the sequence of outputs of packed rows, so that both directions start at real steps."""
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(forward(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class MultiheadAttention(nn.MultiheadAttention):
    """torch.nn.MultiheadAttention of a sequence with itself: ``(batch, time, features)`` in and out."""

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the attended sequence; steps where ``padding``, bool ``(batch, time)``, is true are not looked at."""
        attended: Tensor = super().forward(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        return attended


class LastStep(nn.Module):
    """The last step of a sequence: ``(batch, time, features)`` to ``(batch, features)``."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the last step; with lengths, int64 ``(batch,)``, the last real step of each row."""
        return x[:, -1] if lengths is None else x[torch.arange(len(x), device=x.device), lengths - 1]


class MeanOverTime(nn.Module):
    """The mean over the steps of a sequence: ``(batch, time, features)`` to ``(batch, features)``."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the mean; with lengths, int64 ``(batch,)``, of the real steps, where the padded ones are 0."""
        return x.mean(dim=1) if lengths is None else x.sum(dim=1) / lengths.unsqueeze(1)


class Transpose(nn.Module):
    """Swaps time and channels: ``(batch, time, channels)`` to ``(batch, channels, time)`` and back."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the transposed batch."""
        return x.transpose(1, 2)


class RandomShift(nn.Module):
    """Moves each row of a training batch along its spatial axes; its edge fills the gap. In eval mode nothing happens.

    Each axis of each row moves by a whole number from ``-most`` to ``most``, all as likely, drawn from torch's generator. As a
    layer it moves rows where they are, on a GPU too, and the weights hold nothing of it, as with ``Dropout``.

    Source: Simard et al., Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis, 2003.

    Args:
        most: How far, in pixels or voxels.

    Shape: ``(batch, channels, ...)`` in and out, up to three spatial axes.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        """Return the moved batch; in eval mode ``x`` itself."""
        if not self.training:
            return x
        for axis in range(2, x.dim()):
            by = torch.randint(-self.most, self.most + 1, (len(x), 1), device=x.device)
            places = (torch.arange(x.shape[axis], device=x.device) - by).clamp(0, x.shape[axis] - 1)
            form = [1] * x.dim()
            form[0], form[axis] = places.shape
            x = x.gather(axis, places.view(form).expand_as(x))
        return x

    def extra_repr(self) -> str:
        """Return the argument, for torch's own print of a network."""
        return f"most={self.most}"


class RandomStretch(nn.Module):
    """Stretches or narrows each row of a training batch about its middle; its edge fills the gap. In eval mode nothing happens.

    Each axis of each row gets a factor of its own between ``1 / factor`` and ``factor``, even in its logarithm, drawn from
    torch's generator; a place gets the value of the nearest one. As with `RandomShift` rows are changed where they are.

    Source: Simard et al., Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis, 2003.

    Args:
        factor: How many times as long an axis becomes at most, above 1.

    Raises:
        ValueError: The factor is no number above 1.

    Shape: ``(batch, channels, ...)`` in and out, up to three spatial axes.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 < factor < math.inf:
            raise ValueError(f"factor={factor!r} came; expected a number above 1, such as 1.2")
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the stretched batch; in eval mode ``x`` itself."""
        if not self.training:
            return x
        for axis in range(2, x.dim()):
            middle = (x.shape[axis] - 1) / 2
            by = self.factor ** (2 * torch.rand((len(x), 1), device=x.device) - 1)
            places = (torch.arange(x.shape[axis], device=x.device) - middle) / by + middle
            places = places.round().long().clamp(0, x.shape[axis] - 1)
            form = [1] * x.dim()
            form[0], form[axis] = places.shape
            x = x.gather(axis, places.view(form).expand_as(x))
        return x

    def extra_repr(self) -> str:
        """Return the argument, for torch's own print of a network."""
        return f"factor={self.factor}"


class RandomMirror(nn.Module):
    """Mirrors each row of a training batch along each of some axes, or not, by an even chance. In eval mode nothing happens.

    Source: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012, section 4.1.

    Args:
        dims: Axes as `torch.flip` counts them: 0 is the batch, 1 the channels, and axes of space begin at 2.

    Raises:
        ValueError: They are no axes of space.

    Shape: ``(batch, channels, ...)`` in and out, up to three spatial axes.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        whole = isinstance(dims, list | tuple) and all(type(axis) is int and axis >= 2 for axis in dims)
        if not whole or not dims or len(set(dims)) < len(dims):
            raise ValueError(f"dims={dims!r} came; expected axes of space, from 2 on, such as [2, 3]")
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mirrored batch; in eval mode ``x`` itself."""
        if max(self.dims) >= x.dim():
            raise ValueError(f"axis {max(self.dims)} came; expected one of 2 to {x.dim() - 1}")
        if not self.training:
            return x
        form = (len(x), *[1] * (x.dim() - 1))
        for axis in self.dims:
            x = torch.where(torch.rand(form, device=x.device) < 0.5, x.flip(axis), x)
        return x

    def extra_repr(self) -> str:
        """Return the argument, for torch's own print of a network."""
        return f"dims={self.dims}"


class RandomTurn(nn.Module):
    """Turns each row of a training batch by 0 to 3 quarters in the plane of two axes. In eval mode nothing happens.

    Source: Maturana and Scherer, VoxNet, 2015, section III-D, turns training volumes about their vertical axis.

    Args:
        dims: The two axes as `torch.rot90` counts them; both of one length. ``(2, 3)`` turns volumes about their last axis.

    Raises:
        ValueError: They are not two axes of space, or not of one length.

    Shape: ``(batch, channels, ...)`` in and out, two or three spatial axes.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        whole = isinstance(dims, list | tuple) and all(type(axis) is int and axis >= 2 for axis in dims)
        if not whole or len(dims) != 2 or len(set(dims)) < len(dims):
            raise ValueError(f"dims={dims!r} came; expected two axes of space, from 2 on, such as [2, 3]")
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return the turned batch; in eval mode ``x`` itself."""
        sides = [x.shape[axis] for axis in self.dims if axis < x.dim()]
        if len(sides) != 2 or sides[0] != sides[1]:
            raise ValueError(f"axes {self.dims} of {tuple(x.shape)} came; expected two axes of one length")
        if not self.training:
            return x
        quarters = torch.randint(4, (len(x), *[1] * (x.dim() - 1)), device=x.device)
        x = torch.where(quarters >= 2, x.flip(self.dims), x)
        return torch.where(quarters % 2 == 1, x.rot90(1, self.dims), x)

    def extra_repr(self) -> str:
        """Return the argument, for torch's own print of a network."""
        return f"dims={self.dims}"


MOVES = (RandomShift, RandomStretch, RandomMirror, RandomTurn)  # what changes rows of space at random, in training only


class Residual(nn.Sequential):
    """Layers with a shortcut around them: ``x + layers(x)``; both shapes are equal.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus what the layers make of it."""
        changed: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + changed


class Parallel(nn.Sequential):
    """Branches that read the same input; their outputs are joined along the channels or features.

    Args:
        branches: One module per branch.
        dim: The axis of the join.
    """

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__(*branches)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the joined outputs."""
        return torch.cat([branch(x) for branch in self], dim=self.dim)


class EmbedColumns(nn.Module):
    """Turns the last columns of a table, whole codes, into vectors; the numbers before them pass.

    Args:
        levels: Number of codes of each category column, in order; these columns come last. Code 0 is an unknown
            category; its vector starts at zero.
        dimensions: Length of the vector of each category column.

    Shape: ``(batch, numbers + categories)`` to ``(batch, numbers + sum(dimensions))``.
    Source: Guo and Berkhahn, Entity Embeddings of Categorical Variables, 2016.
    """

    def __init__(self, levels: Sequence[int], dimensions: Sequence[int]) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(*sizes) for sizes in zip(levels, dimensions, strict=True))
        with torch.no_grad():  # a category never seen says nothing
            for embedding in self.embeddings:
                embedding.weight[0].zero_()  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers and vectors side by side."""
        first = x.shape[1] - len(self.embeddings)
        codes = x[:, first:].long()
        vectors = [embedding(codes[:, place]) for place, embedding in enumerate(self.embeddings)]
        return torch.cat([x[:, :first], *vectors], dim=1)
