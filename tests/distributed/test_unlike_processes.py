"""Processes that are not alike: own code that draws, GPUs that only some see, other CPU kernels, cores of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ranks
import torch

import netwright as nw
from netwright.config.read import build_config
from netwright.distributed.joining import _beside
from netwright.distributed.world import World
from netwright.lifecycle.exactness import inexact
from netwright.pipeline.bench import gather, prepare
from netwright.pipeline.sameness import facts_of
from netwright.pipeline.sharing import for_processes
from netwright.seeding import initialising

NET = """
import numpy as np
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drawn = {generator}.permutation(40).tolist()
        self.order = [column for column in self.drawn if column < 6][:3]
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(x[:, self.order])
"""


def sees_a_gpu() -> None:
    """Let this process believe that it sees a GPU; what NCCL would do gloo does."""
    import torch.distributed as dist

    cuda: Any = torch.cuda
    cuda.is_available, cuda.device_count, cuda.set_device = lambda: True, lambda: 1, lambda number: None
    cuda.get_device_properties = lambda number: SimpleNamespace(uuid="GPU-a")
    begin = dist.init_process_group
    dist.init_process_group = lambda backend, **others: begin("cpu:gloo,cuda:gloo", **others)


def has_other_kernels() -> None:
    """Let this process believe that its CPU has other instructions."""
    torch.backends.cpu.get_cpu_capability = lambda: "ELSE"  # type: ignore[assignment]


def own_words(tmp_path: Path, generator: str, name: str, **changes: str) -> list[str]:
    code = tmp_path / f"{name}.py"
    code.write_text(NET.format(generator=generator))
    source = ranks.data(tmp_path, rows=64)
    told = {
        "model.module": f'"{code}:Net"',
        "training.epochs": "2",
        "training.threads": "1",
        "data.batch_size": "16",
        **changes,
    }
    words = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    return ["train", str(source), "--run-dir", str(tmp_path / name), "--code", str(code), "--no-test", *words]


def test_whole_numbers_beside_the_tensors_of_a_network_are_its_facts() -> None:
    one = torch.nn.Linear(2, 1)
    one.order, one.pairs, one.mask = torch.tensor([1, 0]), [[0, 1], [1, 0]], np.array([True, False])  # type: ignore[assignment]
    one.rank, one.scale, one.names = [3], np.array([0.5, 0.2]), ["a", "b"]  # type: ignore[assignment]
    one.ragged, one.long = [[1], [2, 3]], list(range(99))  # type: ignore[assignment]
    found = facts_of(one)
    assert list(found) == ["weight", "bias", "order", "pairs", "mask", "ragged", "long"]
    assert (found["order"], found["pairs"]) == ("[1, 0]", "[[0, 1], [1, 0]]")
    one.long[98] = 7  # type: ignore[index,operator]
    assert facts_of(one)["long"] != found["long"]


def both(log: Path, words: list[str], first: Any = None, second: Any = None) -> list[ranks.Ended]:
    return ranks.Ranks(log, [(ranks.command, (words, first)), (ranks.command, (words, second))]).wait()


def test_processes_of_which_only_some_see_a_gpu_are_told_at_once(tmp_path: Path) -> None:
    words = own_words(tmp_path, "np.random", "net")
    ended = both(tmp_path / "log", [*words, "--peer-timeout", "60"], sees_a_gpu)
    assert [one.code for one in ended] == [2, 2]
    assert [line for one in ended for line in one.errors] == [
        "netwright: error: training.device: auto came; of 2 processes rank 1 sees no GPU, the others do; expected one for each; "
        "see what nvidia-smi and CUDA_VISIBLE_DEVICES say there, or set training.device = cpu"
    ]
    assert not (tmp_path / "net").exists()


def test_a_device_that_only_one_process_writes_is_told_as_a_setting_or_trains(tmp_path: Path) -> None:
    words = own_words(tmp_path, "np.random", "net")
    both_words = [[*words, "--set", "training.device=cpu"], words]
    for one in ranks.Ranks(tmp_path / "log", [(ranks.command, (some, None)) for some in both_words]).wait():
        assert one.code == 0, one.stderr  # the second one finds no GPU either


def test_unlike_processes_train_one_network_on_the_cpu_and_go_on_exactly(tmp_path: Path) -> None:
    words = own_words(tmp_path, "np.random", "net", **{"training.device": '"cpu"'})
    for one in both(tmp_path / "log", words, sees_a_gpu, has_other_kernels):
        assert one.code == 0, one.stderr
    code = tmp_path / "net.py"
    with initialising(0):
        drawn = np.random.permutation(40).tolist()
    assert nw.load(tmp_path / "net", code=[code]).model.drawn == drawn  # type: ignore[union-attr]

    again = ["resume", str(tmp_path / "net"), "--code", str(code), "--require-exact", "--set", "training.epochs=3"]
    ended = both(tmp_path / "again", again)
    kernels = torch.backends.cpu.get_cpu_capability()
    assert [one.code for one in ended] == [4, 4]
    assert f"not exact (CPU kernels of rank 1 ELSE -> {kernels})" in "".join(line for one in ended for line in one.errors)
    ended = both(tmp_path / "exact", again, None, has_other_kernels)
    assert [one.code for one in ended] == [0, 0], ended
    assert "resume: exact" in ended[0].stdout + ended[0].stderr


def test_networks_that_each_process_draws_otherwise_are_refused(tmp_path: Path) -> None:
    ended = both(tmp_path / "log", own_words(tmp_path, "np.random.default_rng()", "net"))
    assert [one.code for one in ended] == [2, 2]
    (line,) = (line for one in ended for line in one.errors)
    assert line.startswith("netwright: error: rank 1: drawn is [")
    assert ", on rank 0 [" in line
    assert line.endswith(
        "expected the same network in all 2 processes; let __init__ draw from the generators that netwright seeds: those of torch, "
        "numpy.random and random, no other"
    )
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("mine", "other", "host", "cores"),
    [
        (range(8), range(8, 16), "here", 16),  # each is bound to its own
        (range(16), range(16), "here", 16),
        (range(8), range(8, 16), "there", 8),  # of another machine
    ],
)
def test_cores_are_those_of_all_processes_of_a_machine(
    mine: range, other: range, host: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gathered(world: World, value: dict[str, Any]) -> list[dict[str, Any]]:
        return [value, {"host": value["host"] if host == "here" else host, "gpu": None, "cores": list(other)}]

    monkeypatch.setattr(World, "gathered", gathered)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(mine), raising=False)
    assert _beside(World(0, 2, 0, 2 if host == "here" else 1)).cores == cores


@pytest.mark.parametrize(("bound", "cores", "threads"), [(8, 16, 8), (16, 16, 8), (4, 16, 4)])
def test_threads_are_the_share_of_a_process_in_the_cores_of_its_machine(
    bound: int, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(bound)), raising=False)
    config, name = gather("sklearn:iris", [], {"batch_size": 30})
    module = prepare(config, name).network.module
    world = World(0, 2, 0, 2, cores=cores)
    found = for_processes(config, module, (10**9, 0), 90, torch.device("cpu"), world)
    assert found.training.threads == threads


def test_a_checkpoint_that_kept_the_kernels_of_the_first_process_alone_is_still_compared() -> None:
    now = {"torch": "2", "device": ["cpu", "cpu"], "cpu": ["A", "B"], "threads": 1, "micro_batch": None, "world": 2}
    now["optimizer"] = build_config({"data": {"source": "a.csv"}}).training.optimizer
    assert inexact({**now, "device": "cpu", "cpu": "A"}, now) == []
    assert inexact({**now, "device": "cpu", "cpu": "B"}, now) == ["CPU kernels B -> A"]
    assert inexact({**now, "cpu": ["B", "B"]}, now) == ["CPU kernels of rank 0 B -> A"]
    assert inexact({**now, "cpu": ["C", "C"]}, {**now, "cpu": ["A", "A"]}) == ["CPU kernels C -> A"]
    four = {**now, "cpu": ["A"] * 4, "device": ["cpu"] * 4, "world": 4}
    assert inexact(four, now) == ["world size 4 -> 2"]
