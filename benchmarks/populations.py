"""Steps of many small networks: one after the other and together, eager and captured, in turn in one process.

    python benchmarks/populations.py --members 32 --threads 1
    python benchmarks/populations.py --device cuda

With one thread processor time is told, which neighbours on the machine disturb less; with ``--device cuda`` that of the clock, for
32 and 256 networks. Each is measured with one learning rate for all and with a rate for each network. Prints microseconds for a
step of one network, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from netwright.data.batches import Examples
from netwright.data.feed import Feed
from netwright.engine.captured import CapturedEngine
from netwright.engine.eager import EagerEngine
from netwright.engine.graphed import GraphedEngine
from netwright.population.engine import Population, Wanted
from netwright.recording.graphs import CudaGraphs

BATCH = 32
Go = Callable[[int], None]


def engines(members: int, captured: bool, differ: bool, device: str) -> list[Any]:
    """Return the engine of each network; with ``differ`` each has a learning rate of its own."""
    found: list[Any] = []
    for number in range(members):
        torch.manual_seed(number)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 * (1 + number * differ), fused=True)
        eager = EagerEngine(model, nn.CrossEntropyLoss(), optimizer)
        if captured and device != "cpu":
            found.append(GraphedEngine(eager, CudaGraphs(torch.device(device))))
        else:
            found.append(CapturedEngine(eager) if captured else eager)
    return found


def one_by_one(found: list[Any], examples: Examples) -> Go:
    """Return what takes some steps of one network after the other."""

    def go(steps: int) -> None:
        for number, engine in enumerate(found):
            done = 0
            while done < steps:
                feed, left = feed_of(examples, number), min(steps - done, examples.rows // BATCH)
                while left:
                    count = len(engine.train_steps(feed, left).losses)
                    left, done = left - count, done + count

    return go


def together(found: list[Any], examples: Examples) -> Go:
    """Return what takes some steps of all networks together."""
    population, generators = Population(found), [torch.Generator() for _ in found]

    def go(steps: int) -> None:
        done = 0
        while done < steps:
            feeds = [feed_of(examples, number) for number in range(len(found))]
            left = min(steps - done, examples.rows // BATCH)
            while left:
                wanted = [Wanted(feed, left, None, generator) for feed, generator in zip(feeds, generators, strict=True)]
                count = len(population.take(wanted)[0].losses)
                left, done = left - count, done + count

    return go


def feed_of(examples: Examples, number: int) -> Feed:
    """Return the batches of an epoch of a network."""
    return Feed(examples, np.random.default_rng(number).permutation(examples.rows), BATCH, "drop")


def measured(members: int, differ: bool, wanted: argparse.Namespace, examples: Examples) -> None:
    """Measure contenders in turn and print the median of each."""
    gpu = wanted.device != "cpu"
    clock = time.process_time if wanted.threads == 1 and not gpu else time.perf_counter
    contenders = {}
    for captured in (False, True):
        how = "captured" if captured else "eager"
        before, steps = (150 if gpu else 60, 200) if captured else (10, 60 if members < 100 else 20)
        for way, name in ((one_by_one, "one after the other"), (together, "together")):
            made = engines(members, captured, differ, wanted.device)
            contenders[f"{name}, {how}"] = (way(made, examples), before, steps * (3 if gpu and way is together else 1))
    for go, before, _ in contenders.values():
        go(before)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(wanted.rounds):
        for name, (go, _, steps) in contenders.items():
            begun = clock()
            go(steps)
            if gpu:
                torch.cuda.synchronize()
            found[name].append((clock() - begun) / steps / members * 1e6)
    print(f"{members} networks, {'a rate for each' if differ else 'one rate for all'}")
    for name, values in found.items():
        middle = statistics.median(values)
        others = [other for other in found if other.startswith("one") and other != name]
        beside = [f"{statistics.median(found[other]) / middle:6.2f} x {other}" for other in others]
        print(f"  {name:30} {middle:8.1f} us ({min(values):.1f} to {max(values):.1f})  {'  '.join(beside)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--members", type=int, nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    values, classes = load_digits(return_X_y=True)
    examples = Examples({"x": torch.tensor(values / 16, dtype=torch.float32)}, torch.tensor(classes)).to(
        torch.device(wanted.device)
    )
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if wanted.device != 'cpu' else 'cpu'}")
    for members in wanted.members or ([32] if wanted.device == "cpu" else [32, 256]):
        for differ in (False, True):
            measured(members, differ, wanted, examples)


if __name__ == "__main__":
    main()
