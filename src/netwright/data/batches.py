"""Rows in a fixed order, cut into batches by index; the order is a pure function of seed and epoch.

Rows are prepared before they are gathered, or after it where they take more room prepared than raw. Floor 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netwright.data.array_preparation import ArrayPreparation, tensor_of
from netwright.data.order import Order, alike_order
from netwright.data.sampling import Floats, drawn
from netwright.seeding import stream
from netwright.sources.arrays import Array

Rows = npt.NDArray[np.int64]
RESIDENT_SHARE = 0.3  # of a device's free memory
AHEAD = 1 << 16  # rows whose order is worked out at a time
PADDED_CLASS = -100  # in a target per step: a step that is not there (the ignore_index of torch's losses)
ALIGNMENT = 64  # bytes: of every tensor that torch makes


@dataclass(frozen=True)
class Batch:
    """Some rows as the training step reads them.

    ``inputs`` are tensors ``(batch, ...)`` by name; ``target`` is ``(batch,)`` int64 of classes, ``(batch, outputs)``
    float32, or with one value per step ``(batch, time)`` and ``(batch, time, outputs)``, where steps that are not there
    are -100 or NaN; ``rows`` are the row numbers, int64; ``lengths`` the steps of each row where they differ, int64.
    """

    inputs: dict[str, Tensor]
    target: Tensor
    rows: Tensor
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def input(self) -> Tensor:
        """The only input.

        Raises:
            ValueError: There are several; take them from ``inputs`` by name.
        """
        (only,) = self.inputs.values()
        return only

    def part(self, start: int, stop: int) -> Batch:
        """Return the rows at some places as a batch of their own, as wide as this one."""
        inputs = {name: value[start:stop] for name, value in self.inputs.items()}
        lengths = None if self.lengths is None else self.lengths[start:stop]
        return Batch(inputs, self.target[start:stop], self.rows[start:stop], lengths)


@dataclass(frozen=True)
class Spans:
    """Where each row starts among the steps and how long it is, int64 ``(rows,)``; lengths are padded up to ``rungs``."""

    starts: Tensor
    lengths: Tensor
    rungs: tuple[int, ...]
    channels_first: bool = False

    @property
    def uniform(self) -> bool:
        """Whether all rows have the same length, so that nothing is padded."""
        return len(self.rungs) == 1 and bool((self.lengths == self.rungs[0]).all())

    def width(self, lengths: Tensor) -> int:
        """Return the steps that rows are padded to: the next rung, and for longer rows their own length."""
        longest = int(lengths.max())
        return next((rung for rung in self.rungs if rung >= longest), longest)


@final
@dataclass(frozen=True)
class RawInput:
    """Raw rows of one input, which are prepared after they are gathered; elementwise, so the bits are those of before it.

    ``values`` are ``(rows, ...)`` of any dtype, in memory, mapped from a file, or a tensor on a device; ``numbers`` the
    places of the rows among them, int64, or None for all in order.
    """

    values: Array | Tensor
    module: ArrayPreparation
    numbers: Rows | None = None

    def __len__(self) -> int:
        return len(self.values if self.numbers is None else self.numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one prepared row."""
        return self.module.output_shape

    def gathered(self, rows: Tensor) -> Tensor:
        """Return raw rows by their numbers, int64 ``(batch,)``, with a channel axis added or moved to the front."""
        if isinstance(self.values, Tensor):
            return self.module.moved(self.values[rows.to(self.values.device)])
        places = rows.cpu().numpy() if self.numbers is None else self.numbers[rows.cpu().numpy()]
        return self.module.moved(tensor_of(self.values[places]))

    def size(self) -> int:
        """Return the bytes of the raw rows."""
        row = self.values[:1]
        return len(self) * (row.numel() * row.element_size() if isinstance(row, Tensor) else row.nbytes)

    def to(self, device: torch.device) -> RawInput:
        """Return the same rows for batches on a device, where they live from now on."""
        if device.type == "cpu" or isinstance(self.values, Tensor):
            return self.beside(device)
        values = self.values if self.numbers is None else self.values[self.numbers]
        return replace(self.beside(device), values=tensor_of(values).to(device), numbers=None)

    def beside(self, device: torch.device) -> RawInput:
        """Return the same rows, where they are, for batches on a device."""
        return replace(self, module=copy.deepcopy(self.module).to(device))


