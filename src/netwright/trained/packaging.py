"""The heart of the verb export: a run or an ensemble as a bundle, a torch program or ONNX, with its model card. Floor 13."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from netwright import files
from netwright.errors import CheckpointError, ConfigError, FolderInUseError
from netwright.exporting.bundle import Program, describe, fitted_tensors
from netwright.exporting.card import Card, card_text
from netwright.exporting.described import BUNDLE, ENDINGS, FORMAT, OPSET
from netwright.runfolder.weights import ENDED
from netwright.sources.arrays import named_rows
from netwright.trained.calibrating import ERRORS
from netwright.trained.predicting import Predictor

FORMATS = ("bundle", *ENDINGS)
OTHER_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".zip", ".h5", ".keras", ".pkl")  # of what no export is
WEIGHTS = "model.safetensors"
SOURCE = "source"
CARD = "README.md"
PLACES = ("source", "train", "valid", "test", "cache", "split")  # settings of the data that say where they lay
TOLD = (
    "netwright",
    "name",
    "versions",
    "data",
    "split",
    "task",
    "model",
    "best",
    "epochs",
    "steps",
    "temperature",
    "ensemble",
)


def export_run(run: Predictor, format: str = "bundle", output: Path | None = None) -> Path:
    """Write a run or an ensemble as files that predict without it.

    Args:
        run: A run that has ended, or an ensemble.
        format: ``bundle``, ``torch`` or ``onnx``.
        output: A new folder, or a new file that ends in ``.pt2`` or ``.onnx``; default a folder in the run folder.

    Returns:
        What ``netwright predict`` takes: the folder of a bundle, or the file.

    Raises:
        ConfigError: Another format or ending, a network that torch.export or ONNX cannot take, or packages are missing.
        CheckpointError: The run has not ended.
        FolderInUseError: ``output`` exists.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} came; expected {', '.join(FORMATS)}; write one of them")
    if run.record["status"] not in ENDED:
        raise CheckpointError(
            f"{run.folder}: {run.record['status']}; expected a run that ended; go on with netwright resume {run.folder}"
        )
    target = run.folder / "export" / format if output is None else output
    alone = target.suffix in ENDINGS.values()
    if target.suffix.lower() in OTHER_ENDINGS:
        raise ConfigError(
            f"-o {target}: {target.suffix} is the ending of another kind of file; expected {ENDINGS.get(format, 'no ending')} for "
            f"--format {format}, or the name of a new folder"
        )
    if alone and ENDINGS.get(format) != target.suffix:
        raise ConfigError(
            f"-o {target}: the ending does not fit --format {format}; expected {ENDINGS.get(format, 'a folder')}"
        )
    beside = target.with_name(f"{target.name}.md")  # the whole name, so that a .pt2 and an .onnx file can lie side by side
    for path in [target, *([beside] if alone else [])]:
        if path.exists():
            raise FolderInUseError(
                f"{path}: exists already; expected a new name, an export overwrites nothing; name another"
            )
    if format == "bundle":
        with files.born(target) as folder:
            run.write_bundle(folder, target.name)
        return target
    content = program_bytes(run, format)
    name = target.name if alone else f"model{ENDINGS[format]}"
    card = card_text(_card(run, format, name))
    if alone:
        files.make_folder(target.absolute().parent)
        files.write_bytes(target, content)
        files.write_text(beside, card)
        return target
    with files.born(target) as folder:
        files.write_bytes(folder / name, content)
        files.write_text(folder / CARD, card)
    return target / name


def program_bytes(run: Predictor, format: str) -> bytes:
    """Return a run as the bytes of a ``.pt2`` or ``.onnx`` file."""
    from netwright.exporting.programs import onnx_bytes, torch_bytes  # slow to import, and only needed here

    whole = run.whole()
    told = {**_description(run), "lengths": whole.reads_lengths}
    text = json.dumps(told, ensure_ascii=False, allow_nan=False)
    return torch_bytes(whole, text) if format == "torch" else onnx_bytes(whole, text)


