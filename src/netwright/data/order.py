"""The order of an epoch without a list of it: each slice is worked out when it is asked for.

A keyed bijection of 0..n-1 says which row comes at which place, so a full shuffle of any number of rows takes no memory.
Rows drawn by class come by the numbers of a generator that jumps to any place.
Rows that do not fit into memory are shuffled in windows instead: blocks of neighbouring rows, many of them mixed.
Printed by eject. Floor 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt

from netwright.seeding import stream

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
ROUNDS = 6
SMALLEST_BLOCK = 1 << 20  # bytes of neighbouring rows that are read together
WINDOW_SHARE = 0.125  # of the free memory that the rows of a window take
POOL = 50  # batches among which sequences of about equal length are sought
MAP_SHARE = 0.5  # of the free memory up to which a map is shuffled as a whole


def alike_order(lengths: Rows, batch_size: int, generator: np.random.Generator) -> Rows:
    """Return a random order in which rows of about equal length meet in a batch.

    Args:
        lengths: The steps of each row, int64 ``(rows,)``.
        batch_size: Rows per batch.
        generator: Draws the order.

    Returns:
        Places among the rows, int64 ``(rows,)``.
    """
    order = generator.permutation(len(lengths))
    pools = [order[start : start + POOL * batch_size] for start in range(0, len(order), POOL * batch_size)]
    order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools] or [order])
    whole = len(order) // batch_size  # the smaller last batch stays the last
    mixed = order[: whole * batch_size].reshape(whole, batch_size)[generator.permutation(whole)]
    return np.concatenate([mixed.ravel(), order[whole * batch_size :]])


@final
@dataclass(frozen=True)
class Bijection:
    """A shuffle of 0..count-1 by a key, worked out place by place.

    A Feistel network (Luby and Rackoff, 1988, "How to construct pseudorandom permutations from pseudorandom functions")
    on pairs of digits ``(left, right)`` to the bases ``a`` and ``b`` with ``a * b >= count``: each round adds a hash of
    one digit to the other. Places that lead out of 0..count-1 walk on until they are inside (Black and Rogaway, 2002,
    "Ciphers with arbitrary finite domains"). The hash is the finaliser of SplitMix64 (Steele and others, 2014).

    Args:
        count: How many numbers, 1 to 2**62.
        key: One number per round, uint64.
    """

    count: int
    key: tuple[int, ...]

    def __call__(self, places: npt.NDArray[np.int64]) -> Rows:
        """Return the numbers at some places, int64 of the same shape ``(places,)``."""
        found = self._walk(places.astype(np.uint64))
        while (outside := np.flatnonzero(found >= np.uint64(self.count))).size:
            found[outside] = self._walk(found[outside])
        return found.astype(np.int64)

    def _walk(self, places: Words) -> Words:
        a = np.uint64(max(1, int(np.ceil(np.sqrt(self.count)))))
        b = np.uint64(-(-self.count // int(a)))
        left = places // b
        right = places - left * b
        for number, key in enumerate(self.key):
            if number % 2:
                _add(right, left, key, b)
            else:
                _add(left, right, key, a)
        left *= b
        left += right
        return left


def _below(places: Rows, key: int, ends: Words | np.uint64) -> Rows:
    """Return the numbers of SplitMix64 (Steele and others, 2014) at some places, each below an end of at most 2**32."""
    mixed = places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (((mixed >> np.uint64(32)) * ends) >> np.uint64(32)).astype(np.int64)


def _add(digits: Words, others: Words, key: int, base: np.uint64) -> None:
    """Add to digits below ``base`` (below 2**32) a number that hangs on other digits and the key."""
    mixed = others + np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed >>= np.uint64(32)  # the finaliser's last step would change one bit of the high half
    mixed *= base
    mixed >>= np.uint64(32)
    digits += mixed
    np.subtract(digits, base, out=digits, where=digits >= base)


@dataclass(frozen=True)
class Windows:
    """How rows too large for memory are shuffled: ``block`` neighbouring rows, ``blocks`` of them in a window."""

    block: int
    blocks: int


def windows_for(row_bytes: int, rows: int, memory: int) -> Windows | None:
    """Return the windows for a map, or None while it fits into half of the free memory.

    Args:
        row_bytes: Bytes of one prepared row.
        rows: The number of rows.
        memory: The free bytes.
    """
    if row_bytes * rows <= MAP_SHARE * memory:
        return None
    block = max(1, SMALLEST_BLOCK // row_bytes)
    return Windows(block, max(2, int(WINDOW_SHARE * memory) // (block * row_bytes)))


@final
@dataclass(frozen=True)
class Order:
    """The rows of an epoch in order; a slice gives row numbers.

    Args:
        rows: The row numbers to order, int64 ``(rows,)``; may be a map.
        seed: Of the order.
        epoch: From 1.
        windows: None for a full shuffle.
        begins: Where each class begins among ``rows``, which are then sorted by class, and the end of the last: as many rows
            are drawn with replacement, each class as often as any other. None for each row once.
    """

    rows: Rows
    seed: int
    epoch: int
    windows: Windows | None = None
    begins: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice) -> Rows:
        """Return the row numbers at some places, int64."""
        start, stop, _ = places.indices(len(self.rows))
        chosen = self._full if self.windows is None else self._in_windows
        if self.begins is not None:
            chosen = self._drawn
        return np.asarray(self.rows[chosen(start, max(start, stop))], dtype=np.int64)

    def _full(self, start: int, stop: int) -> Rows:
        return self._bijection(len(self.rows), 0)(np.arange(start, stop))

    def _drawn(self, start: int, stop: int) -> Rows:
        """Return places among the rows: of a class by one number, in it by another (Lemire, 2019, without its last step)."""
        begins = np.asarray(self.begins, dtype=np.int64)
        keys = stream(self.seed, "order", self.epoch).integers(0, 2**64, 2, dtype=np.uint64)
        which = _below(np.arange(start, stop), int(keys[0]), np.uint64(len(begins) - 1))
        inside = _below(np.arange(start, stop), int(keys[1]), np.diff(begins)[which].astype(np.uint64))
        return begins[which] + inside

    def _bijection(self, count: int, window: int) -> Bijection:
        words = stream(self.seed, "order", self.epoch, window).integers(0, 2**64, ROUNDS, dtype=np.uint64)
        return Bijection(count, tuple(int(word) for word in words))

    @cached_property
    def _blocks(self) -> Rows:
        """The numbers of the blocks in the order of the epoch."""
        count = -(-len(self.rows) // self._cut.block)
        return stream(self.seed, "order", self.epoch).permutation(count)

    @cached_property
    def _starts(self) -> Rows:
        """At which place of the epoch each block starts, and the end of the last."""
        last = len(self.rows) - self._cut.block * (len(self._blocks) - 1)
        lengths = np.where(self._blocks == len(self._blocks) - 1, last, self._cut.block)
        return np.concatenate([[0], np.cumsum(lengths)])

    @property
    def _cut(self) -> Windows:
        return self.windows or Windows(max(1, len(self.rows)), 1)

    def _in_windows(self, start: int, stop: int) -> Rows:
        """Return the places among the rows: window after window, inside each shuffled."""
        borders = self._starts[[*range(0, len(self._blocks), self._cut.blocks), len(self._blocks)]]
        parts = []
        while start < stop:
            window = int(np.searchsorted(borders, start, side="right")) - 1
            first, end = int(borders[window]), int(borders[window + 1])
            upto = min(stop, end)
            places = first + self._bijection(end - first, window + 1)(np.arange(start - first, upto - first))
            number = np.searchsorted(self._starts, places, side="right") - 1
            parts.append(self._blocks[number] * self._cut.block + places - self._starts[number])
            start = upto
        return np.concatenate(parts) if parts else np.empty(0, np.int64)
