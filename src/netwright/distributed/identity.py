"""Which launch started the processes: torchrun's own name of it, or the job and start of SLURM. Floor 5.

A restart that a launcher makes keeps the name; another launch, at the same time or later, has another one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netwright import files

NAMELESS = "none"  # what torchrun calls a launch without --standalone and --rdzv-id


@dataclass(frozen=True)
class Launch:
    """A launch by its name; ``job`` and ``start`` are those of SLURM, where a job that was requeued starts once more.

    Example:
        >>> first, again = Launch("77.0", "77", 0), Launch("77.1", "77", 1)
        >>> again.ended(first.to_json()), first.ended(again.to_json()), again.same(first.to_json())
        (True, False, False)
    """

    name: str
    job: str = ""
    start: int = 0
    restarts: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as run.json and the lock keep them."""
        return {"name": self.name, "job": self.job, "start": self.start, "restarts": self.restarts}

    def same(self, told: object) -> bool:
        """Tell whether plain values are those of this launch."""
        return isinstance(told, Mapping) and (told.get("name"), told.get("job"), told.get("start")) == (
            self.name,
            self.job,
            self.start,
        )

    def ended(self, told: object) -> bool:
        """Tell whether plain values are those of processes that were ended before these began: an earlier start of the same."""
        if not isinstance(told, Mapping):
            return False
        if self.same(told):
            return _number(told.get("restarts")) < self.restarts
        return bool(self.job) and told.get("job") == self.job and _number(told.get("start")) < self.start


def _number(value: object) -> float:
    return value if isinstance(value, int) else float("inf")


def launch_of(variables: Mapping[str, str], restarts: int) -> Launch | None:
    """Return the launch that started this process; None where nothing names it.

    Args:
        variables: Of the environment.
        restarts: How often the launcher has started all processes again.
    """
    job = variables.get("SLURM_JOB_ID", "")
    if job:
        job = f"{variables.get('SLURM_CLUSTER_NAME', '')}/{job}"
    told = variables.get("SLURM_RESTART_COUNT", "0")
    start = int(told) if told.isascii() and told.isdigit() else 0
    name = variables.get("TORCHELASTIC_RUN_ID", "")
    if name == NAMELESS:  # then the process of torchrun itself, which lives on while its workers are started again
        name = files.process_name(os.getppid())
    elif not name and job:
        name = f"step {variables.get('SLURM_STEP_ID', '')}"
    return Launch(name, job, start, restarts) if name else None
