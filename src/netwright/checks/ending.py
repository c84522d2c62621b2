"""How a network ends against what its loss reads: activations twice, missing or in the way, and losses that spread. Floor 10."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netwright.checks.findings import Finding
from netwright.checks.flow import ACTIVATIONS, DROPOUTS, RECURRENT, SHAPES, WEIGHTED, Flow, Operation, watch_call
from netwright.config.calls import OBJECT, parse_call
from netwright.errors import first_line
from netwright.model.task import FITTING, Task
from netwright.model.weighing import FOCAL

SOFTMAX_LOSSES = ("CrossEntropyLoss",)
SIGMOID_LOSSES = ("BCEWithLogitsLoss", "MultiLabelSoftMarginLoss")
VALUE_LOSSES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
KNOWN = frozenset(name for names in FITTING.values() for name in names)
RANGES = {  # what an activation can give
    "relu": (0.0, float("inf")), "sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu6": (0.0, 6.0),
    "softplus": (0.0, float("inf")), "hardtanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0), "elu": (-1.0, float("inf")),
    "gelu": (-0.17, float("inf")), "silu": (-0.2785, float("inf")), "log_softmax": (float("-inf"), 0.0),
    "logsigmoid": (float("-inf"), 0.0), "softsign": (-1.0, 1.0), "selu": (-1.7581, float("inf")), "exp": (0.0, float("inf")),
    "hardswish": (-0.375, float("inf")), "mish": (-0.3089, float("inf")), "celu": (-1.0, float("inf")),
}  # fmt: skip
SQUASHING = ("relu", "relu6", "tanh", "hardtanh", "softsign", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish")
OUT_OF_REACH = 0.02  # share of train targets beyond what the last activation can give
ROWS = 7  # of the pair that a loss is tried with: an unusual number


@dataclass(frozen=True)
class Purpose:
    """What a network is for.

    ``loss`` is the name of a class of torch.nn, or of the user's own function; ``target`` that of some train rows, as the
    loss reads it; ``settings`` the arguments of the loss.
    """

    loss: str
    kind: str
    outputs: int
    target: Tensor
    log_input: bool = True


def purpose_of(task: Task, target: Tensor) -> Purpose:
    """Return what a network of a task is for, with the target of some train rows, as the loss reads it."""
    call = None if task.loss.startswith(OBJECT) else parse_call(task.loss, "training.loss")
    name = task.loss.removeprefix(OBJECT) if call is None else call.name
    log_input = call is None or bool(call.keywords.get("log_input", True))
    return Purpose(name, task.kind, task.outputs, target, log_input)


def endings(flow: Flow, purpose: Purpose) -> list[Finding]:
    """Return what is wrong between the last operation of a network and its loss.

    Args:
        flow: Of a forward pass.
        purpose: Loss and target.
    """
    last = flow.back(flow.last, (*SHAPES, *DROPOUTS, "__getitem__"))
    if last is None or not isinstance(flow.output, Tensor):
        return []
    found: list[Finding] = []
    if last.name == "softmax" and last.output.shape[_axis(last)] == 1:
        found.append(
            Finding(
                "softmax-of-one",
                last.where,
                "the softmax of a single number is always 1, whatever the weights are, so that nothing can be learned",
                "take Softmax out and let BCEWithLogitsLoss or MSELoss read the plain output",
                "error",
                "sure",
            )
        )
        return found
    classes = not purpose.target.is_floating_point()
    # FocalLoss applies the softmax to classes, the sigmoid to outputs that say yes or no
    if purpose.loss in SOFTMAX_LOSSES or (purpose.loss == FOCAL and classes):
        found += _before_softmax(flow, last)
    elif purpose.loss in (*SIGMOID_LOSSES, FOCAL):
        found += _before_sigmoid(last, purpose)
    elif purpose.loss in ("NLLLoss", "BCELoss"):
        found += _before_logarithm(flow, last, purpose)
    elif purpose.loss == "PoissonNLLLoss":
        found += _before_rates(last, purpose)
    elif purpose.loss in VALUE_LOSSES:
        found += _before_values(last, purpose)
    elif purpose.kind != "regression" and purpose.loss not in KNOWN:
        found += _before_own_loss(last, purpose)
    return found


def _axis(operation: Operation) -> int:
    axis = operation.settings.get("dim", operation.settings.get("1", -1))
    return axis if isinstance(axis, int) else -1


def _before_softmax(flow: Flow, last: Operation) -> list[Finding]:
    values = flow.output.detach().float()
    shares = values.dim() == 2 and values.shape[1] > 1 and bool((values >= 0).all())
    summing = shares and bool(((values.sum(dim=1) - 1).abs() < 1e-3).all())
    if last.name == "log_softmax":
        return [
            Finding(
                "activation-before-loss",
                last.where,
                "CrossEntropyLoss takes the logarithm of the softmax itself; done twice it changes nothing but costs time",
                "leave LogSoftmax out, or write NLLLoss()",
                "note",
                "sure",
            )
        ]
    if last.name == "softmax" or summing or last.name in ("sigmoid", "logsigmoid"):
        name = last.name if last.name in ("sigmoid", "logsigmoid") else "softmax"
        return [
            Finding(
                "activation-before-loss",
                last.where,
                f"CrossEntropyLoss applies softmax itself; it reads numbers between 0 and 1 after {name}, so that the gradients "
                "are small and the loss cannot come near 0",
                "end with the linear layer; probabilities are made when predicting",
                confidence="sure",
            )
        ]
    return _squashed(last, "CrossEntropyLoss")


def _before_sigmoid(last: Operation, purpose: Purpose) -> list[Finding]:
    if last.name in ("sigmoid", "softmax", "hardsigmoid", "logsigmoid", "log_softmax"):
        return [
            Finding(
                "activation-before-loss",
                last.where,
                f"{purpose.loss} applies the sigmoid itself; after {last.name} it is done twice: probabilities stay between "
                "0.5 and 0.73, and gradients are small",
                "end with the linear layer; probabilities are made when predicting",
                confidence="sure",
            )
        ]
    return _squashed(last, purpose.loss)


def _before_own_loss(last: Operation, purpose: Purpose) -> list[Finding]:
    """Tell an activation that is applied again to predict, as nothing says that a loss of one's own reads probabilities."""
    applied = "softmax" if purpose.kind != "multilabel" and not purpose.target.is_floating_point() else "sigmoid"
    if last.name != applied:
        return []
    told = "they are too near to each other" if applied == "softmax" else "none is below 0.5"
    why = f"beside a loss of one's own outputs are read as logits: probabilities get the {applied} again, so that {told}"
    advice = "end with the linear layer and apply it in the loss" + (
        ", or hand over nn.BCELoss()" if applied == "sigmoid" else ""
    )
    return [Finding("activation-before-loss", last.where, why, advice, "error", "sure")]


