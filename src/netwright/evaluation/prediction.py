"""Decoded outputs to a table in the user's own labels and units. Floor 8."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from netwright.errors import ConfigError
from netwright.model.decisions import decide, decide_each, decided
from netwright.sources.arrays import Arrays
from netwright.sources.tables import Table

Floats = npt.NDArray[np.float64]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that a spreadsheet runs (CWE-1236)
SEPARATOR = ";"  # between the labels of a row in a CSV file, where the settings name none


def true_columns(kind: str, values: npt.NDArray[Any], names: Sequence[str], classes: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of known targets in the user's own labels and units.

    Args:
        kind: The task.
        values: Class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values ``(rows, outputs)``.
        names: Target columns.
        classes: The user's classes or labels; empty for a regression.

    Returns:
        ``target``, or ``target_<name>`` for several columns; sets of labels are lists.
    """
    if kind == "multilabel":
        return _label_columns("target", values, names, classes)
    if classes:
        return {"target": [classes[place] for place in values]}
    return _value_columns("target", values, names)


def answers(
    kind: str, decoded: Floats, names: Sequence[str], classes: Sequence[Any], threshold: float | None = None
) -> npt.NDArray[Any]:
    """Return classes, labels or values as ``predict`` gives them; see `netwright.lifecycle.run.Run.predict`.

    Args:
        kind: The task.
        decoded: Probabilities or scores ``(rows, classes)``, or values ``(rows, outputs)``.
        names: Target columns.
        classes: The user's classes or labels; empty for a regression.
        threshold: The probability from which on the second of two classes is predicted; None for the likelier one.
    """
    if kind == "multilabel":
        guess = decide_each(decoded)
        return guess if len(names) > 1 else np.fromiter(label_lists(guess, classes), object, len(guess))
    if classes:
        return decided(decoded, classes, threshold)
    return decoded[:, 0] if decoded.shape[1:] == (1,) else decoded


def prediction_columns(
    kind: str,
    decoded: Floats,
    names: Sequence[str],
    classes: Sequence[Any],
    probabilities: bool,
    threshold: float | None = None,
    bounds: tuple[Floats, Floats] | None = None,
) -> dict[str, Any]:
    """Return the columns of a prediction file.

    Args:
        kind: The task.
        decoded: Probabilities ``(rows, classes)`` or values ``(rows, outputs)``.
        names: Target columns.
        classes: The user's classes or labels; empty for a regression.
        probabilities: Whether ``decoded`` are probabilities.
        threshold: The probability from which on the second of two classes is predicted; None for the likelier one.
        bounds: Where the values of a regression lie between, ``(rows, outputs)`` each.

    Returns:
        ``prediction`` and ``probability_<class>`` columns; for several target columns ``prediction_<name>``. Labels come
        as they were learned: from one column of sets as lists, from a column each as 0 and 1 in a column each. With bounds
        ``low`` and ``high`` follow.
    """
    if not classes:
        columns = _value_columns("prediction", decoded, names)
        for word, values in zip(("low", "high"), bounds or (), strict=False):
            columns |= _value_columns(word, values, names)
        return columns
    if kind == "multilabel":
        columns = _label_columns("prediction", decide_each(decoded), names, classes)
    else:
        columns = {"prediction": decide(decoded, classes, threshold)}
    if probabilities:
        columns |= {f"probability_{label}": decoded[:, place] for place, label in enumerate(classes)}
    return columns


def file_column(raw: Table | Arrays) -> dict[str, list[str]]:
    """Return ``file``, the name of the file of each row, where rows have one each."""
    files = [name for origin in raw.origins for name in origin.files]
    return {"file": files} if files else {}


def _value_columns(word: str, values: Floats, names: Sequence[str]) -> dict[str, Any]:
    if values.shape[1] == 1:
        return {word: values[:, 0]}
    return {f"{word}_{name}": values[:, place] for place, name in enumerate(names)}


def _label_columns(word: str, values: npt.NDArray[np.int64], names: Sequence[str], classes: Sequence[Any]) -> dict[str, Any]:
    if len(names) == 1:
        return {word: label_lists(values, classes)}
    return {f"{word}_{name}": values[:, place] for place, name in enumerate(names)}


