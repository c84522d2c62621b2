"""The heart of the verb train: birth of the run folder, training, best and last weights, one look at the test. Floor 14."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netwright import files
from netwright.checkpoint import store
from netwright.data.preparation import settled
from netwright.errors import DivergedError, NetwrightError, first_line
from netwright.exporting.bundle import (
    BEST,
    LAST,
    PREPARATION,
    PREPARATION_TENSORS,
    Outcome,
    Program,
    save_preparation,
    save_weights,
)
from netwright.lifecycle.along import train_along
from netwright.lifecycle.keeping import refuse_little_room
from netwright.lifecycle.mending import Trained, carry_on
from netwright.lifecycle.owners import learning, take, told_again
from netwright.lifecycle.run import Run
from netwright.model.task import Decoding
from netwright.pipeline.bench import Bench, executing
from netwright.pipeline.custom import NO_FIGURES
from netwright.pipeline.dealing import Final, final_weights
from netwright.pipeline.job import Job, make_job
from netwright.pipeline.observing import Listener, begun, ended
from netwright.pipeline.telling import Told, best_of, describe, ending, first_record, skipped_line, time_line
from netwright.pipeline.transferring import freezing_in
from netwright.reporting.diagram import diagram_svg
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import CHECKPOINTS
from netwright.runfolder.weights import epochs_done
from netwright.trained.calibrating import ERRORS, calibrate, with_temperature
from netwright.trained.familiar import keep_hashes
from netwright.trained.known import Known
from netwright.training.signals import StopRequest, stop_on_signals

TOLD = (folders.TEST, folders.PREDICTIONS, folders.REPORT)  # of the weights that are there


def start(bench: Bench, folder: Path, observe: Listener, test: bool, auto_micro_batch: bool = False) -> Run:
    """Let the run folder be born with a checkpoint of step 0, train to the end, and look at the test rows once.

    Args:
        bench: What `prepare` made.
        folder: The run folder to be.
        observe: Is told remarks, epochs, the beginning and the end.
        test: Whether to end with the test.
        auto_micro_batch: Whether to halve the rows that go forward at a time when memory runs out.

    Returns:
        The run with the best weights; ``record["signal"]`` where a signal stopped it.

    Raises:
        DivergedError: A number is not finite; the update is not applied.
        ResourceError: No room for the checkpoints, or memory or disk ran full.
    """
    again = told_again(_learning(bench), folder)
    for line in [*describe(bench), *([] if again is None else [Told(again, "warning")])]:
        observe(line)
    with executing(bench.config, bench.device), ExitStack() as stack:
        job = make_job(bench, folder, lambda text, kind="note": observe(Told(text, kind)))
        if not bench.world.leads:
            return run_along(bench, job, job.beginning({}))
        refuse_little_room(job)
        with files.born(folder) as temporary:
            parts = _write_birth(temporary, bench, job, test)
            lock = files.Lock(temporary, bench.world.launch_told)
            stack.callback(lock.release)
        lock.moved(folder)
        remove_told(folder)  # a member of several had other weights here
        observe(Told(f"folder: {folder} (to follow it elsewhere: netwright watch {folder})"))
        return run_to_the_end(bench, job, parts, observe, test, auto_micro_batch)


def _learning(bench: Bench) -> list[Tensor]:
    """Return what a training changes of its network."""
    return learning(bench.network.module, freezing_in(bench.config, bench.network.module))


def run_along(bench: Bench, job: Job, parts: Mapping[str, Any]) -> Run:
    """Train with the process that writes the run; see `netwright.lifecycle.along`."""
    done, record = train_along(bench, job, parts)
    return _run_of(replace(bench, config=done.job.config), job.folder, record)


def run_to_the_end(
    bench: Bench, job: Job, parts: Mapping[str, Any], observe: Listener, test: bool, auto_micro_batch: bool
) -> Run:
    """Train from a checkpoint, keep best and last weights, and look at the test rows once; the caller holds the lock.

    Args:
        bench, observe, test, auto_micro_batch: See `start`.
        job: What trains, into an existing folder.
        parts: The checkpoint to begin from.
    """
    folder, first, seat = job.folder, time.perf_counter(), bench.custom.seat
    take(_learning(bench), folder)
    stopping = partial(stop_on_signals, warned=bench.world.launched) if seat is None else seat.stopping
    with stopping(bench.custom.until) as stop, _failure_told(folder, observe, trains=True):
        observe(begun(job.config, folder, epochs_done(parts)))
        done = carry_on(bench, job, parts, observe, stop, auto_micro_batch)
        remove_told(folder)  # who looked while it trained has tested weights of before
        digests = _keep(folder, bench.network.module, final_weights(done.job.engine, done.progress, bench.world))
    progress, config, scaler = done.progress, done.job.config, done.job.engine.eager.scaler
    run = _run_of(replace(bench, config=config), folder, folders.read_record(folder))
    record = partial(_record_of, done, stop, digests, first)
    bench.world.told({**run.record, **record()})  # the others need not wait for what the valid rows say
    with _failure_told(folder, observe):
        _calibrate(run)
    folders.update_record(folder, record())
    run.record = folders.read_record(folder)
    observe(Told(ending(progress, config)))
    if scaler is not None:
        observe(Told(skipped_line(scaler.skipped, progress.step)))
    observe(Told(time_line(done.seconds, done.job.engine.played())))
    if stop:
        observe(Told(f"to go on: netwright resume {folder}", "advice"))
    with _failure_told(folder, observe):
        if test and not stop and _testable(bench, observe):
            run.test()
        elif bench.custom.trial is None:
            run.report()
    observe(ended(folder))
    return run


def remove_told(folder: Path) -> None:
    """Remove what was told of the weights that a run had so far: its test, predictions and report.

    Of a run among seeds or splits what was told of all of them goes too: figures, a test of their mean, rows out of fold.
    """
    told = [folder / name for name in TOLD]
    summary = folders.summary_of(folder)
    if summary is not None:
        folders.forget_figures(summary)
        told += [summary.parent / name for name in (*TOLD, folders.OUT_OF_FOLD, ERRORS)]
    for path in told:
        if path.exists():
            files.remove_all(path)


def _record_of(done: Trained, stop: StopRequest, digests: Mapping[str, str], first: float) -> dict[str, Any]:
    """Return what run.json says of the end of a training that began at ``first``, by `time.perf_counter`."""
    progress, config, scaler = done.progress, done.job.config, done.job.engine.eager.scaler
    seconds = {part: round(value, 3) for part, value in done.seconds.items()}
    return {
        "status": "stopped" if stop else "done",
        "ended": folders.now(),
        "why": progress.ended,
        "epochs": progress.epoch if not progress.within else progress.epoch - 1,
        "steps": progress.step,
        "best": best_of(progress, config),
        "seconds": {**seconds, "total": round(time.perf_counter() - first, 3)},
        "weights": dict(digests),
        "played": done.job.engine.played(),
        "signal": stop.signal_number,
        **({} if done.job.members == 1 else {"members": done.job.members}),
        **({} if progress.final is None else {"final": progress.final}),
        **({} if scaler is None else {"skipped_steps": scaler.skipped}),
    }


def _run_of(bench: Bench, folder: Path, record: dict[str, Any]) -> Run:
    """Return the run that a trained network is."""
    inputs, task = bench.inputs, bench.network.task
    program = Program(
        settled(inputs.preparation),
        bench.network.module.to(bench.device).eval(),
        _outcome(bench),
        bench.config.data.batch_size,
        bench.device,
        bench.how,
    )
    return Run(folder, bench.config, program, record, inputs, task.loss_function, bench.custom)


def _testable(bench: Bench, observe: Listener) -> bool:
    """Tell whether a run has test rows, and figures of them."""
    custom = bench.custom
    if custom.step is not None and custom.evaluate is None:
        observe(Told(f"{NO_FIGURES}: no validation, no test; the last weights are kept", "note"))
        return False
    return len(bench.inputs.split.test) > 0


def _calibrate(run: Run) -> None:
    """Keep what the valid rows say of the trained network, and let the run decode with the temperature they gave."""
    if run.inputs is None or run.config.training.step is not None:
        return
    known = Known(run.config, run.program, run.task(), run.inputs.raw, run.inputs.target)
    temperature = calibrate(run.folder, known, run.inputs.split)
    run.program, run.record = with_temperature(run.program, temperature), folders.read_record(run.folder)


def _outcome(bench: Bench) -> Outcome:
    target = bench.inputs.target
    if bench.custom.step is not None:  # predictions are what the network gives
        return Outcome("regression", target.names, (), Decoding("value", 1))
    return Outcome(target.task, target.names, target.classes, bench.network.task.decoding)


@contextmanager
def _failure_told(folder: Path, observe: Listener, trains: bool = False) -> Iterator[None]:
    """Write into run.json how a run failed, whatever failed.

    Args:
        folder: The run folder.
        observe: Is told the end.
        trains: Whether the weights change meanwhile, so that what was told of them is of others now.
    """
    try:
        yield
    except BaseException as error:
        status = "diverged" if isinstance(error, DivergedError) else "failed"
        why = f"{type(error).__name__}: {first_line(error)}"
        try:
            if trains:
                remove_told(folder)  # before the end is told with its figures
            epochs = len(folders.read_history(folder))
            folders.update_record(folder, {"status": status, "ended": folders.now(), "why": why, "epochs": epochs})
            observe(ended(folder))
        except NetwrightError as further:  # the disk is full or gone: the first error is the one to tell
            error.add_note(str(further))
        raise


def _keep(folder: Path, model: nn.Module, weights: Final) -> dict[str, str]:
    """Write the last weights, then the best, and leave the best in the model; return the digest of each file."""
    save_weights(folder / LAST, weights.last)
    if weights.best is not None:
        save_weights(folder / BEST, weights.best)
    model.load_state_dict(weights.kept)
    return {name: files.digest_file(folder / name) for name in (LAST, BEST) if (folder / name).is_file()}


def _write_birth(temporary: Path, bench: Bench, job: Job, test: bool) -> dict[str, Any]:
    """Fill the folder that is about to appear, and return its first checkpoint."""
    record = {**first_record(bench), "tests_at_end": test}
    files.make_folder(temporary / "model" / "source")
    files.write_text(temporary / folders.CONFIG, folders.config_text(bench.config, job.folder))
    folders.write_split(temporary, bench.inputs.split)
    keep_hashes(temporary, bench.config, bench.inputs)
    save_preparation(temporary, bench.inputs.preparation, _outcome(bench))
    source = bench.network.source or _source_of(bench.network.module)
    if source is not None:
        files.copy_file(source, temporary / "model" / "source" / source.name)
    kept = [PREPARATION, PREPARATION_TENSORS, folders.SPLIT]
    if bench.network.start is not None:
        state = bench.network.module.state_dict()
        save_weights(temporary / folders.START, {name: state[name] for name in bench.network.start.taken})
        kept.append(folders.START)
    layers, shape = record["model"]["layers"], record["data"]["shape"]
    files.write_text(temporary / folders.DIAGRAM, diagram_svg(layers, shape, bench.name))
    record["files"] = {name: files.digest_file(temporary / name) for name in kept}
    files.write_json(temporary / folders.RECORD, record)
    with closing(job.journal(temporary, None)) as journal:
        parts = job.beginning(journal.state())
    files.make_folder(temporary / CHECKPOINTS)
    store.save(temporary / CHECKPOINTS, store.name_of(0, 0), parts, 1)
    return parts


def _source_of(module: nn.Module) -> Path | None:
    """Return the user's file that defines a module from Python, or None for torch's own classes and notebooks."""
    kind = type(module)
    if kind.__module__.startswith(("torch.", "torchvision.", "timm.", "netwright.")):
        return None
    try:
        path = Path(inspect.getfile(kind))
    except (TypeError, OSError):
        return None
    return path if path.is_file() else None
