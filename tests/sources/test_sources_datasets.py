"""Datasets and DataLoaders of torch become the rows they hold; what is random is read anew, and repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from netwright.errors import DataError, ResourceError
from netwright.sources import datasets
from netwright.sources.arrays import Arrays
from netwright.sources.datasets import open_dataset
from netwright.sources.opening import from_objects
from netwright.sources.sequences import Sequences

ROWS = 70
X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(ROWS) % 2


class Items(Dataset[Any]):
    """A Dataset with a function for its items."""

    def __init__(self, item: Any, rows: int = ROWS) -> None:
        self.item, self.rows = item, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Any:
        return self.item(row)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[row], int(Y[row])) for row in range(ROWS)])


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield X[0], 0


def pair(row: int) -> tuple[Tensor, int]:
    return X[row], int(Y[row])


def pairs(batch: list[Any]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in batch]), torch.tensor([y for _, y in batch])


HOLDING: dict[str, Any] = {
    "a TensorDataset": TensorDataset(X, Y),
    "a Dataset of pairs": Items(pair),
    "of arrays": Items(lambda row: [X[row].numpy(), Y[row].numpy()]),
    "of dictionaries": Items(lambda row: {"X": X[row], "label": Y[row]}),
    "a stream": Stream(),
    "a DataLoader": DataLoader(Items(pair), batch_size=8, shuffle=True),
    "a DataLoader of a stream": DataLoader(Stream(), batch_size=8),
    "a DataLoader with a collate_fn": DataLoader(Items(pair), batch_size=8, collate_fn=pairs, shuffle=True),
    "a DataLoader with weights": DataLoader(Items(pair), sampler=WeightedRandomSampler([1.0] * ROWS, 5)),
}


@pytest.mark.parametrize("name", HOLDING)
def test_the_rows_are_those_of_the_dataset_in_its_order(name: str) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    raw, _ = from_objects(HOLDING[name], None, None)
    assert isinstance(raw, Arrays)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(raw.inputs) == ["X"]
    np.testing.assert_array_equal(raw.inputs["X"], X.numpy())
    assert raw.target is not None
    assert raw.target.tolist() == Y.tolist()


@pytest.mark.parametrize("name", HOLDING)
def test_the_same_kinds_are_rows_to_predict(name: str) -> None:
    raw, _ = from_objects((HOLDING[name], None), None, None)
    assert isinstance(raw, Arrays)
    assert raw.target is None
    np.testing.assert_array_equal(raw.inputs["X"], X.numpy())


def test_items_without_labels_are_rows_to_predict() -> None:
    raw, _ = from_objects((Items(lambda row: X[row]), None), None, None)
    assert isinstance(raw, Arrays)
    np.testing.assert_array_equal(raw.inputs["X"], X.numpy())


def test_text_labels_stay_texts_and_are_no_input_of_a_prediction() -> None:
    items = Items(lambda row: {"image": X[row], "label": ["no", "yes"][row % 2]})
    raw, _ = from_objects(items, None, None)
    assert isinstance(raw, Arrays)
    assert raw.target is not None
    assert raw.target[:2].tolist() == ["no", "yes"]
    alone, _ = from_objects((items, None), None, None)
    assert isinstance(alone, Arrays)
    assert list(alone.inputs) == ["image"]


def test_items_of_different_length_are_sequences() -> None:
    raw, _ = from_objects(Items(lambda row: (torch.ones(2 + row % 3, 4) * row, row % 2)), None, None)
    assert isinstance(raw, Sequences)
    assert raw.lengths.tolist() == [2 + row % 3 for row in range(ROWS)]
    assert raw.about is not None


def test_a_samplers_subset_is_read_once_each_and_told() -> None:
    for loader in (
        DataLoader(Items(pair), sampler=SubsetRandomSampler([5, 9, 2])),
        DataLoader(Items(pair), batch_sampler=[[9, 5], [2, 9]]),
        DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler([5, 9, 2])),
    ):
        opened = open_dataset(loader)
        np.testing.assert_array_equal(np.asarray(opened.inputs), X[[2, 5, 9]].numpy())
        assert "names 3 of 70 rows: these are read, each once an epoch" in opened.notes[1]


def test_what_a_dataloader_decides_elsewhere_is_told() -> None:
    assert "shuffling and workers are settings" in open_dataset(HOLDING["a DataLoader"]).notes[0]
    taken = DataLoader(TensorDataset(X, Y), batch_size=16, drop_last=True)
    told = "its batch_size = 16, last_batch = drop where no setting says otherwise; shuffling and workers"
    assert told in open_dataset(taken).notes[0]
    assert (
        "WeightedRandomSampler of the DataLoader is not used" in open_dataset(HOLDING["a DataLoader with weights"]).notes[1]
    )
    assert "collate_fn are read once" in open_dataset(HOLDING["a DataLoader with a collate_fn"]).notes[0]


def noisy(row: int) -> tuple[Tensor, int]:
    return X[row] + torch.randn(3) + float(np.random.normal()) + random.random(), int(Y[row])


def rarely(row: int) -> tuple[Tensor, int]:
    return (X[row].flip(0) if torch.rand(()) < 1e-9 else X[row]), int(Y[row])


@pytest.mark.parametrize("item", [noisy, rarely])
def test_items_that_draw_are_read_anew_by_seed(item: Any) -> None:
    opened = open_dataset(Items(item))
    assert opened.reread is not None
    assert "change at random" in opened.notes[0]
    before = drawn = torch.random.get_rng_state()
    one, same, other = opened.reread(4, 1)["X"], opened.reread(4, 1)["X"], opened.reread(4, 2)["X"]
    drawn = torch.random.get_rng_state()
    assert torch.equal(before, drawn)
    assert (one == same).all()
    assert (one == other).all() == (item is rarely)


def test_items_that_do_not_draw_are_read_once() -> None:
    reads: list[int] = []

    def counted(row: int) -> tuple[Tensor, int]:
        reads.append(row)
        return pair(row)

    opened = open_dataset(Items(counted))
    assert opened.reread is None
    assert max(reads.count(row) for row in range(1, ROWS - 1) if row != ROWS // 2) == 1


@pytest.mark.parametrize("item", [pair, noisy])
def test_any_number_of_processes_reads_the_same(item: Any) -> None:
    alone, shared = open_dataset(Items(item)), open_dataset(Items(item), workers=2)
    np.testing.assert_array_equal(alone.inputs, shared.inputs)
    np.testing.assert_array_equal(alone.inputs, open_dataset(Items(item)).inputs)


OWN = np.random.default_rng(0)


def broken(row: int) -> Any:
    if row == 5:
        raise KeyError("no such\nfile")
    return pair(row)


REFUSED: dict[str, tuple[Any, str]] = {
    "a generator of its own": (
        Items(lambda row: (X[row] + OWN.normal(), 0)),
        "differs from read to read though torch's, NumPy's and random's generators are seeded alike",
    ),
    "labels at random": (Items(lambda row: (X[row], int(torch.randint(1000, ())))), "the label of item 0 changes"),
    "triples": (Items(lambda row: (X[row], 1, 2)), "item 0 of the Dataset is a tuple of 3; expected (x, y) or a dictionary"),
    "three tensors": (TensorDataset(X, X, Y), "is a tuple of 3"),
    "nothing": (Items(pair, 0), "a Items without items came"),
    "an item that fails": (Items(broken), "item 5 of Items fails: KeyError: 'no such"),
    "objects": (Items(lambda row: (object(), 1)), "data: item 0 of the Dataset: a object came"),
    "other keys": (Items(lambda row: {f"x{row // 40}": X[row]}), "item 40 of the Dataset holds x1; item 0 holds x0"),
    "random shapes": (
        Items(lambda row: (torch.randn(2 + row % 2, 3), 0)),
        "the items change at random and X differs in shape",
    ),
    "padded batches": (
        DataLoader(Items(lambda row: torch.ones(1 + row // 8)), batch_size=8, collate_fn=torch.stack),
        "have rows of different shapes in 'X'; expected one shape; hand over the Dataset itself",
    ),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told_in_one_line(name: str, workers: int) -> None:
    data, words = REFUSED[name]
    with pytest.raises(DataError) as problem:
        open_dataset(data, workers)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_dataset_without_a_length_is_told() -> None:
    class Bare(Dataset[Any]):
        def __getitem__(self, row: int) -> Any:
            return pair(row)

    with pytest.raises(DataError, match="a Bare without a length came; expected __len__"):
        open_dataset(Bare())


def test_more_than_the_bounds_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST_ITEMS", 1000)
    with pytest.raises(ResourceError, match="an IterableDataset of more than 1000 items, .* expected at most 1000 items"):
        open_dataset(Endless())
    monkeypatch.setattr(datasets, "MOST_BYTES", 100)
    with pytest.raises(ResourceError, match="an IterableDataset of more than 5 items"):
        open_dataset(Endless())
    read: list[int] = []
    with pytest.raises(ResourceError, match="a Items of 70 items came, above"):
        open_dataset(Items(lambda row: read.append(row) or pair(row)))
    assert len(read) < 75  # three are looked at, one part is read


class Picture:
    """What pillow's images offer."""

    def __init__(self, values: np.ndarray) -> None:
        self.__array_interface__ = values.__array_interface__
        self.values = values

    def getbands(self) -> tuple[str, ...]:
        return ("L",) if self.values.ndim == 2 else ("R", "G", "B")


