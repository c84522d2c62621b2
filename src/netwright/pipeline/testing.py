"""Testing a run: its own rows read again, what the network gives for labelled rows, and what that says of it. Floor 9."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.data import cells, labels
from netwright.data.mapped import Mapped
from netwright.data.sequences import Raw, Sequences
from netwright.data.tables import Table
from netwright.data.targets import Target
from netwright.errors import CheckpointError, DataError, DivergedError
from netwright.evaluation.scoring import Scores, score
from netwright.evaluation.testing import Drawn, Verdict, all_figures
from netwright.exporting.bundle import Program
from netwright.model.losses import loss_of_each
from netwright.model.task import Task
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import executing
from netwright.pipeline.inputs import Inputs, load
from netwright.pipeline.reading import markers_of


def own_inputs(folder: Path, config: RunConfig, record: dict[str, Any]) -> Inputs:
    """Read the run's own data again, and refuse other data than those it was trained on."""
    if (config.data.source or "").startswith(OBJECT):
        raise CheckpointError(
            f"{folder}: the run was trained on Python objects; test it from Python, run.test((X, y)), or give a file"
        )
    inputs = load(config)
    if "digest" not in record.get("data", {}):
        raise CheckpointError(f"{folder}/run.json: no data digest; expected the record of a run; check the file")
    if inputs.digest != record["data"]["digest"]:
        raise CheckpointError(
            f"{inputs.source}: the data changed since training ({record['data']['digest'][:19]} -> "
            f"{inputs.digest[:19]}); expected the same file; put it back, or name the new file as DATA"
        )
    saved = folders.read_split(folder)
    if saved.digest() != inputs.split.digest():
        raise CheckpointError(f"{folder}: split.npz is not the split of its config; expected equal; check the run")
    return inputs


def judge(
    folder: Path,
    config: RunConfig,
    program: Program,
    task: Task,
    raw: Raw | Mapped,
    target: Target,
    rows: npt.NDArray[np.int64],
) -> tuple[dict[str, Any], Verdict]:
    """Return the figures of labelled rows, and what the network gave for them.

    Args:
        folder: Of the run.
        config: Its settings.
        program: Preparation, network, decoding.
        task: With the loss.
        raw: All rows.
        target: Of all rows.
        rows: Which of them.
    """
    scores, decoded = decode(folder, config, program, task, raw, target, rows)
    true = target.of(rows)
    verdict = Verdict(target.task, true, decoded, program.outcome.decoding, drawn_together(config, program, raw, rows))
    losses = loss_of_each(task.loss_function, scores.outputs, task.spell_target(true))
    if losses is not None and not np.isclose(float(losses.mean()), scores.loss, rtol=1e-4, atol=1e-6):
        losses = None  # the mean of the loss is another than that over the rows
    shown = [labels.shown(label) for label in target.classes]
    found = all_figures(verdict, scores.loss, shown, None if losses is None else losses.numpy())
    return {"n": len(true), **found}, verdict


def decode(
    folder: Path,
    config: RunConfig,
    program: Program,
    task: Task,
    raw: Raw | Mapped,
    target: Target,
    rows: npt.NDArray[np.int64],
) -> tuple[Scores, npt.NDArray[np.float64]]:
    """Return outputs and loss of labelled rows, and the decoded outputs; see `judge`.

    Raises:
        DivergedError: A decoded output is not finite.
    """
    device = program.device
    with executing(config, device):
        whole = target.per_step or isinstance(raw, Mapped)
        examples = program.preparation.examples(raw, None if whole else rows)
        values = target.values if whole else target.of(rows)
        examples = examples.with_target(task.spell_target(values), target.per_step).to(device)
        chosen = rows if whole else np.arange(len(rows))
        scores = score(program.forward, task.loss_function, examples, chosen, config.data.batch_size)
    decoded = np.asarray(program.outcome.decoding(scores.outputs))
    if not np.isfinite(decoded).all():
        count = int((~np.isfinite(decoded)).any(axis=1).sum())
        raise DivergedError(
            f"{folder}: the network gives no finite value for {count} of {len(rows)} rows; expected finite outputs; "
            "train with a lower learning rate"
        )
    return scores, decoded


def drawn_together(config: RunConfig, program: Program, raw: Raw | Mapped, rows: npt.NDArray[np.int64]) -> Drawn | None:
    """Return which rows are no independent draws: the steps of a row, the rows of a group, neighbours in a series.

    Errors of forecasts are alike over the steps between forecast and answer at least; blocks of the series are drawn
    (Carlstein, The use of subseries values for estimating the variance of a general statistic, 1986).
    """
    if program.per_step and isinstance(raw, Sequences):
        return Drawn(np.repeat(np.arange(len(rows)), raw.lengths[rows]), "steps of a row")
    if config.data.window is not None and isinstance(raw, Sequences):
        length = max(config.data.horizon or 1, int(round(len(rows) ** (1 / 3), 6)))
        return Drawn(np.arange(len(rows)) // length, f"blocks of {length} steps") if length > 1 else None
    group, table = config.data.split.group, raw.about if isinstance(raw, Sequences) else raw
    if group is None or not isinstance(table, Table) or group not in table.names:
        return None
    try:
        values = cells.group_values(table, group, markers_of(config.data))
    except DataError:
        return None  # new rows need no group
    return Drawn(np.unique(values[rows], return_inverse=True)[1].astype(np.int64), group)
