"""How the text of a layer is read for drawing: its name, its family, its arguments in short.

The text is what `repr` of a torch module shows, `Linear(in_features=64, out_features=10, bias=True)`, or a name alone.
It is taken apart as text and never evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """The colours of a family of layers.

    Args:
        light: Fill on a light background.
        strong: Line on a light background.
        dark: Fill on a dark background.
        bright: Line on a dark background.
    """

    light: str
    strong: str
    dark: str
    bright: str


FAMILIES = {
    "convolution": Look("#e6f0fb", "#2f6fb2", "#172d45", "#7ab3ef"),
    "recurrent": Look("#f0e9fb", "#7a4bb5", "#2b203d", "#b794f4"),
    "linear": Look("#e4f5ec", "#2b8a57", "#153223", "#68c997"),
    "attention": Look("#e8e8fc", "#4d4fc0", "#20214a", "#9a9cf5"),
    "normalisation": Look("#fdf3dc", "#a87408", "#382b10", "#e2b650"),
    "activation": Look("#fdeae3", "#c4552b", "#3d2318", "#f0956c"),
    "pooling": Look("#e1f4f5", "#1c8088", "#123235", "#62c4cc"),
    "dropout": Look("#eff1f3", "#66707d", "#262b32", "#9aa5b3"),
    "reshape": Look("#fbe8f1", "#b03a78", "#3b1c2c", "#ee8bbb"),
    "other": Look("#f4f2ea", "#77725c", "#2c2a22", "#bcb592"),
}
_PATTERNS = (  # the first that fits decides
    ("normalisation", r".*Norm(\d?d)?|Standardize\w*"),
    ("dropout", r".*Dropout\d?d?|Random(Mirror|Shift|Stretch|Turn)"),
    ("pooling", r".*Pool(ing)?\d?d?"),
    ("convolution", r"(Lazy)?Conv\w*|.*Conv(Transpose)?\d?d"),
    ("recurrent", r"(LSTM|GRU|RNN)(Cell)?|.*(LSTM|GRU)"),
    ("attention", r".*Attention|Transformer\w*"),
    ("linear", r"(Lazy)?(Bi)?[Ll]inear|NonDynamicallyQuantizableLinear"),
    ("reshape", r"Flatten|Unflatten|Permute|Reshape|Transpose|Squeeze|Unsqueeze|PixelShuffle|PixelUnshuffle"
     r"|Upsample\w*|.*Pad\d?d|Fold|Unfold|Identity|Select\w*|Last\w*"),
    ("activation", r"\w*ReLU6?|\w*ELU|GLU|Sigmoid|LogSigmoid|Tanh|Softm\w+|LogSoftmax|Hardt?[a-z]+\w*|SiLU|Mish"
     r"|Softplus|Softsign|Softshrink|Tanhshrink|Threshold"),
)  # fmt: skip
_SIZES = (("in_channels", "out_channels"), ("in_features", "out_features"), ("input_size", "hidden_size"))


def layer_name(text: str) -> str:
    """Return the name a layer's text begins with.

    Args:
        text: Such as ``Conv2d(1, 32, kernel_size=3)``.

    Returns:
        ``Conv2d``; the text up to its first bracket.
    """
    return text.partition("(")[0].strip()


def family_of(text: str) -> str:
    """Return the family a layer belongs to, by its name.

    Args:
        text: Such as ``Conv2d(1, 32, kernel_size=3)``.

    Returns:
        A key of ``FAMILIES``; ``other`` where no family is known.
    """
    name = layer_name(text).rpartition(".")[2]
    return next((family for family, pattern in _PATTERNS if re.fullmatch(pattern, name)), "other")


def arguments_text(text: str) -> str:
    """Return a layer's arguments in short, the two sizes as an arrow.

    Args:
        text: Such as ``Conv2d(in_channels=1, out_channels=32, kernel_size=3, padding=1)``.

    Returns:
        Such as ``1 → 32, kernel_size=3, padding=1``; empty where there are none.
    """
    inside = text.partition("(")[2].strip()
    written = _parts(inside[:-1] if inside.endswith(")") else inside)
    named = dict(part.split("=", 1) for part in written if re.match(r"\w+=", part))
    for first, second in _SIZES:
        if first in named and second in named:
            rest = [part for part in written if part.partition("=")[0] not in (first, second)]
            return ", ".join([f"{named[first]} → {named[second]}", *rest])
    return ", ".join(written)


def _parts(inside: str) -> list[str]:
    """Split arguments at the commas that are not inside brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(inside):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(inside[start:place].strip())
            start = place + 1
    parts.append(inside[start:].strip())
    return [part for part in parts if part]
