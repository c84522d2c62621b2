"""Settings of training that meet: parts of batches, groups, averages, schedules, frozen layers, own optimizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netwright as nw
from netwright.checkpoint import store
from netwright.errors import ConfigError, DataError
from netwright.model.naming import named_parameters
from netwright.runfolder.folder import CHECKPOINTS
from netwright.studies.crossing import CrossValidation

NORMED = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"]
PLAIN: dict[str, Any] = {"test": False, "evaluation": {"baselines": []}}


def weights_of(run: nw.Run) -> list[torch.Tensor]:
    return list(run.model.state_dict().values())


def test_a_part_of_one_row_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"micro_batch: 31 came for batches of 32 rows of 90; a part of one row is left"):
        nw.train("sklearn:iris", layers=NORMED, batch_size=32, micro_batch=31, run_dir=tmp_path / "r", **PLAIN)
    assert not (tmp_path / "r").exists()


def test_parts_without_a_row_that_counts_change_nothing(tmp_path: Path) -> None:
    keywords = {"layers": ["Linear()"], "batch_size": 6, "epochs": 2, "loss": "CrossEntropyLoss(ignore_index=0)", **PLAIN}
    run = nw.train("sklearn:iris", micro_batch=2, run_dir=tmp_path / "parts", **keywords)
    whole = nw.train("sklearn:iris", run_dir=tmp_path / "whole", **keywords)
    for part, all_at_once in zip(weights_of(run), weights_of(whole), strict=True):
        assert torch.allclose(part, all_at_once, atol=1e-5)


def test_gradients_that_an_own_optimizer_does_not_hold_leave_no_trace(tmp_path: Path) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def last(model: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(model[2].parameters(), lr=0.1)

    run = nw.train(
        "sklearn:iris", model=network(), optimizer=last, clip_grad_norm=0.5, epochs=3, run_dir=tmp_path / "r",
        checkpoint={"every_steps": 3, "keep": 9}, preparation={"numbers": "standardize"}, batch_size=32, **PLAIN
    )  # fmt: skip
    folder = tmp_path / "r"
    for newer in sorted((folder / CHECKPOINTS).iterdir())[2:]:
        for file in newer.iterdir():
            file.unlink()
        newer.rmdir()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = nw.resume(folder, model=network(), optimizer=last)
    assert all(torch.equal(one, other) for one, other in zip(weights_of(run), weights_of(again), strict=True))


def test_a_cycle_peaks_at_the_rate_of_each_group(tmp_path: Path) -> None:
    groups = [{"parameters": ["0"], "lr": 1e-5}]
    run = nw.train(
        "sklearn:iris", layers=["Linear(4)", "ReLU()", "Linear()"], epochs=2, optimizer="SGD(lr=0.1, momentum=0.9)",
        schedule="OneCycleLR()", parameter_groups=groups, run_dir=tmp_path / "r", **PLAIN
    )  # fmt: skip
    assert "max_lr=[0.1, 1e-05]" in str(run.config.training.schedule)
    again = nw.train(tmp_path / "r" / "config.toml", run_dir=tmp_path / "again", **PLAIN)
    assert all(torch.equal(one, other) for one, other in zip(weights_of(run), weights_of(again), strict=True))


def test_a_run_that_has_not_ended_shows_its_average(tmp_path: Path) -> None:
    run = nw.train(
        "sklearn:iris", layers=["Linear()"], epochs=2, average="EMA(decay=0.9)", split={"valid": 0},
        run_dir=tmp_path / "r", **PLAIN
    )  # fmt: skip
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    unfinished = nw.load(run.folder)
    mean = store.newest(run.folder / CHECKPOINTS, lambda problem: None).parts["averaged"]["mean"]
    assert all(torch.equal(value, mean[name]) for name, value in unfinished.model.state_dict().items())
    assert all(torch.equal(one, other) for one, other in zip(weights_of(run), weights_of(unfinished), strict=True))


def test_tied_parameters_are_found_by_each_of_their_names() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    assert named_parameters(network, ["1.weight"], "training.freeze") == ["0.weight"]


@pytest.mark.parametrize("path", ["training.class_weight", "training.micro_batch", "data.sampling"])
def test_none_turns_it_off(path: str, tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", settings=[f"{path}=none"], layers=["Linear()"], epochs=1, run_dir=tmp_path / "r", **PLAIN)
    assert run.record["status"] == "done"


def test_what_is_looked_at_before_a_run_is_as_in_the_run() -> None:
    frozen = {"layers": NORMED, "freeze": ["0", "1"], "epochs": 2}
    assert nw.find_batch_size("sklearn:iris", most=16).written == 32
    swept = nw.find_learning_rate("sklearn:iris", optimizer="Adam(lr=0.01)", schedule="OneCycleLR()", steps=30, **frozen)
    assert swept.written == 0.01


def test_more_folds_than_rows_are_refused_before_the_first_is_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.split.folds: 150 rows cannot give 200 folds"):
        nw.cross_validate("sklearn:iris", folds=200, run_dir=tmp_path / "cv", layers=["Linear()"], epochs=1)
    assert not list((tmp_path / "cv").glob("fold-*"))


def test_an_average_that_reaches_beyond_the_run_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    nw.train(
        "sklearn:iris", layers=["Linear()"], epochs=1, average="EMA(decay=0.9999)", run_dir=tmp_path / "r",
        observers=[lambda told: said.append(str(getattr(told, "text", "")))], **PLAIN
    )  # fmt: skip
    assert any("reaches about 10,000 steps back and the run has 2" in text for text in said)


def test_a_metric_by_half_its_name_is_answered(tmp_path: Path) -> None:
    watched = {"monitor": "valid_roc_auc", "mode": "max", "patience": 3}
    with pytest.raises(ConfigError, match=r'write training.metrics = \["roc_auc_score"\], and valid_roc_auc_score here'):
        nw.train("sklearn:breast_cancer", layers=["Linear()"], early_stopping=watched, run_dir=tmp_path / "r")


def test_a_cross_validation_that_stopped_in_its_first_split_can_be_printed(tmp_path: Path) -> None:
    stopped = CrossValidation(tmp_path, (tmp_path / "fold-00",), {}, 15)
    assert str(stopped).startswith("1 split begun, not all of them done; to go on:")
