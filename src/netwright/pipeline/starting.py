"""From what a user asks for to a run that trains: alone, or as one of the processes that share it. Floor 9."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netwright import files
from netwright.distributed.world import World
from netwright.errors import CheckpointError
from netwright.pipeline import folder as folders
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.pipeline.observing import Audience, Observer
from netwright.pipeline.preflight import be_strict, check_bench
from netwright.pipeline.resuming import Objects, resume_run
from netwright.pipeline.run import Run
from netwright.pipeline.running import start
from netwright.pipeline.several import Manner
from netwright.pipeline.together import agreed
from netwright.tracking.records import Tracker

AGAIN = ("ConfigError", "DataError", "CheckpointError", "DivergedError")  # what a restart does not mend


def refuse_again(folder: Path, world: World) -> None:
    """Refuse to start a run again that ended with an error which would only come back.

    Raises:
        CheckpointError: It is told once more.
    """
    record = world.told(folders.read_record(folder) if world.leads else {})
    why = str(record.get("why"))
    if record.get("status") in ("failed", "diverged") and why.partition(":")[0] in AGAIN:
        raise CheckpointError(
            f"{folder}: ended with {why}; expected something else from starting it again ({world.restarts} so far); mend that, "
            "then netwright resume"
        )


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
    folder = Path(world.told(str(folders.folder_for(run_dir, asked.name))))
    observe = Audience(observers if world.leads else ())
    if world.restarts and world.told((folder / folders.RECORD).is_file()):
        refuse_again(folder, world)
        objects = Objects(asked.data, asked.module, asked.loss, asked.code, asked.custom, world)
        return resume_run(folder, objects, (), observe, False, manner.auto_micro_batch)

    def make() -> Bench:
        if not world.leads:
            return asked.bench(world)
        files.refuse_existing(folder)
        bench = check_bench(asked.bench(world))
        if manner.strict:
            be_strict(bench.findings, observe)
        return bench

    return start(agreed(world, make, asked.config), folder, observe, manner.test, manner.auto_micro_batch)
