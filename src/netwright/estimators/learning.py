"""A fit: rows, goal and weights through the one training loop, in memory only; no generator of the caller is moved. Floor 17."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.data.batches import Examples, Rows, steps_per_epoch
from netwright.engine.base import Engine, Execution
from netwright.engine.choose import Arithmetic, choose_engine, choose_lanes, choose_threads
from netwright.engine.compiled import why_not_compiled
from netwright.engine.forward import Forward
from netwright.engine.trial import LARGEST, WITHOUT_CLOSURE, normalises_batches
from netwright.errors import ConfigError, DivergedError, first_line
from netwright.estimators.networks import Goal, Network, layout_of, make_network, reads_codes
from netwright.estimators.scaling import Scaling, fit_scaling
from netwright.estimators.settings import EstimatorError, Settings
from netwright.estimators.telling import warn_of_findings
from netwright.evaluation.scoring import outputs_of, score
from netwright.model.losses import IGNORING, WeightedRows
from netwright.model.task import Decoding
from netwright.seeding import ALONE, all_forked, float32_by_default, forked, seed_all, torch_seed
from netwright.training.journal import EpochRecord, Journal
from netwright.training.loop import Plan, Progress, StepFailed, train, train_epoch
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.signals import StopRequest

Numbers = npt.NDArray[Any]
ROWS_TOGETHER = 1 << 16  # row numbers of several epochs that are handed to the engine at once
FEWEST_STEPS = 30  # of each shape of a batch: below it recording and comparing steps takes longer than it saves


@dataclass(frozen=True)
class Reading:
    """How rows become what the network reads: of which shape and dtype, scaled how; ``limit`` is the number of codes.

    ``threads`` are those of each operation, ``batch_size`` the rows of a training step.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    scaling: Scaling | None
    limit: int | None
    threads: int
    batch_size: int

    def __call__(self, rows: Numbers) -> Tensor:
        """Return rows ``(rows, *shape)`` as the network reads them.

        Raises:
            EstimatorError: They have another shape, or a code is not known.
        """
        if rows.shape[1:] != self.shape:
            raise EstimatorError(f"X: rows of shape {rows.shape[1:]} came; expected {self.shape}, as in fit; reshape X")
        if self.limit is not None:
            return torch.from_numpy(whole_codes(rows, self.limit))
        scaled = rows if self.scaling is None else self.scaling(rows)
        return torch.from_numpy(np.ascontiguousarray(scaled if scaled.flags.writeable else scaled.copy()))


@dataclass(frozen=True)
class Learned:
    """What a fit gives: the network, how it reads rows, what its outputs mean, the losses, and how steps were played."""

    network: Network
    reading: Reading
    history: dict[str, list[float]]
    best_epoch: int | None
    played: str


@final
class NothingKept:
    """Keeps no checkpoints."""

    def due(self, step: int) -> bool:
        """Tell that it is never time."""
        return False

    def steps_until(self, step: int, most: int) -> int:
        """Return that all steps may follow."""
        return most

    def save(self, progress: Progress) -> None:
        """Keep nothing."""


def whole_codes(rows: Numbers, limit: int | None) -> npt.NDArray[np.int64]:
    """Return rows of whole codes from 0 as int64.

    Raises:
        EstimatorError: One is no whole number, below 0, or not below the limit.
    """
    codes = rows.astype(np.int64)
    if (codes != rows).any() or codes.min() < 0:
        raise EstimatorError(
            "X: numbers that are no whole codes from 0 came; an Embedding reads codes; expected 0, 1, 2, ..."
        )
    if limit is not None and codes.max() >= limit:
        raise EstimatorError(f"X: code {codes.max()} came; expected codes below {limit}, as in fit; write num_embeddings")
    return codes


