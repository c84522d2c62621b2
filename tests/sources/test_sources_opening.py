"""From a name or Python objects to rows: the right reader, the right target, one digest, and clear refusals."""

from __future__ import annotations

import contextlib
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from netwright.errors import DataError, SafetyError
from netwright.sources.arrays import Arrays
from netwright.sources.objects import as_array
from netwright.sources.opening import (
    Reading,
    combine,
    declared_form,
    digest_raw,
    digest_source,
    from_objects,
    read_parts,
    read_source,
)
from netwright.sources.places import place_of
from netwright.sources.tables import Origin, Table
from netwright.sources.texts import Lines, TextOptions, count_fields

X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])


def idx(values: np.ndarray) -> bytes:
    lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
    return bytes([0, 0, 8, values.ndim]) + lengths + values.astype(np.uint8).tobytes()


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".csv"):
        path.write_text("a,y\n1,0\n2,1\n3,0\n4,1\n")
    elif name.endswith(".npz"):
        np.savez(path, X=X, y=Y)
    elif name.endswith(".npy"):
        np.save(path, X)
        np.save(folder / "labels.npy", Y)
    else:
        path.write_bytes(idx(np.zeros((4, 2, 2))))
        (folder / name.replace("images-idx3", "labels-idx1")).write_bytes(idx(Y))
    return path


# the file, how it is read, the shape of a row, the layout
READ: dict[str, tuple[str, Reading, tuple[int, ...] | None, str | None]] = {
    "csv": ("t.csv", Reading(), None, None),
    "npz": ("t.npz", Reading(), (3,), None),
    "npz with a layout": ("t.npz", Reading(layout="NT"), (3,), "NT"),
    "npy with labels beside it": ("t.npy", Reading(target=("labels.npy",)), (3,), None),
    "idx": ("t-images-idx3-ubyte", Reading(), (2, 2), "NHW"),
}


@pytest.mark.parametrize("name", READ)
def test_each_kind_of_file_is_read_whole(name: str, tmp_path: Path) -> None:
    file, reading, shape, layout = READ[name]
    raw = read_source(str(write(tmp_path, file)), reading)
    assert raw.rows == 4
    assert raw.place(0) == ("t.csv:2" if shape is None else f"{file}: row 1")
    if shape is None:
        assert isinstance(raw, Table)
        return
    assert isinstance(raw, Arrays)
    assert next(iter(raw.inputs.values())).shape[1:] == shape
    assert raw.layout == layout
    assert raw.target is not None
    assert raw.target.tolist() == Y.tolist()


