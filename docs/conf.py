"""The documentation as a site: `make docs` builds it from the Markdown pages as they lie here and the docstrings.

The pages are read from the root of the repository, so that README, changelog and measurements are on the site too.
Nothing is fetched: no fonts, scripts or pictures of other hosts.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
INDEX = "docs/index"
START = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>netwright</title>
<meta http-equiv="refresh" content="0; url=docs/index.html"></head>
<body><a href="docs/index.html">netwright</a></body></html>
"""

project = "netwright"
author = "the netwright authors"
release = importlib.metadata.version("netwright")
root_doc = INDEX
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
include_patterns = ["*.md", "docs/**.md", "benchmarks/results.md"]
exclude_patterns = [".*", "build", "dist", "examples", "runs", "src", "tests", "tools"]

myst_heading_anchors = 4  # the anchors of GitHub
suppress_warnings = ["myst.header"]  # the README's first heading levels are those of GitHub
autodoc_typehints = "none"  # types are in the signature of the source; Args say what an argument means
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

smartquotes = False  # options keep their two dashes
html_theme = "furo"
html_title = "netwright"
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-light"  # enough contrast to be read
pygments_dark_style = "a11y-dark"
linkcheck_anchors = False
linkcheck_timeout = 20
linkcheck_ignore = [r"http://(127\.0\.0\.1|localhost|server)[:/]"]


def fill_the_rest(app: Any, name: str, content: list[str]) -> None:
    """Put every page of docs/ that the index does not name in place of its asterisk, so that a new page needs no line."""
    if name != INDEX:
        return
    named = set(content[0].splitlines())
    rest = sorted(page.stem for page in (ROOT / "docs").glob("*.md") if page.stem not in {"index", *named})
    content[0] = content[0].replace("\n*\n", "\n" + "".join(f"{page}\n" for page in rest))


def write_start(app: Any, problem: Exception | None) -> None:
    """Let the root of the site lead to its first page."""
    if problem is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(START, encoding="utf-8")


def setup(app: Any) -> None:
    """Add both to the build."""
    app.connect("source-read", fill_the_rest)
    app.connect("build-finished", write_start)
