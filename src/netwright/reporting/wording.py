"""How numbers, sizes, shapes and times are worded, the same way in the page, the plots and the drawing.

Every function takes whatever a run folder may hold, a missing or wrong value included, and returns plain text
that is not escaped yet: the template and the drawings escape it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from netwright.numerals import counted, figure

NOT_RECORDED = "not recorded"


def as_number(value: object) -> float | None:
    """Return ``value`` as a finite number, or None where it is none.

    Args:
        value: Anything read from JSON or CSV.

    Returns:
        A finite float, or None for text, truth values, missing values, NaN and infinities.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def figure_text(value: object) -> str:
    """Word a measured figure with four significant digits.

    Args:
        value: A number, or anything else read from a run folder.

    Returns:
        ``0.0712``, ``68,412`` or ``not a finite number``; ``not recorded`` where nothing was measured.
    """
    number = as_number(value)
    if number is None:
        measured = isinstance(value, int | float) and not isinstance(value, bool)
        return "not a finite number" if measured else NOT_RECORDED
    return figure(number + 0.0)  # minus zero is zero


def measured_parts(value: object, low: object, high: object) -> tuple[str, str, str]:
    """Word a figure and the ends of its interval with equally many decimals: two digits of the interval's width.

    Args:
        value: The figure.
        low: Lower end of its interval.
        high: Upper end; an end that is no number leaves the figure with four digits and both ends empty.

    Returns:
        ``0.978``, ``0.957`` and ``0.989``.

    Example:
        >>> measured_parts(0.97771, 0.95665, 0.98866)
        ('0.978', '0.957', '0.989')
    """
    middle, left, right = as_number(value), as_number(low), as_number(high)
    if middle is None or left is None or right is None:
        return figure_text(value), "", ""
    width = abs(right - left)
    if width == 0 or not 1e-6 < max(abs(middle), width) < 1e9:
        return figure_text(value), figure_text(low), figure_text(high)
    decimals = min(max(1 - math.floor(math.log10(width)), 0), 8)
    return tuple(f"{number:,.{decimals}f}" for number in (middle, left, right))  # type: ignore[return-value]


def like_text(value: object, metric: object) -> str:
    """Word a figure with as many decimals as another one that has an interval.

    Args:
        value: The figure to be worded.
        metric: The other one, an object with ``value``, ``low`` and ``high``, or a number.

    Returns:
        ``0.841`` beside ``0.978``; four digits where the other has no interval.
    """
    number, model = as_number(value), value_text(metric)
    if number is None or not interval_text(metric) or not model.lstrip("-").replace(",", "").replace(".", "").isdigit():
        return figure_text(value)
    return f"{number:,.{len(model.partition('.')[2])}f}"


def probability_text(value: object) -> str:
    """Word a probability or a share with three decimals.

    Args:
        value: 0 to 1, or anything else read from a run folder.

    Returns:
        ``0.982``, ``<0.001`` or ``>0.999``; ``not recorded`` where it is no number.
    """
    number = as_number(value)
    if number is None:
        return NOT_RECORDED
    if 0 < number < 0.001:
        return "<0.001"
    return ">0.999" if 0.9995 <= number < 1 else f"{number:.3f}"


def measured_text(metric: object) -> str:
    """Word a test figure with its interval.

    Args:
        metric: An object with ``value`` and perhaps ``low`` and ``high``, or a number.

    Returns:
        ``0.975 (0.953 to 0.989)``.
    """
    if not isinstance(metric, Mapping):
        return figure_text(metric)
    value, low, high = measured_parts(metric.get("value"), metric.get("low"), metric.get("high"))
    return f"{value} ({low} to {high})" if low else value


def value_text(metric: object) -> str:
    """Word a test figure without its interval, in the digits the interval allows.

    Args:
        metric: As in `measured_text`.
    """
    if not isinstance(metric, Mapping):
        return figure_text(metric)
    return measured_parts(metric.get("value"), metric.get("low"), metric.get("high"))[0]


def interval_text(metric: object) -> str:
    """Word the interval of a test figure.

    Args:
        metric: An object that may have ``low`` and ``high``.

    Returns:
        ``0.953 to 0.989``, empty where there is none.
    """
    if not isinstance(metric, Mapping):
        return ""
    _, low, high = measured_parts(metric.get("value"), metric.get("low"), metric.get("high"))
    return f"{low} to {high}" if low else ""


def signed(text: str) -> str:
    """Write a number's sign, a minus as long as a plus.

    Args:
        text: A worded number.

    Example:
        >>> signed("0.012"), signed("-0.5") == "\u22120.5"
        ('+0.012', True)
    """
    if text.startswith("-"):
        return "\u2212" + text[1:]
    return text if not text[:1].isdigit() or not text.strip("0.,") else f"+{text}"


def count_text(value: object) -> str:
    """Word a count with separators between the thousands.

    Args:
        value: A whole number, or anything else read from a run folder.

    Returns:
        ``1,079``, or ``not recorded``.
    """
    number = as_number(value)
    return NOT_RECORDED if number is None else f"{number:,.0f}"


