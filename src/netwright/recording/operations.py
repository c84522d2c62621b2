"""A piece of work as the list of ATen operations it runs, written down while it runs.

Autograd, hooks of dispatch and Python lie above this list; kernels lie below it. Tensors are known by where they lie (a
storage and how it is read), so views cost nothing and aliases stay aliases. Floor 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

# Kernels that read lengths on the host: the operations that follow them depend on data though none of them says so.
READS_DATA = ("_pack_padded_sequence", "_pad_packed_sequence", "_ctc_loss", "_cudnn_ctc_loss", "_nested_")
IGNORED = ("profiler",)  # namespaces
REFUSED_TAGS = {
    torch.Tag.data_dependent_output: "a number is read in the middle of the step",
    torch.Tag.dynamic_output_shape: "a shape depends on values",
}

# Kernels of lists that do each tensor alone on the CPU, written down one by one, so that they can be dealt out to cores.
ONE_BY_ONE = {
    "aten._foreach_norm.Scalar": torch.ops.aten.linalg_vector_norm.default,
    "aten._foreach_mul_.Tensor": torch.ops.aten.mul_.Tensor,
}


class CannotCapture(Exception):
    """Why something cannot be recorded; one line."""


@final
@dataclass(frozen=True)
class Place:
    """Where a tensor of a recording lies: its storage by number, and shape, strides and offset in elements.

    ``moves`` tells that the storage is another one each time the work is replayed.
    """

    storage: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    moves: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """The bytes of the storage that may be touched, first and end."""
        size = self.dtype.itemsize
        if 0 in self.shape:
            return self.offset * size, self.offset * size
        last = sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        return self.offset * size, (self.offset + last + 1) * size


@final
@dataclass(frozen=True)
class Operation:
    """One call of a kernel: its arguments with `Place` for every tensor, and where its outputs lie.

    ``function`` is None for a guard: the one argument must be finite, or the step ends before it changes anything.
    ``gradients`` tells whether they were switched on: some kernels keep more for the way back then.
    """

    function: OpOverload | None
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: tuple[Place | None, ...]
    gradients: bool = False

    def places(self) -> list[tuple[Place, bool]]:
        """Return every tensor argument, and whether it is written."""
        return self._found

    @cached_property
    def _found(self) -> list[tuple[Place, bool]]:
        if self.function is None:
            return [(self.arguments[0], False)]
        given = given_to(self.function, self.arguments, self.keywords)
        return [(place, written) for value, written in given for place in _places(value)]


# Kernels that write to arguments without saying so in their schema.
HIDDEN_WRITES = dict.fromkeys(
    (
        "aten.native_batch_norm.default",
        "aten.batch_norm.default",
        "aten.instance_norm.default",
        "aten.cudnn_batch_norm.default",
        "aten.miopen_batch_norm.default",
        "aten.batch_norm_update_stats.default",
        "aten.batch_norm_gather_stats.default",
        "aten.batch_norm_gather_stats_with_counts.default",
    ),
    ("running_mean", "running_var"),
)


def given_to(function: OpOverload, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Yield every argument of an operation, and whether it is written to."""
    schema = function._schema.arguments
    named = {argument.name: argument for argument in schema}
    hidden = HIDDEN_WRITES.get(str(function), ())
    placed = zip(schema, arguments, strict=False)
    for argument, value in (*placed, *((named[name], value) for name, value in keywords.items())):
        stated = argument.alias_info is not None and argument.alias_info.is_write
        yield value, stated or argument.name in hidden


@final
@dataclass(frozen=True)
class Recording:
    """The operations of one step, the storages that were there before it by number, and the size of every storage."""

    operations: tuple[Operation, ...]
    outside: dict[int, torch.UntypedStorage]
    sizes: dict[int, int]
    results: tuple[Place, ...]


_ACTIVE: list[Recorder | list[Tensor]] = []


def is_finite(loss: Tensor) -> bool:
    """Tell whether a loss is finite. Under a recorder the question is written down, to be asked in each replay."""
    if not _ACTIVE:
        return math.isfinite(loss.item())
    taker = _ACTIVE[-1]
    if isinstance(taker, list):
        taker.append(loss.detach())
        return True
    with _disable_current_modes():
        finite = math.isfinite(loss.item())
    taker.guard(loss)
    return finite


def is_deferred() -> bool:
    """Tell whether nothing may be read from the device now, as `is_finite` is asked after replays."""
    return bool(_ACTIVE)


