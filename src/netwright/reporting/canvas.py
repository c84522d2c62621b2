"""What every plot is drawn on: a figure in the house style, and how it leaves as SVG or PNG.

In the SVG the background is transparent and every colour is a CSS variable with a fallback, so one drawing reads on a light
page, on a dark page and on its own; the PNG is white, for papers and chats. The same values give the same bytes.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import get_named_colors_mapping
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, LINE, FIRST, SECOND, THIRD, FOURTH = (
    f"netwright:{name}" for name in ("ink", "muted", "line", "first", "second", "third", "fourth")
)
SERIES = (FIRST, SECOND, THIRD, FOURTH)
PAGE = {name: f"#01020{digit}" for digit, name in enumerate((INK, MUTED, LINE, *SERIES), 1)}  # stand-ins, see _COLOURS
PAPER = dict(zip(PAGE, ("#1b2129", "#5b6570", "#d5dae0", "#2f6fb2", "#c8641b", "#2b8a57", "#7a4bb5"), strict=True))
_COLOURS = {  # a stand-in matplotlib can parse -> what the page defines, and what a drawing on its own shows
    PAGE[INK]: "var(--ink, #667080)",
    PAGE[MUTED]: "var(--muted, #7d8794)",
    PAGE[LINE]: "var(--line, #8d96a366)",
    PAGE[FIRST]: "var(--first, #3b82c4)",
    PAGE[SECOND]: "var(--second, #d9772b)",
    PAGE[THIRD]: "var(--third, #2f9e6b)",
    PAGE[FOURTH]: "var(--fourth, #9a6dd7)",
}
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


_ONE = threading.Lock()  # matplotlib's settings and names of colours are the process's
_POINTS = re.compile(r'(?:\s*<use href="[^"]+" x="[-.\d]+" y="[-.\d]+" style="[^"]*"/>){2,}')
_POINT = re.compile(r'<use (href="[^"]+" x="[-.\d]+" y="[-.\d]+") (style="[^"]*")/>')


@contextmanager
def house_style(salt: str, colours: Mapping[str, str] = PAGE) -> Iterator[None]:
    """Draw with matplotlib's own defaults and the house style, whatever the user's settings are; one thread at a time.

    Args:
        salt: What the names inside the drawing are made from.
        colours: ``PAGE`` for a drawing that follows its page, ``PAPER`` for one on white.
    """
    names = get_named_colors_mapping()
    with _ONE, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*(Glyph|glyph|constrained_layout|font).*")
        matplotlib.rcdefaults()
        for name, colour in colours.items():
            names[name] = colour
        try:
            matplotlib.rcParams.update(_STYLE)
            matplotlib.rcParams["svg.hashsalt"] = salt
            yield
        finally:
            for name in colours:
                del names[name]


def plane(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a transparent figure of that many inches with one plane in it.

    Args:
        width: Inches.
        height: Inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def dress(axes: Axes) -> None:
    """Give a plane the background and the numbers of the house style.

    Args:
        axes: Changed in place.
    """
    axes.set_facecolor("none")
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))


def tick(value: float, _place: int | None = None) -> str:
    """Return the text at a tick, with separators between the thousands.

    Args:
        value: Where the tick stands.
    """
    text = f"{value:,.6g}" if abs(value) < 1e6 or abs(value) >= 1e9 else f"{value:,.0f}"
    return text.replace("-", "\u2212")


def pixels(figure: Figure, axes: Axes, across: float, up: float) -> tuple[float, float]:
    """Return where a point lies in the coordinates of the SVG; only true after it was drawn.

    Args:
        figure: A drawn figure.
        axes: A plane of it.
        across: Value on the horizontal axis.
        up: Value on the vertical axis.
    """
    x, y = axes.transData.transform((across, up)) / figure.dpi * 72
    return round(float(x), 1), round(figure.get_figheight() * 72 - float(y), 1)


def png_bytes(figure: Figure, dpi: int) -> bytes:
    """Return the figure as a PNG on white.

    Args:
        figure: Drawn in the colours of ``PAPER``.
        dpi: Dots per inch.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def svg_text(figure: Figure, label: str) -> str:
    """Return the figure as one ``<svg>`` element without dates, stray identifiers or fixed colours.

    Args:
        figure: Drawn in the colours of ``PAGE``.
        label: What the drawing shows, for readers who cannot see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    _lay_out(figure)
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style type=.*?</style>|<!--.*?-->|<[^>]*>", _mended, text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>|\n\s*(?=\n)", "", text)
    text = _POINTS.sub(_joined, text)
    widest = f"max-width: {figure.get_figwidth() * 72 * 1.45:.0f}px"  # keeps the letters of all plots alike
    return f'<svg class="plot" style="{widest}" role="img" aria-label="{escape(label)}" ' + text.removeprefix("<svg ")


def _lay_out(figure: Figure) -> None:
    """Find the places of axes and texts once, as they are at the 72 dots per inch of an SVG.

    Otherwise `Figure.savefig` draws everything twice, the first time for the places alone; the bytes are the same.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    FigureCanvasSVG(figure)  # whose letters are measured
    dpi = figure.dpi
    figure.dpi = 72
    engine.execute(figure)
    figure.set_layout_engine(None)
    figure.dpi = dpi


def _mended(match: re.Match[str]) -> str:
    """Return one tag of the drawing as the page wants it; tags hold no text of the user."""
    tag = match.group()
    if tag.startswith(("<style", "<!--")):
        return ""
    tag = re.sub(r' xmlns:xlink="[^"]*"', "", tag).replace("xlink:href=", "href=")
    if tag.startswith("<g id="):
        tag = re.sub(r'<g id="[^"]*"', "<g", tag)
    if tag.startswith(("<g", "<path", "<use", "<text", "<rect")):
        tag = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", tag)
    if tag.startswith("<text"):
        tag = re.sub(r"font: ([0-9.]+px) [^;\"]*", rf"font: \1 {_FONT}", tag)
    for stand_in, colour in _COLOURS.items():
        tag = tag.replace(stand_in, colour)
    return tag


def _joined(match: re.Match[str]) -> str:
    """Return a row of points with their common style written once."""
    points = _POINT.findall(match.group())
    if len({style for _, style in points}) > 1:
        return match.group()
    return f"\n<g {points[0][1]}>" + "\n".join(f"<use {place}/>" for place, _ in points) + "</g>"
