"""The network a run gets when the config describes none: one per shape of data, as the texts a user would write.

Floor 3.
"""

from __future__ import annotations

from netwright.model.layers import Form


def default_layers(form: Form, categories: bool, per_step: bool = False, padded: bool = False) -> list[str]:
    """Return layer texts for a form of data.

    Args:
        form: The shape of one prepared row.
        categories: Whether category columns stay codes for `EmbedColumns`.
        per_step: Whether each step of a row gets an output.
        padded: Whether sequences differ in length.

    Returns:
        A multilayer perceptron for tables, a small convolutional network for images, volumes and channel-first
        sequences, a GRU for time-first sequences, for symbols, and where the convolutions would read padding.

    Example:
        >>> default_layers(Form((10,), "NC"), categories=False)[0]
        'Linear(128)'
    """
    last = [] if per_step else ["LastStep()"]
    if form.layout == "NTC":
        return ["GRU(64)", *last, "Linear()"]
    if form.layout == "NCT" and (per_step or padded):
        return ["Transpose()", "GRU(64)", *last, "Linear()"]
    if form.codes and len(form.shape) == 1:
        return ["Embedding(32)", "GRU(128)", *last, "Linear()"]
    if form.layout == "NC" and not form.codes:
        first = ["EmbedColumns()"] if categories else []
        hidden = ["Linear(128)", "ReLU()", "Dropout(0.1)"]
        return [*first, *hidden, *hidden, "Linear()"]
    dimensions = {"NCT": 1, "NCHW": 2, "NCDHW": 3}.get(form.layout or "")
    if dimensions is None:
        return ["Flatten()", "Linear(128)", "ReLU()", "Linear()"]
    return _convolutions(form, dimensions)


# A side from which the first convolution takes every second place: it would cost most of the time.
LARGE_SIDE = {1: 512, 2: 64, 3: 24}


def _convolutions(form: Form, dimensions: int) -> list[str]:
    """Return blocks of convolution, normalisation and pooling until the smallest side is below 4, then a mean."""
    layers: list[str] = []
    channels = {1: 64, 2: 32, 3: 16}[dimensions]
    kernel = 5 if dimensions == 1 else 3
    side = min(form.shape[1:])
    for block in range(3):
        large = block == 0 and side >= LARGE_SIDE[dimensions]
        convolution = f"Conv{dimensions}d({channels}, kernel_size={kernel}, padding={kernel // 2})"
        if large:
            convolution = f"Conv{dimensions}d({channels}, kernel_size=5, stride=2, padding=2)"
            side = (side + 1) // 2
        layers += [convolution, f"BatchNorm{dimensions}d()", "ReLU()"]
        if side < 4:
            break
        layers.append(f"MaxPool{dimensions}d(2)")
        side //= 2
        channels = min(channels * 2, 128)
    return [*layers, f"AdaptiveAvgPool{dimensions}d(1)", "Flatten()", "Dropout(0.2)", "Linear()"]
