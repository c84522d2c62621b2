"""A network whose parameters, gradients and optimizer state are dealt out to the processes (FSDP2). Floor 7.

`torch.distributed.fsdp.fully_shard` does all of it, block by block: before a block runs its parameters are put together, after
it they are let go, and gradients are averaged piece by piece (Zhao and others 2023, arXiv:2304.11277; Rajbhandari and others 2020,
arXiv:1910.02054). Optimizers, norms and means of weights see torch's DTensors and need no code of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netwright.distributed.pieces import Piece, dealt_like, is_dealt
from netwright.errors import ConfigError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
FUSED_PIECES = ("Adam", "AdamW")  # optimizers whose fused kernel takes pieces
NO_PIECES = {  # optimizers that need a parameter as a whole, or change their state in ways that pieces do not allow (torch 2.13)
    "LBFGS": "it looks at all parameters as one vector",
    "Muon": "it needs each matrix as a whole",
    "Adafactor": "it keeps means over whole rows and columns",
    "Rprop": "its steps cannot be taken piece by piece",
    "SparseAdam": "it takes sparse gradients",
}
READS_PIECES = (
    "training.strategy: fsdp came; a module reads parameters of a layer that it does not call, and finds a piece of them; "
    'expected layers that are called; write strategy = "ddp", or call the layer'
)
SHARE = 0.6  # of the memory of a device, above which a whole copy on each is too much


def why_not_sharded(model: nn.Module, optimizer: str) -> str | None:
    """Return why a network cannot be dealt out to processes; None where it can.

    Args:
        model: The network.
        optimizer: The name of the optimizer.

    Example:
        >>> why_not_sharded(nn.Linear(2, 1), "LBFGS")
        'LBFGS: it looks at all parameters as one vector'
    """
    if optimizer in NO_PIECES:
        return f"{optimizer}: {NO_PIECES[optimizer]}"
    for name, parameter in model.named_parameters():
        if not parameter.dim():
            return f"the parameter {name} is a single number without an axis; give it the shape (1,)"
        if parameter.is_sparse:
            return f"the parameter {name} is sparse"
    return None


def choose_strategy(weights: int, copies: int, memory: int) -> str:
    """Return ``fsdp`` where whole copies of parameters, gradients and optimizer state are too much for a device, else ``ddp``.

    Args:
        weights: Bytes of the parameters.
        copies: Of them: parameters, gradients, and tensors of the optimizer.
        memory: Bytes of a device.

    Example:
        >>> choose_strategy(1 << 30, 4, 80 << 30), choose_strategy(20 << 30, 4, 80 << 30)
        ('ddp', 'fsdp')
    """
    return "fsdp" if weights * copies > SHARE * memory else "ddp"


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the parts of a network that are put together and let go one at a time.

    They are the elements of its sequences and lists that have parameters; parameters used in several places stay with the
    whole network.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
        >>> blocks_of(network) == [network[0], network[1][1]]
        True
    """
    places = [module for _, module in model.named_modules(remove_duplicate=False)]
    owners = Counter(id(value) for module in places for value in module._parameters.values() if value is not None)
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            alone = all(owners[id(value)] == 1 for value in child.parameters())
            block = isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS)
            if block and alone and any(True for _ in child.parameters()):
                found.append(child)
            else:
                walk(child)

    walk(model)
    return list(dict.fromkeys(found))


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """Deal the parameters of a network out to all processes, in place; each has the same network and must call.

    Args:
        model: On the device or on the CPU.
        device: That it trains on.

    Returns:
        The network itself; what it holds of a parameter is a piece.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in (*blocks_of(model), model):
        block.register_forward_hook(_without_views)
        fully_shard(block, mesh=mesh)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Tell whether the parameters of a network are dealt out."""
    return hasattr(model, "set_requires_gradient_sync")  # of torch's FSDPModule, which is not imported to ask


def let_go(model: nn.Module) -> None:
    """Let go of parameters that were put together for a pass forward without one back; nothing where none is dealt out."""
    for module in model.modules():
        if is_sharded(module):
            reshard: Any = module.reshard
            reshard()


def reads_pieces(error: Exception) -> bool:
    """Tell whether a step failed as a module read what is dealt out, without calling the layer that holds it."""
    return "mixed torch.Tensor and DTensor" in str(error)


def _without_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy outputs that share memory: a change of them in place would undo what fully_shard hooks on to them."""
    return tree_map_only(Tensor, lambda value: value.clone() if value._is_view() else value, output)


def without_fusion(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer whose fused kernel takes no pieces go without it; in its state it stands as before.

    A step in float16 whose gradients overflow is skipped by torch.amp.GradScaler, not within the kernel.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    if type(optimizer).__name__ in FUSED_PIECES:
        return
    fused = [bool(group.get("fused")) for group in optimizer.param_groups]

    def off(*_: Any) -> None:
        for group in optimizer.param_groups:
            if group.get("fused"):
                group["fused"] = False

    def as_before(_: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        for group, was in zip(state["param_groups"], fused, strict=True):
            if was:
                group["fused"] = True

    off()
    optimizer.register_load_state_dict_post_hook(off)
    optimizer.register_state_dict_post_hook(as_before)


def dealt_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer of whole tensors, or of pieces, dealt out as its parameters are.

    Args:
        state: As ``state_dict`` gave it, for the same parameters in the same order.
        optimizer: Whose state it will be.

    Raises:
        ValueError: It is of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(is_dealt(parameter) for parameter in parameters):
        return dict(state)
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    of_each = dict(zip(numbers, parameters, strict=True))

    def dealt(value: Any, parameter: Tensor) -> Any:
        same = isinstance(value, Tensor | Piece) and is_dealt(parameter) and tuple(value.shape) == tuple(parameter.shape)
        return dealt_like(value, parameter) if same else value

    held = {
        number: {name: dealt(value, of_each[number]) for name, value in kept.items()}
        for number, kept in state["state"].items()
    }
    return {**state, "state": held}


def refuse_unsharded(model: nn.Module, optimizer: str) -> None:
    """Refuse a network or an optimizer that cannot be dealt out.

    Raises:
        ConfigError: The reason is told.
    """
    why = why_not_sharded(model, optimizer)
    if why is not None:
        raise ConfigError(
            f"training.strategy: fsdp came; it cannot deal this network out: {why}; expected parameters and an optimizer that can "
            'be dealt out; write strategy = "ddp", or another optimizer, such as AdamW()'
        )
