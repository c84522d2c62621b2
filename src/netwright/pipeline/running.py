"""The heart of the verb train: birth of the run folder, training, best and last weights, one look at the test. Floor 9."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from netwright import files
from netwright.config.read import to_toml
from netwright.config.schema import RunConfig
from netwright.data.batches import Examples, Rows
from netwright.engine.choose import choose_engine
from netwright.errors import DivergedError, first_line
from netwright.evaluation import metrics
from netwright.evaluation.metrics import VALIDATED, epoch_figures
from netwright.evaluation.scoring import score
from netwright.exporting.bundle import BEST, LAST, Outcome, Program, save_preparation, save_weights
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import Bench, executing, plan_of
from netwright.pipeline.run import Run
from netwright.pipeline.telling import Told, best_of, describe, ending, first_record
from netwright.reporting.diagram import diagram_svg
from netwright.seeding import torch_seed
from netwright.training.journal import EpochRecord, Journal
from netwright.training.loop import Progress, train
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.signals import StopRequest, stop_on_signals

AT_ONCE = 1 << 20  # validation rows whose outputs are held at a time
Observer = Callable[[Told | EpochRecord], None]


def start(bench: Bench, folder: Path, observe: Observer, test: bool) -> Run:
    """Let the run folder be born, train, keep best and last weights, and look at the test rows once.

    Args:
        bench: What `prepare` made.
        folder: The run folder to be.
        observe: Is told remarks and epochs.
        test: Whether to end with the test.

    Returns:
        The run with the best weights; ``record["signal"]`` where a signal stopped it.

    Raises:
        DivergedError: The loss is not finite; the weights before the bad update are kept as the last.
    """
    config, inputs, task, device = bench.config, bench.inputs, bench.network.task, bench.device
    for line in describe(bench):
        observe(line)
    outcome = Outcome(inputs.target.task, inputs.target.names, inputs.target.classes, task.decoding)
    with files.born(folder) as temporary:
        _write_birth(temporary, folder, bench, outcome)
    begun = time.perf_counter()
    model = bench.network.module.to(device)
    with executing(config, device), stop_on_signals() as stop, _failure_told(folder):
        progress, seconds = _train(bench, folder, model, observe, stop)
        _keep(folder, model, progress)
    seconds["total"] = round(time.perf_counter() - begun, 3)
    folders.update_record(
        folder,
        {
            "status": "stopped" if stop else "done",
            "ended": folders.now(),
            "why": progress.ended,
            "epochs": progress.epoch,
            "steps": progress.step,
            "best": best_of(progress, config),
            "seconds": seconds,
            **({"signal": stop.signal_number} if stop else {}),
        },
    )
    program = Program(inputs.preparation, model.eval(), outcome, config.data.batch_size, device)
    run = Run(folder, config, program, folders.read_record(folder), inputs, task.loss_function)
    observe(Told(ending(progress, config)))
    with _failure_told(folder):
        if test and not stop and len(inputs.split.test):
            run.test()
        else:
            run.report()
    return run


@contextmanager
def _failure_told(folder: Path) -> Iterator[None]:
    """Write into run.json how a run failed, whatever failed."""
    try:
        yield
    except BaseException as error:
        status = "diverged" if isinstance(error, DivergedError) else "failed"
        why = f"{type(error).__name__}: {first_line(error)}"
        folders.update_record(folder, {"status": status, "ended": folders.now(), "why": why})
        raise


def _train(
    bench: Bench, folder: Path, model: nn.Module, observe: Observer, stop: StopRequest
) -> tuple[Progress, dict[str, float]]:
    """Train on the rows of the bench and write the history; return the progress and the seconds by part."""
    config, inputs, task, device = bench.config, bench.inputs, bench.network.task, bench.device
    loss_function = task.loss_function
    if isinstance(loss_function, nn.Module):
        loss_function.to(device)
    torch.manual_seed(torch_seed(config.training.seed, "training"))
    optimizer = make_optimizer(resolve_optimizer(config.training.optimizer, device), model.parameters())
    engine, _ = choose_engine(config.training.engine, model, loss_function, optimizer)
    examples = bench.examples.to(device)
    validate = _validation(bench, examples) if len(inputs.split.valid) else None
    with ExitStack() as stack:
        journal = Journal(folder, ["loss", *VALIDATED[task.kind]] if validate else [])
        stack.callback(journal.close)
        try:
            plan = replace(plan_of(config, inputs), augmentation=bench.augmentation)
            progress = train(engine, examples, plan, validate, journal, observe, stop)
        except DivergedError as error:
            _keep_finite(folder, model, error)
            raise
        finally:
            folders.update_record(folder, {"epochs": len(journal.records)})
    seconds = {
        part: round(sum(getattr(entry, f"{part}_seconds") for entry in journal.records), 3) for part in ("train", "valid")
    }
    return progress, seconds


def _keep_finite(folder: Path, model: nn.Module, error: DivergedError) -> None:
    """Keep the weights before a bad update as the last, unless an earlier update had spoiled them."""
    if all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        save_weights(folder / LAST, model.state_dict())
        return
    raise DivergedError(
        f"{error}; but the gradient of an earlier step was not finite and spoiled the weights: {folder / LAST} holds those "
        "of the start"
    ) from error


def _validation(bench: Bench, examples: Examples) -> Callable[[], dict[str, float]]:
    """Return the function that gives the figures of the validation rows for the weights of the moment."""
    rows, task, target = bench.inputs.split.valid, bench.network.task, bench.inputs.target
    at_once = AT_ONCE if len(target.names) == 1 else len(rows)  # the RMSE of several outputs is a mean over them

    def figures_of(part: Rows) -> tuple[dict[str, float], float]:
        scores = score(bench.network.module, task.loss_function, examples, part, bench.config.data.batch_size)
        figures = epoch_figures(task.kind, target.of(part), task.decoding(scores.outputs).numpy())
        return {"loss": scores.loss, **figures}, scores.weight

    def validate() -> dict[str, float]:
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        found = [(*figures_of(part), len(part)) for part in parts]
        loss = metrics.joined_figures([({"loss": figures["loss"]}, weight) for figures, weight, _ in found])
        return {**metrics.joined_figures([(figures, count) for figures, _, count in found]), **loss}

    return validate


def _keep(folder: Path, model: nn.Module, progress: Progress) -> None:
    """Write the last weights, then the best, and leave the best in the model."""
    save_weights(folder / LAST, model.state_dict())
    if progress.best is not None:
        save_weights(folder / BEST, progress.best.weights)
        model.load_state_dict(progress.best.weights)


def config_text(config: RunConfig, folder: Path) -> str:
    """Return the resolved settings as the run folder keeps them."""
    return to_toml(_rows_by_file(config, folder))


def _rows_by_file(config: RunConfig, folder: Path) -> RunConfig:
    """Name the run's split.npz in place of row numbers written out; groups, and steps of windows, stay as they are."""
    split = config.data.split
    parts = ("train", "valid", "test")
    if split.group is not None or config.data.window is not None:
        return config
    if not any(isinstance(getattr(split, part), list) for part in parts):
        return config
    named = split.model_copy(update={"file": str((folder / folders.SPLIT).absolute()), **{part: part for part in parts}})
    return config.model_copy(update={"data": config.data.model_copy(update={"split": named})})


def _write_birth(temporary: Path, folder: Path, bench: Bench, outcome: Outcome) -> None:
    """Fill the folder that is about to appear."""
    record = first_record(bench)
    files.make_folder(temporary / "model" / "source")
    files.write_text(temporary / folders.CONFIG, config_text(bench.config, folder))
    folders.write_split(temporary, bench.inputs.split)
    save_preparation(temporary, bench.inputs.preparation, outcome)
    save_weights(temporary / LAST, bench.network.module.state_dict())
    source = bench.network.source or _source_of(bench.network.module)
    if source is not None:
        files.copy_file(source, temporary / "model" / "source" / source.name)
    layers, shape = record["model"]["layers"], record["data"]["shape"]
    files.write_text(temporary / folders.DIAGRAM, diagram_svg(layers, shape, bench.name))
    files.write_json(temporary / folders.RECORD, record)


def _source_of(module: nn.Module) -> Path | None:
    """Return the user's file that defines a module from Python, or None for torch's own classes and notebooks."""
    kind = type(module)
    if kind.__module__.startswith(("torch.", "netwright.")):
        return None
    try:
        path = Path(inspect.getfile(kind))
    except (TypeError, OSError):
        return None
    return path if path.is_file() else None
