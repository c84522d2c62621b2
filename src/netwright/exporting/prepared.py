"""Rows that are one array of numbers, from raw numbers to the outputs of the network in one call. Floor 10.

Preparation and network are called as one module, and so recorded as one: few rows are answered by one replay, and of many rows
no prepared copy is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.array_preparation import ArrayPreparation, tensor_of
from netwright.data.batches import Batch, lies_plainly
from netwright.engine.base import Execution
from netwright.engine.forward import Forward
from netwright.evaluation.scoring import at_once, evaluating
from netwright.model.summary import call_model
from netwright.sources.arrays import Array

CPU = torch.device("cpu")
NOTHING = torch.empty(0)


@final
class Prepared(nn.Module):
    """A network behind its preparation, the very modules.

    Args:
        name: Of the network's only input.
        preparation: Of that input.
        network: Called with prepared rows, which nobody else holds.

    Shape: raw numbers ``(rows, ...)`` of any dtype that torch computes with; out comes what the network gives.
    """

    def __init__(self, name: str, preparation: ArrayPreparation, network: nn.Module) -> None:
        super().__init__()
        self.name, self.preparation, self.network = name, preparation.eval(), network
        self.training = False  # the network's own mode is the network's

    def forward(self, raw: Tensor) -> Tensor:
        """Return the outputs of raw rows."""
        prepared: Tensor = self.preparation(raw)
        if not lies_plainly(prepared):
            prepared = prepared.clone(memory_format=torch.contiguous_format)
        output: Tensor = call_model(self.network, {self.name: prepared})
        return output


@final
class RawForward:
    """Calls a network on the CPU with raw rows, as many at a time as prepared ones would be.

    Args:
        name: Of the network's only input.
        preparation: Of that input; its numbers are no codes.
        network: The network.
        how: Calls shall be executed.
        batch_size: Rows of a training batch.
    """

    def __init__(
        self, name: str, preparation: ArrayPreparation, network: nn.Module, how: Execution, batch_size: int
    ) -> None:
        self._name, self._preparation = name, preparation
        self._forward = Forward(Prepared(name, preparation, network), how)
        self._rows = at_once(1 + len(preparation.output_shape), batch_size)

    @property
    def rests(self) -> bool:
        """Whether `resting_outputs` may be asked; see `Forward.rests`."""
        return self._forward.rests

    def outputs(self, values: Array) -> Tensor:
        """Return the outputs ``(rows, ...)`` of raw rows that the preparation checked."""
        with evaluating(self._forward.model, CPU):
            return torch.cat([self._forward(batch) for batch in self._batches(values)])

    def resting_outputs(self, values: Array) -> Tensor | None:
        """Return the same while the network `rests`; None for rows that the preparation refuses."""
        if not self._preparation.accepts(values):
            return None
        with torch.inference_mode():
            found = [self._forward.again(batch) for batch in self._batches(values)]
        return found[0] if len(found) == 1 and lies_plainly(found[0]) else torch.cat(found)

    def _batches(self, values: Array) -> Iterator[Batch]:
        for start in range(0, len(values), self._rows):
            part = tensor_of(values[start : start + self._rows])
            yield Batch({self._name: part}, NOTHING, torch.arange(len(part)))
