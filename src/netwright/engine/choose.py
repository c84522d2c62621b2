"""From the name of an engine and the size of a step to the engine, the threads and the reason. Floor 5."""

from __future__ import annotations

import os

import torch
from torch import nn

from netwright.engine.base import Engine
from netwright.engine.eager import EagerEngine, Loss
from netwright.errors import ConfigError

# A step below this many multiply-adds (forward and backward) is not worth waking a second thread.
ONE_THREAD = 40_000_000


def choose_device(name: str | None) -> torch.device:
    """Return the device of a setting: cuda if there is one, else cpu; mps only by name.

    Raises:
        ConfigError: The device asked for is not there.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"training.device: {name} came; this machine has {torch.cuda.device_count()} CUDA devices; write cpu or auto"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("training.device: mps came; this machine has none; write cpu or auto")
    return torch.device(name)


def choose_threads(multiply_adds: int, batch_size: int) -> int:
    """Return the number of CPU threads for a step: one for small steps, else one per core this process may use.

    Args:
        multiply_adds: Of one row, forward.
        batch_size: Rows per step.
    """
    if 3 * multiply_adds * batch_size < ONE_THREAD:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def choose_engine(
    name: str, model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer, micro_batch: int | None = None
) -> tuple[Engine, str]:
    """Return the engine and why it was chosen.

    Args:
        name: ``auto`` or ``eager``.
        model: The network on its device.
        loss_function: Of output and target.
        optimizer: Of the model's parameters.
        micro_batch: Rows that go forward and backward at a time; None for the whole batch.
    """
    reason = "asked for" if name == "eager" else "auto: every network runs in it"
    return EagerEngine(model, loss_function, optimizer, micro_batch), reason
