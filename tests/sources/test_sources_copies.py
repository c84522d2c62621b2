"""Files at an address are fetched once into the cache, whole and unchanged or not at all, and read from there."""

from __future__ import annotations

import datetime
import gzip
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import counted
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from netwright import files
from netwright.errors import DataError, ResourceError
from netwright.files import system
from netwright.sources import addresses, opening
from netwright.sources.addresses import FRESH, changed_at, version_of
from netwright.sources.copies import FOLDER, Copies, copied
from netwright.sources.opening import Reading, digest_source, read_source
from netwright.sources.places import Place, fetch, place_of, places_of

TEXT = b"a,b\n" + b"".join(b"%d,%d\n" % (row, row * row) for row in range(40))


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A folder with three shards, at an address too."""
    counted.register()
    folder = tmp_path / "remote"
    folder.mkdir()
    for number in range(3):
        (folder / f"part-{number}.csv").write_bytes(TEXT.replace(b"1", b"%d" % number))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def raising(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def making(cache: Path, **changes: object) -> Copies:
    return Copies(cache, named=True, making=True, **changes)  # type: ignore[arg-type]


def kept(cache: Path) -> list[Path]:
    """Return the contents that lie in a cache, and whatever else is no description."""
    folder = cache / FOLDER
    return sorted(path for path in folder.iterdir() if path.suffix != ".json") if folder.is_dir() else []


def test_a_file_is_opened_once_and_gives_the_same_rows_and_digest_as_on_this_machine(remote: Path, cache: Path) -> None:
    name = counted.address(remote / "part-*.csv")
    with copied(making(cache)):
        rows, digest = read_source(name, Reading()), digest_source(name)
        again = read_source(name, Reading())
    assert [line["name"] for line in counted.opened(remote)] == ["part-0.csv", "part-1.csv", "part-2.csv"]
    assert [line["bytes"] for line in counted.opened(remote)] == [
        os.stat(remote / f"part-{n}.csv").st_size for n in range(3)
    ]
    here = str(remote / "part-*.csv")
    assert digest == digest_source(here)
    assert rows.columns == again.columns == read_source(here, Reading()).columns  # type: ignore[union-attr]
    assert [origin.name for origin in rows.origins] == ["part-0.csv", "part-1.csv", "part-2.csv"]
    assert len(kept(cache)) == 3


def test_a_copy_is_found_again_while_the_file_is_unchanged_and_replaced_when_it_is_not(remote: Path, cache: Path) -> None:
    name = counted.address(remote / "part-0.csv")

    def read() -> bytes:
        copies = making(cache)
        with copied(copies):
            content = place_of(name).read_bytes()
        notes.append(copies.note())
        return content

    notes: list[str | None] = []
    assert read() == TEXT.replace(b"1", b"0")
    first = kept(cache)
    read()
    assert len(counted.opened(remote)) == 1
    (remote / "part-0.csv").write_bytes(TEXT)
    assert read() == TEXT
    assert len(counted.opened(remote)) == 2
    assert len(kept(cache)) == 1
    assert kept(cache) != first
    assert ["1 fetched now" in str(note) for note in notes] == [True, False, True]
    assert "MB (as before)" in str(notes[1])
    assert str(cache) in str(notes[1])


def test_what_is_read_in_a_block_is_of_one_version(remote: Path, cache: Path) -> None:
    name = counted.address(remote / "part-0.csv")
    with copied(making(cache)):
        digest = digest_source(name)
        (remote / "part-0.csv").write_bytes(b"a,b\n7,8\n")
        assert digest_source(name) == digest
        assert read_source(name, Reading()).rows == 40
    other = making(cache)
    with copied(making(cache)):
        older = place_of(name)
        assert older.read_bytes() == b"a,b\n7,8\n"
    (remote / "part-0.csv").write_bytes(TEXT)
    with copied(other):
        assert place_of(name).read_bytes() == TEXT
    with pytest.raises(DataError, match="cannot be read"):  # its copy went; never the bytes of another version
        older.read_bytes()


def test_what_tells_no_change_is_fetched_anew(remote: Path, cache: Path) -> None:
    (remote / counted.SILENT).touch()
    name = counted.address(remote / "part-0.csv")
    for _ in range(2):
        with copied(making(cache)):
            assert place_of(name).read_bytes() == TEXT.replace(b"1", b"0") == place_of(name).read_bytes()
    assert len(counted.opened(remote)) == 2
    assert len(kept(cache)) == 1


def test_without_leave_to_make_copies_nothing_is_written_and_those_that_are_there_are_read(
    remote: Path, cache: Path
) -> None:
    name = counted.address(remote / "part-0.csv")
    with copied(Copies(cache)):
        assert read_source(name, Reading()).rows == 40
        assert place_of(name).on_disk is None
    assert not cache.exists()
    with copied(making(cache)):
        read_source(name, Reading())
    before = len(counted.opened(remote))
    with copied(Copies(cache)):
        assert read_source(name, Reading()).rows == 40
    assert len(counted.opened(remote)) == before
    assert place_of(name).on_disk is None  # outside nothing is copied


def test_a_fetch_that_breaks_off_is_told_and_leaves_nothing(remote: Path, cache: Path) -> None:
    (remote / counted.BROKEN).touch()
    size = (remote / "part-0.csv").stat().st_size
    with (
        copied(making(cache)),
        pytest.raises(DataError, match=rf"part-0.csv: 10 bytes came; expected {size}, the fetch broke off"),
    ):
        place_of(counted.address(remote / "part-0.csv")).read_bytes()
    assert kept(cache) == []
    (remote / counted.BROKEN).unlink()
    with copied(making(cache)):
        assert place_of(counted.address(remote / "part-0.csv")).size() == size


def test_a_file_that_changes_while_it_is_fetched_is_told(remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: object, size: int = -1) -> bytes:
        (remote / "part-0.csv").touch()
        return old(self, size)  # type: ignore[arg-type]

    old = counted._Counting.read
    monkeypatch.setattr(counted._Counting, "read", read)
    with (
        copied(making(cache)),
        pytest.raises(DataError, match="part-0.csv: changed while it was fetched; expected a file at rest"),
    ):
        place_of(counted.address(remote / "part-0.csv")).read_bytes()
    assert kept(cache) == []


def test_a_file_of_an_unknown_kind_is_refused_before_it_is_fetched(remote: Path, cache: Path) -> None:
    (remote / "film.mp4").write_bytes(b"x" * 100)
    with copied(making(cache)), pytest.raises(DataError, match="film.mp4: ending '.mp4' is unknown"):
        read_source(counted.address(remote / "film.mp4"), Reading())
    assert counted.opened(remote) == []
    assert not cache.exists()


def test_what_a_file_system_raises_is_one_line(remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, size: int = -1) -> bytes:
        raise ValueError("checksum of the part does not fit")

    monkeypatch.setattr(counted._Counting, "read", fail)
    with copied(making(cache)), pytest.raises(DataError, match=r"part-0.csv: cannot be read \(checksum of the part"):
        place_of(counted.address(remote / "part-0.csv")).read_bytes()
    with pytest.raises(DataError, match="none.csv: no such file, or it cannot be reached"):
        opening.places(counted.address(remote / "none.csv"))
    for error, words in (
        (PermissionError("403"), "no such file"),
        (RuntimeError("no credentials"), r"cannot be read \(no cred"),
    ):
        monkeypatch.setattr(counted.Counted, "info", raising(error))
        with pytest.raises(DataError, match=f"part-0.csv: {words}"):
            opening.places(counted.address(remote / "part-0.csv"))


def test_a_full_disk_is_told_and_leaves_nothing(remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    name, size = counted.address(remote / "part-0.csv"), (remote / "part-0.csv").stat().st_size
    with monkeypatch.context() as patch:
        old = system.write
        patch.setattr(system, "write", lambda to, data: full(to, data) if len(data) == size else old(to, data))
        with copied(making(cache)), pytest.raises(ResourceError, match=rf"No space left on device; {size} bytes are needed"):
            place_of(name).read_bytes()
    assert kept(cache) == []
    monkeypatch.setattr(files, "room", lambda folder: 10)
    with copied(making(cache)), pytest.raises(ResourceError, match="1e-08 GB free; the copy of oss://.*set data.cache"):
        place_of(name).read_bytes()


def test_a_cache_that_cannot_be_written_is_done_without_unless_somebody_named_it(remote: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    name = counted.address(remote / "part-0.csv")
    with copied(Copies(tmp_path / "cache", making=True)):
        assert read_source(name, Reading()).rows == 40
    with copied(making(tmp_path / "cache")), pytest.raises(ResourceError, match="cannot be written"):
        read_source(name, Reading())


def test_a_copy_that_was_cut_or_described_wrongly_is_fetched_again(remote: Path, cache: Path) -> None:
    place = counted.address(remote / "part-0.csv")

    def read() -> bytes:
        with copied(making(cache)):
            return place_of(place).read_bytes()

    content = read()
    kept(cache)[0].write_bytes(content[:-1])
    assert read() == content
    about = next((cache / FOLDER).glob("*.json"))
    for wrong in ("{", json.dumps([1]), json.dumps({**json.loads(about.read_text()), "content": "../../out"})):
        about.write_text(wrong)
        assert read() == content
    assert len(counted.opened(remote)) == 5


def test_a_copy_whose_content_was_changed_is_fetched_again_or_not_read(remote: Path, cache: Path) -> None:
    name = counted.address(remote / "part-0.csv")
    content = (remote / "part-0.csv").read_bytes()

    def read(copies: Copies) -> bytes:
        with copied(copies):
            return place_of(name).read_bytes()

    read(making(cache))
    kept(cache)[0].write_bytes(content.replace(b"9", b"8"))
    assert read(Copies(cache)) == content  # at the address
    assert read(making(cache)) == content == kept(cache)[0].read_bytes()
    assert len(counted.opened(remote)) == 3


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[Path]:
    """A folder with the same rows in several formats."""
    counted.register()
    folder = tmp_path / "kinds"
    folder.mkdir()
    values = np.arange(12.0).reshape(6, 2)
    pa.parquet.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), folder / "t.parquet")
    pa.feather.write_feather(pa.table({"a": values[:, 0], "b": values[:, 1]}), folder / "t.feather")
    (folder / "t.csv.gz").write_bytes(gzip.compress(TEXT))
    np.savez(folder / "t.npz", X=values, y=np.arange(6))
    np.save(folder / "t.npy", values)
    np.save(folder / "t-y.npy", np.arange(6))
    return folder


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv.gz", "t.npz", "t.npy"])
def test_every_format_is_read_from_its_copy_as_from_this_machine(name: str, kinds: Path, cache: Path) -> None:
    how = Reading(target=("t-y.npy",)) if name == "t.npy" else Reading()
    with copied(making(cache)):
        found, digest = (
            read_source(counted.address(kinds / name), how),
            digest_source(counted.address(kinds / name), how.target),
        )
    here = read_source(str(kinds / name), how)
    assert opening.digest_raw(found) == opening.digest_raw(here)
    assert digest == digest_source(str(kinds / name), how.target)
    read = [line["name"] for line in counted.opened(kinds)]
    assert read == ([name, "t-y.npy"] if name == "t.npy" else [name])


def test_each_process_begins_with_another_file_and_passes_over_what_another_fetches(remote: Path, cache: Path) -> None:
    places = places_of(counted.address(remote / "part-*.csv"))
    assert [Copies(cache, share=(rank, 3)).in_turn(3)[0] for rank in range(3)] == [0, 1, 2]
    with copied(making(cache, share=(1, 2))):
        found = places_of(counted.address(remote / "part-*.csv"))
        busy = found[1].system
        assert isinstance(found[1], Place)
        assert busy is not None
        entry = cache / FOLDER / files.digest_bytes(str(found[1]).encode()).removeprefix("sha256:")[:24]
        files.make_folder(entry.parent)
        with files.waited(entry, lambda: False):
            assert busy.copy(found[1].path, False) is None  # type: ignore[call-arg]
        fetch(found)
    assert [line["name"] for line in counted.opened(remote)] == ["part-1.csv", "part-2.csv", "part-0.csv"]
    assert [place.name for place in places] == [place.name for place in found]


def gone() -> int:
    """Return the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_fetch_left_is_removed_by_the_next_command(remote: Path, cache: Path) -> None:
    name, folder = counted.address(remote / "part-0.csv"), cache / FOLDER
    with copied(making(cache)):
        place_of(name).read_bytes()
    here, dead = socket.gethostname(), gone()
    left = [folder / f"..abc.{here}.{dead}.00.tmp.{dead}.00.tmp", folder / f".abc.{here}.{dead}.00.tmp", folder / ".abc.tmp"]
    at_work = [folder / f".abc.{here}.{os.getpid()}.00.tmp", folder / f".abc.elsewhere.{dead}.00.tmp"]
    for path in (*left, *at_work):
        path.write_bytes(b"half")
    os.utime(left[-1], (0, 0))
    (remote / "part-0.csv").write_bytes(TEXT)
    with copied(making(cache)):
        place_of(name).read_bytes()
    assert [path.exists() for path in left] == [False, False, False]
    assert [path.exists() for path in at_work] == [True, True]


