"""What a training step does beside forward, backward and the optimizer's step. Floor 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from netwright.errors import DivergedError
from netwright.model.gradients import add_l1
from netwright.recording.operations import is_finite


@dataclass(frozen=True)
class Update:
    """What a step does beside forward, backward and the optimizer's step; nothing of it where nothing is asked for.

    Args:
        micro_batch: Rows that go forward and backward at a time; their gradients are added up. None for all at once.
        autocast: Dtype in which the forward pass computes where that is safe (torch.autocast); None for that of the weights.
        clip_grad_norm: The 2-norm that all gradients together have at most (Pascanu, Mikolov and Bengio, 2013).
        clip_grad_value: What each number of a gradient is at most, by magnitude.
        l1: What the sum of the magnitudes of the weights costs; see `netwright.model.gradients.add_l1`.
        sharpness: How far uphill the gradient is taken (Foret and others, 2021); None for where the weights are.
    """

    micro_batch: int | None = None
    autocast: torch.dtype | None = None
    clip_grad_norm: float | None = None
    clip_grad_value: float | None = None
    l1: float | None = None
    sharpness: float | None = None

    @property
    def reads_gradients(self) -> bool:
        """Whether gradients are read between backward and the optimizer's step."""
        return any(value is not None for value in (self.clip_grad_norm, self.clip_grad_value, self.l1, self.sharpness))


PLAIN = Update()


def in_float32(update: Update) -> Update:
    """Return what a step does, in the dtype of the weights."""
    return replace(update, autocast=None)


def change_gradients(model: nn.Module, update: Update, scaled: bool = False) -> None:
    """Add the gradient of the l1 penalty, then clip by norm, then by value.

    Args:
        model: Its gradients are those of the loss.
        update: What is asked for.
        scaled: A norm that is not finite is no error, as a scaler skips such a step.

    Raises:
        DivergedError: The norm is not finite.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> change_gradients(model, Update(clip_grad_norm=0.5))
        >>> round(float(nn.utils.get_total_norm([value.grad for value in model.parameters()])), 4)
        0.5
    """
    if update.l1:
        add_l1(model, update.l1)
    if update.clip_grad_norm is not None:
        norm = clip_grad_norm_(model.parameters(), update.clip_grad_norm)
        if not scaled:
            refuse_spoiled(norm)
    if update.clip_grad_value is not None:
        clip_grad_value_(model.parameters(), update.clip_grad_value)


@torch.no_grad()
def change_each(weights: Sequence[Tensor], penalised: Sequence[bool], update: Update) -> None:
    """Do with the gradients of several networks what `change_gradients` does with those of one.

    Args:
        weights: Parameters ``(networks, ...)``, whose gradients are those of the losses of all.
        penalised: Which of them an l1 penalty is for.
        update: What is asked for.

    Raises:
        DivergedError: The norm of a network is not finite.
    """
    held = [
        (weight, weight.grad, wanted) for weight, wanted in zip(weights, penalised, strict=True) if weight.grad is not None
    ]
    if update.l1:
        for weight, gradient, wanted in held:
            if wanted:
                gradient.add_(weight.sign(), alpha=update.l1)
    if update.clip_grad_norm is not None and held:
        rows = [gradient.reshape(len(gradient), -1) for _, gradient, _ in held]
        norms = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]), dim=0)
        shares = (update.clip_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        for _, gradient, _ in held:
            gradient.mul_(shares.view(-1, *(1 for _ in gradient.shape[1:])))
        refuse_spoiled(norms.amax())
    if update.clip_grad_value is not None:
        clip_grad_value_([weight for weight, _, _ in held], update.clip_grad_value)


def refuse_spoiled(norm: Tensor) -> None:
    """Refuse gradients whose norm is not finite.

    Raises:
        DivergedError: It is not.
    """
    if not is_finite(norm):
        raise DivergedError(f"the norm of the gradients is {norm.item()}")
