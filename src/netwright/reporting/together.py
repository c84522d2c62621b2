"""The curves of several runs in one drawing. Floor 10."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from netwright.reporting.canvas import MUTED, SERIES, house_style, plane, svg_text, tick
from netwright.reporting.wording import shortened_inside

MOST_RUNS = len(SERIES)
WHOLE, DASHED = (0, ()), (0, (4, 2))  # lines of valid and of train rows
WIDE_RATIO = 40  # of the largest to the least loss, from which the scale is logarithmic

History = Mapping[str, Sequence[float]]


def together_svg(runs: Mapping[str, Sequence[History]], label: str) -> str:
    """Draw the curves of runs: the losses in one plane, the first other validation figure in a second one.

    Args:
        runs: By name, the history of a run by column (``epoch``, ``train_loss``, ``valid_loss``, ...); for a folder of seeds
            one per seed, drawn thin. The first four are drawn.
        label: What the drawing shows, for readers who cannot see it.

    Returns:
        The SVG text.
    """
    shown = dict(list(runs.items())[:MOST_RUNS])
    other = _other_figure(shown)
    with house_style(label):
        figure, axes = plane(4.6 if other is None else 9.0, 3.4)
        planes = [axes]
        if other is not None:
            axes.set_position((0.0, 0.0, 0.0, 0.0))
            figure.delaxes(axes)
            planes = list(figure.subplots(1, 2))
        _draw_losses(planes[0], shown)
        for place, histories in enumerate(shown.values()):
            for history in histories if other is not None else ():
                _line(planes[1], history, str(other), SERIES[place], WHOLE, len(histories))
        if other is not None:
            planes[1].set_title(other, fontsize=9.5, color=MUTED, loc="left")
        for axis in planes:
            axis.set_facecolor("none")
            axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            axis.xaxis.set_major_formatter(FuncFormatter(tick))
            axis.set_xlabel("epoch")
            axis.grid(axis="x", visible=False)
            axis.margins(x=0.02)
        handles = [planes[0].plot([], [], color=SERIES[place], linewidth=2)[0] for place in range(len(shown))]
        handles += [planes[0].plot([], [], color=MUTED, linewidth=1.4, linestyle=dash)[0] for dash in (WHOLE, DASHED)]
        names = [*(shortened_inside(name, 40) for name in shown), "valid", "train"]
        figure.legend(handles, names, loc="outside upper left", ncols=min(4, len(names)), handlelength=1.8)
        return svg_text(figure, label)


def _other_figure(runs: Mapping[str, Sequence[History]]) -> str | None:
    """Return the first validation figure beside the loss that every run has."""
    histories = [history for found in runs.values() for history in found]
    names = [name for name in (histories[0] if histories else {}) if name.startswith("valid_")]
    wanted = [name for name in names if name not in ("valid_loss", "valid_seconds")]
    return next((name for name in wanted if all(name in history for history in histories)), None)


def _draw_losses(axes: Axes, runs: Mapping[str, Sequence[History]]) -> None:
    """Draw the losses of all runs, on a logarithmic scale where they are far apart."""
    values = []
    for place, histories in enumerate(runs.values()):
        for history in histories:
            for name, dash in (("train_loss", DASHED), ("valid_loss", WHOLE)):
                if name in history:
                    _line(axes, history, name, SERIES[place], dash, len(histories))
                    values += [value for value in history[name] if math.isfinite(value)]
    logarithmic = bool(values) and min(values) > 0 and max(values) / min(values) > WIDE_RATIO
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.set_title("loss, logarithmic scale" if logarithmic else "loss", fontsize=9.5, color=MUTED, loc="left")


def _line(axes: Axes, history: History, name: str, colour: str, dash: tuple[int, tuple[int, ...]], members: int) -> None:
    """Draw one column of a history."""
    width, strength = (1.7, 1.0) if members == 1 else (0.9, 0.65)
    epochs = history.get("epoch") or [float(place + 1) for place in range(len(history[name]))]
    dot = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, history[name], color=colour, linewidth=width, alpha=strength, linestyle=dash, marker=dot, markersize=3)
