"""A tape as a program of native.cpp: many steps a call, no Python between them, the interpreter's lock released. Floor 6."""

from __future__ import annotations

import ctypes
import math
import os
import struct
import weakref
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from netwright.data.array_preparation import RAW, STANDARDIZED
from netwright.recording.lanes import Barrier, in_lanes
from netwright.recording.operations import CannotCapture
from netwright.recording.tape import Call, NotFiniteError, Played, Tape

CALL, GUARD, BARRIER, INCREMENT, POOL, STANDARDIZE = range(6)
(NONE, TENSOR, WHOLE, REAL, TRUTH, WHOLES, REALS, TENSORS, SOME_TENSORS, TRUTHS, TEXT, CPU, DEFAULT, NUMBER) = range(14)
# c10::ScalarType, c10::Layout and c10::MemoryFormat as numbers (torch's C++ documentation).
DTYPES = {
    torch.uint8: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.int64: 4,
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.bool: 11,
    torch.bfloat16: 15,
}
FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3}
ROOM = 2000  # bytes of an error's text


@final
class Program:
    """A tape ready to be played natively.

    Args:
        library: What `netwright.recording.building.library` gave.
        tape: The calls of one step.
        numbers: Results of the tape that are kept of every step, one number each, all float32 or all float64.
        lanes: Cores that share them.
        gathers: For each input of the step that is filled from rows by number: all rows ``(rows, ...)`` and the input
            ``(batch, ...)``.
        batch: Rows of a step.

    Raises:
        CannotCapture: A call cannot be translated.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        tape: Tape,
        numbers: Sequence[Tensor],
        lanes: int,
        gathers: Sequence[tuple[Tensor, Tensor]],
        batch: int,
    ) -> None:
        self._library, self._results = library, len(numbers)
        self._dtype = numbers[0].dtype if numbers else torch.float32
        tape.refill()
        code = _Code([into for _, into in gathers])
        nothing = torch.empty(0)
        words = [code.tensor(nothing), batch, len(numbers), *map(code.tensor, numbers), len(gathers)]
        for source, into in gathers:
            words += [code.tensor(source), code.tensor(into), int(_only_standardized(into, tape))]
        dealt = in_lanes(tape.calls, lanes)
        words.append(len(dealt))
        for lane in dealt:
            words.append(len(lane))
            for call in lane:
                words += [BARRIER] if isinstance(call, Barrier) else code.call(call)
        error = ctypes.create_string_buffer(ROOM)
        addresses = [tensor._cdata for tensor in code.tensors]
        handle = library.nw_make(
            (ctypes.c_int64 * len(words))(*words),
            (ctypes.c_int64 * len(addresses))(*addresses),
            len(addresses),
            (ctypes.c_char_p * len(code.texts))(*code.texts),
            error,
            ROOM,
        )
        if not handle:
            raise CannotCapture(f"native replay: {error.value.decode().splitlines()[0]}")
        self._handle = handle
        self._keep = code.tensors
        self._lent, self._error = (ctypes.c_int64 * len(gathers))(), ctypes.create_string_buffer(ROOM)
        self._process = os.getpid()
        closed_with(self, library.nw_close, handle)

    @property
    def usable(self) -> bool:
        """Whether this is the process that made it; a forked one has not its threads."""
        return os.getpid() == self._process

    def run(self, rows: Tensor | None, steps: int, seconds: float, turns: Tensor | None = None) -> Played:
        """Take steps until they are done, the seconds are over, or one stops; see `netwright.recording.tape.Player`."""
        results = torch.empty(steps, self._results, dtype=self._dtype)
        error, spent = ctypes.create_string_buffer(ROOM), ctypes.c_double()
        address = 0 if rows is None else rows.data_ptr()
        table, width = (0, 0) if turns is None else (turns.data_ptr(), turns.shape[1] if len(turns) > 1 else 0)
        done = self._library.nw_run(
            self._handle, address, table, width, steps, seconds, results.data_ptr(), ctypes.byref(spent), error, ROOM
        )
        return Played(results[: done if done >= 0 else -1 - done], spent.value, _stopped(done, error.value))

    def answers(self, address: int, threads: int) -> bool:
        """Take one step on the rows at an address, which are checked, with so many threads for each operation; 0: as many as now.

        Returns:
            False: `answer` tells why, if there is nothing to be tried again.
        """
        if self._process != os.getpid():
            return False
        self._lent[0] = address
        if self._library.nw_answer(self._handle, self._lent, True, threads, self._error, ROOM) == 1:
            return True
        self._error.value = b""
        return False

    def answer(self, inputs: Sequence[Tensor], checked: bool) -> Exception | None:
        """Take one step on inputs that lie in order; see `netwright.recording.tape.Player`."""
        for place, value in zip(range(len(self._lent)), inputs, strict=True):
            self._lent[place] = value.data_ptr()
        done = self._library.nw_answer(self._handle, self._lent, checked, 0, self._error, ROOM)
        if done == 1:
            return None
        text, self._error.value = self._error.value, b""
        return _stopped(done, text)


def _stopped(done: int, text: bytes) -> Exception | None:
    """Return why no further step was taken, from what the library gave and told."""
    if text:
        return RuntimeError(text.decode().splitlines()[0])
    return NotFiniteError() if done < 0 else None


def closed_with(owner: object, close: Callable[[int], None], handle: int) -> None:
    """Close what a library made when its owner goes, in the process that made it; a forked one has not its threads."""
    weakref.finalize(owner, _close, close, handle, os.getpid())


def _close(close: Callable[[int], None], handle: int, process: int) -> None:
    if os.getpid() == process:
        close(handle)


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes what the functions of the library take and give."""
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    library.nw_make.restype = pointer
    library.nw_make.argtypes = [pointer, pointer, whole, pointer, ctypes.c_char_p, whole]
    library.nw_run.restype = whole
    library.nw_run.argtypes = [pointer, pointer, pointer, whole, whole, real, pointer, pointer, ctypes.c_char_p, whole]
    library.nw_answer.restype = whole
    library.nw_answer.argtypes = [pointer, pointer, whole, whole, ctypes.c_char_p, whole]
    library.nw_close.restype = None
    library.nw_close.argtypes = [pointer]
    return library


