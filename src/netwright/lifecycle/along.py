"""A run in those processes that do not write it: they train along, and end with the same network. Floor 14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netwright.lifecycle.mending import Trained, carry_on
from netwright.pipeline.bench import Bench
from netwright.pipeline.dealing import final_weights
from netwright.pipeline.job import Job
from netwright.training.signals import stop_on_signals


def train_along(bench: Bench, job: Job, parts: Mapping[str, Any]) -> tuple[Trained, dict[str, Any]]:
    """Train with the first process from a checkpoint; the network ends with the best weights.

    Args:
        bench: Rows and network.
        job: What trains.
        parts: The checkpoint.

    Returns:
        How the training ended, and run.json as the first process wrote it then.
    """
    with stop_on_signals(bench.custom.until, bench.world.launched) as stop:
        done = carry_on(bench, job, parts, lambda record: None, stop, False)
    bench.network.module.load_state_dict(final_weights(done.job.engine, done.progress, bench.world).kept)
    record: dict[str, Any] = bench.world.told({})
    return done, record
