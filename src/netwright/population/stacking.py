"""Several networks of one architecture as one: each parameter and buffer of all of them in one tensor, one forward for all.

The forward pass is torch.func's ``vmap`` over ``functional_call`` (PyTorch documentation, Model ensembling). The networks
themselves stay what they are: their tensors become views of the joint ones, so that optimizers, checkpoints and validation go on
with them as ever. Floor 8.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from netwright.model.gradients import weights_of
from netwright.model.summary import as_column, call_model
from netwright.population.side_by_side import losses_of_each, run, stages

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # their buffers change in a forward pass
NOISE = "noise"
MASKS_ROOM = 1 << 24  # bytes of dropout masks that are drawn ahead
MOST_AHEAD = 64  # steps of them


@final
class GivenNoise(nn.Module):
    """A dropout layer whose mask was drawn before, scaled, and is multiplied by: the arithmetic of torch's own.

    Args:
        channels: Whether whole channels are dropped.
    """

    noise: Tensor

    def __init__(self, channels: bool) -> None:
        super().__init__()
        self.channels = channels
        self.shape: tuple[int, ...] | None = None  # of the mask of one row, once a batch went through
        self.register_buffer(NOISE, torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows, masked."""
        shape = tuple(x.shape[1:])
        self.shape = (shape[0], *(1 for _ in shape[1:])) if self.channels else shape
        return x * self.noise


