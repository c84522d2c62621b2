"""Reads arrays (npz, npy, idx) into `Arrays`, each when it is asked for; never unpickles.

Headers are checked against the size of the file before memory is taken. Floor 2.
"""

from __future__ import annotations

import tokenize
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from netwright.errors import DataError, SafetyError
from netwright.sources.packing import BROKEN, reason_of
from netwright.sources.places import Place
from netwright.sources.tables import Origin, place_among

Array = npt.NDArray[Any]

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NUMBERS, TEXTS = "biuf", "US"  # kinds of dtypes


@dataclass(frozen=True)
class Arrays:
    """Named arrays whose first axis is the row, and what their axes mean.

    ``inputs`` hold numbers of any dtype; ``target`` is one array or None; ``layout`` is None where arrays are taken
    as given; ``others`` are further arrays with a row each (a group, a time); ``notes`` say how they were read;
    ``labels`` name the columns of a target that came as sets of labels.
    """

    inputs: dict[str, Array]
    target: Array | None
    origins: tuple[Origin, ...]
    layout: str | None = None
    others: dict[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    labels: tuple[Any, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.inputs.values())))

    def place(self, row: int) -> str:
        """Return where a row came from, for messages."""
        return place_among(self.origins, row)


def named_rows(layout: str | None) -> str:
    """Return what a person calls rows of these axes.

    Example:
        >>> named_rows("NCHW"), named_rows("NCDHW"), named_rows(None)
        ('images', 'arrays', 'arrays')
    """
    return "images" if layout is not None and "H" in layout and "D" not in layout else "arrays"


@dataclass(frozen=True)
class Stored:
    """An array of a file, known by its header, that is read when it is asked for.

    ``names`` are the names of its columns where the file tells them: one for an array of one axis. ``mapped`` gives it
    without taking memory: a map of the file, or of a copy in a folder of the cache; None where that cannot be.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]
    names: tuple[str, ...] = ()
    mapped: Callable[[str | None], Array] | None = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return declared_size(self.shape)


def declared_size(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape, however many a header declares."""
    return int(np.prod([int(length) for length in shape], dtype=object))


