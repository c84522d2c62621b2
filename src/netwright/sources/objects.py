"""Python objects as arrays and columns: lists, NumPy arrays, tensors, Series and frames; all else is refused. Floor 2."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from netwright.errors import DataError, first_line
from netwright.sources import labels as multilabel
from netwright.sources import tables
from netwright.sources.arrays import NUMBERS, Array, native
from netwright.sources.labels import Label
from netwright.sources.tables import Table

CELLS = (str, bool, int, float, np.generic, datetime.date, datetime.datetime)  # of a row that is a dictionary
ACCEPTED = "arrays, tensors or a data frame; hand over (X, y)"


def is_frame(value: Any) -> bool:
    """Tell whether a value is a data frame: rows and named columns."""
    return hasattr(value, "columns") and (hasattr(value, "__arrow_c_stream__") or hasattr(value, "__dataframe__"))


def is_series(value: Any) -> bool:
    """Tell whether a value is one column of a data frame, or an Arrow array."""
    return isinstance(value, pa.Array | pa.ChunkedArray) or (hasattr(value, "to_frame") and not hasattr(value, "columns"))


def is_ragged(value: Any) -> bool:
    """Tell whether a value is a list of arrays or tensors of different length: sequences."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        return False
    shapes = [getattr(item, "shape", None) for item in value]
    if not all(shapes) or any(hasattr(item, "columns") for item in value):
        return False
    return len({tuple(shape)[0] for shape in shapes if shape}) > 1


def are_records(value: Any) -> bool:
    """Tell whether rows came as dictionaries by the names of columns: a list of them, or a single one."""
    if isinstance(value, Mapping) and {"train", "valid", "test"} >= set(value):
        return False  # parts of a split, not the columns of a row
    rows = value if isinstance(value, list | tuple) else [value]
    return bool(rows) and all(isinstance(row, Mapping) and bool(row) and all(map(_is_cell, row.values())) for row in rows)


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, CELLS)


def table_of_records(value: Any) -> pa.Table:
    """Return dictionaries, one a row, as columns; a name that a row has not is a missing cell.

    Raises:
        DataError: A column of cells of different kinds.
    """
    rows = value if isinstance(value, list | tuple) else [value]
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if str(name) in columns:
            raise DataError(f"data: column {str(name)!r} came twice, as a text and as {name!r}; expected one; rename it")
        try:
            columns[str(name)] = pa.array([row.get(name) for row in rows], from_pandas=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise DataError(
                f"data: column {str(name)!r}: {first_line(error)}; expected cells of one kind; convert them"
            ) from None
    return pa.table(columns)


def as_array(value: Any, where: str) -> Array:
    """Return a list, array or tensor as a NumPy array of a plain dtype.

    Raises:
        DataError: The value is something else, its rows differ in shape, or it holds objects.
    """
    if isinstance(value, list | tuple) and value and all(hasattr(item, "detach") for item in value):
        value = [_dense(item, where) for item in value]  # tensors on a device, or that need gradients
    value = _dense(value, where)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        raise DataError(
            f"{where}: rows of different shapes came; expected rows of equal shape, or sequences as a list of arrays; convert "
            "them, and hand over (X, y)"
        ) from None
    if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise DataError(f"{where}: dtype {array.dtype} came; expected numbers, booleans or texts; convert it")
    return native(array)


def as_target(labels: Any) -> tuple[Array, tuple[Label, ...]]:
    """Return one value or several per row as an array, and for sets of labels the label that each column stands for.

    Raises:
        DataError: See `as_array`; labels of different kinds.
    """
    sets = label_sets(labels)
    if sets is not None:
        found = multilabel.of_lists(pa.chunked_array([sets]), lambda row: f"data: y: row {row + 1}")
        return found.matrix(), found.found
    if getattr(getattr(labels, "dtype", None), "kind", "") == "M":
        return np.asarray(labels), ()
    if _of_objects(labels) and len({type(label) for label in labels}) == 1:
        labels = labels.tolist()  # booleans, numbers or texts that were kept as objects
    return as_array(labels, "data: y"), ()


def _of_objects(labels: Any) -> bool:
    """Tell whether an array or a Series holds Python objects."""
    return getattr(getattr(labels, "dtype", None), "kind", "") == "O" and hasattr(labels, "tolist") and np.ndim(labels) == 1


def label_sets(labels: Any) -> pa.Array | None:
    """Return sets of labels, a list, tuple or set for each row, as lists; None for everything else.

    Lists of numbers that are equally long are the rows of an array, as in NumPy.

    Raises:
        DataError: Labels of different kinds.
    """
    rows = list(labels) if isinstance(labels, list | tuple) or _of_objects(labels) else []
    there = [row for row in rows if row is not None]
    if not there or not all(isinstance(row, list | tuple | set | frozenset) for row in there):
        return None
    sets = any(isinstance(row, set | frozenset) for row in there)
    if not sets and len({len(row) for row in there}) == 1 and not any(isinstance(label, str) for label in there[0]):
        return None
    try:
        return pa.array([None if row is None else list(row) for row in rows])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"data: y: {str(error).splitlines()[0]}; expected labels of one kind; convert them") from None


