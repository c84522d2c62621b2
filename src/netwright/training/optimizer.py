"""torch.optim by its own spelling; the resolved text says whether the fused kernel runs. Floor 7."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from netwright.config import signatures
from netwright.config.calls import Call, parse_call
from netwright.errors import ConfigError

# Optimizers with a fused kernel, by type of device (torch documentation, torch.optim).
FUSED = {
    "cpu": ("Adam", "AdamW", "SGD", "Adagrad"),
    "cuda": ("Adam", "AdamW", "SGD"),
}


def resolve_optimizer(text: str, device: torch.device) -> Call:
    """Return the optimizer's call with every argument by keyword, ``fused=True`` written where torch offers it.

    Args:
        text: For instance ``Adam(lr=1e-3)``; ``fused`` and ``foreach`` in it are honoured.
        device: Where the parameters are.

    Raises:
        ConfigError: The name or an argument is unknown.

    Example:
        >>> str(resolve_optimizer("Adam(1e-3)", torch.device("cpu")))
        'Adam(lr=0.001, fused=True)'
    """
    call = parse_call(text, "training.optimizer")
    problem = signatures.optimizers().problem(call, "training.optimizer")
    if problem:
        raise ConfigError(problem)
    named = signatures.named(call, signatures.optimizers(), "training.optimizer")
    given = named.keywords
    for name, value in given.items():
        if isinstance(value, str) and name not in ("line_search_fn", "adjust_lr_fn"):
            raise ConfigError(
                f"training.optimizer: {name}={value!r} came; expected a number; write for instance {name}=0.001"
            )
    choice_made = any(given.get(name) for name in ("foreach", "differentiable")) or "fused" in given
    if call.name in FUSED.get(device.type, ()) and not choice_made:
        named = named.with_keyword("fused", True)
    return named


def make_optimizer(call: Call, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build an optimizer of the parameters that need a gradient.

    Raises:
        ConfigError: No such parameter, or torch refuses an argument.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ConfigError("model: no parameter needs a gradient; expected at least one to train; check the network")
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in call.kwargs}
    try:
        made: torch.optim.Optimizer = getattr(torch.optim, call.name)(trained, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"training.optimizer: {call} cannot be built: {error}; mend its arguments") from None
    return made
