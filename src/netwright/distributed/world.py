"""How many processes train one network, which of them this is, and what they tell each other. Floor 5.

A world is a value that is passed down. In a world of one every method gives back what it got, and nothing of
torch.distributed is touched. What several processes say is numbers, JSON and safetensors; never pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import safetensors.torch
import torch
from torch import Tensor, nn

from netwright.data.sharing import Share
from netwright.distributed.failures import Links, LostError, is_lost, lost
from netwright.distributed.identity import Launch

Value = TypeVar("Value")


@final
@dataclass(frozen=True)
class World:
    """The processes of a training: this is the ``rank``-th (from 0) of ``size``.

    Args:
        rank: Of this process.
        size: How many processes there are.
        local_rank: Of this process among those of its machine.
        local_size: How many processes its machine has.
        restarts: How often the launcher has started all processes again.
        launch: Which launch started it; None where nothing names one.
        launched: Whether a launcher such as torchrun started this process, and tells it by a signal when it must end.
        own_gpu: Whether this process sees one GPU, which no other process sees, as a launcher may arrange it.
        cores: The CPU cores of its machine that its processes may use together; None where nobody asked them.
        group: The torch.distributed group that carries what they say; its tensors are on the CPU.
        links: Over NCCL, where there are any.
        patience: Seconds that a process waits for another one.

    Example:
        >>> ALONE.leads, ALONE.highest([3, 0]), ALONE.told({"epoch": 1}), ALONE.gathered("here")
        (True, [3, 0], {'epoch': 1}, ['here'])
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    launched: bool = False
    launch: Launch | None = None
    own_gpu: bool = False
    cores: int | None = None
    group: Any = field(default=None, repr=False, compare=False)
    links: Links | None = field(default=None, repr=False, compare=False)
    patience: float = field(default=math.inf, repr=False, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    @property
    def launch_told(self) -> dict[str, Any] | None:
        """The launch in plain values, as run.json and the lock keep it; None without one."""
        return None if self.launch is None else self.launch.to_json()

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def share(self) -> Share | None:
        """The part of each batch that falls to this process; None where it is all of it."""
        return None if self.alone else Share(self.rank, self.size)

    def highest(self, flags: Sequence[int]) -> list[int]:
        """Return, for each of some small whole numbers, the highest that any process has."""
        if self.alone:
            return list(flags)
        told = torch.tensor(list(flags), dtype=torch.int64)
        self._heard(lambda dist: dist.all_reduce(told, dist.ReduceOp.MAX, group=self.group))
        return [int(flag) for flag in told.tolist()]

    def anywhere(self, here: bool) -> bool:
        """Tell whether something is so in any process."""
        return bool(self.highest([here])[0])

    def agreed(self, problem: str) -> str:
        """Return what is wrong in this process or, where nothing is, in another; nothing where all goes well."""
        return next((one for one in [problem, *self.gathered(problem)] if one), "")

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes of a tensor on the CPU, of one shape everywhere; the tensor itself is summed up."""
        if not self.alone:
            self._heard(lambda dist: dist.all_reduce(values, group=self.group))
        return values

    def told(self, value: Value) -> Value:
        """Return what the first process has, to all: anything that JSON can say; what the others hand over is left aside."""
        if self.alone:
            return value
        content = _bytes(value) if self.leads else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor([len(content)])
        self._send(size)
        content = content if self.leads else torch.empty(int(size), dtype=torch.uint8)
        self._send(content)
        found: Value = _value(content)
        return found

    def gathered(self, value: Value) -> list[Value]:
        """Return what each process has, in their order, to all: anything that JSON can say."""
        if self.alone:
            return [value]
        return [_value(content) for content in self._gathered(_bytes(value))]

    def gathered_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of each process, in their order, to all, on the CPU."""
        if self.alone:
            return [dict(tensors)]
        packed = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        content = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        return [safetensors.torch.load(found.numpy().tobytes()) for found in self._gathered(content)]

    def gathered_rows(self, rows: Tensor) -> Tensor:
        """Return the rows ``(rows, ...)`` of all processes one after the other to the first; the others get their own."""
        if self.alone:
            return rows
        rows = rows.detach().cpu().contiguous()
        sizes = self._sizes(len(rows))
        padded = torch.cat([rows, rows.new_zeros((max(sizes) - len(rows), *rows.shape[1:]))])
        into = [torch.empty_like(padded) for _ in sizes] if self.leads else None
        self._heard(lambda dist: dist.gather(padded, into, 0, group=self.group))
        return rows if into is None else torch.cat([part[:size] for part, size in zip(into, sizes, strict=True)])

    def _gathered(self, content: Tensor) -> list[Tensor]:
        """Return the bytes of each process to all."""
        sizes = self._sizes(len(content))
        padded = nn.functional.pad(content, (0, max(sizes) - len(content)))
        into = [torch.empty_like(padded) for _ in sizes]
        self._heard(lambda dist: dist.all_gather(into, padded, group=self.group))
        return [found[:size] for found, size in zip(into, sizes, strict=True)]

    def _sizes(self, mine: int) -> list[int]:
        """Return the number of each process to all."""
        sizes = [torch.empty(1, dtype=torch.int64) for _ in range(self.size)]
        told = torch.tensor([mine])
        self._heard(lambda dist: dist.all_gather(sizes, told, group=self.group))
        return [int(size) for size in sizes]

    def level(self, tensors: Sequence[Tensor]) -> None:
        """Let tensors be everywhere what they are in the first process."""
        if self.alone:
            return
        with torch.no_grad():
            for value in tensors:
                told = value.detach().cpu().contiguous()
                self._send(told)
                if not self.leads:
                    value.copy_(told)

    def _send(self, told: Tensor) -> None:
        """Send a tensor of the first process to all."""
        self._heard(lambda dist: dist.broadcast(told, 0, group=self.group))

    def abandon(self, why: LostError) -> None:
        """Begin to end what a GPU does together with processes that are gone; nothing is said to the others any more."""
        if self.links is not None:
            self.links.abandon(why)

    @property
    def broken(self) -> str:
        """Why what GPUs do together was ended; empty while it goes on."""
        return "" if self.links is None else self.links.broken

    def refuse_broken(self) -> None:
        """Refuse to go on with what GPUs did since their links were ended, which means nothing.

        Raises:
            netwright.distributed.failures.LostError: They were.
        """
        if self.broken:
            raise LostError(self.broken)

    def _heard(self, say: Callable[[Any], Any]) -> None:
        """Say something to all.

        Raises:
            netwright.distributed.failures.LostError: Another process is gone, or silent for longer than is waited.
        """
        import torch.distributed as dist

        self.refuse_broken()
        try:
            say(dist)
        except Exception as error:
            if is_lost(error):
                found = lost(error)
                self.abandon(found)
                raise found from error
            raise


ALONE = World()


def _bytes(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode("utf-8")), dtype=torch.uint8)


def _value(content: Tensor) -> Any:
    return json.loads(content.numpy().tobytes())
