"""Datasets and DataLoaders of torch, read once into arrays; items that change at random are read anew each epoch.

An item is ``x``, ``(x, y)`` or a dictionary, of tensors, arrays, numbers or images. Floor 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from netwright.errors import DataError, ResourceError, warn_of
from netwright.seeding import all_forked, drawn_from, seed_all, torch_seed
from netwright.sources import objects
from netwright.sources.arrays import Array
from netwright.sources.choosing import TARGET_NAMES
from netwright.sources.workers import in_order

Rows = npt.NDArray[np.int64]
ITEM = 3  # seeds the changes of an item; data/augmentation.py has the numbers of other changes
PART = 64  # items that a process reads at a time
MOST_BYTES = 8 * 2**30  # of the items of a Dataset, which are read into memory
MOST_ITEMS = 10_000_000  # of an IterableDataset


@final
@dataclass(frozen=True)
class Opened:
    """What a Dataset or a DataLoader holds.

    Args:
        inputs: One array or list of arrays of all rows, or several by name.
        target: The labels, or None.
        reread: Reads the inputs of a row anew for a seed, where items change at random; else None.
        notes: What to tell the user.
        layout: What the axes mean where items are images of pillow; else None.
    """

    inputs: Any
    target: Any
    reread: Callable[[int, int], dict[str, Array]] | None = None
    notes: tuple[str, ...] = ()
    layout: str | None = None

    @property
    def numbers(self) -> Any:
        """The inputs without the texts among several, which no network reads: labels and names."""
        if not isinstance(self.inputs, dict):
            return self.inputs
        return {name: values for name, values in self.inputs.items() if isinstance(values, np.ndarray)}


def is_dataset(value: Any) -> bool:
    """Tell whether a value is a Dataset or a DataLoader of torch."""
    return isinstance(value, Dataset | DataLoader)


def batches_of(value: Any) -> dict[str, Any]:
    """Return the settings that a DataLoader stands for: ``batch_size``, but for torch's default of 1, and ``last_batch``.

    Example:
        >>> batches_of(DataLoader(TensorDataset(torch.zeros(9, 2)), batch_size=4, drop_last=True))
        {'batch_size': 4, 'last_batch': 'drop'}
    """
    if not isinstance(value, DataLoader) or value.batch_size is None:
        return {}
    size = {"batch_size": value.batch_size} if value.batch_size > 1 else {}
    return {**size, **({"last_batch": "drop"} if value.drop_last else {})}


def open_dataset(value: Any, workers: int = 0, as_named: bool = False) -> Opened:
    """Read a Dataset or a DataLoader.

    Args:
        value: A map-style Dataset, an IterableDataset, or a DataLoader over one.
        workers: Processes that read the items.
        as_named: Whether rows that a sampler of one's own names are read in its order and as often, as for a prediction, and
            not each once in the order of the Dataset.

    Raises:
        DataError: Items of an unknown form, or that differ from read to read by a generator nobody can seed.
        ResourceError: More than is read into memory.
    """
    notes: list[str] = []
    rows: Rows | None = None
    if isinstance(value, DataLoader):
        if _collates(value):
            return _collated(value, as_named)
        named = ", ".join(f"{name} = {found}" for name, found in batches_of(value).items())
        taken = f"its {named} where no setting says otherwise; " if named else ""
        notes.append(f"the DataLoader's dataset is read; {taken}shuffling and workers are settings of netwright")
        rows = _sampled(value, notes, as_named)
        value = value.dataset
    if _plain_tensors(value) and 1 <= len(value.tensors) <= 2:
        parts = [tensor if rows is None else tensor[torch.from_numpy(rows)] for tensor in value.tensors]
        return Opened(parts[0], parts[1] if len(parts) == 2 else None, None, tuple(notes))
    if isinstance(value, IterableDataset):
        return _columns(_stream(value), None, notes)
    count = _length(value)
    rows = np.arange(count, dtype=np.int64) if rows is None else rows
    reading = _Reading(value, rows)
    random = _changes(reading)
    with all_forked():
        read = reading.seeded if random else reading.plain
        lists = in_order(read, [range(start, min(start + PART, len(rows))) for start in range(0, len(rows), PART)], workers)
        items = _within_memory(itertools.chain.from_iterable(lists), value, len(rows))
    if random:
        notes.append("its items change at random: each epoch reads train rows anew, valid and test rows stay as read once")
    return replace(_columns(items, reading if random else None, notes), layout=_layout(value, int(rows[0])))


def _plain_tensors(value: Any) -> bool:
    """Tell whether the items of a Dataset are the rows of its tensors: a subclass may make others of them."""
    kind = type(value)
    own = {"__getitem__", "__getitems__", "__len__", "__getattribute__"}
    return isinstance(value, TensorDataset) and all(
        getattr(kind, name, None) is getattr(TensorDataset, name, None) for name in own
    )


def _within_memory(items: Iterable[dict[str, Any]], dataset: Any, count: int) -> list[dict[str, Any]]:
    """Return all items, or refuse them as soon as they are known to be too many."""
    found: list[dict[str, Any]] = []
    size = 0
    for item in items:
        size += _bytes(item)
        if size > MOST_BYTES or (not found and size * count > MOST_BYTES):
            raise ResourceError(
                f"data: a {type(dataset).__name__} of {count} items came, above {MOST_BYTES / 2**30:g} GiB; expected items that "
                "fit in memory; give a part of it (torch.utils.data.Subset), or smaller items"
            )
        found.append(item)
    return found


@final
class _Reading:
    """The items of some rows, each read under generators seeded for it."""

    def __init__(self, dataset: Any, rows: Rows) -> None:
        self.dataset, self.rows = dataset, rows

    def read(self, place: int, number: int) -> dict[str, Any]:
        """Return an item as arrays by name, read with all generators seeded by a number."""
        with all_forked():
            seed_all(number)
            return self.item(place)

    def item(self, place: int) -> dict[str, Any]:
        """Return an item as arrays by name, read under the generators as they are."""
        try:
            return _item(self.dataset[int(self.rows[place])], place)
        except DataError:
            raise
        except Exception as error:  # an own Dataset may raise anything
            raise DataError(
                f"data: item {int(self.rows[place])} of {type(self.dataset).__name__} fails: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}; expected an item; mend its __getitem__"
            ) from error

    def seeded(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return items as valid and test rows are read, whatever the seed of a run: epoch 0 of seed 0."""
        return [self.read(place, torch_seed(0, "augmentation", 0, ITEM, place)) for place in places]

    def plain(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return items that need no seed."""
        return [self.item(place) for place in places]

    def __call__(self, place: int, number: int) -> dict[str, Array]:
        """Return the inputs of a row as a run reads them anew."""
        item = self.read(place, number)
        return {name: np.asarray(value) for name, value in item.items()}


def _item(item: Any, place: int) -> dict[str, Any]:
    """Return an item as arrays by name, the target under ``y``."""
    if isinstance(item, Mapping):
        return {str(name): _value(value, place) for name, value in item.items()}
    if isinstance(item, tuple | list):
        if len(item) != 2:
            raise DataError(
                f"data: item {place} of the Dataset is a {type(item).__name__} of {len(item)}; expected (x, y) or a dictionary; "
                'return for instance {"x": ..., "y": ...}'
            )
        return {"X": _value(item[0], place), "y": _value(item[1], place)}
    return {"X": _value(item, place)}


def _value(value: Any, place: int) -> Any:
    """Return a part of an item as an array, or as it is where it is a number or a text."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    found = objects.as_array(value, f"data: item {place} of the Dataset")
    return found.item() if found.ndim == 0 else found


def _layout(dataset: Any, row: int) -> str | None:
    """Return the layout of items that are images of pillow, or None."""
    with all_forked():
        item = dataset[row]
    image = item[0] if isinstance(item, tuple | list) and item else item
    if not hasattr(image, "getbands"):
        return None
    return "NHW" if len(image.getbands()) == 1 else "NHWC"


def _length(dataset: Any) -> int:
    try:
        count = len(dataset)
    except TypeError:
        raise DataError(
            f"data: a {type(dataset).__name__} without a length came; expected __len__ and __getitem__; add __len__, or make it an "
            "IterableDataset"
        ) from None
    if not count:
        raise DataError(f"data: a {type(dataset).__name__} without items came; expected at least one; check it")
    return count


def _changes(reading: _Reading) -> bool:
    """Tell whether items change at random: they draw from a global generator, or differ from read to read.

    Raises:
        DataError: They differ though all generators are seeded alike, or the labels change.
    """
    random = False
    count = len(reading.rows)
    for place in sorted({0, count // 2, count - 1}):
        first = reading.read(place, 1)
        with all_forked():
            seed_all(1)
            before = drawn_from()
            same = reading.item(place)
            random |= drawn_from() != before
        other = reading.read(place, 2)
        if not _equal(first, same):
            raise DataError(
                f"data: item {place} of {type(reading.dataset).__name__} differs from read to read though torch's, NumPy's and "
                "random's generators are seeded alike; expected items that are the same for a seed; draw from one of these"
            )
        random |= not _equal(first, other)
        labels = [name for name in TARGET_NAMES if name in first]
        if not _equal({name: first[name] for name in labels}, {name: other[name] for name in labels}):
            raise DataError(
                f"data: the label of item {place} changes from read to read ({labels[0]}); expected one label; mend the Dataset"
            )
    return random


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    pairs = [(np.asarray(one[name]), np.asarray(other[name])) for name in one]
    return all(
        first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
        for first, second in pairs
    )


def _stream(dataset: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the items, or batches, of a stream up to the bounds; no generator is moved."""
    with all_forked():
        seed_all(torch_seed(0, "augmentation", 0, ITEM))
        return list(_bounded(dataset))


def _bounded(dataset: Iterable[Any]) -> Iterator[dict[str, Any]]:
    size = 0
    for place, given in enumerate(dataset):
        item = _item(given, place)
        size += _bytes(item)
        if place >= MOST_ITEMS or size > MOST_BYTES:
            raise ResourceError(
                f"data: an IterableDataset of more than {place} items, {size / 2**30:.2g} GiB, came; expected at most "
                f"{MOST_ITEMS} items and {MOST_BYTES / 2**30:g} GiB, because it is read once into memory; "
                "end it earlier, or write the rows to a file"
            )
        yield item


def _bytes(item: Mapping[str, Any]) -> int:
    return sum(getattr(value, "nbytes", 8) for value in item.values())


def _columns(items: Sequence[Mapping[str, Any]], reading: _Reading | None, notes: Sequence[str]) -> Opened:
    """Return items, one below the other, as inputs and target."""
    if not items:
        raise DataError("data: a Dataset without items came; expected at least one; check it")
    names = list(items[0])
    for place, item in enumerate(items):
        if list(item) != names:
            raise DataError(
                f"data: item {place} of the Dataset holds {', '.join(item)}; item 0 holds {', '.join(names)}; expected the same"
            )
    columns = {name: _stacked([item[name] for item in items]) for name in names}
    ragged = [name for name, column in columns.items() if isinstance(column, list)]
    if reading is not None and ragged:
        raise DataError(
            f"data: the items change at random and {ragged[0]} differs in shape from item to item; expected one shape; crop or pad "
            "in the Dataset"
        )
    return _opened(columns, reading, notes)


def _opened(columns: dict[str, Any], reading: _Reading | None, notes: Sequence[str]) -> Opened:
    target = columns.pop("y") if set(columns) == {"X", "y"} else None
    return Opened(columns["X"] if list(columns) == ["X"] else columns, target, reading, tuple(notes))


def _stacked(values: list[Any]) -> Any:
    """Return values of one shape as an array, others as a list; numbers and texts as a list."""
    if not isinstance(values[0], np.ndarray):
        return np.asarray(values) if all(isinstance(value, bool | int | float) for value in values) else values
    alike = all(isinstance(value, np.ndarray) and value.shape == values[0].shape for value in values)
    return np.stack(values) if alike else values


def _collates(loader: DataLoader[Any]) -> bool:
    return loader.collate_fn not in (default_collate, default_convert)


def _sampled(loader: DataLoader[Any], notes: list[str], as_named: bool) -> Rows | None:
    """Return the rows that a sampler of one's own names, each once unless ``as_named``; None for those of the Dataset in order."""
    sampler: Any = loader.sampler
    if isinstance(loader.dataset, IterableDataset):
        return None
    plain = loader.batch_sampler is None or type(loader.batch_sampler).__module__ == "torch.utils.data.sampler"
    if plain and (isinstance(sampler, SequentialSampler | RandomSampler) or getattr(sampler, "replacement", False)):
        if not isinstance(sampler, SequentialSampler | RandomSampler):
            told = (
                f"the {type(sampler).__name__} of the DataLoader is not used: an epoch trains on each row once, or "
                'with data.sampling = "balanced" on each class as often as any other'
            )
            notes.append(told)
            warn_of(told)  # it changes what is trained on
        return None
    with all_forked():
        batches: Any = sampler if plain else loader.batch_sampler
        named = np.asarray(list(batches) if plain else [row for batch in batches for row in batch], dtype=np.int64)
    if as_named:
        return named
    rows = np.unique(named)
    notes.append(
        f"the sampler of the DataLoader names {len(rows)} of {_length(loader.dataset)} rows: these are read, each once an epoch"
    )
    return rows


def _collated(loader: DataLoader[Any], as_named: bool) -> Opened:
    """Return the rows of the batches that an own ``collate_fn`` makes, read once, in the order of the dataset or ``as_named``."""
    dataset: Any = loader.dataset
    collate: Any = loader.collate_fn
    notes = ["the batches of the DataLoader's collate_fn are read once; the order of training is netwright's own"]
    if isinstance(dataset, IterableDataset):
        batches = _stream(loader)
    else:
        rows = _sampled(loader, notes, as_named)
        numbers = (np.arange(_length(dataset)) if rows is None else rows).tolist()
        width = loader.batch_size or 64
        parts = [numbers[start : start + width] for start in range(0, len(numbers), width)]
        batches = _stream(collate([dataset[row] for row in part]) for part in parts)
    found: dict[str, Any] = {}
    for name in batches[0]:
        parts_of = [np.asarray(batch[name]) for batch in batches]
        if any(part.ndim == 0 or part.shape[1:] != parts_of[0].shape[1:] for part in parts_of):
            raise DataError(
                f"data: the batches of the DataLoader's collate_fn have rows of different shapes in {name!r}; expected one shape; "
                "hand over the Dataset itself: sequences of different length are padded and masked here"
            )
        found[name] = np.concatenate(parts_of)
    return _opened(found, None, notes)