@contextmanager
def asked_later() -> Iterator[list[Tensor]]:
    """Let a block go on as if all were finite, where nothing may be read from the device; yields the numbers that it asks about."""
    found: list[Tensor] = []
    _ACTIVE.append(found)
    try:
        yield found
    finally:
        _ACTIVE.pop()


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation that runs under it, by its own ``__torch_dispatch__``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave `__torch_dispatch__` as it is: torch's wrapper imports the compiler, which takes longer than a small run."""
        return False


@final
class Recorder(Mode):
    """Writes down what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[Operation] = []
        self._numbers: dict[int, int] = {}  # by address
        self._alive: list[StorageWeakRef] = []  # an address is not used again while it is watched
        self._outside: dict[int, torch.UntypedStorage] = {}
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation and write it down.

        Raises:
            CannotCapture: What follows would depend on values.
        """
        keywords = dict(kwargs or {})
        if function.namespace in IGNORED:
            return function(*args, **keywords)
        for tag, reason in REFUSED_TAGS.items():
            if tag in function.tags:
                raise CannotCapture(f"{reason} ({function})")
        if any(word in str(function) for word in READS_DATA):
            raise CannotCapture(f"it reads lengths from data ({function})")
        if any(isinstance(value, torch.Generator) for value in (*args, *keywords.values())):
            raise CannotCapture(f"it draws from a generator of its own ({function})")
        arguments = tuple(self._held(value, True) for value in args)
        held = {name: self._held(value, True) for name, value in keywords.items()}
        result = function(*args, **keywords)
        outputs = result if isinstance(result, tuple | list) else (result,)
        flat = [part for output in outputs for part in (output if isinstance(output, tuple | list) else (output,))]
        places = tuple(self.place(part, False) if isinstance(part, Tensor) else None for part in flat)
        single = ONE_BY_ONE.get(str(function)) if len(arguments) == 2 and not held else None
        if single is not None:
            gradients = torch.is_grad_enabled()
            for place, made in zip(arguments[0], places if places[0] else arguments[0], strict=True):
                self._operations.append(Operation(single, (place, *arguments[1:]), held, (made,), gradients))
            return result
        self._operations.append(Operation(function, arguments, held, places, torch.is_grad_enabled()))
        return result

    def __enter__(self) -> Recorder:
        _ACTIVE.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _ACTIVE.remove(self)

    def guard(self, loss: Tensor) -> None:
        """Demand that a loss is finite."""
        if loss.dtype not in (torch.float32, torch.float64) or loss.numel() != 1:
            raise CannotCapture(f"the loss is {loss.dtype} {tuple(loss.shape)}; expected one float32 or float64")
        self._operations.append(Operation(None, (self.place(loss, True),), {}, ()))

    def place(self, tensor: Tensor, argument: bool) -> Place:
        """Return where a tensor lies; a storage that is seen first as an argument was there before."""
        if tensor.layout != torch.strided or type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise CannotCapture(f"a tensor is {type(tensor).__name__} {tensor.layout}; expected plain ones")
        if tensor.is_conj() or tensor.is_neg():
            raise CannotCapture("a tensor is a lazy conjugate or negative")
        storage = tensor.untyped_storage()
        address = storage._cdata
        number = self._numbers.get(address)
        if number is None:
            number = len(self._alive)
            self._numbers[address] = number
            self._alive.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
            self._sizes[number] = storage.nbytes()
            if argument:
                self._outside[number] = storage
        elif storage.nbytes() > self._sizes[number]:
            self._sizes[number] = storage.nbytes()
        return Place(number, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))

    def recording(self, *results: Tensor) -> Recording:
        """Return what was written down, and where the results lie."""
        places = tuple(self.place(result, True) for result in results)
        return Recording(tuple(self._operations), self._outside, self._sizes, places)

    def _held(self, value: Any, argument: bool) -> Any:
        if isinstance(value, Tensor):
            return self.place(value, argument)
        if isinstance(value, list | tuple):
            return [self._held(part, argument) for part in value]
        return value


def _places(value: Any) -> Iterator[Place]:
    if isinstance(value, Place):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _places(part)


def mapped(value: Any, change: Callable[[Place], Any]) -> Any:
    """Return an argument with every place in it changed."""
    if isinstance(value, Place):
        return change(value)
    if isinstance(value, list | tuple):
        return [mapped(part, change) for part in value]
    return value


def written_outside(recording: Recording) -> Iterable[int]:
    """Return the storages that were there before and are written by the recording."""
    return {
        place.storage
        for operation in recording.operations
        for place, written in operation.places()
        if written and place.storage in recording.outside
    }
