"""From a recording to a tape: memory planned once, views folded, kernels with planned outputs.

Every tensor of a recording becomes one tensor object at a fixed place. Kernels that can write into memory that is given
do so; the others allocate as ever, and the tensor objects of their outputs are pointed at what they gave. Floor 6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import final

import torch
from torch import Tensor
from torch._ops import OpOverload

from netwright.recording.operations import CannotCapture, Operation, Place, Recording, mapped
from netwright.recording.tape import Call, Tape

aten = torch.ops.aten
EMPTY = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "empty_permuted")
FILLED = {"zeros": 0.0, "new_zeros": 0.0, "zeros_like": 0.0, "ones": 1.0, "new_ones": 1.0, "ones_like": 1.0}
COPIES = ("clone", "_to_copy")
REDUCED = ("nll_loss_forward",)  # losses whose kernels write one number where they are told
LARGE = 1 << 20  # bytes from which memory that is free again within a step is given to another tensor


def make_tape(recording: Recording) -> Tape:
    """Turn a recording into calls.

    Raises:
        CannotCapture: A tensor lies where it cannot be repeated.
    """
    return _Maker(recording).tape()


@final
class _Maker:
    """Works out where every storage of a recording lives, and the call of every operation."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.operations = _needed(recording)
        self.kinds = dict.fromkeys(recording.outside, "outside")  # or planned, constant, allocated
        self.first: dict[int, int] = {}  # the operation, by the storage
        self.last: dict[int, int] = {}
        self.writers: dict[int, int] = defaultdict(int)
        for index, operation in enumerate(self.operations):
            for place in self._all(operation):
                self.first.setdefault(place.storage, index)
                self.last[place.storage] = index
            for number in written_by(operation):
                self.writers[number] += 1
        for result in recording.results:
            self.last[result.storage] = len(self.operations)
        self.storages: dict[int, torch.UntypedStorage] = dict(recording.outside)
        self.memory: dict[int, int] = {}  # the number of the memory a storage lies in
        self.tensors: dict[Place, Tensor] = {}
        self.planned = 0

    @staticmethod
    def _all(operation: Operation) -> list[Place]:
        return [place for place, _ in operation.places()] + [place for place in operation.outputs if place is not None]

    def tape(self) -> Tape:
        """Return the calls."""
        ways = [self._way(operation) for operation in self.operations]
        self._plan()
        calls = []
        for index, (operation, way) in enumerate(zip(self.operations, ways, strict=True)):
            call = self._call(operation, way)
            if way == "constant":
                _run(call)
                continue
            if call is not None:
                calls.append((index, call))
        self._release(calls)
        results = tuple(self._tensor(place) for place in self.recording.results)
        return Tape(tuple(call for _, call in calls), results, self.planned)

    def _way(self, operation: Operation) -> str:
        """Decide how an operation is repeated, and with it the kind of the storages it makes."""
        if operation.function is None:
            return "guard"
        name = _name(operation.function)
        if torch.Tag.inplace_view in operation.function.tags:
            return "view"
        made = [place.storage for place in operation.outputs if place is not None and place.storage not in self.kinds]
        if not made:
            return "as it is" if operation.function._schema.is_mutable or not operation.function._schema.returns else "view"
        if operation.function._schema.is_mutable:
            self.kinds |= dict.fromkeys(made, "allocated")
            return "allocate"
        read = [place.storage for place, _ in operation.places()]
        random = torch.Tag.nondeterministic_seeded in operation.function.tags
        fixed = not random and all(self.kinds[number] == "constant" for number in read)
        if name in EMPTY:
            way, kind = "empty", "planned"
        elif fixed and all(self.writers[number] == 1 for number in made):
            way, kind = "constant", "constant"
        elif name in FILLED:
            way, kind = "fill", "planned"
        elif name in COPIES and len(operation.outputs) == 1:
            way, kind = "copy", "planned"
        elif name == "relu" or out_variant(operation.function) is not None:
            way, kind = "out", "planned"
        else:
            way, kind = "allocate", "allocated"
        for number in made:
            self.kinds[number] = kind
        return way

    def _plan(self) -> None:
        """Give every planned storage its memory; large ones take that of large ones which nobody reads any more."""
        free: list[tuple[int, int, torch.UntypedStorage]] = []  # when, its number, the memory
        for number in sorted(self.first, key=lambda storage: self.first[storage]):
            kind = self.kinds[number]
            self.memory[number] = number
            if kind == "outside":
                continue
            size = self.recording.sizes[number]
            if kind != "planned":
                self.storages[number] = torch.empty(size, dtype=torch.uint8).untyped_storage()
                continue
            fitting = [one for one in free if one[0] < self.first[number] and one[2].nbytes() >= size]
            if size >= LARGE and fitting:
                best = min(fitting, key=lambda one: one[2].nbytes())
                free.remove(best)
                self.memory[number], self.storages[number] = best[1], best[2]
            else:
                self.storages[number] = torch.empty(size, dtype=torch.uint8).untyped_storage()
                self.planned += size
            if size >= LARGE:
                free.append((self.last[number], self.memory[number], self.storages[number]))

    def _tensor(self, place: Place) -> Tensor:
        """Return the one tensor object of a place."""
        found = self.tensors.get(place)
        if found is None:
            found = torch.empty(0, dtype=place.dtype)
            found.set_(self.storages[place.storage], place.offset, place.shape, place.strides)
            moves = self.kinds[place.storage] == "allocated"
            found.place = replace(place, storage=self.memory[place.storage], moves=moves)  # type: ignore[attr-defined]
            self.tensors[place] = found
        return found

    def _call(self, operation: Operation, way: str) -> Call | None:
        """Return the call of an operation; None where nothing needs to be done."""
        if way in ("view", "empty"):
            return None
        arguments = [mapped(value, self._tensor) for value in operation.arguments]
        keywords = {name: mapped(value, self._tensor) for name, value in operation.keywords.items()}
        written = [self._tensor(place) for place in written_places(operation)]
        made = [self._tensor(place) for place in operation.outputs if place is not None]
        function = operation.function
        if function is None:
            return Call(None, arguments)
        draws, gradients = torch.Tag.nondeterministic_seeded in function.tags, operation.gradients
        if way == "as it is":
            return Call(function, arguments, keywords, written, draws=draws, gradients=gradients)
        if way == "fill":
            return Call(aten.fill_.Scalar, [made[0], FILLED[_name(function)]], written=made)
        if way == "copy":
            return Call(aten.copy_.default, [made[0], arguments[0]], written=made)
        if way == "out" and _name(function) == "relu":
            return Call(aten.clamp_min.out, [arguments[0], 0], {"out": made[0]}, made)
        if way == "out":
            variant = _known(out_variant(function))
            names = [argument.name for argument in variant._schema.arguments if argument.is_out]
            given = {**keywords, **dict(zip(names, made, strict=True))}
            return Call(variant, arguments, given, [*written, *made], draws=draws, gradients=gradients)
        fresh = [[] if place is None else self._aliases(place.storage) for place in operation.outputs]
        return Call(function, arguments, keywords, written, fresh, draws=draws, gradients=gradients)

    def _aliases(self, storage: int) -> list[Tensor]:
        """Return the tensor objects of all places in a storage."""
        places = {place for operation in self.operations for place, _ in operation.places() if place.storage == storage} | {
            place for place in self.recording.results if place.storage == storage
        }
        return [self._tensor(place) for place in places]

    def _release(self, calls: list[tuple[int, Call]]) -> None:
        """Note, for each call, the allocated tensors that nobody reads after it."""
        at = dict(calls)
        for number, kind in self.kinds.items():
            index = self.last.get(number, -1)
            if kind == "allocated" and index in at:
                at[index].spent += self._aliases(number)


