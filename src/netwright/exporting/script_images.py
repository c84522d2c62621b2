"""The parts of an ejected script that read folders of image files by Pillow. Floor 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netwright.exporting.printing import literal, printed
from netwright.sources import pictures
from netwright.sources.image_files import ENDINGS

MODES = ("grey", "rgb")  # of which a script reads images


def image_folders(folders: Sequence[str], mode: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return how folders of images by class are read.

    Args:
        folders: Each with a folder per class; their images come one below the other.
        mode: ``grey`` or ``rgb``.
        size: Height and width in pixels.
    """
    listed = ", ".join(f"Path({folder!r})" for folder in folders)
    constants = f"DATA = [{listed}]  # in each a folder per class\nENDINGS = {literal(tuple(ENDINGS), 10)}"
    constants += f'\nMODE, SIZE = "{mode}", {size}  # of all images; height and width in pixels\nDEEP = "{pictures.DEEP}"'
    reading = '''def read_image(path):
    """Return the numbers of an image file."""
    with Image.open(path) as opened:
        return image_numbers(opened, MODE, SIZE)'''
    made = """files = [(path, folder) for folder in DATA for path in images_in(folder, ENDINGS)]
raw = np.stack([read_image(path) for path, _ in files])
labels = np.array([path.relative_to(folder).parts[0] for path, folder in files])"""
    functions = (pictures.images_in, pictures.on_white, pictures.coloured, pictures.image_numbers)
    return {
        "imports": ("from pathlib import Path", "from PIL import Image"),
        "constants": constants,
        "text": "\n\n\n".join((*map(printed, functions), reading, made)),
    }
