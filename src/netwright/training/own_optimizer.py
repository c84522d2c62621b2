"""Optimizers that are built by a function or a class of the user's, one or several by name. Floor 9."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from netwright.engine.own_step import Optimizers
from netwright.errors import ConfigError, first_line
from netwright.training.optimizer import refuse_nothing_to_train

Factory = Callable[..., torch.optim.Optimizer]
Factories = Factory | Mapping[str, Factory]
EXPECTED = "a function of model.parameters(), such as lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)"


def refuse_unusable(optimizer: Any) -> None:
    """Refuse what builds no optimizer.

    Raises:
        ConfigError: An optimizer that is built already, or something that cannot be called.
    """
    if isinstance(optimizer, Mapping):
        if not optimizer or not all(isinstance(name, str) for name in optimizer):
            raise ConfigError(f"optimizer: {optimizer!r} came; expected functions by name; write at least one name")
        for factory in optimizer.values():
            refuse_unusable(factory)
        return
    if isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer: a built {type(optimizer).__name__} came; expected {EXPECTED}, so that it can be built again for trials "
            "and seeds; hand over the function"
        )
    if not callable(optimizer):
        raise ConfigError(
            f"optimizer: {type(optimizer).__name__} came; expected a text such as Adam(lr=1e-3), or {EXPECTED}"
        )


def build_own(optimizer: Factories, model: nn.Module) -> Any:
    """Build the optimizer of a network, or several by name.

    Args:
        optimizer: A function or class that gets the parameters that need a gradient, or, where it has a parameter named
            ``model``, the network; or such by name.
        model: The network.

    Raises:
        ConfigError: It fails, or what it returns is no optimizer of the network's parameters.
    """
    if isinstance(optimizer, Mapping):
        return Optimizers({name: _build(factory, model, f"optimizer {name!r}") for name, factory in optimizer.items()})
    return _build(optimizer, model, "optimizer")


def _build(factory: Factory, model: nn.Module, where: str) -> torch.optim.Optimizer:
    if "model" in _names(factory):
        keywords: dict[str, Any] = {"model": model}
        arguments: list[Any] = []
    else:
        refuse_nothing_to_train(model)
        keywords, arguments = {}, [[parameter for parameter in model.parameters() if parameter.requires_grad]]
    try:
        made = factory(*arguments, **keywords)
    except Exception as error:  # an own function may raise anything
        raise ConfigError(
            f"{where}: it cannot be built: {type(error).__name__}: {first_line(error)}; expected {EXPECTED}; mend it"
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(
            f"{where}: the function returned {type(made).__name__}; expected a torch.optim.Optimizer; return one"
        )
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in known for group in made.param_groups for parameter in group["params"]):
        raise ConfigError(
            f"{where}: it holds parameters of another network; expected those it is handed; take them from the argument, or name "
            "the argument model to get the network"
        )
    if not isinstance(getattr(made.step, "__self__", made), torch.optim.Optimizer) or not _takes_closure(made):
        raise ConfigError(
            f"{where}: the step of {type(made).__name__} takes no closure; expected def step(self, closure=None) that calls it, "
            "as torch documents; mend it"
        )
    return made


def _names(factory: Factory) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return ()


def _takes_closure(optimizer: torch.optim.Optimizer) -> bool:
    try:
        inspect.signature(optimizer.step).bind(lambda: None)
    except TypeError:
        return False
    except ValueError:  # no signature is known
        return True
    return True


def described(optimizer: Any) -> str:
    """Return an optimizer in words: its class with the learning rate and what differs from the usual, once for each group.

    Example:
        >>> weights = [torch.zeros(1, requires_grad=True)]
        >>> described(torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1))
        'AdamW(lr=0.01, weight_decay=0.1)'
    """
    if isinstance(optimizer, Optimizers):
        return ", ".join(f"{name} {described(one)}" for name, one in optimizer.named.items())
    usual = {name: one.default for name, one in inspect.signature(type(optimizer)).parameters.items()}
    texts = []
    for group in optimizer.param_groups:
        told = {
            name: value
            for name, value in group.items()
            if name == "lr" or (isinstance(value, bool | int | float | str | tuple) and usual.get(name, value) != value)
        }
        shown = ", ".join(f"{name}={float(value) if name == 'lr' else value!r}" for name, value in told.items())
        texts.append(f"{type(optimizer).__name__}({shown})")
    return " and ".join(dict.fromkeys(texts))
