"""The heart of the verb resume: what may have changed, what must not, and whether the result is exact. Floor 14."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netwright import files
from netwright.checkpoint import collective, store
from netwright.checkpoint.store import Checkpoint
from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.config.values import shortened
from netwright.distributed.world import ALONE, World
from netwright.errors import CheckpointError, ConfigError, DataError
from netwright.lifecycle.changes import WITHOUT_EFFECT, Change, changed, worked_out_otherwise
from netwright.lifecycle.exactness import inexact
from netwright.lifecycle.run import Run, load_run
from netwright.lifecycle.running import remove_told, run_along, run_to_the_end
from netwright.numerals import counted
from netwright.pipeline.bench import Bench, executing, prepare
from netwright.pipeline.custom import Custom, maker
from netwright.pipeline.dealing import with_chosen
from netwright.pipeline.job import EXECUTION, execution, make_job
from netwright.pipeline.network import OwnModule
from netwright.pipeline.observing import Listener
from netwright.pipeline.rates import own_rates, schedule_kept
from netwright.pipeline.sharing import PartsError, refuse_halving, shared_settings
from netwright.pipeline.stopping import longer, steps_done
from netwright.pipeline.telling import Told
from netwright.pipeline.together import agreed
from netwright.rows.fetching import fetched
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import CHECKPOINTS
from netwright.runfolder.restarts import ended_by_signal, held
from netwright.runfolder.weights import epochs_done
from netwright.trained.testing import gone


@dataclass(frozen=True)
class Objects:
    """What a run that was made in Python gets again."""

    data: Any = None
    module: OwnModule | None = None
    loss: Any = None
    code: tuple[Path, ...] = ()
    custom: Custom = Custom()
    world: World = ALONE


def resume_run(
    folder: Path,
    objects: Objects,
    settings: Sequence[str],
    observe: Listener,
    require_exact: bool,
    auto_micro_batch: bool,
    test: bool | None = None,
) -> Run:
    """Go on with a run from its newest verified checkpoint.

    Args:
        folder: The run folder.
        objects: Rows, network and loss from Python, and files that may run.
        settings: Texts such as ``training.epochs=50``.
        observe: Is told remarks and epochs.
        require_exact: Whether a result that is not exact is an error.
        auto_micro_batch: See `netwright.lifecycle.running.start`.
        test: Whether to end with the test; None as the run was started.

    Raises:
        CheckpointError: Data, network or a setting changed; or no checkpoint verifies.
        FolderInUseError: Another process trains it.
    """
    world = objects.world
    refuse_halving(auto_micro_batch, world)
    record = world.told(folders.read_record(folder))
    config, changes = changed(folder, settings)
    tested = test if test is not None else bool(record.get("tests_at_end", True))
    finished = _has_finished(folder, config, record, changes)
    looks = tested and world.leads
    needless = finished and _lacking(folder, config, record, looks, objects) is None
    with held(folder, world, needless):
        if ended_by_signal(record, world):
            observe(Told(f"a signal stopped it; started again, it stays so; to go on: netwright resume {folder}"))
            return _loaded(folder, objects)
        if finished:
            return _finished(folder, objects, record, looks, observe)
        found = _found(folder, config, world, observe)
        done, wanted = epochs_done(found.parts), config.training.epochs
        if wanted is not None and wanted < done and any(one.path == "training.epochs" for one in changes):
            epochs = counted(done, "epoch")
            raise ConfigError(f"training.epochs: {wanted} came; {folder} has {epochs} done already; set a larger number")
        shared = shared_settings(config, world, found.parts[EXECUTION].get("world", 1))
        bench = agreed(world, lambda settings: _bench_again(folder, settings, record, objects), shared)
        for line in told(found, bench, changes, require_exact):
            observe(line)
        with executing(bench.config, bench.device):
            job = make_job(bench, folder, lambda text, kind="note": observe(Told(text, kind)))
            if not world.leads:
                return run_along(bench, job, found.parts)
            entry = {
                "time": folders.now(),
                "step": found.parts["progress"]["step"],
                "changed": [str(one) for one in changes],
            }
            _note_resumption(bench, folder, [*record.get("resumed", []), entry])
            return run_to_the_end(bench, job, found.parts, observe, tested, auto_micro_batch)


def _found(folder: Path, config: RunConfig, world: World, observe: Listener) -> Checkpoint:
    """Return the newest checkpoint that all processes can read; what a crash left is removed.

    Raises:
        CheckpointError: None verifies.
    """
    if world.leads:
        for place in (folder, folder / "model"):
            files.remove_dead(place)
        store.sweep(folder / CHECKPOINTS)

    def warn(problem: str) -> None:
        observe(Told(problem, "warning"))

    if world.alone:
        return store.newest(folder / CHECKPOINTS, warn)
    return collective.newest(folder / CHECKPOINTS, world, config.training.strategy == "fsdp", warn)


def _note_resumption(bench: Bench, folder: Path, resumed: Sequence[Mapping[str, Any]]) -> None:
    """Write down that a run goes on, and remove what was made of its weights so far."""
    remove_told(folder)
    files.write_text(folder / folders.CONFIG, folders.config_text(bench.config, folder))
    folders.update_record(folder, {"status": "running", "launch": bench.world.launch_told, "resumed": list(resumed)})


def _has_finished(folder: Path, config: RunConfig, record: Mapping[str, Any], changes: Sequence[Change]) -> bool:
    """Tell whether nothing is left to train under the settings.

    Raises:
        ConfigError: And one was changed that would change nothing.
    """
    if record["status"] != "done" or _goes_on(config, record):
        return False
    if lost := ", ".join(one.path for one in changes if one.path.startswith(WITHOUT_EFFECT)):
        why, what = record.get("why"), longer(config, record, folder)
        raise ConfigError(f"{folder}: finished ({why}), so {lost} would change nothing; expected {what}")
    return True


def _goes_on(config: RunConfig, record: Mapping[str, Any]) -> bool:
    """Tell whether a finished run has something left to do under the settings."""
    training, done = config.training, int(record.get("epochs") or 0)
    best = (record.get("best") or {}).get("epoch", done)
    stopping = training.early_stopping
    if steps_done(training, record) or record.get("final") or done >= (training.epochs or 0):
        return False
    return isinstance(stopping, str) or stopping is None or done - best < stopping.patience


def _lacking(folder: Path, config: RunConfig, record: Mapping[str, Any], test: bool, objects: Objects) -> str | None:
    """Return what a crash kept a finished run from writing, its test or its report; None where it has both."""
    own = config.training
    figures = own.step is None or own.evaluate is not None
    if test and figures and record["split"].get("test") and not (folder / folders.TEST).is_file():
        return folders.TEST
    if objects.custom.trial is None and objects.world.leads and not (folder / folders.REPORT).is_file():
        return folders.REPORT
    return None


def _finished(folder: Path, objects: Objects, record: Mapping[str, Any], test: bool, observe: Listener) -> Run:
    """Return a run that has nothing left to train; a test or report that a crash prevented is made up for."""
    observe(Told(f"finished already: {record.get('why')}; nothing is left to do"))
    run = _loaded(folder, objects)
    own = run.config.training
    if own.step is not None and own.evaluate is not None and run.tested is None:
        run.inputs = _bench_again(folder, run.config, record, objects).inputs
    lacks = _lacking(folder, run.config, record, test, objects)
    if lacks == folders.TEST:
        observe(Told("the test was not made yet"))
        run.test()
    elif lacks == folders.REPORT:
        run.report()
    return run


def _loaded(folder: Path, objects: Objects) -> Run:
    """Return a run as it lies in its folder, with its objects from Python."""
    run = load_run(folder, model=objects.module, code=objects.code)
    run.custom, run.loss = objects.custom, objects.loss
    return run


def _bench_again(folder: Path, config: RunConfig, record: Mapping[str, Any], objects: Objects) -> Bench:
    """Read, prepare and build again, and refuse data, code or settings that are not those of the run.

    Raises:
        CheckpointError: What differs is named.
    """
    _refuse_changed_code(folder, config, objects.code)
    try:
        with fetched(config.data, objects.world):
            bench = prepare(
                _with_copy(folder, _as_kept(config), objects.code),
                str(record.get("name", folder.name)),
                data=objects.data,
                module=objects.module,
                loss=objects.loss,
                code=objects.code,
                command=f"netwright resume {folder}",
                custom=objects.custom,
                world=objects.world,
            )
    except DataError as error:
        if objects.data is None and (place := gone(config.data)) is not None:
            raise CheckpointError(
                f"{folder}: the run read its rows from {place}, which is not there; expected the same rows there; put them back"
            ) from error
        raise CheckpointError(f"{error}; the data are not those the run was trained on") from error
    except PartsError as error:
        raise CheckpointError(
            f"{folder}: {error.what}; a run that goes on keeps its batches: use one process, or fewer"
        ) from error
    bench = replace(bench, config=bench.config.model_copy(update={"model": config.model}))
    now, then = bench.inputs.digest, str(record.get("data", {}).get("digest"))
    if now != then:
        raise CheckpointError(
            f"{bench.inputs.source}: the data changed since the run began ({then[:19]} -> {now[:19]}, {record['data'].get('rows')} "
            f"-> {bench.inputs.raw.rows} rows); expected the same; put the file back, or train a new run"
        )
    if folders.read_split(folder).digest() != bench.inputs.split.digest():
        raise CheckpointError(
            f"{folder}: the split is not that of split.npz; expected the same rows; check the run, or "
            "go on with the netwright that began it"
        )
    for path, old, new in worked_out_otherwise(with_chosen(config, bench.config), bench.config):
        raise CheckpointError(
            f"{folder}: {path} {shortened(str(old))} -> {shortened(str(new))} is worked out now; expected as in config.toml; "
            f"{_advice(old, record)}"
        )
    return bench


def _advice(old: Any, record: Mapping[str, Any]) -> str:
    """Say what to do where something is worked out that the config says otherwise."""
    if OBJECT in str(old):
        return "hand the same Python object over"
    return f"use the netwright that began the run ({record.get('netwright')})"


def _as_kept(config: RunConfig) -> RunConfig:
    """Return settings without weights to start from: a checkpoint holds those of the moment."""
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": None, "head": None})})


def _with_copy(folder: Path, config: RunConfig, code: Sequence[Path]) -> RunConfig:
    """Return settings that name the run's own copy of a class where the command line names that one."""
    if config.model.module is None:
        return config
    original, _, name = config.model.module.rpartition(":")
    copy = folder / "model" / "source" / Path(original).name
    if not any(file.resolve() == copy.resolve() for file in code):
        return config
    model = config.model.model_copy(update={"module": f"{copy.absolute()}:{name}"})
    return config.model_copy(update={"model": model})


