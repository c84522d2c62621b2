"""Dense layers as a network of dense.cpp: many steps a call, on all cores, no Python between them. Floor 6."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from netwright.recording.building import DENSE, library
from netwright.recording.dense import Convolution, Head, Layer, Norm, Recurrent, height_and_width
from netwright.recording.native import ROOM, bits, closed_with
from netwright.recording.tape import NotFiniteError, Played

ACTIVATIONS = ("none", "relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu")
HEADS = ("classes", "squares", "chances")
KINDS = ("sgd", "momentum", "nesterov", "adam", "adamw")
CELLS, RNN = {"lstm": 0, "gru": 1}, 2


@final
@dataclass(frozen=True)
class Parameter:
    """A parameter, what an optimizer keeps of it (None where it keeps nothing), the number of its group and its decay."""

    value: Tensor
    first: Tensor | None
    second: Tensor | None
    group: int
    decay: float


@final
@dataclass(frozen=True)
class Plan:
    """A step: layers, loss and optimizer.

    ``clip_norm`` is what the 2-norm of all gradients is at most, ``clip_value`` what each number is; None where they may be any.
    ``parameters`` are in the order of layers, those of ``recurrent`` or ``convolutions`` first, of each those that
    `netwright.recording.dense.values_of` gives; ``beta2`` and ``epsilon`` are of the optimizer's kind of update, where it has them.
    """

    recurrent: tuple[Recurrent, ...]
    layers: tuple[Layer, ...]
    head: Head
    kind: str
    beta2: float
    epsilon: float
    parameters: tuple[Parameter, ...]
    convolutions: tuple[Convolution, ...] = ()
    clip_norm: float | None = None
    clip_value: float | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What a program of it hangs on."""
        places = tuple(
            (each.value.data_ptr(), *(-1 if kept is None else kept.data_ptr() for kept in (each.first, each.second)))
            for each in self.parameters
        )
        numbers = tuple((*each.value.shape, each.group, each.decay) for each in self.parameters)
        layers = tuple((layer.kind, layer.slope, layer.dropout, _key(layer.norm)) for layer in self.layers)
        recurrent = tuple((one.cell, one.dropout) for one in self.recurrent)
        convolutions = tuple(
            (one.kind, one.slope, one.padding, one.pool, one.averages, _key(one.norm), one.dropout, one.by_channel)
            for one in self.convolutions
        )
        rule = (self.kind, self.beta2, self.epsilon, self.clip_norm, self.clip_value)
        return (places, numbers, layers, convolutions, recurrent, _head(self.head), rule)


