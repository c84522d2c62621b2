"""The report of a run: everything its folder holds as one HTML page that needs nothing else.

The page fetches nothing; its one script is small, its own, and the only one the page's policy lets run (by its digest); without
it everything can still be read. Every text of the user is escaped: by the template's autoescaping, and in the drawings by the
modules that make them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from netwright.reporting import wording
from netwright.reporting.balance import balance_view
from netwright.reporting.circumstances import command_text, findings_of, findings_words, provenance, timing_view
from netwright.reporting.contents import RunContents, entries, read_run, section
from netwright.reporting.diagram import dark_rules
from netwright.reporting.evidence import (
    baselines_view,
    classes_view,
    importance_view,
    intervals_words,
    slices_view,
    threshold_view,
)
from netwright.reporting.sections import columns_view, curves_view, network_view, regression_view, test_view, tiles_of
from netwright.reporting.sentences import summary_sentence, warnings_of
from netwright.reporting.trust import calibration_view, conformal_view, worst_view
from netwright.reporting.verdict import verdict_of

_MOST_SETTINGS = 100_000  # characters; a resolved config may list every row number
_SECTIONS = {
    "asked": "What was asked",
    "data": "Data and split",
    "network": "Network",
    "training": "Training",
    "test": "Test",
    "errors": "Confusions",
    "trust": "Trust",
    "importance": "What it relies on",
    "worst": "Worst errors",
    "checks": "Checks",
    "time": "Time",
    "repeat": "How to repeat it",
}


def render_report(folder: Path, *, rows: bool = True) -> str:
    """Tell a run as one self-contained HTML page.

    Args:
        folder: The run folder; files other than ``run.json`` may be missing.
        rows: Whether single test rows may be shown: worst errors, and a point per row.

    Returns:
        The page, with nothing to fetch.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.

    Example:
        >>> render_report(Path("no-such-run"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        netwright.errors.CheckpointError: no-such-run: no run ...
    """
    contents = read_run(folder)
    page = _environment()
    script = resources.files("netwright.reporting").joinpath("templates/script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    views = {**_run_views(contents), **_test_views(contents, rows)}
    return page.get_template("page.html.jinja").render(
        **views, rows=rows, contents=_contents(views), script=Markup(script), script_hash=f"sha256-{digest}"
    )


@cache
def _environment() -> Environment:
    """Return what fills the templates; compiled once a process."""
    loader = PackageLoader("netwright.reporting", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters.update(
        figure=wording.figure_text,
        count=wording.count_text,
        large=wording.large_text,
        size=wording.size_text,
        duration=wording.duration_text,
        moment=wording.moment_text,
        shape=wording.shape_text,
        layout=wording.layout_text,
        breakable=_breakable,
    )
    return page


def _run_views(contents: RunContents) -> dict[str, object]:
    """Return what the page shows of the run itself."""
    run = contents.run
    task = section(run, "task")
    settings = contents.settings
    findings = findings_of(run)
    return {
        "run": run,
        "name": str(run.get("name") or contents.folder.name),
        "status": str(run["status"]),
        "summary": summary_sentence(contents),
        "warnings": warnings_of(contents),
        "notes": [str(note) for note in entries(run, "notes")],
        "findings": findings,
        "finding_words": findings_words(findings),
        "tiles": tiles_of(contents),
        "target": ", ".join(str(name) for name in entries(task, "target")) or wording.NOT_RECORDED,
        "loss": str(task.get("loss") or wording.NOT_RECORDED),
        "curves": curves_view(contents),
        "network": network_view(contents),
        "columns": columns_view(contents),
        "split": section(run, "split"),
        "data": section(run, "data"),
        "timing": timing_view(contents),
        "command": command_text(run),
        "settings": settings[:_MOST_SETTINGS] if settings is not None else None,
        "settings_cut": len(settings or "") > _MOST_SETTINGS,
        "provenance": provenance(run),
        "diagram_dark": lambda before: Markup(dark_rules(before)),
    }


def _test_views(contents: RunContents, rows: bool) -> dict[str, object]:
    """Return what the page shows of the test."""
    test = contents.test
    return {
        "verdict": verdict_of(contents),
        "level": intervals_words(test)[0],
        "test": test_view(contents),
        "baselines": baselines_view(contents),
        "classes": classes_view(test),
        "balance": balance_view(test),
        "slices": slices_view(contents),
        "regression": regression_view(contents),
        "calibration": calibration_view(test),
        "threshold": threshold_view(test),
        "conformal": conformal_view(test),
        "importance": importance_view(test),
        "worst": worst_view(test) if rows else None,
    }


def _contents(views: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the sections there are as (anchor, title)."""
    test = views["test"]
    confused = isinstance(test, Mapping) and bool(test["confusion"])
    absent = {
        "errors": test is None or (not confused and views["regression"] is None),
        "trust": views["calibration"] is None and views["threshold"] is None and views["conformal"] is None,
        "importance": views["importance"] is None,
        "worst": views["worst"] is None,
        "checks": not views["findings"],
        "time": views["timing"] is None,
    }
    titles = _SECTIONS if confused else _SECTIONS | {"errors": "True and predicted"}
    return [(anchor, title) for anchor, title in titles.items() if not absent.get(anchor)]


def _breakable(text: object) -> Markup:
    """Escape a layer's text and let its lines break after brackets and points, not only at spaces."""
    return Markup(escape(text).replace("(", Markup("(<wbr>")).replace(".", Markup(".<wbr>")))
