"""Draws docs/images/report.png: the report of make demo in Chromium, its verdict, curves and confusions.

Needs what `make browser` installs, and a Chromium on the PATH: python tools/report_picture.py
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import netwright as nw

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "report.png"
SHOWN = "section { display: none } #training, #errors { display: block } footer, .help, details { display: none }"


def draw() -> None:
    """Train examples/digits.toml anew and take the picture, in few colours."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        run = nw.train(ROOT / "examples" / "digits.toml", run_dir=Path(place) / "digits")
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto((run.folder / "report.html").as_uri())
        page.add_style_tag(content=SHOWN)
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    shot.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    draw()
    print(PICTURE)
