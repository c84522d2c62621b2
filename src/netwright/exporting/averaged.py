"""Several programs joined to one torch module that predicts their mean; see `whole.Whole` for one program. Floor 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from netwright.data.column import Column
from netwright.errors import ConfigError
from netwright.exporting.joint import Joint
from netwright.exporting.whole import Whole, example_rows, free_axes, names_with_lengths


@final
class Averaged(nn.Module):
    """The programs of an ensemble as one module on the CPU, in eval mode, copies of its own.

    Args:
        joint: The programs. Each prepares the rows by itself, as its own train rows taught it.

    Shape: as `netwright.exporting.whole.Whole`; categories and symbols are numbered as `Joint.preparation` knows them.

    Raises:
        ConfigError: Some read sequences of any length, others of one.
    """

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.names = list(joint.preparation.modules)
        form = joint.preparation.steps
        self.wholes = nn.ModuleList(Whole(member) for member in joint.members)
        self.own = nn.ModuleList(_Own(joint, place) for place in range(len(joint.members)))
        reading = [whole.reads_lengths for whole in self._each()]
        self.reads_lengths = reading[0]
        if len(set(reading)) > 1 or (form is not None and not reading[0] and len(form.rungs) > 1):
            raise ConfigError(
                "export: the members read sequences of different lengths; expected one length, or any length in all; use "
                "--format bundle"
            )
        self._rows = example_rows(joint.preparation.modules, form, self.reads_lengths)
        self.to("cpu").eval()

    @property
    def network(self) -> nn.ModuleList:
        """The networks."""
        return nn.ModuleList(whole.network for whole in self._each())

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in order."""
        return names_with_lengths(self.names, self.reads_lengths)

    def _each(self) -> list[Whole]:
        return [whole for whole in self.wholes if isinstance(whole, Whole)]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the mean of the predictions of raw rows."""
        count = len(self.names)
        found = [
            whole(*(own(value) for value in inputs[:count]), *inputs[count:])
            for whole, own in zip(self.wholes, self.own, strict=True)
        ]
        return torch.stack(found).mean(dim=0)

    def example(self) -> tuple[Tensor, ...]:
        """Return raw rows of zeros, of the dtypes and shapes that the inputs have."""
        return self._rows

    def dynamic(self) -> tuple[dict[int, str], ...]:
        """Return the axes of each input whose size is free, by name."""
        return free_axes(self.input_names, self.reads_lengths)


@final
class _Own(nn.Module):
    """Turns raw numbers as the ensemble reads them into those that one member was trained on.

    Args:
        joint: All programs.
        place: Which of them.
    """

    def __init__(self, joint: Joint, place: int) -> None:
        super().__init__()
        preparation, own = joint.preparation, joint.members[place].preparation
        self.places: list[int] = []
        self.coded: list[int] = []
        self.plain = True
        if preparation.encoder is not None and own.encoder is not None:
            self._columns(preparation.encoder.used, own.encoder.used)
        elif preparation.steps is not None and preparation.steps.vocabulary is not None and own.steps is not None:
            known = own.steps.vocabulary or ()
            self.plain = preparation.steps.vocabulary == known
            self.register_buffer("codes", torch.tensor(_numbers(preparation.steps.vocabulary, known)))

    def _columns(self, every: Sequence[Column], used: Sequence[Column]) -> None:
        where = {(column.name, column.kind): place for place, column in enumerate(every)}
        self.places = [where[column.name, column.kind] for column in used]
        self.plain = self.places == list(range(len(every)))
        for own, place in enumerate(self.places):
            if every[place].levels != used[own].levels:
                self.plain = False
                self.coded.append(own)
                codes = _numbers(every[place].levels, used[own].levels)
                self.register_buffer(f"codes_{own}", torch.tensor(codes, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        """Return the numbers of one member."""
        if self.plain:
            return raw
        if not self.places:
            found: Tensor = self.get_buffer("codes")[raw]
            return found
        columns = [
            self.get_buffer(f"codes_{own}")[raw[..., place].long()] if own in self.coded else raw[..., place]
            for own, place in enumerate(self.places)
        ]
        return torch.stack(columns, dim=-1)


def _numbers(every: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the number that a member gives to each number of the ensemble; 0 is unknown to both.

    Example:
        >>> _numbers(("a", "b", "c"), ("a", "c"))
        [0, 1, 0, 2]
    """
    places = {level: place + 1 for place, level in enumerate(known)}
    return [0, *(places.get(level, 0) for level in every)]
