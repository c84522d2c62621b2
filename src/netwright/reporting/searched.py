"""The drawings of a search: its figures in order, what each setting explains, all trials side by side. Floor 10."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from netwright.reporting.canvas import FIRST, INK, LINE, MUTED, SECOND, house_style, plane, svg_text, tick
from netwright.reporting.wording import shortened_inside

MOST_LINES = 200  # trials in the drawing side by side, the best of them
MOST_AXES = 10


def history_svg(numbers: Sequence[int], values: Sequence[float], pruned: Sequence[int], mode: str, metric: str) -> str:
    """Draw the figure of every finished trial, the best so far as a line, and where trials were pruned.

    Args:
        numbers: Of the finished trials, ``(finished,)``.
        values: Their figures, ``(finished,)``.
        pruned: Numbers of the pruned trials.
        mode: ``min`` or ``max``: what is better.
        metric: The name of the figure.

    Returns:
        The SVG text.
    """
    label = f"{metric} of each trial, and the best so far"
    with house_style(label):
        figure, axes = plane(6.4, 3.1)
        best: list[float] = []
        better = min if mode == "min" else max
        for value in values:
            best.append(value if not best else better(best[-1], value))
        axes.scatter(numbers, values, s=18, color=FIRST, linewidths=0, label="finished", zorder=3)
        axes.step(numbers, best, where="post", color=SECOND, linewidth=1.6, label="best so far")
        if pruned:
            low, high = axes.get_ylim()
            axes.scatter(
                pruned, [low] * len(pruned), s=16, marker="x", color=MUTED, linewidths=1, label="pruned", clip_on=False
            )
            axes.set_ylim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(metric)
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper left", ncols=3)
        return svg_text(figure, label)


def importances_svg(importances: Mapping[str, float]) -> str:
    """Draw which share of the figure's spread each setting explains, as bars.

    Args:
        importances: Shares by setting, the largest first.

    Returns:
        The SVG text.
    """
    label = "What each setting explains of the spread of the figure"
    names, shares = list(importances)[:MOST_AXES], list(importances.values())[:MOST_AXES]
    with house_style(label):
        figure, axes = plane(6.4, 0.8 + 0.36 * len(names))
        places = range(len(names))
        axes.barh(places, shares, height=0.62, color=FIRST)
        axes.set_yticks(places, [shortened_inside(name, 40) for name in names])
        axes.invert_yaxis()
        for place, share in zip(places, shares, strict=True):
            axes.annotate(
                f"{share:.0%}", (share, place), (4, 0), textcoords="offset points", va="center", fontsize=9, color=MUTED
            )
        axes.set_xlim(0, max(shares) * 1.15 or 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(axis="y", visible=False)
        return svg_text(figure, label)


def parallel_svg(
    points: Sequence[Mapping[str, Any]], values: Sequence[float], mode: str, metric: str, logarithmic: Collection[str]
) -> str:
    """Draw every finished trial as a line over one axis per setting, the better the stronger; the best in another colour.

    Args:
        points: Settings of each trial by path, ``(finished,)``.
        values: Figures, ``(finished,)``.
        mode: ``min`` or ``max``: what is better.
        metric: The name of the figure, the last axis.
        logarithmic: Paths whose axis is logarithmic.

    Returns:
        The SVG text.
    """
    label = f"The settings of every trial and its {metric}, side by side"
    order = sorted(range(len(values)), key=lambda place: values[place], reverse=mode == "max")[:MOST_LINES]
    paths = list(points[0])[: MOST_AXES - 1]
    with house_style(label):
        figure, axes = plane(min(9.4, 2.2 + 1.5 * len(paths)), 3.6)
        columns = [_Axis([point[path] for point in points], path in logarithmic) for path in paths]
        columns.append(_Axis(list(values), False))
        for place, column in enumerate(columns):
            axes.axvline(place, color=LINE, linewidth=1)
            _name_ticks(axes, place, column)
        for rank, place in reversed(list(enumerate(order))):
            share = 1 - rank / max(1, len(order) - 1)
            heights = [column.height(place) for column in columns]
            colour, width = (SECOND, 2.0) if rank == 0 else (FIRST, 1.0)
            axes.plot(
                range(len(columns)), heights, color=colour, linewidth=width, alpha=1 if rank == 0 else 0.12 + 0.5 * share**2
            )
        names = [_short(path) for path in paths] + [metric]
        axes.xaxis.set_major_locator(FixedLocator(range(len(columns))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names[int(round(value))]))
        axes.yaxis.set_major_formatter(NullFormatter())
        axes.tick_params(axis="x", labelcolor=INK, length=0)
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_yticks([])
        axes.set_xlim(-0.15, len(columns) - 1 + 0.45)
        axes.set_ylim(-0.06, 1.06)
        return svg_text(figure, label)


class _Axis:
    """One setting of all trials between 0 and 1: numbers in proportion, other choices one above the other."""

    def __init__(self, values: list[Any], logarithmic: bool) -> None:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self._numbers = numbers
        self._choices = [] if numbers else sorted({str(value) for value in values})
        self._shown = values
        scaled = [math.log(value) if logarithmic else float(value) for value in values] if numbers else []
        self._scaled, self._log = scaled, logarithmic
        self._low, self._high = (min(scaled), max(scaled)) if numbers else (0.0, max(1.0, len(self._choices) - 1.0))

    def height(self, place: int) -> float:
        """Return where a trial crosses the axis."""
        value = self._scaled[place] if self._numbers else float(self._choices.index(str(self._shown[place])))
        return 0.5 if self._high == self._low else (value - self._low) / (self._high - self._low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights with their texts."""
        if not self._numbers:
            spread = max(1.0, len(self._choices) - 1.0)
            return [(place / spread, shortened_inside(text, 22)) for place, text in enumerate(self._choices[:8])]
        if self._low == self._high:
            return [(0.5, tick(float(self._shown[0])))]
        found = []
        for share in (0.0, 0.5, 1.0):
            value = self._low + share * (self._high - self._low)
            found.append((share, f"{math.exp(value) if self._log else value:.3g}"))
        return found


def _name_ticks(axes: Axes, place: int, column: _Axis) -> None:
    for height, text in column.ticks():
        axes.annotate(text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=8, color=MUTED)


def _short(path: str) -> str:
    """Return a path in two lines where it is long."""
    if len(path) <= 14:
        return path
    head, _, last = path.rpartition(".")
    return f"{last}\n{shortened_inside(head, 20)}"