@pytest.mark.parametrize(("shape", "layout"), [((4, 5), "NHW"), ((4, 5, 3), "NHWC")])
def test_images_of_pillow_say_where_their_channels_are(shape: tuple[int, ...], layout: str) -> None:
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    raw, _ = from_objects(Items(lambda row: (Picture(values), row % 2)), None, None)
    assert isinstance(raw, Arrays)
    assert (raw.layout, raw.inputs["X"].shape, raw.inputs["X"].dtype) == (layout, (ROWS, *shape), np.dtype("uint8"))


class Turned(TensorDataset):
    """Makes something else of the rows of its tensors."""

    def __getitem__(self, row: int) -> Any:
        x, y = super().__getitem__(row)
        return -x, y


@pytest.mark.parametrize("value", [Turned(X, Y), Subset(Turned(X, Y), range(ROWS)), DataLoader(Turned(X, Y), batch_size=8)])
def test_the_items_of_a_subclass_of_tensor_dataset_are_read(value: Any) -> None:
    found = open_dataset(value)
    np.testing.assert_array_equal(np.asarray(found.inputs), -X.numpy())
    np.testing.assert_array_equal(np.asarray(found.target), Y.numpy())


@pytest.mark.parametrize(
    ("loader", "rows"),
    [
        (DataLoader(TensorDataset(X, Y), sampler=[7, 3, 3, 1]), [7, 3, 3, 1]),
        (DataLoader(Items(pair), batch_sampler=[[9, 8], [2]]), [9, 8, 2]),
        (DataLoader(Items(pair), sampler=[7, 3, 3, 1], batch_size=2, collate_fn=pairs), [7, 3, 3, 1]),
        (DataLoader(Items(pair), shuffle=True), list(range(ROWS))),
        (DataLoader(Items(pair), batch_size=None), list(range(ROWS))),
    ],
)
def test_rows_to_predict_come_in_the_order_in_which_a_sampler_names_them(loader: Any, rows: list[int]) -> None:
    found = open_dataset(loader, as_named=True)
    np.testing.assert_array_equal(np.asarray(found.inputs), X[rows].numpy())
    raw = from_objects((loader, None), None, None)[0]
    np.testing.assert_array_equal(raw.inputs["X"], X[rows].numpy())  # type: ignore[union-attr]
