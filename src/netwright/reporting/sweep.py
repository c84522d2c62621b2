"""The picture of a learning-rate range test. Floor 10."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from netwright.reporting.canvas import FIRST, INK, MUTED, PAPER, SECOND, dress, house_style, png_bytes
from netwright.reporting.wording import shortened

Floats = npt.NDArray[np.float64]
DPI = 200


def sweep_png(
    rates: Floats, losses: Floats, smoothed: Floats, marks: Mapping[str, float], ceiling: float, title: str
) -> bytes:
    """Draw losses and curve over the learning rate, which is logarithmic.

    Args:
        rates: Of each step ``(steps,)``.
        losses: Before each step ``(steps,)``.
        smoothed: The curve ``(steps,)``.
        marks: Rates to mark, by name.
        ceiling: Up to where losses are drawn.
        title: Above it.
    """
    with house_style("sweep", PAPER):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        dress(axes)
        axes.set_xscale("log")
        shown = losses <= ceiling
        axes.plot(rates[shown], losses[shown], ".", color=MUTED, markersize=3, alpha=0.6, label="median of the copies")
        axes.plot(rates, np.where(smoothed <= ceiling, smoothed, np.nan), color=FIRST, linewidth=2, label="smoothed")
        for (name, rate), style in zip(marks.items(), ("--", "-"), strict=False):
            axes.axvline(rate, color=SECOND if name == "suggested" else MUTED, linestyle=style, linewidth=1.2)
            axes.annotate(
                f"{name} {rate:.1e}", (rate, 1), xycoords=("data", "axes fraction"), xytext=(4, -10),
                textcoords="offset points", rotation=90, va="top", fontsize=8.5, color=INK,
            )  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, place: f"{rate:.0e}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.set_title(shortened(title, 70), loc="left", fontweight="bold")
        axes.legend(loc="lower left")
        return png_bytes(figure, DPI)
