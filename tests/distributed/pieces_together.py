"""What some ranks do together for the tests of networks that are dealt out; each writes what it found to ``told-RANK.json``."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from netwright.checkpoint import collective, store
from netwright.checkpoint.shards import PIECES, piece_file
from netwright.data.batches import Batch
from netwright.distributed.pieces import Piece, dealt_as, is_dealt, rows_held, whole, whole_parts
from netwright.engine.averaged import Averaged
from netwright.engine.eager import train_step
from netwright.engine.scaling import Scaler
from netwright.engine.sharding import dealt_state, shard, without_fusion
from netwright.engine.shared import _settle
from netwright.engine.update import PLAIN, Update
from netwright.errors import NetwrightError
from netwright.model.synchronised import count_rows, synchronised

ROWS = 13
CPU = torch.device("cpu")


class Company:
    """Processes, by torch's own calls for objects."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def told(self, value: Any) -> Any:
        held = [value]
        dist.broadcast_object_list(held, 0)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return held


class Recurrent(nn.Module):
    """The last output of an LSTM over six steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(self.lstm(values.unsqueeze(2))[0][:, -1])


class Tied(nn.Module):
    """A matrix in two places, and a layer that is called twice, its output changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.twice = nn.Linear(6, 6)
        self.layers = nn.Sequential(self.twice, nn.Flatten(), nn.ReLU(inplace=True), self.twice, nn.Linear(6, 1))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(self.other(torch.tanh(self.one(values))))


def network(kind: str) -> nn.Module:
    torch.manual_seed(5)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 1))
    if kind == "lstm":
        return Recurrent()
    if kind == "tied":
        return Tied()
    if kind == "transformer":
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        return nn.Sequential(
            nn.Unflatten(1, (6, 1)), nn.Linear(1, 4), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(24, 1)
        )
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Conv1d(
            4, 3, 3, bias=False
        ),  # the norm after it takes a bias out again, and Adam would follow the noise of its gradient
        nn.BatchNorm1d(3, momentum=None, affine=False),
        nn.Flatten(),
        nn.Linear(12, 1),
    )


