"""What of a network must be the same in all processes that train it, though they level its tensors. Floor 12."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from torch import Tensor, nn

ADVICE = "let __init__ draw from the generators that netwright seeds: those of torch, numpy.random and random, no other"
LONGEST = 60  # characters of numbers that are shown


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
            if not name.startswith("_") and (numbers := _whole(value)) is not None:
                found[f"{path}.{name}" if path else name] = numbers
    return found


def _whole(value: Any) -> str | None:
    """Return several whole numbers as text; None of anything else. A single one may well be of the process, its rank say."""
    if isinstance(value, Tensor):
        value = None if value.is_floating_point() or value.is_complex() or value.is_meta else value.detach().cpu().numpy()
    elif (
        isinstance(value, list | tuple) and value and all(isinstance(one, int | np.integer | list | tuple) for one in value)
    ):
        try:
            value = np.array(value)
        except ValueError:  # rows of different length
            return str(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub" or value.size < 2:
        return None
    told = str(value.tolist())
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}... {hashlib.sha256(told.encode()).hexdigest()[:12]}"
