"""The network of an estimator: from layer texts with sizes worked out, or the user's own module. Floor 17."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from netwright.config.calls import Call, parse_call
from netwright.estimators.settings import Settings, own_name
from netwright.model.build import Sizes, check_output, construct, resolve
from netwright.model.layers import CODE_LAYERS, LAYOUT_OF_RANK, Form, layouts_read
from netwright.model.own import make_own
from netwright.model.summary import complete_lazy, output_shape, summarize
from netwright.model.task import Task, make_task


@dataclass(frozen=True)
class Goal:
    """What is learned: the task, how many classes or columns, and class numbers, 0 and 1 or values of all rows.

    ``values`` are int64 ``(rows,)`` of classes, int64 ``(rows, labels)`` or float64 ``(rows, outputs)``.
    """

    kind: str
    values: Any
    classes: int = 0
    columns: int = 1


@dataclass(frozen=True)
class Network:
    """A network, its task, and the texts of its layers with every argument; None for an own module.

    ``multiply_adds`` are of one row forward, ``dense`` those of them in Linear layers.
    """

    module: nn.Module
    task: Task
    layers: tuple[str, ...] | None
    multiply_adds: int
    dense: int


def reads_codes(layers: Sequence[Call]) -> bool:
    """Tell whether the first layer reads whole codes."""
    return bool(layers) and layers[0].name in CODE_LAYERS


def layout_of(layers: Sequence[Call], axes: int) -> str | None:
    """Return what the axes of X mean, from their number or the first layer that says it; None where nothing does."""
    if axes in LAYOUT_OF_RANK:
        return LAYOUT_OF_RANK[axes]
    for call in layers:
        read = [layout for layout in layouts_read(call) if len(layout) == axes]
        if read:
            return read[0] if len(read) == 1 else None
    return None


def make_network(settings: Settings, inputs: torch.Tensor, goal: Goal, limit: int | None) -> Network:
    """Make a network from torch's global generator, float32, and check it against rows and goal.

    Args:
        settings: Layers or module, and the loss.
        inputs: Some rows as the network reads them.
        goal: What is learned.
        limit: The number of codes, where the first layer reads some.

    Raises:
        ConfigError: Layers, loss and target do not meet.
    """
    few = inputs[:2].clone()  # a network may write into its input
    if settings.module is not None:
        return _own_network(settings, settings.module, few, goal)
    task = _task(settings, goal, None)
    form = Form(tuple(inputs.shape[1:]), layout_of(settings.layers, inputs.dim()), reads_codes(settings.layers))
    texts = tuple(map(str, settings.layers))
    calls, found = _resolved(texts, form, Sizes(task.outputs, limit))
    check_output(found, task.outputs, f"{goal.kind} with {task.loss}")
    module = construct(calls)
    work, dense = work_of(module, calls, few if form.codes else few.float())
    return Network(module, task, tuple(map(str, calls)), work, dense)


@lru_cache(maxsize=256)
def _resolved(texts: tuple[str, ...], form: Form, sizes: Sizes) -> tuple[tuple[Call, ...], Form]:
    resolved = resolve([parse_call(text, f"layers.{place}") for place, text in enumerate(texts)], form, sizes)
    return tuple(resolved.calls), resolved.form


def _own_network(settings: Settings, own: Any, inputs: torch.Tensor, goal: Goal) -> Network:
    """Copy an own module, or make one, and complete its lazy layers."""
    module = copy.deepcopy(own) if isinstance(own, nn.Module) else make_own(own, settings.module_arguments, own_name(own))
    kinds = (value.dtype for value in module.parameters() if value.is_floating_point())
    inputs = inputs.to(next(kinds, torch.float32))  # the network is brought to the dtype of X later
    complete_lazy(module, {"x": inputs})
    shape = output_shape(module, {"x": inputs})
    task = _task(settings, goal, shape[-1] if len(shape) == 2 else None)
    check_output(Form(tuple(shape[1:]), None), task.outputs, f"{goal.kind} with {task.loss}")
    summary = summarize(module, {"x": inputs})
    dense = sum(layer.multiply_adds for layer in summary.layers if layer.text.startswith("Linear("))
    return Network(module, task, None, summary.multiply_adds, dense)


def _task(settings: Settings, goal: Goal, found: int | None) -> Task:
    own = None if settings.loss is None or isinstance(settings.loss, str) else copy.deepcopy(settings.loss)
    return make_task(
        goal.kind,
        settings.loss if own is None else None,
        classes=goal.classes,
        columns=goal.columns,
        train_values=goal.values,
        scaling="none",
        own_loss=own,
        found_outputs=found,
    )


def work_of(module: nn.Module, calls: Sequence[Call], inputs: torch.Tensor) -> tuple[int, int]:
    """Return the multiply-adds of a row forward, and those of them in Linear layers; those of vectors are their weights."""
    weighted = [part for part in module.modules() if part._parameters]
    if inputs.dim() == 2 and all(isinstance(part, nn.Linear) for part in weighted):
        found = sum(part.weight.numel() for part in weighted if isinstance(part, nn.Linear))
        return found, found
    texts = {str(place): str(call) for place, call in enumerate(calls)}
    summary = summarize(module, {"x": inputs}, texts)
    return summary.multiply_adds, sum(layer.multiply_adds for layer in summary.layers if layer.text.startswith("Linear("))


def network_again(layers: Sequence[str]) -> nn.Sequential:
    """Build a network from resolved layer texts; no generator is moved."""
    with torch.random.fork_rng(devices=[]):
        return construct([parse_call(text, f"layers.{place}") for place, text in enumerate(layers)])
