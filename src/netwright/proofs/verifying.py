"""The heart of the verb verify: promises proven on the user's own machine, with copies of a run. Floor 16."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright import files
from netwright.checkpoint import store, trees
from netwright.config.calls import OBJECT
from netwright.errors import CheckpointError
from netwright.numerals import counted
from netwright.pipeline.job import EXECUTION, HISTORY
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import CHECKPOINTS, read_config
from netwright.studies.comparing import step_lines

BETWEEN = 4  # checkpoints between two kills, at least
MOST_KEPT = 200  # checkpoints of a run that looks for the first tensor that differs
POLL = 0.005  # seconds
INEXACT = (
    "training.optimizer",
    "training.parameter_groups",
    "training.threads",
    "training.device",
    "training.micro_batch",
    "training.early_stopping",
)
TIMES = ("train_seconds", "valid_seconds")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """Whether a promise held: a sentence, and where it did not, what differs first."""

    held: bool
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"held": self.held, "text": self.text}


def verify_resume(folder: Path, kills: int, code: Sequence[Path], seed: int, tell: Tell) -> Verdict:
    """Train a copy of a run, kill it by SIGKILL again and again, resume it each time, and compare it with the run.

    Args:
        folder: A finished run.
        kills: How often.
        code: Python files that may run.
        seed: Of the moments.
        tell: Is told each kill.

    Raises:
        CheckpointError: The run has not ended by itself, or was made from Python objects.
    """
    steps = _finished_steps(folder)
    draw = random.Random(seed)
    targets = sorted(draw.randint(1, max(1, steps - 1)) for _ in range(kills))
    every = max(1, steps // (BETWEEN * (kills + 1)))
    with _beside(folder) as place:
        copy = place / "copy"
        begin = ["train", str(folder / folders.CONFIG), "--run-dir", str(copy), "--no-test"]
        words = [*begin, "--set", f"checkpoint.every_steps={every}"]
        done: list[int] = []
        for target in targets:
            step = _killed(words, code, copy, target, draw)
            if step is None:
                break
            done.append(step)
            tell(f"killed after step {step}")
            words = ["resume", str(copy), "--require-exact"] if copy.exists() else words
        if not copy.exists() or folders.read_record(copy)["status"] != "done":
            _run(words if not copy.exists() else ["resume", str(copy), "--require-exact"], code)
        different = _difference(folder, copy)
    if different is not None:
        return Verdict(False, f"resume: not exact after kills at steps {_listed(done)}: {different}")
    return Verdict(True, f"resume: exact; killed {len(done)} times, after steps {_listed(done)}; the same weights, optimizer, "
                         "generators and history, bit for bit")  # fmt: skip


def verify_determinism(folder: Path, code: Sequence[Path], tell: Tell) -> Verdict:
    """Train a run twice more, and where the two differ, find the first step and tensor that do.

    Args:
        folder: A finished run.
        code: Python files that may run.
        tell: Is told what is done.
    """
    steps = _finished_steps(folder)
    with _beside(folder) as place:
        one, other = place / "one", place / "other"
        for number, copy in enumerate((one, other), 1):
            tell(f"training {number} of 2 ({counted(steps, 'step')})")
            _run(["train", str(folder / folders.CONFIG), "--run-dir", str(copy), "--no-test"], code)
        different = _difference(one, other)
        if different is None:
            return Verdict(True, f"deterministic: two trainings of {counted(steps, 'step')} gave the same bits")
        first = _first_step(one, other) or steps
        tell(f"they differ by step {first}: looking for the first tensor")
        found = _first_tensor(folder, place, first, code)
    return Verdict(False, f"not deterministic: {found or different}")


def _finished_steps(folder: Path) -> int:
    """Return the steps of a run that can be trained again.

    Raises:
        CheckpointError: It has not ended, or was made from Python objects.
    """
    record, config = folders.read_record(folder), read_config(folder)
    objects = [config.data.source or "", config.training.loss or "", f"{OBJECT}" if config.model.object else ""]
    training = config.training
    objects += [training.optimizer, training.step or "", training.stop or "", training.schedule or "", *training.metrics]
    if any(text.startswith(OBJECT) for text in objects):
        raise CheckpointError(
            f"{folder}: made from Python objects, which a new process does not have; expected a run of the command line"
        )
    if record["status"] != "done":
        raise CheckpointError(
            f"{folder}: {record['status']}; expected a run that ended by itself; netwright resume {folder}"
        )
    changes = [change for entry in record.get("resumed", []) for change in entry.get("changed", [])]
    if any(change.startswith(INEXACT) for change in changes):
        raise CheckpointError(
            f"{folder}: settings were changed when it was resumed; expected a run of one config; verify another"
        )
    if (members := record.get("members", 1)) > 1:
        raise CheckpointError(
            f"{folder}: trained together with {members - 1} other runs, whose config alone gives the same within rounding, not bit "
            "by bit; expected a run that trained alone; netwright train its config.toml, and verify that"
        )
    return int(record["steps"])


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Make a folder for copies beside a run, and remove it at the end."""
    place = folder.absolute().parent / f".{folder.name}.verify-{random.SystemRandom().randrange(16**6):06x}.tmp"
    files.make_folder(place)
    try:
        yield place
    finally:
        files.remove_all(place)


