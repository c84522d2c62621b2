"""Killed by SIGKILL at any moment and resumed, a run ends with the same bits; a piece of state left out is noticed."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
from PIL import Image

FORKED, COMMANDS = 200, 100  # random kills, in forked processes and through the command line
FEW = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reference(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """The digest of the run that nobody disturbs, and how long it lives after its birth."""
    folder = tmp_path_factory.mktemp("reference")
    for name in ("one", "two"):
        assert harness.run(harness.training(source, folder / name), folder / "log").code == 0
    assert harness.digest(folder / "one") == harness.digest(folder / "two")
    other = harness.training(source, folder / "other", **{"training.seed": 1})
    assert harness.run(other, folder / "log").code == 0
    assert harness.digest(folder / "other") != harness.digest(folder / "one")
    seconds = json.loads((folder / "two" / "run.json").read_text())["seconds"]["total"]
    return harness.digest(folder / "one"), float(seconds)


def killed_somewhere(words: list[str], folder: Path, log: Path, draw: random.Random, seconds: float) -> bool:
    """Kill a training at a moment after its birth; half of them just after a checkpoint began to be written."""
    process = harness.start(words, log)
    seen = len(list((folder / "checkpoints").glob("*"))) if folder.exists() else 0
    harness.until(lambda: folder.exists() or process.exitcode is not None)
    if draw.random() < 0.5:
        process.join(draw.uniform(0, seconds))
    else:
        wanted = draw.randrange(3)
        for _ in range(wanted + 1):
            now, end = seen, time.monotonic() + harness.WAITING
            while process.exitcode is None and len(os.listdir(folder / "checkpoints")) == now and time.monotonic() < end:
                process.join(0.0005)
        process.join(draw.uniform(0, 0.01))
    if process.exitcode is None:
        process.kill()
    return harness.wait(process, log).code == -signal.SIGKILL


def one_kill(number: int, source: Path, expected: str, seconds: float, place: Path) -> bool:
    """Kill a run once at random, resume it, and compare; tell whether the kill hit it alive."""
    folder, log = place / f"run{number}", place / f"log{number}"
    words = harness.training(source, folder)
    hit = killed_somewhere(words, folder, log, random.Random(number), seconds)
    harness.resumed_to_the_end(folder, log, words)
    assert harness.digest(folder) == expected, f"kill {number}"
    assert harness.leftovers(folder) == []
    return hit


def until_hit(count: int, once: Callable[[int], bool]) -> None:
    """Kill runs until so many of the kills hit one that was alive; those that came too late count for nothing."""
    hits, number = 0, 0
    while hits < count:
        assert number < 3 * count + 10, f"only {hits} of {number} kills hit a run alive"
        batch = range(number, number + max(2, min(20, count - hits)))
        number = batch.stop
        hits += sum(harness.in_parallel({str(one): lambda one=one: once(one) for one in batch}).values())


def test_a_few_runs_killed_at_random_end_with_the_same_bits(
    source: Path, reference: tuple[str, float], tmp_path: Path
) -> None:
    until_hit(FEW, lambda number: one_kill(number, source, *reference, tmp_path))


@pytest.mark.faults
def test_runs_killed_at_random_end_with_the_same_bits(source: Path, reference: tuple[str, float], tmp_path: Path) -> None:
    until_hit(FORKED, lambda number: one_kill(number, source, *reference, tmp_path))


@pytest.mark.faults
def test_commands_killed_at_random_end_with_the_same_bits(
    source: Path, reference: tuple[str, float], tmp_path: Path
) -> None:
    """The same through ``python -m netwright`` in new processes."""

    def once(number: int) -> bool:
        draw, folder = random.Random(number), tmp_path / f"run{number}"
        program, words = [sys.executable, "-m", "netwright"], harness.training(source, folder)
        process = subprocess.Popen([*program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        harness.until(lambda: folder.exists() or process.poll() is not None)
        try:
            process.wait(draw.uniform(0, reference[1]))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        again = [*program, "resume", str(folder)]
        done = subprocess.run(again, capture_output=True, text=True, timeout=harness.WAITING, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert harness.digest(folder) == reference[0], f"kill {number}"
        return process.returncode == -signal.SIGKILL

    until_hit(COMMANDS, once)


def chain(number: int, source: Path, expected: str, seconds: float, place: Path) -> None:
    """Kill a run five times, at random moments of what is left of it."""
    draw, folder, log = random.Random(1000 + number), place / f"chain{number}", place / f"log{number}"
    words = harness.training(source, folder, **{"checkpoint.every_steps": 2})
    killed_somewhere(words, folder, log, draw, seconds * 0.3)
    for _ in range(4):
        process = harness.start(["resume", str(folder)], log)
        process.join(draw.uniform(0.05, 0.15 + seconds * 0.4))
        if process.exitcode is None:
            process.kill()
        harness.wait(process, log)
    harness.resumed_to_the_end(folder, log, words)
    assert harness.digest(folder) == expected
    assert len(harness.verified(folder)) == 2
    assert harness.leftovers(folder) == []


@pytest.mark.faults
def test_chains_of_five_kills_end_with_the_same_bits(source: Path, reference: tuple[str, float], tmp_path: Path) -> None:
    calls = {str(number): lambda number=number: chain(number, source, *reference, tmp_path) for number in range(20)}
    assert len(harness.in_parallel(calls)) == 20


@pytest.mark.parametrize("moment", ["the end of an epoch", "the validation"])
def test_a_kill_at_the_end_of_an_epoch_or_in_its_validation_is_made_up_for(
    moment: str, source: Path, reference: tuple[str, float], tmp_path: Path
) -> None:
    folder, words = tmp_path / "run", harness.training(source, tmp_path / "run", **{"checkpoint.every_steps": 13})
    found = harness.run(words, tmp_path / "log", die_at, moment)
    assert found.code == -signal.SIGKILL
    assert len(harness.history(folder)) == (2 if moment == "the end of an epoch" else 1)
    harness.resumed_to_the_end(folder, tmp_path / "log", words)
    assert harness.digest(folder) == reference[0]


def die_at(moment: str) -> None:
    """Kill this process in the second epoch: in its validation, or after its row was written."""
    from netwright.evaluation import together
    from netwright.training.journal import Journal

    calls = itertools.count(1)
    module, name = (together, "score") if moment == "the validation" else (Journal, "epoch")
    original = getattr(module, name)

    def dying(*arguments: Any) -> Any:
        second = next(calls) == 2
        found = None if second and moment == "the validation" else original(*arguments)
        if second:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(module, name, dying)


# what is lost when a checkpoint is loaded: every one must be noticed, or the tests above prove nothing
SABOTEURS: dict[str, Callable[[dict[str, Any]], None]] = {
    "torch's generator": lambda parts: parts["generators"].update(torch=other_generator(parts["generators"]["torch"])),
    "NumPy's generator": lambda parts: parts["generators"].update(numpy=np_state()),
    "Python's generator": lambda parts: parts["generators"].update(random=random.Random(9).getstate()),
    "place in the epoch": lambda parts: parts["progress"].update(within=0),
    "epoch": lambda parts: parts["progress"].update(epoch=parts["progress"]["epoch"] - 1),
    "number of the step": lambda parts: parts["progress"].update(step=parts["progress"]["step"] - 1),
    "the optimizer's first moments": lambda parts: zeroed(parts, "exp_avg"),
    "the optimizer's second moments": lambda parts: zeroed(parts, "exp_avg_sq"),
    "the optimizer's count of steps": lambda parts: zeroed(parts, "step"),
    "the learning rate": lambda parts: parts["optimizer"]["param_groups"][0].update(lr=0.02),
    "the buffers of BatchNorm": lambda parts: parts["model"]["state"]["1.running_mean"].zero_(),
    "one weight": lambda parts: parts["model"]["state"]["0.bias"][0].mul_(1.0000001),
    "the best figure": lambda parts: parts["progress"]["best"].update(value=0.0),
    "the best weights": lambda parts: parts["best"]["0.weight"].zero_(),
    "the sum of the losses": lambda parts: parts["history"].update(loss_sum=0.0),
    "the weight of the losses": lambda parts: parts["history"].update(weight=0.0),
}


def other_generator(state: Any) -> Any:
    import torch

    return torch.Generator().manual_seed(1).get_state().clone() if state is not None else None


def np_state() -> Any:
    import torch

    name, key, *rest = np.random.RandomState(3).get_state()
    return (name, torch.from_numpy(np.asarray(key).astype(np.int64)), *rest)


def zeroed(parts: dict[str, Any], name: str) -> None:
    for state in parts["optimizer"]["state"].values():
        state[name].zero_()


def sabotage(name: str) -> None:
    """Lose one piece of state when a checkpoint is read."""
    from netwright.checkpoint import store

    original = store.read_parts

    def losing(folder: Path) -> dict[str, Any]:
        parts = original(folder)
        SABOTEURS[name](parts)
        return parts

    store.read_parts = losing


OWN = """
import random
import numpy as np
import torch
from torch import nn

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += 1
            x = x + 0.1 * float(np.random.rand()) + 0.1 * random.random() + 0.001 * self.seen
        return self.layers(x)
