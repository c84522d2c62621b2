"""The plots of a report as SVG text: curves, confusion matrix, predicted against true values, residuals.

Drawn with matplotlib's figure objects, never through pyplot. The background is transparent and every colour is a
CSS variable with a fallback, so one drawing reads on a light page, on a dark page and on its own. The same values
give the same bytes. Texts of the user are never read as formulas and leave here escaped.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from netwright.reporting.wording import shortened_inside

LARGEST_WITH_CELL_TEXT = 30
FAINTEST_CELL, STRONGEST_CELL = 0.2, 0.55  # how opaque the colour of a cell with a count is
INK, MUTED, LINE, FIRST, SECOND, THIRD, FOURTH = (f"#01020{digit}" for digit in range(1, 8))
_COLOURS = {  # a stand-in matplotlib can parse -> what the page defines, and what a drawing on its own shows
    INK: "var(--ink, #667080)",
    MUTED: "var(--muted, #7d8794)",
    LINE: "var(--line, #8d96a366)",
    FIRST: "var(--first, #3b82c4)",
    SECOND: "var(--second, #d9772b)",
    THIRD: "var(--third, #2f9e6b)",
    FOURTH: "var(--fourth, #9a6dd7)",
}
_SERIES = (FIRST, SECOND, THIRD, FOURTH)
_FONT = "var(--font, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif)"
_STYLE: dict[Any, Any] = {  # matplotlib types every setting by its name
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 9.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.solid_capstyle": "round",
}


def curves_svg(
    epochs: Sequence[float], series: Mapping[str, Sequence[float]], best: float | None, marked: str, label: str
) -> str:
    """Draw one line per series over the epochs, the best epoch marked.

    Args:
        epochs: Epoch numbers, ``(epochs,)``.
        series: Values by name, each ``(epochs,)``, NaN where nothing was measured; drawn in order, at most four.
        best: The epoch whose weights are kept, or None.
        marked: The series that carries the mark.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with _house_style(label):
        figure, axes = _plane(5.0, 3.25)
        finite = [value for values in series.values() for value in values if math.isfinite(value)]
        logarithmic = bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 40
        for (name, values), colour in zip(series.items(), _SERIES, strict=False):
            dot = "o" if len(epochs) <= 15 else ""
            axes.plot(epochs, values, color=colour, linewidth=1.8, label=name, marker=dot, markersize=3.5)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            axes.yaxis.set_major_formatter(FuncFormatter(_tick))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if best is not None and best in list(epochs):
            colour = _SERIES[list(series).index(marked) % 4] if marked in series else MUTED
            axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label=f"best: epoch {best:g}")
            value = series[marked][list(epochs).index(best)] if marked in series else math.nan
            axes.plot([best], [value], "o", markersize=7, markerfacecolor="none", markeredgecolor=colour)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.margins(x=0.02)
        axes.set_xlabel("epoch" + (" · logarithmic scale" if logarithmic else ""))
        axes.grid(axis="x", visible=False)
        beside = 3 if len(series) <= 2 else 2  # three long names are wider than the plane
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=beside, borderaxespad=0.2, handlelength=1.6)
        return _svg(figure, label)


def confusion_svg(classes: Sequence[str], matrix: Sequence[Sequence[float]], label: str) -> str:
    """Draw a confusion matrix, each cell coloured by its share of the true class.

    Args:
        classes: Names of the classes.
        matrix: Counts, ``(classes, classes)``; rows are true classes.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text; up to 30 classes with the count in each cell.
    """
    counts = numpy.asarray(matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = numpy.divide(counts, totals, out=numpy.zeros_like(counts), where=totals > 0)
    size = len(classes)
    with _house_style(label):
        side = 3.8 if size <= 5 else 5.4
        figure, axes = _plane(side, side)
        axes.grid(visible=False)
        if size <= LARGEST_WITH_CELL_TEXT:
            _draw_cells(axes, counts, shares)
        else:
            axes.imshow(_cell_colours(shares), interpolation="none", aspect="auto")
        names = [shortened_inside(name, 15) for name in classes]
        shown = list(range(0, size, max(1, math.ceil(size / 25)) if size > LARGEST_WITH_CELL_TEXT else 1))
        longest = max((len(names[place]) for place in shown), default=1)
        upright = longest * len(shown) > 48
        font = 9.5 if size <= 15 else 8 if size <= 24 else 7
        axes.set_xticks(shown, [names[place] for place in shown], rotation=90 if upright else 0, fontsize=font)
        axes.set_yticks(shown, [names[place] for place in shown], fontsize=font)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted class", ylabel="true class")
        axes.tick_params(length=0)
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_visible(True)
        return _svg(figure, label)


def predicted_svg(true: Sequence[float], predicted: Sequence[float], label: str) -> str:
    """Draw predicted against true values, with the line where both are equal.

    Args:
        true: Values of the target, ``(rows,)``, finite.
        predicted: Predictions, ``(rows,)``, finite.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with _house_style(label):
        figure, axes = _plane(4.6, 3.9)
        ends = [min(*true, *predicted), max(*true, *predicted)] if len(true) else [0.0, 1.0]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="prediction = true value")
        _draw_points(axes, true, predicted)
        axes.set(xlabel="true value", ylabel="prediction")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
        return _svg(figure, label)


def residual_svg(true: Sequence[float], predicted: Sequence[float], label: str) -> str:
    """Draw residuals, prediction minus true value, against the prediction.

    Args:
        true: Values of the target, ``(rows,)``, finite.
        predicted: Predictions, ``(rows,)``, finite.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with _house_style(label):
        figure, axes = _plane(4.6, 3.9)
        axes.axhline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="no error")
        _draw_points(axes, predicted, [guess - value for guess, value in zip(predicted, true, strict=True)])
        axes.set(xlabel="prediction", ylabel="prediction − true value")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
        return _svg(figure, label)


