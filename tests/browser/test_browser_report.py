"""The report in a real browser: nothing fetched, nothing too wide, readable in light and dark, usable by keyboard; on paper too.

Needs playwright, axe-playwright-python and a Chromium; `make browser` brings the first two. Barriers are found by axe-core.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser brings it")
pytestmark = pytest.mark.browser

NAMES = ("iris", "diabetes", "digits")
# The contrast of every text that is seen, against the nearest background below it; matplotlib's texts are filled, others coloured.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const shine = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const low = [];
  const texts = "svg.plot text, svg.netwright-diagram text, p, td, th, dt, dd, li, a, button, summary, h1, h2";
  for (const one of document.querySelectorAll(texts)) {
    if (!one.textContent.trim() || !one.getClientRects().length || one.closest(".skip, .unseen")) continue;
    const style = getComputedStyle(one);
    const ink = parse(one instanceof SVGElement ? style.fill : style.color);
    let back = [255, 255, 255];
    for (let up = one; up; up = up.parentElement) {
      const colour = parse(getComputedStyle(up).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) { back = colour; break; }
    }
    const box = one.closest("svg.netwright-diagram g")?.querySelector(".nd-box");
    if (box) back = parse(getComputedStyle(box).fill);
    const [bright, dark] = [shine(ink), shine(back)].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) low.push([one.textContent.slice(0, 40), style.fill, String(back), ratio]);
  }
  return low;
}"""


class Opened:
    """A report in a tab, with everything it complained about and asked for."""

    def __init__(self, browser: Any, file: Path, width: int = 1440, scheme: str = "light", **more: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        self.page = self.context.new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.told.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *problem: object) -> None:
        self.context.close()
        if problem[0] is None:
            assert self.told == []
            assert [address for address in self.asked[1:] if not address.startswith("data:")] == []


@pytest.mark.parametrize("width", [360, 820, 1440])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_window(chromium: Any, reported: dict[str, Path], name: str, width: int) -> None:
    for scheme in ("light", "dark"):
        with Opened(chromium, reported[name] / "report.html", width, scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth") == width
            wide = page.evaluate(
                """() => [...document.querySelectorAll("main *, header *")]
                  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre, .skip"))
                  .map((one) => one.outerHTML.slice(0, 80))"""
            )
            assert wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_every_text_has_the_contrast_of_wcag_aa(chromium: Any, reported: dict[str, Path], name: str, scheme: str) -> None:
    with Opened(chromium, reported[name] / "report.html", 1440, scheme) as page:
        assert page.evaluate(CONTRAST) == []
        page.click("#scheme")  # the other scheme, by the button
        assert page.get_attribute("html", "data-theme") == ("dark" if scheme == "light" else "light")
        assert page.get_attribute("#scheme", "aria-pressed") == ("true" if scheme == "light" else "false")
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_no_serious_barrier(chromium: Any, reported: dict[str, Path], name: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    with Opened(chromium, reported[name] / "report.html", 1440, scheme, bypass_csp=True) as page:
        for details in page.query_selector_all("details"):
            details.evaluate("one => { one.open = true; }")
        found = axe.run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["help"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious] == []


def test_pointing_at_curves_and_arrow_keys_change_the_readout(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["iris"] / "report.html") as page:
        figure = page.locator("figure.curves").first
        readout, area = figure.locator(".readout"), figure.locator(".area")
        assert readout.get_attribute("aria-live") == "polite"
        area.scroll_into_view_if_needed()
        box = area.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.13, box["y"] + 60)
        first = readout.inner_text()
        page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + 60)
        last = readout.inner_text()
        assert (first.split()[:2], last.split()[:2]) == (["epoch", "1"], ["epoch", "4"])
        area.focus()
        page.keyboard.press("ArrowLeft")
        assert readout.inner_text().split()[:2] == ["epoch", "3"]
        page.keyboard.press("Home")
        assert readout.inner_text() == first
        page.keyboard.press("End")
        assert readout.inner_text() == last
        rows = figure.locator("details tbody tr")
        figure.locator("summary").click()
        assert [cell in last for cell in rows.nth(3).inner_text().split()] == [True] * 3
        assert page.evaluate("document.querySelector('.cursor').getAttribute('visibility')") == "visible"


def test_the_cursor_lies_on_the_curve(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["iris"] / "report.html") as page:
        page.locator("figure.curves .area").first.focus()
        page.keyboard.press("Home")
        away = page.evaluate(
            """() => {
              const svg = document.querySelector("figure.curves svg");
              const dots = [...svg.querySelectorAll("circle.at")].map((dot) => [dot.cx.baseVal.value, dot.cy.baseVal.value]);
              const marks = [...svg.querySelectorAll("use")].map((use) => [use.x.baseVal.value, use.y.baseVal.value]);
              return dots.map(([x, y]) => Math.min(...marks.map(([a, b]) => Math.hypot(a - x, b - y))));
            }"""
        )
        assert len(away) == 2
        assert max(away) < 0.2


def test_the_keyboard_reaches_everything_and_focus_is_seen(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["iris"] / "report.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        unseen = []
        reached = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            state = page.evaluate(
                "() => { const one = document.activeElement, style = getComputedStyle(one);"
                " return [one.tagName, one.className, style.outlineStyle, parseFloat(style.outlineWidth)]; }"
            )
            if state[0] == "BODY":
                break
            reached.add(state[0])
            if state[2] == "none" or state[3] < 1:
                unseen.append(state)
        assert unseen == []
        assert {"SUMMARY", "DIV", "PRE", "BUTTON"} <= reached


def test_without_a_script_everything_stays_to_be_read(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["iris"] / "report.html", java_script_enabled=False) as page:
        assert page.locator("button:visible").count() == 0
        assert page.locator("figure.curves svg").first.is_visible()
        assert page.locator("figure.curves .readout").first.inner_text().startswith("epoch ")
        page.locator("figure.curves summary").first.click()
        assert page.locator("figure.curves table").first.is_visible()


def test_the_contents_follow_the_reader_on_wide_screens_only(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["digits"] / "report.html") as page:
        page.click("nav.contents a[href='#worst']")
        playwright.expect(page.locator("nav a[aria-current]")).to_have_attribute("href", "#worst")
        assert page.locator("nav.contents").is_visible()
    with Opened(chromium, reported["digits"] / "report.html", 820) as page:
        assert not page.locator("nav.contents").is_visible()


def test_thumbnails_are_decoded(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["digits"] / "report.html") as page:
        sizes = page.evaluate(
            "[...document.images].map((one) => [one.naturalWidth, one.getBoundingClientRect().width > 40])"
        )
        assert sizes == [[8, True]] * 8


def test_the_copy_button_copies_the_command(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["iris"] / "report.html") as page:
        button = page.locator("button.copy")
        button.click()
        playwright.expect(button).to_have_text(re.compile("Copied|Selected"))
        playwright.expect(button).to_have_text("Copy")


def test_it_prints_light_without_buttons(chromium: Any, reported: dict[str, Path]) -> None:
    with Opened(chromium, reported["digits"] / "report.html", 1440, "dark") as page:
        paper = page.pdf(format="A4")
        assert paper.startswith(b"%PDF")
        assert 2 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 14
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("button:visible, nav:visible, .skip:visible").count() == 0
        page.set_viewport_size({"width": 720, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == 720
