"""The option --procs: which command it stands for, and what it refuses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from netwright.cli import main
from netwright.distributed import launch
from netwright.errors import DataError


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The words that torchrun would have been given."""
    found: list[list[str]] = []

    def play(words: list[str]) -> int:
        found.append(words)
        return 5

    monkeypatch.setattr(launch, "launch", play)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.toml").write_text('[data]\nsource = "sklearn:digits"\n')
    return found


def test_procs_prints_the_command_that_a_person_could_type(
    capsys: pytest.CaptureFixture[str], launched: list[list[str]]
) -> None:
    words = ("--set", "training.epochs=3", "--set", "training.lr=a b", "--no-test", "--run-dir", "one")
    code, out, err = command(
        capsys, "train", "sklearn:digits", "--target", "target", "--procs", "4", "--restarts", "2", *words
    )
    assert code == 2, out  # a wrong setting is answered before anything starts
    assert "training.lr" in err
    words = ("--set", "training.epochs=3", "--no-test", "--run-dir", "one", "--track", "tensorboard")
    code, out, err = command(capsys, "train", "digits.toml", "--procs", "4", "--restarts", "2", *words)
    assert (code, err) == (5, "")  # what a worker ended with
    assert out.split()[1:] == ["-m", "torch.distributed.run", *launched[0]]
    ours = ["train", "digits.toml", "--set=training.epochs=3", "--run-dir=one", "--no-test", "--track=tensorboard"]
    assert launched == [
        [
            "--standalone",
            "--nproc-per-node=4",
            "--max-restarts=2",
            "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1",
            "-m",
            "netwright",
            *ours,
        ]
    ]


def test_processes_agree_on_a_run_folder_that_nobody_named(
    capsys: pytest.CaptureFixture[str], launched: list[list[str]]
) -> None:
    code, out, err = command(capsys, "train", "digits.toml", "--procs", "2", "--json")
    assert (code, out) == (5, "")
    assert launched[0][-2].startswith("--run-dir=runs/digits-")
    assert launched[0][-1] == "--json"
    assert err.endswith(" --json\n")


def test_one_process_needs_no_torchrun(
    capsys: pytest.CaptureFixture[str], launched: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(*_: object, **__: object) -> None:
        raise DataError("trained in this process")

    monkeypatch.setattr("netwright.verbs.train", play)
    code, _, err = command(capsys, "train", "digits.toml", "--procs", "1")
    assert (code, err) == (3, "netwright: error: trained in this process\n")
    assert launched == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "digits.toml", "--procs", "0"], 2, "--procs 0: expected 1 to 1024 processes"),
        (["train", "digits.toml", "--procs", "2", "--restarts", "-1"], 2, "--restarts -1: expected 0 or more"),
        (["train", "digits.toml", "--restarts", "1"], 2, "--restarts 1: it came without --procs"),
        (["train", "digits.toml", "--procs", "2", "--seeds", "3"], 2, "--procs 2: it came with --seeds"),
        (["train", "none.toml", "--procs", "2"], 2, "none.toml: No such file"),
        (["resume", "none", "--procs", "2"], 4, "none: no run"),
        (["train", "digits.toml", "--procs", "2", "--launcher", "slurm"], 2, "--launcher slurm: it came with --procs 2"),
        (
            ["train", "digits.toml", "--launcher", "slurm"],
            2,
            "SLURM_PROCID is 'not set'; expected a task of srun",
        ),
    ],
)
def test_what_cannot_be_started_is_refused(
    capsys: pytest.CaptureFixture[str], launched: list[list[str]], words: list[str], code: int, told: str
) -> None:
    found, out, err = command(capsys, *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert told in err
    assert launched == []


def test_a_folder_that_is_taken_is_refused_before_processes_start(
    capsys: pytest.CaptureFixture[str], launched: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    code, _, err = command(capsys, "train", "digits.toml", "--procs", "2", "--run-dir", "one")
    assert code == 7
    assert "one" in err
    assert launched == []


@pytest.mark.parametrize(
    ("raised", "code"),
    [(None, 0), (3, 3), (-9, 137), (143, 143), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_the_exit_code_is_that_of_the_worker_that_ended_first(
    monkeypatch: pytest.MonkeyPatch, raised: int | signal.Signals | None, code: int
) -> None:
    def play(asked: object) -> None:
        if isinstance(raised, signal.Signals):
            raise SignalException("asked to end", raised)
        if raised is not None:
            failed = ProcessFailure(local_rank=1, pid=7, exitcode=raised, error_file="none")
            raise ChildFailedError("netwright", {1: failed})

    monkeypatch.setattr("torch.distributed.run.run", play)
    assert launch.launch(launch.torchrun_words(["train", "digits.toml"], 2, 0)) == code
