"""The plots of a report: curves, confusion matrix, true and predicted values, residuals, calibration, parts.

Drawn with matplotlib's figure objects, never through pyplot. Each drawing is made once, on a plane that is handed in, for the
page (SVG) and for the picture (PNG). Texts of the user are never read as formulas and leave here escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from netwright.reporting.canvas import FIRST, INK, MUTED, SECOND, SERIES, house_style, pixels, plane, svg_text, tick
from netwright.reporting.wording import shortened_inside

LARGEST_WITH_CELL_TEXT = 30
FAINTEST_CELL, STRONGEST_CELL = 0.2, 0.55  # how opaque the colour of a cell with a count is
_BINS = 40


@dataclass(frozen=True)
class Places:
    """Where the points of curves lie in their drawing, for a reader who points at them.

    Args:
        across: Horizontal place of each epoch.
        up: Vertical places by series, None where nothing was measured.
        top: Vertical place of the upper edge of the plane.
        bottom: Vertical place of its lower edge.
    """

    across: list[float]
    up: dict[str, list[float | None]]
    top: float
    bottom: float


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
    return placed_curves(epochs, series, best, marked, label)[0]


def placed_curves(
    epochs: Sequence[float], series: Mapping[str, Sequence[float]], best: float | None, marked: str, label: str
) -> tuple[str, Places]:
    """Draw curves as `curves_svg` does, and say where their points lie.

    Args:
        epochs: As there.
        series: As there.
        best: As there.
        marked: As there.
        label: As there.

    Returns:
        The SVG text, and the places in its coordinates.
    """
    with house_style(label):
        figure, axes = plane(5.0, 3.1)
        draw_curves(axes, epochs, series, best, marked)
        text = svg_text(figure, label)
        low, high = axes.get_ylim()
        up = {
            name: [
                pixels(figure, axes, epoch, value)[1] if math.isfinite(value) else None
                for epoch, value in zip(epochs, values, strict=True)
            ]
            for name, values in list(series.items())[: len(SERIES)]
        }
        across = [pixels(figure, axes, epoch, high)[0] for epoch in epochs]
        return text, Places(across, up, pixels(figure, axes, epochs[0], high)[1], pixels(figure, axes, epochs[0], low)[1])


def draw_curves(
    axes: Axes, epochs: Sequence[float], series: Mapping[str, Sequence[float]], best: float | None, marked: str
) -> None:
    """Draw one line per series onto a plane.

    Args:
        axes: Changed in place.
        epochs: As in `curves_svg`.
        series: As in `curves_svg`.
        best: As in `curves_svg`.
        marked: As in `curves_svg`.
    """
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    wide = bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 40
    logarithmic = wide and list(series) != ["learning_rate"]  # a schedule is known by its shape
    for (name, values), colour in zip(series.items(), SERIES, strict=False):
        dot = "o" if len(epochs) <= 15 else ""
        axes.plot(epochs, values, color=colour, linewidth=1.8, label=name, marker=dot, markersize=3.5)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if best is not None and best in list(epochs):
        colour = SERIES[list(series).index(marked) % 4] if marked in series else MUTED
        axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label=f"best: epoch {best:g}")
        value = series[marked][list(epochs).index(best)] if marked in series else math.nan
        axes.plot([best], [value], "o", markersize=7, markerfacecolor="none", markeredgecolor=colour)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.margins(x=0.02)
    axes.set_xlabel("epoch" + (" · logarithmic scale" if logarithmic else ""))
    axes.grid(axis="x", visible=False)
    beside = 3 if len(series) <= 2 else 2  # three long names are wider than the plane
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=beside, borderaxespad=0.2, handlelength=1.6)


def confusion_svg(classes: Sequence[str], matrix: Sequence[Sequence[float]], label: str) -> str:
    """Draw a confusion matrix, each cell coloured by its share of the true class.

    Args:
        classes: Names of the classes.
        matrix: Counts, ``(classes, classes)``; rows are true classes.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text; up to 30 classes with the count in each cell.
    """
    with house_style(label):
        side = 3.8 if len(classes) <= 5 else 5.4
        figure, axes = plane(side, side)
        draw_confusion(axes, classes, matrix)
        return svg_text(figure, label)


def draw_confusion(axes: Axes, classes: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    """Draw a confusion matrix onto a plane.

    Args:
        axes: Changed in place.
        classes: As in `confusion_svg`.
        matrix: As in `confusion_svg`.
    """
    counts = numpy.asarray(matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = numpy.divide(counts, totals, out=numpy.zeros_like(counts), where=totals > 0)
    size = len(classes)
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


def predicted_svg(true: Sequence[float], predicted: Sequence[float], label: str) -> str:
    """Draw predicted against true values, with the line where both are equal.

    Args:
        true: Values of the target, ``(rows,)``, finite.
        predicted: Predictions, ``(rows,)``, finite.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with house_style(label):
        figure, axes = plane(4.6, 3.9)
        draw_predicted(axes, true, predicted)
        return svg_text(figure, label)