def label_lists(values: npt.NDArray[np.int64], classes: Sequence[Any]) -> list[list[Any]]:
    """Return the labels of each row.

    Example:
        >>> label_lists(np.array([[1, 0, 1], [0, 0, 0]]), ["a", "b", "c"])
        [['a', 'c'], []]
    """
    return [[classes[place] for place in np.flatnonzero(row).tolist()] for row in values]


def check_suffix(output: str | None) -> str:
    """Return the ending of an output file, ``.csv`` without one to write.

    Raises:
        ConfigError: Another ending than .csv and .parquet.
    """
    suffix = ".csv" if output is None else "." + output.rpartition(".")[2].lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"output {output}: ending {suffix!r} came; expected .csv or .parquet; change the name")
    return suffix


def table_bytes(columns: dict[str, Any], suffix: str, separator: str | None = None) -> bytes:
    """Return a table as the bytes of a CSV or Parquet file.

    Args:
        columns: Name to values; equal lengths.
        suffix: ``.csv`` or ``.parquet``. In a CSV file texts that a spreadsheet would run as a formula (``=...``) get a quote
            in front, but for classes, which come back as they are.
        separator: Between the labels of a row in a CSV file, default ``;``. Labels that hold it are written as JSON.
    """
    if suffix == ".csv":
        columns = {
            _quoted(name): _joined(values, separator or SEPARATOR) if _ours(name) else _all_quoted(values)
            for name, values in columns.items()
        }
    table = pa.table({name: _array(values) for name, values in columns.items()})
    sink = io.BytesIO()
    if suffix == ".parquet":
        pa.parquet.write_table(table, sink)
    else:
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns)
        sink.write(header.getvalue().encode())
        pa.csv.write_csv(table, sink, pa.csv.WriteOptions(include_header=False))
    return sink.getvalue()


def _array(values: Any) -> pa.Array:
    """Return values as Arrow has them; whole numbers beyond 63 bits without a sign.

    Numbers and texts are laid out here: Arrow would first import pandas where it is installed, which takes longer than all else.
    """
    if isinstance(values, list) and values and {type(value) for value in values} == {str}:
        parts = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, parts)])
        if ends[-1] < 2**31:
            buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(parts))]
            return pa.Array.from_buffers(pa.string(), len(values), [None, *buffers])
    if isinstance(values, list) and values and {type(value) for value in values} == {int} and max(map(abs, values)) < 2**63:
        values = np.array(values, dtype=np.int64)
    if type(values) is np.ndarray and values.ndim == 1 and values.dtype in (np.int64, np.float64):
        plain = np.ascontiguousarray(values)
        return pa.Array.from_buffers(pa.from_numpy_dtype(plain.dtype), len(plain), [None, pa.py_buffer(plain)])
    try:
        return pa.array(values)
    except OverflowError:
        return pa.array(values, pa.uint64())


def classes_written(classes: Sequence[Any]) -> tuple[str, ...]:
    """Return classes as the cells of a CSV file spell them.

    Example:
        >>> classes_written([False, True]), classes_written([1.0, 2.5]), classes_written(["a", "A"])
        (('false', 'true'), ('1', '2.5'), ('a', 'A'))
    """
    return tuple(str(text) for text in pa.array(list(classes)).cast(pa.string()).to_pylist())


def _ours(name: str) -> bool:
    """Tell whether a column holds what the network says or should say: classes, numbers, lists of labels."""
    return name.partition("_")[0] in ("prediction", "probability", "target", "low", "high")


def _quoted(value: Any) -> Any:
    """Return a text so that no spreadsheet runs it; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _all_quoted(values: Any) -> Any:
    """Return a column of the user's texts so that no spreadsheet runs one; numbers stay as they are."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        texts = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return [_quoted(value) for value in values.to_pylist()] if texts else values
    plain = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "OU" else values
    return [_quoted(value) for value in plain] if isinstance(plain, list) else plain


def _joined(values: Any, separator: str) -> Any:
    """Return lists of labels as texts, other values as they are."""
    if not len(values) or not isinstance(values[0], list):
        return values
    texts = [[str(label) for label in row] for row in values]
    if any(separator in label for row in texts for label in row):
        return [json.dumps(row, ensure_ascii=False) for row in texts]
    return [separator.join(row) for row in texts]