def _plane(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a transparent figure of that many inches with one plane in it."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    return figure, axes


def _tick(value: float, _place: int | None = None) -> str:
    """Return the text at a tick, with separators between the thousands."""
    text = f"{value:,.6g}" if abs(value) < 1e6 or abs(value) >= 1e9 else f"{value:,.0f}"
    return text.replace("-", "\u2212")


def _draw_points(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    """Draw points that show their density."""
    few = len(across) <= 300
    axes.plot(across, up, "o", color=FIRST, markersize=4 if few else 2.6, alpha=0.6 if few else 0.35, markeredgewidth=0)
    longest = max((len(_tick(value, 0)) for value in (min(across), max(across))), default=1) if len(across) else 1
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6 if longest < 7 else 4))


def _draw_cells(axes: Axes, counts: numpy.ndarray, shares: numpy.ndarray) -> None:
    """Draw one square per cell that is not empty, with its count."""
    size = len(counts)
    font = 10.0 if size <= 12 else 8.0 if size <= 20 else 6.0
    for row, column in numpy.ndindex(*counts.shape):
        count, share = float(counts[row, column]), float(shares[row, column])
        if count == 0:
            if size <= 12:
                axes.text(column, row, "0", ha="center", va="center_baseline", fontsize=font, color=MUTED)
            continue
        colour = FIRST if row == column else SECOND
        square = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=colour, alpha=_strength(share), lw=0)
        axes.add_patch(square)
        words = f"{count:,.0f}" if size <= 8 else f"{count:.0f}" if count < 10000 else f"{count / 1000:.0f}k"
        axes.text(column, row, words, ha="center", va="center_baseline", fontsize=font, color=INK)


def _strength(share: float) -> float:
    """Return how opaque a cell of that row share is: a single row stays visible, and ink on a full cell readable.

    On the page's colours the count keeps a contrast of at least 4.5 to 1 (WCAG AA), light and dark.
    """
    return FAINTEST_CELL + (STRONGEST_CELL - FAINTEST_CELL) * min(max(share, 0.0), 1.0)


def _cell_colours(shares: numpy.ndarray) -> numpy.ndarray:
    """Return the cells as an image: right ones blue, wrong ones orange, empty ones transparent."""
    size = len(shares)
    image = numpy.zeros((size, size, 4))
    image[..., :3] = matplotlib.colors.to_rgb("#d9772b")
    image[numpy.arange(size), numpy.arange(size), :3] = matplotlib.colors.to_rgb("#3b82c4")
    image[..., 3] = numpy.where(shares > 0, 0.12 + 0.88 * shares, 0.0)
    return image


def parts_svg(bins: Sequence[str], shares: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw the share of the rows of each part in each class, or in each range of the target.

    Args:
        bins: The classes or ranges.
        shares: Per part a share per bin; parts without rows have zeros and are left out.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    used = {name: values for name, values in shares.items() if any(values)}
    with _house_style(label):
        figure, axes = _plane(6.4, max(2.2, 0.34 * len(bins) + 1.0))
        height = 0.8 / max(len(used), 1)
        for number, (name, values) in enumerate(used.items()):
            places = numpy.arange(len(bins)) + (number - (len(used) - 1) / 2) * height
            axes.barh(places, [100 * share for share in values], height * 0.9, color=_SERIES[number % 4], label=name)
        axes.set_yticks(numpy.arange(len(bins)), [shortened_inside(text, 30) for text in bins])
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        axes.set_xlabel("share of the rows of the part")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.2)
        return _svg(figure, label)


@contextmanager
def _house_style(salt: str) -> Iterator[None]:
    """Draw with matplotlib's own defaults and the house style, whatever the user's settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*(Glyph|glyph|constrained_layout|font).*")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["svg.hashsalt"] = salt
        yield


def _svg(figure: Figure, label: str) -> str:
    """Return the figure as one ``<svg>`` element without dates, stray identifiers or fixed colours."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style type=.*?</style>|<!--.*?-->|<[^>]*>", _mended, text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>|\n\s*(?=\n)", "", text)
    widest = f"max-width: {figure.get_figwidth() * 72 * 1.45:.0f}px"  # keeps the letters of all plots alike
    return f'<svg class="plot" style="{widest}" role="img" aria-label="{escape(label)}" ' + text.removeprefix("<svg ")


def _mended(match: re.Match[str]) -> str:
    """Return one tag of the drawing as the page wants it; tags hold no text of the user."""
    tag = match.group()
    if tag.startswith(("<style", "<!--")):
        return ""
    tag = re.sub(r' xmlns:xlink="[^"]*"', "", tag).replace("xlink:href=", "href=")
    if tag.startswith("<g id="):
        tag = re.sub(r'<g id="[^"]*"', "<g", tag)
    if tag.startswith("<text"):
        tag = re.sub(r"font: ([0-9.]+px) [^;\"]*", rf"font: \1 {_FONT}", tag)
    for stand_in, colour in _COLOURS.items():
        tag = tag.replace(stand_in, colour)
    return tag