# the file that is read, and words of the message
REFUSED: dict[str, tuple[str, Reading, str]] = {
    "no such file": ("gone.csv", Reading(), "gone.csv: no such file"),
    "a folder": ("folder", Reading(), "folder: a folder came"),
    "an unknown ending": ("t.xyz", Reading(), "ending '.xyz' is unknown"),
    "an ending that only looks like idx": ("index.xyz", Reading(), "ending '.xyz' is unknown"),
    "a sheet that is none": ("t.xlsx", Reading(), "t.xlsx: cannot be read"),
    "a sheet, what to do": ("t.XLS", Reading(), "save the sheet as CSV"),
    "a packed table": ("t.csv.gz", Reading(), "expected a file packed by gzip"),
    "an address": ("gopher://example.org/t.csv", Reading(), "gopher:// is no known protocol"),
    "an address of a store": ("s3://me:secret@bucket/t.parquet", Reading(), "s3://***@bucket/t.parquet: a password came"),
    "a token in capitals": ("HTTPS://token@host/t.parquet", Reading(), "HTTPS://***@host/t.parquet: a password came"),
    "an array, packed": ("t.npy.gz", Reading(), "unpack it first"),
    "no ending": ("plain", Reading(), "plain"),
    "npy without a target": ("t.npy", Reading(), "t.npy: one array without a target"),
    "npy with another target": ("t.npy", Reading(target=("gone.npy",)), "gone.npy"),
    "idx of other lengths": ("u-images-idx3-ubyte", Reading(), "3 labels for 4 images"),
    "idx without labels": ("v-images-idx3-ubyte", Reading(), "no label file beside it"),
    "idx of one number": ("zero.idx", Reading(), "zero.idx"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_cannot_be_read_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    file, reading, words = REFUSED[name]
    (tmp_path / "folder").mkdir()
    for other in ("t.xyz", "index.xyz", "plain", "t.xlsx", "t.XLS", "t.csv.gz", "t.npy.gz"):
        (tmp_path / other).write_text("a,b\n1,2\n")
    write(tmp_path, "t.npy")
    write(tmp_path, "u-images-idx3-ubyte")
    write(tmp_path, "v-images-idx3-ubyte")
    (tmp_path / "u-labels-idx1-ubyte").write_bytes(idx(Y[:3]))
    (tmp_path / "v-labels-idx1-ubyte").unlink()
    (tmp_path / "zero.idx").write_bytes(idx(np.array(7)))
    with pytest.raises((DataError, SafetyError)) as problem:
        read_source(file if "://" in file else str(tmp_path / file), reading)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("seeds/seed-0", "a run came; expected data or a config; to use its settings name seeds/seed-0/config.toml"),
        ("seeds", "a folder of runs came; expected data or a config; to use its settings name seeds/seed-0/config.toml"),
        ("search", "a search came; expected data or a config; to use its settings name search/tune.toml"),
    ],
)
def test_runs_in_the_place_of_data_are_told_with_the_settings_in_them(named: str, told: str, tmp_path: Path) -> None:
    for file in (
        "seeds/seed-0/run.json",
        "seeds/seed-0/config.toml",
        "seeds/seed-1/run.json",
        "search/tune.json",
        "search/tune.toml",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    with pytest.raises(DataError) as problem:
        read_source(str(tmp_path / named), Reading())
    assert str(problem.value).replace(f"{tmp_path}/", "") == f"{named}: {told}"


@pytest.mark.parametrize("name", ["-", "pipe"])
def test_a_pipe_is_no_data_file(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=f"{name}: a pipe or device came; .*write its rows into a file first"):
        read_source(name if name == "-" else str(tmp_path / name), Reading())


def test_an_npy_file_of_one_number_is_no_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array(3.5))
    with pytest.raises(DataError, match=r"t\.npy"):
        read_source(str(tmp_path / "t.npy"), Reading(), target_needed=False)


def test_an_npz_may_hold_its_own_parts(tmp_path: Path) -> None:
    arrays = {"X_train": X, "y_train": Y, "X_val": X[:2], "y_val": Y[:2], "X_test": X[:1], "y_test": Y[:1]}
    np.savez(tmp_path / "t.npz", **arrays)
    parts = read_parts(str(tmp_path / "t.npz"), Reading())
    assert {name: part.rows for name, part in parts.items()} == {"train": 4, "valid": 2, "test": 1}
    assert parts["test"].place(0) == "t.npz (test): row 1"


def test_parts_beside_named_train_rows_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X_train=X, y_train=Y, X_test=X[:1], y_test=Y[:1])
    raw = read_source(str(tmp_path / "t.npz"), Reading(inputs=("X_train",), target=("y_train",)))
    assert isinstance(raw, Arrays)
    (note,) = raw.notes
    assert note.startswith("arrays X_test, y_test are left out; with neither data.inputs nor data.target each part is read")
    np.savez(tmp_path / "m.npz", X_train=X, y_train=Y, group=Y)
    raw = read_source(str(tmp_path / "m.npz"), Reading(inputs=("X_train",), target=("y_train",)))
    assert isinstance(raw, Arrays)
    assert raw.notes == ()


def test_rows_to_predict_are_not_looked_for_among_the_parts_of_a_training_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X_train=X, y_train=Y, X_test=X)
    with pytest.raises(DataError, match=r"X_train, y_train, X_test came.*save the rows to predict as X"):
        read_source(str(tmp_path / "t.npz"), Reading(), target_needed=False)
    with pytest.raises(DataError, match="save the test rows as X and y"):
        read_source(str(tmp_path / "t.npz"), Reading())


