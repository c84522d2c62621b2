"""Runs of two processes: one run folder, agreed stops, resumes with the same bits, errors in one line."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import ranks
import safetensors.torch
import torch
from ranks import Ranks, command, together, training


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranks.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    first, second = together(folder / "log", 2, training(source, folder / "run")).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert first.stdout.splitlines()[-1] == str(folder / "run")
    assert second.stdout == ""
    return folder / "run"


def same(one: Path, other: Path) -> None:
    """Compare what two runs left, bit by bit."""
    left, right = ranks.left(one), ranks.left(other)
    assert {name for name in left if left[name] != right[name]} == set()


def test_one_run_folder_says_that_two_processes_shared_each_step(whole: Path) -> None:
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "done"
    assert record["played"] == "as written, by 2 processes (DDP)"
    assert 'engine = "eager"' in (whole / "config.toml").read_text()
    assert len((whole / "steps.jsonl").read_text().splitlines()) == 4 * 13
    assert sorted(path.name for path in whole.parent.iterdir() if path.is_dir()) == ["run"]


@pytest.mark.faults
def test_without_dropout_the_figures_are_those_of_one_process(source: Path, tmp_path: Path) -> None:
    plain = {"model.layers": json.dumps(["Linear(16)", "ReLU()", "Linear()"]), "checkpoint.every_steps": "100"}
    first, second = together(tmp_path / "log", 2, training(source, tmp_path / "two", **plain)).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert ranks.alone(tmp_path / "one.log", training(source, tmp_path / "one", **plain)).code == 0
    tests = [json.loads((tmp_path / name / "test.json").read_text()) for name in ("one", "two")]
    assert tests[0]["n"] == tests[1]["n"] == 66
    for name, figure in tests[0]["metrics"].items():
        assert tests[1]["metrics"][name]["value"] == pytest.approx(figure["value"], rel=1e-4), name
    assert tests[0]["metrics"]["accuracy"] == tests[1]["metrics"]["accuracy"]
    histories = [ranks.history(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(*histories, strict=True):
        assert float(two["valid_loss"]) == pytest.approx(float(one["valid_loss"]), rel=1e-5)
        assert float(two["train_loss"]) == pytest.approx(float(one["train_loss"]), rel=1e-5)
        assert two["valid_accuracy"] == one["valid_accuracy"]


def test_sigterm_to_one_rank_stops_both_after_the_same_step_and_a_resume_gives_the_same_bits(
    source: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    both = together(tmp_path / "log", 2, training(source, run, **{"data.batch_size": "16"}))
    ranks.until(lambda: ranks.steps_of(run) >= 5)
    both.processes[1].terminate()
    first, second = both.wait()
    assert (first.code, second.code) == (143, 143), first.stderr + second.stderr
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["signal"]) == ("stopped", 15)
    assert f"stopped by SIGTERM after step {record['steps']}" in first.stdout
    assert ranks.steps_of(run) == record["steps"] < 52
    first, second = together(tmp_path / "again", 2, ["resume", str(run), "--require-exact"]).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert "resume: exact" in first.stdout
    same(run, whole)


def test_a_rank_that_is_killed_is_named_by_the_other_and_a_resume_gives_the_same_bits(
    source: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    both = together(tmp_path / "log", 2, training(source, run))
    ranks.until(lambda: ranks.steps_of(run) >= 10)
    both.processes[1].kill()
    first, second = both.wait(30.0)
    assert second.code == -signal.SIGKILL
    assert first.code == 6, first.stderr
    (line,) = first.errors
    assert "rank 1 of 2 is gone (its connection closed); expected all processes until the end" in line
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    first, second = together(tmp_path / "again", 2, ["resume", str(run), "--require-exact"]).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    same(run, whole)


@pytest.mark.faults
def test_three_processes_that_were_stopped_go_on_with_the_same_bits(source: Path, tmp_path: Path) -> None:
    layers = json.dumps(["Linear(96)", "ReLU()", "Linear(64)", "ReLU()", "Linear()"])
    changes = {"model.layers": layers, "data.batch_size": "48", "training.epochs": "12"}  # 5 steps an epoch
    for name in ("whole", "run"):
        (tmp_path / name).mkdir()
        three = together(tmp_path / name / "log", 3, training(source, tmp_path / name / "run", **changes))
        if name == "run":
            ranks.until(lambda: ranks.steps_of(tmp_path / "run" / "run") >= 5)
            three.processes[1].terminate()
        ended = three.wait()
        assert [one.code for one in ended] == [0 if name == "whole" else 143] * 3, ended
    run = tmp_path / "run" / "run"
    assert json.loads((run / "run.json").read_text())["steps"] < 60
    ended = together(tmp_path / "again", 3, ["resume", str(run), "--require-exact"]).wait()
    assert [one.code for one in ended] == [0] * 3, ended
    assert "resume: exact" in ended[0].stdout
    assert all("find_unused_parameters" not in one.stderr for one in ended)
    same(run, tmp_path / "whole" / "run")


@pytest.mark.faults
def test_another_number_of_processes_goes_on_and_says_that_it_is_not_exact(
    source: Path, whole: Path, tmp_path: Path
) -> None:
    import shutil

    for name in ("one", "four"):
        shutil.copytree(whole, tmp_path / name)
    more = ["--set", "training.epochs=5"]
    refused = ranks.alone(tmp_path / "exact", ["resume", str(tmp_path / "one"), *more, "--require-exact"])
    assert refused.code == 4
    assert "resume: not exact (world size 2 -> 1)" in refused.errors[0]
    found = ranks.alone(tmp_path / "one.log", ["resume", str(tmp_path / "one"), *more])
    assert found.code == 0, found.stderr
    assert "resume: not exact (world size 2 -> 1)" in found.stdout
    four = together(tmp_path / "log", 4, ["resume", str(tmp_path / "four"), *more]).wait()
    assert [one.code for one in four] == [0] * 4, four
    assert "resume: not exact (world size 2 -> 4)" in four[0].stdout
    losses = []
    for name in ("one", "four"):
        rows = ranks.history(tmp_path / name)
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
        losses.append(float(rows[-1]["train_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.1)  # the order of rows is the same, dropout is not


def refused(log: Path, code: int, *actions: list[str]) -> str:
    """Start a rank with each of some words; return the one line that all of them say."""
    found = Ranks(log, [(command, (words, None)) for words in actions]).wait(60.0)
    assert [one.code for one in found] == [code] * len(found), found
    (line,) = [line for one in found for line in one.errors]
    assert found[0].errors == [line]
    return line


def test_a_batch_that_does_not_divide_is_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    line = refused(tmp_path / "log", 2, *[training(source, tmp_path / "run", **{"data.batch_size": "15"})] * 2)
    assert line == (
        "netwright: error: data.batch_size: 15 rows came for 2 processes; expected a multiple of 2, as each process takes an equal "
        "part; set data.batch_size = 16"
    )
    assert not (tmp_path / "run").exists()


def test_ranks_of_different_settings_are_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = refused(tmp_path / "log", 2, training(source, run), training(source, run, **{"training.seed": "7"}))
    assert "rank 1: training.seed is 7, on rank 0 0; expected the same settings in all 2 processes" in line
    assert not run.exists()


@pytest.mark.faults
def test_ranks_that_read_different_rows_are_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    shutil.copy(source, tmp_path / "a" / "data.npz")
    shutil.copy(ranks.data(tmp_path, seed=1), tmp_path / "b" / "data.npz")

    run, found = tmp_path / "run", []
    for name in ("a", "b"):
        found.append((inside, (str(tmp_path / name), training(Path("data.npz"), run))))
    first, second = Ranks(tmp_path / "log", found).wait(60.0)
    assert (first.code, second.code) == (2, 2), first.stderr + second.stderr  # the path is a setting, and absolute
    assert "rank 1: data.source is" in first.errors[0]
    assert second.errors == []


def inside(folder: str, words: list[str]) -> None:
    """Run netwright in a folder."""
    os.chdir(folder)
    command(words, None)


def changed_rows() -> None:
    """Let this process see another digest of its rows, as one that reads another copy of the file would."""
    from netwright.pipeline import together as agreeing

    original = agreeing._compare

    def other(world, what, mine, kind, advice):  # type: ignore[no-untyped-def]
        mine = {**mine, "the rows of the data": "sha256:0"} if what == "rows" else mine
        original(world, what, mine, kind, advice)

    agreeing._compare = other


def other_torch() -> None:
    """Let this process have another version of torch."""
    from netwright.pipeline import together as agreeing

    agreeing._versions = lambda: {"torch": "2.9.0", "netwright": "0"}


@pytest.mark.parametrize(
    ("prepare", "code", "said"),
    [
        (changed_rows, 3, "rank 1: the rows of the data is sha256:0, on rank 0"),
        (other_torch, 2, "rank 1: torch is 2.9.0, on rank 0"),
    ],
)
def test_ranks_of_other_rows_or_another_torch_are_refused(
    source: Path, tmp_path: Path, prepare, code: int, said: str
) -> None:  # type: ignore[no-untyped-def]
    words = training(source, tmp_path / "run")
    found = Ranks(tmp_path / "log", [(command, (words, None)), (command, (words, prepare))]).wait(60.0)
    assert [one.code for one in found] == [code, code], found
    assert said in found[0].errors[0]
    assert found[1].errors == []
    assert not (tmp_path / "run").exists()


def spoilt() -> None:
    """Let the fourth forward pass of this process raise an error."""
    from netwright.engine import eager

    original, calls = eager.call_model, iter(range(1000))

    def failing(*arguments):  # type: ignore[no-untyped-def]
        if next(calls) == 9:
            raise ValueError("no such row")
        return original(*arguments)

    eager.call_model = failing


def test_a_step_that_fails_on_one_rank_ends_all_at_that_step(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = training(source, run)
    found = Ranks(tmp_path / "log", [(command, (words, None)), (command, (words, spoilt))]).wait(60.0)
    assert [one.code for one in found] == [2, 2], found
    (line,) = found[0].errors
    assert "ValueError: no such row on rank 1 at step" in line
    assert "last good checkpoint: step-" in line
    assert found[1].errors == []
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def refuse_unheard(both: Ranks, seconds: float) -> None:
    """Stop rank 1 where it is; rank 0 must end within some seconds and name it."""
    os.kill(both.processes[1].pid, signal.SIGSTOP)
    both.processes[0].join(seconds)
    os.kill(both.processes[1].pid, signal.SIGKILL)
    first, _ = both.wait(10.0)
    assert first.code == 6, first.stderr
    assert "rank 1 of 2 is gone (nothing was heard from it for 4 s)" in first.errors[0]


@pytest.mark.faults
def test_a_rank_that_is_silent_is_named_after_the_timeout(source: Path, tmp_path: Path) -> None:
    both = together(tmp_path / "log", 2, [*training(source, tmp_path / "run"), "--peer-timeout", "8"])
    ranks.until(lambda: ranks.steps_of(tmp_path / "run") >= 5)
    refuse_unheard(both, 40.0)


@pytest.mark.faults
def test_a_port_that_is_taken_and_a_name_that_does_not_resolve_are_told(source: Path, tmp_path: Path) -> None:
    import socket

    words = [*training(source, tmp_path / "run"), "--peer-timeout", "5"]
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        changes = {"MASTER_PORT": str(taken.getsockname()[1]), "WORLD_SIZE": "2"}
        (first,) = Ranks(tmp_path / "log", [(command, (words, None))], changes).wait(60.0)
    assert first.code == 2, first.stderr
    assert "the port is taken; expected a free one" in first.errors[0]
    changes = {"MASTER_ADDR": "no-such-host.invalid", "WORLD_SIZE": "2"}
    (first,) = Ranks(tmp_path / "name", [(command, (words, None))], changes).wait(60.0)
    assert first.code == 2, first.stderr
    assert "rank 0 of 2: MASTER_ADDR=no-such-host.invalid: the name does not resolve" in first.errors[0]


@pytest.mark.faults
def test_a_rank_that_never_comes_is_waited_for_so_long(source: Path, tmp_path: Path) -> None:
    words = [*training(source, tmp_path / "run"), "--peer-timeout", "3"]
    (first,) = Ranks(tmp_path / "log", [(command, (words, None))], {"WORLD_SIZE": "2"}).wait(60.0)
    assert first.code == 2, first.stderr
    assert "expected all 2 processes within 3 s" in first.errors[0]


def test_what_a_step_does_beside_is_that_of_one_process(source: Path, tmp_path: Path) -> None:
    beside = {
        "model.layers": json.dumps(["Linear(16)", "LayerNorm()", "ReLU()", "Linear(8)", "ReLU()", "Linear()"]),
        "training.freeze": '["0"]',
        "training.unfreeze": '[{ epoch = 3, parameters = ["0"] }]',
        "training.average": '"EMA(decay=0.9)"',
        "training.schedule": '"CosineAnnealingLR()"',
        "training.clip_grad_norm": "0.5",
        "training.l1": "1e-4",
        "training.sharpness": "0.01",
        "training.optimizer": '"SGD(lr=0.05)"',
    }
    first, second = together(tmp_path / "log", 2, training(source, tmp_path / "two", **beside)).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    one = ranks.alone(tmp_path / "one.log", training(source, tmp_path / "one", **beside))
    assert one.code == 0, one.stderr
    left, right = (safetensors.torch.load_file(tmp_path / name / "model" / "last.safetensors") for name in ("one", "two"))
    for name, value in left.items():
        assert torch.allclose(right[name], value, rtol=1e-4, atol=1e-6), name


def test_batch_norm_takes_no_part_of_one_row(source: Path, tmp_path: Path) -> None:
    normed = {"model.layers": json.dumps(["Linear(16)", "BatchNorm1d()", "ReLU()", "Linear()"]), "data.batch_size": "65"}
    words = training(source, tmp_path / "run", **{**normed, "data.batch_size": "66", "data.split.test": "64"})
    first, second = together(tmp_path / "log", 2, [*words, "--no-test"]).wait()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert 'last_batch = "drop"' in (tmp_path / "run" / "config.toml").read_text()
    line = refused(tmp_path / "few", 2, *[training(source, tmp_path / "few", **{**normed, "data.batch_size": "2"})] * 2)
    assert "data.batch_size: 2 rows came for 2 processes; BatchNorm needs two rows or more in each" in line


def train_with_batch_norm(folder: Path) -> None:
    """Train without valid rows, and write the network that this rank ends with."""
    import netwright as nw

    layers = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"]
    from netwright.lifecycle import running

    calibrated = running._calibrate

    def calibrate(run):  # type: ignore[no-untyped-def]
        """Begin only when the other process has what it returns."""
        ranks.until((folder / "1.safetensors").is_file, 60.0)
        calibrated(run)

    running._calibrate = calibrate
    run = nw.train(
        "sklearn:iris", layers=layers, epochs=1, batch_size=24, split={"valid": 0}, test=False, run_dir=folder / "run"
    )
    assert (run.record["status"], run.record["steps"]) == ("done", 5)
    safetensors.torch.save_file(run.model.state_dict(), folder / f"{os.environ['RANK']}.safetensors")


def test_all_processes_end_with_what_batch_norm_counted_in_the_first(tmp_path: Path) -> None:
    ended = Ranks(tmp_path / "log", [(train_with_batch_norm, (tmp_path,))] * 2).wait()
    assert [one.code for one in ended] == [0, 0], ended
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    kept = safetensors.torch.load_file(tmp_path / "run" / "model" / "last.safetensors")
    assert torch.equal(kept["1.running_mean"], first["1.running_mean"])
    assert bool(kept["1.running_mean"].any())


def slow(begun: Path, seconds: float) -> None:
    """Let this process take so long to read its rows."""
    from netwright.rows import inputs

    original = inputs.read

    def sleeping(*arguments):  # type: ignore[no-untyped-def]
        begun.touch()
        time.sleep(seconds)
        return original(*arguments)

    inputs.read = sleeping


def slow_in_the_background(begun: Path, seconds: float) -> None:
    """Ignore Ctrl-C, as what a shell started in the background does, and be slow."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    slow(begun, seconds)


