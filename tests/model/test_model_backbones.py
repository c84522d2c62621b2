"""Networks of torchvision and timm by name, with small stand-ins of both libraries that have the same interface.

torchvision cannot be imported beside every torch, so these tests put packages of the same names and functions on the path;
what the real libraries compute is not tested here.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import netwright as nw
from netwright.config.backbones import read_backbone
from netwright.config.read import build_config
from netwright.errors import ConfigError, NetwrightError, SafetyError

STAND_IN = '''
"""A stand-in with the interface of torchvision.models and timm: a small residual network with fc as its head."""
import torch
from torch import nn

class ResNet(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((2, 2)), nn.Linear(16, num_classes)
    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = x + self.layer1(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))
'''
TORCHVISION = (
    STAND_IN
    + """
def resnet18(*, weights=None, progress=True, num_classes=1000):
    assert weights is None
    return ResNet(3, num_classes)

def list_models(module=None):
    assert module.__name__ == "torchvision.models"
    return ["resnet18"]
"""
)
TIMM = (
    STAND_IN
    + """
def create_model(model_name, pretrained=False, num_classes=1000, in_chans=3):
    assert not pretrained
    return ResNet(in_chans, num_classes)

def list_models():
    return ["resnet18"]
"""
)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stand-ins of both libraries on the path, as an ejected script finds them too."""
    place = tmp_path_factory.mktemp("libraries")
    (place / "torchvision").mkdir()
    (place / "torchvision" / "__init__.py").write_text("from torchvision import models\n")
    (place / "torchvision" / "models.py").write_text(TORCHVISION)
    (place / "timm.py").write_text(TIMM)
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("torchvision", "timm")}
    sys.path.insert(0, str(place))
    importlib.invalidate_caches()
    yield place
    sys.path.remove(str(place))
    for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]
    sys.modules.update(held)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three channels, with five classes and with three."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, classes, channels in (("five", 5, 3), ("three", 3, 3), ("grey", 3, 1)):
        y = np.arange(60) % classes
        X = generator.normal(size=(60, channels, 6, 6)).astype(np.float32) + y[:, None, None, None].astype(np.float32)
        np.savez(folder / f"{name}.npz", X=X, y=y)
    return folder


SMALL = {"target": "y", "batch_size": 20, "threads": 1, "skip": "all", "epochs": 2, "test": False}


def test_a_network_by_name_trains_resumes_ejects_and_hands_its_weights_on(
    libraries: Path, images: Path, tmp_path: Path
) -> None:
    first = nw.train(str(images / "five.npz"), backbone="torchvision.models.resnet18()", run_dir=tmp_path / "first", **SMALL)
    assert first.config.model.backbone == "torchvision.models.resnet18(num_classes=5)"
    assert type(first.model).__module__ == "torchvision.models"
    assert not list((first.folder / "model" / "source").iterdir())
    again = nw.load(first.folder)
    rows = np.load(images / "five.npz")["X"]
    assert (again.predict(rows) == first.predict(rows)).all()
    bundle = nw.load(nw.export(first, output=tmp_path / "bundle"))
    assert (bundle.predict_proba(rows) == first.predict_proba(rows)).all()
    tuned = nw.train(
        str(images / "three.npz"), backbone="timm.create_model('resnet18')", weights=tmp_path / "first", run_dir=tmp_path / "tuned",
        freeze=["conv1", "bn1", "layer1.*"], **SMALL,
    )  # fmt: skip
    assert tuned.record["start"]["new"] == ["fc"]
    old = safetensors.torch.load_file(first.folder / "model" / "best.safetensors")
    new = safetensors.torch.load_file(tuned.folder / "model" / "last.safetensors")
    assert all(torch.equal(value, old[name]) for name, value in new.items() if not name.startswith("fc."))
    assert nw.resume(tuned.folder, settings=["training.epochs=3"]).record["epochs"] == 3
    text = nw.eject(first)
    assert "import torchvision" in text
    assert "model = torchvision.models.resnet18(num_classes=5)" in text
    (tmp_path / "script").mkdir()
    nw.eject(first, tmp_path / "script" / "train.py")
    threads = torch.get_num_threads()
    runpy.run_path(str(tmp_path / "script" / "train.py"), run_name="__main__")
    torch.set_num_threads(threads)
    with np.load(tmp_path / "script" / "best.npz") as stored:
        assert set(stored.files) == set(old)
        assert all(np.array_equal(stored[name], value.numpy()) for name, value in old.items())


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("torchvision.models.resnet18(weights='DEFAULT')", ConfigError, "weights='DEFAULT' would download weights"),
        ("timm.create_model('resnet18', pretrained=True)", ConfigError, "pretrained=True would download weights"),
        (
            "timm.create_model('hf-hub:some/where')",
            ConfigError,
            "the name 'hf-hub:some/where' came; expected one of timm's own",
        ),
        ("timm.resnet18()", ConfigError, "expected timm.create_model('resnet18')"),
        ("resnet18", ConfigError, "'resnet18' came; expected a call such as torchvision.models.resnet18()"),
        ("torchvision.models.resnet18(5)", ConfigError, "expected its arguments by keyword"),
        ("torchvision.models.resnet18(num_classes=print(1))", SafetyError, "print(1)"),
        ("os.system('x')", NetwrightError, "came; expected a call such as"),
    ],
)
def test_what_would_download_or_run_code_is_refused(text: str, error: type[NetwrightError], told: str) -> None:
    with pytest.raises(error) as caught:
        build_config({"model": {"backbone": text}})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "data", "told"),
    [
        (
            "torchvision.models.resnet19()",
            "three",
            "torchvision has no network 'resnet19' that classifies; did you mean resnet18?",
        ),
        ("torchvision.models.resnet18(depth=3)", "three", "resnet18(depth=3, num_classes=3) cannot be built: "),
        ("torchvision.models.resnet18()", "grey", "images of 1 channel(s) came; resnet18 reads 3; write data.image_mode"),
        ("timm.create_model('resnet18')", "grey", "write in_chans=1 in the call, or data.image_mode"),
        ("torchvision.models.resnet18(num_classes=7)", "three", "the network gives (N, 7); a target of 3 classes"),
    ],
)
def test_what_does_not_fit_is_one_line(
    libraries: Path, images: Path, tmp_path: Path, text: str, data: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        nw.train(str(images / f"{data}.npz"), backbone=text, run_dir=tmp_path / "run", **SMALL)
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_library_that_is_not_there_or_fails_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for text, told in (
        (
            "timm.create_model('resnet18')",
            "timm cannot be imported (RuntimeError: operator torchvision::nms does not exist)",
        ),
        ("torchvision.models.resnet18()", "pip install 'netwright[torchvision]'"),
    ):
        with pytest.raises(ConfigError) as caught:
            nw.train(str(images / "three.npz"), backbone=text, run_dir=tmp_path / "run", **SMALL)
        assert told in str(caught.value)


def test_a_text_is_written_as_python_that_makes_the_network() -> None:
    assert str(read_backbone("torchvision.models.inception_v3(weights=None, progress=False)").with_outputs(4)) == (
        "torchvision.models.inception_v3(num_classes=4, aux_logits=False, init_weights=True)"
    )
    assert str(read_backbone("create_model(model_name='vgg11', in_chans=1)")) == "timm.create_model('vgg11', in_chans=1)"
