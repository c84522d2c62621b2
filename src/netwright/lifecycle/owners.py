"""Whose weights a module holds: one that a user hands over is trained in place, and may be handed over again. Floor 14."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from netwright.errors import ConfigError
from netwright.training.freezing import Freezing

ANEW = "hand over a new module, or (Class, arguments)"


@final
@dataclass(frozen=True)
class Owner:
    """The run whose weights a tensor holds: its folder as it was named, and where that is."""

    folder: Path
    place: Path


_owners: MutableMapping[Tensor, Owner] = WeakTensorKeyDictionary()  # of parameters and buffers, in this process
_taken_over: set[Owner] = set()  # whose tensors another run has taken; none in most processes


def learning(module: nn.Module, freezing: Freezing | None) -> list[Tensor]:
    """Return the parameters of a module that change in a training, and its buffers but those of layers that always rest.

    Two networks may share a part that never learns: both keep what they know.
    """
    still = [frozenset(stage.frozen) for stage in ([] if freezing is None else freezing.stages)]
    frozen = frozenset.intersection(*still) if still else frozenset()
    resting = frozenset() if freezing is None else freezing.always_resting
    parameters = [
        value
        for name, value in module.named_parameters()
        if (name not in frozen if freezing is not None else value.requires_grad)
    ]
    return parameters + [value for name, value in module.named_buffers() if name.rpartition(".")[0] not in resting]


def held(module: nn.Module) -> Iterator[Tensor]:
    """Give all parameters and buffers of a module."""
    yield from module.parameters()
    yield from module.buffers()


def owner_of(tensors: Iterable[Tensor], but: Path | None = None) -> Owner | None:
    """Return a run of this process whose weights some tensors hold, another than that in a place; None where there is none."""
    owners = (_owners.get(value) for value in tensors)
    return next((owner for owner in owners if owner is not None and owner.place != but), None)


def take(tensors: Iterable[Tensor], folder: Path) -> None:
    """Note that tensors hold, or are about to hold, the weights of a run."""
    owner = Owner(folder, folder.resolve())
    for value in tensors:
        before = _owners.get(value)
        if before is not None and before != owner:
            _taken_over.add(before)
        _owners[value] = owner


def refuse_taken(module: nn.Module, folder: Path, place: Path) -> None:
    """Refuse to answer for a run whose module another one has trained or loaded since.

    Args:
        module: Of the run.
        folder: Of the run, as it was named.
        place: Where that is.

    Raises:
        ConfigError: Naming both.
    """
    owner = owner_of(held(module), but=place) if _taken_over else None
    if owner is not None:
        raise ConfigError(
            f"{folder}: its module was handed over again and holds the weights of {owner.folder}; expected those of this run; load "
            f"them into another module: nw.load({str(folder)!r}, model=...)"
        )


def told_again(tensors: Iterable[Tensor], folder: Path) -> str | None:
    """Return what to say where weights that another run has trained are to be trained; None where none has."""
    owner = owner_of(tensors, but=folder.resolve())
    if owner is None:
        return None
    return (
        f"model: this module was trained by {owner.folder}; training goes on from those weights, and that run answers from its "
        f"folder alone from now on (nw.load({str(owner.folder)!r}, model=...)); to begin anew {ANEW}"
    )


def told_copied(module: object) -> str | None:
    """Return what to say where several runs begin from a module that another run has trained; None where none has."""
    owner = owner_of(held(module)) if isinstance(module, nn.Module) else None
    if owner is None:
        return None
    return (
        f"model: this module was trained by {owner.folder}; each run here begins from those weights, and where that one learned "
        f"rows that are valid or test rows here, figures are too good; to begin anew {ANEW}"
    )
