"""Weights of elsewhere that a network starts from: of a run, a bundle, or a file. Floor 11."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from netwright import files
from netwright.checkpoint import store
from netwright.errors import CheckpointError, ConfigError
from netwright.exporting.bundle import below, load_preparation, read_tensors, weights_bytes
from netwright.exporting.described import BUNDLE
from netwright.exporting.foreign import foreign_bytes
from netwright.runfolder import folder as folders
from netwright.runfolder.weights import ENDED, ended_weights, refuse_damaged, weights_in

FOREIGN = (".pt", ".pth", ".bin", ".ckpt")
WEIGHTS = "model.safetensors"  # of a bundle


@dataclass(frozen=True)
class Origin:
    """Weights by name, what they are in words, and the digest of what they were read from.

    ``task`` are kind, classes and columns of what they were trained for, where that is known.
    """

    source: str
    what: str
    digest: str
    tensors: dict[str, Tensor] = field(repr=False)
    task: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The source with what it is."""
        return f"{self.source} ({self.what})"


def read_origin(source: str) -> Origin:
    """Read weights to start from.

    Args:
        source: A run folder, a bundle, a ``.safetensors`` file, or what ``torch.save`` of another program wrote.

    Raises:
        CheckpointError: Nothing is there, or it is damaged.
        SafetyError: A file holds more than tensors.
        ConfigError: Something else came.
    """
    path = Path(source)
    if path.is_dir():
        return _of_bundle(path) if (path / BUNDLE).is_file() and not (path / folders.RECORD).exists() else _of_run(path)
    if not path.exists():
        raise CheckpointError(
            f"model.weights: {source}: no such file or folder; expected a run, or a .safetensors file; check the path"
        )
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        return Origin(source, "a file", files.digest_file(path), tensors)
    if path.suffix in FOREIGN:
        return Origin(source, "a file of torch.save", files.digest_file(path), safetensors.torch.load(foreign_bytes(path)))
    raise ConfigError(
        f"model.weights: {source} came; expected a run folder, a bundle, or a file that ends in .safetensors, "
        f"{', '.join(FOREIGN)}; name one of these"
    )


def _of_run(folder: Path) -> Origin:
    """Return the best weights of a run: of one that ended its own, else of its newest checkpoint."""
    record = folders.read_record(folder)
    best = record.get("best") or {}
    told = {"kind": record["task"].get("kind"), "classes": record["task"].get("classes") or [], "folder": folder}
    if record["status"] in ENDED:
        name = ended_weights(folder, record)
        tensors = read_tensors(folder / name)
        refuse_damaged(folder, dict(record.get("weights") or {}), [name])
        what = f"a run, best epoch {best['epoch']}" if best else f"a run, last epoch {record.get('epochs')}"
        return Origin(str(folder), what, files.digest_file(folder / name), tensors, told)
    parts = store.newest(folder / folders.CHECKPOINTS, lambda problem: None).parts
    tensors = dict(weights_in(parts))
    what = f"a run that has not ended, step {parts['progress']['step']}"
    return Origin(str(folder), what, files.digest_bytes(weights_bytes(tensors)), tensors, told)


def _of_bundle(folder: Path) -> Origin:
    tensors = below(read_tensors(folder / WEIGHTS), "model.")
    told = folders.read_json(folder / BUNDLE)
    task = told.get("record", {}).get("task", {}) if isinstance(told, dict) else {}
    known = {"kind": task.get("kind"), "classes": task.get("classes") or []}
    return Origin(str(folder), "a bundle", files.digest_file(folder / WEIGHTS), tensors, known)


def other_inputs(origin: Origin, preparation: Any) -> str:
    """Say in what the rows of a run are prepared otherwise than those here; an empty text where nothing is known to be.

    Args:
        origin: Of a run, else nothing is known.
        preparation: Of the rows here.
    """
    if "folder" not in origin.task:
        return ""
    try:
        theirs = load_preparation(origin.task["folder"])[0]
    except CheckpointError:
        return ""  # damaged, or of an older netwright: the weights themselves are whole
    for what, one, other in (
        ("columns", _columns(theirs), _columns(preparation)),
        ("symbols", _symbols(theirs), _symbols(preparation)),
    ):
        if one and other and one != other:
            pairs = zip(one, other, strict=False)
            there, here = next((pair for pair in pairs if pair[0] != pair[1]), (f"{len(one)}", f"{len(other)}"))
            return (
                f"its {what} are others (first {there[:60]} there, {here[:60]} here); the first layer reads them by their place; "
                "let that layer begin new (model.head), or give both runs the same"
            )
    return ""


def _columns(preparation: Any) -> list[str]:
    encoder = preparation.encoder
    used = [] if encoder is None else encoder.used
    return [f"{one.name} of {len(one.levels)} levels {one.levels}" if one.levels else one.name for one in used]


def _symbols(preparation: Any) -> list[str]:
    steps = preparation.steps
    return [] if steps is None or steps.vocabulary is None else [str(one) for one in steps.vocabulary]
