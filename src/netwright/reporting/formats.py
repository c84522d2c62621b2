"""The formats a report comes in: a page, Markdown, a picture, a table for LaTeX. Each is made only when asked for."""

from __future__ import annotations

from pathlib import Path

from netwright.beside import Imports
from netwright.errors import ConfigError

FORMATS = {"html": "report.html", "markdown": "report.md", "png": "report.png", "latex": "report.tex"}
IMPORTS = Imports("matplotlib", (__name__, "netwright.reporting.report"))


def render(folder: Path, form: str = "html", *, rows: bool = True) -> bytes:
    """Tell a run in one of the formats.

    Args:
        folder: The run folder; files other than ``run.json`` may be missing.
        form: ``html`` (the whole page), ``markdown`` (figures, findings, command), ``png`` (curves, test table, errors; 200 dots
            per inch) or ``latex`` (the test figures as a booktabs table).
        rows: Whether single test rows may be shown.

    Returns:
        The content of the file.

    Raises:
        ConfigError: A format that is not known.
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.

    Example:
        >>> render(Path("run"), "pdf")
        Traceback (most recent call last):
        netwright.errors.ConfigError: report format 'pdf': expected html, markdown, png or latex; change it
    """
    if form == "html":
        from netwright.reporting.report import render_report

        return render_report(folder, rows=rows).encode()
    if form == "png":
        from netwright.reporting.picture import picture_png

        return picture_png(folder, rows=rows)
    if form == "markdown":
        from netwright.reporting.markdown import markdown_text

        return markdown_text(folder).encode()
    if form == "latex":
        from netwright.reporting.latex import latex_text

        return latex_text(folder).encode()
    raise ConfigError(f"report format {form!r}: expected html, markdown, png or latex; change it")
