"""A training step of one's own, a plain function in place of THE training step, and its optimizers by name. Floor 7.

What is not supervised learning is written so: adversarial networks, autoencoders, contrastive learning. Such a step is
executed as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.errors import ConfigError, DivergedError
from netwright.recording.operations import is_finite

AS_WRITTEN = "an own step is executed as it is written"


@final
class Optimizers:
    """Several optimizers by name, with the state of all of them; an engine treats them as one.

    Args:
        named: At least one.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = dict(named)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all, in order."""
        return [group for optimizer in self.named.values() for group in optimizer.param_groups]

    @property
    def defaults(self) -> dict[str, Any]:
        """No argument is that of all."""
        return {}

    @property
    def state(self) -> dict[Any, Any]:
        """What each keeps of its parameters; of one that two of them update the names say whose it is."""
        found: dict[Any, Any] = {}
        for name, optimizer in self.named.items():
            for parameter, state in optimizer.state.items():
                mine = state if parameter not in found else {f"{key} ({name})": value for key, value in state.items()}
                found[parameter] = {**found.get(parameter, {}), **mine}
        return found

    def zero_grad(self) -> None:
        """Empty the gradients of all their parameters."""
        for optimizer in self.named.values():
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.named.items()}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Put each where `state_dict` found it.

        Raises:
            KeyError: One has no state there.
        """
        for name, optimizer in self.named.items():
            optimizer.load_state_dict(states[name])


@final
@dataclass(frozen=True)
class OwnStep:
    """A plain function that trains on one batch; it stands where other trainings have their loss.

    Args:
        function: Of the network in training mode, the batch and its optimizer (a dictionary of them where several were named),
            to the loss. It makes the update itself.
        name: Of the function.

    From one step to the next only weights, buffers, the state of optimizers and the generators are carried: a step begins
    with the network in training mode and without gradients, and what needs a gradient is put back. So a run that goes on
    from a checkpoint gives the same bits.
    """

    function: Callable[..., Any]
    name: str

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Refuse: there is no loss of output and target."""
        raise TypeError("an own step has no loss of output and target")

    def take(self, model: nn.Module, batch: Batch, optimizer: Any) -> Tensor:
        """Train on one batch and return its loss, detached.

        Raises:
            ConfigError: The function returns no loss.
            DivergedError: The loss is not finite.
        """
        model.train()
        wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        for parameter, _ in wanted:
            parameter.grad = None
        try:
            loss = self.function(model, batch, optimizer.named if isinstance(optimizer, Optimizers) else optimizer)
        finally:
            for parameter, needed in wanted:
                parameter.requires_grad_(needed)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of {loss.numel()} numbers" if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(f"step: {self.name} returned {what}; expected the loss, one number as a tensor; return it")
        loss = loss.detach().reshape(()).float()
        if not is_finite(loss):
            raise DivergedError(f"the loss is {loss.item()}")
        return loss
