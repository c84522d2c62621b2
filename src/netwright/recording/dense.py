"""What the kernels of dense layers get: layers, loss and optimizer as tensors and numbers, and tiles by size. Floor 6.

Tiles hang on sizes alone, never on how long something took, so that a run repeated adds up in the same order; they were the fastest
of some twenty for each kernel on an H100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

Pieces = tuple[Tensor, ...]
WHOLE = (0, 0)  # a pooling of all places


@final
@dataclass(frozen=True)
class Norm:
    """A BatchNorm: its parameters, what it keeps of batches (None where it keeps nothing), and the share of the newest in it.

    With ``by_row`` a LayerNorm, which keeps nothing.
    """

    weight: Tensor | None
    bias: Tensor | None
    epsilon: float
    mean: Tensor | None = None
    variance: Tensor | None = None
    count: Tensor | None = None
    momentum: float = 0.0
    by_row: bool = False


@final
@dataclass(frozen=True)
class Layer:
    """A Linear and what follows it: ``kind`` of activation (``none`` too), its ``slope``, and the probability of a dropout.

    A ``norm`` comes before the activation.
    """

    weight: Tensor
    bias: Tensor | None
    kind: str = "none"
    slope: float = 0.0
    dropout: float = 0.0
    norm: Norm | None = None


def values_of(layer: Layer | Convolution) -> list[Tensor]:
    """Return the parameters of a layer, weights before biases, its own before those of its norm."""
    of_norm = () if layer.norm is None else (layer.norm.weight, layer.norm.bias)
    return [value for value in (layer.weight, layer.bias, *of_norm) if value is not None]


def height_and_width(sizes: Sequence[int], height: int) -> tuple[int, int]:
    """Return sizes along height and width, where only that along width may have come."""
    return (int(sizes[0]), int(sizes[1])) if len(sizes) == 2 else (height, int(sizes[0]))


@final
@dataclass(frozen=True)
class Convolution:
    """A Conv1d or Conv2d that goes place by place, and what follows it: ``kind`` of activation, its ``slope``, and a pooling.

    A ``norm`` comes before the activation, a ``dropout`` at the end, of whole channels with ``by_channel``. ``padding`` and
    ``pool``, the places of which the greatest is kept, or with ``averages`` the mean, are along height and width; of a Conv1d the
    height is 1. A pool of `WHOLE` is of all places.
    """

    weight: Tensor
    bias: Tensor | None
    kind: str = "none"
    slope: float = 0.0
    padding: tuple[int, int] = (0, 0)
    pool: tuple[int, int] = (1, 1)
    averages: bool = False
    norm: Norm | None = None
    dropout: float = 0.0
    by_channel: bool = False

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of a window."""
        return height_and_width(self.weight.shape[2:], 1)

    def after(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what goes on, where so many came; 0 where nothing does."""
        height, width = (seen // kept if seen else 0 for seen, kept in zip(self.seen(size), self.pool_of(size), strict=True))
        return height, width

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of its outputs before the pooling, where so many came."""
        height, width = (
            max(0, come + 2 * around - window + 1)
            for come, around, window in zip(size, self.padding, self.kernel, strict=True)
        )
        return height, width

    def pool_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of a window of the pooling, where so many came."""
        return self.seen(size) if self.pool == WHOLE else self.pool


@final
@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer of one direction, of which all steps go on to one behind it, else the last.

    ``cell`` is ``lstm``, ``gru``, ``tanh`` or ``relu`` (of an RNN); weights are of input and hidden state, ``(gates * hidden,
    ...)``, biases of both; ``dropout`` is the probability of one after it.
    """

    cell: str
    weights: Pieces
    biases: Pieces
    dropout: float = 0.0

    @property
    def hidden(self) -> int:
        """How wide its state is."""
        return self.weights[1].shape[1]


@final
@dataclass(frozen=True)
class Head:
    """The loss: ``classes`` (with weights of classes or smoothing), ``squares`` or ``chances``, a mean over rows."""

    kind: str
    weight: Tensor | None = None
    smoothing: float = 0.0


@final
@dataclass(frozen=True)
class Rule:
    """An optimizer: ``kind`` of update, and per parameter in the order of layers, weight before bias, what it reads and writes.

    ``numbers`` are beta 1 and 1 - beta 1, beta 2 and 1 - beta 2 and epsilon, float32 ``(5,)``; ``betas`` float64 ``(2,)``;
    ``steps`` count on the device, where the kind reads them.
    """

    kind: str
    numbers: Tensor
    betas: Tensor
    firsts: Pieces
    seconds: Pieces
    steps: Pieces
    rates: Pieces
    decays: tuple[float, ...]


class Tiles(NamedTuple):
    """A tile of a product: its rows and columns, inner numbers at a time, parts of them side by side, warps and stages."""

    bm: int
    bn: int
    bk: int
    parts: int = 1
    warps: int = 4
    stages: int = 3


def forward_tiles(rows: int, width: int) -> Tiles:
    """Return the tile of a layer of so many inputs for so many rows."""
    if width > 256:
        return Tiles(16, 8, 64, parts=8, warps=8, stages=1) if rows <= 256 else Tiles(16, 16, 64, parts=4)
    return Tiles(16, 16, 32, parts=4, stages=1) if width > 64 else Tiles(16, 16, _power(width), stages=1)


def backward_tiles(outputs: int) -> Tiles:
    """Return the tile of the way back through a layer of so many outputs."""
    return Tiles(16, 32, min(64, _power(outputs)), stages=1)


def update_tiles(rows: int) -> Tiles:
    """Return the tile of the gradients of weights over so many rows."""
    if rows > 128:
        return Tiles(16, 32, 32, parts=4, stages=2)
    return Tiles(16, 32, 16, stages=1) if rows <= 16 else Tiles(16, 32, 64, stages=2)


def _power(number: int) -> int:
    """Return the least power of two that holds a number, from 16 on, of which products are made."""
    return max(16, 1 << (number - 1).bit_length())


@final
class Launched:
    """A step of dense layers: `forward` to the loss of each row, then `update`.

    Args:
        layers: In order; the last has no activation.
        head: The loss.
        rule: The optimizer.
        x: Inputs, float32 ``(rows, width)``: of the batch, or of all rows.
        target: Of the same rows, int64 ``(rows,)`` or float32 ``(rows, outputs)``.
        rows: The numbers of the batch's rows among them, int64 ``(batch,)``; None where they are the batch.
        precision: Of products: ``tf32``, ``tf32x3`` (as exact as float32) or ``ieee``.
    """

    def __init__(
        self, layers: Sequence[Layer], head: Head, rule: Rule, x: Tensor, target: Tensor, rows: Tensor | None, precision: str
    ) -> None:
        from netwright.recording import dense_kernels

        self._kernels: Any = dense_kernels
        self._layers, self._head, self._rule, self._precision = layers, head, rule, precision
        self._target, self._gathers = target, rows is not None
        self._numbers = target if rows is None else rows  # some tensor, where none is read
        self._rows = len(target if rows is None else rows)
        self._values, self._slopes = [x], [x]
        self._corrections = torch.empty(2, dtype=torch.float64, device=x.device)
        overlaps = x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0)
        self._launch = {"overlaps": overlaps, "launch_pdl": overlaps}

    def forward(self) -> Tensor:
        """Return what each row adds to the mean loss, float32 ``(batch,)``; counts the step."""
        *hidden, last = self._layers
        for number, layer in enumerate(hidden):
            self._hidden(layer, first=not number)
        self._gradient, self._losses = self._ended(last, alone=not hidden)
        return self._losses

    def _hidden(self, layer: Layer, first: bool) -> None:
        x, rows = self._values[-1], self._rows
        outputs, width = layer.weight.shape
        value = torch.empty(rows, outputs, device=x.device)
        slopes = torch.empty_like(value)
        kept = torch.native_dropout(slopes, layer.dropout, True)[1] if layer.dropout else slopes
        bm, bn, bk, parts, warps, stages = forward_tiles(rows, width)
        rule = self._rule
        self._kernels.forward[(-(-rows // bm), -(-outputs // bn))](
            x, self._numbers, layer.weight, layer.weight if layer.bias is None else layer.bias, kept, value, slopes,
            rule.steps or (rule.numbers,), rule.betas, self._corrections,
            rows, width, outputs, layer.slope, 1.0 / (1.0 - layer.dropout),
            counts=first and bool(rule.steps), gathers=first and self._gathers, kind=layer.kind,
            has_bias=layer.bias is not None, drops=bool(layer.dropout),
            bm=bm, bn=bn, bk=bk, parts=parts, precision=self._precision, num_warps=warps, num_stages=stages, **self._launch,
        )  # fmt: skip
        self._values.append(value)
        self._slopes.append(slopes)

    def _ended(self, layer: Layer, alone: bool) -> tuple[Tensor, Tensor]:
        """Return the gradient of the outputs, and the loss of each row."""
        x, rows, head, rule = self._values[-1], self._rows, self._head, self._rule
        outputs, width = layer.weight.shape
        gradient, losses = torch.empty(rows, outputs, device=x.device), torch.empty(rows, device=x.device)
        self._kernels.head[(-(-rows // 16),)](
            x, self._numbers, layer.weight, layer.weight if layer.bias is None else layer.bias, self._target,
            losses if head.weight is None else head.weight, gradient, losses,
            rule.steps or (rule.numbers,), rule.betas, self._corrections, rows, width, outputs, head.smoothing,
            counts=alone and bool(rule.steps), gathers=alone and self._gathers, gathers_target=self._gathers,
            loss=head.kind, weighted=head.weight is not None,
            has_bias=layer.bias is not None,
            bm=16, bn=_power(outputs), bk=min(64, _power(width)), block=256, precision=self._precision, num_warps=4, **self._launch,
        )  # fmt: skip
        return gradient, losses

    def forget(self) -> None:
        """Count a step of which only `forward` was taken as none."""
        if self._rule.steps:
            torch._foreach_sub_(list(self._rule.steps), 1)

    def update(self) -> Tensor:
        """Go back, and change weights and optimizer; return the mean loss, float32 ``()``."""
        gradients = [self._gradient]
        for layer, slopes in zip(self._layers[:0:-1], self._slopes[:0:-1], strict=True):
            gradients.insert(0, self._before(layer, gradients[0], slopes))
        layers, rule = self._layers, self._rule
        weights, biases = (
            tuple(one.weight for one in layers),
            tuple(one.weight if one.bias is None else one.bias for one in layers),
        )
        places = _places(layers)
        widths, outputs = tuple(one.shape[1] for one in weights), tuple(one.shape[0] for one in weights)
        bm, bn, bk, parts, warps, stages = update_tiles(self._rows)
        tiles = sum(-(-high // bm) * -(-wide // bn) for high, wide in zip(outputs, widths, strict=True))
        loss = torch.empty((), device=self._losses.device)

        def of(values: Sequence[Any], which: int) -> tuple[Any, ...]:
            return tuple(values[place[which]] for place in places)

        self._kernels.update[(tiles,)](
            tuple(gradients), tuple(self._values), weights, of(rule.firsts, 0), of(rule.seconds, 0),
            biases, of(rule.firsts, 1), of(rule.seconds, 1), of(rule.rates, 0), of(rule.rates, 1),
            of(rule.decays, 0), of(rule.decays, 1), widths, outputs,
            self._numbers, self._losses, loss, rule.numbers, self._corrections, self._rows,
            gathers=self._gathers, kind=rule.kind, has_bias=tuple(one.bias is not None for one in layers),
            bm=bm, bn=bn, bk=bk, parts=parts, block=64, precision=self._precision,
            num_warps=warps, num_stages=stages, **self._launch,
        )  # fmt: skip
        return loss

    def _before(self, layer: Layer, gradient: Tensor, slopes: Tensor) -> Tensor:
        """Return the gradient of what the activation before a layer gets."""
        outputs, width = layer.weight.shape
        into = torch.empty(self._rows, width, device=gradient.device)
        bm, bn, bk, parts, warps, stages = backward_tiles(outputs)
        self._kernels.backward[(-(-self._rows // bm), -(-width // bn))](
            gradient, layer.weight, slopes, into, self._rows, width, outputs,
            bm=bm, bn=bn, bk=bk, parts=parts, precision=self._precision, num_warps=warps, num_stages=stages, **self._launch,
        )  # fmt: skip
        return into


def _places(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Return where weight and bias of each layer are among all parameters; a bias that is not there, where its weight is."""
    found, at = [], 0
    for layer in layers:
        found.append((at, at if layer.bias is None else at + 1))
        at += 1 if layer.bias is None else 2
    return found
