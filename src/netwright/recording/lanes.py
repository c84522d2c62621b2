"""The calls of a tape on several cores: large ones in parts that give the same bits, a barrier where one waits for another.

A layer's neurons are dealt out: the core that works out some of its outputs works out their gradients and updates their
weights, which stay in its cache; of large batches the rows are. Every part runs on one thread. Floor 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

from torch import Tensor

from netwright.data.array_preparation import STANDARDIZED
from netwright.recording.tape import Call, place_of

GEMM = 60.0  # multiply-adds a nanosecond of one core, about
BYTES = 16.0  # a nanosecond that an elementwise call reads and writes, about
UPDATE = 2.0  # parameters a nanosecond that an optimizer updates, about
OVERHEAD = 500.0  # nanoseconds of any call
WORTHWHILE = 3_000.0  # nanoseconds from which a call is worth a barrier
ROWS = 256  # from so many on rows are dealt out, not neurons: to bring them to another core costs more than the weights
COLUMNS = 32  # parts end at multiples of it, so that no vector of numbers is cut


class Barrier:
    """Where every core waits for the others."""


BARRIER = Barrier()
Lane = list[Call | Barrier]


@final
@dataclass(frozen=True)
class _Region:
    """Part of a memory: where it begins, in bytes, and its axes as (length, stride in bytes), the longest stride first."""

    memory: int
    start: int
    axes: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        return self.start + sum((length - 1) * stride for length, stride in self.axes) + 1

    def meets(self, other: _Region) -> bool:
        """Tell whether two regions have a byte in common; in doubt they do."""
        if self.memory != other.memory or self.end <= other.start or other.end <= self.start:
            return False
        if [stride for _, stride in self.axes] != [stride for _, stride in other.axes]:
            return True
        left, right, outer, apart = self.start, other.start, 0, False
        for (one, stride), (two, _) in zip(self.axes, other.axes, strict=True):
            first, second = left // stride, right // stride
            if outer and (first + max(one, 1)) * stride > outer or outer and (second + max(two, 1)) * stride > outer:
                return True  # a row goes on in the next one: places are no pairs of row and column
            apart |= first + one <= second or second + two <= first
            left, right, outer = left % stride, right % stride, stride
        return not apart


def _region(tensor: Tensor) -> _Region:
    place, size = place_of(tensor), tensor.element_size()
    axes: list[tuple[int, int]] = []
    pairs = [(length, stride * size) for length, stride in zip(place.shape, place.strides, strict=True) if length != 1]
    for length, stride in sorted([(size, 1), *pairs], key=lambda axis: -axis[1]):
        if axes and axes[-1][1] == length * stride:  # the outer axis goes on where the inner one ends
            axes[-1] = (axes[-1][0] * length, stride)
        elif stride:
            axes.append((length, stride))
    empty = 0 in place.shape
    return _Region(-1 if empty else place.storage, place.offset * size, tuple(axes))


@dataclass
class _Stage:
    """What one lane reads and writes since the last barrier, and how long that takes."""

    reads: list[_Region] = field(default_factory=list)
    writes: list[_Region] = field(default_factory=list)
    nanoseconds: float = 0.0


def in_lanes(calls: Sequence[Call], count: int) -> list[Lane]:
    """Deal the calls of a step out to lanes.

    Args:
        calls: In order; what they write must lie at fixed places for them to be split.
        count: Of lanes; calls that draw random numbers stay in order on the first.

    Returns:
        The calls of each lane, with the same number of barriers in each.
    """
    if count == 1:
        only: Lane = []
        for call in calls:
            only.append(call)
            if call.function is None:
                only.append(BARRIER)
        return [only]
    lanes: list[Lane] = [[] for _ in range(count)]
    stages = [_Stage() for _ in range(count)]

    def wait() -> None:
        for number, lane in enumerate(lanes):
            lane.append(BARRIER)
            stages[number] = _Stage()

    for call in calls:
        parts = split(call, count) or [call]
        effects = [_effects(part) for part in parts]
        chosen = _chosen(call, effects, stages)
        if chosen is None:
            wait()
            chosen = list(range(len(parts)))
        for lane, part, (reads, writes) in zip(chosen, parts, effects, strict=True):
            lanes[lane].append(part)
            stages[lane].reads += reads
            stages[lane].writes += writes
            stages[lane].nanoseconds += cost(part)
        if call.function is None:
            wait()
    return lanes


def _chosen(call: Call, effects: list[tuple[list[_Region], list[_Region]]], stages: list[_Stage]) -> list[int] | None:
    """Return the lane of each part, or None where one would have to wait for another lane."""

    def free(lane: int, reads: list[_Region], writes: list[_Region]) -> bool:
        others = [stage for number, stage in enumerate(stages) if number != lane]
        return not any(
            _meet(writes, other.reads) or _meet(writes, other.writes) or _meet(reads, other.writes) for other in others
        )

    if len(effects) > 1:
        fitting = all(free(lane, *effect) for lane, effect in enumerate(effects))
        return list(range(len(effects))) if fitting else None
    lanes = [0] if call.draws or call.function is None else range(len(stages))
    possible = [lane for lane in lanes if free(lane, *effects[0])]
    return [min(possible, key=lambda lane: stages[lane].nanoseconds)] if possible else None


def _meet(some: list[_Region], others: list[_Region]) -> bool:
    return any(one.meets(other) for one in some for other in others)


def _effects(call: Call) -> tuple[list[_Region], list[_Region]]:
    fresh = [tensor for aliases in call.fresh for tensor in aliases]
    return [_region(tensor) for tensor in call.tensors()], [
        _region(tensor) for tensor in (*call.written, *fresh, *call.spent)
    ]


def cost(call: Call) -> float:
    """Return about how many nanoseconds a call takes on one core."""
    name = _name(call)
    moved = sum(tensor.numel() * tensor.element_size() for tensor in call.tensors()) / BYTES
    if name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"):
        left, right = call.arguments[0 if name in ("aten::mm", "aten::bmm") else 1 :][:2]
        moved = left.numel() * right.shape[-1] / GEMM
    elif name.startswith("aten::_fused_"):
        moved = sum(tensor.numel() for tensor in call.arguments[0]) / UPDATE
    return OVERHEAD + moved


def split(call: Call, count: int) -> list[Call] | None:
    """Return a call in parts, one a lane, that give the same bits; None where it is small or cannot be split."""
    if count == 1 or call.function is None or call.fresh or call.draws or cost(call) < WORTHWHILE:
        return None
    if any(place_of(tensor).moves for tensor in call.tensors()):
        return None  # a part of a tensor would stay where that was
    name = _name(call)
    if name in ("aten::addmm", "aten::mm"):
        return _matrix_parts(call, name, count)
    if name.startswith("aten::_fused_"):
        return _update_parts(call, count)
    if (name in ELEMENTWISE and not _scales(call)) or name == STANDARDIZED or (name in SOFTMAX and _by_row(call)):
        return _elementwise_parts(call, count)
    if name == "aten::sum":
        return _sum_parts(call, count)
    return None


# Exact whatever the lanes: a comparison, one rounding, or a copy.
ELEMENTWISE = (
    "aten::clamp_min",
    "aten::threshold_backward",
    "aten::add",
    "aten::sub",
    "aten::mul",
    "aten::div",
    "aten::copy_",
    "aten::fill_",
    "aten::add_",
    "aten::mul_",
    "aten::div_",
    "aten::neg",
    "aten::nan_to_num",
    "aten::nan_to_num_",
)
SOFTMAX = ("aten::_softmax", "aten::_log_softmax")  # exact where it goes along rows
BY_ROW = (STANDARDIZED, *SOFTMAX)


def _name(call: Call) -> str:
    return "" if call.function is None else str(call.function._schema.name)


def _bounds(length: int, count: int, multiple: int) -> list[tuple[int, int]] | None:
    """Return ``count`` neighbouring ranges of about equal length that end at multiples; None where it is too short."""
    whole = length // multiple
    if whole < count:
        return None
    ends = [round(whole * part / count) * multiple for part in range(count)] + [length]
    return list(zip(ends[:-1], ends[1:], strict=True))


def narrowed(tensor: Tensor, axis: int, first: int, end: int) -> Tensor:
    """Return a part of a tensor of a tape along one axis; where that has one element for all, the tensor itself."""
    axis %= tensor.dim()
    if tensor.shape[axis] == 1:
        return tensor
    part = tensor.narrow(axis, first, end - first)
    place = place_of(tensor)
    part.place = replace(  # type: ignore[attr-defined]
        place, shape=tuple(part.shape), offset=place.offset + first * place.strides[axis]
    )
    return part


def _part(call: Call, change: Callable[[Tensor], Tensor], arguments: list[Any]) -> Call:
    """Return a call with other arguments, and the tensors in its keywords, which it writes to, changed."""
    keywords = {name: change(value) if isinstance(value, Tensor) else value for name, value in call.keywords.items()}
    changed = {id(before): after for before, after in zip(call.arguments, arguments, strict=True)}
    changed |= {id(before): keywords[name] for name, before in call.keywords.items()}
    return replace(
        call, arguments=arguments, keywords=keywords, written=[changed.get(id(tensor), tensor) for tensor in call.written]
    )


def _matrix_parts(call: Call, name: str, count: int) -> list[Call] | None:
    """Split a product by the columns of its result, or by its rows: of many rows, and of the gradient of weights, whose left side
    is turned."""
    *bias, left, right = call.arguments[: 3 if name == "aten::addmm" else 2]
    turned = left.stride(0) == 1 and left.shape[0] > 1 and left.stride(1) != 1
    axis = 0 if (turned and not bias) or left.shape[0] >= ROWS else 1
    bounds = _bounds((left.shape[0], right.shape[1])[axis], count, COLUMNS)
    if bounds is None:
        return None
    parts = []
    for first, end in bounds:
        sides = [narrowed(left, 0, first, end), right] if axis == 0 else [left, narrowed(right, 1, first, end)]
        added = [narrowed(value, axis, first, end) if axis or value.dim() == 2 else value for value in bias]
        rest = call.arguments[len(bias) + 2 :]
        parts.append(_part(call, partial(narrowed, axis=axis, first=first, end=end), [*added, *sides, *rest]))
    return parts


def _scales(call: Call) -> bool:
    """Tell whether a sum takes a multiple of its second term: whether that is rounded for itself goes by the shapes."""
    sums = _name(call) in ("aten::add", "aten::add_", "aten::sub")
    return sums and (len(call.arguments) > 2 or call.keywords.get("alpha", 1) != 1)


def _by_row(call: Call) -> bool:
    return call.written[0].dim() == 2 and call.arguments[1] in (1, -1)


def _elementwise_parts(call: Call, count: int) -> list[Call] | None:
    """Split a call that treats each number alone: by columns of matrices of few rows, else by the first axis."""
    shape = call.written[0].shape
    axis = 1 if len(shape) == 2 and shape[0] < ROWS and _name(call) not in BY_ROW else 0
    bounds = _bounds(shape[axis], count, COLUMNS if len(shape) <= 2 else 1) if shape else None
    if bounds is None or any(tensor.dim() > len(shape) for tensor in call.tensors()):
        return None
    parts = []
    for first, end in bounds:
        cut = partial(_cut, axis=axis - len(shape), first=first, end=end)
        parts.append(_part(call, cut, [cut(value) if isinstance(value, Tensor) else value for value in call.arguments]))
    return parts


def _cut(tensor: Tensor, axis: int, first: int, end: int) -> Tensor:
    """Return a part along an axis, counted from the last one; a tensor that has no such axis is for all parts."""
    return narrowed(tensor, axis, first, end) if tensor.dim() >= -axis else tensor


def _sum_parts(call: Call, count: int) -> list[Call] | None:
    """Split the sum of the rows of a matrix by columns."""
    source = call.arguments[0]
    rows = source.dim() == 2 and list(call.arguments[1] or []) == [0] and source.is_contiguous()
    if not rows or call.written[0].numel() != source.shape[1]:
        return None
    bounds = _bounds(source.shape[1], count, 2 * COLUMNS)
    if bounds is None:
        return None
    parts = []
    for first, end in bounds:
        cut = partial(narrowed, axis=-1, first=first, end=end)
        parts.append(_part(call, cut, [cut(source), *call.arguments[1:]]))
    return parts


def _update_parts(call: Call, count: int) -> list[Call] | None:
    """Split an optimizer's update: large parameters by ranges of their numbers, small ones as a whole to the lanes in turn."""
    schema = [] if call.function is None else call.function._schema.arguments
    lists = [place for place, value in enumerate(call.arguments) if isinstance(value, list)]
    names = [schema[place].name for place in lists]
    parts: list[list[list[Tensor]]] = [[[] for _ in lists] for _ in range(count)]
    for number, parameter in enumerate(call.arguments[0]):
        row = [call.arguments[place][number] if call.arguments[place] else None for place in lists]
        bounds = _bounds(parameter.numel(), count, 4 * COLUMNS) if parameter.is_contiguous() else None
        even = all(value is None or value.shape != parameter.shape or value.is_contiguous() for value in row)
        if bounds is None or not even:
            bounds = [(0, 0) if lane != number % count else (0, parameter.numel()) for lane in range(count)]
        for lane, (first, end) in enumerate(bounds):
            for into, name, value in zip(parts[lane], names, row, strict=True):
                if value is None or first == end:
                    continue
                shared = name == "state_steps" or value.shape != parameter.shape
                whole = shared or end - first == parameter.numel()
                into.append(value if whole else _range(value, first, end))
    made = []
    for lists_of_lane in parts:
        arguments = list(call.arguments)
        for place, values in zip(lists, lists_of_lane, strict=True):
            arguments[place] = values
        written = [
            tensor for name, values in zip(names, lists_of_lane, strict=True) if name != "state_steps" for tensor in values
        ]
        made.append(replace(call, arguments=arguments, written=written))
    return made if all(part.arguments[0] for part in made) else None


def _range(tensor: Tensor, first: int, end: int) -> Tensor:
    """Return some neighbouring numbers of a contiguous tensor of a tape."""
    place = place_of(tensor)
    flat = tensor.view(-1)
    flat.place = replace(place, shape=(tensor.numel(),), strides=(1,))  # type: ignore[attr-defined]
    return narrowed(flat, 0, first, end)
