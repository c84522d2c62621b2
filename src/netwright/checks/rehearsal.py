"""One batch through a copy of the network, forward and back: what it reads, what stays still, dies, fades or grows. Floor 10."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netwright.checks.ending import Purpose
from netwright.checks.findings import Finding
from netwright.checks.flow import POOLS, RECURRENT, SHAPES, WEIGHTED, Flow, Operation, watch
from netwright.data.batches import Batch
from netwright.engine.eager import train_step
from netwright.engine.trial import Make
from netwright.engine.update import PLAIN, Update
from netwright.errors import DivergedError
from netwright.model.summary import call_model
from netwright.model.weighing import FOCAL

FEWEST_ROWS = 16  # from which on a unit that no row wakes is called dead
MOSTLY_DEAD, HALF_DEAD = 0.9, 0.5
FADED, GROWN = 1e-5, 1e4
LARGE_INPUT, LARGE_TARGET = 30.0, 50.0
APART = 1e3  # ratio of the deviations of two columns
FIRST_LOSS = {"class": 3.0, "value": 10.0}
CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss", "BCELoss", FOCAL)
VALUE_LOSSES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")


@dataclass(frozen=True)
class Rehearsed:
    """A network with what it takes to train it on one batch; ``files`` are the user's, to tell lines of.

    ``update`` is what a step does to gradients.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    make: Make
    batch: Batch
    purpose: Purpose
    files: Sequence[str] = ()
    update: Update = PLAIN


def rehearse(one: Rehearsed) -> tuple[Flow, list[Finding]]:
    """Go forward and back once in training mode.

    Args:
        one: The network is a copy; its gradients and buffers change.

    Returns:
        What the forward pass did, and the findings.
    """
    model, batch = one.model.train(), one.batch
    flow = watch(model, batch.inputs, batch.lengths, one.files)
    found = _not_finite(flow, batch)
    if found or not isinstance(flow.output, Tensor):
        return flow, found
    loss = one.loss(flow.output, batch.target)
    model.zero_grad()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    found += _first_loss(one, flow, float(loss.detach()))
    found += _gradients(one, flow)
    found += _dead(flow, len(batch))
    found += _read(flow, batch)
    found += _fading(flow)
    return flow, found + target_scale(one.purpose)


def _not_finite(flow: Flow, batch: Batch) -> list[Finding]:
    for name, value in batch.inputs.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value.flatten(1))).any(dim=1).sum())
            why = f"{bad} of {len(value)} rows of a batch hold NaN or infinity, which spread to every weight in one step"
            return [Finding("not-finite", f"input {name}", why, "mend or leave out these rows", "error", "sure")]
    for operation in flow.operations:
        if not operation.finite and operation.name not in (
            "masked_fill",
            "full",
            "full_like",
            "triu",
            "tril",
            "where",
            "tensor",
        ):
            if isinstance(flow.output, Tensor) and bool(torch.isfinite(flow.output.detach()).all()):
                return []
            why = "the first forward pass gives NaN or infinity here, and so does everything after it"
            advice = "look for a division by 0, a logarithm of 0 or below, or numbers too large for exp"
            return [Finding("not-finite", operation.where, why, advice, "error", "sure")]
    return []


def _first_loss(one: Rehearsed, flow: Flow, loss: float) -> list[Finding]:
    """Tell a first loss far above that of a network that says nothing."""
    kind = "class" if one.purpose.loss in CLASS_LOSSES else "value" if one.purpose.loss in VALUE_LOSSES else None
    if kind is None or not math.isfinite(loss):
        return []
    nothing = torch.zeros_like(flow.output.detach())
    if one.purpose.loss == "NLLLoss":
        nothing -= math.log(max(one.purpose.outputs, 2))
    if one.purpose.loss == "BCELoss":
        nothing += 0.5
    expected = float(one.loss(nothing, one.batch.target))
    if expected <= 0 or loss <= FIRST_LOSS[kind] * expected:
        return []
    told = {"class": "the classes are guessed evenly", "value": "the network answers 0"}[kind]
    return [
        Finding(
            "first-loss",
            "the first batch",
            f"the loss is {loss:.3g}; {expected:.3g} is expected where {told}: inputs or first weights are too large, and the "
            "first steps only undo that",
            "bring the inputs to deviation 1, or use smaller first weights",
            figures={"loss": loss, "expected": expected},
        )
    ]


