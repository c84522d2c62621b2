"""Which settings of a run may be others for files that are read after it: how they are written, not what they mean. Floor 1."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from netwright.config.read import apply_setting, build_config, to_toml
from netwright.config.schema import RunConfig
from netwright.errors import ConfigError

WRITTEN = ("delimiter", "encoding", "header", "columns", "decimal", "thousands", "missing_values", "labels", "sheet")


def read_otherwise(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """Return the settings of a run by which other files are read.

    Args:
        config: The run's own.
        settings: Texts such as ``data.decimal=,``.

    Raises:
        ConfigError: One that shaped the run, or that cannot be.

    Example:
        >>> read_otherwise(RunConfig(), ["data.decimal=,", "data.delimiter=;"]).data.decimal
        ','
    """
    tree = tomllib.loads(to_toml(config))
    for text in settings:
        path = text.partition("=")[0].strip()
        if path.removeprefix("data.").partition(".")[0] not in WRITTEN or not path.startswith("data."):
            known = ", ".join(f"data.{name}" for name in WRITTEN)
            raise ConfigError(f"{path}: it shaped the run; expected how another file is written: {known}; leave {text} out")
        apply_setting(tree, text)
    return build_config(tree)
