"""Everything the future of a training depends on, taken from it and put back. Floor 9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netwright.checkpoint.trees import first_not_finite
from netwright.distributed.pieces import dealt_as
from netwright.engine.base import Engine
from netwright.engine.sharding import dealt_state
from netwright.errors import CheckpointError, first_line
from netwright.seeding import generator_states, restore_generators
from netwright.training.loop import Best, Progress


def remembered(engine: Engine, device: torch.device, progress: Progress) -> dict[str, Any]:
    """Return the state of a training between two steps.

    Args:
        engine: Model, loss and optimizer.
        device: That they are on.
        progress: How far it is.

    Returns:
        By part: ``model`` (parameters and all buffers), ``loss``, ``optimizer``, ``scaler`` (of float16), ``generators``,
        ``progress`` (epoch, step, steps within the epoch, the best figure), ``best`` (its weights), ``averaged`` (where there is
        a mean of the weights).
    """
    loss, best, averaged = engine.loss_function, progress.best, engine.eager.averaged
    return {
        "model": {"state": engine.model.state_dict(), "passing": dict(_passing(engine.model))},
        "loss": loss.state_dict() if isinstance(loss, nn.Module) else {},
        "optimizer": engine.optimizer.state_dict(),
        **({} if engine.eager.scaler is None else {"scaler": engine.eager.scaler.state_dict()}),
        "generators": generator_states(device),
        "progress": {
            "epoch": progress.epoch,
            "step": progress.step,
            "within": progress.within,
            "best": None if best is None else {"epoch": best.epoch, "step": best.step, "value": best.value},
            **({} if progress.final is None else {"final": progress.final}),
        },
        "best": {} if best is None else best.weights,
        **({} if averaged is None else {"averaged": averaged.state_dict()}),
    }


def put_back(parts: Mapping[str, Any], engine: Engine, device: torch.device) -> Progress:
    """Put a training where `remembered` found it, and return how far that was.

    Raises:
        CheckpointError: The state is of another network, loss or optimizer.
    """
    try:
        engine.model.load_state_dict(dealt_as(parts["model"]["state"], engine.model.state_dict()))
        with torch.no_grad():
            for name, buffer in _passing(engine.model):
                buffer.copy_(parts["model"]["passing"][name])
        if isinstance(engine.loss_function, nn.Module):
            engine.loss_function.load_state_dict(parts["loss"])
        engine.optimizer.load_state_dict(dealt_state(parts["optimizer"], engine.optimizer))
        if engine.eager.scaler is not None:
            engine.eager.scaler.load_state_dict(parts["scaler"])
        if engine.eager.averaged is not None:
            engine.eager.averaged.load_state_dict(parts["averaged"])
        restore_generators(parts["generators"], device)
        told = parts["progress"]
        best, weights = told["best"], dealt_as(parts["best"], engine.model.state_dict())
        return Progress(
            epoch=told["epoch"],
            step=told["step"],
            within=told["within"],
            best=None if best is None else Best(best["epoch"], best["step"], best["value"], weights),
            final=told.get("final"),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint: does not fit the run ({type(error).__name__}: {first_line(error)}); expected the same network, loss "
            "and optimizer; check the run"
        ) from error


def _passing(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that state_dict leaves out."""
    for path, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            buffer = getattr(module, name)
            if buffer is not None:
                yield f"{path}.{name}".strip("."), buffer


def spoiled(engine: Engine) -> str | None:
    """Return the name of the first parameter, or tensor of the optimizer, that is not finite; None where all are."""
    named = dict(engine.model.named_parameters())
    found = first_not_finite(named)
    if found is not None:
        return found
    names = {id(parameter): name for name, parameter in named.items()}
    for parameter, state in engine.optimizer.state.items():
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        inside = first_not_finite(tensors)
        if inside is not None:
            return f"the optimizer's {inside} of {names.get(id(parameter), 'a parameter')}"
    return None
