"""MATLAB files of both kinds: the variables as arrays, rows as columns, and no objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from netwright.errors import DataError, SafetyError
from netwright.sources.arrays import Arrays
from netwright.sources.matlab import matlab_arrays
from netwright.sources.opening import Reading, declared_form, read_parts, read_source
from netwright.sources.places import place_of

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.arange(6) % 2


def version_5(folder: Path, **variables: Any) -> str:
    scipy.io.savemat(folder / "t.mat", variables, do_compression=True)
    return str(folder / "t.mat")


def version_7(folder: Path, **variables: Any) -> str:
    """What MATLAB's save -v7.3 writes: HDF5 behind 512 bytes, axes in reverse order, the class as an attribute."""
    path = folder / "t.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, dict):
                file.create_group(name).attrs["MATLAB_class"] = np.bytes_("struct")
                continue
            kinds = {"f": "double", "i": "int64", "b": "logical"}
            if isinstance(value, str):
                values, kind = np.array([[ord(letter)] for letter in value], np.uint16), "char"
            else:
                values, kind = np.atleast_2d(value).T, kinds[value.dtype.kind]
                values = values.astype(np.uint8) if kind == "logical" else values
            file[name] = values
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    content = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512, b" ") + content[512:])
    return str(path)


@pytest.mark.parametrize("write", [version_5, version_7])
def test_variables_come_back_bit_for_bit(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path, X=X, y=Y, site=Y + 5, about={"who": 1})
    raw = read_source(path, Reading())
    assert isinstance(raw, Arrays)
    assert raw.inputs["X"].tobytes() == X.tobytes()
    assert raw.target is not None
    assert raw.target.ravel().tolist() == Y.tolist()
    assert raw.others["site"].tolist() == (Y + 5).tolist()
    assert declared_form(path, Reading()) == ((3,), None)


@pytest.mark.parametrize("write", [version_5, version_7])
def test_images_truth_values_and_parts_are_read(write: Any, tmp_path: Path) -> None:
    images = np.arange(48.0).reshape(6, 2, 4)
    parts = read_parts(write(tmp_path, X_train=images, y_train=Y == 1, X_test=images[:2], y_test=Y[:2] == 1), Reading())
    train = parts["train"]
    assert isinstance(train, Arrays)
    assert train.inputs["X"].tolist() == images.tolist()
    assert train.target is not None
    assert train.target.dtype == np.bool_
    assert train.target.ravel().tolist() == (Y == 1).tolist()
    assert parts["test"].rows == 2


def test_texts_are_labels_and_sparse_variables_become_dense(tmp_path: Path) -> None:
    path = version_5(tmp_path, X=scipy.sparse.csc_matrix(np.eye(6)), y=["no", "yes"] * 3)
    raw = read_source(path, Reading())
    assert isinstance(raw, Arrays)
    assert raw.inputs["X"].tolist() == np.eye(6).tolist()
    assert raw.target is not None
    assert raw.target.tolist() == ["no", "yes"] * 3


@pytest.mark.parametrize("write", [version_5, version_7])
def test_a_struct_is_refused_by_its_name(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path, X=X, y=Y, about={"who": 1})
    with pytest.raises(DataError, match=r"t\.mat: variable 'about' is a struct.*save its fields as variables"):
        read_source(path, Reading(inputs=("about",)))


def test_a_cell_is_refused_by_its_name(tmp_path: Path) -> None:
    path = version_5(tmp_path, X=X, y=np.array([1, "a", 2, 3, 4, 5], dtype=object))
    with pytest.raises(DataError, match=r"t\.mat: variable 'y' is a cell"):
        read_source(path, Reading())


@pytest.mark.parametrize("content", [b"", b"hello", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\xff" * 300])
def test_a_damaged_file_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.mat: ") as problem:
        read_source(str(tmp_path / "t.mat"), Reading())
    assert "\n" not in str(problem.value)


def test_a_sparse_variable_of_too_many_cells_is_refused(tmp_path: Path) -> None:
    path = version_5(tmp_path, X=scipy.sparse.csc_matrix((2**20, 2**20)), y=Y)
    with pytest.raises(SafetyError, match="variable 'X': 8796093022208 bytes are declared"):
        read_source(path, Reading())


def emptied(path: str, axes: list[int]) -> None:
    """Add a variable without elements: what MATLAB stores of it are its axes."""
    with h5py.File(path, "r+") as file:
        file["none"] = np.array(axes, np.uint64)
        file["none"].attrs["MATLAB_class"] = np.bytes_("double")
        file["none"].attrs["MATLAB_empty"] = np.uint8(1)


def test_an_empty_variable_of_version_7_has_the_axes_that_are_stored_and_no_rows(tmp_path: Path) -> None:
    path = version_7(tmp_path, X=X, y=Y)
    emptied(path, [0, 3])
    with matlab_arrays(place_of(path)) as found:
        assert found["none"].shape == (0, 3)
        assert found["none"].read().shape == (0, 3)
        assert found["X"].shape == (6, 3)
    with pytest.raises(DataError, match=r"array 'none' has shape \(0, 3\)"):
        read_source(path, Reading(inputs=("none",)))


@pytest.mark.parametrize("axes", [[2, 3], [], [0, 2**63], [0] * 40])
def test_an_empty_variable_that_is_none_is_refused(axes: list[int], tmp_path: Path) -> None:
    path = version_7(tmp_path, X=X, y=Y)
    emptied(path, axes)
    with pytest.raises(DataError, match="variable 'none' is said to be empty and has no axes of which one is 0"):
        read_source(path, Reading())
