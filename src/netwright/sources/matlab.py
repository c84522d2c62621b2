"""Reads MATLAB files: version 5 with SciPy, version 7.3 as the HDF5 it is. Floor 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any

import numpy as np

from netwright.errors import DataError, SafetyError
from netwright.sources import hdf5
from netwright.sources.arrays import Array, Stored, declared_size, native
from netwright.sources.packing import LARGEST_RATIO, LEAST_PACKED, reason_of
from netwright.sources.places import Place

HDF5_MAGIC, HDF5_AT = b"\x89HDF\r\n\x1a\n", 512  # version 7.3: after MATLAB's own header
WIDTHS = {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8"}
WIDTHS |= {"uint64": "u8", "single": "f4", "double": "f8", "logical": "?", "sparse": "f8", "char": "U1"}
MOST_AXES = 32
DAMAGED = (*hdf5.DAMAGED, NotImplementedError, IndexError, AttributeError)


@contextmanager
def matlab_arrays(place: Place) -> Iterator[dict[str, Stored]]:
    """Open a MATLAB file and yield its variables by name; a row that is as long as another variable is a column.

    Raises:
        DataError: The file is damaged or empty; a variable that is asked for is no array of numbers or texts.
        SafetyError: A variable declares far more than the file stores.
    """
    with place.open_anywhere() as stream:
        head = stream.read(HDF5_AT + len(HDF5_MAGIC))
        if HDF5_MAGIC in (head[HDF5_AT:], head[: len(HDF5_MAGIC)]):
            with hdf5.opened(place) as (file, h5py):
                yield _columns(_hdf5_variables(file, h5py, place), place)
            return
        yield _columns(_variables(stream, place), place)


def _variables(stream: IO[bytes], place: Place) -> dict[str, Stored]:
    """Return the variables of a file of version 5 or older."""
    import scipy.io

    try:
        stream.seek(0)
        listed = scipy.io.whosmat(stream)
    except (*DAMAGED, scipy.io.matlab.MatReadError) as error:
        raise _damaged(place, error) from None
    found = {}
    for name, shape, kind in listed:
        width = np.dtype(WIDTHS.get(kind, "O"))
        declared, size = declared_size(shape) * width.itemsize, place.size()
        if declared > LARGEST_RATIO * max(size, LEAST_PACKED) or min(shape, default=0) < 0:
            raise SafetyError(
                f"{place}: variable {name!r}: {declared} bytes are declared in a file of {size}; expected at most {LARGEST_RATIO} "
                "times as many; it is damaged or hostile"
            )

        def read(name: str = name, kind: str = kind, width: np.dtype[Any] = width) -> Array:
            if width.kind == "O":
                raise _refusal(place, name, kind)
            try:
                stream.seek(0)
                loaded = scipy.io.loadmat(stream, variable_names=[name], chars_as_strings=True)[name]
                values = np.asarray(loaded.toarray() if kind == "sparse" else loaded)
            except (*DAMAGED, scipy.io.matlab.MatReadError) as error:
                raise _damaged(place, error) from None
            return _plain(values, kind)

        known = tuple(shape[:1]) if kind == "char" else tuple(shape)
        found[name] = Stored(known, width, read)
    return found


def _hdf5_variables(file: Any, h5py: Any, place: Place) -> dict[str, Stored]:
    """Return the variables of a file of version 7.3, whose axes stand in reverse order."""
    hdf5.datasets(file, h5py, place)  # refuses what leads out of the file
    found = {}
    for name in (name for name in file if not name.startswith("#")):
        variable = file[name]
        kind = variable.attrs.get("MATLAB_class", b"")
        kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
        if not isinstance(variable, h5py.Dataset) or kind not in WIDTHS:
            kind = "sparse" if "MATLAB_sparse" in variable.attrs else kind if kind in ("cell", "struct") else "object"

            def refuse(name: str = name, kind: str = kind) -> Array:
                raise _refusal(place, name, kind)

            found[name] = Stored((0,), np.dtype("O"), refuse)
            continue
        shape = tuple(variable.shape[::-1])
        read: Callable[[], Array] = partial(_transposed, variable, kind, place)
        if variable.attrs.get("MATLAB_empty", 0):  # what is stored are its axes
            shape = _axes_of_empty(variable, name, place)
            read = partial(np.zeros, shape[:1] if kind == "char" else shape, WIDTHS[kind])
        found[name] = Stored(shape[:1] if kind == "char" else shape, np.dtype(WIDTHS[kind]), read)
    return found


def _axes_of_empty(variable: Any, name: str, place: Place) -> tuple[int, ...]:
    """Return the axes of a variable without elements."""
    try:
        axes = tuple(int(length) for length in np.ravel(variable[()])) if variable.size <= MOST_AXES else ()
        np.zeros(axes if 0 in axes else (-1,), np.bool_)
    except DAMAGED:
        raise DataError(
            f"{place}: variable {name!r} is said to be empty and has no axes of which one is 0; expected some; check the file"
        ) from None
    return axes


def _transposed(variable: Any, kind: str, place: Place) -> Array:
    try:
        values = np.asarray(variable[()]).T
    except DAMAGED as error:
        raise _damaged(place, error) from None
    if kind == "char":
        return np.asarray(["".join(map(chr, row)).rstrip(" \0") for row in values.tolist()])
    return _plain(values, kind)


def _plain(values: Array, kind: str) -> Array:
    if kind == "logical":
        return values.astype(np.bool_)
    return np.char.rstrip(values) if kind == "char" else native(values)


def _columns(found: dict[str, Stored], place: Place) -> dict[str, Stored]:
    """Return variables in which a row is a column where another variable has as many rows: MATLAB has no single axis."""
    if not found:
        raise DataError(f"{place}: no variables; expected at least one; check the file")
    lengths = {stored.shape[0] for stored in found.values() if stored.ndim and stored.shape[0] > 1}
    return {
        name: replace(stored, shape=stored.shape[::-1], read=partial(_turned, stored))
        if stored.ndim == 2 and stored.shape[0] == 1 and stored.shape[1] in lengths
        else stored
        for name, stored in found.items()
    }


def _turned(stored: Stored) -> Array:
    return stored.read().T


def _refusal(place: Place, name: str, kind: str) -> DataError:
    return DataError(
        f"{place}: variable {name!r} is a {kind}; expected an array of numbers or texts; save its fields as variables"
    )


def _damaged(place: Place, error: BaseException) -> DataError:
    return DataError(f"{place}: cannot be read ({reason_of(error)}); expected a MATLAB file; check the file")