def learn(
    settings: Settings, rows: Numbers, goal: Goal, weight: Numbers | None, seed: int, parts: tuple[Rows, Rows]
) -> Learned:
    """Train a network.

    Args:
        settings: Checked parameters.
        rows: ``(rows, ...)``, float32 or float64, in which dtype everything is computed.
        goal: What is learned.
        weight: Of each row, above 0, ``(rows,)``; None where all count the same.
        seed: Of initialisation, order and dropout.
        parts: The row numbers of train and valid; valid may be empty.

    Raises:
        ConfigError: Layers, loss, optimizer and data do not meet.
        EstimatorError: A step fails, or a loss is not finite.
    """
    with alone(settings.device):
        limit = _limit(settings, rows)
        reading = _reading(settings, rows, weight, parts[0], limit)
        inputs = reading(rows)
        seed_all(torch_seed(seed, "initialisation"))
        with float32_by_default():
            network = make_network(settings, inputs, replace(goal, values=goal.values[parts[0]]), limit)
        threads, how = _execution(settings, network, reading, len(parts[0]))
        reading = Reading(reading.shape, reading.dtype, reading.scaling, limit, threads, reading.batch_size)
        target = _spelled(settings, network, goal, weight, parts[0], reading.dtype)
        loss = _loss(network, goal, weight is not None, settings.device, reading.dtype)
        module = network.module.to(settings.device, reading.dtype)
        examples = Examples({"x": inputs}, target).to(settings.device)
        with Arithmetic(threads):
            warn_of_findings(network, settings.optimizer, loss, examples, parts[0], weight is not None)
        seed_all(torch_seed(seed, "training"))
        optimizer = make_optimizer(resolve_optimizer(settings.optimizer, settings.device), module)
        with Arithmetic(threads):
            engine = choose_engine(how, module, loss, optimizer)
            history, best = _trained(settings, engine, examples, parts, seed, reading.batch_size)
        if not all(bool(torch.isfinite(value).all()) for value in module.parameters()):
            raise EstimatorError(
                "fit: weights that are no finite numbers came of the last step; lower the learning rate or scale y"
            )
        module.eval()
        return Learned(network, reading, history, best, engine.played())


@contextmanager
def alone(device: torch.device) -> Iterator[None]:
    """Run a block with generators of its own, and no other fit beside it in this process."""
    with ALONE, all_forked(), forked(device):
        yield


def decoded(module: nn.Module, decoding: Decoding, reading: Reading, rows: Numbers, device: torch.device) -> Numbers:
    """Return probabilities ``(rows, classes)`` in the dtype of the network, or values ``(rows, outputs)``, float64.

    In float32 values far from 0 (times in seconds) would lose what tells them apart.
    """
    inputs = reading(rows)
    if reading.scaling is None:
        inputs = inputs.clone()  # a network may write into its input
    examples = Examples({"x": inputs}, torch.zeros(len(inputs), dtype=torch.int64)).to(device)
    with alone(device), Arithmetic(reading.threads):
        outputs: Tensor = decoding(outputs_of(Forward(module), examples, reading.batch_size))
    found: Numbers = (outputs.to(reading.dtype) if decoding.probabilistic else outputs).numpy()
    return found


def _limit(settings: Settings, rows: Numbers) -> int | None:
    """Return the number of codes in the rows, or that the first layer names; None where numbers are read."""
    if not reads_codes(settings.layers):
        return None
    written = settings.layers[0].keywords.get("num_embeddings")
    return int(written) if written is not None else int(whole_codes(rows, None).max()) + 1


def _reading(settings: Settings, rows: Numbers, weight: Numbers | None, train_rows: Rows, limit: int | None) -> Reading:
    """Return how rows are read, learned from the train rows."""
    dtype = torch.float64 if rows.dtype == np.float64 and limit is None else torch.float32
    scaling = None
    if settings.standardize and limit is None:
        layout = layout_of(settings.layers, rows.ndim)
        axis = layout.index("C") if layout is not None else None
        some = len(train_rows) < len(rows)
        given = weight if weight is None or not some else weight[train_rows]
        scaling = fit_scaling(rows[train_rows] if some else rows, given, axis)
    return Reading(rows.shape[1:], dtype, scaling, limit, 1, settings.rows_of(len(train_rows)))


