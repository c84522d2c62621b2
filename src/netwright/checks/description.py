"""The order of layers and the optimizer: what is missing, odd, or out of all measure. Floor 10."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from netwright.checks.findings import Finding
from netwright.checks.flow import ACTIVATIONS, CONVOLUTIONS, DROPOUTS, POOLS, SHAPES, Flow, Operation

LINEAR = ("linear", *CONVOLUTIONS)
PASSED = (*SHAPES, *DROPOUTS, *POOLS, "batch_norm", "mean", "sum", "pad", "__getitem__")
STRONG = 0.9
SMALL = 300  # trained numbers below which dropout rather harms
FEW_ROWS = 4
SEEN = 0.26  # share of a kernel that ever meets the input
STRONG_L1 = 0.1
SHORTEST = 1e-6  # way of all weights in a step that is as good as none
NOT_SCALED = ("SGD", "ASGD")  # optimizers whose step is as long as the gradient says
# lr from which on, and below which, an optimizer hardly ever works (the defaults are 1e-3 for Adam and 1e-2 for RMSprop)
RATES = {
    "Adam": (0.1, 1e-7), "AdamW": (0.1, 1e-7), "Adamax": (0.3, 1e-7), "NAdam": (0.1, 1e-7), "RAdam": (0.1, 1e-7),
    "RMSprop": (0.1, 1e-7), "SGD": (10.0, 1e-6), "Adagrad": (10.0, 1e-6), "ASGD": (10.0, 1e-6), "LBFGS": (50.0, 1e-6),
    "Adadelta": (100.0, 1e-5), "Rprop": (1.0, 1e-7),
}  # fmt: skip
DECOUPLED = ("AdamW",)


def layers(flow: Flow, parameters: int) -> list[Finding]:
    """Return what is odd in the order of operations.

    Args:
        flow: Of a forward pass in training mode.
        parameters: The trained numbers of the network.
    """
    found: list[Finding] = []
    for operation in flow.operations:
        if operation.name in LINEAR:
            found += _no_activation(flow, operation)
            found += _alike(operation)
        if operation.name == "linear":
            found += _after_softmax(flow, operation)
        if operation.name in CONVOLUTIONS:
            found += _beyond(operation)
        if operation.name == "batch_norm":
            found += _normalised(flow, operation)
        if operation.name in DROPOUTS:
            found += _dropout(operation, parameters)
    return found


def _no_activation(flow: Flow, second: Operation) -> list[Finding]:
    """Tell two linear layers with nothing between them that bends; a narrow one between wide ones is a factorisation."""
    before = flow.source(second)
    first = flow.back(before, PASSED, alone=True)
    if first is None or first.name not in LINEAR or len(flow.readers.get(first.number, ())) != 1:
        return []
    one, two = first.weight, second.weight
    if one is None or two is None or one.dim() < 2 or two.dim() < 2 or one is two:
        return []
    if _grouped(first) or _grouped(second) or _uneven(one) or _uneven(two):
        return []
    if one.shape[0] < min(one.shape[1], two.shape[0]):
        return []
    return [
        Finding(
            "missing-activation",
            f"{first.where} and {second.where}",
            "no activation stands between them: two linear layers in a row can do no more than one",
            "put ReLU() or another activation between them",
            confidence="sure" if first.name == second.name == "linear" and before is first else "likely",
        )
    ]


def _alike(operation: Operation) -> list[Finding]:
    """Tell units that begin with the same weights; all zero is a known way to begin the last layer of a branch."""
    weight = operation.weight
    if weight is None or len(weight) < 2 or weight[0].numel() < 2 or not bool(weight.any()):
        return []
    if not bool((weight == weight[:1]).all()):
        return []
    return [
        Finding(
            "identical-units",
            operation.where,
            f"all {len(weight)} units begin with the same weights, so that they get the same gradients and stay the same unit",
            "leave the first weights to torch, or draw them at random (nn.init.kaiming_uniform_)",
            confidence="sure",
        )
    ]


def _after_softmax(flow: Flow, operation: Operation) -> list[Finding]:
    before = flow.back(flow.source(operation), (*SHAPES, *DROPOUTS))
    if before is None or before.name != "softmax" or before.output.dim() != 2:
        return []
    return [
        Finding(
            "softmax-between-layers",
            before.where,
            "softmax as a hidden activation lets units compete for a sum of 1: signals and gradients become small",
            "use ReLU(), GELU() or Tanh() between layers",
        )
    ]


def _grouped(operation: Operation) -> bool:
    """Tell whether a convolution works on groups of channels, as the first half of a separable one does."""
    weight = operation.weight
    if operation.name not in CONVOLUTIONS or weight is None:
        return False
    return operation.given[0].shape[1 if operation.given[0].dim() == weight.dim() else 0] != weight.shape[1]


def _uneven(weight: torch.Tensor) -> bool:
    """Tell whether a kernel is one half of a factorised one, as (1, 3) before (3, 1)."""
    return len(set(weight.shape[2:])) > 1


def _beyond(operation: Operation) -> list[Finding]:
    """Tell a kernel of which most weights only ever meet padding."""
    module, weight = operation.module, operation.weight
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or weight is None or module.padding_mode != "zeros":
        return []
    seen, total = 1, 1
    sides = operation.given[0].shape[2:]
    for axis, side in enumerate(sides):
        kernel, step, gap = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        pad = (
            gap * (kernel - 1) // 2
            if module.padding == "same"
            else 0
            if isinstance(module.padding, str)
            else module.padding[axis]
        )
        places = range(-pad, side + pad - gap * (kernel - 1), step)
        seen *= sum(any(0 <= place + tap * gap < side for place in places) for tap in range(kernel))
        total *= kernel
    if seen / total > SEEN:
        return []
    told = " x ".join(map(str, sides))
    return [
        Finding(
            "kernel-beyond-input",
            operation.where,
            f"its input is only {told} places large: {total - seen} of the {total} weights of each kernel meet nothing but "
            "padding and never learn",
            "use less stride or pooling before, or a smaller kernel here",
            confidence="sure",
            figures={"weights": total, "used": seen},
        )
    ]


def _normalised(flow: Flow, operation: Operation) -> list[Finding]:
    found: list[Finding] = []
    before = flow.source(operation)
    dropped = flow.back(before, (*SHAPES, *ACTIVATIONS))
    if dropped is not None and dropped.name in DROPOUTS:
        found.append(
            Finding(
                "batchnorm-after-dropout",
                operation.where,
                f"{dropped.where} stands right before it: dropout changes the variance in training but not in use, and BatchNorm "
                "learns the former (Li and others, 2019)",
                "put Dropout after BatchNorm and the activation",
                "note",
            )
        )
    if before is not None and before.name in LINEAR and len(before.given) > 2:
        found.append(
            Finding(
                "bias-before-batchnorm",
                before.where,
                "BatchNorm takes the mean away, so that the bias before it does nothing",
                "write bias=False; it saves a little",
                "note",
                "sure",
            )
        )
    return found


def _dropout(operation: Operation, parameters: int) -> list[Finding]:
    rate = operation.settings.get("p", operation.settings.get("1", 0.5))
    if not isinstance(rate, int | float):
        return []
    if rate >= STRONG:
        left = "nothing is left" if rate >= 1 else f"only {100 * (1 - rate):.0f} % of the numbers pass in training"
        advice = f"p is the share that is dropped, not kept: did you mean {1 - rate:.2g}?"
        return [
            Finding(
                "strong-dropout", operation.where, f"p={rate:g}: {left}", advice, "error" if rate >= 1 else "warning", "sure"
            )
        ]
    if rate > 0 and parameters < SMALL:
        why = f"the network has {parameters} trained numbers; dropout is made for networks that can learn rows by heart"
        return [Finding("dropout-in-small-network", operation.where, why, "leave it out and compare", "note", "hint")]
    return []


def few_rows(model: nn.Module, rows: int, setting: str) -> list[Finding]:
    """Return whether BatchNorm sees too few rows at a time to know a mean.

    Args:
        model: The network.
        rows: Rows that go forward at a time.
        setting: That decides it.
    """
    normalised = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    ]
    if not normalised or rows >= FEW_ROWS:
        return []
    why = f"{setting} is {rows}: BatchNorm takes mean and deviation from so few rows, which is mostly noise"
    where = f"layer {normalised[0]} BatchNorm"
    return [
        Finding(
            "batchnorm-of-few-rows", where, why, "use 16 rows or more, or GroupNorm() or LayerNorm()", figures={"rows": rows}
        )
    ]


def optimizer(name: str, group: dict[str, Any]) -> list[Finding]:
    """Return settings of an optimizer that are out of all measure.

    Args:
        name: Its class in torch.optim.
        group: Its settings, as in ``param_groups``.

    Example:
        >>> [found.check for found in optimizer("Adam", {"lr": 1.0, "weight_decay": 0.0})]
        ['learning-rate']
    """
    found: list[Finding] = []
    rate, decay, momentum = (float(group.get(key) or 0.0) for key in ("lr", "weight_decay", "momentum"))
    high, low = RATES.get(name, (math.inf, 0.0))
    where = f"training.optimizer {name}(lr={rate:g})"
    effective = rate / (1 - momentum) if name == "SGD" and 0 <= momentum < 1 else rate
    if rate == 0:
        found.append(Finding("learning-rate", where, "nothing is learned at a rate of 0", "set lr", "error", "sure"))
    elif effective >= high:
        beside = f" (with momentum {momentum:g} as {effective:g})" if effective > rate else ""
        why = f"{rate:g}{beside} is far above what {name} usually works with; the loss jumps or diverges"
        found.append(Finding("learning-rate", where, why, f"try {_usual(name):g}", figures={"lr": rate}))
    elif rate < low:
        why = f"{rate:g} is far below what {name} usually works with; hardly anything is learned"
        found.append(Finding("learning-rate", where, why, f"try {_usual(name):g}", figures={"lr": rate}))
    pull = decay * rate if name in DECOUPLED else decay
    if (name in DECOUPLED and pull >= 0.05) or (name not in DECOUPLED and decay >= 0.5):
        why = f"weight_decay={decay:g} pulls the weights to 0 faster than the data can move them"
        advice = "try 0.01 for AdamW, 0.0001 for others"
        found.append(Finding("weight-decay", where, why, advice, figures={"weight_decay": decay}))
    betas = group.get("betas") or (0.0, 0.0)
    if momentum >= 0.999 or float(betas[0]) > max(float(betas[1]), 0.98):
        told = f"momentum={momentum:g}" if momentum else f"betas={tuple(betas)}"
        why = f"{told}: gradients of a thousand steps ago count as much as those of now"
        found.append(Finding("momentum", where, why, "try momentum=0.9, or betas=(0.9, 0.999)"))
    return found


def step(name: str, group: dict[str, Any], l1: float | None, clip_grad_norm: float | None) -> list[Finding]:
    """Return what a step does to gradients that is out of all measure.

    Args:
        name: The class of the optimizer in torch.optim.
        group: Its settings, as in ``param_groups``.
        l1: The penalty on the magnitudes of weights.
        clip_grad_norm: What the norm of the gradients is at most.

    Example:
        >>> [found.check for found in step("SGD", {"lr": 0.01}, 0.5, 1e-6)]
        ['weight-decay', 'learning-rate']
    """
    found: list[Finding] = []
    if l1 is not None and l1 >= STRONG_L1:
        why = f"l1={l1:g} pulls every weight to 0, with a force that the gradient of a mean loss hardly ever has"
        found.append(Finding("weight-decay", "training.l1", why, "try 0.0001", figures={"l1": l1}))
    rate = float(group.get("lr") or 0.0)
    if clip_grad_norm is not None and name in NOT_SCALED and rate * clip_grad_norm < SHORTEST:
        why = (
            f"a step of {name}(lr={rate:g}) moves all weights together by {rate * clip_grad_norm:g} at most, by their 2-norm"
        )
        advice = "clip to a norm near 1, or use a larger lr"
        figures = {"clip_grad_norm": clip_grad_norm, "lr": rate}
        found.append(Finding("learning-rate", "training.clip_grad_norm", why, advice, figures=figures))
    return found


def _usual(name: str) -> float:
    return {"SGD": 0.01, "ASGD": 0.01, "LBFGS": 1.0, "Adadelta": 1.0, "Adagrad": 0.01, "Rprop": 0.01}.get(name, 0.001)
