"""Tensors that are dealt out to processes along their first axis (torch's DTensor on one axis of processes). Floor 4.

`torch.distributed.fsdp.fully_shard` deals a parameter out as `torch.chunk` cuts it: process ``r`` of ``n`` holds the r-th
piece, the last ones are smaller or empty.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from torch import Tensor

from netwright.errors import ConfigError


def is_dealt(value: Any) -> TypeGuard[Tensor]:
    """Tell whether a value is a tensor of which each process holds a piece; nothing is imported to find out.

    Example:
        >>> import torch
        >>> is_dealt(torch.ones(2))
        False
    """
    found = sys.modules.get("torch.distributed.tensor")
    return found is not None and isinstance(value, found.DTensor)


def rows_of_each(rows: int, size: int) -> list[int]:
    """Return how many rows each of some processes holds.

    Args:
        rows: Length of the first axis.
        size: How many processes there are.

    Example:
        >>> rows_of_each(10, 4), rows_of_each(2, 4)
        ([3, 3, 3, 1], [1, 1, 0, 0])
    """
    each = -(-rows // size)
    return [min(each, max(0, rows - each * rank)) for rank in range(size)]


def local_piece(value: Tensor) -> Tensor:
    """Return what this process holds of a tensor that is dealt out, ``(rows here, ...)``; no copy.

    Raises:
        ConfigError: It is dealt out in another way than along its first axis.
    """
    dealt: Any = value
    if len(dealt.placements) != 1 or not (dealt.placements[0].is_shard(0) or dealt.placements[0].is_replicate()):
        raise ConfigError(
            f"distributed: a tensor dealt out as {dealt.placements} came; expected pieces along the first axis; deal networks out "
            "by training.strategy alone"
        )
    if dealt.placements[0].is_replicate():
        raise ConfigError("distributed: a tensor that every process holds came; expected one that is dealt out")
    piece: Tensor = dealt.to_local()
    return piece.wait() if hasattr(piece, "wait") else piece


def whole(value: Tensor) -> Tensor:
    """Return a tensor with all its rows, on every process; all of them must ask. A plain tensor comes back as it is."""
    return cast(Tensor, cast(Any, value).full_tensor()) if is_dealt(value) else value


def dealt_like(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor dealt out as another is; nothing is sent, as each process has all of it.

    Args:
        value: All rows, the same on every process.
        like: Of the same shape, dealt out along its first axis.

    Raises:
        ValueError: The shapes differ.
    """
    from torch.distributed.tensor import DTensor

    dealt: Any = like
    if value.shape != like.shape:
        raise ValueError(f"a tensor of shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    mesh = dealt.device_mesh
    rows = rows_of_each(value.shape[0], mesh.size())
    rank = mesh.get_local_rank()
    start = sum(rows[:rank])
    piece = value[start : start + rows[rank]].to(device=local_piece(like).device, copy=True).contiguous()
    made: Tensor = DTensor.from_local(
        piece, mesh, dealt.placements, run_check=False, shape=value.shape, stride=value.contiguous().stride()
    )
    return made


def dealt_as(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return whole tensors by name, each dealt out as the tensor of that name is; all others as they came.

    Raises:
        ValueError: The shapes differ.
    """
    return {name: dealt_like(value, like[name]) if is_dealt(like.get(name)) else value for name, value in values.items()}


def whole_parts(value: Any) -> Any:
    """Return nested values with all rows of each tensor, see `whole`; every process must ask."""
    if isinstance(value, Tensor):
        return whole(value)
    if isinstance(value, Mapping):
        return {key: whole_parts(item) for key, item in value.items()}
    return value
