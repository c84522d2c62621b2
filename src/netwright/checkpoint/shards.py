"""Files that hold the pieces of dealt-out tensors, one of each process and part, and how they become whole again. Floor 6."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from netwright.errors import CheckpointError

PIECES = re.compile(r"([A-Za-z0-9_]{1,40})-(\d{5})-of-(\d{5})\.safetensors")


def piece_file(part: str, rank: int, size: int) -> str:
    """Return the name of the file in which a process keeps its pieces of a part.

    Args:
        part: Its name.
        rank: Of the process, from 0.
        size: How many processes there are.

    Example:
        >>> piece_file("model", 0, 2)
        'model-00001-of-00002.safetensors'
    """
    return f"{part}-{rank + 1:05d}-of-{size:05d}.safetensors"


def joined(part: str, files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a part: those of its own file, and those of which each process kept some rows.

    Args:
        part: Its name.
        files: The tensors of each file of a checkpoint, by name.

    Raises:
        CheckpointError: The pieces of a process are missing, or are other tensors than those of the first.

    Example:
        >>> pieces = [{"bias": torch.tensor([1.0, 2.0])}, {"bias": torch.tensor([3.0])}]
        >>> joined("model", {piece_file("model", rank, 2): held for rank, held in enumerate(pieces)})
        {'bias': tensor([1., 2., 3.])}
    """
    found = dict(files.get(f"{part}.safetensors", {}))
    sizes = {int(name[3]) for name in map(PIECES.fullmatch, files) if name is not None and name[1] == part}
    if not sizes:
        return found
    names = [piece_file(part, rank, size) for size in sizes for rank in range(size)]
    missing = [name for name in names if name not in files]
    if missing or len(sizes) > 1:
        what = missing[0] if missing else f"pieces of {' and of '.join(map(str, sorted(sizes)))} processes"
        raise CheckpointError(
            f"{what} {'is missing' if missing else 'came'}; expected the pieces of every process; it is damaged"
        )
    first = files[names[0]]
    for name in names[1:]:
        if files[name].keys() != first.keys():
            other = sorted(files[name].keys() ^ first.keys())[0]
            raise CheckpointError(
                f"{name}: {other} is not in every file of pieces; expected the same tensors; it is damaged"
            )
    return found | {path: torch.cat([files[name][path] for name in names]) for path in first}
