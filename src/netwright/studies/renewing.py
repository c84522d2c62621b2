"""The figures over seeds or splits, worked out again where one of them went on alone. Floor 15."""

from __future__ import annotations

from pathlib import Path

from netwright import files
from netwright.distributed.world import World
from netwright.errors import NetwrightError, first_line
from netwright.lifecycle.run import Run
from netwright.pipeline.observing import Listener
from netwright.pipeline.telling import Told
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.runfolder.membership import status_of, waiting_for
from netwright.studies.crossing import CrossValidation, figures_over, sum_up_splits
from netwright.studies.differing import settings_apart
from netwright.studies.repeating import sum_up_seeds

ALIKE = ("training.epochs", "training.optimizer", "model", "data.batch_size")  # settings in which seeds or folds are one


def renewed(run: Run, observe: Listener, world: World) -> Run:
    """Return a run; where it is one of several seeds or splits whose figures are of other weights, they are worked out again.

    Args:
        run: As it ended; the figures wait for one that has not.
        observe: Is told that they were worked out, or what they wait for.
        world: Of its processes; the first writes.
    """
    summary = folders.summary_of(run.folder) if world.leads else None
    if summary is None or run.record["status"] != "done":
        return run
    try:
        _renew(summary, observe)
    except (NetwrightError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:  # the run itself is well
        told = f"{type(error).__name__}: {first_line(error)}"
        observe(
            Told(f"{summary}: not worked out again ({told}); repeat the command with --run-dir {summary.parent}", "warning")
        )
    return run


def _renew(summary: Path, observe: Listener) -> None:
    told, folder = folders.read_json(summary), summary.parent
    runs = tuple(folder / str(name) for name in told["runs"])
    what = f"the figures over the {len(runs)} {'seeds' if summary.name == folders.SEEDS else 'folds'} of {folder}"
    if waiting := waiting_for(runs):
        lacks = "tested" if status_of(waiting) == "done" else "done"
        observe(Told(f"{what} wait for {waiting}, which is not {lacks}", "note"))
        return
    if summary.name == folders.SEEDS:
        found = sum_up_seeds(folder, tuple(map(int, told["seeds"])), runs).to_json()
        if found == told:
            return
        files.write_json(summary, found)
    elif CrossValidation(folder, runs, figures_over(runs)).to_json()["figures"] == told["figures"]:
        return
    else:
        sum_up_splits(folder, runs)
    for path, *values in settings_apart([read_config(run) for run in runs]):
        if path.startswith(ALIKE):
            unlike = ", ".join(f"{value} ({run.name})" for value, run in zip(values, runs, strict=True))
            observe(
                Told(
                    f"{what} are of unlike runs: {path} is {unlike}; go on with the others too, or take it for what it is",
                    "warning",
                )
            )
    observe(Told(f"{what} are worked out again: {summary}"))
