"""What is said where a step of several processes fails: all of them end, none repeats it. Floor 14."""

from __future__ import annotations

from netwright.checkpoint import store
from netwright.distributed.failures import is_lost, lost
from netwright.errors import ConfigError, DivergedError, NetwrightError, ResourceError, first_line, out_of_memory
from netwright.lifecycle.keeping import Found
from netwright.pipeline.job import Job
from netwright.runfolder.folder import CHECKPOINTS
from netwright.training.loop import StepFailed


def failed_together(job: Job, problem: Found) -> Exception:
    """Return the error that ends a training of several processes, with the step and how to find what spoilt it.

    Args:
        job: What trained.
        problem: A step that failed, or a state that is not finite.
    """
    error = problem.error if isinstance(problem, StepFailed) else problem
    if is_lost(error):
        return lost(error)
    kept = store.checkpoints(job.folder / CHECKPOINTS)
    last = f"last good checkpoint: {kept[0].name}; " if kept else ""
    where = f"at step {problem.step} of {job.world.size} processes"
    alone = f"netwright resume {job.folder}, started as one process, repeats the steps with care and names the rows"
    text = str(error) if isinstance(error, NetwrightError) else f"{type(error).__name__}: {first_line(error)}"
    if out_of_memory(error):
        return ResourceError(
            f"training: out of memory {where} ({text}); expected room for the rows of a process; make data.batch_size smaller or "
            f"start more processes; {last}the run can be resumed"
        )
    if isinstance(error, DivergedError):
        return DivergedError(
            f"training: {text} {where}; expected finite numbers; the bad update was not applied; {last}lower the learning rate "
            f"(training.optimizer.lr) or check the data; {alone}"
        )
    return ConfigError(f"training: {text} {where}; expected a step that works; mend the network or the loss; {last}{alone}")