# the file, how it is read, what its header declares
DECLARED: dict[str, tuple[str, Reading, tuple[tuple[int, ...], str | None] | None]] = {
    "npz": ("t.npz", Reading(), ((3,), None)),
    "npz with a layout": ("t.npz", Reading(layout="NT"), ((3,), "NT")),
    "npz of capitals": ("T.NPZ", Reading(), ((3,), None)),
    "npz with its parts": ("parts.npz", Reading(), ((3,), None)),
    "npz with more arrays": ("more.npz", Reading(), ((3,), None)),
    "npz of which an input is named": ("more.npz", Reading(inputs=("group",)), ((), None)),
    "npy": ("t.npy", Reading(target=("labels.npy",)), ((3,), None)),
    "idx": ("t-images-idx3-ubyte", Reading(), ((2, 2), "NHW")),
    "idx, packed": ("p-images-idx3-ubyte.gz", Reading(), ((2, 2), "NHW")),
    "idx with a layout": ("t-images-idx3-ubyte", Reading(layout="NTC"), ((2, 2), "NTC")),
    "a table named like idx": ("my_idx.csv", Reading(), None),
    "a set": ("sklearn:digits", Reading(), None),
    "no file": ("gone.npz", Reading(), None),
}


@pytest.mark.parametrize("name", DECLARED)
def test_the_header_of_an_array_file_declares_what_reading_gives(name: str, tmp_path: Path) -> None:
    file, reading, expected = DECLARED[name]
    for other in ("t.npz", "t.npy", "t-images-idx3-ubyte", "my_idx.csv"):
        write(tmp_path, other)
    (tmp_path / "T.NPZ").write_bytes((tmp_path / "t.npz").read_bytes())
    np.savez(tmp_path / "parts.npz", X_train=X, y_train=Y, X_test=X[:1], y_test=Y[:1])
    np.savez(tmp_path / "more.npz", X=X, y=Y, group=Y)
    (tmp_path / "p-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((4, 2, 2)))))
    (tmp_path / "p-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(Y)))
    path = file if ":" in file else str(tmp_path / file)
    assert declared_form(path, reading) == expected
    if expected is not None:
        raw = next(iter(read_parts(path, reading).values()))
        assert isinstance(raw, Arrays)
        assert (next(iter(raw.inputs.values())).shape[1:], raw.layout) == expected


@pytest.mark.parametrize("file", ["t.npz", "t.npy", "t-images-idx3-ubyte", "p-images-idx3-ubyte.gz"])
def test_a_damaged_header_is_told_in_one_line(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    good = gzip.compress(idx(np.zeros((4, 2, 2)))) if file.endswith(".gz") else write(tmp_path, file).read_bytes()
    generator = np.random.default_rng(0)
    for trial in range(300):
        damaged = bytearray(good)
        for place in generator.integers(0, len(good), 1 + trial % 20):
            damaged[place] = generator.integers(256)
        path.write_bytes(bytes(damaged)[: generator.integers(len(good)) + 1])
        for read in (declared_form, read_source):
            with contextlib.suppress(DataError, SafetyError):
                read(str(path), Reading(target=("labels.npy",) if file.endswith("npy") else None))


def test_an_npz_without_parts_is_read_whole(tmp_path: Path) -> None:
    parts = read_parts(str(write(tmp_path, "t.npz")), Reading())
    assert {name: part.rows for name, part in parts.items()} == {"all": 4}


@pytest.mark.parametrize("file", ["t.csv", "t.npz", "t-images-idx3-ubyte"])
def test_the_digest_of_a_source_changes_with_its_content_only(file: str, tmp_path: Path) -> None:
    path = write(tmp_path, file)
    first = digest_source(str(path))
    assert digest_source(str(write(tmp_path, file))) == first
    path.write_bytes(path.read_bytes() + b"\n")
    assert digest_source(str(path)) != first


def test_the_digest_of_idx_images_covers_their_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "t-images-idx3-ubyte")
    first = digest_source(str(path))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx(Y[::-1]))
    assert digest_source(str(path)) != first


FRAME = pd.DataFrame({"a": [1.0, 2.0], "y": [0, 1]})

# two kinds of rows whose digests differ
DIFFERENT: dict[str, tuple[Any, Any]] = {
    "a cell": (FRAME, FRAME.replace(2.0, 3.0)),
    "a name": (FRAME, FRAME.rename(columns={"a": "b"})),
    "a type": (FRAME, FRAME.astype({"y": "float64"})),
    "the order of columns": (FRAME, FRAME[["y", "a"]]),
    "missing and a text": (pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["x", "None"]})),
    "a number in an array": ((X, Y), (X + np.eye(4, 3), Y)),
    "the target of an array": ((X, Y), (X, 1 - Y)),
    "the shape of an array": ((X, Y), (X.reshape(4, 3, 1), Y)),
    "the dtype of an array": ((X, Y), (X.astype(np.float32), Y)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_digest_of_rows_in_memory_tells_them_apart(name: str) -> None:
    one, other = (from_objects(value, None, None)[0] for value in DIFFERENT[name])
    assert digest_raw(one) == digest_raw(from_objects(DIFFERENT[name][0], None, None)[0])
    assert digest_raw(one) != digest_raw(other)


# two tables of equal content
SAME: dict[str, tuple[pa.Table, pa.Table]] = {
    "cut out of a longer one": (
        pa.table({"a": [True, False, None], "b": ["x", None, "y"]}),
        pa.table({"a": [True, True, False, None, True], "b": ["w", "x", None, "y", "z"]}).slice(1, 3),
    ),
    "in pieces": (pa.table({"a": [1, 2, 3]}), pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2, 3]})])),
    "views": (
        pa.table({"a": pa.array(["a long text beyond twelve", "b"], pa.string_view())}),
        pa.table(
            {"a": pa.array(["c", "another text beyond twelve", "a long text beyond twelve", "b"], pa.string_view())}
        ).slice(2),
    ),
    "behind a missing cell": (
        pa.table({"a": pa.array([1, None, 3])}),
        pa.table({"a": pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), pa.array([1, 9, 3]).buffers()[1]])}),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_digest_of_a_table_is_that_of_its_content(name: str) -> None:
    one, other = (digest_raw(from_objects(table, None, None)[0]) for table in SAME[name])
    assert one == other


