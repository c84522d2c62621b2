"""What a notebook shows of a run, of several, and of a comparison: a table and the curves, as one piece of HTML. Floor 10.

Everything stands in the piece itself: no script, nothing to fetch. Colours follow the notebook's own where it names them
(JupyterLab's variables), else the reader's light or dark scheme. Texts of the user are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from netwright.reporting.contents import RunContents, section
from netwright.reporting.sentences import curves_absent, summary_sentence
from netwright.reporting.together import History, together_svg
from netwright.reporting.wording import figure_text, interval_text

STYLE = """<style>
.netwright { --ink: var(--jp-content-font-color1, #1b2129); --muted: var(--jp-content-font-color2, #5b6570);
  --line: var(--jp-border-color2, #dfe3e8); --first: #3b82c4; --second: #d9772b; --third: #2f9e6b; --fourth: #9a6dd7;
  color: var(--ink); max-width: 64rem; }
@media (prefers-color-scheme: dark) { .netwright { --ink: var(--jp-content-font-color1, #e8ebef);
  --muted: var(--jp-content-font-color2, #9fa9b5); --line: var(--jp-border-color2, #303740); } }
.netwright table { border-collapse: collapse; margin: 0.4em 0; font-variant-numeric: tabular-nums; }
.netwright th, .netwright td { text-align: left; padding: 0.15em 1.2em 0.15em 0; border: 0;
  border-bottom: 1px solid var(--line); background: none; }
.netwright th { font-weight: 600; color: var(--muted); }
.netwright a { color: inherit; text-decoration-color: var(--muted); }
.netwright .quiet { color: var(--muted); }
.netwright svg { display: block; width: 100%; height: auto; }
</style>"""


def piece(title: str, parts: Sequence[str]) -> str:
    """Return one piece of HTML with its style.

    Args:
        title: A text, escaped here.
        parts: HTML.

    Example:
        >>> "&lt;b&gt;" in piece("<b>", [])
        True
    """
    return f'{STYLE}<div class="netwright"><strong>{escape(title)}</strong>{"".join(parts)}</div>'


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], links: Sequence[str] = ()) -> str:
    """Return a table of texts, escaped here.

    Args:
        heading: A text per column.
        rows: Likewise.
        links: Where the first cell of each row leads; none where that is empty.

    Example:
        >>> table(["a"], [["1 < 2"]])
        '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1 &lt; 2</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in heading)
    cells = [[escape(cell) for cell in row] for row in rows]
    for row, link in zip(cells, links, strict=False):
        row[0] = f'<a href="{escape(link)}">{row[0]}</a>'
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def paragraph(text: str) -> str:
    """Return a text, escaped, as a quiet paragraph."""
    return f'<p class="quiet">{escape(text)}</p>'


def run_piece(contents: RunContents) -> str:
    """Return what a notebook shows of a run.

    Args:
        contents: What its folder holds.
    """
    rows = [
        (name, figure_text(entry.get("value") if isinstance(entry, Mapping) else entry), interval_text(entry))
        for name, entry in section(contents.test, "metrics").items()
    ]
    parts = [paragraph(summary_sentence(contents))]
    parts += [table(["test figure", "value", "95 % interval"], rows)] if rows else []
    absent = curves_absent(contents.history)
    parts.append(paragraph(absent) if absent else curves({contents.folder.name: [contents.history]}))
    parts.append(paragraph(f"report: {contents.folder / 'report.html'}"))
    return piece(f"{contents.run.get('name') or contents.folder.name} · {contents.run.get('status')}", parts)


def curves(runs: Mapping[str, Sequence[History]]) -> str:
    """Return the curves of runs as inline SVG; nothing where there are none."""
    kept = {name: [history for history in found if history.get("epoch")] for name, found in runs.items()}
    kept = {name: found for name, found in kept.items() if found}
    return together_svg(kept, f"Curves of {', '.join(kept)}") if kept else ""


def page(title: str, body: str) -> str:
    """Return a page of its own around a piece."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>:root {{ color-scheme: light dark; }}\n"
        "body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem; }</style></head>"
        f"<body>{body}</body></html>\n"
    )
