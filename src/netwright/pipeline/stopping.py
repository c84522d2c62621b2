"""How long a run may take, which figure chooses its best epoch, and whether more or less of it is better. Floor 12."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netwright.config.calls import OBJECT
from netwright.config.metrics import KNOWN, known_mode
from netwright.config.schema import RunConfig
from netwright.config.training_schema import EarlyStoppingConfig, TrainingConfig
from netwright.errors import ConfigError, did_you_mean
from netwright.model.recipes import Recipe
from netwright.runfolder.folder import CONFIG
from netwright.training.loop import SECONDS_DONE

LONGEST = 200  # epochs, where neither epochs nor steps are written
PATIENCE = 20


def duration(
    config: RunConfig, figures: Sequence[str], steps: int, recipe: Recipe | None = None
) -> tuple[int, EarlyStoppingConfig | str]:
    """Return the epochs and the stopping rule: 200 with patience 20 where neither epochs nor steps are written.

    Args:
        config: The settings.
        figures: Of the valid rows, without `valid_`; none where there are no such rows.
        steps: Of an epoch.
        recipe: Of a default network that was measured with other numbers.
    """
    training = config.training
    epochs, stopping = training.epochs, training.early_stopping
    if epochs is None and training.steps is not None:
        epochs = math.ceil(training.steps / steps)
    elif epochs is None:
        watched = bool(figures) and stopping != "none"
        patience = PATIENCE if recipe is None else recipe.patience
        epochs = recipe.epochs if recipe is not None and (watched or patience is None) else LONGEST
        if stopping is None and figures and patience is not None:
            stopping = EarlyStoppingConfig(patience=patience)
    if not isinstance(stopping, EarlyStoppingConfig):
        return epochs, "none"
    if not figures:
        raise ConfigError(
            "training.early_stopping: there are no valid rows to watch, or no figures of them; set data.split.valid (and hand "
            "evaluate= over with step=), or leave it out"
        )
    known = ["train_loss", *(f"valid_{name}" for name in figures)]
    if stopping.monitor not in known:
        raise ConfigError(
            f"training.early_stopping.monitor: {stopping.monitor!r} came; {figure_meant(stopping.monitor, known)}"
        )
    return epochs, stopping.model_copy(update={"mode": stopping.mode or mode_of(config, stopping.monitor)})


def figure_meant(name: str, known: Sequence[str]) -> str:
    """Return advice on a column of history.csv that is not there: the metric of scikit-learn that would make it, or a near one.

    Example:
        >>> figure_meant("valid_roc_auc", ["valid_loss"])
        'write training.metrics = ["roc_auc_score"], and valid_roc_auc_score here'
    """
    stem = name.removeprefix("valid_")
    made = [metric for metric in KNOWN if stem and metric.startswith(stem)]
    return f'write training.metrics = ["{made[0]}"], and valid_{made[0]} here' if made else did_you_mean(name, known)


def mode_of(config: RunConfig, monitor: str) -> str:
    """Return whether more of a column of history.csv is better (max) or less (min).

    Raises:
        ConfigError: A figure of one's own, of which neither its name nor anybody says it.
    """
    name = monitor.removeprefix("valid_")
    mode = None if f"{OBJECT}{name}" in config.training.metrics else known_mode(name.removeprefix("train_"))
    if mode is None:
        raise ConfigError(
            f"training.early_stopping: {monitor} is a figure of one's own; expected whether more of it is better; write mode = "
            '"max" or mode = "min"'
        )
    return mode


def monitored(config: RunConfig) -> tuple[str, str]:
    """Return the column of history.csv that chooses the best epoch, and min or max."""
    stopping = config.training.early_stopping
    if isinstance(stopping, EarlyStoppingConfig):
        return stopping.monitor, stopping.mode or "min"
    return "valid_loss", "min"


def steps_done(training: TrainingConfig, record: Mapping[str, Any]) -> bool:
    """Tell whether a run has taken all steps that its settings allow."""
    return training.steps is not None and int(record.get("steps") or 0) >= training.steps


def longer(config: RunConfig, record: Mapping[str, Any], folder: Path) -> str:
    """Return what makes a finished run last longer: a setting that it is resumed with, or that of a new run.

    Args:
        config: The settings it would be resumed with.
        record: Its run.json.
        folder: Of the run.
    """
    training, final = config.training, str(record.get("final") or "")
    again = f"netwright train {folder / CONFIG} --set"
    if steps_done(training, record):
        return f"a new run of more steps ({again} training.steps=N)"
    if final and training.seconds is not None and final.endswith(SECONDS_DONE):
        return f"a new run with more seconds ({again} training.seconds=N)"
    if final:
        return "a new run whose own stop condition lets it go on"
    stopping, done = training.early_stopping, int(record.get("epochs") or 0)
    if done < (training.epochs or 0) and isinstance(stopping, EarlyStoppingConfig):
        return "more patience with it (--set training.early_stopping.patience=N), or a new run"
    return "more epochs with it (--set training.epochs=N), or a new run"
