"""The part of an ejected script that makes network, loss and optimizer. Floor 10."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from netwright import seeding
from netwright.config.calls import CONTAINERS, Call
from netwright.exporting.printing import WIDTH, literal, printed
from netwright.exporting.recipe import Page, Recipe
from netwright.exporting.script_transfer import held_parts, start_parts
from netwright.model import build, focal, masked, modules
from netwright.model.weighing import FOCAL
from netwright.training.groups import Group, tupled

MASKS = ("Steps", "_steps", "_first", "lengths_after", "_end", "_over_time", "_through", "_sequence", "Masked")
NAMES = {f"modules.{name}": name for name in dir(modules) if inspect.isclass(getattr(modules, name))}


def write_model(page: Page, recipe: Recipe) -> None:
    """Write the sections of the network, and of loss and optimizer."""
    page.need("import torch", "import numpy as np", "from torch import nn")
    parts = [
        f"SEED = {recipe.learning.seed}\nSTREAMS = {literal(seeding.STREAMS, 10)}",
        printed(seeding.stream),
        printed(seeding.torch_seed),
    ]
    if recipe.own is not None:
        page.need(*recipe.own.imports)
        parts += recipe.own.text.split("\n\n\n")
        built = (
            f"model = {recipe.own.name}({', '.join(f'{name}={value!r}' for name, value in recipe.own.arguments.items())})"
        )
        if recipe.own.lazy:
            built += "\nwith torch.no_grad():\n    model.eval()(X[:2])  # lazy layers take their sizes from the first rows"
    elif recipe.backbone is not None:
        page.need(f"import {recipe.backbone.library}")
        built = f"model = {recipe.backbone}"
    else:
        calls = recipe.layers or ()
        parts += _own_layers(page, calls, recipe.gathered == "padded")
        kind = "Masked" if recipe.gathered == "padded" else "nn.Sequential"
        last = ["channels_first=True"] if kind == "Masked" and _channels_first(recipe) else []
        built = f"model = {kind}(\n" + "".join(f"    {text},\n" for text in [*map(_layer, calls), *last]) + ")"
    seeded = 'torch.manual_seed(torch_seed(SEED, "initialisation"))'
    if recipe.own is not None:
        page.need("import random")
        seeded = 'initial_seed = torch_seed(SEED, "initialisation")\ntorch.manual_seed(initial_seed)'
        seeded += "\nnp.random.seed(initial_seed % 2**32)\nrandom.seed(initial_seed)"
    parts.append(f"{seeded}\n{built}")
    parts += start_parts(page, recipe)
    if recipe.learning.channels_last:
        parts.append("model = model.to(memory_format=torch.channels_last)")
    page.section("The network", parts)
    page.section("Loss and optimizer", _loss_and_optimizer(page, recipe))


def _channels_first(recipe: Recipe) -> bool:
    return recipe.preparation.steps is not None and recipe.preparation.steps.channels_first


def _loss_and_optimizer(page: Page, recipe: Recipe) -> list[str]:
    """Return the paragraphs; the generators are seeded for training first."""
    loss = ", ".join(f"{name}={_loss_argument(name, value)}" for name, value in recipe.loss.kwargs)
    optimizer = ", ".join(f"{name}={tupled(value)!r}" for name, value in recipe.optimizer.kwargs)
    parameters = "model.parameters()"
    text = f"loss_function = {'' if recipe.loss.name == FOCAL else 'nn.'}{recipe.loss.name}({loss})"
    text += '\n\ntraining_seed = torch_seed(SEED, "training")  # what dropout draws\ntorch.manual_seed(training_seed)'
    if recipe.own is not None or recipe.stages:
        parameters = "[parameter for parameter in model.parameters() if parameter.requires_grad]"
    if recipe.own is not None:
        page.need("import random")
        text += "\nnp.random.seed(training_seed % 2**32)\nrandom.seed(training_seed)"
    if recipe.groups:
        text += "\nnamed = dict(model.named_parameters())"
        parameters = "[\n" + "".join(f"    {_group(group)},\n" for group in recipe.groups) + "]"
    text += f"\noptimizer = torch.optim.{recipe.optimizer.name}({parameters}{', ' if optimizer else ''}{optimizer})"
    return [*_own_loss(recipe), *held_parts(recipe), text]


def _group(group: Group) -> str:
    """Return the code of a group of parameters."""
    own = "".join(f', "{name}": {value!r}' for name, value in group.arguments.items())
    return f'{{"params": [named[name] for name in {literal(list(group.names), 8)}]{own}}}'


def _own_loss(recipe: Recipe) -> list[str]:
    """Return the loss that torch.nn does not have."""
    if recipe.loss.name != FOCAL:
        return []
    return [f"LEAST = {focal.LEAST}", printed(focal.FocalLoss)]


def _loss_argument(name: str, value: Any) -> str:
    return f"torch.tensor({value!r})" if name in ("weight", "pos_weight") else repr(value)


def _layer(call: Call, indent: int = 4) -> str:
    """Return the code that makes a layer."""
    prefix = "" if call.name in build.OWN else "nn."
    if call.name in CONTAINERS:
        children = [_layer(child, indent + 4) for child in call.children()]
        parts = [*children, *(f"{name}={value!r}" for name, value in call.kwargs)]
        line = f"{prefix}{call.name}({', '.join(parts)})"
        if len(line) + indent < WIDTH and "\n" not in line:
            return line
        inside = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
        return f"{prefix}{call.name}(\n{inside}{' ' * indent})"
    return f"{prefix}{call.name}({', '.join(f'{name}={tupled(value)!r}' for name, value in call.kwargs)})"


def _every(calls: Sequence[Call]) -> Iterator[str]:
    for call in calls:
        yield call.name
        yield from _every(call.children())


def _own_layers(page: Page, calls: Sequence[Call], padded: bool) -> list[str]:
    """Return the layers that torch.nn does not have; all of them, and the masks, for sequences of different length."""
    used = set(_every(calls))
    page.need(*(["import math"] if "PeriodicEmbeddings" in used else []))
    if not padded:
        return [printed(build.OWN[name], ("lengths", "padding")) for name in build.OWN if name in used]
    page.need("from dataclasses import dataclass, replace", "from torch.nn.utils.rnn import pack_padded_sequence")
    page.need("from torch import Tensor", "from torch.nn.utils.rnn import pad_packed_sequence")
    named = ("Residual", "Parallel", "LastStep", "MeanOverTime", "Transpose")  # the masks ask for these
    layers = [printed(build.OWN[name]) for name in build.OWN if name in used or name in named]
    return [printed(modules.read_alone), *layers, *mask_sources()]


def mask_sources() -> list[str]:
    """Return the code that keeps padding away from results."""
    kept = {
        name: inspect.getsource(masked).partition(f"\n{name} = ")[2].partition("\n")[0] for name in ("KEEP_ZERO", "ENDS")
    }
    constants = "\n".join(f"{name} = {value.replace('modules.', '')}" for name, value in kept.items())
    parts = {name: printed(getattr(masked, name), renamed=NAMES) for name in MASKS}
    return [constants, *parts.values()]


def own_source(text: str, name: str) -> tuple[list[str], str, set[str]]:
    """Return the part of a Python file that one of its classes needs, in order, and the names it makes.

    Args:
        text: The file.
        name: The class.

    Returns:
        Lines of imports; the code, paragraphs two empty lines apart; names at its top level.
    """
    lines, tree = text.splitlines(), ast.parse(text)
    bound = {place: _bound(item) for place, item in enumerate(tree.body)}
    wanted, chosen, grown = {name}, set(), True
    while grown:
        grown = False
        for place, item in enumerate(tree.body):
            if place not in chosen and bound[place] & wanted and not _is_main(item):
                chosen.add(place)
                wanted |= {node.id for node in ast.walk(item) if isinstance(node, ast.Name)}
                grown = True
    needed = [item for place, item in enumerate(tree.body) if place in chosen or _is_future(item)]
    imports, parts = [], []
    for item in needed:
        if isinstance(item, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(item))
            continue
        first = min([item.lineno, *(decorator.lineno for decorator in getattr(item, "decorator_list", []))])
        parts.append("\n".join(lines[first - 1 : item.end_lineno]))
    names = {found for place in chosen for found in bound[place]}
    return imports, "\n\n\n".join(parts), names


def _is_future(item: ast.stmt) -> bool:
    return isinstance(item, ast.ImportFrom) and item.module == "__future__"


def _is_main(item: ast.stmt) -> bool:
    return isinstance(item, ast.If) and "__name__" in ast.unparse(item.test)


def _bound(item: ast.stmt) -> set[str]:
    """Return the names that a statement makes."""
    found = set()
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {item.name}
    for node in ast.walk(item):
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return found
