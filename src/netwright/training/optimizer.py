"""torch.optim by its own spelling; the resolved text says whether the fused kernel runs. Floor 9."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, wraps
from typing import Any

import torch
from torch import nn
from torch.optim import optimizer as base

from netwright.config import signatures
from netwright.config.calls import Call, parse_call
from netwright.errors import ConfigError
from netwright.training.groups import SETTING, split_parameters, tupled

# Optimizers with a fused kernel, by type of device (torch documentation, torch.optim).
FUSED = {
    "cpu": ("Adam", "AdamW", "SGD", "Adagrad"),
    "cuda": ("Adam", "AdamW", "SGD"),
}
MATRICES_ONLY = ("Muon",)
ALL_AT_ONCE = ("SGD",)  # whose fused kernel wants momentum of all parameters or of none


def resolve_optimizer(text: str, device: torch.device, later: bool = False) -> Call:
    """Return the optimizer's call with every argument by keyword, ``fused=True`` written where torch offers it.

    Args:
        text: For instance ``Adam(lr=1e-3)``; ``fused`` and ``foreach`` in it are honoured.
        device: Where the parameters are.
        later: Whether some parameters begin to learn when others have momentum already.

    Raises:
        ConfigError: The name or an argument is unknown.

    Example:
        >>> str(resolve_optimizer("Adam(1e-3)", torch.device("cpu")))
        'Adam(lr=0.001, fused=True)'
    """
    call = parse_call(text, "training.optimizer")
    if call.name == signatures.USUAL:
        call = replace(call, name="Adam")
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
    fused = call.name in FUSED.get(device.type, ()) and not (later and call.name in ALL_AT_ONCE)
    if fused and not names_kernel(named):
        named = named.with_keyword("fused", True)
    if device.type == "cpu" and given.get("capturable"):  # torch refuses the step of such on the CPU
        named = named.with_keyword("capturable", False)
    return named


def names_kernel(call: Call) -> bool:
    """Tell whether an optimizer's keywords say which of its kernels runs."""
    return "fused" in call.keywords or any(call.keywords.get(name) for name in ("foreach", "differentiable"))


def refuse_nothing_to_train(model: nn.Module) -> None:
    """Refuse a network without parameters that need a gradient.

    Raises:
        ConfigError: There is none.
    """
    if any(parameter.requires_grad for parameter in model.parameters()):
        return
    if next(iter(model.parameters()), None) is not None:
        raise ConfigError("model: no parameter needs a gradient; expected at least one to train; check the network")
    raise ConfigError(
        "model: it has no parameter that torch sees; expected at least one to train; layers in a list or a dictionary go into "
        "nn.ModuleList or nn.ModuleDict, a tensor into nn.Parameter"
    )


def make_optimizer(call: Call, model: nn.Module, groups: Sequence[Mapping[str, Any]] = ()) -> torch.optim.Optimizer:
    """Build an optimizer of the parameters that need a gradient.

    Args:
        call: What `resolve_optimizer` gave.
        model: The network.
        groups: See `netwright.training.groups.split_parameters`.

    Raises:
        ConfigError: No such parameter, or torch refuses an argument.
    """
    refuse_nothing_to_train(model)
    if call.name in MATRICES_ONLY:
        _refuse_no_matrices(call.name, model)
    arguments = {name: tupled(value) for name, value in call.kwargs}
    if not groups:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return _built(call, trained, arguments, f"training.optimizer: {call}")
    named = dict(model.named_parameters())
    split = split_parameters(model, groups)
    for number, group in enumerate(group for group in split if group.arguments):
        parameters, own = [named[name] for name in group.names], {**arguments, **group.arguments}
        _built(call, parameters, own, f"{SETTING}.{number}: {call.name} with {dict(group.arguments)}")  # torch looks at them
    made = [{"params": [named[name] for name in group.names], **group.arguments} for group in split]
    return _built(call, made, arguments, f"training.optimizer: {call}")


def _built(call: Call, parameters: list[Any], arguments: Mapping[str, Any], what: str) -> torch.optim.Optimizer:
    """Return torch's optimizer.

    Raises:
        ConfigError: torch refuses an argument.
    """
    try:
        kind: Any = light(getattr(torch.optim, call.name))
        made: torch.optim.Optimizer = kind(parameters, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{what} cannot be built: {error}; mend its arguments") from None
    return made


def _refuse_no_matrices(name: str, model: nn.Module) -> None:
    """Refuse parameters that are no matrices, for an optimizer that takes only these.

    Raises:
        ConfigError: It names the first of them.
    """
    for parameter, value in model.named_parameters():
        if value.requires_grad and value.dim() != 2:
            raise ConfigError(
                f"training.optimizer: {name} came; it updates matrices only, and {parameter} has shape {tuple(value.shape)}; "
                "expected a network of matrices, such as Linear(64, bias=False); write AdamW(), or train with a step of your "
                "own in Python, which takes several optimizers by name (docs/optimizers.md)"
            )


@cache
def light(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return a subclass of an optimizer, of the same name, that does the same without importing torch._dynamo.

    torch wraps five methods of an optimizer so that torch.compile leaves them alone, and imports the compiler, which takes
    longer than a small run, when one is first called. Where nobody has imported it nothing is compiled, and the methods that
    torch wraps are called directly; afterwards torch's own wrappers are. A wrapper that is not known stays as it is.
    """
    methods: dict[str, Any] = {}
    for name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"):
        wrapped = getattr(kind, name)
        if _made_by(wrapped, getattr(torch, "_disable_dynamo", None)):
            methods[name] = _direct(wrapped, wrapped.__wrapped__)
    step: Any = kind.step
    if getattr(step, "hooked", False):  # for profiler and hooks; torch does so again with the step of the subclass
        step = step.__wrapped__
    if _made_by(step, getattr(base, "_use_grad_for_differentiable", None)):
        methods["step"] = _direct(step, _with_gradients(step.__wrapped__))
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _made_by(function: Any, decorator: Callable[[Any], Any] | None) -> bool:
    """Tell whether a function is what a decorator makes of another."""
    code = getattr(function, "__code__", None)
    return decorator is not None and code is not None and code is getattr(decorator(lambda: None), "__code__", None)


def _direct(wrapped: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that calls the plain one until torch._dynamo is there, then the wrapped one."""

    @wraps(plain)
    def method(*arguments: Any, **keywords: Any) -> Any:
        return (wrapped if "torch._dynamo" in sys.modules else plain)(*arguments, **keywords)

    return method


def _with_gradients(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that records gradients only where the optimizer is differentiable."""

    @wraps(step)
    def inner(self: torch.optim.Optimizer, *arguments: Any, **keywords: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *arguments, **keywords)

    return inner
