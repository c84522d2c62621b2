"""How numbers are written in messages: counts with their noun, figures with about four digits. Floor 0."""

from __future__ import annotations

from collections.abc import Sized

LARGE, LARGEST = 1e3, 1e9  # between these thousands are parted, and no exponent is written


def counted(count: int | Sized, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    Args:
        count: A whole number, or what holds so many.
        one: The noun for one.
        many: The noun for any other count; ``one`` with an s where left out.

    Example:
        >>> counted(1, "row"), counted(1797, "row"), counted([3, 4], "class", "classes")
        ('1 row', '1,797 rows', '2 classes')
    """
    number = count if isinstance(count, int) else len(count)
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def figure(value: float, digits: int = 4, sign: str = "") -> str:
    """Return a measured number with some significant digits, without an exponent between 0.0001 and a billion.

    Args:
        value: Any number; infinities and not-a-number too.
        digits: How many significant ones; whole parts are never rounded.
        sign: ``+`` to write that of positive numbers too.

    Example:
        >>> [figure(value) for value in (0.97771, 68412.31, 0.00012345, 1234.56, 2.5e12, 3e-9)]
        ['0.9777', '68,412', '0.0001234', '1,235', '2.5e+12', '3e-09']
        >>> figure(-0.0123456, 3, "+"), figure(999.96, 3, "+"), figure(float("nan"))
        ('-0.0123', '+1,000', 'nan')
    """
    text = f"{value:{sign}.{digits}g}"
    if not LARGE <= abs(float(text)) < LARGEST:
        return text
    return f"{value:{sign},.{max(digits - len(f'{abs(value):.0f}'), 0)}f}"
