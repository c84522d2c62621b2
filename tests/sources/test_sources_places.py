"""Files, members of archives and addresses are read alike; what leads out of them is refused."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from netwright.errors import DataError, SafetyError
from netwright.sources.places import place_of, places_of


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("set/b.csv", "a,b\n1,2\n")
        packed.writestr("set/in/c.csv", "c")
        packed.writestr("set/.DS_Store", "x")
        packed.writestr("__MACOSX/set/._b.csv", "x")
    return path


def test_a_member_of_an_archive_is_read_in_place(archive: Path) -> None:
    place = place_of(archive / "set" / "b.csv")
    assert place.read_bytes() == b"a,b\n1,2\n"
    assert (place.name, place.suffix, place.size(), place.is_file(), place.local) == ("b.csv", ".csv", 8, True, None)
    assert str(place) == f"{archive}/set/b.csv"
    assert sorted(path.name for path in archive.parent.iterdir()) == ["data.zip"]


def test_an_archive_is_a_folder_without_what_file_managers_leave(archive: Path) -> None:
    root = place_of(archive)
    assert [place.name for place in root.children()] == ["set"]
    assert [place.path for place in root.walk()] == ["set/b.csv", "set/in/c.csv"]
    assert place_of(archive / "set" / "none.csv").exists() is False


def test_a_folder_has_the_digest_of_its_files_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    first = place_of(tmp_path).digest()
    (tmp_path / "a.csv").write_text("2")
    second = place_of(tmp_path).digest()
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    assert len({first, second, place_of(tmp_path).digest()}) == 3


def test_an_address_is_read_through_fsspec() -> None:
    fsspec.filesystem("memory").pipe("/netwright-test/a.csv", b"a\n1\n")
    assert place_of("memory://netwright-test/a.csv").read_bytes() == b"a\n1\n"
    assert [place.name for place in places_of("memory://netwright-test/*.csv")] == ["a.csv"]
    with pytest.raises(DataError, match="nosuchthing:// is no known protocol"):
        place_of("nosuchthing://x/y.csv")


def test_a_pattern_names_its_files_in_order(tmp_path: Path) -> None:
    for name in ("p-2.csv", "p-1.csv", "q.csv"):
        (tmp_path / name).write_text("x")
    assert [place.name for place in places_of(tmp_path / "p-*.csv")] == ["p-1.csv", "p-2.csv"]
    with pytest.raises(DataError, match="no file matches"):
        places_of(tmp_path / "z-*.csv")


@pytest.mark.parametrize("member", ["../out.csv", "/etc/passwd", "a/../../b"])
def test_a_member_that_leads_out_of_its_archive_is_refused(member: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(member, "x")
    with pytest.raises(SafetyError, match="expected names inside the archive"):
        place_of(path / "a.csv")


def test_a_member_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr("zeros.csv", b"0" * 30_000_000)
    with pytest.raises(SafetyError, match="bytes would grow to 30000000"):
        place_of(path / "zeros.csv").open()


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="expected a zip archive"):
        place_of(tmp_path / "bad.zip" / "a.csv")


def test_links_that_leave_a_folder_or_lead_nowhere_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("x")
    folder = tmp_path / "in"
    folder.mkdir()
    os.symlink(outside, folder / "out.csv")
    with pytest.raises(SafetyError, match="a link out of"):
        place_of(folder).children()
    (folder / "out.csv").unlink()
    os.symlink(folder / "loop", folder / "loop")
    with pytest.raises(DataError, match="leads nowhere"):
        place_of(folder).children()


def test_a_name_that_would_break_the_line_is_escaped(tmp_path: Path) -> None:
    place = place_of(tmp_path / "a\nb\u202e.csv")
    assert str(place).endswith("a\\nb\\u202e.csv")
