"""The verb train: settings in, a run folder and a trained network out; and show, which only looks. Floor 9."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netwright import files
from netwright.config.read import absolute_paths, apply_setting, build_config, from_keywords, merge, read_file, to_toml
from netwright.config.schema import EarlyStoppingConfig, RunConfig
from netwright.data.batches import Examples, steps_per_epoch
from netwright.engine.choose import choose_device, choose_engine, choose_threads
from netwright.errors import ConfigError, DivergedError
from netwright.evaluation.metrics import epoch_figures
from netwright.evaluation.scoring import check_loss, score
from netwright.exporting.bundle import BEST, LAST, Outcome, Program, save_preparation, save_weights
from netwright.model.task import Task
from netwright.pipeline import folder as folders
from netwright.pipeline.inputs import Inputs, load
from netwright.pipeline.network import Network, build_network
from netwright.pipeline.run import Run
from netwright.reporting.diagram import diagram_svg
from netwright.seeding import forked, torch_seed
from netwright.training.journal import EpochRecord, Journal
from netwright.training.loop import Plan, Progress, copied_weights, train
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.signals import stop_on_signals

LONGEST = 200  # epochs, where neither epochs nor steps are written
PATIENCE = 20


@dataclass(frozen=True)
class Told:
    """A remark for the user; ``kind`` is line, note (a warning) or network."""

    text: str
    kind: str = "line"

    def __str__(self) -> str:
        return f"note: {self.text}" if self.kind == "note" else self.text


Observer = Callable[[Told | EpochRecord], None]


@dataclass(frozen=True)
class Bench:
    """A run ready to start: settings resolved, rows prepared, network built; nothing is written yet."""

    config: RunConfig
    inputs: Inputs
    examples: Examples
    network: Network
    device: torch.device
    name: str


def gather(
    config: str | Path | Mapping[str, Any] | None, settings: Sequence[str], keywords: Mapping[str, Any]
) -> tuple[RunConfig, str]:
    """Read settings from a file, a dictionary and keywords, in this order, then ``a.b=c`` texts.

    Args:
        config: A TOML file, a data file, a dictionary of sections, or None.
        settings: Texts such as ``training.epochs=50``.
        keywords: Settings by their own names.

    Returns:
        The settings and a name for the run.
    """
    tree: dict[str, Any] = {}
    name = "run"
    if isinstance(config, Mapping):
        merge(tree, config)
    elif config is not None and Path(config).suffix.lower() == ".toml":
        tree = read_file(Path(config))
        name = Path(config).stem
        if name == "config" and (Path(config).parent / folders.RECORD).exists():
            name = Path(config).parent.name.split("-20")[0]
    elif config is not None:
        text = str(config)
        tree = absolute_paths({"data": {"source": text}}, Path())
        name = text.removeprefix("sklearn:") if text.startswith("sklearn:") else Path(text).stem.split(".")[0]
    merge(tree, absolute_paths(from_keywords(keywords), Path()))
    for setting in settings:
        apply_setting(tree, setting)
    return build_config(absolute_paths(tree, Path())), name


@contextmanager
def executing(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Run a block with the run's threads and generators, and put the caller's back."""
    before = torch.get_num_threads()
    try:
        if config.training.threads is not None:
            torch.set_num_threads(config.training.threads)
        with forked(device):
            yield
    finally:
        torch.set_num_threads(before)


