"""The default networks of series: convolutions of several lengths side by side, as texts. Measured: docs/series.md. Floor 4."""

from __future__ import annotations

KERNELS = (9, 19, 39)  # steps that the longer convolutions of a block see
BRANCH = 16  # channels of each convolution
BLOCKS = 3
NORMALISED, PER_STEP = ("BatchNorm1d()",), ("Transpose()", "LayerNorm()", "Transpose()")
MOST_STEPS = 512  # longer series are shortened by the first layer: the time of a step follows their length


def convolutions(steps: int, padded: bool = False, time_first: bool = False) -> list[str]:
    """Return layers that read a whole series of numbers and give one answer.

    Each block has convolutions of several lengths side by side, the later ones behind a narrow layer and with a shortcut
    around them; then come the mean over the steps and an output layer.

    Args:
        steps: Of the longest series.
        padded: Whether series differ in length: then each step is normalised for itself, not over the batch.
        time_first: Whether the axes are (N, time, channels).

    Source: Ismail Fawaz et al., InceptionTime, 2020 (arXiv:1909.04939), with shallower blocks and no pooling; Wang, Yan and
    Oates, Time Series Classification from Scratch, 2017 (arXiv:1611.06455), for the mean over the steps.

    Example:
        >>> convolutions(3)[:3]
        ['Parallel([Conv1d(16, kernel_size=1), Conv1d(16, kernel_size=5, padding=2)])', 'BatchNorm1d()', 'ReLU()']
    """
    normalised = list(PER_STEP if padded else NORMALISED)
    layers = ["Transpose()"] if time_first else []
    stride = -(-steps // MOST_STEPS)
    if stride > 1:
        width = BRANCH * (1 + len(KERNELS))
        layers += [
            f"Conv1d({width}, kernel_size={2 * stride + 1}, stride={stride}, padding={stride})",
            *normalised,
            "ReLU()",
        ]
        steps = -(-steps // stride)
    side_by_side = _side_by_side(steps)
    layers += [side_by_side, *normalised, "ReLU()"]
    inner = ", ".join([f"Conv1d({BRANCH}, kernel_size=1)", side_by_side, *normalised, "ReLU()"])
    layers += [f"Residual([{inner}])"] * (BLOCKS - 1)
    return [*layers, "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]


def _side_by_side(steps: int) -> str:
    """Return convolutions that keep the steps: of one step, and of those lengths that a series has."""
    lengths = [length for length in KERNELS if length < 2 * steps] or [max(2 * steps - 1, 1)]
    branches = [f"Conv1d({BRANCH}, kernel_size=1)"]
    branches += [f"Conv1d({BRANCH}, kernel_size={length}, padding={length // 2})" for length in lengths]
    return f"Parallel([{', '.join(branches)}])"
