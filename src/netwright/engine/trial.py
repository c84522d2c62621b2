"""A few steps on copies before anything is written: what cannot train is told, and which engine can run it. Floor 7."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.base import Loss
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine, train_step
from netwright.engine.graphed import PADDED
from netwright.engine.own_code import why_not_told
from netwright.engine.own_step import AS_WRITTEN, OwnStep
from netwright.engine.scaling import scaler_for
from netwright.engine.update import PLAIN, Update
from netwright.errors import ConfigError, DivergedError, first_line
from netwright.model.summary import call_model
from netwright.recording.graphs import drawn_by_cudnn
from netwright.recording.recorded import CHECKED
from netwright.recording.state import counted_on_cpu, hooked, hooked_optimizer, parts_of
from netwright.seeding import all_forked, forked

Make = Callable[[nn.Module], torch.optim.Optimizer]
Begin = Callable[[nn.Module], object]
LARGEST = 20_000_000  # parameters up to which a capture can gain more than noise
WITHOUT_CLOSURE = ("LBFGS",)  # optimizers that evaluate the loss several times a step


def try_step(
    model: nn.Module, loss_function: Loss, make: Make, batch: Batch, update: Update = PLAIN, begin: Begin = nn.Module.train
) -> None:
    """Take one training step on a copy of the model, so that what cannot train is told before anything is written.

    Args:
        model: On the CPU; neither it nor any generator is touched.
        loss_function: Of output and target.
        make: Builds the optimizer of a network.
        batch: A few rows.
        update: What else a step does.
        begin: Lets a network train as it does in the first epoch.

    Raises:
        ConfigError: The network, the loss or the optimizer fails on the rows.
    """
    trial = copy.deepcopy(model)
    begin(trial)
    target = f"target {tuple(batch.target.shape)} {str(batch.target.dtype).removeprefix('torch.')}"
    if isinstance(loss_function, OwnStep):
        _try_own_step(trial, loss_function, make, batch)
        return
    with forked(batch.target.device):
        try:
            output = call_model(trial, batch.inputs, batch.lengths)
        except Exception as error:  # an own module may raise anything
            raise ConfigError(
                f"model: the network fails in training mode: {type(error).__name__}: {first_line(error)}; mend its forward"
            ) from error
        try:
            loss = loss_function(output, batch.target)
        except Exception as error:  # an own loss may raise anything
            raise ConfigError(
                f"training.loss: it fails on output {tuple(output.shape)} and {target}: {first_line(error)}; change the loss "
                "or the network's end"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r:.60}"
            raise ConfigError(
                f"training.loss: {what} came for output {tuple(output.shape)} and {target}; expected one number as a tensor; "
                "return its mean(), without item()"
            )
        try:
            train_step(trial, loss_function, make(trial), batch, update, scaler_for(update, trial))
        except DivergedError:
            return  # training itself tells it, with the step
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"training: a trial step fails: {first_line(error)}; change the network, the loss or the optimizer"
            ) from error


def normalises_batches(model: nn.Module, resting: Collection[str] = ()) -> bool:
    """Tell whether a layer is BatchNorm, which cannot train on a single row.

    Args:
        model: The network.
        resting: Names of those that stay in eval mode in training: they read one row as well as many.
    """
    still = [model.get_submodule(name) for name in resting]
    found = (part for part in parts_of(model) if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return any(all(part is not one for one in still) for part in found)


def _try_own_step(trial: nn.Module, step: OwnStep, make: Make, batch: Batch) -> None:
    """Take a step of one's own on a copy.

    Raises:
        ConfigError: It fails.
    """
    with all_forked():
        try:
            step.take(trial, batch, make(trial))
        except DivergedError:
            return  # training itself tells it, with the step
        except ConfigError:
            raise
        except Exception as error:  # an own step may raise anything
            raise ConfigError(
                f"step: {step.name} fails on {len(batch)} rows: {type(error).__name__}: {first_line(error)}; mend the function"
            ) from error


def why_not_captured(
    model: nn.Module, loss_function: Loss, make: Make, batch: Batch, update: Update = PLAIN, begin: Begin = nn.Module.train
) -> str | None:
    """Return why the steps of a network cannot be recorded and replayed, found out on a copy of it; None where they can.

    Args:
        model: On the CPU; neither it nor any generator is touched.
        loss_function: Of output and target.
        make: Builds the optimizer of a network.
        batch: A few rows.
        update: What else a step does.
        begin: Lets a network train as it does in the first epoch.
    """
    if isinstance(loss_function, OwnStep):
        return AS_WRITTEN
    code = why_not_told(model, loss_function)
    why = why_not_recorded(update) or hooked(model, loss_function)
    if code is not None or why is not None:
        return why or f"{code}, so that steps have to run as they are written"
    if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
        return f"steps of more than {LARGEST:,} parameters gain nothing"
    trial, trial_loss = copy.deepcopy((model, loss_function))
    begin(trial)
    optimizer = make(trial)
    if type(optimizer).__name__ in WITHOUT_CLOSURE:
        return f"{type(optimizer).__name__} evaluates the loss several times a step"
    why = hooked_optimizer(optimizer)
    if why is not None:
        return why
    engine = CapturedEngine(EagerEngine(trial, trial_loss, optimizer, update), native=False)
    steps = 2 + CHECKED
    with forked(batch.target.device):
        for _ in range(steps):
            failure = engine.train_steps(_again(batch), 1).failure
            if failure is not None and not isinstance(failure.error, DivergedError):
                return f"a step fails when it is recorded ({type(failure.error).__name__}: {first_line(failure.error)})"
    return engine.why_not


def why_not_graphed(
    model: nn.Module, loss_function: Loss, make: Make, batch: Batch, update: Update = PLAIN, begin: Begin = nn.Module.train
) -> str | None:
    """Return why the steps of a network cannot be captured as a CUDA graph, as far as a copy of it on the CPU tells; else None.

    What a recording on the CPU cannot hold, a graph cannot: numbers that are read in the middle of a step. The optimizer's kernels
    are others there; of those it is only asked whether they read the number of the step on the CPU.

    Args:
        model, loss_function, batch, update, begin: See `why_not_captured`.
        make: Builds the optimizer of a network, as it will be on the GPU.
    """
    if isinstance(loss_function, OwnStep):
        return AS_WRITTEN
    why = PADDED if batch.lengths is not None else drawn_by_cudnn(model)
    if why is not None:
        return why
    trial = copy.deepcopy(model)
    begin(trial)
    optimizer = make(trial)
    if type(optimizer).__name__ in WITHOUT_CLOSURE:
        return f"{type(optimizer).__name__} evaluates the loss several times a step"
    why = hooked_optimizer(optimizer) or counted_on_cpu(optimizer)
    return why or why_not_captured(model, loss_function, _plain_optimizer, batch, update, begin)


def _plain_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.0, fused=True)


def why_not_recorded(update: Update) -> str | None:
    """Return what of a step no recording can hold, in words; None where one can."""
    if update.micro_batch is not None:
        return "a batch in parts is several pieces of work"
    if update.autocast is torch.float16:
        return "a step in float16 is skipped where gradients overflow, which only taking it tells"
    return None


def _again(batch: Batch) -> Feed:
    """Return a feed of one batch."""
    return Feed(Examples(batch.inputs, batch.target), np.empty(1, dtype=np.int64), 1, changed=iter([batch]))
