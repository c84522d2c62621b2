"""Writes src/netwright/config/transforms.json: names and parameters of torchvision's transforms.v2.

The table lets a misspelled transform be answered without importing torchvision, and where torchvision is not installed.
Run `python tools/transforms.py` where torchvision is; tests/config/test_config_transforms.py compares.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torchvision
from torchvision.transforms import v2

TABLE = Path(__file__).parent.parent / "src" / "netwright" / "config" / "transforms.json"

OURS = ("MixUp", "CutMix")  # our own classes of the same name and formulas mix prepared rows; see data/mixing.py
HIDDEN = {"inplace", "num_classes", "labels_getter"}
LISTED = "it holds transforms; write each of them with its own p"
BOXES = "it is for boxes and key points, which are not read"
PREPARED = "preparation does that, and train, valid and test rows alike; leave it out"
SEVERAL = "it gives several images for one; write RandomCrop or RandomResizedCrop"
REFUSED = {
    **dict.fromkeys(("Compose", "RandomApply", "RandomChoice", "RandomOrder"), LISTED),
    **dict.fromkeys(
        (
            "ClampBoundingBoxes",
            "ClampKeyPoints",
            "ConvertBoundingBoxFormat",
            "RandomIoUCrop",
            "SanitizeBoundingBoxes",
            "SanitizeKeyPoints",
            "SetClampingMode",
        ),
        BOXES,
    ),
    **dict.fromkeys(("FiveCrop", "TenCrop"), SEVERAL),
    **dict.fromkeys(
        (
            "ConvertImageDtype",
            "LinearTransformation",
            "Normalize",
            "PILToTensor",
            "ToDtype",
            "ToImage",
            "ToPILImage",
            "ToPureTensor",
            "ToTensor",
        ),
        PREPARED,
    ),
    "Lambda": "it holds code; hand a Dataset with transforms of its own over from Python",
    "Transform": "it is a base class; write one of the transforms",
    "UniformTemporalSubsample": "it is for films, which are not read",
}


def describe() -> dict[str, object]:
    """Return the whole table for the torchvision that is installed."""
    known: dict[str, object] = {}
    for name, kind in sorted(vars(v2).items()):
        if not (isinstance(kind, type) and issubclass(kind, v2.Transform)) or name in REFUSED or name in OURS:
            continue
        parameters = inspect.signature(kind).parameters.items()
        known[name] = [[key, value.default is value.empty] for key, value in parameters if key not in HIDDEN]
    version = ".".join(torchvision.__version__.split(".")[:2])
    return {"torchvision": version, "transforms": known, "refused_transforms": REFUSED}


def render() -> str:
    """Return the table as the text of the shipped file: one name a line."""
    parts = []
    for section, value in describe().items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(value.items()))
            parts.append(f" {json.dumps(section)}: {{\n{rows}\n }}")
        else:
            parts.append(f" {json.dumps(section)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(render(), encoding="utf-8")
    print(TABLE)