def _refuse_changed_code(folder: Path, config: RunConfig, code: Sequence[Path]) -> None:
    """Refuse an own class whose file is not what the run was trained with."""
    if config.model.module is None:
        return
    original = Path(config.model.module.rpartition(":")[0])
    copy = folder / "model" / "source" / original.name
    for file in code:
        if file.is_file() and file.resolve() == original.resolve() and copy.is_file():
            now, then = files.digest_file(file), files.digest_file(copy)
            if now != then:
                raise CheckpointError(
                    f"{file}: changed since the run began ({then[:19]} -> {now[:19]}); expected the same code; put it back: "
                    f"its copy is {copy}"
                )


def told(found: Checkpoint, bench: Bench, changes: Sequence[Change], require_exact: bool) -> list[Told]:
    """Return the lines that say where a run goes on, and whether its result is that of a run that never stopped.

    Raises:
        CheckpointError: It is not, and an exact one is required.
    """
    config, progress = bench.config, found.parts["progress"]
    own = own_rates(config, bench.custom, maker(config, bench.custom, bench.device), bench.network.module)
    reasons = inexact(found.parts[EXECUTION], execution(config, bench.device, bench.world), ruled=own[1])
    if bench.device.type == "cuda":
        reasons.append("CUDA kernels may add in another order")
    if bench.custom.seat is not None and found.parts[EXECUTION].get("members", 1) == 1:
        reasons.append("its steps are taken together with those of other runs from here on, where they can be")
    where = f"step {progress['step']}, epoch {progress['epoch']}"
    if progress["within"]:
        where += f", {progress['within']} of its steps done"
    lines = [Told(f"changed on purpose: {change}") for change in changes]
    kept = schedule_kept(config.training.schedule, [change.path for change in changes], own)
    lines += [Told(line, "note") for line in (*kept, *bench.rates[1:])]
    if reasons:
        text = f"resume: not exact ({', '.join(reasons)})"
        if require_exact:
            raise CheckpointError(f"{found.path}: {text}; --require-exact came; restore what differs or leave it out")
        return [Told(f"from {found.path.name} ({where})"), *lines, Told(text, "note")]
    return [Told(f"from {found.path.name} ({where})"), *lines, Told("resume: exact")]
