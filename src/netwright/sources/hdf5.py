"""Reads HDF5 files with h5py: data sets by their paths, columns by the names in their attributes.

A file may point to other files and declare any size: what leads out of it, and what declares far more than it stores,
is refused before a byte of it is read. Floor 2.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from netwright.errors import DataError, SafetyError
from netwright.files import digest_bytes
from netwright.sources.arrays import NUMBERS, Array, Stored, declared_size, native
from netwright.sources.cache import filled
from netwright.sources.packing import BROKEN, LARGEST_RATIO, LEAST_PACKED, reason_of
from netwright.sources.places import Place

NAMES = ("columns", "column_names", "names", "name", "feature_names")  # attributes that name columns
FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # deflate, shuffle, fletcher32, szip, nbit, scaleoffset, lzf: no others are loaded
MOST_OBJECTS = 100_000
BLOCK_BYTES = 1 << 24
DAMAGED = (*BROKEN, KeyError, ValueError, TypeError, OverflowError, MemoryError, RuntimeError)


@contextmanager
def hdf5_arrays(place: Place) -> Iterator[dict[str, Stored]]:
    """Open an HDF5 file and yield its data sets by path, the fields of a compound one as columns.

    Raises:
        DataError: h5py is not installed, or the file is damaged or empty.
        SafetyError: A link or a data set leads out of the file, or declares far more than the file stores.
    """
    with opened(place) as (file, h5py):
        found: dict[str, Stored] = {}
        members = datasets(file, h5py, place)
        try:
            for path, dataset in members.items():
                found |= (
                    _fields(path, dataset, place) if dataset.dtype.names else {path: _stored(path, dataset, place, h5py)}
                )
        except DAMAGED as error:
            raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected an HDF5 file; check the file") from None
        if not found:
            raise DataError(f"{place}: no data sets; expected at least one; check the file")
        yield found


@contextmanager
def opened(place: Place) -> Iterator[tuple[Any, Any]]:
    """Open an HDF5 file and yield it with the h5py package."""
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"{place}: h5py is not installed; expected it for HDF5 files; run: pip install 'netwright[hdf5]'"
        ) from None
    with ExitStack() as stack:
        try:
            source = place.on_disk or stack.enter_context(place.open_anywhere())
            file = stack.enter_context(h5py.File(source, "r", locking=False))
        except DAMAGED as error:
            raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected an HDF5 file; check the file") from None
        yield file, h5py


def datasets(file: Any, h5py: Any, place: Place) -> dict[str, Any]:
    """Return the data sets of a file by path; soft links inside the file are followed.

    Raises:
        SafetyError: An external link, a soft link that leads nowhere in the file, external storage, a virtual data set, or
            more declared than stored.
        DataError: Too many objects, or a filter that is not known.
    """
    found: dict[str, Any] = {}
    links: dict[str, str] = {}
    try:
        groups, seen = {"": file}, {_address(file, h5py)}
        waiting = [("", file)]
        while waiting:
            above, group = waiting.pop()
            for name in group:
                path = f"{above}/{name}".lstrip("/")
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise SafetyError(
                        f"{place}: {path!r} is a link into another file, {link.filename!r}; expected data in this one; copy them"
                    )
                if isinstance(link, h5py.SoftLink):
                    links[path] = posixpath.normpath(posixpath.join("/", above, link.path)).strip("/")
                    continue
                member = group[name]
                if isinstance(member, h5py.Dataset):
                    _refuse_unsafe(path, member, place)
                    found[path] = member
                elif isinstance(member, h5py.Group) and _address(member, h5py) not in seen:
                    seen.add(_address(member, h5py))
                    groups[path] = member
                    waiting.append((path, member))
                if len(found) + len(groups) > MOST_OBJECTS:
                    raise DataError(f"{place}: more than {MOST_OBJECTS} objects came; expected fewer; write one table")
    except DAMAGED as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected an HDF5 file; check the file") from None
    for path, goal in links.items():
        if goal not in found and goal not in groups:
            raise SafetyError(
                f"{place}: {path!r} is a link to {goal!r}, which is not in the file; expected data in this one; copy them"
            )
    return {**found, **{path: found[goal] for path, goal in links.items() if goal in found}}


def _address(group: Any, h5py: Any) -> Any:
    return h5py.h5o.get_info(group.id).addr


def _refuse_unsafe(path: str, dataset: Any, place: Place) -> None:
    """Refuse a data set that lies elsewhere, declares far more than is stored, or needs code to be unpacked."""
    where = f"{place}: data set {path!r}"
    if dataset.is_virtual:
        raise SafetyError(f"{where} is virtual, its numbers lie in other files; expected them in the file itself; copy them")
    if dataset.external:
        raise SafetyError(
            f"{where} stores its numbers in {dataset.external[0][0]!r}; expected them in the file itself; copy them"
        )
    stored, size = dataset.id.get_storage_size(), place.size()
    chunk = declared_size(dataset.chunks or (0,))
    declared = max(declared_size(dataset.shape or ()), chunk) * dataset.dtype.itemsize
    if stored > size or declared > LARGEST_RATIO * max(stored, LEAST_PACKED):
        raise SafetyError(
            f"{where}: {declared} bytes are declared and {stored} stored in a file of {size}; expected at most {LARGEST_RATIO} "
            "times as many; it is damaged or hostile"
        )
    plan = dataset.id.get_create_plist()
    unknown = [number for number in (plan.get_filter(at)[0] for at in range(plan.get_nfilters())) if number not in FILTERS]
    if unknown:
        raise DataError(f"{where} is packed by filter {unknown[0]}; expected gzip, lzf or szip; write it again with gzip")


def _names(dataset: Any, width: int) -> tuple[str, ...]:
    """Return the column names that an attribute tells, where it names every column once."""
    for attribute in NAMES:
        try:
            if attribute not in dataset.attrs:
                continue
            values = np.atleast_1d(np.asarray(dataset.attrs[attribute], dtype=object)).ravel()
        except DAMAGED:
            continue
        names = tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)
        if len(set(names)) == width == len(names) and all(names):
            return names
    return ()


def _stored(path: str, dataset: Any, place: Place, h5py: Any) -> Stored:
    """Return a data set that is read when it is asked for."""
    shape = tuple(dataset.shape or ())
    text = h5py.check_string_dtype(dataset.dtype) is not None
    column = len(shape) == 1
    names = _names(dataset, 1 if column else shape[1]) if len(shape) in (1, 2) else ()
    if column and not names:
        names = (path.rpartition("/")[2],)

    def read() -> Array:
        if not text and dataset.dtype.kind not in NUMBERS:
            raise DataError(
                f"{place}: data set {path!r} holds {dataset.dtype}; expected numbers, booleans or texts; convert it"
            )
        try:
            if text:
                return np.asarray(dataset.asstr()[()]).astype(str)
            return _by_column(dataset) if names and not column else native(np.asarray(dataset[()]))
        except DAMAGED as error:
            raise DataError(
                f"{place}: data set {path!r} cannot be read ({reason_of(error)}); expected numbers or texts; check the file"
            ) from None

    def mapped(cache: str | None) -> Array:
        offset = dataset.id.get_offset()
        if offset is not None and dataset.dtype.isnative and (lies := place.on_disk):  # in one piece, as it stands
            return np.memmap(lies, dataset.dtype, "r", offset, shape)
        key = partial(digest_bytes, place.digest().encode(), path.encode())
        return filled(shape, dataset.dtype.newbyteorder("=").str, partial(_copy, dataset), key, cache)[0]

    plain = not text and dataset.dtype.kind in NUMBERS and dataset.dtype.itemsize <= 8
    return Stored(shape, np.dtype("U1") if text else dataset.dtype, read, names, mapped if plain and not column else None)


def _copy(dataset: Any, values: Array) -> None:
    """Fill an array with a data set, a few rows at a time."""
    step = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), step):
        values[start : start + step] = dataset[start : start + step]


def _by_column(dataset: Any) -> Array:
    """Read ``(rows, columns)`` block by block so that each column lies in one piece, without a second copy of all."""
    rows, columns = dataset.shape
    kind = dataset.dtype.newbyteorder("=")
    values = np.empty((rows, columns), dtype=kind, order="F")
    _copy(dataset, values)
    return native(values)


def _fields(path: str, dataset: Any, place: Place) -> dict[str, Stored]:
    """Return the fields of a compound data set of one axis as columns."""
    found: dict[str, Stored] = {}
    for name in dataset.dtype.names:
        kind = dataset.dtype[name]

        def read(name: str = name, kind: Any = kind) -> Array:
            if kind.kind not in NUMBERS + "S" or kind.subdtype is not None:
                raise DataError(
                    f"{place}: data set {path!r}: field {name!r} holds {kind}; expected one number or text per row; convert it"
                )
            try:
                values = np.asarray(dataset.fields(name)[()])
                return np.char.decode(values, "utf-8") if kind.kind == "S" else native(values)
            except DAMAGED as error:
                raise DataError(
                    f"{place}: data set {path!r}: field {name!r} cannot be read ({reason_of(error)}); expected numbers or texts; "
                    "check the file"
                ) from None

        found[f"{path}/{name}"] = Stored(tuple(dataset.shape), kind, read, (name,))
    return found
