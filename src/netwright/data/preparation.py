"""Raw columns and arrays to float32 tensors: torch modules fitted on the train rows, saved with the model.

`Preparation` holds one module per input. The modules learn nothing by gradient and treat each row alone, so rows can be
prepared in any number at a time. Floor 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.data.arrays import Array, Arrays
from netwright.data.columns import LARGEST, Column, TableEncoder
from netwright.data.tables import Table
from netwright.errors import DataError

Rows = npt.NDArray[np.int64]
TABLE = "table"
QUANTILES = 1000
CHUNK = 4096  # rows prepared at a time
DATE_FEATURES = ("days", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos")
ADDED_CHANNEL = {"NT": "NCT", "NHW": "NCHW", "NDHW": "NCDHW"}
MOVED_CHANNEL = {"NHWC": "NCHW", "NDHWC": "NCDHW"}
LAYOUT_OF_RANK = {2: "NC", 4: "NCHW", 5: "NCDHW"}


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
            numbers = self._normal(cells[:, : len(self.plain)])
        parts = [numbers]
        parts += [
            torch.cat([scaled[:, [len(self.plain) + place]], _phases(cells[:, len(self.plain) + place])], dim=1)
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

    def _normal(self, cells: Tensor) -> Tensor:
        """Map each number to the normal quantile of its rank among the train rows (linear between known points)."""
        columns = cells.T.contiguous()
        upper = torch.searchsorted(self.points, columns).clamp(1, QUANTILES - 1)
        lower = upper - 1
        left, right = self.points.gather(1, lower), self.points.gather(1, upper)
        low, high = self.shares.gather(1, lower), self.shares.gather(1, upper)
        width = right - left
        part = torch.where(width > 0, (columns - left) / torch.where(width > 0, width, 1.0), 0.0).clamp(0.0, 1.0)
        quantiles: Tensor = torch.special.ndtri((low + part * (high - low)).clamp(0.001, 0.999)).T
        return quantiles

    def fit(self, raw: Tensor) -> None:
        """Learn fills, means, deviations and quantiles from the raw train rows ``(rows, raw columns)``."""
        cells = raw[:, self.plain + self.dates]
        present = ~torch.isnan(cells)
        count = present.sum(0).clamp(min=1)
        self.fill.copy_(torch.where(present, cells, 0.0).sum(0) / count)
        filled = torch.where(present, cells, self.fill)
        boolean_or_raw = torch.tensor(
            [self.numbers == "none" and place < len(self.plain) for place in range(cells.shape[1])], dtype=torch.bool
        )
        mean = filled.mean(0)
        deviation = (filled - mean).square().mean(0).sqrt()
        usable = (deviation > 1e-12 * mean.abs().clamp(min=1e-300)) & ~boolean_or_raw
        self.mean.copy_(torch.where(boolean_or_raw, 0.0, mean))
        self.scale.copy_(torch.where(usable, deviation, 1.0))
        if self.numbers == "quantile":
            for place in range(len(self.plain)):
                points, shares = _ranks(filled[:, place])
                self.points[place], self.shares[place] = points, shares

    @property
    def code_levels(self) -> list[int]:
        """Number of codes (unknown included) of each category column that stays a code."""
        return [self.levels[place] + 1 for place in self.categories] if self.codes else []

    def features(self) -> int:
        """Return the number of features."""
        wide = len(self.categories) if self.codes else sum(self.levels[place] for place in self.categories)
        return len(self.plain) + len(DATE_FEATURES) * len(self.dates) + len(self.flagged) + wide


def _phases(days: Tensor) -> Tensor:
    """Return sine and cosine of the time of year, week and day for days since 1970."""
    turns = [days / 365.2425, days / 7.0, days]
    return torch.stack([wave(2 * math.pi * turn) for turn in turns for wave in (torch.sin, torch.cos)], dim=1)


def _ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return distinct points of the train distribution and the mean share of values at or below them."""
    shares = torch.linspace(0, 1, QUANTILES, dtype=torch.float64)
    points = torch.quantile(values, shares) if len(values) < 2**24 else torch.from_numpy(np.quantile(values, shares))
    distinct, inverse = torch.unique(points, return_inverse=True)
    means = torch.zeros(len(distinct), dtype=torch.float64).scatter_reduce(0, inverse, shares, "mean", include_self=False)
    pad = QUANTILES - len(distinct)
    return (
        torch.cat([distinct, distinct[-1:].expand(pad)]),
        torch.cat([means, means[-1:].expand(pad)]),
    )


