"""The report of a run as one picture, for papers and chats: curves, test figures, confusions or errors; white, 200 dpi."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netwright.reporting.canvas import INK, LINE, MUTED, PAPER, dress, house_style, png_bytes
from netwright.reporting.chance import confusion_counts
from netwright.reporting.contents import RunContents, read_run, read_target_pairs, section
from netwright.reporting.evidence import intervals_words
from netwright.reporting.plots import draw_confusion, draw_curves, draw_histogram, draw_predicted
from netwright.reporting.sections import curves_of
from netwright.reporting.verdict import baselines_of, verdict_of
from netwright.reporting.wording import as_number, interval_text, like_text, shortened, value_text

_DPI = 200
_MOST_CLASSES = 40
_MOST_POINTS = 5000
_MOST_LINES = 13


def picture_png(folder: Path, *, rows: bool = True) -> bytes:
    """Draw a run as one picture.

    Args:
        folder: The run folder.
        rows: Whether a point per test row may be drawn; else the errors are counted.

    Returns:
        A PNG of at most 2 × 2 planes, 200 dots per inch.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.
    """
    contents = read_run(folder)
    with house_style("picture", PAPER):
        curves = [(title, series) for title, series in curves_of(contents.history).items() if series]
        matrix = confusion_counts(contents.test)
        errors = _errors(contents)
        planes = len(curves) + 1 + (matrix is not None and len(matrix.classes) <= _MOST_CLASSES or errors is not None)
        figure = Figure(figsize=(10.0, 4.2 * math.ceil(planes / 2) + 0.8), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg]
        figure.suptitle(_heading(contents), x=0.02, ha="left", fontsize=13, fontweight="bold")
        grid = list(figure.subplots(math.ceil(planes / 2), 2, squeeze=False).flat)
        for axes in grid:
            dress(axes)
        for _, series in curves:
            _draw_history(grid.pop(0), contents, series)
        _draw_figures(grid.pop(0), contents)
        if matrix is not None and len(matrix.classes) <= _MOST_CLASSES:
            draw_confusion(grid.pop(0), matrix.classes, matrix.matrix)
        elif errors is not None:
            _draw_errors(grid.pop(0), errors, rows)
        for axes in grid:
            axes.remove()
        return png_bytes(figure, _DPI)


def _heading(contents: RunContents) -> str:
    """Return name and headline, with the sentence beside the best baseline below."""
    verdict = verdict_of(contents)
    name = shortened(str(contents.run.get("name") or contents.folder.name), 40)
    figure = f"test {verdict.metric} {verdict.value}" if verdict.metric else verdict.value
    between = f" ({verdict.low} to {verdict.high})" if verdict.low else ""
    return f"{name}: {figure}{between}\n" + textwrap.fill(shortened(verdict.words, 170), 86)


def _draw_history(axes: Axes, contents: RunContents, series: Mapping[str, object]) -> None:
    """Draw curves over the epochs."""
    best = section(contents.run, "best")
    named = {name: contents.history[name] for name in list(series)[:4]}
    length = len(next(iter(named.values())))
    epochs = contents.history.get("epoch", [float(number + 1) for number in range(length)])
    monitor = str(best.get("monitor") or "")
    draw_curves(axes, epochs, named, as_number(best.get("epoch")), monitor if monitor in named else list(named)[-1])


def _draw_figures(axes: Axes, contents: RunContents) -> None:
    """Write the test figures as a table into a plane."""
    axes.set_axis_off()
    lines = [
        (str(name), value_text(figure), interval_text(figure)) for name, figure in section(contents.test, "metrics").items()
    ]
    metric = verdict_of(contents).metric
    level = intervals_words(contents.test)[0]
    lines += [
        (one.name, like_text(one.metrics[metric], section(contents.test, "metrics")[metric]), f"baseline, {metric}")
        for one in baselines_of(contents.test)
        if metric in one.metrics
    ]
    lines = [("test figure", "value", f"{level} interval"), *lines[:_MOST_LINES]]
    if contents.test is None:
        lines = [("not tested yet", "", "")]
    for number, (name, value, between) in enumerate(lines):
        height, colour = 1 - (number + 0.5) / (_MOST_LINES + 1), MUTED if number == 0 else INK
        axes.text(0, height, shortened(name, 34), color=colour, transform=axes.transAxes, va="center")
        axes.text(0.62, height, value, color=colour, transform=axes.transAxes, ha="right", va="center")
        axes.text(1, height, between, color=MUTED, transform=axes.transAxes, ha="right", va="center")
        line = height - 0.5 / (_MOST_LINES + 1)
        axes.plot([0, 1], [line, line], color=LINE, linewidth=0.8, transform=axes.transAxes, clip_on=False)


def _errors(contents: RunContents) -> tuple[list[float], list[float]] | None:
    """Return true and predicted values of the first target of a regression; None for other tasks."""
    if section(contents.run, "task").get("kind") != "regression" or contents.test is None:
        return None
    pairs = [pair for pair in read_target_pairs(contents.folder) if len(pair.true)]
    return (list(pairs[0].true), list(pairs[0].predicted)) if pairs else None


def _draw_errors(axes: Axes, errors: tuple[list[float], list[float]], rows: bool) -> None:
    """Draw predicted against true values, or how often which error occurs."""
    true, predicted = errors
    if not rows:
        draw_histogram(axes, [guess - value for guess, value in zip(predicted, true, strict=True)])
        return
    stride = math.ceil(len(true) / _MOST_POINTS)
    draw_predicted(axes, true[::stride], predicted[::stride])
