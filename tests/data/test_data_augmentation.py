"""A row's change depends on seed, epoch and row only; what is drawn elsewhere, and evaluation, are never touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from netwright.data.augmentation import Augmentation
from netwright.data.batches import Batch, Examples, Spans, batches
from netwright.data.mixing import CutMix, MixUp
from netwright.data.preparation import fit_arrays
from netwright.data.transforms import Noise, Scale, TimeMask, TimeShift
from netwright.errors import ConfigError
from netwright.sources.arrays import Arrays
from netwright.sources.tables import Origin

ROWS = np.arange(23)


def rolled(image: Tensor) -> Tensor:
    """A change of an image that draws, as torchvision's do, from torch's global generator."""
    return image.roll(int(torch.randint(1, 6, ())), dims=-1)


def noisy(image: Tensor) -> Tensor:
    return image + torch.randint(0, 3, image.shape, dtype=torch.uint8)


def images(count: int = 23) -> Examples:
    values = np.random.default_rng(0).integers(0, 200, (count, 6, 6), dtype=np.uint8)
    raw = Arrays({"X": values}, None, (Origin("X", count),), "NHW")
    prepared = fit_arrays(raw, np.arange(count), "standardize").examples(raw, changed=True)
    return prepared.with_target(torch.arange(count) % 3)


def sequences(padded: bool) -> Examples:
    lengths = torch.tensor([3, 7, 5, 7] if padded else [7] * 4)
    starts = torch.cumsum(lengths, 0) - lengths
    steps = torch.arange(1, int(lengths.sum()) * 2 + 1).reshape(-1, 2).float()
    rungs = (5, 7) if padded else (7,)
    return Examples({"X": steps}, torch.arange(4) % 2, spans=Spans(starts, lengths, rungs))


def by_row(found: list[Batch]) -> dict[int, Tensor]:
    return {int(row): value for batch in found for row, value in zip(batch.rows, batch.inputs["X"], strict=True)}


CHANGES: dict[str, dict[str, Any]] = {
    "images": {"images": (rolled, noisy)},
    "values": {"values": (Noise(0.3), Scale(0.2))},
    "both": {"images": (rolled,), "values": (Noise(0.3),)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_rows_change_is_the_same_in_every_batch(name: str) -> None:
    augmentation, examples = Augmentation("X", 5, **CHANGES[name]), images()
    one = by_row(list(augmentation.batches(examples, ROWS, 4, "keep", 2)))
    other = by_row(list(augmentation.batches(examples, ROWS[::-1].copy(), 7, "keep", 2)))
    assert one.keys() == other.keys() == set(ROWS.tolist())
    assert all(torch.equal(one[row], other[row]) for row in one)


@pytest.mark.parametrize("name", CHANGES)
def test_seed_epoch_and_row_each_change_the_change(name: str) -> None:
    examples = images()
    found = [
        by_row(list(Augmentation("X", seed, **CHANGES[name]).batches(examples, ROWS, 8, "keep", epoch)))
        for seed, epoch in ((5, 1), (5, 2), (6, 1), (5, 1))
    ]
    assert all(torch.equal(found[0][row], found[3][row]) for row in found[0])
    for other in found[1:3]:
        assert sum(not torch.equal(found[0][row], other[row]) for row in other) > 15
    noise = by_row(list(Augmentation("X", 5, values=(Noise(0.3),)).batches(examples, ROWS, 8, "keep", 1)))
    plain = by_row(list(batches(examples, ROWS, 8)))
    assert not torch.allclose(noise[0] - plain[0], noise[1] - plain[1])


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bits_are_the_same_for_any_number_of_processes(workers: int) -> None:
    examples = images()
    alone = list(Augmentation("X", 5, **CHANGES["both"]).batches(examples, ROWS, 4, "keep", 3))
    shared = list(Augmentation("X", 5, **CHANGES["both"], workers=workers).batches(examples, ROWS, 4, "keep", 3))
    assert [batch.rows.tolist() for batch in alone] == [batch.rows.tolist() for batch in shared]
    assert all(torch.equal(one.inputs["X"], other.inputs["X"]) for one, other in zip(alone, shared, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_generator_is_left_as_it_was(workers: int) -> None:
    augmentation = Augmentation("X", 5, **CHANGES["both"], mixing=(MixUp(0.5),), classes=3, workers=workers)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    for _ in augmentation.batches(images(), ROWS, 4, "keep", 1):
        assert torch.equal(torch.random.get_rng_state(), state)


def test_raw_images_are_changed_before_they_are_prepared() -> None:
    examples = images()
    seen: list[Tensor] = []

    def watched(image: Tensor) -> Tensor:
        seen.append(image)
        return 255 - image

    batch = next(Augmentation("X", 0, images=(watched,)).batches(examples, ROWS, 23, "keep", 1))
    assert {(tuple(image.shape), image.dtype) for image in seen} == {((1, 6, 6), torch.uint8)}
    module = examples.raw["X"].module
    assert torch.equal(batch.inputs["X"], module.scaled(255 - torch.stack(seen)))


def test_without_a_change_the_bits_are_those_of_plain_batches() -> None:
    examples = images()
    plain = list(batches(examples, ROWS, 5))
    same = list(Augmentation("X", 0, images=(lambda image: image,)).batches(examples, ROWS, 5, "keep", 1))
    assert all(torch.equal(one.inputs["X"], other.inputs["X"]) for one, other in zip(plain, same, strict=True))
    assert all(torch.equal(one.target, other.target) for one, other in zip(plain, same, strict=True))


def test_padded_steps_stay_padded() -> None:
    examples = sequences(padded=True)
    augmentation = Augmentation("X", 1, values=(Noise(1.0), TimeShift(2), TimeMask(2), Scale(0.5)))
    batch = next(augmentation.batches(examples, np.arange(4), 4, "keep", 1))
    plain = next(batches(examples, np.arange(4), 4))
    assert batch.lengths is not None
    for row, length in enumerate(batch.lengths.tolist()):
        assert not torch.equal(batch.inputs["X"][row, :length], plain.inputs["X"][row, :length])
        assert torch.equal(batch.inputs["X"][row, length:], torch.zeros(7 - length, 2))


def test_channels_first_changes_the_same_steps() -> None:
    values, rows = torch.arange(24.0).reshape(2, 4, 3), np.arange(2)
    changes = (TimeShift(2), TimeMask(2), Noise(0.1))
    last = Examples({"X": values}, torch.zeros(2))
    first = Examples({"X": values.transpose(1, 2).contiguous()}, torch.zeros(2))
    one = Augmentation("X", 1, values=changes).sample(last, rows).inputs["X"]
    other = Augmentation("X", 1, values=changes, channels_first=True).sample(first, rows).inputs["X"]
    assert torch.equal(one, other.transpose(1, 2))


def test_class_numbers_become_shares_and_numbers_means() -> None:
    augmentation = Augmentation("X", 1, mixing=(MixUp(1.0),), classes=3)
    first, *_ = augmentation.batches(images(), ROWS, 8, "keep", 1)
    assert first.target.shape == (8, 3)
    assert torch.allclose(first.target.sum(1), torch.ones(8))
    assert ((first.target > 0).sum(1) <= 2).all()
    numbers = images().with_target(torch.arange(23.0)[:, None])
    second = next(augmentation.batches(numbers, ROWS, 8, "keep", 1))
    share = float(first.target[1, 1])  # row 1 is of class 1, row 0 of class 0
    assert second.target[1, 0].item() == pytest.approx(share * 1 + (1 - share) * 0)


def test_mixing_depends_on_the_step_and_one_of_several_is_chosen() -> None:
    examples = images()
    augmentation = Augmentation("X", 1, mixing=(MixUp(1.0), CutMix(1.0)), classes=3)
    one, other = (list(augmentation.batches(examples, ROWS, 2, "drop", 1)) for _ in range(2))
    assert all(torch.equal(a.inputs["X"], b.inputs["X"]) for a, b in zip(one, other, strict=True))
    shares = {round(float(batch.target.max()), 4) for batch in one}
    assert len(shares) > 3
    plain = by_row(list(batches(examples, ROWS, 2, "drop")))
    cut = [bool((value == plain[row]).any()) and not torch.equal(value, plain[row]) for row, value in by_row(one).items()]
    assert 0 < sum(cut) < len(cut)  # CutMix keeps pixels, MixUp keeps none


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image[:, :4, :4], "made (1, 4, 4) of uint8 out of (1, 6, 6) of uint8; valid and test images stay"),
        (lambda image: image.float(), "made (1, 6, 6) of float32 out of (1, 6, 6) of uint8"),
        (lambda image: image.reshape(7), "function fails on an image (1, 6, 6) of uint8: shape '[7]' is invalid"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_change_that_does_not_fit_is_told_in_one_line(change: Any, words: str, workers: int) -> None:
    with pytest.raises(ConfigError) as problem:
        list(Augmentation("X", 0, images=(change,), workers=workers).batches(images(), ROWS, 4, "keep", 1))
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_drawn_several_times_is_changed_another_way_each_time(name: str) -> None:
    examples, rows = images(), np.array([4, 9, 4, 2, 4, 9, 11])
    once = Augmentation("X", 5, **CHANGES[name])
    several = Augmentation("X", 5, **CHANGES[name], repeated=True)
    alike = [value for batch in once.batches(examples, rows, 3, "keep", 2) for value in batch.inputs["X"]]
    found = [value for batch in several.batches(examples, rows, 3, "keep", 2) for value in batch.inputs["X"]]
    assert torch.equal(alike[0], alike[2])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[2], found[4])
    assert not torch.equal(found[1], found[5])
    for place in (0, 1, 3, 6):  # what comes for the first time has the bits of an epoch that holds each row once
        assert torch.equal(alike[place], found[place])
    later = [value for batch in several.batches(examples, rows, 3, "keep", 2, start=1) for value in batch.inputs["X"]]
    assert all(torch.equal(one, other) for one, other in zip(found[3:], later, strict=True))  # resumed within an epoch