def native(array: Array) -> Array:
    """Return an array in this machine's byte order; numbers longer than 64 bits become float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def concatenate_arrays(parts: Sequence[Arrays]) -> Arrays:
    """Put arrays with the same names and row shapes one below the other.

    Sets of labels are put together by label; further arrays are kept that all parts have.

    Raises:
        DataError: An array is missing or has rows of another shape, a target too, or only some of the parts have labels.
    """
    first = parts[0]
    for part in parts[1:]:
        for key, value in first.inputs.items():
            if key not in part.inputs or part.inputs[key].shape[1:] != value.shape[1:]:
                got = part.inputs[key].shape[1:] if key in part.inputs else "nothing"
                raise DataError(
                    f"{part.origins[0].name}: array {key!r} has rows of shape {got}; "
                    f"{first.origins[0].name} has {value.shape[1:]}; make them equal"
                )
    inputs = {key: np.concatenate([part.inputs[key] for part in parts]) for key in first.inputs}
    target, labels = _answers(parts)
    others = {
        name: np.concatenate([part.others[name] for part in parts])
        for name, value in first.others.items()
        if all(name in part.others and part.others[name].shape[1:] == value.shape[1:] for part in parts)
    }
    origins = tuple(origin for part in parts for origin in part.origins)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Arrays(inputs, target, origins, first.layout, others, notes, labels)


def _answers(parts: Sequence[Arrays]) -> tuple[Array | None, tuple[Any, ...]]:
    """Return the targets of all parts one below the other, and the labels of their columns where they came as sets."""
    targets = [part.target for part in parts if part.target is not None]
    if not targets:
        return None, ()
    if len(targets) != len(parts):
        bare = next(part for part in parts if part.target is None)
        raise DataError(f"{bare.origins[0].name}: no target came; the other files have one; give it or leave the file out")
    labels = _common_labels(parts)
    if labels:
        targets = [_by_label(part, target, labels) for part, target in zip(parts, targets, strict=True)]
    for part, target in zip(parts, targets, strict=True):
        if target.shape[1:] != targets[0].shape[1:] or (target.dtype.kind == "M") != (targets[0].dtype.kind == "M"):
            raise DataError(
                f"{part.origins[0].name}: a target of {target.dtype} with rows of shape {target.shape[1:]} came; expected "
                f"{targets[0].dtype} and {targets[0].shape[1:]}, as the train rows have; make them equal"
            )
    return np.concatenate(targets), labels


def _common_labels(parts: Sequence[Arrays]) -> tuple[Any, ...]:
    """Return the labels of all parts, those of the first first; a label that is a text in one part is one in all."""
    bare = [part for part in parts if not part.labels]
    if len(bare) == len(parts):
        return ()
    if bare:
        shown = ", ".join(map(str, next(part.labels for part in parts if part.labels)[:6]))
        raise DataError(
            f"{bare[0].origins[0].name}: a target without names of labels came; the other parts have sets of labels ({shown}); "
            "expected sets in each; give a set per row"
        )
    texts = any(isinstance(label, str) for part in parts for label in part.labels)
    found = (label for part in parts for label in part.labels)
    return tuple(dict.fromkeys(str(label) if texts else label for label in found))


def _by_label(part: Arrays, target: Array, labels: Sequence[Any]) -> Array:
    """Return 0 and 1 per row and label, of which a part has some."""
    found = np.zeros((part.rows, len(labels)), dtype=np.int64)
    texts = any(isinstance(label, str) for label in labels)
    places = [labels.index(str(label) if texts else label) for label in part.labels]
    found[:, places] = target
    return found


@contextmanager
def npz_arrays(place: Place) -> Iterator[dict[str, Stored]]:
    """Open an .npz file and yield its arrays by name.

    Raises:
        DataError: The file is no zip of arrays.
        SafetyError: An array is pickled, or declares more than the file holds.
    """
    with place.open_anywhere() as stream:
        with _readable(place, "npz"):
            archive = zipfile.ZipFile(stream)
            found: dict[str, Stored] = {}
            for entry in archive.infolist():
                name = entry.filename
                if not name.endswith(".npy") or "/" in name or "\\" in name or name[:-4] in found:
                    raise SafetyError(f"{place}: member {name!r} came; expected one .npy per name, no folders; rewrite it")
                found[name[:-4]] = _npz_member(place, archive, entry)
        if not found:
            raise DataError(f"{place}: no arrays; expected at least one; check the file")
        yield found


def read_npz(place: Place) -> dict[str, Array]:
    """Read all arrays of an .npz file; see `npz_arrays` for the errors."""
    with npz_arrays(place) as found:
        return {name: stored.read() for name, stored in found.items()}


@contextmanager
def npy_array(place: Place) -> Iterator[dict[str, Stored]]:
    """Open an .npy file and yield its array under the name X; see `npz_arrays` for the errors."""
    with place.open() as stream:
        stored = _stored(stream, place.size(), str(place))
        path = None if place.packed else place.on_disk
        plain = path is not None and stored.dtype.isnative and stored.dtype.kind in NUMBERS
        yield {"X": replace(stored, mapped=lambda _: np.load(str(path), mmap_mode="r")) if plain else stored}


def read_npy(place: Place) -> Array:
    """Read one .npy file; see `npz_arrays` for the errors."""
    with npy_array(place) as found:
        return found["X"].read()


@contextmanager
def idx_array(place: Place) -> Iterator[dict[str, Stored]]:
    """Open an idx file (the format of MNIST), gzipped or not, and yield its array under the name images.

    Raises:
        DataError: The file is no idx file or ends early.
    """
    with place.open() as stream:
        with _readable(place, "idx"):
            shape, dtype = _idx_header(stream, place)
        yield {"images": Stored(shape, dtype, lambda: _read_idx(stream, shape, dtype, place))}


def read_idx(place: Place) -> Array:
    """Read an idx file; see `idx_array` for the errors."""
    with idx_array(place) as found:
        return found["images"].read()


def idx_labels(place: Place) -> Place | None:
    """Return the label file that lies beside an idx image file, by MNIST's names, or None."""
    for images, labels in (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1")):
        candidate = place.parent.child(place.name.replace(images, labels))
        if images in place.name and candidate.is_file():
            return candidate
    return None


@contextmanager
def _readable(place: Place, kind: str) -> Iterator[None]:
    """Tell in one line what a damaged file raises in the block."""
    try:
        yield
    except BROKEN as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected an {kind} file; check the file") from None


def _npz_member(place: Place, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Stored:
    where = f"{place}: array {entry.filename[:-4]!r}"
    with archive.open(entry) as stream:
        known = _stored(stream, entry.file_size, where)

    def read() -> Array:
        with _readable(place, "npz"), archive.open(entry) as again:
            return _stored(again, entry.file_size, where).read()

    return replace(known, read=read)


def _stored(stream: IO[bytes], size: int, where: str) -> Stored:
    """Read the header of an array in NumPy's format and check it against the size of what holds it."""
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise DataError(f"{where}: cannot be read ({reason_of(error)}); expected NumPy's format; check the file") from None
    if dtype.hasobject:
        raise SafetyError(f"{where}: pickled objects came; they could run code; save it with a plain dtype")
    if dtype.kind not in NUMBERS + TEXTS:
        raise DataError(f"{where}: dtype {dtype} came; expected numbers, booleans or texts; convert it")
    declared = declared_size(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or (not declared and max(shape, default=0) > size):
        raise DataError(f"{where}: shape {shape} of {dtype} came; expected rows that hold something; check the file")
    if declared > size:
        raise SafetyError(
            f"{where}: {declared} bytes are declared; expected at most the {size} that the file holds; it is damaged or hostile"
        )

    def read() -> Array:
        data = stream.read(declared)
        if len(data) != declared:
            raise DataError(f"{where}: the file ends early; expected {declared} bytes; copy it again")
        return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")

    return Stored(shape, dtype, read)


def _idx_header(stream: IO[bytes], place: Place) -> tuple[tuple[int, ...], np.dtype[Any]]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES:
        raise DataError(f"{place}: the first bytes are {head.hex()}; expected an idx file; check the file")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{place}: the header ends early; expected {head[3]} lengths; copy the file again")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_TYPES[head[2]])


def _read_idx(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], place: Place) -> Array:
    declared = declared_size(shape) * dtype.itemsize
    if declared > 64 * 2**30:
        raise SafetyError(f"{place}: {declared} bytes are declared; at most 64 GiB are read; it may be hostile")
    data = bytearray()
    with _readable(place, "idx"):
        while len(data) < declared and (part := stream.read(min(2**24, declared - len(data)))):
            data += part
    if len(data) != declared:
        raise DataError(f"{place}: {len(data)} bytes came; the header says {declared}; copy the file again")
    return native(np.frombuffer(bytes(data), dtype=dtype).reshape(shape))
