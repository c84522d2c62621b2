"""The share of the learning rate that a warm-up and a cosine leave of it. Printed by eject. Floor 9."""

from __future__ import annotations

import math


def warmup_cosine(step: int, warmup: int, total_steps: int, final: float) -> float:
    """Return the share of the learning rate at a step: a line up to 1, then half a cosine down to what is left at the end.

    Args:
        step: From 0.
        warmup: Steps of the line; the first step has 1 / (warmup + 1), never 0.
        total_steps: After which the share stays at ``final``.
        final: The share at the end, 0 or more.

    Returns:
        The factor of the optimizer's learning rate (cosine: Loshchilov and Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al.
        2017, arXiv:1706.02677).

    Example:
        >>> [round(warmup_cosine(step, 2, 6, 0.0), 3) for step in range(7)]
        [0.333, 0.667, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)  # a line
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))  # half a cosine
