"""Checkpoints under fire: killed at every call to the disk, power lost at any moment, files damaged in every way."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
import torch

from netwright import files
from netwright.checkpoint import store
from netwright.errors import CheckpointError, SafetyError
from netwright.files import system

CALLS = ("create", "append", "write", "sync", "sync_folder", "close", "rename", "truncate", "make_folder", "remove")
CALLS += ("remove_folder",)
KEEP = 2


def parts(step: int) -> dict[str, Any]:
    """A small state of a training."""
    torch.manual_seed(step)
    return {
        "model": {"state": {"0.weight": torch.randn(5, 3), "0.bias": torch.randn(5)}, "passing": {}},
        "optimizer": {"state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.randn(5, 3)}}, "param_groups": []},
        "generators": {"torch": torch.arange(40, dtype=torch.uint8), "random": (3, tuple(range(5)), None)},
        "progress": {"epoch": 1, "step": step, "within": step, "best": None},
        "best": {},
    }


def never(problem: str) -> None:
    raise AssertionError(problem)


# ---- killed at every call ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.data(tmp_path_factory.mktemp("data"))


def watch(before: Callable[[str, int], None], after: Callable[[str, int], None]) -> None:
    """Call functions around each call of this process that changes the disk, with its name and number."""
    numbers = itertools.count()

    def around(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            number = next(numbers)
            before(name, number)
            found = original(*arguments)
            after(name, number)
            return found

        return call

    for name in CALLS:
        setattr(system, name, around(name, getattr(system, name)))


def count_calls(log: str) -> None:
    """Note how many calls a process makes."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watch(lambda name, number: None, lambda name, number: None if os.write(descriptor, f"{name}\n".encode()) else None)


def die_at_call(number: int, when: str) -> None:
    """Kill this process before or after one of its calls to the disk."""

    def die(name: str, now: int) -> None:
        if now == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def nothing(name: str, now: int) -> None:
        pass

    watch(die if when == "before" else nothing, die if when == "after" else nothing)


SHORT = {"training.epochs": 2, "checkpoint.every_steps": 10, "data.split.test": 0}


def died_at(number: int, when: str, source: Path, expected: str, place: Path) -> None:
    folder, log = place / f"run{number}{when}", place / f"log{number}{when}"
    words = harness.training(source, folder, **SHORT)
    assert harness.run(words, log, die_at_call, number, when).code == -signal.SIGKILL
    if folder.exists():
        assert harness.verified(folder), f"call {number}: no checkpoint verifies"
    harness.resumed_to_the_end(folder, log, words)
    assert harness.digest(folder) == expected, f"call {number} {when}"


def kills_at_calls(source: Path, place: Path, chosen: Callable[[int], list[int]]) -> int:
    whole = harness.training(source, place / "whole", **SHORT)
    assert harness.run(whole, place / "log", count_calls, str(place / "calls")).code == 0
    count = len((place / "calls").read_text().splitlines())
    expected = harness.digest(place / "whole")
    calls = {
        f"{number} {when}": lambda number=number, when=when: died_at(number, when, source, expected, place)
        for number in chosen(count)
        for when in ("before", "after")
    }
    return len(harness.in_parallel(calls))


def test_a_kill_at_a_few_of_the_calls_of_a_run_loses_nothing(source: Path, tmp_path: Path) -> None:
    assert kills_at_calls(source, tmp_path, lambda count: random.Random(0).sample(range(count), 1)) == 2


@pytest.mark.faults
def test_a_kill_at_every_call_of_a_run_to_the_disk_loses_nothing(source: Path, tmp_path: Path) -> None:
    assert kills_at_calls(source, tmp_path, lambda count: list(range(count))) > 400


