"""What an epoch draws: how many rows a step has, and the chance of each train row. Floor 9."""

from __future__ import annotations

from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.data.sampling import Floats, class_chances
from netwright.errors import ConfigError
from netwright.pipeline.inputs import Inputs

CAME = 'data.sampling: "balanced" came'


def batch_size_of(config: RunConfig, inputs: Inputs) -> int:
    """Return the rows of a step: no more than there are."""
    return min(config.data.batch_size, len(inputs.split.train))


def refuse_sampling(config: RunConfig, inputs: Inputs) -> None:
    """Refuse balanced sampling of rows that it cannot draw.

    Raises:
        ConfigError: The rows have no single class each, or lie in a map.
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
    if isinstance(inputs.raw, Mapped):
        raise ConfigError(
            f"{CAME}; the rows lie in a map, whose order is worked out without a list of its rows; expected rows in memory; write "
            'training.class_weight = "balanced", or data.storage = "memory" if they fit'
        )


def chances_of(config: RunConfig, inputs: Inputs) -> Floats | None:
    """Return the chance of each train row in a draw of an epoch, float64 ``(rows,)``; None where each row comes once."""
    return None if config.data.sampling is None else class_chances(inputs.target.of(inputs.split.train))
