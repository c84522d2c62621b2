"""The parts of an ejected script that read folders of image files by Pillow, as `netwright.data.images` reads them. Floor 8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netwright.data.image_files import ENDINGS

COLOURS = {"grey": ("L", "grey numbers", "(height, width)"), "rgb": ("RGB", "red, green and blue", "(height, width, 3)")}


def images_in(folder: Path) -> list[Path]:
    """Return the image files of the class folders in a folder, by path, as the script lists them."""
    files = sorted(folder.glob("*/**/*"), key=lambda path: path.parts)
    return [path for path in files if path.is_file() and path.suffix.lower() in ENDINGS]


def image_folders(folders: Sequence[str], mode: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return how folders of images by class are read.

    Args:
        folders: Each with a folder per class; their images come one below the other.
        mode: ``grey`` or ``rgb``.
        size: Height and width in pixels.
    """
    colours, what, shape = COLOURS[mode]
    listed = ", ".join(f"Path({folder!r})" for folder in folders)
    constants = f"DATA = [{listed}]  # in each a folder per class\nSIZE = {size}  # height and width in pixels"
    listing = f'''def images_in(folder):
    """Return the image files of the class folders in a folder, by path."""
    files = sorted(folder.glob("*/**/*"), key=lambda path: path.parts)
    return [path for path in files if path.is_file() and path.suffix.lower() in {tuple(ENDINGS)}]'''
    reading = f'''def read_image(path):
    """Return {what} from 0 to 255 {shape}: turned upright, on white, stretched to one size."""
    with Image.open(path) as opened:
        opened.draft(None, (2 * max(SIZE), 2 * max(SIZE)))  # a large JPEG is read at a part of its size
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I;16"):  # 16 bits
            picture = Image.fromarray(np.rint(np.asarray(picture).astype(np.float32) / 257).astype(np.uint8))
        elif picture.has_transparency_data:
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        picture = picture.convert({colours!r})
        if (picture.height, picture.width) != SIZE:
            picture = picture.resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
        return np.asarray(picture)'''
    made = """files = [(path, folder) for folder in DATA for path in images_in(folder)]
raw = np.stack([read_image(path) for path, _ in files])
labels = np.array([path.relative_to(folder).parts[0] for path, folder in files])"""
    return {
        "imports": ("from pathlib import Path", "from PIL import Image, ImageOps"),
        "constants": constants,
        "text": "\n\n\n".join((listing, reading, made)),
    }
