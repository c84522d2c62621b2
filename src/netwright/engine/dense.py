"""The step of a network of dense layers on a GPU in a few kernels of our own, of the compiled engine: other last bits. Floor 7.

A small step in torch's operations is some thirty kernels, of which each begins when the one before has ended. Here a layer is one
forward and one back, with its activation and dropout, and all updates are one (`netwright.recording.dense_kernels`). What comes out
is compared with the step as it is written, at the first steps of each run. Other networks take torch.compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, final

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.data.feed import Feed
from netwright.engine.base import Loss, Steps, Written
from netwright.engine.eager import EagerEngine, one_step
from netwright.engine.unsteady import Snapshot
from netwright.engine.update import PLAIN
from netwright.errors import DivergedError, first_line
from netwright.recording.dense import Head, Launched, Layer, Rule
from netwright.recording.graphs import Graphs
from netwright.recording.operations import is_deferred
from netwright.recording.state import hooked, hooked_optimizer, tensors

CHECKED = 2  # steps that are compared with those as written
FAR = 0.05  # how far a change may be from that of the step as written, as a share of it
FAR_OF_WEIGHTS = 0.5  # theirs, as Adam takes a step of full length where a gradient is nothing but rounding
ROUNDING = 2.0**-23  # of a number of float32, as a share of it
MOST_PRODUCTS = 400_000_000  # rows times weights; beyond it they fill a GPU, and products of cuBLAS are faster
MOST_OUTPUTS = 128  # a row of them lies in one tile
MOST_LAYERS = 16

KINDS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
}


def layers_of(model: nn.Module) -> list[Layer] | None:
    """Return the layers of a network of Linear, activations and Dropout one after the other; None where it is anything else.

    Example:
        >>> [layer.kind for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))]
        ['relu', 'none']
        >>> layers_of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))) is None
        True
    """
    parts = _flat(model)
    while parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1 and parts[0].end_dim == -1:
        parts.pop(0)
    found: list[Layer] = []
    while parts:
        linear = parts.pop(0)
        if type(linear) is not nn.Linear:
            return None
        kind, slope, dropout = "none", 0.0, 0.0
        if parts and type(parts[0]) in KINDS and getattr(parts[0], "approximate", "none") == "none":
            kind, slope = KINDS[type(parts[0])], float(getattr(parts[0], "negative_slope", 0.0))
            parts.pop(0)
        if parts and type(parts[0]) is nn.Dropout and parts[0].p < 1:
            dropout = float(parts[0].p) if parts[0].training else 0.0
            parts.pop(0)
        found.append(Layer(linear.weight, linear.bias, kind, slope, dropout))
    ends = bool(found) and found[-1].kind == "none" and not found[-1].dropout
    return found if ends and len(found) <= MOST_LAYERS and found[-1].weight.shape[0] <= MOST_OUTPUTS else None


def _flat(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are called one after the other; Identity is none."""
    if type(model) is nn.Sequential:
        return [part for child in model for part in _flat(child)]
    return [] if type(model) is nn.Identity else [model]


def head_of(loss_function: Loss) -> Head | None:
    """Return a loss as the kernels know it; None where they do not."""
    if getattr(loss_function, "reduction", None) != "mean":
        return None
    if type(loss_function) is nn.CrossEntropyLoss:
        weight, smoothing = loss_function.weight, float(loss_function.label_smoothing)
        return Head("classes", weight, smoothing) if weight is None or not smoothing else None
    if type(loss_function) is nn.MSELoss:
        return Head("squares")
    plain = type(loss_function) is nn.BCEWithLogitsLoss and loss_function.weight is None and loss_function.pos_weight is None
    return Head("chances") if plain else None


def may_be_dense(model: nn.Module, loss_function: Loss, rows: int) -> bool:
    """Tell whether a network and a loss are dense layers for batches of so many rows, whatever the optimizer is."""
    small = rows * sum(value.numel() for value in model.parameters()) <= MOST_PRODUCTS
    return small and layers_of(model) is not None and head_of(loss_function) is not None


