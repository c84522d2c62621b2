"""The programs of several networks as one: which rows they read between them, and what their outputs mean. Floor 10.

Folds learn columns, categories and scales each of its own train rows, so what one network knows another may not. Joined they
read every column that one of them reads, and know every category that one of them knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from torch import nn

from netwright.data.array_preparation import ArrayPreparation
from netwright.data.column import Column
from netwright.data.columns import TableEncoder
from netwright.data.preparation import TABLE, Preparation, TablePreparation
from netwright.errors import CheckpointError
from netwright.exporting.bundle import Outcome, Program
from netwright.sources.sequences import StepForm


@final
@dataclass(frozen=True)
class Joint:
    """Programs that predict the same from the same rows; see `refuse_unequal`."""

    members: tuple[Program, ...]

    @cached_property
    def preparation(self) -> Preparation:
        """What they read between them: for telling and reading, never for preparing."""
        parts = [member.preparation for member in self.members]
        steps = joined_steps([part.steps for part in parts if part.steps is not None])
        encoders = [part.encoder for part in parts if part.encoder is not None]
        if encoders:
            encoder = joined_encoder(encoders)
            return Preparation(encoder, nn.ModuleDict({TABLE: _told(encoder, parts)}), steps)
        modules = parts[0].modules
        if steps is not None and steps.vocabulary is not None:
            modules = nn.ModuleDict({name: _wide(module, steps.vocabulary) for name, module in modules.items()})
        return Preparation(None, modules, steps)

    @property
    def outcome(self) -> Outcome:
        """What the outputs mean."""
        return self.members[0].outcome

    @property
    def per_step(self) -> bool:
        """Whether each step of a row gets a prediction."""
        return self.members[0].per_step


def joined_encoder(encoders: Sequence[TableEncoder]) -> TableEncoder:
    """Return an encoder that knows each column in each kind that one of them reads it as, and each category, in their order.

    An amount that is constant is one that all of them know so.

    Example:
        >>> one = TableEncoder((Column("a", "number"), Column("b", "category", 0, ("x", "y"))))
        >>> other = TableEncoder((Column("a", "number"), Column("b", "category", 0, ("y", "z"))))
        >>> [(column.name, column.levels) for column in joined_encoder([one, other]).columns]
        [('a', ()), ('b', ('x', 'y', 'z'))]
    """
    found: dict[tuple[str, str], Column] = {}
    used = {column.name for encoder in encoders for column in encoder.used}
    for encoder in encoders:
        for column in encoder.columns:
            if column.name in used and column not in encoder.used:
                continue
            known = found.setdefault((column.name, column.kind), column)
            levels = tuple(sorted({*known.levels, *column.levels}))
            constant = known.constant if known.constant == column.constant else None
            spans = [one.span for one in (known, column) if one.span is not None]
            span = (min(low for low, _ in spans), max(high for _, high in spans)) if len(spans) == 2 else None
            found[column.name, column.kind] = replace(known, levels=levels, constant=constant, span=span)
    places = {column.name: place for place, column in enumerate(encoders[0].columns)}
    ordered = sorted(found.values(), key=lambda column: places.get(column.name, len(places)))
    return TableEncoder(tuple(ordered), encoders[0].markers, all(encoder.settled for encoder in encoders))


def joined_steps(forms: Sequence[StepForm]) -> StepForm | None:
    """Return how rows of steps are read by several: every symbol, every length; None without such."""
    if not forms:
        return None
    rungs = tuple(sorted({rung for form in forms for rung in form.rungs}))
    symbols = [form.vocabulary for form in forms if form.vocabulary is not None]
    vocabulary = tuple(sorted({symbol for known in symbols for symbol in known})) if symbols else None
    return replace(forms[0], rungs=rungs, vocabulary=vocabulary)


def _told(encoder: TableEncoder, parts: Sequence[Preparation]) -> TablePreparation:
    """Return a module of the joined columns that tells what fills a missing cell: the mean over those who read it."""
    used = encoder.used
    module = TablePreparation([one.kind for one in used], [len(one.levels) for one in used], [], "none", False)
    known: dict[tuple[str, str], list[float]] = {}
    for part in parts:
        own = part.modules[TABLE]
        if isinstance(own, TablePreparation) and part.encoder is not None:
            for place, fill in zip(own.plain + own.dates, own.fill.tolist(), strict=True):
                column = part.encoder.used[place]
                known.setdefault((column.name, column.kind), []).append(fill)
    fills = [known[used[place].name, used[place].kind] for place in module.plain + module.dates]
    module.fill.copy_(torch.tensor([sum(values) / len(values) for values in fills], dtype=torch.float64))
    return module


def _wide(module: nn.Module, vocabulary: Sequence[str]) -> nn.Module:
    """Return the module of codes with room for every symbol."""
    if not isinstance(module, ArrayPreparation) or module.limit is None:
        return module
    return ArrayPreparation(module.shape, module.layout, module.mode, len(vocabulary) + 1)


def refuse_unequal(programs: Sequence[Program], names: Sequence[str]) -> None:
    """Refuse programs that do not predict the same from the same rows.

    Args:
        programs: Two or more.
        names: What to call each, for the error.

    Raises:
        CheckpointError: Naming the first that differs from the first, and in what.
    """
    expected = _told_of(programs[0])
    for program, name in zip(programs[1:], names[1:], strict=True):
        for what, found in _told_of(program).items():
            if found != expected[what]:
                raise CheckpointError(
                    f"{name}: {what}: {_short(found)} came; expected {_short(expected[what])}, as {names[0]}; an ensemble is of "
                    "runs that predict the same from the same columns; leave it out"
                )


def _told_of(program: Program) -> dict[str, object]:
    """Return what programs of one ensemble have in common, by what it is called."""
    preparation, outcome = program.preparation, program.outcome
    encoder, steps = preparation.encoder, preparation.steps
    arrays = {
        name: (tuple(module.shape), module.layout, module.mode == "codes")
        for name, module in preparation.modules.items()
        if isinstance(module, ArrayPreparation)
    }
    rows = "single rows" if steps is None else "texts" if steps.vocabulary is not None else "sequences"
    gives = "counts" if outcome.decoding.rates else "probabilities" if outcome.probabilities else "scores or values"
    return {
        "task": outcome.task,
        "target": list(outcome.names),
        "classes": list(outcome.classes),
        "predictions": f"{gives}{' of each step' if program.per_step else ''}",
        "rows": rows,
        "columns": [] if encoder is None else sorted(column.name for column in encoder.columns),
        "marks of missing cells and decimals": None if encoder is None else str(encoder.markers),
        "inputs": arrays,
    }


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:120] + ("..." if len(text) > 120 else "") or "none"
