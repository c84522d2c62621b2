"""Testing a run: its own rows read again, what the network gives for labelled rows, and what that says of it. Floor 9."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.data import labels
from netwright.data.mapped import Mapped
from netwright.data.sequences import Raw, Sequences
from netwright.data.targets import Target
from netwright.errors import CheckpointError, DivergedError
from netwright.evaluation.scoring import score
from netwright.evaluation.testing import all_figures
from netwright.exporting.bundle import Program
from netwright.model.task import Task
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import executing
from netwright.pipeline.inputs import Inputs, load


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


def figures(
    folder: Path,
    config: RunConfig,
    program: Program,
    task: Task,
    raw: Raw | Mapped,
    target: Target,
    rows: npt.NDArray[np.int64],
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """Return the figures of labelled rows, and the decoded outputs."""
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
    true = target.of(rows)
    shown = [labels.shown(label) for label in target.classes]
    lengths = raw.lengths[rows] if program.per_step and isinstance(raw, Sequences) else None
    found = all_figures(target.task, true, decoded, scores.loss, shown, program.outcome.decoding, lengths)
    return {"n": len(true), **found}, decoded
