"""The network that several processes train: the run's own, or a copy that is dealt out or whose batch norm counts all rows.

The network of a run stays a plain one: it gets the weights when the training ends. Floor 12.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netwright.config.calls import OBJECT, parse_call
from netwright.config.schema import RunConfig
from netwright.distributed.pieces import whole_parts
from netwright.distributed.world import World
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine
from netwright.engine.sharding import choose_strategy, is_sharded, refuse_unsharded, shard, why_not_sharded
from netwright.errors import ConfigError
from netwright.model.synchronised import batch_norms, synchronised
from netwright.pipeline.network import placed
from netwright.training.averaging import make_averaged
from netwright.training.loop import Progress, shown

COPIES = 4  # of the parameters that a training holds: they, their gradients, two tensors of the optimizer


@dataclass(frozen=True)
class Final:
    """The weights that a training ends with, all rows of each on every process: the last, and the best where there are any."""

    last: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None

    @property
    def kept(self) -> Mapping[str, Tensor]:
        """Those of the run's network."""
        return self.last if self.best is None else self.best


def shared_out(config: RunConfig, model: nn.Module, device: torch.device, world: World) -> RunConfig:
    """Return resolved settings with how processes share the network, ddp or fsdp; those of one process as they are.

    Args:
        config: The settings.
        model: The network.
        device: To train on.
        world: The processes.

    Raises:
        ConfigError: The network or the optimizer cannot be dealt out.
    """
    asked, text = config.training.strategy, config.training.optimizer
    if world.alone or asked == "ddp":
        return config
    optimizer = "" if text.startswith(OBJECT) else parse_call(text, "training.optimizer").name
    chosen = "fsdp"
    if asked == "fsdp":
        refuse_unsharded(model, optimizer)
    elif why_not_sharded(model, optimizer) is not None or config.training.micro_batch is not None:
        chosen = "ddp"
    else:
        weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        chosen = choose_strategy(weights, COPIES, _memory(device, world))
        if chosen == "fsdp" and config.training.engine == "captured":
            raise ConfigError(
                "training.engine: captured came; whole copies of the network are too much for a device, so it is dealt out (fsdp), "
                'whose steps run as they are written; leave it out, or set training.strategy = "ddp"'
            )
    return config.model_copy(update={"training": config.training.model_copy(update={"strategy": chosen})})


def sharing_notes(config: RunConfig, model: nn.Module, world: World) -> list[str]:
    """Return what a user should know of how processes share the network, in words.

    Args:
        config: The resolved settings.
        model: The network.
        world: The processes.
    """
    if world.alone:
        return []
    what = {
        "ddp": "each has the whole network",
        "fsdp": "each holds a piece of every parameter, gradient and optimizer state",
    }
    told = [f"{world.size} processes, strategy {config.training.strategy}: {what[config.training.strategy]}"]
    names = batch_norms(model)
    if names and config.training.sync_batchnorm:
        told.append("batch norm counts the rows of all processes, as one process would")
    elif names:
        told.append(
            f"batch norm ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) counts the rows of each process alone, so the "
            "figures are not those of one process; --set training.sync_batchnorm=true counts all"
        )
    return told


def with_chosen(config: RunConfig, chosen: RunConfig) -> RunConfig:
    """Return the settings of a run with the strategy and the engine that were chosen now, where it leaves them to a choice."""
    training, now = config.training, chosen.training
    found: dict[str, str] = {"strategy": now.strategy} if training.strategy == "auto" else {}
    found |= {"engine": now.engine} if training.engine == "auto" else {}
    return config.model_copy(update={"training": training.model_copy(update=found)})


def _memory(device: torch.device, world: World) -> int:
    """Return the bytes of a device, or the share of a process in the memory of its machine: the same at every call."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    names = getattr(os, "sysconf_names", {})
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else 1 << 62
    return pages * (os.sysconf("SC_PAGE_SIZE") if "SC_PAGE_SIZE" in names else 1) // world.local_size


def network_to_train(
    config: RunConfig, module: nn.Module, device: torch.device, world: World
) -> tuple[nn.Module, Averaged | None]:
    """Return the network that trains, on the device, and the average of its weights where one is wanted.

    Args:
        config: The settings.
        module: The network of the run.
        device: To train on.
        world: The processes; they begin with the weights of the first.
    """
    training = config.training
    dealt = not world.alone and training.strategy == "fsdp"
    own = world.alone or not (dealt or training.sync_batchnorm)
    model = placed(module if own else copy.deepcopy(module), config, torch.device("cpu") if dealt else device)
    if not world.alone:
        world.level([*model.parameters(), *model.buffers()])
    if not own and training.sync_batchnorm:
        model = synchronised(model, device)
    averaged = make_averaged(training.average, model)
    if dealt:
        shard(model, device)
        if averaged is not None:
            shard(averaged.average.module, device)
    return model, averaged


def final_weights(engine: Engine, progress: Progress, world: World) -> Final:
    """Return the weights that a training ends with, the last as they lie in the network; every process must ask.

    What batch norm counted in the last steps is that of the first process, as it is at the beginning of every step.
    """
    world.level(list(shown(engine).buffers()))
    best = progress.best
    found = Final(whole_parts(shown(engine).state_dict()), None if best is None else whole_parts(best.weights))
    _refuse_unfinished(world)
    return found


def whole_beginning(parts: Mapping[str, Any], engine: Engine, world: World) -> dict[str, Any]:
    """Return the checkpoint of a beginning, which the first process writes by itself; every process must ask."""
    found = whole_parts(parts) if is_sharded(engine.model) else dict(parts)
    _refuse_unfinished(world)
    return found


def _refuse_unfinished(world: World) -> None:
    """Refuse to keep what GPUs put together where a process was gone before all had done so.

    Raises:
        netwright.distributed.failures.LostError: It was.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    world.anywhere(False)
