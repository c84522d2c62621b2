"""The heart of the verb export: a run as a bundle, a torch program or ONNX, with its model card; bundles read again. Floor 9."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from netwright import files
from netwright.config.read import build_config
from netwright.config.schema import RunConfig
from netwright.data.arrays import named_rows
from netwright.engine.choose import choose_device
from netwright.errors import CheckpointError, ConfigError, FolderInUseError, NetwrightError, SafetyError, first_line
from netwright.exporting.bundle import Program, below, describe, fill, fitted_tensors, from_description, read_tensors
from netwright.exporting.card import Card, card_text
from netwright.exporting.described import BUNDLE, ENDINGS, FORMAT, OPSET, refuse_other
from netwright.exporting.whole import Whole
from netwright.model.own import load_class, make_own
from netwright.pipeline.bench import execution_of
from netwright.pipeline.calibrating import ERRORS, with_temperature
from netwright.pipeline.folder import RECORD
from netwright.pipeline.network import masked, network_again
from netwright.pipeline.run import Run, device_again, load_run
from netwright.pipeline.weights import ENDED

FORMATS = ("bundle", *ENDINGS)
WEIGHTS = "model.safetensors"
SOURCE = "source"
CARD = "README.md"
PLACES = ("source", "train", "valid", "test", "cache", "split")  # settings of the data that say where they lay
TOLD = ("netwright", "name", "versions", "data", "split", "task", "model", "best", "epochs", "steps", "temperature")


def export_run(run: Run, format: str = "bundle", output: Path | None = None) -> Path:
    """Write a run as files that predict without it.

    Args:
        run: A run that has ended.
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
    if alone and ENDINGS.get(format) != target.suffix:
        raise ConfigError(
            f"-o {target}: the ending does not fit --format {format}; expected {ENDINGS.get(format, 'a folder')}"
        )
    for path in [target, *([target.with_suffix(".md")] if alone else [])]:
        if path.exists():
            raise FolderInUseError(
                f"{path}: exists already; expected a new name, an export overwrites nothing; name another"
            )
    if format == "bundle":
        with files.born(target) as folder:
            _write_bundle(folder, run, target.name)
        return target
    content = program_bytes(run, format)
    name = target.name if alone else f"model{ENDINGS[format]}"
    card = card_text(_card(run, format, name))
    if alone:
        files.make_folder(target.absolute().parent)
        files.write_bytes(target, content)
        files.write_text(target.with_suffix(".md"), card)
        return target
    with files.born(target) as folder:
        files.write_bytes(folder / name, content)
        files.write_text(folder / CARD, card)
    return target / name


def program_bytes(run: Run, format: str) -> bytes:
    """Return a run as the bytes of a ``.pt2`` or ``.onnx`` file."""
    from netwright.exporting.programs import onnx_bytes, torch_bytes  # slow to import, and only needed here

    whole = Whole(run.program)
    told = {**_description(run), "lengths": whole.reads_lengths}
    text = json.dumps(told, ensure_ascii=False, allow_nan=False)
    return torch_bytes(whole, text) if format == "torch" else onnx_bytes(whole, text)


def _description(run: Run) -> dict[str, Any]:
    """Return what every format tells of a run, as plain values; nothing in it says where the data lay."""
    settings = run.config.model_dump(mode="json", exclude_none=True)
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in PLACES}
    record = {key: run.record[key] for key in TOLD if run.record.get(key) is not None}
    record["data"] = {key: value for key, value in record["data"].items() if key != "source"}
    program = describe(run.program.preparation, run.program.outcome)
    return {"format": FORMAT, "settings": settings, "program": program, "record": record}


def _write_bundle(folder: Path, run: Run, name: str) -> None:
    """Fill the folder of a bundle."""
    weights = {f"model.{key}": value for key, value in run.model.state_dict().items()}
    tensors: dict[str, Tensor] = {**weights, **fitted_tensors(run.program.preparation, run.program.outcome)}
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
    digests = {path: files.digest_file(folder / path) for path in written}
    files.write_json(folder / BUNDLE, {**_description(run), "files": digests})
    files.write_text(folder / CARD, card_text(_card(run, "bundle", name)))


