"""From the name of an engine and the size of a step to the engine, the threads and the reason. Floor 7."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import nn

from netwright.beside import cores
from netwright.distributed.world import ALONE, World
from netwright.engine.averaged import Averaged
from netwright.engine.base import Engine, Execution, Loss
from netwright.engine.captured import CapturedEngine
from netwright.engine.compiled import CompiledEngine
from netwright.engine.dense import DenseEngine, dense_engine
from netwright.engine.dense_cpu import dense_cpu_engine
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.engine.own_step import OwnStep
from netwright.engine.scaling import scaler_for
from netwright.engine.trial import LARGEST, WITHOUT_CLOSURE, why_not_recorded
from netwright.errors import ConfigError, first_line
from netwright.recording.graphs import CudaGraphs

# A step below this many multiply-adds (forward and backward) is not worth waking a second thread; of recurrent layers, whose
# threads meet at each step of a sequence, below this many.
ONE_THREAD, ONE_THREAD_BY_STEPS = 30_000_000, 200_000_000
# A captured step below this many is not worth a barrier between cores; more cores than this wait longer than they work.
ONE_LANE = 1_000_000
MOST_LANES = 4
MANY_THREADS = 400_000_000  # above it threads inside the operations, elementwise ones too, are as fast
DENSE = 0.9  # share of the multiply-adds that must be in Linear layers


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


def choose_threads(multiply_adds: int, batch_size: int, by_steps: int = 0) -> int:
    """Return the number of CPU threads of each operation: one for small steps, else one per core this process may use.

    Args:
        multiply_adds: Of one row, forward.
        batch_size: Rows per step.
        by_steps: Those multiply-adds that are in recurrent layers.
    """
    least = ONE_THREAD_BY_STEPS if 2 * by_steps > multiply_adds else ONE_THREAD
    return 1 if 3 * multiply_adds * batch_size < least else cores()


def choose_lanes(multiply_adds: int, dense: int, batch_size: int) -> int:
    """Return the number of cores that share a captured step whose operations run on one thread each.

    Products of matrices are dealt out to cores with the same bits (see `netwright.recording.lanes`), which is faster than
    several threads in each; convolutions and recurrent layers are not.

    Args:
        multiply_adds: Of one row, forward.
        dense: Those of them in products of matrices by weights (Linear).
        batch_size: Rows per step.
    """
    work = 3 * multiply_adds * batch_size
    if not ONE_LANE <= work <= MANY_THREADS or dense < DENSE * multiply_adds:
        return 1
    return min(cores(), MOST_LANES)


def kernel_lanes(multiply_adds: int, batch_size: int) -> int:
    """Return the number of cores that share a step in kernels of dense layers, which has few barriers whatever its size is.

    Args:
        multiply_adds: Of one row, forward.
        batch_size: Rows per step.
    """
    return min(cores(), MOST_LANES) if 3 * multiply_adds * batch_size >= ONE_LANE else 1


@final
class Arithmetic:
    """A block with so many threads for each operation, and products of float32 numbers so exact; the caller's are put back.

    Args:
        threads: None for as many as there are.
        products: ``highest`` or ``high`` (TF32), see torch.set_float32_matmul_precision; None for the caller's.
    """

    def __init__(self, threads: int | None, products: str | None = None) -> None:
        self._wanted = threads, products

    def __enter__(self) -> tuple[int | None, str]:
        """Return threads and products; None and nothing for the caller's."""
        threads, products = self._wanted
        self._before = torch.get_num_threads(), None if products is None else _products()
        if threads is not None and threads != self._before[0]:
            torch.set_num_threads(threads)
        if products is not None and products != self._before[1]:
            torch.set_float32_matmul_precision(products)
        return threads, products or ""

    def __exit__(self, *error: object) -> None:
        threads, products = self._before
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if products is not None and _products() != products:
            torch.set_float32_matmul_precision(products)


def _products() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError as error:  # a backend was told apart: then torch gives no answer for all of them
        raise ConfigError(
            f"the precision of products is set for a backend, torch.backends...fp32_precision ({first_line(error)}); expected "
            "torch's usual one; undo it, and write training.precision = 'tf32' where that is meant"
        ) from error


def choose_engine(
    how: Execution,
    model: nn.Module,
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    tell: Callable[[str], None] = lambda text: None,
    averaged: Averaged | None = None,
    world: World = ALONE,
) -> Engine:
    """Return an engine.

    Args:
        how: Steps shall be executed.
        model: The network on its device.
        loss_function: Of output and target.
        optimizer: Of the model's parameters.
        tell: Is told why steps run otherwise.
        averaged: The mean of the weights, where one is wanted.
        world: The processes that take each step together.
    """
    eager = EagerEngine(
        model, loss_function, optimizer, how.update, scaler_for(how.update, model, world.size), averaged=averaged
    )
    if not world.alone:
        return _shared_engine(eager, how, model, world, tell)
    if how.engine not in ("captured", "compiled"):
        return eager
    device = _device_of(model)
    compiled: CompiledEngine | DenseEngine | None = None
    if how.engine == "compiled":
        made = partial(CompiledEngine, eager)
        if device.type == "cpu" and (on_cpu := dense_cpu_engine(eager, made, how.lanes, tell)) is not None:
            return on_cpu
        compiled = (dense_engine(eager, made, CudaGraphs(device)) if device.type == "cuda" else None) or made()
    if not _repeatable(eager):
        return compiled or eager
    if device.type == "cuda" and (compiled is None or sum(value.numel() for value in model.parameters()) <= LARGEST):
        return GraphedEngine(eager, CudaGraphs(device), how.by_name and compiled is None, tell, compiled)
    return compiled or CapturedEngine(eager, how.lanes, how.by_name, tell)


def _shared_engine(
    eager: EagerEngine, how: Execution, model: nn.Module, world: World, tell: Callable[[str], None]
) -> Engine:
    """Return the engine of several processes; torch's wrappings are imported where they are needed."""
    from netwright.engine.sharding import is_sharded
    from netwright.engine.shared import SharedEngine

    device = _device_of(model)
    if how.engine != "captured" or device.type != "cuda" or is_sharded(model) or not _repeatable(eager):
        return SharedEngine(eager, world)
    from netwright.engine.shared_graphs import SharedGraphedEngine

    return SharedGraphedEngine(eager, CudaGraphs(device), world, how.by_name, tell)


def _repeatable(eager: EagerEngine) -> bool:
    """Tell whether a step is one piece of work that can be recorded or captured."""
    own, kind = isinstance(eager.loss_function, OwnStep), type(eager.optimizer).__name__
    return why_not_recorded(eager.update) is None and not own and kind not in WITHOUT_CLOSURE


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
