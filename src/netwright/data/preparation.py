"""Raw columns and arrays to float32 tensors: torch modules fitted on the train rows, saved with the model.

`Preparation` holds one module per input. The modules learn nothing by gradient and treat each row alone, so rows can be
prepared in any number at a time. Floor 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.data.array_preparation import CHUNK, ArrayPreparation, refuse_infinite, tensor_of
from netwright.data.batches import Examples, RawInput, Spans, lies_plainly
from netwright.data.column import Column
from netwright.data.columns import TableEncoder
from netwright.data.features import QUANTILES, normal_scores, phases, ranks
from netwright.data.mapped import Mapped
from netwright.data.moments import Moments, moments_of, spanned
from netwright.errors import DataError
from netwright.sources.arrays import Array, Arrays, named_rows
from netwright.sources.sequences import Raw, Sequences, StepForm
from netwright.sources.tables import Table

__all__ = ["TABLE", "ArrayPreparation", "Preparation", "TablePreparation", "fit_arrays", "fit_table"]

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TABLE = "table"
LATE = 1_000_000_000  # bytes: arrays that take more when prepared, and more than raw, are prepared after the gather
SCALED = ("number", "boolean", "date")  # kinds whose cells are amounts
DATE_FEATURES = ("days", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos")


@final
class TablePreparation(nn.Module):
    """Turns raw columns into features: scaled numbers, dates, missing flags, then categories.

    Args:
        kinds: Per raw column: number, boolean, date or category.
        levels: Per raw column: the number of categories, 0 for other kinds.
        flagged: Raw columns that get a 0/1 feature "was missing".
        numbers: ``standardize``, ``quantile`` or ``none``.
        codes: Whether categories stay whole numbers (0 unknown, 1..levels) for `EmbedColumns`, instead of one-hot.

    Shape: float64 ``(rows, raw columns)``, NaN missing, to float32 ``(rows, features)``.
    """

    fill: Tensor
    mean: Tensor
    scale: Tensor
    points: Tensor
    shares: Tensor

    def __init__(
        self, kinds: Sequence[str], levels: Sequence[int], flagged: Sequence[int], numbers: str, codes: bool
    ) -> None:
        super().__init__()
        self.kinds, self.levels, self.flagged = list(kinds), list(levels), list(flagged)
        self.numbers, self.codes = numbers, codes
        self.plain = [place for place, kind in enumerate(kinds) if kind in ("number", "boolean")]
        self.dates = [place for place, kind in enumerate(kinds) if kind == "date"]
        self.categories = [place for place, kind in enumerate(kinds) if kind == "category"]
        scaled = len(self.plain) + len(self.dates)
        for name in ("fill", "mean"):
            self.register_buffer(name, torch.zeros(scaled, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(scaled, dtype=torch.float64))
        size = QUANTILES if numbers == "quantile" else 0
        self.register_buffer("points", torch.zeros(len(self.plain), size, dtype=torch.float64))
        self.register_buffer("shares", torch.zeros(len(self.plain), size, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        """Return the features of raw rows."""
        cells = raw[:, self.plain + self.dates]
        cells = torch.where(torch.isnan(cells), self.fill, cells)
        scaled = (cells - self.mean) / self.scale
        numbers = scaled[:, : len(self.plain)]
        if self.numbers == "quantile":
            numbers = normal_scores(cells[:, : len(self.plain)], self.points, self.shares)
        parts = [numbers]
        parts += [
            torch.cat([scaled[:, [len(self.plain) + place]], phases(cells[:, len(self.plain) + place])], dim=1)
            for place in range(len(self.dates))
        ]
        parts.append(torch.isnan(raw[:, self.flagged]).to(raw.dtype))
        for place in self.categories:
            codes = raw[:, place].long()
            if self.codes:
                parts.append(raw[:, [place]])
            else:
                parts.append(nn.functional.one_hot(codes, self.levels[place] + 1)[:, 1:].to(raw.dtype))
        return torch.cat(parts, dim=1).float()

    def fit(self, raw: Tensor) -> tuple[dict[int, float], dict[int, tuple[float, float]]]:
        """Learn fills, means, deviations and quantiles from the raw train rows ``(rows, raw columns)``; see `settle`."""
        cells = self.scaled_cells(raw.numpy())
        return self.settle(moments_of(cells), cells) if len(cells) else ({}, {})

    def scaled_cells(self, raw: Floats) -> Floats:
        """Return the numbers, booleans and dates among raw columns."""
        return np.ascontiguousarray(raw[:, self.plain + self.dates])

    def settle(
        self, moments: Moments, cells: Floats, ends: tuple[Floats, Floats] | None = None
    ) -> tuple[dict[int, float], dict[int, tuple[float, float]]]:
        """Take over what was learned of the train rows.

        Args:
            moments: Of all of them.
            cells: All of them, or enough for quantiles; NaN missing.
            ends: The least and the greatest of all; None where ``cells`` are all.

        Returns:
            What all of them hold of each raw column that is constant, and the least and the greatest of the others.
        """
        left = np.asarray(
            [self.numbers == "none" and place < len(self.plain) for place in range(cells.shape[1])], dtype=bool
        )
        self.fill.copy_(torch.from_numpy(moments.fill))
        self.mean.copy_(torch.from_numpy(np.where(left, 0.0, moments.mean)))
        self.scale.copy_(torch.from_numpy(np.where(left, 1.0, moments.scale)))
        if self.numbers == "quantile":
            filled = np.where(np.isnan(cells), moments.fill, cells)
            for place in range(len(self.plain)):
                points, shares = ranks(torch.from_numpy(np.ascontiguousarray(filled[:, place])))
                self.points[place], self.shares[place] = points, shares
        places = self.plain + self.dates
        constants = {places[number]: float(moments.fill[number]) for number in np.flatnonzero(moments.constant)}
        low, high = spanned(cells) if ends is None else ends
        known = np.flatnonzero(~moments.constant & np.isfinite(low))
        spans = {places[number]: (float(low[number]), float(high[number])) for number in known}
        return constants, spans

    @property
    def code_levels(self) -> list[int]:
        """Number of codes (unknown included) of each category column that stays a code."""
        return [self.levels[place] + 1 for place in self.categories] if self.codes else []

    def features(self) -> int:
        """Return the number of features."""
        wide = len(self.categories) if self.codes else sum(self.levels[place] for place in self.categories)
        return len(self.plain) + len(DATE_FEATURES) * len(self.dates) + len(self.flagged) + wide


@dataclass(frozen=True)
class Preparation:
    """Everything between raw rows and the network's inputs: the encoder of a table and one module per input.

    With ``steps`` the rows are runs of steps, and what is prepared are the steps.
    """

    encoder: TableEncoder | None
    modules: nn.ModuleDict
    steps: StepForm | None = None

    def examples(self, raw: Raw | Mapped, rows: Rows | None = None, changed: bool = False) -> Examples:
        """Return rows ready to be gathered in batches, all of them or those with the numbers ``rows``.

        Args:
            raw: The rows.
            rows: Which of them.
            changed: Whether raw arrays are changed before they are prepared, as augmentation does.

        Returns:
            Prepared rows; raw ones where they are changed, mapped from a file, or smaller raw and above 1 GB prepared.

        Raises:
            DataError: See `prepare`.
        """
        if isinstance(raw, Mapped):
            features = raw.features if rows is None else raw.features[rows]
            return Examples({TABLE: torch.from_numpy(features)}, torch.zeros((), dtype=torch.int64).expand(len(features)))
        if self.steps is None:
            if isinstance(raw, Sequences):
                raise DataError(
                    f"{raw.origins[0].name}: sequences came; the network was trained on single rows; give such rows"
                )
            values = self.raw_inputs(raw)
            late = self._late(values, rows, changed)
            if late:
                nothing = torch.zeros(len(next(iter(late.values()))), dtype=torch.int64)
                return Examples({}, nothing, raw=late, changed=changed)
            inputs = self._prepared(values, rows)
            return Examples(inputs, torch.zeros(len(next(iter(inputs.values()))), dtype=torch.int64))
        if not isinstance(raw, Sequences):
            raise DataError(f"{raw.origins[0].name}: single rows came; the network was trained on sequences; give sequences")
        inputs = self.prepare(self.steps.coded(raw))
        starts, lengths = (raw.starts, raw.lengths) if rows is None else (raw.starts[rows], raw.lengths[rows])
        spans = Spans(torch.from_numpy(starts), torch.from_numpy(lengths), self.steps.rungs, self.steps.channels_first)
        count = len(next(iter(inputs.values()))) if self.steps.per_step else len(starts)
        nothing = torch.zeros(count, dtype=torch.int64)
        return Examples(inputs, nothing, spans=spans).stacked().with_target(nothing, self.steps.per_step)

    def _late(self, inputs: Mapping[str, Array], rows: Rows | None, changed: bool) -> dict[str, RawInput]:
        """Return the inputs raw where they are prepared after the gather, by a rule that never changes a bit."""
        if self.encoder is not None:
            return {}
        found: dict[str, RawInput] = {}
        for name, values in inputs.items():
            module = self._module(name)
            if isinstance(module, ArrayPreparation):
                found[name] = RawInput(values, module, rows)
        room = sum(len(value) * math.prod(value.module.shape) * value.module.item_size for value in found.values())
        smaller = sum(value.size() for value in found.values()) < room
        mapped = any(_mapped(value.values) for value in found.values())
        return found if changed or mapped or (smaller and room > LATE) else {}

    def prepare(self, raw: Table | Arrays, rows: Rows | None = None) -> dict[str, Tensor]:
        """Return the network's inputs for raw rows, all of them or those with the numbers ``rows``.

        Raises:
            DataError: A column or array is missing, or has another kind or shape than in training.
        """
        return self._prepared(self.raw_inputs(raw), rows)

    def _prepared(self, inputs: Mapping[str, Array], rows: Rows | None) -> dict[str, Tensor]:
        return {name: self.features(name, values if rows is None else values[rows]) for name, values in inputs.items()}

    def features(self, name: str, values: Array) -> Tensor:
        """Return an input for its raw values ``(rows, ...)``, prepared in place a few rows at a time; nobody else holds it."""
        if len(values) <= CHUNK:
            raw = tensor_of(values)
            whole: Tensor = self._module(name)(raw)
            apart = whole.data_ptr() != raw.data_ptr()
            return whole if apart and lies_plainly(whole) else whole.clone(memory_format=torch.contiguous_format)
        found, start = torch.empty(0), 0
        for part in _chunks(values):
            prepared: Tensor = self._module(name)(part)
            if start == 0:
                found = prepared.new_empty((len(values), *prepared.shape[1:]))
            found[start : start + len(prepared)] = prepared
            start += len(prepared)
        return found

    @property
    def only(self) -> tuple[str, ArrayPreparation] | None:
        """The name and the module of the only input, where that is an array of numbers that are no codes."""
        if self.encoder is not None or self.steps is not None or len(self.modules) != 1:
            return None
        name, module = next(iter(self.modules.items()))
        return (name, module) if isinstance(module, ArrayPreparation) and module.mode != "codes" else None

    def raw_inputs(self, raw: Table | Arrays) -> dict[str, Array]:
        """Return the raw arrays of each input, checked."""
        if self.encoder is not None:
            if not isinstance(raw, Table):
                raise DataError(
                    f"{raw.origins[0].name}: {named_rows(raw.layout)} came; the network was trained on a table; give a table"
                )
            return {TABLE: self.encoder.matrix(raw)}
        if not isinstance(raw, Arrays):
            known = named_rows(self.layout(next(iter(self.modules))))
            frame = " (of a frame FRAME[COLUMNS].to_numpy())" if known == "arrays" else ""
            raise DataError(f"{raw.origins[0].name}: a table came; the network was trained on {known}; give {known}{frame}")
        return {name: self._checked(name, raw) for name in self.modules}

    def array_of(self, name: str, raw: Arrays) -> Array | None:
        """Return the array that an input reads: that of its name, or the only one for the only input; None where there is none."""
        only = len(self.modules) == 1 and len(raw.inputs) == 1
        return raw.inputs.get(name, next(iter(raw.inputs.values())) if only else None)

    def _checked(self, name: str, raw: Arrays) -> Array:
        values = self.array_of(name, raw)
        if values is None:
            raise DataError(f"{raw.origins[0].name}: array {name!r} is missing; the arrays are {', '.join(raw.inputs)}")
        module = self._module(name)
        if isinstance(module, ArrayPreparation):
            module.check(raw, name, values)
        return values

    def _module(self, name: str) -> nn.Module:
        return self.modules[name]

    def layout(self, name: str) -> str | None:
        """Return what the axes of an input mean after preparation."""
        module = self._module(name)
        if self.steps is not None:
            return None if self.steps.vocabulary is not None else "NCT" if self.steps.channels_first else "NTC"
        return module.output_layout if isinstance(module, ArrayPreparation) else "NC"

    def code_levels(self) -> list[int]:
        """Return the sizes for `EmbedColumns`; empty unless categories stay codes."""
        module = self.modules[TABLE] if TABLE in self.modules else None
        return module.code_levels if isinstance(module, TablePreparation) else []

    def numbers(self, name: str) -> int | None:
        """Return how many of the first features of a table are numbers; None for an array, where all are."""
        module = self.modules[name]
        return len(module.plain) if isinstance(module, TablePreparation) else None

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values; the tensors are in ``modules.state_dict()``."""
        modules: dict[str, Any] = {}
        for name, module in self.modules.items():
            table = isinstance(module, TablePreparation)
            keys = ("kinds", "levels", "flagged", "numbers", "codes") if table else ("shape", "layout", "mode", "limit")
            modules[name] = {key: getattr(module, key) for key in keys}
        encoder = None if self.encoder is None else self.encoder.to_json()
        return {"encoder": encoder, "modules": modules, "steps": None if self.steps is None else asdict(self.steps)}

    @staticmethod
    def from_json(value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preparation:
        """Read what `to_json` and the saved tensors hold."""
        encoder = None if value["encoder"] is None else TableEncoder.from_json(value["encoder"])
        modules = nn.ModuleDict()
        for name, settings in value["modules"].items():
            modules[name] = TablePreparation(**settings) if "kinds" in settings else ArrayPreparation(**settings)
        modules.load_state_dict(dict(tensors))
        return Preparation(encoder, modules, StepForm.from_json(value.get("steps")))


def fit_table(table: Table, rows: Rows, encoder: TableEncoder, numbers: str, codes: bool) -> Preparation:
    """Fit the preparation of a table on its train rows.

    Args:
        table: All rows.
        rows: The train rows, int64.
        encoder: The learned columns.
        numbers: How numbers are scaled.
        codes: Whether categories stay codes.
    """
    raw = torch.from_numpy(encoder.matrix(table)[rows])
    places = [place for place, column in enumerate(encoder.used) if column.kind in SCALED]
    missing = torch.isnan(raw[:, places]).any(0).tolist() if len(raw) else [False] * len(places)
    module = table_module(encoder, dict(zip(places, missing, strict=True)), numbers, codes)
    return Preparation(encoder.knowing(*module.fit(raw)), nn.ModuleDict({TABLE: module}))


def table_module(encoder: TableEncoder, missing: Mapping[int, bool], numbers: str, codes: bool) -> TablePreparation:
    """Return the module of a table before it is fitted.

    Args:
        encoder: The learned columns.
        missing: Of each raw column that is no category: whether cells of train rows are missing.
        numbers: How numbers are scaled.
        codes: Whether categories stay codes.
    """
    used: Sequence[Column] = encoder.used
    flagged = [place for place, some in missing.items() if some]
    return TablePreparation(
        [column.kind for column in used], [len(column.levels) for column in used], flagged, numbers, codes
    )


def fit_arrays(arrays: Arrays, rows: Rows, mode: str, limit: int | None = None) -> Preparation:
    """Fit the preparation of arrays on their train rows.

    Args:
        arrays: All rows.
        rows: The train rows, int64.
        mode: ``standardize``, ``none`` or ``codes``.
        limit: The number of codes in mode ``codes``; None where any whole number may come.
    """
    modules = nn.ModuleDict()
    for name, values in arrays.inputs.items():
        layout = arrays.layout
        if layout is not None and len(layout) != values.ndim:
            raise DataError(
                f"data.layout: {layout} came; array {name!r} has {values.ndim} axes {values.shape}; write one letter per axis"
            )
        refuse_infinite(arrays, name, values)
        module = ArrayPreparation(values.shape[1:], layout, mode, limit)
        module.fit(values, rows)
        modules[name] = module
    return Preparation(None, modules)


def _mapped(values: Any) -> bool:
    """Tell whether an array lies in a file, itself or what it is a view of."""
    while values is not None and not isinstance(values, np.memmap):
        values = getattr(values, "base", None)
    return values is not None


def _chunks(values: Array) -> Iterator[Tensor]:
    for start in range(0, max(len(values), 1), CHUNK):
        yield tensor_of(values[start : start + CHUNK])


def settled(preparation: Preparation) -> Preparation:
    """Return a preparation that a network has learned with: of other rows it says what to mend, not which setting helps."""
    encoder = preparation.encoder
    return preparation if encoder is None else replace(preparation, encoder=replace(encoder, settled=True))
