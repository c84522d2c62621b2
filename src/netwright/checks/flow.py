"""One forward pass, watched: which operation read what from which, in which layer or line, with what figures. Floor 10."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from netwright.model.summary import call_model

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
WEIGHTED = ("linear", *CONVOLUTIONS, *TRANSPOSED)
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
POOLS = tuple(f"{kind}_pool{axes}d" for kind in ("avg", "max", "adaptive_avg", "adaptive_max", "lp") for axes in (1, 2, 3))
SHAPES = (
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "movedim", "swapaxes", "t",
    "contiguous", "clone", "to", "float", "masked_fill", "expand", "identity", "T", "mT", "select", "narrow",
)  # fmt: skip
RANDOM = (
    "rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "bernoulli", "bernoulli_", "normal", "normal_",
    "uniform_", "multinomial", "randperm", "gumbel_softmax", "rrelu", "exponential_", "poisson",
)  # fmt: skip
ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "gelu", "silu", "elu", "selu", "celu", "sigmoid", "tanh", "softplus", "softsign",
    "hardtanh", "hardswish", "hardsigmoid", "mish", "prelu", "rrelu", "logsigmoid", "softmax", "log_softmax", "glu",
    "threshold", "tanhshrink", "hardshrink", "softshrink", "softmin", "exp", "log",
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One call of torch in a forward pass.

    ``name`` is torch's, without the underscore of what works in place; ``path`` and ``module`` the innermost module that was
    running; ``line`` the place in the user's file, or nothing. ``sources`` are the numbers of the operations that made its
    tensors, in order: -1 for the network's own input, None for weights and constants. ``settings`` are its arguments that are
    no tensors, by name where they have one.
    """

    number: int
    name: str
    path: str
    module: nn.Module
    line: str
    given: tuple[Tensor, ...]
    sources: tuple[int | None, ...]
    settings: Mapping[str, Any]
    output: Tensor
    finite: bool
    size: float
    dead: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """The layer, or the line of the user's code, in words."""
        kind = type(self.module)
        if kind.__module__.startswith(("torch.", "netwright.")) and self.path and not list(self.module.children()):
            return f"layer {self.path} {kind.__name__}({self.module.extra_repr()})"
        name = {"__getitem__": "indexing"}.get(self.name, self.name)
        return f"{self.line} {name}" if self.line else f"{name} in {self.path or kind.__name__}"

    @property
    def weight(self) -> Tensor | None:
        """The weight of a linear layer or a convolution."""
        return self.given[1] if self.name in WEIGHTED and len(self.given) > 1 else None


@dataclass
class Flow:
    """All operations in order, who reads whom, and which made the output (None: no operation did)."""

    operations: list[Operation] = field(default_factory=list)
    readers: dict[int, list[int]] = field(default_factory=dict)
    last: Operation | None = None
    output: Any = None

    def source(self, operation: Operation) -> Operation | None:
        """Return the operation whose output the first tensor is; None for the input, weights and constants."""
        number = operation.sources[0] if operation.sources else None
        return self.operations[number] if number is not None and number >= 0 else None

    def back(self, operation: Operation | None, through: Sequence[str], alone: bool = False) -> Operation | None:
        """Go back from an operation, itself included, to the first that is none of some names.

        Args:
            operation: Where to begin.
            through: Names to pass.
            alone: Stop with None where what is passed has several readers.
        """
        while operation is not None:
            if alone and len(self.readers.get(operation.number, ())) > 1:
                return None
            if operation.name not in through:
                return operation
            operation = self.source(operation)
        return None

    def named(self, names: Sequence[str]) -> Iterator[Operation]:
        """Yield the operations of some names, in order."""
        return (operation for operation in self.operations if operation.name in names)


