"""What marks in texts mean: which texts are missing cells, and how numbers are written. Floor 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

MISSING_VALUES = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "-")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity|Infinity)$"
MONEY = r"^[+-]?\s?[$€£¥]\s?[+-]?\d[\d.,]*$|^[+-]?\d[\d.,]*\s?[$€£¥%]$"
MOSTLY = 0.9  # with so many of a kind in a column, another cell is taken for a mistake
PLAIN_NUMBERS = "write plain numbers, without currency signs, % and thousands marks"
THOUSANDS = {",": ",", ".": r"\.", " ": "[ \u00a0\u202f]", "'": "['\u2019]"}  # a mark, and the characters it is written with


@dataclass(frozen=True)
class Markers:
    """What the cells of text columns mean: the missing markers, the decimal mark, what stands between labels, and what between
    thousands; beside a decimal comma points do where nothing else is named."""

    missing_values: tuple[str, ...] = MISSING_VALUES
    decimal: str = "."
    label_separator: str | None = None
    thousands: str | None = None

    @property
    def grouping(self) -> str | None:
        """The mark between thousands; None where numbers have none."""
        return self.thousands or ("." if self.decimal == "," else None)


def pointed_numbers(values: pa.ChunkedArray, markers: Markers) -> pa.ChunkedArray:
    """Return texts with a decimal point and without thousands marks; a mark at a wrong place makes no number.

    Args:
        values: Texts; nulls stay null.
        markers: Tell the marks. Thousands are three digits each; with commas also two beyond the last three, as in India.
    """
    mark = markers.grouping
    if mark is None:
        return values
    part, point = THOUSANDS[mark], re.escape(markers.decimal)
    beyond = "{2,3}" if mark == "," else "{3}"
    grouped = rf"^[+-]?[1-9]\d{{0,2}}({part}\d{beyond})*{part}\d{{3}}({point}\d*)?$"
    whole = pc.fill_null(pc.match_substring_regex(values, grouped), False)
    plain = pc.if_else(whole, pc.replace_substring_regex(values, part, ""), values)
    if markers.decimal == ".":
        return plain
    return pc.replace_substring(pc.replace_substring(plain, ".", "#"), ",", ".")


def are_numbers(values: pa.ChunkedArray, markers: Markers) -> pa.ChunkedArray:
    """Tell which texts are numbers; null where one is missing."""
    return pc.match_substring_regex(pointed_numbers(values, markers), NUMBER)


def number_advice(values: pa.ChunkedArray, markers: Markers) -> str | None:
    """Return how texts come to be numbers, where mostly all of them nearly are: by another mark, or without signs of money.

    Args:
        values: Texts without a null, such as the column of a table.
        markers: The marks that they were read with.
    """
    missed = values.filter(pc.invert(are_numbers(values, markers)))
    if not len(missed):
        return None
    nearly = [other for other in _other_marks(markers) if _mostly(missed, other)]
    fitting = [other for other in nearly if _mostly(values, other)]
    if fitting:
        same = [other for other in fitting if other.decimal == markers.decimal]
        needed = same + [other for other in fitting if replace(other, decimal=markers.decimal) not in same]
        return _settings(needed, markers)
    money, others = pc.sum(pc.match_substring_regex(missed, MONEY)).as_py(), len(values) - len(missed)
    if money >= MOSTLY * len(missed) and others + money >= MOSTLY * len(values):
        return PLAIN_NUMBERS
    return "write it with the marks of the other cells" if nearly else None


def _other_marks(markers: Markers) -> Iterator[Markers]:
    """Return other ways to write numbers, the usual first."""
    for decimal in (".", ","):
        for thousands in (None, ",", " ", "'"):
            if thousands != decimal and (decimal, thousands) != (markers.decimal, markers.thousands):
                yield replace(markers, decimal=decimal, thousands=thousands)


def _mostly(values: pa.ChunkedArray, markers: Markers) -> bool:
    return bool(pc.sum(are_numbers(values, markers)).as_py() >= MOSTLY * len(values))


def _settings(fitting: list[Markers], markers: Markers) -> str:
    """Return the settings of the marks that fit: of each decimal mark those that name the least."""
    ways = {other.decimal: other for other in reversed(fitting)}
    told = {mark: " and ".join(_changes(other, markers)) for mark, other in ways.items()}
    if len(told) == 1:
        return f"set {next(iter(told.values()))}"
    point, comma = told["."], told[","]
    return f"set {point} where the comma parts thousands, or {comma} where it is the decimal mark"


def _changes(other: Markers, markers: Markers) -> list[str]:
    """Return the settings that differ."""
    changes = [f'data.decimal = "{other.decimal}"'] if other.decimal != markers.decimal else []
    if other.thousands != markers.thousands:
        changes.append(f'data.thousands = "{other.thousands}"' if other.thousands else "no data.thousands")
    return changes
