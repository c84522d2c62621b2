"""Files that hold the pieces of dealt-out tensors, one of each process and part, and what is read of them again. Floor 8.

All pieces become a whole tensor; a process that holds a piece of it reads that alone, however many there were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from netwright.distributed.pieces import Piece, rows_held

Read = Callable[[str], Mapping[str, Tensor]]

PIECES = re.compile(r"([A-Za-z0-9_]{1,40})-(\d{5})-of-(\d{5})\.safetensors")


class PiecesError(ValueError):
    """Files of pieces do not belong together."""


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


def piece_files(part: str, names: Iterable[str]) -> list[str]:
    """Return the files of pieces of a part, in the order of the processes that kept them; nothing where there are none.

    Args:
        part: Its name.
        names: Of all files of a checkpoint.

    Raises:
        PiecesError: Those of a process are missing, or there are those of two worlds.

    Example:
        >>> piece_files("model", ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "model.safetensors"])
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    there = set(names)
    sizes = {int(name[3]) for name in map(PIECES.fullmatch, there) if name is not None and name[1] == part}
    found = [piece_file(part, rank, size) for size in sizes for rank in range(size)]
    missing = [name for name in found if name not in there]
    if missing or len(sizes) > 1:
        what = missing[0] if missing else f"pieces of {' and of '.join(map(str, sorted(sizes)))} processes"
        raise PiecesError(
            f"{what} {'is missing' if missing else 'came'}; expected the pieces of every process; it is damaged"
        )
    return found


def joined(names: Sequence[str], read: Read) -> dict[str, Tensor]:
    """Return whole tensors, of which each process kept some rows.

    Args:
        names: As `piece_files` gives them.
        read: Returns the tensors of a file.

    Raises:
        PiecesError: A file has other tensors than the first.

    Example:
        >>> files = {"one": {"bias": torch.tensor([1.0, 2.0])}, "two": {"bias": torch.tensor([3.0])}}
        >>> joined(["one", "two"], files.__getitem__)
        {'bias': tensor([1., 2., 3.])}
    """
    held = [read(name) for name in names]
    first = held[0] if held else {}
    for name, tensors in zip(names, held, strict=True):
        if tensors.keys() != first.keys():
            raise _other_tensors(name, tensors.keys() ^ first.keys())
    return {path: torch.cat([tensors[path] for tensors in held]) for path in first}


def own_pieces(
    names: Sequence[str], read: Read, shapes: Mapping[str, tuple[int, ...]], rank: int, size: int
) -> dict[str, Piece]:
    """Return what one of some processes holds of tensors, whatever the number of those that kept them.

    Only files with rows of that process are read: where there are as many processes as then, its own alone.

    Args:
        names: As `piece_files` gives them.
        read: Returns the tensors of a file.
        shapes: Of the whole tensors, by path.
        rank: Of the process, from 0.
        size: How many processes there are now.

    Raises:
        PiecesError: A file has other tensors than ``shapes``, or of another shape.

    Example:
        >>> files = {"one": {"bias": torch.tensor([1.0, 2.0])}, "two": {"bias": torch.tensor([3.0, 4.0])}}
        >>> own_pieces(["one", "two"], files.__getitem__, {"bias": (4,)}, 1, 2)["bias"].rows
        tensor([3., 4.])
    """
    found: dict[str, list[Tensor]] = {path: [] for path in shapes}
    for number, name in _to_read(names, shapes, rank, size):
        tensors = read(name)
        if tensors.keys() != shapes.keys():
            raise _other_tensors(name, tensors.keys() ^ shapes.keys())
        for path, shape in shapes.items():
            begin, end = rows_held(shape[0], number, len(names))
            if tuple(tensors[path].shape) != (end - begin, *shape[1:]):
                raise PiecesError(f"{name}: {path} has another shape than rows {begin} to {end} of {shape}; it is damaged")
            first, last = rows_held(shape[0], rank, size)
            found[path].append(tensors[path][max(0, first - begin) : max(0, last - begin)].clone())
    return {path: Piece(torch.cat(rows), shapes[path]) for path, rows in found.items()}


def _to_read(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], rank: int, size: int) -> list[tuple[int, str]]:
    """Return the files with rows of a process, with their numbers; one at least, which tells the kinds of numbers."""
    if len(names) == size:
        return [(rank, names[rank])]

    def has_rows(number: int, rows: int) -> bool:
        begin, end = rows_held(rows, number, len(names))
        first, last = rows_held(rows, rank, size)
        return max(begin, first) < min(end, last)

    found = [(number, name) for number, name in enumerate(names) if any(has_rows(number, one[0]) for one in shapes.values())]
    return found or [(0, names[0])]


def _other_tensors(name: str, others: Iterable[str]) -> PiecesError:
    return PiecesError(f"{name}: {min(others)} is not in every file of pieces; expected the same tensors; it is damaged")
