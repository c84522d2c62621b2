"""What an epoch draws: how many rows a step has, and the chance of each train row. Floor 12."""

from __future__ import annotations

import numpy as np

from netwright.config.schema import RunConfig
from netwright.data.batches import steps_per_epoch
from netwright.data.mapped import Mapped
from netwright.data.sampling import Floats, Rows, class_chances
from netwright.errors import ConfigError
from netwright.rows.inputs import Inputs

CAME = 'data.sampling: "balanced" came'


def batch_size_of(config: RunConfig, inputs: Inputs) -> int:
    """Return the rows of a step: no more than there are."""
    return min(config.data.batch_size, len(inputs.split.train))


def refuse_sampling(config: RunConfig, inputs: Inputs) -> None:
    """Refuse balanced sampling of rows that it cannot draw.

    Raises:
        ConfigError: The rows have no single class each, or lie in a map that does not stay in memory.
    """
    if config.data.sampling is None:
        return
    target = inputs.target
    if target.task == "multilabel":
        raise ConfigError(
            f"{CAME}; a row has several labels, and drawn for one it brings the others; expected one class a row; write "
            'training.class_weight = "balanced"'
        )
    if target.task == "regression":
        raise ConfigError(f"{CAME}; the task is regression, which has no classes; leave it out")
    if target.per_step:
        raise ConfigError(
            f'{CAME}; every step of a row has a class; expected one class a row; write training.class_weight = "balanced"'
        )
    if isinstance(inputs.raw, Mapped) and inputs.raw.windows is not None:
        raise ConfigError(
            f"{CAME}; the map of the rows does not fit into half of the free memory, and rows drawn anywhere in it would be read "
            'from the disk one by one; expected a smaller table; write training.class_weight = "balanced"'
        )


def chances_of(config: RunConfig, inputs: Inputs) -> Floats | None:
    """Return the chance of each train row in a draw of an epoch, float64 ``(rows,)``; None where each row comes once."""
    if config.data.sampling is None or isinstance(inputs.raw, Mapped):
        return None
    return class_chances(inputs.target.of(inputs.split.train))


def by_class(config: RunConfig, inputs: Inputs) -> tuple[Rows, tuple[int, ...] | None]:
    """Return the train rows; of a map that is drawn from by class sorted by it, off memory, and where each class begins."""
    train = inputs.split.train
    if config.data.sampling is None or not isinstance(inputs.raw, Mapped):
        return train, None
    classes = np.asarray(inputs.target.of(train))
    counts = np.bincount(classes)
    begins = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    return inputs.raw.beside(train[np.argsort(classes, kind="stable")]), tuple(begins.tolist())


def planned_steps(config: RunConfig, inputs: Inputs) -> tuple[int, int, int]:
    """Return the epochs and steps that resolved settings plan at most, and the steps of an epoch."""
    training, rows = config.training, len(inputs.split.train)
    each = steps_per_epoch(rows, batch_size_of(config, inputs), config.data.last_batch or "keep")
    epochs, most = training.epochs or 0, training.steps
    steps = each * epochs if most is None else min(most, each * epochs)
    return (min(epochs, -(-steps // each)) if each else epochs), steps, each
