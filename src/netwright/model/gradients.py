"""What can be done with the gradients of a network before they are used. Printed by eject. Floor 4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are neither biases nor of a normalisation layer, each once.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> [tuple(weight.shape) for weight in weights_of(network)]
        [(3, 2), (1, 3)]
    """
    found = []
    for module in model.modules():
        if not isinstance(module, NORMS):
            own = module.named_parameters(recurse=False)
            found += [weight for name, weight in own if not name.startswith("bias")]
    return list(dict.fromkeys(found))


@torch.no_grad()
def add_l1(model: nn.Module, l1: float) -> None:
    """Add the gradient of an l1 penalty on the weights; biases and normalisation layers are left alone.

    Args:
        model: Its gradients are there already.
        l1: What the sum of the magnitudes of the weights is multiplied by; the gradient is ``l1 * sign(weight)``.
    """
    for weight in weights_of(model):
        if weight.grad is not None:
            weight.grad.add_(weight.sign(), alpha=l1)


@contextmanager
def uphill(model: nn.Module, distance: float) -> Iterator[Tensor]:
    """Move the weights uphill along their gradient, for a block; then weights and buffers are what they were.

    Buffers too, so that the running means of a batch norm see each batch once (Foret and others, 2021, without adaptive
    scaling; the second pass draws its own dropout).

    Args:
        model: Its gradients are there already.
        distance: How far, by the 2-norm over all parameters; ``rho`` in the paper.

    Yields:
        The norm of the gradients.
    """
    moved = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in moved])  # type: ignore[misc]
    with torch.no_grad():
        changed = [*moved, *model.buffers()]
        before = [value.clone() for value in changed]
        share = distance / (norm + 1e-12)
        for parameter in moved:
            parameter.add_(parameter.grad * share)  # type: ignore[operator]
    try:
        yield norm
    finally:
        with torch.no_grad():
            for value, kept in zip(changed, before, strict=True):
                value.copy_(kept)
