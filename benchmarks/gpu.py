"""Training steps on a GPU: the tutorial's loop, PyTorch tuned by hand, and netwright eager and captured (CUDA graphs), in turn.

    python benchmarks/gpu.py --rounds 3

All train the same network from the same rows on one device in one process, one after the other in every round; the median of the
rounds is told. Prints markdown. Needs torch, numpy and netwright. ``--device cpu --rows 3000`` tries it where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from netwright.data.batches import Examples
from netwright.engine.base import Engine, Execution
from netwright.engine.choose import choose_engine
from netwright.training.journal import Journal
from netwright.training.loop import Plan, Progress, train_epoch
from netwright.training.signals import StopRequest

RATE = 1e-3  # of Adam, everywhere
MOST_STEPS = 500  # of an epoch: small batches have fewer rows, so that all cases take about as long
Epoch = Callable[[], float]  # trains one, and returns its seconds


def mlp() -> nn.Module:
    """Return the network for rows of 784 numbers."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    """Return the network for grey images of 28 by 28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10)),
    )


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "MLP 784-128-64-10, batch 10": (mlp, (784,), 10),
    "MLP 784-128-64-10, batch 64": (mlp, (784,), 64),
    "MLP 784-128-64-10, batch 512": (mlp, (784,), 512),
    "CNN 28 x 28, batch 64": (cnn, (1, 28, 28), 64),
}


def made(make: Callable[[], nn.Module], device: torch.device, **how: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a network on the device, the same each time, and its optimizer."""
    torch.manual_seed(0)
    model = make().to(device)
    return model, torch.optim.Adam(model.parameters(), lr=RATE, **how)


def waited(device: torch.device) -> float:
    """Return the time once the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def tutorial(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor, batch: int, device: torch.device
) -> tuple[Epoch, nn.Module]:
    """Return the loop of the tutorial: DataLoader, ``.to(device)``, ``loss.item()``."""
    loader = DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True)
    model, optimizer = made(make, device)
    loss_function = nn.CrossEntropyLoss()

    def epoch() -> float:
        model.train()
        begun, total = waited(device), 0.0
        for inputs, target in loader:
            inputs, target = inputs.to(device), target.to(device)
            optimizer.zero_grad()
            loss = loss_function(model(inputs), target)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return waited(device) - begun

    return epoch, model


def by_hand(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor, batch: int, device: torch.device
) -> tuple[Epoch, nn.Module]:
    """Return PyTorch tuned by hand: rows on the device, shuffled there, fused Adam, nothing read before the end of an epoch."""
    x, y = x.to(device), y.to(device)
    model, optimizer = made(make, device, fused=True)
    loss_function = nn.CrossEntropyLoss()

    def epoch() -> float:
        model.train()
        begun = waited(device)
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(x), device=device).split(batch):
            loss = loss_function(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        total.item()
        return waited(device) - begun

    return epoch, model


class NoCheckpoints:
    """Keeps none, and lets as many steps follow each other as come."""

    def due(self, step: int) -> bool:
        return False

    def steps_until(self, step: int, most: int) -> int:
        return most

    def save(self, progress: Progress) -> None:
        raise AssertionError("no checkpoint is due")


def netwright(
    name: str, make: Callable[[], nn.Module], x: Tensor, y: Tensor, batch: int, device: torch.device
) -> tuple[Epoch, nn.Module, Engine]:
    """Return the training loop of netwright with an engine by its name."""
    model, optimizer = made(make, device, fused=True)
    engine = choose_engine(Execution(name, by_name=True), model, nn.CrossEntropyLoss(), optimizer, print)
    examples = Examples({"x": x}, y).to(device)
    plan = Plan(np.arange(len(x)), batch, "keep", epochs=1_000, seed=0)
    journal, progress = Journal(None, (), None), [Progress()]

    def epoch() -> float:
        begun = waited(device)
        progress[0] = train_epoch(engine, examples, plan, progress[0], journal, NoCheckpoints(), StopRequest())
        progress[0] = Progress(progress[0].epoch, progress[0].step)
        journal.train_loss()
        return waited(device) - begun

    return epoch, model, engine


def measured(label: str, rows: int, rounds: int, device: torch.device) -> list[str]:
    """Return the lines of a table of one case."""
    make, shape, batch = CASES[label]
    rows = min(rows, MOST_STEPS * batch)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(rows, *shape, generator=draw), torch.randint(0, 10, (rows,), generator=draw)
    steps = -(-rows // batch)
    eager, captured = (netwright(name, make, x, y, batch, device) for name in ("eager", "captured"))
    epochs = {
        "tutorial's loop": tutorial(make, x, y, batch, device)[0],
        "PyTorch tuned by hand": by_hand(make, x, y, batch, device)[0],
        "netwright eager": eager[0],
        "netwright captured": captured[0],
    }
    states = {}
    for name in ("netwright eager", "netwright captured"):  # the last batch of an epoch is trusted in the fourth
        torch.manual_seed(1)
        first = [epochs[name]() for _ in range(4)]
        states[name] = first[0]
    same = all(
        torch.equal(*pair) for pair in zip(eager[1].state_dict().values(), captured[1].state_dict().values(), strict=True)
    )
    for name in ("tutorial's loop", "PyTorch tuned by hand"):
        epochs[name]()
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(rounds):
        for name, epoch in epochs.items():
            seconds[name].append(epoch())
    return [
        f"### {label}, {rows:,} rows",
        "",
        "| | µs a step | thousand rows/s | beside the tutorial | first epoch, s |",
        "|---|---|---|---|---|",
        *(_row(name, seconds, steps, rows, states) for name in seconds),
        "",
        f"captured is played {captured[2].played()}; its weights after 4 epochs are "
        + (
            "those of eager, bit by bit"
            if same
            else f"not those of eager: {_apart(eager[1], captured[1]):.3g} apart at most"
        ),
        "",
    ]


def _row(name: str, seconds: dict[str, list[float]], steps: int, rows: int, first: dict[str, float]) -> str:
    median, base = statistics.median(seconds[name]), statistics.median(seconds["tutorial's loop"])
    begun = f"{first[name]:.3f}" if name in first else ""
    return f"| {name} | {1e6 * median / steps:,.1f} | {rows / median / 1e3:,.0f} | {base / median:.1f} | {begun} |"


def _apart(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((left.double() - right.double()).abs().max()) for left, right in pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cases", default="", help="only those whose label holds this text")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, medians of {options.rounds} rounds\n", flush=True)
    for label in CASES:
        if options.cases in label:
            begun = time.perf_counter()
            print("\n".join(measured(label, options.rows, options.rounds, device)), flush=True)
            print(f"({time.perf_counter() - begun:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