def storages(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Put the parameters and buffers of networks together, and let those of each be views of them.

    Args:
        models: Of one architecture, on one device.

    Returns:
        By name, ``(networks, ...)``.
    """
    named = [_named(model) for model in models]
    found = {}
    with torch.no_grad():
        for name in named[0]:
            whole = torch.stack([tensors[name].detach() for tensors in named])
            for number, tensors in enumerate(named):
                tensors[name].data = whole[number]
            found[name] = whole
    return found


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@final
class Stack(nn.Module):
    """Networks as one module: the rows of all, one network's after the other's, to outputs ``(networks, rows, ...)``.

    Args:
        models: Networks of one architecture whose tensors are views of ``wholes``.
        wholes: What `storages` gave, of these networks alone.
        rows: Rows of each in a step.

    ``ahead`` are the steps for which dropout masks are drawn at a time, ``penalised`` tells which weights an l1 penalty is for.
    ``turn`` is the number of the step among those for which masks and rates lie ready, ``begun`` how many updates have begun.
    """

    turn: Tensor
    begun: Tensor

    def __init__(self, models: Sequence[nn.Module], wholes: Mapping[str, Tensor], rows: int) -> None:
        super().__init__()
        self.members, self.ahead = len(models), MOST_AHEAD
        trained = dict(models[0].named_parameters())
        self.names = [name for name in wholes if name in trained]
        self.passive = [name for name in wholes if name not in trained]
        self.weights = nn.ParameterList(nn.Parameter(wholes[name], trained[name].requires_grad) for name in self.names)
        for place, name in enumerate(self.passive):
            self.register_buffer(f"passive_{place}", wholes[name], persistent=False)
        norms = [path for path, part in models[0].named_modules() if isinstance(part, NORMS)]
        moving = [name for name in self.passive if name.rpartition(".")[0] in norms]
        self._now, self._before = [wholes[name] for name in moving], [wholes[name].clone() for name in moving]
        for place, value in enumerate(self._before):
            self.register_buffer(f"before_{place}", value, persistent=False)
        self._views = [dict(model.named_parameters()) for model in models]
        penalised = {id(weight) for weight in weights_of(models[0])}
        self.penalised = [id(trained[name]) in penalised for name in self.names]
        self._template, self.sites = with_given_noise(models[0])
        self._stages = stages(self._template, GivenNoise)
        self._held = tuple(self.weights)
        device = next(iter(wholes.values())).device
        self.masks: list[Tensor] = []
        self._rooms: list[Sequence[Tensor]] = []  # of each, that of every step of every network
        self._kept: list[Tensor] = []
        self._chances = [[_chance(model.get_submodule(path)) for path in self.sites] for model in models]
        self.register_buffer("turn", torch.zeros(1, dtype=torch.long, device=device), persistent=False)
        self.register_buffer("begun", torch.zeros(1, dtype=torch.long, device=device), persistent=False)
        self._rows = rows

    def lay_out(self, inputs: Mapping[str, Tensor]) -> None:
        """Find the shape of every mask, by some rows ``(rows, ...)`` of the first network, and make room for them."""
        if not self.sites:
            return
        trial = copy.deepcopy(self._template)
        called: list[nn.Module] = []
        for path in self.sites:
            trial.get_submodule(path).register_forward_pre_hook(lambda layer, given: called.append(layer))
        with torch.no_grad():
            call_model(trial, inputs)
        for path in self.sites:
            times = called.count(trial.get_submodule(path))
            if times > 1:
                raise ValueError(f"dropout {path} is called {times} times in one step, and has one mask")
        shapes = []
        for path in self.sites:
            shape: Any = trial.get_submodule(path).shape
            if shape is None:
                raise ValueError(f"dropout {path} is not reached by the forward pass")
            shapes.append((self.members, self._rows, *shape))
        step = sum(math.prod(shape) for shape in shapes) * torch.get_default_dtype().itemsize
        self.ahead = max(1, min(MOST_AHEAD, MASKS_ROOM // step))
        for place, shape in enumerate(shapes):
            room = torch.empty((self.ahead, *shape), device=self.turn.device)
            self.register_buffer(f"masks_{place}", room, persistent=False)
            self.masks.append(room)
            self._rooms.append(room.flatten(0, 1).unbind(0))
            kept = [1.0 - own[place] or 1.0 for own in self._chances]
            self._kept.append(torch.tensor(kept, device=room.device, dtype=room.dtype).view(-1, *(1 for _ in shape[1:])))

    def draw(self, generators: Sequence[torch.Generator], steps: int) -> None:
        """Draw the masks of the next steps, of each network as its dropout layers would draw them one after the other."""
        for member, generator in enumerate(generators if self.masks else ()):
            drawn = [(rooms, 1.0 - chance) for rooms, chance in zip(self._rooms, self._chances[member], strict=True)]
            for place in range(member, steps * self.members, self.members):
                for rooms, kept in drawn:
                    if 0.0 < kept < 1.0:
                        rooms[place].bernoulli_(kept, generator=generator)
                    else:
                        rooms[place].fill_(kept)
        for masks, divisor in zip(self.masks, self._kept, strict=True):
            masks[:steps].div_(divisor)
        self.turn.zero_()

    def forward(self, *values: Tensor, **named: Tensor) -> Tensor:
        """Return what each network gives for its rows."""
        count = self.members
        given = (
            tuple(_parted(value, count) for value in values),
            {name: _parted(value, count) for name, value in named.items()},
        )
        tensors: dict[str, Tensor] = dict(zip(self.names, self._held, strict=True))
        tensors |= {name: getattr(self, f"passive_{place}") for place, name in enumerate(self.passive)}
        for path, masks in zip(self.sites, self.masks, strict=True):
            tensors[f"{path}.{NOISE}"] = masks.index_select(0, self.turn)[0]
        if self._stages is not None and len(values) == 1 and not named:
            return run(self._stages, given[0][0], tensors)
        found: Tensor = torch.vmap(self._one)(tensors, given)
        return found

    def _one(self, tensors: dict[str, Tensor], given: tuple[tuple[Tensor, ...], dict[str, Tensor]]) -> Any:
        first = next(iter((*given[0], *given[1].values())))
        return as_column(functional_call(self._template, tensors, *given), first)

    def hand_out_gradients(self) -> None:
        """Let the gradient of every parameter of every network be its part of the joint one, for who looks at them."""
        for name, whole in zip(self.names, self.weights, strict=True):
            parts = [None] * self.members if whole.grad is None else whole.grad.unbind(0)
            for views, part in zip(self._views, parts, strict=True):
                views[name].grad = part

    @torch.no_grad()
    def remember(self) -> None:
        """Keep what batch norm knows before a step: the forward pass changes it, though the step may fail."""
        if self._now:
            torch._foreach_copy_(self._before, self._now)

    @torch.no_grad()
    def put_back(self) -> None:
        """Put what batch norm knows where it was before the last step, which failed."""
        if self._now:
            torch._foreach_copy_(self._now, self._before)

    def begin(self) -> None:
        """Count an update, before it changes anything: a recorded step that breaks off then tells whether in it."""
        self.begun.add_(1)

    def advance(self) -> None:
        """Go on to the masks and rates of the next step."""
        self.turn.add_(1)


def _parted(value: Tensor, count: int) -> Tensor:
    return value.reshape(count, -1, *value.shape[1:])


def _chance(layer: Any) -> float:
    """Return with which chance a dropout layer drops."""
    return float(layer.p)


def with_given_noise(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy of a network whose dropout layers get their masks, and the paths of these layers in order."""
    template = copy.deepcopy(model).train()
    device = next((value.device for value in model.parameters()), None)
    sites = [path for path, part in template.named_modules() if type(part) in DROPOUTS]
    for path in sites:
        if not path:
            raise ValueError("the network is a dropout layer alone")
        parent, _, name = path.rpartition(".")
        layer = GivenNoise(channels=type(template.get_submodule(path)) is not nn.Dropout).to(device)
        setattr(template.get_submodule(parent), name, layer)
    return template, sites


@final
class Losses(nn.Module):
    """The loss of each network of a `Stack`, and their sum, whose gradient is that of each.

    Args:
        losses: One per network, of one kind; their buffers, such as class weights, may differ.

    ``each``, ``(networks,)``, holds those of the last call, detached; ``complete`` tells that every row counts.
    """

    def __init__(self, losses: Sequence[Callable[[Tensor, Tensor], Tensor]]) -> None:
        super().__init__()
        self.members = len(losses)
        self.names: list[str] = []
        first = losses[0]
        self._first = (first,)  # no child: its own buffers are not used
        if isinstance(first, nn.Module):
            named = [dict(loss.named_buffers()) for loss in losses if isinstance(loss, nn.Module)]
            self.names = list(named[0])
            for place, name in enumerate(self.names):
                self.register_buffer(f"of_{place}", torch.stack([tensors[name] for tensors in named]), persistent=False)
        self.each = torch.zeros(self.members)
        self.complete = False

    def look_at(self, target: Tensor) -> None:
        """Find out whether every row counts, from the target of all rows."""
        passed = getattr(self._first[0], "ignore_index", None)
        self.complete = passed is None or not bool((target == passed).any())

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the mean losses.

        Args:
            output: ``(networks, rows, ...)``.
            target: ``(networks * rows, ...)``.
        """
        found = losses_of_each(self._first[0], output, target, self.complete)
        if found is None:
            tensors = {name: getattr(self, f"of_{place}") for place, name in enumerate(self.names)}
            found = torch.vmap(self._one)(tensors, output, _parted(target, self.members))
        self.each = found.detach()
        return found.sum()

    def _one(self, tensors: dict[str, Tensor], output: Tensor, target: Tensor) -> Any:
        first = self._first[0]
        return functional_call(first, tensors, (output, target)) if isinstance(first, nn.Module) else first(output, target)
