"""Raw arrays to float32 tensors or whole codes: a torch module fitted on the train rows, saved with the model. Floor 3."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.data.moments import Moments, channel_moments, moments_in_blocks, moments_of
from netwright.errors import DataError
from netwright.numerals import counted
from netwright.sources.arrays import Array, Arrays, native
from netwright.sources.cells import LARGEST

EXACT = (torch.float64, torch.int32, torch.int64)  # float32 would lose their last digits
RAW = (torch.uint8, torch.float32, *EXACT)  # dtypes that native code prepares
READ = {torch.empty(0, dtype=one).numpy().dtype for one in RAW}  # by torch, in this machine's byte order
STANDARDIZED = "netwright::standardized"  # the operation's name

Rows = npt.NDArray[np.int64]
FAR = 10.0  # deviations of training that the median of new rows lies off
FAR_OF_FEW = 1000.0  # the same of rows so few that chance may be it
MOSTLY = 0.9  # share of gaps from which on a prediction says little
NEXT_TO_NOTHING, MANY = 0.01, 1000  # share of the deviation of training that many numbers of new rows have
FEWEST, LOOKED_AT = 8, 1 << 20  # numbers of a channel, and of all of them
CHUNK = 4096  # rows prepared at a time
ADDED_CHANNEL = {"NT": "NCT", "NHW": "NCHW", "NDHW": "NCDHW"}
MOVED_CHANNEL = {"NHWC": "NCHW", "NDHWC": "NCDHW"}
LAYOUT_OF_RANK = {2: "NC", 4: "NCHW", 5: "NCDHW"}


@final
class ArrayPreparation(nn.Module):
    """Turns raw arrays into float32 tensors of mean 0 and deviation 1 per channel, or into whole codes.

    Args:
        shape: Shape of one raw row.
        layout: What the axes mean, or None where taken as given.
        mode: ``standardize``, ``none``, or ``codes`` for an Embedding.
        limit: The number of codes, 0 to limit - 1; None where any whole number may come.

    Shape: ``(rows, *shape)`` to ``(rows, ...)`` with a channel axis added for NT, NHW, NDHW and moved to the front for
    NHWC, NDHWC; dtype float32, int64 for codes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], layout: str | None, mode: str, limit: int | None = None) -> None:
        super().__init__()
        self.shape, self.layout, self.mode, self.limit = list(shape), layout, mode, limit
        sizes = [1] * len(self.output_shape)
        axis = self.channel_axis
        if axis is not None and sizes:
            sizes[axis - 1] = self.output_shape[axis - 1]
        self.register_buffer("mean", torch.zeros(sizes, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(sizes, dtype=torch.float64))

    def moved(self, raw: Tensor) -> Tensor:
        """Return raw rows with a channel axis added or moved to the front."""
        if self.layout in ADDED_CHANNEL:
            return raw.unsqueeze(1)
        return raw.movedim(-1, 1) if self.layout in MOVED_CHANNEL else raw

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one prepared row."""
        return tuple(self.moved(torch.empty(1, *self.shape, device="meta")).shape[1:])

    @property
    def item_size(self) -> int:
        """The bytes of one prepared number."""
        return 8 if self.mode == "codes" else 4

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
        return self.scaled(self.moved(raw))

    def scaled(self, moved: Tensor) -> Tensor:
        """Return prepared rows of raw ones whose axes are those of `output_layout`."""
        return moved.long() if self.mode == "codes" else standardized(moved, *self._moments(moved))

    def _moments(self, moved: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        plain = self.mode == "none" and moved.dtype == torch.float32 and self.layout not in MOVED_CHANNEL
        return (None, None) if plain else (self.mean, self.scale)

    def as_one(self, raw: Tensor) -> Tensor:
        """Return what `forward` does, by one operation where that can be: native code then reads raw rows once."""
        moved = self.moved(raw)
        if self.mode == "codes" or moved.dtype not in RAW or not moved.is_contiguous():
            return self.scaled(moved)
        prepared: Tensor = torch.ops.netwright.standardized(moved, *self._moments(moved))
        return prepared

    def fit(self, raw: Array, rows: Rows) -> None:
        """Learn mean and deviation per channel from the train rows; NumPy's sums do not depend on torch's threads."""
        if self.mode != "standardize" or not len(rows):
            return
        if self.output_layout == "NC":
            found = _of_columns(raw, rows)
            mean, scale = found.mean, found.scale
        else:
            mean, scale = channel_moments(self._blocks(raw, rows))
        self.mean.copy_(torch.from_numpy(mean).reshape(self.mean.shape))
        self.scale.copy_(torch.from_numpy(scale).reshape(self.scale.shape))

    def _blocks(self, raw: Array, rows: Rows) -> Iterator[npt.NDArray[np.float64]]:
        """Yield some rows at a time as ``(channels, numbers)``, or ``(1, numbers)`` where one mean is over all."""
        axis = self.channel_axis
        for start in range(0, len(rows), CHUNK):
            part = self.moved(tensor_of(raw[rows[start : start + CHUNK]])).double().numpy()
            flat = part.reshape(1, -1) if axis is None else np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1)
            yield np.ascontiguousarray(flat)

    def unlike(self, values: Array) -> str | None:
        """Return in words what is odd in numbers of new rows: another size than in training, gaps that nothing fills; else None.

        Told by the median of a channel far from what training had, by a spread that is next to nothing beside its, or where most
        numbers are missing.
        """
        rows = min(len(values), max(1, LOOKED_AT // max(1, math.prod(self.shape))))
        if self.mode == "none" and values.dtype.kind == "f" and (gaps := int(np.isnan(values).sum())):
            return f"{counted(gaps, 'missing number')} (NaN) read as 0, as rows are taken as they are (preparation = none)"
        if self.mode != "standardize" or not rows:
            return None
        some = self.moved(tensor_of(values[np.linspace(0, len(values) - 1, rows).astype(np.int64)])).double()
        scaled = (some - self.mean.cpu()) / self.scale.cpu()
        channel = self.channel_axis
        flat = scaled.reshape(1, -1) if channel is None else scaled.movedim(channel, 0).reshape(scaled.shape[channel], -1)
        gaps_share = float(flat.isnan().double().mean())
        if gaps_share >= MOSTLY:
            return f"{gaps_share:.0%} of its numbers are missing (NaN) and read as the mean of training; a prediction says little"
        far = FAR if flat.shape[1] >= FEWEST else FAR_OF_FEW
        middle = flat.nanmedian(dim=1).values.nan_to_num(nan=0.0)
        worst = int(middle.abs().argmax())
        small = flat.numel() >= MANY and 0 < float(flat.nan_to_num(nan=0.0).std(dim=1, correction=0).max()) < NEXT_TO_NOTHING
        if float(middle[worst].abs()) <= far and not small:
            return None
        mean, scale = (float(value.flatten()[worst if value.numel() > 1 else 0]) for value in (self.mean, self.scale))
        return (
            f"its numbers are of another size than those of training (about {mean + scale * float(middle[worst]):.3g} here, mean "
            f"{mean:.3g} and deviation {scale:.3g} there), perhaps in another unit; a prediction may be far off"
        )

    def check(self, raw: Arrays, name: str, values: Array) -> None:
        """Refuse rows of another shape, infinite numbers, and codes beyond the limit.

        Raises:
            DataError: Naming the first such row.
        """
        if list(values.shape[1:]) != self.shape:
            ones = [size for size in values.shape[1:] if size != 1] == [size for size in self.shape if size != 1]
            turned = sorted(values.shape[1:]) == sorted(self.shape)
            hint = ", without or with an axis of one" if ones else ", whose axes come in that order" if turned else ""
            raise DataError(
                f"{raw.origins[0].name}: array {name!r} has rows of shape {values.shape[1:]}; the network was trained on "
                f"{tuple(self.shape)}; give rows of that shape{hint}"
            )
        refuse_infinite(raw, name, values)
        if self.mode != "codes" or self.limit is None:
            return
        wrong = (values < 0) | (values >= self.limit)
        if values.dtype.kind == "f":
            wrong |= values != np.floor(values)
        if wrong.any():
            where = [int(place) for place in np.argwhere(wrong)[0]]
            at = f" at {where[1:]}" if where[1:] else ""
            below = bool(values[tuple(where)] < 0)
            advice = "hand over floats where they are amounts" if below else "train with more codes"
            raise DataError(
                f"{raw.place(where[0])}: array {name!r} holds the code {values[tuple(where)].item()!r}{at}; expected whole "
                f"numbers from 0 to {self.limit - 1}, the codes of the embedding; mend it or {advice}"
            )


def standardized(raw: Tensor, mean: Tensor | None, scale: Tensor | None) -> Tensor:
    """Return rows less a mean and divided by a deviation, float32, with 0 for what is missing; None: as they are.

    Args:
        raw: Rows ``(rows, ...)``.
        mean: Float64, of a shape that goes with a row's.
        scale: The same.
    """
    if mean is None or scale is None:
        return torch.nan_to_num(raw, nan=0.0)
    if raw.dtype in EXACT:
        return (raw - mean).div_(scale).float().nan_to_num_(nan=0.0)
    return (raw.float() - mean.float()).div_(scale.float()).nan_to_num_(nan=0.0)


def _standardized_into(raw: Tensor, mean: Tensor | None, scale: Tensor | None, *, out: Tensor) -> Tensor:
    return out.copy_(standardized(raw, mean, scale))


def _declare() -> None:
    """Tell torch of the operation, once in a process: this module may be imported anew."""
    if hasattr(torch.ops.netwright, "standardized"):
        return
    library: Any = torch.library.Library("netwright", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("standardized(Tensor raw, Tensor? mean, Tensor? scale) -> Tensor")
    library.define("standardized.out(Tensor raw, Tensor? mean, Tensor? scale, *, Tensor(a!) out) -> Tensor(a!)")
    library.impl("standardized", standardized, "CPU")
    library.impl("standardized.out", _standardized_into, "CPU")
    vars(torch.ops.netwright)["library"] = library  # with it the operation would go


_declare()


def _of_columns(raw: Array, rows: Rows) -> Moments:
    """Return the moments of ``(rows, columns)`` as those of a table, a few rows at a time; a map is read from a disk."""
    starts = range(0, len(rows), CHUNK)
    if raw.shape[1] == 1:  # a single column is summed in another order
        return moments_of(tensor_of(raw[rows]).double().numpy())
    return moments_in_blocks(lambda: (tensor_of(raw[rows[start : start + CHUNK]]).double().numpy() for start in starts))


def tensor_of(part: Array) -> Tensor:
    """Return rows as a tensor; dtypes and byte orders torch cannot read are widened first, without loss."""
    if part.dtype in READ and part.flags.carray:  # which lie plainly, and may be written
        return _read(part)
    part = np.ascontiguousarray(native(part))
    if part.dtype.kind == "u" and part.dtype.itemsize > 1:
        part = part.astype(np.int64 if part.dtype.itemsize < 8 else np.float64)
    elif part.dtype.kind == "f" and part.dtype.itemsize == 2:
        part = part.astype(np.float32)
    return _read(part if part.flags.writeable else part.copy())


def _read(part: Array) -> Tensor:
    try:
        return torch.from_numpy(part)
    except ValueError:  # an axis of one element may have any stride for NumPy, and not for torch
        return torch.from_numpy(part.copy())


def _first_infinite(values: Array) -> list[int] | None:
    """Return the place of the first number that is infinite or beyond float32; None where all are finite, as whole numbers are."""
    for start in range(0, len(values) if values.dtype.kind == "f" else 0, CHUNK):
        part = values[start : start + CHUNK]
        wrong = np.isinf(part)
        if values.dtype.itemsize > 4:
            wrong |= np.abs(part) > LARGEST
        if wrong.any():
            row, *where = (int(place) for place in np.argwhere(wrong)[0])
            return [start + row, *where]
    return None


def refuse_infinite(raw: Arrays, name: str, values: Array) -> None:
    """Raise a `DataError` that names the first number that is infinite or beyond float32."""
    found = _first_infinite(values)
    if found is not None:
        row, *where = found
        raise DataError(
            f"{raw.place(row)}: array {name!r} is infinite at {where} or beyond float32; expected finite numbers; mend it"
        )