@final
class DenseProgram:
    """A plan ready to be played.

    Args:
        plan: The step.
        lanes: Cores that share it; the numbers are the same on any.
        most: Rows of a batch at most.
        shape: Of a row: ``(features,)``, with recurrent layers ``(time, features)``, with convolutions ``(channels, [height,]
            width)``.

    Raises:
        NotBuiltError: There is no library.
    """

    def __init__(self, plan: Plan, lanes: int, most: int, shape: Sequence[int]) -> None:
        self._library = _declared(library(wait=True, source=DENSE))
        times, size = shape if plan.recurrent else (1, math.prod(shape))
        words = [lanes, most, times, size, *_head(plan.head), KINDS.index(plan.kind), bits(plan.beta2), bits(plan.epsilon)]
        words += [
            plan.clip_norm is not None,
            bits(plan.clip_norm or 0.0),
            bits(math.inf if plan.clip_value is None else plan.clip_value),
        ]
        left = iter(plan.parameters)
        words += [len(plan.convolutions), *_convolutions(plan.convolutions, shape, left)]
        layers = [_recurrent(layer, left) for layer in plan.recurrent]
        layers += [[*_layer(layer, left), *_norm(layer.norm, left)] for layer in plan.layers]
        words += [len(layers), *(word for layer in layers for word in layer)]
        error = ctypes.create_string_buffer(ROOM)
        self._handle = self._library.nd_make((ctypes.c_int64 * len(words))(*words), error, ROOM)
        if not self._handle:
            raise MemoryError(error.value.decode())
        self._plan = plan  # holds the tensors
        closed_with(self, self._library.nd_close, self._handle)

    def run(
        self,
        x: Tensor,
        target: Tensor,
        rows: Tensor,
        turns: Tensor,
        counted: float,
        seconds: float,
        kept: Tensor | None = None,
    ) -> Played:
        """Take steps until they are done, the seconds are over, or a loss or the norm of gradients to be clipped is not finite.

        Args:
            x: All rows, float32 ``(rows, ...)``.
            target: Of all rows, int64 ``(rows,)`` or float32 ``(rows, outputs)``.
            rows: Numbers of each step's rows, int64 ``(steps, batch)``.
            turns: Learning rate and momentum of each group for each step, float64 ``(steps, 2 * groups)``, or one row for all.
            counted: Steps that the optimizer has taken before.
            seconds: After which no step begins.
            kept: By dropout, uint8: of each step and each layer with it ``(batch, outputs)``, one after the other.

        Returns:
            The loss of each step, float32 ``(steps,)``; that of a step that stopped is in the error.
        """
        steps, batch = rows.shape
        losses, told = torch.empty(steps, dtype=torch.float32), (ctypes.c_double * 2)()
        width = turns.shape[1] if len(turns) > 1 else 0
        done = self._library.nd_run(
            self._handle, x.data_ptr(), target.data_ptr(), rows.data_ptr(), 0 if kept is None else kept.data_ptr(), batch,
            turns.data_ptr(), width, counted, steps, seconds, losses.data_ptr(), told,
        )  # fmt: skip
        stopped = None
        if done < 0:
            done = -1 - done
            loss, norm = losses[done].item(), told[1]
            stopped = NotFiniteError(f"the norm of the gradients is {norm}" if norm else f"the loss is {loss}")
        return Played(losses[:done], told[0], stopped)


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes what the functions of the library take and give."""
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    loaded.nd_make.restype = pointer
    loaded.nd_make.argtypes = [pointer, ctypes.c_char_p, whole]
    loaded.nd_run.restype = whole
    loaded.nd_run.argtypes = [*[pointer] * 5, whole, pointer, whole, real, whole, real, pointer, pointer]
    loaded.nd_close.restype = None
    loaded.nd_close.argtypes = [pointer]
    return loaded


def _head(head: Head) -> tuple[int, ...]:
    return HEADS.index(head.kind), _place(head.weight), bits(head.smoothing)


def _parameter(given: Parameter, begin: int = 0, count: int = 0, without: tuple[int, int] = (0, 0)) -> list[int]:
    """Return a parameter; of a weight the inputs of its layer that it is for; ``without`` are outputs that it has not."""
    places = [_place(each) for each in (given.value, given.first, given.second)]
    return [*places, given.group, bits(given.decay), begin, count, *without]


def _layer(layer: Layer | Convolution, left: Iterator[Parameter]) -> list[int]:
    """Return a layer with one weight ``(outputs, ...)``."""
    outputs, inputs = len(layer.weight), layer.weight[0].numel()
    words = [inputs, outputs, 0, 0, ACTIVATIONS.index(layer.kind), bits(layer.slope), bits(layer.dropout)]
    words += [1, *_parameter(next(left), 0, inputs)]
    return [*words, 0] if layer.bias is None else [*words, 1, *_parameter(next(left))]


def _norm(norm: Norm | None, left: Iterator[Parameter]) -> list[int]:
    """Return a norm, or that there is none."""
    if norm is None:
        return [0]
    words = [1, norm.by_row, bits(norm.epsilon), bits(norm.momentum), *(_place(each) for each in (norm.mean, norm.variance))]
    for each in (norm.weight, norm.bias):
        words += [0] if each is None else [1, *_parameter(next(left))]
    return words


def _key(norm: Norm | None) -> tuple[object, ...]:
    return () if norm is None else (norm.by_row, norm.momentum, norm.epsilon, _place(norm.mean), _place(norm.variance))


def _place(value: Tensor | None) -> int:
    return 0 if value is None else value.data_ptr()


def _convolutions(layers: Sequence[Convolution], shape: Sequence[int], left: Iterator[Parameter]) -> list[int]:
    words: list[int] = []
    size = height_and_width(shape[1:], 1) if layers else (1, 1)
    for layer in layers:
        words += [layer.weight.shape[1], *layer.kernel, *layer.padding, *size, *layer.pool_of(size)]
        words += [layer.averages, layer.by_channel, *_layer(layer, left), *_norm(layer.norm, left)]
        size = layer.after(size)
    return words


def _recurrent(layer: Recurrent, left: Iterator[Parameter]) -> list[int]:
    inputs, hidden = layer.weights[0].shape[1], layer.hidden
    cell = CELLS.get(layer.cell, RNN)
    activation = 0 if layer.cell in CELLS else ACTIVATIONS.index(layer.cell)
    outputs = hidden if cell == RNN else 4 * hidden
    # What input and hidden state add to the new state of a GRU lies apart: the one has not the other's outputs.
    of_input, of_hidden = ((3 * hidden, 4 * hidden), (2 * hidden, 3 * hidden)) if layer.cell == "gru" else ((0, 0), (0, 0))
    words = [inputs + hidden, outputs, hidden, cell, activation, bits(0.0), bits(layer.dropout)]
    words += [2, *_parameter(next(left), 0, inputs, of_input), *_parameter(next(left), inputs, hidden, of_hidden)]
    return [
        *words,
        2,
        *_parameter(next(left), without=of_input),
        *_parameter(next(left), without=of_hidden),
        *_norm(None, left),
    ]