class _Watch(TorchFunctionMode):
    """Notes every call of torch that gives a tensor."""

    def __init__(self, modules: list[tuple[str, nn.Module]], inputs: Sequence[Tensor], files: Sequence[str]) -> None:
        super().__init__()
        self.flow = Flow()
        self.modules, self.files = modules, set(files)
        self.made: dict[int, int] = {id(value): -1 for value in inputs}
        self.kept: list[Any] = list(inputs)  # so that no id is used twice

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        given = keywords or {}
        name = _name_of(function)
        sources = [self.made.get(id(value)) for value in _tensors([*arguments, *given.values()])]
        result = function(*arguments, **given)
        outputs = [value for value in _tensors([result]) if value.numel()]
        if outputs and name not in ("__get__", "__set__", "requires_grad_", "retain_grad", "numel"):
            self._note(name, [*arguments], given, sources, outputs)
        return result

    def _note(
        self, name: str, arguments: list[Any], given: Mapping[str, Any], sources: list[int | None], outputs: list[Tensor]
    ) -> None:
        number, output = len(self.flow.operations), outputs[0]
        path, module = self.modules[-1]
        tensors = tuple(_tensors([*arguments, *given.values()]))
        plain = {str(place): value for place, value in enumerate(arguments) if not _tensors([value])}
        plain |= {key: value for key, value in given.items() if not _tensors([value])}
        real = output.detach()
        real = real if real.is_floating_point() else real.new_zeros((), dtype=torch.float32)
        operation = Operation(
            number, name, path, module, self._line(), tensors, tuple(sources), plain, output,
            bool(torch.isfinite(real).all()), float(real.float().square().mean().sqrt()), _dead(name, real),
        )  # fmt: skip
        if name in (*WEIGHTED, *RECURRENT) and output.requires_grad and not output.is_leaf:
            output.retain_grad()
        self.flow.operations.append(operation)
        for source in {value for value in sources if value is not None and value >= 0}:
            self.flow.readers.setdefault(source, []).append(number)
        for value in outputs:
            self.made[id(value)] = number
            self.kept.append(value)

    def _line(self) -> str:
        """Return the file and line of the user's code that is running."""
        frame = sys._getframe(3) if self.files else None
        while frame is not None:
            if frame.f_code.co_filename in self.files:
                return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def _name_of(function: Any) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in ("__get__", "__set__") and getattr(function, "__self__", None) is not None:
        attribute = getattr(function.__self__, "__name__", name)
        return attribute if attribute in SHAPES else name
    return name if name.startswith("__") else name.rstrip("_").lstrip("_")


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _dead(name: str, output: Tensor) -> tuple[int, int] | None:
    """Return how many channels or units of a ReLU are 0 for every row and place, and how many there are."""
    if name != "relu" or output.dim() < 2:
        return None
    axis = 1 if output.dim() in (2, 4, 5) else 2
    others = [place for place in range(output.dim()) if place != axis]
    alive = (output > 0).sum(dim=others) > 0
    return int((~alive).sum()), len(alive)


@contextmanager
def _running(model: nn.Module, stack: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """Keep the module that is running on top of a stack."""

    def enter(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, arguments: stack.append((path, module))

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        stack.pop()

    handles: list[Any] = []
    for path, module in model.named_modules():
        handles += [module.register_forward_pre_hook(enter(path)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def watch(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None = None, files: Sequence[str] = ()) -> Flow:
    """Call a network once, in its mode, and return what it did; gradients of weighted layers are kept.

    Args:
        model: The network; nothing of it is changed.
        inputs: By name, ``(rows, ...)``.
        lengths: The steps of each row where they differ.
        files: The user's files, to tell lines of.

    Raises:
        Exception: Whatever the network raises.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [operation.name for operation in watch(net, {"x": torch.zeros(4, 2)}).operations]
        ['linear', 'relu', 'linear']
    """
    stack: list[tuple[str, nn.Module]] = [("", model)]
    mode = _Watch(stack, list(inputs.values()), files)
    with _running(model, stack), mode:
        output = call_model(model, inputs, lengths)
    flow = mode.flow
    flow.output = output
    made = mode.made.get(id(output))
    flow.last = flow.operations[made] if made is not None and made >= 0 else None
    return flow


def watch_call(function: Callable[..., Any], *arguments: Tensor) -> Flow:
    """Call a function of tensors, such as a loss, and return what it did."""
    kept = nn.Identity()
    mode = _Watch([("", kept)], arguments, ())
    with mode:
        output = function(*arguments)
    mode.flow.output = output
    return mode.flow
