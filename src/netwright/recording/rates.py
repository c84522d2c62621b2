"""The numbers of an optimizer that a schedule turns: learning rate and momentum of each group of parameters. Floor 6.

Of a schedule an engine knows nothing: it reads these numbers before a step, or a row of them for each step that is replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from netwright.recording.operations import CannotCapture
from netwright.recording.state import fused
from netwright.recording.tape import Tape

NAMES = ("lr", "momentum", "beta1")  # as the fused kernels call them


def numbers(groups: Iterable[dict[str, Any]]) -> list[float]:
    """Return learning rate and momentum of each group, two numbers a group; Adam's first beta is its momentum.

    Example:
        >>> weights = [torch.zeros(1, requires_grad=True)]
        >>> numbers(torch.optim.Adam(weights, lr=0.01).param_groups)
        [0.01, 0.9]
    """
    return [float(value) for group in groups for value in (group["lr"], momentum(group))]


def momentum(group: dict[str, Any]) -> Any:
    """Return the momentum of a group; 0 where its optimizer has none."""
    return group["betas"][0] if "betas" in group else group.get("momentum", 0.0)


def put(groups: Sequence[dict[str, Any]], values: Sequence[float]) -> None:
    """Write what `numbers` returned into groups; a learning rate in a tensor stays in it.

    One of a fused kernel on CUDA is rounded to float32, as the kernel reads it from a tensor: so that every engine has the same.
    """
    for group, rate, inertia in zip(groups, values[::2], values[1::2], strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rounded(rate) if fused(group) and on_cuda([group]) else rate
        if "betas" in group:
            group["betas"] = (inertia, *group["betas"][1:])
        elif "momentum" in group:
            group["momentum"] = inertia


def on_cuda(groups: Iterable[dict[str, Any]]) -> bool:
    """Tell whether groups hold a parameter on CUDA; a group may hold none at all."""
    return any(parameter.is_cuda for group in groups for parameter in group["params"])


def rounded(rate: float) -> float:
    """Return a learning rate as a tensor of float32 holds it.

    Example:
        >>> rounded(0.5), rounded(0.1)
        (0.5, 0.10000000149011612)
    """
    return float(torch.tensor(rate, dtype=torch.float32))


def turned(tape: Tape, optimizer: torch.optim.Optimizer) -> None:
    """Mark the arguments of fused updates that are given for each step: their columns in a table of `numbers`.

    Raises:
        CannotCapture: A fused update is of no group.
    """
    places = {
        parameter.data_ptr(): number
        for number, group in enumerate(optimizer.param_groups)
        if fused(group)
        for parameter in group["params"]
    }
    for call in tape.calls:
        name = "" if call.function is None else call.function._schema.name.partition("::")[2]
        if not name.startswith("_fused_") or not isinstance(call.keywords.get("lr"), float):
            continue
        number = places.get(call.arguments[0][0].data_ptr())
        if number is None:
            raise CannotCapture(f"{name} is of no group of parameters")
        given = [key for key in NAMES if isinstance(call.keywords.get(key), float)]
        call.turned = {key: 2 * number + (key != "lr") for key in given}


def why_not_turned(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why the steps of an optimizer cannot be replayed with another learning rate each; None where they can."""
    if all(fused(group) for group in optimizer.param_groups):
        return None
    return f"the schedule changes the learning rate at every step, and {type(optimizer).__name__} has no fused kernel that reads it"


def why_not_held(rates: Tensor) -> str | None:
    """Return why a CUDA graph cannot hold these `numbers` of each step, of which it reads learning rates; None where it can."""
    if torch.equal(rates[:, 1::2], rates[:1, 1::2].expand(len(rates), -1)):
        return None
    return "the schedule changes the momentum at every step, which a CUDA graph holds"
