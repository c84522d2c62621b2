"""Rows that are one array of numbers, from raw numbers to predictions in one call. Floor 10.

Preparation, network and decoding are called as one module, and so recorded as one: few rows are answered by one replay, and of
many rows no prepared copy is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.data.array_preparation import ArrayPreparation, tensor_of
from netwright.data.batches import Batch, lies_plainly
from netwright.engine.base import Execution
from netwright.engine.forward import MOST_SHAPES, Forward
from netwright.engine.prompt import Prompt
from netwright.evaluation.scoring import at_once, evaluating
from netwright.model.summary import call_model
from netwright.model.task import Decoding
from netwright.sources.arrays import Array

Floats = npt.NDArray[np.float64]
CPU = torch.device("cpu")
NOTHING = torch.empty(0)
VECTOR = 64  # numbers, of which a kernel's vector holds a part


@final
class Prepared(nn.Module):
    """A network behind its preparation and before its decoding, the very modules.

    Args:
        name: Of the network's only input.
        preparation: Of that input.
        network: Called with prepared rows, which nobody else holds.
        decoding: Of its outputs; nn.Identity() where that comes later.

    Shape: raw numbers ``(rows, ...)`` of any dtype that torch computes with; probabilities, scores or values ``(rows, ...)``
    float64.
    """

    def __init__(self, name: str, preparation: ArrayPreparation, network: nn.Module, decoding: nn.Module) -> None:
        super().__init__()
        self.name, self.preparation, self.network, self.decoding = name, preparation.eval(), network, decoding.eval()
        self.training = False  # the network's own mode is the network's

    def forward(self, raw: Tensor) -> Tensor:
        """Return the predictions of raw rows."""
        prepared = self.preparation.as_one(raw)
        if not lies_plainly(prepared):
            prepared = prepared.clone(memory_format=torch.contiguous_format)
        decoded: Tensor = self.decoding(call_model(self.network, {self.name: prepared}))
        return decoded


@final
class RawForward:
    """Calls a network on the CPU with raw rows, as many at a time as prepared ones would be.

    Args:
        name: Of the network's only input.
        preparation: Of that input; its numbers are no codes.
        network: The network.
        decoding: Of its outputs.
        how: Calls shall be executed.
        batch_size: Rows of a training batch.
    """

    def __init__(
        self,
        name: str,
        preparation: ArrayPreparation,
        network: nn.Module,
        decoding: Decoding,
        how: Execution,
        batch_size: int,
    ) -> None:
        self._name = name
        self._rows = at_once(1 + len(preparation.output_shape), batch_size)
        # Where rows at a time end within a vector of numbers, a sigmoid of them may have another last bit than one of all rows.
        whole = self._rows % VECTOR == 0
        inside: nn.Module = decoding if whole else nn.Identity()
        self._after = None if whole else decoding
        self._forward = Forward(Prepared(name, preparation, network, inside), how)
        self._prompts: dict[tuple[Any, ...], Prompt] = {}

    def decoded(self, values: Array) -> Tensor:
        """Return the predictions ``(rows, ...)`` of raw rows that the preparation checked."""
        with evaluating(self._forward.model, CPU):
            return self._whole([self._forward(batch) for batch in self._batches(values)])

    def at_once(self, rows: Any) -> Floats | None:
        """Return the predictions of an array like one that was answered before; None for all else: ask `trusted`."""
        prompt = self._prompts.get((rows.shape, rows.dtype)) if type(rows) is np.ndarray else None
        return None if prompt is None else prompt(rows)

    def remember(self, values: Array, threads: int | None, products: str) -> None:
        """Answer arrays like one that `trusted` answered at once from now on, where that can be; see `Forward.prompt`."""
        rows = tensor_of(values)
        if len(rows) <= self._rows and self._after is None and rows.numpy().dtype == values.dtype:  # else they were widened
            prompt = self._forward.prompt(rows, threads, products)
            if prompt is not None:
                if len(self._prompts) >= MOST_SHAPES:
                    self._prompts.clear()
                self._prompts[values.shape, values.dtype] = prompt

    def trusted(self, values: Array) -> Tensor | None:
        """Return the same for rows that nobody checked, if rows of their shapes and dtype are trusted; see `Forward.trusted`."""
        # The last rows may be fewer, and so of another recording: whether that is trusted is known before others are answered.
        starts = reversed(range(0, len(values), self._rows))
        found = self._forward.trusted(tensor_of(values[start : start + self._rows]) for start in starts)
        if found is None:
            return None
        return found[0] if len(found) == 1 and self._after is None else self._whole(found[::-1])

    def _whole(self, parts: list[Tensor]) -> Tensor:
        outputs = torch.cat(parts)
        return outputs if self._after is None else self._after(outputs)

    def _batches(self, values: Array) -> Iterator[Batch]:
        for start in range(0, len(values), self._rows):
            part = tensor_of(values[start : start + self._rows])
            yield Batch({self._name: part}, NOTHING, torch.arange(len(part)))