"""


@pytest.fixture(scope="module")
def interrupted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A run of an own network that draws from all generators, stopped in its second epoch; its code; the digest of the whole."""
    place = tmp_path_factory.mktemp("own")
    (place / "own.py").write_text(OWN)
    code = ["--code", str(place / "own.py")]
    own = {"model.module": json.dumps(f"{place / 'own.py'}:Noisy")}

    def words(folder: Path) -> list[str]:
        found = harness.training(source, folder, **own)
        at = found.index("model.layers=" + json.dumps(harness.NET))
        return [*found[: at - 1], *found[at + 1 :], *code]

    assert harness.run(words(place / "whole"), place / "log").code == 0
    stopped = harness.run(words(place / "run"), place / "log", die_after, 22)
    assert stopped.code == -signal.SIGKILL
    return place / "run", code, harness.digest(place / "whole")


def die_after(step: int) -> None:
    """Kill this process before a step."""
    from netwright.engine import eager

    original, calls = eager.train_step, itertools.count()  # the first call is the trial step

    def dying(*arguments: Any) -> Any:
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    eager.train_step = dying


def copied(run: Path, folder: Path) -> Path:
    import shutil

    shutil.copytree(run, folder)
    return folder


def test_a_network_that_draws_from_all_generators_resumes_with_the_same_bits(
    interrupted: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    run, code, expected = interrupted
    folder = copied(run, tmp_path / "run")
    found = harness.run(["resume", str(folder), *code], tmp_path / "log")
    assert found.code == 0, found.stderr
    assert "resume: exact" in found.stdout
    assert "from step-000000020 (step 20, epoch 2, 7 of its steps done)" in found.stdout
    assert harness.digest(folder) == expected


@pytest.mark.parametrize("name", harness.some(SABOTEURS, list(SABOTEURS)[:3]))
def test_every_piece_of_state_that_is_lost_is_noticed(
    name: str, interrupted: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    run, code, expected = interrupted
    folder = copied(run, tmp_path / "run")
    found = harness.run(["resume", str(folder), *code], tmp_path / "log", sabotage, name)
    assert found.code != 0 or harness.digest(folder) != expected


def csv_rows(place: Path, rows: int = 230) -> Path:
    generator = np.random.default_rng(1)
    X = generator.normal(size=(rows, 4))
    lines = ["a,b,c,d,colour,y"]
    for row, x in enumerate(X):
        colour = ("red", "green", "blue")[row % 3]
        lines.append(",".join([*(f"{value:.6f}" for value in x), colour, f"{x[0] + x[1] ** 2 + (row % 3):.6f}"]))
    (place / "t.csv").write_text("\n".join(lines) + "\n")
    return place / "t.csv"


def parquet_rows(place: Path) -> Path:
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv(csv_rows(place)), place / "t.parquet", row_group_size=50)
    return place / "t.parquet"


def image_rows(place: Path) -> Path:
    generator = np.random.default_rng(2)
    for number in range(90):
        kind = ("cat", "dog")[number % 2]
        folder = place / "images" / kind
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 120, (12, 12, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return place / "images"


def sequence_rows(place: Path) -> Path:
    generator = np.random.default_rng(3)
    lines = ["id,a,b,y"]
    for number in range(80):
        level = generator.normal()
        for _ in range(int(generator.integers(3, 12))):
            lines.append(f"{number},{level + generator.normal() * 0.1:.5f},{generator.normal():.5f},{int(level > 0)}")
    (place / "s.csv").write_text("\n".join(lines) + "\n")
    return place / "s.csv"


TABLE = {"data.target": '"y"'}
STOPPING = {"training.early_stopping": "{ patience = 2 }", "training.epochs": 9}
DROPOUT = json.dumps(["Linear(16)", "ReLU()", "Dropout(0.3)", "Linear()"])
CONV = json.dumps(["Conv2d(4, 3)", "BatchNorm2d()", "ReLU()", "Flatten()", "Linear()"])
GRUS = json.dumps(["GRU(8, num_layers=2, dropout=0.4)", "LastStep()", "Linear()"])
GRU = json.dumps(["GRU(8)", "LastStep()", "Linear()"])
SGD, ADAMW, LBFGS = (
    '"SGD(lr=0.02, momentum=0.9, nesterov=True)"',
    '"AdamW(lr=0.01, amsgrad=True)"',
    '"LBFGS(lr=0.1, max_iter=3)"',
)
RMSPROP, ADAGRAD = '"RMSprop(lr=0.003, momentum=0.5)"', '"Adagrad(lr=0.02)"'
NOISE = {"data.augmentation": '["Noise(0.1)", "Scale(0.1)"]'}
MIX = {"data.augmentation": '["MixUp(alpha=0.4)"]', "training.loss": '"CrossEntropyLoss()"'}
CELLS: list[tuple[str, dict[str, Any]]] = [
    ("csv", {"training.optimizer": SGD, "model.layers": DROPOUT}),
    ("csv", {"training.optimizer": ADAMW, "model.layers": DROPOUT, **STOPPING}),
    ("csv", {"training.optimizer": LBFGS, "model.layers": '["Linear()"]', "training.epochs": 2}),
    ("csv", {"training.optimizer": ADAGRAD, "data.batch_size": 50, "data.last_batch": '"drop"'}),
    ("csv", {"training.micro_batch": 7, "training.optimizer": SGD, "model.layers": DROPOUT}),
    ("csv", {"training.steps": 31, "training.optimizer": RMSPROP, "training.epochs": 9}),
    ("parquet", {"training.optimizer": SGD, "data.storage": '"map"', "model.layers": DROPOUT}),
    ("parquet", {"training.optimizer": ADAMW, "data.storage": '"map"', **STOPPING}),
    ("parquet", {"training.optimizer": '"Adam(lr=0.01, fused=False)"', "data.preparation.numbers": '"quantile"'}),
    ("parquet", {"training.optimizer": '"NAdam(lr=0.01)"', "training.threads": 2}),
    ("npz", {"training.optimizer": SGD, **STOPPING}),
    ("npz", {"training.optimizer": ADAMW, "training.micro_batch": 5}),
    ("npz", {"training.optimizer": RMSPROP, "data.split.valid": 0}),
    ("npz", {"training.optimizer": '"Adadelta()"', "training.loss": '"CrossEntropyLoss(label_smoothing=0.1)"'}),
    ("npz", {"training.optimizer": ADAMW, "data.batch_size": 1000, "training.epochs": 30}),
    ("images", {"training.optimizer": SGD, "model.layers": CONV}),
    ("images", {"training.optimizer": ADAMW, "model.layers": CONV, **MIX}),
    ("images", {"training.optimizer": ADAMW, "model.layers": CONV, "data.batch_size": 7, **STOPPING}),
    ("images", {"training.optimizer": RMSPROP, "model.layers": CONV, **MIX, **STOPPING}),
    ("sequences", {"training.optimizer": ADAMW, "model.layers": GRU}),
    ("sequences", {"training.optimizer": SGD, "model.layers": GRU, **NOISE}),
    ("sequences", {"training.optimizer": ADAMW, "model.layers": GRU, **NOISE, **STOPPING}),
    ("sequences", {"training.optimizer": ADAGRAD, "model.layers": GRU, "training.micro_batch": 3}),
    ("sequences", {"training.optimizer": RMSPROP, "model.layers": GRUS}),
]  # fmt: skip
MADE: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "csv": (csv_rows, TABLE),
    "parquet": (parquet_rows, TABLE),
    "npz": (harness.data, {}),
    "images": (image_rows, {}),
    "sequences": (sequence_rows, {**TABLE, "data.sequences": '"id"'}),
}


@pytest.mark.parametrize("number", harness.some(range(len(CELLS)), (1, 21)))
def test_every_kind_of_run_resumes_from_inside_an_epoch_with_the_same_bits(number: int, tmp_path: Path) -> None:
    kind, settings = CELLS[number]
    make, further = MADE[kind]
    source = make(tmp_path)
    changes = {
        "checkpoint.every_steps": 3, "model.layers": DROPOUT, "data.cache": json.dumps(str(tmp_path / "cache")),
        **further, **settings,
    }  # fmt: skip
    whole = harness.training(source, tmp_path / "whole", **changes)
    assert (found := harness.run(whole, tmp_path / "log")).code == 0, found.stderr
    steps = int(harness.history(tmp_path / "whole")[-1]["step"])
    calls = 4 if "LBFGS" in str(changes) else 1
    step = random.Random(number).randint(2, max(2, steps - 2)) if calls == 1 else 5
    words = harness.training(source, tmp_path / "run", **changes, **{"training.engine": "eager"})  # step by step
    assert (found := harness.run(words, tmp_path / "log", die_after, step)).code == -signal.SIGKILL, found.stderr
    found = harness.run(["resume", str(tmp_path / "run"), "--require-exact"], tmp_path / "log")
    assert found.code == 0, found.stderr
    assert "resume: exact" in found.stdout
    assert harness.digest(tmp_path / "run") == harness.digest(tmp_path / "whole")


@pytest.mark.faults
def test_other_numbers_of_workers_give_the_same_bits(tmp_path: Path) -> None:
    """Items of a Dataset that changes them at random are read by 0, then 2, then 1 processes."""
    program = Path(__file__).parent / "workers.py"

    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(program), *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=harness.WAITING, check=False)

    assert (done := ended(str(tmp_path / "whole"), "0", "0")).returncode == 0, done.stderr
    for number, (workers, die) in enumerate([("0", "7"), ("2", "16"), ("1", "0")]):
        done = ended(str(tmp_path / "run"), workers, die)
        assert done.returncode == (-signal.SIGKILL if die != "0" else 0), (number, done.stderr)
    assert harness.digest(tmp_path / "run") == harness.digest(tmp_path / "whole")