def _dense(value: Any, where: str) -> Any:
    """Return something NumPy reads whole; what it would iterate, unpickle or cut is refused."""
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise DataError(f"{where}: a sparse {type(value).__name__} came; expected an array; hand over .toarray()")
    if hasattr(value, "detach"):
        if getattr(value, "is_sparse", False):
            raise DataError(f"{where}: a sparse tensor came; expected a dense one; hand over .to_dense()")
        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:  # bfloat16 and shorter floats, which NumPy does not know
            return value.float().numpy()
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise DataError(f"{where}: masked numbers came; expected an array; fill them, for instance .filled(numpy.nan)")
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not listed and not hasattr(value, "__array__") and not hasattr(value, "__array_interface__"):
        raise DataError(f"{where}: a {type(value).__name__} came; expected {ACCEPTED}")
    return value


def split_pair(data: Any) -> tuple[Any, Any]:
    """Return rows and labels of ``(X, y)``, or the rows and None; rows that are dictionaries as a table.

    Raises:
        DataError: A tuple of another number of arrays; see `table_of_records`.
    """
    if are_records(data):
        return table_of_records(data), None
    if isinstance(data, tuple | list) and len(data) == 2:
        return table_of_records(data[0]) if are_records(data[0]) else data[0], data[1]
    if isinstance(data, tuple) and any(hasattr(item, "shape") for item in data):
        raise DataError(
            f"data: a tuple of {len(data)} came; expected {ACCEPTED}; rows that weigh more are for NetClassifier and NetRegressor, "
            "fit(X, y, sample_weight)"
        )
    return data, None


def as_rows(value: Any) -> Array:
    """Return the rows X as an array.

    Raises:
        DataError: One axis only: one value per row and column or one row, nobody can tell.
    """
    if is_series(value):
        row = ", of a single row X.to_frame().T" if hasattr(value, "to_frame") else ""
        raise DataError(
            f"data: X: a {type(value).__name__} came, one column without its name; expected rows and columns; "
            f"hand over X.to_frame(){row}, or reshape to (rows, 1)"
        )
    array = as_array(value, "data: X")
    if array.ndim == 1 and array.dtype.kind != "U" and len(array):
        raise DataError(
            f"data: X: shape {array.shape} came; expected (rows, columns); reshape to (rows, 1), or a single row to (1, columns)"
        )
    return array


def plain_rows(value: Any) -> Array | None:
    """Return an array or a tensor of numbers, rows and columns or more axes, as `as_rows` does; None for all else."""
    if type(value) is not np.ndarray:
        torch = sys.modules.get("torch")  # without it nothing is a tensor
        if torch is None or type(value) is not torch.Tensor or value.layout != torch.strided:
            return None
        value = _dense(value, "data: X")
    plain = value.ndim > 1 and value.size and value.dtype.kind in NUMBERS
    return native(value) if plain else None


