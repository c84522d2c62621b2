"""Batches of train rows that are changed at random: raw images, then prepared rows, then pairs of rows.

A row's change is f(seed, epoch, row): the same in whatever batch it comes and however many processes work; where rows are
drawn several times in an epoch it is f(seed, epoch, row, how often it came before). Pairs are mixed by f(seed, epoch, step).
Torch's global generator is where it was when a batch is handed out. Floor 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.array_preparation import tensor_of
from netwright.data.batches import Batch, Examples, Rows, batch_rows
from netwright.data.mixing import Mixing
from netwright.data.order import Order
from netwright.data.sampling import times_before
from netwright.data.sharing import Share
from netwright.data.transforms import Transform
from netwright.errors import ConfigError, first_line
from netwright.seeding import torch_seed
from netwright.sources.arrays import Array
from netwright.sources.datasets import ITEM
from netwright.sources.workers import in_order

IMAGE, PREPARED, MIXED = range(3)  # what is seeded beside ITEM; each has numbers of its own
Draw = tuple[int, int]  # the number of a row, and how often it came before in the epoch
Reread = Callable[[int, int], dict[str, Array]]


@dataclass(frozen=True)
class _Part:
    """Rows of a batch that are wanted, those of the whole batch, and how often each of the first came before in its epoch."""

    rows: Tensor
    whole: Tensor
    turns: Tensor | None

    def draws(self) -> list[Draw]:
        """Return the rows with the times that they came before."""
        times = itertools.repeat(0) if self.turns is None else self.turns.tolist()
        return list(zip(self.rows.tolist(), times, strict=False))


@final
@dataclass(frozen=True)
class Augmentation:
    """How train rows are changed.

    Args:
        name: The input that is changed.
        seed: The user's.
        images: Changes of raw images ``(channels, height, width)``, which keep shape and dtype.
        values: Changes of prepared rows ``(time, features)`` float32, or of any shape.
        mixing: Changes of whole batches, of which each batch gets one.
        classes: Number of classes of an int64 target, for ``mixing``.
        channels_first: Whether prepared rows are ``(features, time)``.
        reread: Reads the raw inputs of a row anew for a seed: the items of a Dataset with changes of its own; or None.
        workers: Processes that read and change raw rows; 0 for this one.
        share: The part of each batch that is wanted; None for all of it. Its rows are mixed as in the whole batch.
        repeated: Whether an epoch holds rows several times, each time changed in another way.
    """

    name: str
    seed: int
    images: tuple[Transform, ...] = ()
    values: tuple[Transform, ...] = ()
    mixing: tuple[Mixing, ...] = ()
    classes: int = 0
    channels_first: bool = False
    reread: Reread | None = None
    workers: int = 0
    share: Share | None = None
    repeated: bool = False

    def batches(
        self, examples: Examples, rows: Rows | Order, batch_size: int, last_batch: str, epoch: int, start: int = 0
    ) -> Iterator[Batch]:
        """Cut rows, in the order given, into changed batches; see `netwright.data.batches.batches`.

        Raises:
            ConfigError: A transform fails, or changes the shape of an image.
        """
        parts: Iterable[_Part] = self._parts(rows, batch_size, last_batch, start)
        if self.images or self.reread is not None:
            parts = list(parts)  # handed to the workers ahead
        for number, (part, raw) in enumerate(zip(parts, self._raw(examples, parts, epoch), strict=False), start):
            batch = examples.batch(part.rows, raw, part.whole)
            yield self._mixed(self._changed(batch, part.draws(), epoch), epoch, number)

    def _parts(self, rows: Rows | Order, batch_size: int, last_batch: str, start: int) -> Iterator[_Part]:
        """Yield what is wanted of each batch."""
        turns: Iterable[Tensor | None] = itertools.repeat(None)
        if self.repeated:
            turns = batch_rows(times_before(rows[: len(rows)]), batch_size, last_batch, start)
        for whole, turn in zip(batch_rows(rows, batch_size, last_batch, start), turns, strict=False):
            yield _Part(self._wanted(whole), whole, None if turn is None else self._wanted(turn))

    def _wanted(self, values: Tensor) -> Tensor:
        """Return the part of a batch that is wanted; where rows are mixed, after the one that the first is mixed with."""
        if self.share is None:
            return values
        own = self.share.of_rows(values)
        if not self.mixing:
            return own
        begin, end = self.share.bounds(len(values))
        before = (begin if end > begin else 0) - 1
        return torch.cat([values[before:][:1], own])

    def sample(self, examples: Examples, rows: Rows) -> Batch:
        """Return one batch as the first epoch would change it, made in this process."""
        return next(replace(self, workers=0, share=None).batches(examples, rows, len(rows), "keep", 1))

    def _raw(
        self, examples: Examples, parts: Iterable[_Part], epoch: int
    ) -> Iterator[dict[str, Tensor]] | itertools.repeat[None]:
        """Return the changed raw rows of each batch, or None for each where raw rows stay as they are."""
        if not self.images and self.reread is None:
            return itertools.repeat(None)
        return in_order(_RawRows(self, examples, epoch).read, [part.draws() for part in parts], self.workers)

    def _changed(self, batch: Batch, draws: list[Draw], epoch: int) -> Batch:
        """Return a batch with its prepared rows changed; padded steps stay as they are."""
        if not self.values:
            return batch
        before = batch.inputs[self.name]
        changed = (before.transpose(1, 2) if self.channels_first else before).clone()
        ends = [changed.shape[1]] * len(batch) if batch.lengths is None else batch.lengths.tolist()
        with torch.random.fork_rng(devices=[]):
            for place, (draw, end) in enumerate(zip(draws, ends, strict=True)):
                seed_row(self.seed, epoch, PREPARED, draw)
                for transform in self.values:
                    changed[place, :end] = transform(changed[place, :end])
        after = changed.transpose(1, 2).contiguous() if self.channels_first else changed
        return replace(batch, inputs={**batch.inputs, self.name: after})

    def _mixed(self, batch: Batch, epoch: int, number: int) -> Batch:
        """Return a batch whose rows are mixed in pairs; class numbers become shares of classes."""
        if not self.mixing:
            return batch
        target = batch.target
        if not target.is_floating_point():
            target = nn.functional.one_hot(target, self.classes).float()
        with torch.random.fork_rng(devices=[]):
            seed_row(self.seed, epoch, MIXED, (number, 0))
            chosen = int(torch.randint(len(self.mixing), ())) if len(self.mixing) > 1 else 0
            values, target = self.mixing[chosen](batch.inputs[self.name], target)
        mixed = replace(batch, inputs={**batch.inputs, self.name: values}, target=target)
        return mixed if self.share is None else mixed.part(1, len(mixed))


def seed_row(seed: int, epoch: int, stage: int, draw: Draw) -> None:
    """Seed torch's global generator on the CPU for one row, or one step, of an epoch, and how often it came before."""
    torch.default_generator.manual_seed(_seed(seed, epoch, stage, draw))


