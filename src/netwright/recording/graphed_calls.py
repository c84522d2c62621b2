"""The calls of a network for batches of one shape, in a CUDA graph: its input is copied in, its output copied out. Floor 6."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from torch import Tensor

from netwright.data.batches import Batch
from netwright.recording.graphs import Graphs, Work
from netwright.recording.operations import CannotCapture
from netwright.recording.recorded import CHECKED, copied_batch, tensors_of

TIMED = 5  # times that a call is timed as it is written, and as a graph; fewer where that takes longer than
BRIEF = 0.02  # seconds
GAIN = 0.8  # of the time as written, which a graph takes at most


@final
class GraphedCall:
    """One call, captured; see `netwright.engine.forward.Repeat`.

    Args:
        batch: One of the shape.
        call: Returns the output of a batch.
        graphs: Captures work on the device.

    Raises:
        RuntimeError: It cannot be captured.
        CannotCapture: That gains nothing: the GPU is at work for as long as it takes, and a graph keeps its memory.
    """

    def __init__(self, batch: Batch, call: Callable[[Batch], Tensor], graphs: Graphs) -> None:
        self.trusted = 0
        self._fixed = copied_batch(batch)
        self._call = call
        self._given: Tensor | None = None
        graphs.warm(self._work)
        written = _least(graphs, self._work)
        self._replay = graphs.capture(self._work)
        if _least(graphs, self._replay) > GAIN * written:
            raise CannotCapture("a call takes as long in a graph")

    def _work(self) -> None:
        output = self._call(self._fixed)
        if self._given is None:
            self._given = output.clone()  # lies outside of the memory of the graph
        else:
            self._given.copy_(output)

    def ready(self) -> bool:
        """Tell whether it gave the same bits often enough."""
        return self.trusted >= CHECKED

    def output(self, batch: Batch) -> Tensor | None:
        """Return the output of a batch; the caller may keep it."""
        for into, value in zip(tensors_of(self._fixed), tensors_of(batch), strict=True):
            into.copy_(value)
        self._replay()
        return None if self._given is None else self._given.clone()

    def refuse(self) -> bool:
        """Give it up: there is no other way to repeat the call."""
        return False


def _least(graphs: Graphs, work: Work) -> float:
    """Return the least time that work takes, in seconds, of a few: others may use the GPU and the CPU too."""
    took: list[float] = []
    while len(took) < TIMED and sum(took) < BRIEF:
        took.append(graphs.seconds(work))
    return min(took)