def _gradients(one: Rehearsed, flow: Flow) -> list[Finding]:
    """Tell parameters that the loss does not move."""
    model = one.model
    parameters = list(model.named_parameters())
    found = list(_frozen(parameters))
    unused = [name for name, value in parameters if value.requires_grad and value.grad is None]
    if unused:
        layers = _layers_of(unused)
        shown = ", ".join(layers[:4]) + (", ..." if len(layers) > 4 else "")
        found.append(
            Finding(
                "unused-parameters",
                f"layer {shown}",
                f"{len(unused)} parameters get no gradient: forward does not use them, or their path is cut (detach, no_grad, "
                "item, numpy), so that they never learn",
                "use them in forward, mend the path, or take them out",
                confidence="sure",
                figures={"parameters": len(unused)},
            )
        )
    found += unregistered(model, flow)
    still = {name for name, value in parameters if value.grad is not None and not bool(value.grad.any())}
    silent = _wholly(still, parameters)
    if silent and float(one.loss(flow.output.detach(), one.batch.target)) > 0:
        stays = still_after_steps(one, silent)
        if stays:
            found.append(
                Finding(
                    "zero-gradient",
                    f"layer {', '.join(stays[:4])}",
                    f"every gradient of {len(one.batch)} rows is exactly 0, also after two steps, so that it does not learn: what "
                    "follows is dead or constant, or other rows alone reach it",
                    "look at the layers after it: a dead ReLU, a softmax of one number, a rounding, a saturated activation, a gate",
                )
            )
    return found


def _frozen(parameters: Sequence[tuple[str, nn.Parameter]]) -> Iterator[Finding]:
    frozen = [name for name, value in parameters if not value.requires_grad]
    if frozen:
        layers = _layers_of(frozen)
        yield Finding(
            "frozen-parameters",
            f"layer {', '.join(layers[:4])}" + (", ..." if len(layers) > 4 else ""),
            f"{len(frozen)} parameters have requires_grad=False and stay as they are",
            "leave it so if it is meant (fine-tuning)",
            "note",
            "sure",
            {"parameters": len(frozen)},
        )