@pytest.mark.faults
def test_thirty_kills_leave_exactly_the_checkpoints_that_were_promised(source: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    words = harness.training(source, folder, **{"training.epochs": 30, "checkpoint.every_steps": 3})
    draw, kills, largest = random.Random(4), 0, 0
    while kills < 30:
        begin = ["resume", str(folder)] if folder.exists() else words
        process = harness.start(begin, log)
        process.join(draw.uniform(0.2, 0.5))
        if process.exitcode is None:
            process.kill()
        kills += harness.wait(process, log).code == -signal.SIGKILL
        if folder.exists():
            assert len(harness.verified(folder)) >= 1
            largest = max(largest, len(store.checkpoints(folder / "checkpoints")))
            if harness.history(folder)[-1:] and harness.history(folder)[-1]["epoch"] == "30":
                break
    harness.resumed_to_the_end(folder, log, words)
    assert largest <= KEEP + 1
    assert len(harness.verified(folder)) == KEEP
    assert harness.leftovers(folder) == []
    losses = [float(row["valid_loss"]) for row in harness.history(folder)]
    best = harness.last_parts(folder)["progress"]["best"]
    assert best["epoch"] == losses.index(min(losses)) + 1


# ---- power lost ----------------------------------------------------------------------------------------------------


Entry = tuple[str, tuple[Any, ...]]


def recorded(place: Path, saves: int) -> list[Entry]:
    """Return the log of calls of a few saves."""
    log: list[Entry] = []
    opened: dict[int, str] = {}
    originals = {name: getattr(system, name) for name in CALLS}

    def note(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            found = originals[name](*arguments)
            plain = [str(Path(value).relative_to(place)) if isinstance(value, Path) else value for value in arguments]
            if name in ("create", "append"):
                opened[found] = plain[0]
            if name in ("write", "sync", "close"):
                plain[0] = opened[plain[0]]
            if name == "write":
                plain[1] = bytes(plain[1])
            log.append((name, tuple(plain)))
            return found

        return call

    for name in CALLS:
        setattr(system, name, note(name))
    try:
        (place / "checkpoints").mkdir()
        for save in range(1, saves + 1):
            store.save(place / "checkpoints", store.name_of(save, None), parts(save), KEEP)
            log.append(("committed", (save,)))
    finally:
        for name, original in originals.items():
            setattr(system, name, original)
    return log


def after_a_crash(log: list[Entry], draw: random.Random, lose: str) -> dict[str, bytes | None]:
    """Return the tree that a disk holds when the power is lost after some calls.

    Names that were not synced are lost or not, each alone (as a file system without order may do), bytes that were not synced
    are gone, cut or garbage.
    """
    volatile: dict[str, int | None] = {"checkpoints": None}
    durable: dict[str, int | None] = {"checkpoints": None}
    content: dict[int, bytes] = {}
    safe: dict[int, bytes] = {}
    number = itertools.count()
    pending: list[tuple[str, ...]] = []

    def below(tree: dict[str, int | None], path: str) -> list[str]:
        return [name for name in tree if name == path or name.startswith(f"{path}/")]

    def apply(tree: dict[str, int | None], change: tuple[str, ...]) -> None:
        kind, *paths = change
        if kind == "add":
            tree[paths[0]] = int(paths[1]) if paths[1] != "folder" else None
        elif kind == "drop":
            for name in below(tree, paths[0]):
                del tree[name]
        else:
            moved = {name: tree.pop(name) for name in below(tree, paths[0])}
            for name in below(tree, paths[1]):
                del tree[name]
            tree[paths[1]] = int(paths[2]) if paths[2] != "folder" else None
            for name, value in moved.items():
                tree[paths[1] + name[len(paths[0]) :]] = value

    def folder_of(change: tuple[str, ...]) -> str:
        return str(Path(change[2] if change[0] == "move" else change[1]).parent)

    for name, arguments in log:
        change: tuple[str, ...] | None = None
        if name in ("create", "append"):
            key = next(number)
            content[key], safe[key] = b"", b""
            change = ("add", arguments[0], str(key))
        elif name == "write":
            content[volatile[arguments[0]]] += arguments[1]  # type: ignore[index]
        elif name == "sync":
            key = volatile[arguments[0]]  # type: ignore[assignment]
            safe[key] = content[key]
        elif name == "make_folder":
            change = ("add", arguments[0], "folder")
        elif name in ("remove", "remove_folder"):
            change = ("drop", arguments[0])
        elif name == "rename":
            key = volatile[arguments[0]]  # type: ignore[assignment]
            change = ("move", arguments[0], arguments[1], "folder" if key is None else str(key))
        elif name == "sync_folder":
            for waiting in [waiting for waiting in pending if folder_of(waiting) == arguments[0]]:
                apply(durable, waiting)
                pending.remove(waiting)
        if change is not None:
            apply(volatile, change)
            pending.append(change)
    kept = {"all": lambda: False, "none": lambda: True, "some": lambda: draw.random() < 0.5}[lose]
    for waiting in pending:
        if kept():
            apply(durable, waiting)
    tree: dict[str, bytes | None] = {}
    for path, key in durable.items():
        if any(durable.get(str(above), 0) is not None for above in list(Path(path).parents)[:-1]):
            continue  # nobody can reach it
        if key is None:
            tree[path] = None
            continue
        lost = content[key][len(safe[key]) :]
        left = {"all": 0, "none": len(lost), "some": draw.randint(0, len(lost))}[lose]
        torn = (
            bytes(draw.randrange(256) for _ in range(min(left, 64))) + lost[64:left] if draw.random() < 0.3 else lost[:left]
        )
        tree[path] = safe[key] + (torn if lose == "some" else lost[:left])
    return tree


def laid_out(tree: dict[str, bytes | None], place: Path) -> Path:
    for path, content in sorted(tree.items()):
        if content is None:
            (place / path).mkdir(parents=True, exist_ok=True)
        elif (place / path).parent.is_dir():
            (place / path).write_bytes(content)
    return place / "checkpoints"


def power_losses(place: Path, ways: int) -> int:
    (place / "recorded").mkdir()
    log = recorded(place / "recorded", 4)
    draw, states = random.Random(7), 0
    for length in range(len(log) + 1):
        committed = max([entry[1][0] for entry in log[:length] if entry[0] == "committed"], default=0)
        for lose in ("all", "none", *["some"] * ways):
            found = laid_out(after_a_crash(log[:length], draw, lose), place / f"state{states}")
            states += 1
            if committed:
                newest = store.newest(found, lambda problem: None)
                step = newest.parts["progress"]["step"]
                assert step >= committed, f"{lose} of {length} calls: checkpoint {committed} is lost"
                assert harness.tree_digest(newest.parts) == harness.tree_digest(parts(step))
            else:
                with contextlib.suppress(CheckpointError):
                    store.newest(found, lambda problem: None)
            shutil.rmtree(place / f"state{states - 1}")
    return states


def test_no_committed_checkpoint_is_lost_when_the_power_is(tmp_path: Path) -> None:
    assert power_losses(tmp_path, 1) > 300


@pytest.mark.faults
def test_no_committed_checkpoint_is_lost_in_thousands_of_losses_of_power(tmp_path: Path) -> None:
    assert power_losses(tmp_path, 20) > 1000


# ---- damaged -------------------------------------------------------------------------------------------------------


def flipped(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def damages(path: Path, other: Path, draw: random.Random) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield ways to damage a file of a checkpoint."""
    content = path.read_bytes()

    def written(data: bytes) -> Callable[[], None]:
        return lambda: path.write_bytes(data) and None  # type: ignore[func-returns-value]

    def replaced_by(make: Callable[[], Any]) -> Callable[[], None]:
        def damage() -> None:
            path.unlink()
            make()

        return damage

    for size in {0, 1, 8, 60, len(content) // 2, len(content) - 1}:
        yield f"cut to {size}", written(content[:size])
    for number in range(50):
        yield f"bit {number}", written(flipped(content, draw))
    page = draw.randrange(0, max(1, len(content) - 64))
    zeroed = content[:page] + bytes(min(4096, len(content) - page)) + content[page + 4096 :]
    if zeroed != content:
        yield "a page of zeros", written(zeroed)
    yield "one byte more", written(content + b"\0")
    yield "gone", replaced_by(lambda: None)
    if other.read_bytes() != content:
        yield "of another step", written(other.read_bytes())
    yield "a folder", replaced_by(lambda: path.mkdir())
    yield "a link", replaced_by(lambda: path.symlink_to(other))
    yield "a pipe", replaced_by(lambda: os.mkfifo(path))


def damaged_files(place: Path, every: int) -> int:
    folder = place / "checkpoints"
    folder.mkdir()
    for step in (1, 2):
        store.save(folder, store.name_of(step, None), parts(step), KEEP)
    good = place / "good"
    shutil.copytree(folder, good)
    newest, older = store.checkpoints(folder)
    draw, seen = random.Random(3), 0
    for name in sorted(path.name for path in newest.iterdir()):
        ways = list(damages(newest / name, older / name, draw))
        for way, damage in ways[::every]:
            damage()
            with pytest.raises((CheckpointError, SafetyError)):
                store.read_parts(newest)
            told: list[str] = []
            found = store.newest(folder, told.append)
            assert (found.path, len(told)) == (older, 1), f"{name} {way}"
            assert str(newest) in told[0]
            assert told[0].endswith(f"going back to {older.name}")
            seen += 1
            shutil.rmtree(folder)
            shutil.copytree(good, folder)
    return seen


def test_damaged_files_are_seen_before_they_are_used(tmp_path: Path) -> None:
    assert damaged_files(tmp_path, 5) > 40


@pytest.mark.faults
def test_hundreds_of_damaged_files_are_all_seen(tmp_path: Path) -> None:
    assert damaged_files(tmp_path, 1) >= 300


def test_where_all_checkpoints_are_damaged_nothing_begins_anew(source: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    stop = harness.training(source, folder, **SHORT)
    assert harness.run(stop, log, die_at_call, 150, "after").code == -signal.SIGKILL
    before = {path.name for path in store.checkpoints(folder / "checkpoints")}
    for path in (folder / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    found = harness.run(["resume", str(folder)], log)
    assert found.code == 4
    assert "no checkpoint of this run can be used; train it again into another folder" in found.line
    assert {path.name for path in store.checkpoints(folder / "checkpoints")} == before


def test_a_checkpoint_of_a_later_format_names_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FORMAT", 2)
    store.write_parts(tmp_path / "step-000000001", parts(1))
    monkeypatch.setattr(store, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="format 2 came; this netwright reads format 1; install a newer netwright"):
        store.read_parts(tmp_path / "step-000000001")


GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoint-1" / "step-000000003"


def test_a_checkpoint_of_the_first_format_is_read_for_ever() -> None:
    found = store.read_parts(GOLDEN)
    assert found["progress"] == {"epoch": 1, "step": 3, "within": 3, "best": None}
    assert found["model"]["state"]["0.weight"].tolist() == [[0.5, -1.25], [3.0, 0.0009765625]]
    assert found["numbers"] == [1, 0.1, None, True, "ü", (2, [3]), {4: 5.5}]
    assert found["generators"]["torch"].dtype == torch.uint8


def forged(folder: Path, state: bytes) -> Path:
    """Write a checkpoint whose digests agree, but whose state does not come from us."""
    store.write_parts(folder, {"progress": {"epoch": 1}})
    files.write_bytes(folder / "state.json", state)
    contents = {"state.json": state}
    files.write_bytes(folder / "manifest.json", store._manifest(folder.name, contents))
    return folder


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 8),
        (b'{"progress": {"dict": [["step", NaN]]}}', 4),
        (b'{"progress": {"tensor": "../../x"}}', 4),
        (b'{"progress": {"call": "os.system"}}', 4),
        (b'{"progress": {"dict": [["a", ' + b'{"tuple": [' * 90 + b"]}" * 90 + b"]]}}", 4),
        (b"[1, 2]", 4),
    ],
    ids=["deep", "not a number", "no such tensor", "another kind", "deeper than any state", "a list"],
)
def test_a_forged_state_is_refused(state: bytes, code: int, tmp_path: Path) -> None:
    with pytest.raises((CheckpointError, SafetyError)) as problem:
        store.read_parts(forged(tmp_path / "step-000000001", state))
    assert problem.value.exit_code == code


def test_a_state_larger_than_any_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "step-000000001"
    store.write_parts(folder, {"progress": {"epoch": 1}})
    listed = {"state.json": {"bytes": 100 << 20, "sha256": "0" * 64}}
    files.write_bytes(folder / "manifest.json", store._sealed({"format": 1, "name": folder.name, "files": listed}))
    with pytest.raises(SafetyError, match=r"state.json: 104,857,600 bytes are listed; expected at most"):
        store.read_parts(folder)


@pytest.mark.parametrize("name", ["../x.json", "/etc/passwd", "a/b.json", "x.pkl", ".json"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "step-000000001"
    store.write_parts(folder, {"progress": {"epoch": 1}})
    listed = {name: {"bytes": 1, "sha256": "0" * 64}}
    files.write_bytes(folder / "manifest.json", store._sealed({"format": 1, "name": folder.name, "files": listed}))
    with pytest.raises(CheckpointError, match="no list of files"):
        store.read_parts(folder)


def test_a_saved_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    held = {
        **parts(3),
        "numbers": [0.1, -0.0, 1e-310, float("inf"), float("-inf"), 2**70, True, None, "ü", (), {}, {1: {(2,): [3.5]}}],
        "tensors": [torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0, 3), torch.tensor([True]), torch.eye(3).t()],
    }
    store.write_parts(tmp_path / "step-000000003", held)
    found = store.read_parts(tmp_path / "step-000000003")
    assert harness.tree_digest(found) == harness.tree_digest(held)
    assert repr(found["numbers"]) == repr(held["numbers"])


def test_what_a_killed_writer_left_is_swept_and_old_checkpoints_go_last(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        store.save(tmp_path, store.name_of(step, None), parts(step), KEEP)
    assert [path.name for path in store.checkpoints(tmp_path)] == ["step-000000003", "step-000000002"]
    (tmp_path / ".step-000000004.abcd.tmp").mkdir()
    (tmp_path / ".step-000000004.abcd.tmp" / "model.safetensors").write_bytes(b"half")
    store.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]


def test_the_end_of_an_epoch_is_newer_than_its_last_step(tmp_path: Path) -> None:
    for name in (store.name_of(9, None), store.name_of(9, 1), store.name_of(10, None)):
        store.save(tmp_path, name, parts(9), 5)
    assert [path.name for path in store.checkpoints(tmp_path)] == [
        "step-000000010",
        "step-000000009-epoch-000001",
        "step-000000009",
    ]
