"""Work on a GPU captured as a CUDA graph and replayed: the few calls that need CUDA, and nothing else. Floor 6.

After torch's documentation ("CUDA semantics", CUDA graphs): the work runs once on a side stream, so that libraries are loaded
and have their workspaces; then the same work is captured there, while nothing is computed. Random numbers: torch registers its
generator with every capture; a replay draws from where the generator is and moves it on as far as the work as written would.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from netwright.recording.branches import STREAMS, Branches, InPieces, in_pieces, tensors_in
from netwright.recording.operations import IGNORED, Mode
from netwright.recording.state import parts_of
from netwright.seeding import drawn_from

Work = Callable[[], None]
ALONE = threading.RLock()  # one thread at a time captures, and waits for the device: a capture in another would break off


@cache
def streams_of(device: torch.device) -> tuple[Any, ...]:
    """Return the side streams of a device, always the same: libraries keep room for each one that they meet."""
    return tuple(torch.cuda.Stream(device) for _ in range(STREAMS))  # type: ignore[no-untyped-call]


BETWEEN_LAYERS = (
    "a CUDA graph does not repeat the dropout between the layers of {}, which cuDNN draws; "
    "Dropout() after a layer is captured"
)


def drawn_by_cudnn(model: nn.Module) -> str | None:
    """Return which layer has dropout between its layers, in words; None where none has.

    Example:
        >>> drawn_by_cudnn(nn.LSTM(3, 4, num_layers=2)) is None
        True
    """
    found = (part for part in parts_of(model) if isinstance(part, nn.RNNBase) and part.dropout and part.num_layers > 1)
    return next((BETWEEN_LAYERS.format(type(part).__name__) for part in found), None)


class Generators(Protocol):
    """Knows the generator that work draws from."""

    def generator(self) -> Tensor:
        """Return the state of the generator that the work draws from."""
        ...

    def set_generator(self, state: Tensor) -> None:
        """Put it where `generator` found it."""
        ...


@final
class CpuGenerator:
    """That of torch on the CPU."""

    def generator(self) -> Tensor:
        """Return its state."""
        return torch.default_generator.get_state()

    def set_generator(self, state: Tensor) -> None:
        """Put it where `generator` found it."""
        torch.default_generator.set_state(state)


class Graphs(Generators, Protocol):
    """Captures work that reads and writes the same tensors each time; it may read nothing from the device."""

    def warm(self, work: Work) -> None:
        """Do the work once, where it will be captured, and wait for its end."""
        ...

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        """Return what repeats the work; nothing is computed, and no generator moves.

        Args:
            work: What it does each time.
            branches: Its operations, dealt out to streams; None for one after the other.

        Raises:
            RuntimeError: It cannot be captured; what the work raises is passed on. torch can be used as before.
        """
        ...

    def seconds(self, work: Work) -> float:
        """Do the work where it is captured, or repeat it, and return how long that takes until its end."""
        ...

    def aside(self) -> Any:
        """Return the state of all generators that the work may not draw from, as their numbers would be captured."""
        ...

    def beside(self) -> AbstractContextManager[None]:
        """Return a block that runs where work is captured."""
        ...

    def ended(self) -> Callable[[], bool]:
        """Return what tells whether all that was begun by now has ended."""
        ...


@final
class CudaGraphs:
    """Work of one GPU in CUDA graphs.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def warm(self, work: Work) -> None:
        """Do the work once on the side stream; see `Graphs`."""
        with ALONE:
            with self.beside():
                work()
            torch.cuda.synchronize(self._device)

    def capture(self, work: Work, branches: Branches | None = None) -> Work:
        """Capture the work on the side stream, or on several; see `Graphs`."""
        with ALONE:
            return self._captured(work, branches)

    def _captured(self, work: Work, branches: Branches | None) -> Work:
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        try:
            with self.beside(), _no_collection():
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    with InPieces() if branches is None else _OnStreams(branches, self._device):
                        work()
                except BaseException:
                    with suppress(RuntimeError):  # it says that the capture failed; the first error says why
                        graph.capture_end()
                    raise
                graph.capture_end()
        except BaseException:
            self._recover(pool)
            raise
        replay: Work = graph.replay
        return replay

    def seconds(self, work: Work) -> float:
        """Return how long work takes; see `Graphs`."""
        with ALONE:
            torch.cuda.synchronize(self._device)
            begun = time.perf_counter()
            self.warm(work)
            return time.perf_counter() - begun

    def generator(self) -> Tensor:
        """Return the state of the generator of the GPU."""
        return torch.cuda.get_rng_state(self._device)

    def set_generator(self, state: Tensor) -> None:
        """Set the state of the generator of the GPU."""
        torch.cuda.set_rng_state(state, self._device)

    def aside(self) -> Any:
        """Return the states of the generators of the CPU."""
        return drawn_from()

    def ended(self) -> Callable[[], bool]:
        """Return the question to an event, which waits for nothing; see `Graphs`."""
        end = torch.cuda.Event()  # type: ignore[no-untyped-call]
        end.record(torch.cuda.current_stream(self._device))
        over: Callable[[], bool] = end.query
        return over

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run a block on the side stream, after all that was begun on the current one, which waits for it."""
        side, current = streams_of(self._device)[0], torch.cuda.current_stream(self._device)
        if side == current:
            yield
            return
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                yield
        finally:
            current.wait_stream(side)

    def _recover(self, pool: Any) -> None:
        """Make torch usable after a capture that failed.

        Its allocator may still serve that capture, and the generator still counts for it and refuses to draw: a capture that
        succeeds sets the generator right, and its numbers are thrown away.
        """
        with suppress(RuntimeError):  # it is ended already where capture_end came that far
            index = torch.cuda.current_device() if self._device.index is None else self._device.index
            torch._C._cuda_endAllocateToPool(index, pool)
        torch.cuda.synchronize(self._device)
        number, graph = torch.zeros(1, device=self._device), torch.cuda.CUDAGraph()
        with self.beside(), _no_collection():
            graph.capture_begin(capture_error_mode="thread_local")
            number.add_(1)
            graph.capture_end()
        torch.cuda.synchronize(self._device)


@final
class _OnStreams(Mode):
    """Lets the operations of a capture run on several streams, each after those that it waits for.

    All begin after the stream that is current on entering, which goes on after all of them. What operations return is kept
    until then, so that no memory is used again on one stream while another may read it.

    Args:
        branches: What will run.
        device: The GPU.
    """

    def __init__(self, branches: Branches, device: torch.device) -> None:
        super().__init__()
        count = 1 + max((stream or 0 for stream in branches.streams), default=0)
        self._branches = branches
        self._streams = streams_of(device)[:count]
        self._first = self._streams[0]  # which is current
        self._ended: dict[int, torch.cuda.Event] = {}
        self._kept: list[torch.UntypedStorage] = []
        self._number = 0

    def __enter__(self) -> _OnStreams:
        for stream in self._streams[1:]:
            stream.wait_stream(self._first)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for stream in self._streams[1:]:
            self._first.wait_stream(stream)
        self._kept.clear()
        if error[0] is None and self._number != len(self._branches.names):
            raise RuntimeError(f"{self._number} operations came; expected {len(self._branches.names)}")

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation on its stream.

        Raises:
            RuntimeError: It is not the one that was written down.
        """
        if function.namespace in IGNORED:
            return function(*args, **(kwargs or {}))
        number, branches = self._number, self._branches
        if number >= len(branches.names) or str(function) != branches.names[number]:
            raise RuntimeError(
                f"{function} came; expected {branches.names[number] if number < len(branches.names) else 'none'}"
            )
        self._number += 1
        place = branches.streams[number]
        if place is None:
            return function(*args, **(kwargs or {}))
        stream = self._streams[place]
        for other in branches.waits[number]:
            stream.wait_event(self._ended[other])
        with torch.cuda.stream(stream):
            result = function(*in_pieces(function, args), **(kwargs or {}))
        if number in branches.awaited:
            self._ended[number] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._ended[number].record(stream)
        self._kept += [tensor.untyped_storage() for tensor in tensors_in(result)]  # autograd copies a gradient that is held
        return result


@contextmanager
def _no_collection() -> Iterator[None]:
    """Run a block without the collector of garbage, which might free a graph of before in the middle of a capture."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