def test_a_dictionary_column_has_the_digest_of_its_texts() -> None:
    texts = pa.table({"a": ["x", "y", "x"]})
    coded = pa.table({"a": texts.column("a").dictionary_encode()})
    assert digest_raw(from_objects(texts, None, None)[0]) == digest_raw(from_objects(coded, None, None)[0])


OBJECTS: dict[str, tuple[Any, Any]] = {
    "lists": (X.tolist(), Y.tolist()),
    "arrays": (X, Y),
    "tensors": (torch.from_numpy(X), torch.from_numpy(Y)),
    "a tensor with a gradient": (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)),
    "a dictionary": ({"X": X}, Y),
    "a pandas series as target": (X, pd.Series(Y)),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_python_objects_of_every_kind_give_the_same_arrays(name: str) -> None:
    raw, names = from_objects(OBJECTS[name], None, "NC")
    assert names is None
    assert isinstance(raw, Arrays)
    np.testing.assert_array_equal(raw.inputs["X"], X)
    assert raw.target is not None
    assert raw.target.tolist() == Y.tolist()
    assert raw.layout == "NC"


@pytest.mark.parametrize("labels", [Y, Y.tolist(), pd.Series(Y, name="z"), pa.array(Y)])
def test_a_frame_and_its_target_become_one_table(labels: Any) -> None:
    raw, names = from_objects((pd.DataFrame({"a": [1, 2, 3, 4]}), labels), None, None)
    assert names == ("z" if isinstance(labels, pd.Series) else "target",)
    assert isinstance(raw, Table)
    assert raw.names == ["a", "z" if isinstance(labels, pd.Series) else "target"]
    assert raw.columns[raw.names[1]].to_pylist() == Y.tolist()


def test_a_frame_and_a_target_of_the_same_name_are_told_apart_or_refused() -> None:
    with pytest.raises(DataError, match="'target'"):
        from_objects((pd.DataFrame({"target": [1, 2, 3, 4]}), Y), None, None)


# the objects and words of the message
BAD_OBJECTS: dict[str, tuple[Any, str]] = {
    "other lengths": ((X, Y[:3]), "array 'y' has shape (3,), 'X' (4, 3)"),
    "other lengths of a frame": ((FRAME, Y), "2 rows and 4 targets came"),
    "mixed objects": (([[1, None], [2, 3]], [0, 1]), "data: X: dtype object came"),
    "complex": ((X * 1j, Y), "dtype complex128 came"),
    "dates": ((X.astype("M8[D]"), Y), "dtype datetime64[D] came"),
    "texts as inputs": ((np.array([["a"], ["b"]]), [0, 1]), "'X' holds <U1; expected numbers"),
    "ragged lists": (([[1, 2], [3]], [0, 1]), "data: X"),
    "no rows": ((X[:0], Y[:0]), "(0, 3)"),
    "a text": (("hello", [1]), "X"),
}


