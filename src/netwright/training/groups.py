"""Parameters of a network dealt out to groups of an optimizer, each with arguments of its own. Floor 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from netwright.errors import ConfigError
from netwright.model.naming import named_parameters

SETTING = "training.parameter_groups"
SHOWN = 3  # names in a line


@dataclass(frozen=True)
class Group:
    """Some parameters by name, and the arguments of the optimizer that they have for themselves.

    ``taken`` are those that the patterns speak of too and that an earlier group holds.
    """

    names: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    taken: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it in words."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        shown = ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")
        overlap = f"; {len(self.taken)} more that it speaks of are in a group before" if self.taken else ""
        return f"{told} for {len(self.names)} parameter(s) ({shown}){overlap}"


def split_parameters(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return the groups of the parameters that need a gradient: the rest first, without which there is none, then as written.

    Args:
        model: The network.
        groups: Each with ``parameters``, a list of patterns, and arguments of the optimizer; a parameter belongs to the
            first whose patterns speak of it.

    Raises:
        ConfigError: A pattern matches nothing, or a group has no parameter left.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> for group in split_parameters(network, [{"parameters": ["biases", "norms"], "weight_decay": 0.0}]):
        ...     print(group.names, dict(group.arguments))
        ('0.weight', '2.weight') {}
        ('0.bias', '1.weight', '1.bias', '2.bias') {'weight_decay': 0.0}
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    owner: dict[str, int] = {}
    found: list[Group] = []
    for number, written in enumerate(groups):
        where = f"{SETTING}.{number}"
        matched = [name for name in named_parameters(model, written["parameters"], where) if name in trained]
        mine = tuple(name for name in matched if name not in owner)
        taken = tuple(name for name in matched if name in owner)
        if not mine:
            why = "they need no gradient"
            if taken:
                earlier = sorted({owner[name] for name in taken})
                why = f"group {' and '.join(map(str, earlier))} before it has them all"
            raise ConfigError(
                f"{where}: {written['parameters']} came; no parameter is left for it: {why}; expected one or more; write it "
                "before, or leave it out"
            )
        owner |= dict.fromkeys(mine, number)
        arguments = {name: tupled(value) for name, value in written.items() if name != "parameters"}
        found.append(Group(mine, arguments, taken))
    rest = tuple(name for name in trained if name not in owner)
    return [Group(rest), *found] if rest else found


def tupled(value: Any) -> Any:
    """Return a list as the tuple that torch expects."""
    return tuple(value) if isinstance(value, list) else value