def _execution(settings: Settings, network: Network, reading: Reading, rows: int) -> tuple[int, Execution]:
    """Return the threads of each operation and how steps are executed, by a rule from shapes.

    Raises:
        ConfigError: The engine asked for cannot run.
    """
    engine, on_cpu = settings.engine, settings.device.type == "cpu"
    parameters = sum(parameter.numel() for parameter in network.module.parameters())
    closure = settings.optimizer.strip().rpartition(".")[2].partition("(")[0] in WITHOUT_CLOSURE
    fits = on_cpu and not closure and parameters <= LARGEST
    if engine == "auto":
        steps = settings.epochs * steps_per_epoch(rows, reading.batch_size, "keep")
        shapes = 1 if rows % reading.batch_size == 0 else 2
        engine = "captured" if fits and steps >= FEWEST_STEPS * shapes else "eager"
    elif engine == "captured" and (closure or settings.device.type not in ("cpu", "cuda")):
        raise ConfigError(f"training.engine: captured came; the device is {settings.device}, the optimizer {settings.optimizer}; "
                          "expected cpu or cuda, and an optimizer that reads the loss once; write auto or eager")  # fmt: skip
    elif engine == "compiled" and (why := why_not_compiled(settings.device)) is not None:
        raise ConfigError(f"training.engine: compiled came; it cannot run here: {why}; write auto or eager")
    lanes = 1
    if engine == "captured" and on_cpu and settings.threads is None:
        lanes = choose_lanes(network.multiply_adds, network.dense, reading.batch_size)
    threads = settings.threads or (1 if lanes > 1 else choose_threads(network.multiply_adds, reading.batch_size))
    lanes = min(lanes, torch.get_num_threads())  # a worker of joblib may use one; the bits are the same
    return threads, Execution(engine, settings.engine == "captured", lanes=lanes)


def _spelled(
    settings: Settings, network: Network, goal: Goal, weight: Numbers | None, train_rows: Rows, dtype: torch.dtype
) -> Tensor:
    """Return the target as the loss reads it, with the weights as its last column; a regression's target is scaled."""
    task = network.task
    values = torch.from_numpy(goal.values)
    if goal.kind == "regression":
        if settings.standardize and not task.decoding.rates:
            given = None if weight is None else weight[train_rows]
            scaling = fit_scaling(goal.values[train_rows], given, 1)
            task.decoding.mean.copy_(torch.from_numpy(scaling.mean))
            task.decoding.scale.copy_(torch.from_numpy(scaling.scale))
        values = (values - task.decoding.mean) / task.decoding.scale
    if weight is None:
        plain = task.class_target and goal.kind != "multilabel"
        return values if plain else values.to(dtype).reshape(len(values), -1)
    counted = torch.from_numpy(weight.astype(np.float64))
    whole = counted
    loss = task.loss_function
    if isinstance(loss, IGNORING) and loss.weight is not None:
        whole = counted * loss.weight.double()[values]
    counted = counted * (len(train_rows) / whole[torch.from_numpy(train_rows)].sum())
    return torch.cat([values.reshape(len(values), -1).to(dtype), counted.to(dtype).unsqueeze(1)], dim=1)


