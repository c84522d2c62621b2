"""Nested Python values with tensors as plain JSON beside named tensors, and back: no pickle.

Numbers come back as the very same bits: JSON writes a float by its shortest exact text, and what JSON lacks (tuples, keys
that are no texts, infinities) is written as an object with one key that says what it is. Floor 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from netwright.distributed.pieces import Piece, is_dealt, local_piece
from netwright.errors import CheckpointError

DEEPEST = 60


def encode(value: Any, tensors: dict[str, Tensor], path: str, pieces: dict[str, Tensor] | None = None) -> Any:
    """Return a value as JSON holds it; its tensors are put aside.

    Args:
        value: None, truth values, numbers, texts, tensors, and lists, tuples and dictionaries of them.
        tensors: Takes copies of the tensors, on the CPU, by their paths.
        path: Of the value.
        pieces: Takes what this process holds of tensors that are dealt out, where several write together.

    Raises:
        CheckpointError: A value of another kind.

    Example:
        >>> encode({0: (1.5, float("inf"))}, {}, "state")
        {'dict': [[0, {'tuple': [1.5, {'float': 'inf'}]}]]}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if is_dealt(value) and pieces is not None:
        pieces[path] = local_piece(value).detach().to("cpu", copy=True).contiguous()
        return {"dealt": [path, list(value.shape)]}
    if isinstance(value, Tensor) and not is_dealt(value):
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": path}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [encode(item, tensors, f"{path}.{place}", pieces) for place, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, tensors, f"{path}.{place}", pieces) for place, item in enumerate(value)]}
    if isinstance(value, Mapping):
        return {
            "dict": [
                [encode(key, tensors, f"{path}.key", pieces), encode(item, tensors, f"{path}.{key}", pieces)]
                for key, item in value.items()
            ]
        }
    raise CheckpointError(
        f"checkpoint: {path} is a {type(value).__name__}, which cannot be saved; expected numbers, texts and tensors; keep "
        "nothing else in the state of a module or an optimizer"
    )


def decode(value: Any, tensors: Mapping[str, Tensor | Piece], depth: int = 0) -> Any:
    """Return the value that `encode` wrote.

    Args:
        value: What JSON held.
        tensors: By path; of one that is dealt out all of it, or the piece of this process.
        depth: How deep it stands.

    Raises:
        ValueError, KeyError, TypeError: It was not written by `encode`.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, list):
        return [decode(item, tensors, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(f"an object with the keys {', '.join(list(value)[:4])}")
    kind, held = next(iter(value.items()))
    if kind == "tensor":
        return tensors[held]
    if kind == "dealt":
        found, shape = tensors[held[0]], held[1]
        if list(found.shape) != shape:
            raise ValueError(f"pieces of shape {list(found.shape)} together, expected {shape}")
        return found
    if kind == "float":
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[held]
    if kind == "tuple":
        return tuple(decode(item, tensors, depth + 1) for item in held)
    if kind == "dict":
        return {decode(key, tensors, depth + 1): decode(item, tensors, depth + 1) for key, item in held}
    raise ValueError(f"an object of kind {kind!r}")


def dealt_shapes(value: Any, depth: int = 0) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that are dealt out, by path, of what `encode` wrote.

    Raises:
        ValueError, KeyError, TypeError: It was not written by `encode`.

    Example:
        >>> dealt_shapes({"dict": [["weight", {"dealt": ["model.weight", [4, 3]]}]]})
        {'model.weight': (4, 3)}
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, dict) and list(value) == ["dealt"]:
        path, shape = value["dealt"]
        return {str(path): tuple(int(size) for size in shape)}
    held = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return {path: shape for item in held for path, shape in dealt_shapes(item, depth + 1).items()}


def first_not_finite(value: Any, path: str = "") -> str | None:
    """Return the path of the first tensor or number that is not finite, of pieces those of this process; None where all are."""
    if is_dealt(value):
        value = local_piece(value)
    if isinstance(value, Tensor):
        return path if value.is_floating_point() and not bool(torch.isfinite(value).all()) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = {str(place): item for place, item in enumerate(value)}.items()
    else:
        return None
    found = (first_not_finite(item, f"{path}.{key}".strip(".")) for key, item in items)
    return next((name for name in found if name is not None), None)


def first_difference(one: Any, other: Any, path: str = "") -> str | None:
    """Return where two values differ first, and how, in words; None where every bit is the same.

    Args:
        one: As `encode` takes it.
        other: Likewise.
        path: Of both.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _tensor_difference(one, other, path)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            extra = sorted(str(key) for key in one.keys() ^ other.keys())
            return f"{path}.{extra[0]} is in one of them only"
        pairs = [(f"{path}.{key}".strip("."), one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = [(f"{path}.{place}", *both) for place, both in enumerate(zip(one, other, strict=True))]
    else:
        return None if type(one) is type(other) and repr(one) == repr(other) else f"{path} is {one!r:.60} and {other!r:.60}"
    found = (first_difference(left, right, name) for name, left, right in pairs)
    return next((text for text in found if text is not None), None)


def _tensor_difference(one: Tensor, other: Tensor, path: str) -> str | None:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{path} is {tuple(one.shape)} {one.dtype} and {tuple(other.shape)} {other.dtype}"
    if torch.equal(one, other) or not one.numel():
        return None
    gap = (one.double() - other.double()).abs() if not one.is_complex() else (one - other).abs()
    count = int((one != other).sum())
    return f"{path} differs in {count} of {one.numel()} numbers, by {float(gap.nan_to_num().max()):.3g} at most"
