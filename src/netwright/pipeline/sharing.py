"""Settings that only a training in one process can have. Floor 9."""

from __future__ import annotations

from netwright.config.schema import RunConfig
from netwright.distributed.world import World
from netwright.errors import ConfigError
from netwright.pipeline.custom import Custom

MIXING = ("MixUp", "CutMix")


def refuse_alone(config: RunConfig, custom: Custom, world: World) -> None:
    """Refuse settings that only one process can have.

    Raises:
        ConfigError: One of them; what to do is told.
    """
    if world.alone:
        return
    training, size = config.training, world.size
    if config.data.batch_size % size:
        near = max(size, round(config.data.batch_size / size) * size)
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} rows came for {size} processes; expected a multiple of {size}, as each "
            f"process takes an equal part; set data.batch_size = {near}"
        )
    if training.engine in ("captured", "compiled"):
        raise ConfigError(
            f"training.engine: {training.engine} came under {size} processes; expected auto or eager: steps that processes share "
            "run as they are written; leave it out"
        )
    if custom.step is not None:
        raise ConfigError(
            f"step: an own training step came under {size} processes; expected one process, as it makes the update itself; "
            "start it without a launcher"
        )
    if training.micro_batch is not None:
        raise ConfigError(
            f"training.micro_batch: {training.micro_batch} came under {size} processes; expected none; start more processes, each "
            "takes a smaller part"
        )
    mixing = [call.name for call in config.transform_calls() if call.name in MIXING]
    if mixing:
        raise ConfigError(
            f"data.augmentation: {mixing[0]} came under {size} processes; expected none that mixes the rows of a batch, of "
            "which each process has a part; leave it out"
        )


def shared_settings(config: RunConfig, world: World) -> RunConfig:
    """Return the settings of a run that goes on, with steps that its processes can share: as they are written."""
    if world.alone or config.training.engine == "eager":
        return config
    training = config.training.model_copy(update={"engine": "eager", "lanes": 1})
    return config.model_copy(update={"training": training})
