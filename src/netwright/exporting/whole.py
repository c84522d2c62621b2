"""Preparation, network and decoding joined to one torch module: raw numbers in, probabilities or the user's units out.

It is what a ``.pt2`` or ``.onnx`` file holds. Floor 10.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.array_preparation import ArrayPreparation
from netwright.exporting.bundle import Program
from netwright.exporting.scanned import read_step_by_step
from netwright.model.masked import Masked
from netwright.model.summary import call_model, takes_lengths
from netwright.sources.sequences import StepForm

EXAMPLE_ROWS = 3  # 0 and 1 are special to torch.export
LENGTHS = "lengths"


@final
class Whole(nn.Module):
    """A program as one module on the CPU, in eval mode, a copy of its own.

    Args:
        program: Preparation, network and decoding.

    Shape: per input raw numbers ``(rows, ...)``, of steps ``(rows, time, ...)``; where sequences differ in length also their
    lengths, int64 ``(rows,)``. Out come probabilities ``(rows, classes)`` or values ``(rows, outputs)``, float64, of a network
    that predicts each step ``(rows, time, ...)``.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.names = list(program.preparation.modules)
        self.preparation = copy.deepcopy(program.preparation.modules)
        self.network = copy.deepcopy(program.model)
        self.decoding = copy.deepcopy(program.outcome.decoding)
        self.form: StepForm | None = program.preparation.steps
        self.to("cpu").eval()
        if self.reads_lengths:
            read_step_by_step(self.network)

    @property
    def reads_lengths(self) -> bool:
        """Whether the lengths of sequences are a further input."""
        if self.form is None or not takes_lengths(self.network):
            return False
        return isinstance(self.network, Masked) or len(self.form.rungs) > 1

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in order."""
        return names_with_lengths(self.names, self.reads_lengths)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return predictions of raw rows."""
        lengths = inputs[-1] if self.reads_lengths else None
        prepared = {
            name: self._prepared(self.preparation[name], value, lengths)
            for name, value in zip(self.names, inputs, strict=False)
        }
        output: Tensor = call_model(self.network, prepared, lengths)
        if self.form is None or not self.form.per_step:
            decoded: Tensor = self.decoding(output)
            return decoded
        each: Tensor = self.decoding(output.flatten(0, 1))
        return each.reshape(output.shape[0], output.shape[1], each.shape[1])

    def _prepared(self, module: nn.Module, raw: Tensor, lengths: Tensor | None) -> Tensor:
        if self.form is None:
            whole: Tensor = module(raw)
            return whole
        steps: Tensor = module(raw.flatten(0, 1))
        found = steps.reshape(raw.shape[0], raw.shape[1], *steps.shape[1:])
        if lengths is not None:
            padding = torch.arange(raw.shape[1]) >= lengths.unsqueeze(1)
            found = found.masked_fill(padding.reshape(raw.shape[0], raw.shape[1], *(1,) * (found.dim() - 2)), 0)
        return found.transpose(1, 2).contiguous() if self.form.channels_first else found

    def example(self) -> tuple[Tensor, ...]:
        """Return raw rows of zeros, of the dtypes and shapes that the inputs have."""
        return example_rows(self.preparation, self.form, self.reads_lengths)

    def dynamic(self) -> tuple[dict[int, str], ...]:
        """Return the axes of each input whose size is free, by name."""
        return free_axes(self.input_names, self.reads_lengths)


def names_with_lengths(names: Sequence[str], reads_lengths: bool) -> list[str]:
    """Return the names of the inputs, the lengths of sequences last."""
    return [*names, *([LENGTHS] if reads_lengths else [])]


def example_rows(modules: nn.ModuleDict, form: StepForm | None, reads_lengths: bool) -> tuple[Tensor, ...]:
    """Return raw rows of zeros, of the dtypes and shapes that the inputs have.

    Args:
        modules: The preparation of each input.
        form: How rows of steps reach the network.
        reads_lengths: Whether the lengths of sequences are a further input.
    """
    longest = 1 if form is None else max(form.rungs)
    time = () if form is None else (longest,)
    found = []
    for module in modules.values():
        if isinstance(module, ArrayPreparation):
            shape, codes = module.shape, module.mode == "codes"
        else:
            shape, codes = [len(module.kinds)], False  # type: ignore[arg-type]
        found.append(torch.zeros(EXAMPLE_ROWS, *time, *shape, dtype=torch.int64 if codes else torch.float64))
    if reads_lengths:
        found.append(torch.full((EXAMPLE_ROWS,), longest, dtype=torch.int64))
    return tuple(found)


def free_axes(names: Sequence[str], reads_lengths: bool) -> tuple[dict[int, str], ...]:
    """Return the axes of each input whose size is free, by name."""
    axes = {0: "rows", 1: "time"} if reads_lengths else {0: "rows"}
    return tuple({0: "rows"} if name == LENGTHS else axes for name in names)
