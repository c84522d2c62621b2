"""Rows of a test one by one: where the worst errors come from, how they look, and their columns shuffled. Floor 13."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from netwright.data.array_preparation import ArrayPreparation, tensor_of
from netwright.data.batches import Batch
from netwright.data.mapped import Mapped
from netwright.data.preparation import TablePreparation
from netwright.engine.forward import NOTHING, Forward
from netwright.evaluation import thumbnails
from netwright.evaluation.importance import Shuffled, features_of_columns
from netwright.evaluation.saliency import saliency
from netwright.evaluation.scoring import evaluating
from netwright.evaluation.worst import told_of_row, told_of_steps, worst_rows
from netwright.exporting.bundle import Program
from netwright.rows.new_rows import row_columns
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.trained.known import Known
from netwright.trained.slicing import about_rows

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
PICTURES = ("NCHW", "NCDHW")
MOST_COLUMNS = 12  # of a row that is shown
LONGEST = 200  # characters of a cell that is shown
MOST_LOOKED_INTO = 32  # rows whose saliency is worked out
AT_ONCE = 2048  # rows that go through the copy together


@dataclass(frozen=True)
class Copied:
    """A copy of a network in eval mode, for what may leave traces in it."""

    forward: Forward

    def outputs(self, inputs: dict[str, Tensor], per_step: bool = False) -> Tensor:
        """Return the outputs of prepared rows, or of all their steps, on the CPU."""
        first = next(iter(inputs.values()))
        parts = []
        with evaluating(self.forward.model, first.device):
            for start in range(0, len(first), AT_ONCE):
                part = {name: value[start : start + AT_ONCE] for name, value in inputs.items()}
                output = self.forward(Batch(part, NOTHING, NOTHING))
                parts.append((output.flatten(0, 1) if per_step else output).cpu())
        return torch.cat(parts)


def copy_of(program: Program, notes: list[str]) -> Copied | None:
    """Return a copy of the network of a program; None, and a remark, where it cannot be copied."""
    try:
        model = copy.deepcopy(program.model).eval()
    except Exception as error:  # an own module may hold anything
        notes.append(f"importance and saliency: the network cannot be copied ({type(error).__name__}); they are left out")
        return None
    return Copied(Forward(model, replace(program.how, engine="eager", lanes=1)))


def shuffled_columns(known: Known, rows: Rows) -> tuple[dict[str, Tensor], list[Shuffled]] | None:
    """Return prepared rows and where each raw column ended up in them; None for images, texts and rows of unequal length.

    Args:
        known: The network, its rows and the target.
        rows: Which rows.
    """
    preparation, device = known.program.preparation, known.program.device
    steps = preparation.steps
    if steps is not None and (steps.vocabulary is not None or len(steps.rungs) > 1):
        return None
    examples = preparation.examples(known.raw, rows).to(device)
    batch = examples.batch(torch.arange(len(rows)))
    if batch.lengths is not None:
        return None
    found: list[Shuffled] = []
    for name, values in batch.inputs.items():
        layout = preparation.layout(name)
        axis = values.dim() - 1 if layout == "NTC" else 1
        channels = layout in ("NTC", "NCT") and values.dim() == 3 and values.shape[axis] > 1
        module = preparation.modules[name]
        if isinstance(module, TablePreparation) and preparation.encoder is not None:
            names = [column.name for column in preparation.encoder.used]
            pairs = zip(names, features_of_columns(module), strict=True)
            found += [Shuffled(column, name, axis, places) for column, places in pairs if places]
        elif isinstance(module, ArrayPreparation) and module.mode != "codes" and (channels or values.dim() == 2):
            word = "channel {place}" if channels else f"{name}[{{place}}]"
            found += [Shuffled(word.format(place=place), name, axis, (place,)) for place in range(values.shape[axis])]
    return (batch.inputs, found) if found else None


@dataclass(frozen=True)
class Looking:
    """The worst errors of a test.

    Args:
        known: The network, its rows and the target.
        rows: The test rows.
        decoded: What it gives for them, or for all their steps.
        copied: A copy of the network for saliency, or None.
        order: Columns, the most important first.
    """

    known: Known
    rows: Rows
    decoded: Floats
    copied: Copied | None
    order: tuple[str, ...] = ()

    def entries(self, true: npt.NDArray[Any], classes: list[str], lengths: Rows | None) -> list[dict[str, Any]]:
        """Return what is told of each of the worst rows.

        Args:
            true: The target of the test rows, or of all their steps.
            classes: The classes or labels in words.
            lengths: Steps of each row where each has a prediction.
        """
        kind, target = self.known.target.task, self.known.target
        places = worst_rows(kind, true, self.decoded, lengths)[: self.known.config.evaluation.worst]
        rows = self.rows[places]
        numbers = (
            rows if lengths is not None else row_columns(self.known.config, self.known.program, self.known.raw, rows)["row"]
        )
        ends = None if lengths is None else np.cumsum(lengths)
        names = [str(name) for name in target.names]
        found = []
        for place, row, number in zip(places.tolist(), rows.tolist(), np.asarray(numbers).tolist(), strict=True):
            told: dict[str, Any] = {"row": number, "where": self._where(row, number)}
            if ends is None or lengths is None:
                told |= told_of_row(kind, true[place], self.decoded[place], names, classes)
            else:
                steps = slice(int(ends[place] - lengths[place]), int(ends[place]))
                told |= told_of_steps(kind, true[steps], self.decoded[steps], classes)
            found.append(told)
        for told, more in zip(found, self._seen(rows), strict=True):
            told |= more
        return found

    def _where(self, row: int, number: int) -> str:
        """Return the file and line of a row, of a forecast of what is predicted."""
        raw = self.known.raw
        if isinstance(raw, Mapped):
            return f"row {row + 1}"
        if isinstance(raw, Sequences) and self.known.config.data.window is not None and not raw.per_step:
            return raw.steps.place(number)
        return raw.place(row)

    def _seen(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the cells and pictures of rows."""
        found: list[dict[str, Any]] = [{} for _ in rows]
        if not len(rows):
            return found
        for parts in (self._cells(rows), self._pictures(rows), self._curves(rows)):
            for told, more in zip(found, parts or [{}] * len(rows), strict=True):
                told |= more
        return found

    def _cells(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the raw cells of rows, at most twelve columns, the most important first."""
        raw, about = self.known.raw, about_rows(self.known)
        if isinstance(raw, Sequences) and raw.symbols and isinstance(raw.steps, Arrays):
            codes = next(iter(raw.steps.inputs.values()))
            steps = [codes[raw.starts[row] : raw.starts[row] + raw.lengths[row]].ravel().tolist() for row in rows]
            between = "" if all(len(symbol) == 1 for symbol in raw.symbols) else " "
            return [{"inputs": {"text": _cut(between.join(raw.symbols[code] for code in part))}} for part in steps]
        if isinstance(about, Table):
            names = self._ordered([name for name in about.names if name not in self.known.target.names])
            taken = about.columns.select(names).take(pa.array(rows)).to_pylist() if names else []
            return [{"inputs": {name: _plain(value) for name, value in row.items()}} for row in taken]
        if isinstance(raw, Arrays):
            flat = {name: values for name, values in raw.inputs.items() if values.ndim == 2}
            cells = {f"{name}[{place}]": (name, place) for name, values in flat.items() for place in range(values.shape[1])}
            chosen = [(text, *cells[text]) for text in self._ordered(list(cells))]
            return (
                [{"inputs": {text: _plain(flat[name][row, place]) for text, name, place in chosen}} for row in rows]
                if chosen
                else []
            )
        return []

    def _ordered(self, names: list[str]) -> list[str]:
        """Return at most twelve names, the most important first, then as they stand."""
        first = [name for name in self.order if name in names]
        return [*first, *(name for name in names if name not in first)][:MOST_COLUMNS]

    def _pictures(self, rows: Rows) -> list[dict[str, Any]]:
        """Return rows that are images or volumes as small pictures, and where the network looks."""
        raw, preparation = self.known.raw, self.known.program.preparation
        name = next((name for name in preparation.modules if preparation.layout(name) in PICTURES), None)
        if name is None or not isinstance(raw, Arrays):
            return []
        module = preparation.modules[name]
        values = preparation.raw_inputs(raw)[name][rows]
        if not isinstance(module, ArrayPreparation):
            return []
        pictures = [thumbnails.picture_of(image) for image in module.moved(tensor_of(values)).numpy()]
        heat = self._heat(rows[:MOST_LOOKED_INTO], name)
        found = []
        for place, pixels in enumerate(pictures):
            told = {} if pixels is None else {"image": thumbnails.data_uri(pixels)}
            if pixels is not None and heat is not None and place < len(heat) and heat.shape[1:] == pixels.shape[:2]:
                told["saliency"] = thumbnails.data_uri(thumbnails.overlaid(pixels, heat[place]))
            found.append(told)
        return found

    def _heat(self, rows: Rows, name: str) -> Floats | None:
        """Return where the network looks, ``(rows, height, width)``."""
        if self.copied is None:
            return None
        examples = self.known.program.preparation.examples(self.known.raw, rows).to(self.known.program.device)
        return saliency(self.copied.forward.model, examples.batch(torch.arange(len(rows))).inputs, name)

    def _curves(self, rows: Rows) -> list[dict[str, Any]]:
        """Return rows of steps as small pictures of their curves."""
        raw, preparation = self.known.raw, self.known.program.preparation
        if isinstance(raw, Arrays):
            name = next((name for name in preparation.modules if preparation.layout(name) in ("NCT", "NTC")), None)
            module = None if name is None else preparation.modules[name]
            if name is None or not isinstance(module, ArrayPreparation):
                return []
            moved = module.moved(tensor_of(preparation.raw_inputs(raw)[name][rows])).numpy()
            first = preparation.layout(name) == "NCT"
            return [_drawn(values.T if first else values) for values in moved]
        if not isinstance(raw, Sequences) or raw.symbols:
            return []
        return [_drawn(self._steps(raw, row)) for row in rows.tolist()]

    def _steps(self, raw: Sequences, row: int) -> Floats:
        """Return the numbers of the steps of a row, ``(steps, channels)``."""
        steps = slice(int(raw.starts[row]), int(raw.starts[row] + raw.lengths[row]))
        if isinstance(raw.steps, Arrays):
            values = next(iter(raw.steps.inputs.values()))[steps]
            return np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        encoder = self.known.program.preparation.encoder
        if encoder is None:
            return np.zeros((0, 1))
        part = Table(raw.steps.columns.slice(steps.start, steps.stop - steps.start), raw.steps.origins)
        return encoder.matrix(part)[:, [column.kind in ("number", "boolean") for column in encoder.used]]


def _drawn(values: npt.NDArray[Any]) -> dict[str, Any]:
    uri = thumbnails.curves_uri(np.asarray(values, dtype=np.float64)) if values.size else None
    return {} if uri is None else {"image": uri}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it; numbers that are not finite are missing."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return _cut(str(value).strip())
