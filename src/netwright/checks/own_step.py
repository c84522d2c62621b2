"""Whether a training step of one's own trains: the one thing that can be told of it. Floor 10."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from netwright.checks.findings import Finding


def changes_nothing(name: str, model: nn.Module, step: Callable[[], object], steps: int = 3) -> list[Finding]:
    """Return whether a training step of one's own leaves a network as it is.

    Args:
        name: Of the step.
        model: A copy, which the step trains.
        step: Takes it; what it raises is told elsewhere.
        steps: How many are taken at most.
    """
    norms = {path for path, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._NormBase)}
    counted = {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in norms}  # in each forward pass
    before = {name: value.clone() for name, value in model.state_dict().items() if name not in counted}
    try:
        for _ in range(steps):
            step()
            now = model.state_dict()
            if now.keys() - counted != before.keys() or not all(torch.equal(was, now[name]) for name, was in before.items()):
                return []
    except Exception:  # the trial of a step, and training, tell what fails
        return []
    return [
        Finding(
            "step-changes-nothing",
            f"step, {name}",
            f"{steps} steps on train rows changed no number of the network",
            "let it call optimizer.zero_grad(), loss.backward() and optimizer.step(): a step of one's own makes the update itself",
            "error",
            "sure",
        )
    ]