def _layers_of(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _wholly(still: set[str], parameters: Sequence[tuple[str, nn.Parameter]]) -> list[str]:
    """Return the layers of which every trained parameter has a gradient of 0."""
    of: dict[str, list[str]] = {}
    for name, value in parameters:
        if value.requires_grad:
            of.setdefault(name.rpartition(".")[0], []).append(name)
    return [layer for layer, names in of.items() if all(name in still for name in names)]


def still_after_steps(one: Rehearsed, layers: Sequence[str], steps: int = 2) -> list[str]:
    """Train a few steps and return those of some layers whose gradients are still exactly 0.

    A residual branch that begins at 0 holds back the gradients of its inside for one step only.
    """
    optimizer = one.make(one.model)
    try:
        for _ in range(steps):
            train_step(one.model, one.loss, optimizer, one.batch, one.update)
        one.model.zero_grad()
        one.loss(call_model(one.model, one.batch.inputs, one.batch.lengths), one.batch.target).backward()  # type: ignore[no-untyped-call]
    except DivergedError:
        return []
    moved = {
        name.rpartition(".")[0]
        for name, value in one.model.named_parameters()
        if value.grad is not None and bool(value.grad.any())
    }
    return [layer for layer in layers if layer not in moved]


def unregistered(model: nn.Module, flow: Flow | None = None) -> list[Finding]:
    """Return layers and parameters in lists or dictionaries, which the optimizer does not see, and those made on the way.

    Args:
        model: The network.
        flow: Of a forward pass, to find weights that were made in it.
    """
    known = {id(value) for value in (*model.modules(), *model.parameters(), *model.buffers())}
    found: list[Finding] = []
    held: set[int] = set()
    for path, module in model.named_modules():
        if type(module).__module__.startswith("torch."):
            continue
        for name, value in vars(module).items():
            if name.startswith("_") and name in ("_parameters", "_buffers", "_modules"):
                continue
            lost = [part for part in _parts(value) if id(part) not in known]
            lost = [part for part in lost if isinstance(part, Tensor) or list(part.parameters())]
            if not lost:
                continue
            weights = [weight for part in lost for weight in ([part] if isinstance(part, Tensor) else part.parameters())]
            resting = not any(weight.requires_grad for weight in weights)  # kept out of the optimizer, it may be on purpose
            held |= set(map(id, weights))
            where = f"{path}.{name}" if path else f"self.{name}"
            single = isinstance(lost[0], Tensor)
            kind = {"list": "List", "tuple": "List", "dict": "Dict"}.get(type(value).__name__, "")
            kind = f"nn.{'Parameter' if single else 'Module'}{kind}"
            found.append(
                Finding(
                    "unregistered-layers",
                    where,
                    f"a {type(value).__name__} holds {len(lost)} layer(s) or parameter(s) that torch does not see there: they are "
                    f"{'not' if resting else 'not trained,'} saved or moved to a GPU"
                    + (", and are others when the network is loaded again" if resting else ""),
                    f"make it {kind}",
                    "warning" if resting else "error",
                    "sure",
                )
            )
    made = [] if flow is None else [operation for operation in flow.operations if _made_here(operation, known | held)]
    if made:
        found.append(
            Finding(
                "layer-made-in-forward",
                made[0].where,
                "its weights are no parameters of the network: they are made anew in every call, or stand outside of it, and never "
                "learn",
                "make the layer once, in __init__, as self.NAME, and call it in forward",
                "error",
                "sure",
            )
        )
    return found


def _parts(value: Any, depth: int = 0) -> list[Any]:
    """Return the modules and trained tensors in lists, tuples and dictionaries."""
    if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad and value.is_leaf):
        return [value]
    if depth > 2 or isinstance(value, str | bytes):
        return []
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    return [part for entry in inside for part in _parts(entry, depth + 1)]


def _made_here(operation: Operation, known: set[int]) -> bool:
    weight = operation.weight
    return weight is not None and weight.is_leaf and isinstance(weight, nn.Parameter) and id(weight) not in known


def _dead(flow: Flow, rows: int) -> list[Finding]:
    """Tell ReLUs whose units give 0 for every row."""
    found: list[Finding] = []
    for operation in flow.operations:
        if operation.dead is None or rows < FEWEST_ROWS:
            continue
        dead, units = operation.dead
        share = dead / units
        if dead < 4 and share < 1 or share < HALF_DEAD:
            continue
        whole = share >= 1
        why = "no unit" if whole else f"{dead} of {units} units do not"
        why = f"{why} wakes for any of the {rows} rows" if whole else f"{why} wake for any of the {rows} rows"
        found.append(
            Finding(
                "dead-units",
                operation.where,
                f"{why} of a batch; a ReLU that always gives 0 passes no gradient",
                "bring the inputs to mean 0 and deviation 1, look at the bias before it, or take LeakyReLU()",
                "warning" if share >= MOSTLY_DEAD else "note",
                "sure" if whole else "likely",
                {"dead": dead, "units": units},
            )
        )
    return found


