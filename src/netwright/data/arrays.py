"""Reads arrays (npz, npy, idx, scikit-learn's bundled sets, arrays in memory) into `Arrays`; never unpickles.

Headers are checked against the size of the file before memory is taken. Floor 2.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.data.tables import Origin, Table, place_of
from netwright.errors import ConfigError, DataError, SafetyError, did_you_mean

Array = npt.NDArray[Any]

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
TARGET_NAMES = ("target", "y", "label", "labels")
INPUT_NAMES = ("X", "x", "inputs", "data", "images")
PARTS = {"train": ("_train",), "valid": ("_valid", "_val"), "test": ("_test",)}  # X_train, y_train, ... in one .npz
PART_ENDS = tuple(end for ends in PARTS.values() for end in ends)
# what a damaged archive raises; Runtime: encrypted, unknown packing
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, UnicodeError)


@dataclass(frozen=True)
class Arrays:
    """Named arrays whose first axis is the row, and what their axes mean.

    ``inputs`` hold numbers of any dtype; ``target`` is one array or None; ``layout`` is None where arrays are taken
    as given; ``others`` are further arrays with a row each (a group, a time); ``labels`` name the columns of a target
    that came as sets of labels.
    """

    inputs: dict[str, Array]
    target: Array | None
    origins: tuple[Origin, ...]
    layout: str | None = None
    others: dict[str, Array] = field(default_factory=dict)
    labels: tuple[Any, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.inputs.values())))

    def place(self, row: int) -> str:
        """Return where a row came from, for messages."""
        return place_of(self.origins, row)


def native(array: Array) -> Array:
    """Return an array in this machine's byte order; numbers longer than 64 bits become float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of an .npz file.

    Raises:
        DataError: The file is no zip of arrays.
        SafetyError: An array is pickled, or declares more than the file holds.
    """
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if not name.endswith(".npy") or "/" in name or "\\" in name or name[:-4] in found:
                    raise SafetyError(f"{path}: member {name!r} came; expected one .npy per name, no folders; rewrite it")
                with archive.open(entry) as stream:
                    found[name[:-4]] = _read_array(stream, entry.file_size, f"{path}: array {name[:-4]!r}")
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an .npz file; check the file") from None
    if not found:
        raise DataError(f"{path}: no arrays; expected at least one; check the file")
    return found


def read_npy(path: Path) -> Array:
    """Read one .npy file; see `read_npz` for the errors."""
    with path.open("rb") as stream:
        return _read_array(stream, path.stat().st_size, str(path))


def header_shapes(path: Path, kind: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the header of an array file declares, without reading the data.

    Args:
        path: The file.
        kind: ``npy``, ``npz`` or ``idx``.

    Raises:
        DataError: The file is no array file.
    """
    try:
        if kind == "npy":
            with path.open("rb") as stream:
                return {"X": _read_header(stream, str(path))[0]}
        if kind == "idx":
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as opened:
                return {"images": _idx_header(opened, path)[0]}
        shapes = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    shapes[name.removesuffix(".npy")] = _read_header(member, f"{path}: array {name!r}")[0]
        return shapes
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an {kind} file; check the file") from None


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: cannot be read ({reason}); expected NumPy's format") from None
    return shape, fortran, dtype


