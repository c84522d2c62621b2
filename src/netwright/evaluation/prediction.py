"""Decoded outputs to a table in the user's own labels and units. Floor 6."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from netwright.data.arrays import Arrays
from netwright.data.tables import Table
from netwright.data.targets import Target
from netwright.errors import ConfigError
from netwright.model.task import decide

Floats = npt.NDArray[np.float64]


def prediction_columns(decoded: Floats, names: Sequence[str], classes: Sequence[Any], probabilities: bool) -> dict[str, Any]:
    """Return the columns of a prediction file.

    Args:
        decoded: Probabilities ``(rows, classes)`` or values ``(rows, outputs)``.
        names: Target columns.
        classes: The user's labels; empty for a regression.
        probabilities: Whether ``decoded`` are probabilities.

    Returns:
        ``prediction`` and ``probability_<class>`` columns; for several outputs ``prediction_<name>``.
    """
    if not classes:
        if decoded.shape[1] == 1:
            return {"prediction": decoded[:, 0]}
        return {f"prediction_{name}": decoded[:, place] for place, name in enumerate(names)}
    columns: dict[str, Any] = {"prediction": decide(decoded, classes)}
    if probabilities:
        columns |= {f"probability_{label}": decoded[:, place] for place, label in enumerate(classes)}
    return columns


def true_columns(target: Target, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the true target of some rows: ``target``, or ``target_<name>`` for several columns."""
    values = target.of(rows)
    if target.classes:
        return {"target": [target.classes[place] for place in values]}
    if len(target.names) == 1:
        return {"target": values[:, 0]}
    return {f"target_{name}": values[:, place] for place, name in enumerate(target.names)}


def file_column(raw: Table | Arrays) -> dict[str, list[str]]:
    """Return ``file``, the name of the file of each row, where rows have one each."""
    files = [name for origin in raw.origins for name in origin.files]
    return {"file": files} if files else {}


def check_suffix(output: str | None) -> str:
    """Return the ending of an output file, ``.csv`` without one to write.

    Raises:
        ConfigError: Another ending than .csv and .parquet.
    """
    suffix = ".csv" if output is None else "." + output.rpartition(".")[2].lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"output {output}: ending {suffix!r} came; expected .csv or .parquet; change the name")
    return suffix


def table_bytes(columns: dict[str, Any], suffix: str) -> bytes:
    """Return a table as the bytes of a CSV or Parquet file.

    Args:
        columns: Name to values; equal lengths.
        suffix: ``.csv`` or ``.parquet``.
    """
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    sink = io.BytesIO()
    if suffix == ".parquet":
        pa.parquet.write_table(table, sink)
    else:
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns)
        sink.write(header.getvalue().encode())
        pa.csv.write_csv(table, sink, pa.csv.WriteOptions(include_header=False))
    return sink.getvalue()
