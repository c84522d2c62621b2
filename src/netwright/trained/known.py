"""A trained network with labelled rows: what it gives for some of them, and which of them are no independent draws. Floor 13."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.data.targets import Target
from netwright.evaluation.own_metrics import Metric
from netwright.evaluation.scoring import Scores, score
from netwright.exporting.bundle import Program
from netwright.model.task import Task
from netwright.pipeline.bench import executing
from netwright.sources.sequences import Raw

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """A trained network and labelled rows, and the figures of one's own."""

    config: RunConfig
    program: Program
    task: Task
    raw: Raw | Mapped
    target: Target
    metrics: tuple[Metric, ...] = ()

    def scores(self, rows: Rows) -> Scores:
        """Return the loss and the outputs of some rows, or of all their steps."""
        program, target = self.program, self.target
        with executing(self.config, program.device):
            whole = target.per_step or isinstance(self.raw, Mapped)
            examples = program.preparation.examples(self.raw, None if whole else rows)
            values = target.values if whole else target.of(rows)
            examples = examples.with_target(self.task.spell_target(values), target.per_step).to(program.device)
            chosen = rows if whole else np.arange(len(rows))
            return score(program.forward, self.task.loss_function, examples, chosen, self.config.data.batch_size)

    def decoded(self, outputs: Tensor) -> Floats:
        """Return outputs as probabilities, scores or values in the user's units."""
        return np.asarray(self.program.outcome.decoding(outputs))
