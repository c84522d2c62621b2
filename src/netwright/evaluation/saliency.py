"""Where a network looks: how much its answer moves with each pixel. Floor 8.

Gradients of the answer by the input, Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks (2014), averaged
over noise, Smilkov and others, SmoothGrad (2017). Where no gradient comes out, parts of the picture are covered one after the
other, Zeiler and Fergus, Visualizing and understanding convolutional networks (2014).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.model.summary import call_model

Floats = npt.NDArray[np.float64]
NOISES = 8  # gradients that are averaged
SECONDS = 2.0  # after which no further one is begun
NOISE = 0.1  # of the spread of a row
PATCHES = 7  # along a side, where parts are covered
SEED = 0
Answer = Callable[[Tensor], Tensor]


def saliency(model: nn.Module, inputs: dict[str, Tensor], name: str) -> Floats | None:
    """Return how much the answer for each row moves with each pixel of one input.

    The answer is the largest output of a row, of one output that output. The network is a copy that nobody trains: it may be
    left with gradients.

    Args:
        model: The network, in eval mode.
        inputs: Prepared rows by name.
        name: The input that is an image or a volume, float32 ``(rows, channels, [depth,] height, width)``.

    Returns:
        At least 0, ``(rows, height, width)``: the largest over channels and depth; None where neither way works.
    """
    values = inputs[name]
    if values.dim() not in (4, 5) or not values.is_floating_point():
        return None

    def answer(changed: Tensor) -> Tensor:
        output = call_model(model, {**inputs, name: changed})
        if not isinstance(output, Tensor) or output.shape[0] != len(changed):
            raise TypeError("no output per row")
        return output.flatten(1)

    try:
        with torch.no_grad():
            place = answer(values).argmax(dim=1, keepdim=True)
        moved = _smooth_gradient(answer, values, place)
        if moved is None:
            moved = _occlusion(answer, values, place)
    except Exception:  # an own module may raise anything; the picture is then shown without
        return None
    found = moved.abs().amax(dim=tuple(range(1, moved.dim() - 2)))
    return np.asarray(np.nan_to_num(found.double().cpu().numpy()), dtype=np.float64)


def _smooth_gradient(answer: Answer, values: Tensor, place: Tensor) -> Tensor | None:
    """Return the mean gradient of the answers over noisy copies of the rows; None where there is none."""
    generator = torch.Generator().manual_seed(SEED)
    axes = tuple(range(1, values.dim()))
    spread = NOISE * (values.amax(dim=axes, keepdim=True) - values.amin(dim=axes, keepdim=True))
    total, begun, made = torch.zeros_like(values), time.perf_counter(), 0
    while made < NOISES and (not made or time.perf_counter() - begun < SECONDS):
        noise = torch.randn(values.shape, generator=generator).to(values.device)
        with torch.enable_grad():
            noisy = (values + spread * noise).detach().requires_grad_(True)
            chosen = answer(noisy).gather(1, place).sum()
            if not chosen.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(chosen, noisy, allow_unused=True)
        if gradient is None:
            return None
        total, made = total + gradient, made + 1
    return total / made if bool(total.any()) else None


def _occlusion(answer: Answer, values: Tensor, place: Tensor) -> Tensor:
    """Return how far the answers move when a part of the picture has the mean of the row."""
    height, width = values.shape[-2:]
    down, across = max(1, -(-height // PATCHES)), max(1, -(-width // PATCHES))
    axes = tuple(range(2, values.dim()))
    grey = values.mean(dim=axes, keepdim=True)
    found = torch.zeros_like(values)
    with torch.no_grad():
        whole = answer(values).gather(1, place)
        for top in range(0, height, down):
            for left in range(0, width, across):
                part = (..., slice(top, top + down), slice(left, left + across))
                covered = values.clone()
                covered[part] = grey
                moved = (whole - answer(covered).gather(1, place)).abs()
                found[part] = moved.reshape(-1, *(1,) * (values.dim() - 1)).to(found.dtype)
    return found
