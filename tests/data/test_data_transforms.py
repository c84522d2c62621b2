"""Our own transforms do what they say, and torchvision's are built from their texts or refused in one line."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from netwright.config import signatures
from netwright.config.calls import Call, parse_call
from netwright.data import mixing, transforms
from netwright.data.mixing import CutMix, MixUp
from netwright.data.transforms import Noise, Scale, TimeMask, TimeShift, image_transform, own_transform
from netwright.errors import ConfigError

STEPS = torch.arange(1.0, 21.0).reshape(10, 2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_every_transform_of_our_own_is_in_the_registry() -> None:
    assert set(signatures.OWN_TRANSFORMS) == set(transforms.OWN) | set(mixing.OWN)


def test_noise_has_the_deviation_asked_for() -> None:
    found = Noise(0.3)(torch.zeros(100, 100))
    assert float(found.std()) == pytest.approx(0.3, rel=0.02)
    assert float(found.mean()) == pytest.approx(0.0, abs=0.02)


def test_scale_multiplies_a_row_by_one_number() -> None:
    factors = [Scale(0.2)(STEPS) / STEPS for _ in range(400)]
    assert all(torch.allclose(factor, factor[0, 0].expand_as(factor)) for factor in factors)
    means = torch.tensor([float(factor[0, 0]) for factor in factors])
    assert float(means.mean()) == pytest.approx(1.0, abs=0.04)
    assert float(means.std()) == pytest.approx(0.2, rel=0.1)


def test_a_shift_moves_steps_either_way_and_repeats_the_edge() -> None:
    seen = set()
    for _ in range(100):
        found = TimeShift(2)(STEPS)
        by = next(by for by in range(-2, 3) if torch.equal(found[3], STEPS[3 - by]))
        seen.add(by)
        expected = torch.stack([STEPS[min(max(step - by, 0), 9)] for step in range(10)])
        assert torch.equal(found, expected)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_mask_is_one_run_of_zeros() -> None:
    widths = set()
    for _ in range(200):
        found = TimeMask(3)(STEPS)
        masked = torch.nonzero((found == 0).all(1))[:, 0]
        widths.add(len(masked))
        assert torch.equal(masked, torch.arange(len(masked)) + (masked[0] if len(masked) else 0))
        kept = torch.ones(10, dtype=torch.bool)
        kept[masked] = False
        assert torch.equal(found[kept], STEPS[kept])
    assert widths == {0, 1, 2, 3}
    assert len(TimeMask(50)(STEPS[:2])) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Noise(std=-1)", "Noise(std=-1) came; expected a number of at least 0"),
        ("Scale(std='a')", "Scale(std='a') came"),
        ("TimeShift(most=0)", "TimeShift(most=0) came; expected a whole number of steps, at least 1"),
        ("TimeMask(most=2.5)", "TimeMask(most=2.5) came"),
    ],
)
def test_arguments_out_of_range_are_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as problem:
        own_transform(parse_call(text, "w"))
    assert words in str(problem.value)


@pytest.mark.parametrize("alpha", [0, -1, True, "a"])
@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_alpha_is_above_zero(kind: type, alpha: object) -> None:
    with pytest.raises(ConfigError, match=f"alpha={alpha!r}.* came; expected a number above 0"):
        kind(alpha)


def test_mixup_is_the_mean_of_a_row_and_the_one_before_it() -> None:
    values, target = torch.rand(6, 3, 4), torch.eye(6)
    mixed, shares = MixUp(1.0)(values, target)
    share = float(shares[0, 0])
    assert 0 < share < 1
    assert torch.allclose(mixed, share * values + (1 - share) * values.roll(1, 0))
    assert torch.allclose(shares, share * target + (1 - share) * target.roll(1, 0))


def test_cutmix_puts_in_a_rectangle_and_weighs_by_its_area() -> None:
    values = torch.arange(4.0)[:, None, None, None].expand(4, 2, 8, 9)
    for _ in range(30):
        mixed, shares = CutMix(1.0)(values, torch.eye(4))
        inside = mixed[1, 0] == 0
        rows, columns = torch.nonzero(inside.any(1))[:, 0], torch.nonzero(inside.any(0))[:, 0]
        assert int(inside.sum()) == len(rows) * len(columns)
        assert float(shares[1, 0]) == pytest.approx(float(inside.float().mean()), abs=1e-6)
        assert float(shares[1].sum()) == pytest.approx(1.0)


def test_without_torchvision_there_is_a_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError) as problem:
        image_transform(parse_call("RandomHorizontalFlip(p=0.5)", "w"), "data.augmentation.0")
    assert str(problem.value) == (
        "data.augmentation.0: RandomHorizontalFlip came, a transform of torchvision, which is not installed; expected torchvision "
        f"beside torch {torch.__version__}; pip install 'netwright[torchvision]', or leave it out"
    )


def test_a_torchvision_of_another_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> types.ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(transforms.importlib, "import_module", broken)
    with pytest.raises(ConfigError, match=r"cannot be imported \(operator torchvision::nms does not exist\); expected one"):
        image_transform(Call("RandomCrop"), "data.augmentation.0")


def test_texts_build_torchvisions_own_transforms() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    crop = image_transform(parse_call("RandomCrop(size=28, padding=4)", "w"), "w")
    assert isinstance(crop, v2.RandomCrop)
    assert crop(torch.zeros(3, 28, 28, dtype=torch.uint8)).shape == (3, 28, 28)
    turned = image_transform(parse_call("RandomRotation(degrees=10, interpolation='bilinear')", "w"), "w")
    assert turned.interpolation is v2.InterpolationMode.BILINEAR
    auto = image_transform(parse_call("AutoAugment(policy='cifar10')", "w"), "w")
    assert auto.policy is v2.AutoAugmentPolicy.CIFAR10
    for text in ("ColorJitter(brightness=-1)", "RandomHorizontalFlip(p=2)", "RandomErasing(scale=3)"):
        with pytest.raises(ConfigError, match=r"^w: .* cannot be built: .*; mend its arguments$"):
            image_transform(parse_call(text, "w"), "w")


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixing_gives_the_bits_of_torchvision(name: str) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    values, labels = torch.rand(8, 3, 12, 10), torch.arange(8) % 3
    for seed in range(20):
        torch.manual_seed(seed)
        theirs = getattr(v2, name)(alpha=0.7, num_classes=3)(values, labels)
        torch.manual_seed(seed)
        ours = mixing.OWN[name](alpha=0.7)(values, torch.nn.functional.one_hot(labels, 3).float())
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
