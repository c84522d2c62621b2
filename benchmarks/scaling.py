"""What several processes cost: bytes on the wire, overlap, checkpoints, failures; fitted to runs of this machine.

    python benchmarks/scaling.py --measure      # 1, 2 and 4 processes on gloo; writes benchmarks/measured/scaling.json
    python benchmarks/scaling.py                # the tables of docs/scaling.md from that file

The collectives are rings: an all-reduce of G bytes among N sends 2 (N - 1) / N G bytes from each process and takes 2 (N - 1)
messages one after the other (Thakur, Rabenseifner, Gropp: "Optimization of Collective Communication Operations in MPICH",
2005). Checkpoint intervals are Young's (1974) and Daly's (2006).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MEASURED = HERE / "measured" / "scaling.json"


@dataclass(frozen=True)
class Wire:
    """What connects processes: seconds for a message of no length, bytes a second that each can send."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Network:
    """What is trained: parameters, bytes of each on the wire, and seconds of a step on one process of its rows.

    ``backward`` is the part of those seconds in which gradients become known, about two thirds: communication may hide in it.
    ``blocks`` are the pieces that FSDP gathers one after the other.
    """

    parameters: int
    seconds: float
    width: int = 4
    backward: float = 2 / 3
    blocks: int = 1


def reduced(size: float, processes: int, wire: Wire) -> float:
    """Return the seconds of a ring all-reduce.

    Args:
        size: Bytes of the tensor.
        processes: How many share it.
        wire: Between neighbours of the ring.

    Example:
        >>> reduced(1e9, 1, Wire(1e-5, 1e10)), reduced(1e9, 2, Wire(0.0, 1e10))
        (0.0, 0.1)
    """
    steps = 2 * (processes - 1)
    return steps * (wire.latency + size / processes / wire.bandwidth)


def sent_by_ddp(network: Network, processes: int) -> float:
    """Return the bytes that each process sends in a step of DDP: gradients, once reduced."""
    return 2 * (processes - 1) / processes * network.parameters * network.width


def sent_by_fsdp(network: Network, processes: int, gathered: int = 2, reduced_width: int = 4) -> float:
    """Return the bytes that each process sends in a step of FSDP: two gathers of parameters, one scatter of gradients.

    Args:
        network: What is trained.
        processes: How many hold a part each.
        gathered: Bytes of a parameter while it is gathered (bfloat16).
        reduced_width: Bytes of a gradient while it is reduced.
    """
    return (processes - 1) / processes * network.parameters * (2 * gathered + reduced_width)


def step_seconds(network: Network, processes: int, wire: Wire, strategy: str = "ddp", hidden: float = 1.0) -> float:
    """Return the seconds of a step whose rows for each process are the same for any number of processes.

    Args:
        network: What is trained; its seconds are those of one process.
        processes: How many there are.
        wire: Of the slowest link.
        strategy: ddp or fsdp.
        hidden: The part of the time in which communication may run that it does run beside the computing (0: none).
    """
    if processes == 1:
        return network.seconds
    if strategy == "ddp":
        talk, room = reduced(network.parameters * network.width, processes, wire), network.backward * network.seconds
    else:
        messages = 3 * (processes - 1) * network.blocks
        talk = messages * wire.latency + sent_by_fsdp(network, processes) / wire.bandwidth
        room = network.seconds
    return network.seconds + talk - min(talk, hidden * room)


def efficiency(network: Network, processes: int, wire: Wire, strategy: str = "ddp", hidden: float = 1.0) -> float:
    """Return the part of N times the speed of one process that N processes have."""
    return network.seconds / step_seconds(network, processes, wire, strategy, hidden)


def young(save: float, failure: float) -> float:
    """Return Young's interval between two checkpoints, in seconds.

    Args:
        save: Seconds that a checkpoint takes from the training.
        failure: Mean seconds between two failures of the whole.
    """
    return math.sqrt(2 * save * failure)


def daly(save: float, failure: float) -> float:
    """Return Daly's interval between two checkpoints: "A higher order estimate of the optimum checkpoint interval" (2006).

    Example:
        >>> round(young(60, 3600 * 24)), round(daly(60, 3600 * 24))
        (3220, 3180)
    """
    if save >= 2 * failure:
        return failure
    part = math.sqrt(save / (2 * failure))
    return young(save, failure) * (1 + part / 3 + part * part / 9) - save


def lost(save: float, restart: float, failure: float, interval: float) -> float:
    """Return the part of the time that checkpoints and failures take, to first order.

    Args:
        save: Seconds of a checkpoint.
        restart: Seconds from a failure to the next step: noticing, the queue, processes, reading.
        failure: Mean seconds between failures.
        interval: Seconds of training between two checkpoints.
    """
    return min(1.0, save / (interval + save) + ((interval + save) / 2 + restart) / failure)