def target_keys(keys: Sequence[str], target: Sequence[str] | None, usual: Sequence[str]) -> list[str]:
    """Return which keys of a dictionary of arrays are the target; none where it holds rows alone.

    Args:
        keys: The keys.
        target: What the user wrote; several names give several columns.
        usual: Names taken where nothing was written.
    """
    if target and all(name in keys for name in target):
        chosen = list(target)
    elif target and list(target) != ["target"]:
        return []
    else:
        chosen = [name for name in usual if name in keys][:1]
    return chosen if len(chosen) < len(keys) else []


def side_by_side(parts: Sequence[Array], names: Sequence[str]) -> Array:
    """Return several target arrays as columns.

    Raises:
        DataError: One is no single column, or they differ in length.
    """
    shapes = [part.shape for part in parts]
    if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        raise DataError(f"data: targets {', '.join(names)} of shapes {shapes} came; expected one value per row each")
    return np.column_stack(parts)


def append_labels(table: Table, labels: Any, target: Sequence[str] | None) -> tuple[Table, tuple[str, ...]]:
    """Return a frame with its separate labels as further columns, and the names of these.

    Args:
        table: The rows.
        labels: A Series, a frame, an array, a tensor or a list; ``(rows,)`` or ``(rows, outputs)``.
        target: Their names, or None: a Series' and a frame's own, else ``target`` or ``target_1``, ...

    Raises:
        DataError: Another number of rows or names, or a name that the rows have.
    """
    columns, own = _label_columns(labels)
    rows = len(columns[0]) if columns else 0
    if rows != table.rows:
        raise DataError(f"data: {table.rows} rows and {rows} targets came; expected equally many; check both")
    names = tuple(target) if target else own
    if len(names) != len(columns):
        raise DataError(
            f"data: y: {len(columns)} columns came; the names of the target are {', '.join(names)}; expected one name each"
        )
    joined = table.columns
    for name, values in zip(names, columns, strict=True):
        if name in joined.column_names:
            raise DataError(f"data: column {name!r} of the rows has the name of the target; leave it out or rename it")
        joined = joined.append_column(name, values)
    return Table(joined, table.origins), names


def _label_columns(labels: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Return the columns of labels and their own names."""
    if isinstance(labels, pa.Array | pa.ChunkedArray):
        chunks = labels if isinstance(labels, pa.ChunkedArray) else pa.chunked_array([labels])
        return [tables.plain_text(chunks)], ("target",)
    sets = label_sets(labels)
    if sets is not None:
        return [sets], (str(getattr(labels, "name", None) or "target"),)
    if is_series(labels):
        name = labels.name
        frame = tables.from_frame(labels.to_frame(), "data: y")
        return [frame.columns.column(0)], ("target" if name is None or name == "" else str(name),)
    if is_frame(labels):
        frame = tables.from_frame(labels, "data: y")
        return [frame.columns.column(place) for place in range(len(frame.names))], tuple(frame.names)
    listed = isinstance(labels, np.ndarray | list | tuple) and np.ndim(labels) == 1 and any(item is None for item in labels)
    if listed:
        try:
            return [pa.array(list(labels))], ("target",)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"data: y: {str(error).splitlines()[0]}; expected values of one kind; convert them") from None
    values = as_array(labels, "data: y")
    if values.ndim not in (1, 2) or values.shape[-1] == 0:
        raise DataError(f"data: y: shape {values.shape} came; expected (rows,) or (rows, outputs); reshape it")
    if values.ndim == 1 or values.shape[1] == 1:
        return [pa.array(values.reshape(-1))], ("target",)
    return [pa.array(column.copy()) for column in values.T], tuple(f"target_{place + 1}" for place in range(values.shape[1]))
