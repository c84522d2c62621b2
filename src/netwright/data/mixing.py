"""MixUp and CutMix: each row of a batch is mixed with the one before it, and so are their targets.

The formulas, and the numbers drawn, are those of torchvision.transforms.v2 0.28. Sources: Zhang et al. 2018, "mixup:
Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix". Floor 3.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from netwright.errors import ConfigError


@final
class MixUp:
    """Takes the weighted mean of two rows and of their targets.

    Args:
        alpha: Both parameters of the Beta distribution of the weight; small ones mix little.

    Shape: values ``(batch, ...)`` float32 and targets ``(batch, ...)`` float32.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _alpha("MixUp", alpha)

    def __call__(self, values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        share = _share(self.alpha)
        return _mean(values, share), _mean(target, share)


@final
class CutMix:
    """Puts a rectangle of one image into another; the targets are weighted by the areas.

    Args:
        alpha: Both parameters of the Beta distribution of the area that is kept.

    Shape: values ``(batch, channels, height, width)`` float32 and targets ``(batch, classes)`` float32.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _alpha("CutMix", alpha)

    def __call__(self, values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        share = _share(self.alpha)
        height, width = values.shape[-2:]
        middle_x, middle_y = int(torch.randint(width, size=(1,))), int(torch.randint(height, size=(1,)))
        half = 0.5 * math.sqrt(1.0 - share)
        half_width, half_height = int(half * width), int(half * height)
        left, right = max(middle_x - half_width, 0), min(middle_x + half_width, width)
        top, bottom = max(middle_y - half_height, 0), min(middle_y + half_height, height)
        mixed = values.clone()
        mixed[..., top:bottom, left:right] = values.roll(1, 0)[..., top:bottom, left:right]
        kept = float(1.0 - (right - left) * (bottom - top) / (width * height))
        return mixed, _mean(target, kept)


Mixing = MixUp | CutMix
OWN: dict[str, type[Mixing]] = {"CutMix": CutMix, "MixUp": MixUp}


def _mean(values: Tensor, share: float) -> Tensor:
    return values.roll(1, 0).mul_(1.0 - share).add_(values.mul(share))


def _share(alpha: float) -> float:
    """Draw the weight of the row itself from torch's global generator."""
    return float(torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha])).sample(()))


def _alpha(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise ConfigError(
            f"data.augmentation: {name}(alpha={value!r}) came; expected a number above 0; write for instance 0.2"
        )
    return float(value)
