"""Foreign weights come in through a process of their own: tensors do, code does not."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from netwright.errors import CheckpointError, NetwrightError, SafetyError
from netwright.exporting.foreign import import_weights_file


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrap", [lambda held: held, lambda held: {"state_dict": held, "epoch": 3}])
def test_tensors_by_name_become_safetensors(wrap: Any, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save(wrap(model.state_dict()), tmp_path / "w.pt")
    shapes = import_weights_file(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert shapes["0.weight"] == (2, 3)
    found = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def payloads(place: Path) -> dict[str, bytes]:
    canary = Canary(place / "canary")
    torch.save({"w": torch.zeros(2), "x": canary}, place / "hidden.pt")
    torch.save(nn.Linear(2, 2), place / "module.pt")
    with zipfile.ZipFile(place / "zip.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(canary))
        archive.writestr("archive/version", "3")
    return {
        "plain pickle": pickle.dumps(canary),
        "old protocol": pickle.dumps({"w": canary}, protocol=0),
        "hidden among tensors": (place / "hidden.pt").read_bytes(),
        "a whole module": (place / "module.pt").read_bytes(),
        "in the archive of torch": (place / "zip.pt").read_bytes(),
    }


def test_code_is_refused_and_never_runs(tmp_path: Path) -> None:
    for name, content in payloads(tmp_path).items():
        (tmp_path / "w.bin").write_bytes(content)
        with pytest.raises(SafetyError, match=r"w\.bin: .*expected tensors by name and nothing else; refused"):
            import_weights_file(tmp_path / "w.bin", tmp_path / "out.safetensors")
        assert not (tmp_path / "canary").exists(), name
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([1, 2], "a list came; expected a dictionary of tensors"),
        ({"epoch": 3}, "a dict came; expected a dictionary of tensors"),
        (torch.zeros(3), "a Tensor came; expected a dictionary of tensors"),
    ],
)
def test_what_holds_no_weights_says_so(held: Any, words: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=words):
        import_weights_file(tmp_path / "w.pt", tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04" + bytes(50)])
def test_damaged_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(NetwrightError) as problem:
        import_weights_file(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert problem.value.exit_code in (4, 8)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "w.safetensors").exists()


def test_names_of_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such file"):
        import_weights_file(tmp_path / "gone.pt", tmp_path / "w.safetensors")
    (tmp_path / "w.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"expected a name that ends in \.safetensors"):
        import_weights_file(tmp_path / "w.pt", tmp_path / "w.pt2")