@dataclass(frozen=True)
class Examples:
    """All rows: the prepared inputs by name ``(rows, ...)``, or ``raw`` ones, and the target ``(rows, ...)``.

    With ``spans`` the inputs are steps ``(steps, ...)``, and with ``per_step`` the target is so too. Rows that are
    ``changed`` one by one before they are prepared stay in the computer's memory.
    """

    inputs: dict[str, Tensor]
    target: Tensor
    device: torch.device = torch.device("cpu")
    spans: Spans | None = None
    per_step: bool = False
    raw: dict[str, RawInput] = field(default_factory=dict)
    changed: bool = False

    @property
    def rows(self) -> int:
        """The number of rows."""
        if self.spans is not None:
            return len(self.spans.starts)
        return len(next(iter(self.inputs.values()))) if self.inputs else len(next(iter(self.raw.values())))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one prepared row, or step, of each input."""
        prepared = {name: tuple(value.shape[1:]) for name, value in self.inputs.items()}
        return prepared | {name: value.shape for name, value in self.raw.items()}

    @property
    def resident(self) -> bool:
        """Whether all rows lie on the device, and `batch` works out nothing of them elsewhere."""
        values = [*self.inputs.values(), self.target, *(value.values for value in self.raw.values())]
        here = all(isinstance(value, Tensor) and value.device.type == self.device.type for value in values)
        return here and self.spans is None

    @property
    def padded(self) -> bool:
        """Whether rows differ in length."""
        return self.spans is not None and not self.spans.uniform

    def to(self, device: torch.device) -> Examples:
        """Return the same rows for a device: they live there if they take at most 30 % of its free memory.

        Rows too large for that stay in the computer's memory, and each batch is sent over.
        """
        if device.type == "cpu" and device == self.device and not self.raw:
            return self
        large = device.type == "cuda" and self.size() > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        if large or self.changed:
            return replace(self, device=device, raw={name: value.beside(device) for name, value in self.raw.items()})
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        raw = {name: value.to(device) for name, value in self.raw.items()}
        return replace(self, inputs=inputs, raw=raw, target=self.target.to(device), device=device)

    def by_length(self) -> Iterator[tuple[Examples, Rows]]:
        """Yield, for each length, the rows of it and examples that deliver them without padding."""
        if self.spans is None:
            return
        lengths = self.spans.lengths
        for length in torch.unique(lengths).tolist():
            rows = torch.nonzero(lengths == length)[:, 0].numpy()
            yield replace(self, spans=replace(self.spans, rungs=(length,))), rows

    def with_target(self, target: Tensor, per_step: bool = False) -> Examples:
        """Return the same rows with a target: of all rows, or of all steps ``(steps, ...)``."""
        if per_step and self.spans is None:
            target = target.reshape(self.rows, -1, *target.shape[1:])
        return replace(self, target=target, per_step=per_step)

    def size(self) -> int:
        """Return the bytes of all rows."""
        prepared = sum(value.numel() * value.element_size() for value in (*self.inputs.values(), self.target))
        return prepared + sum(value.size() for value in self.raw.values())

    def stacked(self) -> Examples:
        """Return sequences of equal length that lie one after the other as ``(rows, time, ...)``, others as they are."""
        spans = self.spans
        if spans is None or not spans.uniform:
            return self
        count, width = len(spans.starts), spans.rungs[0]
        if (
            not torch.equal(spans.starts, torch.arange(count) * width)
            or len(next(iter(self.inputs.values()))) != count * width
        ):
            return self
        inputs = {name: value.reshape(count, width, *value.shape[1:]) for name, value in self.inputs.items()}
        if spans.channels_first:
            inputs = {name: value.transpose(1, 2).contiguous() for name, value in inputs.items()}
        return replace(self, inputs=inputs, spans=None)

    def batch(self, rows: Tensor, raw: Mapping[str, Tensor] | None = None, among: Tensor | None = None) -> Batch:
        """Gather rows by their numbers, int64 ``(batch,)``, on the device.

        Args:
            rows: The row numbers.
            raw: What `gathered` gave for the same rows, changed; None to gather them here.
            among: The rows of a whole batch of which these are a part: sequences are padded as there.
        """
        if self.spans is not None:
            return self._sequences(rows, self.spans, rows if among is None else among)
        index = rows.to(self.target.device)
        inputs = {name: sent(value[index], self.device) for name, value in self.inputs.items()}
        found = self.gathered(rows) if raw is None else raw
        inputs |= {name: self.raw[name].module.scaled(sent(value, self.device)) for name, value in found.items()}
        return Batch(inputs, sent(self.target[index], self.device), index)

    def targets(self, rows: Tensor) -> Tensor:
        """Return the target of a batch alone; see `batch`."""
        return replace(self, inputs={}, raw={}).batch(rows).target

    def gathered(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the raw rows of inputs that are not prepared yet, channels first."""
        return {name: value.gathered(rows) for name, value in self.raw.items()}

    def _sequences(self, rows: Tensor, spans: Spans, among: Tensor) -> Batch:
        """Gather the steps of rows, padded to the width of those ``among``; what is padded is 0."""
        rows = rows.cpu()
        lengths = spans.lengths[rows]
        width = spans.width(spans.lengths[among.cpu()])
        offsets = torch.arange(width)
        padding = None if bool((lengths == width).all()) and len(spans.rungs) == 1 else offsets >= lengths.unsqueeze(1)
        steps = spans.starts[rows].unsqueeze(1) + offsets
        if padding is not None:
            steps = steps.masked_fill(padding, 0)
        inputs = {name: self._gathered(value, steps, padding, 0) for name, value in self.inputs.items()}
        if spans.channels_first:
            inputs = {name: value.transpose(1, 2).contiguous() for name, value in inputs.items()}
        missing = float("nan") if self.target.is_floating_point() else PADDED_CLASS
        index = rows.to(self.target.device)
        target = (
            self._gathered(self.target, steps, padding, missing) if self.per_step else sent(self.target[index], self.device)
        )
        return Batch(inputs, target, index, None if padding is None else lengths.to(self.device))

    def _gathered(self, values: Tensor, steps: Tensor, padding: Tensor | None, fill: Any) -> Tensor:
        found = sent(values[steps.to(values.device)], self.device)
        if padding is None:
            return found
        mask = padding.to(self.device).reshape(*padding.shape, *(1,) * (found.dim() - 2))
        return found.masked_fill(mask, fill)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return gathered rows on the device; to a GPU they travel from pinned memory while the host goes on."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def epoch_order(
    rows: Rows, seed: int, epoch: int, lengths: Rows | None = None, batch_size: int = 1, chances: Floats | None = None
) -> Rows:
    """Return the rows in the order in which an epoch (from 1) trains on them.

    Args:
        rows: The row numbers.
        seed: Of the order.
        epoch: From 1.
        lengths: The steps of each of ``rows`` where they differ: rows of about equal length then meet in a batch.
        batch_size: Rows per batch, for that.
        chances: Of each of ``rows``, where they are drawn with replacement; None for each row once.
    """
    generator = stream(seed, "order", epoch)
    if chances is not None:
        places = drawn(chances, generator)
        if lengths is None:
            return rows[places]
        rows, lengths = rows[places], lengths[places]
    if lengths is None:
        return generator.permutation(rows)
    return np.asarray(rows[alike_order(lengths, batch_size, generator)], dtype=np.int64)


