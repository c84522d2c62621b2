"""Everything before training, with nothing written: settings gathered, rows prepared, network built, all resolved.

Floor 12.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.checks.findings import Finding
from netwright.config.calls import OBJECT
from netwright.config.read import absolute_paths, apply_setting, build_config, from_keywords, merge, read_file
from netwright.config.schema import RunConfig
from netwright.data.augmentation import Augmentation
from netwright.data.batches import Batch, Examples
from netwright.data.mapped import Mapped
from netwright.distributed.world import ALONE, World
from netwright.engine.base import Execution
from netwright.engine.choose import Arithmetic
from netwright.engine.compiled import why_not_compiled
from netwright.engine.trial import Begin, Make, try_step, why_not_captured, why_not_graphed
from netwright.engine.update import in_float32
from netwright.errors import ConfigError
from netwright.files.naming import name_of
from netwright.model.task import implied_task
from netwright.pipeline.augmenting import make_augmentation, read_changes
from netwright.pipeline.custom import Custom, factory_name, maker, names_told, refuse_misfits, valid_names
from netwright.pipeline.dealing import shared_out
from netwright.pipeline.network import Network, OwnModule, build_network, check_declared
from netwright.pipeline.rates import has_schedule, why_not_in_a_graph, with_rates
from netwright.pipeline.resolving import execution_of, resolve
from netwright.pipeline.sharing import device_of, for_processes, refuse_alone, refuse_undivided, why_not_repeated
from netwright.pipeline.transferring import freezing_in, transferred
from netwright.rows import pictures
from netwright.rows.filling import filled
from netwright.rows.inputs import Inputs, load, refuse_constant
from netwright.rows.reading import parts_of
from netwright.runfolder import folder as folders
from netwright.seeding import all_forked, float32_by_default, forked, initialising
from netwright.sources.arrays import Arrays
from netwright.sources.datasets import batches_of, is_dataset
from netwright.sources.memory import give_back
from netwright.sources.sequences import Sequences
from netwright.training.freezing import begin_training
from netwright.training.optimizer import resolve_optimizer
from netwright.training.own_optimizer import described as described_optimizer

TRIAL_ROWS = 8  # of the step tried before anything is written
SPREAD_ROWS = 64  # of which figures are asked for beside, so that each class is likely to be among them
ASKED_FOR = "asked for"
NOTHING_OWN = Custom()


@dataclass(frozen=True)
class Bench:
    """A run ready to start: settings resolved, rows prepared, network built; nothing is written yet."""

    config: RunConfig
    inputs: Inputs
    examples: Examples
    network: Network
    device: torch.device
    name: str
    augmentation: Augmentation | None = None
    findings: tuple[Finding, ...] = ()
    why_engine: str = ""
    custom: Custom = Custom()
    figures: tuple[str, ...] = ()  # of each validation
    rates: tuple[str, ...] = ()  # what the learning rate will do, in words
    world: World = ALONE

    @property
    def how(self) -> Execution:
        """How its steps and calls are executed."""
        return execution_of(self.config, self.why_engine == ASKED_FOR)


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
    name = ""
    if isinstance(config, Mapping):
        merge(tree, config)
    elif config is not None and Path(config).suffix.lower() == ".toml":
        tree = read_file(Path(config))
        name = Path(config).stem
        if name == "config" and (Path(config).parent / folders.RECORD).exists():
            name = Path(config).parent.name.split("-20")[0]
    elif config is not None:
        tree = absolute_paths({"data": {"source": str(config)}}, Path())
    merge(tree, absolute_paths(from_keywords(keywords), Path()))
    for setting in settings:
        apply_setting(tree, setting)
    read = build_config(absolute_paths(tree, Path()))
    return read, name or ("run" if read.data.source is None else name_of(read.data.source))


@contextmanager
def _own_state() -> Iterator[None]:
    with all_forked(), float32_by_default():
        yield


@contextmanager
def executing(config: RunConfig, device: torch.device, computing: bool = False) -> Iterator[None]:
    """Run a block with the run's threads and generators, and put the caller's back.

    Args:
        config: The settings.
        device: That the network is on.
        computing: The block is known to draw from torch's generators or none: those of NumPy and Python, whose states take
            longer to copy than a small network takes to answer, are left alone.
    """
    with arithmetic(config), nullcontext() if computing else _own_state(), forked(device):
        yield


def arithmetic(config: RunConfig) -> Arithmetic:
    """Return a block with the run's threads, and products as exact as the run's."""
    return Arithmetic(config.training.threads, "high" if config.training.precision == "tf32" else "highest")


def prepare(
    config: RunConfig,
    name: str,
    *,
    data: Any = None,
    module: OwnModule | None = None,
    loss: Any = None,
    code: Sequence[Path] = (),
    command: str = "netwright train CONFIG",
    custom: Custom = NOTHING_OWN,
    world: World = ALONE,
) -> Bench:
    """Do everything that comes before training and writes nothing.

    Args:
        config: The settings.
        name: Of the run.
        data: Rows from Python.
        module: A network from Python, trained in place, or its class with arguments.
        loss: A loss from Python.
        code: Files that may run.
        command: To repeat in a refusal.
        custom: Optimizer, schedule, figures, training step and stop condition from Python.
        world: The processes that will train.
    """
    _refuse(config, custom, loss, world)
    watched = config.tune is not None or custom.reads_figures
    config = as_given(config, data).model_copy(update={"tune": None})  # it says nothing of a single run
    device = device_of(config, world)
    _optimizer(config, custom, device)  # a mistake in it is told before rows are read
    changes = read_changes(config)
    inputs = _rows(config, data, module, loss, custom, watched)
    config = with_layout(filled(config, inputs.recipe, custom.turns_rates), inputs)
    refuse_undivided(config, world)
    examples = inputs.preparation.examples(inputs.raw, changed=bool(changes.images) or inputs.reread is not None)
    sample = examples.batch(torch.from_numpy(_longest(inputs)))
    with executing(config, device), initialising(config.training.seed):
        network = build_network(
            config, inputs, sample, module=module, loss=custom.own_step or loss, code=code, command=command
        )
    network = transferred(network, config, inputs)
    examples = _with_target(examples, inputs, network)
    augmentation = make_augmentation(config, changes, inputs, sample, network.task)
    make, batch = _try_steps(config, network, inputs, examples, augmentation, custom, device)
    trial = _optimizer_told(config, custom, network, make)
    why_not = why_not_repeated(config, custom, network, trial, world)
    engine, why = _engine(config, network, device, maker(config, custom, device), batch, why_not)
    optimizer = _optimizer(config, custom, device, trial)
    config = for_processes(config, network.module, network.summary.work, len(inputs.split.train), device, world)
    with executing(config, torch.device("cpu")):
        parts = (batch.rows.numpy(), _spread(inputs.split.valid))
        figures = valid_names(config, custom, network.task, copy.deepcopy(network.module), examples, parts)
    resolved = resolve(config, inputs, network, device, optimizer, engine, names_told(custom), figures)
    resolved = shared_out(resolved, network.module, device, world)
    resolved, rates = with_rates(resolved, custom, inputs, trial, bool(figures) and len(inputs.split.valid) > 0)
    held = why_not_in_a_graph(resolved, custom, inputs, trial) if device.type == "cuda" and engine == "captured" else None
    resolved, why = (resolved, why) if held is None else _as_written(resolved, config.training.engine, held)
    return Bench(resolved, inputs, examples, network, device, name, augmentation, (), why, custom, figures, rates, world)


def _rows(config: RunConfig, data: Any, module: OwnModule | None, loss: Any, custom: Custom, watched: bool) -> Inputs:
    """Read the rows, split and prepare them."""
    if data is None:
        check_declared(config)
    inputs = load(config, data, implied_task(config.training.loss, loss), own=module is not None, watched=watched)
    refuse_constant(inputs, own=any(one is not None for one in (module, loss, custom.step, config.model.module)))
    return inputs


def _refuse(config: RunConfig, custom: Custom, loss: Any, world: World) -> None:
    """Refuse what does not fit together, and what several processes cannot have."""
    refuse_misfits(config, custom, loss)
    refuse_alone(config, custom, world)


def try_network(bench: Bench, config: RunConfig, *, module: OwnModule | None, loss: Any, code: Sequence[Path]) -> None:
    """Build the network of other settings on the rows of a bench and try a step of it; nothing of it is kept.

    Raises:
        ConfigError: The network or its optimizer cannot be.
    """
    config, inputs, examples = with_layout(config, bench.inputs), bench.inputs, bench.examples
    sample = examples.batch(torch.from_numpy(_longest(inputs)))
    with executing(config, bench.device), initialising(config.training.seed):
        network = build_network(
            config, inputs, sample, module=copy.deepcopy(module), loss=bench.custom.own_step or loss, code=code, command=""
        )
    _try_steps(config, network, inputs, examples, bench.augmentation, bench.custom, bench.device)


def _try_steps(
    config: RunConfig,
    network: Network,
    inputs: Inputs,
    examples: Examples,
    augmentation: Augmentation | None,
    custom: Custom,
    device: torch.device,
) -> tuple[Make, Batch]:
    """Take a step on a copy of a network; return what makes its optimizer, and the rows.

    Raises:
        ConfigError: Network, loss or optimizer fail on them.
    """
    few = inputs.split.train[: min(config.data.batch_size, TRIAL_ROWS)]
    batch = examples.batch(torch.from_numpy(few)) if augmentation is None else augmentation.sample(examples, few)
    make = maker(config, custom, torch.device("cpu"))
    update = execution_of(config).update
    update = update if device.type == "cpu" else in_float32(update)
    try_step(network.module, network.task.loss_function, make, batch, update, _beginning(config, network))
    return make, batch


def _beginning(config: RunConfig, network: Network) -> Begin:
    """Return what lets a copy of a network train as it does in the first epoch."""
    return partial(begin_training, freezing=freezing_in(config, network.module), epoch=1)


def _optimizer_told(config: RunConfig, custom: Custom, network: Network, make: Make) -> torch.optim.Optimizer | None:
    """Return an optimizer of a copy, where one from Python, or a schedule, is told before anything is trained; else None."""
    if custom.optimizer is None and not has_schedule(config, custom):
        return None
    with all_forked():
        return make(copy.deepcopy(network.module))


def _optimizer(config: RunConfig, custom: Custom, device: torch.device, trial: torch.optim.Optimizer | None = None) -> str:
    """Return the resolved text of the optimizer; of one from Python what the one of a trial tells."""
    if custom.optimizer is not None:
        return f"{OBJECT}{factory_name(custom.optimizer)}: {described_optimizer(trial)}" if trial is not None else ""
    return str(resolve_optimizer(config.training.optimizer, device, bool(config.training.unfreeze)))


def _with_target(examples: Examples, inputs: Inputs, network: Network) -> Examples:
    """Return the rows with their target as the task spells it."""
    target = network.task.spell_target(inputs.target.values)
    if isinstance(inputs.raw, Mapped):
        target = torch.from_numpy(inputs.raw.beside(target.numpy()))
        give_back()
    return examples.with_target(target, inputs.target.per_step)


def _engine(
    config: RunConfig, network: Network, device: torch.device, make: Make, batch: Batch, rates: str | None
) -> tuple[str, str]:
    """Return the name of the engine and why it is that; ``rates`` tells why steps cannot be replayed.

    Raises:
        ConfigError: The engine asked for cannot run.
    """
    name, loss = config.training.engine, network.task.loss_function
    if name == "eager":
        return "eager", ASKED_FOR
    if name == "compiled":
        why = why_not_compiled(device)
    elif device.type not in ("cpu", "cuda"):
        why = "steps are recorded on the CPU, or captured on a GPU of CUDA"
    elif rates is not None:
        why = rates
    else:
        why_not = why_not_captured if device.type == "cpu" else why_not_graphed
        why = why_not(network.module, loss, make, batch, execution_of(config).update, _beginning(config, network))
    if why is None:
        return ("captured", "replayed with the same bits") if name == "auto" else (name, ASKED_FOR)
    _refuse_engine(name, why)
    return "eager", why


def _as_written(resolved: RunConfig, asked: str, why: str) -> tuple[RunConfig, str]:
    """Return resolved settings whose steps run as they are written, and why.

    Raises:
        ConfigError: Another engine was asked for by name.
    """
    _refuse_engine(asked, why)
    training = resolved.training.model_copy(update={"engine": "eager"})
    return resolved.model_copy(update={"training": training}), why


def _refuse_engine(name: str, why: str) -> None:
    """Refuse an engine that was asked for by name and cannot run."""
    if name != "auto":
        raise ConfigError(
            f"training.engine: {name} came; it cannot run here: {why}; expected another engine; write auto or eager, which "
            "runs steps as they are written"
        )


def as_given(config: RunConfig, data: Any) -> RunConfig:
    """Return the settings with those written that a Dataset or a DataLoader stands for, where nothing else is.

    A Dataset hands rows over as its network reads them, with preparation "none"; a DataLoader names the rows of a batch.
    """
    parts = {} if data is None else parts_of(data)
    if not any(is_dataset(part) for part in parts.values()):
        return config
    told = {"preparation": "none", **batches_of(parts.get("train", parts.get("all")))}
    changes = {name: value for name, value in told.items() if name not in config.data.model_fields_set}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _spread(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return some of the rows at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), SPREAD_ROWS)).astype(np.int64)]


def _longest(inputs: Inputs) -> npt.NDArray[np.int64]:
    """Return two rows: the longest and the shortest where rows differ in length, else the first."""
    if isinstance(inputs.raw, Sequences):
        return np.argsort(-inputs.raw.lengths, kind="stable")[[0, -1]]
    return np.arange(min(2, inputs.raw.rows))


def with_layout(config: RunConfig, inputs: Inputs) -> RunConfig:
    """Write down what the axes of the arrays mean, where the first layer or a guess told, and the lengths of sequences."""
    layout = inputs.raw.layout if isinstance(inputs.raw, Arrays) else None
    written: dict[str, Any] = {} if layout is None else {"layout": layout}
    if isinstance(inputs.raw, Arrays) and inputs.raw.origins[0].files:
        written |= pictures.settled(inputs.raw)
    steps = inputs.preparation.steps
    if steps is not None:
        written["rungs"] = list(steps.rungs)
        written |= {} if steps.vocabulary is not None else {"layout": "NCT" if steps.channels_first else "NTC"}
    return config.model_copy(update={"data": config.data.model_copy(update=written)}) if written else config