def prepare(
    config: RunConfig,
    name: str,
    *,
    data: Any = None,
    module: nn.Module | None = None,
    loss: Any = None,
    code: Sequence[Path] = (),
    command: str = "netwright train CONFIG",
) -> Bench:
    """Do everything that comes before training and writes nothing.

    Args:
        config: The settings.
        name: Of the run.
        data: Rows from Python.
        module: A network from Python; it is trained in place.
        loss: A loss from Python.
        code: Files that may run.
        command: To repeat in a refusal.
    """
    device = choose_device(config.training.device)
    optimizer = resolve_optimizer(config.training.optimizer, device)
    inputs = load(config, data)
    prepared = inputs.preparation.prepare(inputs.raw)
    with executing(config, device):
        torch.manual_seed(torch_seed(config.training.seed, "initialisation"))
        network = build_network(config, inputs, prepared, module=module, loss=loss, code=code, command=command)
    examples = Examples(prepared, network.task.spell_target(inputs.target.values))
    check_loss(network.module, network.task.loss_function, examples, inputs.split.train)
    resolved = resolve(config, inputs, network, device, str(optimizer))
    make_optimizer(optimizer, network.module.parameters())
    return Bench(resolved, inputs, examples, network, device, name)


def resolve(config: RunConfig, inputs: Inputs, network: Network, device: torch.device, optimizer: str) -> RunConfig:
    """Return the settings with everything automatic written out; a run from them gives the same bits."""
    training, data = config.training, config.data
    rows = len(inputs.split.train)
    batch_size = min(data.batch_size, rows)
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.module.modules())
    lonely = rows % batch_size == 1 and rows > 1 and normalised
    last_batch = data.last_batch or ("drop" if lonely else "keep")
    if lonely and last_batch == "keep" and batch_size > 1:
        raise ConfigError(
            f"data.last_batch: {rows} train rows in batches of {batch_size} leave one row, which BatchNorm cannot train on; "
            "expected two or more; leave last_batch out (the row is dropped) or change data.batch_size"
        )
    if batch_size == 1 and normalised:
        raise ConfigError("data.batch_size: 1 came; BatchNorm needs two rows or more in a step; make it larger")
    epochs = training.epochs
    stopping = training.early_stopping
    if epochs is None and training.steps is not None:
        epochs = math.ceil(training.steps / steps_per_epoch(rows, batch_size, last_batch))
    elif epochs is None:
        epochs = LONGEST
        if stopping is None and len(inputs.split.valid):
            stopping = EarlyStoppingConfig(patience=PATIENCE)
    if isinstance(stopping, EarlyStoppingConfig):
        if not len(inputs.split.valid):
            raise ConfigError(
                "training.early_stopping: there are no valid rows to watch; set data.split.valid or leave it out"
            )
        rising = ("accuracy", "f1", "auc", "r2")
        mode = stopping.mode or ("max" if any(word in stopping.monitor for word in rising) else "min")
        stopping = stopping.model_copy(update={"mode": mode})
    threads = training.threads or choose_threads(network.summary.multiply_adds, batch_size)
    return config.model_copy(
        update={
            "data": data.model_copy(update={"last_batch": last_batch, "task": inputs.target.task}),
            "model": config.model.model_copy(update=network.described),
            "training": training.model_copy(
                update={
                    "epochs": epochs,
                    "early_stopping": stopping or "none",
                    "optimizer": optimizer,
                    "loss": network.task.loss,
                    "device": str(device),
                    "threads": threads,
                    "engine": "eager",
                }
            ),
        }
    )


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
        DivergedError: The loss is not finite; best and last weights are kept.
    """
    config, inputs, network = bench.config, bench.inputs, bench.network
    for text in describe(bench):
        observe(text)
    outcome = Outcome(inputs.target.task, inputs.target.names, inputs.target.classes, network.task.decoding)
    record = first_record(bench)
    with files.born(folder) as temporary:
        _write_birth(temporary, bench, outcome, record)
    begun = time.perf_counter()
    device = bench.device
    model = network.module.to(device)
    loss = network.task.loss_function.to(device) if isinstance(network.task.loss_function, nn.Module) else None
    with ExitStack() as stack:
        stack.enter_context(executing(config, device))
        stop = stack.enter_context(stop_on_signals())
        torch.manual_seed(torch_seed(config.training.seed, "training"))
        optimizer = make_optimizer(resolve_optimizer(config.training.optimizer, device), model.parameters())
        engine, _ = choose_engine(config.training.engine, model, loss or network.task.loss_function, optimizer)
        examples = bench.examples.to(device)
        validate = _validation(bench, examples, network.task) if len(inputs.split.valid) else None
        names = ["loss", *(("rmse", "mae") if network.task.kind == "regression" else ("accuracy",))] if validate else []
        journal = Journal(folder, names)
        stack.callback(journal.close)
        last: list[EpochRecord] = []

        def watch(entry: EpochRecord) -> None:
            last[:] = [entry]
            observe(entry)

        try:
            progress = train(engine, examples, plan_of(config, inputs), validate, journal, watch, stop)
        except DivergedError:
            save_weights(folder / LAST, model.state_dict())
            folders.update_record(folder, {"status": "diverged", "ended": folders.now()})
            raise
    _keep(folder, model, progress)
    seconds = {"total": round(time.perf_counter() - begun, 3)}
    seconds |= {
        part: round(sum(getattr(entry, f"{part}_seconds") for entry in journal.records), 3) for part in ("train", "valid")
    }
    changes = {
        "status": "stopped" if stop else "done",
        "ended": folders.now(),
        "why": progress.ended,
        "epochs": progress.epoch,
        "steps": progress.step,
        "best": _best(progress, config),
        "seconds": seconds,
        **({"signal": stop.signal_number} if stop else {}),
    }
    folders.update_record(folder, changes)
    program = Program(inputs.preparation, model.eval(), outcome, config.data.batch_size, device)
    run = Run(folder, config, program, folders.read_record(folder), inputs, network.task.loss_function)
    observe(Told(ending(progress, config)))
    with executing(config, device):
        if test and not stop and len(inputs.split.test):
            run.test()
        else:
            run.report()
    return run


def _validation(bench: Bench, examples: Examples, task: Task) -> Callable[[], dict[str, float]]:
    """Return the function that gives the figures of the validation rows for the weights of the moment."""
    rows = bench.inputs.split.valid
    true = bench.inputs.target.values[rows]

    def validate() -> dict[str, float]:
        scores = score(bench.network.module, task.loss_function, examples, rows, bench.config.data.batch_size)
        return {"loss": scores.loss, **epoch_figures(task.kind, true, task.decoding(scores.outputs).numpy())}

    return validate


def plan_of(config: RunConfig, inputs: Inputs) -> Plan:
    """Return the plan of a resolved config."""
    stopping = config.training.early_stopping
    written = stopping if isinstance(stopping, EarlyStoppingConfig) else None
    return Plan(
        inputs.split.train,
        min(config.data.batch_size, len(inputs.split.train)),
        config.data.last_batch or "keep",
        config.training.epochs or 0,
        config.training.seed,
        config.training.steps,
        written.monitor if written else "valid_loss",
        (written.mode if written else None) or "min",
        written.patience if written else None,
    )


def _keep(folder: Path, model: nn.Module, progress: Progress) -> None:
    """Write the last weights, then the best, and leave the best in the model."""
    save_weights(folder / LAST, copied_weights(model))
    if progress.best is not None:
        save_weights(folder / BEST, progress.best.weights)
        model.load_state_dict(progress.best.weights)


def _best(progress: Progress, config: RunConfig) -> dict[str, Any] | None:
    if progress.best is None:
        return None
    stopping = config.training.early_stopping
    monitor = stopping.monitor if isinstance(stopping, EarlyStoppingConfig) else "valid_loss"
    return {
        "epoch": progress.best.epoch,
        "step": progress.best.step,
        "monitor": monitor,
        "value": progress.best.value,
    }


def ending(progress: Progress, config: RunConfig) -> str:
    """Return how the run ended and which weights it leaves, in words."""
    best = _best(progress, config)
    if best is None:
        return f"{progress.ended}; the last weights are kept"
    return f"{progress.ended}; best epoch {best['epoch']} restored ({best['monitor']} {best['value']:.4g})"


def first_record(bench: Bench) -> dict[str, Any]:
    """Return run.json at birth."""
    inputs, network, config = bench.inputs, bench.network, bench.config
    encoder = inputs.preparation.encoder
    name, values = next(iter(bench.examples.inputs.items()))
    return {
        "netwright": version(),
        "name": bench.name,
        "status": "running",
        "command": folders.command_line(),
        "started": folders.now(),
        "ended": None,
        "versions": folders.versions(),
        "device": str(bench.device),
        "threads": config.training.threads,
        "engine": config.training.engine,
        "data": {
            "source": inputs.source,
            "digest": inputs.digest,
            "rows": inputs.raw.rows,
            "shape": list(values.shape[1:]),
            "layout": inputs.preparation.layout(name),
            "columns": []
            if encoder is None
            else [
                {"name": column.name, "kind": column.kind, "missing": column.missing, "levels": len(column.levels) or None}
                for column in encoder.columns
            ],
        },
        "split": {
            "digest": inputs.split.digest(),
            "how": inputs.split.how,
            **{part: len(getattr(inputs.split, part)) for part in ("train", "valid", "test")},
        },
        "task": {
            "kind": network.task.kind,
            "target": list(inputs.target.names),
            "classes": list(inputs.target.classes),
            "loss": network.task.loss,
        },
        "model": network.summary.to_json(),
        "best": None,
        "epochs": 0,
        "steps": 0,
        "notes": [*inputs.notes, *network.notes],
    }


def _write_birth(temporary: Path, bench: Bench, outcome: Outcome, record: Mapping[str, Any]) -> None:
    """Fill the folder that is about to appear."""
    files.make_folder(temporary / "model" / "source")
    files.write_text(temporary / folders.CONFIG, to_toml(bench.config))
    files.write_bytes(temporary / folders.SPLIT, folders.split_bytes(bench.inputs.split))
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


def describe(bench: Bench) -> list[Told]:
    """Return what a user should see before training starts."""
    inputs, network, config = bench.inputs, bench.network, bench.config
    split, encoder = inputs.split, inputs.preparation.encoder
    lines = [Told(f"data: {inputs.source}, {inputs.raw.rows} rows")]
    if encoder is not None:
        lines += [Told(f"  {line}") for line in _column_lines(encoder.columns)]
    else:
        shapes = ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in bench.examples.inputs.items())
        lines.append(Told(f"  each row: {shapes}"))
    lines.append(Told(f"split: {len(split.train)} train, {len(split.valid)} valid, {len(split.test)} test ({split.how})"))
    classes = f", {len(inputs.target.classes)} classes" if inputs.target.classes else ""
    lines.append(Told(f"task: {network.task.kind}{classes}; target {', '.join(inputs.target.names)}; {network.task.loss}"))
    lines.append(
        Told(f"network: {network.summary.parameters:,} parameters, {network.summary.multiply_adds:,} multiply-adds a row")
    )
    training = config.training
    batch_size = min(config.data.batch_size, len(split.train))
    lines.append(
        Told(
            f"training: {training.epochs} epochs at most, batches of {batch_size}, {training.optimizer}, "
            f"{training.engine} engine on {bench.device} with {training.threads} thread(s)"
        )
    )
    return lines + [Told(note, "note") for note in (*inputs.notes, *network.notes)]


def _column_lines(columns: Sequence[Any]) -> list[str]:
    """Return one line per kind of column."""
    lines = []
    for kind in ("number", "boolean", "date", "category", "identifier", "ignore"):
        members = [column for column in columns if column.kind == kind]
        if not members:
            continue
        shown = [
            column.name
            + (f" ({len(column.levels)})" if column.levels else "")
            + (f" [{column.missing} missing]" if column.missing else "")
            for column in members
        ]
        word = {"ignore": "left out", "identifier": "left out, identifier"}.get(kind, kind)
        more = f", ... ({len(shown)} in all)" if len(shown) > 12 else ""
        lines.append(f"{word}: {', '.join(shown[:12])}{more}")
    return lines


def version() -> str:
    """Return netwright's version."""
    from importlib import metadata

    return metadata.version("netwright")
