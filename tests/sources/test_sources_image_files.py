"""Which files are the rows: parts, class folders, tables of paths; what leads nowhere or out of the folder is refused."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from netwright.errors import ConfigError, DataError, SafetyError
from netwright.sources.arrays import Arrays
from netwright.sources.image_files import ImageFiles, combine, locate, of_paths, read_files
from netwright.sources.opening import Reading
from netwright.sources.tables import Table


def write(folder: Path, *names: str, **contents: str) -> Path:
    """Make files; what lies in them does not matter before they are decoded."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents.get(path.suffix[1:], name))
    return folder


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.write(path, path.relative_to(folder))
    return archive


def find(path: Path, column: str | None = None, labelled: bool = True) -> dict[str, ImageFiles]:
    place = locate(str(path), column)
    assert place is not None
    return read_files(place, column, Reading(target=("y",)), labelled)


def labels(images: ImageFiles) -> list[str]:
    assert isinstance(images.about, Arrays)
    assert images.about.target is not None
    return images.about.target.tolist()


CLASSES = ("b/1.png", "a/2.JPG", "a/in/3.tif")
PARTS = {
    "train, val, test": ("train/a/1.png", "val/a/2.png", "test/b/3.png"),
    "Train, valid, Test": ("Train/a/1.png", "valid/a/2.png", "Test/b/3.png"),
    "training, validation, testing": ("training/a/1.png", "validation/a/2.png", "testing/b/3.png"),
}


@pytest.mark.parametrize("form", ["folder", "wrapped", "archive", "wrapped archive"])
@pytest.mark.parametrize("names", PARTS.values(), ids=PARTS)
def test_parts_of_class_folders_are_found_in_folders_and_archives(form: str, names: tuple[str, ...], tmp_path: Path) -> None:
    inside = tmp_path / "d" / "wrap" if form.startswith("wrapped") else tmp_path / "d"
    write(inside, *names)
    path = packed(tmp_path / "d", tmp_path / "d.zip") if form.endswith("archive") else tmp_path / "d"
    found = find(path)
    assert {part: (images.names, labels(images)) for part, images in found.items()} == {
        part: ((name,), [name.split("/")[1]]) for part, name in zip(("train", "valid", "test"), names, strict=True)
    }
    assert found["test"].origins[0].place(0) == f"{path}{'/wrap' if form.startswith('wrapped') else ''}/{names[2]}"


def test_class_folders_without_parts_are_all_rows_in_the_order_of_their_names(tmp_path: Path) -> None:
    images = find(write(tmp_path, *CLASSES))["all"]
    assert images.names == ("a/2.JPG", "a/in/3.tif", "b/1.png")
    assert labels(images) == ["a", "a", "b"]
    assert [place.name for place in images.files] == ["2.JPG", "3.tif", "1.png"]


def test_what_is_no_image_of_a_class_is_left_out_and_told_but_what_file_managers_leave_is_not(tmp_path: Path) -> None:
    write(tmp_path, *CLASSES, "a/.DS_Store", "b/Thumbs.db", "a/notes.txt", "README.md", "beside.png", ".git/x.png")
    assert find(tmp_path)["all"].notes == ("3 files left out, no images of a class: README.md, notes.txt, beside.png",)
    assert find(tmp_path)["all"].rows == 3


def test_images_to_predict_need_no_class_folders(tmp_path: Path) -> None:
    write(tmp_path, "2.png", "1.png", "in/0.png")
    images = find(tmp_path, labelled=False)["all"]
    assert images.names == ("1.png", "2.png", "in/0.png")
    assert isinstance(images.about, Arrays)
    assert images.about.target is None
    assert find(tmp_path / "1.png", labelled=False)["all"].names == (str(tmp_path / "1.png"),)
    assert of_paths([tmp_path / "2.png", str(tmp_path / "1.png")]).rows == 2


