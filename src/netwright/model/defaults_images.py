"""Layers for images and volumes where nobody described a network: a small residual network as deep as its rows are large.

Floor 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from netwright.model.layers import Form

SPACES = {"NCHW": 2, "NCDHW": 3}  # axes of space
# A longest side from which the first convolution takes every second place: it would cost most of the time.
LARGE_SIDE = {2: 64, 3: 24}
MOST_SIDE = {2: 256, 3: 64}  # beyond it neighbours become their mean first: a batch would not fit into memory
POOLED_SIDE = 16  # below it pixels are too few to lose any at once
LEAST_SIDE = 4  # below it a further stage would see a single place
FIRST_CHANNELS = {2: 32, 3: 16}
MOST_CHANNELS = 256
DROPPED = 0.2


def picture_layers(form: Form, shift: int = 0, stretch: float = 1.0) -> list[str]:
    """Return a residual network with batch normalisation for rows with axes of space.

    Each stage is a convolution that doubles the channels, a pooling and two convolutions with a shortcut around them, until
    the longest side is below 4. Sides that are short already are not pooled.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016; the form of a stage is that of Page, How to Train Your
    ResNet, 2018.

    Args:
        form: Of a prepared row, NCHW or NCDHW.
        shift: Pixels that train rows are moved by at most, see `netwright.model.modules.RandomShift`; 0 for none.
        stretch: The factor that they are stretched by at most, see `netwright.model.modules.RandomStretch`; 1 for none.

    Example:
        >>> picture_layers(Form((1, 3, 3), "NCHW"))[:3]
        ['Conv2d(32, kernel_size=3, padding=1, bias=False)', 'BatchNorm2d()', 'ReLU()']
    """
    space, sides = SPACES[form.layout or ""], list(form.shape[1:])
    channels = FIRST_CHANNELS[space]
    layers = [f"RandomShift({shift})"] if shift else []
    layers += [f"RandomStretch({stretch})"] if stretch > 1 else []
    layers += _means(sides, MOST_SIDE[space])
    if max(sides) >= LARGE_SIDE[space]:
        layers += _convolution(space, channels, 5, stride=2)
        sides = [(side + 1) // 2 for side in sides]
    else:
        layers += _convolution(space, channels, 3)
    if max(sides) >= POOLED_SIDE:
        layers += _pooling(space, sides)
    while max(sides) >= LEAST_SIDE:
        channels = min(2 * channels, MOST_CHANNELS)
        layers += [*_convolution(space, channels, 3), *_pooling(space, sides), _residual(space, channels)]
    return [*layers, f"AdaptiveMaxPool{space}d(1)", "Flatten()", f"Dropout({DROPPED})", "Linear()"]


def _convolution(space: int, channels: int, kernel: int, stride: int = 1) -> list[str]:
    """Return a convolution that keeps the sides, or halves them, with what comes behind it."""
    step = f"stride={stride}, " if stride > 1 else ""
    text = f"Conv{space}d({channels}, kernel_size={kernel}, {step}padding={kernel // 2}, bias=False)"
    return [text, f"BatchNorm{space}d()", "ReLU()"]


def _residual(space: int, channels: int) -> str:
    """Return two convolutions with a shortcut around them."""
    return f"Residual([{', '.join(2 * _convolution(space, channels, 3))}])"


def _means(sides: list[int], most: int) -> list[str]:
    """Return a pooling that brings sides to the most there may be, in place; nothing where they are no longer."""
    joined = [-(-side // most) for side in sides]
    if max(joined) == 1:
        return []
    sides[:] = [side // by for side, by in zip(sides, joined, strict=True)]
    return [f"AvgPool{len(sides)}d({_sizes(joined)})"]


def _pooling(space: int, sides: list[int]) -> list[str]:
    """Return a pooling that halves the sides, in place; those below half of the longest stay."""
    halved = [2 if 2 * side >= max(sides) else 1 for side in sides]
    sides[:] = [side // by for side, by in zip(sides, halved, strict=True)]
    return [f"MaxPool{space}d({_sizes(halved)})"]


def _sizes(sizes: Sequence[int]) -> str:
    """Return sizes as torch takes them: one number where all are the same."""
    return str(sizes[0]) if len(set(sizes)) == 1 else f"({', '.join(str(size) for size in sizes)})"
