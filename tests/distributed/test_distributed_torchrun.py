"""torchrun itself: signals and SIGKILL at ten moments each, restarts, resumes, and nobody who is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ranks
from ranks import training

LIMIT = 280.0  # seconds; the machine may be busy
SIGNALS = ("--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1")
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranks.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a run of two ranks in a strategy that nothing disturbed; each is trained once."""
    done: dict[str, Path] = {}

    def train(strategy: str) -> Path:
        if strategy not in done:
            run = tmp_path_factory.mktemp(strategy) / "run"
            code, said = ended(torchrun(training(source, run, **changes(strategy))))
            assert code == 0, said
            done[strategy] = run
        return done[strategy]

    return train


def changes(strategy: str) -> dict[str, str]:
    """Return what these runs have that those of other tests have not: 104 steps."""
    return {"training.epochs": "8", "training.strategy": f'"{strategy}"'}


def hit(run: Path, name: str, number: int) -> None:
    """Send a signal to one of two ranks at a moment drawn for it: which rank, after which step, and so long after that."""
    draw = random.Random(f"{name} {number}")
    rank, step, late = draw.randrange(2), draw.randrange(66), draw.uniform(0.0, 0.1)
    ranks.until(lambda: (run / "run.json").is_file(), LIMIT)
    process = ranks.until(lambda: workers(run).get(rank), LIMIT)
    ranks.until(lambda: ranks.steps_of(run) >= step, LIMIT)
    time.sleep(late)
    os.kill(process, getattr(signal, name))


def torchrun(words: list[str], *options: str) -> subprocess.Popen[str]:
    """Start ``netwright WORDS`` in two processes."""
    return in_two_processes(*options, "-m", "netwright", *words)


def in_two_processes(*words: str) -> subprocess.Popen[str]:
    """Start torchrun with its options and what it runs."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for torchrun under the time limit; return its exit code and all that was said."""
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


def workers(run: Path) -> dict[int, int]:
    """Return the living processes that train a run, by rank."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            rank = re.search(rb"\0RANK=(\d+)\0", b"\0" + (place / "environ").read_bytes())
            ended = (place / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if rank and not ended and str(run).encode() in words and b"torch.distributed.run" not in words:
            found[int(rank[1])] = int(place.name)
    return found


def same(one: Path, other: Path) -> None:
    """Compare what two runs left, bit by bit."""
    left, right = ranks.left(one), ranks.left(other)
    assert {name for name in left if left[name] != right[name]} == set()


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_rank_that_is_killed_comes_back_and_the_run_has_the_same_bits(
    source: Path, whole: Callable[[str], Path], tmp_path: Path, strategy: str, number: int
) -> None:
    run, expected = tmp_path / "run", whole(strategy)
    process = torchrun(training(source, run, **changes(strategy)), "--max-restarts", "1")
    hit(run, "SIGKILL", number)
    code, said = ended(process)
    assert code == 0, said
    assert "resume: exact" in said
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    same(run, expected)
    assert workers(run) == {}


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_one_rank_stops_both_and_a_resume_gives_the_same_bits(
    source: Path, whole: Callable[[str], Path], tmp_path: Path, name: str, number: int
) -> None:
    run, expected = tmp_path / "run", whole("ddp")
    process = torchrun(training(source, run, **changes("ddp")))
    hit(run, name, number)
    _, said = ended(process)
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["signal"]) == ("stopped", int(getattr(signal, name))), said
    assert ranks.steps_of(run) == record["steps"] < 104
    assert workers(run) == {}
    code, said = ended(torchrun(["resume", str(run), "--require-exact"]))
    assert code == 0, said
    same(run, expected)
    assert workers(run) == {}


@pytest.mark.parametrize(("name", "options"), [("SIGTERM", ()), ("SIGUSR1", SIGNALS)])
def test_a_signal_to_torchrun_stops_all_and_a_resume_gives_the_same_bits(
    source: Path, whole: Callable[[str], Path], tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    run, expected = tmp_path / "run", whole("ddp")
    process = torchrun(training(source, run, **changes("ddp")), *options)
    ranks.until(lambda: ranks.steps_of(run) >= 25, LIMIT)
    process.send_signal(getattr(signal, name))
    _, said = ended(process)
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["signal"]) == ("stopped", int(getattr(signal, name))), said
    assert workers(run) == {}
    code, said = ended(torchrun(["resume", str(run), "--require-exact"]))
    assert code == 0, said
    same(run, expected)


def test_the_processes_stop_where_torchrun_itself_is_killed(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = torchrun(training(source, run, **{"training.epochs": "100000"}))  # it ends by the signal only
    ranks.until(lambda: ranks.steps_of(run) >= 5, LIMIT)
    process.kill()
    _, said = ended(process)
    ranks.until(lambda: not workers(run), LIMIT)
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record.get("signal")) == ("stopped", signal.SIGTERM), said


def test_a_loss_that_is_not_finite_is_not_tried_again(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    wild = training(source, run, **{"training.optimizer": '"SGD(lr=1e20)"'})
    code, said = ended(torchrun(wild, "--max-restarts", "1"))
    assert code != 0
    first, second = [line for line in said.splitlines() if line.startswith("netwright: error:")]
    assert "on rank" in first
    assert "ended with DivergedError" in second
    assert workers(run) == {}


def test_a_script_trains_twice_with_the_same_processes(tmp_path: Path) -> None:
    script = tmp_path / "twice.py"
    script.write_text(
        "import sys\nimport netwright as nw\n"
        "for number in (1, 2):\n"
        "    run = nw.train('sklearn:iris', epochs=2, batch_size=16, seed=number, run_dir=f'{sys.argv[1]}/run{number}')\n"
        "    print('trained', number, run.record['status'], flush=True)\n"
    )
    code, said = ended(in_two_processes(str(script), str(tmp_path)))
    assert code == 0, said
    assert said.count("trained 1 done") == said.count("trained 2 done") == 2