def test_other_data_are_no_images(tmp_path: Path) -> None:
    write(tmp_path / "d", "a/t.csv")
    assert [locate(name, None) for name in ("sklearn:iris", "object:x", str(tmp_path / "d"), "t.csv", "gone")] == [None] * 5
    assert locate("gone.png", None) is None


def test_a_table_names_the_images_and_what_is_known_of_them(tmp_path: Path) -> None:
    write(tmp_path, "in/1.png", "2.png", "t.csv", csv="file,y,site\nin/1.png,0.5,x\n./2.png,1.5,z\nin\\1.png,2.5,x\n")
    for path in (tmp_path / "t.csv", tmp_path):
        images = find(path, "file")["all"]
        assert images.names == ("in/1.png", "2.png", "in/1.png")
        assert isinstance(images.about, Table)
        assert images.about.names == ["file", "y", "site"]
        assert images.about.place(1) == "t.csv:3"
        assert images.origins[0].place(1) == f"{tmp_path}/2.png"


# contents of t.csv, the column of paths, the error, words of its message
TABLES: dict[str, tuple[str, str, type[Exception], str]] = {
    "no such column": ("path,y\n1.png,0\n", "file", DataError, r"t\.csv: data\.images: column 'file' is missing"),
    "no such file": ("file,y\n1.png,0\n9.png,1\n", "file", DataError, r"t\.csv:3: column 'file': '9\.png' is no file of"),
    "a folder": ("file,y\nin,0\n", "file", DataError, r"t\.csv:2: column 'file': 'in' is no file of"),
    "an empty cell": ('file,y\n1.png,0\n"",1\n', "file", DataError, r"t\.csv:3: column 'file' is missing"),
    "a path that leads out": ("file,y\nin/../../1.png,0\n", "file", SafetyError, r"t\.csv:2: .* leads out of"),
    "an absolute path": ("file,y\n/etc/x.png,0\n", "file", SafetyError, r"t\.csv:2: .*'/etc/x\.png' leads out of"),
    "a link that leads out": ("file,y\nlink.png,0\n", "file", SafetyError, r"t\.csv:2: .*'link\.png' leads out of"),
}


