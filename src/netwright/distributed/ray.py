"""Ray: the same training in processes that Ray Train places and starts again. The only file that imports ray (extra ray). Floor 5.

Source: https://docs.ray.io/en/latest/train/getting-started-pytorch.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright.errors import ConfigError, NetwrightError, first_line

Told = dict[str, Any]


@dataclass(frozen=True)
class Placement:
    """Where Ray shall train: how many processes, whether each has a GPU, how often all are started again, how long one waits.

    ``address`` is that of a cluster; None for the one this machine is part of, or one that is made for the training.
    """

    workers: int
    gpus: bool = False
    restarts: int = 3
    timeout: float = 600.0
    address: str | None = None


def refuse_without_ray() -> None:
    """Refuse to train by Ray where it is not installed.

    Raises:
        ConfigError: Its package is missing.
    """
    try:
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ray: package {error.name} is not installed; expected the extra ray; run: pip install 'netwright[ray]'"
        ) from None


def fit(train: Callable[[Told], Told], wanted: Told, placement: Placement, run: Path) -> Told:
    """Let Ray run a training in several processes, and return what the first of them told at the end, or ``error`` and ``code``.

    Where a process is gone Ray starts all of them again; an error of ours would only come again.

    Args:
        train: Is called in every process, in a process group that is there; what it returns is plain values.
        wanted: Is handed to it, plain values.
        placement: Where and how often.
        run: The run folder; Ray keeps its own notes in ``<run>.ray`` beside it.

    Raises:
        ConfigError: There is no such cluster.
        NetwrightError: The processes died more often than they may be started again.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    try:
        ray.init(address=placement.address, include_dashboard=False, configure_logging=True, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray: {first_line(error)}; expected a cluster that answers; check --address") from error
    trainer = TorchTrainer(
        _reporting,
        train_loop_config={"train": train, "wanted": wanted},
        scaling_config=ScalingConfig(num_workers=placement.workers, use_gpu=placement.gpus),
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if placement.gpus else "gloo", timeout_s=int(placement.timeout)),
        run_config=RunConfig(
            name=f"{run.name}.ray", storage_path=str(run.parent), failure_config=FailureConfig(placement.restarts)
        ),
    )
    try:
        return dict(trainer.fit().metrics or {})
    except Exception as error:  # whatever Ray makes of it; run.json tells the rest
        raise NetwrightError(f"ray: {first_line(error)}; expected processes that live; see the lines above") from error
    finally:
        ray.shutdown()


def _reporting(told: Mapping[str, Any]) -> None:
    """Train in a process of Ray, and tell it what came of it."""
    from ray import train as ray_train

    ray_train.report(_together(told["train"], told["wanted"]))


def _together(train: Callable[[Told], Told], wanted: Told) -> Told:
    """Train, and end for the reason of the process that failed first: its error is told, one that is gone is raised."""
    import torch.distributed as dist

    from netwright.distributed.failures import Links, LostError, Reports, parted

    reports = Reports(dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size())
    links = Links.of(dist)
    try:
        found = train(wanted)
    except Exception as error:
        parted(links, error, dist.destroy_process_group)  # the others stop waiting
        first = reports.settled(error)
        if isinstance(first, NetwrightError) and not isinstance(first, LostError):
            return {"error": str(first), "code": first.exit_code}
        raise first from error
    reports.left()
    return found
