"""What settings say of weights of elsewhere and of layers that do not learn, joined with a network. Floor 12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from netwright import files
from netwright.config.schema import RunConfig
from netwright.errors import ConfigError
from netwright.exporting.bundle import read_tensors
from netwright.exporting.script_transfer import BESIDE
from netwright.model.transfer import last_layer, transfer
from netwright.pipeline.drawing import planned_steps
from netwright.pipeline.network import Network, Start
from netwright.rows.inputs import Inputs
from netwright.runfolder import folder as folders
from netwright.runfolder.origins import Origin, other_inputs, read_origin
from netwright.sources import labels
from netwright.training.freezing import Freezing, freezing_of
from netwright.training.groups import Group, split_parameters

MOST_LAYERS = 8  # named in a line
SUPERVISED = ("binary", "multiclass", "multilabel", "regression")


def transferred(network: Network, config: RunConfig, inputs: Inputs) -> Network:
    """Return a network that starts from the weights asked for, with those parameters frozen that do not learn in epoch 1.

    Raises:
        CheckpointError: The weights are missing, damaged, or of another network.
        ConfigError: A pattern matches nothing, or nothing is left to train.
        SafetyError: A file of weights holds more than tensors.
    """
    return _held(_started(network, config, inputs), config, inputs)


def _started(network: Network, config: RunConfig, inputs: Inputs) -> Network:
    if config.model.weights is None:
        return network
    origin, head, module = read_origin(config.model.weights), config.model.head, network.module
    why = "its shape differs" if head is None else "asked for"
    if head is None and _other_task(origin, inputs):
        head, why = [last_layer(module)], "it told other classes apart"
    moved = transfer(module, origin.tensors, head, f"model.weights: {origin.name}")
    parameters = dict(module.named_parameters())
    taken = sum(value.numel() for name, value in parameters.items() if name in moved.taken)
    every = sum(value.numel() for value in parameters.values())
    start = Start(origin.source, origin.what, origin.digest, moved.taken, moved.new, taken, every, why if moved.new else "")
    problem = other_inputs(origin, inputs.preparation)
    notes = (*network.notes, *([f"model.weights: {origin.name}: {problem}"] if problem else []))
    described = {**network.described, "head": list(moved.new)}
    return replace(network, start=start, notes=notes, described=described)


def _other_task(origin: Origin, inputs: Inputs) -> bool:
    """Tell whether weights were trained for another task or other classes, as far as that is known."""
    target, kind = inputs.target, origin.task.get("kind")
    if kind not in SUPERVISED:
        return False
    classes = [labels.shown(label) for label in target.classes]
    return bool(kind != target.task or list(origin.task.get("classes", [])) != classes)


def start_told(start: Start) -> str:
    """Return in words which weights a network starts from and which of its layers begin new."""
    new = f"; new: layer {_listed(start.new)} ({start.why})" if start.new else "; no layer is new"
    return f"weights: {start.parameters:,} of {start.every:,} parameters from {start.source} ({start.what}){new}"


def freezing_in(config: RunConfig, model: nn.Module) -> Freezing | None:
    """Return which parameters of a network are frozen in which epoch; None where nothing was asked for.

    Raises:
        ConfigError: A pattern matches nothing, or nothing is left to train.
    """
    training = config.training
    return freezing_of(model, training.freeze, [(one.epoch, one.parameters) for one in training.unfreeze])


def groups_in(config: RunConfig, model: nn.Module) -> list[Group]:
    """Return the groups of an optimizer's parameters, of all that ever learn; see `split_parameters`."""
    freezing = freezing_in(config, model)
    split = partial(split_parameters, groups=config.training.parameter_groups)
    return split(model) if freezing is None else freezing.of_all(model, split)


def _held(network: Network, config: RunConfig, inputs: Inputs) -> Network:
    """Return a network with the parameters frozen that do not learn in epoch 1, and with remarks on them."""
    freezing = freezing_in(config, network.module)
    if freezing is None:
        return network
    freezing.hold(network.module, 1)
    trained = sum(value.numel() for value in network.module.parameters() if value.requires_grad)
    last = config.training.epochs if config.training.steps is None else planned_steps(config, inputs)[0]
    late = sorted({one.epoch for one in config.training.unfreeze if last is not None and one.epoch > last})
    notes = [f"training.unfreeze: epoch {epoch} comes after the last, {last}; its layers stay frozen" for epoch in late]
    summary = replace(network.summary, trainable=trained)
    return replace(network, summary=summary, notes=(*network.notes, *notes))


def frozen_told(freezing: Freezing, model: nn.Module) -> list[str]:
    """Return in words what does not learn, a line for each stage."""
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    every, lines = sum(sizes.values()), []
    for stage in freezing.stages:
        held = sum(sizes[name] for name in stage.frozen)
        told = f"{held:,} of {every:,} parameters, layer {_listed(_layers(stage.frozen))}" if held else "nothing"
        resting = f"; statistics kept in {_listed(stage.resting)}" if stage.resting else ""
        lines.append(f"frozen{'' if stage.epoch == 1 else f' from epoch {stage.epoch} on'}: {told}{resting}")
    return lines


def freezing_json(freezing: Freezing | None) -> list[dict[str, Any]]:
    """Return the stages as plain values, for run.json and eject."""
    stages = () if freezing is None else freezing.stages
    return [{"epoch": one.epoch, "frozen": list(one.frozen), "resting": list(one.resting)} for one in stages]


def start_of(record: Mapping[str, Any]) -> str:
    """Return what run.json tells of the weights that a run started from, in words; empty where all began new."""
    told = record.get("start")
    if not isinstance(told, Mapping):
        return ""
    new = f"; new: layer {_listed(told['new'])}" if told.get("new") else ""
    return " ".join(f"weights of {told['source']} ({told['what']}){new}".split())


def stages_of(record: Mapping[str, Any]) -> tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...]:
    """Return what run.json tells of frozen layers, as `freezing_json` wrote it."""
    return tuple((one["epoch"], tuple(one["frozen"]), tuple(one["resting"])) for one in record.get("frozen", []))


def write_start(folder: Path, place: Path) -> None:
    """Write the weights that a run started from beside its script, where there are any.

    Raises:
        ConfigError: Others lie there.
    """
    if not (folder / folders.START).is_file():
        return
    beside = place / BESIDE
    weights = {name: value.numpy() for name, value in read_tensors(folder / folders.START).items()}
    if beside.exists():
        with np.load(beside) as stored:
            same = set(stored.files) == set(weights) and all(np.array_equal(stored[name], weights[name]) for name in weights)
        if not same:
            raise ConfigError(
                f"{beside}: other weights lie there; expected those that {folder} started from; name a file in another folder"
            )
        return
    files.write_arrays(beside, weights)


def _layers(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LAYERS} more" if len(names) > MOST_LAYERS else ""
    return ", ".join(names[:MOST_LAYERS]) + more
