"""Which operations of a piece of work wait for which others, and on which of several streams of a GPU each runs. Floor 6.

A step's kernels stand in a row where they are written, but few need all that stands before them: the gradient of a layer's
weights is used by the optimizer alone, while the gradient of its inputs is what the layers before it wait for. Small kernels
leave most of a GPU free, so what does not wait for each other runs side by side. The kernels are the same, and so are the bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef

from netwright.recording.operations import IGNORED, Mode, given_to

STREAMS = 4
SHAPE_ALONE = ("ones_like", "zeros_like", "empty_like", "full_like", "rand_like", "new_")  # nothing else of an input is read


@final
@dataclass(frozen=True)
class Branches:
    """A piece of work dealt out to streams, operation by operation in the order in which it asks for them.

    ``streams`` has the number of each one's stream, None for a view, which runs nowhere; ``waits`` the operations on other
    streams that it waits for; ``awaited`` those that others wait for. ``held`` are the bytes that it writes to in all.
    """

    names: tuple[str, ...]
    streams: tuple[int | None, ...]
    waits: tuple[tuple[int, ...], ...]
    awaited: frozenset[int]
    held: int


@final
class Watcher(Mode):
    """Writes down what the operations that run under it read and write; tensors are known by their storage.

    What a kernel does that torch does not know of goes unseen: a network must be of torch's own operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._needs: list[set[int] | None] = []  # operations that each needs, by number; None for a view
        self._written: dict[int, int] = {}  # by address of a storage: the last operation that wrote to it
        self._read: dict[int, set[int]] = {}  # and those that read it since
        self._alive: list[StorageWeakRef] = []  # an address is not used again while it is watched
        self._held = 0
        self._foreign = False  # an operation was not torch's own

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation and write it down."""
        keywords = dict(kwargs or {})
        result = function(*args, **keywords)
        if function.namespace not in IGNORED:
            self._foreign |= function.namespace != "aten"
            self._note(function, args, keywords, list(tensors_in(result)))
        return result

    def _note(self, function: OpOverload, args: tuple[Any, ...], keywords: dict[str, Any], outputs: list[Tensor]) -> None:
        name, number = str(function), len(self._names)
        reads, writes = _touched(function, args, keywords)
        made = set()
        for output in outputs:
            storage = output.untyped_storage()
            made.add(storage._cdata)
            self._alive.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
        self._names.append(name)
        if outputs and not writes and made <= reads:
            self._needs.append(None)
            return
        if any(word in name for word in SHAPE_ALONE):
            reads -= reads - writes
        needs = {self._written[at] for at in reads | writes if at in self._written}
        needs.update(*(self._read.get(at, ()) for at in writes))
        for at in reads - writes:
            self._read.setdefault(at, set()).add(number)
        for output in outputs:
            if output.untyped_storage()._cdata not in reads | writes:
                self._held += output.untyped_storage().nbytes()
        for at in writes | (made - reads):
            self._written[at], self._read[at] = number, set()
        self._needs.append(needs)

    def branches(self, streams: int = STREAMS) -> Branches | None:
        """Return what ran, dealt out; None where an operation is not torch's own, so that what it does is not known."""
        if self._foreign:
            return None
        waits, chosen = _dealt([None if needs is None else sorted(needs) for needs in self._needs], streams)
        awaited = frozenset(other for some in waits for other in some)
        return Branches(tuple(self._names), tuple(chosen), tuple(map(tuple, waits)), awaited, self._held)