def _read(flow: Flow, batch: Batch) -> list[Finding]:
    """Tell inputs far from mean 0 and deviation 1 where the first weights read them."""
    for operation in flow.named((*WEIGHTED, *RECURRENT)):
        first: Operation | None = operation
        value = operation.given[0]
        number = operation.sources[0] if operation.sources else None
        while number is not None and number >= 0:
            first = flow.operations[number]
            if first.name not in (*SHAPES, *POOLS, "cat", "pad", "interpolate"):
                break
            number = first.sources[0] if first.sources else None
        if number != -1 or not value.is_floating_point() or value.numel() < 8:
            continue
        told = _out_of_scale(value.detach().float())
        if told:
            return [
                Finding(
                    "input-scale",
                    f"what {operation.where} reads",
                    f"{told}; first weights are made for mean 0 and deviation 1, so that learning is slow or uneven",
                    "bring columns to mean 0 and deviation 1, as the default preparation does (of an estimator standardize=True), "
                    "divide images by 255, or begin with BatchNorm",
                )
            ]
    return []


def _out_of_scale(value: Tensor) -> str:
    mean, deviation = float(value.mean()), float(value.std())
    if deviation > LARGE_INPUT or (abs(mean) > LARGE_INPUT * max(deviation, 1e-12) and abs(mean) > 1):
        return f"its mean is {mean:.3g} and its deviation {deviation:.3g}"
    if value.dim() == 2 and value.shape[1] > 1 and len(value) > 2:
        spreads = value.std(dim=0)
        spreads = spreads[spreads > 0]
        if len(spreads) > 1 and float(spreads.max()) > APART * float(spreads.min()) and float(spreads.max()) > 10:
            return f"its columns have deviations from {float(spreads.min()):.2g} to {float(spreads.max()):.3g}"
    return ""


def target_scale(purpose: Purpose) -> list[Finding]:
    """Return whether the target is far from deviation 1 as the loss reads it."""
    if purpose.loss not in VALUE_LOSSES or not purpose.target.is_floating_point():
        return []
    target = purpose.target[~torch.isnan(purpose.target)].double()
    size = float(target.square().mean().sqrt()) if len(target) else 0.0
    if size <= LARGE_TARGET:
        return []
    return [
        Finding(
            "target-scale",
            "the target",
            f"its size is about {size:.3g} as the loss reads it; a new network answers about 0, and its first steps only go there",
            "divide it by its deviation, as target_scaling of tables and arrays does by default (an estimator by standardize=True)",
            figures={"size": size},
        )
    ]


def _fading(flow: Flow) -> list[Finding]:
    """Tell gradients and activations that fade or grow from layer to layer, by their size per row."""
    steps = [operation for operation in flow.named(WEIGHTED) if operation.output.grad is not None]
    sizes = [float(step.output.grad.norm()) for step in steps if step.output.grad is not None]
    found: list[Finding] = []
    if len(steps) > 2 and sizes[-1] > 0 and sizes[0] > 0:
        ratio = sizes[0] / sizes[-1]
        if ratio < FADED or ratio > GROWN:
            fades = ratio < FADED
            told = "a residual, BatchNorm, or ReLU with fewer layers" if fades else "BatchNorm, or smaller first weights"
            found.append(
                Finding(
                    "vanishing-gradient" if fades else "exploding-gradient",
                    steps[0].where,
                    f"its gradient is {ratio:.2g} times that of the last layer, {len(steps)} layers with weights later: "
                    + ("the first layers hardly learn" if fades else "the first steps are far too large there"),
                    f"use {told} (Glorot and Bengio, 2010)",
                    confidence="sure",
                    figures={"ratio": ratio, "layers": len(steps)},
                )
            )
    seen = [operation for operation in flow.named(WEIGHTED) if operation.size > 0]
    if len(seen) > 1 and seen[-1].size > GROWN * max(1.0, seen[0].size):
        why = f"activations are {seen[-1].size:.3g} here and {seen[0].size:.3g} at the first layer"
        found.append(Finding("exploding-activations", seen[-1].where, why, "use smaller first weights or a normalisation"))
    return found