def _loss(network: Network, goal: Goal, weighted: bool, device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
    """Return the loss on the device, with weights where rows have some.

    Raises:
        EstimatorError: An own loss gives no loss of each row.
    """
    loss = network.task.loss_function
    if isinstance(loss, nn.Module):
        loss = loss.to(device, dtype)
    if not weighted:
        return loss  # type: ignore[no-any-return]
    if not isinstance(loss, nn.Module) or not hasattr(loss, "reduction"):
        raise EstimatorError(
            f"sample_weight: the loss {network.task.loss} gives one number for all rows; expected one that has "
            'reduction="none"; write a loss of torch.nn, or leave sample_weight out'
        )
    each: Any = copy.deepcopy(loss)
    each.reduction = "none"
    return WeightedRows(each, network.task.class_target and goal.kind != "multilabel")


def _trained(
    settings: Settings, engine: Engine, examples: Examples, parts: tuple[Rows, Rows], seed: int, batch_size: int
) -> tuple[dict[str, list[float]], int | None]:
    """Train, keep the best weights where valid rows chose them, and return the losses and the best epoch."""
    train_rows, valid_rows = parts
    history: dict[str, list[float]] = {"train_loss": [], **({"valid_loss": []} if len(valid_rows) else {})}

    def watch(record: EpochRecord) -> None:
        history["train_loss"].append(record.train_loss)
        if "valid_loss" in history:
            history["valid_loss"].append(record.valid["loss"])
        for observer in settings.observers:
            observer(record)

    lonely = normalises_batches(engine.model) and len(train_rows) > 1 and len(train_rows) % batch_size == 1
    plan = Plan(train_rows, batch_size, "drop" if lonely else "keep", settings.epochs, seed, patience=settings.patience)
    if not len(valid_rows) and not settings.observers and not len(train_rows) % batch_size:
        return {"train_loss": _trained_together(engine, examples, plan)}, None
    forward = Forward(engine.model, Execution(engine.name if engine.name == "captured" else "eager"))

    def validate() -> dict[str, float]:
        return {"loss": score(forward, engine.loss_function, examples, valid_rows, batch_size).loss}

    try:
        progress = train(
            engine,
            examples,
            plan,
            validate if len(valid_rows) else None,
            Journal(None, ()),
            NothingKept(),
            watch,
            StopRequest(),
            Progress(),
        )
    except StepFailed as problem:
        raise _explained(problem) from problem.error
    if progress.best is None:
        return history, None
    engine.model.load_state_dict(progress.best.weights)
    return history, progress.best.epoch


@final
class Losses:
    """Keeps the mean losses of steps and their weights."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.seconds = {"train": 0.0}

    def steps(self, epoch: int, last: int, losses: Tensor, weights: Tensor) -> None:
        """Keep the losses of some steps."""
        self.losses.append(losses)
        self.weights.append(weights)

    def waited(self, seconds: float) -> None:
        """Count nothing."""

    def of_epochs(self, steps: int) -> list[float]:
        """Return the weighted means of so many steps each."""
        losses = torch.cat(self.losses).double().cpu().reshape(-1, steps)
        weights = torch.cat(self.weights).double().cpu().reshape(-1, steps)
        means: list[float] = ((losses * weights).sum(dim=1) / weights.sum(dim=1)).tolist()
        return means


def _trained_together(engine: Engine, examples: Examples, plan: Plan) -> list[float]:
    """Train on the batches of many epochs as on those of one, which saves what an epoch costs; return the loss of each.

    Raises:
        EstimatorError: A step fails, or a loss is not finite.
    """
    losses = Losses()
    steps = steps_per_epoch(len(plan.rows), plan.batch_size, plan.last_batch)
    most = max(1, ROWS_TOGETHER // len(plan.rows))
    for done in range(0, plan.epochs, most):
        together = replace(plan, together=min(most, plan.epochs - done))
        try:
            train_epoch(engine, examples, together, Progress(done, done * steps), losses, NothingKept(), StopRequest())
        except StepFailed as problem:
            raise _explained(problem) from problem.error
    return losses.of_epochs(steps)


def _explained(problem: StepFailed) -> EstimatorError:
    where = f"fit: step {problem.step} of epoch {problem.epoch}"
    if isinstance(problem.error, DivergedError):
        return EstimatorError(f"{where}: {problem.error}; expected a finite number; lower the learning rate or scale y")
    return EstimatorError(
        f"{where} fails: {type(problem.error).__name__}: {first_line(problem.error)}; mend network or loss"
    )
