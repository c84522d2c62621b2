"""The shipped table of torchvision's transforms, and what is told of texts of data.augmentation without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from netwright.config import signatures
from netwright.config.read import apply_setting, build_config
from netwright.errors import ConfigError, SafetyError

Script = Callable[[str], ModuleType]

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "src" / "netwright" / "config" / "transforms.json"


def test_the_shipped_table_is_what_the_tool_makes_of_the_installed_torchvision(script: Script) -> None:
    torchvision = pytest.importorskip("torchvision")
    shipped = TABLE.read_text(encoding="utf-8")
    installed = ".".join(torchvision.__version__.split(".")[:2])
    if json.loads(shipped)["torchvision"] != installed:
        pytest.skip(f"the table is of torchvision {json.loads(shipped)['torchvision']}, installed is {installed}")
    assert script("tools/transforms.py").render() == shipped


def test_our_names_are_not_torchvisions() -> None:
    theirs = json.loads(TABLE.read_text(encoding="utf-8"))
    assert not {*theirs["transforms"], *theirs["refused_transforms"]} & set(signatures.OWN_TRANSFORMS)
    assert all(len(reason) > 10 for reason in theirs["refused_transforms"].values())


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (["RandomHorizontalFlip(p=0.5)"], ["RandomHorizontalFlip(p=0.5)"]),
        (["v2.RandomCrop(28, padding=4)"], ["RandomCrop(size=28, padding=4)"]),
        ("RandomHorizontalFlip(), Noise(0.1)", ["RandomHorizontalFlip()", "Noise(std=0.1)"]),
        (["torchvision.transforms.v2.ColorJitter(0.2, hue=0.1)"], ["ColorJitter(brightness=0.2, hue=0.1)"]),
        (["MixUp(alpha=0.2)", "CutMix()"], ["MixUp(alpha=0.2)", "CutMix()"]),
    ],
)
def test_texts_are_read_in_torchvisions_spelling(given: object, written: list[str]) -> None:
    config = build_config({"data": {"augmentation": given}})
    assert [str(call) for call in config.transform_calls()] == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RandomCorp(28)", "data.augmentation.0: 'RandomCorp' is no known transform; did you mean RandomCrop"),
        ("RandomCrop", "data.augmentation.0: 'RandomCrop' came; expected a call with brackets; write RandomCrop(size=...)"),
        ("RandomCrop(28, pading=4)", "data.augmentation.0: RandomCrop has no argument 'pading'; did you mean padding"),
        ("Compose([])", "data.augmentation.0: Compose came; it holds transforms; write each of them with its own p"),
        ("Normalize(0, 1)", "data.augmentation.0: Normalize came; preparation does that"),
        ("ReLU()", "data.augmentation.0: ReLU came, which is a layer; write it in model.layers"),
        ("MixUp(num_classes=3)", "data.augmentation.0: MixUp came with num_classes; the task decides; leave it out"),
    ],
)
def test_names_and_arguments_are_checked_without_torchvision(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as problem:
        build_config({"data": {"augmentation": [text]}})
    assert str(problem.value).startswith(message)


def test_a_transform_in_another_place_is_told_its_own() -> None:
    with pytest.raises(ConfigError, match="RandomCrop came, which is a transform; write it in data.augmentation"):
        build_config({"model": {"layers": ["RandomCrop(28)"]}})


def test_code_is_refused() -> None:
    with pytest.raises(SafetyError):
        build_config({"data": {"augmentation": ["__import__('os').system('ls')"]}})


def test_a_missing_argument_is_told() -> None:
    with pytest.raises(ConfigError, match="RandomCrop.* came; size is missing; expected at least size"):
        build_config({"data": {"augmentation": ["RandomCrop(padding=2)"]}}).transform_calls()


def test_set_reaches_into_a_transform() -> None:
    tree = {"data": {"augmentation": "RandomHorizontalFlip(), RandomCrop(28)"}}
    apply_setting(tree, "data.augmentation.1.padding=4")
    assert tree["data"]["augmentation"] == ["RandomHorizontalFlip()", "RandomCrop(size=28, padding=4)"]
    with pytest.raises(ConfigError, match="data.augmentation has transforms 0 to 1; '2' is none"):
        apply_setting(tree, "data.augmentation.2.p=1")
    with pytest.raises(ConfigError, match="the config has no data.augmentation; expected a list to change"):
        apply_setting({}, "data.augmentation.0.p=1")
