"""What the benchmarks of the defaults share: their options, and runs one after the other, each told in a line."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import netwright as nw

FIGURES_ALONE = {"baselines": [], "importance": False, "slices": [], "worst": 0}  # the section [evaluation]


def options(description: str, sets: Mapping[str, int]) -> argparse.ArgumentParser:
    """Return the options DATA, --set, --parts and --first.

    Args:
        description: What --help says.
        sets: How many runs each set has.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=sorted(sets), required=True)
    parser.add_argument("--parts", type=int, help="Seeds or splits; default all.")
    parser.add_argument("--first", type=int, default=0, help="The first of them.")
    return parser


def print_runs(name: str, figure: str, parts: Iterable[int], train: Callable[[int, Path], nw.Run]) -> None:
    """Train and print a line per run, and at the end mean, deviation and seconds, of the clock and of the processor.

    Args:
        name: Of the set.
        figure: Of the test.
        parts: Numbers of seeds or splits.
        train: Trains one into a folder of its own, which is removed afterwards.
    """
    found, seconds, worked = [], [], []
    for part in parts:
        begun, spent = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            run = train(part, Path(folder))
            found.append(float(run.tested["metrics"][figure]["value"]))
            epoch, epochs = run.record["best"]["epoch"], run.config.training.epochs
        seconds.append(time.perf_counter() - begun)
        worked.append(time.process_time() - spent)
        told = f"{seconds[-1]:.1f} s, {worked[-1]:.1f} s of the processor"
        print(f"{name} {part}: {figure} {found[-1]:.4f}, best epoch {epoch} of {epochs}, {told}", flush=True)
    spread = f" +- {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    times = f"{statistics.mean(seconds):.1f} s each, {statistics.mean(worked):.1f} s of the processor"
    print(f"{name}: {figure} {statistics.mean(found):.4f}{spread} ({len(found)} runs, {times})")