@final
class _Code:
    """Calls as whole numbers, with the tensors and texts that they name by number."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.untyped_storage().data_ptr() for tensor in inputs]
        self.tensors: list[Tensor] = []
        self.texts: list[bytes] = []
        self._numbers: dict[int, int] = {}

    def tensor(self, tensor: Tensor) -> int:
        number = self._numbers.setdefault(id(tensor), len(self.tensors))
        if number == len(self.tensors):
            self.tensors.append(tensor)
        return number

    def text(self, text: str) -> int:
        self.texts.append(text.encode())
        return len(self.texts) - 1

    def call(self, call: Call) -> list[int]:
        """Return one call in numbers."""
        function = call.function
        if function is None:
            return [GUARD, self.tensor(call.arguments[0])]
        if _increment(call):
            numbers = call.arguments[0]
            return [INCREMENT, bits(call.arguments[1]), len(numbers), *map(self.tensor, numbers)]
        pooled = _pooled(call)
        if pooled is not None:
            given = [self.tensor(tensor) for tensor in (call.arguments[0], call.keywords["out"], call.keywords["indices"])]
            return [POOL, *given, *pooled, len(call.spent), *map(self.tensor, call.spent)]
        inner = _standardized(call)
        if inner is not None:
            raw, *moments = call.arguments
            memory = raw.untyped_storage().data_ptr()
            gather = self._inputs.index(memory) if memory in self._inputs else -1
            tensors = [-1 if tensor is None else self.tensor(tensor) for tensor in (raw, call.keywords["out"], *moments)]
            return [STANDARDIZE, gather, *tensors, inner]
        schema = function._schema
        words = [CALL, int(call.gradients), self.text(schema.name), self.text(schema.overload_name)]
        words.append(len(schema.arguments))
        for place, argument in enumerate(schema.arguments):
            kind = str(argument.real_type)
            if place < len(call.arguments):
                words += self.value(call.arguments[place], kind)
            elif argument.name in call.keywords:
                words += self.value(call.keywords[argument.name], kind)
            else:
                words.append(DEFAULT)
        turned = [(place, call.turned[each.name]) for place, each in enumerate(schema.arguments) if each.name in call.turned]
        words += [len(turned), *(number for pair in turned for number in pair)]
        if call.fresh and any("List" in str(returned.real_type) for returned in schema.returns):
            raise CannotCapture(f"native replay knows no lists that are given back ({schema.name})")
        words.append(len(call.fresh))
        for aliases in call.fresh:
            words += [len(aliases), *map(self.tensor, aliases)]
        return [*words, len(call.spent), *map(self.tensor, call.spent)]

    def value(self, value: Any, kind: str) -> list[int]:
        """Return an argument in numbers, by the kind that the kernel's schema gives it."""
        if value is None:
            return [NONE]
        if isinstance(value, list | tuple):
            return self._listed(value, kind)
        if isinstance(value, Tensor):
            return [TENSOR, self.tensor(value)]
        if "Tensor" in kind:
            return [NUMBER, self.tensor(_number(value))]
        return self._plain(value, kind)

    def _plain(self, value: Any, kind: str) -> list[int]:
        if isinstance(value, torch.dtype) and value in DTYPES:
            return [WHOLE, DTYPES[value]]
        if isinstance(value, torch.layout):
            return [WHOLE, 0]
        if isinstance(value, torch.memory_format):
            return [WHOLE, FORMATS[value]]
        if isinstance(value, torch.device):
            return [CPU]
        if isinstance(value, str):
            return [TEXT, self.text(value)]
        if "float" in kind and not isinstance(value, bool):
            return [REAL, bits(value)]
        if isinstance(value, bool):
            return [TRUTH, int(value)]
        if isinstance(value, int):
            return [WHOLE, value]
        if isinstance(value, float):
            return [REAL, bits(value)]
        raise CannotCapture(f"native replay knows no {type(value).__name__} {value!r}")

    def _listed(self, values: Sequence[Any], kind: str) -> list[int]:
        if "Optional[Tensor]" in kind:
            return [SOME_TENSORS, len(values), *(-1 if value is None else self.tensor(value) for value in values)]
        if "Tensor" in kind:
            return [TENSORS, len(values), *map(self.tensor, values)]
        if "float" in kind:
            return [REALS, len(values), *map(bits, values)]
        if "bool" in kind:
            return [TRUTHS, len(values), *map(int, values)]
        if all(isinstance(value, int) for value in values):
            return [WHOLES, len(values), *values]
        raise CannotCapture(f"native replay knows no list of {kind}")


