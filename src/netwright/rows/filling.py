"""What a run without a described network is trained with, filled in where the user has written nothing. Floor 11."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from netwright.config.calls import OBJECT, parse_call
from netwright.config.data_schema import PreparationConfig
from netwright.config.schema import RunConfig
from netwright.config.signatures import USUAL, named, optimizers
from netwright.config.training_schema import EarlyStoppingConfig, TrainingConfig
from netwright.data.array_preparation import ArrayPreparation
from netwright.data.splits import Split
from netwright.data.targets import Target
from netwright.errors import ConfigError
from netwright.model.recipes import (
    Recipe,
    image_recipe,
    series_recipe,
    table_recipe,
    volume_recipe,
    window_recipe,
)
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Table
from netwright.training.schedulers import PLATEAU

CLASSES = ("binary", "multiclass")


def recipe_of(config: RunConfig, raw: Raw, rows: int, target: Target) -> Recipe | None:
    """Return the recipe of a default network; None where the config describes one, and for rows that none was measured for.

    Args:
        config: The settings as they were written.
        raw: The rows.
        rows: How many of them train.
        target: What is learned.
    """
    model = config.model
    if model.layers is not None or model.module is not None or model.object is not None or model.backbone is not None:
        return None
    amounts = target.task == "regression"
    if _of_numbers(raw, target):
        if config.data.window is not None:
            return window_recipe(rows, amounts)
        return series_recipe(rows)
    if isinstance(raw, Arrays):
        return _array_recipe(raw, rows, amounts)
    return table_recipe(rows, amounts) if isinstance(raw, Table) else None


def _of_numbers(raw: Raw, target: Target) -> bool:
    """Tell whether each row is a series of numbers with one answer; a text is none."""
    if target.per_step:
        return False
    if isinstance(raw, Arrays):
        return raw.layout in ("NCT", "NTC") and len(raw.inputs) == 1
    if not isinstance(raw, Sequences) or raw.symbols:
        return False
    return isinstance(raw.steps, Table) or [values.ndim for values in raw.steps.inputs.values()] == [2]


def _array_recipe(raw: Arrays, rows: int, amounts: bool) -> Recipe | None:
    """Return the recipe of arrays by what their axes mean; None where several come."""
    shapes = [values.shape[1:] for values in raw.inputs.values()]
    if len(shapes) != 1:
        return None
    if len(shapes[0]) == 1:
        return table_recipe(rows, amounts, numbers=None)  # ranks are for tables
    prepared = ArrayPreparation(shapes[0], raw.layout, "none")
    made = {"NCHW": image_recipe, "NCDHW": volume_recipe}.get(prepared.output_layout or "")
    return None if made is None else made(rows, prepared.output_shape)


def all_train(config: RunConfig, recipe: Recipe | None, parts: Container[str], split: Split, task: str) -> bool:
    """Tell whether so few series are there that none is set apart to validate; never where a setting speaks of valid rows.

    Args:
        config: The settings as they were written.
        recipe: That knows when a run ends.
        parts: The names of files or objects of one's own.
        split: With the usual valid rows.
        task: What is learned; amounts keep valid rows, which prediction intervals are made from.
    """
    data, training, evaluation = config.data, config.training, config.evaluation
    if recipe is None or not recipe.fixed or task not in CLASSES or not len(split.valid):
        return False
    read = (
        "valid" in data.split.model_fields_set
        or data.split.file is not None
        or "valid" in parts
        or isinstance(training.early_stopping, EarlyStoppingConfig)
        or PLATEAU in (training.schedule or "")
        or bool(training.metrics)
        or evaluation.temperature
        or "threshold" in evaluation.model_fields_set
    )
    return not read and len(split.train) + len(split.valid) < recipe.few


def filled(config: RunConfig, recipe: Recipe | None, own_rates: bool = False) -> RunConfig:
    """Return the settings with those of a recipe where nothing is written; without one only ``Default(...)`` gets its name.

    Args:
        config: The settings as they were written.
        recipe: How long a run takes is worked out later, see `netwright.pipeline.stopping.duration`. The schedule goes
            with the optimizer.
        own_rates: Whether an optimizer or a schedule came from Python; then no schedule is filled in.
    """
    written: dict[str, Any] = {"optimizer": _optimizer(config.training, recipe)}
    if recipe is not None and recipe.schedule is not None and not own_rates and _as_usual(config.training):
        written["schedule"] = recipe.schedule
    config = config.model_copy(update={"training": config.training.model_copy(update=written)})
    if recipe is None:
        return config
    data = config.data
    changes: dict[str, Any] = {}
    if "batch_size" not in data.model_fields_set:
        changes["batch_size"] = recipe.batch_size
    if recipe.all_train:
        changes["split"] = data.split.model_copy(update={"valid": 0})
    preparation = data.preparation
    if (
        isinstance(preparation, PreparationConfig)
        and "numbers" not in preparation.model_fields_set
        and recipe.numbers is not None
    ):
        changes["preparation"] = preparation.model_copy(update={"numbers": recipe.numbers})
    return config.model_copy(update={"data": data.model_copy(update=changes)})


def _optimizer(training: TrainingConfig, recipe: Recipe | None) -> str:
    """Return the optimizer that is written, or the usual one, with the arguments that ``Default(...)`` changes in it.

    Raises:
        ConfigError: The usual one has no such argument.
    """
    usual = TrainingConfig.model_fields["optimizer"].default if recipe is None else recipe.optimizer
    if "optimizer" not in training.model_fields_set:
        return str(usual)
    written, where = training.optimizer, "training.optimizer"
    if written.startswith(OBJECT) or (call := parse_call(written, where)).name != USUAL:
        return written
    whole = parse_call(usual, where)
    for name, value in named(call, optimizers(), where).kwargs:
        whole = whole.with_keyword(name, value)
    if problem := optimizers().problem(whole, where):
        raise ConfigError(problem)
    return str(whole)


def _as_usual(training: TrainingConfig) -> bool:
    """Tell whether the optimizer is the usual one, maybe with other arguments, and no schedule is written."""
    usual = "optimizer" not in training.model_fields_set or training.optimizer.startswith(USUAL)
    return usual and "schedule" not in training.model_fields_set
