"""Image files of class folders, and an opened image as numbers. Printed by eject. Floor 2."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

DEEP = "I;16"  # what Pillow calls grey with 16 bits; other byte orders begin with it


def images_in(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the image files of the class folders in a folder, by path."""
    files = sorted(folder.glob("*/**/*"), key=lambda path: path.parts)
    return [path for path in files if path.is_file() and path.suffix.lower() in endings]


def image_numbers(opened: Any, mode: str, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Return an opened image as numbers from 0 to 255: turned upright, on white, stretched to one size.

    JPEG files more than twice as large are read at a half, quarter or eighth of their size first, as they are packed.

    Args:
        opened: Pillow's image, not read yet.
        mode: ``grey``, ``rgb`` or ``grey16``.
        size: Height and width in pixels.

    Returns:
        ``(height, width)``, or ``(height, width, 3)`` of rgb; uint8, or float32 of grey16.
    """
    from PIL import Image, ImageOps

    opened.draft(None, (2 * max(size), 2 * max(size)))
    picture = coloured(on_white(ImageOps.exif_transpose(opened)), mode)
    if (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def on_white(picture: Image) -> Image:
    """Return an image without transparency, on white: drawings and logos are dark on nothing."""
    from PIL import Image

    if picture.mode.startswith(DEEP) or not picture.has_transparency_data:
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def coloured(picture: Image, mode: str) -> Image:
    """Return an image as grey or RGB; 16 bits as floats from 0 to 255, or rounded to 8."""
    from PIL import Image

    if picture.mode.startswith(DEEP):
        values = np.asarray(picture).astype(np.float32) / 257  # 65535 is 255
        picture = Image.fromarray(values if mode == "grey16" else np.rint(values).astype(np.uint8))
    if mode == "grey16":
        return picture if picture.mode == "F" else picture.convert("L").convert("F")
    return picture.convert("RGB" if mode == "rgb" else "L")