def steps_per_epoch(rows: int, batch_size: int, last_batch: str) -> int:
    """Return the number of batches an epoch has."""
    whole, rest = divmod(rows, batch_size)
    return max(1, whole + (1 if rest and last_batch == "keep" else 0))


def batches(
    examples: Examples, rows: Rows | Order, batch_size: int, last_batch: str = "keep", start: int = 0
) -> Iterator[Batch]:
    """Cut rows, in the order given, into batches.

    Args:
        examples: All prepared rows.
        rows: The row numbers to deliver, in order.
        batch_size: Rows per batch.
        last_batch: ``keep`` or ``drop`` a smaller last batch.
        start: How many batches to leave out at the beginning.

    Yields:
        One batch after the other.
    """
    for part in batch_rows(rows, batch_size, last_batch, start):
        yield examples.batch(part)


def batches_in_order(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Cut all rows into batches that are read once, with the bits of `batches`: where they can, they lie among the rows.

    A batch on the CPU that has the strides and the alignment of one that was gathered is no copy.
    """
    rows = examples.rows
    plain = examples.device.type == "cpu" and examples.spans is None and not examples.raw
    if not plain or not all(lies_plainly(value) for value in examples.inputs.values()):
        yield from batches(examples, np.arange(examples.rows), batch_size)
        return
    numbers = torch.arange(rows)
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        inputs = {name: _aligned(value[part]) for name, value in examples.inputs.items()}
        yield Batch(inputs, examples.target[part], numbers[part])


def lies_plainly(value: Tensor) -> bool:
    """Tell whether the strides of a tensor are those of one that is made anew, of axes of one element too."""
    expected = 1
    for size, stride in zip(reversed(value.shape), reversed(value.stride()), strict=True):
        if stride != expected:
            return False
        expected *= max(size, 1)
    return True


def _aligned(value: Tensor) -> Tensor:
    """Return a tensor that begins where torch would let one begin."""
    return value if value.data_ptr() % ALIGNMENT == 0 else value.clone()


def batch_rows(rows: Rows | Order, batch_size: int, last_batch: str = "keep", start: int = 0) -> Iterator[Tensor]:
    """Yield the row numbers of each batch, int64; see `batches`. A long order is worked out piece by piece."""
    count = min(steps_per_epoch(len(rows), batch_size, last_batch) * batch_size, len(rows))
    ahead = max(1, AHEAD // batch_size) * batch_size
    for first in range(start * batch_size, count, ahead):
        index = torch.from_numpy(np.ascontiguousarray(rows[first : min(first + ahead, count)]))
        for place in range(0, len(index), batch_size):
            yield index[place : place + batch_size]
