"""What a training step reads and writes: copied, put back, compared bit by bit, and known by where it lies. Floor 6."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def parts_of(model: nn.Module) -> list[nn.Module]:
    """Return what ``model.modules()`` yields, in less time than the names take that it makes."""
    found, todo = {model: None}, [model]
    for part in todo:
        for child in part._modules.values():
            if child is not None and child not in found:
                found[child] = None
                todo.append(child)
    return todo


def tensors(model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Yield parameters, buffers and the optimizer's tensors, always in the same order."""
    for module in (model, loss_function):
        for part in _modules(module):
            yield from (value for value in part._parameters.values() if value is not None)
            yield from (value for value in part._buffers.values() if value is not None)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            yield from (value for value in state.values() if isinstance(value, Tensor))


def copied(model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return a copy of all that a step on the CPU changes, torch's generator last."""
    found = [value.detach().clone() for value in tensors(model, loss_function, optimizer)]
    return [*found, torch.default_generator.get_state()]


def put_back(before: Sequence[Tensor], model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer) -> None:
    """Put everything where `copied` found it."""
    *values, generator = before
    with torch.no_grad():
        for into, value in zip(tensors(model, loss_function, optimizer), values, strict=True):
            into.copy_(value)
    torch.default_generator.set_state(generator)


def differing(some: Sequence[Tensor], others: Sequence[Tensor]) -> int:
    """Return how many tensors of two lists are not equal bit by bit."""
    return sum(not torch.equal(_bits(one), _bits(other)) for one, other in zip(some, others, strict=True))


def _bits(value: Tensor) -> Tensor:
    return value.reshape(-1).contiguous().view(torch.uint8)


def signature(model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    """Return what a recording hangs on: where tensors lie, and the settings of modules and optimizer.

    Learning rate and momentum are left out where the optimizer's kernel gets them for each step, see `netwright.recording.rates`.
    """
    modes = [_settings(module) for part in (model, loss_function) for module in _modules(part)]
    lies = [(value.data_ptr(), value.requires_grad) for value in tensors(model, loss_function, optimizer)]
    return tuple(modes), tuple(lies), tuple(_fixed(group) for group in optimizer.param_groups)


def _fixed(group: dict[str, Any]) -> tuple[Any, ...]:
    """Return the settings of a group that a recording holds; of a momentum whether there is one."""
    known = {name: _plain(value) for name, value in group.items() if name != "params"}
    if fused(group):
        known |= {"lr": None, "betas": known.get("betas", (0,))[1:], "momentum": bool(known.get("momentum"))}
    return tuple(known.items())


def lies(model: nn.Module) -> tuple[Any, ...]:
    """Return where the tensors of a network lie, and the settings of its modules."""
    values = (*model.parameters(), *model.buffers())
    return (*(value.data_ptr() for value in values), *map(_settings, model.modules()))


GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")
CONSTANTS = {int, float, bool, str, tuple, type(None)}


def _settings(module: nn.Module) -> tuple[Any, ...]:
    """Return the plain values of a module, its mode and the probability of a dropout among them, and whether it has hooks."""
    return (*(value for value in vars(module).values() if type(value) in CONSTANTS), _hooked(module))


def fused(group: dict[str, Any]) -> bool:
    """Tell whether the parameters of a group are updated by a fused kernel."""
    return bool(group.get("fused"))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else float(value) if isinstance(value, Tensor) else value


def _modules(part: Any) -> list[nn.Module]:
    return parts_of(part) if isinstance(part, nn.Module) else []


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def unfit(model: nn.Module, loss_function: Loss, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why the state of a step cannot be copied and put back; None where it can."""
    for value in tensors(model, loss_function, optimizer):
        if torch._debug_has_internal_overlap(value) == 1:
            return f"a tensor {tuple(value.shape)} of its state has one number in several places"
    return None


def hooked(model: nn.Module, loss_function: Loss) -> str | None:
    """Return what has a hook, in words; None where nothing has."""
    if any(getattr(nn.modules.module, name, None) for name in GLOBAL_HOOKS):
        return "all modules have a hook"
    for part in (model, loss_function):
        for module in _modules(part):
            if _hooked(module):
                return f"{type(module).__name__} has a hook"
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"parameter {name} has a hook"
    return None


def hooked_optimizer(optimizer: torch.optim.Optimizer) -> str | None:
    """Return what an optimizer does that a recording would leave out, in words; None where it is one of torch.optim's own."""
    kind = type(optimizer)
    if not f"{kind.__module__}.".startswith("torch.optim."):
        return f"{kind.__name__} is no optimizer of torch.optim"
    if "step" in vars(optimizer):
        return f"the step of {kind.__name__} is wrapped"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return f"{kind.__name__} has a hook"
    return None


def counted_on_cpu(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why a CUDA graph cannot hold the steps of an optimizer, which reads their number on the CPU; None where it can.

    All that count their steps do so, but for fused kernels and with ``capturable=True`` (torch.optim, documentation).

    Args:
        optimizer: One of torch.optim's own; it stays as it is.

    Example:
        >>> weight = torch.zeros(2, 2, requires_grad=True)
        >>> counted_on_cpu(torch.optim.RMSprop([weight]))
        'RMSprop reads the number of the step on the CPU; write RMSprop(..., capturable=True)'
        >>> counted_on_cpu(torch.optim.SGD([weight])) is None
        True
    """
    groups, kind = optimizer.param_groups, type(optimizer)
    weight = torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    usual = kind([weight])  # type: ignore[call-arg]  # a class of torch.optim, each of which has defaults
    try:
        usual.step()
    except RuntimeError:  # SparseAdam, of a gradient that is not sparse; the trial of a step tells
        return None
    if "step" not in usual.state[weight] or all(group.get("fused") or group.get("capturable") for group in groups):
        return None
    told = f"; write {kind.__name__}(..., capturable=True)" if "capturable" in groups[0] else ""
    return f"{kind.__name__} reads the number of the step on the CPU{told}"