@pytest.mark.parametrize("name", TABLES)
def test_paths_that_lead_nowhere_or_out_are_refused_with_their_line(name: str, tmp_path: Path) -> None:
    content, column, error, words = TABLES[name]
    write(tmp_path, "out.png")
    write(tmp_path / "d", "1.png", "in/1.png", "t.csv", csv=content)
    (tmp_path / "d" / "link.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(error, match=words):
        find(tmp_path / "d" / "t.csv", column)


# the files (a target: a link to it), the error, words of its message
FOLDERS: dict[str, tuple[Mapping[str, str | None], type[Exception], str]] = {
    "no class folders": ({"1.png": None, "2.png": None}, DataError, r"d: no class folders; .*data\.images"),
    "an empty class folder": ({"a/1.png": None, "b/t.txt": None}, DataError, r"d/b: no images; expected at least one"),
    "parts without train": (
        {"val/a/1.png": None, "test/a/1.png": None},
        DataError,
        r"folders test, val came; expected train",
    ),
    "a part without class folders": ({"train/a/1.png": None, "test/1.png": None}, DataError, r"d/test: no class folders"),
    "a link that leads out": (
        {"a/1.png": None, "b/2.png": "../../out.png"},
        SafetyError,
        r"d/b/2\.png: a link out of .*d came",
    ),
    "a linked folder that leads out": ({"a/1.png": None, "b": ".."}, SafetyError, r"d/b: a link out of .*d came"),
    "a link to its own folder": ({"a/1.png": None, "a/l": "."}, DataError, r"d/a/l: a link back to .*d/a came"),
    "a link to the folder above": (
        {"a/1.png": None, "b/2.png": None, "b/l": ".."},
        DataError,
        r"d/b/l: a link back to .*d came",
    ),
    "links to each other": ({"a/1.png": None, "a/l": "../b", "b/l": "../a"}, DataError, r"a link back to .*d/a came"),
    "a link to itself": ({"a/1.png": None, "b/l.png": "l.png"}, DataError, r"d/b/l\.png: a link that leads nowhere"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_cannot_be_read_are_refused(name: str, tmp_path: Path) -> None:
    files, error, words = FOLDERS[name]
    write(tmp_path, "out.png")
    for file, target in files.items():
        if target is None:
            write(tmp_path / "d", file)
        else:
            (tmp_path / "d" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / file).symlink_to(target)
    with pytest.raises(error, match=words):
        find(tmp_path / "d")


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "d", "a/1.png", "b/2.png")
    (tmp_path / "d" / "b" / "3.png").symlink_to("../a/1.png")
    (tmp_path / "d" / "c").symlink_to("b")
    assert find(tmp_path / "d")["all"].names == ("a/1.png", "b/2.png", "b/3.png", "c/2.png", "c/3.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_strange_names_are_escaped(tmp_path: Path) -> None:
    for name in (b"new\nline", "mark\u200f".encode(), b"\xff"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, b'"1.png'))).write_text("x")
    images = find(tmp_path)["all"]
    assert labels(images) == ["mark\\u200f", "new\\nline", "\\udcff"]
    assert images.names[1] == 'new\\nline/"1.png'
    assert all(place.is_file() for place in images.files)
    assert images.digest().startswith("sha256:")


def test_the_digest_follows_contents_names_and_labels(tmp_path: Path) -> None:
    write(tmp_path / "d", *CLASSES)
    digests = {find(tmp_path / "d")["all"].digest(), find(packed(tmp_path / "d", tmp_path / "d.zip"))["all"].digest()}
    (tmp_path / "d" / "b" / "1.png").write_text("other")
    digests.add(find(tmp_path / "d")["all"].digest())
    (tmp_path / "d" / "b" / "1.png").rename(tmp_path / "d" / "b" / "0.png")
    digests.add(find(tmp_path / "d")["all"].digest())
    assert len(digests) == 4


def test_rows_left_out_keep_names_and_labels_together(tmp_path: Path) -> None:
    first = find(write(tmp_path / "d", *CLASSES))["all"]
    second = find(write(tmp_path / "e", "a/5.png", "b/6.png"))["all"]
    kept = combine([first, second]).without([1, 3])
    assert kept.names == ("a/2.JPG", "b/1.png", "b/6.png")
    assert labels(kept) == ["a", "b", "b"]
    assert [place.name for place in kept.files] == ["2.JPG", "1.png", "6.png"]
    assert kept.about.place(2) == f"{tmp_path}/e/b/6.png"


def test_rows_of_a_table_that_are_left_out_keep_their_labels(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png", "t.csv", csv="file,y\n1.png,5\n2.png,6\n")
    kept = find(tmp_path / "t.csv", "file")["all"].without([0])
    assert isinstance(kept.about, Table)
    assert kept.about.columns["y"].to_pylist() == ["6"]
    assert kept.about.place(0) == f"{tmp_path}/2.png"


def test_a_table_in_a_folder_must_be_the_only_one(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "t.csv", "u.csv")
    with pytest.raises(DataError, match=r"2 tables came; expected one, of images; name it"):
        find(tmp_path, "file")


def test_a_table_and_class_folders_do_not_go_together(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "a/2.png", "b/3.png", "t.csv", csv="file,y\n1.png,5\n")
    with pytest.raises(DataError, match="rows of different kinds"):
        combine([find(tmp_path / "t.csv", "file")["all"], find(tmp_path)["all"]])


def test_arrays_are_no_table_of_paths(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(ConfigError, match=r"data\.images: .*t\.npz holds no table"):
        find(tmp_path / "t.npz", "file")


def test_paths_of_a_typed_table_are_read_too(tmp_path: Path) -> None:
    write(tmp_path, "1.png")
    pa.parquet.write_table(pa.table({"file": ["1.png"], "y": [3]}), tmp_path / "t.parquet")
    assert find(tmp_path / "t.parquet", "file")["all"].names == ("1.png",)
