"""How runs show themselves in a notebook, and several of them on a page or in a drawing. Floor 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright import files
from netwright.errors import CheckpointError
from netwright.numerals import figure
from netwright.runfolder import folder as folders

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Sheet:
    """A heading and rows of texts, as many cells each; ``links`` are where the first cell of each leads, if anywhere."""

    heading: Sequence[str]
    rows: Rows
    links: Sequence[str] = ()


def run_html(folder: Path) -> str:
    """Return what a notebook shows of a run: a sentence, its test figures, its curves."""
    from netwright.reporting.contents import read_run
    from netwright.reporting.notebook import run_piece

    return run_piece(read_run(folder))


def several_html(title: str, sheets: Sequence[Sheet], runs: Mapping[str, Sequence[Path]], remarks: Sequence[str]) -> str:
    """Return what a notebook shows of several runs.

    Args:
        title: What they are.
        sheets: Their figures; those without rows are left out.
        runs: By name, the run folders whose curves are drawn alike.
        remarks: A paragraph each.
    """
    from netwright.reporting.notebook import paragraph, piece, table

    parts = [table(sheet.heading, sheet.rows, sheet.links) for sheet in sheets if sheet.rows]
    return piece(title, [*parts, _curves(runs), *map(paragraph, remarks)])


def write_together(title: str, body: str, runs: Sequence[str], path: Path) -> None:
    """Write several runs as a page (``.html``), or their curves alone (``.svg``).

    Args:
        title: Of the page.
        body: Its HTML.
        runs: The folders, of runs or of seeds.
        path: The file.

    Raises:
        CheckpointError: Curves alone were asked for, and no run has one.
    """
    from netwright.reporting.notebook import page

    if path.suffix.lower() == ".html":
        files.write_text(path, page(title, body))
        return
    drawing = _curves(members(runs))
    if not drawing:
        raise CheckpointError(f"{path}: no run has finished an epoch; expected curves to draw; wait for one")
    files.write_text(path, drawing)


def members(runs: Sequence[str]) -> dict[str, list[Path]]:
    """Return the run folders of runs and of folders of seeds, by the name of each."""
    found = {}
    for name in runs:
        path = Path(name)
        found[name] = folders.runs_inside(path) if (path / folders.SEEDS).is_file() else [path]
    return found


def joined(values: Sequence[float]) -> str:
    """Return values as a text.

    Example:
        >>> joined([0.9, 1.0])
        '0.9, 1'
    """
    return ", ".join(figure(value) for value in values)


def _curves(runs: Mapping[str, Sequence[Path]]) -> str:
    """Return the curves of runs by name; those without a record are left out."""
    from netwright.reporting.contents import read_run
    from netwright.reporting.notebook import curves

    histories: dict[str, list[Any]] = {}
    for name, paths in runs.items():
        histories[name] = [read_run(path).history for path in paths if (path / folders.RECORD).is_file()]
    return curves(histories)
