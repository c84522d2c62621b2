"""From settings that name layers to what is frozen in which epoch. Floor 9.

Gradual unfreezing: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, 2018, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from netwright.errors import ConfigError
from netwright.model.naming import matches, named_parameters
from netwright.training.standstill import hold_still

FREEZE, UNFREEZE = "training.freeze", "training.unfreeze"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Stage:
    """What holds still from an epoch on: parameters without a gradient, batch norm layers that keep their statistics."""

    epoch: int
    frozen: tuple[str, ...]
    resting: tuple[str, ...]


@dataclass(frozen=True)
class Freezing:
    """The stages of a training, the first from epoch 1 on; the state of an epoch depends on nothing else."""

    stages: tuple[Stage, ...]

    def stage(self, epoch: int) -> Stage:
        """Return what holds still in an epoch."""
        return [stage for stage in self.stages if stage.epoch <= max(epoch, 1)][-1]

    @property
    def always_resting(self) -> frozenset[str]:
        """The batch norm layers that keep their statistics in every epoch."""
        return frozenset.intersection(*(frozenset(stage.resting) for stage in self.stages))

    def hold(self, model: nn.Module, epoch: int) -> None:
        """Let a network in training mode be as it is in an epoch."""
        stage = self.stage(epoch)
        hold_still(model, list(stage.frozen), list(stage.resting))

    def of_all(self, model: nn.Module, make: Callable[[nn.Module], Made]) -> Made:
        """Return what is made of a network in which all parameters learn that ever do; it is left as it is in epoch 1."""
        self.hold(model, self.stages[-1].epoch)
        made = make(model)
        self.hold(model, 1)
        return made


def begin_training(model: nn.Module, freezing: Freezing | None, epoch: int) -> None:
    """Let a network train as it does in an epoch."""
    model.train()
    if freezing is not None:
        freezing.hold(model, epoch)


def freezing_of(model: nn.Module, freeze: Sequence[str], unfreeze: Sequence[tuple[int, Sequence[str]]]) -> Freezing | None:
    """Return what is frozen in which epoch; None where nothing was asked for.

    Args:
        model: The network; what its own code has frozen stays so where ``unfreeze`` does not name it.
        freeze: Patterns, see `netwright.model.naming.named_parameters`.
        unfreeze: Epochs from 2, each with patterns of frozen parameters.

    Raises:
        ConfigError: A pattern matches nothing, names what is not frozen, or nothing is left to train in epoch 1.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> found = freezing_of(network, ["0", "1"], [(3, ["1"])])
        >>> [(stage.epoch, stage.frozen, stage.resting) for stage in found.stages]
        [(1, ('0.weight', '0.bias', '1.weight', '1.bias'), ('1',)), (3, ('0.weight', '0.bias'), ())]
    """
    if not freeze:
        return None
    frozen = set(named_parameters(model, freeze, FREEZE))
    names = [name for name, _ in model.named_parameters()]
    own = {name for name, parameter in model.named_parameters() if not parameter.requires_grad} - frozen
    if not set(names) - frozen - own:
        raise ConfigError(
            f"{FREEZE}: {list(freeze)} came; it leaves none of {len(names)} parameters to train in epoch 1; expected at least one "
            "that learns; leave the last layer out"
        )
    thawed: dict[int, list[str]] = {}
    for epoch, patterns in unfreeze:
        thawed.setdefault(epoch, []).extend(_frozen_before(model, patterns, frozen))
    stages, patterns_left = [Stage(1, *_still(model, frozen | own, freeze, ()))], list[str]()
    for epoch in sorted(thawed):
        frozen -= set(thawed[epoch])
        patterns_left += [pattern for first, patterns in unfreeze if first == epoch for pattern in patterns]
        stages.append(Stage(epoch, *_still(model, frozen | own, freeze, patterns_left)))
    return Freezing(tuple(stages))


def _frozen_before(model: nn.Module, patterns: Sequence[str], frozen: set[str]) -> list[str]:
    """Return the parameters that patterns thaw.

    Raises:
        ConfigError: One matches nothing, or nothing that is frozen.
    """
    found: list[str] = []
    for pattern in patterns:
        matched = [name for name in named_parameters(model, [pattern], UNFREEZE) if name in frozen]
        if not matched:
            raise ConfigError(
                f"{UNFREEZE}: {pattern!r} came, none of whose parameters {FREEZE} names; expected layers that are frozen before; "
                f"write it in {FREEZE} too"
            )
        found += matched
    return found


def _still(
    model: nn.Module, frozen: set[str], freeze: Sequence[str], thawed: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return frozen parameters, and the norm layers with statistics all of whose parameters they are, in order.

    A norm layer without parameters rests where a pattern names it or a layer around it.
    """
    resting = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._NormBase):
            continue
        own = {f"{path}.{name}".strip(".") for name, _ in module.named_parameters(recurse=False)}
        named = any(matches(path, one) for one in freeze) and not any(matches(path, one) for one in thawed)
        if own <= frozen if own else named:
            resting.append(path)
    return tuple(name for name, _ in model.named_parameters() if name in frozen), tuple(resting)
