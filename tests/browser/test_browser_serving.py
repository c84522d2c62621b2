"""The page of a served run in a real browser: a form made from the columns, an image, a token; light, dark, by keyboard.

Needs playwright, a Chromium and the extra serve; `make browser` brings the first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import netwright as nw

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser brings it")
for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra serve is not installed")
pytestmark = pytest.mark.browser

from netwright.serving.limits import Limits  # noqa: E402
from netwright.serving.server import RunServer  # noqa: E402

TOKEN = "a token of many letters".replace(" ", "-")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of a table of every kind of column, and one of images."""
    place = tmp_path_factory.mktemp("served")
    generator = np.random.default_rng(4)
    lines = ["rooms,town <b>,new,sold,price"]
    for _ in range(120):
        rooms, town = generator.uniform(1, 8), generator.choice(["Ulm", "Köln", "Bonn"])
        lines.append(
            f"{rooms:.2f},{town},{generator.choice(['true', 'false'])},2019-0{generator.integers(1, 10)}-11,{rooms * 3:.3f}"
        )
    (place / "houses.csv").write_text("\n".join(lines) + "\n")
    for label in ("cat", "dog"):
        (place / "photos" / label).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(generator.integers(0, 256, (12, 12), dtype=np.uint8)).save(
                place / "photos" / label / f"{number}.png"
            )
    table = nw.train(str(place / "houses.csv"), target="price", epochs=2, run_dir=place / "table").folder
    return {"table": table, "images": nw.train(str(place / "photos"), epochs=1, run_dir=place / "images").folder}


@contextmanager
def opened(browser: Any, folder: Path, token: bytes | None = None, **more: Any) -> Iterator[Any]:
    """Serve a run and open its page; nothing may be complained about or asked elsewhere."""
    server = RunServer(nw.load(folder), "127.0.0.1", 0, token, Limits(), lambda number, error: told.append(repr(error)))
    thread = threading.Thread(target=server.serve)
    thread.start()
    told: list[str] = []
    asked: list[str] = []
    context = browser.new_context(**more)
    try:
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address)
        yield page
    finally:
        context.close()
        server.stop()
        thread.join(30)
    expected = [text for text in told if "status of 4" not in text]  # the browser tells refusals of its own accord
    assert expected == []
    assert [url for url in asked if not url.startswith((server.address, "data:", "blob:"))] == []


def test_a_form_of_the_columns_predicts(chromium: Any, folders: dict[str, Path]) -> None:
    with opened(chromium, folders["table"]) as page:
        page.wait_for_selector("#ask:visible")
        labels = page.locator("#fields label").all_inner_texts()
        assert [label.split("\n")[0].strip() for label in labels] == [
            "rooms number",
            "town <b> category",
            "new boolean",
            "sold date",
        ]
        page.fill("#field-0", "3.5")
        page.fill("#field-1", "Ulm")
        page.check("#wide")
        page.focus("#field-0")
        page.keyboard.press("Enter")
        page.wait_for_selector("#prediction")
        run = nw.load(folders["table"])
        body = {
            "rooms": [3.5],
            "town <b>": ["Ulm"],
            "new": [page.input_value("#field-2") == "true"],
            "sold": [page.input_value("#field-3")],
        }
        import pyarrow as pa

        assert float(page.inner_text("#prediction")) == pytest.approx(run.predict(pa.table(body))[0], rel=1e-4)
        assert page.inner_text("#interval").startswith("between ")
        page.fill("#field-0", "many")
        page.click("#predict")
        playwright.expect(page.locator("#problem")).to_have_text("rooms: many is no number")
        page.fill("#field-0", "1e300")
        page.click("#predict")
        playwright.expect(page.locator("#problem")).to_contain_text("infinite or beyond float32")
        page.fill("#field-0", "")
        page.fill("#field-1", "Paris")
        page.click("#predict")
        playwright.expect(page.locator("#notes")).to_contain_text("a category not seen in training")
        assert page.inner_text("#problem") == ""


def test_an_image_is_chosen_seen_and_predicted(chromium: Any, folders: dict[str, Path]) -> None:
    with opened(chromium, folders["images"]) as page:
        file = folders["images"].parent / "photos" / "cat" / "0.png"
        page.set_input_files("#field-0", str(file))
        page.wait_for_function("document.getElementById('preview').naturalWidth === 12")
        page.click("#predict")
        page.wait_for_selector("#prediction")
        assert page.inner_text("#prediction") == nw.load(folders["images"]).predict(str(file))[0]
        assert page.locator("#answer tr").count() == 3
        shares = [float(text) for text in page.locator("#answer td:nth-child(2)").all_inner_texts()]
        assert sum(shares) == pytest.approx(1, abs=2e-4)
        widths = page.locator("#answer td.share div").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().width)"
        )
        assert widths == sorted(widths, reverse=True)


def test_a_token_is_asked_for(chromium: Any, folders: dict[str, Path]) -> None:
    with opened(chromium, folders["table"], TOKEN.encode()) as page:
        page.wait_for_selector("#login:visible")
        assert not page.is_visible("#ask")
        page.fill("#token", "another one")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#problem")).to_have_text("That is not the token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask:visible")
        page.click("#predict")
        page.wait_for_selector("#prediction")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["table", "images"])
def test_it_fits_every_window_and_axe_finds_no_serious_barrier(
    chromium: Any, folders: dict[str, Path], name: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    for width in (360, 1200):
        with opened(
            chromium, folders[name], viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        ) as page:
            page.wait_for_selector("#ask:visible")
            if name == "images":
                page.set_input_files("#field-0", str(folders["images"].parent / "photos" / "dog" / "1.png"))
            page.click("#predict")
            page.wait_for_selector("#prediction")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            found = axe.run(page).response["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious] == []
            page.screenshot(path=str(folders[name].parent / f"{name}-{scheme}-{width}.png"), full_page=True)
