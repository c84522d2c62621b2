"""A network without training: outputs of batches, recorded once for each shape and replayed with the same bits. Floor 7.

On a CPU a call is recorded as operations of torch, on a GPU as a CUDA graph.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from netwright.data.batches import Batch
from netwright.engine.base import Execution
from netwright.engine.eager import casting
from netwright.engine.own_code import why_not_told
from netwright.engine.prompt import Prompt
from netwright.engine.watched import Watched
from netwright.model.summary import call_model
from netwright.recording.graphed_calls import GraphedCall
from netwright.recording.graphs import CudaGraphs, Graphs
from netwright.recording.operations import CannotCapture
from netwright.recording.recorded import Recorded, record, shape_of, shape_of_tensors, ways
from netwright.recording.state import differing, hooked, parts_of
from netwright.recording.tape import place_of

MOST_SHAPES = 8
SHARED = 128  # rows from which a call is worth sharing between cores, even where another program has one of them
NOTHING = torch.empty(0)
WRITTEN = Execution()


class Repeat(Protocol):
    """Calls of a network for batches of one shape, captured; ``trusted`` counts the times that one gave the same bits."""

    trusted: int

    def ready(self) -> bool:
        """Tell whether it gave the same bits often enough."""
        ...

    def output(self, batch: Batch) -> Tensor | None:
        """Return the output of a batch, which the caller may keep; None where the call is to be made as it is written."""
        ...

    def refuse(self) -> bool:
        """Give up the way in which it is repeated; false where no other is left."""
        ...


@final
class Forward:
    """Calls a network that is in eval mode; gradients are off.

    Args:
        model: The network.
        how: Steps are executed; beside captured and compiled ones calls are recorded and replayed, where that works with the
            same bits, else made as they are written.
        graphs: Captures calls; default CUDA graphs where the network is on a GPU.
    """

    def __init__(self, model: nn.Module, how: Execution = WRITTEN, graphs: Graphs | None = None) -> None:
        self.model = model
        self._autocast = how.update.autocast
        self._lanes = how.lanes
        self._graphs = graphs
        self._device = next((value.device.type for value in (*model.parameters(), *model.buffers())), "cpu")
        self._captured, self._wanted = False, how.engine in ("captured", "compiled")
        self._known: dict[tuple[Any, ...], Repeat | None] = {}  # None: seen once
        self._watched: Watched | None = None  # since the first look
        self._alone = threading.Lock()  # a recording has one place for its input and its output

    def _capturable(self) -> bool:
        devices = {value.device for value in (*self.model.parameters(), *self.model.buffers())} or {torch.device("cpu")}
        device = devices.pop()
        if devices or device.type not in ("cpu", "cuda"):
            return False
        if device.type == "cuda" and self._graphs is None:
            self._graphs = CudaGraphs(device)
        return why_not_told(self.model, nn.Identity()) is None and hooked(self.model, nn.Identity()) is None

    def __call__(self, batch: Batch) -> Any:
        """Return the output of a batch; the caller may keep it, and other threads may call too."""
        with self._alone:
            return self._called(batch)

    def _called(self, batch: Batch) -> Any:
        if self._wanted:
            self._look()
        apart = self._graphs is not None and batch.lengths is not None  # which are read on the CPU
        if not self._captured or apart or torch.is_autocast_enabled(self._device):  # by the caller, for this call
            return self._written(batch)
        batch = Batch(batch.inputs, NOTHING, batch.rows, batch.lengths)
        shape = shape_of(batch)
        known = self._known.get(shape)
        if known is not None and known.ready():
            output = known.output(batch)
            return self._written(batch) if output is None else output
        if known is not None:
            return self._compared(known, batch)
        if shape not in self._known and len(self._known) < MOST_SHAPES:
            self._known[shape] = None  # one that comes again is worth recording
            return self._written(batch)
        return self._recorded(shape, batch) if shape in self._known else self._written(batch)

    @property
    def computes(self) -> bool:
        """Whether all that runs is code of torch.nn and ours; see `Watched`."""
        with self._alone:
            return self._look().computes

    def _look(self) -> Watched:
        """Return what is known of the network as it is now; recordings of another are forgotten."""
        if self._watched is None or not self._watched.still():
            self._known.clear()
            self._watched = Watched(self.model)
            self._captured = self._wanted and self._watched.seen and self._capturable()
        return self._watched

    def prompt(self, rows: Tensor, threads: int | None, products: str) -> Prompt | None:
        """Return what answers arrays like a batch of the only input at once, where that can be; see `Prompt` and `trusted`.

        Args:
            rows: Of that input.
            threads: Of each operation; None for the caller's.
            products: As exact as torch.get_float32_matmul_precision() tells.
        """
        with self._alone:
            known, watched = self._known_well(rows), self._watched
            if known is None or watched is None or not watched.rests or known.way is None or not known.way.native:
                return None
            if place_of(known.tape.results[0]).moves:  # each time it lies elsewhere
                return None
            return Prompt(known, watched, threads, products, self._alone)

    def trusted(self, parts: Iterable[Tensor]) -> list[Tensor] | None:
        """Return the outputs for batches of the only input from recordings on the CPU that are trusted; None: make calls.

        Then the network is in eval mode and as it was when it was called last, its code is torch.nn's and ours, and no random
        numbers are drawn: there is no state that a caller would have to put back. No input is infinite or beyond float32.

        Args:
            parts: Contiguous; each is asked for when those before it were answered.
        """
        with self._alone:
            watched = self._watched
            if not self._captured or watched is None or torch.is_autocast_enabled(self._device):
                return None
            if not watched.rests or not watched.still():
                return None
            found = []
            for part in parts:
                known = self._known_well(part)
                output = None if known is None else known.answer([part], checked=True)
                if output is None:
                    return None
                found.append(output)
            return found

    def _known_well(self, rows: Tensor) -> Recorded | None:
        """Return the recording for a batch of the only input that is trusted, and played in the fastest way."""
        known = self._known.get(shape_of_tensors([rows, NOTHING]))
        if not isinstance(known, Recorded) or len(known.gathers) != 1 or known.tape.draws or not known.ready():
            return None
        return known

    def _written(self, batch: Batch) -> Any:
        """Make a call as it is written; what autocast made narrower is float32 again."""
        device = next(iter(batch.inputs.values())).device
        with casting(device, self._autocast):
            output = call_model(self.model, batch.inputs, batch.lengths)
        return output.float() if self._autocast is not None and isinstance(output, Tensor) else output

    def _recorded(self, shape: tuple[Any, ...], batch: Batch) -> Any:
        """Make a call, and record it where that can be."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        if self._graphs is not None:
            return self._graphed(shape, batch, before, self._graphs)
        try:
            with torch.inference_mode(False), torch.no_grad():
                played = ways(True, self._lanes if len(batch) >= SHARED else 1)
                known, (output,) = record(batch, lambda fixed: [self._output(fixed)], played, _sources(batch), self._kept())
        except CannotCapture:
            self._captured = False
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            return self._written(batch)
        self._known[shape] = known
        return output

    def _kept(self) -> list[Tensor]:
        """Return what calls name as written, and leave as it is: the statistics of batch norm that rests."""
        resting = (part for part in parts_of(self.model) if isinstance(part, _BatchNorm) and not part.training)
        return [value for part in resting for value in part.buffers()]

    def _graphed(self, shape: tuple[Any, ...], batch: Batch, before: list[Tensor], graphs: Graphs) -> Any:
        """Make a call, and capture it where it draws no numbers and changes nothing."""
        with torch.inference_mode(False), torch.no_grad():
            states = graphs.generator(), graphs.aside()
            output = self._written(batch)
            drawn = differing([states[0]], [graphs.generator()]) or states[1] != graphs.aside()
            try:
                if drawn or differing(list(self.model.buffers()), before):
                    raise CannotCapture("a call draws random numbers, or changes the network")
                self._known[shape] = GraphedCall(batch, self._output, graphs)
            except (CannotCapture, RuntimeError):  # of CUDA
                self._captured = False
        return output

    def _output(self, batch: Batch) -> Tensor:
        output = self._written(batch)
        if not isinstance(output, Tensor):
            raise CannotCapture(f"the output is {type(output).__name__}; expected one tensor")
        return output

    def _compared(self, known: Repeat, batch: Batch) -> Any:
        """Make the call both ways; a way that gives other bits is not used again."""
        expected = self._written(batch)
        try:
            with torch.inference_mode(False), torch.no_grad():
                given = known.output(batch)
                same = given is not None and not differing([given], [expected])
        except RuntimeError:
            same = False
        if same:
            known.trusted += 1
        elif not known.refuse():
            self._captured = False
        return expected


def _sources(batch: Batch) -> dict[str, Tensor] | None:
    """Return tensors that inputs can be read through, of nothing yet; None where rows do not lie one after the other."""
    plain = all(value.is_contiguous() and not value.is_conj() and not value.is_neg() for value in batch.inputs.values())
    if batch.lengths is not None or not len(batch) or not plain:
        return None
    return {name: torch.empty(0, dtype=value.dtype) for name, value in batch.inputs.items()}
