"""What becomes of settings where several processes train, without starting any."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

import netwright as nw
from netwright.distributed.world import World
from netwright.errors import CheckpointError, ConfigError
from netwright.lifecycle.resuming import Objects, _bench_again
from netwright.pipeline import dealing
from netwright.pipeline.bench import gather, prepare
from netwright.pipeline.custom import Custom
from netwright.pipeline.sharing import for_processes, refuse_alone, shared_settings, why_not_repeated
from netwright.pipeline.together import levelled
from netwright.runfolder.folder import read_config, read_record


@pytest.mark.parametrize(("size", "near"), [(3, 33), (64, 64)])
def test_the_batch_size_that_a_recipe_chose_is_the_one_that_is_divided(size: int, near: int) -> None:
    config, name = gather("sklearn:iris", [], {})
    assert config.data.batch_size % 64 == 0  # before the recipe says 32
    with pytest.raises(ConfigError) as refused:
        prepare(config, name, world=World(0, size, 0, size))
    assert str(refused.value) == (
        f"data.batch_size: 32 rows came for {size} processes; expected a multiple of {size}, as each process takes an equal part; "
        f"set data.batch_size = {near}"
    )


def test_a_batch_size_that_is_written_and_divides_is_kept() -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 30})
    assert prepare(config, name, world=World(0, 3, 0, 3)).config.data.batch_size == 30


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (1, "fsdp")),
        ({"threads": 3}, (3, "fsdp")),
        ({"strategy": "ddp"}, (1, "ddp")),
    ],
)
def test_what_machines_chose_for_themselves_is_levelled_and_what_is_written_stays(
    asked: dict[str, object], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def highest(world: World, flags: list[int]) -> list[int]:
        """Answer for another machine too: one thread for each process, and too little memory for a whole copy."""
        return [max(int(own), other) for own, other in zip(flags, (-1, 1), strict=True)]

    config, name = gather("sklearn:iris", [], {"batch_size": 30, **asked})
    world = World(0, 2, 0, 1)
    alone = prepare(config, name, world=world).config
    three = alone.model_copy(update={"training": alone.training.model_copy(update={"threads": 3})})
    monkeypatch.setattr(World, "highest", highest)
    found = levelled(three, config, world)
    assert (found.training.threads, found.training.strategy) == expected
    assert found.data == alone.data


SYNCHRONISED = {
    "layers": ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"],
    "split": {"test": 0.2, "valid": 0.2},
    "sync_batchnorm": True,
}


@pytest.mark.parametrize(("device", "last"), [("cpu", None), ("cuda", "drop")])
def test_on_cuda_a_last_batch_that_leaves_a_process_without_rows_is_dropped(device: str, last: str | None) -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 44, **SYNCHRONISED})  # 90 rows: the last batch has two of them
    world = World(0, 4, 0, 4)
    bench = prepare(config, name, world=world)
    assert len(bench.inputs.split.train) == 90
    found = for_processes(config, bench.network.module, (100, 0), 90, torch.device(device), world)
    assert found.data.last_batch == last
    whole = for_processes(config, bench.network.module, (100, 0), 92, torch.device(device), world)
    assert whole.data.last_batch is None


def test_on_cuda_a_last_batch_that_is_to_be_kept_and_leaves_a_process_without_rows_is_refused() -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 44, "last_batch": "keep", **SYNCHRONISED})
    world = World(0, 4, 0, 4)
    bench = prepare(config, name, world=world)
    with pytest.raises(ConfigError) as refused:
        for_processes(config, bench.network.module, (100, 0), 90, torch.device("cuda"), world)
    assert str(refused.value) == (
        "data.last_batch: keep came; 90 rows in batches of 44 leave 2 for 4 processes, and BatchNorm needs one row or more in "
        "each; leave it out (they are dropped), change data.batch_size or start fewer"
    )


@pytest.mark.parametrize(
    ("size", "what"),
    [
        (
            4,
            "data.last_batch: keep came; 90 rows in batches of 44 leave 2 for 4 processes, and BatchNorm needs two rows or "
            "more in each",
        ),
        (3, "data.batch_size: 44 rows came for 3 processes; expected a multiple of 3, as each process takes an equal part"),
    ],
)
def test_a_run_of_one_process_that_several_cannot_go_on_with_says_so(size: int, what: str, tmp_path: Path) -> None:
    nw.train("sklearn:iris", **{**SYNCHRONISED, "sync_batchnorm": False}, batch_size=44, epochs=1, run_dir=tmp_path / "run")
    folder = tmp_path / "run"
    objects = Objects(world=World(0, size, 0, size))
    with pytest.raises(CheckpointError) as refused:
        _bench_again(folder, shared_settings(read_config(folder), objects.world), read_record(folder), objects)
    assert str(refused.value) == f"{folder}: {what}; a run that goes on keeps its batches: use one process, or fewer"


def test_rows_in_parts_may_leave_no_process_a_part_of_one_row_for_batch_norm() -> None:
    layers = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"]
    asked = {"layers": layers, "split": {"test": 0.2, "valid": 0.2}, "batch_size": 18, "micro_batch": 4}
    config, name = gather("sklearn:iris", [], asked)
    prepare(config, name)  # 18 rows in parts of 4, the last of two
    with pytest.raises(ConfigError) as refused:
        prepare(config, name, world=World(0, 2, 0, 2))
    assert str(refused.value) == (
        "training.micro_batch: 4 came for parts of 9 rows in 2 processes; one row is left of a part, which BatchNorm cannot train "
        "on; change one of them"
    )
    config, name = gather("sklearn:iris", [], asked | {"micro_batch": 17})
    assert prepare(config, name, world=World(0, 2, 0, 2)).config.training.micro_batch == 17  # nine rows in each process
    with pytest.raises(
        ConfigError, match="training.micro_batch: 17 came for batches of 18 rows of 90; a part of one row is left"
    ):
        prepare(config, name)


@pytest.mark.parametrize(
    ("rows", "last", "refused"),
    [
        (42, None, True),  # ten are left: parts of five, the last row of each alone
        (42, "keep", True),
        (42, "drop", False),
        (35, None, False),  # three are left, which are dropped: BatchNorm needs two in each of two processes
        (10, "drop", True),  # the only batch is never dropped
    ],
)
def test_a_last_batch_that_is_dropped_leaves_no_part_of_one_row(rows: int, last: str | None, refused: bool) -> None:
    config, _ = gather("sklearn:iris", [], {"batch_size": 16, "micro_batch": 2, **({"last_batch": last} if last else {})})
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    if refused:
        with pytest.raises(ConfigError, match="one row is left of a part"):
            for_processes(config, network, (100, 0), rows, torch.device("cpu"), World(0, 2, 0, 2))
    else:
        found = for_processes(config, network, (100, 0), rows, torch.device("cpu"), World(0, 2, 0, 2))
        assert found.data.last_batch == "drop"


def test_rows_in_parts_are_not_dealt_out_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dealing, "_memory", lambda device, world: 1)
    for asked, strategy in (({}, "fsdp"), ({"micro_batch": 4}, "ddp")):
        config, name = gather("sklearn:iris", [], {"batch_size": 30, **asked})
        assert prepare(config, name, world=World(0, 2, 0, 2)).config.training.strategy == strategy


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"strategy": "fsdp"}, 'training.strategy = "fsdp"'), ({"sync_batchnorm": True}, "training.sync_batchnorm = true")],
)
def test_rows_in_parts_are_refused_where_processes_meet_within_a_pass(settings: dict[str, object], what: str) -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 30, "micro_batch": 4, **settings})
    with pytest.raises(ConfigError) as refused:
        prepare(config, name, world=World(0, 2, 0, 2))
    assert str(refused.value) == (
        f"training.micro_batch: 4 came with {what} under 2 processes, which meet within each pass; expected one of them; leave "
        "micro_batch out and start more processes, each takes a smaller part"
    )


def test_rows_in_parts_are_refused_for_layers_in_which_processes_meet() -> None:
    config, _ = gather("sklearn:iris", [], {"batch_size": 30, "micro_batch": 4})
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.SyncBatchNorm(3))
    assert for_processes(config, network, (100, 0), 90, torch.device("cuda"), World()) == config
    with pytest.raises(ConfigError) as refused:
        for_processes(config, network, (100, 0), 90, torch.device("cuda"), World(0, 2, 0, 2))
    assert str(refused.value) == (
        "training.micro_batch: 4 came with torch.nn.SyncBatchNorm in the network under 2 processes, which meet within each pass; "
        "expected one of them; leave micro_batch out and start more processes, each takes a smaller part"
    )


def test_recurrent_layers_take_threads_later_in_several_processes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 64})
    bench = prepare(config, name)
    monkeypatch.setattr("netwright.pipeline.sharing.cores", lambda: 8)
    monkeypatch.setattr("netwright.engine.choose.cores", lambda: 8)
    world = World(0, 2, 0, 2)
    threads = [
        for_processes(config, bench.network.module, (10**6, by_steps), 90, torch.device("cpu"), world).training.threads
        for by_steps in (0, 10**6)
    ]
    assert threads == [4, 1]


def test_steps_in_graphs_are_for_gpus_and_whole_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0, 2, 0, 2)
    gathered = partial(gather, "sklearn:iris", [])
    with pytest.raises(
        ConfigError, match="captured came under 2 processes; expected auto or eager: .*, or captured on GPUs"
    ):
        refuse_alone(gathered({"engine": "captured"})[0], Custom(), world)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for strategy in ("auto", "ddp"):
        refuse_alone(gathered({"engine": "captured", "strategy": strategy})[0], Custom(), world)
    with pytest.raises(ConfigError, match='captured came with training.strategy = "fsdp"; expected ddp'):
        refuse_alone(gathered({"engine": "captured", "strategy": "fsdp"})[0], Custom(), world)
    for other in ({"engine": "captured", "device": "cpu"}, {"engine": "compiled"}):
        with pytest.raises(ConfigError, match=f"{other['engine']} came under 2 processes"):
            refuse_alone(gathered(other)[0], Custom(), world)


@pytest.mark.parametrize(
    ("asked", "before", "gpu", "expected"),
    [
        ({"engine": "captured", "strategy": "ddp"}, 2, True, "captured"),
        ({"engine": "captured", "strategy": "ddp"}, 1, True, "eager"),  # one process replayed them
        ({"engine": "captured", "strategy": "ddp"}, 2, False, "eager"),
        ({"engine": "captured", "strategy": "ddp", "device": "cpu"}, 2, True, "eager"),
        ({"engine": "compiled"}, 1, True, "eager"),
    ],
)
def test_a_run_in_graphs_of_several_processes_goes_on_in_graphs(
    asked: dict[str, object], before: int, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    config = gather("sklearn:iris", [], asked)[0]
    assert shared_settings(config, World(0, 2, 0, 2), before).training.engine == expected
    assert shared_settings(config, World(), before) == config


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"engine": "captured"}, None),
        ({}, "2 processes share each step, which are not replayed"),
        ({"engine": "captured", "sync_batchnorm": True}, "batch norm over all processes asks how many rows each has"),
        ({"engine": "captured", "class_weight": "balanced"}, "the weight of a part of a batch hangs on its classes"),
    ],
)
def test_why_steps_of_several_processes_are_not_captured(asked: dict[str, object], why: str | None) -> None:
    bench = prepare(*gather("sklearn:iris", [], {**asked, "engine": "auto", "batch_size": 30}))
    config = gather("sklearn:iris", [], {**asked, "batch_size": 30})[0]
    assert why_not_repeated(config, Custom(), bench.network, None, World(0, 2, 0, 2)) == why