def _squashed(last: Operation, loss: str) -> list[Finding]:
    """Tell an activation that bounds the logits of a classification."""
    if last.name not in SQUASHING:
        return []
    low, high = RANGES[last.name]
    lost = f"never below {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
    return [
        Finding(
            "activation-on-output",
            last.where,
            f"{loss} expects any number, but {last.name} leaves {lost}, so that the network cannot be sure of a class",
            "leave the last activation out",
            confidence="sure" if last.name in ("relu", "relu6", "tanh", "hardtanh") else "likely",
        )
    ]


def _before_logarithm(flow: Flow, last: Operation, purpose: Purpose) -> list[Finding]:
    plain = last.name in (*WEIGHTED, *RECURRENT, *SQUASHING)
    if purpose.loss == "BCELoss":
        if not plain:
            return []
        why = "BCELoss expects probabilities between 0 and 1 but reads any number"
        return [
            Finding("missing-sigmoid", last.where, why, "end with Sigmoid(), or write BCEWithLogitsLoss()", "error", "sure")
        ]
    sums = flow.output.detach().float()
    sums = sums.logsumexp(dim=-1) if sums.dim() > 1 else sums
    if last.name == "log_softmax" or bool((sums.abs() < 1e-2).all()) or not (plain or last.name in ("softmax", "sigmoid")):
        return []
    why = f"NLLLoss expects logarithms of probabilities but reads what {last.name} gives; the loss falls below any bound"
    return [
        Finding(
            "missing-log-softmax",
            last.where,
            why,
            "end with LogSoftmax(dim=1), or write CrossEntropyLoss()",
            "error",
            "sure",
        )
    ]


def _before_rates(last: Operation, purpose: Purpose) -> list[Finding]:
    if purpose.log_input and last.name in ("exp", "softplus", "relu", "softmax", "sigmoid"):
        why = f"PoissonNLLLoss reads the logarithm of the rate, but {last.name} leaves no number below 0, a rate below 1"
        return [Finding("activation-on-output", last.where, why, "leave it out, or write PoissonNLLLoss(log_input=False)")]
    if not purpose.log_input and last.name in WEIGHTED:
        why = "PoissonNLLLoss(log_input=False) reads rates, which are above 0, but a linear layer gives any number"
        return [Finding("activation-on-output", last.where, why, "end with Softplus(), or leave log_input=False out")]
    return []


