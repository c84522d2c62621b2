"""What settings become once rows and network are known: everything automatic written out, the plan, how steps are executed.

Floor 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.config.training_schema import EarlyStoppingConfig
from netwright.data.batches import steps_per_epoch
from netwright.data.mapped import Mapped
from netwright.engine.base import Execution
from netwright.engine.choose import choose_lanes, choose_threads, kernel_lanes
from netwright.engine.dense_fit import may_be_dense
from netwright.engine.trial import normalises_batches
from netwright.engine.update import Update
from netwright.errors import ConfigError
from netwright.pipeline.drawing import batch_size_of, by_class, chances_of, refuse_sampling
from netwright.pipeline.network import Network
from netwright.pipeline.stopping import duration, monitored
from netwright.pipeline.transferring import freezing_in
from netwright.rows.inputs import Inputs
from netwright.rows.mapping import described
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.training.loop import Plan

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve(
    config: RunConfig,
    inputs: Inputs,
    network: Network,
    device: torch.device,
    optimizer: str,
    engine: str,
    objects: Mapping[str, str],
    figures: Sequence[str],
) -> RunConfig:
    """Return the settings with everything automatic written out; a run from them gives the same bits.

    Raises:
        ConfigError: Settings that the rows or the network cannot have.
    """
    training, data = config.training, config.data
    rows = len(inputs.split.train)
    refuse_sampling(config, inputs)
    batch_size = batch_size_of(config, inputs)
    last_batch = _last_batch(config, network, rows, batch_size)
    watched = figures if len(inputs.split.valid) else ()
    epochs, stopping = duration(config, watched, steps_per_epoch(rows, batch_size, last_batch), inputs.recipe)
    threads, lanes = threads_and_lanes(config, network, batch_size, engine if device.type == "cpu" else "")
    written = {
        "epochs": epochs,
        "early_stopping": stopping,
        "optimizer": optimizer,
        "loss": None if "step" in objects else network.task.loss,
        "class_weight": None,  # it stands in the loss
        **objects,
        "device": str(device),
        "threads": threads,
        "lanes": lanes,
        "engine": engine,
    }
    origin: dict[str, Any] = {"source": inputs.source} if inputs.source.startswith(OBJECT) else {}
    origin |= described(inputs.raw) if isinstance(inputs.raw, Mapped) else {"storage": "memory"}
    if isinstance(inputs.raw, Table | Mapped):
        origin["target"] = inputs.target.names[0] if len(inputs.target.names) == 1 else list(inputs.target.names)
    if data.header is False and isinstance(inputs.raw, Table | Mapped):
        origin |= {"columns": list(inputs.raw.names), "header": None}
    decided = {
        "last_batch": last_batch,
        "task": inputs.target.task,
        "augmentation": [str(call) for call in config.transform_calls()],
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update={**origin, **decided}),
            "model": config.model.model_copy(update=network.described),
            "training": training.model_copy(update=written),
        }
    )


def threads_and_lanes(config: RunConfig, network: Network, batch_size: int, engine: str) -> tuple[int, int]:
    """Return the threads of each operation and the cores that share a step, which some of an engine on the CPU can be.

    Threads that are written are all that are used, be it by operations or, one a lane, by kernels of dense layers.
    """
    training, layers, work = config.training, network.summary.layers, network.summary.multiply_adds
    threads = training.threads or choose_threads(work, batch_size, network.summary.by_steps)
    if engine == "compiled" and may_be_dense(network.module, network.task.loss_function, batch_size, torch.device("cpu")):
        lanes = kernel_lanes(work, batch_size)
        return threads, training.lanes or min(lanes, training.threads or lanes)
    if training.lanes is not None or training.threads is not None:
        return training.threads or (1 if (training.lanes or 1) > 1 else threads), training.lanes or 1
    if engine != "captured":
        return threads, 1
    dense = sum(layer.multiply_adds for layer in layers if layer.text.startswith(("Linear(", "PeriodicEmbeddings(")))
    lanes = choose_lanes(work, dense, batch_size)
    return (1 if lanes > 1 else threads), lanes


def _last_batch(config: RunConfig, network: Network, rows: int, batch_size: int) -> str:
    """Return what happens to a smaller last batch; one row is dropped where BatchNorm could not train on it."""
    freezing = freezing_in(config, network.module)
    normalised = normalises_batches(network.module, () if freezing is None else freezing.always_resting)
    if normalised and batch_size == 1:
        raise ConfigError("data.batch_size: 1 came; BatchNorm needs two rows or more in a step; make it larger")
    lonely = normalised and rows % batch_size == 1
    if lonely and config.data.last_batch == "keep":
        raise ConfigError(
            f"data.last_batch: {rows} train rows in batches of {batch_size} leave one row, which BatchNorm cannot train on; "
            "expected two or more; leave last_batch out (the row is dropped) or change data.batch_size"
        )
    return config.data.last_batch or ("drop" if lonely else "keep")


def leaves_one(size: int, micro_batch: int | None) -> bool:
    """Tell whether a batch of some rows in parts has a part of one row.

    Example:
        >>> leaves_one(32, 31), leaves_one(32, 16), leaves_one(1, 16)
        (True, False, False)
    """
    return micro_batch is not None and size > 1 and (micro_batch == 1 or (size > micro_batch and size % micro_batch == 1))


def plan_of(config: RunConfig, inputs: Inputs) -> Plan:
    """Return the plan of a resolved config."""
    stopping = config.training.early_stopping
    monitor, mode = monitored(config)
    rows, begins = by_class(config, inputs)
    return Plan(
        rows=rows,
        batch_size=batch_size_of(config, inputs),
        last_batch=config.data.last_batch or "keep",
        epochs=config.training.epochs or 0,
        seed=config.training.seed,
        steps=config.training.steps,
        seconds=config.training.seconds,
        monitor=monitor,
        mode=mode,
        patience=stopping.patience if isinstance(stopping, EarlyStoppingConfig) else None,
        lengths=_lengths(inputs),
        mapped=isinstance(inputs.raw, Mapped),
        windows=inputs.raw.windows if isinstance(inputs.raw, Mapped) else None,
        chances=chances_of(config, inputs),
        begins=begins,
    )


def _lengths(inputs: Inputs) -> npt.NDArray[np.int64] | None:
    """Return the steps of each train row where rows differ in length."""
    if not isinstance(inputs.raw, Sequences) or (inputs.raw.lengths == inputs.raw.lengths[0]).all():
        return None
    return inputs.raw.lengths[inputs.split.train]


def execution_of(config: RunConfig, by_name: bool = False) -> Execution:
    """Return how the settings want steps to be executed."""
    training = config.training
    update = Update(
        training.micro_batch,
        AUTOCAST.get(training.precision),
        training.clip_grad_norm,
        training.clip_grad_value,
        training.l1,
        training.sharpness,
    )
    return Execution(training.engine, by_name, update, training.lanes or 1)
