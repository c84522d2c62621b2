"""The test of a run that trained by a step of its user's: the figures that ``evaluate`` returns, counted as a look. Floor 13."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from netwright import files
from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError, ConfigError
from netwright.evaluation.own_steps import evaluated
from netwright.exporting.bundle import Program
from netwright.model.task import Task
from netwright.pipeline.bench import executing
from netwright.pipeline.custom import NO_FIGURES, Custom, name_of
from netwright.rows.inputs import Inputs
from netwright.runfolder import folder as folders


def test_by_figures(
    folder: Path, config: RunConfig, program: Program, inputs: Inputs | None, custom: Custom, weights: str
) -> dict[str, Any]:
    """Test a network that a step of its user's trained, on the run's own test rows; write test.json and count the look.

    Args:
        folder: The run folder.
        config: The resolved settings.
        program: The network.
        inputs: All rows; None where the run was loaded from its folder.
        custom: The step and what returns the figures.
        weights: Which the network holds, in words.

    Returns:
        The content of test.json: rows, looks, weights and figures.

    Raises:
        ConfigError: It has no test rows or no figures.
        CheckpointError: What returns the figures is not there.
    """
    function = custom.evaluate
    if config.training.evaluate is None:
        raise ConfigError(f"{folder}: {NO_FIGURES}; expected evaluate=; train it with such a function")
    if function is None or inputs is None:
        raise CheckpointError(
            f"{folder}: its figures come from {config.training.evaluate}, a Python object; test the run that nw.train "
            "returned"
        )
    rows = inputs.split.test
    if not len(rows):
        raise ConfigError(f"{folder}: the run has no test rows; expected some; set data.split.test")
    target, numbered = inputs.target, inputs.target.task in ("binary", "multiclass")
    task = Task(target.task, "", function, 1, program.outcome.decoding, numbered)
    with executing(config, program.device):
        examples = program.preparation.examples(inputs.raw)
        examples = examples.with_target(task.spell_target(target.values), target.per_step)
        figures = evaluated(
            function, name_of(function), program.model, examples.to(program.device), rows, config.data.batch_size
        )
    found: dict[str, Any] = {"n": len(rows), "looks": 0, "weights": weights}
    found["metrics"] = {name: {"value": value} for name, value in figures.items() if np.isfinite(value)}
    found["notes"] = [f"evaluate: {name} is {value}" for name, value in figures.items() if not np.isfinite(value)]
    found["looks"] = folders.look(folder, inputs.digest, files.digest_bytes(rows.astype("<i8").tobytes()))
    files.write_json(folder / folders.TEST, found)
    return found