def test_a_kill_at_any_moment_of_a_fetch_leaves_nothing_for_good(
    remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(moment: int) -> Callable[..., None]:
        renames: list[int] = []

        def rename(source: Path, target: Path) -> None:
            renames.append(1)
            if len(renames) > moment:
                raise KeyboardInterrupt
            os.replace(source, target)

        return rename

    name = counted.address(remote / "part-0.csv")
    for moment in range(3):  # after the content has come, after it was written down, and before it has its name
        (remote / "part-0.csv").write_bytes(TEXT.replace(b"1", b"%d" % moment))
        with monkeypatch.context() as patch, copied(making(cache)):
            patch.setattr(system, "rename", kill(moment))
            with pytest.raises(KeyboardInterrupt):
                place_of(name).read_bytes()
        (remote / "part-0.csv").write_bytes(TEXT.replace(b"1", b"%d" % (moment + 5)))
        with copied(making(cache)):
            assert place_of(name).read_bytes() == (remote / "part-0.csv").read_bytes()
        assert len([path for path in kept(cache) if not path.name.endswith(".tmp")]) == 1


def test_a_copy_waits_for_no_disk(remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.make_folder(cache / FOLDER)
    for wait in ("sync", "sync_folder"):  # a copy that a power cut takes is told by its digest
        monkeypatch.setattr(system, wait, raising(AssertionError("it was waited for")))
    with copied(making(cache)):
        assert read_source(counted.address(remote / "part-*.csv"), Reading()).rows == 120


def test_two_that_fetch_the_same_file_do_not_meet(remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, read = counted.address(remote / "part-0.csv"), []
    old, wait = files.move, files.waited

    def move(source: Path, target: Path, **how: bool) -> None:
        if not read:  # another machine, which takes this one for gone, has fetched it too when this one goes on
            read.append(b"")
            with monkeypatch.context() as patch, copied(making(cache)):
                patch.setattr(files, "waited", lambda entry, *more: wait(entry.with_name("other"), *more))
                read.append(place_of(name).read_bytes())
        old(source, target, **how)

    monkeypatch.setattr(files, "move", move)
    with copied(making(cache)):
        assert place_of(name).read_bytes() == (remote / "part-0.csv").read_bytes() == read[1]
    assert len(kept(cache)) == 1


def test_what_follows_a_question_mark_is_not_written_down(server: tuple[str, list[str]], cache: Path) -> None:
    address, asked = server
    with copied(making(cache)):
        assert place_of(f"{address}/part-0.csv?token=secret").read_bytes()
    assert any("secret" in line for line in asked)
    assert all("secret" not in path.read_text() for path in (cache / FOLDER).iterdir())


@pytest.mark.parametrize(
    ("told", "trusted"),
    [
        ({"size": 3, "type": "file", "name": "a"}, False),
        ({"size": 3, "LastModified": "2026-01-01"}, True),
        ({"size": 3, "last_modified": None}, False),
        ({"size": 3, "Content-MD5": "x"}, True),
        ({"size": 3, "mtime": 1.5}, True),
        ({"size": 3, "atime": 1.5}, False),
    ],
)
def test_only_what_changes_with_the_content_tells_a_version(told: dict[str, object], trusted: bool) -> None:
    assert (version_of(told) is not None) is trusted
    assert version_of(told) != version_of({**told, "size": 4}) or not trusted


@pytest.mark.parametrize(
    "when",
    [
        "Sun, 09 Sep 2001 01:46:40 GMT",
        "2001-09-09T01:46:40Z",
        "2001-09-09T03:46:40+02:00",
        "20010909014640.000",
        datetime.datetime(2001, 9, 9, 1, 46, 40),
        datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC),
        1e9,
        1_000_000_000_000,
    ],
)
def test_a_time_of_change_is_read_as_file_systems_tell_it(when: object) -> None:
    assert changed_at({"size": 3, "Last-Modified": when, "created": 5.0}) == 1e9


def test_a_time_that_nobody_can_read_may_be_now_and_none_is_no_doubt() -> None:
    assert changed_at({"modify": "Jan 1 12:30", "mtime": 3}) == float("inf")  # a minute is too long
    assert changed_at({"size": 3, "ETag": "x", "LastModified": None}) == float("-inf")


@pytest.fixture
def server(remote: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the folder by HTTP, without pieces of files, as Python's own server does; yield its address and what it was asked."""
    pytest.importorskip("aiohttp", reason="fsspec needs it for https://")
    asked: list[str] = []
    for path in remote.iterdir():
        os.utime(path, (1e9, 1e9))  # what changed just now is waited for

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(f"{self.command} {self.path}")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(remote))) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()


def test_a_file_is_asked_for_once_by_http(server: tuple[str, list[str]], remote: Path, cache: Path) -> None:
    address, asked = server
    (remote / "part-0.csv").write_bytes(b"a,b\n" + b"1.5,2.5\n" * 1_000_000)  # more than fsspec asks for at a time
    os.utime(remote / "part-0.csv", (1e9, 1e9))
    with copied(making(cache)):
        rows, digest = read_source(f"{address}/part-0.csv", Reading()), digest_source(f"{address}/part-0.csv")
    assert [line for line in asked if line.startswith("GET")] == ["GET /part-0.csv"]
    assert (rows.rows, digest) == (1_000_000, digest_source(str(remote / "part-0.csv")))
    with copied(Copies(cache.with_name("other"))):
        assert read_source(f"{address}/part-0.csv", Reading()).rows == rows.rows  # at the address


def test_a_file_that_changed_just_now_is_fetched_when_a_further_change_would_be_told(
    server: tuple[str, list[str]], remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = server
    table = remote / "part-0.csv"

    def write(content: bytes) -> None:
        table.write_bytes(content)
        os.utime(table, (second, second))  # this server tells whole seconds

    def sleep(seconds: float) -> None:
        write(b"a,b\n3,4\n")
        clock[0] += seconds

    def read() -> bytes:
        with copied(making(cache)):
            return place_of(f"{address}/part-0.csv").read_bytes()

    second = 1_000_000_000
    clock = [second + 0.25]
    monkeypatch.setattr(addresses, "time", SimpleNamespace(time=lambda: clock[0], sleep=sleep))
    write(b"a,b\n1,2\n")
    assert read() == read() == b"a,b\n3,4\n"
    assert clock == [second + FRESH]
    assert len([line for line in asked if line.startswith("GET")]) == 1
    clock[0] = second - 9  # of a server whose clock is ahead nothing is known
    assert read() == read() == b"a,b\n3,4\n"
    assert len([line for line in asked if line.startswith("GET")]) == 3


def test_a_file_that_is_overwritten_while_it_is_served_is_told(
    server: tuple[str, list[str]], remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(self: object, source: IO[bytes], output: IO[bytes]) -> None:
        output.write(source.read(len(TEXT) // 2))
        (remote / "part-0.csv").write_bytes(TEXT.replace(b"1", b"9"))
        output.write(source.read())

    address, _ = server
    (remote / "part-0.csv").write_bytes(TEXT)
    os.utime(remote / "part-0.csv", (1e9, 1e9))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", torn)
    with (
        copied(making(cache)),
        pytest.raises(DataError, match="part-0.csv: changed while it was fetched; expected a file at rest"),
    ):
        place_of(f"{address}/part-0.csv").read_bytes()
    assert kept(cache) == []
