"""The pages of README and docs, their snippets, and the files that these speak of."""

from __future__ import annotations

import importlib.util
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(language: str, pages: Sequence[Path] = PAGES) -> list[tuple[str, str]]:
    """Return (page and number, text) of the snippets in one language."""
    found = []
    for page in pages:
        texts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [(f"{page.name}-{number}", text) for number, text in enumerate(texts)]
    return found


def write_files(folder: Path) -> None:
    """Write the files that the pages speak of."""
    shutil.copy(ROOT / "examples" / "own_module.py", folder)
    generator = np.random.default_rng(0)
    rooms, town = generator.uniform(1, 8, 60), generator.choice(["coast", "inland"], 60)
    table = pa.table({"rooms": rooms, "ocean_proximity": town, "median_house_value": rooms * 30_000 + 7})
    for name in ("housing.csv", "town-1.csv", "town-2.csv"):
        pa.csv.write_csv(table, folder / name)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.write(folder / "housing.csv", "housing.csv")
    write_images(folder, generator)
    write_series(folder, generator)


def write_images(folder: Path, generator: np.random.Generator) -> None:
    """Write a folder of images by class, and the same packed."""
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for place in range(20):
            values = generator.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(values).save(folder / "photos" / label / f"{place}.png")
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")


def write_series(folder: Path, generator: np.random.Generator) -> None:
    """Write sequences in files, a series by time, texts with labels and one long text."""
    (folder / "walks").mkdir()
    for walk in range(40):
        steps = generator.normal(size=(int(generator.integers(5, 15)), 2))
        np.savetxt(folder / "walks" / f"{walk}.csv", steps, delimiter=",", header="a,b", comments="")
    (folder / "walks.csv").write_text("walk,door\n" + "".join(f"{walk},{'lr'[walk % 2]}\n" for walk in range(40)))
    degrees = 10 + 5 * np.sin(np.arange(400) / 12) + generator.normal(size=400)
    (folder / "temperature.csv").write_text("degrees\n" + "".join(f"{value:.2f}\n" for value in degrees))
    moods = [("fine day", "good"), ("bad luck again", "poor")] * 30
    (folder / "reviews.csv").write_text("review,mood\n" + "".join(f"{text},{mood}\n" for text, mood in moods))
    (folder / "book.txt").write_text("the cat sat on the mat and looked at the rain. " * 60)


def skip_without_onnx(text: str) -> None:
    """Skip a snippet that needs the extra onnx where it is not installed."""
    if "onnx" in text and not all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime")):
        pytest.skip("the extra onnx is not installed")