def _before_values(last: Operation, purpose: Purpose) -> list[Finding]:
    """Tell an activation that cannot reach the targets."""
    if last.name not in RANGES or not purpose.target.is_floating_point():
        return []
    low, high = RANGES[last.name]
    target = purpose.target[~torch.isnan(purpose.target)]
    beyond = float(((target < low - 1e-6) | (target > high + 1e-6)).float().mean()) if len(target) else 0.0
    if beyond <= OUT_OF_REACH:
        return []
    span = f"{float(target.min()):.3g} to {float(target.max()):.3g}"
    return [
        Finding(
            "activation-on-output",
            last.where,
            f"{last.name} gives {low:g} to {high:g}, but {100 * beyond:.0f} % of the train targets lie outside (they go from "
            f"{span} as the loss reads them), so that they cannot be reached",
            'leave the last activation out, or scale the target to what it gives; target_scaling = "none" (of an estimator '
            "standardize=False) leaves it as it is",
            confidence="sure",
            figures={"share": beyond, "low": low, "high": high},
        )
    ]


def on_output(flow: Flow) -> list[Finding]:
    """Return dropout and normalisation that stand after the last layer with weights."""
    found: list[Finding] = []
    operation = flow.last
    passed = (*SHAPES, *DROPOUTS, *ACTIVATIONS, "batch_norm", "instance_norm", "__getitem__")
    while operation is not None and operation.name in passed:
        if operation.name in DROPOUTS and _rate(operation) > 0:
            found.append(
                Finding(
                    "dropout-on-output",
                    operation.where,
                    "it sets outputs to 0 at random and scales the others up, so that the loss reads answers that the network "
                    "did not give",
                    "put Dropout before the last linear layer, or leave it out",
                    confidence="sure",
                )
            )
        elif operation.name in ("batch_norm", "instance_norm"):
            found.append(
                Finding(
                    "normalisation-on-output",
                    operation.where,
                    "it gives each output mean 0 and deviation 1 over a batch, so that the answer for a row depends on the other "
                    "rows of its batch",
                    "put it between the hidden layers, or leave it out",
                )
            )
        operation = flow.source(operation)
    ended = operation is not None and operation.name in (*WEIGHTED, *RECURRENT)
    return found if ended else []


def _rate(operation: Operation) -> float:
    rate = operation.settings.get("p", operation.settings.get("1", 0.5))
    return float(rate) if isinstance(rate, int | float) else 0.0


def broadcasts(loss: Callable[..., Any], purpose: Purpose) -> list[Finding]:
    """Return whether a loss spreads a column ``(rows, 1)`` against ``(rows,)`` into a square, tried on a small pair.

    Args:
        loss: Of output and target.
        purpose: Of which the number of outputs and the kind of target are read.
    """
    if purpose.target.dim() != 2 or purpose.target.shape[1] != 1 or purpose.outputs != 1:
        return []
    generator = torch.Generator().manual_seed(0)
    output = torch.rand(ROWS, 1, generator=generator)
    target = (
        torch.rand(ROWS, 1, generator=generator).round()
        if purpose.kind == "binary"
        else torch.rand(ROWS, 1, generator=generator)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flow = watch_call(loss, output, target)
            apart = loss(output[:, 0], target[:, 0])
    except Exception as error:  # an own loss may raise anything on other shapes; the training step has its own trial
        return _spread(flow, None, first_line(error)) if "flow" in locals() else []
    same = isinstance(apart, Tensor) and isinstance(flow.output, Tensor) and apart.numel() == flow.output.numel() == 1
    ratio = float(flow.output.detach()) / float(apart.detach()) if same and float(apart.detach()) else None
    return _spread(flow, ratio, "")


def own_parameters(loss: Callable[..., Any]) -> list[Finding]:
    """Return whether a loss has parameters, which no optimizer has."""
    waiting = [name for name, value in loss.named_parameters() if value.requires_grad] if isinstance(loss, nn.Module) else []
    if not waiting:
        return []
    return [
        Finding(
            "loss-parameters",
            f"the loss, {', '.join(waiting[:3])}",
            "the loss has parameters of its own, which are not the network's: no optimizer moves them and no checkpoint keeps "
            "them, so that they stay as they began",
            "make them parameters of the network, whose forward hands the loss what it needs, or train with step=, which is all "
            "yours",
            confidence="sure",
            figures={"parameters": len(waiting)},
        )
    ]


def _spread(flow: Flow, ratio: float | None, problem: str) -> list[Finding]:
    """Return the finding where an operation read a column and a row of as many numbers."""
    for operation in flow.operations:
        shapes = {tuple(value.shape) for value in operation.given}
        if {(ROWS, 1), (ROWS,)} <= shapes and operation.name not in ("cat", "stack", "__setitem__"):
            told = f" ({ratio:.3g} times the right one on a trial)" if ratio is not None and not problem else ""
            return [
                Finding(
                    "loss-broadcast",
                    f"the loss, {operation.name}",
                    "output and target meet as (N, 1) and (N,): every output is compared with every target, N x N numbers, and "
                    f"the loss is wrong{told} without any error",
                    "give both the same shape: leave squeeze() out, or squeeze both",
                    "error",
                    "sure",
                    {"rows": ROWS},
                )
            ]
    return []