def rows(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    return values.to(dtype), (values[:, :1] * values[:, 1:2] + 0.3 * values[:, 2:3]).to(dtype)


def gap(model: nn.Module, reference: nn.Module) -> float:
    """The largest difference of any parameter or buffer, relative to the largest number of it."""
    found = [0.0]
    for (name, value), expected in zip(model.state_dict().items(), reference.state_dict().values(), strict=True):
        difference = (whole(value).double() - expected.double()).abs().max()
        found.append(float(difference / expected.double().abs().max().clamp(min=1e-3)))
        assert whole(value).shape == expected.shape, name
    return max(found)


def trained(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: tuple[int, int] | None,
    update: Update,
    steps: int,
    extra: Any = None,
) -> list[float]:
    """Train by THE step on batches of 13 and of 2 rows, all of them or the part of this process; return the losses."""
    inputs, target = rows(next(model.parameters()).dtype)
    losses = []
    for step in range(steps):
        of = ROWS if step % 4 else 2
        begin, end = (0, of) if parts is None else (of * parts[0] // parts[1], of * (parts[0] + 1) // parts[1])
        weight = (end - begin) / of * (1 if parts is None else parts[1])
        count_rows(model, end > begin)
        end = max(end, begin + 1)  # one that counts nothing
        batch = Batch({"x": inputs[begin:end]}, target[begin:end], torch.arange(begin, end))
        loss = train_step(
            model,
            lambda output, wanted, weight=weight: nn.functional.mse_loss(output, wanted) * weight,
            optimizer,
            batch,
            update,
            extra,
        )
        if parts is not None:
            loss = loss / parts[1]
            dist.all_reduce(loss)
        losses.append(float(loss))
    return losses


def parity(
    kind: str, dtype: torch.dtype, update: Update = PLAIN, text: str = "SGD", steps: int = 12, **arguments: Any
) -> dict[str, float]:
    """How far a dealt-out network is from the same in one process, after training."""
    reference = network(kind).to(dtype)
    model = shard(synchronised(network(kind).to(dtype), CPU), CPU)
    expected = trained(reference, made(text, reference, arguments), None, update, steps)
    optimizer = made(text, model, arguments)
    without_fusion(optimizer)
    losses = trained(model, optimizer, (dist.get_rank(), dist.get_world_size()), update, steps)
    apart = max(abs(one - other) for one, other in zip(losses, expected, strict=True)) / max(expected)
    return {"weights": gap(model, reference), "losses": apart, "moved": gap(reference, network(kind).to(dtype))}


def made(text: str, model: nn.Module, arguments: dict[str, Any]) -> torch.optim.Optimizer:
    kind: Any = getattr(torch.optim, text)
    found: torch.optim.Optimizer = kind(model.parameters(), **{"lr": 0.05, **arguments})
    return found


def parities(steps: int) -> dict[str, Any]:
    single, double = torch.float32, torch.float64
    return {
        **{
            f"{kind} {str(dtype)[6:]}": parity(kind, dtype, steps=steps, momentum=0.9)
            for kind in ("mlp", "conv", "lstm")
            for dtype in (single, double)
        },
        "transformer": parity("transformer", double),
        "tied": parity("tied", double),
        "fused": parity("mlp", single, fused=True),
        "clipped by norm": parity("mlp", double, Update(clip_grad_norm=0.05)),
        "clipped by value": parity("mlp", double, Update(clip_grad_value=0.01)),
        "l1": parity("mlp", double, Update(l1=0.01)),
        "uphill": parity("conv", double, Update(sharpness=0.05)),
        **{name: parity("mlp", double, text=name) for name in ("Adagrad", "Adam", "NAdam", "RMSprop")},
    }


def checkpoints(folder: Path) -> dict[str, Any]:
    """Train, save together, go on; and read the checkpoint into other networks."""
    world, told = Company(), {}
    reference = network("conv").double()
    optimizer = made("Adam", reference, {})
    trained(reference, optimizer, None, PLAIN, 6)
    middle = copy.deepcopy({"model": reference.state_dict(), "optimizer": optimizer.state_dict()})
    trained(reference, optimizer, None, PLAIN, 6)

    model = shard(synchronised(network("conv").double(), CPU), CPU)
    dealt = made("Adam", model, {})
    parts = (world.rank, world.size)
    trained(model, dealt, parts, PLAIN, 6)
    state = {"model": model.state_dict(), "optimizer": dealt.state_dict(), "told": {"rank": world.rank, "pair": (1, None)}}
    path = collective.save(folder, store.name_of(6, 1), state, 2, world)
    told["files"] = sorted(file.name for file in path.iterdir())
    told |= local_reads(path, world)
    found = store.read_parts(path)
    told["told"] = found["told"]
    told["whole"] = all(type(value) is Tensor for value in found["model"].values())
    told["apart"] = max(float((found["model"][name] - value).abs().max()) for name, value in middle["model"].items())
    again = shard(synchronised(network("conv").double(), CPU), CPU)
    others = made("Adam", again, {})
    found = store.read_parts(path, parts)
    again.load_state_dict(dealt_as(found["model"], again.state_dict()))
    others.load_state_dict(dealt_state(found["optimizer"], others))
    told["dealt"] = is_dealt(others.state_dict()["state"][0]["exp_avg"])
    for one, its in ((model, dealt), (again, others)):
        trained(one, its, parts, PLAIN, 6)
    told["gone on"] = gap(model, reference)
    told["bits"] = all(
        torch.equal(whole(one), whole(other))
        for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    alone = network("conv").double()
    its = made("Adam", alone, {})
    found = store.read_parts(path)  # an optimizer trains with the very tensors that it is given
    alone.load_state_dict(found["model"])
    its.load_state_dict(found["optimizer"])
    trained(alone, its, None, PLAIN, 6)
    told["alone"] = gap(alone, reference)
    return told | failures(folder, state, world)


def local_reads(path: Path, world: Company) -> dict[str, Any]:
    """Which files of pieces a process reads, and whether it gets its rows of each tensor, in worlds of several sizes."""
    told: dict[str, Any] = {}
    whole_model, read = store.read_parts(path)["model"], store._read_file
    for size in (world.size, world.size + 1, 1):
        names: list[str] = []
        with changed(store, "_read_file", lambda file, most, names=names: (names.append(file.name), read(file, most))[1]):
            rank = min(world.rank, size - 1)
            found = store.read_parts(path, (rank, size))["model"]
        told[f"read by {rank} of {size}"] = sorted(name for name in names if PIECES.fullmatch(name))
        told[f"held by {rank} of {size}"] = all(
            torch.equal(value.rows, whole_model[name][slice(*rows_held(len(whole_model[name]), rank, size))])
            if isinstance(value, Piece)
            else torch.equal(value, whole_model[name])
            for name, value in found.items()
        )
        told["dealt out"] = sum(isinstance(value, Piece) for value in found.values())
    return told


def failures(folder: Path, state: dict[str, Any], world: Company) -> dict[str, Any]:
    """What each process raises where one of them fails, and what is left."""
    told = {}
    before = sorted(file.name for file in folder.iterdir())
    bad = {**state, "own": {"value": object()}} if world.rank == world.size - 1 else state
    told["damaged"] = damaged(folder, world)
    told["unknown"] = raised(lambda: collective.save(folder, store.name_of(7, None), bad, 2, world))
    place = folder if world.rank else folder / "nowhere"
    told["no folder"] = raised(lambda: collective.save(place, store.name_of(7, None), state, 2, world))
    write = store.packed
    with changed(store, "packed", full_disk if world.rank == world.size - 1 else write):
        told["full"] = raised(lambda: collective.save(folder, store.name_of(7, None), state, 2, world))
    told["left"] = sorted(file.name for file in folder.iterdir()) == before
    return told


def damaged(folder: Path, world: Company) -> dict[str, Any]:
    """What all processes go back to where one of them cannot read its piece of the newest checkpoint, and what they are told."""
    (good,) = store.checkpoints(folder)
    bad, said = folder / store.name_of(9, 1), []
    dist.barrier()
    if world.rank == 0:
        bad.mkdir()
        listed = json.loads((good / store.MANIFEST).read_text())["files"]
        for name in listed:
            (bad / name).write_bytes((good / name).read_bytes())
        (bad / store.MANIFEST).write_bytes(store._sealed({"format": store.FORMAT, "name": bad.name, "files": listed}))
        last = bad / piece_file("model", world.size - 1, world.size)
        content = last.read_bytes()
        last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    dist.barrier()
    found = collective.newest(folder, world, True, said.append)
    dist.barrier()
    if world.rank == 0:
        for file in bad.iterdir():
            file.unlink()
        bad.rmdir()
    dist.barrier()
    return {"back to": found.path.name, "said": [text.replace(str(bad), "") for text in said]}


def full_disk(_: Any) -> bytes:
    raise OSError(28, "No space left on device")


@contextmanager
def changed(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    yield
    setattr(module, name, before)


def raised(action: Callable[[], Any]) -> str:
    try:
        action()
    except NetwrightError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def others() -> dict[str, Any]:
    """Means of weights and steps in float16, dealt out and not."""
    told = {}
    for name, decay in (("EMA", 0.8), ("SWA", None)):
        both = []
        for dealt in (False, True):
            model = network("conv").double()
            model = synchronised(model, CPU) if dealt else model
            averaged = Averaged(model, decay)
            if dealt:
                shard(model, CPU)
                shard(averaged.average.module, CPU)
            parts = (dist.get_rank(), dist.get_world_size()) if dealt else None
            optimizer = made("SGD", model, {})
            for epoch in range(1, 4):
                trained(model, optimizer, parts, PLAIN, 2)
                averaged.after_step()
                averaged.after_epoch(epoch)
            kept = averaged.state_dict()
            averaged.load_state_dict({**kept, "mean": whole_parts(kept["mean"])})
            both.append(averaged.shown)
        told[name] = gap(both[1], both[0])
    model = shard(network("mlp"), CPU)
    scaler = Scaler("cpu")
    try:
        trained(
            model,
            made("SGD", model, {"lr": 1e-3}),
            (dist.get_rank(), dist.get_world_size()),
            Update(autocast=torch.float16),
            3,
            scaler,
        )
        told["scale"] = [scaler.state_dict()["scaler"]["scale"], scaler.skipped]
    except RuntimeError as error:
        told["scale"] = str(error)
    return told


def settled() -> dict[str, Any]:
    """What is left of a network with buffers whose buckets of gradients were settled before the first step."""
    model = network("conv")
    with torch.no_grad():
        model[2].running_mean += dist.get_rank()
    shared = DistributedDataParallel(model)
    _settle(shared)
    return {
        "network": shared.module is model,
        "gradients": [name for name, parameter in model.named_parameters() if parameter.grad is not None],
        "apart": gap(model, network("conv")),
    }


def main(rank: int, size: int, folder: Path, steps: int) -> None:
    """Train ``steps`` steps of each network beside one process, and write and read checkpoints."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    kept = folder / "checkpoints"
    if rank == 0:
        kept.mkdir()
    dist.barrier()
    told = {"checkpoints": checkpoints(kept), "parity": parities(steps), "others": others(), "settled": settled()}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()