def _read_array(stream: IO[bytes], size: int, where: str) -> Array:
    shape, fortran, dtype = _read_header(stream, where)
    if dtype.hasobject:
        raise SafetyError(f"{where}: pickled objects came; they could run code; save it with a plain dtype")
    if dtype.kind not in "biufUS":
        raise DataError(f"{where}: dtype {dtype} came; expected numbers, booleans or texts; convert it")
    declared = int(np.prod([int(length) for length in shape], dtype=object)) * dtype.itemsize
    if any(length < 0 for length in shape) or (not declared and max(shape, default=0) > size):
        raise DataError(f"{where}: shape {shape} of {dtype} came; expected rows that hold something; check the file")
    if declared > size:
        raise SafetyError(f"{where}: {declared} bytes are declared; the file holds {size}; it is damaged or hostile")
    data = stream.read(declared)
    if len(data) != declared:
        raise DataError(f"{where}: the file ends early; expected {declared} bytes; copy it again")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def read_idx(path: Path) -> Array:
    """Read an idx file (the format of MNIST), gzipped or not.

    Raises:
        DataError: The file is no idx file or ends early.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            lengths, dtype = _idx_header(stream, path)
            declared = int(np.prod([int(length) for length in lengths], dtype=object)) * dtype.itemsize
            if declared > 64 * 2**30:
                raise SafetyError(f"{path}: {declared} bytes are declared; at most 64 GiB are read; it may be hostile")
            data = bytearray()
            while len(data) < declared and (part := stream.read(min(2**24, declared - len(data)))):
                data += part
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an idx file; check the file") from None
    if len(data) != declared:
        raise DataError(f"{path}: {len(data)} bytes came; the header says {declared}; copy the file again")
    return native(np.frombuffer(bytes(data), dtype=dtype).reshape(lengths))


def _idx_header(stream: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES:
        raise DataError(f"{path}: the first bytes are {head.hex()}; expected an idx file; check the file")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path}: the header ends early; expected {head[3]} lengths; copy the file again")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_TYPES[head[2]])


def idx_labels(path: Path) -> Path | None:
    """Return the label file that lies beside an idx image file, by MNIST's names, or None."""
    name = path.name
    for images, labels in (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1")):
        candidate = path.with_name(name.replace(images, labels))
        if images in name and candidate.exists():
            return candidate
    return None


def target_name(found: Iterable[str], target: Sequence[str] | None) -> str | None:
    """Return the name of the target among array names: what the user wrote, else a usual one, else None."""
    names = set(found)
    return target[0] if target else next((known for known in TARGET_NAMES if known in names), None)


def input_names(found: Iterable[str], target: str | None) -> list[str]:
    """Return the names of the inputs where the user wrote none: a usual one, else all that are not the target."""
    rest = [key for key in found if key != target]
    usual = [key for key in INPUT_NAMES if key in rest]
    return usual[:1] or rest


def _refuse_parts(found: Mapping[str, Array], inputs: Sequence[str] | None, name: str, needed: bool) -> None:
    """Refuse the parts of a training file where one set of rows is read: nobody can tell which is meant."""
    parts = [key for key in found if key.endswith(PART_ENDS)]
    if parts and not inputs and not any(key in found for key in INPUT_NAMES):
        advice = "save the test rows as X and y" if needed else "save the rows to predict as X"
        raise DataError(f"{name}: arrays {', '.join(parts)} came; expected one array of rows; {advice}")


def choose_arrays(
    found: Mapping[str, Array], inputs: Sequence[str] | None, target: Sequence[str] | None, name: str, needed: bool
) -> Arrays:
    """Sort the arrays of a file into inputs and target.

    Args:
        found: Arrays by name.
        inputs: Names of the inputs; default ``X``, ``x``, ``inputs``, ``data``, or the only other array.
        target: Name of the target; default ``y``, ``target``, ``label`` or ``labels``.
        name: The file, for messages.
        needed: Whether a missing target is an error.

    Raises:
        DataError: A name is unknown, or the arrays differ in length.
    """
    for wanted in [*(inputs or []), *(target or [] if needed else [])]:
        if wanted not in found:
            raise DataError(f"{name}: array {wanted!r} is missing; {did_you_mean(wanted, found)}")
    _refuse_parts(found, inputs, name, needed)
    chosen = target_name(found, target)
    if chosen is None and needed:
        raise DataError(f"{name}: no target; the arrays are {', '.join(found)}; set data.target")
    if chosen not in found:
        chosen = None
    if inputs is None:
        inputs = input_names(found, chosen)
        if len(inputs) != 1:
            raise DataError(f"{name}: arrays {', '.join(inputs)} came; expected one input; set data.inputs")
    rows = len(found[inputs[0]]) if found[inputs[0]].ndim else 0
    for key in [*inputs, *([chosen] if chosen else [])]:
        if found[key].ndim == 0 or len(found[key]) != rows or found[key].size == 0:
            raise DataError(
                f"{name}: array {key!r} has shape {found[key].shape}, {inputs[0]!r} {found[inputs[0]].shape}; "
                "expected one row each; check the arrays"
            )
        if key != chosen and found[key].dtype.kind not in "biuf":
            raise DataError(f"{name}: array {key!r} holds {found[key].dtype}; expected numbers; convert it")
    used = {*inputs, chosen}
    others = {key: value for key, value in found.items() if key not in used and value.ndim and len(value) == rows}
    target_array = found[chosen] if chosen else None
    return Arrays({key: found[key] for key in inputs}, target_array, (Origin(name, rows),), others=others)


def concatenate_arrays(parts: Sequence[Arrays]) -> Arrays:
    """Put arrays with the same names and row shapes one below the other."""
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
    targets = [part.target for part in parts if part.target is not None]
    if targets and len(targets) != len(parts):
        bare = next(part for part in parts if part.target is None)
        raise DataError(f"{bare.origins[0].name}: no target came; the other files have one; give it or leave the file out")
    target = np.concatenate(targets) if targets else None
    return Arrays(inputs, target, tuple(origin for part in parts for origin in part.origins), first.layout)


def bundled(name: str) -> Table | Arrays:
    """Return one of scikit-learn's bundled sets; digits as images, the others as tables.

    Raises:
        ConfigError: The set is not bundled.
    """
    if name not in BUNDLED:
        raise ConfigError(f"data.source: sklearn:{name} is not bundled with scikit-learn; {did_you_mean(name, BUNDLED)}")
    from sklearn import datasets

    origin = f"sklearn:{name}"
    if name == "digits":
        digits = datasets.load_digits()
        rows = len(digits.images)
        return Arrays({"images": digits.images.astype(np.uint8)}, digits.target, (Origin(origin, rows),), "NHW")
    loaded = datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    columns = {str(column): pa.array(values) for column, values in zip(loaded.feature_names, loaded.data.T, strict=True)}
    if loaded.target.ndim == 2:
        names = loaded.target_names
        columns |= {str(column): pa.array(values) for column, values in zip(names, loaded.target.T, strict=True)}
    elif "target_names" in loaded:
        columns["target"] = pa.array([str(loaded.target_names[value]) for value in loaded.target])
    else:
        columns["target"] = pa.array(loaded.target)
    return Table(pa.table(columns), (Origin(origin, len(loaded.target)),))