def _description(run: Predictor) -> dict[str, Any]:
    """Return what every format tells of a run, as plain values; nothing in it says where the data lay."""
    settings = run.config.model_dump(mode="json", exclude_none=True)
    settings["model"] = {key: value for key, value in settings["model"].items() if key not in ("weights", "head")}
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in PLACES}
    if run.config.data.window is not None and run.config.data.split.group is not None:
        settings["data"]["split"] = {"group": run.config.data.split.group}  # where windows of new rows end
    record = {key: run.record[key] for key in TOLD if run.record.get(key) is not None}
    record["data"] = {key: value for key, value in record["data"].items() if key != "source"}
    program = describe(run.program.preparation, run.program.outcome)
    return {"format": FORMAT, "settings": settings, "program": program, "record": record}


def write_bundle(folder: Path, run: Predictor, program: Program, name: str) -> None:
    """Fill the folder of the bundle of a run."""
    weights = {f"model.{key}": value for key, value in program.model.state_dict().items()}
    tensors: dict[str, Tensor] = {**weights, **fitted_tensors(program.preparation, program.outcome)}
    content = safetensors.torch.save(
        {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, {"format": "pt"}
    )
    files.write_bytes(folder / WEIGHTS, content)
    written = [WEIGHTS]
    own = run.config.model.module
    source = None if own is None else run.folder / "model" / "source" / Path(own.rpartition(":")[0]).name
    if source is not None and source.is_file():
        files.make_folder(folder / SOURCE)
        files.copy_file(source, folder / SOURCE / source.name)
        written.append(f"{SOURCE}/{source.name}")
    if (run.folder / ERRORS).is_file():
        files.copy_file(run.folder / ERRORS, folder / ERRORS)
        written.append(ERRORS)
    write_description(folder, run, name, written)


def write_description(folder: Path, run: Predictor, name: str, written: Sequence[str], **more: Any) -> None:
    """Write what makes a folder a bundle, and its model card.

    Args:
        folder: Of the bundle.
        run: What it is of.
        name: What the folder will be called.
        written: The files in it that count.
        **more: Further entries.
    """
    digests = {path: files.digest_file(folder / path) for path in written}
    files.write_json(folder / BUNDLE, {**_description(run), **more, "files": digests})
    files.write_text(folder / CARD, card_text(_card(run, "bundle", name)))


def _card(run: Predictor, kind: str, file: str) -> Card:
    preparation, config = run.program.preparation, run.config
    encoder = preparation.encoder
    columns = [] if encoder is None else [(one.name, one.kind, len(one.levels)) for one in encoder.used]
    rows = "images" if config.data.image_mode is not None else "a table" if encoder is not None else "arrays"
    rows = "sequences of steps" if preparation.steps is not None else rows
    layout = run.record["data"].get("layout") or ""
    rows = named_rows(layout) if rows == "arrays" else rows
    limits = ["It knows what its train rows held; rows of another kind or time may differ, and nothing here tells so."]
    if any(kind == "category" for _, kind, _ in columns):
        limits.append("Categories that its train rows did not hold count as unknown.")
    if figures := run.record.get("ensemble", {}).get("out_of_fold"):
        limits.append(
            f"On rows that they were not trained on its members alone reach {figures}; the mean was not tested on any."
        )
    if run.tested is not None:
        looks = run.tested.get("looks", 1)
        limits.append(
            f"Its test rows were looked at {looks} time{'' if looks == 1 else 's'}; figures chosen by many looks flatter."
        )
    if kind == "torch":
        limits.append(f"It is read by torch {run.record.get('versions', {}).get('torch')}; torch promises no other version.")
        limits.append("torch runs code that is hidden in a .pt2 file when it reads it: read only files you trust.")
    if kind == "onnx":
        limits.append(f"Its opset is {OPSET}; the numbers of other machines differ in the last digits of float32.")
    if config.model.module is not None and kind == "bundle":
        limits.append(f"Its network is Python code in {SOURCE}/, which runs only where --code names it.")
    return Card(str(run.record.get("name") or run.folder.name), kind, file, run.record, run.tested, columns, rows, limits)
