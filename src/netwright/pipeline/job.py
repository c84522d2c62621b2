"""What it takes to train: engine, rows, plan, validation, and what a checkpoint says of how it was made. Floor 12."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netwright import files
from netwright.config.calls import OBJECT, parse_call
from netwright.config.schema import RunConfig
from netwright.data.batches import Batch, Examples, Rows
from netwright.distributed.world import ALONE, World
from netwright.engine.base import Engine
from netwright.engine.choose import choose_engine
from netwright.engine.forward import Forward
from netwright.engine.sharding import is_sharded, without_fusion
from netwright.errors import CheckpointError, first_line
from netwright.evaluation import metrics
from netwright.evaluation.metrics import epoch_figures
from netwright.evaluation.own_metrics import figures_told
from netwright.evaluation.own_steps import evaluated
from netwright.evaluation.together import score_together
from netwright.pipeline.bench import Bench
from netwright.pipeline.custom import maker, metrics_of, name_of
from netwright.pipeline.dealing import network_to_train, whole_beginning
from netwright.pipeline.ranks import RANKS, generators_of_all, own_generators
from netwright.pipeline.rates import make_schedule
from netwright.pipeline.resolving import execution_of, plan_of
from netwright.pipeline.transferring import freezing_in
from netwright.runfolder import folder as folders
from netwright.seeding import seed_all, torch_seed
from netwright.training.journal import Journal
from netwright.training.loop import Plan, Progress, Validate, networks_of, shown
from netwright.training.state import put_back, remembered

Tell = Callable[..., None]  # of a text, and of its kind where it is no note
AT_ONCE = 1 << 20  # validation rows whose outputs are held at a time
HISTORY, EXECUTION, SCHEDULE = (
    "history",
    "execution",
    "schedule",
)  # parts of a checkpoint beside those of the training itself


@dataclass(frozen=True)
class Job:
    """A training that is ready to run, from its beginning or from a checkpoint."""

    config: RunConfig
    folder: Path
    engine: Engine
    device: torch.device
    examples: Examples
    plan: Plan
    validate: Validate | None
    figures: tuple[str, ...]
    world: World = ALONE
    seat: Any = None  # among runs that train together

    @property
    def members(self) -> int:
        """How many runs take their steps together with this one, itself among them."""
        return 1 if self.seat is None else int(self.seat.members)

    def beginning(self, history: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checkpoint of a run that has not begun."""
        return whole_beginning(self.checkpoint(Progress(), history), self.engine, self.world)

    def checkpoint(self, progress: Progress, history: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {
            **remembered(self.engine, self.device, progress),
            HISTORY: dict(history),
            EXECUTION: execution(self.config, self.device, self.world, self.members),
            SCHEDULE: self.plan.schedule.state(),
            **({} if self.world.alone else {RANKS: generators_of_all(self.world, self.device)}),
        }

    def journal(self, folder: Path, history: Mapping[str, Any] | None) -> Journal:
        """Return the journal of a new run, or of one that goes on; only the first process writes one."""
        return Journal(folder if self.world.leads else None, self.figures, history)

    def from_checkpoint(self, parts: Mapping[str, Any]) -> tuple[Progress, Journal]:
        """Put the training where a checkpoint was made, and cut the history back to it.

        Raises:
            CheckpointError: The state is of another network, or the history was changed.
        """
        own = own_generators(self.world, parts, self.device, self.config.training.seed)
        progress = put_back({**parts, "generators": own}, self.engine, self.device)
        optimizer, told = self.engine.optimizer, parts[EXECUTION]
        now = learning_rates(self.config.training.optimizer, self.config.training.parameter_groups)
        then = learning_rates(told["optimizer"], told.get("parameter_groups", []))
        if now != then:
            groups = optimizer.param_groups  # the first, of the rest, is not there where no parameter is left for it
            for group, new, old in zip(groups, now[-len(groups) :], then[-len(groups) :], strict=True):
                if new != old:
                    group["lr"] = new if new is not None else optimizer.defaults["lr"]
        try:
            self.plan.schedule.put_back(parts.get(SCHEDULE, {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"checkpoint: its schedule does not fit ({type(error).__name__}: {first_line(error)}); expected that of the run; "
                "check the run"
            ) from error
        return progress, self.journal(self.folder, parts[HISTORY])

    def with_micro_batch(self, rows: int) -> Job:
        """Return the same training with so many rows forward and backward at a time."""
        training = self.config.training.model_copy(update={"micro_batch": rows})
        config = self.config.model_copy(update={"training": training})
        eager = self.engine.eager
        engine = choose_engine(
            execution_of(config),
            eager.model,
            eager.loss_function,
            eager.optimizer,
            averaged=eager.averaged,
            world=self.world,
        )
        return replace(self, config=config, engine=engine)


def make_job(bench: Bench, folder: Path, tell: Tell, kept: bool = True) -> Job:
    """Put network, loss and rows on the device and make the optimizer; the generators are seeded for training.

    Args:
        bench: What `prepare` made.
        folder: Of the run.
        tell: Is told why steps run otherwise than the settings say.
        kept: Whether that is written into the config of the folder.
    """
    config, task, device = bench.config, bench.network.task, bench.device
    model, averaged = network_to_train(config, bench.network.module, device, bench.world)
    if isinstance(task.loss_function, nn.Module):
        task.loss_function.to(device)
    number = torch_seed(config.training.seed, "training", *([bench.world.rank] if bench.world.rank else []))
    torch.manual_seed(number)
    seed_all(number)  # an own module may draw from NumPy or Python
    optimizer = maker(config, bench.custom, device)(model)
    if is_sharded(model):
        without_fusion(optimizer)
    schedule = make_schedule(config, bench.custom, optimizer)
    told = partial(_fall_back, config, folder, tell=tell) if kept else tell
    engine = choose_engine(bench.how, model, task.loss_function, optimizer, told, averaged, bench.world)
    seat = bench.custom.seat if kept else None
    engine = engine if seat is None else seat.engine(engine)
    examples = bench.examples.to(device)
    validated = bool(len(bench.inputs.split.valid)) and bool(bench.figures)
    return Job(
        config,
        folder,
        engine,
        device,
        examples,
        replace(
            plan_of(config, bench.inputs),
            augmentation=bench.augmentation,
            stop=bench.custom.stopping(device),
            schedule=schedule,
            freezing=freezing_in(config, model),
            world=bench.world,
            clock=time.perf_counter if seat is None else seat.clock,
        ),
        _validation(bench, engine, examples, tell) if validated else None,
        bench.figures if validated else (),
        bench.world,
        seat,
    )


def _fall_back(config: RunConfig, folder: Path, text: str, tell: Tell) -> None:
    """Write down that the steps of a run are executed as they are written, so that it goes on so, and tell it."""
    training = config.training.model_copy(update={"engine": "eager"})
    eager = config.model_copy(update={"training": training})
    files.write_text(folder / folders.CONFIG, folders.config_text(eager, folder))
    tell(text)


def execution(config: RunConfig, device: torch.device, world: World = ALONE, members: int = 1) -> dict[str, Any]:
    """Return what the bits of a run hang on beside its data and settings, the same in all processes; every one must ask.

    Args:
        config: The settings.
        device: Of this process.
        world: The processes; of several, ``device`` and ``cpu`` are lists, by rank.
        members: Runs that step together.
    """
    training = config.training
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kernels = torch.backends.cpu.get_cpu_capability()
    each = world.gathered([name, kernels])
    return {
        "torch": str(torch.__version__),
        "device": name if world.alone else [one[0] for one in each],
        "cpu": kernels if world.alone else [one[1] for one in each],
        "threads": training.threads,
        "engine": training.engine,
        "micro_batch": training.micro_batch,
        "precision": training.precision,
        "optimizer": training.optimizer,
        **({} if world.alone else {"world": world.size, "strategy": training.strategy}),
        **({"members": members} if members > 1 else {}),
        **({"parameter_groups": training.parameter_groups} if training.parameter_groups else {}),
    }


def learning_rate_of(optimizer: str) -> float | None:
    """Return the learning rate that a resolved optimizer text writes; None for torch's default, and for a Python object."""
    if optimizer.startswith(OBJECT):
        return None
    found = parse_call(optimizer, "training.optimizer").keywords.get("lr")
    return None if found is None else float(found)


def learning_rates(optimizer: str, groups: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return the learning rates that are written: of the optimizer, and of each group of parameters.

    Example:
        >>> learning_rates("SGD(lr=0.1)", [{"parameters": ["0"], "lr": 0.01}, {"parameters": ["biases"], "momentum": 0.0}])
        [0.1, 0.01, 0.1]
    """
    rate = learning_rate_of(optimizer)
    return [rate, *(float(group["lr"]) if "lr" in group else rate for group in groups)]


def _own_figures(
    function: Callable[[nn.Module, Batch], Any],
    bench: Bench,
    engine: Engine,
    examples: Examples,
    tell: Tell,
    said: set[str],
) -> dict[str, float]:
    """Return the figures of one's own of the validation rows, those of `Bench.figures`; one that they do not give is NaN."""
    rows, size = bench.inputs.split.valid, bench.config.data.batch_size
    found = evaluated(function, name_of(function), shown(engine), examples, rows, size)
    for name in found:
        if name not in (*bench.figures, *said):
            said.add(name)
            tell(
                f"evaluate: {name_of(function)} gives {name}, which it did not of the rows that it was asked about at first; it is "
                "left out of history.csv",
                "warning",
            )
    return {name: found.get(name, math.nan) for name in bench.figures}


def _validation(bench: Bench, engine: Engine, examples: Examples, tell: Tell) -> Callable[[], dict[str, float]]:
    """Return the function that gives the figures of the validation rows for the weights of the moment."""
    rows, task, target = bench.inputs.split.valid, bench.network.task, bench.inputs.target
    if bench.custom.evaluate is not None:
        return partial(_own_figures, bench.custom.evaluate, bench, engine, examples, tell, set())
    own, said = metrics_of(bench.config.training.metrics, bench.custom, task.kind), set[str]()

    def tell_once(name: str, text: str) -> None:
        if name not in said:
            said.add(name)
            tell(text, "warning")

    forwards = {id(network): Forward(network, bench.how) for network in networks_of(engine)}
    at_once = AT_ONCE if len(target.names) == 1 and not own else len(rows)  # what is no mean over rows needs all of them

    def figures_of(part: Rows) -> tuple[dict[str, float], float]:
        forward = forwards[id(shown(engine))]
        scores = score_together(bench.world, forward, task.loss_function, examples, part, bench.config.data.batch_size)
        if not bench.world.leads:
            return bench.world.told(({}, 0.0))
        true, decoded = target.of(part), task.decoding(scores.outputs).numpy()
        figures = epoch_figures(task.kind, true, decoded) | figures_told(own, task.kind, true, decoded, tell_once)
        return bench.world.told(({"loss": scores.loss, **figures}, scores.weight))

    def validate() -> dict[str, float]:
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        found = [(*figures_of(part), len(part)) for part in parts]
        loss = metrics.joined_figures([({"loss": figures["loss"]}, weight) for figures, weight, _ in found])
        return {**metrics.joined_figures([(figures, count) for figures, _, count in found]), **loss}

    return validate
