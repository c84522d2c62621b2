"""Weights of another network put into this one: what fits by name and shape, which layers begin new. Floor 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netwright.errors import CheckpointError, ConfigError, did_you_mean
from netwright.model.naming import matches

WRAPPED = ("module.", "_orig_mod.", "model.")  # what DataParallel, torch.compile and others put before every name
COUNTER = "num_batches_tracked"  # of batch norm, which old files lack; without momentum=None nothing reads it
MOST_TOLD = 3


@dataclass(frozen=True)
class Transfer:
    """What came of the weights: tensors by name, and the layers that begin new, both in the order of the network."""

    taken: tuple[str, ...]
    new: tuple[str, ...]


def transfer(model: nn.Module, weights: Mapping[str, Tensor], head: Sequence[str] | None, source: str) -> Transfer:
    """Put weights into a network; everything but its head must fit by name and shape.

    Args:
        model: The network; on an error nothing of it changes.
        weights: Parameters and buffers by name.
        head: Patterns of layers that begin new, of the network or of the weights, see `netwright.model.naming.matches`. None
            for the last layer where its shape differs.
        source: Where the weights come from, for errors.

    Raises:
        ConfigError: A pattern of the head matches nothing.
        CheckpointError: A name or shape differs; or a number is not finite.

    Example:
        >>> old = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
        >>> new = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> transfer(new, old.state_dict(), None, "old")
        Transfer(taken=('0.weight', '0.bias'), new=('2',))
        >>> torch.equal(old[0].weight, new[0].weight)
        True
    """
    own, given = model.state_dict(), _unwrapped(weights, model.state_dict())
    patterns = _head(model, own, given) if head is None else list(head)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in (*own, *given)):
            layers = list(dict.fromkeys(name.rpartition(".")[0] for name in own))
            raise ConfigError(
                f"model.head: {pattern!r} matches no layer of the network or of {source}; expected a layer that begins new; "
                f"{did_you_mean(pattern, layers)}"
            )
    begins = {name for name in (*own, *given) if any(matches(name, pattern) for pattern in patterns)}
    _refuse_other(own, given, begins, source)
    taken = tuple(name for name in own if name in given and name not in begins)
    if not any(own[name].is_floating_point() for name in taken):
        raise CheckpointError(f"{source}: none of its weights is for this network; expected some; check model.weights")
    bad = next((name for name in taken if not bool(torch.isfinite(given[name]).all())), None)
    if bad is not None:
        raise CheckpointError(f"{source}: {bad} is not finite; expected trained weights; take others")
    model.load_state_dict({name: given[name] for name in taken}, strict=False)
    return Transfer(taken, tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in own if name in begins)))


def last_layer(model: nn.Module) -> str:
    """Return the path of the last layer with parameters of its own.

    Example:
        >>> last_layer(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10), nn.Softmax(1)))
        '1'
    """
    paths: list[str] = [path for path, module in model.named_modules() if list(module.parameters(recurse=False))]
    return paths[-1]


def _unwrapped(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without a prefix that stands before all their names and before none of the network."""
    for prefix in WRAPPED:
        if weights and all(name.startswith(prefix) for name in weights) and not any(map(prefix.startswith, own)):
            if any(name.removeprefix(prefix) in own for name in weights):
                return {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)


def _head(model: nn.Module, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Return the last layer where its shape differs."""
    last = last_layer(model)
    names = [name for name in own if matches(name, last)]
    fits = all(name in given and given[name].shape == own[name].shape for name in names)
    return [] if fits else [last]


def _refuse_other(own: Mapping[str, Tensor], given: Mapping[str, Tensor], begins: set[str], source: str) -> None:
    """Refuse weights that differ in name or shape outside the head."""
    problems = []
    for name, value in own.items():
        if name in begins or (name not in given and name.endswith(COUNTER)):
            continue
        if name not in given:
            problems.append(f"{name} is missing there")
        elif given[name].shape != value.shape:
            problems.append(f"{name} is {tuple(given[name].shape)} there and {tuple(value.shape)} here")
    problems += [f"{name} is there only" for name in given if name not in own and name not in begins]
    if problems:
        more = f" and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
        raise CheckpointError(
            f"{source}: its weights do not fit the network: {', '.join(problems[:MOST_TOLD])}{more}; expected the same names and "
            "shapes in all but the head; write the same layers, or name those that begin new in model.head"
        )
