"""What a run without a described network is trained with, filled in where the user has written nothing. Floor 9."""

from __future__ import annotations

from typing import Any

from netwright.config.calls import OBJECT, parse_call
from netwright.config.data_schema import PreparationConfig
from netwright.config.schema import RunConfig
from netwright.config.signatures import USUAL, named, optimizers
from netwright.config.training_schema import TrainingConfig
from netwright.data.array_preparation import ArrayPreparation
from netwright.data.arrays import Arrays
from netwright.data.sequences import Raw
from netwright.data.tables import Table
from netwright.errors import ConfigError
from netwright.model.defaults import Recipe, image_recipe, table_recipe, volume_recipe


def recipe_of(config: RunConfig, raw: Raw, rows: int, task: str) -> Recipe | None:
    """Return the recipe of a default network; None where the config describes one, and for rows that none was measured for.

    Args:
        config: The settings as they were written.
        raw: The rows.
        rows: How many of them train.
        task: What is learned.
    """
    model = config.model
    if model.layers is not None or model.module is not None or model.object is not None or model.backbone is not None:
        return None
    amounts = task == "regression"
    if isinstance(raw, Arrays):
        return _array_recipe(raw, rows, amounts)
    return table_recipe(rows, amounts) if isinstance(raw, Table) else None


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


def filled(config: RunConfig, recipe: Recipe | None, own_rates: bool = False) -> RunConfig:
    """Return the settings with those of a recipe where nothing is written; without one only ``Default(...)`` gets its name.

    Args:
        config: The settings as they were written.
        recipe: How long a run takes is worked out later, see `netwright.pipeline.stopping.duration`.
        own_rates: Whether an optimizer or a schedule came from Python; then no schedule is filled in.
    """
    optimizer = _optimizer(config.training, recipe)
    changed: dict[str, Any] = {"optimizer": optimizer}
    if recipe is not None and recipe.schedule is not None and not own_rates and _goes_with_recipe(config.training):
        changed["schedule"] = recipe.schedule
    config = config.model_copy(update={"training": config.training.model_copy(update=changed)})
    if recipe is None:
        return config
    data = config.data
    changes: dict[str, Any] = {}
    if "batch_size" not in data.model_fields_set:
        changes["batch_size"] = recipe.batch_size
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


def _goes_with_recipe(training: TrainingConfig) -> bool:
    """Tell whether the optimizer is that of a recipe, or it with other arguments, and no schedule is written."""
    written = training.optimizer if "optimizer" in training.model_fields_set else USUAL
    return written.startswith(USUAL) and "schedule" not in training.model_fields_set
