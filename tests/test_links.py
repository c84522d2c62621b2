"""Every relative link of the pages leads to a file that is there, and every anchor to a heading of it.

Links to other hosts are left to `make docs-links`, which needs a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "results.md"]
FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2`*$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)|<a [^>]*href=\"([^\"]+)\"", re.MULTILINE
)
ELSEWHERE = re.compile(r"^(https?|mailto|ftp):")


def links_of(text: str) -> Iterator[str]:
    """Yield the targets of the links of a page, those in code left out."""
    for found in LINK.finditer(SPAN.sub("code", FENCE.sub("", text))):
        yield next(target for target in found.groups() if target)


def anchors_of(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page: lower case, no punctuation, dashes for blanks."""
    anchors: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        before = sum(slug == anchor or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None for anchor in anchors)
        anchors.append(f"{slug}-{before}" if slug in anchors else slug)
    return {*anchors, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)}


def broken(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    wrong = []
    for target in links_of(text):
        if ELSEWHERE.match(target):
            continue
        name, _, anchor = unquote(target).partition("#")
        place = page.parent / name if name else page
        if not place.exists() or ROOT not in (place.resolve(), *place.resolve().parents):
            wrong.append(f"{page.relative_to(ROOT)}: {target}: no such file")
        elif anchor and anchor not in anchors_of(place.read_text(encoding="utf-8")):
            wrong.append(f"{page.relative_to(ROOT)}: {target}: no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_seen() -> None:
    text = "# A `b` (c)\n[1](#a-b-c) [2](docs/data.md) [3](docs/none.md) [4](#none) [5](docs/data.md#none)\n"
    text += "`[6](none)`\n```\n[7](none)\n```\n[8](https://example.org/none) ![9](none.png)\n"
    where = ["docs/none.md", "#none", "docs/data.md#none", "none.png"]
    seen = [line.split(": ")[1] for line in broken(ROOT / "README.md", text)]
    assert seen == ["#a-b-c", *where]  # anchors are those of the file as it lies there


def test_anchors_are_those_of_github() -> None:
    text = "# `nw.train`: what, and why?\n## Same\n## Same\n```\n# no heading\n```\n## [A page](page.md) of it\n"
    assert anchors_of(text) == {"nwtrain-what-and-why", "same", "same-1", "a-page-of-it"}
