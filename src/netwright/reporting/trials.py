"""The report of a search: its best trial, how the figures came, what each setting explains, every trial. Floor 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from netwright.reporting.diagram import dark_rules
from netwright.reporting.searched import history_svg, importances_svg, parallel_svg


class TrialRow(Protocol):
    """One trial as the report shows it; ``point`` holds its settings by path, and a finished one has a ``value``."""

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def point(self) -> Mapping[str, Any]: ...
    @property
    def counts(self) -> bool: ...
    @property
    def why(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class SearchContents:
    """All that the report of a search tells.

    ``ranges`` says in words what each setting may be, ``test`` are the test figures of the best run, by name,
    ``looks`` how often its test rows were seen until then.
    """

    name: str
    metric: str
    mode: str
    rows: Sequence[TrialRow]
    ranges: Mapping[str, str]
    logarithmic: Sequence[str]
    importances: Mapping[str, float]
    best: int | None
    summary: Sequence[str]
    test: Mapping[str, Any]
    looks: int = 0


def render_search(contents: SearchContents) -> str:
    """Tell a search as one self-contained HTML page with nothing to fetch.

    Args:
        contents: Of the search.
    """
    loader = PackageLoader("netwright.reporting", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    finished = [row for row in contents.rows if row.value is not None]
    values = [float(row.value) for row in finished if row.value is not None]
    pruned = [row.number for row in contents.rows if row.counts and row.value is None]
    several = len(finished) > 1
    history = history_svg([row.number for row in finished], values, pruned, contents.mode, contents.metric)
    parallel = parallel_svg([row.point for row in finished], values, contents.mode, contents.metric, contents.logarithmic)
    best = next((row for row in contents.rows if row.number == contents.best), None)
    ordered = sorted(contents.rows, key=lambda row: _rank(row, contents.mode))
    return page.get_template("search.html.jinja").render(
        search=contents,
        best=best,
        ordered=ordered,
        history=Markup(history),
        parallel=Markup(parallel) if several else None,
        importances=Markup(importances_svg(contents.importances)) if contents.importances else None,
        diagram_dark=lambda before: Markup(dark_rules(before)),
    )


def _rank(row: TrialRow, mode: str) -> tuple[int, float]:
    """Return what trials are ordered by: the best first, then those without a figure."""
    if row.value is None:
        return (1, float(row.number))
    return (0, row.value if mode == "min" else -row.value)