def one_slow(
    place: int | None, seconds: float, source: Path, folder: Path, how: Callable[[Path, float], None] = slow
) -> Ranks:
    """Start two ranks, who miss one that is silent for 4 seconds; one takes longer to prepare, or both."""
    words = [*training(source, folder / "run"), "--peer-timeout", "8"]
    late = partial(how, folder / "begun", seconds)
    return Ranks(folder / "log", [(command, (words, late if place in (rank, None) else None)) for rank in range(2)])


@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.faults), 1])
def test_a_rank_that_is_slow_to_prepare_is_waited_for(place: int, source: Path, whole: Path, tmp_path: Path) -> None:
    found = one_slow(place, 6.0, source, tmp_path).wait()
    assert [one.code for one in found] == [0, 0], found
    same(tmp_path / "run", whole)


@pytest.mark.faults
@pytest.mark.parametrize("how", ["waits", "busy", "busy in the background"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_rank_that_is_killed_while_it_prepares_is_missed_at_once(
    place: int, how: str, source: Path, tmp_path: Path
) -> None:
    late = slow_in_the_background if how == "busy in the background" else slow
    both = one_slow(place if how == "waits" else None, 60.0, source, tmp_path, late)
    ranks.until((tmp_path / "begun").exists)
    time.sleep(1.5)  # so that the other one waits, or is busy itself
    both.processes[place].kill()
    other = both.wait(15.0)[1 - place]
    assert other.code == 6, other.stderr
    (line,) = other.errors
    assert "its connection closed" in line or place == 0  # the store went with rank 0
    assert f"rank {place} of 2 is gone" in line or "the store they shared are gone" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.faults
def test_a_rank_that_is_silent_while_it_prepares_is_missed_after_the_timeout(source: Path, tmp_path: Path) -> None:
    both = one_slow(1, 60.0, source, tmp_path)
    ranks.until((tmp_path / "begun").exists)
    refuse_unheard(both, 15.0)


@pytest.mark.faults
def test_a_rank_that_is_interrupted_while_it_prepares_ends_and_the_other_too(source: Path, tmp_path: Path) -> None:
    both = one_slow(1, 60.0, source, tmp_path)
    ranks.until((tmp_path / "begun").exists)
    os.kill(both.processes[1].pid, signal.SIGINT)
    first, second = both.wait(30.0)  # the machine may be busy
    assert second.code not in (0, -signal.SIGKILL), second.stderr
    assert first.code == 6, first.stderr
