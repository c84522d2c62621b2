"""How numbers are written: their marks are read where they may stand, and the settings that read a text are told."""

from __future__ import annotations

import pyarrow as pa
import pytest

from netwright.sources.marks import PLAIN_NUMBERS, Markers, are_numbers, number_advice, pointed_numbers

# decimal mark, thousands mark, the text, what is read (None: no number)
READ: list[tuple[str, str | None, str, float | None]] = [
    (".", ",", "29,769.87", 29769.87),
    (".", ",", "-1,234,567", -1234567.0),
    (".", ",", "1,23,45,678.5", 12345678.5),
    (".", ",", "1234.5", 1234.5),
    (".", ",", "1e3", 1000.0),
    (".", ",", "1,5", None),
    (".", ",", "12,34", None),
    (".", ",", "1,2345", None),
    (".", ",", "0,123", None),
    (".", ",", "1,234,5", None),
    (".", " ", "1 234 567.25", 1234567.25),
    (".", " ", "1\u00a0234", 1234.0),
    (".", " ", "1\u202f234,5", None),
    (".", " ", "12 34", None),
    (".", "'", "1'234.5", 1234.5),
    (".", "'", "1\u2019234", 1234.0),
    (",", None, "1.234,5", 1234.5),
    (",", None, "1.234", 1234.0),
    (",", None, "0.123", None),
    (",", None, "1.5", None),
    (",", ".", "1.234.567", 1234567.0),
    (",", " ", "1 234,5", 1234.5),
    (",", " ", "1.234,5", None),
    (",", "'", "1'234,5", 1234.5),
]


@pytest.mark.parametrize(("decimal", "thousands", "text", "number"), READ)
def test_numbers_are_read_with_their_marks(decimal: str, thousands: str | None, text: str, number: float | None) -> None:
    markers = Markers(decimal=decimal, thousands=thousands)
    values = pa.chunked_array([[text, None]])
    assert are_numbers(values, markers).to_pylist() == [number is not None, None]
    if number is not None:
        assert float(pointed_numbers(values, markers)[0].as_py()) == number


BOTH = 'set data.thousands = "," where the comma parts thousands, or data.decimal = "," where it is the decimal mark'
# the texts, how they were read, the advice
ADVICE: list[tuple[list[str], Markers, str | None]] = [
    (["1", "2.5"], Markers(), None),
    (["29,769.87", "113.5"], Markers(), 'set data.thousands = ","'),
    (["1,234,567", "12"], Markers(), 'set data.thousands = ","'),
    (["1,234", "12"], Markers(), BOTH),
    (["1,5", "12"], Markers(), 'set data.decimal = ","'),
    (["1.234,5", "12"], Markers(), 'set data.decimal = ","'),
    (["1 234", "12"], Markers(), 'set data.thousands = " "'),
    (["1 234,5", "12"], Markers(), 'set data.decimal = "," and data.thousands = " "'),
    (["1'234.5", "12"], Markers(), 'set data.thousands = "\'"'),
    (["113.5", "2"], Markers(decimal=","), 'set data.decimal = "."'),
    (["1,113.5", "2"], Markers(decimal=","), 'set data.decimal = "." and data.thousands = ","'),
    (["113,5", "2"], Markers(thousands=","), 'set data.decimal = "," and no data.thousands'),
    (["$1,200", "3"], Markers(), PLAIN_NUMBERS),
    (["12%", "3"], Markers(), PLAIN_NUMBERS),
    (["0,5", *["1.5"] * 9], Markers(), "write it with the marks of the other cells"),
    (["north", *["1.5"] * 9], Markers(), None),
    (["north", "1,5", "south", "2"], Markers(), None),
    (["1.2.3", "1.2.4"], Markers(), None),
]


@pytest.mark.parametrize(("texts", "markers", "advice"), ADVICE)
def test_the_settings_that_read_a_column_are_told(texts: list[str], markers: Markers, advice: str | None) -> None:
    assert number_advice(pa.chunked_array([texts]), markers) == advice