@pytest.mark.parametrize("name", BAD_OBJECTS)
def test_objects_that_cannot_be_learned_from_are_told_in_one_line(name: str) -> None:
    objects, words = BAD_OBJECTS[name]
    with pytest.raises(DataError) as problem:
        from_objects(objects, None, None)
    assert words in str(problem.value)


def test_an_object_array_of_texts_is_an_array_of_texts() -> None:
    assert as_array(np.array(["a", "bc"], dtype=object), "y").dtype == np.dtype("<U2")


def test_rows_of_two_kinds_are_not_combined(tmp_path: Path) -> None:
    table, arrays = (read_source(str(write(tmp_path, name)), Reading()) for name in ("t.csv", "t.npz"))
    with pytest.raises(DataError, match="rows of different kinds came"):
        combine([table, arrays])
    assert combine([table]) is table
    assert combine([arrays, arrays]).rows == 8


@pytest.mark.parametrize(
    ("text", "options", "count"),
    [
        ("1,2,3\n", TextOptions(), 3),
        ("\n1;2\n", TextOptions(), 2),
        ('"a,b",c\n', TextOptions(), 2),
        ("1 2 3 4\n", TextOptions(delimiter="whitespace"), 4),
        ("1\n", TextOptions(), 1),
    ],
)
def test_the_fields_of_the_first_line_are_counted(text: str, options: TextOptions, count: int, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert count_fields(place_of(tmp_path / "t.csv"), options) == count


@pytest.mark.parametrize("header", [True, False])
def test_the_line_of_a_row_is_told_in_any_order(header: bool, tmp_path: Path) -> None:
    draw, lines, expected = np.random.default_rng(0), 0, []
    parts = ["a,b\n"] if header else []
    for number in range(300):
        before = int(draw.integers(0, 2)) * int(draw.integers(0, 3))
        cell = f'"{number}\nmore"' if draw.random() < 0.1 else str(number)
        expected.append(header + lines + before + 1)
        parts.append("\n" * before + f"{cell},1\n")
        lines += before + 1 + cell.count("\n")
    (tmp_path / "t.csv").write_text("".join(parts))
    options = TextOptions(delimiter=",", header=header)
    lines_of = Lines(place_of(tmp_path / "t.csv"), options)
    for row in draw.permutation(300).tolist():
        assert lines_of(row) == Lines(place_of(tmp_path / "t.csv"), options)(row) == expected[row]
    assert lines_of(300) == 301


DIGESTED = np.arange(24, dtype=np.float32).reshape(4, 6)


def of_arrays(values: np.ndarray, target: np.ndarray | None = None) -> Arrays:
    return Arrays({"X": values}, target, (Origin("x", len(values)),))


@pytest.mark.parametrize(
    ("raw", "begins"),
    [
        (of_arrays(DIGESTED), "adda571c8a9bb703"),
        (of_arrays(np.asfortranarray(DIGESTED)), "adda571c8a9bb703"),
        (of_arrays(np.repeat(DIGESTED, 2, axis=1)[:, ::2]), "adda571c8a9bb703"),
        (of_arrays(DIGESTED[:0]), "ad0d5045199ac0d1"),
        (of_arrays(DIGESTED.astype(np.uint8), np.array(["a", "b", "c", "a"])), "72979d0e6deff716"),
        (
            Table(pa.table({"a": [1.5, None, 2.5], "b": ["x", "y", None], "c": [True, None, False]}), (Origin("t", 3),)),
            "5337db2dd1b88035",
        ),
    ],
    ids=["plain", "fortran", "strided", "empty", "bytes and texts", "table"],
)
def test_the_digest_of_rows_is_what_earlier_runs_have_in_their_records(raw: Arrays | Table, begins: str) -> None:
    assert digest_raw(raw).startswith(f"sha256:{begins}")
