"""A training on copies, for looking: nothing of it is kept, and no generator, weight or file of the run is touched. Floor 15."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.data.usage import Peak
from netwright.pipeline.bench import Bench, executing
from netwright.pipeline.job import Job, Tell, make_job
from netwright.training.freezing import begin_training
from netwright.training.loop import Progress


def say_nothing(text: str, kind: str = "note") -> None:
    """Take a remark and leave it."""


@contextmanager
def on_copies(bench: Bench, tell: Tell = say_nothing) -> Iterator[Job]:
    """Give a training of copies of network and loss, with the run's threads and generators of its own.

    Args:
        bench: What `prepare` made; it stays as it is.
        tell: Is told why steps run otherwise than the settings say.
    """
    module, loss = copy.deepcopy((bench.network.module, bench.network.task.loss_function))
    task = replace(bench.network.task, loss_function=loss)
    copied = replace(bench, network=replace(bench.network, module=module, task=task))
    with executing(bench.config, bench.device):
        job = make_job(copied, Path(), tell, kept=False)
        begin_training(job.engine.model, job.plan.freezing, 1)
        yield job


def feeds(job: Job, first: int = 1) -> Iterator[Feed]:
    """Yield the batches of one epoch after the other, without end.

    Args:
        job: With rows and plan.
        first: The first epoch.
    """
    epoch = first
    while True:
        yield job.plan.feed(job.examples, Progress(epoch=epoch))
        epoch += 1


def endless(job: Job, first: int = 1) -> Iterator[Batch]:
    """Yield batches of one epoch after the other, without end; see `feeds`."""
    steps = job.plan.steps_left(Progress())
    for feed in feeds(job, first):
        for _ in range(steps):
            yield feed.next()


def settled(device: torch.device) -> float:
    """Wait for what a device still has to do, and return the time, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@contextmanager
def memory_of(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Give a function that tells, after the block, the most bytes it took: on a GPU all that torch held, else above before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    with Peak() as peak:
        yield lambda: peak.above
