"""Bundles read again: what `netwright export` wrote, as a run that predicts with the same bits. Floor 15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from netwright import files
from netwright.config.read import build_config
from netwright.config.schema import RunConfig
from netwright.engine.choose import choose_device
from netwright.errors import CheckpointError, ConfigError, NetwrightError, SafetyError, first_line
from netwright.exporting.bundle import Program, below, fill, from_description, read_tensors
from netwright.exporting.described import BUNDLE, refuse_other
from netwright.lifecycle.run import Run, device_again
from netwright.model.own import load_class, make_own
from netwright.pipeline.network import OwnModule, given_again, masked, network_again, placed
from netwright.pipeline.resolving import execution_of
from netwright.runfolder.folder import RECORD
from netwright.seeding import initialising
from netwright.trained.calibrating import ERRORS, with_temperature
from netwright.trained.packaging import SOURCE, WEIGHTS


def is_bundle(path: Path) -> bool:
    """Tell whether a folder is a bundle and not a run."""
    return (path / BUNDLE).is_file() and not (path / RECORD).is_file()


def load_bundle(
    folder: Path, *, model: OwnModule | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a bundle as a run that predicts with the same bits.

    Args:
        folder: The bundle.
        model: The network again, its class, or its class with arguments, of a run that was made from a module in Python.
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
        refuse_changed(folder, digests)
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
    if model is not None:
        network = given_again(model, config.training.seed)
    else:
        network = _network(folder, config, digests, [Path(file) for file in code])
    if type(network) is nn.Sequential and len(config.data.rungs or []) > 1:
        network = masked(network, preparation)
    fill(network, below(tensors, "model."), folder / WEIGHTS)
    place = choose_device(device) if device is not None else device_again(config)
    network = placed(network, config, place).eval()
    program = Program(preparation, network, outcome, config.data.batch_size, place, execution_of(config))
    program = with_temperature(program, record.get("temperature"))
    return Run(folder, config, program, {**record, "status": "done", "files": digests})


def refuse_changed(folder: Path, digests: Mapping[str, str]) -> None:
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
    with initialising(config.training.seed):
        return make_own(load_class(file, name), config.model.arguments, name)
