"""netwright beside its peers on a GPU: one process for each contender, which measures the perceptron with each size of a batch.

    python benchmarks/gpu.py --rounds 3

Thousand rows a second, the median epoch but the first; rows lie on the device for all but loops over a DataLoader. JAX multiplies
matrices in TF32 there unless it is told otherwise, torch in float32: both are measured both ways. Loops that start each kernel
from Python take part of the rows, as their time hangs on the number of steps alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))

from harness import Contender, run_child

RATE, ROWS, PART = 0.001, 30_000, {10: 3_000, 64: 9_600, 512: 30_000}
EPOCHS = {10: 4, 64: 6, 512: 12}


OURS = ("training.device=cuda", 'checks.skip=["all"]')  # looking at the data is no part of an epoch
COMPILED = (*OURS, "training.engine=compiled")
TF32 = "training.precision=tf32"
WHOLE = ("netwright", "jax")  # take all rows
CONTENDERS = {
    one.name: one
    for one in (
        Contender("netwright", "netwright", "netwright", settings=OURS),
        Contender("netwright-tf32", "netwright, TF32", "netwright", settings=(*OURS, TF32)),
        Contender("netwright-compiled", "netwright, compiled engine", "netwright", settings=COMPILED),
        Contender("netwright-compiled-tf32", "netwright, compiled engine, TF32", "netwright", settings=(*COMPILED, TF32)),
        Contender("tutorial", "PyTorch, the tutorial's loop", "tutorial"),
        Contender("eager", "PyTorch, tuned by hand", "eager"),
        Contender("lightning", "Lightning", "lightning"),
        Contender("keras-jax", "Keras on JAX", "keras", environment={"KERAS_BACKEND": "jax"}),
        Contender("jax", "JAX, one call per epoch, float32", "jax", environment={"JAX_DEFAULT_MATMUL_PRECISION": "highest"}),
        Contender("jax-tf32", "JAX, one call per epoch, TF32 (its default)", "jax"),
    )
}


def measure(name: str, cases: list[int]) -> dict[int, float]:
    """Measure a contender in this process; return rows a second for each size of a batch."""
    import workloads
    from contenders import child

    one = CONTENDERS[name]
    found = {}
    for batch in cases:
        rows = ROWS if one.module in WHOLE else PART[batch]
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
            code, output, errors, _, _ = run_child(command, CONTENDERS[name].environment)
            if code:
                print(f"{name}: {(errors.strip().splitlines() or ['failed'])[-1][:200]}", flush=True)
                continue
            found.setdefault(name, []).append(json.loads(output.strip().splitlines()[-1]))
            print(name, {batch: round(rate / 1e3, 1) for batch, rate in found[name][-1].items()}, flush=True)
    print("\n| thousand rows a second | " + " | ".join(f"batch {batch}" for batch in asked.batches) + " |")
    print("|---" * (1 + len(asked.batches)) + "|")
    for name, rounds in found.items():
        rates = [median(one[str(batch)] for one in rounds) / 1e3 for batch in asked.batches]
        print(f"| {CONTENDERS[name].label} | " + " | ".join(f"{rate:,.1f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