def _card(run: Run, kind: str, file: str) -> Card:
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


def load_folder(
    folder: Path, *, model: nn.Module | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a run folder or a bundle; see `netwright.pipeline.run.load_run`."""
    if folder.suffix in ENDINGS.values() and folder.is_file():
        raise ConfigError(
            f"{folder}: a program came; expected a run or its bundle; predict with netwright predict {folder} DATA, or "
            "netwright.pipeline.exported.load_any"
        )
    load = load_bundle if is_bundle(folder) else load_run
    return load(folder, model=model, code=code, device=device)


def is_bundle(path: Path) -> bool:
    """Tell whether a folder is a bundle and not a run."""
    return (path / BUNDLE).is_file() and not (path / RECORD).is_file()


def load_bundle(
    folder: Path, *, model: nn.Module | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a bundle as a run that predicts with the same bits.

    Args:
        folder: The bundle.
        model: The network again, of a run that was made from a module in Python.
        code: Python files that may run: the one in the bundle, for a network of an own class.
        device: Where to predict.

    Raises:
        CheckpointError: It is damaged, of another format, or of another network.
        SafetyError: An own class whose file was not named.
    """
    try:
        told = files.read_json(folder / BUNDLE)
        refuse_other(told)
        config, digests, record = build_config(told["settings"]), dict(told["files"]), dict(told["record"])
        _refuse_changed(folder, digests)
        tensors = read_tensors(folder / WEIGHTS)
        preparation, outcome = from_description(told["program"], tensors)
        if not all(isinstance(record.get(part), dict) for part in ("data", "task", "split")) or "kind" not in record["task"]:
            raise ValueError("it does not tell of its run")
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, NetwrightError) as error:
        raise CheckpointError(
            f"{folder / BUNDLE}: no bundle of netwright export ({first_line(error)}); expected one; export the run again"
        ) from error
    network = model if model is not None else _network(folder, config, digests, [Path(file) for file in code])
    if type(network) is nn.Sequential and len(config.data.rungs or []) > 1:
        network = masked(network, preparation)
    fill(network, below(tensors, "model."), folder / WEIGHTS)
    place = choose_device(device) if device is not None else device_again(config)
    network.to(place).eval()
    program = Program(preparation, network, outcome, config.data.batch_size, place, execution_of(config))
    program = with_temperature(program, record.get("temperature"))
    return Run(folder, config, program, {**record, "status": "done", "files": digests})


def _refuse_changed(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse a bundle one of whose files is missing or not as it was written, or lies outside it."""
    if WEIGHTS not in digests:
        raise ValueError(f"{WEIGHTS} is not among its files")
    for name, digest in digests.items():
        path = folder / name
        if name not in (WEIGHTS, ERRORS) and Path(name).parts[:-1] != (SOURCE,):
            raise ValueError(f"a file {name!r} that no bundle has")
        if not path.is_file() or files.digest_file(path) != digest:
            raise CheckpointError(
                f"{path}: missing or not as it was written (digest); expected the bundle whole; copy it again"
            )


def _network(folder: Path, config: RunConfig, digests: Mapping[str, str], code: Sequence[Path]) -> nn.Module:
    """Build the network of a bundle without weights; own code is the file in it, and runs only where it was named."""
    if config.model.module is None:
        return network_again(config, folder, code)
    original, _, name = config.model.module.rpartition(":")
    inside = f"{SOURCE}/{Path(original).name}"
    if inside not in digests:
        raise CheckpointError(f"{folder}: the file of {name} is not in the bundle; expected {inside}; export the run again")
    file = folder / inside
    for named in code:
        if not named.is_file():
            raise ConfigError(f"--code {named}: no such file; expected {file}; check the path")
    if not any(named.resolve() == file.resolve() for named in code):
        raise SafetyError(
            f"{folder}: its network {name} is Python code, and a bundle alone never runs code; if you trust it, type: "
            f"netwright predict {folder} DATA --code {file}"
        )
    return make_own(load_class(file, name), config.model.arguments, name)
