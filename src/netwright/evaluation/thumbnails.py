"""Rows as small pictures: images, volumes, series, and over them what a network looks at; PNG in a data URI. Floor 8."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
LONGEST = 96  # pixels of a side
MOST_CURVES = 6
COLOURS = ((31, 119, 180), (214, 96, 20), (44, 140, 60), (150, 60, 160), (120, 90, 40), (90, 90, 90))
SHADES = 32  # of a picture of curves
HEAT = (225, 30, 30)
FINER = 4  # times as many pixels are drawn of a curve before it is made small


def picture_of(values: Array) -> Bytes | None:
    """Return an image or volume as grey or coloured pixels.

    Args:
        values: ``(channels, height, width)`` or ``(channels, depth, height, width)``, any numbers. Of a volume the largest
            value along its depth is taken; three channels are colours, of other numbers the first is shown. Bytes stay as
            they are, numbers from 0 to 1 become them, all others are stretched from the smallest to the largest.

    Returns:
        uint8 ``(height, width)`` or ``(height, width, 3)``; None for other axes.
    """
    if values.ndim == 4:
        values = values.max(axis=1)
    if values.ndim != 3 or not values.size:
        return None
    pixels = np.moveaxis(values[:3], 0, -1) if len(values) in (3, 4) else values[0]
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    numbers = np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    return np.asarray(np.round((numbers - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255), dtype=np.uint8)


def data_uri(pixels: Bytes) -> str:
    """Return pixels as a PNG of at most 96 pixels a side: small ones in whole steps larger, large ones averaged."""
    from PIL import Image

    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest > LONGEST:
        width, height = (max(1, round(side * LONGEST / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    elif LONGEST // longest > 1:
        times = LONGEST // longest
        image = image.resize((image.size[0] * times, image.size[1] * times), Image.Resampling.NEAREST)
    return _as_uri(image)


def _as_uri(image: Any) -> str:
    sink = io.BytesIO()
    image.save(sink, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode('ascii')}"


def overlaid(pixels: Bytes, heat: Floats) -> Bytes:
    """Return pixels with red where something is large.

    Args:
        pixels: uint8 ``(height, width)`` or ``(height, width, 3)``.
        heat: At least 0, ``(height, width)``; its 99th percentile is full red.
    """
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    full = float(np.quantile(heat, 0.99)) or float(heat.max()) or 1.0
    share = np.clip(heat / full, 0.0, 1.0)[..., None] * 0.85
    base = 60.0 + 0.7 * np.repeat(grey[..., None].astype(np.float64), 3, axis=2)
    return np.asarray(np.round(base * (1 - share) + np.asarray(HEAT) * share).clip(0, 255), dtype=np.uint8)


def curves_uri(values: Floats) -> str | None:
    """Return a series as a small picture of its curves.

    Args:
        values: ``(steps, channels)``; the first six are drawn, each from its smallest to its largest value.

    Returns:
        A PNG of 96 by 48 pixels; None without a step.
    """
    from PIL import Image, ImageDraw

    if not len(values):
        return None
    width, height = LONGEST * FINER, LONGEST // 2 * FINER
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for number, curve in enumerate(np.nan_to_num(values[:, :MOST_CURVES].astype(np.float64)).T):
        spread = float(curve.max() - curve.min()) or 1.0
        across = np.linspace(2 * FINER, width - 2 * FINER, len(curve))
        down = (height - 4 * FINER) * (1 - (curve - curve.min()) / spread) + 2 * FINER
        points = list(zip(across.tolist(), down.tolist(), strict=True))
        points = points if len(points) > 1 else [(0.0, points[0][1]), (float(width), points[0][1])]
        pen.line(points, fill=COLOURS[number], width=FINER, joint="curve")
    return _as_uri(image.resize((LONGEST, LONGEST // 2), Image.Resampling.LANCZOS).quantize(SHADES))
