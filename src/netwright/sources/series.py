"""Reads ``.ts``, the time-series text format of sktime and the UCR archive, into `Sequences`.

Source of the format: https://www.sktime.net/en/stable/api_reference/file_specifications/ts.html. Floor 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.places import Place
from netwright.sources.sequences import Sequences, starts_of
from netwright.sources.tables import Origin, Table

LONGEST_LINE = 50_000_000  # characters of one series


def read_ts(place: Place, target: str = "target") -> Sequences:
    """Read a ``.ts`` file.

    Args:
        place: The file.
        target: The name that the labels get.

    Returns:
        The series, float64 ``(steps, dimensions)`` one after the other, missing values NaN; a label each where the
        header declares labels, as text for classes and as a number for ``@targetlabel true``.

    Raises:
        DataError: No ``@data``, time stamps, dimensions of different length, or a value that is no number.
    """
    series: list[npt.NDArray[np.float64]] = []
    labels: list[str] = []
    labelled = started = False
    with place.open_text("utf-8") as stream:
        for number, raw in enumerate(_decoded(stream, place), 1):
            line = raw.strip()
            if not line or line.startswith(("#", "%")):
                continue
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{place.name}:{number}: {len(line)} characters came; expected at most {LONGEST_LINE}; split the file"
                )
            if started:
                values, label = _series(line, labelled, f"{place.name}:{number}")
                series.append(values)
                labels.append(label)
            elif line.lower() == "@data":
                started = True
            else:
                labelled = _declared(line, f"{place.name}:{number}", labelled)
    if not series:
        raise DataError(f"{place}: no series; expected lines after @data; check the file")
    return _sequences(place.name, series, labels if labelled else None, target)


def _decoded(stream: IO[str], place: Place) -> Iterator[str]:
    """Yield the lines of a text.

    Raises:
        DataError: Bytes that are no UTF-8.
    """
    lines = 0
    try:
        for line in stream:
            lines += 1
            yield line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place.name}: after line {lines}: byte 0x{error.object[error.start]:02x} came; expected UTF-8; save the file so"
        ) from None


def _declared(line: str, where: str, labelled: bool) -> bool:
    """Read one line of the header and return whether the series carry labels."""
    if not line.startswith("@"):
        raise DataError(f"{where}: {line[:30]!r} came before @data; expected a line that starts with @; check the file")
    word, _, rest = line[1:].partition(" ")
    true = rest.strip().lower().startswith("true")
    if word.lower() == "timestamps" and true:
        raise DataError(f"{where}: time stamps came; expected values alone; write the file without them")
    return true if word.lower() in ("classlabel", "targetlabel") else labelled


def _series(line: str, labelled: bool, where: str) -> tuple[npt.NDArray[np.float64], str]:
    """Return one series ``(steps, dimensions)`` and its label."""
    fields = line.split(":")
    label = fields.pop().strip() if labelled else ""
    if not fields:
        raise DataError(f"{where}: a label alone came; expected values, a colon and the label; mend the line")
    dimensions = [_numbers(text, where, place + 1) for place, text in enumerate(fields)]
    if len({len(values) for values in dimensions}) != 1:
        lengths = ", ".join(str(len(values)) for values in dimensions)
        raise DataError(f"{where}: dimensions of {lengths} steps came; expected equally many; mend the line")
    return np.stack(dimensions, axis=1), label


def _numbers(text: str, where: str, dimension: int) -> npt.NDArray[np.float64]:
    cells = text.split(",")
    try:
        return np.asarray([np.nan if cell.strip() == "?" else float(cell) for cell in cells], dtype=np.float64)
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not _is_number(cell))
        raise DataError(
            f"{where}: value {wrong + 1} of dimension {dimension} is {cells[wrong][:30]!r}; expected a number or ?; mend it"
        ) from None


def _is_number(text: str) -> bool:
    try:
        return text.strip() == "?" or float(text) is not None
    except ValueError:
        return False


def _sequences(name: str, series: list[npt.NDArray[np.float64]], labels: list[str] | None, target: str) -> Sequences:
    widths = {values.shape[1] for values in series}
    if len(widths) != 1:
        raise DataError(f"{name}: series of {sorted(widths)} dimensions came; expected equally many; check the file")
    lengths = np.asarray([len(values) for values in series], dtype=np.int64)
    steps = Arrays({"series": np.concatenate(series)}, None, (Origin(name, int(lengths.sum())),))
    about = None
    if labels is not None:
        about = Table(pa.table({target: pa.array(labels)}), (Origin(name, len(labels)),))
    names = tuple(f"{name}: series {place + 1}" for place in range(len(series)))
    return Sequences(steps, starts_of(lengths), lengths, about, names=names)
