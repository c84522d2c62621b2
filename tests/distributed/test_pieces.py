"""Networks dealt out to processes, batch norm over all of them, and the checkpoints they write together.

The ranks run `pieces_together.main` once; the tests look at what they told and at the folder they left.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pieces_together
import pytest
import ranks
import torch
from torch import nn

from netwright.checkpoint import store
from netwright.engine.sharding import blocks_of, choose_strategy, refuse_unsharded
from netwright.errors import CheckpointError, ConfigError
from netwright.model.synchronised import SynchronisedBatchNorm, synchronised

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def together(size: int, folder: Path, steps: int = 12) -> list[dict[str, Any]]:
    """Run the ranks and return what each told; one that fails fails the test with its words."""
    actions = [(pieces_together.main, (rank, size, folder, steps)) for rank in range(size)]
    for ended in ranks.Ranks(folder / "log", actions).wait(300.0):
        assert ended.code == 0, ended.stderr
        assert "Warning" not in ended.stderr
    return [json.loads((folder / f"told-{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    return together(2, folder)


def refuse_apart(told: list[dict[str, Any]]) -> None:
    for one in told:
        for name, found in one["parity"].items():
            allowed = TOLERANCE["float32" if "float32" in name or name == "fused" else "float64"]
            assert found["weights"] < allowed, (name, found)
            assert found["losses"] < allowed, (name, found)
            assert found["moved"] > 0.01, (name, found)


def test_a_network_dealt_out_trains_as_in_one_process_with_rows_of_uneven_parts(told: list[dict[str, Any]]) -> None:
    assert {"mlp float32", "conv float64", "lstm float64", "clipped by norm", "uphill"} <= told[0]["parity"].keys()
    refuse_apart(told)


def test_means_of_weights_are_the_same_where_they_are_dealt_out(told: list[dict[str, Any]]) -> None:
    assert all(one["others"][name] < 1e-10 for one in told for name in ("EMA", "SWA"))


def test_steps_in_float16_are_scaled_alike_in_all_processes(told: list[dict[str, Any]]) -> None:
    assert [one["others"]["scale"] for one in told] == [[65536.0, 0]] * 2


def test_buckets_of_gradients_are_settled_for_a_network_with_buffers_too(told: list[dict[str, Any]]) -> None:
    assert [one["settled"] for one in told] == [{"network": True, "gradients": [], "apart": 0.0}] * 2


def test_a_checkpoint_written_together_is_read_as_any_other(told: list[dict[str, Any]]) -> None:
    for one in told:
        kept = one["checkpoints"]
        assert {"model-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"} <= set(kept["files"])
        assert kept["whole"]
        assert kept["told"] == {"rank": 0, "pair": [1, None]}
        assert kept["apart"] < 1e-12


def test_a_run_goes_on_from_it_dealt_out_with_the_same_bits_and_in_one_process(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert one["checkpoints"]["dealt"]
        assert one["checkpoints"]["bits"]
        assert max(one["checkpoints"]["gone on"], one["checkpoints"]["alone"]) < 1e-10


def test_a_process_reads_its_own_pieces_alone_and_of_another_number_of_processes_those_with_its_rows(
    told: list[dict[str, Any]],
) -> None:
    files = [sorted(f"{part}-0000{rank}-of-00002.safetensors" for part in ("model", "optimizer")) for rank in (1, 2)]
    both = sorted(files[0] + files[1])
    assert [one["checkpoints"][f"read by {rank} of 2"] for rank, one in enumerate(told)] == files
    assert told[0]["checkpoints"]["read by 0 of 3"] == files[0]
    assert told[1]["checkpoints"]["read by 1 of 3"] == both  # the middle third of the rows
    assert told[0]["checkpoints"]["read by 0 of 1"] == both
    for one in told:
        kept = one["checkpoints"]
        assert all(value for name, value in kept.items() if name.startswith("held by"))
        assert kept["dealt out"] == 6


def test_all_go_back_where_one_process_finds_its_piece_damaged(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert one["checkpoints"]["damaged"] == {
            "back to": "step-000000006-epoch-000001",
            "said": [
                "process 1: /model-00002-of-00002.safetensors: its content does not agree with the manifest; expected it as "
                "written; it is damaged; going back to step-000000006-epoch-000001"
            ],
        }


def test_an_error_of_one_process_is_raised_by_all_and_nothing_is_left(told: list[dict[str, Any]]) -> None:
    for one in told:
        kept = one["checkpoints"]
        assert kept["unknown"].startswith("CheckpointError: process 1: checkpoint: own.value is a object")
        assert kept["no folder"].startswith("ResourceError: ")
        assert "No such file or directory" in kept["no folder"]
        assert kept["full"].startswith("ResourceError: process 1: checkpoint: OSError: [Errno 28] No space left on device")
        assert kept["left"]


def copied(told: list[dict[str, Any]], folder: Path, place: Path) -> Path:
    assert told
    (found,) = store.checkpoints(folder / "checkpoints")
    return Path(shutil.copytree(found, place / found.name))


def test_a_piece_that_is_missing_is_one_line(told: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    found = copied(told, folder, tmp_path)
    assert store.verifies(found)
    (found / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: cannot be read .*it is gone$"):
        store.read_parts(found)


def test_a_changed_byte_of_a_piece_is_one_line(told: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    found = copied(told, folder, tmp_path)
    piece = found / "optimizer-00001-of-00002.safetensors"
    content = bytearray(piece.read_bytes())
    content[-1] ^= 1
    piece.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"optimizer-00001-of-00002\.safetensors: its content does not agree"):
        store.read_parts(found)


@pytest.mark.faults
@pytest.mark.parametrize("size", [3, 4])  # 200 steps: see test_distributed_parity
def test_more_processes_deal_out_networks_and_checkpoints_alike(size: int, tmp_path: Path) -> None:
    told = together(size, tmp_path)
    refuse_apart(told)
    assert all(one["checkpoints"]["bits"] and one["checkpoints"]["alone"] < 1e-10 for one in told)
    assert all(value for one in told for name, value in one["checkpoints"].items() if name.startswith("held by"))


def test_blocks_are_elements_of_sequences_without_what_is_used_twice() -> None:
    twice = nn.Linear(2, 2)
    network = nn.ModuleDict(
        {
            "body": nn.Sequential(nn.Linear(3, 2), nn.Sequential(twice, nn.ReLU(), twice), nn.Dropout()),
            "layers": nn.ModuleList([nn.TransformerEncoderLayer(4, 2)]),
        }
    )
    assert blocks_of(network) == [network["body"][0], network["layers"][0]]


@pytest.mark.parametrize(("name", "why"), [("LBFGS", "one vector"), ("Rprop", "piece by piece"), ("Muon", "as a whole")])
def test_optimizers_that_cannot_be_dealt_out_are_refused(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"fsdp came; it cannot deal this network out: {name}: .*{why}"):
        refuse_unsharded(nn.Linear(2, 1), name)


def test_a_parameter_without_an_axis_is_refused() -> None:
    network = nn.Linear(2, 1)
    network.share = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError, match="the parameter share is a single number"):
        refuse_unsharded(network, "SGD")


def test_the_strategy_follows_the_memory_of_a_device() -> None:
    assert [choose_strategy(weights, 4, 1000) for weights in (10, 150, 151, 10**6)] == ["ddp", "ddp", "fsdp", "fsdp"]


def test_batch_norm_is_replaced_wherever_it_stands_and_keeps_its_tensors() -> None:
    layer = nn.BatchNorm2d(3, momentum=0.2)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(layer))
    changed = synchronised(network, torch.device("cpu"))[1][0]
    assert isinstance(changed, SynchronisedBatchNorm)
    assert changed.weight is layer.weight
    assert changed.running_var is layer.running_var
    assert changed.momentum == 0.2
    alone = synchronised(layer, torch.device("cpu")).eval()
    rows = torch.randn(2, 3, 4, 4)
    assert torch.equal(alone(rows), layer.eval()(rows))


def test_without_running_figures_batch_norm_counts_the_rows_at_hand_in_eval_mode() -> None:
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    rows = torch.randn(5, 3)
    alone = synchronised(layer, torch.device("cpu")).eval()
    assert torch.equal(alone(rows), layer.eval()(rows))  # and asks no other process: there is none


def test_batch_norm_that_stands_in_several_places_stays_one_layer() -> None:
    layer = nn.BatchNorm1d(3)
    network = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 3), layer)
    inner = nn.Sequential(network, network)
    inner.register_module("none", None)
    changed = synchronised(inner, torch.device("cpu"))
    assert changed[0] is changed[1] is network
    assert isinstance(network[3], SynchronisedBatchNorm)
    assert network[1] is network[3]
