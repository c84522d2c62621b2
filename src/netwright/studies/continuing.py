"""What Python users call to go on with a run, or with the step that ended it; the command line calls the same. Floor 15."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from netwright.config.read import as_settings
from netwright.distributed.joining import join
from netwright.distributed.world import World
from netwright.lifecycle.replaying import Replay, replay_run
from netwright.lifecycle.resuming import Objects, resume_run
from netwright.lifecycle.run import Run
from netwright.pipeline.asking import argued, code_files, gather_all, setting_texts
from netwright.pipeline.custom import Custom, Evaluate, Step, Stop
from netwright.pipeline.observing import Audience, Observer, nobody
from netwright.seeding import one_at_a_time
from netwright.studies.renewing import renewed
from netwright.tracking.records import Tracker
from netwright.training.own_optimizer import Factories
from netwright.training.own_schedule import Build


@one_at_a_time
def resume(
    run: str | Path,
    *,
    model: nn.Module | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    optimizer: Factories | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    step: Step | None = None,
    evaluate: Evaluate | None = None,
    stop: Stop | None = None,
    schedule: Build | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Observer | Tracker] = (),
    require_exact: bool = False,
    auto_micro_batch: bool = False,
    world: World | None = None,
    **keywords: Any,
) -> Run:
    """Go on with a run from its newest checkpoint; on the same machine the result is, bit for bit, that of no interruption.

    Args:
        run: The run folder.
        model: The network again, where it was a Python object: a module, or ``(Class, arguments)``; trained in place.
        data: The rows again, where they were Python objects.
        loss, optimizer, metrics, step, evaluate, stop, schedule: Again, where they were functions.
        code: Python files that may run.
        settings: What may change, such as ``"training.epochs=50"``: epochs, early stopping, the learning rate, checkpoints,
            workers; and threads, device and micro_batch, which are not exact.
        **keywords: The same by its own name, such as ``epochs=50``.
        observers: As for `train`.
        require_exact: Whether a result that is not exact is an error.
        auto_micro_batch, world: As for `train`.

    Returns:
        The run; a finished one as it is.

    Raises:
        CheckpointError: Data, code or a setting changed, or no checkpoint verifies; what differs is named.
        FolderInUseError: Another process trains it.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = nw.train("sklearn:iris", epochs=2, run_dir=folder + "/iris")
        ...     len(nw.resume(run.folder, epochs=5).history)
        5
    """
    given = {"optimizer": optimizer, "loss": loss, "metrics": metrics, "step": step}
    given |= {"evaluate": evaluate, "stop": stop, "schedule": schedule}
    written = {name: value for name, value in given.items() if isinstance(value, str)}  # settings, and no objects
    again = {name: value for name, value in given.items() if name not in written}
    model, others = argued(model, setting_texts(settings))
    changes = [*others, *as_settings({**keywords, **written})]
    asked = gather_all(None, model, data, again.pop("loss", None), code, (), again)
    with join() if world is None else nullcontext(world) as shared:
        objects = Objects(asked.data, asked.module, asked.loss, asked.code, asked.custom, shared)
        observe = Audience(observers if shared.leads else [nobody])
        return renewed(resume_run(Path(run), objects, changes, observe, require_exact, auto_micro_batch), observe, shared)


def replay(
    run: str | Path,
    *,
    model: nn.Module | None = None,
    loss: Any = None,
    optimizer: Factories | None = None,
    step: Step | None = None,
    code: Sequence[str | Path] = (),
) -> Replay:
    """Run the step that ended a run again, from its capsule; see `netwright.lifecycle.replaying.replay_run`."""
    custom = Custom(optimizer, step=step)
    return replay_run(Path(run), model=model, loss=loss, code=list(code_files(code)), custom=custom)