@final
class ArrayPreparation(nn.Module):
    """Turns raw arrays into float32 tensors of mean 0 and deviation 1 per channel, or into whole codes.

    Args:
        shape: Shape of one raw row.
        layout: What the axes mean, or None where taken as given.
        mode: ``standardize``, ``none``, or ``codes`` for an Embedding.

    Shape: ``(rows, *shape)`` to ``(rows, ...)`` with a channel axis added for NT, NHW, NDHW and moved to the front for
    NHWC, NDHWC; dtype float32, int64 for codes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], layout: str | None, mode: str) -> None:
        super().__init__()
        self.shape, self.layout, self.mode = list(shape), layout, mode
        sizes = [1] * len(self.output_shape)
        axis = self.channel_axis
        if axis is not None and sizes:
            sizes[axis - 1] = self.output_shape[axis - 1]
        self.register_buffer("mean", torch.zeros(sizes, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(sizes, dtype=torch.float64))

    def _moved(self, raw: Tensor) -> Tensor:
        if self.layout in ADDED_CHANNEL:
            return raw.unsqueeze(1)
        return raw.movedim(-1, 1) if self.layout in MOVED_CHANNEL else raw

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one prepared row."""
        return tuple(self._moved(torch.empty(1, *self.shape, device="meta")).shape[1:])

    @property
    def output_layout(self) -> str | None:
        """The layout after preparation: a channel added or moved; None for three axes taken as given."""
        if self.layout is None:
            return LAYOUT_OF_RANK.get(len(self.shape) + 1)
        return (ADDED_CHANNEL | MOVED_CHANNEL).get(self.layout, self.layout)

    @property
    def channel_axis(self) -> int | None:
        """The axis that has its own mean and deviation, counted with the rows; None for one mean over all."""
        layout = self.output_layout
        if layout is None or not self.shape:
            return None
        return layout.index("C") if "C" in layout else None

    def forward(self, raw: Tensor) -> Tensor:
        """Return prepared rows; missing numbers become the mean."""
        moved = self._moved(raw)
        if self.mode == "codes":
            return moved.long()
        if moved.dtype not in (torch.float64, torch.int32, torch.int64):  # float32 would lose their last digits
            scaled = (moved.float() - self.mean.float()) / self.scale.float()
        else:
            scaled = ((moved - self.mean) / self.scale).float()
        return torch.nan_to_num(scaled, nan=0.0)

    def fit(self, raw: Array, rows: Rows) -> None:
        """Learn mean and deviation per channel from the train rows."""
        if self.mode != "standardize":
            return
        axis = self.channel_axis
        total = total_square = count = torch.zeros(self.mean.numel(), dtype=torch.float64)
        shift: Tensor | None = None
        for start in range(0, len(rows), CHUNK):
            part = self._moved(_tensor(raw[rows[start : start + CHUNK]])).double()
            flat = part.movedim(axis, 0).flatten(1) if axis is not None else part.flatten()[None]
            present = ~torch.isnan(flat)
            if shift is None:
                shift = torch.nan_to_num(flat[:, :1], nan=0.0)
            centred = torch.where(present, flat - shift, 0.0)
            total = total + centred.sum(1)
            total_square = total_square + centred.square().sum(1)
            count = count + present.sum(1)
        if shift is None:
            return
        mean = total / count.clamp(min=1)
        deviation = (total_square / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_((mean + shift[:, 0]).reshape(self.mean.shape))
        self.scale.copy_(torch.where(deviation > 1e-12, deviation, 1.0).reshape(self.scale.shape))


@dataclass(frozen=True)
class Preparation:
    """Everything between raw rows and the network's inputs: the encoder of a table and one module per input."""

    encoder: TableEncoder | None
    modules: nn.ModuleDict

    def prepare(self, raw: Table | Arrays) -> dict[str, Tensor]:
        """Return the network's inputs for raw rows.

        Raises:
            DataError: A column or array is missing, or has another kind or shape than in training.
        """
        return {
            name: torch.cat([self._module(name)(part) for part in _chunks(values)])
            for name, values in self.raw_inputs(raw).items()
        }

    def raw_inputs(self, raw: Table | Arrays) -> dict[str, Array]:
        """Return the raw arrays of each input, checked."""
        if self.encoder is not None:
            if not isinstance(raw, Table):
                raise DataError(f"{raw.origins[0].name}: arrays came; the network was trained on a table; give a table")
            return {TABLE: self.encoder.matrix(raw)}
        if not isinstance(raw, Arrays):
            raise DataError(f"{raw.origins[0].name}: a table came; the network was trained on arrays; give arrays")
        return {name: self._checked(name, raw) for name in self.modules}

    def _checked(self, name: str, raw: Arrays) -> Array:
        values = raw.inputs.get(name)
        if values is None and len(self.modules) == 1 and len(raw.inputs) == 1:
            values = next(iter(raw.inputs.values()))
        if values is None:
            raise DataError(f"{raw.origins[0].name}: array {name!r} is missing; the arrays are {', '.join(raw.inputs)}")
        module = self._module(name)
        if isinstance(module, ArrayPreparation) and list(values.shape[1:]) != module.shape:
            raise DataError(
                f"{raw.origins[0].name}: array {name!r} has rows of shape {values.shape[1:]}; the network was trained on "
                f"{tuple(module.shape)}; give rows of that shape"
            )
        _refuse_infinite(raw, name, values)
        return values

    def _module(self, name: str) -> nn.Module:
        return self.modules[name]

    def layout(self, name: str) -> str | None:
        """Return what the axes of an input mean after preparation."""
        module = self._module(name)
        return module.output_layout if isinstance(module, ArrayPreparation) else "NC"

    def code_levels(self) -> list[int]:
        """Return the sizes for `EmbedColumns`; empty unless categories stay codes."""
        module = self.modules[TABLE] if TABLE in self.modules else None
        return module.code_levels if isinstance(module, TablePreparation) else []

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values; the tensors are in ``modules.state_dict()``."""
        modules: dict[str, Any] = {}
        for name, module in self.modules.items():
            table = isinstance(module, TablePreparation)
            keys = ("kinds", "levels", "flagged", "numbers", "codes") if table else ("shape", "layout", "mode")
            modules[name] = {key: getattr(module, key) for key in keys}
        return {"encoder": None if self.encoder is None else self.encoder.to_json(), "modules": modules}

    @staticmethod
    def from_json(value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preparation:
        """Read what `to_json` and the saved tensors hold."""
        encoder = None if value["encoder"] is None else TableEncoder.from_json(value["encoder"])
        modules = nn.ModuleDict()
        for name, settings in value["modules"].items():
            modules[name] = TablePreparation(**settings) if "kinds" in settings else ArrayPreparation(**settings)
        modules.load_state_dict(dict(tensors))
        return Preparation(encoder, modules)


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
    used: Sequence[Column] = encoder.used
    flagged = [
        place
        for place, column in enumerate(used)
        if column.kind in ("number", "boolean", "date") and bool(torch.isnan(raw[:, place]).any())
    ]
    module = TablePreparation(
        [column.kind for column in used], [len(column.levels) for column in used], flagged, numbers, codes
    )
    module.fit(raw)
    return Preparation(encoder, nn.ModuleDict({TABLE: module}))


def fit_arrays(arrays: Arrays, rows: Rows, mode: str) -> Preparation:
    """Fit the preparation of arrays on their train rows.

    Args:
        arrays: All rows.
        rows: The train rows, int64.
        mode: ``standardize``, ``none`` or ``codes``.
    """
    modules = nn.ModuleDict()
    for name, values in arrays.inputs.items():
        layout = arrays.layout
        if layout is not None and len(layout) != values.ndim:
            raise DataError(
                f"data.layout: {layout} came; array {name!r} has {values.ndim} axes {values.shape}; write one letter per axis"
            )
        _refuse_infinite(arrays, name, values)
        modules[name] = ArrayPreparation(values.shape[1:], layout, mode)
        module = modules[name]
        if isinstance(module, ArrayPreparation):
            module.fit(values, rows)
    return Preparation(None, modules)


def _chunks(values: Array) -> Iterator[Tensor]:
    for start in range(0, max(len(values), 1), CHUNK):
        yield _tensor(values[start : start + CHUNK])


def _tensor(part: Array) -> Tensor:
    """Return rows as a tensor; dtypes and byte orders torch cannot read are widened first, without loss."""
    part = np.ascontiguousarray(part)
    if part.dtype.kind == "u" and part.dtype.itemsize > 1:
        part = part.astype(np.int64 if part.dtype.itemsize < 8 else np.float64)
    elif part.dtype.kind == "f" and part.dtype.itemsize == 2:
        part = part.astype(np.float32)
    elif not part.dtype.isnative:
        part = part.astype(part.dtype.newbyteorder("="))
    return torch.from_numpy(part if part.flags.writeable else part.copy())


def _refuse_infinite(raw: Arrays, name: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    wrong = np.isinf(values)
    if values.dtype.itemsize > 4:
        wrong |= np.abs(values) > LARGEST
    if wrong.any():
        where = [int(place) for place in np.argwhere(wrong)[0]]
        raise DataError(
            f"{raw.place(where[0])}: array {name!r} is infinite at {where[1:]} or beyond float32; expected finite numbers; mend it"
        )
