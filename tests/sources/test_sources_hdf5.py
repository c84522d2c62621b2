"""HDF5 files: data sets by path, columns by their names, and nothing that leads out of the file or declares too much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netwright.errors import DataError, NetwrightError, SafetyError
from netwright.sources.arrays import Arrays
from netwright.sources.opening import Reading, declared_form, read_parts, read_source
from netwright.sources.tables import Table

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.arange(6) % 2
COLUMNS = ("a", "b", "c")


def write(folder: Path, fill: Callable[[Any], Any]) -> str:
    path = folder / "t.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    return str(path)


def plain(file: Any) -> None:
    file["data/X"], file["data/y"], file["data/site"] = X, Y, Y + 5


def named(file: Any) -> None:
    plain(file)
    file["data/X"].attrs["columns"] = np.array(COLUMNS, dtype=h5py.string_dtype())
    file["data/y"].attrs["name"] = "price"


def table(file: Any) -> None:
    for place, name in enumerate(COLUMNS):
        file[f"run/{name}"] = X[:, place]
    file["run/kind"] = np.array(["no", "yes"] * 3, dtype=h5py.string_dtype())
    file["version"] = np.array([1, 2])


def compound(file: Any) -> None:
    kind = np.dtype([("a", "f8"), ("b", ">f4"), ("y", "i4"), ("who", "S3")])
    file["rows"] = np.array([(value, value * 2, place % 2, b"me") for place, value in enumerate(X[:, 0])], dtype=kind)


def test_arrays_are_named_by_their_paths_and_further_ones_come_along(tmp_path: Path) -> None:
    name = write(tmp_path, lambda file: file.update({"data/X": X[:, :, None], "data/y": Y, "data/site": Y + 5}))
    for reading in (Reading(), Reading(inputs=("data/X",), target=("/data/y",))):
        raw = read_source(name, reading)
        assert isinstance(raw, Arrays)
        assert raw.inputs["X"].tolist() == X[:, :, None].tolist()
        assert raw.target is not None
        assert raw.target.tolist() == Y.tolist()
        assert raw.others["site"].tolist() == (Y + 5).tolist() if "site" in raw.others else list(raw.others) == ["data/site"]
        assert declared_form(name, reading) == ((3, 1), None)


def test_several_inputs_are_named(tmp_path: Path) -> None:
    name = write(tmp_path, lambda file: file.update({"g/image": X.reshape(6, 1, 3), "g/wave": X, "g/y": Y}))
    raw = read_source(name, Reading(inputs=("g/image", "g/wave"), target=("g/y",)))
    assert isinstance(raw, Arrays)
    assert {key: value.shape for key, value in raw.inputs.items()} == {"image": (6, 1, 3), "wave": (6, 3)}
    with pytest.raises(DataError, match=r"t\.h5: arrays g/image, g/wave came; expected one input"):
        read_source(name, Reading())


@pytest.mark.parametrize(
    ("reading", "target"),
    [
        (Reading(), ["target"]),
        (Reading(inputs=("data/X",), target=("data/y",)), ["data/y"]),
        (Reading(target=("price",)), ["price"]),
        (Reading(inputs=("b", "a"), target=("price",)), ["price"]),
    ],
)
def test_columns_with_names_make_a_table(reading: Reading, target: list[str], tmp_path: Path) -> None:
    raw = read_source(write(tmp_path, named), reading)
    assert isinstance(raw, Table)
    assert raw.names == [*COLUMNS, "price", "site"]
    assert raw.inputs == COLUMNS
    assert raw.spread(target) == ["price"]
    assert raw.spread(["data/X", "site"]) == [*COLUMNS, "site"]
    np.testing.assert_array_equal(np.stack([raw.columns[name] for name in COLUMNS], axis=1), X)


@pytest.mark.parametrize(
    ("fill", "reading", "names", "inputs"),
    [
        (table, Reading(target=("kind",)), [*COLUMNS, "kind"], COLUMNS),
        (table, Reading(target=("run/kind",)), [*COLUMNS, "kind"], COLUMNS),
        (table, Reading(inputs=("run",), target=("run/kind",)), [*COLUMNS, "kind"], COLUMNS),
        (compound, Reading(), ["a", "b", "who", "y"], ("a", "b", "who")),
    ],
)
def test_columns_of_a_group_and_fields_of_a_data_set_make_a_table(
    fill: Callable[[Any], None], reading: Reading, names: list[str], inputs: tuple[str, ...], tmp_path: Path
) -> None:
    raw = read_source(write(tmp_path, fill), reading)
    assert isinstance(raw, Table)
    assert raw.names == names
    assert raw.inputs == inputs
    assert raw.columns["a"].to_pylist() == X[:, 0].tolist()


def test_groups_of_the_name_of_a_part_are_the_parts(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for part, rows in (("train", 6), ("test", 2)):
            file[f"{part}/X"], file[f"{part}/y"] = X[:rows], Y[:rows]

    parts = read_parts(write(tmp_path, fill), Reading())
    assert {name: part.rows for name, part in parts.items()} == {"train": 6, "test": 2}
    assert parts["test"].place(1) == "t.h5 (test): row 2"


def test_what_is_stored_in_pieces_packed_or_in_another_byte_order_comes_back(tmp_path: Path) -> None:
    many = np.random.default_rng(1).normal(size=(3000, 3))

    def fill(file: Any) -> None:
        file.create_dataset("X", data=many.astype(">f8"), chunks=(100, 2), compression="gzip", shuffle=True)
        file["X"].attrs["columns"] = list(COLUMNS)
        file.create_dataset("y", data=many[:, 0] > 0, compression="lzf")
        file["alias"] = h5py.SoftLink("/X")
        file["loop"] = file["/"]

    raw = read_source(write(tmp_path, fill), Reading(inputs=("X",), target=("y",)))
    assert isinstance(raw, Table)
    np.testing.assert_array_equal(np.stack([raw.columns[name] for name in COLUMNS], axis=1), many)
    assert raw.columns["y"].to_pylist() == (many[:, 0] > 0).tolist()


def external_storage(file: Any) -> None:
    file.create_dataset("X", (6, 3), "f8", external=[("/etc/passwd", 0, 144)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((6, 3), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "X", (6, 3))
    file.create_virtual_dataset("X", layout)


def bomb(file: Any) -> None:
    file.create_dataset("X", (2**40, 1024), "f8", chunks=(16, 1024))


def large_chunk(file: Any) -> None:
    file.create_dataset("X", (6, 3), "f8", maxshape=(None, 3), chunks=(2**24, 3))
    file["y"] = Y


def references(file: Any) -> None:
    plain(file)
    file.create_dataset("refs", (6,), h5py.ref_dtype)


def nested(file: Any) -> None:
    file["X"], file["y"] = np.zeros(6, dtype=[("values", "f8", (3,)), ("day", "i4")]), Y


# what is written, how it is read, the error, words of the line
REFUSED: dict[str, tuple[Callable[[Any], Any], Reading, type[NetwrightError], str]] = {
    "a link into another file": (
        lambda file: file.update({"X": h5py.ExternalLink("/etc/x.h5", "/X")}), Reading(), SafetyError, "'X' is a link into",
    ),
    "a link that leads nowhere": (
        lambda file: file.update({"a/X": h5py.SoftLink("../../b")}), Reading(), SafetyError, "'a/X' is a link to 'b'",
    ),
    "external storage": (external_storage, Reading(), SafetyError, "'X' stores its numbers in '/etc/passwd'"),
    "a virtual data set": (virtual, Reading(), SafetyError, "'X' is virtual"),
    "a shape that is not stored": (bomb, Reading(), SafetyError, "'X': 9007199254740992 bytes are declared and 0 stored"),
    "pieces that are not stored": (large_chunk, Reading(), SafetyError, "'X': 402653184 bytes are declared"),
    "a field of several numbers": (nested, Reading(inputs=("X",)), DataError, "'X': field 'values' holds"),
    "references": (references, Reading(target=("refs",)), DataError, "'refs' holds object"),
    "complex numbers": (
        lambda file: file.update({"X": X * 1j, "y": Y}), Reading(), DataError, "'X' holds complex128; expected numbers",
    ),
    "a data set that is not there": (
        plain, Reading(inputs=("data/x",)), DataError, "array 'data/x' is missing; did you mean data/X",
    ),
    "no data set": (lambda file: file.create_group("data"), Reading(), DataError, "no data sets"),
    "other lengths": (
        lambda file: file.update({"X": X, "y": Y[:5]}), Reading(), DataError, "array 'y' has shape (5,), 'X' (6, 3)",
    ),
    "a packing that needs other code": (
        lambda file: file.create_dataset("X", data=X, compression=32015, allow_unknown_filter=True), Reading(), DataError,
        "filter 32015",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_leads_out_of_a_file_or_is_no_number_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    fill, reading, kind, words = REFUSED[name]
    try:
        path = write(tmp_path, fill)
    except ValueError:  # HDF5 itself lacks the packing
        pytest.skip("this HDF5 cannot write it")
    with pytest.raises(kind) as problem:
        read_source(path, reading)
    assert words in str(problem.value)
    assert str(problem.value).startswith((path, "t.h5"))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 2000])
def test_a_damaged_file_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.h5: cannot be read \(.*expected an HDF5 file"):
        read_source(str(tmp_path / "t.h5"), Reading())


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, plain)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'netwright\[hdf5\]'"):
        read_source(path, Reading())
