"""Files appear whole or not at all; streams of random numbers are named, independent and the same for ever."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netwright import files
from netwright.errors import FolderInUseError, ResourceError
from netwright.seeding import STREAMS, all_forked, drawn_from, forked, initialising, seed_all, stream, torch_seed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"new", bytes(range(256)) * 5000])
def test_a_file_is_written_whole_and_nothing_stays_beside_it(content: bytes, tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a", b"old")
    files.write_bytes(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == content
    assert names(tmp_path) == ["a"]


def test_text_is_utf_8_with_plain_line_ends_and_json_is_readable(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "grün\nrot\n")
    assert (tmp_path / "a").read_bytes() == "grün\nrot\n".encode()
    files.write_json(tmp_path / "b", {"a": [1, "grün", None]})
    assert json.loads((tmp_path / "b").read_text(encoding="utf-8")) == {"a": [1, "grün", None]}
    assert (tmp_path / "b").read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_not_a_number_is_never_written_as_json(value: Any, tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a", value)
    assert (tmp_path / "a").read_text() == "1\n"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_rest(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    files.write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, broken, full)
    with pytest.raises(
        ResourceError, match=r"a: cannot be written \(No space left on device; 3 bytes are needed, [\d,]+ bytes are free\)"
    ):
        files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_write_stopped_by_the_user_leaves_the_old_content_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    files.write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("place", ["gone/a", "file/a", "folder"])
def test_a_place_that_cannot_be_written_is_a_resource_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError) as problem:
        files.write_bytes(tmp_path / place, b"new")
    assert f"{tmp_path / place}: cannot be written" in str(problem.value)
    assert problem.value.exit_code == 6
    assert names(tmp_path) == ["file", "folder"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.write_bytes(tmp_path / "a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_copied_file_has_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x00content\xff")
    files.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"\x00content\xff"


def test_folders_above_are_made_and_existing_ones_are_fine(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="file"):
        files.make_folder(tmp_path / "file" / "b")


def test_a_folder_is_born_whole_by_one_rename(tmp_path: Path) -> None:
    with files.born(tmp_path / "runs" / "one") as temporary:
        assert not (tmp_path / "runs" / "one").exists()
        assert temporary.parent == tmp_path / "runs"
        assert temporary.name.startswith(".")
        (temporary / "inside").write_text("content")
    assert names(tmp_path / "runs") == ["one"]
    assert (tmp_path / "runs" / "one" / "inside").read_text() == "content"


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, ResourceError, SystemExit])
def test_a_folder_whose_filling_fails_leaves_nothing_behind(problem: type[BaseException], tmp_path: Path) -> None:
    def fill(temporary: Path) -> None:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "inside").write_text("content")
        raise problem("stop")

    with pytest.raises(problem, match="stop"), files.born(tmp_path / "one") as temporary:
        fill(temporary)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "full folder", "file"])
def test_a_folder_that_exists_is_refused_and_left_alone(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "one"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        if kind == "full folder":
            (place / "inside").write_text("mine")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    with pytest.raises(FolderInUseError, match="one: exists already") as problem, files.born(place):
        pytest.fail("the block ran")
    assert problem.value.exit_code == 7
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "one"

    def fill(temporary: Path) -> None:
        (temporary / "inside").write_text("new")
        place.mkdir()
        (place / "inside").write_text("mine")

    with pytest.raises(FolderInUseError, match="one: appeared meanwhile"), files.born(place) as temporary:
        fill(temporary)
    assert names(tmp_path) == ["one"]
    assert (place / "inside").read_text() == "mine"


def test_a_line_file_grows_by_whole_lines_that_can_be_read_at_once(tmp_path: Path) -> None:
    with files.LineFile(tmp_path / "a") as lines:
        lines.write("one", "zwölf")
        assert (tmp_path / "a").read_bytes() == "one\nzwölf\n".encode()
        lines.write()
        lines.write("three")
    with files.LineFile(tmp_path / "a") as lines:
        lines.write("four")
    assert (tmp_path / "a").read_text(encoding="utf-8").splitlines() == ["one", "zwölf", "three", "four"]


def test_a_line_file_is_closed_when_the_block_fails(tmp_path: Path) -> None:
    def fill(lines: files.LineFile) -> None:
        lines.write("one")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"), files.LineFile(tmp_path / "a") as lines:
        fill(lines)
    assert (tmp_path / "a").read_text() == "one\n"
    with pytest.raises(ValueError, match="closed"):
        lines.write("two")


def test_a_line_file_in_a_missing_folder_is_a_resource_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="gone"):
        files.LineFile(tmp_path / "gone" / "a")


def test_digests_are_sha_256_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9999
    (tmp_path / "a").write_bytes(content)
    assert files.digest_file(tmp_path / "a") == f"sha256:{hashlib.sha256(content).hexdigest()}"
    framed = (2).to_bytes(8, "little") + b"ab" + (0).to_bytes(8, "little")
    assert files.digest_bytes(b"ab", b"") == f"sha256:{hashlib.sha256(framed).hexdigest()}"


def test_digests_tell_where_a_part_ends() -> None:
    found = {files.digest_bytes(*parts) for parts in [(b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b""), (b"ba",)]}
    assert len(found) == 5


def test_the_streams_keep_their_places_for_ever() -> None:
    assert STREAMS[:6] == ("initialisation", "order", "training", "split", "resampling", "augmentation")
    assert len(set(STREAMS)) == len(STREAMS)


# seed, stream, keys, the first three whole numbers below a million
GOLDEN = [
    (0, "initialisation", (), [850624, 636961, 511136]),
    (0, "order", (1,), [674263, 848650, 817611]),
    (0, "order", (2,), [555109, 881703, 293216]),
    (7, "training", (), [281321, 277970, 152857]),
    (7, "split", (), [727918, 975033, 538198]),
    (4294967296, "resampling", (), [194460, 224796, 78220]),
    (1, "resampling", (3, 4), [400991, 854340, 764356]),
]


@pytest.mark.parametrize(("seed", "name", "keys", "expected"), GOLDEN)
def test_the_numbers_of_a_stream_are_the_same_for_ever(
    seed: int, name: str, keys: tuple[int, ...], expected: list[int]
) -> None:
    assert stream(seed, name, *keys).integers(0, 1_000_000, 3).tolist() == expected


def test_a_stream_is_numpys_seed_sequence_of_seed_place_and_keys() -> None:
    sequence = np.random.SeedSequence([5, STREAMS.index("order"), 3])
    expected = np.random.Generator(np.random.PCG64(sequence)).normal(size=9)
    assert (stream(5, "order", 3).normal(size=9) == expected).all()


def test_seeds_names_and_keys_give_independent_streams() -> None:
    starts = {
        tuple(stream(seed, name, *keys).integers(0, 2**63, 2))
        for seed in range(20)
        for name in STREAMS
        for keys in ((), (1,), (2,), (1, 1))
    }
    assert len(starts) == 20 * len(STREAMS) * 4


def test_drawing_from_one_stream_does_not_move_another() -> None:
    alone = stream(1, "order").integers(0, 2**63, 5).tolist()
    other = stream(1, "split")
    mine = stream(1, "order")
    drawn = []
    for _ in range(5):
        other.normal(size=7)
        drawn.append(int(mine.integers(0, 2**63)))
    assert drawn == alone


def test_an_unknown_stream_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        stream(0, "augmentations")


def test_the_seed_of_torch_is_whole_and_fits() -> None:
    seeds = [torch_seed(seed, name) for seed in range(50) for name in ("initialisation", "training")]
    assert len(set(seeds)) == 100
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert torch_seed(0, "initialisation") == 5874934615388537134
    assert len({torch_seed(0, "augmentation", epoch, 0, row) for epoch in range(20) for row in range(20)}) == 400


def drawn() -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def test_all_three_generators_are_put_back_and_seeded_together() -> None:
    seed_all(3)
    expected = drawn()
    seed_all(3)
    with all_forked():
        seed_all(2**63 - 1)
        inside = drawn()
    assert drawn() == expected
    with all_forked():
        seed_all(2**63 - 1)
        assert drawn() == inside
    assert inside != expected


def test_a_network_is_built_with_the_same_draws_wherever_it_is_built_and_nothing_is_moved() -> None:
    before, made = drawn_from(), []
    for seed in (5, 5, 6):
        with initialising(seed):
            made.append(drawn())
    assert drawn_from() == before
    assert made[0] == made[1]
    assert all(one != other for one, other in zip(made[0], made[2], strict=True))
    with all_forked():
        torch.manual_seed(
            torch_seed(5, "initialisation")
        )  # what the loop by hand does, for layers that draw from torch alone
        assert float(torch.rand(())) == made[0][0]


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), np.random.rand, random.random], ids=["torch", "numpy", "random"])
def test_a_draw_from_any_of_the_three_is_noticed(draw: Callable[[], Any]) -> None:
    with all_forked():
        before = drawn_from()
        torch.rand(3, generator=torch.Generator())
        np.random.default_rng(0).normal()
        assert drawn_from() == before
        draw()
        assert drawn_from() != before


@pytest.mark.parametrize("stop", [False, True])
def test_a_forked_block_puts_torchs_generator_back(stop: bool) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    try:
        with forked(torch.device("cpu")):
            torch.manual_seed(99)
            torch.rand(1000)
            if stop:
                raise RuntimeError("stop")
    except RuntimeError:
        assert stop
    assert torch.equal(torch.rand(4), expected)


def test_a_forked_block_starts_from_the_generator_as_it_is() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with forked(torch.device("cpu")):
        assert torch.equal(torch.rand(4), expected)


def test_streams_touch_no_global_generator() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    numpy_before, torch_before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    stream(0, "order").normal(size=100)
    torch_seed(0, "training")
    assert np.random.get_state()[1].tolist() == numpy_before
    assert torch.get_rng_state().tolist() == torch_before


def test_an_array_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.npy"
    with files.born_array(path, (3, 2), "uint8") as values:
        values[:] = 7
        assert not path.exists()
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), np.full((3, 2), 7, np.uint8))
    with pytest.raises(KeyboardInterrupt), files.born_array(tmp_path / "in" / "b.npy", (3, 2), "uint8"):
        raise KeyboardInterrupt
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]


def test_an_array_for_which_the_disk_has_no_room_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"a\.npy: cannot be written"),
        files.born_array(tmp_path / "a.npy", (2**55,), "uint8"),
    ):
        raise AssertionError("the block was entered")
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_array_reads_the_file_and_changes_stay_in_memory(tmp_path: Path) -> None:
    with files.born_array(tmp_path / "a.npy", (3, 2), "float32") as values:
        values[:] = 7
    found = files.mapped(tmp_path / "a.npy")
    found[0, 0] = 1
    assert files.mapped(tmp_path / "a.npy")[0, 0] == 7
    (tmp_path / "b.npy").write_text("no array")
    with pytest.raises(ResourceError, match=r"b\.npy: cannot be mapped \(.*\); expected an array file; delete its folder$"):
        files.mapped(tmp_path / "b.npy")


@pytest.mark.parametrize("values", [np.arange(10), np.ones((4, 3), np.float32), np.empty((0, 2))], ids=str)
def test_an_array_off_memory_is_the_same_and_leaves_no_file(values: np.ndarray[Any, Any], tmp_path: Path) -> None:
    found = files.off_memory(values, tmp_path)
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    assert isinstance(found, np.memmap) == (values.size > 0)
    assert names(tmp_path) == []


def test_only_what_dead_writers_left_is_swept_away(tmp_path: Path) -> None:
    for name in (".old.1.tmp", ".new.2.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("half")
    (tmp_path / ".file.3.tmp").write_text("half")
    (tmp_path / "kept").write_text("whole")
    for path in (tmp_path / ".old.1.tmp", tmp_path / ".old.1.tmp" / "part", tmp_path / ".file.3.tmp", tmp_path / "kept"):
        os.utime(path, (1, 1))
    os.utime(tmp_path / ".new.2.tmp", (1, 1))  # its part is new: the writer lives
    files.remove_stale(tmp_path, 3600)
    assert names(tmp_path) == [".new.2.tmp", "kept"]


def test_what_a_writer_that_is_gone_left_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    for name in (f".a.{2**22 + 7}.ab12.tmp", f".b.{os.getpid()}.ab12.tmp", ".c.ab12.tmp", "d"):
        (tmp_path / name).write_text("part")
    (tmp_path / f".e.{2**22 + 7}.ab12.tmp").mkdir()
    (tmp_path / f".e.{2**22 + 7}.ab12.tmp" / "f").write_text("part")
    files.remove_dead(tmp_path)
    assert names(tmp_path) == [f".b.{os.getpid()}.ab12.tmp", ".c.ab12.tmp", "d"]


def test_the_room_of_a_folder_to_be_is_that_of_its_disk(tmp_path: Path) -> None:
    assert files.room(tmp_path / "not" / "yet") > 0