def bits(value: float) -> int:
    """Return the bits of a float64 as a whole number.

    Example:
        >>> hex(bits(1.0))
        '0x3ff0000000000000'
    """
    found: int = struct.unpack("q", struct.pack("d", float(value)))[0]
    return found


def _number(value: float | bool) -> Tensor:
    """Return a Python number as torch makes a tensor of it in arithmetic with tensors."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if not isinstance(value, int | float):
        raise CannotCapture(f"native replay knows no number such as {value!r}")
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def _pooled(call: Call) -> list[int] | None:
    """Return window, stride and margin of a max pooling that native.cpp does itself, with the same numbers; None for others."""
    if str(call.function) != "aten.max_pool2d_with_indices.out":
        return None
    source, size, *rest = call.arguments
    usual: list[Any] = [[], 0, 1, False]
    stride, margin, dilation, ceil = [*rest, *usual[len(rest) :]]
    plain = all(tensor.is_contiguous() for tensor in (source, *call.written)) and source.dtype == torch.float32
    if not plain or ceil or _pair(dilation) != [1, 1]:
        return None
    return [*_pair(size), *(_pair(stride) or _pair(size)), *_pair(margin)]


def _pair(value: int | Sequence[int]) -> list[int]:
    """Return rows and columns of a setting of a window, which is given once where both are equal."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def _standardized(call: Call) -> int | None:
    """Return how many numbers share a mean, of a preparation that native.cpp does itself, with the same numbers.

    Returns:
        0 where there is no mean; None for other calls.
    """
    if call.function is None or call.function._schema.name != STANDARDIZED or "out" not in call.keywords:
        return None
    raw, *moments = call.arguments
    output, known = call.keywords["out"], [tensor for tensor in moments if tensor is not None]
    plain = raw.dtype in RAW and output.dtype == torch.float32
    alike = all(tensor.dtype == torch.float64 and tensor.shape == known[0].shape for tensor in known)
    if not plain or not alike or not all(tensor.is_contiguous() for tensor in (raw, output, *known)):
        return None
    return _sharing(known[0].shape, output.shape) if known else 0


def _only_standardized(rows: Tensor, tape: Tape) -> bool:
    """Tell whether nothing reads an input but what standardises it, natively."""

    def same(tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()

    readers = [call for call in tape.calls if any(map(same, call.tensors()))]
    return bool(readers) and not any(map(same, tape.results)) and all(_standardized(call) is not None for call in readers)


def _sharing(moments: Sequence[int], rows: Sequence[int]) -> int | None:
    """Return how many neighbouring numbers of rows share a mean of such a shape; None where means go by more than one axis.

    Example:
        >>> _sharing((3, 1, 1), (8, 3, 28, 28)), _sharing((20,), (8, 20)), _sharing((1, 1), (8, 5, 7)), _sharing((5, 7), (8, 5, 7))
        (784, 1, 35, None)
    """
    axes = [axis - len(moments) for axis, length in enumerate(moments) if length > 1]
    if len(axes) > 1 or len(moments) >= len(rows) or any(moments[axis] != rows[axis] for axis in axes):
        return None
    first = axes[0] + len(rows) + 1 if axes else 1
    return math.prod(rows[first:])


def _increment(call: Call) -> bool:
    """Tell whether a call counts the steps of an optimizer: whole numbers as float32, one by one."""
    if str(call.function) != "aten._foreach_add_.Scalar" or call.arguments[1] != 1:
        return False
    return all(number.numel() == 1 and number.dtype == torch.float32 for number in call.arguments[0])
