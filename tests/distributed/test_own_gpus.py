"""Processes that each see one GPU: their own, as srun --gpus-per-task arranges it, or one that they would share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from netwright.config.read import build_config
from netwright.distributed.joining import _beside
from netwright.distributed.world import World
from netwright.errors import ConfigError
from netwright.pipeline.sharing import device_of


@pytest.mark.parametrize(("other", "own"), [("GPU-b", True), ("GPU-a", False), (None, True)])
def test_a_gpu_that_no_other_process_sees_is_its_own(monkeypatch: pytest.MonkeyPatch, other: str | None, own: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-a"))

    def gathered(world: World, value: Any) -> list[Any]:
        return [value, {**value, "gpu": other}]

    monkeypatch.setattr(World, "gathered", gathered)
    world = World(0, 2, 0, 2)
    assert _beside(world).own_gpu is own
    config = build_config({"data": {"source": "sklearn:iris"}, "training": {"device": "cuda"}})
    assert device_of(config, World(0, 2, 0, 2, own_gpu=True)) == torch.device("cuda")
    with pytest.raises(ConfigError, match="1 GPU for 2 processes of this machine"):
        device_of(config, world)


def test_without_a_gpu_there_is_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(World, "gathered", lambda world, value: [value, value])
    assert not _beside(World(0, 2, 0, 2)).own_gpu
