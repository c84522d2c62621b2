"""From settings to the network and its task: a list of layers, an own class, a module from Python, or the default.

Floor 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from netwright.config.calls import Call, parse_call
from netwright.config.schema import PreparationConfig, RunConfig
from netwright.data.arrays import Arrays
from netwright.data.preparation import ArrayPreparation
from netwright.data.sources import declared_shape
from netwright.errors import CheckpointError, ConfigError, DataError
from netwright.model.build import Sizes, check_output, construct, load_class, make_own, refuse_unnamed, resolve
from netwright.model.defaults import default_layers
from netwright.model.layers import CODE_LAYERS, Form
from netwright.model.summary import Summary, output_shape, summarize
from netwright.model.task import Task, make_loss, make_task
from netwright.pipeline.inputs import OBJECT, Inputs, reading_of

NEED = {"binary": "a yes-no target", "multiclass": "a target of {} classes", "regression": "{} target column(s)"}


@dataclass(frozen=True)
class Network:
    """The network, its task, what it is made of, and how the resolved config describes it."""

    module: nn.Module
    task: Task
    summary: Summary
    described: dict[str, Any]
    source: Path | None
    notes: tuple[str, ...]


def check_declared(config: RunConfig) -> None:
    """Work out the shapes of a list of layers from the header of an array file, before its data are read.

    Raises:
        ConfigError: Two layers do not meet.
    """
    calls = config.layer_calls()
    if calls is None or config.data.source is None:
        return
    shape = declared_shape(config.data.source, reading_of(config.data))
    layout = config.data.layout
    if config.data.source.find("idx") > 0 and layout is None and shape is not None and len(shape) == 2:
        layout = "NHW"
    if shape is None or (layout is not None and len(layout) != len(shape) + 1):
        return
    prepared = ArrayPreparation(shape, layout, "none")
    codes = calls[0].name in CODE_LAYERS
    resolve(calls, Form(prepared.output_shape, prepared.output_layout, codes), Sizes(1, 1 if codes else None))


def build_network(
    config: RunConfig,
    inputs: Inputs,
    prepared: Mapping[str, Tensor],
    *,
    module: nn.Module | None = None,
    loss: Any = None,
    code: Sequence[Path] = (),
    command: str = "netwright train CONFIG",
) -> Network:
    """Build the network from torch's global generator, and check it against data and loss.

    Args:
        config: The settings.
        inputs: Rows, target and split.
        prepared: The prepared inputs by name.
        module: A network from Python.
        loss: A callable loss from Python.
        code: Files named on the command line.
        command: To repeat with ``--code`` in a refusal.

    Raises:
        ConfigError: Shapes, loss and target do not meet.
        SafetyError: Own code that nobody named.
    """
    again = "; hand it over again in Python: nw.train(CONFIG, {}=...)"
    if module is None and config.model.object is not None:
        raise CheckpointError(f"model.object: the network was {config.model.object}, a Python object{again.format('model')}")
    if loss is None and (config.training.loss or "").startswith(OBJECT):
        raise CheckpointError(f"training.loss: {config.training.loss} was a Python object{again.format('loss')}")
    if module is None and config.model.module is None:
        return _from_layers(config, inputs, prepared, loss)
    source = None
    if module is None:
        name = config.model.module or ""
        source = refuse_unnamed(name, code, command)
        class_name = name.rpartition(":")[2]
        module = make_own(load_class(source, class_name), config.model.arguments, class_name)
        described: dict[str, Any] = {"module": name, "arguments": config.model.arguments}
    else:
        described = {"object": f"{type(module).__module__}.{type(module).__qualname__}"}
    shape = output_shape(module, prepared)
    task = _task(config, inputs, loss, shape[1] if len(shape) == 2 else None)
    check_output(Form(tuple(shape[1:]), None), task.outputs, _need(inputs, task))
    return Network(module, task, summarize(module, prepared), described, source, ())


def _task(config: RunConfig, inputs: Inputs, loss: Any, found_outputs: int | None) -> Task:
    target, settings = inputs.target, config.data.preparation
    scaling = settings.target_scaling if isinstance(settings, PreparationConfig) else "none"
    return make_task(
        target.task,
        config.training.loss,
        classes=len(target.classes),
        columns=len(target.names),
        train_values=target.values[inputs.split.train],
        scaling=scaling,
        own_loss=loss,
        found_outputs=found_outputs,
    )


def _need(inputs: Inputs, task: Task) -> str:
    count = len(inputs.target.classes) or len(inputs.target.names)
    return f"{NEED[task.kind].format(count)} with {task.loss}"


def _from_layers(config: RunConfig, inputs: Inputs, prepared: Mapping[str, Tensor], loss: Any) -> Network:
    forms = inputs.forms(dict(prepared))
    if len(forms) != 1:
        raise ConfigError(
            f"model: {len(forms)} inputs came ({', '.join(forms)}); a list of layers reads one; write an own module whose "
            "forward names them"
        )
    form = next(iter(forms.values()))
    task = _task(config, inputs, loss, None)
    notes: list[str] = []
    calls = config.layer_calls()
    levels = tuple(inputs.preparation.code_levels())
    if calls is None:
        if form.layout is None:
            form = Form(form.shape, "NCT" if form.shape[0] <= form.shape[1] else "NTC", form.codes)
            notes.append(f"the axes {form} are read as {form.layout}; set data.layout if they mean something else")
        calls = [parse_call(text, "model.layers") for text in default_layers(form, bool(levels))]
    sizes = Sizes(task.outputs, _codes(calls, inputs), levels)
    resolved = resolve(calls, form, sizes)
    check_output(resolved.form, task.outputs, _need(inputs, task))
    module = construct(resolved.calls)
    texts = {layer.path: str(layer.call) for layer in resolved.layers}
    described = {"layers": [str(call) for call in resolved.calls]}
    summary = summarize(module, prepared, texts)
    return Network(module, task, summary, described, None, (*notes, *resolved.notes))


def _codes(calls: Sequence[Call], inputs: Inputs) -> int | None:
    """Return how many codes an Embedding needs: those of the train rows; a larger one elsewhere is an error."""
    if calls[0].name not in CODE_LAYERS or not isinstance(inputs.raw, Arrays):
        return None
    values = next(iter(inputs.raw.inputs.values()))
    written = calls[0].keywords.get("num_embeddings")
    if values.min() < 0:
        raise DataError(f"{inputs.raw.origins[0].name}: code {values.min()} came; an Embedding reads codes from 0; mend it")
    limit = int(written) if written is not None else int(values[inputs.split.train].max()) + 1
    if values.max() >= limit:
        row = int(np.argwhere(values == values.max())[0][0])
        raise DataError(
            f"{inputs.raw.place(row)}: code {values.max()} came; the train rows hold codes 0 to {limit - 1}; write "
            f"Embedding(num_embeddings={int(values.max()) + 1}, embedding_dim=...)"
        )
    return limit


def make_loss_again(text: str, outputs: int, run: Path) -> nn.Module:
    """Build the loss of a finished run from its resolved text.

    Raises:
        CheckpointError: The loss was a Python object.
    """
    if text.startswith("object:"):
        raise CheckpointError(f"{run}: the loss was a Python object ({text[7:]}); test the run that nw.train returned")
    return make_loss(parse_call(text, "training.loss"), outputs)