def plural(value: object, one: str, many: str | None = None) -> str:
    """Word a count with its noun.

    Args:
        value: A whole number, or anything else read from a run folder.
        one: The noun for one.
        many: The noun for any other count; ``one`` with an s where left out.

    Returns:
        ``1 row`` or ``1,079 rows``.
    """
    number = as_number(value)
    return f"{NOT_RECORDED} {many or one + 's'}" if number is None else counted(round(number), one, many)


def size_text(value: object) -> str:
    """Word a size in bytes with binary units.

    Args:
        value: A number of bytes, or anything else read from a run folder.

    Returns:
        ``8.0 KiB``, or ``not recorded``.
    """
    number = as_number(value)
    if number is None:
        return NOT_RECORDED
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def large_text(value: object) -> str:
    """Word a large count in thousands, millions or billions, for a narrow place.

    Args:
        value: A whole number, or anything else read from a run folder.

    Returns:
        ``18,432``, ``1.23 million`` or ``4.5 billion``.
    """
    number = as_number(value)
    if number is None or abs(number) < 1e6:
        return count_text(value)
    for limit, name in ((1e9, "million"), (1e12, "billion"), (1e15, "trillion")):
        if abs(number) < limit:
            return f"{number / limit * 1000:.3g} {name}"
    return f"{number:.3g}"


def duration_text(value: object) -> str:
    """Word a duration in the units a reader would choose.

    Args:
        value: Seconds, or anything else read from a run folder.

    Returns:
        ``0.42 s``, ``5.0 s``, ``3 min 20 s`` or ``2 h 05 min``.
    """
    seconds = as_number(value)
    if seconds is None:
        return NOT_RECORDED
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def moment_text(value: object) -> str:
    """Word an ISO 8601 moment.

    Args:
        value: Text such as ``2026-03-01T09:30:00+00:00``, or anything else read from a run folder.

    Returns:
        ``2026-03-01 09:30 UTC``; the text itself where it is no ISO moment; ``not recorded`` where it is no text.
    """
    if not isinstance(value, str) or not value:
        return NOT_RECORDED
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    zone = moment.tzname()
    return f"{moment:%Y-%m-%d %H:%M}" + (f" {zone}" if zone else "")


def shape_text(value: object) -> str:
    """Word the shape of a batch.

    Args:
        value: The sizes of one row, without the batch; a list of such lists for several outputs.

    Returns:
        ``(N, 32, 8, 8)``, ``(N)`` for single numbers, or ``shape not known``.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return "shape not known"
    if value and all(isinstance(size, Sequence) and not isinstance(size, str) for size in value):
        return " and ".join(shape_text(size) for size in value)
    return "(" + ", ".join(["N", *("?" if size is None else str(size) for size in value)]) + ")"


_AXES = {  # what the axes of a row are, in the order of the code
    "NC": ("feature",),
    "NT": ("time step",),
    "NTC": ("time step", "feature"),
    "NCT": ("channel", "time step"),
    "NHW": ("row of pixels", "column of pixels"),
    "NCHW": ("channel", "row of pixels", "column of pixels"),
    "NHWC": ("row of pixels", "column of pixels", "channel"),
    "NDHW": ("slice", "row of pixels", "column of pixels"),
    "NCDHW": ("channel", "slice", "row of pixels", "column of pixels"),
    "NDHWC": ("slice", "row of pixels", "column of pixels", "channel"),
}


def layout_text(layout: object, shape: object) -> str:
    """Say what one row is, instead of the code of its axes.

    Args:
        layout: A code such as ``NC`` or ``NCHW``, or anything else read from a run folder.
        shape: The sizes of one row, without the batch.

    Returns:
        ``one row is 9 features``, ``one row is 1 channel of 8 × 8 pixels``; a code that is not known stays as it is;
        empty where there is none.
    """
    if not isinstance(layout, str) or not layout:
        return ""
    axes = _AXES.get(layout, ())
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else []
    if not axes or len(sizes) != len(axes) or not all(isinstance(size, int) for size in sizes):
        return layout
    counted = dict(zip(axes, sizes, strict=True))
    parts = [plural(counted[axis], axis) for axis in ("channel", "slice") if axis in counted]
    if "row of pixels" in counted:
        parts.append(f"{count_text(counted['row of pixels'])} × {count_text(counted['column of pixels'])} pixels")
    parts += [plural(counted[axis], axis) for axis in ("time step", "feature") if axis in counted]
    return f"one row is {' of '.join(parts)}"


def shortened(text: str, limit: int) -> str:
    """Cut a text to at most ``limit`` characters, the last an ellipsis where something was cut.

    Args:
        text: Any text.
        limit: Characters, 1 or more.

    Returns:
        The text on one line.
    """
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: max(limit - 1, 0)].rstrip() + "…"


def shortened_inside(text: str, limit: int) -> str:
    """Cut a name to at most ``limit`` characters by leaving out its middle, where names differ least.

    Args:
        text: Any text.
        limit: Characters, 3 or more.

    Returns:
        The text on one line.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    return f"{line[: limit - 1 - tail]}…{line[-tail:]}"
