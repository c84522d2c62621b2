"""netwright beside its peers on a GPU: one process for each contender, which measures the perceptron with each size of a batch.

    python benchmarks/gpu.py --rounds 3

Thousand rows a second, the median epoch but the first; rows lie on the device for all but loops over a DataLoader. JAX multiplies
matrices in TF32 there unless it is told otherwise, torch in float32: both are measured both ways. Loops that start each kernel
from Python take part of the rows, as their time hangs on the number of steps alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace

HERE = Path(__file__).parent
RATE, ROWS, PART = 0.001, 30_000, {10: 3_000, 64: 9_600, 512: 30_000}
EPOCHS = {10: 4, 64: 6, 512: 12}


@dataclass(frozen=True)
class Contender:
    """A library with its settings; ``slow`` for one that takes part of the rows."""

    label: str
    module: str
    slow: bool = False
    settings: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


OURS = ("training.device=cuda", 'checks.skip=["all"]')  # looking at the data is no part of an epoch
CONTENDERS = {
    "netwright": Contender("netwright", "netwright", settings=OURS),
    "netwright-tf32": Contender("netwright, TF32", "netwright", settings=(*OURS, "training.precision=tf32")),
    "netwright-compiled": Contender("netwright, compiled engine", "netwright", settings=(*OURS, "training.engine=compiled")),
    "netwright-compiled-tf32": Contender(
        "netwright, compiled engine, TF32",
        "netwright",
        settings=(*OURS, "training.engine=compiled", "training.precision=tf32"),
    ),
    "tutorial": Contender("PyTorch, the tutorial's loop", "tutorial", slow=True),
    "eager": Contender("PyTorch, tuned by hand", "eager", slow=True),
    "lightning": Contender("Lightning", "lightning", slow=True),
    "keras-jax": Contender("Keras on JAX", "keras", slow=True, environment={"KERAS_BACKEND": "jax"}),
    "jax": Contender("JAX, one call per epoch, float32", "jax", environment={"JAX_DEFAULT_MATMUL_PRECISION": "highest"}),
    "jax-tf32": Contender("JAX, one call per epoch, TF32 (its default)", "jax"),
}


def measure(name: str, cases: list[int]) -> dict[int, float]:
    """Measure a contender in this process; return rows a second for each size of a batch."""
    import workloads
    from contenders import child

    one = CONTENDERS[name]
    found = {}
    for batch in cases:
        rows = PART[batch] if one.slow else ROWS
        task = SimpleNamespace(
            workload="mlp", kind="train", batch=batch, epochs=EPOCHS[batch], rows=rows, rate=RATE, seed=0,
            settings=list(one.settings), device="cuda", path="", target=workloads.TARGET,
        )  # fmt: skip
        seconds = child.measure(one.module, task)["seconds"]
        found[batch] = rows / median(seconds[1:])
    return found


def main() -> None:
    """Measure in turn, each contender in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--batches", nargs="*", type=int, default=list(PART), choices=list(PART))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print("\n" + json.dumps(measure(asked.child, asked.batches)), flush=True)
        return
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(asked.rounds):
        for name in asked.only:
            command = [sys.executable, __file__, "--child", name, "--batches", *map(str, asked.batches)]
            path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
            environment = {**os.environ, **CONTENDERS[name].environment, "PYTHONPATH": path}
            child = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
            if child.returncode:
                print(f"{name}: {(child.stderr.strip().splitlines() or ['failed'])[-1][:200]}", flush=True)
                continue
            found.setdefault(name, []).append(json.loads(child.stdout.strip().splitlines()[-1]))
            print(name, {batch: round(rate / 1e3, 1) for batch, rate in found[name][-1].items()}, flush=True)
    print("\n| thousand rows a second | " + " | ".join(f"batch {batch}" for batch in asked.batches) + " |")
    print("|---" * (1 + len(asked.batches)) + "|")
    for name, rounds in found.items():
        rates = [median(one[str(batch)] for one in rounds) / 1e3 for batch in asked.batches]
        print(f"| {CONTENDERS[name].label} | " + " | ".join(f"{rate:,.1f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