def _needed(recording: Recording) -> list[Operation]:
    """Return the operations without those whose outputs nobody reads."""
    read = {place.storage for place in recording.results}
    kept = []
    for operation in reversed(recording.operations):
        function = operation.function
        needed = (
            function is None
            or function._schema.is_mutable
            or not function._schema.returns  # it raises an error, or does something else that is seen
            or torch.Tag.nondeterministic_seeded in function.tags
            or str(function) == "aten.native_batch_norm.default"
            or any(place is not None and place.storage in read for place in operation.outputs)
        )
        if needed:
            kept.append(operation)
            read |= {place.storage for place, _ in operation.places()}
    return kept[::-1]


def written_places(operation: Operation) -> list[Place]:
    """Return the arguments an operation writes to."""
    return [place for place, written in operation.places() if written]


def written_by(operation: Operation) -> Iterable[int]:
    """Return the storages an operation writes to, new ones too."""
    found = {place.storage for place in written_places(operation)}
    if operation.function is not None and _name(operation.function) not in EMPTY:
        made = {place.storage for place in operation.outputs if place is not None}
        found |= made - {place.storage for place, _ in operation.places()}
    return found


def _name(function: OpOverload) -> str:
    return function._schema.name.partition("::")[2]


def _known(function: OpOverload | None) -> OpOverload:
    if function is None:
        raise CannotCapture("a kernel with outputs given is gone")
    return function


def _run(call: Call | None) -> None:
    """Make the call of a constant now."""
    if call is not None:
        with torch.no_grad():
            Tape((call,), (), 0).play()


def out_variant(function: OpOverload) -> OpOverload | None:
    """Return the kernel of the same operation that writes into tensors that are given, where torch has a real one."""
    schema = function._schema
    if any(str(returned.type) != "Tensor" for returned in schema.returns):
        return None
    reduced = any(argument.name == "reduction" for argument in schema.arguments)
    if reduced and not _name(function).endswith("_backward") and _name(function) not in REDUCED:
        return None  # it would use the one number as room for all of them
    packet = getattr(getattr(torch.ops, function.namespace), _name(function))
    wanted = [(argument.name, str(argument.type)) for argument in schema.arguments]
    for overload in packet.overloads():
        other = getattr(packet, overload)
        outs = [argument for argument in other._schema.arguments if argument.is_out]
        rest = [(argument.name, str(argument.type)) for argument in other._schema.arguments if not argument.is_out]
        named = other._schema.name + (f".{other._schema.overload_name}" if other._schema.overload_name else "")
        if rest == wanted and len(outs) == len(schema.returns) and _has_kernel(named):
            return other  # type: ignore[no-any-return]
    return None


def _has_kernel(named: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(named, "CPU")