def kind_of(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the kind of an optimizer's update as the kernels know it; None where they do not, or its groups differ in it.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> kind_of(torch.optim.AdamW([weight])), kind_of(torch.optim.RMSprop([weight]))
        ('adamw', None)
    """
    shared = {
        (_kind(type(optimizer), group), *map(group.get, ("betas", "eps", "momentum"))) for group in optimizer.param_groups
    }
    return shared.pop()[0] if len(shared) == 1 else None


def _kind(optimizer: type[torch.optim.Optimizer], group: dict[str, Any]) -> str | None:
    if group.get("maximize") or group.get("amsgrad") or group.get("differentiable") or group.get("dampening"):
        return None
    name = f"{optimizer.__module__}.{optimizer.__qualname__}"  # which one that `netwright.training.optimizer.light` makes has too
    if name == "torch.optim.sgd.SGD":
        return "sgd" if not group["momentum"] else "nesterov" if group["nesterov"] else "momentum"
    if name in ("torch.optim.adam.Adam", "torch.optim.adamw.AdamW"):
        return "adamw" if group["decoupled_weight_decay"] else "adam"
    return None


@final
@dataclass(frozen=True)
class Known:
    """A step as the kernels know it. With ``flattens`` a row may have any shape."""

    layers: tuple[Layer, ...]
    flattens: bool
    head: Head
    kind: str

    @property
    def weights(self) -> list[Tensor]:
        """All parameters in the order of layers, weight before bias."""
        return [value for layer in self.layers for value in (layer.weight, layer.bias) if value is not None]

    def reads(self, x: Tensor, target: Tensor, rows: int) -> bool:
        """Tell whether inputs and targets are what the kernels read, and a batch of so many rows is small enough."""
        if rows * sum(value.numel() for value in self.weights) > MOST_PRODUCTS:
            return False
        wide = x.dim() == 2 or (self.flattens and x.dim() > 2)
        if x.dtype != torch.float32 or not x.is_contiguous() or not wide or x[0].numel() != self.layers[0].weight.shape[1]:
            return False
        if self.head.kind == "classes":
            return target.dtype == torch.long and target.dim() == 1
        outputs = self.layers[-1].weight.shape[:1]
        return target.dtype == torch.float32 and target.is_contiguous() and target.shape[1:] == outputs


def known_whole(eager: EagerEngine) -> Known | None:
    """Return all of a step as the kernels know it; None where they do not know something of it."""
    layers, head, kind = layers_of(eager.model), head_of(eager.loss_function), kind_of(eager.optimizer)
    if layers is None or head is None or kind is None or eager.update != PLAIN or eager.scaler is not None:
        return None
    known = Known(tuple(layers), any(type(part) is nn.Flatten for part in eager.model.modules()), head, kind)
    weights = known.weights
    held = [value for group in eager.optimizer.param_groups for value in group["params"]]
    plain = all(value.dtype == torch.float32 and value.requires_grad and value.is_contiguous() for value in weights)
    once = sorted(map(id, weights)) == sorted(map(id, held)) and len(set(map(id, held))) == len(held)
    hooks = hooked(eager.model, eager.loss_function) or hooked_optimizer(eager.optimizer)
    return known if plain and once and not hooks else None


@final
class DenseEngine:
    """Runs the step in kernels of dense layers.

    Args:
        eager: The engine that runs the step as it is written; weights and optimizer stay its own.
        otherwise: Makes what runs the steps that the kernels cannot take, or take otherwise than it is written.
        graphs: Knows the generator of the device.
    """

    def __init__(self, eager: EagerEngine, otherwise: Callable[[], Written], graphs: Graphs) -> None:
        self.name = "compiled"
        self.eager = eager
        self.model, self.loss_function, self.optimizer = eager.model, eager.loss_function, eager.optimizer
        self.why_not: str | None = None  # the kernels are not taken
        self._make, self._graphs = otherwise, graphs
        self._device = next(self.model.parameters()).device
        self._compared = 0
        self._constants: dict[tuple[str, tuple[float, ...]], Tensor] = {}
        self._alike: dict[tuple[int, ...], bool] = {}  # whether the numbers of steps that lie there are the same

    @cached_property
    def _otherwise(self) -> Written:
        return self._make()

    @property
    def networks(self) -> nn.Module:
        """The network, with the mean of its weights where there is one."""
        return self.eager.networks

    def played(self) -> str:
        """Return in words how steps were executed so far."""
        return "by kernels of dense layers" if self.why_not is None else f"{self._otherwise.played()}; {self.why_not}"

    def train_steps(self, feed: Feed, most: int, rates: Tensor | None = None) -> Steps:
        """Train on the next batch of a feed; see `netwright.engine.base.Engine`."""
        batch = feed.next()
        return one_step(batch, self.loss_function, lambda: self.train_step(batch))

    def train_step(self, batch: Batch) -> Tensor:
        """Train on one batch; see `netwright.engine.eager.train_step`."""
        whole = len(batch.inputs) == 1 and batch.lengths is None
        return self._taken(batch.input if whole else None, batch.target, None, lambda: batch)

    def train_rows(self, examples: Examples, rows: Tensor) -> Tensor:
        """Train on the batch of some rows, int64 ``(batch,)``, which are read where they lie."""
        direct = len(examples.inputs) == 1 and not examples.raw and examples.resident
        x = next(iter(examples.inputs.values())) if direct else None
        return self._taken(x, examples.target, rows, lambda: examples.batch(rows))

    def _taken(self, x: Tensor | None, target: Tensor, rows: Tensor | None, batch: Callable[[], Batch]) -> Tensor:
        known = None if self.why_not is not None or x is None else known_whole(self.eager)
        if x is None or known is None or not known.reads(x, target, len(target if rows is None else rows)):
            return self._otherwise.train_step(batch())
        rule = self._rule(known)
        if rule is None:  # the step as written makes what the optimizer keeps
            return self.eager.train_step(batch())
        precision = "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            launched = Launched(known.layers, known.head, rule, x.reshape(len(x), -1), target, rows, precision)
            if self._compared < CHECKED and not is_deferred():
                self._compared += 1
                return self._compared_step(launched, batch)
            return self._step(launched)

    def _step(self, launched: Launched) -> Tensor:
        """Take the step.

        Raises:
            DivergedError: The loss is not finite; the update is not applied.
        """
        with torch.no_grad():
            losses = launched.forward()
            if not is_deferred() and not math.isfinite(total := losses.sum().item()):
                launched.forget()
                raise DivergedError(f"the loss is {total}")
            loss = launched.update()
        if self.eager.averaged is not None:
            self.eager.averaged.after_step()
        return loss

    def _compared_step(self, launched: Launched, batch: Callable[[], Batch]) -> Tensor:
        """Take the step as it is written and with the kernels, from the same state; go on from the latter, where they are alike."""
        there = list(tensors(self.networks, self.loss_function, self.optimizer))
        before = Snapshot(there, self._graphs)
        expected = self.eager.train_step(batch())
        self.optimizer.zero_grad()
        written = Snapshot(there, self._graphs)
        before.put_back()
        try:
            loss = self._step(launched)
        except DivergedError:
            raise
        except Exception as error:  # of Triton's compiler
            return self._given_up(first_line(error), before, batch)
        far = _share(expected, loss, torch.zeros_like(loss)) / FAR
        for value, wanted, was in zip(there, written.values, before.values, strict=False):
            allowed = FAR_OF_WEIGHTS if isinstance(value, nn.Parameter) else FAR
            far = max(far, _share(wanted, value.detach(), was) / allowed)
        if far <= 1:
            return loss
        return self._given_up(f"one of them was {far:.2g} times as far from the step as written as it may be", before, batch)

    def _given_up(self, why: str, before: Snapshot, batch: Callable[[], Batch]) -> Tensor:
        self.why_not = f"the kernels of dense layers failed: {why}"
        before.put_back()
        return self._otherwise.train_step(batch())

    def _rule(self, known: Known) -> Rule | None:
        """Return what the update reads and writes; None where the optimizer has not made it, or counts steps differently."""
        weights = known.weights
        groups = {id(value): group for group in self.optimizer.param_groups for value in group["params"]}
        states = [self.optimizer.state.get(value, {}) for value in weights]
        firsts, seconds, steps = list(weights), list(weights), []
        group = self.optimizer.param_groups[0]
        beta1, beta2 = group.get("betas", (group.get("momentum", 0.0), 0.0))
        if known.kind in ("adam", "adamw"):
            if not all({"exp_avg", "exp_avg_sq", "step"} <= state.keys() for state in states):
                return None
            firsts, seconds = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
            steps = [state["step"] for state in states]
            if not self._counted_alike(steps):
                return None
        elif known.kind != "sgd":
            if not all(isinstance(state.get("momentum_buffer"), Tensor) for state in states):
                return None
            firsts = [state["momentum_buffer"] for state in states]
        numbers = (float(beta1), 1.0 - float(beta1), float(beta2), 1.0 - float(beta2), float(group.get("eps", 0.0)))
        rates = [self._rate(number, group["lr"]) for number, group in enumerate(self.optimizer.param_groups)]
        numbered = {id(group): rate for group, rate in zip(self.optimizer.param_groups, rates, strict=True)}
        return Rule(
            known.kind,
            self._held("numbers", numbers, torch.float32),
            self._held("betas", numbers[:3:2], torch.float64),
            tuple(firsts),
            tuple(seconds),
            tuple(steps),
            tuple(numbered[id(groups[id(value)])] for value in weights),
            tuple(float(groups[id(value)].get("weight_decay", 0.0)) for value in weights),
        )

    def _rate(self, number: int, rate: float | Tensor) -> Tensor:
        """Return the learning rate of a group as a tensor on the device."""
        if isinstance(rate, Tensor) and rate.device == self._device and rate.dtype == torch.float32:
            return rate
        return self._held(f"rate {number}", (float(rate),), torch.float32)

    def _held(self, name: str, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        """Return numbers as a tensor on the device: the one of before, where they are the same, as graphs read it."""
        key = (name, tuple(values))
        if key not in self._constants:
            for old in [other for other in self._constants if other[0] == name]:
                del self._constants[old]
            self._constants[key] = torch.tensor(values, dtype=dtype).to(self._device)
        return self._constants[key]

    def _counted_alike(self, steps: Sequence[Tensor]) -> bool:
        """Tell whether the optimizer has counted as many steps of each parameter, on the device; looked at once for each place."""
        key = tuple(value.data_ptr() for value in steps)
        if key not in self._alike:
            there = all(value.device == self._device and value.dtype == torch.float32 for value in steps)
            self._alike = {key: there and len({float(value) for value in steps}) == 1}
        return self._alike[key]


def _share(expected: Tensor, found: Tensor, before: Tensor) -> float:
    """Return how far a tensor is from where it was expected, beyond rounding, as a share of how far that is from before."""
    if not found.is_floating_point():
        return 0.0 if torch.equal(expected, found) else math.inf
    away, change = (found.double() - expected).norm().item(), (expected.double() - before).norm().item()
    away -= ROUNDING * expected.double().norm().item()
    return 0.0 if away <= 0 else away / change if change else math.inf


def dense_engine(eager: EagerEngine, otherwise: Callable[[], Written], graphs: Graphs) -> DenseEngine | None:
    """Return the engine of a network of dense layers on a GPU; None where anything of a step is more than that.

    Args:
        eager: The step as it is written.
        otherwise: Makes what runs it where the kernels do not.
        graphs: Knows the generator of the device.
    """
    weights = list(eager.model.parameters())
    there = bool(weights) and all(value.is_cuda for value in weights) and find_spec("triton") is not None
    return DenseEngine(eager, otherwise, graphs) if there and known_whole(eager) is not None else None