def draw_predicted(axes: Axes, true: Sequence[float], predicted: Sequence[float]) -> None:
    """Draw predicted against true values onto a plane.

    Args:
        axes: Changed in place.
        true: As in `predicted_svg`.
        predicted: As in `predicted_svg`.
    """
    ends = [min(*true, *predicted), max(*true, *predicted)] if len(true) else [0.0, 1.0]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="prediction = true value")
    _draw_points(axes, true, predicted)
    axes.set(xlabel="true value", ylabel="prediction")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)


def residual_svg(true: Sequence[float], predicted: Sequence[float], label: str) -> str:
    """Draw residuals, prediction minus true value, against the prediction.

    Args:
        true: Values of the target, ``(rows,)``, finite.
        predicted: Predictions, ``(rows,)``, finite.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with house_style(label):
        figure, axes = plane(4.6, 3.9)
        axes.axhline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="no error")
        _draw_points(axes, predicted, [guess - value for guess, value in zip(predicted, true, strict=True)])
        axes.set(xlabel="prediction", ylabel="prediction − true value")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
        return svg_text(figure, label)


def histogram_svg(errors: Sequence[float], label: str) -> str:
    """Draw how often which error occurs.

    Args:
        errors: Prediction minus true value, ``(rows,)``, finite, one or more.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with house_style(label):
        figure, axes = plane(4.6, 3.9)
        draw_histogram(axes, errors)
        return svg_text(figure, label)


def draw_histogram(axes: Axes, errors: Sequence[float]) -> None:
    """Draw how often which error occurs onto a plane.

    Args:
        axes: Changed in place.
        errors: As in `histogram_svg`.
    """
    values = numpy.asarray(errors, dtype=float)
    bins = int(min(_BINS, max(5, math.sqrt(len(values)))))
    axes.hist(values, bins=bins, color=FIRST, alpha=0.75, rwidth=0.92)
    axes.axvline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="no error")
    axes.axvline(
        float(values.mean()), color=SECOND, linewidth=1.5, label=f"mean error {tick(float(f'{values.mean():.3g}'))}"
    )
    axes.set(xlabel="prediction − true value", ylabel="rows")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.4)


def calibration_svg(bins: Sequence[tuple[float, float, float]], label: str) -> str:
    """Draw the observed share against the mean predicted probability, a dot per bin, larger where it holds more rows.

    Source: DeGroot and Fienberg, The comparison and evaluation of forecasters, The Statistician 32, 1983 (reliability diagram).

    Args:
        bins: Mean probability, observed share (both 0 to 1) and number of rows of each bin that has rows.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    with house_style(label):
        figure, axes = plane(4.2, 3.9)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="as often as predicted")
        across, up, rows = zip(*bins, strict=True) if bins else ((), (), ())
        most = max(rows, default=1.0)
        axes.plot(across, up, color=FIRST, linewidth=1.5, alpha=0.6)
        for x, y, count in bins:
            axes.plot(
                [x], [y], "o", color=FIRST, markersize=3.5 + 8 * math.sqrt(count / most), alpha=0.85, markeredgewidth=0
            )
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="predicted probability", ylabel="observed share")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
        return svg_text(figure, label)


def _draw_points(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    """Draw points that show their density."""
    few = len(across) <= 300
    axes.plot(across, up, "o", color=FIRST, markersize=4 if few else 2.6, alpha=0.6 if few else 0.35, markeredgewidth=0)
    longest = max((len(tick(value, 0)) for value in (min(across), max(across))), default=1) if len(across) else 1
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
    with house_style(label):
        figure, axes = plane(6.4, max(2.2, 0.34 * len(bins) + 1.0))
        height = 0.8 / max(len(used), 1)
        for number, (name, values) in enumerate(used.items()):
            places = numpy.arange(len(bins)) + (number - (len(used) - 1) / 2) * height
            axes.barh(places, [100 * share for share in values], height * 0.9, color=SERIES[number % 4], label=name)
        axes.set_yticks(numpy.arange(len(bins)), [shortened_inside(text, 30) for text in bins])
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        axes.set_xlabel("share of the rows of the part")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.2)
        return svg_text(figure, label)
