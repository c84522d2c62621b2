"""Work on a GPU captured as a CUDA graph and replayed: the few calls that need CUDA, and nothing else. Floor 5.

After torch's documentation ("CUDA semantics", CUDA graphs): the work runs once on a side stream, so that libraries are loaded
and have their workspaces; then the same work is captured there, while nothing is computed. Random numbers: torch registers its
generator with every capture; a replay draws from where the generator is and moves it on as far as the work as written would.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, final

import torch
from torch import Tensor

from netwright.seeding import drawn_from

Work = Callable[[], None]


class Graphs(Protocol):
    """Captures work that reads and writes the same tensors each time; it may read nothing from the device."""

    def warm(self, work: Work) -> None:
        """Do the work once, where it will be captured, and wait for its end."""
        ...

    def capture(self, work: Work) -> Work:
        """Return what repeats the work; nothing is computed, and no generator moves.

        Raises:
            RuntimeError: It cannot be captured; what the work raises is passed on. torch can be used as before.
        """
        ...

    def generator(self) -> Tensor:
        """Return the state of the generator that the work draws from."""
        ...

    def set_generator(self, state: Tensor) -> None:
        """Put it where `generator` found it."""
        ...

    def aside(self) -> Any:
        """Return the state of all generators that the work may not draw from, as their numbers would be captured."""
        ...


@final
class CudaGraphs:
    """Work of one GPU in CUDA graphs.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None  # made with the first work

    def warm(self, work: Work) -> None:
        """Do the work once on the side stream; see `Graphs`."""
        with self._aside():
            work()
        torch.cuda.synchronize(self._device)

    def capture(self, work: Work) -> Work:
        """Capture the work on the side stream; see `Graphs`."""
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        try:
            with self._aside(), _no_collection():
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
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

    def generator(self) -> Tensor:
        """Return the state of the generator of the GPU."""
        return torch.cuda.get_rng_state(self._device)

    def set_generator(self, state: Tensor) -> None:
        """Set the state of the generator of the GPU."""
        torch.cuda.set_rng_state(state, self._device)

    def aside(self) -> Any:
        """Return the states of the generators of the CPU."""
        return drawn_from()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Run a block on the side stream, after all that was begun on the current one, which waits for it."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

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
        with self._aside(), _no_collection():
            graph.capture_begin(capture_error_mode="thread_local")
            number.add_(1)
            graph.capture_end()
        torch.cuda.synchronize(self._device)


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
