"""Arrays from files: what was saved comes back bit for bit; what is hostile or damaged is refused and nothing is run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netwright.errors import ConfigError, DataError, NetwrightError, SafetyError
from netwright.sources.arrays import (
    Arrays,
    concatenate_arrays,
    idx_labels,
    read_idx,
    read_npy,
    read_npz,
)
from netwright.sources.bundled import bundled
from netwright.sources.choosing import choose_rows, held
from netwright.sources.places import place_of
from netwright.sources.tables import Origin, Table

EXAMPLES: dict[str, np.ndarray] = {
    "float64": np.array([[1.5, -0.0], [np.nan, 1e-300]]),
    "float32": np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "float16": np.array([1, 2.5], np.float16),
    "uint8": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "uint16": np.array([0, 65535], np.uint16),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "big-endian int32": np.array([1, -2], ">i4"),
    "big-endian float64": np.array([[1.5], [2.5]], ">f8"),
    "bool": np.array([True, False]),
    "texts": np.array(["red", "grün"]),
    "bytes": np.array([b"red", b"blue"]),
    "Fortran order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "no rows": np.zeros((0, 3)),
    "one number": np.array(3.5),
}


def same(found: np.ndarray, saved: np.ndarray) -> bool:
    return found.dtype == saved.dtype and found.shape == saved.shape and found.tobytes() == saved.tobytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_npy_files_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", EXAMPLES[name])
    assert same(read_npy(place_of(tmp_path / "a.npy")), EXAMPLES[name])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_come_back_bit_for_bit(save: Callable[..., None], tmp_path: Path) -> None:
    saved = {name.replace(" ", "_").replace("-", "_"): value for name, value in EXAMPLES.items()}
    save(tmp_path / "a.npz", **saved)
    found = read_npz(place_of(tmp_path / "a.npz"))
    assert list(found) == list(saved)
    assert [name for name in saved if not same(found[name], saved[name])] == []


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_each_version_of_the_npy_format_is_read(version: tuple[int, int], tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(stream, EXAMPLES["float32"], version=version)
    assert same(read_npy(place_of(tmp_path / "a.npy")), EXAMPLES["float32"])


IDX_CODES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx_bytes(values: np.ndarray, code: int) -> bytes:
    lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
    return bytes([0, 0, code, values.ndim]) + lengths + values.astype(IDX_CODES[code]).tobytes()


@pytest.mark.parametrize("ending", ["idx", "idx.gz"])
@pytest.mark.parametrize("code", IDX_CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
def test_idx_files_come_back(code: int, ending: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.arange(np.prod(shape)).reshape(shape) + 1
    content = idx_bytes(values, code)
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    found = read_idx(place_of(tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(IDX_CODES[code]).newbyteorder("=")


def npy_bytes(shape: str, descr: str = "'<f8'", data: bytes = b"\0" * 80) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickled_array_is_refused_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    hidden = np.array([Canary(tmp_path / "canary")], dtype=object)
    np.save(tmp_path / "a.npy", hidden, allow_pickle=True)
    np.savez(tmp_path / "a.npz", X=np.zeros(3), y=hidden)
    with pytest.raises(SafetyError, match=r"a\.npy: pickled objects came"):
        read_npy(place_of(tmp_path / "a.npy"))
    with pytest.raises(SafetyError, match=r"a\.npz: array 'y': pickled objects came"):
        read_npz(place_of(tmp_path / "a.npz"))
    assert SafetyError.exit_code == 8
    assert not (tmp_path / "canary").exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)  # the canary does sing where pickles are read
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("ending", ["npy", "npz", "idx", "idx.gz"])
def test_a_plain_pickle_under_another_name_is_refused_and_not_run(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{ending}").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    reader = {"npy": read_npy, "npz": read_npz}.get(ending, read_idx)
    with pytest.raises(DataError, match=rf"a\.{ending}"):
        reader(place_of(tmp_path / f"a.{ending}"))
    assert not (tmp_path / "canary").exists()


# content of an .npy file, the error, words of the message
NPY: dict[str, tuple[bytes, type[NetwrightError], str]] = {
    "declares a tebibyte": (npy_bytes("(137438953472,)"), SafetyError, "1099511627776 bytes are declared"),
    "declares more than 64 bits hold": (npy_bytes("(9223372036854775807, 9223372036854775807)"), SafetyError, "declared"),
    "a product that overflows to nothing": (npy_bytes("(4294967296, 4294967296, 4)"), SafetyError, "declared"),
    "one number too many": (npy_bytes("(1000,)"), SafetyError, "8000 bytes are declared"),
    "a negative length": (npy_bytes("(-1,)"), NetwrightError, "a.npy"),
    "rows of no bytes": (npy_bytes("(1000000000000, 0)"), NetwrightError, "a.npy"),
    "texts of no bytes": (npy_bytes("(1000000000000,)", "'<U0'"), NetwrightError, "a.npy"),
    "code in the header": (npy_bytes("__import__('os').mkdir('canary')"), DataError, "NumPy's format"),
    "a structured type": (npy_bytes("(2,)", "[('a', '<f8')]"), DataError, "expected numbers, booleans or texts"),
    "complex numbers": (npy_bytes("(2,)", "'<c16'"), DataError, "complex128"),
    "dates": (npy_bytes("(2,)", "'<M8[D]'"), DataError, "datetime64"),
    "an unknown type": (npy_bytes("(2,)", "'<q9'"), DataError, "a.npy"),
    "a shape that is no tuple": (npy_bytes("3"), DataError, "a.npy"),
    "empty": (b"", DataError, "a.npy"),
    "no magic": (b"hello, this is no array", DataError, "NumPy's format"),
    "half a header": (npy_bytes("(2,)")[:30], DataError, "a.npy"),
    "an unknown version": (b"\x93NUMPY\x09\x00" + npy_bytes("(2,)")[8:], DataError, "a.npy"),
}


@pytest.mark.parametrize("name", NPY)
def test_a_damaged_or_hostile_npy_file_is_told_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, kind, words = NPY[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(kind) as problem:
        read_npy(place_of(tmp_path / "a.npy"))
    assert words in str(problem.value)
    assert "a.npy" in str(problem.value)
    assert "\n" not in str(problem.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def zip_of(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


GOOD = npy_bytes("(10,)")


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def compressed() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, X=np.random.default_rng(0).normal(size=1000))
    return stream.getvalue()


def encrypted() -> bytes:
    content = bytearray(zip_of(("X.npy", GOOD)))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def strange_compression() -> bytes:
    content = bytearray(zip_of(("X.npy", GOOD)))
    content[8] = 99
    content[content.index(b"PK\x01\x02") + 10] = 99
    return bytes(content)


# content of an .npz file, the error, words of the message
NPZ: dict[str, tuple[bytes, type[NetwrightError], str]] = {
    "a folder in a name": (zip_of(("sub/X.npy", GOOD)), SafetyError, "'sub/X.npy'"),
    "a way out": (zip_of(("../X.npy", GOOD)), SafetyError, "'../X.npy'"),
    "an absolute name": (zip_of(("/tmp/X.npy", GOOD)), SafetyError, "'/tmp/X.npy'"),
    "a way out on Windows": (zip_of(("..\\X.npy", GOOD)), SafetyError, "X.npy"),
    "the same name twice": (zip_of(("X.npy", GOOD), ("X.npy", GOOD)), SafetyError, "'X.npy'"),
    "a member that is no array": (zip_of(("X.npy", GOOD), ("run.py", b"print()")), SafetyError, "'run.py'"),
    "a member with other content": (zip_of(("X.npy", b"hello")), DataError, "array 'X'"),
    "a member that declares too much": (zip_of(("X.npy", npy_bytes("(9999999,)"))), SafetyError, "79999992 bytes"),
    "no members": (zip_of(), DataError, "no arrays"),
    "empty": (b"", DataError, "a.npz"),
    "cut off": (zip_of(("X.npy", GOOD))[:100], DataError, "a.npz"),
    "a flipped byte, stored": (flipped(zip_of(("X.npy", GOOD)), 150), DataError, "a.npz"),
    "a flipped byte, compressed": (flipped(compressed(), 400), DataError, "a.npz"),
    "a broken compressed stream": (flipped(compressed(), compressed().index(b"X.npy") + 26), DataError, "a.npz"),
    "encrypted": (encrypted(), DataError, "a.npz"),
    "an unknown compression": (strange_compression(), DataError, "a.npz"),
}


@pytest.mark.parametrize("name", NPZ)
def test_a_damaged_or_hostile_npz_file_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, kind, words = NPZ[name]
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(kind) as problem:
        read_npz(place_of(tmp_path / "a.npz"))
    assert words in str(problem.value)
    assert "a.npz" in str(problem.value)
    assert "\n" not in str(problem.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


IDX = idx_bytes(np.arange(1000), 11)
ZIPPED = gzip.compress(np.random.default_rng(0).bytes(2000))
IDX_ZIPPED = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 9, 1000), 11))

# name, content of an idx file, the error, words of the message
BAD_IDX: dict[str, tuple[str, bytes, type[NetwrightError], str]] = {
    "empty": ("a.idx", b"", DataError, "the first bytes are"),
    "another format": ("a.idx", b"\x89PNG....", DataError, "89504e47"),
    "an unknown type": ("a.idx", b"\0\0\x0a\x01\0\0\0\x01a", DataError, "00000a01"),
    "cut off": ("a.idx", IDX[:-1], DataError, "1999 bytes came; the header says 2000"),
    "cut off in the header": ("a.idx", IDX[:6], DataError, "a.idx"),
    "declares a pebibyte": ("a.idx", b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xffa", SafetyError, "declared"),
    "declares a gibibyte": ("a.idx", b"\0\0\x08\x01\x40\0\0\0abc", NetwrightError, "1073741824"),
    "zipped, another format": ("a.idx.gz", ZIPPED, DataError, "the first bytes are"),
    "not zipped": ("a.idx.gz", IDX, DataError, "a.idx.gz"),
    "zipped, cut off": ("a.idx.gz", IDX_ZIPPED[: len(IDX_ZIPPED) // 2], DataError, "a.idx.gz"),
    "zipped, a flipped byte": ("a.idx.gz", flipped(IDX_ZIPPED, 60), DataError, "a.idx.gz"),
    "zipped, a broken stream": ("a.idx.gz", flipped(IDX_ZIPPED, 10), DataError, "a.idx.gz"),
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_a_damaged_or_hostile_idx_file_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    file, content, kind, words = BAD_IDX[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(kind) as problem:
        read_idx(place_of(tmp_path / file))
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_the_labels_of_mnist_lie_beside_the_images(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "other.idx"):
        (tmp_path / name).write_bytes(b"")
    assert idx_labels(place_of(tmp_path / "train-images-idx3-ubyte.gz")) == place_of(tmp_path / "train-labels-idx1-ubyte.gz")
    assert idx_labels(place_of(tmp_path / "t10k-images-idx3-ubyte")) is None
    assert idx_labels(place_of(tmp_path / "other.idx")) is None


X, Y, OTHER = np.zeros((4, 3)), np.arange(4), np.arange(4) + 10

# arrays, inputs, target, needed; the inputs, the target and the others that are chosen
CHOICES: dict[str, tuple[dict[str, np.ndarray], Any, Any, bool, list[str], str | None, list[str]]] = {
    "the usual names": ({"X": X, "y": Y}, None, None, True, ["X"], "y", []),
    "other usual names": ({"images": X, "labels": Y}, None, None, True, ["images"], "labels", []),
    "any one input": ({"spectra": X, "target": Y}, None, None, True, ["spectra"], "target", []),
    "a further array": ({"X": X, "y": Y, "patient": OTHER}, None, None, True, ["X"], "y", ["patient"]),
    "an array of another length": ({"X": X, "y": Y, "names": OTHER[:2]}, None, None, True, ["X"], "y", []),
    "names of one's own": ({"a": X, "b": Y, "c": OTHER}, ["a"], ["c"], True, ["a"], "c", ["b"]),
    "two inputs": ({"a": X, "b": X, "y": Y}, ["a", "b"], None, True, ["a", "b"], "y", []),
    "no target needed": ({"X": X}, None, None, False, ["X"], None, []),
    "the target of training is not there": ({"X": X}, None, ["y"], False, ["X"], None, []),
    "the target is there though not needed": ({"X": X, "y": Y}, None, ["y"], False, ["X"], "y", []),
}


@pytest.mark.parametrize("name", CHOICES)
def test_arrays_are_sorted_into_inputs_and_target(name: str) -> None:
    found, inputs, target, needed, chosen, wanted, others = CHOICES[name]
    arrays = choose_rows({name: held(value) for name, value in found.items()}, inputs, target, "a.npz", needed)
    assert list(arrays.inputs) == chosen
    assert arrays.target is (None if wanted is None else found[wanted])
    assert list(arrays.others) == others
    assert (arrays.rows, arrays.place(3)) == (4, "a.npz: row 4")


# arrays, inputs, target, words of the message
NO_CHOICE: dict[str, tuple[dict[str, np.ndarray], Any, Any, str]] = {
    "no target": ({"a": X, "b": Y}, None, None, "no target; the arrays are a, b"),
    "an unknown target": ({"X": X, "label": Y}, None, ["lable"], "'lable' is missing; did you mean label?"),
    "an unknown input": ({"signal": X, "y": Y}, ["signals"], None, "'signals' is missing; did you mean signal?"),
    "two inputs": ({"a": X, "b": X, "y": Y}, None, None, "arrays a, b came; expected one input"),
    "other lengths": ({"X": X, "y": Y[:3]}, None, None, "array 'y' has shape (3,), 'X' (4, 3)"),
    "a number": ({"X": np.array(3.0), "y": Y}, None, None, "array 'X' has shape ()"),
    "no rows": ({"X": X[:0], "y": Y[:0]}, None, None, "array 'X' has shape (0, 3)"),
    "texts": ({"X": np.array([["a"], ["b"]]), "y": Y[:2]}, None, None, "array 'X' holds <U1; expected numbers"),
    "rows of nothing": ({"X": np.zeros((4, 0)), "y": Y}, None, None, "(4, 0)"),
}


@pytest.mark.parametrize("name", NO_CHOICE)
def test_arrays_that_cannot_be_sorted_are_told_in_one_line(name: str) -> None:
    found, inputs, target, words = NO_CHOICE[name]
    with pytest.raises(DataError) as problem:
        choose_rows({name: held(value) for name, value in found.items()}, inputs, target, "a.npz", True)
    assert words in str(problem.value)
    assert str(problem.value).startswith("a.npz")


def part(name: str, rows: int, width: int, target: bool = True) -> Arrays:
    return Arrays({"X": np.full((rows, width), rows)}, np.arange(rows) if target else None, (Origin(name, rows),), "NC")


def test_arrays_are_joined_and_rows_keep_their_places() -> None:
    joined = concatenate_arrays([part("one", 2, 3), part("two", 1, 3)])
    assert joined.inputs["X"].tolist() == [[2, 2, 2], [2, 2, 2], [1, 1, 1]]
    assert joined.target is not None
    assert joined.target.tolist() == [0, 1, 0]
    assert joined.layout == "NC"
    assert [joined.place(row) for row in range(3)] == ["one: row 1", "one: row 2", "two: row 1"]


def test_arrays_of_other_row_shapes_are_not_joined() -> None:
    with pytest.raises(DataError, match=r"two: array 'X' has rows of shape \(4,\); one has \(3,\)"):
        concatenate_arrays([part("one", 2, 3), part("two", 1, 4)])


def test_a_target_of_only_one_of_two_files_is_an_error_not_a_silent_loss() -> None:
    with pytest.raises(DataError, match="two"):
        concatenate_arrays([part("one", 2, 3), part("two", 1, 3, target=False)])


def labelled(name: str, labels: tuple[object, ...], target: list[list[int]]) -> Arrays:
    return Arrays({"X": np.zeros((len(target), 2))}, np.array(target), (Origin(name, len(target)),), labels=labels)


def test_sets_of_labels_are_joined_by_label_and_not_by_column() -> None:
    joined = concatenate_arrays(
        [labelled("one", ("a", "b"), [[1, 0], [1, 1]]), labelled("two", ("b", "c"), [[1, 0], [0, 1]])]
    )
    assert joined.labels == ("a", "b", "c")
    assert joined.target is not None
    assert joined.target.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    mixed = concatenate_arrays([labelled("one", (1, 2), [[1, 0]]), labelled("two", ("2",), [[1]])])
    assert mixed.labels == ("1", "2")
    assert mixed.target is not None
    assert mixed.target.tolist() == [[1, 0], [0, 1]]


def test_targets_of_other_columns_or_without_labels_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"two: a target without names of labels came; the other parts have sets .*\(a, b\)"):
        concatenate_arrays([labelled("one", ("a", "b"), [[1, 0]]), labelled("two", (), [[1, 0]])])
    with pytest.raises(DataError, match=r"two: a target of int64 with rows of shape \(3,\) came; expected int64 and \(2,\)"):
        concatenate_arrays([labelled("one", (), [[1, 0]]), labelled("two", (), [[1, 0, 1]])])


def test_further_arrays_and_notes_of_all_parts_are_kept() -> None:
    one, two = part("one", 2, 3), part("two", 1, 3)
    one = replace(one, others={"g": np.array([1, 2]), "t": np.array([5, 6])}, notes=("read",))
    two = replace(two, others={"g": np.array([3])}, notes=("read", "mapped"))
    joined = concatenate_arrays([one, two])
    assert {name: values.tolist() for name, values in joined.others.items()} == {"g": [1, 2, 3]}
    assert joined.notes == ("read", "mapped")


# the name, rows, columns, the kind of the target column
BUNDLED_SETS = {
    "breast_cancer": (569, 31, str),
    "diabetes": (442, 11, float),
    "iris": (150, 5, str),
    "linnerud": (20, 6, float),
    "wine": (178, 14, str),
}


@pytest.mark.parametrize("name", BUNDLED_SETS)
def test_a_bundled_set_is_a_table(name: str) -> None:
    rows, columns, kind = BUNDLED_SETS[name]
    table = bundled(name)
    assert isinstance(table, Table)
    assert (table.rows, len(table.names)) == (rows, columns)
    assert isinstance(table.columns[table.names[-1]][0].as_py(), kind)
    assert table.place(0) == f"sklearn:{name}: row 1"


def test_the_bundled_digits_are_images() -> None:
    digits = bundled("digits")
    assert isinstance(digits, Arrays)
    assert digits.inputs["images"].shape == (1797, 8, 8)
    assert digits.inputs["images"].max() == 16
    assert digits.layout == "NHW"
    assert np.bincount(digits.target).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_set_that_is_not_bundled_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"sklearn:diggits is not bundled.*did you mean digits\?"):
        bundled("diggits")
