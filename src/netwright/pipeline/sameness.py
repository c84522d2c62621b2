"""What of a network must be the same in all processes that train it, though they level its tensors. Floor 9."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

ADVICE = "let __init__ draw from the generators that netwright seeds: those of torch, numpy.random and random, no other"


def facts_of(module: nn.Module) -> dict[str, str]:
    """Return the shapes of the tensors of a network, and the whole numbers that its modules keep beside them, by name.

    The processes begin with the parameters and buffers of the first, but an order of columns, say, that ``__init__`` draws into
    a list is no tensor: drawn otherwise, each process trains another network.

    Example:
        >>> class Ordered(nn.Linear):
        ...     def __init__(self):
        ...         super().__init__(3, 1)
        ...         self.order = [2, 0, 1]
        >>> facts_of(Ordered())
        {'weight': '(1, 3) torch.float32', 'bias': '(1,) torch.float32', 'order': '[2, 0, 1]'}
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    found = {name: f"{tuple(value.shape)} {value.dtype}" for name, value in tensors.items()}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if not name.startswith("_") and _are_whole(value):
                found[f"{path}.{name}" if path else name] = str(list(value))
    return found


def _are_whole(value: Any) -> bool:
    """Tell whether something is a row of whole numbers."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, int | np.integer) for one in value)
