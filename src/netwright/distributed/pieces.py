"""Tensors that are dealt out to processes along their first axis (torch's DTensor on one axis of processes). Floor 5.

`torch.distributed.fsdp.fully_shard` deals a parameter out as `torch.chunk` cuts it: process ``r`` of ``n`` holds the r-th
piece, the last ones are smaller or empty.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from torch import Tensor

from netwright.errors import ConfigError


@dataclass(frozen=True)
class Piece:
    """The rows that this process holds of a tensor that is dealt out, as they were read, and the shape of the whole."""

    rows: Tensor
    shape: tuple[int, ...]


def is_dealt(value: Any) -> TypeGuard[Tensor]:
    """Tell whether a value is a tensor of which each process holds a piece; nothing is imported to find out.

    Example:
        >>> import torch
        >>> is_dealt(torch.ones(2))
        False
    """
    found = sys.modules.get("torch.distributed.tensor")
    return found is not None and isinstance(value, found.DTensor)


def rows_held(rows: int, rank: int, size: int) -> tuple[int, int]:
    """Return where the rows that one of some processes holds begin, and where they end.

    Args:
        rows: Length of the first axis.
        rank: Of the process.
        size: How many processes there are.

    Example:
        >>> [rows_held(10, rank, 4) for rank in range(4)]
        [(0, 3), (3, 6), (6, 9), (9, 10)]
        >>> rows_held(2, 3, 4)
        (2, 2)
    """
    each = -(-rows // size)
    return min(rows, each * rank), min(rows, each * (rank + 1))


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


def dealt_like(value: Tensor | Piece, like: Tensor) -> Tensor:
    """Return a tensor dealt out as another is; nothing is sent, as each process has all of it, or its piece.

    Args:
        value: All rows, the same on every process, or the rows that this one holds.
        like: Of the same shape, dealt out along its first axis.

    Raises:
        ValueError: The shapes differ.
    """
    from torch.distributed.tensor import DTensor

    dealt: Any = like
    if tuple(value.shape) != tuple(like.shape):
        raise ValueError(f"a tensor of shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    mesh = dealt.device_mesh
    if isinstance(value, Piece):
        own = value.rows
    else:
        begin, end = rows_held(value.shape[0], mesh.get_local_rank(), mesh.size())
        own = value[begin:end]
    piece = own.to(device=local_piece(like).device, copy=True).contiguous()
    made: Tensor = DTensor.from_local(
        piece, mesh, dealt.placements, run_check=False, shape=like.shape, stride=_strides(tuple(like.shape))
    )
    return made


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor of a shape whose rows lie one after the other.

    Example:
        >>> _strides((4, 3, 2))
        (6, 2, 1)
    """
    return tuple(math.prod(max(1, size) for size in shape[axis + 1 :]) for axis in range(len(shape)))


def dealt_as(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return whole tensors, or pieces of them, by name, each dealt out as the tensor of that name is; all others as they came.

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
