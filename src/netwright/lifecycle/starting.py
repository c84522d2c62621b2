"""From what a user asks for to a run that trains: alone, or as one of the processes that share it. Floor 14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from netwright import files
from netwright.config.schema import RunConfig
from netwright.distributed.world import World
from netwright.lifecycle.resuming import Objects, resume_run
from netwright.lifecycle.run import Run
from netwright.lifecycle.running import start
from netwright.lifecycle.several import Manner
from netwright.pipeline.ahead import imported_ahead_once
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.pipeline.observing import Audience, Observer, nobody
from netwright.pipeline.preflight import be_strict, check_bench
from netwright.pipeline.sharing import refuse_halving
from netwright.pipeline.together import agreed
from netwright.rows.fetching import fetched
from netwright.runfolder import folder as folders
from netwright.runfolder.restarts import goes_on, refuse_again
from netwright.tracking.records import Tracker


def train_asked(
    world: World, asked: Asked, run_dir: str | Path | None, observers: Sequence[Observer | Tracker], manner: Manner
) -> Run:
    """Prepare a run and train it; where a launcher started all processes again, go on with the run of that folder.

    Args:
        world: The processes; the first one writes and tells.
        asked: Settings and objects.
        run_dir: The run folder, or None for one that is named by the time.
        observers: Are told each remark and epoch.
        manner: Whether to test, to be strict, and to halve the rows that go forward at a time.
    """
    refuse_halving(manner.auto_micro_batch, world)
    folder = Path(world.told(str(folders.folder_for(run_dir, asked.name))))
    observe = Audience(observers if world.leads else [nobody])
    if goes_on(folder, world):
        refuse_again(folder, world)
        objects = Objects(asked.data, asked.module, asked.loss, asked.code, asked.custom, world)
        return resume_run(folder, objects, (), observe, False, manner.auto_micro_batch)

    def make(config: RunConfig) -> Bench:
        if world.leads:
            files.refuse_existing(folder)
        with fetched(asked.config.data, world):
            bench = replace(asked, config=config).bench(world)
        if not world.leads:
            return bench
        bench = check_bench(bench)
        if manner.strict:
            be_strict(bench.findings, observe)
        return bench

    with imported_ahead_once(asked.config, manner.test, world.alone):
        return start(agreed(world, make, asked.config), folder, observe, manner.test, manner.auto_micro_batch)