def mean_between_failures(alone: float, devices: int) -> float:
    """Return the mean seconds between failures of many devices that fail one by one, each after ``alone`` on average."""
    return alone / devices


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return offset and slope of the line through points (x, y), by least squares of the relative errors.

    Example:
        >>> [round(part, 6) for part in fitted([(1.0, 3.0), (2.0, 5.0), (3.0, 7.0)])]
        [1.0, 2.0]
    """
    import numpy as np

    x, y = (np.asarray(side, dtype=np.float64) for side in zip(*points, strict=True))
    design = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    offset, slope = np.linalg.lstsq(design, np.ones_like(y), rcond=None)[0]
    return float(offset), float(slope)


def wire_of(times: Sequence[tuple[int, int, float]]) -> Wire:
    """Return the wire that explains times of all-reduces best.

    Args:
        times: Processes, bytes and seconds of each.
    """
    points = [(size / processes, seconds / (2 * (processes - 1))) for processes, size, seconds in times]
    latency, slope = fitted(points)
    return Wire(max(latency, 0.0), 1 / slope)


# --- measuring: what a process of torchrun does ---

SIZES = (1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22)  # bytes of an all-reduce
NETWORKS = ("mlp-64", "mlp-256", "mlp-768", "conv")  # little and much to send; little to send and much to compute
ROWS, FEATURES, BLOCKS, CALLS = 256, 64, 5, 10


def _network(name: str) -> Any:
    from torch import nn

    if name == "conv":
        layers: list[Any] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    width = int(name.removeprefix("mlp-"))
    layers = [nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(*layers)


def _timed(action: Any) -> float:
    """Return the seconds of a call: the shortest mean of some blocks, because other programs only make them longer.

    Single calls would be too short where processes share a core: one that begins late finds the others ready.
    """
    import torch.distributed as dist

    found = []
    for _ in range(BLOCKS):
        if dist.is_initialized():
            dist.barrier()
        begun = time.perf_counter()
        for _ in range(CALLS):
            action()
        found.append((time.perf_counter() - begun) / CALLS)
    return min(found)


def work(output: str, first: bool) -> None:
    """Measure, as one of the processes of torchrun, and let the first write what it saw.

    Args:
        output: The file it writes.
        first: Whether to run before all other programs of the machine, some seconds long.
    """
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    size = int(os.environ["WORLD_SIZE"])
    if size > 1:
        dist.init_process_group("gloo")
    found: dict[str, Any] = {"processes": size, "reduced": [], "steps": []}
    for length in SIZES if size > 1 else ():
        tensor = torch.zeros(length // 4)
        found["reduced"].append([length, _timed(lambda tensor=tensor: dist.all_reduce(tensor))])
    for name in NETWORKS:
        for rows in (ROWS, ROWS // 2, ROWS // 4):
            found["steps"].append([name, rows, _step(name, rows, size)])
    if int(os.environ["RANK"]) == 0:
        Path(output).write_text(json.dumps(found))
    if size > 1:
        dist.destroy_process_group()


def _step(name: str, rows: int, size: int) -> float:
    """Return the seconds of a training step of some rows in each process."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = _network(name)
    model = nn.parallel.DistributedDataParallel(network) if size > 1 else network
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.randn(rows, 3, 16, 16) if name == "conv" else torch.randn(rows, FEATURES)
    target = torch.randint(0, 10, (rows,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()

    return _timed(step)


def measure(first: bool) -> dict[str, Any]:
    """Run 1, 2 and 4 processes, each with one thread, and return what they saw."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, 2, 4):
            output = str(Path(folder) / f"{size}.json")
            torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
            words = [__file__, "--work", output, *(["--first"] if first else [])]
            subprocess.run([sys.executable, *torchrun, *words], check=True, stderr=subprocess.DEVNULL)
            runs.append(json.loads(Path(output).read_text()))
    import torch

    return {"cores": os.cpu_count(), "torch": torch.__version__, "backend": "gloo", "runs": runs}


# --- telling ---


def parameters(name: str) -> int:
    """Return the parameters of a measured network."""
    if name == "conv":
        return 3 * 32 * 9 + 32 + 32 * 64 * 9 + 64 + 64 * 10 + 10
    width = int(name.removeprefix("mlp-"))
    return FEATURES * width + width + width * width + width + 10 * width + 10


def predicted(measured: dict[str, Any]) -> list[tuple[str, int, int, float, float]]:
    """Return network, processes, rows of each, measured and predicted seconds of a step of DDP.

    The prediction knows steps of one process, times of all-reduces, and what DDP itself costs in a step of the smallest network.
    Where processes share a core, they take turns; gloo computes on the same cores, so nothing is hidden.
    """
    runs = {run["processes"]: run for run in measured["runs"]}
    alone = {(name, rows): seconds for name, rows, seconds in runs[1]["steps"]}
    found = []
    for processes in sorted(set(runs) - {1}):
        wire = wire_of([(processes, size, seconds) for size, seconds in runs[processes]["reduced"]])
        turns = max(1.0, processes / measured["cores"])

        def told(name: str, rows: int, processes: int = processes, wire: Wire = wire, turns: float = turns) -> float:
            return step_seconds(Network(parameters(name), alone[(name, rows)] * turns), processes, wire, hidden=0.0)

        smallest = [seconds - told(name, rows) for name, rows, seconds in runs[processes]["steps"] if name == NETWORKS[0]]
        overhead = max(0.0, statistics.mean(smallest))
        steps = runs[processes]["steps"]
        found += [(name, processes, rows, seconds, told(name, rows) + overhead) for name, rows, seconds in steps]
    return found


CASES = (  # name, network, strategy
    ("ResNet-50 size, 25.6 M parameters, 0.25 s a step", Network(25_600_000, 0.25), "ddp"),
    ("1 B parameters, 0.6 s a step", Network(1_000_000_000, 0.6), "ddp"),
    ("8 B parameters, 2.84 s a step", Network(8_030_000_000, 2.84, blocks=32), "fsdp"),
)
INSIDE, FAST, SLOW = Wire(1e-5, 2e11), Wire(1.5e-5, 5e10), Wire(3e-5, 3e9)  # 8 GPUs of a host; 400 Gb/s each; 25 Gb/s each
GPU_BETWEEN_FAILURES = 54 * 24 * 3600 * 16384 / 419  # seconds; Llama 3: 419 unexpected interruptions, 16,384 GPUs, 54 days


def wire_for(processes: int, between: Wire) -> Wire:
    """Return the slowest link of that many GPUs, eight to a host."""
    return INSIDE if processes <= 8 else between


def tables(measured: dict[str, Any]) -> str:
    """Return the tables of docs/scaling.md."""
    lines = ["| network | parameters | processes | rows of each | measured ms | predicted ms | error |", "|" + "---|" * 7]
    errors = []
    for name, processes, rows, seconds, told in predicted(measured):
        if name != NETWORKS[0]:
            errors.append(abs(told / seconds - 1))
        values = (name, f"{parameters(name):,}", processes, rows, f"{seconds * 1e3:.2f}", f"{told * 1e3:.2f}")
        lines.append("| " + " | ".join(map(str, values)) + f" | {told / seconds - 1:+.0%} |")
    lines.append(f"\nmedian error {statistics.median(errors):.0%}, largest {max(errors):.0%}\n")
    lines += _efficiencies(measured)
    lines += ["| network | link between hosts | 8 GPUs | 64 GPUs | 1,024 GPUs |", "|---|---|---|---|---|"]
    for name, network, strategy in CASES:
        for words, between in (("400 Gb/s a GPU", FAST), ("25 Gb/s a GPU", SLOW)):
            cells = []
            for processes in (8, 64, 1024):
                wire = wire_for(processes, between)
                best, worst = (efficiency(network, processes, wire, strategy, hidden) for hidden in (1.0, 0.0))
                cells.append(f"{worst:.0%} to {best:.0%}")
            lines.append(f"| {name}, {strategy.upper()} | {words} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| GPUs | between failures | checkpoint by rank 0, 1 GB/s | lost | by all ranks | lost |",
        "|---|---|---|---|---|---|",
    ]
    size = 8_030_000_000 * 12
    for devices in (8, 64, 1024):
        failure = mean_between_failures(GPU_BETWEEN_FAILURES, devices)
        cells = []
        for save in (size / 1e9, size / min(devices / 8 * 2e9, 1e11)):
            interval = daly(save, failure)
            cells.append(f"{save:,.0f} s every {interval / 60:,.0f} min | {lost(save, 600, failure, interval):.2%}")
        lines.append(f"| {devices:,} | {failure / 3600:,.0f} h | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _efficiencies(measured: dict[str, Any]) -> list[str]:
    """Return how much faster 2 and 4 processes take a step of the same global batch."""
    runs = {run["processes"]: {(w, r): s for w, r, s in run["steps"]} for run in measured["runs"]}
    lines = [
        "| network | 1 process, 256 rows | 2 processes, 128 each | speed-up | 4 processes, 64 each | speed-up |",
        "|" + "---|" * 6,
    ]
    for name in NETWORKS:
        one, two, four = (runs[size][(name, ROWS // size)] for size in (1, 2, 4))
        lines.append(
            f"| {name} | {one * 1e3:.2f} ms | {two * 1e3:.2f} ms | {one / two:.2f} | {four * 1e3:.2f} ms | {one / four:.2f} |"
        )
    return [*lines, ""]


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--measure", action="store_true", help="measure on this machine first")
    reader.add_argument("--first", action="store_true", help="run before all other programs, on a machine that is not quiet")
    reader.add_argument("--work", metavar="FILE", help=argparse.SUPPRESS)
    asked = reader.parse_args()
    if asked.work:
        work(asked.work, asked.first)
        return
    if asked.measure:
        MEASURED.write_text(json.dumps(measure(asked.first), indent=1) + "\n")
    print(tables(json.loads(MEASURED.read_text())))


if __name__ == "__main__":
    main()
