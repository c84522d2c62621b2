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

    def state() -> dict[str, torch.Tensor]:
        """Return the numbers that a forward pass leaves alone: batch norm counts in each."""
        own = set(dict(model.named_parameters()))
        return {key: value for key, value in model.state_dict().items() if key in own or key.rpartition(".")[0] not in norms}

    before = {key: value.clone() for key, value in state().items()}
    try:
        for _ in range(steps):
            step()
            now = state()
            if before.keys() != now.keys() or not all(torch.equal(value, now[key]) for key, value in before.items()):
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
