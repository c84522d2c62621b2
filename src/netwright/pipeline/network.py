"""From settings to the network and its task: a list of layers, an own class, a module from Python, or the default.

Floor 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netwright import files
from netwright.config.backbones import read_backbone
from netwright.config.calls import OBJECT, parse_call
from netwright.config.data_schema import PreparationConfig
from netwright.config.schema import RunConfig
from netwright.config.values import shown
from netwright.data.batches import Batch
from netwright.data.preparation import ArrayPreparation, Preparation
from netwright.data.targets import Target
from netwright.engine.own_step import OwnStep
from netwright.errors import CheckpointError, ConfigError
from netwright.model.backbones import make_backbone, refuse_channels
from netwright.model.build import Sizes, check_output, construct, resolve
from netwright.model.defaults import default_layers
from netwright.model.layers import CODE_LAYERS, Form
from netwright.model.masked import Masked
from netwright.model.own import load_class, make_own, refuse_extra_state, refuse_unnamed
from netwright.model.padding import unmaskable
from netwright.model.summary import Summary, complete_lazy, output_shape, summarize, takes_lengths
from netwright.model.task import Task, make_loss, make_task, usual_loss
from netwright.model.weighing import with_class_weight
from netwright.rows.inputs import Inputs, refuse_no_counts
from netwright.rows.reading import reading_of
from netwright.runfolder import folder as folders
from netwright.seeding import initialising
from netwright.sources import labels
from netwright.sources.opening import declared_form
from netwright.sources.sequences import Sequences

OwnModule = nn.Module | tuple[type[nn.Module], Mapping[str, Any]]
NEED = {
    "binary": "a yes-no target",
    "multiclass": "a target of {} classes",
    "multilabel": "a target of {} labels",
    "regression": "{} target column(s)",
}


@dataclass(frozen=True)
class Start:
    """The weights that a network starts from: their source and digest, names of tensors that came, layers that begin new and why.

    ``parameters`` of ``every`` one came.
    """

    source: str
    what: str
    digest: str
    taken: tuple[str, ...]
    new: tuple[str, ...]
    parameters: int
    every: int
    why: str


@dataclass(frozen=True)
class Network:
    """The network, its task, what it is made of, how the resolved config describes it, and where its weights come from."""

    module: nn.Module
    task: Task
    summary: Summary
    described: dict[str, Any]
    source: Path | None
    notes: tuple[str, ...]
    start: Start | None = None


def check_declared(config: RunConfig) -> None:
    """Work out the shapes of a list of layers from the header of an array file, before its data are read.

    Raises:
        ConfigError: Two layers do not meet.
    """
    calls = config.layer_calls()
    if calls is None or config.data.source is None:
        return
    form = declared_form(config.data.source, reading_of(config.data))
    if form is None:
        return
    shape, layout = form[0], config.data.layout or form[1]
    if layout is not None and len(layout) != len(shape) + 1:
        return
    prepared = ArrayPreparation(shape, layout, "none")
    codes = calls[0].name in CODE_LAYERS
    resolve(calls, Form(prepared.output_shape, prepared.output_layout, codes), Sizes(1, 1 if codes else None))


def build_network(
    config: RunConfig,
    inputs: Inputs,
    sample: Batch,
    *,
    module: OwnModule | None = None,
    loss: Any = None,
    code: Sequence[Path] = (),
    command: str = "netwright train CONFIG",
) -> Network:
    """Build the network from the global generators, which are seeded, and check it against data and loss.

    Args:
        config: The settings.
        inputs: Rows, target and split.
        sample: Two rows, the longest where they differ in length.
        module: A network from Python, or its class with arguments.
        loss: A callable loss from Python, or a step of one's own in its place.
        code: Files named on the command line.
        command: To repeat with ``--code`` in a refusal.

    Raises:
        ConfigError: Shapes, loss and target do not meet.
        SafetyError: Own code that nobody named.
    """
    again = "; hand it over again in Python: nw.train(CONFIG, {0}=...), nw.resume(RUN, {0}=...)"
    if module is None and config.model.object is not None:
        raise CheckpointError(f"model.object: the network was {config.model.object}, a Python object{again.format('model')}")
    if loss is None and (config.training.loss or "").startswith(OBJECT):
        raise CheckpointError(f"training.loss: {config.training.loss} was a Python object{again.format('loss')}")
    if module is None and config.model.backbone is not None:
        return _from_backbone(config, inputs, sample, loss)
    if module is None and config.model.module is None:
        return _from_layers(config, inputs, sample, loss)
    source = None
    if module is None:
        name = config.model.module or ""
        source = refuse_unnamed(name, code, command)
        class_name = name.rpartition(":")[2]
        module = make_own(load_class(source, class_name), config.model.arguments, class_name)
        described: dict[str, Any] = {"module": name, "arguments": config.model.arguments}
    else:
        if not isinstance(module, nn.Module):
            module = make_own(module[0], module[1], module[0].__name__)
        described = {"object": f"{type(module).__module__}.{type(module).__qualname__}"}
    _refuse_without_lengths(module, sample)
    complete_lazy(module, sample.inputs, sample.lengths)
    refuse_extra_state(module)
    shape = output_shape(module, sample.inputs, sample.lengths)
    steps = _steps(inputs, sample)
    task = _task(config, inputs, loss, shape[-1] if len(shape) == 2 + (steps is not None) else None)
    if not isinstance(loss, OwnStep):
        check_output(Form(tuple(shape[1:]), None), task.outputs, _need(inputs, task), steps)
    return Network(module, task, summarize(module, sample.inputs, lengths=sample.lengths), described, source, ())


def _refuse_without_lengths(module: nn.Module, sample: Batch) -> None:
    """Refuse an own module that would read padding as data."""
    if sample.lengths is not None and not takes_lengths(module):
        raise ConfigError(
            f"model: {type(module).__name__}.forward has no argument lengths; sequences of different length are padded; write "
            "forward(self, x, lengths) and leave steps from lengths on out"
        )


def _steps(inputs: Inputs, sample: Batch) -> int | None:
    """Return the steps that outputs per step must have; None for one output per row."""
    if not inputs.target.per_step:
        return None
    values = next(iter(sample.inputs.values()))
    return int(values.shape[2 if inputs.preparation.layout(next(iter(sample.inputs))) == "NCT" else 1])


def _task(config: RunConfig, inputs: Inputs, loss: Any, found_outputs: int | None) -> Task:
    target, settings = inputs.target, config.data.preparation
    scaling = settings.target_scaling if isinstance(settings, PreparationConfig) else "none"
    if isinstance(loss, OwnStep):
        scaling = "none"  # it gets the target as it is
    task = make_task(
        target.task,
        _loss_text(config, target, loss, found_outputs),
        classes=len(target.classes),
        columns=len(target.names),
        train_values=target.of(inputs.split.train),
        scaling=scaling,
        own_loss=loss,
        found_outputs=found_outputs,
        per_step=target.per_step,
    )
    if isinstance(loss, OwnStep):
        numbered = target.task in ("binary", "multiclass")
        return replace(task, loss=f"{OBJECT}{loss.name}", loss_function=loss, class_target=numbered)
    if task.decoding.rates:
        refuse_no_counts(config.data, inputs.raw, target)
    return task


def _loss_text(config: RunConfig, target: Target, own_loss: Any, found_outputs: int | None) -> str | None:
    """Return the loss that is written, with the class weights that are asked for beside it.

    Raises:
        ConfigError: The loss is a Python object, or has no such weights.
    """
    written, weighted = config.training.loss, config.training.class_weight
    if weighted is None:
        return written
    if own_loss is not None:
        raise ConfigError(
            f"training.class_weight: {shown(weighted)} came with a loss or step from Python; expected a loss by its text; "
            "weigh the classes in it"
        )
    kind, classes = target.task, [str(labels.shown(label)) for label in target.classes]
    return with_class_weight(written or usual_loss(kind, found_outputs), kind, weighted, classes)


def _need(inputs: Inputs, task: Task) -> str:
    count = len(inputs.target.classes) or len(inputs.target.names)
    return f"{NEED[task.kind].format(count)} with {task.loss}"


def _from_layers(config: RunConfig, inputs: Inputs, sample: Batch, loss: Any) -> Network:
    forms = inputs.forms(sample.inputs)
    if len(forms) != 1:
        raise ConfigError(
            f"model: {len(forms)} inputs came ({', '.join(forms)}); a list of layers reads one; write an own module whose "
            "forward names them"
        )
    name, form = next(iter(forms.items()))
    task = _task(config, inputs, loss, None)
    calls = config.layer_calls()
    levels = tuple(inputs.preparation.code_levels())
    steps = _steps(inputs, sample)
    numbers = inputs.preparation.numbers(name)
    if calls is None:
        usual = default_layers(
            form,
            bool(levels),
            per_step=steps is not None,
            padded=sample.lengths is not None,
            numbers=form.size if numbers is None else numbers,
            recipe=inputs.recipe,
        )
        calls = [parse_call(text, "model.layers") for text in usual]
    sizes = Sizes(task.outputs, _codes(inputs), levels, numbers)
    resolved = resolve(calls, form, sizes)
    if not isinstance(loss, OwnStep):
        check_output(resolved.form, task.outputs, _need(inputs, task), steps)
    module = construct(resolved.calls)
    texts = {layer.path: str(layer.call) for layer in resolved.layers}
    summary = summarize(module, sample.inputs, texts)
    if isinstance(inputs.raw, Sequences) and sample.lengths is not None:
        module = masked(module, inputs.preparation)
        _refuse_unmaskable(module, inputs.raw, texts)
    described = {"layers": [str(call) for call in resolved.calls]}
    return Network(module, task, summary, described, None, tuple(resolved.notes))


def _from_backbone(config: RunConfig, inputs: Inputs, sample: Batch, loss: Any) -> Network:
    """Build a network of torchvision or timm with the outputs that the task needs."""
    task = _task(config, inputs, loss, None)
    backbone = read_backbone(config.model.backbone or "").with_outputs(task.outputs)
    module = make_backbone(backbone)
    refuse_channels(module, backbone, next(iter(sample.inputs.values())).shape[1:])
    shape = output_shape(module, sample.inputs, sample.lengths)
    if not isinstance(loss, OwnStep):
        check_output(Form(tuple(shape[1:]), None), task.outputs, _need(inputs, task), _steps(inputs, sample))
    summary = summarize(module, sample.inputs, lengths=sample.lengths)
    return Network(module, task, summary, {"backbone": str(backbone)}, None, ())


def _refuse_unmaskable(module: Masked, raw: Sequences, texts: Mapping[str, str]) -> None:
    """Refuse layers that would read padding as data, or leave nothing of the shortest sequence."""
    problem = unmaskable(module, torch.from_numpy(raw.lengths))
    if problem:
        path, reason = problem
        raise ConfigError(
            f"model.layers.{path}: layer {path} {texts[path]}: sequences of different length came ({raw.lengths.min()} to "
            f"{raw.lengths.max()} steps); {reason}"
        )


def masked(module: nn.Sequential, preparation: Preparation) -> Masked:
    """Return the same layers for sequences of different length."""
    return Masked(*module, channels_first=preparation.steps is not None and preparation.steps.channels_first)


def _codes(inputs: Inputs) -> int | None:
    """Return how many codes the first Embedding needs."""
    module = next(iter(inputs.preparation.modules.values()))
    return module.limit if isinstance(module, ArrayPreparation) else None


def make_loss_again(text: str, outputs: int, run: Path) -> nn.Module:
    """Build the loss of a finished run from its resolved text.

    Raises:
        CheckpointError: The loss was a Python object.
    """
    if text.startswith(OBJECT):
        name = text.removeprefix(OBJECT)
        raise CheckpointError(f"{run}: the loss was a Python object ({name}); test the run that nw.train returned")
    return make_loss(parse_call(text, "training.loss"), outputs)


def placed(module: nn.Module, config: RunConfig, device: torch.device) -> nn.Module:
    """Return a network on a device, its weights lying as the settings say: another order of memory gives other last bits."""
    module = module.to(device)
    if config.training.memory_format == "channels_last":
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def given_again(model: OwnModule | type[nn.Module], seed: int) -> nn.Module:
    """Return a network that is handed over again: itself, or built of its class with arguments as where its run began.

    Args:
        model: The network, its class, or its class with arguments.
        seed: Of the run.
    """
    if isinstance(model, nn.Module):
        return model
    kind, arguments = model if isinstance(model, tuple) else (model, {})
    with initialising(seed):
        return kind(**arguments)


def network_again(config: RunConfig, folder: Path, code: Sequence[Path]) -> nn.Module:
    """Build the network of a run without weights; an own class draws what it drew where the run began."""
    with initialising(config.training.seed):
        if config.model.backbone is not None:
            return make_backbone(read_backbone(config.model.backbone))
        if config.model.layers is not None:
            calls = [parse_call(text, f"model.layers.{place}") for place, text in enumerate(config.model.layers)]
            try:
                return construct(calls)
            except (TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"{folder / folders.CONFIG}: the layers cannot be built ({error}); expected those of weights "
                    "in model/*.safetensors; check the run"
                ) from None
        if config.model.module is None:
            raise CheckpointError(
                f"{folder}: the network was a Python object ({config.model.object}); load the run from Python: "
                "netwright.load(RUN, model=...)"
            )
        return _own_network_again(config.model.module, config.model.arguments, folder, code)


def _own_network_again(module: str, arguments: Mapping[str, Any], folder: Path, code: Sequence[Path]) -> nn.Module:
    """Build an own class from exactly the file that was named: the original, or the run's copy of it.

    Raises:
        SafetyError: Neither was named.
        CheckpointError: The original has changed since training.
    """
    file = trusted_file(module, folder, code, f"netwright ... {folder}")
    name = module.rpartition(":")[2]
    return make_own(load_class(file, name), arguments, name)


def trusted_file(module: str, folder: Path, code: Sequence[Path], command: str) -> Path:
    """Return the file of an own class that was named: the original, or the run's copy of it.

    Raises:
        SafetyError: Neither was named.
        CheckpointError: The original has changed since training.
    """
    original = module.rpartition(":")[0]
    copy = folder / "model" / "source" / Path(original).name
    if any(file.resolve() == copy.resolve() for file in code):
        return copy
    file = refuse_unnamed(module, code, command, f"{copy}, its copy in the run,")
    if copy.is_file() and files.digest_file(file) != files.digest_file(copy):
        raise CheckpointError(
            f"{file}: changed since training; expected the code the run was trained with; put it back, or type --code {copy}"
        )
    return file