def _seed(seed: int, epoch: int, stage: int, draw: Draw) -> int:
    number, turn = draw
    return torch_seed(seed, "augmentation", epoch, stage, number, *((turn,) if turn else ()))


@final
class _RawRows:
    """The raw rows of one epoch, read and changed; the work of one process for one batch."""

    def __init__(self, augmentation: Augmentation, examples: Examples, epoch: int) -> None:
        self.augmentation, self.raw, self.epoch = augmentation, examples.raw, epoch

    def read(self, draws: list[Draw]) -> dict[str, Tensor]:
        """Return the raw inputs of rows, channels first."""
        found = self._gathered(draws)
        images, name = self.augmentation.images, self.augmentation.name
        if images:
            with torch.random.fork_rng(devices=[]):
                found[name] = torch.stack([self._image(*one) for one in zip(found[name], draws, strict=True)])
        return found

    def _gathered(self, draws: list[Draw]) -> dict[str, Tensor]:
        reread, seed = self.augmentation.reread, self.augmentation.seed
        if reread is None:
            return {name: value.gathered(torch.tensor([row for row, _ in draws])) for name, value in self.raw.items()}
        items = [reread(draw[0], _seed(seed, self.epoch, ITEM, draw)) for draw in draws]
        return {
            name: torch.cat([value.module.moved(tensor_of(item[name][None])) for item in items])
            for name, value in self.raw.items()
        }

    def _image(self, image: Tensor, draw: Draw) -> Tensor:
        seed_row(self.augmentation.seed, self.epoch, IMAGE, draw)
        changed = image
        for transform in self.augmentation.images:
            try:
                changed = transform(changed)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"data.augmentation: {type(transform).__name__} fails on an image {tuple(image.shape)} of "
                    f"{_dtype(image)}: {first_line(error)}; mend its arguments or leave it out"
                ) from None
            if changed.shape != image.shape or changed.dtype != image.dtype:
                raise ConfigError(
                    f"data.augmentation: {type(transform).__name__} made {tuple(changed.shape)} of {_dtype(changed)} out of "
                    f"{tuple(image.shape)} of {_dtype(image)}; valid and test images stay as they are, so expected the same; "
                    f"change its size, such as RandomCrop({image.shape[-1]}, padding=4)"
                )
        return changed


def _dtype(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