def _touched(function: OpOverload, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[set[int], set[int]]:
    """Return the addresses of the storages that an operation reads, and of those that it writes to."""
    reads: set[int] = set()
    writes: set[int] = set()
    for value, written in given_to(function, args, keywords):
        (writes if written else reads).update(tensor.untyped_storage()._cdata for tensor in tensors_in(value))
    return reads, writes


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an argument or a result of an operation, those in lists too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def _dealt(needs: list[list[int] | None], streams: int) -> tuple[list[list[int]], list[int | None]]:
    """Deal operations out to streams; return what each waits for on other streams, and its stream.

    An operation goes on with the stream of one that it needs, if it is the one that most hangs on among those that need it:
    the longest way through the work stays on one stream. Others take a stream on which all is done that they would wait for.
    """
    tail, depth, before = _ways(needs)
    heir = _heirs(needs, tail)
    last: list[int | None] = [None] * streams  # operation of each stream
    known = [0] * streams  # operations that a stream has waited for, as bits
    chosen: list[int | None] = []
    waits: list[list[int]] = []
    for number, needed in enumerate(needs):
        if needed is None:
            chosen.append(None)
            waits.append([])
            continue
        stream = _stream(number, needed, last, heir, depth, before)
        found = []
        for other in reversed(needed):
            if not known[stream] >> other & 1:
                known[stream] |= before[other] | 1 << other
                found.append(other)
        chosen.append(stream)
        waits.append([other for other in found if chosen[other] != stream])
        last[stream] = number
        known[stream] |= 1 << number
    return waits, chosen


def _ways(needs: list[list[int] | None]) -> tuple[list[int], list[int], list[int]]:
    """Return of each operation how many come after it on the longest way, how many before it, and all before it as bits."""
    tail, depth, before = [1] * len(needs), [0] * len(needs), [0] * len(needs)
    for number, needed in enumerate(needs):
        for other in needed or ():
            depth[number] = max(depth[number], depth[other] + 1)
            before[number] |= before[other] | 1 << other
    for number in reversed(range(len(needs))):
        for other in needs[number] or ():
            tail[other] = max(tail[other], tail[number] + 1)
    return tail, depth, before


def _heirs(needs: list[list[int] | None], tail: list[int]) -> dict[int, int]:
    """Return for each operation the one that goes on with its stream: of those that need it the one most hangs on."""
    found: dict[int, int] = {}
    for number, needed in enumerate(needs):
        for other in needed or ():
            if other not in found or tail[number] > tail[found[other]]:
                found[other] = number
    return found


def _stream(
    number: int,
    needed: list[int],
    last: list[int | None],
    heir: dict[int, int],
    depth: list[int],
    before: list[int],
) -> int:
    """Return the stream of the next operation."""
    goes_on = [other for other in needed if heir[other] == number and other in last]
    if goes_on:
        return last.index(max(goes_on, key=lambda other: depth[other]))

    def wait(stream: int) -> tuple[bool, bool, int]:
        """Order streams: those where nothing is waited for in vain, that nothing else goes on with, that ended early."""
        end = last[stream]
        if end is None:
            return False, False, -1
        return not before[number] >> end & 1, heir.get(end, -1) > number, depth[end]

    return min(range(len(last)), key=wait)


LAUNCH, TURN, TOGETHER, NUMBERS = (
    2.2,
    0.85,
    32,
    2048,
)  # microseconds of a kernel, of NUMBERS in one of its blocks; see `in_pieces`
WHOLE = 65_536  # numbers that torch's fused kernels give to one block
FUSED = ("_fused_adam_", "_fused_adamw_", "_fused_sgd_")


@final
class InPieces(Mode):  # type: ignore[no-untyped-call]
    """Lets what runs under it update parameters in pieces; see `in_pieces`."""

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        return function(*in_pieces(function, args), **(kwargs or {}))


def in_pieces(function: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a fused update with parameters cut into pieces; of any other operation as they are.

    torch's kernel gives 65,536 numbers to one block of threads, so that a layer of 100,000 weights keeps two of the 132
    multiprocessors of a GPU busy, for 27 microseconds; in pieces it keeps 27. Each number is treated alone: the bits are the same.

    Example:
        >>> import torch
        >>> one = [torch.zeros(5000)]
        >>> cut = in_pieces(torch.ops.aten._fused_sgd_.default, (one, one, []))
        >>> [len(piece) for piece in cut[0]], cut[2]
        ([2048, 2048, 904], [])
    """
    if function._schema.name.partition("::")[2] not in FUSED:
        return args
    length = _length(sum(value.numel() for value in args[0]))
    if length >= WHOLE:
        return args
    cut: list[list[Tensor]] = [[] for _ in args]
    for number, parameter in enumerate(args[0]):
        row = [values[number] if values else None for values in args]
        alike = [value for value in row if value is not None and value.dim()]  # all but the number of the step
        even = all(value.is_contiguous() and value.shape == parameter.shape for value in alike)
        ends = range(0, parameter.numel(), length) if even and parameter.dim() and parameter.numel() else [0]
        for into, value in zip(cut, row, strict=True):
            if value is not None:
                whole = len(ends) == 1 or not value.dim()
                into += [value] * len(ends) if whole else list(value.view(-1).split(length))
    return tuple(cut)


def _length(total: int) -> int:
    """Return how many numbers a piece has, so that all take the least time; some `TOGETHER` pieces are one kernel."""
    kernels: int = min(4, max(1, round((total / TOGETHER / NUMBERS * TURN / LAUNCH) ** 0.5)))
    return max(1, -(-total // (kernels * (TOGETHER - 4) * NUMBERS))) * NUMBERS