def _command(words: Sequence[str], code: Sequence[Path]) -> list[str]:
    return [sys.executable, "-m", "netwright", *words, *(word for file in code for word in ("--code", str(file)))]


def _run(words: Sequence[str], code: Sequence[Path]) -> None:
    """Run netwright to its end.

    Raises:
        CheckpointError: It failed; its last line is told.
    """
    done = subprocess.run(_command(words, code), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise CheckpointError(
            f"netwright {' '.join(words[:2])}: exit {done.returncode}: {said.removeprefix('netwright: error: ')}"
        )


def _killed(words: Sequence[str], code: Sequence[Path], copy: Path, target: int, draw: random.Random) -> int | None:
    """Run netwright until a checkpoint of a step or a later one lies there, and kill it a moment later.

    Returns:
        The newest step that was kept, or None where it ended before.
    """
    process = subprocess.Popen(_command(words, code), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            found = store.checkpoints(copy / CHECKPOINTS)
            if found and store.step_of(found[0]) >= target:
                time.sleep(draw.uniform(0, 0.05))
                break
            time.sleep(POLL)
        process.kill()
        said = process.communicate()[1]
    finally:
        process.kill()
        process.wait()
    if process.returncode > 0:
        raise CheckpointError(f"netwright {' '.join(words[:2])}: exit {process.returncode}: {said.strip().splitlines()[-1]}")
    if process.returncode == 0:
        return None
    kept = store.checkpoints(copy / CHECKPOINTS)
    return store.step_of(kept[0]) if kept else 0


def _difference(one: Path, other: Path) -> str | None:
    """Return where the end of two runs differs first; None where every bit is the same."""
    histories = [
        [{name: value for name, value in row.items() if name not in TIMES} for row in folders.read_history(path)]
        for path in (one, other)
    ]
    parts = [_comparable(store.newest(path / CHECKPOINTS, lambda problem: None).parts) for path in (one, other)]
    found = trees.first_difference(parts[0], parts[1])
    return found or (None if histories[0] == histories[1] else "the histories differ")


def _comparable(parts: dict[str, Any]) -> dict[str, Any]:
    """Return what of a checkpoint must be the same: all but times and how it was executed."""
    sums = {key: parts[HISTORY][key] for key in ("loss_sum", "weight")}
    return {**{name: part for name, part in parts.items() if name not in (HISTORY, EXECUTION)}, "sums": sums}


def _first_step(one: Path, other: Path) -> int | None:
    """Return the first step whose loss differs."""
    for left, right in zip(step_lines(one), step_lines(other), strict=False):
        if left["loss"] != right["loss"]:
            return int(left["step"])
    return None


def _first_tensor(folder: Path, place: Path, step: int, code: Sequence[Path]) -> str | None:
    """Train twice up to a step with a checkpoint of every step, and return the first tensor that differs."""
    every = max(1, -(-step // MOST_KEPT))
    copies = [place / "first", place / "second"]
    changes = {"training.steps": step, "checkpoint.every_steps": every, "checkpoint.keep": MOST_KEPT + 3}
    for copy in copies:
        words = ["train", str(folder / folders.CONFIG), "--run-dir", str(copy), "--no-test"]
        _run([*words, *(word for key, value in changes.items() for word in ("--set", f"{key}={value}"))], code)
    names = [{path.name for path in store.checkpoints(copy / CHECKPOINTS)} for copy in copies]
    for name in sorted(names[0] & names[1]):
        parts = [_comparable(store.read_parts(copy / CHECKPOINTS / name)) for copy in copies]
        found = trees.first_difference(parts[0], parts[1])
        if found is not None:
            return f"after step {store.step_of(Path(name))} {found}"
    return None


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
