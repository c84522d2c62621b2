"""Layers that do not learn, for some epochs or all: which parameters get no gradient is a function of the epoch. Floor 9.

Printed by eject.
"""

from __future__ import annotations

from torch import nn


def hold_still(model: nn.Module, frozen: list[str], resting: list[str]) -> None:
    """Let some parameters get no gradient and some batch norm layers keep their statistics; all others learn.

    Args:
        model: The network, in training mode.
        frozen: Names of parameters. Without a gradient no optimizer touches them: no update, no momentum, no weight decay.
        resting: Names of layers that go to eval mode.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> hold_still(network, ["1.weight", "1.bias"], ["1"])
        >>> network[1].training, [name for name, one in network.named_parameters() if one.requires_grad]
        (False, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        if name in frozen:
            parameter.grad = None
    for name, module in model.named_modules():
        if name in resting:
            module.eval()
