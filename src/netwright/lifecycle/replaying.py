"""The heart of the verb replay: the step that failed, run again from its capsule, layer by layer. Floor 14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from netwright.checkpoint import store
from netwright.data.batches import Batch
from netwright.engine.choose import choose_engine
from netwright.errors import CheckpointError, first_line
from netwright.lifecycle.mending import CAPSULE
from netwright.lifecycle.run import load_run
from netwright.pipeline.bench import NOTHING_OWN, executing
from netwright.pipeline.custom import Custom, maker, refuse_objects_missing
from netwright.pipeline.resolving import execution_of
from netwright.pipeline.transferring import freezing_in
from netwright.runfolder import folder as folders
from netwright.training.careful import CarefulEngine
from netwright.training.diagnosis import Diagnosis, diagnose
from netwright.training.freezing import begin_training
from netwright.training.state import put_back


@dataclass(frozen=True)
class Replay:
    """A step that failed, run again: its number and epoch, the rows of its batch, what was said then and now, and the layers.

    ``now`` is None where the step works; ``error`` is the exception itself, for a traceback.
    """

    step: int
    epoch: int
    rows: tuple[int, ...]
    then: str
    now: str | None
    diagnosis: Diagnosis
    error: Exception | None = None

    @property
    def reproduced(self) -> bool:
        """Whether the step failed again."""
        return self.now is not None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        told = {"step": self.step, "epoch": self.epoch, "rows": list(self.rows), "then": self.then, "now": self.now}
        return {**told, "reproduced": self.reproduced, "diagnosis": self.diagnosis.to_json()}


def replay_run(
    folder: Path,
    *,
    model: nn.Module | None = None,
    loss: Any = None,
    code: Sequence[Path] = (),
    custom: Custom = NOTHING_OWN,
) -> Replay:
    """Run the step that ended a run again, from the state before it, on its batch; the data are not read.

    Args:
        folder: The run folder.
        model: The network again, its class, or its class with arguments, for a run that was made from a module in Python.
        loss: The loss again, where it was a callable.
        code: Python files that may run.
        custom: Optimizer and training step again, where they were Python objects.

    Raises:
        CheckpointError: No step of the run failed, or the capsule is damaged.
    """
    record = folders.read_record(folder)
    if not (folder / CAPSULE).is_dir():
        raise CheckpointError(
            f"{folder}: no capsule; expected a run in which a step failed, this one is {record['status']}; look at its history"
        )
    parts = store.read_parts(folder / CAPSULE)
    run = load_run(folder, model=model, code=code)
    refuse_objects_missing(run.config, custom, ("optimizer", "step"))
    run.loss = custom.own_step or loss
    network, function, device = run.model, run.task().loss_function, run.program.device
    optimizer = maker(run.config, custom, device)(network)
    engine = choose_engine(execution_of(run.config), network, function, optimizer).eager
    held, told = parts["batch"], parts["told"]
    begin_training(network, freezing_in(run.config, network), told["epoch"])
    batch = Batch(
        {name: value.to(device) for name, value in held["inputs"].items()},
        held["target"].to(device),
        held["rows"].to(device),
        None if held["lengths"] is None else held["lengths"].to(device),
    )
    problem: Exception | None = None
    with executing(run.config, device):
        put_back(parts, engine, device)
        found = diagnose(network, function, batch)
        put_back(parts, engine, device)
        try:
            CarefulEngine(engine, device).train_step(batch)
        except Exception as error:  # an own module or loss may raise anything
            problem = error
    now = None if problem is None else f"{type(problem).__name__}: {first_line(problem)}"
    rows = tuple(batch.rows.tolist())
    return Replay(told["step"], told["epoch"], rows, told["error"], now, found, problem)
