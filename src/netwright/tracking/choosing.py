"""Which tracker a name of the command line means, and whether its packages are there; torch is not imported. Floor 10."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from netwright.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from netwright.tracking.records import Tracker

PACKAGES = {  # of each tracker: what must be importable
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}
CLASSES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "WandB"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse unknown trackers and those whose packages are missing, before anything is written.

    Args:
        names: Such as ``["tensorboard"]``.

    Raises:
        ConfigError: The name, and the command that installs what is missing.

    Example:
        >>> check_trackers(["tensorbord"])
        Traceback (most recent call last):
        netwright.errors.ConfigError: tracker 'tensorbord': no such one; did you mean tensorboard?
    """
    for name in names:
        if name not in PACKAGES:
            raise ConfigError(f"tracker {name!r}: no such one; {did_you_mean(name, PACKAGES)}")
        missing = [package for package in PACKAGES[name] if find_spec(package) is None]
        if missing:
            raise ConfigError(
                f"tracker {name}: package {missing[0]} is not installed; expected the extra {name}; "
                f"run: pip install 'netwright[{name}]'"
            )


def make_trackers(names: Sequence[str]) -> list[Tracker]:
    """Return the trackers of some names, each once, writing into the run folder."""
    check_trackers(names)
    made = import_module("netwright.tracking")
    return [getattr(made, CLASSES[name])() for name in dict.fromkeys(names)]
