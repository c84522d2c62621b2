"""Whose weights a module holds: one that a user hands over is trained in place, and may be handed over again. Floor 14."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import nn

from netwright.errors import ConfigError

_owners: WeakKeyDictionary[nn.Module, Path] = WeakKeyDictionary()  # of this process


def other_owner(module: nn.Module, folder: Path) -> Path | None:
    """Return the folder of another run of this process whose weights a module holds; None where there is none."""
    try:
        owner = _owners.get(module)
    except TypeError:  # a class of one's own may have no hash
        return None
    return None if owner is None or owner.absolute() == folder.absolute() else owner


def take(module: nn.Module, folder: Path) -> None:
    """Note that a module holds, or is about to hold, the weights of a run."""
    with suppress(TypeError):
        _owners[module] = folder


def refuse_taken(module: nn.Module, folder: Path) -> None:
    """Refuse to answer for a run whose module another one has trained or loaded since.

    Raises:
        ConfigError: Naming both.
    """
    owner = other_owner(module, folder)
    if owner is not None:
        raise ConfigError(
            f"{folder}: its module was handed over again and holds the weights of {owner}; expected those of this run; load them "
            f"into another module: nw.load({str(folder)!r}, model=...)"
        )


def told_again(module: nn.Module, folder: Path) -> str | None:
    """Return what to say where a module that another run has trained is to be trained; None where none has."""
    owner = other_owner(module, folder)
    if owner is None:
        return None
    return (
        f"model: this module was trained by {owner}; training goes on from those weights, and that run answers from its folder "
        f"alone from now on (nw.load({str(owner)!r}, model=...)); to begin anew hand over a new module, or (Class, arguments)"
    )
